"""Programs about foreign keys: enforced or not around a transaction, violated, cascading.

https://sqlite.org/foreignkeys.html, https://sqlite.org/lang_altertable.html#otheralter
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from itertools import groupby

from wave_async.database.requests import Execute, Foresee, Program, Query, Restore, T
from wave_async.errors import CascadeRefused, KeysViolated

# A rebuild gives the same violations other rowids, so they are counted and not listed.
VIOLATIONS = 'SELECT "table", parent, count(*) FROM pragma_foreign_key_check GROUP BY 1, 2'
ORPHANS = """SELECT DISTINCT c.name, k."table"
    FROM main.sqlite_schema c, pragma_foreign_key_list(c.name, 'main') k
    WHERE c.type = 'table' AND NOT EXISTS (SELECT 1 FROM main.sqlite_schema p
        WHERE p.type = 'table' AND p.name = k."table" COLLATE NOCASE)"""
REFERENCES = """SELECT c.name, k.id, k."from", k."to"
    FROM main.sqlite_schema c, pragma_foreign_key_list(c.name, 'main') k
    WHERE c.type = 'table' AND k."table" = ?1 COLLATE NOCASE AND c.name != ?1 COLLATE NOCASE
        AND k.on_delete IN ('CASCADE', 'SET NULL', 'SET DEFAULT')
    ORDER BY c.name, k.id, k.seq"""
PRIMARY_KEY = "SELECT name FROM pragma_table_info(?, 'main') WHERE pk > 0 ORDER BY pk"

_MAY_DROP = re.compile(r"\bDROP\b", re.IGNORECASE)

Violations = tuple[dict[tuple[str, str], int], set[tuple[str, str]]]
"""Rows without their parent, counted by child and parent table, and parent tables that are gone."""


def enforced(program: Callable[[], Program[T]], *, on: bool) -> Program[T]:
    """Run a program with keys enforced or not; the switch does nothing inside a transaction.

    https://sqlite.org/pragma.html#pragma_foreign_keys
    """
    ((before,),) = yield Query("PRAGMA foreign_keys")
    if bool(before) is on:
        return (yield from program())
    try:
        yield Execute(f"PRAGMA foreign_keys = {'ON' if on else 'OFF'}")
        return (yield from program())
    finally:
        yield Restore(f"PRAGMA foreign_keys = {before}")


def _violations() -> Program[Violations]:
    """Count what is violated now, or raise where a key and its parent do not match at all."""
    rows = yield Query(VIOLATIONS)
    orphans = yield Query(ORPHANS)
    return {(child, parent): count for child, parent, count in rows}, set(orphans)


def violations_before() -> Program[Violations | None]:
    """Count what is violated before a migration; None where keys are too broken to be counted."""
    try:
        return (yield from _violations())
    except sqlite3.OperationalError:
        return None


def check(before: Violations | None) -> Program[None]:
    """Raise `KeysViolated` where more is violated than before."""
    if before is None:
        return
    counts, orphans = yield from _violations()
    more = [
        (*pair, count - before[0].get(pair, 0))
        for pair, count in counts.items()
        if count > before[0].get(pair, 0)
    ]
    gone = [(*pair, 0) for pair in sorted(orphans - before[1])]
    if more or gone:
        raise KeysViolated((*more, *gone))


def refuse_cascade(sql: str) -> Program[None]:
    """Raise `CascadeRefused` where a statement drops a table that rows of other tables refer to.

    With keys enforced, DROP TABLE first deletes all rows, and ON DELETE acts on their children
    (https://sqlite.org/lang_droptable.html).
    """
    if not _MAY_DROP.search(sql):
        return
    try:
        tables = yield Foresee(sql)
    except sqlite3.Error:  # it will say itself what is wrong with it
        return
    for table in tables:
        if children := (yield from _children(table)):
            raise CascadeRefused(table, tuple(sorted(children.items())))


def _children(table: str) -> Program[dict[str, int]]:
    """Count the rows of other tables that dropping a table would delete or change."""
    found: dict[str, int] = {}
    references = yield Query(REFERENCES, (table,))
    for (child, _), columns in groupby(references, key=lambda row: row[:2]):
        pairs = [(column, target) for _, _, column, target in columns]
        if pairs[0][1] is None:
            key = yield Query(PRIMARY_KEY, (table,))
            pairs = [(column, name) for (column, _), (name,) in zip(pairs, key, strict=False)]
        quoted = [(quoted_name(column), quoted_name(target)) for column, target in pairs]
        same = " AND ".join(f"p.{target} = c.{column}" for column, target in quoted)
        ((count,),) = yield Query(
            f"SELECT count(*) FROM main.{quoted_name(child)} c"
            f" WHERE EXISTS (SELECT 1 FROM main.{quoted_name(table)} p WHERE {same})"
        )
        if count:
            found[child] = max(count, found.get(child, 0))
    return found


def quoted_name(name: str) -> str:
    """Quote the name of a table or a column."""
    return '"' + name.replace('"', '""') + '"'
