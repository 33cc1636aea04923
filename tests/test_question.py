from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from test_requests import opened

from wave_async import SingleConnectionPool
from wave_async.database import files, history
from wave_async.database.history import History
from wave_async.database.requests import Execute, Program, Query
from wave_async.errors import DatabaseLocked, DatabaseUnusable, NeedsRecovery

Folder = dict[str, tuple[bytes, int]]


def rows() -> Program[Any]:
    """Ask for what the test's table holds."""
    return (yield Query("SELECT x FROM t ORDER BY x"))


def make(path: Path, mode: str = "WAL") -> None:
    """Make a database with a table of one row, and close it."""
    with opened(path) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (1)")


def folder(path: Path) -> Folder:
    """Return every file beside a database with its bytes and its time."""
    return {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in path.parent.iterdir()}


async def test_a_missing_database_is_empty_and_stays_missing(tmp_path: Path) -> None:
    """A question on a missing file, in a missing directory even, is answered and makes neither."""
    async with SingleConnectionPool(tmp_path / "no" / "such" / "state.db") as pool:
        assert History(tracked=False) == await pool.ask(history.read)
    assert folder(tmp_path / "any") == {}


def dangle(link: Path) -> Path:
    """Make a link to nothing; answers the nothing."""
    target = link.with_name("missing")
    link.symlink_to(target)
    return target


async def test_a_dangling_link_stays_dangling(path: Path, pool: SingleConnectionPool) -> None:
    """A question through a link to nothing does not create the target."""
    target = dangle(path)

    assert History(tracked=False) == await pool.ask(history.read)
    assert not files.check(str(target))


def empty(path: Path) -> None:
    """Make a file of no bytes."""
    path.touch()


async def test_an_empty_file_is_an_empty_database(path: Path, pool: SingleConnectionPool) -> None:
    """A file of no bytes is read as a database without tables and stays empty."""
    empty(path)
    before = folder(path)

    assert History(tracked=False) == await pool.ask(history.read)
    assert before == folder(path)


@pytest.mark.parametrize("mode", ["WAL", "DELETE", "TRUNCATE", "PERSIST"])
async def test_a_question_leaves_no_trace(
    path: Path, pool: SingleConnectionPool, mode: str
) -> None:
    """Reading a database that nobody uses changes neither its bytes nor what lies beside it."""
    make(path, mode)
    before = folder(path)

    assert await pool.ask(rows) == [(1,)]
    assert before == folder(path)


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
async def test_a_question_cannot_write(path: Path, pool: SingleConnectionPool, mode: str) -> None:
    """A program that writes is refused by SQLite itself, and the error says so."""

    def writes() -> Program[None]:
        yield Execute("DELETE FROM t")

    make(path, mode)
    before = folder(path)

    with pytest.raises(DatabaseUnusable, match="SQLITE_READONLY"):
        await pool.ask(writes)
    assert before == folder(path)


async def test_a_live_log_is_read(path: Path, pool: SingleConnectionPool) -> None:
    """What a living connection has committed into the write-ahead log is seen."""
    make(path)
    with opened(path) as live:
        live.execute("INSERT INTO t VALUES (2)")
        live.execute("BEGIN")
        live.execute("INSERT INTO t VALUES (3)")

        assert await pool.ask(rows) == [(1,), (2,)]


async def test_a_crashed_log_is_read(
    path: Path, pool: SingleConnectionPool, tmp_path: Path
) -> None:
    """What a crashed process has committed into the log is seen, and the log is kept."""
    live = tmp_path / "live.db"
    make(live)
    with opened(live) as writer:
        writer.execute("INSERT INTO t VALUES (2)")
        for end in ("", "-wal"):
            shutil.copy(f"{live}{end}", f"{path}{end}")
    before = folder(path)

    assert await pool.ask(rows) == [(1,), (2,)]
    after = folder(path)
    assert all(before[name] == after[name] for name in ("state.db", "state.db-wal"))


async def test_a_writer_with_a_journal_is_not_seen(path: Path, pool: SingleConnectionPool) -> None:
    """Beside a writer in rollback mode only what was committed is seen."""
    make(path, "DELETE")
    with opened(path) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO t VALUES (2)")

        assert await pool.ask(rows) == [(1,)]


async def test_a_question_waits_no_longer_than_told(path: Path, pool: SingleConnectionPool) -> None:
    """Where a writer keeps readers out a question gives up with a clear error."""
    make(path, "DELETE")
    with opened(path) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        writer.execute("INSERT INTO t VALUES (2)")

        with pytest.raises(DatabaseLocked, match="database is locked"):
            await pool.ask(rows, patience=0.02)
    assert await pool.ask(rows) == [(1,)]


