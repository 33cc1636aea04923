"""Many databases, some at a time, each by a manager of its own.

Knows managers and pools; knows neither SQL nor processes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
)
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from glob import iglob
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, Unpack

from wave_async.database.connection import SingleConnectionPool
from wave_async.database.question import Setup
from wave_async.errors import DatabaseUnusable, RehearsalFailed
from wave_async.manager import MigrationManager
from wave_async.model.events import Event, Hook
from wave_async.model.fleet import FileResult, Outcome, Tally
from wave_async.model.migration import Migration
from wave_async.model.plan import State

if TYPE_CHECKING:
    from wave_async.model.schema import Schema
    from wave_async.safety.policy import SnapshotPolicy

Name: TypeAlias = str | os.PathLike[str]
Paths: TypeAlias = str | Iterable[Name] | AsyncIterable[Name]
"""A pattern as of `glob`, with `**`; or paths."""

LIMIT = 8
_LISTED_AT_ONCE = 256


class Options(TypedDict, total=False):
    """What every operation on a fleet takes; all but the first four as `MigrationManager` does."""

    limit: int
    """How many files at a time: each has a thread and open files."""
    on_result: Callable[[FileResult], object] | None
    """Hears each result as it comes, on the event loop; what it raises ends the operation."""
    fingerprint: bool
    """Whether results have the fingerprint of the schema."""
    setup: Setup | None
    """Prepares each connection, as in `SingleConnectionPool`."""
    max_version: int
    validate_checksums: bool
    allow_out_of_order: bool
    log: bool
    lock_timeout: float
    statement_timeout: float | None
    on_event: Callable[[Event], None] | None
    snapshots: SnapshotPolicy | None
    before: Hook | None


@dataclass(frozen=True, slots=True)
class _Did:
    """What was done to a file: the versions that it has applied, and how many it would apply."""

    outcome: Outcome
    applied: Collection[int] = ()
    due: int = 0
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a file says of itself afterwards, as far as it could be read."""

    versions: frozenset[int] | None = None
    schema: Schema | None = None


_Operation: TypeAlias = Callable[[MigrationManager], Awaitable[_Did]]


async def migrate_many(
    paths: Paths,
    migrations: Iterable[Migration],
    *,
    target: int | None = None,
    **options: Unpack[Options],
) -> Tally:
    """Apply what is pending in every file, up to `target`, some files at a time.

    A file that fails is a result as any other, and does not stop the others; one that is not there
    fails, and stays missing. It may be run again at any time, also by several at once. Cancelled,
    what runs is rolled back, and every file is left after a whole migration.

    Returns the results counted; `on_result` hears each. The memory that it takes depends on `limit`
    and not on the number of files. Raises `DefinitionError` and `InvalidTarget` before it opens a
    file, and what `paths` and `on_result` raise.
    """
    return await _over(paths, migrations, partial(_migrate, target), target, options)


async def status_many(
    paths: Paths, migrations: Iterable[Migration], **options: Unpack[Options]
) -> Tally:
    """Look whether every file is up to date; as `migrate_many`, but nothing is written."""
    return await _over(paths, migrations, _status, None, options)


async def validate_many(
    paths: Paths,
    migrations: Iterable[Migration],
    *,
    strict: bool = False,
    **options: Unpack[Options],
) -> Tally:
    """Compare the history and the schema of every file with the migrations; nothing is written.

    As `MigrationManager.validate` does, and otherwise as `migrate_many`.
    """
    return await _over(paths, migrations, partial(_validate, strict), None, options)


async def plan_many(
    paths: Paths,
    migrations: Iterable[Migration],
    *,
    target: int | None = None,
    **options: Unpack[Options],
) -> Tally:
    """Find out for every file what `migrate_many` would apply, or refuse; nothing is written."""
    return await _over(paths, migrations, partial(_plan, target), target, options)


async def rehearse_many(
    paths: Paths,
    migrations: Iterable[Migration],
    *,
    target: int | None = None,
    **options: Unpack[Options],
) -> Tally:
    """Try `migrate_many` on a private copy of every file; as `MigrationManager.rehearse_up`."""
    return await _over(paths, migrations, partial(_rehearse, target), target, options)


async def _migrate(target: int | None, manager: MigrationManager) -> _Did:
    done = await manager.migrate_up(target)
    versions = {step.version for step in (*done.adopted, *done.steps)}
    return _Did(Outcome.MIGRATED if done else Outcome.CURRENT, versions, len(versions))


async def _status(manager: MigrationManager) -> _Did:
    found = await manager.status()
    if any(m.state is State.UNKNOWN for m in found.migrations):
        return _Did(Outcome.UNKNOWN, due=len(found.due))
    return _Did(Outcome.PENDING if found.due else Outcome.CURRENT, due=len(found.due))


