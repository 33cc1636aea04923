"""Runs programs on a connection's own thread, from the first request to the last, and cancels them.

Owns what happens on that thread and who may interrupt it; knows nothing of event loops' tasks, of
locks between tasks, or of what a program is for.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import chain, repeat
from math import inf
from time import monotonic, sleep
from typing import Any, ClassVar, Generic, TypeVar, cast

from wave_async.database import guard
from wave_async.database.driver import (
    EngineConnection,
    is_busy,
    nothing,
    primary_code,
    refuse_unrun,
)
from wave_async.database.history import DATA_VERSION
from wave_async.database.requests import (
    Asked,
    BeginWrite,
    Call,
    DataVersion,
    Execute,
    Foresee,
    Guard,
    Program,
    Query,
    Report,
    Request,
    Restore,
    Rollback,
    SwitchToWal,
    Unguard,
)
from wave_async.errors import StatementTimeout, TransactionEnded
from wave_async.model.events import Event, WaitingForLock
from wave_async.model.script import Statement
from wave_async.model.work import Function

T = TypeVar("T")

POLL = 0.01
"""How long a thread that waits for a lock sleeps between two looks, in seconds."""

TELL_AFTER = 1.0
"""How long a waiter waits before it says so, in seconds."""
_KEPT = ("row_factory", "text_factory", "autocommit", "isolation_level")
"""What a function may change on a connection, given back in this order (`autocommit`: 3.12)."""

_FIRST_PAUSES = (0.001, 0.002, 0.005)
_CLEANUP_TRIES = 1000


Part = Statement | Function
"""What a migration's work consists of."""


