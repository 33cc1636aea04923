from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import numbered
from test_requests import Hands, drive, opened

from wave_async import Migration, SingleConnectionPool
from wave_async.database import history
from wave_async.database.requests import Program, Query
from wave_async.database.schema import COLUMNS, SchemaReader, replay
from wave_async.model.catalogue import Catalogue
from wave_async.model.schema import Column

X = Column("x", "INTEGER", not_null=False, default=None, key=0, hidden=0)


async def tables(pool: SingleConnectionPool, *statements: str) -> Any:
    """Read the tables that some statements make."""
    async with pool.acquire() as connection:
        for sql in statements:
            await connection.execute(sql)
    return await pool.ask(SchemaReader().tables)


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        ("x INTEGER", X),
        ("X integer", X),
        ('"x" INTEGER CHECK (x > 0) UNIQUE', X),
        ("x", Column("x", "", not_null=False, default=None, key=0, hidden=0)),
        ("x TEXT NOT NULL", Column("x", "TEXT", not_null=True, default=None, key=0, hidden=0)),
        ("x INT PRIMARY KEY", Column("x", "INT", not_null=False, default=None, key=1, hidden=0)),
        ("x DEFAULT 'a'", Column("x", "", not_null=False, default="'a'", key=0, hidden=0)),
        ("x AS (1)", Column("x", "", not_null=False, default=None, key=0, hidden=2)),
        ("x AS (1) STORED", Column("x", "", not_null=False, default=None, key=0, hidden=3)),
    ],
)
async def test_a_column_is_read_as_sqlite_tells_it(
    pool: SingleConnectionPool, column: str, wanted: Column
) -> None:
    """A column is what SQLite says of it, however the statement was written."""
    read = await tables(pool, f"CREATE TABLE T (y, {column})")

    assert {"t": (Column("y", "", not_null=False, default=None, key=0, hidden=0), wanted)} == read


async def test_only_tables_of_the_application_are_read(pool: SingleConnectionPool) -> None:
    """Bookkeeping, SQLite's own tables, views and temporary tables do not count."""
    read = await tables(
        pool,
        "CREATE TABLE a (x INTEGER PRIMARY KEY AUTOINCREMENT)",
        "CREATE TABLE sqlitestore (x)",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TEMP TABLE temporary (x)",
        history.CREATE.replace("schema_migrations", '"Schema_Migrations"'),
        "ANALYZE",
    )

    assert {"a", "sqlitestore"} == set(read)


async def test_a_temporary_table_does_not_hide_a_real_one(pool: SingleConnectionPool) -> None:
    """The columns are those of the database's table, not of a TEMP table of the same name."""
    read = await tables(pool, "CREATE TABLE t (x INTEGER)", "CREATE TEMP TABLE t (y, z)")

    assert read == {"t": (X,)}


def test_only_the_tables_asked_for_are_read(path: Path) -> None:
    """Of a large database only the tables of some names are looked at."""
    with opened(path) as connection:
        connection.executescript("CREATE TABLE A (x INTEGER); CREATE TABLE b (x INTEGER)")
        asked, read = drive(SchemaReader().tables({"a"}), Hands(connection))

    assert read == {"a": (X,)}
    assert [r.parameters for r in asked if r.sql == COLUMNS] == [("A",)]  # type: ignore[union-attr]


def test_a_table_is_not_read_twice(path: Path) -> None:
    """A reader looks again only at tables that are new or were changed."""
    reader = SchemaReader()
    with opened(path) as connection:
        connection.executescript("CREATE TABLE a (x INTEGER); CREATE TABLE b (x INTEGER)")
        drive(reader.tables(), Hands(connection))
        connection.execute("ALTER TABLE b ADD COLUMN y")
        asked, read = drive(reader.tables(), Hands(connection))

    assert [column.name for column in read["b"]] == ["x", "y"]
    assert [Query(COLUMNS, ("b",))] == asked[1:]


def replayed(*migrations: Migration) -> Program[Any]:
    """Return the program that replays some migrations."""
    return replay(Catalogue(migrations).entries.values())


async def test_a_replay_answers_the_tables_of_every_version() -> None:
    """Replaying on an empty database shows what tables each version leads to."""
    drop = Migration(3, "Drop t1", "DROP TABLE t1")
    alter = Migration(4, "Alter t2", "ALTER TABLE t2 ADD y INTEGER")
    async with SingleConnectionPool(":memory:") as pool:
        versions = await pool.run(lambda: replayed(*numbered(2), drop, alter))

    y = Column("y", "INTEGER", not_null=False, default=None, key=0, hidden=0)
    assert [
        (1, {"t1": (X,)}),
        (2, {"t1": (X,), "t2": (X,)}),
        (3, {"t2": (X,)}),
        (4, {"t2": (X, y)}),
    ] == versions


async def test_a_replay_of_nothing_is_empty() -> None:
    """Without migrations there is no version."""
    async with SingleConnectionPool(":memory:") as pool:
        assert await pool.run(replayed) == []


@pytest.mark.parametrize("sql", ["NONSENSE", "COMMIT"])
async def test_a_replay_ends_before_what_fails(sql: str) -> None:
    """A migration that cannot be replayed proves nothing, nor do those after it."""
    async with SingleConnectionPool(":memory:") as pool:
        bad = Migration(2, "Bad", f"SELECT 1; {sql}")
        versions = await pool.run(lambda: replayed(*numbered(1), bad, numbered(3)[2]))

    assert [version for version, _ in versions or []] == [1]
