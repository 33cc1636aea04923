"""An application's own connection: what `setup` adds works wherever the engine works."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from wave_async import Migration, MigrationManager, SingleConnectionPool
from wave_async.errors import DatabaseUnusable, MigrationFailed

SCHEMA = """
CREATE TABLE t (
    x TEXT COLLATE backwards CHECK (is_short(x)),
    y TEXT AS (shout(x)) STORED
);
CREATE INDEX i ON t (shout(x));
CREATE TABLE log (x TEXT);
CREATE TRIGGER added AFTER INSERT ON t BEGIN INSERT INTO log VALUES (shout(new.x)); END;
CREATE VIEW v AS SELECT shout(x) AS x FROM t ORDER BY x COLLATE backwards;
INSERT INTO t (x) VALUES ('a'), ('b');
"""


def shout(text: str) -> str:
    """Say it louder."""
    return f"{text.upper()}!"


def backwards(a: str, b: str) -> int:
    """Sort the other way round."""
    return (a < b) - (a > b)


def setup(connection: sqlite3.Connection) -> None:
    """Add the functions and the collation of an application."""
    connection.create_function("shout", 1, shout, deterministic=True)
    connection.create_function("is_short", 1, lambda text: len(text) < 5, deterministic=True)
    connection.create_collation("backwards", backwards)


async def rows(pool: SingleConnectionPool, sql: str) -> list[Any]:
    """Ask the pool's own connection."""
    async with pool.acquire() as db:
        return list(await db.execute_fetchall(sql))


async def test_functions_and_collations_work_in_migrations(path: Path) -> None:
    """CHECKs, generated columns, indexes, triggers and views may use them; later ones as well."""
    later = Migration(2, "Later", "INSERT INTO t (x) VALUES ('c'); DELETE FROM t WHERE x = 'a'")
    async with SingleConnectionPool(path, setup=setup) as pool:
        manager = MigrationManager(pool, [Migration(1, "First", SCHEMA), later])
        await manager.migrate_up()

        assert [("C!",), ("B!",)] == await rows(pool, "SELECT y FROM t ORDER BY x")
        assert [("A!",), ("B!",), ("C!",)] == await rows(pool, "SELECT x FROM log")
        with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
            await rows(pool, "INSERT INTO t (x) VALUES ('much too long')")
    async with SingleConnectionPool(path, setup=setup) as pool:
        assert 2 == await MigrationManager(pool, [manager._migrations[0], later]).current_version()
        assert await MigrationManager(pool, manager._migrations).validate()
        assert pool._connection is None  # a question opens nothing, and needs no function


async def test_adoption_replays_with_them(path: Path) -> None:
    """The database in memory that proves a version has them too."""
    with closing(sqlite3.connect(path)) as other:
        setup(other)
        other.executescript(SCHEMA)
    later = Migration(2, "Later", "CREATE TABLE later AS SELECT shout('x') AS x")
    async with SingleConnectionPool(path, setup=setup) as pool:
        done = await MigrationManager(pool, [Migration(1, "First", SCHEMA), later]).migrate_up()

        assert ([1], [2]) == ([s.version for s in done.adopted], [s.version for s in done.steps])


@pytest.mark.parametrize(("given", "trusted"), [(None, 0), (setup, 1)])
async def test_the_schema_is_trusted_where_an_application_adds_to_it(
    path: Path, given: Callable[[sqlite3.Connection], None] | None, trusted: int
) -> None:
    """Keys are always enforced and commits synchronous; a setup may distrust the schema itself."""

    def distrusts(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA trusted_schema = OFF")

    for setup_, expected in ((given, trusted), (distrusts, 0)):
        async with SingleConnectionPool(path, setup=setup_) as pool:
            assert [(expected,)] == await rows(pool, "PRAGMA trusted_schema")
            assert [(1,)] == await rows(pool, "PRAGMA foreign_keys")
            assert [(2,)] == await rows(pool, "PRAGMA synchronous")


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("CREATE TABLE t (x CHECK (shout(x) != ''))", "no such function: shout"),
        ("CREATE TABLE t (x); CREATE INDEX i ON t (shout(x))", "no such function: shout"),
        ("SELECT shout('x')", "no such function: shout"),
        ("CREATE TABLE t (x); SELECT x FROM t ORDER BY x COLLATE backwards", "backwards"),
        ("CREATE VIRTUAL TABLE t USING unheard_of(x)", "no such module: unheard_of"),
    ],
)
async def test_what_is_unknown_names_itself(
    pool: SingleConnectionPool, script: str, name: str
) -> None:
    """Without a setup the statement that needs one says what it lacks."""
    manager = MigrationManager(pool, [Migration(1, "First", f"{script}; INSERT INTO t VALUES (1)")])
    with pytest.raises(MigrationFailed, match=name):
        await manager.migrate_up()

    assert [] == await rows(pool, "SELECT name FROM sqlite_schema")


async def test_what_a_setup_sets_is_kept(path: Path) -> None:
    """Its row factory and its patience are there for the application before and after."""

    def own(connection: sqlite3.Connection) -> None:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA busy_timeout = 1234")
        connection.execute("PRAGMA recursive_triggers = ON")

    async with SingleConnectionPool(path, setup=own) as pool:
        for version in range(1, 4):
            migrations = [
                Migration(n, "d", f"CREATE TABLE t{n} (x)") for n in range(1, 1 + version)
            ]
            await MigrationManager(pool, migrations).migrate_up()
            found = await rows(pool, "PRAGMA busy_timeout")
            assert (sqlite3.Row, 1234) == (type(found[0]), found[0]["timeout"])
            assert 1 == (await rows(pool, "PRAGMA recursive_triggers"))[0][0]


def raises(_: sqlite3.Connection) -> None:
    """Fail."""
    raise LookupError("no key")


async def is_async(_: sqlite3.Connection) -> None:
    """Need to be awaited."""


def asks_nonsense(connection: sqlite3.Connection) -> None:
    """Fail in SQL."""
    connection.execute("SELECT nonsense()")


def closes(connection: sqlite3.Connection) -> None:
    """Leave nothing to work with."""
    connection.close()


def contents(path: Path) -> bytes:
    """Return what is in a file; nothing where it is missing."""
    return path.read_bytes() if path.exists() else b""


@pytest.mark.parametrize(
    ("broken", "error", "text"),
    [
        (raises, LookupError, "no key"),
        (is_async, TypeError, "returned a coroutine that nobody runs"),
        (asks_nonsense, DatabaseUnusable, "no such function: nonsense"),
        (closes, (DatabaseUnusable, sqlite3.ProgrammingError), "closed"),
    ],
)
@pytest.mark.parametrize("made", [False, True])
async def test_a_setup_that_fails(
    path: Path, broken: Any, error: type[Exception], text: str, *, made: bool
) -> None:
    """Its error reaches whoever opens the pool, for a question too; nothing is made or changed."""
    first = Migration(1, "First", "CREATE TABLE t (x)")
    if made:
        async with SingleConnectionPool(path) as pool:
            await MigrationManager(pool, [first]).migrate_up()
    before = contents(path)
    async with SingleConnectionPool(path, setup=broken) as pool:
        manager = MigrationManager(pool, [first, Migration(2, "Second", "CREATE TABLE u (x)")])
        for job in (manager.migrate_up, manager.status, lambda: rows(pool, "SELECT 1")):
            with pytest.raises(error, match=text):
                await job()

    assert before == contents(path)
