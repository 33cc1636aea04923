from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiosqlite
import anyio
import pytest
from conftest import numbered
from test_requests import opened

from wave_async import (
    Direction,
    Event,
    RunEnded,
    RunStarted,
    SingleConnectionPool,
    Step,
    StepFinished,
    StepStarted,
    WaitingForLock,
)
from wave_async.database import history
from wave_async.database.history import History
from wave_async.database.requests import BeginWrite, Execute, Program, Query, Report, Rollback
from wave_async.database.walk import Walk
from wave_async.errors import DatabaseLocked, DatabaseUnusable, InvalidPath, PoolDeadlock
from wave_async.model import plan
from wave_async.model.catalogue import Catalogue
from wave_async.model.plan import Rules

LONG = """WITH RECURSIVE n (i) AS (SELECT {} UNION ALL SELECT i + 1 FROM n WHERE i < 10000000)
    SELECT max(i) FROM n"""
"""Takes seconds, unless somebody interrupts it."""
ROLLBACK_MODE, WAL = 1, 2


def make(path: Path, text: str = "") -> None:
    """Make a stranger's database in rollback mode, or a file of something else."""
    if text:
        path.write_text(text)
        return
    with opened(path) as connection:
        connection.execute("CREATE TABLE t (x)")


def journal(path: Path) -> int:
    """Return the journal mode that the header of a file tells."""
    return path.read_bytes()[18]


def folder(path: Path) -> dict[str, bytes]:
    """Return every file beside a database with its bytes."""
    return {f.name: f.read_bytes() for f in path.parent.iterdir()}


def is_free(path: Path) -> bool:
    """Whether somebody else can write at once."""
    with opened(path) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
    return True


def up() -> Program[Any]:
    """Apply two migrations."""
    catalogue = Catalogue(numbered(2))
    choose = lambda found, _: plan.up(catalogue, found.applied, None, Rules())  # noqa: E731
    return Walk(Direction.UP, choose, 60).program()


def ask(sql: str) -> Callable[[], Program[Any]]:
    """Return a program of one query."""

    def program() -> Program[Any]:
        return (yield Query(sql))

    return program


async def use(
    pool: SingleConnectionPool, *statements: str, close: bool = False, error: bool = False
) -> aiosqlite.Connection:
    """Execute statements in a block of an application, which may go wrong at its end."""
    async with pool.acquire() as connection:
        for sql in statements:
            await connection.execute(sql)
        if close:
            await connection.close()
        if error:
            raise LookupError
    return connection


@pytest.mark.parametrize("path", ["", "file:x", "file:///tmp/x.db?mode=memory", "a\0b"])
def test_what_is_no_path_is_refused_at_once(path: str) -> None:
    """A pool is never made on what SQLite would not take for a path."""
    with pytest.raises(InvalidPath):
        SingleConnectionPool(path)


def test_a_relative_path_is_fixed_when_the_pool_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the process goes later does not move the database."""
    monkeypatch.chdir(tmp_path)

    assert str(tmp_path / "state.db") == SingleConnectionPool("state.db").path


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        ("foreign_keys", 1),
        ("synchronous", 2),
        ("busy_timeout", 5000),
        ("trusted_schema", 0),
        ("journal_mode", "wal"),
    ],
)
async def test_the_connection_is_configured(
    pool: SingleConnectionPool, pragma: str, value: object
) -> None:
    """The connection is in autocommit mode with safe settings."""
    async with pool.acquire() as connection:
        assert [(value,)] == await connection.execute_fetchall(f"PRAGMA {pragma}")
        assert connection.isolation_level is None


async def test_only_who_writes_switches_to_wal(pool: SingleConnectionPool, path: Path) -> None:
    """Neither a question nor a run that only reads switches a stranger's file to WAL."""
    make(path)
    before = folder(path)

    await pool.ask(history.read)
    assert before == folder(path)
    await pool.run(history.read)
    await pool.ask(history.read)
    assert before == folder(path)
    async with pool.acquire():
        pass
    assert journal(path) == WAL


