"""The manager on real files: what it does, what it refuses, and that questions leave no trace."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import numbered, sql

from wave_async import (
    Direction,
    Migration,
    MigrationManager,
    Plan,
    SingleConnectionPool,
    State,
    errors,
)
from wave_async.definitions import LEGACY_SCHEMA, MIGRATIONS
from wave_async.model.events import Event, RunEnded, RunStarted, StepFinished, StepStarted

FOREVER = """
CREATE TABLE forever AS
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n;
"""


def script(path: Path, text: str) -> None:
    """Run a script as somebody else would."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(text)


def versions(path: Path) -> list[int]:
    """Return what the database records."""
    return [version for (version,) in sql(path, "SELECT version FROM schema_migrations")]


def tables(path: Path) -> set[str]:
    """Return the names of all tables but the bookkeeping."""
    rows = sql(
        path, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '%_log'"
    )
    return {name for (name,) in rows} - {"schema_migrations"}


def schema(path: Path) -> list[Any]:
    """Return all that the database says of its schema, but for where it lies in the file."""
    return sql(
        path,
        "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE '%_log'"
        " ORDER BY type, name",
    )


def folder(path: Path) -> dict[str, bytes]:
    """Return everything beside a database; for when this process has no connection to it."""
    return {found.name: found.read_bytes() for found in path.parent.iterdir()}


async def migrated(
    path: Path, migrations: Sequence[Migration], target: int | None = None, **options: Any
) -> Plan:
    """Migrate up on a pool of its own."""
    async with SingleConnectionPool(path) as pool:
        return await MigrationManager(pool, migrations, **options).migrate_up(target)


def stamped(*days: int) -> list[Migration]:
    """Migrations whose versions are days of January."""
    return [replace(m, version=20260100 + d) for d, m in zip(days, numbered(9), strict=False)]


# Up and down.


@pytest.mark.parametrize(
    ("start", "target", "applied"),
    [
        (0, None, [1, 2, 3, 4, 5]),
        (0, 5, [1, 2, 3, 4, 5]),
        (0, 3, [1, 2, 3]),
        (0, 0, []),
        (3, None, [4, 5]),
        (3, 4, [4]),
        (3, 3, []),
        (3, 1, []),
        (5, None, []),
    ],
)
async def test_up_applies_what_is_pending_up_to_the_target(
    pool: SingleConnectionPool, start: int, target: int | None, applied: list[int]
) -> None:
    """An up runs the pending migrations up to its target, lowest first, and says which."""
    manager = MigrationManager(pool, numbered(5))
    await manager.migrate_up(start)

    planned = await manager.plan_up(target)
    done = await manager.migrate_up(target)

    assert applied == [step.version for step in done.steps]
    assert planned == done
    assert [*range(1, start + 1), *applied] == [row.version for row in await manager.applied()]


@pytest.mark.parametrize(
    ("start", "target", "rolled_back"),
    [(5, 0, [5, 4, 3, 2, 1]), (5, 3, [5, 4]), (3, 3, []), (3, 4, []), (0, 0, [])],
)
async def test_down_rolls_back_what_is_above_the_target(
    path: Path, start: int, target: int, rolled_back: list[int]
) -> None:
    """A down runs the way back of everything above its target, newest first."""
    async with SingleConnectionPool(path) as pool:
        manager = MigrationManager(pool, numbered(5))
        await manager.migrate_up(start)

        planned = await manager.plan_down(target)
        done = await manager.migrate_down(target)

        assert rolled_back == [step.version for step in done.steps]
        assert planned == done
        assert min(start, target) == await manager.current_version()
    assert {f"t{n}" for n in range(1, min(start, target) + 1)} == tables(path)


