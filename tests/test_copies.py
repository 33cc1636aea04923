"""Copies of a database in use: whole, private, and gone when a crash has left one behind."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest import rounds
from worker import hears, running

from wave_async import SingleConnectionPool, errors
from wave_async.database.files import MEMORY
from wave_async.safety.copies import (
    copy_database,
    copying,
    damage,
    opened,
    private_directory,
    require_space,
)

WRITER = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
for n in range(1, 10**9):
    db.execute("INSERT INTO t (x) VALUES (?)", (n,))
    if n == 1:
        print("writing", flush=True)
    time.sleep(0.001)
"""
HOLDER = """
import sys, time
from pathlib import Path
from wave_async.safety.copies import private_directory
with private_directory(Path(sys.argv[1]), ".a-") as place:
    (place / "copy.db").touch()
    print(place / "copy.db", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    """A database in WAL with some rows, that somebody has open."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("CREATE TABLE t (x INTEGER CHECK (x < 1000000))")
        connection.execute(
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 20000)"
            "INSERT INTO t SELECT x FROM c"
        )
        yield connection


def rows(path: Path) -> list[int]:
    """Return what a whole copy holds, in order."""
    with closing(sqlite3.connect(path)) as copy:
        assert [("ok",)] == copy.execute("PRAGMA integrity_check").fetchall()
        return [x for (x,) in copy.execute("SELECT x FROM t ORDER BY rowid")]


def test_a_copy_is_one_moment_while_another_process_writes(
    db: sqlite3.Connection, path: Path, tmp_path: Path
) -> None:
    """However often somebody writes meanwhile, a copy ends, and holds a prefix of what he wrote."""
    with running(WRITER, path) as writer:
        hears(writer, "writing")
        for number in range(5):
            with opened(path, read_only=True) as source:
                copy_database(source, tmp_path / f"{number}.db")
    lengths = [len(rows(tmp_path / f"{number}.db")) for number in range(5)]

    assert sorted(lengths) == lengths
    assert list(range(1, lengths[-1] - 20000 + 1)) == rows(tmp_path / "4.db")[20000:]


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_the_mode_of_a_copy(db: sqlite3.Connection, path: Path, tmp_path: Path, mode: int) -> None:
    """A copy has the mode that was asked for, and is one file with nothing beside it."""
    (folder := tmp_path / "copies").mkdir()
    with opened(path, read_only=True) as source:
        copy_database(source, folder / "copy.db", mode=mode, durable=True)

    assert ["copy.db"] == [p.name for p in folder.iterdir()]
    assert mode == (folder / "copy.db").stat().st_mode & 0o777
    assert 20000 == len(rows(folder / "copy.db"))
    assert ["copy.db"] == [p.name for p in folder.iterdir()]


def test_nothing_is_written_over(db: sqlite3.Connection, path: Path, tmp_path: Path) -> None:
    """A file that is there, a link included, stays as it is."""
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")

    with opened(path, read_only=True) as source, pytest.raises(FileExistsError):
        copy_database(source, tmp_path / "link")
    assert not (tmp_path / "elsewhere").exists()


def test_no_room_is_told_beforehand(tmp_path: Path) -> None:
    """Both figures are told, and what to do."""
    with pytest.raises(errors.NoSpace) as caught:
        require_space(tmp_path, 1 << 60)

    assert 1 << 60 == caught.value.needed > caught.value.free > 0


def test_a_check_that_raises_ends_a_copy(
    db: sqlite3.Connection, path: Path, tmp_path: Path
) -> None:
    """What the check raises comes out, and the source can be used on."""

    def check() -> None:
        raise TimeoutError

    with opened(path, read_only=True) as source:
        with pytest.raises(TimeoutError):
            copy_database(source, tmp_path / "copy.db", check=check)
        with pytest.raises(TimeoutError):
            damage(source, check) or check()
        assert not source.in_transaction


