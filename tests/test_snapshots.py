"""Snapshots: taken before what destroys, exact, one for many workers; undo, into a live file."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import subprocess
from contextlib import closing, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from time import monotonic, sleep
from typing import Any

import pytest
import worker
from conftest import numbered, rounds, sql, wave
from test_disk import disk, fill
from worker import FILLED, checked_fill, ended, hears, lets_go, race, running, started

from wave_async import (
    Event,
    Migration,
    MigrationManager,
    SingleConnectionPool,
    Snapshot,
    SnapshotPolicy,
    SnapshotTaken,
    errors,
    migrate_on_startup,
)
from wave_async.database.driver import EngineConnection
from wave_async.safety.restoration import restore
from wave_async.safety.snapshots import Snapshots

__all__ = ["disk"]

THREE = numbered(3)
ALWAYS = SnapshotPolicy(always=True)
BUSY_WRITER = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
print("ready", flush=True)
while True:
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT INTO t1 VALUES (1)")
    db.execute("INSERT INTO t1 VALUES (-1)")
    db.execute("COMMIT")
    time.sleep(0.001)
"""
READER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
for _ in iter(sys.stdin.readline, ""):
    print(db.execute("SELECT count(*) FROM t1").fetchone()[0], flush=True)
    try:
        print(db.execute("SELECT count(*) FROM t3").fetchone()[0], flush=True)
    except sqlite3.OperationalError as error:
        print(error, flush=True)
"""


def content(path: Path) -> list[str]:
    """Return everything in a whole database but its log, as a copy shows it."""
    with closing(sqlite3.connect(path)) as db:
        assert [("ok",)] == db.execute("PRAGMA integrity_check").fetchall()
        return [line for line in db.iterdump() if "schema_migrations_log" not in line]


def taken(path: Path) -> list[Path]:
    """Return the snapshots beside a database, oldest first; there is nothing else with them."""
    folder = path.parent / ".wave" / "snapshots"
    return sorted(folder.iterdir(), key=lambda p: p.name.split("-")[2]) if folder.exists() else []


def versions(snapshots: list[Path]) -> list[int]:
    """Return the versions that snapshots were taken at."""
    return [found.version for path in snapshots if (found := Snapshot.at(path))]


def guarded(
    pool: SingleConnectionPool, migrations: list[Migration] = THREE, **policy: Any
) -> MigrationManager:
    """Return a manager that takes snapshots."""
    return MigrationManager(
        pool, migrations, snapshots=SnapshotPolicy(**policy), lock_timeout=policy.pop("wait", 60)
    )


@pytest.fixture
async def at_three(pool: SingleConnectionPool, path: Path) -> MigrationManager:
    """A database at version 3 with a row in each table, and a manager that takes snapshots."""
    await MigrationManager(pool, THREE).migrate_up()
    async with pool.acquire() as connection:
        for n in (1, 2, 3):
            await connection.execute_fetchall(f"INSERT INTO t{n} VALUES ({n})")
    return guarded(pool)


async def test_a_rollback_takes_one_first(at_three: MigrationManager, path: Path) -> None:
    """It holds what the rollback destroys, and its name says the version and the time."""
    before, start = content(path), datetime.now(UTC)

    await at_three.migrate_down(1)

    (snapshot,) = await at_three.snapshots()
    assert [snapshot.path] == taken(path)
    assert ("state", 3) == (snapshot.database, snapshot.version)
    assert start <= snapshot.taken_at <= datetime.now(UTC)
    assert f"state-v3-{snapshot.taken_at:%Y%m%dT%H%M%S%f}Z-{snapshot.fingerprint}.db" == (
        snapshot.name
    )
    assert snapshot.size == snapshot.path.stat().st_size
    assert before == content(snapshot.path)


async def test_an_up_takes_one_when_it_destroys_or_when_told(
    pool: SingleConnectionPool, path: Path
) -> None:
    """What drops a table of the database destroys; what only adds takes none."""
    migrations = [*THREE, Migration(4, "Drop t2", "DROP TABLE t2"), Migration(5, "Nothing", "")]
    await guarded(pool, migrations).migrate_up(3)
    assert [] == taken(path)
    await guarded(pool, migrations).migrate_up(4)
    assert [3] == versions(taken(path))
    await guarded(pool, migrations, always=True).migrate_up()

    assert [3, 4] == versions(taken(path))


class Overtaken(SingleConnectionPool):
    """Lets the first run wait until another one is there, which then goes first."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.first, self.second = asyncio.Event(), asyncio.Event()

    async def run(self, *arguments: Any, **options: Any) -> Any:
        """Run a program, the first one after the second."""
        if self.first.is_set():
            self.second.set()
        else:
            self.first.set()
            await self.second.wait()
        return await super().run(*arguments, **options)