@pytest.mark.parametrize(
    ("verb", "target", "sentence"),
    [
        ("migrate_up", -1, "target version -1 is below 0"),
        ("migrate_up", 6, "target version 6 is above the newest version, 5"),
        ("migrate_up", 5, "target version 5 is above WAVE_MAX_MIGRATION_VERSION=4"),
        ("migrate_down", -1, "target version -1 is below 0"),
        ("migrate_down", 6, "target version 6 is above the newest version, 5"),
        ("force_mark_applied", 6, "target version 6 is above the newest version, 5"),
    ],
)
async def test_a_target_out_of_range_is_an_error(
    path: Path, pool: SingleConnectionPool, verb: str, target: int, sentence: str
) -> None:
    """A target that is no version of ours is refused, and no database is made for it."""
    manager = MigrationManager(pool, numbered(5), max_version=4)

    with pytest.raises(errors.InvalidTarget) as caught:
        await getattr(manager, verb)(target)

    assert sentence == str(caught.value)
    assert {} == folder(path)


@pytest.mark.parametrize(("start", "limit", "end"), [(0, 0, 5), (0, 3, 3), (4, 3, 4), (3, 99, 5)])
async def test_the_limit_holds_newer_migrations_back(
    pool: SingleConnectionPool, start: int, limit: int, end: int
) -> None:
    """Nothing above `max_version` is applied; a database that is above it already is fine."""
    await MigrationManager(pool, numbered(5)).migrate_up(start)
    manager = MigrationManager(pool, numbered(5), max_version=limit)

    await manager.migrate_up()

    status = await manager.status()
    assert (end, 5 - end, ()) == (status.current_version, len(status.pending), status.due)


async def test_timestamps_have_gaps_and_are_sorted(pool: SingleConnectionPool) -> None:
    """Versions from 10^7 on may have gaps and may be given in any order."""
    manager = MigrationManager(pool, stamped(1, 5, 9)[::-1])

    done = await manager.migrate_up()

    assert [20260101, 20260105, 20260109] == [step.version for step in done.steps]


async def test_out_of_order_is_refused_unless_allowed(path: Path) -> None:
    """A migration that turns up below the newest applied one is run only on request."""
    first, late, last = stamped(1, 2, 3)
    await migrated(path, [first, last])
    before = folder(path)

    with pytest.raises(errors.OutOfOrder, match="20260102 is pending below the applied 20260103"):
        await migrated(path, [first, late, last])

    assert before == folder(path)
    assert [20260102] == [
        step.version
        for step in (await migrated(path, [first, late, last], allow_out_of_order=True)).steps
    ]


@pytest.mark.parametrize(
    ("migrations", "error"),
    [
        ([*numbered(2), Migration(4, "Jumps", "")], errors.VersionGap),
        ([*numbered(2), Migration(2, "Again", "")], errors.DuplicateVersion),
        ([Migration(1, "Open", "SELECT 'never closed")], errors.InvalidScript),
        ([Migration(1, "Open down", "", "/* never closed")], errors.InvalidScript),
        (["CREATE TABLE t (x)"], errors.InvalidMigration),
    ],
)
async def test_a_bad_list_fails_before_a_database_is_opened(
    path: Path, pool: SingleConnectionPool, migrations: list[Any], error: type[Exception]
) -> None:
    """A list that cannot be right raises, planned or run, and leaves no file."""
    manager = MigrationManager(pool, migrations)

    for verb in (manager.plan_up, manager.migrate_up):
        with pytest.raises(error):
            await verb()

    assert {} == folder(path)


async def test_an_empty_list_has_nothing_to_do(pool: SingleConnectionPool) -> None:
    """An application without migrations is at version 0 and up to date."""
    manager = MigrationManager(pool, [])

    assert not await manager.migrate_up()
    assert (0, ()) == (await manager.current_version(), await manager.pending())


