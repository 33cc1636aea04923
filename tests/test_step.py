from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable
from functools import partial
from itertools import chain, repeat
from typing import Any

import pytest
from conftest import numbered
from test_requests import drive, is_cleanup, raising

from wave_async import Direction, Migration, StepFinished, StepStarted, WaitingForLock
from wave_async.database import guard, history, keys, step
from wave_async.database.log import OFF
from wave_async.database.requests import (
    BeginWrite,
    Execute,
    Foresee,
    Guard,
    Program,
    Query,
    Report,
    Request,
    Restore,
    Rollback,
    Unguard,
)
from wave_async.database.step import LOOK_AGAIN
from wave_async.errors import (
    DatabaseLocked,
    MigrationFailed,
    StatementRefused,
    TransactionEnded,
    WaveError,
)
from wave_async.model.catalogue import Catalogue, Entry

GUARD = Guard(step._look_at_cascades)
LOOK = Query("look")
KEYS = Query("PRAGMA foreign_keys")
COMMIT = Execute("COMMIT")
FULL = sqlite3.OperationalError("database or disk is full")


def entry(up: str = "CREATE TABLE t (x);\nINSERT INTO t VALUES (1);", down: str = "") -> Entry:
    """Return a migration whose scripts were read."""
    return Catalogue([Migration(1, "Add t", up, down)]).entries[1]


def willing(request: Request) -> Any:
    """Answer as a database that does everything it is asked."""
    match request:
        case Query():
            return [(1,)]
        case Execute() | BeginWrite():
            return True
        case Foresee():
            return []
    return None


def look() -> Program[str | None]:
    """Look at the database; what there is to do is what it answers."""
    return (yield LOOK)  # type: ignore[no-any-return]


def body(found: str) -> Program[None]:
    """Write what was found."""
    yield Execute(f"write {found}")
    yield COMMIT


def write(found: Iterable[str | None], locks: Iterable[bool], patience: float = 60) -> Any:
    """Drive `step.write` with what each look finds and whether each try gets the lock."""
    looks, tries = iter(found), iter(locks)

    def serve(request: Request) -> Any:
        match request:
            case Query("look"):
                return next(looks)
            case BeginWrite():
                return next(tries)
        return willing(request)

    return drive(step.write(look, body, patience), serve)


def stepped(entry: Entry, direction: Direction, *, tracked: bool = True) -> Program[None]:
    """Run a migration and record it, as a walk does."""
    yield from step.migrate(entry, direction, tracked=tracked)
    yield from step.record(entry, direction, OFF, 0.0, tracked=True)
    yield from step.commit([entry], direction, [0.0])


def migrated(
    error: BaseException | None = None, at: Request | None = None, **options: Any
) -> tuple[list[Request], Any]:
    """Drive a first migration upwards, with an error at one of its requests."""
    program = stepped(options.pop("entry", entry()), Direction.UP, **options)
    return drive(program, raising(error or Exception(), lambda r: r == at, willing))


def test_a_step_and_its_record_commit_together() -> None:
    """An up creates the bookkeeping, runs its statements under the guard, records and commits."""
    first = entry()
    asked, result = drive(stepped(first, Direction.UP, tracked=False), willing)

    assert [
        Report(StepStarted(first.step(Direction.UP))),
        Execute(history.CREATE),
        GUARD,
        Execute("CREATE TABLE t (x)"),
        Execute("INSERT INTO t VALUES (1)"),
        Unguard(),
        Execute(history.RECORD, (1, "Add t", first.checksum)),
        COMMIT,
        Report(StepFinished(first.step(Direction.UP))),
    ] == asked
    assert result is None


def test_a_way_down_forgets_its_record_in_the_same_transaction() -> None:
    """A down runs its script under the guard and takes the row away before it commits."""
    first = entry(down="DROP TABLE t")
    asked, _ = drive(stepped(first, Direction.DOWN), willing)

    assert [
        GUARD,
        Foresee("DROP TABLE t"),
        Execute("DROP TABLE t"),
        Unguard(),
        Execute(history.FORGET, (1,)),
        COMMIT,
    ] == asked[1:-1]


