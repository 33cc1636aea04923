"""Runs programs on a connection's own thread, from the first request to the last, and cancels them.

Owns what happens on that thread and who may interrupt it; knows nothing of event loops' tasks, of
locks between tasks, or of what a program is for.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from itertools import chain, repeat
from math import inf
from time import monotonic, sleep
from typing import Any, Generic, TypeVar

from wave_async.database import guard
from wave_async.database.requests import (
    BeginWrite,
    Execute,
    Guard,
    Program,
    Query,
    Report,
    Request,
    Restore,
    Rollback,
    SwitchToWal,
)
from wave_async.errors import StatementTimeout
from wave_async.model.events import Event, WaitingForLock

T = TypeVar("T")

POLL = 0.01
"""How long a thread that waits for a lock sleeps between two looks, in seconds."""

WATCH_EVERY = 1000
"""After how many instructions of SQLite's machine a watched statement's time is looked at."""

TELL_AFTER = 1.0
"""How long a waiter waits before it says so, in seconds."""
_FIRST_PAUSES = (0.001, 0.002, 0.005)
_CLEANUP_TRIES = 1000

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_SCHEMA})


def primary_code(error: BaseException) -> int:
    """Return SQLite's primary result code of an error, 0 where it has none.

    https://sqlite.org/rescode.html#primary_result_codes_versus_extended_result_codes
    """
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_busy(error: BaseException) -> bool:
    """Whether an error says no more than that somebody else was quicker."""
    return primary_code(error) in _BUSY


class EngineConnection(sqlite3.Connection):
    """A connection that knows its open cursors and is a door to its own thread.

    aiosqlite runs the methods of a connection on the connection's thread; `executescript`, given a
    `Hop`, runs that there. Given a string it is the ordinary method.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self._open_cursors: weakref.WeakSet[sqlite3.Cursor] = weakref.WeakSet()
        self._authorizer: Callable[..., int] | None = None
        self._progress: tuple[Callable[[], Any] | None, int] = (None, 0)
        self.journal_settled = False
        self.failure: BaseException | None = None
        super().__init__(*args, **options)

    # `execute` and `executemany` of the base class make their cursor without calling `cursor`.

    def cursor(self, factory: Any = sqlite3.Cursor) -> Any:
        """Open a cursor, and remember it as long as anybody does."""
        cursor = super().cursor(factory)
        self._open_cursors.add(cursor)
        return cursor

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Run one statement on a new cursor."""
        return self.cursor().execute(sql, parameters)  # type: ignore[no-any-return]

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        """Run one statement many times on a new cursor."""
        return self.cursor().executemany(sql, parameters)  # type: ignore[no-any-return]

    def executescript(self, script: str | Hop[Any], /) -> sqlite3.Cursor:
        """Run a script of the application, or a hop of the engine."""
        if isinstance(script, Hop):
            script.run(self)
            return self.cursor()  # type: ignore[no-any-return]
        return super().executescript(script)

    def set_authorizer(self, authorizer_callback: Callable[..., int] | None) -> None:
        """Set the application's authorizer; the guard stands in for it during a migration."""
        self._authorizer = authorizer_callback
        super().set_authorizer(authorizer_callback)

    def stand_in(self, guard: Callable[..., int] | None) -> None:
        """Let a guard answer instead of the application's authorizer; None gives it back.

        Setting an authorizer expires prepared statements, so none slips by that was cached before.
        """
        super().set_authorizer(guard or self._authorizer)

    def set_progress_handler(self, progress_handler: Callable[[], Any] | None, n: int) -> None:
        """Set the application's progress handler; a watch stands in for it during a migration."""
        self._progress = progress_handler, n
        super().set_progress_handler(progress_handler, n)

    def watch(self, overdue: Callable[[], bool] | None) -> None:
        """End a statement once it is overdue; None gives the application's handler back."""
        super().set_progress_handler(*((overdue, WATCH_EVERY) if overdue else self._progress))

    def close_cursors(self) -> None:
        """End every statement that is still being read.

        An interrupt is sticky while one lives: it would then end our own cleanup too
        (https://sqlite.org/c3ref/interrupt.html).
        """
        if self._open_cursors:
            for cursor in list(self._open_cursors):
                cursor.close()
            self._open_cursors.clear()


