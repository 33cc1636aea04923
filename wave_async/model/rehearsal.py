"""What a rehearsal found out, on a copy of the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wave_async.model.difference import Difference
from wave_async.model.migration import Step


@dataclass(frozen=True, slots=True)
class RowChange:
    """How many rows a table had and has; None where there was or is no such table."""

    table: str
    before: int | None
    after: int | None


def row_changes(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[RowChange, ...]:
    """Return the tables, by name, whose rows are not as many as they were."""
    return tuple(
        RowChange(table, before.get(table), after.get(table))
        for table in sorted({*before, *after})
        if before.get(table) != after.get(table)
    )


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A plan that was run on a copy, by the engine that would run it on the database.

    `times` are in seconds, of the steps that ended well; `failure` is why one did not. `changes`
    are the differences of the schema afterwards from the one before, `violations` the foreign keys
    that have lost their rows, `damage` what an integrity check found. `back` says in what going
    back does not restore the schema; it is None where there is no way back. `schema_only` is why
    the copy had no rows, if it had none.
    """

    steps: tuple[Step, ...]
    times: tuple[float, ...]
    failure: str
    changes: tuple[Difference, ...]
    rows: tuple[RowChange, ...]
    violations: str
    damage: tuple[str, ...]
    back: tuple[Difference, ...] | None
    schema_only: str = ""

    @property
    def ok(self) -> bool:
        """Whether the plan may be run: it ended, and broke nothing."""
        return not (self.failure or self.violations or self.damage)