async def test_a_run_that_writes_switches_to_wal(pool: SingleConnectionPool, path: Path) -> None:
    """A migration switches the database that it changes."""
    make(path)
    assert journal(path) == ROLLBACK_MODE
    await pool.run(up)

    assert journal(path) == WAL


async def test_the_directory_is_made_for_its_owner(tmp_path: Path) -> None:
    """A new database gets its directories; nobody else may look into them."""
    path = tmp_path / "deep" / "er" / "state.db"
    async with SingleConnectionPool(path) as pool, pool.acquire():
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert path.exists()


async def test_one_task_at_a_time(pool: SingleConnectionPool) -> None:
    """Whoever holds the connection has it alone until it is given back."""
    seen: list[str] = []
    first_in = asyncio.Event()

    async def first() -> None:
        async with pool.acquire() as connection:
            first_in.set()
            for n in range(5):
                seen.append(f"first {n}")
                await connection.execute("SELECT 1")

    async def other(name: str, use: Callable[[], Any]) -> None:
        await first_in.wait()
        await use()
        seen.append(name)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(first())
        tasks.create_task(other("ask", lambda: pool.ask(history.read)))
        tasks.create_task(other("run", lambda: pool.run(history.read)))

    assert [*(f"first {n}" for n in range(5)), "ask", "run"] == seen


@pytest.mark.parametrize(
    "touch",
    [
        use,
        lambda pool: pool.run(up),
        lambda pool: pool.ask(history.read),
        lambda pool: pool.close(),
    ],
)
async def test_waiting_for_oneself_is_refused(
    pool: SingleConnectionPool, touch: Callable[[SingleConnectionPool], Any]
) -> None:
    """A task that holds the connection and asks for it again is told, and still holds it."""
    async with pool.acquire() as connection:
        with pytest.raises(PoolDeadlock, match="leave the block first"):
            await touch(pool)
        await connection.execute("SELECT 1")

    await touch(pool)


async def test_an_open_transaction_is_rolled_back_with_a_warning(
    pool: SingleConnectionPool,
) -> None:
    """Who gives back an open transaction loses it and is told where."""
    with pytest.warns(RuntimeWarning, match="given back with an open transaction") as told:
        await use(pool, "CREATE TABLE t (x)", "BEGIN", "INSERT INTO t VALUES (1)")

    assert __file__ == told[0].filename
    assert [] == await pool.ask(ask("SELECT * FROM t"))


async def test_an_open_transaction_is_rolled_back_after_an_error(
    pool: SingleConnectionPool, path: Path
) -> None:
    """An error says enough: the transaction is rolled back without a warning."""
    with pytest.raises(LookupError):
        await use(pool, "CREATE TABLE t (x)", "BEGIN", "INSERT INTO t VALUES (1)", error=True)

    assert is_free(path)
    assert [] == await pool.ask(ask("SELECT * FROM t"))


async def test_a_connection_that_the_application_has_closed_is_replaced(
    pool: SingleConnectionPool,
) -> None:
    """Closing the connection inside the block is no harm."""
    closed = await use(pool, close=True)

    assert closed is not await use(pool, "SELECT 1")


async def test_closing_the_connection_does_not_hide_an_error(pool: SingleConnectionPool) -> None:
    """The application's error leaves the block, also when the connection is closed by then."""
    with pytest.raises(LookupError):
        await use(pool, close=True, error=True)

    assert History(tracked=False) == await pool.ask(history.read)


async def test_a_database_in_memory_lives_as_long_as_its_pool() -> None:
    """`:memory:` is one database for every use until the pool is closed."""
    async with SingleConnectionPool(":memory:") as pool:
        await pool.run(up)
        assert (await pool.ask(history.read)).tracked
        async with pool.acquire() as connection:
            await connection.execute("INSERT INTO t1 VALUES (1)")
        assert await pool.ask(ask("SELECT x FROM t1")) == [(1,)]
        await pool.close()
        assert History(tracked=False) == await pool.ask(history.read)


