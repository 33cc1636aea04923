"""Reading a schema, and replaying migrations."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from conftest import numbered
from test_requests import Hands, Serve, drive, opened
from test_schema import named, schema

from wave_async import Migration, SingleConnectionPool
from wave_async.database import history
from wave_async.database.requests import Program, Query, Request
from wave_async.database.schema import TABLES, read_schema, replay
from wave_async.model.catalogue import Catalogue
from wave_async.model.schema import Schema

DOCS = "CREATE VIRTUAL TABLE docs USING fts5(body)"


async def read(pool: SingleConnectionPool, *statements: str) -> Schema:
    """Read the schema that some statements make."""
    async with pool.acquire() as connection:
        for sql in statements:
            await connection.execute(sql)
    return await pool.ask(read_schema)


async def test_only_what_the_application_made_is_read(pool: SingleConnectionPool) -> None:
    """Bookkeeping, SQLite's own tables, temporary and shadow tables do not count."""
    found = await read(
        pool,
        "CREATE TABLE a (x INTEGER PRIMARY KEY AUTOINCREMENT, y UNIQUE)",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TEMP TABLE temporary (x)",
        history.CREATE.replace("schema_migrations", '"Schema_Migrations"'),
        DOCS,
        "CREATE TABLE docs_own (x)",
        "ANALYZE",
    )

    assert ["a", "docs", "docs_own", "v"] == named(found)


async def test_a_temporary_table_does_not_hide_a_real_one(pool: SingleConnectionPool) -> None:
    """The table is the database's, not a TEMP table of the same name."""
    sql = "CREATE TABLE t (x INTEGER)"

    assert schema(sql) == await read(pool, sql, "CREATE TEMP TABLE t (y, z)")


def without_table_list(serve: Serve) -> Serve:
    """Answer as an old SQLite does, which takes an unknown pragma for nothing."""

    def answer(request: Request) -> Any:
        return [] if request == Query(TABLES) else serve(request)

    return answer


@pytest.mark.parametrize("old", [False, True])
def test_shadow_tables_are_told_by_sqlite_or_by_their_names(
    path: Path,
    old: bool,  # noqa: FBT001
) -> None:
    """SQLite before 3.37 cannot tell which tables belong to a virtual one; names do then."""
    with opened(path) as connection:
        connection.execute(DOCS)
        hands = Hands(connection)
        _, found = drive(read_schema(), without_table_list(hands) if old else hands)

    assert ["docs"] == named(found)


def test_a_plain_schema_is_read_by_one_query(path: Path) -> None:
    """Shadow tables are asked for only where there is a virtual table."""
    with opened(path) as connection:
        connection.execute("CREATE TABLE t (x)")
        asked, _ = drive(read_schema(), Hands(connection))

    assert 1 == len(asked)


def replayed(*migrations: Migration) -> Program[Any]:
    """Return the program that replays some migrations."""
    return replay(Catalogue(migrations).entries.values())


async def test_a_replay_answers_the_schema_of_every_version() -> None:
    """Replaying on an empty database shows what each version leads to, whatever it changes."""
    scripts = [
        "CREATE TABLE a (x INTEGER); CREATE INDEX i ON a (x)",
        "INSERT INTO a VALUES (1)",
        "ALTER TABLE a ADD COLUMN y TEXT",
        "DROP INDEX i; CREATE VIEW i AS SELECT 1",
        "ALTER TABLE a RENAME TO b",
        f"{DOCS}; DROP VIEW i",
        "DROP TABLE b; CREATE TABLE c (x INTEGER); CREATE TABLE docs_own (x)",
        "DROP TABLE docs; DROP TABLE docs_own; DROP TABLE c",
    ]
    migrations = [Migration(n, "", sql) for n, sql in enumerate(scripts, 1)]
    async with SingleConnectionPool(":memory:") as pool:
        versions = await pool.run(lambda: replayed(*migrations))

    wanted = [(n, schema(";".join(scripts[:n]))) for n in range(1, len(scripts) + 1)]
    assert wanted == versions
    assert ["c", "docs", "docs_own"] == named(wanted[6][1])


async def test_a_version_that_changes_no_schema_shares_the_one_before() -> None:
    """What only writes data costs no schema of its own."""
    fill = Migration(2, "Fill", "INSERT INTO t1 VALUES (1)")
    async with SingleConnectionPool(":memory:") as pool:
        (_, one), (_, two) = await pool.run(lambda: replayed(*numbered(1), fill)) or []

    assert one is two


def test_a_replay_leaves_nothing_behind() -> None:
    """Not even what it remembers the last schema in."""
    with sqlite3.connect(":memory:", isolation_level=None) as connection:
        drive(replayed(*numbered(2)), Hands(connection))
        rows = connection.execute(
            "SELECT * FROM sqlite_schema UNION ALL SELECT * FROM sqlite_temp_schema"
        )

        assert [] == rows.fetchall()
    connection.close()


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
