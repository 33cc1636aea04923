"""Rehearsals: the real plan on a private copy, what it finds, and that nothing is left of it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from time import monotonic, sleep
from typing import Any

import aiosqlite
import pytest
import worker
from conftest import numbered, rounds, sql, wave
from test_disk import disk, fill
from worker import FILLED, checked_fill, hears

from wave_async import Migration, MigrationManager, SingleConnectionPool, errors
from wave_async.definitions import LEGACY_SCHEMA, MIGRATIONS
from wave_async.model.difference import Difference
from wave_async.model.rehearsal import Rehearsal
from wave_async.safety import rehearsal

__all__ = ["disk"]

TWO = numbered(2)
BUSY_WRITER = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
print("ready", flush=True)
longest = 0
while sys.stdin not in __import__("select").select([sys.stdin], [], [], 0.001)[0]:
    start = time.monotonic()
    db.execute("INSERT INTO t1 VALUES (1, 'x')")
    longest = max(longest, time.monotonic() - start)
print(longest, flush=True)
"""


def folder(path: Path) -> dict[str, bytes]:
    """Return every file beside a database."""
    return {str(p): p.read_bytes() for p in path.parent.rglob("*") if p.is_file()}


def places(path: Path) -> list[Path]:
    """Return where rehearsals are, or have been left."""
    return list(path.parent.glob(".*rehearsal*"))


def told(differences: tuple[Difference, ...] | None) -> list[str]:
    """Return differences as people read them."""
    return list(map(str, differences or ()))


async def rehearsed(
    pool: SingleConnectionPool, base: str, up: Any, down: Any = "", **options: Any
) -> Rehearsal:
    """Rehearse a second migration upon a database that a first one made."""
    first = Migration(1, "First", base)
    await MigrationManager(pool, [first]).migrate_up()
    return await MigrationManager(pool, [first, Migration(2, "Second", up, down)]).rehearse_up(
        **options
    )


T = "CREATE TABLE t (a); INSERT INTO t VALUES (1), (2), (NULL);"


async def test_what_passes(pool: SingleConnectionPool) -> None:
    """Steps with their times, what changes, rows gained; and going back restores the schema."""
    found = await rehearsed(
        pool, T, "CREATE TABLE u AS SELECT * FROM t; DELETE FROM t WHERE a = 1", "DROP TABLE u"
    )

    assert (True, "", "", ()) == (found.ok, found.failure, found.violations, found.damage)
    assert ([2], 1) == ([step.version for step in found.steps], len(found.times))
    assert (["table u: not ours"], ()) == (told(found.changes), found.back)
    assert [("t", 3, 2), ("u", None, 3)] == [(r.table, r.before, r.after) for r in found.rows]


async def test_a_failing_migration(pool: SingleConnectionPool) -> None:
    """What fails on the rows that are there is told as the run would, and goes no further."""
    found = await rehearsed(
        pool,
        T,
        "CREATE TABLE n (a NOT NULL); INSERT INTO n SELECT a FROM t;",
        "DROP TABLE n",
    )

    assert (False, None, (), ()) == (found.ok, found.back, found.changes, found.rows)
    assert "NOT NULL constraint failed: n.a" in found.failure


async def test_rows_lost_by_a_filter(pool: SingleConnectionPool) -> None:
    """A rebuild that does not copy every row is seen by the numbers of rows."""
    rebuild = (
        "CREATE TABLE n (a); INSERT INTO n SELECT a FROM t WHERE a > 1;"
        "DROP TABLE t; ALTER TABLE n RENAME TO t"
    )
    found = await rehearsed(pool, T, rebuild)

    assert [("t", 3, 1)] == [(r.table, r.before, r.after) for r in found.rows]
    assert (True, []) == (found.ok, told(found.changes))