class Hop(Generic[T]):
    """One run of a program on a connection's thread; waits `patience` seconds where it is busy.

    `part` is what of a migration runs now: any thread may look at it, which costs the run nothing.
    `on_part` is called on the connection's thread with each.

    `run` never raises: a job that raised StopIteration would hang its awaiter. It returns when the
    program has `finished`, or before that, with `awaited` set to a function that has to be awaited
    on the loop: the program is suspended then, its transaction and guard as they were. Whoever made
    the hop says how that went, by `answer`, and runs it again. At last it asks for the `outcome`;
    until then it may `cancel` the hop from any other thread, again and again.
    """

    def __init__(
        self,
        program: Callable[[], Program[T]],
        report: Callable[[Event], None],
        patience: float,
        statement_timeout: float = inf,
        on_part: Callable[[Part], None] | None = None,
    ) -> None:
        self.part: Part | None = None
        self._on_part = on_part
        self.started = False
        self.finished = False
        self.awaited: Callable[[Any], Any] | None = None
        self._start = program
        self._report = report
        self._patience = patience
        self._statement_timeout = statement_timeout
        self._deadline = inf
        self._program: Program[T] | None = None
        self._error: BaseException | None = None
        self._failed_call: BaseException | None = None
        self._guard = guard.Guard()
        self._ended = False
        self._legacy: int | None = None
        self._cancelled = False
        self._interruptible = False
        self._interrupting = threading.Lock()

    def cancel(self) -> None:
        """End the statement that runs now, and let the program clean up.

        An interrupt that comes between two statements is lost, so call it until the hop finished.
        """
        self._cancelled = True
        with self._interrupting:
            if self._interruptible:
                with suppress(sqlite3.ProgrammingError):  # a function has closed it
                    self._connection.interrupt()

    def answer(self, failure: BaseException | None) -> None:
        """Say that the awaited function has returned, or what it raised."""
        self._failed_call, self.awaited = failure, None

    def outcome(self) -> T:
        """Return what the program returned, or raise what it raised."""
        error, self._error = self._error, None
        if error is not None:
            raise error
        return cast(T, self._value)

    def run(self, connection: EngineConnection) -> None:
        """Drive the program to its end, or to the next function that is awaited on the loop."""
        self._try_on(connection)
        self.finished = self.awaited is None

    def end(self) -> None:
        """Drive the program on after a function that closed the connection: its thread is gone."""
        self.run(self._connection)

    def _try_on(self, connection: EngineConnection) -> None:
        self._error = None
        try:
            self._run_on(connection)
        except BaseException as error:  # noqa: BLE001 - outcome() raises it in the awaiter
            self._error = error

    def _run_on(self, connection: EngineConnection) -> None:
        if self._program is None:
            self._take(connection)
            self._program = self._start()
            job: Callable[[], object] = nothing
        else:
            job = self._returned
        awaited = None
        try:
            awaited = self._drive(self._program, job)
        finally:
            if awaited is None:
                self._program = None
                self._give_back()
        self.awaited = awaited

    def _take(self, connection: EngineConnection) -> None:
        """Make a connection the engine's; SQLite's own waiting is off: no interrupt ends that."""
        if connection.failure is not None:
            raise connection.failure
        self.started = True
        self._connection = connection
        self._kept = {n: getattr(connection, n) for n in _KEPT if hasattr(connection, n)}
        connection.raise_if_cancelled = self._raise_if_cancelled
        self._renew_cursor()
        ((self._timeout,),) = self._uninterrupted("PRAGMA busy_timeout")
        self._uninterrupted("PRAGMA busy_timeout = 0")
        self._let_interrupt(on=True)

    def _give_back(self) -> None:
        self._cleanup(f"PRAGMA busy_timeout = {self._timeout}")
        self._let_interrupt(on=False)
        self._connection.raise_if_cancelled = nothing
        self._cursor.close()
        for name, value in self._kept.items():
            if getattr(self._connection, name) != value:  # setting isolation_level commits
                setattr(self._connection, name, value)

    def _renew_cursor(self) -> None:
        self._connection.close_cursors()
        self._cursor = sqlite3.Connection.cursor(self._connection)
        self._cursor.row_factory = None
        self._connection.text_factory = str

    def _drive(self, program: Program[Any], job: Callable[[], Any]) -> Callable[[Any], Any] | None:
        """Serve a program, from what `job` answers on; returns a function that is to be awaited."""
        while True:
            resume: Callable[[Any], Request]
            try:
                answer, resume = job(), program.send
            except BaseException as error:  # noqa: BLE001 - the program decides what follows
                answer, resume = self._explained(error), program.throw
            try:
                request = resume(answer)
            except StopIteration as stop:
                self._value = stop.value
                return None
            if isinstance(request, Call) and request.awaits and not self._cancelled:
                self._enter(request.part)
                return request.function
            job = partial(self._SERVE[type(request)], self, request)

    def _explained(self, error: BaseException) -> BaseException:
        if isinstance(error, GeneratorExit):  # would close the program instead of failing in it
            return RuntimeError(repr(error))
        code = primary_code(error)
        if code == sqlite3.SQLITE_INTERRUPT and self._cancelled:
            return asyncio.CancelledError()
        if code == sqlite3.SQLITE_INTERRUPT and self._is_overdue():
            return StatementTimeout(self._statement_timeout)
        if code == sqlite3.SQLITE_AUTH and self._guard.refusal:
            return self._guard.refusal
        return error

    def _enter(self, part: Part | None) -> None:
        self.part = part
        if part is not None and self._on_part is not None:
            self._on_part(part)

    def _execute(self, request: Execute) -> bool:
        if request.part is not None:
            self._enter(request.part)
        self._patiently(request.sql, request.parameters, self._patience, keep=0)
        return self._connection.in_transaction

    def _is_overdue(self) -> bool:
        return monotonic() >= self._deadline

    def _query(self, request: Query) -> list[Any]:
        return self._patiently(request.sql, request.parameters, self._patience)

    def _data_version(self, _: DataVersion) -> int:
        ((version,),) = self._patiently(DATA_VERSION, (), self._patience)
        return int(version)

    def _raise_if_cancelled(self) -> None:
        if self._cancelled:
            raise asyncio.CancelledError

    def _call(self, request: Call) -> bool:
        self._raise_if_cancelled()
        self._enter(request.part)
        try:
            returned = request.function(self._connection)
        finally:
            self._renew_cursor()
        refuse_unrun(returned)
        return self._is_intact()

    def _returned(self) -> bool:
        """Answer for a function that was awaited."""
        self._renew_cursor()
        if self._failed_call is not None:
            raise self._failed_call
        return self._is_intact()

    def _is_intact(self) -> bool:
        return self._connection.in_transaction and not self._ended

    def _oversee(self, sql: str, job: Callable[[], object]) -> None:
        """Run a statement of a called function as if it were one of a script."""
        if self._cancelled:
            raise asyncio.CancelledError
        if self._ended:
            raise TransactionEnded
        factory, self._connection.text_factory = self._connection.text_factory, str
        try:
            self._drive(self._look(sql), nothing)
        finally:
            self._connection.text_factory = factory
        self._deadline = monotonic() + self._statement_timeout
        try:
            job()
        except sqlite3.Error as error:
            raise self._explained(error) from error
        finally:
            self._ended = not self._connection.in_transaction
        if self._ended:
            raise TransactionEnded

    def _foresee(self, request: Foresee) -> list[str]:
        drops = guard.Drops()
        self._connection.stand_in(drops)
        try:
            self._patiently(f"EXPLAIN {request.sql}", (), self._patience)
        finally:
            self._connection.stand_in(self._guard, self._oversee)
        return drops.tables

    def _begin_write(self, request: BeginWrite) -> bool:
        deadline = monotonic() + request.patience
        if not self._switch_to_wal(SwitchToWal(request.patience)):
            return False
        return self._attempt("BEGIN IMMEDIATE", deadline - monotonic())

    def _switch_to_wal(self, request: SwitchToWal) -> bool:
        if request.anew or not self._connection.journal_settled:
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
            self._raise_if_cancelled()
            self._deadline = monotonic() + self._statement_timeout
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

    def _put_up_guard(self, request: Guard) -> None:
        if self._legacy is None:
            ((self._legacy,),) = self._patiently("PRAGMA legacy_alter_table", (), self._patience)
        self._guard, self._look, self._ended = guard.Guard(), request.look, False
        self.part = None
        self._connection.stand_in(self._guard, self._oversee)
        if self._statement_timeout < inf:
            self._connection.watch(self._is_overdue)
        if request.legacy_alter_table:
            self._patiently("PRAGMA legacy_alter_table = ON", (), self._patience)

    def _take_down_guard(self, _: Unguard) -> Asked:
        self._connection.stand_in(None)
        self._connection.watch(None)
        if self._guard.altered:
            self._cleanup(f"PRAGMA legacy_alter_table = {self._legacy}")
        return frozenset(self._guard.asked)

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
        self._deadline = inf
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

    # Of the class: one with methods of its own in it is garbage which only the collector frees.
    _SERVE: ClassVar[dict[type[Request], Callable[[Any, Any], Any]]] = {
        Execute: _execute,
        Query: _query,
        DataVersion: _data_version,
        Call: _call,
        Foresee: _foresee,
        SwitchToWal: _switch_to_wal,
        BeginWrite: _begin_write,
        Guard: _put_up_guard,
        Unguard: _take_down_guard,
        Restore: _restore,
        Rollback: _rollback,
        Report: _tell,
    }
