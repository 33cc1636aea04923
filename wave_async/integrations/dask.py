"""Dask distributed: a fleet over several machines, as tasks of a cluster; `wave-async[dask]`.

Dask schedules, retries and shows; this makes batches of files, and values of what came of them.
Scheduler and workers need this package, too, of the same version.
"""

from __future__ import annotations

import asyncio
import io
import pickle
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import uuid4

from wave_async.database.waiting import to_its_end
from wave_async.errors import BatchLost, NotPortable, WaveError
from wave_async.fleet import Paths, listed, migrate_many, task_group
from wave_async.model.fleet import FileResult, Tally
from wave_async.model.migration import Migration
from wave_async.version import VERSION

if TYPE_CHECKING:
    from distributed import Client

Operation: TypeAlias = Callable[..., Awaitable[Tally]]
OnResult: TypeAlias = Callable[[FileResult], object]

BATCH = 16
AHEAD = 128
PATIENCE = 10
"""How many seconds workers may take to end what was cancelled."""


async def migrate_on(
    client: Client,
    files: Paths | Mapping[str, Paths],
    migrations: Iterable[Migration],
    *,
    operation: Operation = migrate_many,
    batch: int = BATCH,
    ahead: int = AHEAD,
    on_result: OnResult | None = None,
    **options: Any,
) -> Tally:
    """Do an operation on every file on the workers of a cluster, a Dask task for each batch.

    `files` are there for every worker; or a mapping says who has which: the host, the name or the
    address of a worker, and what only it is to touch. `operation` is one of those on a fleet, as
    `status_many`, and `options` are its own. Functions among them, and in the migrations, are
    called on the workers; only `on_result` is called here, with each result as its batch ends.

    Dask runs a batch again whose worker is lost; what it had done before is `current` then. A batch
    that Dask gives up is a failed result for each of its files. Each entry of a mapping has at most
    `ahead` batches with Dask, so that memory does not depend on the number of files. When it ends,
    also cancelled or by what `files` or `on_result` raise, nothing of it runs on any worker that
    can be reached, and every file is left after a whole migration.

    Needs a `Client(asynchronous=True)`, else raises `ValueError`. Raises what the operation does
    before it opens a file, and `NotPortable` for a function that workers could not import.
    """
    if not client.asynchronous:
        raise ValueError("migrate_on() needs a Client(asynchronous=True), awaited on this loop")
    if min(batch, ahead) < 1:
        raise ValueError(f"batch={batch}, ahead={ahead}: at least one at a time")
    migrations = tuple(migrations)
    tally = await operation((), migrations, **options)
    run = _Run(
        client, f"{operation.__name__}-{uuid4().hex}", _packed(operation, migrations, options)
    )

    async def work(worker: str | None, paths: list[str]) -> None:
        for result in await run.results(worker, paths):
            tally.add(result)
            if on_result is not None:
                on_result(result)

    async def feed(worker: str | None, paths: Paths) -> None:
        free = asyncio.Semaphore(ahead)
        async for some in _batches(paths, batch):
            await free.acquire()
            group.create_task(work(worker, some)).add_done_callback(lambda _: free.release())

    pinned: Mapping[Any, Paths] = files if isinstance(files, Mapping) else {None: files}
    try:
        async with task_group() as group:
            for worker, paths in pinned.items():
                group.create_task(feed(worker, paths))
    finally:
        await to_its_end(run.end())
    return tally


@dataclass(frozen=True, slots=True)
class _Run:
    """The tasks of one call, which Dask shows as one group."""

    client: Client
    name: str
    job: bytes
    numbers: count[int] = field(default_factory=count)

    async def results(self, worker: str | None, paths: list[str]) -> list[FileResult]:
        """Return what came of a batch, on any worker or on that one."""
        future = self.client.submit(
            partial(_work, self.name, VERSION, self.job, paths),
            key=(self.name, next(self.numbers)),
            workers=worker,
        )
        try:
            found: list[FileResult] = await future
        except Exception as error:  # noqa: BLE001 - of Dask, or of what the worker has installed
            ours = isinstance(error, WaveError)
            lost = error if ours else BatchLost(f"{type(error).__name__}: {error}")
            return [FileResult.lost(path, lost) for path in paths]
        finally:
            future.release()
        return found

    async def end(self) -> None:
        """Cancel what may still run, and wait for it; a worker that is gone is not waited for."""
        with suppress(Exception):
            async with asyncio.timeout(PATIENCE):
                await self.client.run(_end, self.name, on_error="ignore")


async def _batches(paths: Paths, size: int) -> AsyncIterator[list[str]]:
    some: list[str] = []
    async for path in listed(paths):
        some.append(path)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some


class _Packer(pickle.Pickler):
    """Refuses what another process could not import; functions are sent by their names."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, FunctionType | type):
            module = sys.modules.get(value.__module__)
            if module is None or module.__spec__ is None or module.__name__ == "__main__":
                raise pickle.PicklingError(f"{value.__module__!r} cannot be imported there")
        return NotImplemented


def _packed(*job: Any) -> bytes:
    packed = io.BytesIO()
    try:
        _Packer(packed).dump(job)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise NotPortable(str(error)) from error
    return packed.getvalue()


_ended: set[str] = set()
"""The runs that this worker is not to begin another batch of."""


async def _work(name: str, version: str, job: bytes, paths: list[str]) -> list[FileResult]:
    """Do a batch; this runs on a worker's event loop."""
    if version != VERSION:
        raise BatchLost(f"the worker has wave-async {VERSION}, who asks {version}")
    results: list[FileResult] = []
    if name not in _ended:
        operation, migrations, options = pickle.loads(job)  # noqa: S301 - from our own client
        work = operation(paths, migrations, on_result=results.append, **options)
        await asyncio.create_task(work, name=name)
    return results


async def _end(name: str) -> None:
    """Cancel the batches of a run on this worker, and wait until they are rolled back."""
    _ended.add(name)
    work = [task for task in asyncio.all_tasks() if task.get_name() == name]
    for task in work:
        task.cancel()
    await asyncio.gather(*work, return_exceptions=True)
