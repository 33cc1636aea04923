"""The unit costs that docs/scale.md multiplies: CPU, bytes and system calls, not wall time.

`python benchmarks/scale.py` prints them all; with a busy machine they stay nearly the same.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from time import monotonic, process_time

from wave_async import Migration, MigrationConfig, MigrationManager, SingleConnectionPool

FILES = 300
MIGRATIONS = [
    Migration(n, f"Add t{n}", f"CREATE TABLE t{n} (x INTEGER);", f"DROP TABLE t{n};")
    for n in range(1, 11)
]
LIMIT = 5.0
"""For how many seconds somebody waits for a lock that is never given back."""
CONFIG = MigrationConfig(lock_timeout=LIMIT)

OPEN = """
        async with pool.acquire() as db:
            await db.execute_fetchall("SELECT * FROM t1")
        for line in open("/proc/self/status"):
            if line.startswith(("VmRSS", "RssAnon", "Threads")):
                print(line.strip())
        found = pathlib.Path("/proc/self/fd").iterdir()
        names = [fd.readlink().name for fd in found if fd.is_symlink()]
        print("files of the database:", sum(".db" in name for name in names))
"""
START = """
import asyncio, pathlib, sys
sys.path.insert(0, {here!r})
from scale import CONFIG, MIGRATIONS
from wave_async import SingleConnectionPool, migrate_on_startup
async def main():
    async with SingleConnectionPool({path!r}) as pool:
        await migrate_on_startup(pool, MIGRATIONS, config=CONFIG)
        {then}
asyncio.run(main())
"""


def tell(what: str, value: object) -> None:
    """Print a cost."""
    print(f"{what:52} {value}")


def start(path: Path, then: str = "pass") -> list[str]:
    """Return the command that starts an application on a database."""
    here = str(Path(__file__).parent)
    return [sys.executable, "-c", START.format(here=here, path=str(path), then=then)]


async def each(
    paths: list[Path], count: int, act: Callable[[MigrationManager], Awaitable[object]]
) -> float:
    """Do something with every file, one after the other; return the CPU of each."""
    before = process_time()
    for path in paths:
        async with SingleConnectionPool(path) as pool:
            await act(MigrationManager(pool, MIGRATIONS[:count]))
    return (process_time() - before) / len(paths)


async def files(folder: Path) -> None:
    """What a tenant's file costs."""
    paths = [folder / f"{n}.db" for n in range(FILES)]
    told = "a file, {}: CPU, ms"
    tell(told.format("created with 9 migrations"), f"{1e3 * await each(paths, 9, up):.2f}")
    tell(told.format("1 migration applied"), f"{1e3 * await each(paths, 10, up):.2f}")
    tell("inodes after it, a file", len(os.listdir(folder)) / FILES)
    tell(told.format("an `up` with nothing to do"), f"{1e3 * await each(paths, 10, up):.2f}")
    current = MigrationManager.current_version
    tell(told.format("its version asked"), f"{1e3 * await each(paths, 10, current):.2f}")
    tell("inodes after it, a file", len(os.listdir(folder)) / FILES)
    before = process_time()
    for path in paths:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            db.execute("SELECT max(version) FROM schema_migrations").fetchall()
    tell(told.format("the same by sqlite3 alone"), f"{1e3 * (process_time() - before) / FILES:.2f}")
    stat = paths[0].stat()
    tell("a file of 10 tables: bytes, on disk", f"{stat.st_size} {stat.st_blocks * 512}")


async def up(manager: MigrationManager) -> object:
    """Migrate up."""
    return await manager.migrate_up()


def calls(command: list[str]) -> Counter[str]:
    """Count the system calls of a command that a disk and its locks feel."""
    with tempfile.NamedTemporaryFile() as out:
        wanted = "trace=fsync,fdatasync,pwrite64,fcntl,openat"
        subprocess.run(["strace", "-fy", "-e", wanted, "-o", out.name, *command], check=False)
        lines = Path(out.name).read_text(encoding="utf-8").splitlines()
    return Counter(line.partition("(")[0].split()[-1] for line in lines if ".db" in line)


def processes(folder: Path) -> None:
    """What an application's process costs."""
    path = folder / "app.db"
    subprocess.run(start(path), check=True)
    said = subprocess.run(start(path, OPEN), check=True, capture_output=True, text=True)
    tell("a process that has started", " ".join(said.stdout.split()))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(10):
        subprocess.run(start(path), check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    tell("a process that starts with nothing to do: CPU, ms", f"{1e3 * spent / 10:.0f}")
    tell("its system calls", dict(calls(start(path))))
    tell("those of a first start, 10 migrations", dict(calls(start(folder / "new.db"))))


async def waiting(folder: Path) -> None:
    """What it costs to wait for somebody else's lock, and to learn that there is nothing to do."""
    path = folder / "held.db"
    async with SingleConnectionPool(path) as pool:
        await MigrationManager(pool, MIGRATIONS[:9]).migrate_up()
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        pools = [SingleConnectionPool(path) for _ in range(20)]
        managers = [MigrationManager(pool, MIGRATIONS, lock_timeout=LIMIT) for pool in pools]
        since, before, threads = monotonic(), process_time(), threading.active_count()
        await asyncio.gather(*(m.migrate_up() for m in managers), return_exceptions=True)
        spent, took = process_time() - before, monotonic() - since
        threads = threading.active_count() - threads
        tell("a waiter: CPU, ms a second", f"{1e3 * spent / took / len(pools):.1f}")
        tell("its threads", threads / len(pools))
        counted = calls(start(path))
        tell(f"its system calls a second, in {LIMIT} s", counted["fcntl"] / LIMIT)
        for pool in pools:
            await pool.close()
    one = SingleConnectionPool(path)
    async with one:
        manager = MigrationManager(one, MIGRATIONS)
        await manager.migrate_up()
        before = process_time()
        for _ in range(1000):
            await manager.migrate_up()
    tell("a look at an open database: CPU, ms", f"{process_time() - before:.3f}")


def crowd(folder: Path) -> None:
    """What taking a lock costs where many processes have the database open."""
    path = folder / "crowd.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE t1 (x INTEGER)")
    for count in (0, 250, 1000):
        gate, opener = os.pipe()
        told, tells = os.pipe()
        children = [child for _ in range(count) if (child := sitting(path, gate, opener, tells))]
        for _ in children:
            os.read(told, 1)
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("SELECT * FROM t1").fetchall()
            before = process_time()
            for _ in range(2000):
                db.execute("BEGIN IMMEDIATE")
                db.execute("ROLLBACK")
            spent = (process_time() - before) / 2000
        tell(f"a lock taken and given back, {count} others: CPU, us", f"{1e6 * spent:.1f}")
        os.close(opener)
        for child in children:
            os.waitpid(child, 0)
        for end in (gate, told, tells):
            os.close(end)


def sitting(path: Path, gate: int, opener: int, tells: int) -> int:
    """Start a process that has the database open until the gate closes; returns its id."""
    if child := os.fork():
        return child
    os.close(opener)
    db = sqlite3.connect(path)
    db.execute("SELECT * FROM t1").fetchall()
    os.write(tells, b".")
    os.read(gate, 1)
    os._exit(0)


async def main() -> None:
    """Print all costs."""
    tell("SQLite, Python, cores", f"{sqlite3.sqlite_version} {sys.version[:6]} {os.cpu_count()}")
    with tempfile.TemporaryDirectory() as folder:
        await files(Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        crowd(Path(folder))
        processes(Path(folder))
        await waiting(Path(folder))


if __name__ == "__main__":
    asyncio.run(main())