async def test_two_runs_of_one_manager_take_what_each_needs(path: Path) -> None:
    """One that is overtaken by another, which destroys nothing, still takes its snapshot."""
    async with SingleConnectionPool(path) as pool:
        await MigrationManager(pool, THREE).migrate_up(1)
    async with Overtaken(path) as pool:
        manager = guarded(pool, [*THREE, Migration(4, "Drop t1", "DROP TABLE t1")])
        async with asyncio.TaskGroup() as group:
            group.create_task(manager.migrate_up())
            await pool.first.wait()
            group.create_task(manager.migrate_up(2))

    assert [2] == versions(taken(path))


async def test_nothing_to_do_takes_none(at_three: MigrationManager, path: Path) -> None:
    """A run that has nothing to do leaves nothing behind, not even a directory."""
    await at_three.migrate_down(3)

    assert [path] == [p for p in path.parent.iterdir() if p.suffix in {".db", ".wave"}]
    assert not (path.parent / ".wave").exists()


async def test_it_is_told(pool: SingleConnectionPool, path: Path) -> None:
    """An event names the file, after the beginning of the run and before its first step."""
    told: list[Event] = []
    await migrate_on_startup(pool, THREE, snapshots=ALWAYS, on_event=told.append)

    assert SnapshotTaken(str(taken(path)[0])) == told[1]
    assert 9 == len(told)


@pytest.mark.parametrize("mode", [0o600, 0o640])
async def test_the_mode_is_kept(at_three: MigrationManager, path: Path, mode: int) -> None:
    """Nobody may read a snapshot who may not read the database."""
    await asyncio.to_thread(path.chmod, mode)
    await at_three.migrate_down(0)

    (snapshot,) = taken(path)
    assert mode == snapshot.stat().st_mode & 0o777
    assert 0o700 == snapshot.parent.stat().st_mode & 0o777


async def test_where_they_are(tmp_path: Path) -> None:
    """In `.wave` beside the database, or in it where the database is there; or where one says."""
    elsewhere = tmp_path / "deep" / "er"
    for name, policy, folder in (
        ("a.db", ALWAYS, tmp_path / ".wave" / "snapshots"),
        (".wave/state.db", ALWAYS, tmp_path / ".wave" / "snapshots"),
        ("x/a.db", SnapshotPolicy(always=True, directory=elsewhere), elsewhere),
        ("y/a.db", SnapshotPolicy(always=True, directory=elsewhere), elsewhere),
    ):
        async with SingleConnectionPool(tmp_path / name) as pool:
            manager = MigrationManager(pool, THREE, snapshots=policy)
            await manager.migrate_up()
            (snapshot,) = await manager.snapshots()  # of each database its own
        assert folder == snapshot.path.parent
    assert ["a", "state"] == sorted(
        p.name.split("-")[0] for p in (tmp_path / ".wave" / "snapshots").iterdir()
    )
    assert 2 == len(list(elsewhere.iterdir()))


async def test_a_name_that_says_nothing(at_three: MigrationManager, path: Path) -> None:
    """Other files beside them are left alone and not listed."""
    await at_three.migrate_down(2)
    (snapshot,) = taken(path)
    for name in ("notes.txt", "state.db", "state-v3-20269999T999999999999Z-0123456789ab.db"):
        shutil.copy(snapshot, snapshot.with_name(name))

    assert [snapshot] == [s.path for s in await at_three.snapshots()]


