"""Programs that try a plan out on an empty copy of a schema, to tell what it would destroy.

An authorizer sees what each statement touches; what is gone afterwards was dropped. A step that
needs rows to work cannot be tried so, and says that.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from wave_async.database import guard, keys, step
from wave_async.database.requests import Execute, Program, Query, Rollback, Touched, attempt
from wave_async.errors import MigrationFailed
from wave_async.model.catalogue import Entry
from wave_async.model.effects import Effect, Loss, LossKind, Preview
from wave_async.model.migration import Direction, parts
from wave_async.model.schema import Schema, shadows_of
from wave_async.model.script import lowered, quoted_name
from wave_async.model.work import source


class Table(NamedTuple):
    """A table's name and its columns, as they are written."""

    name: str
    columns: list[str]


Tables = dict[str, Table]
"""Tables by their names in lower case; not those that virtual ones keep for themselves."""

COLUMNS = """SELECT t.name, c.name FROM main.sqlite_schema t, pragma_table_xinfo(t.name, 'main') c
    WHERE t.rootpage > 0 AND t.type = 'table' AND t.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
    ORDER BY t.rowid, c.cid"""
# Rows that INSERT copies page by page are not told as read (xferOptimization in
# https://sqlite.org/src/file/src/insert.c); with their counts wanted it goes row by row.
EVERY_READ = "PRAGMA count_changes = ON"
# Nothing is asked of a virtual table itself: the extension that it needs may not be loaded.
VIRTUAL = "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND rootpage = 0"
CASCADES = """SELECT c.name, k."table"
    FROM main.sqlite_schema c, pragma_foreign_key_list(c.name, 'main') k
    WHERE c.rootpage > 0 AND c.type = 'table' AND k.on_delete = 'CASCADE'"""
COLUMNS_OF = "SELECT name FROM pragma_table_xinfo(?, 'main') ORDER BY cid"

