"""What a program may ask of a database.

A *program* is a generator that yields these requests and receives their answers, or their
exceptions, at the `yield`. It holds no connection and does no I/O: whoever drives it (a session, or
a test by hand) decides how a request is served. A cancelled run arrives as
`asyncio.CancelledError`, so `except` and `finally` clean up after it as after an error of SQL.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from wave_async.model.events import Event
from wave_async.model.script import Statement
from wave_async.model.work import Function

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Execute:
    """Run one statement to its end; answers whether a transaction is open afterwards.

    `part` is the statement of a migration that it is, for who asks how far a run has come.
    """

    sql: str
    parameters: tuple[Any, ...] = ()
    part: Statement | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Query:
    """Run one statement; answers all its rows as tuples."""

    sql: str
    parameters: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class DataVersion:
    """Answer a value that is equal to an earlier one only if nobody else has committed since.

    Our own commits do not move it; another connection has other values.
    """


@dataclass(frozen=True, slots=True)
class Call:
    """Run a function: on the connection's thread, or awaited on the loop if it `awaits`.

    Answers whether the transaction is still the one that was open before it.
    """

    function: Callable[[Any], Any]
    awaits: bool = False
    part: Function | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Foresee:
    """Answer the names of the tables that a statement would drop, without running it."""

    sql: str


@dataclass(frozen=True, slots=True)
class BeginWrite:
    """Switch the database to WAL where it is not yet, and begin a write transaction.

    Answers False when somebody else still held the lock after `patience` seconds.
    """

    patience: float


@dataclass(frozen=True, slots=True)
class SwitchToWal:
    """Switch the database to WAL where it is not yet, outside a transaction.

    Answers False when somebody else still used the database after `patience` seconds. `anew` is
    for after a statement that may have switched it away.
    """

    patience: float
    anew: bool = False


@dataclass(frozen=True, slots=True)
class Guard:
    """Put up the guard that refuses what a migration may not do.

    While it is up, `look` is run with the text of each statement that a called function is about to
    run. `legacy_alter_table` switches that pragma on until the guard comes down.
    """

    look: Look
    legacy_alter_table: bool = False


@dataclass(frozen=True, slots=True)
class Unguard:
    """Take the guard down, and what outlasts the transaction back; a cleanup, see `Restore`.

    Answers what the guard was asked.
    """


@dataclass(frozen=True, slots=True)
class Restore:
    """Run one statement of a cleanup: it is never cancelled, and repeated if interrupted."""

    sql: str


@dataclass(frozen=True, slots=True)
class Rollback:
    """End the transaction; a cleanup, see `Restore`.

    Answers False where there was none: committed, or ended by SQLite itself.
    """


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the caller of the run what happens."""

    event: Event


Asked = frozenset[tuple[int, str | None, str | None, str | None]]
"""What SQLite asked an authorizer: an action and what it says of it, the schema last."""

Touched = frozenset[tuple[int, str, str]]
"""What statements did: an action (https://sqlite.org/c3ref/c_alter_table.html), a table, and the
column that was read or dropped; names in lower case."""

Request = (
    Execute
    | Query
    | DataVersion
    | Call
    | Foresee
    | BeginWrite
    | SwitchToWal
    | Guard
    | Unguard
    | Restore
    | Rollback
    | Report
)
Program = Generator[Request, Any, T]

Look = Callable[[str], Program[None]]
"""Looks at a statement's text before it runs, and may refuse it."""


def attempt(request: Request) -> Program[Any]:
    """Answer what a request answers, or the error that SQLite met, as a value."""
    try:
        return (yield request)
    except sqlite3.Error as error:
        return error
