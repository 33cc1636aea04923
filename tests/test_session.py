from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from wave_async import Event, StepStarted, WaitingForLock
from wave_async.database.driver import EngineConnection
from wave_async.database.guard import look
from wave_async.database.requests import (
    BeginWrite,
    Call,
    Execute,
    Guard,
    Program,
    Query,
    Report,
    Restore,
    Rollback,
    SwitchToWal,
    Unguard,
)
from wave_async.database.session import Hop
from wave_async.database.step import run_steps
from wave_async.errors import MigrationFailed, StatementRefused, StatementTimeout
from wave_async.model.migration import Direction, Step

COUNT = """WITH RECURSIVE n (i) AS
    (SELECT entered() UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000)
    SELECT max(i) FROM n"""
LONG = [
    COUNT,
    f"INSERT INTO t {COUNT}",
    f"CREATE TABLE u AS {COUNT}",
    f"UPDATE t SET x = ({COUNT})",
]
ROWS = [(1,), (2,), (3,)]
AT_LAST = 30
"""How long a thread may take that should be done at once; the counting would take minutes."""


@pytest.fixture
def entered() -> threading.Event:
    """Return what is set once a long statement runs."""
    return threading.Event()


@pytest.fixture
def connection(path: Path, entered: threading.Event) -> Iterator[EngineConnection]:
    """Open a connection on a table of three rows, as the pool does."""
    made = EngineConnection(path, isolation_level=None, check_same_thread=False)
    with closing(made) as connection:
        connection.create_function("entered", 0, lambda: entered.set() or 1)
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (1), (2), (3)")
        yield connection


def run(
    connection: EngineConnection,
    program: Callable[[], Program[Any]],
    events: list[Event] | None = None,
    **limits: float,
) -> Any:
    """Run a program on this thread; answers its result or raises its error."""
    hop = Hop(program, ([] if events is None else events).append, **{"patience": 1.0, **limits})
    hop.run(connection)
    assert hop.finished
    return hop.outcome()


def cancelled(
    connection: EngineConnection, program: Callable[[], Program[Any]], begun: threading.Event
) -> BaseException | None:
    """Run a program on a thread of its own and cancel it once it has begun; answers its error."""
    hop = Hop(program, lambda _: begun.set(), patience=600)
    thread = threading.Thread(target=hop.run, args=(connection,))
    thread.start()
    assert begun.wait(AT_LAST)
    hop.cancel()
    for _ in range(AT_LAST * 100):
        thread.join(0.01)
        if hop.finished:
            break
        hop.cancel()
    assert not thread.is_alive()
    try:
        hop.outcome()
    except BaseException as error:  # noqa: BLE001 - it is what the caller looks at
        return error
    return None


def transaction(*statements: str) -> Callable[[], Program[None]]:
    """Return a program of one transaction without foreign keys, under the guard."""

    def program() -> Program[None]:
        yield Execute("PRAGMA foreign_keys = OFF")
        try:
            yield BeginWrite(1)
            yield Guard(look)
            for sql in statements:
                yield Execute(sql)
            yield Unguard()
            yield Execute("COMMIT")
        finally:
            yield Unguard()
            yield Rollback()
            yield Restore("PRAGMA foreign_keys = ON")

    return program


def ask(sql: str) -> Callable[[], Program[list[Any]]]:
    """Return a program of one query."""

    def program() -> Program[list[Any]]:
        return (yield Query(sql))  # type: ignore[no-any-return]

    return program


def half_read(connection: sqlite3.Connection) -> sqlite3.Cursor:
    """Leave a statement in the middle of its rows, as `async for` with a `break` does."""
    cursor = connection.execute("SELECT x FROM t")
    cursor.fetchone()
    return cursor


def in_a_traceback(connection: sqlite3.Connection) -> BaseException:
    """Return an error whose traceback holds a cursor of its own that was not read to its end."""

    def fails() -> None:
        cursor = connection.cursor()
        cursor.execute("SELECT x FROM t")
        cursor.fetchone()
        raise LookupError

    try:
        fails()
    except LookupError as error:
        return error
    raise AssertionError