async def test_the_newest_are_kept(pool: SingleConnectionPool, path: Path) -> None:
    """Of one database the newest stay, and those of another are not counted."""
    manager = guarded(pool, always=True, keep=2)
    other = "other-v1-20200101T000000000000Z-0123456789ab.db"
    (folder := path.parent / ".wave" / "snapshots").mkdir(parents=True)
    (folder / other).touch()
    for _ in range(3):
        await manager.migrate_up()
        await manager.migrate_down(0)

    assert [3, 0] == [s.version for s in await manager.snapshots()]
    assert other in [p.name for p in folder.iterdir()]
    with pytest.raises(ValueError, match="0"):
        SnapshotPolicy(keep=0)


async def test_a_run_that_changed_nothing_leaves_the_older_ones(
    at_three: MigrationManager, pool: SingleConnectionPool, path: Path
) -> None:
    """However often a migration fails, the snapshots of before are still there, and no others."""
    await at_three.migrate_down(2)
    before = taken(path)
    failing = guarded(pool, [*THREE[:2], Migration(3, "Fail", "SELECT no")], always=True, keep=1)
    for _ in range(3):
        with pytest.raises(errors.MigrationFailed):
            await failing.migrate_up()

    assert before == taken(path)


async def test_a_run_that_changed_something_keeps_its_own(
    pool: SingleConnectionPool, path: Path
) -> None:
    """Where a later step fails, or a step outside a transaction did, the way back is kept."""
    migrations = [*THREE, Migration(4, "Fail", "SELECT no")]
    with pytest.raises(errors.MigrationFailed):
        await guarded(pool, migrations, always=True).migrate_up()
    assert [0] == versions(taken(path))

    outside = Migration(4, "Shrink", "VACUUM", transaction=False)
    async with pool.acquire() as connection:
        await connection.execute_fetchall("INSERT INTO t1 VALUES (1)")
    await guarded(pool, [*THREE, outside], always=True).migrate_up()
    assert [0, 3] == versions(taken(path))
    assert [(1,)] == sql(taken(path)[1], "SELECT x FROM t1")


async def test_without_a_snapshot_nothing_runs(at_three: MigrationManager, path: Path) -> None:
    """Where it cannot be taken the run fails, nothing is changed, and what to do is told."""
    (path.parent / ".wave").write_text("in the way")
    before = content(path)
    with pytest.raises(errors.SnapshotFailed, match="--no-snapshot"):
        await at_three.migrate_down(0)

    assert before == content(path)


async def test_a_damaged_database_is_not_rolled_back(
    at_three: MigrationManager, pool: SingleConnectionPool, path: Path
) -> None:
    """What cannot be verified is no snapshot; undo alone replaces what is damaged."""
    await at_three.migrate_down(2)
    await pool.close()
    ((page,),) = sql(path, "SELECT rootpage FROM sqlite_schema WHERE name = 't1'")
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    with pytest.raises(errors.SnapshotFailed, match=r"(?i)tree|malformed|page"):
        await at_three.migrate_down(1)
    assert [3] == versions(taken(path))

    await at_three.undo()
    assert [(1,)] == sql(path, "SELECT x FROM t1")
    assert [3, 2] == versions(taken(path))


