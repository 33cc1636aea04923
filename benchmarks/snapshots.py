"""What copies cost on a big database, and how long they keep another process from writing.

A second process commits a row every millisecond and tells its longest pause. A private copy takes
no lock; a snapshot is taken and verified under the lock of the migration that it comes before; an
undo holds the lock while it keeps what it replaces and writes the snapshot back. Run it with
`python benchmarks/snapshots.py [ROUNDS MEGABYTES]`.
"""

from __future__ import annotations

import asyncio
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from wave_async import Migration, MigrationManager, SingleConnectionPool, SnapshotPolicy
from wave_async.safety.rehearsal import stage

WRITER = """
import sqlite3, sys, threading, time
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=600)
print("ready", flush=True)
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), over.set()), daemon=True).start()
longest = writes = 0
while not over.is_set():
    start = time.perf_counter()
    db.execute("INSERT INTO written VALUES (1)")
    longest, writes = max(longest, time.perf_counter() - start), writes + 1
    time.sleep(0.001)
print(longest, writes, flush=True)
"""
POLICY = SnapshotPolicy(always=True, keep=1)


def step(version: int) -> Migration:
    return Migration(
        version, f"Add {version}", f"CREATE TABLE a{version} (x)", f"DROP TABLE a{version}"
    )


MIGRATIONS = [step(1), step(2)]


def make(path: Path, megabytes: int) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL").fetchall()
        db.execute("CREATE TABLE written (x)")
        db.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, name TEXT, body BLOB)")
        db.execute("CREATE INDEX by_name ON rows (name)")
        db.execute(
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < ?)"
            "INSERT INTO rows SELECT x, 'name ' || x, randomblob(900) FROM c",
            (megabytes * 1000,),
        )
    asyncio.run(manage(path, "up to 1"))


async def manage(path: Path, action: str) -> None:
    async with SingleConnectionPool(path) as pool:
        manager = MigrationManager(pool, MIGRATIONS, snapshots=POLICY)
        match action:
            case "up to 1":
                await MigrationManager(pool, MIGRATIONS).migrate_up(1)
            case "up":
                assert len((await manager.migrate_up()).steps) == 1
            case "copy":
                async with stage(pool, schema_only=False, directory=None):
                    pass
            case "undo":
                await manager.undo()


JOBS: dict[str, Callable[[Path], object]] = {
    "nothing for 1 s": lambda _: time.sleep(1),
    "private copy": lambda path: asyncio.run(manage(path, "copy")),
    "up with a snapshot": lambda path: asyncio.run(manage(path, "up")),
    "undo": lambda path: asyncio.run(manage(path, "undo")),
}


def measured(path: Path, job: Callable[[Path], object]) -> tuple[float, float]:
    command = [sys.executable, "-c", WRITER, str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as writer:
        assert writer.stdin
        assert writer.stdout
        writer.stdout.readline()
        time.sleep(0.2)
        start = time.perf_counter()
        job(path)
        took = time.perf_counter() - start
        time.sleep(0.2)
        writer.stdin.write("\n")
        writer.stdin.flush()
        longest, _ = writer.stdout.readline().split()
    return took, float(longest)


def shown(values: list[float]) -> str:
    return f"{statistics.median(values):6.2f} s  ({min(values):.2f} .. {max(values):.2f})"


def main() -> None:
    rounds, megabytes = map(int, sys.argv[1:] or ["5", "200"])
    print(
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {platform.machine()}"
    )
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in JOBS}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "big.db")
        make(path, megabytes)
        print(f"{path.stat().st_size / 1e6:.0f} MB, {rounds} rounds; median (least .. most)")
        for _ in range(rounds):
            for name, job in JOBS.items():
                found[name].append(measured(path, job))
    for name, pairs in found.items():
        took, pauses = zip(*pairs, strict=True)
        print(f"  {name:20} took {shown(list(took))}, longest pause {shown(list(pauses))}")


if __name__ == "__main__":
    main()
