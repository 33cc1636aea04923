"""What another tool's bookkeeping says, proven by the schema: the question behind an import."""

from __future__ import annotations

from collections.abc import Sequence
from time import time

from wave_async.database import foreign
from wave_async.database.foreign import Found, Tool, record, tool_named
from wave_async.database.requests import Program
from wave_async.database.schema import read_parents
from wave_async.errors import ImportRefused, InvalidTarget
from wave_async.model import plan
from wave_async.model.catalogue import Catalogue, Entry
from wave_async.model.creation import Creation, creation
from wave_async.model.foreign import Import, judge, meant, records, unrecorded
from wave_async.model.plan import Rules
from wave_async.model.schema import Schema
from wave_async.safety.proof import Replayed, read_schema

__all__ = ["Import", "Importing", "read_creation", "record", "tool_named"]


def read_creation() -> Program[Creation]:
    """Answer the scripts that make the live schema, without what tools keep for themselves."""
    hidden = yield from foreign.bookkeeping()
    live = yield from read_schema()
    schema = Schema(tuple(o for o in live.objects if o.owner not in hidden))
    return creation(schema, (yield from read_parents()))


class Importing:
    """One import: `look` reads, judges and proves, whenever and under whatever lock it is asked.

    `version` is for tools whose migrations are program code; without it the schema tells which it
    is. Without `replayed` the schema has to prove nothing.
    """

    def __init__(
        self,
        tool: Tool,
        catalogue: Catalogue,
        rules: Rules,
        version: int | None,
        replayed: Replayed | None,
    ) -> None:
        self._tool = tool
        self._catalogue = catalogue
        self._rules = rules
        self._version = version
        self._replayed = replayed
        self._now = int(time())
        if version is not None and tool.naming.is_ours:
            raise InvalidTarget(version, f"not for you to say: {tool.name} knows its versions")

    def look(self) -> Program[Import | None]:
        """Answer what is to be recorded; None: all of it is recorded already.

        Raises `ImportRefused`, `InvalidTarget`, `NotProven` and `AdoptionRefused`.
        """
        tool, found = self._tool, (yield from foreign.read(self._tool))
        judge(tool.name, tool.naming, found.rows)
        plan.judge(self._catalogue, found.history.applied, self._rules)
        entries = yield from self._meant(found)
        entries = unrecorded(tool.name, entries, found.history.applied)
        if not entries:
            return None
        if self._replayed:
            what = f"the history of {tool.name} cannot be imported"
            yield from self._replayed.demand(len(entries), what)
        renamed = (found.table, tool.aside) if found.is_in_our_place else None
        return Import(tool.name, records(tool.naming, found.rows, entries, self._now), renamed)

    def _meant(self, found: Found) -> Program[Sequence[Entry]]:
        tool, entries = self._tool, tuple(self._catalogue)
        if tool.naming.is_ours:
            return meant(tool.name, tool.naming, found.rows, entries)
        if self._version is not None:
            return plan.unmarked(self._catalogue, (), self._version, self._rules)
        if found.history.applied:
            return ()
        if self._replayed is None:
            return entries
        fitting = self._replayed.fitting((yield from read_schema()))
        if fitting is None:
            raise ImportRefused(tool.name, "nothing of what our migrations make is there")
        return fitting
