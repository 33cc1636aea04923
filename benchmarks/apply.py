"""What applying costs: the engine beside the least that the job needs, in turn, in one run.

The limit is stdlib sqlite3 with the same durability (WAL, synchronous FULL): one BEGIN IMMEDIATE ..
COMMIT per migration, the pending list read again under the lock, and its row. Opening, the switch
to WAL and closing belong to every figure. Run it with `python benchmarks/apply.py [ROUNDS]`.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiosqlite

from wave_async import Migration, MigrationManager, SingleConnectionPool
from wave_async.database.history import CREATE


def generated(count: int) -> list[Migration]:
    return [
        Migration(
            n,
            f"Add table {n}",
            f"CREATE TABLE t{n} (id INTEGER PRIMARY KEY, name TEXT NOT NULL);\n"
            f"CREATE INDEX i{n} ON t{n} (name);\n",
            f"DROP TABLE t{n};\n",
        )
        for n in range(1, count + 1)
    ]


def limit(path: Path, migrations: list[Migration]) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(CREATE)
    for migration in migrations:
        connection.execute("BEGIN IMMEDIATE")
        applied = connection.execute("SELECT version FROM schema_migrations").fetchall()
        assert len(applied) == migration.version - 1
        for statement in str(migration.up).split(";\n")[:-1]:
            connection.execute(statement)
        connection.execute(
            "INSERT INTO schema_migrations VALUES (?, ?, ?, ?)",
            (migration.version, migration.description, int(time.time()), "x" * 132),
        )
        connection.execute("COMMIT")
    connection.close()


async def engine(path: Path, migrations: list[Migration]) -> None:
    async with SingleConnectionPool(path) as pool:
        done = await MigrationManager(pool, migrations).migrate_up()
        assert len(done.steps) == len(migrations)


def timed(job: Callable[[], object]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def apply(rounds: int, count: int) -> None:
    migrations = generated(count)
    seconds: dict[str, list[float]] = {"limit": [], "engine": []}
    for number in range(rounds + 1):  # the first round warms up
        with tempfile.TemporaryDirectory() as folder:
            found = {
                "limit": timed(lambda: limit(Path(folder, "limit.db"), migrations)),
                "engine": timed(lambda: asyncio.run(engine(Path(folder, "engine.db"), migrations))),
            }
        if number:
            for name, took in found.items():
                seconds[name].append(took)
    print(f"\napply {count} migrations, {rounds} rounds in turn")
    for name, values in seconds.items():
        low, high = min(values), max(values)
        print(f"  {name:8} median {statistics.median(values):7.3f} s  ({low:.3f} .. {high:.3f})")
    report(
        "engine / limit",
        [e / n for e, n in zip(seconds["engine"], seconds["limit"], strict=True)],
        1.3,
    )


def report(name: str, ratios: list[float], target: float) -> None:
    middle = statistics.median(ratios)
    verdict = "met" if middle <= target else "MISSED"
    spread = f"({min(ratios):.2f} .. {max(ratios):.2f})"
    print(f"  {name}: {middle:.2f} {spread}, target {target}: {verdict}")


async def awaited(call: Callable[[], Awaitable[object]]) -> float:
    start = time.perf_counter()
    await call()
    return time.perf_counter() - start


async def up_to_date(rounds: int, count: int, times: int = 300) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "check.db")
        async with SingleConnectionPool(path) as pool, aiosqlite.connect(path) as plain:
            manager = MigrationManager(pool, generated(count))
            await manager.migrate_up()

            async def select() -> None:
                async with plain.execute("SELECT max(version) FROM schema_migrations") as cursor:
                    await cursor.fetchone()

            checks, selects = [], []
            for _ in range(rounds):
                pairs = [
                    (await awaited(manager.migrate_up), await awaited(select)) for _ in range(times)
                ]
                checks.append(statistics.median(check for check, _ in pairs))
                selects.append(statistics.median(select for _, select in pairs))
    print(f"\nup to date, {count} known, {rounds} rounds of {times} in turn")
    print(f"  one aiosqlite SELECT {statistics.median(selects) * 1e6:6.0f} us")
    print(f"  migrate_up           {statistics.median(checks) * 1e6:6.0f} us")
    report("check / SELECT", [c / s for c, s in zip(checks, selects, strict=True)], 1.5)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    print(
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {platform.machine()}"
    )
    apply(rounds, 1000)
    # On one processor: whether the loop's thread and the connection's wake each other across two
    # changes a hop by a factor of three from one moment to the next.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for count in (10, 1000):
        asyncio.run(up_to_date(rounds, count))


if __name__ == "__main__":
    main()
