"""The log: a row for everything that is done, and nothing that befalls it stops a migration."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import worker
from conftest import numbered, sql, wave
from worker import FILLED, checked_fill, race

from wave_async import (
    LogEntry,
    Migration,
    MigrationConfig,
    MigrationManager,
    SingleConnectionPool,
    SnapshotPolicy,
    errors,
    migrate_on_startup,
)
from wave_async.database import log
from wave_async.version import VERSION

THREE = numbered(3)


async def ask(
    path: Path,
    act: Callable[[MigrationManager], Awaitable[Any]],
    migrations: list[Migration] = THREE,
    **options: Any,
) -> Any:
    """Do something with a manager of its own."""
    async with SingleConnectionPool(path) as pool:
        return await act(MigrationManager(pool, migrations, **options))


async def told(path: Path) -> list[tuple[str, int | None, str]]:
    """Return what a log tells, in short."""
    entries: tuple[LogEntry, ...] = await ask(path, MigrationManager.log)
    return [(e.action, e.version, e.outcome) for e in entries]


async def test_everything_has_its_row(path: Path) -> None:
    """Ups, downs, repairs, baselines, undos, in the order they were done."""
    await ask(path, lambda m: m.migrate_up(2))
    await ask(path, lambda m: m.migrate_down(1), snapshots=SnapshotPolicy())
    sql(path, "UPDATE schema_migrations SET checksum = '412-C-;'")
    await ask(path, MigrationManager.repair)
    sql(path, "CREATE TABLE t2 (x INTEGER)")
    await ask(path, lambda m: m.baseline(2))
    await ask(path, MigrationManager.undo)
    rows = [("up", 1), ("up", 2), ("down", 2), ("repair", 1), ("baseline", 2), ("undo", 2)]

    assert [(*row, "done") for row in rows] == await told(path)


async def test_adoption_has_its_rows(path: Path) -> None:
    """What is recorded and not run is a skip; what runs after it an up."""
    sql(path, "CREATE TABLE t1 (x INTEGER)", "CREATE TABLE t2 (x INTEGER)")
    await ask(path, MigrationManager.migrate_up)

    rows = [("skip", 1), ("skip", 2), ("up", 3)]
    assert [(*row, "done") for row in rows] == await told(path)


async def test_a_failure_has_its_row(path: Path) -> None:
    """What was rolled back is told with its reason; a first migration that fails leaves nothing."""
    failing = [THREE[0], Migration(2, "Fail", "CREATE TABLE n (x); SELECT no", "SELECT no")]
    with pytest.raises(errors.MigrationFailed):
        await ask(path.with_name("new.db"), MigrationManager.migrate_up, [failing[1]])
    assert [] == sql(path.with_name("new.db"), "SELECT name FROM sqlite_schema")
    for _ in range(2):
        with pytest.raises(errors.MigrationFailed):
            await ask(path, MigrationManager.migrate_up, failing)
    done, *failed = await told(path)

    assert ("up", 1, "done") == done
    assert [("up", 2)] * 2 == [(action, version) for action, version, _ in failed]
    assert all("no such column: no" in outcome for *_, outcome in failed)
    assert [(1,)] == sql(path, "SELECT version FROM schema_migrations")


async def test_a_row(path: Path) -> None:
    """When, how long, with what checksum, by which tool, on which host, by which process."""
    before = time.time()
    await ask(path, lambda m: m.migrate_up(1))

    (entry,) = await ask(path, MigrationManager.log)
    ((checksum,),) = sql(path, "SELECT checksum FROM schema_migrations")
    assert ("up", 1, checksum, "done") == (
        entry.action,
        entry.version,
        entry.checksum,
        entry.outcome,
    )
    assert before <= entry.started_at <= time.time()
    assert 0 <= entry.duration < 60
    assert (f"wave-async {VERSION}", socket.gethostname(), os.getpid()) == (
        entry.tool,
        entry.host,
        entry.pid,
    )


async def test_an_old_database_gains_it(path: Path) -> None:
    """A database from before there was a log has one after its next step, no sooner."""
    await ask(path, lambda m: m.migrate_up(2), log=False)
    assert [] == await told(path)
    await ask(path, MigrationManager.status)
    assert [] == sql(path, f"SELECT * FROM sqlite_schema WHERE name = '{log.TABLE}'")
    await ask(path, MigrationManager.migrate_up)

    assert [("up", 3, "done")] == await told(path)


@pytest.mark.parametrize("way", ["option", "config"])
async def test_switched_off(path: Path, way: str) -> None:
    """Without a log there is no table, and everything else is done."""
    if way == "option":
        await ask(path, MigrationManager.migrate_up, log=False)
    else:
        async with SingleConnectionPool(path) as pool:
            config = MigrationConfig.from_env({"WAVE_MIGRATION_LOG": "false"})
            await migrate_on_startup(pool, THREE, config=config)

    names = sql(path, "SELECT name FROM sqlite_schema ORDER BY name")
    assert [("schema_migrations",), ("t1",), ("t2",), ("t3",)] == names


SPOILT = {
    "gone": (f"DROP TABLE {log.TABLE}",),
    "a view": (f"DROP TABLE {log.TABLE}", f"CREATE VIEW {log.TABLE} AS SELECT 1 AS id"),
    "other columns": (f"DROP TABLE {log.TABLE}", f"CREATE TABLE {log.TABLE} (x)"),
    "a column more": (f"ALTER TABLE {log.TABLE} ADD COLUMN x NOT NULL DEFAULT 1",),
    "a constraint": (f"CREATE UNIQUE INDEX u ON {log.TABLE} (tool)",),
    **{
        f"a trigger, {raised}": (
            f"CREATE TRIGGER g BEFORE INSERT ON {log.TABLE} BEGIN SELECT raise({raised}); END",
        )
        for raised in ("ABORT, ''", "FAIL, ''", "IGNORE", "ROLLBACK, ''")
    },
    "damaged rows": (
        f"INSERT INTO {log.TABLE} VALUES (7, x'00ff', 'x', 3.5, 'never', 9e999, '', '', '', 'p')",
        f"INSERT INTO {log.TABLE} VALUES (8, 'up', 1, '', 9e99, 1.0, '', '', '', 1)",
    ),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
async def test_a_spoilt_log_stops_nothing(path: Path, spoil: tuple[str, ...]) -> None:
    """Up, down, failure, repair and undo go on, and the log can be asked."""
    await ask(path, lambda m: m.migrate_up(1))
    sql(path, *spoil)
    failing = [*THREE[:2], Migration(3, "Fail", "SELECT no")]
    with pytest.raises(errors.MigrationFailed, match="no such column: no"):
        await ask(path, MigrationManager.migrate_up, failing)
    await ask(path, MigrationManager.migrate_up)
    await ask(path, lambda m: m.migrate_down(1), snapshots=SnapshotPolicy())
    sql(path, "UPDATE schema_migrations SET checksum = '412-C-;'")
    await ask(path, MigrationManager.repair)
    await ask(path, MigrationManager.undo)

    assert 3 == await ask(path, MigrationManager.current_version)
    assert await ask(path, MigrationManager.validate)
    await told(path)


@pytest.mark.parametrize(
    "statement",
    [
        f"INSERT INTO {log.TABLE} (action) VALUES ('up')",
        f"DELETE FROM {log.TABLE}",
        "UPDATE Schema_Migrations_LOG SET pid = 1",
        f"DROP TABLE {log.TABLE}",
        f"ALTER TABLE {log.TABLE} ADD COLUMN x",
        f"ALTER TABLE t1 RENAME TO {log.TABLE}",
        f"CREATE TEMP TABLE {log.TABLE} (x)",
        f"CREATE INDEX i ON {log.TABLE} (pid)",
        f"CREATE TRIGGER g AFTER INSERT ON t1 BEGIN DELETE FROM {log.TABLE}; END",
        f"CREATE TRIGGER g AFTER INSERT ON {log.TABLE} BEGIN SELECT 1; END",
    ],
)
async def test_no_migration_writes_it(path: Path, statement: str) -> None:
    """The guard refuses what would change the log, as it does for the history."""
    await ask(path, lambda m: m.migrate_up(1))
    with pytest.raises(errors.MigrationFailed) as failed:
        await ask(path, MigrationManager.migrate_up, [THREE[0], Migration(2, "Bad", statement)])

    assert isinstance(failed.value.__cause__, errors.StatementRefused)


async def test_a_migration_may_read_it(path: Path) -> None:
    """Reading does no harm."""
    await ask(path, lambda m: m.migrate_up(1))
    read = Migration(2, "Read", f"CREATE TABLE c AS SELECT count(*) AS n FROM {log.TABLE}")
    await ask(path, MigrationManager.migrate_up, [THREE[0], read])

    assert [(1,)] == sql(path, "SELECT n FROM c")


@pytest.mark.chaos
def test_many_workers(tmp_path: Path) -> None:
    """Sixteen start at once: each migration has one row, in order, and nobody fails."""
    path = tmp_path / "state.db"
    outcomes = race([("up", path, "FILLED")] * 16)

    assert [None] * 16 == [outcome["error"] for (outcome,) in outcomes]
    assert 20 == checked_fill(path)
    rows = sql(path, f"SELECT action, version, outcome FROM {log.TABLE} ORDER BY id")
    assert [("up", m.version, "done") for m in FILLED] == rows
    assert worker.history(path) == [version for _, version, _ in rows]


# The command.


async def test_the_transcript(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for each row, escaped; in JSON with its time in UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    await wave("up", 1)
    sql(
        here,
        f"UPDATE {log.TABLE} SET started_at = 1770131669.5, duration = 0.0125, host = 'a\x1bb', "
        "pid = 7, tool = 'wave-async 1'",
    )

    assert "2026-02-03 15:14:29 up 1: done in 0.013 s (wave-async 1, a\\x1bb, process 7)\n" == (
        await wave("log")
    ).stdout.replace("0.012 s", "0.013 s")
    document = json.loads((await wave("log", "--json")).stdout)
    (entry,) = document["log"]
    assert (str(here), "2026-02-03T15:14:29.500000Z", "a\x1bb") == (
        document["database"],
        entry["started_at"],
        entry["host"],
    )


async def test_nothing_to_tell(here: Path) -> None:
    """A missing database has no log, and is not made."""
    found = await wave("log")

    assert (0, "", "") == (found.exit_code, found.stdout, found.stderr)
    assert not here.parent.exists()


async def test_the_variable(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`WAVE_MIGRATION_LOG=false` keeps no log; what it cannot mean is an error."""
    monkeypatch.setenv("WAVE_MIGRATION_LOG", "off")
    await wave("up")
    assert "" == (await wave("log")).stdout
    monkeypatch.setenv("WAVE_MIGRATION_LOG", "maybe")

    assert "WAVE_MIGRATION_LOG='maybe' is not valid" in (await wave("up")).stderr
