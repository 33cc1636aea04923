"""Many databases, some at a time, each by a manager of its own.

Knows managers and pools; knows neither SQL nor processes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from glob import glob, has_magic
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, Unpack

from wave_async.database.connection import SingleConnectionPool
from wave_async.database.driver import refuse_unrun
from wave_async.database.history import History
from wave_async.database.question import Setup
from wave_async.errors import DatabaseUnusable, RehearsalFailed, WaveError, printable
from wave_async.manager import MigrationManager
from wave_async.model.events import Event, Hook
from wave_async.model.fleet import FileResult, Outcome, Tally
from wave_async.model.migration import Migration
from wave_async.model.plan import Plan, State, current_version

if TYPE_CHECKING:
    from wave_async.model.schema import Schema
    from wave_async.safety.policy import SnapshotPolicy

Name: TypeAlias = str | os.PathLike[str]
Paths: TypeAlias = str | Iterable[Name] | AsyncIterable[Name]
"""A pattern as of `glob`, with `**`; or paths."""

LIMIT = 4
"""Enough to write while others wait for the disk; more threads only wait for each other."""


class Options(TypedDict, total=False):
    """What every operation on a fleet takes; all but the first four as `MigrationManager` does."""

    limit: int
    """How many files at a time: each has a thread and open files."""
    on_result: Callable[[FileResult], object] | None
    """Hears each result as it comes, on the event loop; what it raises ends the operation.

    It is a plain function: `TypeError` for one that would have to be awaited.
    """
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
    """What was done to a file, and how many migrations it applied or would apply."""

    outcome: Outcome
    due: int = 0
    error: Exception | None = None
    untouched: bool = False
    """Whether nothing was tried: the file is as it was found."""


@dataclass(frozen=True, slots=True)
class _Operation:
    """Does something to a database, given what it says before that."""

    do: Callable[[MigrationManager, History, Schema], Awaitable[_Did]]
    writes: bool = False


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
    and not on the number of files, but for the paths of a pattern, which are listed first. Raises
    `DefinitionError` and `InvalidTarget` before it opens a file, and what `paths` and `on_result`
    raise.
    """
    return await _over(
        paths, migrations, _Operation(partial(_migrate, target), writes=True), target, options
    )


async def status_many(
    paths: Paths, migrations: Iterable[Migration], **options: Unpack[Options]
) -> Tally:
    """Look whether every file is up to date; as `migrate_many`, but nothing is written."""
    return await _over(paths, migrations, _Operation(_status), None, options)


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
    return await _over(paths, migrations, _Operation(partial(_validate, strict)), None, options)


async def plan_many(
    paths: Paths,
    migrations: Iterable[Migration],
    *,
    target: int | None = None,
    **options: Unpack[Options],
) -> Tally:
    """Find out for every file what `migrate_many` would apply, or refuse; nothing is written."""
    return await _over(paths, migrations, _Operation(partial(_plan, target)), target, options)


async def rehearse_many(
    paths: Paths,
    migrations: Iterable[Migration],
    *,
    target: int | None = None,
    **options: Unpack[Options],
) -> Tally:
    """Try `migrate_many` on a private copy of every file; as `MigrationManager.rehearse_up`."""
    return await _over(paths, migrations, _Operation(partial(_rehearse, target)), target, options)


async def _migrate(
    target: int | None, manager: MigrationManager, found: History, _: Schema
) -> _Did:
    if not (found.populated or manager.due(found, target)):
        return _Did(Outcome.CURRENT, untouched=True)
    done = await manager.migrate_up(target, examined=found)
    return _Did(Outcome.MIGRATED if done else Outcome.CURRENT, _count(done))


async def _status(manager: MigrationManager, found: History, _: Schema) -> _Did:
    status = manager.status_of(found)
    if any(m.state is State.UNKNOWN for m in status.migrations):
        return _Did(Outcome.UNKNOWN, len(status.due))
    return _Did(Outcome.PENDING if status.due else Outcome.CURRENT, len(status.due))


async def _validate(strict: bool, manager: MigrationManager, found: History, live: Schema) -> _Did:  # noqa: FBT001 - bound at once
    if found.populated and not strict:
        return _Did(Outcome.SKIPPED)
    compared = await manager.compare(found, live, strict=strict)
    return _Did(Outcome.VALID if compared else Outcome.SKIPPED)


async def _plan(target: int | None, manager: MigrationManager, found: History, _: Schema) -> _Did:
    planned = await manager.plan_up(target) if found.populated else manager.due(found, target)
    return _Did(Outcome.PENDING if planned else Outcome.CURRENT, _count(planned))