def test_a_script_without_statements_is_recorded() -> None:
    """An empty up runs nothing of its own and is recorded all the same."""
    empty = entry("-- later")
    asked, _ = migrated(entry=empty)

    assert [Execute(history.RECORD, empty.row), COMMIT] == [
        request for request in asked if isinstance(request, Execute)
    ]


def test_a_failed_statement_is_named() -> None:
    """The error of a statement says which one it was, where, and why, and keeps its cause."""
    asked, error = migrated(FULL, Execute("INSERT INTO t VALUES (1)"))

    assert isinstance(error, MigrationFailed)
    assert (
        error.version,
        error.description,
        error.direction,
        error.number,
        error.line,
        error.statement,
    ) == (1, "Add t", "up", 2, 2, "INSERT INTO t VALUES (1)")
    assert "database or disk is full" in error.reason
    assert error.__cause__ is FULL
    assert Unguard() == asked[-1]


@pytest.mark.parametrize("at", [Execute(history.RECORD, entry().row), COMMIT])
def test_a_failure_of_the_engines_own_statement_is_named(at: Execute) -> None:
    """Where the record or the COMMIT fails the error has no statement number but the text."""
    asked, error = migrated(FULL, at)

    assert (None, None, at.sql.partition("\n")[0], FULL) == (
        error.number,
        error.line,
        error.statement,
        error.__cause__,
    )
    assert at == asked[-1]


def test_a_statement_that_ended_the_transaction_is_a_failure() -> None:
    """A statement after which no transaction is open fails its migration, whatever it answered."""

    def serve(request: Request) -> Any:
        return willing(request) and request != Execute("CREATE TABLE t (x)")

    asked, error = drive(stepped(entry(), Direction.UP), serve)

    assert isinstance(error.__cause__, TransactionEnded)
    assert COMMIT not in asked
    assert Execute("INSERT INTO t VALUES (1)") not in asked


def test_a_refusal_of_the_guard_gives_its_reason() -> None:
    """What the guard refuses fails the migration with the guard's own sentence."""
    _, error = migrated(StatementRefused("COMMIT", "no"), Execute("CREATE TABLE t (x)"))

    assert error.reason == "COMMIT is not allowed in a migration: no"


def test_nothing_to_do_takes_no_lock() -> None:
    """Where the look finds nothing no lock is taken and nothing is written."""
    assert write([None], []) == ([LOOK], None)


def test_what_is_found_is_looked_for_again_under_the_lock() -> None:
    """A write looks, takes the lock, looks again, writes; a rollback ends it, to no effect."""
    assert (
        [LOOK, BeginWrite(LOOK_AGAIN), LOOK, Execute("write 1"), COMMIT, Rollback()],
        "1",
    ) == write(["1", "1"], [True])


@pytest.mark.parametrize(("later", "result"), [(None, None), ("2", "2")])
def test_only_what_is_still_there_under_the_lock_is_written(
    later: str | None, result: str | None
) -> None:
    """What somebody else did between the look and the lock is not done again."""
    asked, found = write(["1", *repeat(later, 3)], [True, True])

    assert result == found
    assert Execute("write 1") not in asked
    assert Rollback() == asked[asked.index(BeginWrite(LOOK_AGAIN)) + 2]


def test_patience_ends() -> None:
    """When nothing moves for as long as the patience lasts the wait ends with an error."""
    asked, error = write(repeat("1"), repeat(object=False), patience=3)

    assert isinstance(error, DatabaseLocked)
    assert error.waited == 3
    assert asked.count(BeginWrite(LOOK_AGAIN)) == 3 / LOOK_AGAIN
    assert not [r for r in asked if isinstance(r, Execute)]


def test_a_wait_is_told_once() -> None:
    """A long wait is told once, not before it has lasted a while, and as long as it has."""
    asked, _ = write(repeat("1"), repeat(object=False), patience=30)
    (told,) = (request for request in asked if isinstance(request, Report))
    tries = asked[: asked.index(told)].count(BeginWrite(LOOK_AGAIN))

    assert Report(WaitingForLock(tries * LOOK_AGAIN)) == told
    assert tries > 1


