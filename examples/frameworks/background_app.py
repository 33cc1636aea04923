"""Starlette that serves while it migrates, and says so: `uvicorn background_app:app --workers 4`.

Until the database is up to date it answers 503, so nothing is sent to it; a failed migration is
logged and keeps it at 503.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from wave_async import (
    MigrationConfig,
    MigrationManager,
    SingleConnectionPool,
    StartupReport,
    load_migrations,
    migrate_on_startup,
)

MIGRATIONS = load_migrations(Path(__file__).parent / "migrations")
LIMIT = MigrationConfig.from_env().max_version

pool = SingleConnectionPool("app.db")
watch = MigrationManager(SingleConnectionPool("app.db"), MIGRATIONS, max_version=LIMIT)


def tell(migration: asyncio.Task[StartupReport]) -> None:
    if not migration.cancelled() and (error := migration.exception()):
        logging.getLogger(__name__).error("the migration failed: %s", error)


@asynccontextmanager
async def migrating(_: Starlette) -> AsyncIterator[dict[str, object]]:
    async with pool:
        migration = asyncio.create_task(migrate_on_startup(pool, MIGRATIONS))
        migration.add_done_callback(tell)
        try:
            yield {"migration": migration}
        finally:
            migration.cancel()
            await asyncio.wait([migration])


def state_of(migration: asyncio.Task[StartupReport]) -> str:
    if not migration.done():
        return "migrating"
    return "failed" if migration.cancelled() or migration.exception() else "migrated"


async def notes(request: Request) -> JSONResponse:
    if (state := state_of(request.state.migration)) != "migrated":
        return JSONResponse({"state": state}, 503, headers={"Retry-After": "1"})
    async with pool.acquire() as connection:
        rows = await connection.execute_fetchall("SELECT text FROM notes ORDER BY id")
    return JSONResponse([text for (text,) in rows])


async def healthz(request: Request) -> JSONResponse:
    state, status = state_of(request.state.migration), await watch.status()
    body = {"state": state, "version": status.current_version, "pending": len(status.due)}
    return JSONResponse(body, 200 if state == "migrated" and not status.due else 503)


app = Starlette(routes=[Route("/notes", notes), Route("/healthz", healthz)], lifespan=migrating)