async def test_new_violations_of_keys(pool: SingleConnectionPool) -> None:
    """Keys that lose their rows fail the migration, or are found by a look at the copy."""
    base = "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p REFERENCES p);"
    off = "PRAGMA foreign_keys = OFF; INSERT INTO c VALUES (7);"
    assert "foreign keys are violated: c -> p (1 new)" in (await rehearsed(pool, base, off)).failure

    kept = await rehearsed(pool, base, "DROP TABLE p")
    told_of = "foreign keys are violated: c -> p (no such table)"
    assert (False, "", told_of) == (kept.ok, kept.failure, kept.violations)


async def test_a_key_that_does_not_fit(pool: SingleConnectionPool) -> None:
    """A new key to columns that are not unique is told, not raised."""
    found = await rehearsed(pool, "CREATE TABLE p (a);", "CREATE TABLE c (a REFERENCES p (a))")

    assert (False, 'foreign key mismatch - "c" referencing "p"') == (found.ok, found.violations)


@pytest.mark.parametrize(
    ("down", "back"),
    [
        ("DROP TABLE u", ["index i: not ours"]),
        ("DROP INDEX i", ["table u: not ours"]),
        ("SELECT no", None),
        ("", None),
    ],
)
async def test_the_way_back(pool: SingleConnectionPool, down: str, back: list[str] | None) -> None:
    """What a rollback does not restore is told; None where there is none, or it fails."""
    up = "CREATE TABLE u (x); CREATE INDEX i ON t (a)"
    found = await rehearsed(pool, T, up, down)

    assert back == (None if found.back is None else told(found.back))
    assert found.ok


async def test_a_rollback_is_rehearsed(pool: SingleConnectionPool) -> None:
    """Going back is migrating up again, and nothing of it happens to the database."""
    manager = MigrationManager(pool, TWO)
    await manager.migrate_up()
    found = await manager.rehearse_down(0)

    assert [2, 1] == [step.version for step in found.steps]
    assert ["table t1: missing", "table t2: missing"] == told(found.changes)
    assert ((), True) == (found.back, found.ok)
    assert 2 == await manager.current_version()


def insert(connection: sqlite3.Connection) -> None:
    """Add a row, by a function of the application."""
    connection.execute("INSERT INTO t VALUES (twice(4))")


async def insert_later(db: aiosqlite.Connection) -> None:
    """Add a row from the event loop."""
    await db.execute("INSERT INTO t VALUES (twice(5))")


async def test_functions_setup_and_steps_outside(path: Path) -> None:
    """Python steps of either kind run, on connections prepared like the pool's own; so VACUUM."""

    def setup(connection: sqlite3.Connection) -> None:
        connection.create_function("twice", 1, lambda x: 2 * x)

    first, second = Migration(1, "First", T), Migration(2, "Fill", [insert, insert_later])
    third = Migration(3, "Shrink", "VACUUM", transaction=False)
    async with SingleConnectionPool(path, setup=setup) as pool:
        await MigrationManager(pool, [first]).migrate_up()
        manager = MigrationManager(pool, [first, second, third])
        found = await manager.rehearse_up()
        assert (True, [2, 3]) == (found.ok, [s.version for s in found.steps]), found.failure
        assert [("t", 3, 5)] == [(r.table, r.before, r.after) for r in found.rows]
        found = await manager.rehearse_up(schema_only=True)
        assert [("t", 0, 2)] == [(r.table, r.before, r.after) for r in found.rows]
    assert [(3,)] == sql(path, "SELECT count(*) FROM t")


@pytest.mark.parametrize("deep", [False, True])
async def test_a_missing_database(tmp_path: Path, deep: bool) -> None:  # noqa: FBT001
    """It is rehearsed as an empty one, and neither it nor its directory is made."""
    path = tmp_path / "no" / "such.db" if deep else tmp_path / "such.db"
    async with SingleConnectionPool(path) as pool:
        found = await MigrationManager(pool, TWO).rehearse_up()
    assert (True, (), "") == (found.ok, found.back, found.schema_only)
    assert [] == list(tmp_path.iterdir())


