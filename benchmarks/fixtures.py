"""What a fresh, migrated database costs a test: a copy of one, beside running all migrations."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory, gettempdir
from time import perf_counter

from machine import described

from wave_async import Migration, MigrationManager, SingleConnectionPool
from wave_async.integrations.workshop import Workshop, apart

SIZES = (5, 100, 1000)


def main() -> None:
    """Print a line for each number of migrations."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    for name, value in described(gettempdir()).items():
        print(f"{name}: {value}")
    print("\nmigrations   first copy   each copy   migrating   ratio")
    for size in SIZES:
        with TemporaryDirectory() as folder:
            measure(Path(folder), size, rounds)


def measure(folder: Path, size: int, rounds: int) -> None:
    """Make databases both ways, in turn."""
    migrations = [
        Migration(n, f"Add t{n}", f"CREATE TABLE t{n} (x INTEGER);", f"DROP TABLE t{n};")
        for n in range(1, size + 1)
    ]
    paths = (folder / f"{number}.db" for number in count(1))
    templates = folder / "templates"
    templates.mkdir()
    workshop = Workshop({"migrations": migrations}, templates)
    first = timed(lambda: workshop.newest(next(paths)))
    copies, runs = [], []
    for _ in range(rounds):
        copies.append(timed(lambda: workshop.newest(next(paths))))
        runs.append(timed(partial(apart, partial(migrated, next(paths), migrations))))
    copy, run = median(copies), median(runs)
    print(f"{size:10,}{first:10.1f} ms{copy:9.2f} ms{run:9.1f} ms{run / copy:7.0f} x")


async def migrated(path: Path, migrations: list[Migration]) -> None:
    """Make a database as a fixture without a template would."""
    async with SingleConnectionPool(path) as pool:
        await MigrationManager(pool, migrations).migrate_up()


def timed(work: Callable[[], object]) -> float:
    """Return how many milliseconds something takes."""
    start = perf_counter()
    work()
    return (perf_counter() - start) * 1000


if __name__ == "__main__":
    main()
