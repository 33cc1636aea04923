"""Quart, migrated before it serves: `hypercorn quart_app:app --workers 4`."""

from collections.abc import AsyncGenerator
from pathlib import Path

from quart import Quart

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
app = Quart(__name__)


@app.while_serving
async def migrated() -> AsyncGenerator[None, None]:
    async with lifespan(pool, MIGRATIONS)(app):
        yield


@app.get("/notes")
async def notes() -> list[str]:
    async with pool.acquire() as connection:
        rows = await connection.execute_fetchall("SELECT text FROM notes ORDER BY id")
    return [text for (text,) in rows]


@app.get("/healthz")
async def healthz() -> tuple[dict[str, int], int]:
    status = await watch.status()
    body = {"version": status.current_version, "pending": len(status.due)}
    return body, 503 if status.due else 200
