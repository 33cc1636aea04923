"""Notes with tags over HTTP: FastAPI, SQLite, and migrations that run at the start."""

from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, HTTPException, Response
from pydantic import BaseModel, Field

from wave_async import (
    MigrationConfig,
    MigrationManager,
    SingleConnectionPool,
    lifespan,
    load_migrations,
)

HERE = Path(__file__).parent
MIGRATIONS = load_migrations(HERE / "migrations")

LISTED = """
SELECT id, text, done, (SELECT group_concat(name) FROM tag WHERE note_id = note.id) FROM note
WHERE ?1 IS NULL OR EXISTS (SELECT 1 FROM tag WHERE note_id = note.id AND name = ?1) ORDER BY id
"""

Text = Annotated[str, Field(min_length=1, max_length=10_000)]


class NewNote(BaseModel):
    text: Text
    tags: set[Annotated[str, Field(pattern=r"^\w+$")]] = set()


class Note(NewNote):
    id: int
    done: bool = False


def create_app(database: Path = HERE / "notes.db") -> FastAPI:
    pool = SingleConnectionPool(database)
    limit = MigrationConfig.from_env().max_version
    watch = MigrationManager(SingleConnectionPool(database), MIGRATIONS, max_version=limit)
    app = FastAPI(title="Notes", lifespan=lifespan(pool, MIGRATIONS))

    @app.get("/notes")
    async def listed(tag: str | None = None) -> list[Note]:
        async with pool.acquire() as connection:
            rows = await connection.execute_fetchall(LISTED, (tag,))
        return [
            Note(id=number, text=text, done=done, tags=set(tags.split(",") if tags else ()))
            for number, text, done, tags in rows
        ]

    @app.post("/notes", status_code=201)
    async def write(new: NewNote) -> Note:
        async with pool.acquire() as connection:
            await connection.execute("BEGIN IMMEDIATE")
            ((number,),) = await connection.execute_fetchall(
                "INSERT INTO note (text) VALUES (?) RETURNING id", (new.text,)
            )
            tags = [(number, tag) for tag in new.tags]
            await connection.executemany("INSERT INTO tag VALUES (?, ?)", tags)
            await connection.commit()
        return Note(id=number, **new.model_dump())

    @app.put("/notes/{number}/done", status_code=204)
    async def finish(number: int) -> None:
        await change("UPDATE note SET done = 1 WHERE id = ?", number)

    @app.delete("/notes/{number}", status_code=204)
    async def delete(number: int) -> None:
        await change("DELETE FROM note WHERE id = ?", number)

    async def change(statement: str, number: int) -> None:
        async with pool.acquire() as connection:
            if (await connection.execute(statement, (number,))).rowcount == 0:
                raise HTTPException(404, f"there is no note {number}")

    @app.get("/healthz")
    async def healthz(response: Response) -> dict[str, int]:
        status = await watch.status()
        response.status_code = 503 if status.due else 200
        return {"version": status.current_version, "pending": len(status.due)}

    return app


app = create_app()
