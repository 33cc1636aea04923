"""Runs a plan on a stage, a copy of the database, and compares it with before.

Knows no manager: what runs the plan, and what goes back, is handed in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import NamedTuple

from wave_async.database import history, keys
from wave_async.database.connection import SingleConnectionPool
from wave_async.database.requests import Execute, Program, Query
from wave_async.database.schema import read_schema
from wave_async.errors import KeysViolated, MigrationFailed, PlanError
from wave_async.model.difference import Difference, differences
from wave_async.model.events import Event, StepFinished, StepStarted
from wave_async.model.migration import AppliedMigration, Step
from wave_async.model.rehearsal import Rehearsal, RowChange
from wave_async.model.schema import Schema
from wave_async.safety.effects import clone

Act = Callable[[], Awaitable[object]]


class Facts(NamedTuple):
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
    before = await stage.ask(_facts)
    failure = ""
    try:
        await act()
    except MigrationFailed as error:
        failure = str(error)
    steps, times = tuple(watch.steps), tuple(watch.times)
    after = await stage.ask(_facts)
    return Rehearsal(
        steps=steps,
        times=times,
        failure=failure,
        changes=tuple(differences(before.schema, after.schema)),
        rows=tuple(_changed(before.rows, after.rows)),
        violations=await stage.ask(partial(_violated_since, before.violations)),
        damage=await stage.ask(_damage),
        back=None if failure else await _not_restored(stage, back, before.schema),
        schema_only=schema_only,
    )


def stage_of(schema: Schema, applied: Sequence[AppliedMigration] | None) -> Program[None]:
    """Make a stage without rows: the schema, and the history where there is one."""
    yield from clone(schema)
    if applied is None:
        return
    yield Execute(history.CREATE)
    for row in applied:
        values = row.version, row.description, row.applied_at, row.checksum
        yield Execute(history.RESTORE, values)


async def _not_restored(
    stage: SingleConnectionPool, back: Act, before: Schema
) -> tuple[Difference, ...] | None:
    try:
        await back()
    except (PlanError, MigrationFailed):
        return None
    return tuple(differences(before, await stage.ask(read_schema)))


def _facts() -> Program[Facts]:
    schema = yield from read_schema()
    rows: dict[str, int] = {}
    for table in (o.name for o in schema.objects if o.type == "table"):
        ((rows[table],),) = yield Query(f"SELECT count(*) FROM main.{keys.quoted(table)}")
    return Facts(schema, rows, (yield from keys.violations()))


def _changed(before: Mapping[str, int], after: Mapping[str, int]) -> Iterator[RowChange]:
    for table in sorted({*before, *after}):
        change = RowChange(table, before.get(table), after.get(table))
        if change.before != change.after:
            yield change


def _violated_since(before: keys.Violations) -> Program[str]:
    try:
        yield from keys.check(before)
    except KeysViolated as error:
        return error.sentence()
    return ""


def _damage() -> Program[tuple[str, ...]]:
    found = yield Query("PRAGMA main.integrity_check")
    return tuple(line for (line,) in found if line != "ok")
