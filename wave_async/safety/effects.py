"""Programs that try a plan out on an empty copy of a schema, to tell what it would destroy.

An authorizer sees what each statement touches; what is gone afterwards was dropped. A step that
needs rows to work cannot be tried so, and says that.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

from wave_async.database import keys, step
from wave_async.database.requests import Execute, Program, Query, Rollback, Touched
from wave_async.errors import MigrationFailed
from wave_async.model.catalogue import Entry
from wave_async.model.effects import Effect, Loss, LossKind, Preview
from wave_async.model.migration import Direction, parts
from wave_async.model.schema import Schema
from wave_async.model.work import source

Columns = dict[str, list[str]]
"""The columns of each table, by the table's name."""

COLUMNS = """SELECT t.name, c.name FROM main.sqlite_schema t, pragma_table_xinfo(t.name, 'main') c
    WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY t.rowid, c.cid"""
COLUMNS_OF = "SELECT name FROM pragma_table_xinfo(?, 'main') ORDER BY cid"

_ORDER = {"table": 0, "index": 1, "view": 2, "trigger": 3}
_CREATES = {sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_CREATE_VTABLE}
_DROPS = {sqlite3.SQLITE_DROP_TABLE, sqlite3.SQLITE_DROP_VTABLE}
_RESHAPES = {*_DROPS, sqlite3.SQLITE_ALTER_TABLE}


__all__ = ["Preview", "clone", "counted", "effects"]


def clone(schema: Schema) -> Program[None]:
    """Make the objects of another database in this one, without rows."""
    yield Execute("BEGIN")
    try:
        for made in sorted(schema.objects, key=lambda o: _ORDER[o.type]):
            yield Execute(made.sql)
        yield Execute("COMMIT")
    finally:
        yield Rollback()


def effects(
    schema: Schema, entries: Iterable[Entry], direction: Direction
) -> Program[tuple[Effect, ...]]:
    """Try steps out, one after the other, on an empty copy of a schema."""
    found: list[Effect] = []
    try:
        yield from clone(schema)
        unknown = ""
    except sqlite3.Error as error:
        unknown = f"the schema cannot be copied: {error}"
    before = yield from _columns()
    for entry in entries:
        effect = replace(_described(entry, direction), unknown=unknown)
        if not unknown and entry.migration.transaction:
            try:
                run = partial(_run, entry, direction)
                touched = yield from keys.enforced(run, on=False)  # there are no rows to refer to
                after = yield from _columns_after(touched, before)
                effect = replace(
                    effect,
                    touches=_tables(touched),
                    losses=tuple(_losses(touched, before, after)),
                )
                before = after
            except MigrationFailed as error:
                effect = replace(effect, unknown=error.reason)
                unknown = f"migration {entry.version} could not be tried out before it"
        found.append(effect)
    return tuple(found)


def counted(found: Iterable[Effect]) -> Program[tuple[Effect, ...]]:
    """Count, in the database itself, the rows of what would be lost."""
    counts: list[Effect] = []
    columns = yield from _columns()
    for effect in found:
        losses: list[Loss] = []
        for loss in effect.losses:
            losses += [(yield from _counted(loss, columns))]
        counts.append(replace(effect, losses=tuple(losses)))
    return tuple(counts)


def _counted(loss: Loss, columns: Columns) -> Program[Loss]:
    there = columns.get(loss.table)
    if there is None or (loss.column and loss.column not in there):
        return loss  # a step before made it
    what = keys.quoted_name(loss.column) if loss.column else "*"
    ((rows,),) = yield Query(f"SELECT count({what}) FROM main.{keys.quoted_name(loss.table)}")
    return replace(loss, rows=rows)


def _described(entry: Entry, direction: Direction) -> Effect:
    work = entry.migration.up if direction is Direction.UP else entry.migration.down
    texts = [source(part, f"migration {entry.version}").rstrip("\n") for part in parts(work)]
    count = len(entry.work(direction).steps)
    return Effect(entry.step(direction), count, entry.reversible, "\n".join(texts).strip("\n"))


def _run(entry: Entry, direction: Direction) -> Program[Touched]:
    yield Execute("BEGIN")
    try:
        touched = yield from step.run(entry, direction)
        yield Execute("COMMIT")
    finally:
        yield Rollback()
    return touched


def _tables(touched: Touched) -> tuple[str, ...]:
    return tuple(sorted({name for _, name in touched if not name.startswith("sqlite_")}))


def _losses(touched: Touched, before: Columns, after: Columns) -> Iterator[Loss]:
    dropped = {name for action, name in touched if action in _DROPS}
    made = {name for action, name in touched if action in _CREATES}
    for table, columns in before.items():
        if table not in after:
            if table in dropped:
                yield Loss(LossKind.TABLE, table)
            continue
        # A table that is altered, not made anew, and has as many columns as before, renamed some.
        if table in dropped | made or len(after[table]) < len(columns):
            for column in columns:
                if column not in after[table]:
                    yield Loss(LossKind.COLUMN, table, column)
        if table not in dropped and (sqlite3.SQLITE_DELETE, table) in touched:
            yield Loss(LossKind.ROWS, table)


def _columns() -> Program[Columns]:
    found: Columns = {}
    for table, column in (yield Query(COLUMNS)):
        found.setdefault(table, []).append(column)
    return found


def _columns_after(touched: Touched, before: Columns) -> Program[Columns]:
    """Read the columns again: all of them only if tables were reshaped, not only made."""
    if any(action in _RESHAPES for action, _ in touched):
        return (yield from _columns())
    after = dict(before)
    for table in sorted(name for action, name in touched if action in _CREATES):
        after[table] = [name for (name,) in (yield Query(COLUMNS_OF, (table,)))]
    return after
