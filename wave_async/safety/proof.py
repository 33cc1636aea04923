"""What a live schema proves: which version it is, and in what it differs from its migrations.

Every proof rests on a replay of the migrations on an empty database in memory.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from wave_async.database import history
from wave_async.database.requests import Program
from wave_async.database.schema import read_schema, replay
from wave_async.errors import NotProven
from wave_async.model.catalogue import Entry
from wave_async.model.difference import Difference, Kind, differences, fitting_version
from wave_async.model.schema import Schema

__all__ = ["Replayed", "read_schema", "replayed", "trust"]

Run = Callable[..., Awaitable[Any]]
"""Runs a program on an empty database."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """Migrations, and the schema after each of those that could be replayed."""

    entries: Sequence[Entry]
    versions: list[tuple[int, Schema]]

    def fitting(self, live: Schema) -> tuple[Entry, ...] | None:
        """Return the migrations that a schema is of; None: nothing of it is ours.

        Raises `AdoptionRefused` where that is no version, or several.
        """
        fit = fitting_version(self.versions, live)
        return None if fit is None else tuple(e for e in self.entries if e.version <= fit.version)

    def compare(self, live: Schema) -> tuple[list[Difference], list[Difference], int | None]:
        """Return what of a schema contradicts the migrations, what is foreign, or what is unproven.

        That is the version of a migration that cannot be replayed on an empty database.
        """
        if len(self.versions) < len(self.entries):
            return [], [], self.entries[len(self.versions)].version
        wanted = self.versions[-1][1] if self.versions else Schema()
        found = differences(wanted, live)
        foreign = [difference for difference in found if difference.kind is Kind.FOREIGN]
        return [d for d in found if d.kind is not Kind.FOREIGN], foreign, None

    def adoption(self) -> Program[tuple[Entry, ...] | None]:
        """Find out which migrations an untracked database has; None: it is tracked, or none."""
        # The schema first: what was untracked after it was read was so while it was.
        live = yield from read_schema()
        return None if (yield from history.read()).tracked else self.fitting(live)

    def demand(self, count: int, what: str) -> Program[None]:
        """Raise `NotProven` where the live schema is not what the first migrations make.

        What none of the migrations makes may be there besides.
        """
        versions = self.versions
        wanted = versions[count - 1][1] if 0 < count <= len(versions) else Schema()
        live = yield from read_schema()
        if count > len(versions):
            unproven = self.entries[len(versions)].version
            raise NotProven(what, (f"migration {unproven} cannot be replayed without rows",))
        ours = {o.key for _, schema in versions for o in schema.objects}
        known = Schema(tuple(o for o in live.objects if o.key in ours))
        if known != wanted:
            raise NotProven(what, tuple(differences(wanted, known)))


async def replayed(run: Run, entries: Sequence[Entry]) -> Replayed:
    """Replay migrations on an empty database."""
    return Replayed(entries, await run(partial(replay, entries)) or [])


def trust() -> Program[None]:
    """Demand nothing."""
    yield from ()
