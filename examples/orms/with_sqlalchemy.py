"""SQLAlchemy's asyncio engine on a file that wave-async migrates: `python with_sqlalchemy.py`."""

import asyncio
import sqlite3
from pathlib import Path

from sqlalchemy import ForeignKey, Inspector, event, inspect, select
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from wave_async import SingleConnectionPool, load_migrations, migrate_on_startup

MIGRATIONS = load_migrations(Path(__file__).parent / "migrations")


class Base(DeclarativeBase):
    pass


class Team(Base):
    __tablename__ = "team"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class Person(Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str | None]
    team_id: Mapped[int] = mapped_column(ForeignKey("team.id", ondelete="CASCADE"), index=True)


def engine_on(database: str) -> AsyncEngine:
    engine = create_async_engine(f"sqlite+aiosqlite:///{database}")

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: sqlite3.Connection, _: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys = ON")  # a new connection does not enforce them
        cursor.execute("PRAGMA busy_timeout = 5000")
        cursor.close()

    return engine


async def missing(engine: AsyncEngine) -> set[str]:
    """Return the columns of the models that the migrated database does not have."""

    def compare(inspector: Inspector) -> set[str]:
        wanted = {f"{c.table}.{c.name}" for t in Base.metadata.tables.values() for c in t.columns}
        found = {
            f"{table}.{column['name']}"
            for table in inspector.get_table_names()
            for column in inspector.get_columns(table)
        }
        return wanted - found

    async with engine.connect() as connection:
        return await connection.run_sync(lambda sync: compare(inspect(sync)))


async def main() -> None:
    async with SingleConnectionPool("app.db") as pool:
        await migrate_on_startup(pool, MIGRATIONS)
    engine = engine_on("app.db")
    assert not await missing(engine)
    sessions = async_sessionmaker(engine)
    async with sessions.begin() as session:
        team = Team(name="Engines")
        session.add(team)
        await session.flush()
        session.add(Person(name="Ada", team_id=team.id))
    async with sessions.begin() as session:
        print(*await session.scalars(select(Person.name)))
        await session.delete((await session.scalars(select(Team))).one())
    async with sessions() as session:
        print(len((await session.scalars(select(Person))).all()))
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