async def test_what_changed_meanwhile_is_read_again(path: Path, pool: SingleConnectionPool) -> None:
    """An answer that somebody wrote under is thrown away, and the question asked again."""
    make(path, "DELETE")
    answers: list[Any] = []

    def slowly() -> Program[Any]:
        answer = yield Query("SELECT count(*) FROM t")
        if not answers:
            with opened(path) as writer:
                writer.execute("INSERT INTO t VALUES (zeroblob(100000))")
        answers.append(answer)
        return answer

    assert await pool.ask(slowly) == [(2,)]
    assert answers == [[(1,)], [(2,)]]


async def test_an_error_under_a_change_is_not_told(path: Path, pool: SingleConnectionPool) -> None:
    """A read that failed because somebody wrote is repeated, and only the second one counts."""
    make(path, "DELETE")
    asked: list[None] = []

    def fails_once() -> Program[Any]:
        asked.append(None)
        if len(asked) == 1:
            with opened(path) as writer:
                writer.execute("INSERT INTO t VALUES (zeroblob(100000))")
            yield Query("NONSENSE")
        return (yield Query("SELECT count(*) FROM t"))

    assert await pool.ask(fails_once) == [(2,)]


def crash_with_a_hot_journal(path: Path) -> None:
    """Leave what a writer leaves that dies after its cache has spilled into the file."""
    live = path.with_name("live.db")
    make(live, "DELETE")
    with opened(live) as writer:
        writer.execute("PRAGMA cache_size = 1")
        writer.execute("BEGIN")
        writer.execute("UPDATE t SET x = 2")
        for _ in range(100):
            writer.execute("INSERT INTO t VALUES (zeroblob(5000))")
        for end in ("", "-journal"):
            shutil.copy(f"{live}{end}", f"{path}{end}")


async def test_a_hot_journal_is_left_to_a_writer(path: Path, pool: SingleConnectionPool) -> None:
    """A question does not repair what a crashed writer left, it says who can."""
    crash_with_a_hot_journal(path)
    before = folder(path)

    with pytest.raises(NeedsRecovery, match="the next write access repairs it"):
        await pool.ask(rows)
    assert before == folder(path)


async def test_a_writer_repairs_a_hot_journal(path: Path, pool: SingleConnectionPool) -> None:
    """A run is not stopped by a hot journal: it rolls it back, as any writer would."""
    crash_with_a_hot_journal(path)

    assert await pool.run(rows, judge=rows) == [(1,)]
    assert "state.db-journal" not in folder(path)
    assert await pool.ask(rows) == [(1,)]


def text(path: Path) -> None:
    """Make a file that is no database."""
    path.write_text("This is a shopping list, and long enough to have a header's size. " * 20)


def half(path: Path) -> None:
    """Make a database that was cut."""
    with opened(path) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (zeroblob(3000))", [()] * 50)
    path.write_bytes(path.read_bytes()[:6000])


@pytest.mark.parametrize(
    ("spoil", "reason"), [(text, "not an SQLite database"), (half, "it is damaged")]
)
async def test_a_file_that_is_no_database_is_left_as_it_is(
    path: Path, pool: SingleConnectionPool, spoil: Callable[[Path], None], reason: str
) -> None:
    """Neither a question nor a run changes a file that they cannot read."""
    spoil(path)
    before = folder(path)

    with pytest.raises(DatabaseUnusable, match=reason):
        await pool.ask(rows)
    with pytest.raises(DatabaseUnusable, match=reason):
        await pool.run(rows, judge=rows)
    assert before == folder(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write in a read-only directory")
@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
async def test_a_read_only_directory_is_no_obstacle(
    path: Path, pool: SingleConnectionPool, mode: str
) -> None:
    """A database that nobody uses is read where nothing can be written."""
    make(path, mode)
    path.parent.chmod(0o500)
    try:
        assert await pool.ask(rows) == [(1,)]
    finally:
        path.parent.chmod(0o700)


async def test_an_open_pool_is_asked_on_its_connection(
    path: Path, pool: SingleConnectionPool
) -> None:
    """Once the pool is open a question sees what only its connection sees."""
    make(path)
    async with pool.acquire() as connection:
        await connection.execute("CREATE TEMP TABLE only_here (x)")

    def tables() -> Program[Any]:
        return (yield Query("SELECT name FROM temp.sqlite_schema"))

    assert await pool.ask(tables) == [("only_here",)]
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT name FROM temp.sqlite_schema").fetchall() == []
