"""Reads a schema, and replays migrations to see the schema of every version."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from wave_async.database import step
from wave_async.database.history import TABLE
from wave_async.database.requests import Execute, Program, Query, Rollback
from wave_async.errors import MigrationFailed
from wave_async.model.catalogue import Entry
from wave_async.model.migration import Direction
from wave_async.model.schema import Column, Table, Tables

TABLES = f"""SELECT name, sql FROM main.sqlite_schema
    WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND lower(name) != '{TABLE}'"""
COLUMNS = (
    "SELECT name, type, \"notnull\", dflt_value, pk, hidden FROM pragma_table_xinfo(?, 'main')"
)


class SchemaReader:
    """Reads the tables of a database; a table whose SQL it has seen before is not read again."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Table] = {}

    def tables(self, only: AbstractSet[str] | None = None) -> Program[Tables]:
        """Read all tables, or `only` those of some names in lower case."""
        rows = yield Query(TABLES)
        found: dict[str, Table] = {}
        for name, sql in rows:
            if only is None or name.lower() in only:
                if (name, sql) not in self._known:
                    columns = yield Query(COLUMNS, (name,))
                    self._known[name, sql] = tuple(
                        Column(n.lower(), t.upper(), bool(nn), default, pk, hidden)
                        for n, t, nn, default, pk, hidden in columns
                    )
                found[name.lower()] = self._known[name, sql]
        return found


def replay(entries: Iterable[Entry]) -> Program[list[tuple[int, Tables]]]:
    """Run migrations on an empty database; answers the tables after each version.

    One that fails here, without the rows it expects say, ends it: what cannot be replayed proves
    nothing. Nothing is committed.
    """
    reader = SchemaReader()
    versions: list[tuple[int, Tables]] = []
    yield Execute("PRAGMA foreign_keys = OFF")
    yield Execute("BEGIN")
    try:
        for entry in entries:
            if entry.migration.transaction:
                yield from step.run(entry, Direction.UP)
            versions.append((entry.version, (yield from reader.tables())))
    except MigrationFailed:
        return versions
    finally:
        yield Rollback()
    return versions
