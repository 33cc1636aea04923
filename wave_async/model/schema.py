"""Tables and their columns as a value, and which version of ours a database's tables fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from wave_async.errors import AdoptionRefused

# https://sqlite.org/pragma.html#pragma_table_xinfo
_HIDDEN = {1: "HIDDEN", 2: "GENERATED VIRTUAL", 3: "GENERATED STORED"}


@dataclass(frozen=True, slots=True)
class Column:
    """What SQLite tells of a column; `key` is its place in the primary key, 0 for none."""

    name: str
    type: str
    not_null: bool
    default: str | None
    key: int
    hidden: int


Table = tuple[Column, ...]
Tables = Mapping[str, Table]
"""Every table by its name in lower case."""


def fitting_version(replay: Sequence[tuple[int, Tables]], live: Tables) -> int | None:
    """Return the one version whose tables, as `replay` made them, are those of a live database.

    Tables that no version makes do not count. None of ours there gives None: the database is fresh
    to us. Raises `AdoptionRefused` where no version fits, or several.
    """
    ours = {name for _, tables in replay for name in tables}
    live = {name: table for name, table in live.items() if name in ours}
    if not live:
        return None
    differences = {version: list(_differences(tables, live)) for version, tables in replay}
    fits = tuple(version for version, found in differences.items() if not found)
    if len(fits) == 1:
        return fits[0]
    nearest = min(differences, key=lambda version: _distance(differences[version]))
    raise AdoptionRefused(fits, nearest, "; ".join(differences[nearest][:3]))


def _distance(differences: Sequence[str]) -> tuple[int, int]:
    """Count differences; of two that are equally far the one with the same tables is nearer."""
    return len(differences), sum(": " not in difference for difference in differences)


def _differences(wanted: Tables, live: Tables) -> Iterator[str]:
    for name in sorted({*wanted, *live}):
        if name not in live:
            yield f"table {name} is missing"
        elif name not in wanted:
            yield f"table {name} comes later"
        elif wanted[name] != live[name]:
            yield from _column_differences(name, wanted[name], live[name])


def _column_differences(table: str, wanted: Table, live: Table) -> Iterator[str]:
    there = {column.name: column for column in live}
    order = [[column.name for column in columns] for columns in (wanted, live)]
    if order[0] != order[1] and set(order[0]) == set(order[1]):
        yield f"table {table}: its columns are in another order"
    for column in wanted:
        found = there.pop(column.name, None)
        if found is None:
            yield f"table {table}: column {column.name} is missing"
        elif found != column:
            yield f"table {table}: column {column.name} is {_shown(found)}, not {_shown(column)}"
    for name in there:
        yield f"table {table}: column {name} is not ours"


def _shown(column: Column) -> str:
    parts = [
        column.type,
        "NOT NULL" if column.not_null else "",
        "PRIMARY KEY" if column.key else "",
        f"(column {column.key} of it)" if column.key > 1 else "",
        "" if column.default is None else f"DEFAULT {column.default}",
        _HIDDEN.get(column.hidden, ""),
    ]
    return " ".join(filter(None, parts)) or "untyped"