async def _rehearse(target: int | None, manager: MigrationManager, *_: object) -> _Did:
    rehearsed = await manager.rehearse_up(target)
    if not rehearsed.ok:
        problems = (rehearsed.failure, rehearsed.violations, *rehearsed.damage)
        raise RehearsalFailed("; ".join(filter(None, problems)))
    return _Did(Outcome.REHEARSED, len(rehearsed.steps))


def _count(planned: Plan) -> int:
    return len(planned.adopted) + len(planned.steps)


async def _over(
    paths: Paths,
    migrations: Iterable[Migration],
    operation: _Operation,
    target: int | None,
    options: Options,
) -> Tally:
    """Do something to every file; a bad list of migrations is found out on an empty database."""
    rest: dict[str, Any] = dict(options)
    limit = rest.pop("limit", LIMIT)
    on_result = rest.pop("on_result", None)
    setup = rest.pop("setup", None)
    if limit < 1:
        raise ValueError(f"limit={limit}: at least one file at a time")
    tally = Tally()
    async with SingleConnectionPool(":memory:", setup=setup) as nothing:
        model = MigrationManager(nothing, migrations, **rest)
        await model.plan_up(target)

    async def work() -> None:
        async for path in names:
            result = await _file(model, operation, path)
            tally.add(result)
            if on_result is not None:
                refuse_unrun(on_result(result))

    names = _Shared(listed(paths))
    async with task_group() as group:
        for _ in range(limit):
            group.create_task(work())
    return tally


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """Open a group of tasks that raises what failed first in it, and no group of exceptions."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _file(model: MigrationManager, operation: _Operation, path: str) -> FileResult:
    """Do something to one file, and look what it says before and after."""
    since = monotonic()
    did = _Did(Outcome.FAILED)
    before = after = None
    try:
        async with SingleConnectionPool(_plain(path), setup=model.pool.setup) as pool:
            _require(pool.path)
            manager = model.for_pool(pool)
            before = await _examined(manager, writes=operation.writes)
            did = await _attempted(operation, manager, before)
            tried = operation.writes and not did.untouched
            after = await manager.examine() if tried else before
    except Exception as error:  # noqa: BLE001 - the result tells what failed first
        did = replace(did, outcome=Outcome.FAILED, error=did.error or error)
    return FileResult(
        path,
        did.outcome,
        before=_version(before),
        after=_version(after),
        steps=did.due,
        seconds=monotonic() - since,
        error=None if did.error is None else type(did.error).__name__,
        message=None if did.error is None else _sentence(did.error),
        fingerprint=None if after is None else _fingerprint(after[1]),
    )


def _plain(path: str) -> str:
    """Return a path that means a file, also one whose name would mean something else to a pool."""
    return str(Path(path).absolute()) if path else path


def _require(path: str) -> None:
    """Raise for a file that is not there: a tenant that is gone must not come back empty."""
    if not Path(path).exists():
        raise DatabaseUnusable(path, "there is no such file")


async def _examined(manager: MigrationManager, *, writes: bool) -> tuple[History, Schema]:
    """Look at a file; what a crash left in it is repaired where it is going to be written."""
    if writes:
        return await manager.recovering(manager.examine)
    return await manager.examine()


async def _attempted(
    operation: _Operation, manager: MigrationManager, before: tuple[History, Schema]
) -> _Did:
    try:
        return await operation.do(manager, *before)
    except Exception as error:  # noqa: BLE001 - the result tells it
        return _Did(Outcome.FAILED, len(getattr(error, "done", ())), error)


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, WaveError) else printable(str(error))


def _version(found: tuple[History, Schema] | None) -> int | None:
    return None if found is None else current_version(found[0].applied)


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


def matching(pattern: str) -> list[str]:
    """Return the files that a pattern matches, in order; a path means itself, there or not."""
    if os.path.lexists(pattern) or not has_magic(pattern):
        return [pattern]
    return sorted(glob(pattern, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute ones


async def listed(paths: Paths) -> AsyncIterator[str]:
    """Yield paths as they are found; those of a pattern are found first, on a thread.

    While files are open, a directory might not be opened, which `glob` takes for an empty one.
    """
    if isinstance(paths, AsyncIterable):
        async for path in paths:
            yield os.fspath(path)
    else:
        found = await asyncio.to_thread(matching, paths) if isinstance(paths, str) else paths
        for path in found:
            yield os.fspath(path)