async def _validate(strict: bool, manager: MigrationManager) -> _Did:  # noqa: FBT001 - bound at once
    return _Did(Outcome.VALID if await manager.validate(strict=strict) else Outcome.SKIPPED)


async def _plan(target: int | None, manager: MigrationManager) -> _Did:
    planned = await manager.plan_up(target)
    due = len(planned.adopted) + len(planned.steps)
    return _Did(Outcome.PENDING if planned else Outcome.CURRENT, due=due)


async def _rehearse(target: int | None, manager: MigrationManager) -> _Did:
    found = await manager.rehearse_up(target)
    if not found.ok:
        problems = (found.failure, found.violations, *found.damage)
        raise RehearsalFailed("; ".join(filter(None, problems)))
    return _Did(Outcome.REHEARSED, due=len(found.steps))


async def _over(
    paths: Paths,
    migrations: Iterable[Migration],
    operate: _Operation,
    target: int | None,
    options: Options,
) -> Tally:
    """Do something to every file; a bad list of migrations is found out on an empty database."""
    rest: dict[str, Any] = dict(options)
    limit = rest.pop("limit", LIMIT)
    on_result = rest.pop("on_result", None)
    fingerprint = rest.pop("fingerprint", False)
    setup = rest.pop("setup", None)
    if limit < 1:
        raise ValueError(f"limit={limit}: at least one file at a time")
    tally = Tally()
    async with SingleConnectionPool(":memory:", setup=setup) as nothing:
        model = MigrationManager(nothing, migrations, **rest)
        await model.plan_up(target)
    file = partial(_file, model, operate, fingerprint=fingerprint)

    async def work() -> None:
        async for path in names:
            result = await file(path)
            tally.add(result)
            if on_result is not None:
                on_result(result)

    names = _Shared(_listed(paths))
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(limit):
                group.create_task(work())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return tally


async def _file(
    model: MigrationManager, operate: _Operation, path: str, *, fingerprint: bool
) -> FileResult:
    """Do something to one file, and look what it records afterwards."""
    since = monotonic()
    did, seen = _Did(Outcome.CURRENT), _Seen()
    try:
        async with SingleConnectionPool(path, setup=model.pool.setup) as pool:
            _require(pool.path)
            manager = model.for_pool(pool)
            did = await _attempted(operate, manager)
            seen = await _seen(manager, fingerprint=fingerprint)
    except Exception as error:  # noqa: BLE001 - the result tells what failed first
        did = replace(did, outcome=Outcome.FAILED, error=did.error or error)
    return FileResult(
        path,
        did.outcome,
        before=None if seen.versions is None else max(seen.versions - set(did.applied), default=0),
        after=None if seen.versions is None else max(seen.versions, default=0),
        steps=did.due,
        seconds=monotonic() - since,
        error=None if did.error is None else type(did.error).__name__,
        message=None if did.error is None else str(did.error),
        fingerprint=None if seen.schema is None else _fingerprint(seen.schema),
    )


def _require(path: str) -> None:
    """Raise for a file that is not there: a tenant that is gone must not come back empty."""
    if not Path(path).exists():
        raise DatabaseUnusable(path, "there is no such file")


async def _attempted(operate: _Operation, manager: MigrationManager) -> _Did:
    try:
        return await operate(manager)
    except Exception as error:  # noqa: BLE001 - the result tells it
        applied = getattr(error, "done", ())
        return _Did(Outcome.FAILED, applied, len(applied), error)


async def _seen(manager: MigrationManager, *, fingerprint: bool) -> _Seen:
    if not fingerprint:
        return _Seen(frozenset(row.version for row in await manager.applied()))
    applied, schema = await manager.applied_and_schema()
    return _Seen(frozenset(row.version for row in applied), schema)


@lru_cache(maxsize=64)
def _fingerprint(schema: Schema) -> str:
    return schema.fingerprint


class _Shared:
    """One iterator that several tasks take from, each item once."""

    def __init__(self, paths: AsyncIterator[str]) -> None:
        self._paths = paths
        self._turn = asyncio.Lock()

    def __aiter__(self) -> _Shared:
        return self

    async def __anext__(self) -> str:
        async with self._turn:
            return await anext(self._paths)


async def _listed(paths: Paths) -> AsyncIterator[str]:
    """Yield paths as they are found; a pattern is followed on a thread, some files at a time."""
    if isinstance(paths, AsyncIterable):
        async for path in paths:
            yield os.fspath(path)
    elif isinstance(paths, str):
        found = iglob(paths, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute ones
        while batch := await asyncio.to_thread(lambda: list(islice(found, _LISTED_AT_ONCE))):
            for path in batch:
                yield path
    else:
        for path in paths:
            yield os.fspath(path)
