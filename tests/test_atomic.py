"""All pending migrations in one transaction: all or none."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from conftest import numbered

from wave_async import Migration, MigrationManager, SingleConnectionPool, errors


def names(path: Path) -> set[str]:
    """Return what there is in a database."""
    with closing(sqlite3.connect(path)) as db:
        return {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}


async def test_all_are_applied(pool: SingleConnectionPool, path: Path) -> None:
    """Every step is recorded, logged and told, as if it had a transaction of its own."""
    manager = MigrationManager(pool, numbered(3))
    done = await manager.migrate_up(atomic=True)

    assert [1, 2, 3] == [step.version for step in done.steps]
    assert [1, 2, 3] == [row.version for row in await manager.applied()]
    assert [("up", 1), ("up", 2), ("up", 3)] == [(e.action, e.version) for e in await manager.log()]
    assert not await manager.migrate_up(atomic=True)
    assert {"t1", "t2", "t3"} <= names(path)


@pytest.mark.parametrize("start", [0, 1])
async def test_one_that_fails_takes_all_back(
    pool: SingleConnectionPool, path: Path, start: int
) -> None:
    """Nothing of this run stays, and nothing is said to be done for good."""
    broken = [*numbered(3), Migration(4, "Broken", "CREATE TABLE t4 (x); NONSENSE")]
    if start:
        await MigrationManager(pool, broken).migrate_up(start)
    before = names(path)
    with pytest.raises(errors.MigrationFailed) as failed:
        await MigrationManager(pool, broken).migrate_up(atomic=True)

    assert (4, ()) == (failed.value.version, failed.value.done)
    assert before == names(path)
    assert start == await MigrationManager(pool, broken).current_version()
    assert (await MigrationManager(pool, broken[:3]).migrate_up(atomic=True)).steps


async def test_it_is_one_transaction(pool: SingleConnectionPool, path: Path) -> None:
    """A later migration sees what an earlier one did before anybody else does."""
    seen: list[Any] = []

    def look(connection: sqlite3.Connection) -> None:
        seen.extend(connection.execute("SELECT count(*) FROM t1").fetchall())
        seen.append(names(path) & {"t1"})

    steps = [*numbered(1), Migration(2, "Look", look)]
    await MigrationManager(pool, steps).migrate_up(atomic=True)

    assert [(0,), set()] == seen


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"transaction": False, "up": "VACUUM"}, "it runs outside a transaction"),
        ({"foreign_keys": False, "up": ""}, "foreign keys are not as in migration 1"),
    ],
)
async def test_what_cannot_be_one_transaction_is_refused(
    pool: SingleConnectionPool, path: Path, options: dict[str, Any], problem: str
) -> None:
    """Nothing is changed, and the migration is named."""
    known = [*numbered(1), Migration(2, "Second", **options)]
    with pytest.raises(errors.NotAtomic) as refused:
        await MigrationManager(pool, known).migrate_up(atomic=True)

    assert errors.NotAtomic(2, problem).args == refused.value.args
    assert set() == names(path)


async def test_keys_may_be_off_in_all_of_them(pool: SingleConnectionPool) -> None:
    """Where no migration wants keys, none has them, and each is checked at its end."""
    base = "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p REFERENCES p (id));"
    broken = Migration(2, "Break", "INSERT INTO c VALUES (7)", foreign_keys=False)
    known = [Migration(1, "Base", base, foreign_keys=False), broken]
    with pytest.raises(errors.MigrationFailed) as failed:
        await MigrationManager(pool, known).migrate_up(atomic=True)

    assert isinstance(failed.value.__cause__, errors.KeysViolated)
    assert 0 == await MigrationManager(pool, known).current_version()


@pytest.mark.parametrize("at", range(0, 12, 3))
async def test_cancelled_it_leaves_nothing(pool: SingleConnectionPool, path: Path, at: int) -> None:
    """Cancelled at any moment it is done wholly or not at all, and the pool is usable at once."""
    many = [
        Migration(
            n,
            f"Fill {n}",
            f"CREATE TABLE t{n} AS WITH RECURSIVE i (x) AS (SELECT 1 "
            "UNION ALL SELECT x + 1 FROM i WHERE x < 20000) SELECT x FROM i",
        )
        for n in range(1, 6)
    ]
    with anyio.move_on_after(at / 1000):
        await MigrationManager(pool, many).migrate_up(atomic=True)

    assert await MigrationManager(pool, many).current_version() in {0, 5}
