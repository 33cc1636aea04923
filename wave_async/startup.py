"""Migrations at an application's start, awaited by hand or as an ASGI-shaped lifespan."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from wave_async.config import MigrationConfig
from wave_async.database.pool import Pool
from wave_async.errors import printable
from wave_async.manager import MigrationManager
from wave_async.model.events import Event, Hook
from wave_async.model.migration import Direction, Migration
from wave_async.model.plan import Plan

if TYPE_CHECKING:
    from wave_async.safety.policy import SnapshotPolicy

logger = logging.getLogger("wave_async")

STARTUP_LOCK_TIMEOUT = 600.0
"""Of many starting workers one migrates and the others wait: as long as a migration may take."""

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


@dataclass(frozen=True, slots=True)
class StartupReport:
    """What a start did.

    `done` is what it applied and adopted, `pending` counts what `WAVE_AUTO_MIGRATE=false` left to
    apply, and `legacy` says that the pre-migration schema was loaded instead.
    """

    done: Plan
    pending: int = 0
    legacy: bool = False


async def migrate_on_startup(
    pool: Pool,
    migrations: Iterable[Migration],
    *,
    config: MigrationConfig | None = None,
    legacy_schema: str | None = None,
    on_event: Callable[[Event], None] | None = None,
    snapshots: SnapshotPolicy | None = None,
    before: Hook | None = None,
) -> StartupReport:
    """Bring the database of a pool to the version that the configuration wants.

    A missing database is created, its directory too; a database with tables but without bookkeeping
    is adopted (see `MigrationManager.migrate_up`). `config` is read from the environment if not
    given. With `auto_migrate` off nothing is applied or created; a database that contradicts the
    migrations is still refused. With `enabled` off `legacy_schema` is loaded in one transaction,
    never on a database that has bookkeeping. Raises what `MigrationManager.migrate_up` raises, and
    `ConfigError`.
    """
    config = config or MigrationConfig.from_env()
    manager = MigrationManager(
        pool,
        migrations,
        max_version=config.max_version,
        validate_checksums=not config.skip_validation,
        log=config.log,
        lock_timeout=STARTUP_LOCK_TIMEOUT if config.lock_timeout is None else config.lock_timeout,
        on_event=on_event,
        snapshots=snapshots,
        before=before,
    )
    if not config.enabled:
        schema = legacy_schema if config.auto_migrate else None
        return StartupReport(Plan(Direction.UP), legacy=await _load(pool, manager, schema))
    fields = partial(_record_fields, pool.path)
    if not config.auto_migrate:
        plan = await manager.plan_up()
        if pending := len(plan.adopted) + len(plan.steps):
            logger.warning(
                "%s: %d pending migration(s) not applied, WAVE_AUTO_MIGRATE is false",
                pool.path,
                pending,
                extra=fields(None),
            )
        return StartupReport(Plan(Direction.UP), pending=pending)
    done = await manager.migrate_up()
    if done.adopted:
        version = done.adopted[-1].version
        logger.info("%s: adopted at version %d", pool.path, version, extra=fields(version))
    for step in done.steps:
        logger.info(
            "%s: applied migration %d: %s",
            pool.path,
            step.version,
            printable(step.description),
            extra=fields(step.version),
        )
    return StartupReport(done)


async def _load(pool: Pool, manager: MigrationManager, schema: str | None) -> bool:
    if schema is not None and await manager.load_untracked(schema):
        return True
    if await manager.is_tracked():
        logger.warning(
            "%s: WAVE_MIGRATION_ENABLED is false, but the database has schema_migrations: "
            "the pre-migration schema was not loaded",
            pool.path,
            extra=_record_fields(pool.path, None),
        )
    return False


def _record_fields(database: str, version: int | None) -> dict[str, object]:
    """Return what every log record carries besides its sentence."""
    return {"database": database, "version": version}


def lifespan(
    pool: Pool,
    migrations: Iterable[Migration],
    *,
    config: MigrationConfig | None = None,
    legacy_schema: str | None = None,
    inner: Lifespan | None = None,
    snapshots: SnapshotPolicy | None = None,
    before: Hook | None = None,
) -> Lifespan:
    """Return a lifespan for Starlette, FastAPI and their like: `app -> async context manager`.

    It migrates before the application starts, runs the `inner` lifespan if there is one, handing on
    its state, and closes the pool at exit. A start that fails raises its error.
    """
    migrations = tuple(migrations)

    @asynccontextmanager
    async def migrated(app: object) -> AsyncIterator[Any]:
        async with pool:
            await migrate_on_startup(
                pool,
                migrations,
                config=config,
                legacy_schema=legacy_schema,
                snapshots=snapshots,
                before=before,
            )
            if inner is None:
                yield
            else:
                async with inner(app) as state:
                    yield state

    return migrated
