"""Runs a plan on a stage, a copy of the database, and compares it with before.

Knows no manager: what runs the plan, and what goes back, is handed in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic

from wave_async.database import history, keys
from wave_async.database.connection import SingleConnectionPool
from wave_async.database.requests import Execute, Program, Query, Rollback
from wave_async.database.schema import read_schema
from wave_async.errors import MigrationFailed, PlanError
from wave_async.model.difference import differences
from wave_async.model.events import Event, StepFinished, StepStarted
from wave_async.model.migration import AppliedMigration, Step
from wave_async.model.rehearsal import Rehearsal, RowChange
from wave_async.model.schema import Schema
from wave_async.safety.effects import clone

Act = Callable[[], Awaitable[object]]

_TABLES = """SELECT name FROM pragma_table_list
    WHERE schema = 'main' AND type IN ('table', 'virtual') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
        AND name NOT IN ('schema_migrations', 'schema_migrations_log') ORDER BY name"""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is compared: the schema, the rows counted by table, and the violated keys."""

    schema: Schema
    rows: dict[str, int]
    violations: keys.Violations


class Stopwatch:
    """Listens to the events of a run, and notes the steps and how long each took."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.times: list[float] = []
        self._started = 0.0

    def hear(self, event: Event) -> None:
        """Note an event."""
        match event:
            case StepStarted(step):
                self.steps.append(step)
                self._started = monotonic()
            case StepFinished():
                self.times.append(monotonic() - self._started)


async def rehearse(
    stage: SingleConnectionPool, act: Act, back: Act, watch: Stopwatch, schema_only: str
) -> Rehearsal:
    """Run a plan on a stage, look at what it did, and go back where there is a way."""
    before = await stage.ask(facts)
    failure = ""
    try:
        await act()
    except MigrationFailed as error:
        failure = str(error)
    steps, times = tuple(watch.steps), tuple(watch.times)
    after = await stage.ask(facts)
    restored = None if failure else await _restored(stage, back, before.schema)
    return Rehearsal(
        steps=steps,
        times=times,
        failure=failure,
        changes=tuple(differences(before.schema, after.schema)),
        rows=_row_changes(before.rows, after.rows),
        violations=keys.told(keys.more(before.violations, after.violations)),
        damage=await stage.ask(_damage),
        back=restored,
        schema_only=schema_only,
    )


async def _restored(stage: SingleConnectionPool, back: Act, before: Schema):
    try:
        await back()
    except (PlanError, MigrationFailed):
        return None
    return tuple(differences(before, await stage.ask(read_schema)))