def test_a_moving_history_starts_the_deadline_anew() -> None:
    """A waiter does not give up while others get on, however long that takes."""
    found = chain.from_iterable(repeat(str(n), 3) for n in range(20))
    asked, result = write(chain(found, repeat("20")), [*[False] * 60, True], patience=1)

    assert result == "20"
    assert asked.count(BeginWrite(LOOK_AGAIN)) == 61


def test_a_waiter_is_done_when_others_have_done_it() -> None:
    """A wait ends well, without the lock, once there is nothing left to do."""
    asked, result = write(["1", "1", None], repeat(object=False))

    assert result is None
    assert Rollback() not in asked


def test_keys_are_enforced_and_put_back() -> None:
    """Foreign keys are switched before the lock and restored after the transaction."""

    def serve(request: Request) -> Any:
        return [(0,)] if request == KEYS else "1" if request == LOOK else willing(request)

    program = partial(step.write, look, body, 1)
    asked, _ = drive(keys.enforced(program, on=True), serve)

    assert asked.index(Execute("PRAGMA foreign_keys = ON")) < asked.index(BeginWrite(LOOK_AGAIN))
    assert [Rollback(), Restore("PRAGMA foreign_keys = 0")] == asked[-2:]


def whole() -> Program[str | None]:
    """Run a whole migration with foreign keys off before: everything that has to be undone."""

    def migrate(_: str) -> Program[None]:
        yield from stepped(numbered_entry, Direction.UP, tracked=False)

    return keys.enforced(partial(step.write, look, migrate, 1), on=True)


numbered_entry = Catalogue(numbered(1)).entries[1]
LENGTH = 15


class Scene:
    """Answers like a database, fails at one request, and knows what is left to undo."""

    def __init__(self, fail_at: int, error: BaseException) -> None:
        self.left = fail_at
        self.error = error
        self.open: set[str] = set()

    def __call__(self, request: Request) -> Any:
        """Serve a request, or fail it without any effect."""
        self.left -= 1
        if self.left == -1:
            raise self.error
        match request:
            case BeginWrite():
                self.open.add("transaction")
            case Rollback() | Execute("COMMIT"):
                self.open.discard("transaction")
            case Guard():
                self.open.add("guard")
            case Unguard():
                self.open.discard("guard")
            case Execute("PRAGMA foreign_keys = ON"):
                self.open.add("keys")
            case Restore():
                self.open.discard("keys")
        return [(0,)] if request == KEYS else "1" if request == LOOK else willing(request)


def test_the_scene_is_as_long_as_it_is_thought_to_be() -> None:
    """The tests of failures at every request miss none."""
    asked, result = drive(whole(), Scene(-1, FULL))

    assert result == "1"
    assert len(asked) == LENGTH


@pytest.mark.parametrize("k", range(LENGTH))
@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt(), FULL])
def test_a_failure_at_any_request_is_cleaned_up_after(error: BaseException, k: int) -> None:
    """Whichever request fails, nothing else is run and everything is taken back."""
    scene = Scene(k, error)
    asked, outcome = drive(whole(), scene)
    failed, rest = asked[k], asked[k + 1 :]

    assert outcome is error or outcome.__cause__ is error
    assert all(map(is_cleanup, rest))
    undone = {Unguard: "guard", Rollback: "transaction", Restore: "keys"}
    assert scene.open <= ({undone[type(failed)]} if is_cleanup(failed) else set())


def test_a_cancellation_is_not_taken_for_a_failure() -> None:
    """A cancelled statement stays a cancellation; it does not become a failed migration."""
    cancelled = asyncio.CancelledError()

    assert cancelled is migrated(cancelled, Execute("CREATE TABLE t (x)"))[1]


def test_a_script_may_blame_something_else_than_a_migration() -> None:
    """A script that is no migration fails under its own name."""
    blame = partial(MigrationFailed, None, "the pre-migration schema", "up")
    program = step.run_steps(entry("NONSENSE").up.steps, blame, guard.look)
    _, error = drive(program, raising(FULL, lambda r: isinstance(r, Execute), willing))

    assert isinstance(error, WaveError)
    assert str(error).startswith("the pre-migration schema failed and was rolled back")
