"""Runs programs on a cluster, statement by statement, on the event loop; the session beside `Hop`.

Serves the requests, waits where somebody else holds the lock, and decides what may be sent again
after a lost connection: questions, settings and BEGIN, outside of a transaction, and nothing else.
Knows no client: a `Link` sends.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from math import inf
from time import monotonic
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from wave_async.database import words
from wave_async.database.driver import is_busy
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
from wave_async.database.session import TELL_AFTER, Part
from wave_async.database.waiting import to_its_end
from wave_async.errors import ConnectionLost, StatementRefused, StatementTimeout
from wave_async.model.events import Event, WaitingForLock

T = TypeVar("T")

_PAUSE = 0.02
_NO_FUNCTIONS = "on a cluster there is no connection of sqlite3 to give it; write it as SQL"
_CLEANUPS = (Rollback, Restore, Unguard, Report)


class Link(Protocol):
    """One connection to a leader, made when it is needed and made anew after it was lost."""

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open; after a loss it stays so until it is told to be over."""

    async def send(
        self, sql: str, parameters: tuple[Any, ...] = (), *, rows: bool, patience: float
    ) -> list[tuple[Any, ...]]:
        """Run one statement on the leader, which is looked for until `patience` is over.

        Raises `sqlite3.Error` where the leader refuses, `ConnectionLost` where nobody knows, and
        `ClusterUnreachable` where it was not sent.
        """

    def drop(self) -> None:
        """Give the connection up, and its transaction with it."""

    async def close(self) -> None:
        """Close the connection."""