async def test_a_list_may_begin_with_version_0(pool: SingleConnectionPool) -> None:
    """Version 0 is a version: it is applied once, recorded, and left by a down to 0."""
    manager = MigrationManager(pool, [Migration(0, "Base", "CREATE TABLE t0 (x)"), *numbered(2)])

    assert [0, 1, 2] == [step.version for step in (await manager.migrate_up()).steps]
    assert [2, 1] == [step.version for step in (await manager.migrate_down(0)).steps]
    assert [0] == [row.version for row in await manager.applied()]


async def test_down_to_0_and_up_again_gives_the_same_schema(path: Path) -> None:
    """Wave's own migrations come back as they were."""
    async with SingleConnectionPool(path) as pool:
        manager = MigrationManager(pool, MIGRATIONS)
        await manager.migrate_up()
        before = schema(path)

        await manager.migrate_down(0)
        assert {"sqlite_sequence"} == tables(path)
        await manager.migrate_up()

    assert before == schema(path)


async def test_events_tell_every_step_in_order(pool: SingleConnectionPool) -> None:
    """`on_event` hears the beginning and the end of the run and of each step."""
    heard: list[Event] = []

    done = await MigrationManager(pool, numbered(2), on_event=heard.append).migrate_up()

    first, second = done.steps
    told = [StepStarted(first), StepFinished(first), StepStarted(second), StepFinished(second)]
    assert [RunStarted(Direction.UP, 2), *told, RunEnded(Direction.UP, done.steps)] == heard


# What is not written.


def _rollback_mode(path: Path) -> None:
    sql(path, "PRAGMA journal_mode = DELETE")


def _missing(path: Path) -> None:
    path.unlink()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("change", [lambda _: None, _rollback_mode, _missing, _empty])
async def test_a_question_never_writes(path: Path, change: Callable[[Path], None]) -> None:
    """After all questions the directory lists the same names with the same bytes."""
    await migrated(path, numbered(2))
    change(path)
    before = folder(path)

    async with SingleConnectionPool(path) as pool:
        manager = MigrationManager(pool, numbered(5))
        for question in (
            manager.status,
            manager.current_version,
            manager.applied,
            manager.pending,
            manager.plan_up,
            manager.validate,
        ):
            await question()
        await manager.plan_down(0)

    assert before == folder(path)


async def test_a_question_on_an_untracked_database_never_writes(path: Path) -> None:
    """Planning an adoption changes nothing."""
    script(path, LEGACY_SCHEMA)
    before = folder(path)

    async with SingleConnectionPool(path) as pool:
        plan = await MigrationManager(pool, MIGRATIONS).plan_up()

    assert ([1, 2, 3, 4, 5], ()) == ([step.version for step in plan.adopted], plan.steps)
    assert before == folder(path)


@pytest.mark.parametrize("change", [lambda _: None, _rollback_mode])
async def test_a_second_up_writes_nothing(path: Path, change: Callable[[Path], None]) -> None:
    """With nothing to do an up leaves the bytes and the journal mode as they are."""
    await migrated(path, numbered(3))
    change(path)
    before = folder(path)

    assert not await migrated(path, numbered(3))

    assert before == folder(path)


async def test_a_second_up_takes_no_write_lock(path: Path) -> None:
    """With nothing to do an up ends well while somebody else holds the write lock."""
    await migrated(path, numbered(3))

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with SingleConnectionPool(path) as pool:
            manager = MigrationManager(pool, numbered(3))
            assert [False, False] == [bool(await manager.migrate_up()) for _ in range(2)]


# Failures.


async def test_a_failed_statement_rolls_its_migration_back(path: Path) -> None:
    """The error names statement, line, what was done before and the cause; nothing else stays."""
    broken = Migration(
        2,
        "Breaks",
        "CREATE TABLE a (x);\nINSERT INTO a VALUES (1);\n\nINSERT INTO nowhere\nVALUES (2);",
    )

    with pytest.raises(errors.MigrationFailed) as caught:
        await migrated(path, [*numbered(1), broken, Migration(3, "Never", "SELECT 1")])

    error = caught.value
    assert (2, 3, 4, (1,)) == (error.version, error.number, error.line, error.done)
    assert (
        "migration 2 (Breaks) failed and was rolled back: up script, statement 3, line 4: "
        "INSERT INTO nowhere: SQLITE_ERROR: no such table: nowhere "
        "(before that, done for good: 1)"
    ) == str(error)
    assert isinstance(error.__cause__, sqlite3.OperationalError)
    assert ({"t1"}, [1]) == (tables(path), versions(path))