_ORDER = {"table": 0, "index": 1, "view": 2, "trigger": 3}
_CREATES = {sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_CREATE_VTABLE}
_DROPS = {sqlite3.SQLITE_DROP_TABLE, sqlite3.SQLITE_DROP_VTABLE}
_RESHAPES = {*_DROPS, sqlite3.SQLITE_ALTER_TABLE, sqlite3.SQLITE_CREATE_VTABLE}


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
        yield Execute(EVERY_READ)
        unknown = ""
    except sqlite3.Error as error:
        unknown = f"the schema cannot be copied: {error}"
    before = yield from _tables()
    for entry in entries:
        effect = replace(_described(entry, direction), unknown=unknown)
        if not unknown and entry.migration.transaction:
            try:
                run = partial(_run, entry, direction)
                touched = yield from keys.enforced(run, on=False)  # there are no rows to refer to
                touched |= yield from _cascaded(touched, entry, direction)
                after = yield from _tables_after(touched, before)
                effect = replace(
                    effect,
                    touches=_written(touched, {**before, **after}),
                    losses=tuple(_Losses(touched, before, after).found()),
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
    tables = yield from _tables()
    for effect in found:
        losses: list[Loss] = []
        for loss in effect.losses:
            losses += [(yield from _counted(loss, tables))]
        counts.append(replace(effect, losses=tuple(losses)))
    return tuple(counts)


def _counted(loss: Loss, tables: Tables) -> Program[Loss]:
    there = tables.get(lowered(loss.table))
    if there is None or (loss.column and loss.column not in there.columns):
        return loss  # a step before made it
    what = quoted_name(loss.column) if loss.column else "*"
    counted = yield from attempt(Query(f"SELECT count({what}) FROM main.{quoted_name(loss.table)}"))
    return loss if isinstance(counted, sqlite3.Error) else replace(loss, rows=counted[0][0])


def _described(entry: Entry, direction: Direction) -> Effect:
    work = entry.migration.up if direction is Direction.UP else entry.migration.down
    where = f"migration {entry.version}"
    script = "\n".join(source(part, where).strip("\n") for part in parts(work))
    return Effect(entry.step(direction), len(entry.work(direction).steps), entry.reversible, script)


def _run(entry: Entry, direction: Direction) -> Program[Touched]:
    yield Execute("BEGIN")
    try:
        asked = yield from step.run(entry, direction)
        yield Execute("COMMIT")
    finally:
        yield Rollback()
    return guard.touched(asked)


def _names(touched: Touched, actions: Collection[int]) -> set[str]:
    return {table for action, table, _ in touched if action in actions}


def _written(touched: Touched, tables: Tables) -> tuple[str, ...]:
    names = {name for action, name, _ in touched if action != sqlite3.SQLITE_READ}
    return tuple(sorted(tables[name].name for name in names & tables.keys()))


def _cascaded(touched: Touched, entry: Entry, direction: Direction) -> Program[Touched]:
    """Return the rows that go with their parents' as deleted: no keys were enforced."""
    dropped = _names(touched, _DROPS)
    deleted = _names(touched, {sqlite3.SQLITE_DELETE}) - dropped
    if entry.migration.cascade:
        deleted |= dropped
    if not entry.keys_on(direction) or all(name.startswith("sqlite_") for name in deleted):
        return frozenset()
    cascades = [(lowered(c), lowered(p)) for c, p in (yield Query(CASCADES))]
    parents = set[str]()
    while parents != deleted:
        parents = set(deleted)
        deleted |= {child for child, parent in cascades if parent in parents}
    return frozenset((sqlite3.SQLITE_DELETE, name, "") for name in deleted - dropped)


class _Losses:
    """What a step has destroyed, seen from the tables before and after it.

    A table made anew under its name keeps its rows if anything has read those.
    """

    def __init__(self, touched: Touched, before: Tables, after: Tables) -> None:
        self._touched = touched
        self._before = before
        self._after = after
        self._made = _names(touched, _CREATES)
        self._dropped = _names(touched, _DROPS)
        self._dropped_renamed = self._dropped - self._made - before.keys()

    def found(self) -> Iterator[Loss]:
        """Tell them, table by table."""
        renamed = self._renamed()
        for name, table in self._before.items():
            now = renamed.get(name, name)
            if now not in self._after:
                if name in self._dropped or self._dropped_renamed:
                    yield Loss(LossKind.TABLE, table.name)
                continue
            anew = name in self._dropped or (name in self._made and self._dropped_renamed)
            for column in self._lost_columns(name, now, anew=bool(anew)):
                yield Loss(LossKind.COLUMN, table.name, column)
            if self._lost_rows(name, now, anew=bool(anew)):
                yield Loss(LossKind.ROWS, table.name)

    def _renamed(self) -> dict[str, str]:
        """Guess which new names are those of tables that are gone, and were not dropped."""
        gone = [name for name in self._before if name not in self._after.keys() | self._dropped]
        new = [name for name in self._after if name not in self._before.keys() | self._made]
        if len(gone) == len(new) == 1:
            return dict(zip(gone, new, strict=True))
        columns = {tuple(self._after[name].columns): name for name in new}
        same = {name: columns.get(tuple(self._before[name].columns)) for name in gone}
        return {name: now for name, now in same.items() if now is not None}

    def _lost_rows(self, name: str, now: str, *, anew: bool) -> bool:
        if anew:
            return not _names(self._touched, {sqlite3.SQLITE_READ}) & {
                name,
                *self._dropped_renamed,
            }
        return bool(_names(self._touched, {sqlite3.SQLITE_DELETE}) & {name, now})

    def _lost_columns(self, name: str, now: str, *, anew: bool) -> Iterator[str]:
        columns = {lowered(column): column for column in self._before[name].columns}
        there = set(map(lowered, self._after[now].columns))
        altered = {(sqlite3.SQLITE_ALTER_TABLE, table) for table in (name, now)}
        dropped = {column for *at, column in self._touched if column and tuple(at) in altered}
        every = anew or bool(dropped - columns.keys())  # one may have been renamed before
        for column, written in columns.items():
            if column not in there:
                if every or column in dropped:
                    yield written
            elif column in dropped and (sqlite3.SQLITE_READ, name, column) not in self._touched:
                yield written  # made anew, without its values


def _tables() -> Program[Tables]:
    found: Tables = {}
    for table, column in (yield Query(COLUMNS)):
        found.setdefault(lowered(table), Table(table, [])).columns.append(column)
    virtual = [name for (name,) in (yield Query(VIRTUAL))]
    for shadow in shadows_of(map(lowered, virtual)):
        found.pop(shadow, None)
    return found | {lowered(name): Table(name, []) for name in virtual}


def _tables_after(touched: Touched, before: Tables) -> Program[Tables]:
    """Read the tables again: all of them only if some were reshaped, not only made."""
    if _names(touched, _RESHAPES):
        return (yield from _tables())
    after = dict(before)
    for name in sorted(_names(touched, {sqlite3.SQLITE_CREATE_TABLE}) - before.keys()):
        columns = [column for (column,) in (yield Query(COLUMNS_OF, (name,)))]
        after[name] = Table(name, columns)
    return after
