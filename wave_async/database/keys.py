"""Programs about foreign keys: enforced or not around a transaction, violated, cascading.

https://sqlite.org/foreignkeys.html, https://sqlite.org/lang_altertable.html#otheralter
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

from wave_async.database.requests import Execute, Foresee, Program, Query, Restore, T
from wave_async.errors import CascadeRefused, KeysViolated
from wave_async.model.script import quoted_name

# A rebuild gives the same violations other rowids, so they are counted and not listed.
CHILDREN = """SELECT DISTINCT c.name FROM main.sqlite_schema c,
    pragma_foreign_key_list(c.name, 'main') WHERE c.rootpage > 0 AND c.type = 'table'"""
VIOLATIONS = "SELECT parent, count(*) FROM pragma_foreign_key_check(?, 'main') GROUP BY 1"
ORPHANS = """SELECT DISTINCT c.name, k."table"
    FROM main.sqlite_schema c, pragma_foreign_key_list(c.name, 'main') k
    WHERE c.rootpage > 0 AND c.type = 'table' AND NOT EXISTS (SELECT 1 FROM main.sqlite_schema p
        WHERE p.type = 'table' AND p.name = k."table" COLLATE NOCASE)"""
REFERENCES = """SELECT c.name, k.id, k."from", k."to"
    FROM (SELECT ? AS name) p, main.sqlite_schema c, pragma_foreign_key_list(c.name, 'main') k
    WHERE c.rootpage > 0 AND c.type = 'table'
        AND k.on_delete IN ('CASCADE', 'SET NULL', 'SET DEFAULT')
        AND k."table" = p.name COLLATE NOCASE AND c.name != p.name COLLATE NOCASE
    ORDER BY c.name, k.id, k.seq"""
PRIMARY_KEY = "SELECT name FROM pragma_table_info(?, 'main') WHERE pk > 0 ORDER BY pk"

_MAY_DROP = re.compile(r"\bDROP\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Violations:
    """Rows without their parent, counted by child and parent table, and keys without one at all.

    `orphans` are keys whose parent table is gone, `unfit` the tables that cannot be counted, as one
    of their keys and its parent do not fit together.
    """

    counts: dict[tuple[str, str], int]
    orphans: set[tuple[str, str]]
    unfit: dict[str, sqlite3.OperationalError]


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


def violations() -> Program[Violations]:
    """Count what is violated now, child by child: one that cannot be counted hides no other."""
    counts: dict[tuple[str, str], int] = {}
    unfit: dict[str, sqlite3.OperationalError] = {}
    for (child,) in (yield Query(CHILDREN)):
        try:
            rows = yield Query(VIOLATIONS, (child,))
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
                raise
            unfit[child] = error
        else:
            counts |= {(child, parent): count for parent, count in rows}
    return Violations(counts, set((yield Query(ORPHANS))), unfit)


def check(before: Violations) -> Program[None]:
    """Raise `KeysViolated` where more is violated than before, and where a key does not fit now."""
    now = yield from violations()
    for child in now.unfit.keys() - before.unfit.keys():
        raise now.unfit[child]
    more = [
        (*pair, count - before.counts.get(pair, 0))
        for pair, count in now.counts.items()
        if count > before.counts.get(pair, 0) and pair[0] not in before.unfit
    ]
    gone = [(*pair, 0) for pair in sorted(now.orphans - before.orphans)]
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
        same = " AND ".join(
            f"p.{quoted_name(to)} = c.{quoted_name(column)}" for column, to in pairs
        )
        try:
            ((count,),) = yield Query(
                f"SELECT count(*) FROM main.{quoted_name(child)} c"
                f" WHERE EXISTS (SELECT 1 FROM main.{quoted_name(table)} p WHERE {same})"
            )
        except sqlite3.OperationalError:  # a key that fits no column; DROP TABLE overlooks it
            continue
        if count:
            found[child] = max(count, found.get(child, 0))
    return found