async def test_a_failed_first_migration_leaves_an_empty_database(path: Path) -> None:
    """Not even the bookkeeping stays of a first migration that fails."""
    with pytest.raises(errors.MigrationFailed):
        await migrated(path, [Migration(1, "Breaks", "CREATE TABLE a (x); SELEC 1;")])

    assert [] == schema(path)


async def test_a_failed_down_keeps_its_migration(path: Path) -> None:
    """A way back that fails leaves its migration applied, and those above it rolled back."""
    broken = Migration(1, "Add t1", "CREATE TABLE t1 (x);", "DROP TABLE t1; DROP TABLE nowhere;")
    async with SingleConnectionPool(path) as pool:
        manager = MigrationManager(pool, [broken, *numbered(2)[1:]])
        await manager.migrate_up()

        with pytest.raises(errors.MigrationFailed) as caught:
            await manager.migrate_down(0)

    assert ("down", 2, (2,)) == (caught.value.direction, caught.value.number, caught.value.done)
    assert ({"t1"}, [1]) == (tables(path), versions(path))


async def test_an_irreversible_step_stops_a_rollback_before_its_first(path: Path) -> None:
    """A rollback that would get stuck half way does not begin."""
    one, two, three = numbered(3)
    migrations = [one, replace(two, down="-- no way back\n"), three]
    await migrated(path, migrations)
    before = folder(path)

    async with SingleConnectionPool(path) as pool:
        manager = MigrationManager(pool, migrations)
        for verb in (manager.plan_down, manager.migrate_down):
            with pytest.raises(errors.Irreversible, match=r"migration 2 \(Add t2\)"):
                await verb(0)

    assert before == folder(path)


async def test_foreign_keys_are_enforced_during_a_migration(
    path: Path, pool: SingleConnectionPool
) -> None:
    """An orphan fails its migration even where the application has switched keys off."""
    orphan = Migration(
        1,
        "Orphan",
        "CREATE TABLE p (id INTEGER PRIMARY KEY);"
        "CREATE TABLE c (p INTEGER REFERENCES p (id)); INSERT INTO c VALUES (1);",
    )
    async with pool.acquire() as connection:
        await connection.execute("PRAGMA foreign_keys = OFF")

    with pytest.raises(errors.MigrationFailed, match="FOREIGN KEY constraint failed"):
        await MigrationManager(pool, [orphan]).migrate_up()

    async with pool.acquire() as connection:
        (row,) = await connection.execute_fetchall("PRAGMA foreign_keys")
    assert (0,) == tuple(row)
    assert [] == schema(path)


async def test_a_cancelled_migration_is_rolled_back(path: Path, pool: SingleConnectionPool) -> None:
    """Cancelled in a statement that never ends, the run ends, and the pool works on."""
    started = asyncio.Event()

    def tell(event: Event) -> None:
        if isinstance(event, StepStarted) and event.step.version == 2:
            started.set()

    migrations = [*numbered(1), Migration(2, "Forever", "CREATE TABLE a (x);" + FOREVER)]
    manager = MigrationManager(pool, migrations, on_event=tell)
    task = asyncio.create_task(manager.migrate_up())
    await started.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task

    assert ({"t1"}, [1]) == (tables(path), versions(path))
    assert await MigrationManager(pool, numbered(2)).migrate_up()


# Histories that contradict the list.


