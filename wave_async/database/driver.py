"""The connection that sqlite3 gives us, with what the engine has to know about it and to change.

Knows sqlite3, and who may answer for whom on a connection; knows nothing of programs.
"""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from inspect import isasyncgen, isawaitable, isgenerator
from typing import Any, Self, TypeVar

from wave_async.errors import StatementRefused
from wave_async.model.script import parse

T = TypeVar("T")

WATCH_EVERY = 1000
"""After how many instructions of SQLite's machine a watched statement's time is looked at."""

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_SCHEMA})


def primary_code(error: BaseException) -> int:
    """Return SQLite's primary result code of an error, 0 where it has none.

    https://sqlite.org/rescode.html#primary_result_codes_versus_extended_result_codes
    """
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_busy(error: BaseException) -> bool:
    """Whether an error says no more than that somebody else was quicker."""
    return primary_code(error) in _BUSY


Oversee = Callable[[str, Callable[[], T]], T]
"""Runs a statement's job, given its text, and may refuse to."""

Job = Callable[["EngineConnection"], object]
"""Does something with a connection, on its thread."""


class EngineCursor(sqlite3.Cursor):
    """A cursor whose statements a guard oversees while it stands on the connection."""

    connection: EngineConnection

    def execute(self, sql: str, parameters: Any = (), /) -> Self:
        """Run one statement."""
        self.connection.oversee(sql, partial(super().execute, sql, parameters))
        return self

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Self:
        """Run one statement many times."""
        self.connection.oversee(sql, partial(super().executemany, sql, parameters))
        return self

    def executescript(self, script: str, /) -> Self:
        """Run a script; under a guard statement by statement, as it would commit otherwise."""
        if self.connection.is_guarded:
            for statement in parse(script, "executescript").statements:
                self.execute(statement.sql)
        else:
            super().executescript(script)
        return self


class EngineConnection(sqlite3.Connection):
    """A connection that knows its open cursors and is a door to its own thread.

    aiosqlite runs the methods of a connection on the connection's thread; `executescript`, given a
    job, runs that there. Given a string it is the ordinary method.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)  # first: done again, it forgets all that was set
        self._open_cursors: weakref.WeakSet[sqlite3.Cursor] = weakref.WeakSet()
        self._authorizer: Callable[..., int] | None = None
        self._guard: Callable[..., int] | None = None
        self._overseer: Oversee[Any] | None = None
        self._progress: tuple[Callable[[], Any] | None, int] = (None, 0)
        self._overdue: Callable[[], bool] | None = None
        self.journal_settled = False
        self.raise_if_cancelled: Callable[[], None] = nothing
        """For a called function that takes long: raises where its run was cancelled."""
        self.failure: BaseException | None = None

    # `execute` and `executemany` of the base class make their cursor without calling `cursor`.

    def cursor(self, factory: Any = EngineCursor) -> Any:
        """Open a cursor, and remember it as long as anybody does."""
        cursor = super().cursor(factory)
        if self.is_guarded and not isinstance(cursor, EngineCursor):
            why = "its statements could not be guarded; use the connection's own"
            raise StatementRefused("a cursor of another class", why)
        self._open_cursors.add(cursor)
        return cursor

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Run one statement on a new cursor."""
        return self.cursor().execute(sql, parameters)  # type: ignore[no-any-return]

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        """Run one statement many times on a new cursor."""
        return self.cursor().executemany(sql, parameters)  # type: ignore[no-any-return]

    def executescript(self, script: str | Job, /) -> sqlite3.Cursor:
        """Run a script of the application, or a job of the engine."""
        cursor = self.cursor()
        if isinstance(script, str):
            cursor.executescript(script)
        else:
            script(self)
        return cursor  # type: ignore[no-any-return]

    @property
    def is_guarded(self) -> bool:
        """Whether a guard stands on the connection."""
        return self._guard is not None

    def oversee(self, sql: str, job: Callable[[], object]) -> None:
        """Run the job of a statement, which the guard may refuse."""
        if self._overseer is None:
            job()
        else:
            self._overseer(sql, job)

    def set_authorizer(self, authorizer_callback: Callable[..., int] | None) -> None:
        """Set the application's authorizer; a guard stands in for it during a migration."""
        self._authorizer = authorizer_callback
        self._authorize()

    def stand_in(
        self, guard: Callable[..., int] | None, overseer: Oversee[Any] | None = None
    ) -> None:
        """Let a guard answer instead of the application's authorizer; None gives it back.

        Setting an authorizer expires prepared statements, so none slips by that was cached before.
        """
        self._guard, self._overseer = guard, overseer
        self._authorize()

    def _authorize(self) -> None:
        super().set_authorizer(self._guard or self._authorizer)

    def set_progress_handler(self, progress_handler: Callable[[], Any] | None, n: int) -> None:
        """Set the application's progress handler; a watch stands in for it during a run."""
        self._progress = progress_handler, n
        if self._overdue is None:
            super().set_progress_handler(progress_handler, n)

    def watch(self, overdue: Callable[[], bool] | None) -> None:
        """End a statement once it is overdue; None gives the application's handler back."""
        self._overdue = overdue
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


def refuse_unrun(returned: object) -> None:
    """Raise `TypeError` where a function returned what nobody will run: it has done nothing yet."""
    if isawaitable(returned) or isgenerator(returned) or isasyncgen(returned):
        getattr(returned, "close", nothing)()  # a coroutine warns otherwise
        kind = type(returned).__name__
        raise TypeError(f"it returned a {kind} that nobody runs; await in `async def`, never yield")


def nothing() -> None:
    """Answer None."""