async def test_a_database_in_memory_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There it is no mistake to ask for them, but there is nothing to list or restore."""
    monkeypatch.chdir(tmp_path)
    async with SingleConnectionPool(":memory:") as pool:
        manager = guarded(pool, always=True)
        await manager.migrate_up()
        with pytest.raises(errors.DatabaseUnusable):
            await manager.snapshots()
    assert not await asyncio.to_thread(lambda: list(tmp_path.iterdir()))


async def test_the_snapshot_is_the_state_that_the_step_found(
    at_three: MigrationManager, pool: SingleConnectionPool, path: Path
) -> None:
    """With somebody writing all the time, it has exactly the rows that the first statement sees."""
    count = Migration(4, "Count", "CREATE TABLE c AS SELECT count(*) AS n FROM t1")
    with running(BUSY_WRITER, path) as writer:
        hears(writer, "ready")
        await guarded(pool, [*THREE, count], always=True).migrate_up()

    (snapshot,) = taken(path)
    assert sql(path, "SELECT n FROM c") == sql(snapshot, "SELECT count(*) FROM t1")


async def test_undo(at_three: MigrationManager, pool: SingleConnectionPool, path: Path) -> None:
    """All is as it was, and the pool that was open goes on; a second undo takes the first back."""
    before = content(path)
    await at_three.migrate_down(1)
    after = content(path)
    snapshot, rows = await at_three.plan_undo()
    assert [("t2", None, 1), ("t3", None, 1)] == [(r.table, r.after, r.before) for r in rows]

    done = await at_three.undo()
    assert (snapshot, 1) == (done.restored, done.replaced.version)
    assert before == content(path)
    assert 3 == await at_three.current_version()
    assert after == content(done.replaced.path)

    await at_three.undo()
    assert after == content(path)
    assert ["wal"] == [mode for (mode,) in sql(path, "PRAGMA journal_mode")]


async def test_up_right_after_an_undo(
    at_three: MigrationManager, pool: SingleConnectionPool
) -> None:
    """A manager that has just found everything up to date notices that it no longer is."""
    await at_three.migrate_down(1)
    await at_three.migrate_up()
    assert not await at_three.migrate_up()
    (_, at_one) = (*await at_three.snapshots(), None)
    assert at_one is None

    await guarded(pool, always=True).migrate_down(0)
    await at_three.migrate_up()
    assert not await at_three.migrate_up()
    name = min(await at_three.snapshots(), key=lambda s: s.version).name
    await at_three.undo(name)
    assert 3 == await at_three.current_version()


async def test_up_in_another_manager_after_an_undo(at_three: MigrationManager, path: Path) -> None:
    """Another process, here another pool, that knew all to be applied applies it again."""
    async with SingleConnectionPool(path) as pool:
        other = MigrationManager(pool, THREE)
        await at_three.migrate_down(1)
        async with SingleConnectionPool(path) as third:
            await guarded(third, always=True).migrate_up()
        assert not await other.migrate_up()
        newest = (await at_three.snapshots())[0]
        assert 1 == newest.version
        await at_three.undo()

        assert [2, 3] == [step.version for step in (await other.migrate_up()).steps]
        assert not await at_three.migrate_up()


async def test_undo_by_name(at_three: MigrationManager, pool: SingleConnectionPool) -> None:
    """An older one is restored by its name or its path; an unknown one is refused."""
    await at_three.migrate_down(2)
    await at_three.migrate_down(0)
    older = (await at_three.snapshots())[1]

    assert older == (await at_three.undo(older.name)).restored
    assert 3 == await at_three.current_version()
    assert older == (await at_three.undo(str(older.path))).restored
    for name in ("nonsense", "../../state.db", "", "a\0b"):
        with pytest.raises(errors.SnapshotNotFound):
            await at_three.undo(name)


async def test_undo_without_snapshots(at_three: MigrationManager) -> None:
    """With nothing to restore nothing is done."""
    with pytest.raises(errors.SnapshotNotFound, match="no snapshot in"):
        await at_three.undo()


async def test_undo_to_the_very_beginning(pool: SingleConnectionPool, path: Path) -> None:
    """A snapshot of an empty database, one page long, can be restored, and what was is kept."""
    manager = guarded(pool, always=True)
    await manager.migrate_up()

    done = await manager.undo()
    tables = sql(path, "SELECT name FROM sqlite_schema")
    assert ([("schema_migrations_log",)], 3) == (tables, done.replaced.version)
    assert "undo" == (await manager.log())[-1].action
    assert 3 == len((await manager.migrate_up()).steps)


async def test_undo_to_an_emptiness_of_one_page(pool: SingleConnectionPool, path: Path) -> None:
    """Where an empty database cannot be made longer, there is no way that can be taken back."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA auto_vacuum = FULL")
        db.execute("VACUUM")
    manager = guarded(pool, always=True)
    await manager.migrate_up()
    with pytest.raises(errors.SnapshotUnusable, match="it is empty"):
        await manager.undo()

    assert 3 == await manager.current_version()


