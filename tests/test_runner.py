"""A manager opened from a path: what it adds is the configuration and the closing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from conftest import numbered, sql

from wave_async import MigrationConfig, MigrationRunner, errors
from wave_async.definitions import MIGRATIONS


def folder(path: Path) -> dict[str, bytes]:
    """Return everything beside a database; for when this process has no connection to it."""
    return {found.name: found.read_bytes() for found in path.parent.iterdir()}


async def test_a_runner_migrates_up_and_down_and_closes(path: Path) -> None:
    """Up, status, down and validate work on a path, and at the end only the database is left."""
    async with MigrationRunner(path, numbered(3)) as runner:
        assert [1, 2, 3] == [step.version for step in (await runner.migrate_up()).steps]
        assert 3 == (await runner.status()).current_version
        assert await runner.validate()
        assert [3, 2] == [effect.step.version for effect in (await runner.preview_down(1)).effects]
        assert [3, 2] == [step.version for step in (await runner.migrate_down(1)).steps]

    assert ["state.db"] == list(folder(path))


async def test_waves_own_migrations_are_the_default(path: Path) -> None:
    """Without migrations a runner has Wave's five."""
    async with MigrationRunner(path) as runner:
        status = await runner.status()

    assert [m.description for m in MIGRATIONS] == [m.description for m in status.migrations]


async def test_a_relative_path_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the runner names is where the file is, wherever the process goes later."""
    monkeypatch.chdir(tmp_path)

    assert str(tmp_path / "a.db") == MigrationRunner("a.db").database


async def test_an_up_with_nothing_to_do_opens_nothing(path: Path) -> None:
    """An up of an empty list, and one to version 0, leave a missing database missing."""
    for migrations, target in (([], None), (numbered(2), 0)):
        async with MigrationRunner(path, migrations) as runner:
            assert not await runner.migrate_up(target)

    assert {} == folder(path)


async def test_force_mark_applied_marks_all_below(path: Path) -> None:
    """`force_mark_applied(v)` records 1..v and runs none of them; the file is made if need be."""
    async with MigrationRunner(path, numbered(3)) as runner:
        assert [1, 2] == [step.version for step in await runner.force_mark_applied(2)]
        assert [3] == [step.version for step in (await runner.migrate_up()).steps]

    assert [("schema_migrations",), ("t3",)] == sql(
        path, "SELECT name FROM sqlite_schema WHERE name NOT LIKE '%_log'"
    )


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [("migrate_up", ()), ("migrate_down", (0,)), ("force_mark_applied", (1,))],
)
async def test_switched_off_nothing_is_changed(
    path: Path, verb: str, arguments: tuple[int, ...]
) -> None:
    """With WAVE_MIGRATION_ENABLED=false what would write is refused; questions are answered."""
    async with MigrationRunner(path, numbered(3), config=MigrationConfig(enabled=False)) as runner:
        with pytest.raises(errors.MigrationsDisabled, match="WAVE_MIGRATION_ENABLED is false"):
            await getattr(runner, verb)(*arguments)
        assert 3 == len((await runner.status()).pending)
        assert await runner.validate()

    assert {} == folder(path)


async def test_the_configuration_reaches_the_manager(path: Path) -> None:
    """The limit holds back, and skipped validation accepts an edit."""
    async with MigrationRunner(path, numbered(3), config=MigrationConfig(max_version=2)) as runner:
        await runner.migrate_up()
        assert (2, ()) == ((await runner.status()).current_version, (await runner.status()).due)
    sql(path, "UPDATE schema_migrations SET checksum = 'w1:0:0'")

    async with MigrationRunner(
        path, numbered(3), config=MigrationConfig(skip_validation=True)
    ) as runner:
        assert await runner.migrate_up()
        assert not await runner.validate()


async def test_a_busy_database_is_an_error_after_the_lock_timeout(path: Path) -> None:
    """Somebody else's write lock is waited for no longer than the configuration says."""
    sql(path, "CREATE TABLE theirs (x)")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with MigrationRunner(
            path, numbered(1), config=MigrationConfig(lock_timeout=0)
        ) as runner:
            with pytest.raises(errors.DatabaseLocked, match="database is locked"):
                await runner.migrate_up()
