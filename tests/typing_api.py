"""Sample uses of every public name: checked by mypy, never run."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractAsyncContextManager
from importlib.resources import files
from pathlib import Path
from typing import assert_never, assert_type

from wave_async import (
    AppliedMigration,
    Creation,
    Difference,
    Direction,
    Effect,
    Event,
    FileResult,
    Group,
    Hook,
    Import,
    LogEntry,
    Loss,
    Marked,
    Migration,
    MigrationConfig,
    MigrationManager,
    MigrationRunner,
    MigrationStatus,
    Outcome,
    Plan,
    Preview,
    Rehearsal,
    RowChange,
    RunEnded,
    RunStarted,
    SingleConnectionPool,
    Snapshot,
    SnapshotPolicy,
    SnapshotTaken,
    StartupReport,
    State,
    StatementStarted,
    Status,
    Step,
    StepFailed,
    StepFinished,
    StepStarted,
    Tally,
    Undone,
    UpcomingRun,
    Validation,
    Verification,
    Verified,
    WaitingForLock,
    WaveError,
    errors,
    lifespan,
    load_migrations,
    migrate_many,
    migrate_on_startup,
    plan_many,
    rebuild_table,
    rehearse_many,
    status_many,
    validate_many,
)

migrations = [
    Migration(1, "Add users", "CREATE TABLE users (id INTEGER PRIMARY KEY)", "DROP TABLE users"),
    Migration(version=2, description="Add nothing", up="", loss=True),
]


loaded = load_migrations("db/migrations", format="flyway", placeholders={"schema": "main"})
loaded += load_migrations(Path("db/migrations")) + load_migrations(files("app"))
assert_type(loaded, tuple[Migration, ...])


def rebuild(connection: sqlite3.Connection) -> None:
    """A step in Python may give a table another definition."""
    assert_type(rebuild_table(connection, "t", "CREATE TABLE t (x)", {"x": "y"}), None)


def listen(event: Event) -> None:
    """Every kind of event is known, so that a listener may tell them apart."""
    if isinstance(event, StepStarted | StepFinished | StepFailed):
        assert_type(event.step, Step)
    elif isinstance(event, RunStarted):
        assert_type(event.count, int)
    elif isinstance(event, RunEnded):
        assert_type(event.done, tuple[Step, ...])
        assert_type(event.error, BaseException | None)
    elif isinstance(event, StatementStarted):
        assert_type(event.number, int)
    elif isinstance(event, WaitingForLock):
        assert_type(event.seconds, float)
    elif isinstance(event, SnapshotTaken):
        assert_type(event.path, str)
    elif isinstance(event, Marked):
        assert_type(event.mark, str)
    else:
        assert_never(event)


def look(
    step: Step, migration: MigrationStatus, applied: AppliedMigration, entry: LogEntry
) -> None:
    """Read what is handed out, typed to the last field."""
    assert_type(step.direction, Direction)
    assert_type(step.version, int)
    assert_type(step.description, str)
    assert_type(migration.state, State)
    assert_type(migration.applied_at, int | None)
    assert_type(applied.applied_at, int)
    assert_type(applied.checksum, str)
    assert_type(entry.version, int | None)


async def noted(run: UpcomingRun) -> str | None:
    """A hook may be awaited, and need leave no mark."""
    assert_type(run.database, str)
    assert_type(run.direction, Direction)
    assert_type(run.steps, tuple[Step, ...])
    return None


hooks: list[Hook] = [noted, lambda run: run.database, lambda _: None]


async def manage(path: Path) -> None:
    """One pool serves the manager and the application."""
    async with SingleConnectionPool(path) as pool:
        assert_type(pool, SingleConnectionPool)
        assert_type(pool.path, str)
        manager = MigrationManager(
            pool,
            migrations,
            max_version=3,
            validate_checksums=False,
            lock_timeout=10,
            statement_timeout=2.5,
            allow_out_of_order=True,
            on_event=listen,
            snapshots=SnapshotPolicy(always=True, directory=path, keep=3),
            before=noted,
        )
        status = await manager.status()
        assert_type(status, Status)
        assert_type(status.current_version, int)
        assert_type(status.migrations, tuple[MigrationStatus, ...])
        assert_type(status.pending, tuple[MigrationStatus, ...])
        assert_type(status.due, tuple[MigrationStatus, ...])
        assert_type(await manager.current_version(), int)
        assert_type(await manager.applied(), tuple[AppliedMigration, ...])
        assert_type(await manager.pending(), tuple[MigrationStatus, ...])
        assert_type(await manager.validate(), Validation)
        verification = await manager.verify(thorough=True)
        assert_type(verification, Verification)
        assert_type(verification.ok, bool)
        assert_type(verification.migrations, tuple[Verified, ...])
        assert_type(await manager.preview_up(), Preview)
        assert_type((await manager.preview_down(1)).effects, tuple[Effect, ...])
        assert_type((await manager.preview_down(1)).losses, tuple[Loss, ...])
        assert_type(await manager.rehearse_up(schema_only=True), Rehearsal)
        assert_type((await manager.rehearse_down(1, directory="/tmp")).rows, tuple[RowChange, ...])
        assert_type(await manager.baseline(1), tuple[Step, ...])
        assert_type(await manager.repair([2], force=True), tuple[Step, ...])
        assert_type(await manager.log(), tuple[LogEntry, ...])
        assert_type((await manager.validate(strict=True)).foreign, tuple[Difference, ...])
        assert_type(await manager.plan_up(), Plan)
        assert_type(await manager.plan_down(1), Plan)
        assert_type(await manager.migrate_up(2), Plan)
        done = await manager.migrate_down(target=0)
        assert_type(done.direction, Direction)
        assert_type(done.steps, tuple[Step, ...])
        assert_type(done.adopted, tuple[Step, ...])
        async with pool.acquire() as connection, connection.execute("SELECT 1") as cursor:
            await cursor.fetchall()
        assert_type(await manager.snapshots(), tuple[Snapshot, ...])
        assert_type(await manager.plan_undo(), tuple[Snapshot, tuple[RowChange, ...]])
        undone = await manager.undo("state-v2-20260203T151429000000Z-0123456789ab.db")
        assert_type(undone, Undone)
        assert_type(undone.replaced.path, Path)
        assert_type(await pool.close(), None)


async def start(pool: SingleConnectionPool) -> None:
    """Configure a start in code or by the environment."""
    config = MigrationConfig(
        enabled=True, auto_migrate=False, skip_validation=True, max_version=3, lock_timeout=10
    )
    report = await migrate_on_startup(pool, migrations, config=config, on_event=listen)
    assert_type(report, StartupReport)
    assert_type(report.done, Plan)
    assert_type(report.pending, int)
    assert_type(report.legacy, bool)
    await migrate_on_startup(pool, (m for m in migrations), legacy_schema="")
    assert_type(MigrationConfig.from_env({"WAVE_AUTO_MIGRATE": "no"}), MigrationConfig)


def serve(pool: SingleConnectionPool, app: object) -> AbstractAsyncContextManager[object]:
    """Build what ASGI frameworks take, one lifespan inside another."""
    inner = lifespan(pool, migrations)
    return lifespan(pool, migrations, config=MigrationConfig(), legacy_schema="", inner=inner)(app)


async def run() -> None:
    """Open a database by its path; every error has one root and holds its data."""
    try:
        async with MigrationRunner("state.db", migrations, on_event=listen) as runner:
            assert_type(runner, MigrationRunner)
            assert_type(runner.database, str)
            assert_type(await runner.status(), Status)
            assert_type(await runner.validate(), Validation)
            assert_type(await runner.verify(), Verification)
            assert_type(await runner.creation(), Creation)
            assert_type(await runner.plan_import("goose"), Import)
            assert_type((await runner.import_history("goose")).records[0], AppliedMigration)
            assert_type(await runner.preview_down(1), Preview)
            assert_type(await runner.migrate_up(), Plan)
            assert_type(await runner.migrate_down(1), Plan)
            assert_type(await runner.force_mark_applied(2), tuple[Step, ...])
    except errors.MigrationFailed as failed:
        assert_type(failed.version, int | None)
        assert_type(failed.line, int | None)
        assert_type(failed.statement, str)
    except WaveError as error:
        assert_type(error.done, tuple[int, ...])
        assert_type(error.sentence(), str)


def hear(result: FileResult) -> None:
    """Take what came of one file."""
    assert_type(result.outcome, Outcome)
    assert_type(result.after, int | None)


async def many() -> None:
    """Do something to many files, named by a pattern or one by one."""
    tally = await migrate_many("tenants/*.db", migrations, target=2, limit=4, on_result=hear)
    assert_type(tally, Tally)
    assert_type(tally.groups, tuple[Group, ...])
    await plan_many(["a.db"], migrations, target=2)
    await rehearse_many(["a.db"], migrations)
    await status_many(["a.db"], migrations)
    await validate_many(["a.db"], migrations, strict=True)
