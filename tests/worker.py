"""What the chaos tests run as processes of their own, how they start them, and what they check.

`worker.py ACTION PATH SET [TIMES]` says "ready", waits for a line or the end of its stdin, acts
TIMES times on the database with the migrations named SET, and prints what came of it as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from wave_async import (
    Direction,
    Migration,
    MigrationManager,
    Plan,
    SingleConnectionPool,
    SnapshotPolicy,
    migrate_on_startup,
)

OWN_LOG = "schema_migrations_log"
ROWS_EACH = 1500
PATIENCE = 120
"""After how many seconds a process that does not end fails its test."""


def logged(count: int, *, held: int = 0) -> list[Migration]:
    """Migrations that write down every run; the one `held` ends when the test lets it.

    Going down to 0 would lose the log.
    """
    return [
        Migration(
            n,
            f"Add t{n}",
            f"CREATE TABLE {'log (step INTEGER NOT NULL)' if n == 1 else f't{n} (x INTEGER)'};"
            f"INSERT INTO log SELECT {f'hold({n})' if n == held else n};",
            f"DROP TABLE t{n}; INSERT INTO log VALUES (-{n});" if n > 1 else "",
        )
        for n in range(1, count + 1)
    ]


def filled(count: int) -> list[Migration]:
    """Migrations that write real rows, and an index over them."""
    return [
        Migration(
            n,
            f"Fill t{n}",
            f"CREATE TABLE t{n} (x INTEGER NOT NULL, name TEXT NOT NULL);"
            f"WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < {ROWS_EACH})"
            f"INSERT INTO t{n} SELECT x, 'row ' || x FROM c;"
            f"CREATE INDEX i{n} ON t{n} (name);",
            f"DROP TABLE t{n};",
        )
        for n in range(1, count + 1)
    ]


FIVE = logged(5)
EIGHT = logged(8)
HELD = logged(3, held=2)
ONE = HELD[:1]
FILLED = filled(20)


async def migrate(
    path: Path | str, migrations: Sequence[Migration], target: int | None = None
) -> Plan:
    """Migrate a database up, in this process."""
    async with SingleConnectionPool(path) as pool:
        return await MigrationManager(pool, migrations).migrate_up(target)


async def undo(manager: MigrationManager) -> Plan:
    """Restore the newest snapshot."""
    await manager.undo()
    return Plan(Direction.DOWN)


GUARDED: dict[str, Callable[[MigrationManager], Awaitable[Plan]]] = {
    "guarded up": MigrationManager.migrate_up,
    "guarded down": lambda manager: manager.migrate_down(10),
    "undo": undo,
}
"""What is done with snapshots."""


async def act(action: str, path: str, migrations: Sequence[Migration]) -> Plan:
    """Do once what the worker was started for."""
    async with SingleConnectionPool(path) as pool:
        policy = SnapshotPolicy(always=True) if action in GUARDED else None
        manager = MigrationManager(pool, migrations, snapshots=policy)
        if policy is not None:
            return await GUARDED[action](manager)
        match action:
            case "up":
                return await manager.migrate_up()
            case "rollout":
                return await MigrationManager(pool, migrations, max_version=5).migrate_up()
            case "down":
                return await manager.migrate_down(1)
            case "startup":
                return (await migrate_on_startup(pool, migrations)).done
            case "hold":
                async with pool.acquire() as connection:
                    await connection.create_function("hold", 1, hold)
                return await manager.migrate_up()
        raise ValueError(action)


def hold(value: int) -> int:
    """Keep a migration running until the test says so."""
    say("holding")
    sys.stdin.readline()
    return value


def outcome(action: str, path: str, migrations: Sequence[Migration]) -> dict[str, Any]:
    """Act once; return what was done, how long it took, and the error."""
    start, done, error, message = monotonic(), Plan(Direction.UP), None, ""
    try:
        done = asyncio.run(act(action, path, migrations))
    except Exception as raised:  # noqa: BLE001 - the test judges it
        error, message = type(raised).__name__, str(raised)
    return {
        "error": error,
        "message": message,
        "steps": len(done.steps),
        "adopted": len(done.adopted),
        "seconds": monotonic() - start,
    }


def say(line: str) -> None:
    """Tell the other process, or the reader of `pytest -s`, one line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@contextmanager
