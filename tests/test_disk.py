"""No room: the error says so, nothing is lost, and the run completes after space is made."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
import worker
from conftest import rounds
from worker import FILLED, PATIENCE, checked_fill, ended, hears, started, wave

from wave_async import MigrationManager, SingleConnectionPool, errors

pytestmark = pytest.mark.chaos

KB = 1024
DISK = 16 * KB * KB
ENOUGH = 1300
"""Less than what all migrations need, in KB; what is left may be anything up to this."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a small disk."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if mounted.returncode:
        pytest.skip(f"mounting is refused: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(disk: Path, free: int) -> Path:
    """Write a file that leaves so many KB on a disk."""
    about = os.statvfs(disk)
    filler = disk / "filler"
    filler.write_bytes(bytes(about.f_bavail * about.f_frsize - free * KB))
    return filler


def seen(folder: Path, copy: Path) -> int:
    """Return the version of a database and see that it is whole, in a copy."""
    shutil.copytree(folder, copy)
    version = checked_fill(copy / "state.db") if (copy / "state.db").exists() else 0
    shutil.rmtree(copy)
    return version


def complete(folder: Path, version: int) -> None:
    """Run what a failed run has left, and nothing else; remove the database."""
    done = asyncio.run(worker.migrate(folder / "state.db", FILLED))
    assert list(range(version + 1, 21)) == [step.version for step in done.steps]
    assert 20 == checked_fill(folder / "state.db")
    shutil.rmtree(folder)


def failed(path: Path) -> str:
    """Migrate on the command line; return the one line in which it fails."""
    with wave(path, "FILLED", "up") as process:
        _, told = process.communicate(timeout=PATIENCE)
    assert (1, "Error: ", 1) == (process.returncode, told[:7], told.count("\n")), told
    return told


def tell(title: str, stopped: Sequence[int]) -> None:
    """Print the summary of a test."""
    versions = sorted(set(stopped))
    worker.say(f"\n{title}: rounds {len(stopped)}, failures 0, stopped at versions {versions}")


async def test_a_database_that_may_not_grow_says_full_and_goes_on_when_it_may(
    tmp_path: Path,
) -> None:
    """`max_page_count` ends a run anywhere: the pool stays usable, and completes it later."""
    whole = tmp_path / "whole.db"
    await worker.migrate(whole, FILLED)
    with closing(sqlite3.connect(whole)) as db:
        ((needed,),) = db.execute("PRAGMA page_count")
    stopped = []
    for pages in range(2, needed, rounds(needed // 10, 3)):
        path = tmp_path / f"{pages}.db"
        async with SingleConnectionPool(path) as pool:
            manager = MigrationManager(pool, FILLED)
            async with pool.acquire() as connection:
                await connection.execute_fetchall(f"PRAGMA max_page_count = {pages}")
            with pytest.raises(errors.MigrationFailed, match=r"SQLITE_FULL: .* is full") as caught:
                await manager.migrate_up()
            version = await manager.current_version()

            assert version + 1 == caught.value.version
            assert tuple(range(1, version + 1)) == caught.value.done
            assert version == await asyncio.to_thread(checked_fill, path)
            async with pool.acquire() as connection:
                assert not connection.in_transaction
                await connection.execute_fetchall("PRAGMA max_page_count = 1000000")
            await manager.migrate_up()
        assert 20 == checked_fill(path)
        path.unlink()
        stopped.append(version)
    tell("max_page_count", stopped)


def test_a_disk_that_fills_up_is_told_and_the_run_completes_when_there_is_space(
    disk: Path, tmp_path: Path
) -> None:
    """The migration that found no room is named, those before it stay, the rest comes later."""
    stopped = []
    for free in range(64, ENOUGH, rounds(200, 25)):
        folder = disk / "data"
        folder.mkdir()
        filler = fill(disk, free)
        told = failed(folder / "state.db")
        version = seen(folder, tmp_path / "copy")

        assert f"Error: migration {version + 1} (" in told
        assert "SQLITE_FULL: database or disk is full" in told
        filler.unlink()
        complete(folder, version)
        stopped.append(version)
    tell("full disk", stopped)


@pytest.mark.parametrize("free", [0, 8, 32])
def test_a_disk_with_no_room_to_begin_is_told_to_be_full(
    disk: Path, tmp_path: Path, free: int
) -> None:
    """So few KB that SQLite cannot even set up its files: it is still called a full disk."""
    folder = disk / "data"
    folder.mkdir()
    filler = fill(disk, free)
    told = failed(folder / "state.db")

    assert "the disk is full; make space and try again" in told
    assert 0 == seen(folder, tmp_path / "copy")
    filler.unlink()
    complete(folder, 0)
    tell(f"{free} KB free", [0])


def test_a_start_with_nothing_to_do_needs_no_space(disk: Path) -> None:
    """An up-to-date database on a full disk: the start finds nothing to do, and writes nothing."""
    path = disk / "state.db"
    asyncio.run(worker.migrate(path, FILLED))
    fill(disk, 0)
    with started("startup", path, "FILLED") as process:
        hears(process, "ready")
        (outcome,) = ended(process)

    assert (None, 0) == (outcome["error"], outcome["steps"]), outcome
    assert {"filler", "state.db"} == {p.name for p in disk.iterdir()}
    tell("up to date on a full disk", [20])


def test_a_file_that_may_not_grow_loses_nothing(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stops a run with an I/O error; without the limit it completes."""
    stopped = []
    for limit in range(64, ENOUGH, rounds(300, 40)):
        folder = tmp_path / "data"
        folder.mkdir()
        with started("up", folder / "state.db", "FILLED") as process:
            hears(process, "ready")
            no_more = limit * KB, resource.RLIM_INFINITY
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, no_more)
            (outcome,) = ended(process)
        version = seen(folder, tmp_path / "copy")

        assert "MigrationFailed" == outcome["error"], outcome
        assert outcome["message"].startswith(f"migration {version + 1} ("), outcome
        assert "SQLITE_IOERR_WRITE: disk I/O error" in outcome["message"]
        complete(folder, version)
        stopped.append(version)
    tell("RLIMIT_FSIZE", stopped)
