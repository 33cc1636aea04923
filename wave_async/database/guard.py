"""What a statement of a migration may not do, and why.

Most of it SQLite asks the authorizer while it prepares a statement, so what is refused has not run
(https://sqlite.org/c3ref/set_authorizer.html). The little that an authorizer is not asked about is
read off the statement's text before.
"""

from __future__ import annotations

import re
import sqlite3

from wave_async.database import history, log
from wave_async.database.requests import Asked, Program, Touched
from wave_async.errors import StatementRefused
from wave_async.model.script import lowered

_OWN_TRANSACTION = "each migration runs in one transaction of the engine; leave it out"
_BOOKKEEPING = "the engine alone writes its bookkeeping; choose another name"
_OTHER_FILES = "a migration changes one database; open the other one in the application"
_BY_HAND = "it only works outside a transaction; run it by hand"
_OUTSIDE = "it only works outside a transaction; mark the migration transaction=off"
_LASTING = "it would outlast the migration on the connection; set it where the connection is opened"
_KEYS = "inside a transaction it does nothing; mark the migration foreign_keys=off"
_JOURNAL = "inside a transaction it does nothing; the engine keeps the database in WAL"
_BYPASS = "it lets a statement write the schema behind SQLite's back; use ALTER TABLE"

# What these do ends with the transaction, or is taken back by the engine.
_PRAGMAS = frozenset(
    {
        "application_id",
        "data_version",
        "defer_foreign_keys",
        "foreign_key_check",
        "foreign_key_list",
        "index_info",
        "index_list",
        "index_xinfo",
        "integrity_check",
        "legacy_alter_table",
        "quick_check",
        "table_info",
        "table_list",
        "table_xinfo",
        "user_version",
    }
)
# What these do without a value is to answer a question.
_PRAGMA_QUESTIONS = frozenset(
    {
        "collation_list",
        "compile_options",
        "database_list",
        "encoding",
        "foreign_keys",
        "freelist_count",
        "function_list",
        "journal_mode",
        "module_list",
        "page_count",
        "page_size",
        "pragma_list",
        "schema_version",
        "synchronous",
    }
)
_PRAGMA_REASONS = {
    "auto_vacuum": _OUTSIDE,
    "encoding": _BY_HAND,
    "foreign_keys": _KEYS,
    "incremental_vacuum": _BY_HAND,
    "journal_mode": _JOURNAL,
    "optimize": _BY_HAND,
    "page_size": _OUTSIDE,
    "schema_version": _BYPASS,
    "synchronous": _BY_HAND,
    "wal_checkpoint": _BY_HAND,
    "writable_schema": _BYPASS,
}

_BOOKS = frozenset({history.TABLE, log.TABLE})
_NAMES = rf"(?:{'|'.join(sorted(_BOOKS))})"

# What names the bookkeeping as the object or, in the second place, as the table it belongs to.
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

_READS = frozenset({sqlite3.SQLITE_READ, sqlite3.SQLITE_SELECT, sqlite3.SQLITE_FUNCTION})

# These name their table in the second place.
_OF_A_TABLE = frozenset(
    {sqlite3.SQLITE_ALTER_TABLE, sqlite3.SQLITE_CREATE_INDEX, sqlite3.SQLITE_CREATE_TRIGGER}
)

_GAP = r"(?:\s|--[^\n]*\n|/\*.*?\*/)+"
_VACUUM = re.compile(rf"(?:{_GAP})?VACUUM\b(?P<into>.*\bINTO\b)?", re.IGNORECASE | re.DOTALL)
_HIDDEN_WRITE = re.compile(
    # the new name of a table, and what a trigger will do once the guard is down
    rf"(?:{_GAP})?(?:ALTER\b.*\bRENAME{_GAP}TO(?:{_GAP})?[\"'`\[]?{_NAMES}\b"
    rf"|CREATE{_GAP}(?:TEMP(?:ORARY)?{_GAP})?TRIGGER\b.*\b{_NAMES}\b)",
    re.IGNORECASE | re.DOTALL,
)


