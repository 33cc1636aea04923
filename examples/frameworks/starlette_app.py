"""Starlette, migrated before it serves: `uvicorn starlette_app:app --workers 4`."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from wave_async import (
    MigrationConfig,
    MigrationManager,
    SingleConnectionPool,
    lifespan,
    load_migrations,
)

MIGRATIONS = load_migrations(Path(__file__).parent / "migrations")
LIMIT = MigrationConfig.from_env().max_version

pool = SingleConnectionPool("app.db")
watch = MigrationManager(SingleConnectionPool("app.db"), MIGRATIONS, max_version=LIMIT)


async def notes(_: Request) -> JSONResponse:
    async with pool.acquire() as connection:
        rows = await connection.execute_fetchall("SELECT text FROM notes ORDER BY id")
    return JSONResponse([text for (text,) in rows])


async def healthz(_: Request) -> JSONResponse:
    status = await watch.status()
    body = {"version": status.current_version, "pending": len(status.due)}
    return JSONResponse(body, 503 if status.due else 200)


app = Starlette(
    routes=[Route("/notes", notes), Route("/healthz", healthz)],
    lifespan=lifespan(pool, MIGRATIONS),
)
