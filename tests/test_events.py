"""What a run tells while it goes on, and what it answers when it is asked."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextvars import ContextVar

import pytest
from conftest import numbered

from wave_async import (
    Direction,
    Event,
    Migration,
    MigrationManager,
    RunEnded,
    RunStarted,
    SingleConnectionPool,
    StatementStarted,
    Step,
    StepFailed,
    StepFinished,
    StepStarted,
    errors,
)

BAD = Migration(3, "Bad", "CREATE TABLE b (x);\nSELEC 1;", "SELECT 1;")
who: ContextVar[str] = ContextVar("who")


def failed(told: list[Event]) -> tuple[StepFailed, RunEnded]:
    """Return the two last events of a run that went wrong."""
    step, run = told[-2:]
    assert isinstance(step, StepFailed)
    assert isinstance(run, RunEnded)
    return step, run


async def test_a_failure_is_told_with_what_was_done(pool: SingleConnectionPool) -> None:
    """The step that failed and the run say why, and the run what stays."""
    told: list[Event] = []
    with pytest.raises(errors.MigrationFailed) as raised:
        await MigrationManager(pool, [*numbered(2), BAD], on_event=told.append).migrate_up()
    step, run = failed(told)

    assert 3 == step.step.version
    assert raised.value is step.error is run.error
    assert [1, 2] == [done.version for done in run.done]
    assert 0 < step.seconds < run.seconds


async def test_an_atomic_failure_has_done_nothing(pool: SingleConnectionPool) -> None:
    """Of a run in one transaction only the beginnings of steps are told before its failure."""
    told: list[Event] = []
    manager = MigrationManager(pool, [*numbered(2), BAD], on_event=told.append)
    with pytest.raises(errors.MigrationFailed):
        await manager.migrate_up(atomic=True)

    kinds = [RunStarted, StepStarted, StepStarted, StepStarted, StepFailed, RunEnded]
    assert kinds == [type(event) for event in told]
    assert () == failed(told)[1].done


async def test_a_cancellation_is_told(pool: SingleConnectionPool) -> None:
    """A cancelled run ends like a failed one, before its caller gets the cancellation."""
    told: list[Event] = []
    reached = asyncio.Event()

    async def wait(_: object) -> None:
        reached.set()
        await asyncio.Event().wait()

    manager = MigrationManager(pool, [Migration(1, "Wait", wait)], on_event=told.append)
    task = asyncio.ensure_future(manager.migrate_up())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    step, run = failed(told)

    assert isinstance(step.error, asyncio.CancelledError)
    assert isinstance(run.error, asyncio.CancelledError)


async def test_nothing_to_do_tells_nothing(pool: SingleConnectionPool) -> None:
    """There is no run where nothing is pending."""
    told: list[Event] = []
    manager = MigrationManager(pool, numbered(2), on_event=told.append)
    await manager.migrate_up()
    told.clear()
    await manager.migrate_up()
    await manager.migrate_down(2)

    assert [] == told


async def test_statements_are_told_where_asked_for(pool: SingleConnectionPool) -> None:
    """With `tell_statements` each statement and function is told, by its number and line."""

    def fill(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO a VALUES (1)")

    told: list[Event] = []
    work = ["CREATE TABLE a (x);\nCREATE TABLE b (x)", fill]
    migrations = [Migration(1, "Both", work)]
    await MigrationManager(
        pool, migrations, on_event=told.append, tell_statements=True
    ).migrate_up()
    _, step, first, second, third, finished, _ = told

    assert isinstance(step, StepStarted)
    assert 3 == step.statements
    assert StatementStarted(1, 1, "CREATE TABLE a (x)") == first
    assert StatementStarted(2, 2, "CREATE TABLE b (x)") == second
    assert isinstance(third, StatementStarted)
    assert (3, True) == (third.number, third.sql.endswith("fill()"))
    assert StepFinished(Step(Direction.UP, 1, "Both")) == finished


async def test_the_running_statement_can_be_asked_for(pool: SingleConnectionPool) -> None:
    """Whoever asks meanwhile gets its number, and None before and after the run."""
    reached, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def wait(_: sqlite3.Connection) -> None:
        loop.call_soon_threadsafe(reached.set)
        assert go.wait(30)

    manager = MigrationManager(pool, [Migration(1, "Wait", ["CREATE TABLE a (x)", wait])])
    assert manager.running_statement is None
    task = asyncio.ensure_future(manager.migrate_up())
    await reached.wait()
    assert 2 == manager.running_statement
    go.set()
    await task

    assert manager.running_statement is None


async def test_events_come_in_the_context_of_who_runs(pool: SingleConnectionPool) -> None:
    """A context variable has in the listener the value that it has where the run is awaited."""
    told: list[str] = []
    manager = MigrationManager(pool, numbered(1), on_event=lambda _: told.append(who.get()))
    who.set("me")
    await manager.migrate_up()

    assert {"me"} == set(told)


async def test_a_listener_that_fails(pool: SingleConnectionPool) -> None:
    """The run goes on, and the loop's exception handler is told each time."""
    failures: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(context["exception"]))
    told: list[object] = []

    def fail(event: object) -> None:
        told.append(event)
        raise LookupError

    manager = MigrationManager(pool, numbered(2), on_event=fail)
    await manager.migrate_up()

    assert 2 == await manager.current_version()
    assert told
    assert [LookupError] * len(told) == list(map(type, failures))