async def test_a_closed_pool_opens_again(pool: SingleConnectionPool) -> None:
    """Closing is for now: the next use opens a new connection; closing twice is nothing."""
    await pool.run(up)
    await pool.close()
    await pool.close()
    async with pool.acquire() as connection:
        assert await connection.execute_fetchall("SELECT count(*) FROM schema_migrations") == [(2,)]


@pytest.mark.parametrize(
    "touch", [use, lambda pool: pool.run(up), lambda pool: pool.ask(history.read)]
)
async def test_what_is_no_database_is_explained(
    tmp_path: Path, touch: Callable[[SingleConnectionPool], Any]
) -> None:
    """A path that cannot be a database is refused in our words, again and again."""
    async with SingleConnectionPool(tmp_path) as pool:
        for _ in range(2):
            with pytest.raises(DatabaseUnusable, match="it is a directory, not a file"):
                await touch(pool)


def test_a_pool_that_cannot_open_leaves_no_thread_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the loop ends right after a failed opening nothing is left to die on a thread."""
    died: list[object] = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    before = set(threading.enumerate())
    for _ in range(50):
        with pytest.raises(DatabaseUnusable):
            asyncio.run(SingleConnectionPool(tmp_path).run(up))
    for thread in set(threading.enumerate()) - before:
        thread.join(30)

    assert [] == died


@pytest.mark.parametrize("touch", [use, lambda pool: pool.run(up)])
async def test_a_file_that_is_no_database_is_left_alone(
    pool: SingleConnectionPool, path: Path, touch: Callable[[SingleConnectionPool], Any]
) -> None:
    """A file of something else is refused unchanged."""
    make(path, "a shopping list " * 100)
    before = folder(path)

    with pytest.raises(DatabaseUnusable, match="not an SQLite database"):
        await touch(pool)
    assert before == folder(path)


async def test_what_the_judge_refuses_is_not_opened(pool: SingleConnectionPool, path: Path) -> None:
    """A database that the judge refuses is never opened for writing."""

    def judge() -> Program[None]:
        yield Query("SELECT * FROM t")
        raise LookupError

    make(path)
    before = folder(path)

    with pytest.raises(LookupError):
        await pool.run(up, judge=judge)
    assert before == folder(path)


async def test_nothing_is_opened_where_there_is_nothing_to_do(
    pool: SingleConnectionPool, path: Path
) -> None:
    """A judge that answers None ends the run before the database is opened for writing."""

    def judge() -> Program[None]:
        yield Query("SELECT * FROM t")

    make(path)
    before = folder(path)

    assert await pool.run(up, judge=judge) is None
    assert before == folder(path)


async def test_a_missing_database_is_judged_without_making_it(tmp_path: Path) -> None:
    """Where the judge refuses an empty database not even a directory is made."""

    def judge() -> Program[None]:
        assert (yield Query("SELECT * FROM sqlite_schema")) == []
        raise LookupError

    async with SingleConnectionPool(tmp_path / "deep" / "state.db") as pool:
        with pytest.raises(LookupError):
            await pool.run(up, judge=judge)
    assert not (tmp_path / "deep").exists()


async def test_a_run_waits_no_longer_than_told(pool: SingleConnectionPool, path: Path) -> None:
    """What is still locked after the patience is a clear error, and no harm to the next use."""

    def writes() -> Program[None]:
        yield Execute("CREATE TABLE t (x)")

    await use(pool)
    with opened(path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseLocked, match="database is locked"):
            await pool.run(writes, patience=0.02)
    await pool.run(writes)


async def test_events_come_in_order_and_before_the_end(pool: SingleConnectionPool) -> None:
    """Every event has been told, on the loop's thread, when the run returns."""
    told: list[tuple[Event, int]] = []
    await pool.run(up, on_event=lambda event: told.append((event, threading.get_ident())))
    steps = [Step(Direction.UP, n, f"Add t{n}") for n in (1, 2)]

    wanted = [
        RunStarted(Direction.UP, 2),
        *(event for step in steps for event in (StepStarted(step), StepFinished(step))),
        RunEnded(Direction.UP, tuple(steps)),
    ]
    assert [(event, threading.get_ident()) for event in wanted] == told


