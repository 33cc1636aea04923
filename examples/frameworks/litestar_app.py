"""Litestar, migrated before it serves: `uvicorn litestar_app:app --workers 4`."""

from pathlib import Path

from litestar import Litestar, Response, get

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


@get("/notes")
async def notes() -> list[str]:
    async with pool.acquire() as connection:
        rows = await connection.execute_fetchall("SELECT text FROM notes ORDER BY id")
    return [text for (text,) in rows]


@get("/healthz")
async def healthz() -> Response[dict[str, int]]:
    status = await watch.status()
    body = {"version": status.current_version, "pending": len(status.due)}
    return Response(body, status_code=503 if status.due else 200)


app = Litestar([notes, healthz], lifespan=[lifespan(pool, MIGRATIONS)])