class Hop(Generic[T]):
    """One run of a program on a connection's thread; waits `patience` seconds where it is busy.

    `run` never raises: a job that raised StopIteration would hang its awaiter. Whoever made the hop
    asks for its `outcome` once it has `finished`, and may `cancel` it from any other thread, again
    and again, until then.
    """

    def __init__(
        self,
        program: Callable[[], Program[T]],
        report: Callable[[Event], None],
        patience: float,
        statement_timeout: float = inf,
    ) -> None:
        self.started = False
        self.finished = False
        self._start = program
        self._report = report
        self._patience = patience
        self._statement_timeout = statement_timeout
        self._deadline = inf
        self._error: BaseException | None = None
        self._guard = guard.Guard()
        self._cancelled = False
        self._interruptible = False
        self._interrupting = threading.Lock()
        self._serve: dict[type[Request], Callable[[Any], Any]] = {
            Execute: self._execute,
            Query: self._query,
            SwitchToWal: self._switch_to_wal,
            BeginWrite: self._begin_write,
            Guard: self._set_guard,
            Restore: self._restore,
            Rollback: self._rollback,
            Report: self._tell,
        }

    def cancel(self) -> None:
        """End the statement that runs now, and let the program clean up.

        An interrupt that comes between two statements is lost, so call it until the hop finished.
        """
        self._cancelled = True
        with self._interrupting:
            if self._interruptible:
                self._connection.interrupt()

    def outcome(self) -> T:
        """Return what the program returned, or raise what it raised."""
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._value

    def run(self, connection: EngineConnection) -> None:
        """Drive the program to its end."""
        self._try_on(connection)
        self.finished = True

    def _try_on(self, connection: EngineConnection) -> None:
        self._error = None
        try:
            self._run_on(connection)
        except BaseException as error:  # noqa: BLE001 - outcome() raises it in the awaiter
            self._error = error

    def _run_on(self, connection: EngineConnection) -> None:
        if connection.failure is not None:
            raise connection.failure
        self.started = True
        self._connection = connection
        text_factory, connection.text_factory = connection.text_factory, str
        self._renew_cursor()
        try:
            self._value = self._without_busy_timeout()
        finally:
            self._cursor.close()
            connection.text_factory = text_factory

    def _renew_cursor(self) -> None:
        self._connection.close_cursors()
        self._cursor = sqlite3.Connection.cursor(self._connection)
        self._cursor.row_factory = None

    def _without_busy_timeout(self) -> T:
        """Drive the program with SQLite's own waiting off: an interrupt does not end that."""
        ((timeout,),) = self._uninterrupted("PRAGMA busy_timeout")
        self._uninterrupted("PRAGMA busy_timeout = 0")
        self._let_interrupt(on=True)
        try:
            return self._drive()
        finally:
            self._cleanup(f"PRAGMA busy_timeout = {timeout}")
            self._let_interrupt(on=False)

    def _drive(self) -> T:
        program = self._start()
        resume: Callable[[Any], Request] = program.send
        answer: Any = None
        while True:
            try:
                request = resume(answer)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            try:
                answer = self._serve[type(request)](request)
                resume = program.send
            except BaseException as error:  # noqa: BLE001 - the program decides what follows
                answer = self._explained(error)
                resume = program.throw

    def _explained(self, error: BaseException) -> BaseException:
        code = primary_code(error)
        if code == sqlite3.SQLITE_INTERRUPT and self._cancelled:
            return asyncio.CancelledError()
        if code == sqlite3.SQLITE_INTERRUPT and self._is_overdue():
            return StatementTimeout(self._statement_timeout)
        if code == sqlite3.SQLITE_AUTH and self._guard.refusal:
            return self._guard.refusal
        return error

    def _execute(self, request: Execute) -> bool:
        self._deadline = monotonic() + self._statement_timeout
        self._patiently(request.sql, request.parameters, self._patience, keep=0)
        return self._connection.in_transaction

    def _is_overdue(self) -> bool:
        return monotonic() >= self._deadline

    def _query(self, request: Query) -> list[Any]:
        return self._patiently(request.sql, request.parameters, self._patience)

    def _begin_write(self, request: BeginWrite) -> bool:
        deadline = monotonic() + request.patience
        if not self._switch_to_wal(SwitchToWal(request.patience)):
            return False
        return self._attempt("BEGIN IMMEDIATE", deadline - monotonic())

    def _switch_to_wal(self, request: SwitchToWal) -> bool:
        if not self._connection.journal_settled:
            self._connection.journal_settled = self._attempt(
                "PRAGMA journal_mode = WAL", request.patience
            )
        return self._connection.journal_settled

    def _attempt(self, sql: str, patience: float) -> bool:
        try:
            self._patiently(sql, (), patience)
        except sqlite3.OperationalError as error:
            if is_busy(error):
                return False
            raise
        return True

    def _patiently(
        self, sql: str, parameters: tuple[Any, ...], patience: float, keep: int | None = None
    ) -> list[Any]:
        """Run a statement to its end, again and again while the database is busy."""
        start, told = monotonic(), False
        for pause in chain(_FIRST_PAUSES, repeat(POLL)):
            if self._cancelled:
                raise asyncio.CancelledError
            try:
                return list(deque(self._cursor.execute(sql, parameters), keep))
            except sqlite3.OperationalError as error:
                if not is_busy(error) or monotonic() - start >= patience:
                    raise
            if not told and monotonic() - start >= TELL_AFTER:
                told = True
                self._report(WaitingForLock(TELL_AFTER))
            sleep(pause)
        raise AssertionError  # pragma: no cover - repeat() never ends

    def _set_guard(self, request: Guard) -> None:
        if request.on:
            ((self._legacy,),) = self._patiently("PRAGMA legacy_alter_table", (), self._patience)
            self._guard = guard.Guard()
        self._connection.stand_in(self._guard if request.on else None)
        if self._statement_timeout < inf:
            self._connection.watch(self._is_overdue if request.on else None)
        if self._guard.altered and not request.on:
            self._cleanup(f"PRAGMA legacy_alter_table = {self._legacy}")

    def _restore(self, request: Restore) -> None:
        self._cleanup(request.sql)

    def _rollback(self, _: Rollback) -> bool:
        if not self._connection.in_transaction:
            return False
        self._cleanup("ROLLBACK")
        return True

    def _cleanup(self, sql: str) -> None:
        """Run a statement that no cancellation ends."""
        self._let_interrupt(on=False)
        self._cursor.close()
        self._renew_cursor()
        self._uninterrupted(sql)
        self._let_interrupt(on=True)

    def _uninterrupted(self, sql: str) -> list[Any]:
        for tries_left in reversed(range(_CLEANUP_TRIES)):
            try:
                return self._cursor.execute(sql).fetchall()
            except sqlite3.OperationalError as error:
                if primary_code(error) != sqlite3.SQLITE_INTERRUPT or not tries_left:
                    raise
        raise AssertionError  # pragma: no cover - the last try returns or raises

    def _let_interrupt(self, *, on: bool) -> None:
        with self._interrupting:
            self._interruptible = on

    def _tell(self, request: Report) -> None:
        self._report(request.event)
