"""Many files, beside stdlib sqlite3 in as many processes: `fleet.py [FILES ...] [--rounds N]`.

Rows are measured in turn. Each file is there and empty, and gets five migrations of two statements.
A row is a whole process with all that it starts; its memory is the most that one process had. With
`--dask` there is a row of a Dask cluster, too, of a scheduler and so many workers: with its start
and end, and, as `work`, without.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import limit
from rows import PREFIX, Failed, environment

MIGRATIONS = 5
PROCESSES = (1, 2)
ROWS = ("sqlite3", "wave")
PLAIN = """
import sys
from multiprocessing import get_context
sys.path.insert(0, sys.argv[1])
import limit
from pathlib import Path

SCRIPTS = limit.read(Path("migrations"))

def one(path):
    limit.up(path, SCRIPTS)

if __name__ == "__main__":
    paths = sorted(map(str, Path("files").glob("*.db")))
    if sys.argv[2] == "1":
        for path in paths:
            one(path)
    else:
        with get_context("spawn").Pool(int(sys.argv[2])) as pool:
            for _ in pool.imap_unordered(one, paths, chunksize=16):
                pass
"""

DASK = """
import asyncio, sys, time
from pathlib import Path
from distributed import Client
from distributed.deploy.subprocess import SubprocessCluster
from wave_async import load_migrations
from wave_async.integrations.dask import migrate_on

async def main():
    options = {"n_workers": int(sys.argv[1]), "threads_per_worker": 1, "asynchronous": True}
    async with SubprocessCluster(dashboard_address=":0", **options) as cluster:
        async with Client(cluster, asynchronous=True) as client:
            await client.wait_for_workers(options["n_workers"])
            since = time.perf_counter()
            paths = sorted(Path("files").absolute().glob("*.db"))
            await migrate_on(client, paths, load_migrations("migrations"), batch=16)
            print(time.perf_counter() - since)

asyncio.run(main())
"""


def prepare(folder: Path, count: int) -> None:
    """Write migrations and empty files."""
    (folder / "migrations").mkdir()
    (folder / "files").mkdir()
    (folder / "plain.py").write_text(PLAIN)
    (folder / "through.py").write_text(DASK)
    for version in range(1, MIGRATIONS + 1):
        text = f"CREATE TABLE t{version} (id INTEGER PRIMARY KEY, a TEXT);\n"
        text += f"CREATE INDEX i{version} ON t{version} (a);\n"
        (folder / f"migrations/{version:04}_t.up.sql").write_text(text)
    for number in range(count):
        (folder / f"files/{number:06}.db").touch()


def command(name: str, processes: int) -> list[str]:
    """Return the command of a row."""
    if name == "sqlite3":
        return [sys.executable, "plain.py", str(Path(limit.__file__).parent), str(processes)]
    if name == "dask":
        return [sys.executable, "through.py", str(processes)]
    wave = [sys.executable, "-m", "wave_async", "migrate", "--migrations", "migrations", "fleet"]
    return [*wave, "up", "files/*.db", "--quiet", "--jobs", str(processes)]


def measured(name: str, processes: int, folder: Path) -> tuple[float, float, float]:
    """Return the seconds of a run, those it says that it worked, and the most megabytes of one."""
    since = time.perf_counter()
    process = subprocess.Popen(
        command(name, processes), cwd=folder, env=environment(), stdout=subprocess.PIPE
    )
    said = process.stdout.read() if process.stdout else b""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise Failed(f"{name} ended with {process.returncode}")
    took = time.perf_counter() - since
    return took, float(said or took), used.ru_maxrss / 1024


def round_of(rows: list[tuple[str, int]], count: int) -> dict[tuple[str, int], tuple[float, ...]]:
    """Measure every row once, on files of its own: empty ones, and again with nothing to do."""
    found: dict[tuple[str, int], tuple[float, ...]] = {}
    for row in rows:
        with TemporaryDirectory(prefix=PREFIX) as place:
            prepare(Path(place), count)
            up, work, memory = measured(*row, Path(place))
            again, *_ = measured(*row, Path(place))
            found[row] = up, again, memory, work
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="*", type=int, default=[100, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dask", action="store_true")
    said = parser.parse_args()
    rows = [(name, n) for n in PROCESSES for name in (*ROWS, *["dask"] * said.dask)]
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    for count in said.files:
        rounds = [round_of(rows, count) for _ in range(said.rounds)]
        for row in rows:
            up, nothing, memory, work = (
                statistics.median(r[row][i] for r in rounds) for i in range(4)
            )
            base, again = (
                statistics.median(r["sqlite3", row[1]][i] for r in rounds) for i in (0, 1)
            )
            print(
                f"{count:6} files, {row[1]} process(es), {row[0]:8} "
                f"up {up:7.2f} s ({base / up:4.0%}), work {work:7.2f} s  "
                f"nothing to do {nothing:6.2f} s ({again / nothing:4.0%})  highest {memory:.0f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