@pytest.mark.parametrize(
    ("damage", "error", "sentence"),
    [
        (
            "INSERT INTO schema_migrations VALUES (4, 'Later', 0, 'w1:a:b')",
            errors.NewerDatabase,
            "the database is newer than this code: it has 4, this code knows migrations up to 3",
        ),
        (
            "UPDATE schema_migrations SET checksum = 'w1:00000000000000:1' WHERE version = 2",
            errors.ChecksumMismatch,
            "migration 2 checksum mismatch: expected 000000000000, got ",
        ),
        (
            "UPDATE schema_migrations SET checksum = 'md5:1' WHERE version = 2",
            errors.UnknownChecksum,
            "migration 2 is recorded with a checksum of an unknown algorithm: 'md5:1'",
        ),
        (
            "UPDATE schema_migrations SET applied_at = 'noon' WHERE version = 2",
            errors.InvalidRecord,
            "schema_migrations, version 2: applied_at is 'noon'",
        ),
        (
            "INSERT INTO schema_migrations VALUES (-1, 'Before', 0, 'w1:a:b')",
            errors.InvalidRecord,
            "schema_migrations, version -1: version is -1",
        ),
        (
            "ALTER TABLE schema_migrations ADD COLUMN dirty",
            errors.ForeignBookkeeping,
            "schema_migrations is not ours: it is a table of other columns",
        ),
    ],
)
async def test_a_history_that_contradicts_the_list_is_refused(
    path: Path, damage: str, error: type[errors.WaveError], sentence: str
) -> None:
    """Up and down refuse it with a sentence that says what is wrong, and change nothing."""
    await migrated(path, numbered(3))
    sql(path, damage)
    before = folder(path)

    async with SingleConnectionPool(path) as pool:
        manager = MigrationManager(pool, numbered(3))
        for verb in (manager.migrate_up, manager.migrate_down, manager.force_mark_applied):
            with pytest.raises(error) as caught:
                await verb(1)
            assert sentence == str(caught.value)[: len(sentence)]

    assert before == folder(path)


@pytest.mark.parametrize(
    "theirs",
    [
        "CREATE TABLE schema_migrations (version VARCHAR PRIMARY KEY)",
        "CREATE VIEW schema_migrations AS SELECT 1 AS version",
        "CREATE TABLE t (x); CREATE INDEX schema_migrations ON t (x)",
        "CREATE TABLE Schema_Migrations (id INTEGER)",
    ],
)
async def test_somebody_elses_bookkeeping_is_refused(path: Path, theirs: str) -> None:
    """A schema_migrations of another tool is left alone, by questions too."""
    script(path, theirs)
    before = folder(path)

    async with SingleConnectionPool(path) as pool:
        manager = MigrationManager(pool, numbered(3))
        for verb in (manager.migrate_up, manager.status, manager.validate):
            with pytest.raises(errors.ForeignBookkeeping, match="is not ours"):
                await verb()

    assert before == folder(path)


async def test_a_version_that_the_list_lost_is_refused(path: Path) -> None:
    """An applied version that is missing in the list, below its newest, is unknown."""
    await migrated(path, stamped(1, 2, 3))
    before = folder(path)

    with pytest.raises(errors.UnknownMigration, match=r"migration 20260102 \(Add t2\) is applied"):
        await migrated(path, [m for m in stamped(1, 2, 3) if m.version != 20260102])

    assert before == folder(path)


async def test_an_odd_history_is_shown(pool: SingleConnectionPool) -> None:
    """Status shows a newer database instead of refusing it."""
    await MigrationManager(pool, numbered(3)).migrate_up()

    status = await MigrationManager(pool, numbered(2)).status()

    assert [State.APPLIED, State.APPLIED, State.UNKNOWN] == [m.state for m in status.migrations]
    assert ("Add t3", 3) == (status.migrations[2].description, status.current_version)


