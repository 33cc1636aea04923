"""The hook before a run: called where there is something to do; its mark is in the log."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import numbered

from wave_async import (
    Direction,
    Event,
    Marked,
    Migration,
    MigrationManager,
    MigrationRunner,
    SingleConnectionPool,
    SnapshotPolicy,
    Step,
    UpcomingRun,
    errors,
)

THREE = numbered(3)


class Told:
    """A hook that remembers what it was told, and returns a mark."""

    def __init__(self, mark: Any = "at 7") -> None:
        self.runs: list[UpcomingRun] = []
        self.mark = mark

    def __call__(self, run: UpcomingRun) -> Any:
        """Hear of a run."""
        self.runs.append(run)
        if isinstance(self.mark, BaseException):
            raise self.mark
        return self.mark


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[SingleConnectionPool]:
    """A database at version 1."""
    async with SingleConnectionPool(tmp_path / "app.db") as pool:
        await MigrationManager(pool, THREE[:1]).migrate_up()
        yield pool


async def rows(pool: SingleConnectionPool) -> list[tuple[str, int | None, str]]:
    """Return what the log of a database tells, in short."""
    log = await MigrationManager(pool, THREE).log()
    return [(entry.action, entry.version, entry.outcome) for entry in log]


async def test_up_and_down(pool: SingleConnectionPool) -> None:
    """It is told what is to be done; its mark comes before that, as an event and in the log."""
    hook, events = Told(), list[Event]()
    manager = MigrationManager(pool, THREE, before=hook, on_event=events.append)

    await manager.migrate_up()
    await manager.migrate_down(2)

    ups = tuple(Step(Direction.UP, m.version, m.description) for m in THREE[1:])
    downs = (Step(Direction.DOWN, 3, "Add t3"),)
    assert [
        UpcomingRun(pool.path, Direction.UP, ups),
        UpcomingRun(pool.path, Direction.DOWN, downs),
    ] == hook.runs
    assert [
        ("up", 1, "done"),
        ("mark", 2, "at 7"),
        ("up", 2, "done"),
        ("up", 3, "done"),
        ("mark", 3, "at 7"),
        ("down", 3, "done"),
    ] == await rows(pool)
    kinds = [type(event).__name__ for event in events]
    assert ["RunStarted", "Marked", "StepStarted"] == kinds[:3]
    assert 2 == events.count(Marked("at 7"))


async def test_nothing_to_do(pool: SingleConnectionPool) -> None:
    """With nothing to do it is not called, nor by a question, nor on an empty database."""
    hook = Told()
    manager = MigrationManager(pool, THREE, before=hook)
    await manager.plan_up()
    await manager.rehearse_up()
    await manager.migrate_up(1)
    await manager.migrate_down(1)
    async with SingleConnectionPool(Path(pool.path).with_name("new.db")) as new:
        await MigrationManager(new, THREE, before=hook).migrate_up()

    assert [] == hook.runs


async def test_no_mark(pool: SingleConnectionPool) -> None:
    """One that returns None leaves nothing in the log."""
    await MigrationManager(pool, THREE, before=Told(None)).migrate_up(2)

    assert [("up", 1, "done"), ("up", 2, "done")] == await rows(pool)


async def test_awaited(pool: SingleConnectionPool) -> None:
    """A coroutine function is awaited on the loop, while nobody is kept from writing."""

    async def hook(run: UpcomingRun) -> str:
        await asyncio.sleep(0)
        with closing(sqlite3.connect(run.database, timeout=0)) as other, other:
            other.execute("INSERT INTO t1 VALUES (1)")
        return "awaited"

    policy = SnapshotPolicy(always=True)
    await MigrationManager(pool, THREE, before=hook, snapshots=policy).migrate_up()

    assert ("mark", 2, "awaited") in await rows(pool)


async def test_overtaken(pool: SingleConnectionPool) -> None:
    """Where somebody else has done the first step meanwhile, the older mark is dropped."""

    async def hook(run: UpcomingRun) -> str:
        async with SingleConnectionPool(run.database) as other:
            await MigrationManager(other, THREE).migrate_up(2)
        return "too old"

    done = await MigrationManager(pool, THREE, before=hook).migrate_up()

    assert [3] == [step.version for step in done.steps]
    assert [("up", 1, "done"), ("up", 2, "done"), ("up", 3, "done")] == await rows(pool)


@pytest.mark.parametrize(
    ("mark", "problem"),
    [
        (ValueError("no replica"), "ValueError: no replica"),
        (7, "it returned 7, which is no text"),
        (errors.HookFailed("it says no"), "it says no"),
    ],
)
@pytest.mark.parametrize("atomic", [False, True])
async def test_failure(
    pool: SingleConnectionPool, mark: object, problem: str, *, atomic: bool
) -> None:
    """What it raises, or returns besides a text, ends the run; nothing is changed."""
    before = Path(pool.path).read_bytes(), await rows(pool)
    manager = MigrationManager(pool, THREE, before=Told(mark))

    with pytest.raises(errors.HookFailed) as caught:
        await manager.migrate_up(atomic=atomic)

    assert (problem, ()) == (caught.value.problem, caught.value.done)
    assert before == (Path(pool.path).read_bytes(), await rows(pool))
    assert 1 == await manager.current_version()


async def test_cancelled(pool: SingleConnectionPool) -> None:
    """Cancelled while it waits, nothing is changed and the database is free."""
    called = asyncio.Event()

    async def hook(_: UpcomingRun) -> str:
        called.set()
        await asyncio.Event().wait()
        return "never"

    run = asyncio.create_task(MigrationManager(pool, THREE, before=hook).migrate_up())
    await called.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run

    assert 1 == await MigrationManager(pool, THREE).current_version()
    await MigrationManager(pool, THREE, lock_timeout=0).migrate_up()


async def test_outside_a_transaction(pool: SingleConnectionPool) -> None:
    """A step outside a transaction has its mark all the same."""
    hook = Told()
    vacuum = [*THREE[:1], Migration(2, "Tidy", "VACUUM;", transaction=False)]

    await MigrationManager(pool, vacuum, before=hook).migrate_up()

    assert 1 == len(hook.runs)
    assert [("up", 1, "done"), ("mark", 2, "at 7"), ("up", 2, "done")] == await rows(pool)


async def test_failed_step(pool: SingleConnectionPool) -> None:
    """The mark of a run whose first step fails is rolled back with it."""
    bad = [*THREE[:1], Migration(2, "Bad", "INSERT INTO nowhere VALUES (1);")]

    with pytest.raises(errors.MigrationFailed):
        await MigrationManager(pool, bad, before=Told()).migrate_up()

    assert ["up", "up"] == [action for action, *_ in await rows(pool)]


async def test_without_a_log(pool: SingleConnectionPool) -> None:
    """Where no log is kept it is called and told all the same."""
    events: list[Event] = []
    manager = MigrationManager(pool, THREE, before=Told(), log=False, on_event=events.append)

    await manager.migrate_up()

    assert Marked("at 7") in events
    assert [("up", 1, "done")] == await rows(pool)


async def test_adoption(tmp_path: Path) -> None:
    """An adoption that has nothing else to do calls it not; with a step after it, once."""
    path, hook = tmp_path / "old.db", Told()
    with closing(sqlite3.connect(path)) as old:
        old.execute("CREATE TABLE t1 (x INTEGER)")
    for migrations in (THREE[:1], THREE):
        async with MigrationRunner(path, migrations, before=hook) as runner:
            await runner.migrate_up()

    assert [[2, 3]] == [[step.version for step in run.steps] for run in hook.runs]


HOOK = r"""
import os

