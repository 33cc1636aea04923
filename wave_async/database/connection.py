"""The one connection that an application and its migrations share, and who may use it when.

Owns the aiosqlite connection, the lock around it and the cancellation of what runs on it; knows
nothing of migrations. No other room imports aiosqlite.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from math import inf
from threading import Thread
from typing import Any

import aiosqlite

from wave_async.database import files
from wave_async.database.closing import Closing
from wave_async.database.driver import EngineConnection, is_busy, refuse_unrun
from wave_async.database.question import Question, Setup
from wave_async.database.requests import Execute, Program, Rollback, SwitchToWal
from wave_async.database.session import Hop, Part, T
from wave_async.database.waiting import (
    on_a_thread,
    part_reporter,
    reporter,
    to_answer,
    to_its_end,
)
from wave_async.errors import (
    DatabaseLocked,
    DatabaseUnusable,
    NeedsRecovery,
    PoolDeadlock,
    WaveError,
)
from wave_async.model.events import Event

LOCK_TIMEOUT = 60.0
BUSY_TIMEOUT = 5.0

_REASONS = {
    sqlite3.SQLITE_NOTADB: "it is not an SQLite database",
    sqlite3.SQLITE_CORRUPT: "it is damaged (database disk image is malformed)",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; the file must be readable and its directory "
    "writable",
    sqlite3.SQLITE_READONLY: files.UNWRITABLE,
    sqlite3.SQLITE_FULL: "the disk is full; make space and try again",
}


class _PoolConnection(EngineConnection):
    """Looks at the file on the connection's thread, before SQLite touches it.

    What fails is told by the first hop: aiosqlite leaves the thread of a connection that could not
    be opened behind, to die with a traceback when the loop is closed.
    """

    def __init__(self, path: str, *, setup: Setup | None, **options: Any) -> None:
        try:
            if path != files.MEMORY:
                if files.check(path):
                    files.check_writable(path)
                else:
                    files.make_directory(path)
            super().__init__(path, **options)
            if setup is not None:
                refuse_unrun(setup(self))
                _ = self.in_transaction  # it fails where the setup has closed it
        except Exception as error:  # noqa: BLE001 - the first hop raises it
            super().__init__(files.MEMORY, **options)
            self.failure = error


class SingleConnectionPool(Closing):
    """One aiosqlite connection, opened when it is first needed, behind one asyncio lock.

    The application's queries and the migrations may share it: whoever holds it has it alone, so no
    query lands inside a migration's transaction. It is in autocommit mode (`isolation_level=None`)
    with foreign keys on, synchronous FULL, a busy timeout of 5 s and `trusted_schema` off.
    A relative path is made absolute at once. `":memory:"` is a database that lives as long as the
    pool is open. As an async context manager it closes the connection at the end.

    `setup` is run on each new connection, on its thread, before anything else: for an application's
    own functions, collations, extensions and pragmas, such as an encryption key. It may not write,
    as questions have a connection that cannot. With it, only foreign keys are switched on: what an
    application adds could not be used in its schema with `trusted_schema` off
    (https://sqlite.org/pragma.html#pragma_trusted_schema).

    Raises `InvalidPath` for an empty path and for a `file:` URI.
    """

    def __init__(self, path: str | os.PathLike[str], *, setup: Setup | None = None) -> None:
        self.path = files.database_path(path)
        self.setup = setup
        self._connection: aiosqlite.Connection | None = None
        self._in_wal = False
        self.generation = 0
        """How many connections were opened: what one says of changes means nothing for another."""
        self._running: Hop[Any] | None = None
        self._lock = asyncio.Lock()
        self._holder: asyncio.Task[Any] | None = None

    async def close(self) -> None:
        """Close the connection, if it is open; the pool opens a new one when it is used again."""
        async with self._locked():
            connection, self._connection = self._connection, None
            if connection is not None:
                await to_its_end(connection.close())

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[aiosqlite.Connection]:
        """Hand out the connection, switched to WAL, to one task at a time.

        A transaction that is still open at the end is rolled back, with a `RuntimeWarning` where no
        exception explains it. Raises `PoolDeadlock` where the task already holds the connection,
        and `DatabaseError`.
        """
        async with self._locked():
            connection = await self._opened()
            if not self._in_wal:
                self._in_wal = await self._hop(connection, _switch_to_wal)
            if not self._in_wal:
                raise DatabaseLocked(LOCK_TIMEOUT)
            try:
                yield connection
            except BaseException:
                await self._take_back(connection)
                raise
            if await self._take_back(connection):
                warnings.warn(
                    "the pool's connection was given back with an open transaction: rolled back",
                    RuntimeWarning,
                    stacklevel=3,
                )

    async def _take_back(self, connection: aiosqlite.Connection) -> bool:
        """Roll back what the application left open; answers whether it left something.

        A statement may still be queued or run on the thread although nobody awaits it any more,
        after a timeout say: it is interrupted until it has given way.
        """
        if _is_closed(connection):
            return False
        hop = Hop(_roll_back, reporter(None), LOCK_TIMEOUT)

        async def interrupt() -> None:
            if not hop.started:
                await connection.interrupt()

        await to_its_end(connection.executescript(hop.run), interrupt)
        return hop.outcome()

    @property
    def file(self) -> str | None:
        """The file that the database is; one in memory has none."""
        return None if self.path == files.MEMORY else self.path

    @property
    def running_part(self) -> Part | None:
        """The statement or function of a migration that runs now; asking costs the run nothing."""
        return None if self._running is None else self._running.part

    async def run(
        self,
        program: Callable[[], Program[T]],
        *,
        judge: Callable[[], Program[object]] | None = None,
        on_event: Callable[[Event], None] | None = None,
        events: Any = Event,
        statements: bool = False,
        patience: float = LOCK_TIMEOUT,
        statement_timeout: float = inf,
    ) -> T | None:
        """Run a program of the engine, from its first request to its last, in one hop.

        A busy database is waited for `patience` seconds; a statement under the guard that takes
        longer than `statement_timeout` seconds is ended. `on_event` hears those of `events`, a type
        or several, with `statements` each `StatementStarted`, too. Where the pool is not open yet,
        `judge` looks at the database first, as a question: what it refuses is never opened for
        writing, and where it answers None there is nothing to do: None.
        Cancelled, the program is interrupted and awaited until it has cleaned up; one that had won
        by then stays done.
        """
        async with self._locked():
            if judge and self._connection is None and self.path != files.MEMORY:
                with suppress(NeedsRecovery):
                    if await self._briefly(judge, patience, on_event) is None:
                        return None
            connection = await self._opened(patience)
            report = reporter(on_event, events)
            return await self._hop(
                connection, program, patience, report, statement_timeout, statements=statements
            )

    async def ask(self, program: Callable[[], Program[T]], *, patience: float = LOCK_TIMEOUT) -> T:
        """Answer a question: on the open connection, or on a short read-only one.

        The program may be run twice. Nothing is created or changed. Raises `NeedsRecovery` where
        only a writer can read the database.
        """
        async with self._locked():
            if self._connection is not None or self.path == files.MEMORY:
                return await self._hop(await self._opened(patience), program, patience)
            return await self._briefly(program, patience)

    async def _briefly(
        self,
        program: Callable[[], Program[T]],
        patience: float,
        on_event: Callable[[Event], None] | None = None,
    ) -> T:
        question = Question(self.path, program, reporter(on_event), patience, self.setup)
        await to_answer(question, partial(on_a_thread, question))
        return self._outcome(question, patience)

    async def _hop(
        self,
        connection: aiosqlite.Connection,
        program: Callable[[], Program[T]],
        patience: float = LOCK_TIMEOUT,
        report: Callable[[Event], None] | None = None,
        statement_timeout: float = inf,
        *,
        statements: bool = False,
    ) -> T:
        report = report or reporter(None)
        on_part = part_reporter(report) if statements else None
        hop = Hop(program, report, patience, statement_timeout, on_part)
        self._running = hop
        try:
            await to_answer(hop, partial(_run_on, connection, hop), connection)
        finally:
            self._running = None
        if _is_closed(connection):
            with suppress(ValueError):  # its thread has ended as well
                await to_its_end(connection.close())
            raise DatabaseUnusable(self.path, "a migration's function closed the connection")
        return self._outcome(hop, patience)

    def _outcome(self, hop: Hop[T], patience: float) -> T:
        try:
            return hop.outcome()
        except sqlite3.Error as error:
            raise explained(error, self.path, patience) from error

    async def _opened(self, patience: float = LOCK_TIMEOUT) -> aiosqlite.Connection:
        if self._connection is None or _is_closed(self._connection):
            connection = _connection(self.path, self.setup)
            try:
                await to_its_end(connection)
                await self._hop(connection, partial(_configure, self.setup), patience)
            except BaseException:
                await to_its_end(connection.close())
                raise
            self._connection, self._in_wal = connection, False
            self.generation += 1
        return self._connection

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        if self._holder and (self._holder is task or self._holder.get_loop() is not loop):
            raise PoolDeadlock
        async with self._lock:
            self._holder = task
            try:
                yield
            finally:
                self._holder = None


def _is_closed(connection: aiosqlite.Connection) -> bool:
    """Whether the application has closed the connection it was lent."""
    try:
        _ = connection.in_transaction
    except (ValueError, sqlite3.ProgrammingError):
        return True
    return False


def _connection(path: str, setup: Setup | None) -> aiosqlite.Connection:
    """Make a connection, still closed, whose thread will not keep the process alive.

    aiosqlite's worker inherits the daemon flag of the thread that creates it. Without it, a start
    that fails with its pool in a global would never exit (aiosqlite issues 290, 299).
    """
    made: list[aiosqlite.Connection] = []

    def make() -> None:
        factory = partial(_PoolConnection, setup=setup)
        made.append(
            aiosqlite.connect(path, factory=factory, isolation_level=None, timeout=BUSY_TIMEOUT)
        )

    maker = Thread(target=make, daemon=True)
    maker.start()
    maker.join()
    return made[0]


def _configure(setup: Setup | None) -> Program[None]:
    if setup is None:
        yield Execute("PRAGMA synchronous = FULL")
        yield Execute("PRAGMA trusted_schema = OFF")
    yield Execute("PRAGMA foreign_keys = ON")


def _switch_to_wal() -> Program[bool]:
    return bool((yield SwitchToWal(LOCK_TIMEOUT)))


def _roll_back() -> Program[bool]:
    return bool((yield Rollback()))


async def _run_on(connection: aiosqlite.Connection, hop: Hop[Any]) -> None:
    if _is_closed(connection):
        hop.end()
    else:  # aiosqlite hands whatever it gets here to EngineConnection.executescript, on its thread
        await connection.executescript(hop.run)


def explained(error: sqlite3.Error, path: str, patience: float) -> WaveError:
    """Return what an error of SQLite means for a database, in our words."""
    if is_busy(error):
        return DatabaseLocked(patience)
    code = getattr(error, "sqlite_errorcode", 0)
    if code == sqlite3.SQLITE_READONLY_ROLLBACK:
        return NeedsRecovery(path, "a writer crashed; the next write access repairs it")
    if code == sqlite3.SQLITE_IOERR_SHMSIZE:  # no room for the -shm file
        code = sqlite3.SQLITE_FULL
    reason = _REASONS.get(code & 0xFF, "")
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return DatabaseUnusable(path, f"{reason or error} ({name})")