def nothing(_: sqlite3.Connection) -> None:
    """Leave nothing open."""


@pytest.mark.parametrize("sql", LONG)
@pytest.mark.parametrize("leave", [nothing, half_read, in_a_traceback])
def test_a_cancelled_statement_ends_at_once_and_leaves_nothing(
    connection: EngineConnection,
    entered: threading.Event,
    leave: Callable[[sqlite3.Connection], object],
    sql: str,
) -> None:
    """A cancelled hop rolls back and restores, whatever the application left half-read."""
    connection.execute("PRAGMA foreign_keys = ON")
    held = [leave(connection)]
    error = cancelled(connection, transaction("INSERT INTO t VALUES (4)", sql), entered)

    assert isinstance(error, asyncio.CancelledError)
    assert not connection.in_transaction
    assert connection.execute("SELECT x FROM t").fetchall() == ROWS
    assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("t",)]
    assert connection.execute("PRAGMA busy_timeout").fetchall() == [(5000,)]
    assert connection.execute("PRAGMA foreign_keys").fetchall() == [(1,)]
    assert len(held) == 1


@pytest.mark.parametrize("end", ["done", "failed", "cancelled"])
def test_what_the_application_has_set_is_back_afterwards(
    connection: EngineConnection, entered: threading.Event, end: str
) -> None:
    """However a hop ends, factories, authorizer and busy timeout are those of the application."""
    seen: list[str | None] = []

    def authorizer(action: int, first: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_DELETE:
            seen.append(first)
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK

    connection.row_factory, connection.text_factory = sqlite3.Row, bytes
    connection.set_authorizer(authorizer)
    connection.execute("PRAGMA busy_timeout = 1234")
    if end == "cancelled":
        assert cancelled(connection, transaction(COUNT), entered)
    elif end == "failed":
        with pytest.raises(sqlite3.OperationalError, match="NONSENSE"):
            run(connection, transaction("NONSENSE"))
    else:
        run(connection, transaction("DELETE FROM t WHERE x = 0"))

    assert seen == []
    with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
        connection.execute("DELETE FROM t")
    assert seen == ["t"]
    row = connection.execute("SELECT 'a' AS a").fetchone()
    assert (sqlite3.Row, b"a") == (type(row), row["a"])
    assert connection.execute("PRAGMA busy_timeout").fetchone()[0] == 1234
    assert connection.execute("PRAGMA foreign_keys").fetchone()[0] == 1


def test_a_wait_for_a_lock_is_cancelled_at_once(connection: EngineConnection, path: Path) -> None:
    """A hop that waits for somebody else's lock does not wait on when it is cancelled."""

    def program() -> Program[None]:
        yield Report(WaitingForLock(0))
        yield BeginWrite(600)

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        error = cancelled(connection, program, threading.Event())

    assert isinstance(error, asyncio.CancelledError)


def test_a_hop_that_is_cancelled_before_it_begins_does_nothing(
    connection: EngineConnection,
) -> None:
    """A hop that was cancelled in the queue runs its cleanup and nothing else."""
    hop = Hop(transaction("DELETE FROM t"), lambda _: None, patience=1)
    hop.cancel()
    hop.run(connection)

    with pytest.raises(asyncio.CancelledError):
        hop.outcome()
    assert connection.execute("SELECT x FROM t").fetchall() == ROWS
    assert not connection.in_transaction


def test_a_cancelled_function_hears_of_it_at_its_next_statement(
    connection: EngineConnection,
) -> None:
    """An interrupt that came between two statements is lost; the next one does not run."""
    seen: list[BaseException] = []

    def step(connection: sqlite3.Connection) -> None:
        hop.cancel()
        try:
            connection.execute("DELETE FROM t")
        except BaseException as error:
            seen.append(error)
            raise

    def program() -> Program[None]:
        try:
            yield BeginWrite(1)
            yield Guard(look)
            yield Call(step)
        finally:
            yield Unguard()
            yield Rollback()

    hop = Hop(program, lambda _: None, patience=1)
    hop.run(connection)

    assert [asyncio.CancelledError] == [type(error) for error in seen]
    assert ROWS == connection.execute("SELECT x FROM t").fetchall()


def test_cleaning_up_is_never_cancelled(
    connection: EngineConnection, entered: threading.Event
) -> None:
    """A cleanup goes on to its end while it is cancelled again and again."""
    cleanup = f"INSERT INTO t {COUNT.replace('max(i)', 'i').replace('1000000000', '200000')}"

    def program() -> Program[None]:
        try:
            yield Execute(COUNT)
        finally:
            yield Restore(cleanup)

    assert isinstance(cancelled(connection, program, entered), asyncio.CancelledError)
    assert connection.execute("SELECT count(*) FROM t").fetchall() == [(200_003,)]


def test_a_program_may_finish_although_it_was_cancelled(
    connection: EngineConnection, entered: threading.Event
) -> None:
    """What a program makes of its cancellation is its outcome."""

    def program() -> Program[str]:
        try:
            yield Execute(COUNT)
        except asyncio.CancelledError:
            return "survived"
        return "won"

    assert cancelled(connection, program, entered) is None


def test_a_statement_is_stepped_to_its_end(connection: EngineConnection) -> None:
    """A statement that answers rows runs for all of them, though nobody reads them."""
    calls: list[int] = []
    connection.create_function("called", 1, calls.append)

    def program() -> Program[bool]:
        return (yield Execute("SELECT called(x) FROM t"))  # type: ignore[no-any-return]

    assert run(connection, program) is False
    assert calls == [1, 2, 3]


def test_an_execution_answers_whether_a_transaction_is_open(connection: EngineConnection) -> None:
    """After each statement a program knows whether it still is in its transaction."""

    def program() -> Program[list[bool]]:
        before = yield Execute("SELECT 1")
        inside = yield Execute("BEGIN")
        after = yield Execute("ROLLBACK")
        return [before, inside, after]

    assert run(connection, program) == [False, True, False]


def test_a_query_answers_tuples_of_text(connection: EngineConnection) -> None:
    """Row and text factories of the application do not reach a program."""
    connection.row_factory, connection.text_factory = (lambda *_: None), bytes

    assert run(connection, ask("SELECT 'a', x FROM t")) == [("a", 1), ("a", 2), ("a", 3)]


def test_an_error_arrives_in_the_program(connection: EngineConnection) -> None:
    """A program may catch the error of a request and go on."""

    def program() -> Program[str]:
        try:
            yield Execute("NONSENSE")
        except sqlite3.OperationalError as error:
            ((answer,),) = yield Query("SELECT 'after ' || ?", (error.sqlite_errorname,))
            return str(answer)
        return "unseen"

    assert run(connection, program) == "after SQLITE_ERROR"


@pytest.mark.parametrize("error", [StopIteration(), StopAsyncIteration(), SystemExit(3), OSError()])
def test_a_hop_never_raises(connection: EngineConnection, error: BaseException) -> None:
    """What a program raises is kept for whoever asks for the outcome; no thread dies of it."""

    def starts() -> Program[None]:
        raise error

    hop = Hop(starts, lambda _: None, patience=1)
    try:
        hop.run(connection)
    except StopIteration:
        pytest.fail("a job that raises StopIteration hangs its awaiter")

    assert hop.finished


def test_a_busy_database_is_not_waited_for_longer_than_told(
    connection: EngineConnection, path: Path
) -> None:
    """A lock that is not to be had is answered by False, and can be had later."""

    def program() -> Program[tuple[bool, bool]]:
        first = yield BeginWrite(0.02)
        other.execute("ROLLBACK")
        return first, (yield BeginWrite(0.02))

    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN IMMEDIATE")

        assert run(connection, program) == (False, True)
    assert connection.in_transaction


@pytest.mark.parametrize("request_", [BeginWrite(1), SwitchToWal(1)])
def test_the_first_write_switches_to_wal(
    connection: EngineConnection, request_: BeginWrite | SwitchToWal
) -> None:
    """A database is in WAL once something is going to be written, and not before."""

    def program() -> Program[tuple[Any, bool, Any]]:
        before = yield Query("PRAGMA journal_mode")
        answer = yield request_
        return before, answer, (yield Query("PRAGMA journal_mode"))

    assert run(connection, program) == ([("delete",)], True, [("wal",)])


def test_a_database_in_use_is_not_switched(connection: EngineConnection, path: Path) -> None:
    """Where somebody reads, switching to WAL is tried as long as told and answered by False."""

    def program() -> Program[bool]:
        return (yield SwitchToWal(0.02))  # type: ignore[no-any-return]

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM t").fetchall()

        assert run(connection, program) is False
    assert run(connection, program) is True


def test_events_are_told_in_order(connection: EngineConnection) -> None:
    """What a program reports is told at once, in its order."""
    events: list[Event] = [StepStarted(Step(Direction.UP, n, "")) for n in (1, 2)]
    told: list[Event] = []

    def program() -> Program[list[Event]]:
        yield Report(events[0])
        yield Report(events[1])
        return list(told)

    assert events == run(connection, program, told)


def test_the_guard_stands_in_for_the_applications_authorizer(connection: EngineConnection) -> None:
    """What the guard refuses arrives in the program with its reason."""
    with pytest.raises(StatementRefused, match="COMMIT is not allowed"):
        run(connection, transaction("DELETE FROM t", "COMMIT"))

    assert connection.execute("SELECT x FROM t").fetchall() == ROWS


def test_a_guard_that_is_cancelled_while_it_goes_up_comes_down(
    connection: EngineConnection,
) -> None:
    """Wherever a cancellation meets it, no guard is left that would refuse the rollback."""

    def program() -> Program[None]:
        try:
            yield BeginWrite(1)
            yield from run_steps([], MigrationFailed, look, legacy_alter_table=True)
        finally:
            yield Rollback()

    def cancel(action: int, first: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_PRAGMA and first == "legacy_alter_table":
            hop._cancelled = True
        return sqlite3.SQLITE_OK

    connection.set_authorizer(cancel)
    hop = Hop(program, lambda _: None, patience=1)
    hop.run(connection)

    with pytest.raises(asyncio.CancelledError):
        hop.outcome()
    assert not connection.is_guarded
    assert not connection.in_transaction
    assert connection.execute("PRAGMA legacy_alter_table").fetchall() == [(0,)]


def test_a_cached_statement_does_not_slip_by_the_guard(connection: EngineConnection) -> None:
    """A COMMIT that was prepared before the guard went up is refused all the same."""
    for _ in range(3):
        connection.execute("BEGIN")
        connection.execute("COMMIT")

    with pytest.raises(StatementRefused):
        run(connection, transaction("COMMIT"))


def test_a_statement_that_takes_too_long_is_ended(connection: EngineConnection) -> None:
    """A statement under the guard ends at its timeout, and its transaction is rolled back."""
    told: list[None] = []
    connection.set_progress_handler(lambda: told.append(None), 1)

    with pytest.raises(StatementTimeout, match=r"ended after 0\.05 s"):
        run(connection, transaction("DELETE FROM t", COUNT), statement_timeout=0.05)

    told.clear()
    assert connection.execute("SELECT x FROM t").fetchall() == ROWS
    assert told


def test_a_script_of_the_application_is_an_ordinary_script(connection: EngineConnection) -> None:
    """A string given to `executescript` is run as ever."""
    connection.executescript("CREATE TABLE a (x); INSERT INTO a VALUES (1);")

    assert connection.execute("SELECT x FROM a").fetchall() == [(1,)]


def test_the_applications_methods_work_as_ever(connection: EngineConnection) -> None:
    """Cursors, single and many executions behave as on any connection."""
    cursor = connection.executemany("INSERT INTO t VALUES (?)", [(4,), (5,)])

    assert cursor.rowcount == 2
    assert connection.cursor().execute("SELECT max(x) FROM t").fetchall() == [(5,)]
    assert connection.execute("SELECT ?", (2,)).fetchall() == [(2,)]
