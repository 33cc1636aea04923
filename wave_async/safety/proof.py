"""What a live schema proves: which version it is, and in what it differs from its migrations.

Every proof rests on a replay of the migrations on an empty database in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from wave_async.database import history
from wave_async.database.requests import Program
from wave_async.database.schema import read_schema, replay
from wave_async.database.walk import Look
from wave_async.errors import NotProven
from wave_async.model.catalogue import Entry
from wave_async.model.difference import Difference, Kind, differences, fitting_version
from wave_async.model.schema import Schema

__all__ = ["adoption", "compared", "prove", "read_schema"]

Run = Callable[..., Awaitable[Any]]
"""Runs a program on an empty database."""


async def adoption(run: Run, entries: Sequence[Entry]) -> Look:
    """Return the question which migrations an untracked database has; None: none of ours."""
    versions = await run(partial(replay, entries)) or []

    def proven() -> Program[tuple[Entry, ...] | None]:
        # The schema first: what was untracked after it was read was so while it was.
        live = yield from read_schema()
        if (yield from history.read()).tracked:
            return None
        fit = fitting_version(versions, live)
        return None if fit is None else tuple(e for e in entries if e.version <= fit.version)

    return proven


async def compared(
    run: Run, entries: Sequence[Entry], live: Schema
) -> tuple[list[Difference], list[Difference], int | None]:
    """Return what of a schema contradicts migrations, what is foreign, or which has no proof.

    That is the version of a migration that cannot be replayed on an empty database.
    """
    versions = await run(partial(replay, entries)) or []
    if len(versions) < len(entries):
        return [], [], entries[len(versions)].version
    wanted = versions[-1][1] if versions else Schema()
    found = await asyncio.to_thread(differences, wanted, live)
    foreign = [difference for difference in found if difference.kind is Kind.FOREIGN]
    return [d for d in found if d.kind is not Kind.FOREIGN], foreign, None


async def prove(run: Run, entries: Sequence[Entry], live: Schema, what: str) -> None:
    """Raise `NotProven` where a schema is not what migrations make, with anything besides."""
    wrong, _, unproven = await compared(run, entries, live)
    if wrong:
        raise NotProven(what, tuple(wrong))
    if unproven is not None:
        raise NotProven(what, (f"migration {unproven} cannot be replayed without rows",))
