"""Reads a schema, and replays migrations to see the schema of every version."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import lru_cache

from wave_async.database import step
from wave_async.database.requests import Execute, Program, Query, Rollback
from wave_async.errors import MigrationFailed
from wave_async.model.catalogue import Entry
from wave_async.model.migration import Direction
from wave_async.model.schema import Object, Schema

READ = "SELECT type, name, tbl_name, sql FROM main.sqlite_schema WHERE sql IS NOT NULL"
TABLES = "PRAGMA main.table_list"  # answers nothing before SQLite 3.37

PARENTS = """SELECT lower(m.name), lower(k."table")
    FROM main.sqlite_schema m, pragma_foreign_key_list(m.name, 'main') k
    WHERE m.type = 'table' AND m.sql NOT LIKE 'CREATE VIRTUAL%'"""

# Reading all of sqlite_schema after each of many migrations would take most of a replay's time;
# SQLite finds what is new much faster. The text of a statement tells type and name as well.
REMEMBER = "CREATE TEMP TABLE wave_async_seen (at INTEGER PRIMARY KEY, sql TEXT NOT NULL)"
NEW = """SELECT s.rowid, s.type, s.name, s.tbl_name, s.sql
    FROM main.sqlite_schema s LEFT JOIN temp.wave_async_seen t ON t.at = s.rowid
    WHERE s.sql IS NOT t.sql AND s.sql IS NOT NULL"""
GONE = """SELECT t.at FROM temp.wave_async_seen t LEFT JOIN main.sqlite_schema s ON s.rowid = t.at
    WHERE s.sql IS NULL"""
SEE = "REPLACE INTO temp.wave_async_seen SELECT rowid, sql FROM main.sqlite_schema WHERE rowid = ?"
FORGET = "DELETE FROM temp.wave_async_seen WHERE at = ?"


def read_schema() -> Program[Schema]:
    """Read the schema of a database."""
    return (yield from _schema(_objects(tuple((yield Query(READ))))))


def read_parents() -> Program[dict[str, set[str]]]:
    """Read which tables each table refers to, all in lower case."""
    found: dict[str, set[str]] = {}
    for child, parent in (yield Query(PARENTS)):
        found.setdefault(child, set()).add(parent)
    return found


def replay(entries: Iterable[Entry]) -> Program[list[tuple[int, Schema]]]:
    """Run migrations on an empty database; answers the schema after each version.

    One that fails here, without the rows it expects say, ends it: what cannot be replayed proves
    nothing. Nothing is committed.
    """
    versions: list[tuple[int, Schema]] = []
    schema = Schema()
    seen: dict[int, Object] = {}
    yield Execute("PRAGMA foreign_keys = OFF")
    yield Execute("BEGIN")
    try:
        yield Execute(REMEMBER)
        for entry in entries:
            if entry.migration.transaction:
                yield from step.run(entry, Direction.UP)
            if (yield from _look_again(seen)):
                schema = yield from _schema(seen.values())
            versions.append((entry.version, schema))
    except MigrationFailed:
        return versions
    finally:
        yield Rollback()
    return versions


@lru_cache(maxsize=64)
def _objects(rows: tuple[tuple[str, str, str, str], ...]) -> tuple[Object, ...]:
    """Return the objects of rows; those of the same rows remember what was read of them."""
    return tuple(Object(*row) for row in rows)


def _look_again(seen: dict[int, Object]) -> Program[bool]:
    """Bring the objects, by rowid, up to date; answers whether any has changed."""
    gone = yield Query(GONE)
    new = yield Query(NEW)
    for (at,) in gone:
        yield Execute(FORGET, (at,))
        del seen[at]
    for at, *row in new:
        yield Execute(SEE, (at,))
        seen[at] = Object(*row)
    return bool(gone or new)


def _schema(objects: Collection[Object]) -> Program[Schema]:
    shadows: list[str] | None = []
    if any(o.is_virtual for o in objects):
        tables = yield Query(TABLES)
        shadows = [name for _, name, kind, *_ in tables if kind == "shadow"] if tables else None
    return Schema.of(objects, shadows)
