"""What applying costs inside a process, and the check that there is nothing to apply.

The limit is that of `limit.py`. Opening, the switch to WAL and closing belong to every figure.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import aiosqlite
import limit
from contestants import ENGINE, LIMIT
from results import Results
from rows import PREFIX
from workloads import Workload, generated

from wave_async import Migration, MigrationManager, SingleConnectionPool

APPLY, CHECK = "apply", "up to date?"
SELECT = "one aiosqlite SELECT"
TIMES = 200


def as_migrations(workload: Workload) -> list[Migration]:
    """Return a workload as the engine takes it."""
    return [Migration(s.version, s.name, s.script, s.back) for s in workload.steps]


async def engine(path: Path, migrations: list[Migration], *, log: bool = True) -> None:
    """Apply everything with the engine."""
    async with SingleConnectionPool(path) as pool:
        done = await MigrationManager(pool, migrations, log=log).migrate_up()
        assert len(done.steps) == len(migrations)


def timed(job: Callable[[Path], object]) -> float:
    """Return how many seconds a job takes on a fresh database."""
    with TemporaryDirectory(prefix=PREFIX) as folder:
        start = time.perf_counter()
        job(Path(folder, "app.db"))
        return time.perf_counter() - start


def in_turn(jobs: Mapping[str, Callable[[Path], object]], rounds: int) -> dict[str, list[float]]:
    """Return how long each job takes on a fresh database, after a round that warms up."""
    took: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(-1, rounds):
        for name, job in jobs.items():
            seconds = timed(job)
            if number >= 0:
                took[name].append(seconds)
    return took


def apply(results: Results, workload: Workload, rounds: int) -> None:
    """Measure how long all of a workload takes."""
    print(f"  {APPLY}: {workload.name}", flush=True)
    migrations = as_migrations(workload)
    scripts = {step.version: step.script for step in workload.steps}
    jobs: dict[str, Callable[[Path], object]] = {
        LIMIT: lambda path: limit.up(path, scripts),
        ENGINE: lambda path: asyncio.run(engine(path, migrations)),
    }
    for name, values in in_turn(jobs, rounds).items():
        results.add(APPLY, workload.name, name, "s", values)


async def awaited(call: Callable[[], Awaitable[object]]) -> float:
    """Return how many seconds a call takes."""
    start = time.perf_counter()
    await call()
    return time.perf_counter() - start


async def check(results: Results, workload: Workload, rounds: int) -> None:
    """Measure the check of a warm process beside one SELECT, call by call in turn."""
    print(f"  {CHECK} {workload.name}", flush=True)
    with TemporaryDirectory(prefix=PREFIX) as folder:
        path = Path(folder, "app.db")
        async with SingleConnectionPool(path) as pool, aiosqlite.connect(path) as plain:
            manager = MigrationManager(pool, as_migrations(workload))
            await manager.migrate_up()

            async def select() -> None:
                async with plain.execute("SELECT max(version) FROM schema_migrations") as cursor:
                    await cursor.fetchone()

            checks, selects = [], []
            for _ in range(rounds):
                pairs = [
                    (await awaited(manager.migrate_up), await awaited(select)) for _ in range(TIMES)
                ]
                checks.append(statistics.median(check for check, _ in pairs))
                selects.append(statistics.median(select for _, select in pairs))
    results.add(CHECK, workload.name, ENGINE, "s", checks)
    results.add(CHECK, workload.name, SELECT, "s", selects)


def measure(rounds: int, workloads: Sequence[Workload], known: Sequence[int]) -> Results:
    """Take all figures of one process."""
    results = Results()
    for workload in workloads:
        apply(results, workload, rounds)
    # On one processor: whether the loop's thread and the connection's wake each other across two
    # changes a hop by a factor of three from one moment to the next.
    everywhere = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    if everywhere:
        os.sched_setaffinity(0, {min(everywhere)})
    try:
        for count in known:
            asyncio.run(check(results, generated(count), rounds))
    finally:
        if everywhere:
            os.sched_setaffinity(0, everywhere)
    return results
