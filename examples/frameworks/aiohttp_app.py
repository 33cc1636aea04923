"""aiohttp, migrated before it serves: `python aiohttp_app.py [PORT]`, or by gunicorn."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

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


async def migrated(app: web.Application) -> AsyncIterator[None]:
    async with lifespan(pool, MIGRATIONS)(app):
        yield


async def notes(_: web.Request) -> web.Response:
    async with pool.acquire() as connection:
        rows = await connection.execute_fetchall("SELECT text FROM notes ORDER BY id")
    return web.json_response([text for (text,) in rows])


async def healthz(_: web.Request) -> web.Response:
    status = await watch.status()
    body = {"version": status.current_version, "pending": len(status.due)}
    return web.json_response(body, status=503 if status.due else 200)


app = web.Application()
app.cleanup_ctx.append(migrated)
app.add_routes([web.get("/notes", notes), web.get("/healthz", healthz)])

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]) if sys.argv[1:] else 8000)
