"""Rows made up from nothing but a schema, so that migrations are tried on tables with rows.

SQLite judges: a row is offered, and what its refusal names is made up anew until it is accepted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import count, groupby
from random import Random
from typing import Any, NamedTuple

from wave_async.database.keys import PRIMARY_KEY
from wave_async.database.requests import Execute, Program, Query, attempt
from wave_async.model.schema import Object, Schema
from wave_async.model.script import lowered, quoted_name

ROWS = 3
COLUMNS = "SELECT name, type FROM pragma_table_xinfo(?, 'main') WHERE hidden = 0"
KEYS = """SELECT id, "table", "from", "to" FROM pragma_foreign_key_list(?, 'main')
    ORDER BY id, seq"""

_OFFERS = 200
_PARENTS = 100
_LONGEST = 100
_LITERAL = re.compile(r"'((?:[^']|'')*)'|(?<![\w.])(-?[0-9]{1,17}(?:\.[0-9]+)?)(?![\w.])")
_MOMENT = "2001-02-03 04:05:06"


class _Key(NamedTuple):
    """Columns that refer to a row, and what they may hold: None is what `own` columns hold."""

    columns: Sequence[str]
    own: Sequence[str]
    choices: Sequence[Sequence[Any] | None]


def seed(schema: Schema, before: Schema | None = None, rows: int = ROWS) -> Program[dict[str, str]]:
    """Add rows to the tables that `before` did not have like that, and to those without any.

    Values repeat and are NULL wherever SQLite allows it; foreign keys find their rows, parents
    first, and a row of a table that refers to itself may refer to itself. Triggers act. Virtual
    tables are left alone. Answers the tables that stay empty, and why.
    """
    known = set(before.objects if before else ())
    tables = {o.owner: o for o in schema.objects if o.type == "table" and not o.is_virtual}
    references: dict[str, list[Any]] = {}
    for name in tables:
        references[name] = yield Query(KEYS, (name,))
    refused: dict[Object, str] = {}
    for table in [tables[name] for name in _parents_first(references)]:
        if table not in known or (yield from _is_empty(table)):
            refused[table] = yield from _seed(table, references, rows)
    for table in [table for table, refusal in refused.items() if refusal]:
        refused[table] = yield from _seed(table, references, rows)  # a cycle may be closed now
    return {table.name: refusal for table, refusal in refused.items() if refusal}


def _is_empty(table: Object) -> Program[bool]:
    return not (yield Query(f"SELECT 1 FROM main.{quoted_name(table.name)} LIMIT 1"))


def _seed(table: Object, references: Mapping[str, Iterable[Any]], rows: int) -> Program[str]:
    """Add rows to a table; answers why it stays empty, if it does."""
    keys = yield from _keys(table.owner, references)
    made_up = _MadeUp(table, (yield Query(COLUMNS, (table.name,))), keys)
    refusal = yield from made_up.offered(rows)
    return refusal if refusal and (yield from _is_empty(table)) else ""


def _parents_first(references: Mapping[str, Iterable[Any]]) -> list[str]:
    """Order tables so that those that others refer to come first, as far as there are no cycles."""
    order: list[str] = []
    seen: set[str] = set()

    def visit(name: str) -> None:
        if name in references and name not in seen:
            seen.add(name)
            for _, parent, *_ in references[name]:
                visit(lowered(parent))
            order.append(name)

    for name in references:
        visit(name)
    return order


def _keys(table: str, references: Mapping[str, Iterable[Any]]) -> Program[list[_Key]]:
    """Look up the rows that a table may refer to now; a key may be NULL, too."""
    found: list[_Key] = []
    for _, rows in groupby(references[table], key=lambda row: row[0]):
        _, (parent, *_), columns, targets = zip(*rows, strict=True)
        if targets[0] is None:
            targets = tuple(name for (name,) in (yield Query(PRIMARY_KEY, (parent,))))
        wanted = ", ".join(map(quoted_name, targets))
        sql = f"SELECT {wanted} FROM main.{quoted_name(parent)} LIMIT {_PARENTS}"
        there = yield from attempt(Query(sql))
        choices = [] if isinstance(there, Exception) else there
        if lowered(parent) == table:
            choices.append(None)
        found.append(_Key(columns, targets, [*choices, [None] * len(columns)]))
    return found


class _MadeUp:
    """The rows of one table: of three kinds by turns, plain values, the same again, NULLs."""

    def __init__(
        self, table: Object, columns: Iterable[tuple[str, str]], keys: Iterable[_Key]
    ) -> None:
        self._table = table
        self._types = {name: kind.upper() for name, kind in columns}
        self._row: dict[str, Any] = dict.fromkeys(self._types)
        self._keys = [key for key in keys if self._row.keys() >= set(key.columns)]
        self._numbers = count(1)
        self._random = Random(0)  # noqa: S311 - the same rows every time

    def offered(self, rows: int) -> Program[str]:
        """Insert rows; answers why the first one that was refused was, if any was."""
        refusals: list[str] = []
        for number in range(rows):
            self._begin(number % ROWS)
            refusals += yield from self._insert()
        return next(iter(refusals), "")

    def _begin(self, kind: int) -> None:
        if kind == 0:
            self._row = {name: self._values(name, "")[0] for name in self._row}
            for key in self._keys:
                self._refer(key, key.choices[0])
        elif kind == ROWS - 1:
            self._row = dict.fromkeys(self._row)

    def _insert(self) -> Program[list[str]]:
        names = ", ".join(map(quoted_name, self._row))
        marks = ", ".join("?" * len(self._row))
        sql = f"INSERT INTO main.{quoted_name(self._table.name)} ({names}) VALUES ({marks})"
        refusals: list[str] = []
        for _ in range(_OFFERS):
            answer = yield from attempt(Execute(sql, tuple(self._row.values())))
            if not isinstance(answer, Exception):
                return []
            refusals.append(str(answer))
            self._mend(refusals[-1])
        return refusals

    def _mend(self, refusal: str) -> None:
        """Make up anew the columns that a refusal names; all of them where it names none."""
        hint = self._hint(refusal.partition(": ")[2])
        named = {name for name in self._row if _mentions(hint, name)}
        if refusal.startswith("FOREIGN KEY"):
            named = {name for key in self._keys for name in key.columns}
        elif not named:
            named, hint = set(self._row), self._table.sql
        plain = refusal.startswith(("NOT NULL", "UNIQUE"))
        for name in sorted(named):
            values = self._values(name, hint)
            self._row[name] = values[0] if plain else self._random.choice(values)
        for key in self._keys:
            if named & set(key.columns):
                self._refer(key, self._random.choice(key.choices))

    def _hint(self, said: str) -> str:
        """Return the text of the constraint where SQLite has told only its name."""
        definition = self._table.definition
        items = (*definition.columns, *definition.constraints)
        named = f"constraint {lowered(said)} check "
        return next((item for item in items if named in item), said)

    def _refer(self, key: _Key, choice: Sequence[Any] | None) -> None:
        if choice is None:
            row = {lowered(name): value for name, value in self._row.items()}
            choice = [row.get(lowered(name)) for name in key.own]
        self._row |= dict(zip(key.columns, choice, strict=False))

    def _values(self, name: str, hint: str) -> list[Any]:
        """Return what a column may hold, a plain value of its type first, then what a hint says."""
        kind, n = self._types[name], next(self._numbers)
        texts, numbers = _literals(hint)
        near = [*numbers, *(x + d for x in numbers for d in (-1, 1))]
        lengths = [int(x) for x in numbers if 0 < x <= _LONGEST]
        written = [*texts, *(f"{n:0{k}}"[-k:] for k in lengths), str(n), _MOMENT, "{}"]
        # https://sqlite.org/datatype3.html#determination_of_column_affinity
        if "INT" in kind:
            return [n, *near, 0, None]
        if re.search("CHAR|CLOB|TEXT", kind):
            return [f"text {n}", *written, None]
        if re.search("REAL|FLOA|DOUB", kind):
            return [n + 0.5, *near, *(x + 0.5 for x in numbers), None]
        if "BLOB" in kind:
            return [b"%d" % n, *(b"%0*d" % (k, n) for k in lengths), *written, *near, None]
        return [_MOMENT if re.search("DATE|TIME", kind) else n, 0, 1, *near, *written, None]


def _literals(hint: str) -> tuple[list[str], list[float]]:
    found = _LITERAL.findall(hint)
    texts = [text.replace("''", "'") for text, number in found if not number]
    return texts, [float(n) if "." in n else int(n) for _, n in found if n]


def _mentions(hint: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", hint, re.IGNORECASE) is not None