async def test_a_database_in_memory(tmp_path: Path) -> None:
    """It is rehearsed without its rows, and that is told; it stays as it is."""
    async with SingleConnectionPool(":memory:") as pool:
        found = await rehearsed(pool, T, "DELETE FROM t", "SELECT 1")
        assert ((), "a database in memory is not copied") == (found.rows, found.schema_only)
        async with pool.acquire() as db:
            assert [(3,)] == await db.execute_fetchall("SELECT count(*) FROM t")


async def test_a_database_to_be_adopted(path: Path) -> None:
    """Its adoption is rehearsed too, and going back goes no further than that."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript(LEGACY_SCHEMA + "CREATE TABLE mine (x);")
    before = folder(path)
    async with SingleConnectionPool(path) as pool:
        found = await MigrationManager(pool, MIGRATIONS).rehearse_up()
        adopted = (await MigrationManager(pool, MIGRATIONS).plan_up()).adopted
    assert (True, ()) == (found.ok, found.back)
    assert [s.version for s in adopted] + [s.version for s in found.steps] == [1, 2, 3, 4, 5]
    assert before == folder(path)


async def test_out_of_order(pool: SingleConnectionPool) -> None:
    """Of a version below an applied one it is not told that it could be taken back."""
    files = [
        Migration(m.version, m.description, m.up, m.down, origin=f"{m.version}.sql")
        for m in numbered(3)
    ]
    await MigrationManager(pool, [files[0], files[2]]).migrate_up()
    manager = MigrationManager(pool, files, allow_out_of_order=True)
    found = await manager.rehearse_up()

    assert (True, None, [2]) == (found.ok, found.back, [s.version for s in found.steps])


async def test_what_up_refuses_is_raised(pool: SingleConnectionPool, path: Path) -> None:
    """What the run would refuse beforehand is no finding, and leaves nothing."""
    await MigrationManager(pool, [Migration(1, "Another", "SELECT 1")]).migrate_up()
    await pool.close()
    for call in (
        lambda m: m.rehearse_up(),
        lambda m: m.rehearse_down(0),
        lambda m: m.rehearse_up(9),
    ):
        act: Callable[[MigrationManager], Any] = call
        with pytest.raises((errors.ChecksumMismatch, errors.InvalidTarget)):
            await act(MigrationManager(pool, TWO))
    assert [path] == list(path.parent.iterdir())


async def test_the_copy_is_private_and_gone(path: Path, tmp_path: Path) -> None:
    """Only this user may see it while it is there, wherever it is; then nothing of it is left."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    seen: list[list[tuple[Path, int]]] = []

    def look(_: sqlite3.Connection) -> None:
        seen.append(
            [
                (p, p.stat().st_mode & 0o777)
                for place in [*places(path), *elsewhere.iterdir()]
                for p in [place, *place.iterdir()]
            ]
        )

    old = os.umask(0)
    try:
        migrations = [TWO[0], Migration(2, "Look", look)]
        async with SingleConnectionPool(path) as pool:
            await MigrationManager(pool, migrations).migrate_up(1)
            await pool.close()
            before = folder(path)
            for directory in (None, elsewhere):
                await MigrationManager(pool, migrations).rehearse_up(directory=directory)
    finally:
        os.umask(old)
    for found, parent in zip(seen, (path.parent, elsewhere), strict=True):
        (place, mode), *inside = found
        assert (parent, 0o700) == (place.parent, mode)
        assert "state.db" in {p.name for p, _ in inside}
        assert {0o600} == {mode for _, mode in inside}
    assert (before, []) == (folder(path), list(elsewhere.iterdir()))


