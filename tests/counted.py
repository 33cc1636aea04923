"""What the test of slowdowns runs as a process of its own: `counted.py JOB` prints counts as JSON.

Counted are calls by and in the package's own code, of functions in Python and in C, and statements
given to SQLite by anyone: neither depends on how busy the machine is.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import wave_async
from wave_async import Migration, MigrationManager, SingleConnectionPool

PACKAGE = os.path.dirname(wave_async.__file__)  # noqa: PTH120 - as code objects write it
MIGRATIONS = [
    Migration(
        n,
        f"Add table {n}",
        f"CREATE TABLE t{n} (id INTEGER PRIMARY KEY, name TEXT NOT NULL);\n"
        f"CREATE INDEX i{n} ON t{n} (name);\n",
        f"DROP TABLE t{n};\n",
    )
    for n in range(1, 101)
]

EXECUTE = ("execute", "executemany", "executescript")

Counts = dict[str, int]


@contextmanager
def counting(counts: Counts) -> Iterator[None]:
    """Count what this thread does, and every thread that begins meanwhile."""

    def profile(frame: FrameType, event: str, called: object) -> None:
        if event == "c_call" and getattr(called, "__name__", "") in EXECUTE:
            counts["statements"] += 1
        if event in ("call", "c_call") and frame.f_code.co_filename.startswith(PACKAGE):
            counts["calls"] += 1

    threading.setprofile(profile)
    sys.setprofile(profile)
    yield
    sys.setprofile(None)
    threading.setprofile(None)


async def up(path: Path, counts: Counts) -> None:
    """Apply 100 migrations, opening and closing included."""
    with counting(counts):
        async with SingleConnectionPool(path) as pool:
            await MigrationManager(pool, MIGRATIONS).migrate_up()


async def check(path: Path, counts: Counts) -> None:
    """See 100 times that there is nothing to apply."""
    with counting(counts):
        async with SingleConnectionPool(path) as pool:
            manager = MigrationManager(pool, MIGRATIONS)
            await manager.migrate_up()
            await manager.migrate_up()
            counts.update(calls=0, statements=0)
            for _ in range(100):
                await manager.migrate_up()
            found = dict(counts)
    counts.update(found)  # without the close


def main(job: str) -> None:
    """Run a job on a database of the working directory and print what it took."""
    counts = {"calls": 0, "statements": 0}
    asyncio.run({"up": up, "check": check}[job](Path("state.db"), counts))
    print(json.dumps(counts))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
