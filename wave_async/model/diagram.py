"""A schema as a picture of it needs it: tables with their columns and keys, and what is new.

Reads the statements as SQLite keeps them; knows nothing of how a picture is written or drawn.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from wave_async.model.ddl import as_shown, name_and_rest
from wave_async.model.schema import Object, Schema
from wave_async.model.script import lowered, tokens, unquoted

# What ends the type of a column (https://sqlite.org/syntax/column-constraint.html).
_WORDS = "as check collate constraint default generated not null primary references unique"
_CONSTRAINTS = frozenset(_WORDS.split())


class Kind(Enum):
    """What a box of the picture stands for."""

    TABLE = "table"
    VIRTUAL = "virtual table"
    VIEW = "view"
    MISSING = "missing table"
    """Only a foreign key names it."""


class Change(Enum):
    """What the newest migration did to a table."""

    NONE = ""
    NEW = "new"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Column:
    """A column; `type` is as it was written, and `new` says that it was added or changed."""

    name: str
    type: str
    primary: bool = False
    unique: bool = False
    required: bool = False
    foreign: bool = False
    new: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """Which keys it is part of: `PK`, `FK`, `UK`."""
        marks = (("PK", self.primary), ("FK", self.foreign), ("UK", self.unique))
        return tuple(mark for mark, is_part in marks if is_part)

    @property
    def nullness(self) -> str:
        """`not null` where it has to be said: of a primary key it goes without saying."""
        return "not null" if self.required and not self.primary else ""

    @property
    def declared(self) -> str:
        """Its type, and that it is not null."""
        return " ".join(filter(None, (self.type, self.nullness)))

    @property
    def remarks(self) -> list[str]:
        """What is to be said of it besides type and keys."""
        return [remark for remark in (self.nullness, "new" if self.new else "") if remark]


@dataclass(frozen=True, slots=True)
class Table:
    """A table; views and virtual tables have no columns, as their statements name none."""

    name: str
    kind: Kind = Kind.TABLE
    columns: tuple[Column, ...] = ()
    change: Change = Change.NONE

    @property
    def about(self) -> str:
        """What it is, unless an ordinary table."""
        return "" if self.kind is Kind.TABLE else self.kind.value

    @property
    def mark(self) -> str:
        """What its colour tells: `missing`, `new`, `changed` or nothing."""
        return "missing" if self.kind is Kind.MISSING else self.change.value

    def row(self, names: Iterable[str]) -> int | None:
        """Return in which row the first of some columns is, None if in none."""
        first = next(iter(names), None)
        return next((i for i, c in enumerate(self.columns) if c.name == first), None)


@dataclass(frozen=True, slots=True)
class Key:
    """A foreign key: rows of `table` name rows of `parent`, column by column.

    `optional` says that a row may name none, `single` that no two rows may name the same.
    """

    table: str
    columns: tuple[str, ...]
    parent: str
    parents: tuple[str, ...]
    optional: bool = True
    single: bool = False
    new: bool = False


@dataclass(frozen=True, slots=True)
class Diagram:
    """The schema at a version, tables by name; `description` is the newest migration's."""

    version: int
    description: str = ""
    tables: tuple[Table, ...] = ()
    keys: tuple[Key, ...] = ()

    @classmethod
    def of(
        cls, version: int, description: str, schema: Schema, before: Schema | None = None
    ) -> Diagram:
        """Return the picture of a schema, and what is new in it since the one before."""
        tables, keys = _read(schema)
        if before is not None:
            tables, keys = _marked(tables, keys, schema, before)
        missing = _missing(tables, keys)
        drawn = sorted((*tables, *missing), key=lambda table: lowered(table.name))
        return cls(version, description, tuple(drawn), tuple(keys))