class RemoteRun(Generic[T]):
    """One run of a program on a link; waits `patience` seconds where the database is busy.

    `part` is what of a migration runs now. Cancelled, a statement is given up with its connection,
    the program cleans up, and the cancellation is raised at the end; a COMMIT and what cleans up
    are awaited to their end first.
    """

    def __init__(
        self,
        link: Link,
        report: Callable[[Event], None],
        patience: float,
        statement_timeout: float = inf,
        on_part: Callable[[Part], None] | None = None,
    ) -> None:
        self.part: Part | None = None
        self._link = link
        self._report = report
        self._patience = patience
        self._statement_timeout = statement_timeout
        self._on_part = on_part
        self._guarded = False
        self._altered = False
        self._cancelled: asyncio.CancelledError | None = None

    async def drive(self, program: Program[T]) -> T:
        """Serve a program to its end; returns what it returns, or raises what it raises."""
        answer: Any = None
        resume: Callable[[Any], Request] = program.send
        while True:
            try:
                request = resume(answer)
            except StopIteration as stop:
                if self._cancelled is not None:
                    raise self._cancelled from None
                return stop.value  # type: ignore[no-any-return]
            try:
                if self._cancelled is not None and not isinstance(request, _CLEANUPS):
                    raise self._cancelled
                answer, resume = await self._SERVE[type(request)](self, request), program.send
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the program decides
                answer, resume = error, program.throw

    async def _execute(self, request: Execute) -> bool:
        if request.part is not None:
            self._enter(request.part)
            await self._judge(request.sql)
            await self._watched(request.sql)
        elif request.sql == "COMMIT":
            await self._uninterrupted(self._patiently("COMMIT"))
        else:
            await self._patiently(request.sql, request.parameters)
        return self._link.in_transaction

    async def _judge(self, sql: str) -> None:
        """Raise `StatementRefused` for what the guard refuses, and for what may end a node."""
        if self._guarded:
            self._altered = words.refuse(sql) or self._altered
        words.refuse_deadly(sql)
        for table, values in words.written(sql):
            columns = await self._patiently(words.COLUMNS, (table,), rows=True)
            words.refuse_values(columns, values)

    async def _watched(self, sql: str) -> None:
        """Run a statement; raises `StatementRefused` for what it wrote and did not show."""
        hides = words.hides(sql)
        before = await self._unreadable() if hides else {}
        await self._in_time(sql)
        words.refuse_written(before, await self._unreadable() if hides else {})

    async def _unreadable(self) -> dict[tuple[Any, ...], int]:
        """Count the cells that would end a node, by their columns."""
        columns = await self._patiently(words.TYPED_COLUMNS, rows=True)
        if not columns:
            return {}
        (counts,) = await self._patiently(words.unreadable(columns), rows=True)
        return dict(zip(columns, counts, strict=True))

    async def _in_time(self, sql: str) -> None:
        try:
            async with asyncio.timeout(min(self._statement_timeout, 1e9)):
                await self._patiently(words.sent(sql))
        except TimeoutError as error:
            raise StatementTimeout(self._statement_timeout) from error

    async def _query(self, request: Query) -> list[tuple[Any, ...]]:
        return await self._patiently(request.sql, request.parameters, rows=True)

    async def _data_version(self, _: DataVersion) -> object:
        """Answer another value each time: two connections, or nodes, may count alike."""
        return object()

    async def _call(self, request: Call) -> bool:
        """Call a hook, which has no use for a connection; a migration's function needs one."""
        if request.part is not None:
            self._enter(request.part)
            raise StatementRefused("a function", _NO_FUNCTIONS)
        await request.function(None)
        return self._link.in_transaction

    async def _foresee(self, request: Foresee) -> list[str]:
        return words.dropped(request.sql)

    async def _switch_to_wal(self, _: SwitchToWal) -> bool:
        return True

    async def _begin_write(self, request: BeginWrite) -> bool:
        try:
            await self._patiently("BEGIN IMMEDIATE", patience=request.patience)
        except sqlite3.OperationalError as error:
            if is_busy(error):
                return False
            raise
        return True

    async def _put_up_guard(self, request: Guard) -> None:
        self._guarded, self._altered, self.part = True, request.legacy_alter_table, None
        if request.legacy_alter_table:
            await self._patiently("PRAGMA legacy_alter_table = ON")

    async def _take_down_guard(self, _: Unguard) -> Asked:
        self._guarded = False
        if self._altered:
            await self._clean_up("PRAGMA legacy_alter_table = OFF")
        return frozenset()

    async def _restore(self, request: Restore) -> None:
        await self._clean_up(request.sql)

    async def _rollback(self, _: Rollback) -> bool:
        if not self._link.in_transaction:
            return False
        await self._clean_up("ROLLBACK")
        return True

    async def _clean_up(self, sql: str) -> None:
        """Run a statement to its end; where it fails, the connection goes, and all with it."""
        sending = self._link.send(sql, rows=False, patience=self._patience)
        try:
            await self._uninterrupted(sending)
        except (sqlite3.Error, ConnectionLost):
            self._link.drop()

    async def _tell(self, request: Report) -> None:
        self._report(request.event)

    def _enter(self, part: Part) -> None:
        self.part = part
        if self._on_part is not None:
            self._on_part(part)

    async def _uninterrupted(self, job: Awaitable[object]) -> None:
        """Await a job to its end; a cancellation is kept for the next request but cleanups."""
        task = asyncio.ensure_future(job)
        try:
            await to_its_end(task)
        except asyncio.CancelledError as error:
            self._cancelled = error
            task.result()

    async def _patiently(
        self,
        sql: str,
        parameters: tuple[Any, ...] = (),
        *,
        rows: bool = False,
        patience: float | None = None,
    ) -> list[tuple[Any, ...]]:
        """Run a statement, again while the database is busy; see above for a lost connection."""
        patience = self._patience if patience is None else patience
        start, told = monotonic(), False
        again = not self._link.in_transaction and words.is_repeatable(sql, rows=rows)
        while True:
            try:
                return await self._link.send(sql, parameters, rows=rows, patience=self._patience)
            except (sqlite3.OperationalError, ConnectionLost) as error:
                may = again if isinstance(error, ConnectionLost) else is_busy(error)
                if not may or monotonic() - start >= patience:
                    raise
            if not told and monotonic() - start >= TELL_AFTER:
                told = True
                self._report(WaitingForLock(TELL_AFTER))
            await asyncio.sleep(_PAUSE)

    # Of the class, as in `Hop`.
    _SERVE: ClassVar[dict[type[Request], Callable[[Any, Any], Awaitable[Any]]]] = {
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