def note(run):
    with open("calls", "a") as calls:
        print(os.getpid(), file=calls)
    return "noted \x1b[2J"

def refuse(run):
    raise RuntimeError("two\nlines")
"""


def project(folder: Path, before: str) -> None:
    """Write a project with migrations and a hook in its settings."""
    (folder / "pyproject.toml").write_text(
        f'[tool.wave]\ndatabase = "app.db"\nmigrations = "sql"\nbefore = "{before}"\n'
    )
    (folder / "hooks.py").write_text(HOOK)
    (folder / "sql").mkdir(exist_ok=True)
    for n in (1, 2, 3):
        (folder / f"sql/{n:04}_t{n}.sql").write_text(f"CREATE TABLE t{n} (x INTEGER);")


def wave(folder: Path, *command: str) -> subprocess.Popen[str]:
    """Start a command in a project."""
    return subprocess.Popen(
        [sys.executable, "-m", "wave_async", "migrate", *command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_many_processes(tmp_path: Path) -> None:
    """Of several that start at once each may call it; the one that does the first step marks."""
    project(tmp_path, "hooks:note")
    wave(tmp_path, "up", "1").communicate()

    racing = [wave(tmp_path, "up") for _ in range(4)]
    for process in racing:
        process.communicate()

    assert [0] * 4 == [process.returncode for process in racing]
    mark, first, *_ = wave(tmp_path, "log").communicate()[0].splitlines()[1:]
    assert "mark 2: noted \\x1b[2J in " in mark
    assert "up 2: done in " in first
    assert mark.partition("process")[2] == first.partition("process")[2]
    calls = (tmp_path / "calls").read_text().split()
    assert {mark.rpartition(" ")[2].rstrip(")")} <= set(calls)
    assert len(calls) == len(set(calls))


@pytest.mark.parametrize(
    ("before", "says"),
    [
        (
            "hooks:refuse",
            r"Error: the hook before the run failed, nothing was changed: RuntimeError: two\nlines",
        ),
        ("hooks:none", "Error: tool.wave.before='hooks:none' is not valid; allowed: "),
    ],
)
def test_one_line(tmp_path: Path, before: str, says: str) -> None:
    """A hook that fails, or is not there, is one line of error."""
    project(tmp_path, "hooks:note")
    wave(tmp_path, "up", "1").communicate()
    project(tmp_path, before)

    failed = wave(tmp_path, "up")
    _, err = failed.communicate()

    assert 1 == failed.returncode
    assert err.startswith(says)
    assert 1 == err.count("\n")
