"""Many tasks of one process awaiting one manager, and the application's queries among them.

The limit is a bare `asyncio.Lock` around one aiosqlite SELECT for each task.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import aiosqlite
from race import percentile
from results import Results
from rows import PREFIX
from workloads import generated

from wave_async import Migration, MigrationManager, SingleConnectionPool

FRESH, DONE, LOCK = "wave, fresh", "wave, up to date", "bare lock"
MIXED, QUERIES = "wave, among queries", "queries among it"
TICK = 0.001
KNOWN = 10
MIGRATIONS = [
    Migration(step.version, step.name, step.script, step.back) for step in generated(KNOWN).steps
]


@dataclass
class Crowd:
    """When each task came to its end, in seconds from the start, and how the loop felt."""

    ends: dict[int, float] = field(default_factory=dict)
    gap: float = 0.0

    def every_second(self, first: int) -> Crowd:
        """Return the tasks of one kind, where two kinds took turns."""
        return Crowd({n: end for n, end in self.ends.items() if n % 2 == first}, self.gap)

    @property
    def order(self) -> float:
        """The share of neighbours that ended in the order in which they asked; 1 is fair."""
        asked = [self.ends[number] for number in sorted(self.ends)]
        pairs = list(pairwise(asked))
        return sum(first <= second for first, second in pairs) / len(pairs) if pairs else 1.0


@asynccontextmanager
async def ticking(crowd: Crowd) -> AsyncIterator[None]:
    """Note the longest time for which the event loop let nobody else run."""

    async def tick() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(TICK)
            crowd.gap = max(crowd.gap, time.perf_counter() - before - TICK)

    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0)
    yield
    ticker.cancel()


async def awaited(calls: Sequence[Callable[[], Awaitable[object]]]) -> Crowd:
    """Start all calls at once and await them."""
    crowd = Crowd()

    async def one(number: int, call: Callable[[], Awaitable[object]]) -> None:
        await call()
        crowd.ends[number] = time.perf_counter() - start

    async with ticking(crowd):
        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number, call in enumerate(calls):
                group.create_task(one(number, call))
        await asyncio.sleep(2 * TICK)
    return crowd


async def bare_lock(path: Path, tasks: int) -> Crowd:
    """Let tasks select from one connection behind one lock."""
    lock = asyncio.Lock()
    async with aiosqlite.connect(path) as connection:

        async def select() -> None:
            async with lock, connection.execute("SELECT count(*) FROM sqlite_schema") as cursor:
                await cursor.fetchone()

        return await awaited([select] * tasks)


async def fresh(path: Path, tasks: int) -> Crowd:
    """Let tasks migrate a database that nothing is applied of."""
    async with SingleConnectionPool(path) as pool:
        return await awaited([MigrationManager(pool, MIGRATIONS).migrate_up] * tasks)


async def up_to_date(path: Path, tasks: int) -> Crowd:
    """Let tasks migrate a database that has everything."""
    async with SingleConnectionPool(path) as pool:
        manager = MigrationManager(pool, MIGRATIONS)
        await manager.migrate_up()
        return await awaited([manager.migrate_up] * tasks)


async def mixed(path: Path, tasks: int) -> Crowd:
    """Let every second task query on the same pool."""
    async with SingleConnectionPool(path) as pool:
        manager = MigrationManager(pool, MIGRATIONS)

        async def query() -> None:
            async with (
                pool.acquire() as connection,
                connection.execute("SELECT count(*) FROM sqlite_schema") as cursor,
            ):
                await cursor.fetchone()

        calls: list[Callable[[], Awaitable[object]]] = [manager.migrate_up, query]
        return await awaited([calls[number % 2] for number in range(tasks)])


ROWS = {LOCK: bare_lock, DONE: up_to_date, FRESH: fresh, MIXED: mixed}


def measure(rounds: int, crowds: Sequence[int]) -> Results:
    """Measure every row with every number of tasks, in turn."""
    results = Results()
    for tasks in crowds:
        print(f"  {tasks:,} tasks", flush=True)
        found: dict[str, list[Crowd]] = {name: [] for name in ROWS}
        for number in range(-1, rounds):
            for name, job in ROWS.items():
                with TemporaryDirectory(prefix=PREFIX) as folder:
                    crowd = asyncio.run(job(Path(folder, "app.db"), tasks))
                if number >= 0:
                    found[name].append(crowd)
        if tasks > 1:
            both = found.pop(MIXED)
            found[MIXED] = [crowd.every_second(0) for crowd in both]
            found[QUERIES] = [crowd.every_second(1) for crowd in both]
        for name, all_rounds in found.items():
            record(results, name, all_rounds, f"{tasks:,} tasks")
    return results


def record(results: Results, name: str, found: Sequence[Crowd], about: str) -> None:
    """Add the figures of one row."""
    waits = [list(crowd.ends.values()) for crowd in found]
    for label, share in (("p50", 0.5), ("p99", 0.99), ("longest", 1.0)):
        results.add(f"wait {label}", about, name, "s", [percentile(w, share) for w in waits])
    results.add("in order", about, name, "", [crowd.order for crowd in found])
    results.add("event-loop gap", about, name, "s", [crowd.gap for crowd in found])
