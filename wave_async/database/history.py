"""The schema_migrations table: all its SQL, and what of it is accepted as ours."""

from __future__ import annotations

from dataclasses import dataclass

from wave_async.database.requests import Program, Query
from wave_async.errors import ForeignBookkeeping, InvalidRecord
from wave_async.model.migration import AppliedMigration

TABLE = "schema_migrations"

# `main.` always: a TEMP table of the same name would shadow an unqualified one.
CREATE = f"""CREATE TABLE main.{TABLE} (
    version INTEGER PRIMARY KEY,
    description TEXT NOT NULL,
    applied_at INTEGER NOT NULL,
    checksum TEXT NOT NULL
)"""
FIND = f"""SELECT type FROM main.sqlite_schema
    WHERE name = '{TABLE}' COLLATE NOCASE AND type != 'trigger'"""
POPULATED = """SELECT EXISTS (SELECT * FROM main.sqlite_schema
    WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\')"""
COLUMNS = f"PRAGMA main.table_xinfo({TABLE})"
NEWEST = f"SELECT max(version) FROM main.{TABLE}"
READ = f"SELECT version, description, applied_at, checksum FROM main.{TABLE} ORDER BY version"
RECORD = f"INSERT INTO main.{TABLE} VALUES (?, ?, CAST(strftime('%s', 'now') AS INTEGER), ?)"
RESTORE = f"INSERT INTO main.{TABLE} VALUES (?, ?, ?, ?)"
REPAIR = f"UPDATE main.{TABLE} SET checksum = ? WHERE version = ?"
FORGET = f"DELETE FROM main.{TABLE} WHERE version = ?"

# data_version moves with a commit of any other connection, the other two with our own writes
# (https://sqlite.org/pragma.html#pragma_data_version).
DATA_VERSION = "PRAGMA main.data_version"
STAMP = """SELECT (SELECT data_version FROM pragma_data_version),
    (SELECT schema_version FROM pragma_schema_version), total_changes()"""

_SHAPE = [
    ("version", "INTEGER", 0, 1),
    ("description", "TEXT", 1, 0),
    ("applied_at", "INTEGER", 1, 0),
    ("checksum", "TEXT", 1, 0),
]
YEAR_10000 = 253_402_300_800


@dataclass(frozen=True, slots=True)
class History:
    """What the database records; `tracked` is false where there is no schema_migrations.

    Without it, `populated` says whether there are tables all the same, perhaps ours.
    """

    tracked: bool
    applied: tuple[AppliedMigration, ...] = ()
    populated: bool = False


def read() -> Program[History]:
    """Read and judge the bookkeeping.

    Raises `ForeignBookkeeping` for a view, an index or a table of another shape, and
    `InvalidRecord` for a row that this engine never writes.
    """
    found = yield Query(FIND)
    if not found:
        ((populated,),) = yield Query(POPULATED)
        return History(tracked=False, populated=bool(populated))
    ((kind,),) = found
    if kind != "table":
        raise ForeignBookkeeping(f"it is {'an' if kind == 'index' else 'a'} {kind}")
    columns = yield Query(COLUMNS)
    shape = [
        (name.lower(), kind.upper(), notnull, pk) for _, name, kind, notnull, _, pk, *_ in columns
    ]
    if shape != _SHAPE:
        names = ", ".join(f"{name} {kind}".rstrip() for _, name, kind, *_ in columns)
        raise ForeignBookkeeping(f"it is a table of other columns ({names})")
    rows = yield Query(READ)
    return History(tracked=True, applied=tuple(_checked(*row) for row in rows))


def _checked(
    version: object, description: object, applied_at: object, checksum: object
) -> AppliedMigration:
    # INTEGER PRIMARY KEY DESC looks the same but takes any type (https://sqlite.org/rowidtable.html)
    if not isinstance(version, int) or version < 0:
        raise InvalidRecord(version, "version", version)
    if not isinstance(description, str):
        raise InvalidRecord(version, "description", description)
    if not isinstance(checksum, str):
        raise InvalidRecord(version, "checksum", checksum)
    if not isinstance(applied_at, int) or not 0 <= applied_at < YEAR_10000:
        raise InvalidRecord(version, "applied_at", applied_at)
    return AppliedMigration(version, description, applied_at, checksum)