async def test_undo_brings_back_a_file_that_is_gone(
    at_three: MigrationManager, pool: SingleConnectionPool, path: Path
) -> None:
    """The database is deleted: undo makes it anew."""
    before = content(path)
    await at_three.migrate_down(0)
    await pool.close()
    for file in path.parent.glob("state.db*"):
        file.unlink()

    await at_three.undo()
    assert before == content(path)


async def test_undo_of_a_database_that_is_not_in_wal(
    at_three: MigrationManager, pool: SingleConnectionPool, path: Path
) -> None:
    """It is switched to WAL first, so that others can read on, and stays there."""
    before = content(path)
    await at_three.migrate_down(0)
    await pool.close()
    assert [("delete",)] == sql(path, "PRAGMA journal_mode = DELETE")

    impatient = MigrationManager(pool, THREE, lock_timeout=0.1)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM sqlite_schema").fetchall()
        with pytest.raises(errors.DatabaseLocked):
            await impatient.undo()

    await at_three.undo()
    assert before == content(path)


async def test_a_snapshot_of_another_page_size(
    at_three: MigrationManager, pool: SingleConnectionPool, path: Path
) -> None:
    """It cannot be written into the live file, and that is told."""
    await at_three.migrate_down(2)
    await pool.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = DELETE").fetchall()
        db.execute("PRAGMA page_size = 512")
        db.execute("VACUUM")
    before = content(path)
    with pytest.raises(errors.SnapshotUnusable, match="4096 bytes, those of the database 512"):
        await at_three.undo()

    assert before == content(path)


@pytest.mark.parametrize("damage", [b"", b"\0" * 9000, b"text" * 4000, None])
async def test_a_damaged_snapshot_is_refused(
    at_three: MigrationManager, path: Path, damage: bytes | None
) -> None:
    """Nothing is written that has not been found whole, and nothing is left behind."""
    await at_three.migrate_down(2)
    (snapshot,) = taken(path)
    snapshot.chmod(0o600)
    snapshot.write_bytes(snapshot.read_bytes()[:-4096] if damage is None else damage)
    before = content(path)
    if damage == b"":
        await at_three.undo()  # an empty file is an empty database
        return
    with pytest.raises(errors.SnapshotUnusable):
        await at_three.undo()

    assert before == content(path)
    assert [snapshot] == taken(path)


async def test_the_warning_for_a_damaged_snapshot(at_three: MigrationManager, path: Path) -> None:
    """What cannot be read cannot be compared, and that is told before anybody is asked."""
    await at_three.migrate_down(2)
    taken(path)[0].write_bytes(b"text" * 4000)

    with pytest.raises(errors.SnapshotUnusable, match="not a database"):
        await at_three.plan_undo()


