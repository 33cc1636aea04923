"""Runs a plan on a stage, a copy of the database, and compares it with before.

Knows no manager: what runs the plan, and what goes back, is handed in.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from os import PathLike
from pathlib import Path
from tempfile import gettempdir
from time import monotonic
from typing import NamedTuple

from wave_async.database import files, history, keys
from wave_async.database.connection import LOCK_TIMEOUT
from wave_async.database.history import History
from wave_async.database.pool import Pool, Remote, open_copy
from wave_async.database.requests import Execute, Program, Query, attempt
from wave_async.database.schema import read_schema
from wave_async.database.walk import consistently
from wave_async.errors import (
    DumpTooLarge,
    KeysViolated,
    MigrationFailed,
    NoSpace,
    PlanError,
    byte_size,
)
from wave_async.model.difference import Difference, differences
from wave_async.model.events import Event, StepFinished, StepStarted
from wave_async.model.migration import Step
from wave_async.model.rehearsal import Rehearsal, row_changes
from wave_async.model.schema import Schema
from wave_async.model.script import quoted_name
from wave_async.safety.copies import copying, private_directory
from wave_async.safety.effects import clone

LARGEST_COPY = 2**30
"""A database of more bytes is rehearsed on without its rows, unless asked for."""

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


@asynccontextmanager
async def stage(
    pool: Pool,
    *,
    schema_only: bool | None,
    directory: str | PathLike[str] | None,
    patience: float = LOCK_TIMEOUT,
) -> AsyncIterator[tuple[Pool, str]]:
    """Open a private copy of a database; yields it and why it has no rows, if it has none.

    It lies in a directory of its own, which only this user may enter and which is gone afterwards;
    what a crashed run has left there is removed.
    """
    why = _why_without_rows(pool, schema_only=schema_only)
    name = Path(pool.path).name
    parent = Path(directory or (Path(pool.file).parent if pool.file else gettempdir()))
    if not why and (pool.file is None or files.check(pool.file)):
        with private_directory(parent, f".{name}.rehearsal-") as place:
            copy = place / name
            try:
                await _copied(pool, copy, patience)
            except (DumpTooLarge, NoSpace) as error:
                if schema_only is False:
                    raise
                why = error.sentence()
            else:
                async with open_copy(pool, copy) as copied:
                    yield copied, ""
                return
    async with open_copy(pool, files.MEMORY) as empty:
        schema, applied = await pool.ask(partial(consistently, _outline), patience=patience)
        await empty.run(partial(_rebuilt, schema, applied))
        yield empty, why


async def _copied(pool: Pool, target: Path, patience: float) -> None:
    if isinstance(pool, Remote):
        await pool.dump(target, patience=patience)
    else:
        await pool.ask(partial(copying, target, pool.setup), patience=patience)


def _why_without_rows(pool: Pool, *, schema_only: bool | None) -> str:
    if schema_only:
        return "asked for"
    if pool.path == files.MEMORY:
        return "a database in memory is not copied"
    if schema_only is None and pool.file and files.size(pool.file) > LARGEST_COPY:
        return f"the database is larger than {byte_size(LARGEST_COPY)}"
    return ""


def _outline() -> Program[tuple[Schema, History]]:
    found = yield from history.read()
    return (yield from read_schema()), found


async def rehearse(
    stage: Pool, act: Act, back: Act | None, watch: Stopwatch, schema_only: str
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
        rows=row_changes(before.rows, after.rows),
        violations=await stage.ask(partial(_violated_since, before.violations)),
        damage=await stage.ask(_damage),
        back=None if failure or back is None else await _not_restored(stage, back, before.schema),
        schema_only=schema_only,
    )


def _rebuilt(schema: Schema, found: History) -> Program[None]:
    """Make a schema without rows, and its history where there is one."""
    yield from clone(schema)
    if found.tracked:
        yield Execute(history.CREATE)
    for row in found.applied:
        values = row.version, row.description, row.applied_at, row.checksum
        yield Execute(history.RESTORE, values)


async def _not_restored(stage: Pool, back: Act, before: Schema) -> tuple[Difference, ...] | None:
    try:
        await back()
    except (PlanError, MigrationFailed):
        return None
    return tuple(differences(before, await stage.ask(read_schema)))


def _facts() -> Program[Facts]:
    schema = yield from read_schema()
    rows: dict[str, int] = {}
    for table in (o.name for o in schema.objects if o.type == "table"):
        counted = yield from attempt(Query(f"SELECT count(*) FROM main.{quoted_name(table)}"))
        if not isinstance(counted, sqlite3.Error):  # of an extension that is not loaded
            ((rows[table],),) = counted
    return Facts(schema, rows, (yield from keys.violations()))


def _violated_since(before: keys.Violations) -> Program[str]:
    try:
        yield from keys.check(before)
    except KeysViolated as error:
        return error.sentence()
    except sqlite3.OperationalError as error:  # a key that does not fit its parent
        return str(error)
    return ""


def _damage() -> Program[tuple[str, ...]]:
    found = yield Query("PRAGMA main.integrity_check")
    return tuple(line for (line,) in found if line != "ok")
