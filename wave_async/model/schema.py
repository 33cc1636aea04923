"""A whole schema as a value: what an application has in a database, however it was written."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from operator import attrgetter

from wave_async.model.ddl import Definition, define
from wave_async.model.script import lowered

BOOKKEEPING = frozenset({"schema_migrations", "schema_migrations_log"})
"""The tables of this engine, which are no part of an application's schema."""

REPLICATION = frozenset({"_litestream_lock", "_litestream_seq"})
"""The tables that Litestream keeps in a database that it replicates: no part of it either."""

# What fts3, fts4, fts5 and rtree keep beside a virtual table, after its name.
_SHADOWS = "config content data docsize idx node parent rowid segdir segments stat"


def shadows_of(virtual: Iterable[str]) -> list[str]:
    """Guess, by their names, what tables virtual ones keep for themselves."""
    return [f"{name}_{suffix}" for name in virtual for suffix in _SHADOWS.split()]


@dataclass(frozen=True, eq=False)
class Object:
    """A table, an index, a trigger or a view, as a row of sqlite_schema tells it.

    It equals any of its type and name that says the same. Its statement is read only when it is
    compared with one of another text.
    """

    type: str
    name: str
    table: str
    sql: str

    @cached_property
    def key(self) -> tuple[str, str]:
        """Its type and name, of which a schema has only one."""
        return self.type, lowered(self.name)

    @cached_property
    def owner(self) -> str:
        """The table that it belongs to, or that it is, in lower case."""
        return lowered(self.table)

    @cached_property
    def definition(self) -> Definition:
        """What its statement says."""
        return define(self.sql)

    @cached_property
    def is_virtual(self) -> bool:
        """Whether it is a virtual table; the first words of a statement are SQLite's own."""
        return self.sql.startswith("CREATE VIRTUAL TABLE")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Object) or self.key != other.key:
            return False
        return self.sql == other.sql or self.definition == other.definition

    def __hash__(self) -> int:
        return hash(self.key)


@dataclass(frozen=True, slots=True)
class Schema:
    """The objects of an application, by type and name. Equal if they say the same."""

    objects: tuple[Object, ...] = ()

    @classmethod
    def of(cls, objects: Iterable[Object], shadows: Collection[str] | None = None) -> Schema:
        """Return the schema of what is neither SQLite's own nor bookkeeping.

        `shadows` are the tables that virtual ones keep for themselves; None: guess by their names.
        """
        objects = list(objects)
        if shadows is None:
            shadows = shadows_of(o.name for o in objects if o.is_virtual)
        hidden = {*BOOKKEEPING, *REPLICATION, *map(lowered, shadows)}
        kept = [o for o in objects if o.owner not in hidden and not o.owner.startswith("sqlite_")]
        return cls(tuple(sorted(kept, key=attrgetter("key"))))

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of what the objects say, the same for equal schemas wherever it is made."""
        said = [
            (o.key, o.definition.columns, o.definition.constraints, o.definition.rest)
            for o in self.objects
        ]
        return sha256(json.dumps(said).encode()).hexdigest()