async def test_too_large_a_database(
    pool: SingleConnectionPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above the limit the schema alone is copied, and why is told; a full copy may be asked for."""
    monkeypatch.setattr(rehearsal, "LARGEST_COPY", 4096)
    found = await rehearsed(pool, T, "DELETE FROM t")
    assert ("the database is larger than 4.1 kB", ()) == (found.schema_only, found.rows)

    manager = MigrationManager(pool, [Migration(1, "First", T), Migration(2, "S", "DELETE FROM t")])
    found = await manager.rehearse_up(schema_only=False)
    assert ("", [("t", 3, 0)]) == (
        found.schema_only,
        [(r.table, r.before, r.after) for r in found.rows],
    )


@pytest.mark.chaos
async def test_no_room_for_a_copy(disk: Path) -> None:
    """Where the disk is full the schema alone is copied; asked for a full copy, it is refused."""
    path = disk / "state.db"
    await worker.migrate(path, FILLED)
    fill(disk, 100)
    async with SingleConnectionPool(path) as pool:
        manager = MigrationManager(pool, FILLED)
        found = await manager.rehearse_down(0)
        assert (True, True) == (found.ok, found.schema_only.startswith("no room for a copy in"))
        with pytest.raises(errors.NoSpace):
            await manager.rehearse_down(0, schema_only=False)
    assert ([], 20) == (places(path), checked_fill(path))


async def test_a_cancelled_rehearsal(pool: SingleConnectionPool, path: Path) -> None:
    """It ends at once, whatever it is at, leaves nothing behind, and the pool is usable."""
    forever = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
    steps = [TWO[0], Migration(2, "Long", f"CREATE TABLE u AS {forever} SELECT count(*) FROM n")]
    await MigrationManager(pool, steps).migrate_up(1)
    for number in range(rounds(5, 50)):
        start = monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01 * number):
                await MigrationManager(pool, steps).rehearse_up()
        assert monotonic() - start < 0.01 * number + 1
        assert ([], 1) == (places(path), await MigrationManager(pool, steps).current_version())


@pytest.mark.chaos
async def test_others_write_meanwhile(path: Path) -> None:
    """Somebody who writes every millisecond never fails nor waits long, and loses nothing."""
    await worker.migrate(path, FILLED)
    with subprocess.Popen(
        [sys.executable, "-c", BUSY_WRITER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        hears(writer, "ready")
        async with SingleConnectionPool(path) as pool:
            for _ in range(rounds(3, 30)):
                assert (await MigrationManager(pool, FILLED).rehearse_down(0)).ok
        told_, _ = writer.communicate("\n", timeout=worker.PATIENCE)
    assert (0, True) == (writer.returncode, float(told_) < 2), told_
    assert [("ok",)] == sql(path, "PRAGMA integrity_check")


@pytest.mark.chaos
def test_a_killed_rehearsal(tmp_path: Path) -> None:
    """`kill -9` at any moment: the database is as it was, and the next run clears what is left."""
    path, chance, left = tmp_path / "state.db", Random(7), 0
    asyncio.run(worker.migrate(path, FILLED))
    before = path.read_bytes()
    start = monotonic()
    worker.wave(path, "FILLED", "rehearse", "--down", "0").communicate(timeout=worker.PATIENCE)
    seconds = monotonic() - start
    for _ in range(rounds(3, 50)):
        with worker.wave(path, "FILLED", "rehearse", "--down", "0") as process:
            sleep(seconds * (0.3 + 0.7 * chance.random()))
            process.kill()
            process.communicate()
        left += len(places(path))
        with worker.wave(path, "FILLED", "rehearse", "--down", "19") as process:
            said, failed = process.communicate(timeout=worker.PATIENCE)
        assert (0, "", True) == (process.returncode, failed, said.endswith("Rehearsal passed\n"))
        assert ([path], before) == (list(tmp_path.iterdir()), path.read_bytes())
    worker.say(f"\nrehearsal: {rounds(3, 50)} kills, failures 0, {left} with leftovers")


# The command.


@pytest.fixture
def here(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the empty directory migrations of its own."""
    Path("m").mkdir()
    for name, text in {
        "1_t.up.sql": T,
        "1_t.down.sql": "DROP TABLE t;",
        "2_u.up.sql": "CREATE TABLE u (x); ALTER TABLE t ADD COLUMN b; DELETE FROM t WHERE a = 1",
        "2_u.down.sql": "DROP TABLE u;",
    }.items():
        Path("m", name).write_text(text)
    monkeypatch.setenv("WAVE_MIGRATIONS", "m")
    return here


REHEARSED = """\
Applying migration 2: u (0.000 s)
  table t: column b: added
  table u: added
  rows of t: 3 -> 2
  rows of u: none -> 0
Going back does not restore the schema:
  table t: column b: not ours
Rehearsal passed
"""


def untimed(text: str) -> str:
    """Return a transcript without its times."""
    return "".join(
        line.partition(" (")[0] + " (0.000 s)\n" if line.endswith(" s)\n") else line
        for line in text.splitlines(keepends=True)
    )


async def test_the_transcript(here: Path) -> None:
    """What it did, what changed, the rows, and whether one could go back; 80 columns."""
    await wave("up", 1)
    before = folder(here)

    found = await wave("rehearse")
    assert (REHEARSED, "", 0) == (untimed(found.stdout), found.stderr, found.exit_code)
    assert all(len(line) <= 80 for line in found.stdout.splitlines())
    assert before == folder(here)
    assert "Nothing to do\nRehearsal passed\n" == (await wave("rehearse", 1)).stdout
    assert 2 == (await wave("rehearse", "--down")).exit_code


async def test_the_transcript_of_a_failure(here: Path) -> None:
    """A problem ends it with exit code 1; it is on stdout, the answer to what was asked."""
    await wave("up")
    Path("m/3_no.up.sql").write_text("SELECT no")

    found = await wave("rehearse", "--schema-only")
    assert (1, "") == (found.exit_code, found.stderr)
    assert found.stdout.startswith("Rehearsed without rows: asked for\nProblem: migration 3")
    assert "no such column: no" in found.stdout
    assert found.stdout.endswith("\nRehearsal failed\n")


async def test_json(here: Path) -> None:
    """One document says the same."""
    await wave("up", 1)

    document = json.loads((await wave("rehearse", "--json")).stdout)
    (step,) = document.pop("steps")
    assert ({"version": 2, "description": "u"}, True) == (
        {key: step[key] for key in ("version", "description")},
        step["seconds"] > 0,
    )
    assert {
        "ok": True,
        "failure": None,
        "changes": ["table t: column b: added", "table u: added"],
        "rows": [
            {"table": "t", "before": 3, "after": 2},
            {"table": "u", "before": None, "after": 0},
        ],
        "violations": None,
        "damage": [],
        "reversible": True,
        "not_restored": ["table t: column b: not ours"],
        "schema_only": None,
    } == document


async def test_rehearse_first(here: Path) -> None:
    """`up --rehearse` makes a new database too; where the rehearsal fails it changes nothing."""
    assert 0 == (await wave("up", "--rehearse")).exit_code
    Path("m/3_no.up.sql").write_text("SELECT no")
    Path("m/2_u.down.sql").write_text("SELECT no")
    before = folder(here)

    for command in (["up"], ["down", 1, "--yes"]):
        refused = await wave(*command, "--rehearse")
        (line,) = refused.stderr.splitlines()
        assert (1, before) == (refused.exit_code, folder(here)), refused.stdout
        assert line.startswith("Error: ")
        assert "no such column: no" in line
    Path("m/2_u.down.sql").write_text("DROP TABLE u")
    assert 0 == (await wave("down", 1, "--yes", "--rehearse")).exit_code
    assert [(1,)] == sql(here, "SELECT version FROM schema_migrations")


async def test_another_place(here: Path, tmp_path: Path) -> None:
    """`--tmp` says where the copy is made; a place that is none is a mistake of usage."""
    await wave("up", 1)
    (tmp_path / "tmp").mkdir()

    assert 0 == (await wave("rehearse", "--tmp", "tmp")).exit_code
    assert [] == list((tmp_path / "tmp").iterdir())
    assert 2 == (await wave("rehearse", "--tmp", "nowhere")).exit_code
    with suppress(FileNotFoundError):
        shutil.rmtree("tmp")