async def test_a_cosmetic_edit_is_accepted(path: Path) -> None:
    """Comments and layout may change after a migration was applied, and so may its down."""
    one, two = numbered(2)
    await migrated(path, [one, two])
    cosmetic = replace(one, up="-- why\r\nCREATE  TABLE t1\n(x INTEGER)", down="")

    async with SingleConnectionPool(path) as pool:
        manager = MigrationManager(pool, [cosmetic, two])
        assert not await manager.migrate_up()
        assert await manager.validate()


async def test_validation_can_be_skipped(path: Path) -> None:
    """With `validate_checksums=False` an edit is accepted, and validate says it did not look."""
    one, *_ = numbered(1)
    await migrated(path, [one])
    edited = [replace(one, up="CREATE TABLE t1 (x TEXT);"), *numbered(2)[1:]]

    async with SingleConnectionPool(path) as pool:
        with pytest.raises(errors.ValidationFailed, match="migration 1 checksum mismatch"):
            await MigrationManager(pool, edited).validate()
        manager = MigrationManager(pool, edited, validate_checksums=False)
        assert await manager.migrate_up()
        assert not await manager.validate()


# Adoption.


async def test_a_legacy_database_is_adopted(path: Path) -> None:
    """The schema from before there were migrations is recorded as version 5, its rows kept."""
    script(path, LEGACY_SCHEMA)
    sql(path, "INSERT INTO pipeline_state VALUES ('p', 'n', 's', NULL, 0, 0)")
    before = schema(path)

    done = await migrated(path, MIGRATIONS)

    assert ([1, 2, 3, 4, 5], ()) == ([step.version for step in done.adopted], done.steps)
    assert [1, 2, 3, 4, 5] == versions(path)
    assert before == [row for row in schema(path) if row[1] != "schema_migrations"]
    assert [(1,)] == sql(path, "SELECT count(*) FROM pipeline_state")


async def test_a_prefix_is_adopted_and_the_rest_applied(path: Path) -> None:
    """An untracked database that is behind is recorded as far as it is, then migrated."""
    script(path, "".join(m.up for m in MIGRATIONS[:3]) + "CREATE TABLE theirs (x);")

    done = await migrated(path, MIGRATIONS)

    assert [1, 2, 3] == [step.version for step in done.adopted]
    assert [4, 5] == [step.version for step in done.steps]
    assert [1, 2, 3, 4, 5] == versions(path)
    assert "theirs" in tables(path)


async def test_objects_of_others_do_not_hinder_an_adoption(path: Path) -> None:
    """An index by hand on a table of ours, a view and a full-text table beside it are allowed."""
    theirs = """
        CREATE INDEX by_hand ON event_log (state);
        CREATE VIEW busy AS SELECT * FROM pipeline_state;
        CREATE VIRTUAL TABLE docs USING fts5(body);
    """
    script(path, LEGACY_SCHEMA.replace("    ", "\t").replace("TEXT", "text") + theirs)

    done = await migrated(path, MIGRATIONS)

    assert [1, 2, 3, 4, 5] == [step.version for step in done.adopted]


async def test_a_database_without_a_table_of_ours_is_fresh(path: Path) -> None:
    """Beside the tables of others everything is applied, nothing adopted."""
    script(path, "CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1);")

    done = await migrated(path, numbered(2))

    assert ((), [1, 2]) == (done.adopted, [step.version for step in done.steps])
    assert [(1,)] == sql(path, "SELECT * FROM theirs")


DATA_ONLY = [*numbered(2), Migration(3, "Fill", "INSERT INTO t2 VALUES (1);")]


