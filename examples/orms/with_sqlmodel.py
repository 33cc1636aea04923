"""SQLModel on a file that wave-async migrates: `python with_sqlmodel.py`."""

import asyncio
import sqlite3
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import Field, SQLModel, select
from sqlmodel.ext.asyncio.session import AsyncSession

from wave_async import SingleConnectionPool, load_migrations, migrate_on_startup

MIGRATIONS = load_migrations(Path(__file__).parent / "migrations")


class Team(SQLModel, table=True):
    id: int = Field(default=None, primary_key=True)
    name: str = Field(unique=True)


class Person(SQLModel, table=True):
    id: int = Field(default=None, primary_key=True)
    name: str
    email: str | None = None
    team_id: int = Field(foreign_key="team.id", ondelete="CASCADE", index=True)


engine = create_async_engine("sqlite+aiosqlite:///app.db")


@event.listens_for(engine.sync_engine, "connect")
def prepare(connection: sqlite3.Connection, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")  # a new connection does not enforce them
    cursor.close()


async def main() -> None:
    async with SingleConnectionPool("app.db") as pool:
        await migrate_on_startup(pool, MIGRATIONS)
    async with AsyncSession(engine) as session, session.begin():
        team = Team(name="Engines")
        session.add(team)
        await session.flush()
        session.add(Person(name="Ada", team_id=team.id))
    async with AsyncSession(engine) as session, session.begin():
        team = (await session.exec(select(Team))).one()
        print(*await session.exec(select(Person.name)))
        await session.delete(team)
    async with AsyncSession(engine) as session:
        print(len((await session.exec(select(Person))).all()))
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