def test_damage(db: sqlite3.Connection, path: Path, tmp_path: Path) -> None:
    """A torn page is damage; a row that breaks a CHECK is none."""
    db.execute("PRAGMA ignore_check_constraints = ON")
    db.execute("INSERT INTO t VALUES (1000000)")
    with opened(path, read_only=True) as source:
        copy_database(source, copy := tmp_path / "copy.db")
    with opened(copy) as connection:
        assert damage(connection) is None
    torn = bytearray(copy.read_bytes())
    torn[3 * 4096 : 4 * 4096] = os.urandom(4096)
    copy.write_bytes(torn)
    with opened(copy) as connection:
        assert damage(connection)
    copy.write_bytes(b"no database" * 1000)
    with opened(copy) as connection:
        assert "file is not a database" == damage(connection)


def test_a_copy_does_not_drop_the_locks_of_the_original(path: Path, tmp_path: Path) -> None:
    """In rollback mode a lock is a POSIX lock, which any close of the file would drop."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("CREATE TABLE t (x)")
        db.execute("BEGIN IMMEDIATE")
        with opened(path, read_only=True) as source:
            copy_database(source, tmp_path / "copy.db")
        code = (
            "import sqlite3, sys\n"
            "sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
        )
        other = subprocess.run(
            [sys.executable, "-c", code, str(path)], check=False, capture_output=True, text=True
        )
    assert "database is locked" in other.stderr


async def test_a_copy_as_a_question_of_the_pool(path: Path, tmp_path: Path) -> None:
    """The pool's own connection can be copied, in memory too, and is usable afterwards."""
    for number, name in enumerate((MEMORY, str(path))):
        async with SingleConnectionPool(name) as pool:
            async with pool.acquire() as connection:
                await connection.execute_fetchall("CREATE TABLE t (x)")
                await connection.execute_fetchall("INSERT INTO t VALUES (7)")
            target = tmp_path / f"{number}.db"
            await pool.ask(lambda target=target: copying(target))  # type: ignore[misc]
            async with pool.acquire() as connection:
                await connection.execute_fetchall("INSERT INTO t VALUES (8)")

        assert [7] == rows(target)


async def test_a_copy_can_be_cancelled(db: sqlite3.Connection, path: Path, tmp_path: Path) -> None:
    """A copy that takes long ends soon after its task is cancelled; the pool stays usable."""
    db.execute("CREATE TABLE big AS SELECT randomblob(30000000)")
    async with SingleConnectionPool(path) as pool:
        async with pool.acquire():
            pass
        for number in range(5):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.002 * number):
                    await pool.ask(lambda: copying(tmp_path / "copy.db"))
            async with pool.acquire() as connection:
                assert not connection.in_transaction


def test_leftovers_are_cleared_and_those_in_use_are_not(tmp_path: Path) -> None:
    """What nobody holds any more goes when the next one comes; other names stay."""
    (tmp_path / ".a-dead").mkdir()
    (tmp_path / ".a-dead" / "copy.db").touch()
    (tmp_path / ".b-dead").mkdir()
    (tmp_path / ".a-link").symlink_to(tmp_path / ".b-dead")
    with private_directory(tmp_path, ".a-") as first, private_directory(tmp_path, ".a-") as second:
        assert first != second
        assert {first, second, tmp_path / ".b-dead", tmp_path / ".a-link"} == set(
            tmp_path.iterdir()
        )
    assert {tmp_path / ".b-dead", tmp_path / ".a-link"} == set(tmp_path.iterdir())


@pytest.mark.chaos
def test_what_a_killed_run_left_is_cleared_by_the_next(tmp_path: Path) -> None:
    """`kill -9` leaves the copy; the next run removes it, and never one of a run that lives."""
    for _ in range(rounds(2, 50)):
        with running(HOLDER, tmp_path) as killed, running(HOLDER, tmp_path) as living:
            assert killed.stdout
            assert living.stdout
            left = Path(killed.stdout.readline().strip())
            used = Path(living.stdout.readline().strip())
            killed.kill()
            killed.wait()
            assert left.exists()
            with private_directory(tmp_path, ".a-"):
                assert (False, True) == (left.parent.exists(), used.exists())
    with private_directory(tmp_path, ".a-") as place:
        assert [place] == list(tmp_path.iterdir())