@pytest.mark.parametrize(
    ("live", "migrations", "sentence"),
    [
        pytest.param(
            "CREATE TABLE t1 (x INTEGER); CREATE TABLE t2 (x INTEGER);",
            DATA_ONLY,
            "its schema fits versions 2 and 3 equally",
            id="ambiguous",
        ),
        pytest.param(
            "CREATE TABLE t1 (y INTEGER); CREATE TABLE t2 (x); CREATE TABLE t3 (x INTEGER);",
            numbered(3),
            "nearest is 3: table t1: column x: missing; table t1: column y: not ours; table t2: "
            "column x: INTEGER -> untyped",
            id="column renamed",
        ),
        pytest.param(
            LEGACY_SCHEMA.replace("    preview_text TEXT,\n", ""),
            MIGRATIONS,
            "nearest is 5: table artifact_metadata: column preview_text: missing; nothing was",
            id="column missing",
        ),
        pytest.param(
            LEGACY_SCHEMA.replace("tokens_used INTEGER,", "tokens_used TEXT,"),
            MIGRATIONS,
            "nearest is 5: table event_log: column tokens_used: INTEGER -> TEXT; nothing was",
            id="column of another type",
        ),
        pytest.param(
            "CREATE TABLE t2 (x INTEGER);",
            numbered(3),
            "its schema fits no version; nearest is 2: table t1: missing; nothing was changed",
            id="table missing",
        ),
        pytest.param(
            LEGACY_SCHEMA.replace("CREATE INDEX IF NOT EXISTS idx_event_log_run_id", "--"),
            MIGRATIONS,
            "nearest is 5: index idx_event_log_run_id: missing; nothing was",
            id="index missing",
        ),
        pytest.param(
            LEGACY_SCHEMA.replace("BETWEEN 0 AND 100", "BETWEEN 0 AND 10", 1),
            MIGRATIONS,
            "CHECK (progress BETWEEN 0 AND 100) -> INTEGER NOT NULL CHECK (progress BETWEEN 0 AND",
            id="check of another range",
        ),
    ],
)
async def test_a_doubtful_database_is_not_adopted(
    path: Path, live: str, migrations: Sequence[Migration], sentence: str
) -> None:
    """What fits no version or several is refused with the nearest difference, unchanged."""
    script(path, live)
    before = folder(path)

    with pytest.raises(errors.AdoptionRefused) as caught:
        await migrated(path, migrations)

    assert sentence in str(caught.value)
    assert str(caught.value).endswith("say so: wave migrate baseline VERSION")
    assert before == folder(path)


async def test_force_mark_applied_records_without_running(path: Path) -> None:
    """On the user's word 1 to v are recorded, once; the next up goes on from there."""
    script(path, "CREATE TABLE t1 (x INTEGER); CREATE TABLE t2 (x INTEGER);")
    async with SingleConnectionPool(path) as pool:
        manager = MigrationManager(pool, DATA_ONLY)

        assert [1, 2] == [step.version for step in await manager.force_mark_applied(2)]
        assert () == await manager.force_mark_applied(2)
        assert [3] == [step.version for step in (await manager.migrate_up()).steps]
        assert await manager.validate()


# Sharing the pool, the loop and the file.


async def test_a_foreign_write_between_two_warm_checks_is_seen(
    path: Path, pool: SingleConnectionPool
) -> None:
    """What another connection rolls back is applied again by a manager that was up to date."""
    manager = MigrationManager(pool, numbered(3))
    await manager.migrate_up()
    assert not await manager.migrate_up()

    script(path, "DROP TABLE t3; DELETE FROM schema_migrations WHERE version = 3;")

    assert [3] == [step.version for step in (await manager.migrate_up()).steps]


async def test_an_own_write_between_two_warm_checks_is_seen(pool: SingleConnectionPool) -> None:
    """What the application changes through the pool is noticed as well."""
    manager = MigrationManager(pool, numbered(3))
    await manager.migrate_up()
    assert not await manager.migrate_up()

    async with pool.acquire() as connection:
        await connection.executescript(
            "DROP TABLE t3; DELETE FROM schema_migrations WHERE version = 3;"
        )

    assert [3] == [step.version for step in (await manager.migrate_up()).steps]


