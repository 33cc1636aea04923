"""What a statement of a migration may not do, and why.

SQLite asks the guard while it prepares a statement, so what is refused has not run
(https://sqlite.org/c3ref/set_authorizer.html).
"""

from __future__ import annotations

import sqlite3

from wave_async.database.history import TABLE
from wave_async.errors import StatementRefused

_OWN_TRANSACTION = "each migration runs in one transaction of the engine; leave it out"
_BOOKKEEPING = "the engine alone writes its bookkeeping; choose another name"

# What names its object in the first argument, and what in the second (the table it belongs to).
_WRITES = frozenset(
    {
        sqlite3.SQLITE_INSERT,
        sqlite3.SQLITE_UPDATE,
        sqlite3.SQLITE_DELETE,
        sqlite3.SQLITE_CREATE_TABLE,
        sqlite3.SQLITE_CREATE_TEMP_TABLE,
        sqlite3.SQLITE_CREATE_VIEW,
        sqlite3.SQLITE_CREATE_TEMP_VIEW,
        sqlite3.SQLITE_CREATE_VTABLE,
        sqlite3.SQLITE_CREATE_INDEX,
        sqlite3.SQLITE_CREATE_TEMP_INDEX,
        sqlite3.SQLITE_CREATE_TRIGGER,
        sqlite3.SQLITE_CREATE_TEMP_TRIGGER,
        sqlite3.SQLITE_DROP_TABLE,
        sqlite3.SQLITE_DROP_TEMP_TABLE,
        sqlite3.SQLITE_DROP_VIEW,
        sqlite3.SQLITE_DROP_TEMP_VIEW,
        sqlite3.SQLITE_DROP_VTABLE,
        sqlite3.SQLITE_ALTER_TABLE,
    }
)


class Guard:
    """An authorizer that remembers why it refused: SQLite only says "not authorized"."""

    def __init__(self) -> None:
        self.refusal: StatementRefused | None = None

    def __call__(
        self,
        action: int,
        first: str | None,
        second: str | None,
        _schema: str | None,
        _by: str | None,
    ) -> int:
        """Answer SQLite's question about one action of a statement."""
        if action == sqlite3.SQLITE_TRANSACTION:
            self.refusal = StatementRefused(str(first), _OWN_TRANSACTION)
        elif action == sqlite3.SQLITE_SAVEPOINT:
            self.refusal = StatementRefused("SAVEPOINT", _OWN_TRANSACTION)
        elif action in _WRITES and TABLE in (_lower(first), _lower(second)):
            self.refusal = StatementRefused(f"writing, changing or shadowing {TABLE}", _BOOKKEEPING)
        else:
            return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_DENY


def _lower(name: str | None) -> str:
    return (name or "").lower()