def started(*job: object, stdin: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    """Start a worker and wait until it is ready to go; kill it at the end if it still runs."""
    command = [sys.executable, __file__, *map(str, job)]
    with subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, text=True) as worker:
        try:
            yield worker
        finally:
            worker.kill()


@contextmanager
def running(script: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a script on a database in a process of its own, which is killed at the end."""
    command = [sys.executable, "-c", script, str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def hears(process: subprocess.Popen[str], line: str) -> None:
    """Wait for the next line of a process, which must be this one."""
    assert process.stdout
    assert f"{line}\n" == process.stdout.readline()


def lets_go(process: subprocess.Popen[str]) -> None:
    """Let a process go on that waits for a line."""
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def ended(worker: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """Let a worker go on to its end; return its outcomes."""
    told, _ = worker.communicate("" if worker.stdin else None, timeout=PATIENCE)
    outcomes: list[dict[str, Any]] = json.loads(told)
    return outcomes


def race(jobs: Sequence[Sequence[object]]) -> list[list[dict[str, Any]]]:
    """Run workers that all start at the same moment; return the outcomes of each."""
    gate, opener = os.pipe()
    with ExitStack() as stack:
        workers = [stack.enter_context(started(*job, stdin=gate)) for job in jobs]
        os.close(gate)
        for worker in workers:
            hears(worker, "ready")
        os.close(opener)
        return [ended(worker) for worker in workers]


def wave(path: Path, migrations: str, *command: str) -> subprocess.Popen[str]:
    """Start the command line on a database with the migrations of this module."""
    about = ["--database", str(path), "--migrations", f"worker:{migrations}"]
    return subprocess.Popen(
        [sys.executable, "-m", "wave_async", "migrate", *about, *command],
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def history(path: Path) -> list[int]:
    """Return the versions that a database records."""
    with closing(sqlite3.connect(path)) as db:
        return [v for (v,) in db.execute("SELECT version FROM schema_migrations ORDER BY version")]


def checked_log(path: Path) -> list[int]:
    """Return the log of a database, having seen that each step followed from the one before it.

    The history is where the log leads, a clean prefix, with exactly the tables that belong to it.
    """
    with closing(sqlite3.connect(path)) as db:
        steps = [step for (step,) in db.execute("SELECT step FROM log ORDER BY rowid")]
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema")} - {OWN_LOG}
    version = 0
    for step in steps:
        assert step in (version + 1, -version), f"step {step} at version {version} in {steps}"
        version += 1 if step > 0 else -1
    versions = list(range(1, version + 1))
    assert versions == history(path)
    assert {"log", "schema_migrations", *(f"t{v}" for v in versions[1:])} == tables
    return steps


def checked_fill(path: Path) -> int:
    """Return the version of a database, having seen that it is exactly 1 to n with their rows."""
    with closing(sqlite3.connect(path)) as db:
        assert [("ok",)] == db.execute("PRAGMA integrity_check").fetchall()
        found = {name for (name,) in db.execute("SELECT name FROM sqlite_schema")} - {OWN_LOG}
        version = len(history(path)) if "schema_migrations" in found else 0
        versions = range(1, version + 1)
        assert {"schema_migrations"} | {f"{kind}{v}" for v in versions for kind in "ti"} == (
            found or {"schema_migrations"}
        )
        assert not found or list(versions) == history(path)
        for v in versions:
            rows = db.execute(f"SELECT count(*), sum(x), count(DISTINCT name) FROM t{v}").fetchone()
            assert (ROWS_EACH, ROWS_EACH * (ROWS_EACH + 1) // 2, ROWS_EACH) == rows
    return version


def main(action: str, path: str, name: str, times: str = "1") -> None:
    """Do what the command line of this script says."""
    say("ready")
    sys.stdin.readline()
    outcomes = [outcome(action, path, globals()[name]) for _ in range(int(times))]
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))  # coverage writes its own file now
    say(json.dumps(outcomes))


if __name__ == "__main__":
    main(*sys.argv[1:])