@dataclass(frozen=True, slots=True)
class _Reference:
    columns: tuple[str, ...]
    parent: str
    parents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Read:
    """What one CREATE TABLE says; names of columns that only constraints tell are as there."""

    name: str
    columns: tuple[Column, ...]
    uniques: tuple[frozenset[str], ...]
    references: tuple[_Reference, ...]


_Word = str | list[str]
"""A word, or the words of a parenthesis without its commas."""


def _words(sql: str) -> list[_Word]:
    found: list[_Word] = []
    inner: list[str] = []
    depth = 0
    for _, word, _ in tokens(sql):
        depth -= word == ")"
        if depth:
            inner += [word] if word != "," else []
        elif word == ")":
            found.append(inner)
        elif word != "(":
            found.append(word)
        if word == "(":
            inner = inner if depth else []
            depth += 1
    return found


def _plain(words: Iterable[_Word]) -> list[str]:
    """Return words to look for keywords in: a quoted word is none, and keeps its quotes."""
    return ["()" if isinstance(word, list) else word.lower() for word in words]


def _names(word: _Word) -> tuple[str, ...]:
    """Return the names in a parenthesis, in an index or a key: collations and orders are none."""
    after_collate = False
    found = []
    for name in word if isinstance(word, list) else ():
        plain = name.lower()
        if not after_collate and plain not in {"asc", "desc", "collate"}:
            found.append(unquoted(name))
        after_collate = plain == "collate"
    return tuple(found)


def _follows(plain: Sequence[str], *wanted: str) -> int:
    """Return where some words end that stand beside each other, 0 if they do not."""
    count = len(wanted)
    ends = range(count, len(plain) + 1)
    return next((end for end in ends if tuple(plain[end - count : end]) == wanted), 0)


def _references(words: Sequence[_Word], columns: tuple[str, ...]) -> Iterator[_Reference]:
    at = _follows(_plain(words), "references")
    if at and isinstance(parent := words[at], str):
        named = _names(words[at + 1]) if len(words) > at + 1 else ()
        yield _Reference(columns, unquoted(parent), named)


def _column(written: str) -> tuple[Column, list[_Word]]:
    name, rest = name_and_rest(written)
    end = 0
    for kind, token, after in tokens(rest):
        if kind == "word" and token.lower() in _CONSTRAINTS:
            break
        end = after
    words = _words(rest[end:])
    plain = _plain(words)
    primary = bool(_follows(plain, "primary", "key"))
    required = primary or bool(_follows(plain, "not", "null"))
    unique = "unique" in plain
    return Column(name, as_shown(rest[:end]), primary, unique, required), words


def _table(o: Object) -> _Read:
    definition = o.definition
    count = len(definition.columns)
    columns: list[Column] = []
    references: list[_Reference] = []
    uniques: list[frozenset[str]] = []
    primary: frozenset[str] = frozenset()
    for written in definition.written[:count]:
        column, words = _column(written)
        columns.append(column)
        references += _references(words, (column.name,))
        uniques += [frozenset({lowered(column.name)})] if column.unique or column.primary else []
    for written in definition.written[count:]:
        words = _words(written)
        plain = _plain(words)
        if at := _follows(plain, "primary", "key"):
            primary = frozenset(map(lowered, _names(words[at])))
            uniques.append(primary)
        elif at := _follows(plain, "foreign", "key"):
            references += _references(words, _names(words[at]))
        elif at := _follows(plain, "unique"):
            uniques.append(frozenset(map(lowered, _names(words[at]))))
    kept = (
        replace(c, primary=True, required=True) if lowered(c.name) in primary else c
        for c in columns
    )
    return _Read(o.name, tuple(kept), tuple(uniques), tuple(references))


def _unique_index(o: Object) -> frozenset[str]:
    """Return the columns of a unique index on columns alone, over all rows; else none."""
    words = _words(o.sql)
    plain = _plain(words)
    on = _follows(plain, "on")
    if plain[1] != "unique" or len(words) > on + 2 or "(" in words[-1]:
        return frozenset()
    return frozenset(map(lowered, _names(words[-1])))


