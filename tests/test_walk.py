from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import numbered
from test_requests import Hands, drive, is_cleanup, kth, meanwhile, opened, raising

from wave_async import Direction, Migration, RunEnded, RunStarted, StepFinished, StepStarted
from wave_async.database import history, step, walk
from wave_async.database.history import History
from wave_async.database.requests import (
    BeginWrite,
    DataVersion,
    Execute,
    Program,
    Query,
    Report,
    Request,
    Rollback,
)
from wave_async.database.walk import Walk, consistently, fixed
from wave_async.errors import DatabaseLocked, MigrationFailed, PlanChanged
from wave_async.model import plan
from wave_async.model.catalogue import Catalogue, Entry
from wave_async.model.plan import Rules
from wave_async.model.script import parse

CATALOGUE = Catalogue(numbered(5))
RECORDED = "SELECT version FROM schema_migrations ORDER BY version"
TABLES = "SELECT name FROM sqlite_schema ORDER BY name"


@pytest.fixture
def ours(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the connection that a program under test is served on."""
    with opened(path) as connection:
        yield connection


@pytest.fixture
def theirs(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a connection of somebody else on the same database."""
    with opened(path) as connection:
        yield connection


def up(catalogue: Catalogue = CATALOGUE, target: int | None = None) -> Program[Any]:
    """Return the program that applies what is pending up to a target."""

    def choose(found: History, _done: int) -> list[Entry]:
        return plan.up(catalogue, found.applied, target, Rules())

    return Walk(Direction.UP, choose, 60).program()


def down(target: int) -> Program[Any]:
    """Return the program that rolls back what is above a target."""

    def first(found: History) -> list[Entry]:
        return plan.down(CATALOGUE, found.applied, target, Rules())

    return Walk(Direction.DOWN, fixed(first), 60).program()


def mark(version: int) -> Program[Any]:
    """Return the program that records every version up to one."""

    def unmarked() -> Program[tuple[Entry, ...] | None]:
        found = yield from history.read()
        return plan.unmarked(CATALOGUE, found.applied, version, Rules()) or None

    return walk.mark(unmarked, 60)


def load(script: str) -> Program[bool]:
    """Return the program that loads a schema without a record."""
    return walk.load(parse(script, "schema"), "the schema", 60)


def run(connection: sqlite3.Connection, program: Program[Any]) -> Any:
    """Serve a program that is expected to succeed; answers its result."""
    _, result = drive(program, Hands(connection))
    if isinstance(result, BaseException):
        raise result
    return result


def recorded(connection: sqlite3.Connection) -> list[int]:
    """Return the versions that a database records."""
    return [version for (version,) in connection.execute(RECORDED)]


def versions(steps: Any) -> list[int]:
    """Return the versions of some steps."""
    return [step.version for step in steps]


def test_an_up_applies_in_order(ours: sqlite3.Connection) -> None:
    """An up begins, commits and reports each step before the next, lowest first, and its end."""
    asked, steps = drive(up(), Hands(ours))
    told = [request.event for request in asked if isinstance(request, Report)]

    assert [1, 2, 3, 4, 5] == versions(steps) == recorded(ours)
    assert told == [
        RunStarted(Direction.UP, 5),
        *(event for s in steps for event in (StepStarted(s), StepFinished(s))),
        RunEnded(Direction.UP, steps),
    ]
    assert asked.count(Execute("COMMIT")) == 5
    assert len([request for request in asked if isinstance(request, BeginWrite)]) == 5


def test_a_down_rolls_back_in_order(ours: sqlite3.Connection) -> None:
    """A down undoes the newest first and keeps the bookkeeping table."""
    run(ours, up())

    assert versions(run(ours, down(2))) == [5, 4, 3]
    assert recorded(ours) == [1, 2]
    assert ours.execute(TABLES).fetchall() == [("schema_migrations",), ("t1",), ("t2",)]


@pytest.mark.parametrize("program", [up, partial(down, 5), partial(mark, 5)])
def test_nothing_to_do_takes_no_lock(
    ours: sqlite3.Connection, program: Callable[[], Program[Any]]
) -> None:
    """A run with nothing to do only asks."""
    run(ours, up())
    asked, result = drive(program(), Hands(ours))

    assert result == ()
    assert all(isinstance(request, DataVersion | Query) for request in asked)


def test_the_history_is_read_once(ours: sqlite3.Connection) -> None:
    """As long as nobody else commits a run of many steps reads the history once."""
    asked, _ = drive(up(), Hands(ours))

    assert asked.count(Query(history.FIND)) == 1


def test_the_step_is_chosen_again_under_the_lock(
    ours: sqlite3.Connection, theirs: sqlite3.Connection
) -> None:
    """A version that somebody rolls back just before the lock is applied first: no hole is left."""
    run(ours, up(target=4))
    _, steps = drive(up(), meanwhile(lambda: run(theirs, down(3)), BeginWrite, Hands(ours)))

    assert versions(steps) == [4, 5]
    assert recorded(ours) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("target", [1, 3, 5])
def test_what_somebody_else_applies_meanwhile_is_not_applied_again(
    ours: sqlite3.Connection, theirs: sqlite3.Connection, target: int
) -> None:
    """A run goes on behind what others have applied and answers only what it did itself."""
    others = up(target=target)
    _, steps = drive(up(), meanwhile(lambda: run(theirs, others), BeginWrite, Hands(ours)))

    assert list(range(target + 1, 6)) == versions(steps)
    assert recorded(ours) == [1, 2, 3, 4, 5]


def test_somebody_else_between_two_steps_is_noticed(
    ours: sqlite3.Connection, theirs: sqlite3.Connection
) -> None:
    """A commit of somebody else between two of our steps is seen before the next one."""
    seen: list[int] = []

    def at_once() -> None:
        seen.extend(recorded(theirs))
        run(theirs, up(target=3))

    def serve(request: Request) -> Any:
        if isinstance(request, Report) and isinstance(request.event, StepFinished) and not seen:
            at_once()
        return hands(request)

    hands = Hands(ours)
    _, steps = drive(up(), serve)

    assert seen == [1]
    assert versions(steps) == [1, 4, 5]


@pytest.mark.parametrize(
    ("theirs_do", "found"),
    [(partial(up, target=4), 4), (partial(down, 1), 1), (partial(down, 0), None)],
)
def test_a_rollback_stops_where_somebody_else_migrates(
    ours: sqlite3.Connection,
    theirs: sqlite3.Connection,
    theirs_do: Callable[[], Program[Any]],
    found: int | None,
) -> None:
    """A rollback undoes only what it came for, however the newest version moved."""
    run(ours, up(target=3))
    asked, error = drive(
        down(2), meanwhile(lambda: run(theirs, theirs_do()), BeginWrite, Hands(ours))
    )

    assert isinstance(error, PlanChanged)
    assert (3, found) == (error.expected, error.found)
    assert Rollback() in asked
    assert found == max(recorded(ours), default=None)


def test_a_stopped_rollback_says_what_it_has_done(
    ours: sqlite3.Connection, theirs: sqlite3.Connection
) -> None:
    """A rollback that stops on its way names the versions that are gone for good."""
    run(ours, up())
    acts = iter([lambda: None, lambda: run(theirs, up())])
    hands = Hands(ours)

    def serve(request: Request) -> Any:
        if isinstance(request, BeginWrite):
            next(acts)()
        return hands(request)

    _, error = drive(down(0), serve)

    assert isinstance(error, PlanChanged)
    assert error.done == (5,)
    assert recorded(ours) == [1, 2, 3, 4, 5]


def test_a_failed_run_says_what_it_has_done(ours: sqlite3.Connection) -> None:
    """The error of a run names what was applied before it, which stays."""
    catalogue = Catalogue([*numbered(2), Migration(3, "Bad", "CREATE TABLE t3 (x); NONSENSE")])
    _, error = drive(up(catalogue), Hands(ours))

    assert isinstance(error, MigrationFailed)
    assert error.done == (1, 2)
    assert recorded(ours) == [1, 2]
    assert ("t3",) not in ours.execute(TABLES).fetchall()


@pytest.mark.parametrize("k", range(40))
@pytest.mark.parametrize("upwards", [True, False])
def test_a_run_that_is_cancelled_anywhere_is_whole(
    ours: sqlite3.Connection, k: int, *, upwards: bool
) -> None:
    """Wherever a run is cancelled its steps are done or not, never half, and nothing stays open."""
    ours.execute("PRAGMA foreign_keys = OFF")
    if not upwards:
        run(ours, up(target=2))
    hands = Hands(ours)
    program = up(target=2) if upwards else down(0)
    asked, outcome = drive(program, raising(asyncio.CancelledError(), kth(k), hands))
    tables = [name for (name,) in ours.execute(TABLES)]
    done = recorded(ours) if history.TABLE in tables else []

    survived = isinstance(outcome, tuple)

    assert survived == (len(asked) <= k or is_cleanup(asked[k]))
    assert [f"t{version}" for version in done] == [name for name in tables if name[0] == "t"]
    assert ours.execute("PRAGMA foreign_keys").fetchall() == [(0,)]
    assert (hands.guarded, ours.in_transaction) == (False, False)


def test_marking_records_all_in_one_transaction(ours: sqlite3.Connection) -> None:
    """Marking records what is missing, runs no script, and commits once."""
    run(ours, up(target=1))
    asked, marked = drive(mark(3), Hands(ours))

    assert versions(marked) == [2, 3]
    assert recorded(ours) == [1, 2, 3]
    assert asked.count(Execute("COMMIT")) == 1
    assert ours.execute(TABLES).fetchall() == [("schema_migrations",), ("t1",)]


@pytest.mark.parametrize("at", [Execute(history.RECORD, e.row) for e in CATALOGUE.entries.values()])
def test_marking_is_all_or_nothing(ours: sqlite3.Connection, at: Request) -> None:
    """When one record cannot be written none is, and the bookkeeping is not created."""
    full = sqlite3.OperationalError("database or disk is full")
    _, error = drive(mark(5), raising(full, lambda request: request == at, Hands(ours)))

    assert error is full
    assert ours.execute(TABLES).fetchall() == []
    assert not ours.in_transaction


def test_marking_is_judged_again_under_the_lock(
    ours: sqlite3.Connection, theirs: sqlite3.Connection
) -> None:
    """What somebody else applies just before the lock is not marked a second time."""
    serve = meanwhile(lambda: run(theirs, up(target=2)), BeginWrite, Hands(ours))
    _, marked = drive(mark(3), serve)

    assert versions(marked) == [3]
    assert recorded(ours) == [1, 2, 3]


def test_loading_runs_a_script_without_a_record(ours: sqlite3.Connection) -> None:
    """A schema is loaded in one transaction under the guard and leaves no bookkeeping."""
    asked, loaded = drive(load("CREATE TABLE a (x); CREATE TABLE b (x)"), Hands(ours))

    assert loaded is True
    assert ours.execute(TABLES).fetchall() == [("a",), ("b",)]
    assert asked.count(Execute("COMMIT")) == 1


def test_a_load_that_fails_leaves_nothing(ours: sqlite3.Connection) -> None:
    """A schema that fails half-way is rolled back whole, under its own name."""
    _, error = drive(load("CREATE TABLE a (x); NONSENSE"), Hands(ours))

    assert isinstance(error, MigrationFailed)
    assert (error.version, error.description, error.number) == (None, "the schema", 2)
    assert ours.execute(TABLES).fetchall() == []


def test_a_tracked_database_is_never_loaded_into(ours: sqlite3.Connection) -> None:
    """On a database with bookkeeping, an empty one even, nothing is loaded and no lock taken."""
    ours.execute(history.CREATE)
    asked, loaded = drive(load("CREATE TABLE a (x)"), Hands(ours))

    assert loaded is False
    assert all(isinstance(request, Query) for request in asked)


def test_a_load_looks_again_under_the_lock(
    ours: sqlite3.Connection, theirs: sqlite3.Connection
) -> None:
    """Nothing is loaded where somebody else migrates just before the lock."""
    serve = meanwhile(lambda: run(theirs, up(target=1)), BeginWrite, Hands(ours))
    _, loaded = drive(load("CREATE TABLE a (x)"), serve)

    assert loaded is False
    assert ours.execute(TABLES).fetchall() == [("schema_migrations",), ("t1",)]


@pytest.mark.parametrize("moves", [False, True])
def test_the_deadline_starts_anew_when_the_history_moves(
    ours: sqlite3.Connection, theirs: sqlite3.Connection, *, moves: bool
) -> None:
    """A waiter gives up on a database that stands still, not on one that is being migrated."""
    tries = 0
    hands = Hands(ours)

    def serve(request: Request) -> Any:
        nonlocal tries
        if isinstance(request, BeginWrite):
            tries += 1
            if moves and tries % 200 == 0:
                run(theirs, up(target=tries // 200))
            return False
        return hands(request)

    _, result = drive(up(), serve)

    if moves:
        assert result == ()
        assert tries == 5 * 200
    else:
        assert isinstance(result, DatabaseLocked)
        assert tries == 60 / step.LOOK_AGAIN


@pytest.mark.parametrize("error", [None, ValueError(), asyncio.CancelledError()])
def test_a_question_reads_one_state(ours: sqlite3.Connection, error: BaseException | None) -> None:
    """A question runs in one read transaction, which is ended however the question ends."""
    hands = Hands(ours)
    serve = raising(error, lambda r: isinstance(r, Query), hands) if error else hands
    asked, _ = drive(consistently(history.read), serve)

    assert (Execute("BEGIN"), Rollback()) == (asked[0], asked[-1])
    assert not ours.in_transaction
