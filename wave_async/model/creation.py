"""A whole schema as a first migration: the scripts that make it and take it back."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from wave_async.model.schema import Object, Schema
from wave_async.model.script import quoted_name

_ORDER = {"table": 0, "index": 1, "view": 2, "trigger": 3}
_KEYS_OFF = "-- wave: foreign_keys=off\n"


@dataclass(frozen=True, slots=True)
class Creation:
    """Scripts that make a schema from nothing, and nothing from it; both empty for none."""

    up: str = ""
    down: str = ""


def creation(schema: Schema, parents: Mapping[str, Collection[str]]) -> Creation:
    """Return the scripts of a schema: tables, then indexes, views and triggers; back in reverse.

    `parents` are the tables that a table refers to, in lower case. A table comes after them, so
    that going back no row loses its parent; where they refer to each other keys are off.
    """
    tables = {o.owner: o for o in schema.objects if o.type == "table"}
    ordered, circular = _after_parents(tables, parents)
    rest = sorted((o for o in schema.objects if o.type != "table"), key=lambda o: _ORDER[o.type])
    up = "".join(map(_statement, (*ordered, *rest)))
    own = (*ordered, *(o for o in rest if o.type == "view"))
    down = "".join(f"DROP {o.type.upper()} {quoted_name(o.name)};\n" for o in reversed(own))
    return Creation((_KEYS_OFF if circular else "") + up, down)


def _statement(o: Object) -> str:
    # SQLite keeps a comment behind the last word of a view.
    return o.sql + ("\n;\n" if "--" in o.sql.rpartition("\n")[2] else ";\n")


def _after_parents(
    tables: Mapping[str, Object], parents: Mapping[str, Collection[str]]
) -> tuple[list[Object], bool]:
    """Return tables, each after its parents, and whether that cannot be."""
    left, circular = dict(tables), False
    ordered: list[Object] = []
    while left:
        free = list(_without_parents(left, parents))
        circular |= not free
        ordered += [left.pop(name) for name in free or list(left)[:1]]
    return ordered, circular


def _without_parents(
    tables: Mapping[str, Object], parents: Mapping[str, Collection[str]]
) -> Iterator[str]:
    for name in tables:
        if not (set(parents.get(name, ())) - {name}) & tables.keys():
            yield name