def look(sql: str) -> Program[None]:
    """Raise `StatementRefused` for what an authorizer is not asked about."""
    yield from ()
    if vacuum := _VACUUM.match(sql):
        raise StatementRefused("VACUUM", _OTHER_FILES if vacuum["into"] else _OUTSIDE)
    if history.TABLE in sql.lower() and _HIDDEN_WRITE.match(sql):
        raise _bookkeeping()


class Drops:
    """An authorizer that allows everything and records which tables would be dropped."""

    def __init__(self) -> None:
        self.tables: list[str] = []

    def __call__(
        self,
        action: int,
        first: str | None,
        _second: str | None,
        schema: str | None,
        _by: str | None,
    ) -> int:
        """Record one action of a statement; some pragmas act while they are prepared."""
        if action == sqlite3.SQLITE_PRAGMA:
            return sqlite3.SQLITE_DENY
        if action == sqlite3.SQLITE_DROP_TABLE and schema == "main":
            self.tables.append(first or "")
        return sqlite3.SQLITE_OK


def touched(asked: Asked) -> Touched:
    """Return what statements did to tables that outlast the connection."""
    found: set[tuple[int, str, str]] = set()
    for action, first, second, last in asked:
        if action == sqlite3.SQLITE_ALTER_TABLE:  # the schema comes first, a dropped column last
            schema, column = first, last
        else:
            schema, column = last, second if action == sqlite3.SQLITE_READ else ""
        if schema != "temp" and (action in _WRITES or action == sqlite3.SQLITE_READ):
            table = second if action in _OF_A_TABLE else first
            found.add((action, lowered(table or ""), lowered(column or "")))
    return frozenset(found)


class Guard:
    """An authorizer that remembers why it refused: SQLite only says "not authorized".

    `altered` says that it let `PRAGMA legacy_alter_table` pass, which outlasts the transaction.
    `asked` is all that it was asked, see `Asked`.
    """

    def __init__(self) -> None:
        self.asked: set[tuple[int, str | None, str | None, str | None]] = set()
        self.refusal: StatementRefused | None = None
        self.altered = False

    def __call__(
        self,
        action: int,
        first: str | None,
        second: str | None,
        schema: str | None,
        _by: str | None,
    ) -> int:
        """Answer SQLite's question about one action of a statement."""
        self.asked.add((action, first, second, schema))
        reads = action in _READS
        self.refusal = None if reads else self._refusal(action, first or "", second or "")
        return sqlite3.SQLITE_OK if self.refusal is None else sqlite3.SQLITE_DENY

    def _refusal(self, action: int, first: str, second: str) -> StatementRefused | None:
        if action in _WRITES and not _BOOKS.isdisjoint((first.lower(), second.lower())):
            return _bookkeeping()
        match action:
            case sqlite3.SQLITE_TRANSACTION:
                return StatementRefused(first, _OWN_TRANSACTION)
            case sqlite3.SQLITE_SAVEPOINT:
                return StatementRefused("SAVEPOINT", _OWN_TRANSACTION)
            case sqlite3.SQLITE_ATTACH | sqlite3.SQLITE_DETACH:
                name = "ATTACH" if action == sqlite3.SQLITE_ATTACH else "DETACH"
                return StatementRefused(name, _OTHER_FILES)
            case sqlite3.SQLITE_PRAGMA:
                return self._refused_pragma(first.lower(), second)
        return None

    def _refused_pragma(self, name: str, value: str) -> StatementRefused | None:
        self.altered = self.altered or name == "legacy_alter_table"
        if name in _PRAGMAS or (not value and name in _PRAGMA_QUESTIONS):
            return None
        return StatementRefused(f"PRAGMA {name}", _PRAGMA_REASONS.get(name, _LASTING))


def _bookkeeping() -> StatementRefused:
    return StatementRefused(f"writing, changing or shadowing {history.TABLE}", _BOOKKEEPING)