def _read(schema: Schema) -> tuple[list[Table], list[Key]]:
    indexes: dict[str, list[frozenset[str]]] = {}
    for o in schema.objects:
        if o.type == "index" and (found := _unique_index(o)):
            indexes.setdefault(o.owner, []).append(found)
    plain = {o.owner: _table(o) for o in schema.objects if o.type == "table" and not o.is_virtual}
    tables = [_drawn(table, indexes.get(owner, ())) for owner, table in plain.items()]
    tables += [
        Table(o.name, Kind.VIRTUAL if o.is_virtual else Kind.VIEW)
        for o in schema.objects
        if o.type == "view" or o.is_virtual
    ]
    keys = [
        _key(table, reference, indexes.get(owner, ()), plain)
        for owner, table in plain.items()
        for reference in table.references
    ]
    return tables, keys


def _drawn(table: _Read, indexes: Iterable[frozenset[str]]) -> Table:
    alone = {name for names in (*table.uniques, *indexes) if len(names) == 1 for name in names}
    foreign = {lowered(name) for key in table.references for name in key.columns}
    columns = tuple(
        replace(
            column,
            unique=not column.primary and lowered(column.name) in alone,
            foreign=lowered(column.name) in foreign,
        )
        for column in table.columns
    )
    return Table(table.name, columns=columns)


def _key(
    table: _Read,
    reference: _Reference,
    indexes: Iterable[frozenset[str]],
    tables: Mapping[str, _Read],
) -> Key:
    parent = tables.get(lowered(reference.parent))
    known = {lowered(c.name): c.name for c in parent.columns} if parent else {}
    implied = tuple(c.name for c in parent.columns if c.primary) if parent else ()
    own = {lowered(c.name): c for c in table.columns}
    columns = [own[lowered(n)] for n in reference.columns if lowered(n) in own]
    used = {lowered(column.name) for column in columns}
    return Key(
        table.name,
        tuple(column.name for column in columns),
        parent.name if parent else reference.parent,
        tuple(known.get(lowered(n), n) for n in reference.parents or implied),
        optional=not all(column.required for column in columns),
        single=any(names <= used for names in (*table.uniques, *indexes) if names),
    )


def _missing(tables: Iterable[Table], keys: Iterable[Key]) -> Iterator[Table]:
    known = {lowered(table.name) for table in tables}
    for key in keys:
        if lowered(key.parent) not in known:
            known.add(lowered(key.parent))
            yield Table(key.parent, Kind.MISSING)


def _marked(
    tables: Iterable[Table], keys: Iterable[Key], schema: Schema, before: Schema
) -> tuple[list[Table], list[Key]]:
    """Say of each table and key whether it is new."""
    old_tables, old_keys = _read(before)
    was = {lowered(table.name): table for table in old_tables}
    touched = _touched(schema, before) | _touched(before, schema)
    known = {_bare(key) for key in old_keys}
    return (
        [_compared(t, was.get(lowered(t.name)), touched) for t in tables],
        [replace(key, new=_bare(key) not in known) for key in keys],
    )


def _touched(one: Schema, other: Schema) -> set[str]:
    """Return the tables of which some object is in one schema as it is not in the other."""
    known = {o.key: o for o in other.objects}
    return {o.owner for o in one.objects if o != known.get(o.key)}


def _bare(key: Key) -> Key:
    return replace(key, optional=True, single=False)


def _compared(table: Table, old: Table | None, touched: Collection[str]) -> Table:
    if old is None:
        columns = tuple(replace(column, new=True) for column in table.columns)
        return replace(table, columns=columns, change=Change.NEW)
    known = set(old.columns)
    columns = tuple(replace(column, new=column not in known) for column in table.columns)
    change = Change.CHANGED if lowered(table.name) in touched else Change.NONE
    return replace(table, columns=columns, change=change)