def test_an_event_after_the_loop_is_harmless(path: Path) -> None:
    """A loop that is closed while a program runs does not end the program's thread."""
    make(path)
    started, closed, ended = threading.Event(), threading.Event(), threading.Event()

    def judge() -> Program[None]:
        started.set()
        closed.wait(30)
        yield Report(WaitingForLock(1))
        ended.set()

    async def main() -> None:
        task = asyncio.ensure_future(pool.run(up, judge=judge, on_event=lambda _: None))
        await asyncio.to_thread(started.wait, 30)
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        kept.append(task)

    kept: list[object] = []
    pool = SingleConnectionPool(path)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    closed.set()

    assert ended.wait(30)


async def test_a_question_for_which_no_thread_is_free_is_cancelled_at_once(path: Path) -> None:
    """What an application blocks the loop's threads with is not waited for."""
    make(path)
    free, pool = threading.Event(), SingleConnectionPool(path)
    blocked = [asyncio.create_task(asyncio.to_thread(free.wait, 60)) for _ in range(64)]
    task = asyncio.create_task(pool.ask(up))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not free.is_set()
    assert not any(job.done() for job in blocked)
    free.set()
    await asyncio.gather(*blocked)


class Cancelled:
    """Work in the middle of a long statement, which `begun` and, if it ever does, ends."""

    def __init__(self, pool: SingleConnectionPool) -> None:
        self.pool = pool
        self.begun = asyncio.Event()
        self.ended: list[object] = []

    async def in_a_run(self) -> None:
        """Be in a transaction of the engine."""

        def program() -> Program[None]:
            try:
                yield BeginWrite(1)
                yield Execute("INSERT INTO t VALUES (1)")
                yield Report(WaitingForLock(0))
                self.ended += yield Query(LONG.format(1))
            finally:
                yield Rollback()

        await self.pool.run(program, on_event=lambda _: self.begun.set())

    async def in_a_judge(self) -> None:
        """Be in a question."""

        def judge() -> Program[None]:
            yield Report(WaitingForLock(0))
            self.ended += yield Query(LONG.format(1))

        await self.pool.close()
        await self.pool.run(up, judge=judge, on_event=lambda _: self.begun.set())

    async def in_a_block(self) -> None:
        """Be in a transaction of the application."""
        loop = asyncio.get_running_loop()
        async with self.pool.acquire() as connection:
            await connection.create_function(
                "begun", 0, lambda: loop.call_soon_threadsafe(self.begun.set) and 1
            )
            await connection.create_function("ended", 1, self.ended.append)
            await connection.execute("BEGIN IMMEDIATE")
            await connection.execute("INSERT INTO t VALUES (1)")
            await connection.execute(f"SELECT ended(({LONG.format('begun()')}))")

    async def in_the_queue(self) -> None:
        """Be in a block whose statement has not begun: the thread is in another one."""
        gate = threading.Event()
        async with self.pool.acquire() as connection:
            await connection.create_function("gate", 0, lambda: gate.wait(60) and 1)
            await connection.create_function("ended", 1, self.ended.append)
            await connection.execute("BEGIN IMMEDIATE")
            await connection.execute("INSERT INTO t VALUES (1)")
            with anyio.move_on_after(0):
                await connection.execute("SELECT gate()")
            self.begun.set()
            try:
                await connection.execute(f"SELECT ended(({LONG.format(1)}))")
            finally:
                asyncio.get_running_loop().call_soon(gate.set)

    async def times(self, count: int, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Cancel a task once, or again and again while it cleans up."""
        task = asyncio.create_task(work())
        await self.begun.wait()
        for _ in range(count):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task

    async def once(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Cancel a task."""
        await self.times(1, work)

    async def thrice(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Cancel a task, and again while it cleans up."""
        await self.times(3, work)

    async def by_a_scope(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Let an anyio scope end."""
        with anyio.move_on_after(60) as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(work)
                await self.begun.wait()
                scope.deadline = -1
        assert scope.cancelled_caught

    async def by_a_timeout(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Let a timeout of asyncio run out."""

        async def work_within() -> None:
            async with asyncio.timeout(60) as timeout:
                waiting.append(timeout)
                await work()

        waiting: list[asyncio.Timeout] = []
        task = asyncio.create_task(work_within())
        await self.begun.wait()
        waiting[0].reschedule(0)
        with pytest.raises(TimeoutError):
            await task

    async def by_a_task_group(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Let another task of the group fail."""

        async def fail() -> None:
            await self.begun.wait()
            raise LookupError

        async def together() -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(work())
                tasks.create_task(fail())

        with pytest.raises(ExceptionGroup):
            await together()


@pytest.mark.parametrize("where", ["in_a_run", "in_a_judge", "in_a_block", "in_the_queue"])
@pytest.mark.parametrize(
    "cancel", ["once", "thrice", "by_a_scope", "by_a_timeout", "by_a_task_group"]
)
async def test_a_cancelled_task_leaves_nothing(
    pool: SingleConnectionPool, path: Path, cancel: str, where: str
) -> None:
    """However a task is cancelled its statement ends, and its transaction is gone."""
    make(path)
    await use(pool)
    cancelled = Cancelled(pool)
    await getattr(cancelled, cancel)(getattr(cancelled, where))

    assert [] == cancelled.ended
    assert is_free(path)
    assert [(0,)] == await pool.ask(ask("SELECT count(*) FROM t"))
    async with pool.acquire() as connection:
        assert not connection.in_transaction
        assert [(5000,)] == await connection.execute_fetchall("PRAGMA busy_timeout")


async def give_up_waiting(pool: SingleConnectionPool, *, error: bool) -> None:
    """Leave a block whose BEGIN is still in the thread's queue."""
    gate = threading.Event()
    async with pool.acquire() as connection:
        await connection.create_function("gate", 0, lambda: gate.wait(60) and 1)
        for sql in ("SELECT gate()", "BEGIN IMMEDIATE"):
            with anyio.move_on_after(0):
                await connection.execute(sql)
        asyncio.get_running_loop().call_soon(gate.set)
        if error:
            raise LookupError


@pytest.mark.filterwarnings("ignore:the pool's connection was given back:RuntimeWarning")
@pytest.mark.parametrize("error", [False, True])
async def test_a_transaction_that_begins_late_is_not_inherited(
    pool: SingleConnectionPool, *, error: bool
) -> None:
    """A BEGIN that the block gave up waiting for does not reach the next user."""
    with suppress(LookupError):
        await give_up_waiting(pool, error=error)

    async with pool.acquire() as connection:
        await connection.execute("SELECT 1")
        assert not connection.in_transaction


async def test_a_cancelled_waiter_does_not_hold_the_connection(pool: SingleConnectionPool) -> None:
    """A task that is cancelled while it waits for the connection leaves the line."""
    async with pool.acquire():
        waiter = asyncio.ensure_future(pool.run(up))
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter

    assert History(tracked=False) == await pool.ask(history.read)


@pytest.mark.parametrize("rounds", range(20))
async def test_opening_may_be_cancelled_anywhere(path: Path, rounds: int) -> None:
    """A pool whose opening was cancelled at any moment opens the next time."""
    async with SingleConnectionPool(path) as pool:
        task = asyncio.ensure_future(use(pool))
        for _ in range(rounds):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

        await pool.run(up)
        assert len((await pool.ask(history.read)).applied) == 2


@pytest.mark.parametrize("pool_is", ["global", "in the traceback"])
def test_a_process_whose_start_fails_ends(tmp_path: Path, pool_is: str) -> None:
    """A process with an open pool that nobody closes ends by itself, with its error."""
    script = tmp_path / "start.py"
    script.write_text(
        f"""
import asyncio
from wave_async import SingleConnectionPool

async def start():
    {"global pool" if pool_is == "global" else ""}
    pool = SingleConnectionPool("state.db")
    async with pool.acquire() as connection:
        await connection.execute("CREATE TABLE t (x)")
    raise LookupError("the start failed")

asyncio.run(start())
"""
    )
    ended = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 1
    assert "the start failed" in ended.stderr