async def test_many_tasks_may_await_one_manager(pool: SingleConnectionPool) -> None:
    """Of a hundred tasks one migrates and all end well."""
    manager = MigrationManager(pool, numbered(5))

    done = await asyncio.gather(*(manager.migrate_up() for _ in range(100)))

    assert Counter({0: 99, 5: 1}) == Counter(len(plan.steps) for plan in done)


async def test_migrating_inside_acquire_raises(pool: SingleConnectionPool) -> None:
    """A task that holds the connection and would wait for itself is told so, and can go on."""
    manager = MigrationManager(pool, numbered(1))
    async with pool.acquire():
        for verb in (manager.migrate_up, manager.status):
            with pytest.raises(errors.PoolDeadlock, match="would wait for itself"):
                await verb()

    assert await manager.migrate_up()


async def test_the_applications_factories_do_not_matter(pool: SingleConnectionPool) -> None:
    """Rows and texts of another shape are the application's own, before and after."""
    manager = MigrationManager(pool, numbered(2))
    async with pool.acquire() as connection:
        connection.row_factory = lambda _cursor, row: {"row": row}  # type: ignore[assignment]
        connection.text_factory = bytes

    await manager.migrate_up()
    assert not await manager.migrate_up()
    assert ["Add t1", "Add t2"] == [row.description for row in await manager.applied()]

    async with pool.acquire() as connection:
        assert [{"row": (b"a",)}] == list(await connection.execute_fetchall("SELECT 'a'"))


async def test_a_database_in_memory_lives_as_long_as_its_pool() -> None:
    """`:memory:` is migrated and questioned on the one connection there is."""
    async with SingleConnectionPool(":memory:") as pool:
        manager = MigrationManager(pool, numbered(3))
        assert 3 == len((await manager.migrate_up()).steps)
        assert 3 == await manager.current_version()
        assert 3 == len((await manager.migrate_down(0)).steps)


WORKER = """
import asyncio, sys
from wave_async import MigrationManager, SingleConnectionPool
from wave_async.definitions import MIGRATIONS

async def migrate(path):
    async with SingleConnectionPool(path) as pool:
        return await MigrationManager(pool, MIGRATIONS).migrate_up()

print("ready", flush=True)
for line in sys.stdin:
    done = asyncio.run(migrate(line.rstrip("\\n")))
    print(*(s.version for s in (*done.adopted, *done.steps)), flush=True)
"""


@contextmanager
def racers(count: int) -> Iterator[Callable[[Path], list[int]]]:
    """Start processes that all migrate a database at once and answer which versions they did."""
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", WORKER],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(count)
        ]
        pipes = [(p.stdin, p.stdout, p.stderr) for p in processes]

        def said() -> list[str]:
            return [line for _, out, _ in pipes if out for line in out.readline().split()]

        def race(path: Path) -> list[int]:
            for stdin, _, _ in pipes:
                assert stdin
                stdin.write(f"{path}\n")
                stdin.flush()
            return sorted(map(int, said()))

        assert ["ready"] * count == said()
        yield race
        for stdin, _, stderr in pipes:
            assert stdin
            assert stderr
            stdin.close()
            assert stderr.read() == ""
    assert [0] * count == [p.returncode for p in processes]


def test_many_processes_may_start_at_once_on_a_fresh_file(tmp_path: Path) -> None:
    """Of 16 processes all end well, and together they run each migration exactly once."""
    with racers(16) as race:
        for turn in range(3):
            path = tmp_path / f"new{turn}" / "state.db"
            assert [1, 2, 3, 4, 5] == race(path)
            assert [1, 2, 3, 4, 5] == versions(path)


def test_many_processes_may_adopt_one_database_at_once(tmp_path: Path) -> None:
    """Of 8 processes all end well, and one of them adopts."""
    with racers(8) as race:
        for turn in range(3):
            path = tmp_path / f"legacy{turn}.db"
            script(path, LEGACY_SCHEMA)
            assert [1, 2, 3, 4, 5] == race(path)
            assert [1, 2, 3, 4, 5] == versions(path)