async def test_rows_are_carried_over(
    at_three: MigrationManager, pool: SingleConnectionPool, path: Path
) -> None:
    """What a caller wants to survive is read from the old, written to the new, under the lock."""
    await at_three.migrate_down(2)
    sql(path, "INSERT INTO t1 VALUES (77)")

    def carry(old: EngineConnection, new: EngineConnection) -> None:
        with (
            closing(sqlite3.connect(path, timeout=0)) as other,
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            other.execute("BEGIN IMMEDIATE")
        for row in old.execute("SELECT x FROM t1 WHERE x > 70"):
            new.execute("INSERT INTO t1 VALUES (?)", row)

    shelf = Snapshots(str(path), ALWAYS)
    await pool.run(partial(restore, shelf, shelf.find(), 60, carry))
    assert [(1,), (77,)] == sql(path, "SELECT x FROM t1")
    assert [(3,)] == sql(path, "SELECT x FROM t3")
    assert [(3,)] == sql(taken(path)[0], "SELECT x FROM t3")
    assert [] == sql(taken(path)[0], "SELECT x FROM t1 WHERE x = 77")


async def test_what_carries_may_fail(
    at_three: MigrationManager, pool: SingleConnectionPool, path: Path
) -> None:
    """Whatever is raised there comes out, nothing is changed, and the pool is usable."""
    await at_three.migrate_down(2)
    before, there = content(path), taken(path)

    def carry(old: EngineConnection, new: EngineConnection) -> None:
        new.execute("INSERT INTO t1 VALUES (77)")
        raise LookupError

    shelf = Snapshots(str(path), ALWAYS)
    with pytest.raises(LookupError):
        await pool.run(partial(restore, shelf, shelf.find(), 60, carry))
    assert (before, there) == (content(path), taken(path))
    assert 2 == await at_three.current_version()
    await at_three.migrate_up()


async def test_undo_waits_for_a_writer_and_not_for_ever(
    at_three: MigrationManager, pool: SingleConnectionPool, path: Path
) -> None:
    """A held lock is waited for until the lock timeout, and a cancellation is felt meanwhile."""
    await at_three.migrate_down(2)
    impatient = MigrationManager(pool, THREE, lock_timeout=0.2)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(errors.DatabaseLocked):
            await impatient.undo()
        start = monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await at_three.undo()
        assert monotonic() - start < 1
        undoing = asyncio.ensure_future(at_three.undo())
        await asyncio.sleep(0.05)
        other.execute("INSERT INTO t1 VALUES (55)")
        other.execute("COMMIT")
        replaced = (await undoing).replaced
    assert [(1,), (55,)] == sql(replaced.path, "SELECT x FROM t1")
    assert 2 == len(taken(path))
    assert 3 == await at_three.current_version()


async def test_undo_can_be_cancelled_at_any_moment(
    at_three: MigrationManager, pool: SingleConnectionPool, path: Path
) -> None:
    """It is done or it is not; nothing is left over, and the pool is usable."""
    async with pool.acquire() as connection:
        await connection.execute_fetchall("INSERT INTO t1 SELECT randomblob(2000000)")
    await at_three.migrate_down(2)
    before, found = content(path), set()
    for number in range(rounds(10, 200)):
        (snapshot,) = taken(path)
        with suppress(TimeoutError):
            async with asyncio.timeout(0.002 * (number % 20)):
                await at_three.undo()
        version = await at_three.current_version()
        found.add(version)
        if version == 3:
            assert 2 == len(taken(path))
            for path_ in taken(path):
                if path_ != snapshot:
                    path_.unlink()
            await MigrationManager(pool, THREE).migrate_down(2)
        else:
            assert [snapshot] == taken(path)
            assert before == content(path)
    assert found <= {2, 3}


async def test_others_read_on_during_an_undo(at_three: MigrationManager, path: Path) -> None:
    """A process that has the database open sees what is restored by its next statement."""
    await at_three.migrate_down(2)
    sql(path, "INSERT INTO t1 VALUES (5)")
    with running(READER, path) as reader:
        lets_go(reader)
        hears(reader, "2")
        hears(reader, "no such table: t3")
        await at_three.undo()
        lets_go(reader)
        hears(reader, "1")
        hears(reader, "1")
        await at_three.migrate_down(2)
        lets_go(reader)
        hears(reader, "1")
        hears(reader, "no such table: t3")


@pytest.mark.chaos
async def test_others_write_on_during_undos(
    at_three: MigrationManager, pool: SingleConnectionPool, path: Path
) -> None:
    """A process that writes every millisecond goes on; only whole transactions are lost."""
    async with pool.acquire() as connection:
        await connection.execute_fetchall("DELETE FROM t1")
    await at_three.migrate_down(2)
    with running(BUSY_WRITER, path) as writer:
        hears(writer, "ready")
        for _ in range(rounds(5, 50)):
            await at_three.undo()
            await asyncio.sleep(0.02)
        assert writer.poll() is None
    assert [(0,)] == sql(path, "SELECT coalesce(sum(x), 0) FROM t1")
    for found in [path, *taken(path)]:
        assert content(found)
        assert [(0,)] == sql(found, "SELECT coalesce(sum(x), 0) FROM t1")


@pytest.mark.chaos
def test_many_workers_take_one(tmp_path: Path) -> None:
    """Sixteen start at once, whoever runs which step: there is one, of the state before."""
    for number in range(rounds(2, 20)):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / "state.db"
        asyncio.run(worker.migrate(path, FILLED, 5))
        outcomes = race([("guarded up", path, "FILLED")] * 16)

        assert [None] * 16 == [outcome["error"] for (outcome,) in outcomes], outcomes
        assert [5] == versions(taken(path))
        assert 20 == checked_fill(path)
        shutil.rmtree(folder)


@pytest.mark.chaos
def test_two_undos_at_once(tmp_path: Path) -> None:
    """One waits for the other; both end well, and each keeps what it replaced."""
    for number in range(rounds(3, 20)):
        (folder := tmp_path / str(number)).mkdir()
        path = folder / "state.db"
        asyncio.run(worker.migrate(path, FILLED, 15))
        asyncio.run(worker.act("guarded down", str(path), FILLED))
        outcomes = race([("undo", path, "FILLED")] * 2)

        assert [None] * 2 == [outcome["error"] for (outcome,) in outcomes], outcomes
        assert checked_fill(path) in {10, 15}
        assert 3 == len(taken(path))
        shutil.rmtree(folder)


@pytest.mark.chaos
@pytest.mark.parametrize("action", ["guarded down", "undo"])
def test_a_kill_leaves_the_original_and_no_half_snapshot(tmp_path: Path, action: str) -> None:
    """`kill -9` at any moment: it is done or it is not, and the next run clears what is left."""
    chance, seconds, left = Random(5), 0.0, 0
    for number in range(rounds(6, 50) + 1):
        (folder := tmp_path / str(number)).mkdir()
        path = folder / "state.db"
        asyncio.run(worker.migrate(path, FILLED))
        if action == "undo":
            asyncio.run(worker.act("guarded down", str(path), FILLED))
        with started(action, path, "FILLED") as process:
            hears(process, "ready")
            lets_go(process)
            if number == 0:  # how long it takes
                ((outcome,), process.stdin) = (ended(process), None)
                seconds = outcome["seconds"]
            else:
                sleep(seconds * chance.random())
                process.kill()
                process.wait()
        places = folder / ".wave" / "snapshots"
        left += any(p.name.startswith(".") for p in places.glob("*"))
        shutil.copytree(folder, folder / "copy")  # looked at there: to look is to recover
        assert 10 <= checked_fill(folder / "copy" / "state.db") <= 20
        for snapshot in places.glob("*.db"):
            assert checked_fill(snapshot) == int(snapshot.name.split("-v")[1].split("-")[0])
        asyncio.run(worker.migrate(path, FILLED, 20))
        asyncio.run(worker.act("guarded down", str(path), FILLED))
        asyncio.run(worker.act("undo", str(path), FILLED))
        assert 20 == checked_fill(path)
        assert [] == [p for p in taken(path) if Snapshot.at(p) is None]
        shutil.rmtree(folder)
    worker.say(f"\n{action}: {number} kills, failures 0, {left} with leftovers")


@pytest.mark.chaos
def test_a_full_disk(disk: Path, tmp_path: Path) -> None:
    """No room for a snapshot: refused beforehand, or as it fills; everything is as it was."""
    path = disk / "state.db"
    asyncio.run(worker.migrate(path, FILLED))
    size = path.stat().st_size
    before = checked_fill(path)
    filler = fill(disk, size // 1024 - 100)
    with started("guarded down", path, "FILLED") as process:
        hears(process, "ready")
        (outcome,) = ended(process)
    assert "NoSpace" == outcome["error"], outcome
    assert outcome["message"].startswith(f"no room for a copy in {disk}/.wave/snapshots/.state.")
    assert ([], before) == (taken(path), checked_fill(path))

    filler.unlink()
    asyncio.run(worker.act("guarded down", str(path), FILLED))
    filler = fill(disk, size // 1024 + 200)
    with started("undo", path, "FILLED") as process:
        hears(process, "ready")
        (outcome,) = ended(process)
    assert outcome["error"] in {"NoSpace", "DatabaseUnusable", "SnapshotFailed"}, outcome
    filler.unlink()
    assert (10, 1) == (checked_fill(path), len(taken(path)))
    asyncio.run(worker.act("undo", str(path), FILLED))
    assert 20 == checked_fill(path)


@pytest.mark.chaos
def test_a_disk_that_is_read_only(disk: Path, path: Path) -> None:
    """Where no snapshot can be written, nothing is rolled back, and nothing restored."""
    asyncio.run(worker.migrate(path, THREE))
    asyncio.run(downwards(path, 2, disk))
    (snapshot,) = disk.iterdir()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    before = content(path)
    for job in (downwards(path, 1, disk), undone(path, disk)):
        with pytest.raises(errors.SnapshotFailed, match="read-only file system"):
            asyncio.run(job)

    assert (before, [snapshot]) == (content(path), list(disk.iterdir()))
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)


async def downwards(path: Path, target: int, directory: Path) -> None:
    """Roll back with snapshots in a directory."""
    async with SingleConnectionPool(path) as pool:
        await guarded(pool, directory=directory).migrate_down(target)


async def undone(path: Path, directory: Path) -> None:
    """Restore the newest snapshot in a directory."""
    async with SingleConnectionPool(path) as pool:
        await guarded(pool, directory=directory).undo()


async def test_the_commands(here: Path) -> None:
    """What `snapshots` and `undo` say, and that `undo` asks."""
    assert "No snapshots\n" == (await wave("snapshots")).stdout
    await wave("up")
    sql(
        here,
        "INSERT INTO pipeline_run (run_id, pipeline_name, status, started_at) VALUES "
        "('a', 'p', 'running', 1)",
    )
    await wave("down", 2, "--yes")
    (snapshot,) = (here.parent / "snapshots").iterdir()

    (line,) = (await wave("snapshots")).stdout.splitlines()
    assert line.startswith(f"{snapshot.name}  (version 5, taken 20")
    (document,) = json.loads((await wave("snapshots", "--json")).stdout)["snapshots"]
    assert (snapshot.name, 5) == (document["name"], document["version"])
    refused = await wave("undo")
    assert (1, True) == (refused.exit_code, "no terminal to ask on" in refused.stderr)
    done = await wave("undo", "--yes")
    assert done.stdout.startswith("WARNING: Restoring version 5, taken 20")
    assert "  performance_metric: no such table now, 0 row(s) in the snapshot\n" in done.stdout
    assert "\nRestored version 5\nWhat it replaced is kept: state-v2-20" in done.stdout
    again = json.loads((await wave("undo", "--yes", "--json")).stdout)
    assert (2, 5) == (again["restored"]["version"], again["replaced"]["version"])


async def test_the_options(here: Path, tmp_path: Path) -> None:
    """`--snapshot` takes one before any up, `--no-snapshot` none, `--snapshot-dir` says where."""
    elsewhere = tmp_path / "elsewhere"
    await wave("up", 3, "--snapshot", "--snapshot-dir", elsewhere)
    await wave("down", 2, "--yes", "--no-snapshot")
    await wave("up")
    assert (1, False) == (len(list(elsewhere.iterdir())), (here.parent / "snapshots").exists())

    listed = (await wave("snapshots", "--snapshot-dir", elsewhere)).stdout
    assert listed.startswith("state.")
    done = await wave("undo", listed.split()[0], "--yes", "--snapshot-dir", elsewhere)
    assert (0, 2) == (done.exit_code, len(list(elsewhere.iterdir()))), done.stderr
