from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path

import pytest

from wave_async.database import history, step
from wave_async.database.driver import EngineConnection
from wave_async.database.guard import look
from wave_async.database.requests import BeginWrite, Execute, Program, Rollback
from wave_async.database.session import Hop
from wave_async.errors import MigrationFailed, StatementRefused
from wave_async.model.script import parse

CONTROL = [
    "COMMIT",
    "commit transaction",
    "END",
    "ROLLBACK",
    "ROLLBACK TO a",
    "BEGIN",
    "BEGIN IMMEDIATE",
    "SAVEPOINT a",
    "RELEASE a",
    "EXPLAIN COMMIT",
    "/* hidden */ COMMIT",
]
WRITES = [
    "INSERT INTO {} VALUES (9, '', 0, '')",
    "REPLACE INTO {} VALUES (1, '', 0, '')",
    "INSERT INTO {} VALUES (1, '', 0, '') ON CONFLICT DO UPDATE SET version = 9",
    "INSERT INTO {} SELECT 9, '', 0, ''",
    "UPDATE {} SET version = 9",
    "UPDATE OR IGNORE {} SET checksum = ''",
    "DELETE FROM {}",
    "WITH a AS (SELECT 1) DELETE FROM {} WHERE version IN a",
    "DROP TABLE {}",
    "DROP TABLE IF EXISTS {}",
    "ALTER TABLE {} RENAME TO gone",
    "ALTER TABLE {} RENAME COLUMN version TO v",
    "ALTER TABLE {} ADD COLUMN dirty",
    "ALTER TABLE {} DROP COLUMN checksum",
    "EXPLAIN DELETE FROM {}",
]
NAMES = [
    "schema_migrations",
    "SCHEMA_Migrations",
    '"schema_migrations"',
    "[Schema_Migrations]",
    "`schema_migrations`",
    "main.schema_migrations",
    'MAIN."schema_migrations"',
]
SHADOWS = [
    "CREATE TABLE Schema_Migrations (x)",
    "CREATE TABLE IF NOT EXISTS schema_migrations (x)",
    "CREATE TABLE schema_migrations AS SELECT 1",
    "CREATE VIEW schema_migrations AS SELECT 1",
    "CREATE INDEX schema_migrations ON t (x)",
    "CREATE TRIGGER schema_migrations AFTER INSERT ON t BEGIN SELECT 1; END",
    "CREATE VIRTUAL TABLE schema_migrations USING fts5(x)",
    "CREATE TEMP TABLE schema_migrations (x)",
    "CREATE TEMPORARY TABLE 'Schema_Migrations' (x)",
    "CREATE TABLE temp.schema_migrations (x)",
    "CREATE TEMP VIEW schema_migrations AS SELECT 1",
    "ALTER TABLE t RENAME TO schema_migrations",
    "ALTER TABLE t RENAME TO 'Schema_Migrations'",
    "CREATE TEMP TABLE a (x); ALTER TABLE a RENAME TO schema_migrations",
    "ALTER TABLE t RENAME /* as */ TO -- ours\n schema_migrations",
    "CREATE TEMP TABLE a (x); ALTER TABLE a RENAME TO[schema_migrations]",
    "/* first */ ALTER TABLE t RENAME TO schema_migrations",
]
ON_IT = [
    "CREATE INDEX i ON schema_migrations (checksum)",
    "CREATE UNIQUE INDEX main.i ON schema_migrations (checksum)",
    "CREATE TRIGGER g AFTER INSERT ON schema_migrations BEGIN SELECT 1; END",
    "CREATE TEMP TRIGGER g AFTER DELETE ON main.schema_migrations BEGIN SELECT 1; END",
    "CREATE TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM schema_migrations; END",
    "PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'schema_migrations'",
]
OUTSIDE = [
    "VACUUM",
    "VACUUM INTO '/tmp/never'",
    "ATTACH ':memory:' AS a",
    "DETACH main",
    "PRAGMA foreign_keys = OFF",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA synchronous = OFF",
    "PRAGMA query_only = ON",
    "PRAGMA busy_timeout = 0",
    "PRAGMA main.locking_mode = EXCLUSIVE",
    "PRAGMA recursive_triggers(1)",
    "PRAGMA wal_checkpoint",
    "PRAGMA optimize",
    "PRAGMA trusted_schema = ON",
]
ALLOWED = [
    "CREATE VIRTUAL TABLE f USING fts5(x); INSERT INTO f VALUES ('a'); DROP TABLE f",
    "CREATE TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM t; END; INSERT INTO t VALUES (3)",
    "CREATE VIEW v AS SELECT x FROM t; SELECT * FROM v; DROP VIEW v",
    "CREATE TABLE a (x, y AS (x * 2) STORED, z AS (y)); INSERT INTO a VALUES (1)",
    "CREATE TABLE a (x) STRICT".replace("(x)", "(x INTEGER)"),
    "CREATE TABLE a (x PRIMARY KEY REFERENCES t (x)) WITHOUT ROWID",
    "CREATE INDEX i ON t (x) WHERE x > 0; REINDEX; ANALYZE; DROP INDEX i",
    "CREATE TEMP TABLE a (x); INSERT INTO a SELECT x FROM t; DROP TABLE a",
    "ALTER TABLE t RENAME TO u; ALTER TABLE u RENAME x TO y; ALTER TABLE u ADD z",
    "WITH n (i) AS (VALUES (1), (2)) INSERT OR IGNORE INTO t SELECT i FROM n",
    "PRAGMA user_version = 7",
    "PRAGMA application_id = 7; PRAGMA defer_foreign_keys = ON; PRAGMA foreign_key_check",
    "PRAGMA table_info(t); SELECT * FROM pragma_table_xinfo('t')",
    "SELECT count(*) FROM schema_migrations; CREATE TABLE a AS SELECT * FROM schema_migrations",
    "CREATE TABLE schema_migrations_old (x); CREATE TABLE my_schema_migrations (x)",
    "INSERT INTO t VALUES ('schema_migrations'), ('COMMIT')",
]


@pytest.fixture
def connection(path: Path) -> Iterator[EngineConnection]:
    """Open a tracked database with a table and one record."""
    with closing(EngineConnection(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("CREATE TABLE t (x)")
        connection.execute(history.CREATE)
        connection.execute("INSERT INTO schema_migrations VALUES (1, 'd', 0, 'w1:x')")
        yield connection


def migrate(connection: EngineConnection, sql: str) -> None:
    """Run a script as a migration is run."""
    script, failed = parse(sql, "test"), partial(MigrationFailed, 2, "test", "up")

    def program() -> Program[None]:
        yield BeginWrite(1)
        try:
            yield from step.run_steps(script.statements, failed, look)
            yield Execute("COMMIT")
        finally:
            yield Rollback()

    hop = Hop(program, lambda _: None, patience=1)
    hop.run(connection)
    hop.outcome()


def refused(connection: EngineConnection, sql: str) -> StatementRefused:
    """Run a script whose last statement the guard refuses, and which changes nothing."""
    before = list(connection.iterdump())
    with pytest.raises(MigrationFailed) as failed:
        migrate(connection, sql)
    assert before == list(connection.iterdump())
    assert connection.execute("SELECT name FROM temp.sqlite_schema").fetchall() == []
    assert isinstance(failed.value.__cause__, StatementRefused), failed.value
    return failed.value.__cause__


@pytest.mark.parametrize("sql", CONTROL)
def test_a_migration_cannot_end_the_engines_transaction(
    connection: EngineConnection, sql: str
) -> None:
    """Whatever begins or ends a transaction is refused, and what ran before it rolled back."""
    assert "one transaction" in refused(connection, f"INSERT INTO t VALUES (1); {sql}").why


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sql", WRITES)
def test_a_migration_cannot_write_the_bookkeeping(
    connection: EngineConnection, sql: str, name: str
) -> None:
    """The bookkeeping is neither written, altered nor dropped, however it is spelled."""
    assert "schema_migrations" in refused(connection, sql.format(name)).what


@pytest.mark.parametrize("sql", SHADOWS)
def test_a_migration_cannot_take_the_name_of_the_bookkeeping(
    connection: EngineConnection, sql: str
) -> None:
    """Nothing gets the name schema_migrations, also where there is no bookkeeping yet."""
    connection.execute("DROP TABLE schema_migrations")

    assert "schema_migrations" in refused(connection, sql).what


@pytest.mark.parametrize("sql", ON_IT)
def test_a_migration_cannot_reach_the_bookkeeping_by_a_detour(
    connection: EngineConnection, sql: str
) -> None:
    """Indexes and triggers on the bookkeeping, and ways around it, are refused."""
    refused(connection, sql)


@pytest.mark.parametrize("sql", OUTSIDE)
def test_a_migration_cannot_do_what_outlasts_it(connection: EngineConnection, sql: str) -> None:
    """What reaches beyond the migration's transaction is refused, with a reason."""
    assert refused(connection, sql).why


@pytest.mark.parametrize("sql", ALLOWED)
def test_a_migration_may_do_everything_else(connection: EngineConnection, sql: str) -> None:
    """What a transaction can hold is allowed."""
    migrate(connection, sql)

    assert not connection.in_transaction
    assert connection.execute("SELECT version FROM schema_migrations").fetchall() == [(1,)]


@pytest.mark.parametrize("end", ["", "; NONSENSE", "; COMMIT"])
def test_legacy_alter_table_ends_with_the_migration(connection: EngineConnection, end: str) -> None:
    """A migration may alter tables the old way; the next one starts without that."""
    with pytest.raises(MigrationFailed) if end else nullcontext():
        migrate(connection, f"PRAGMA legacy_alter_table = ON{end}")

    assert connection.execute("PRAGMA legacy_alter_table").fetchall() == [(0,)]


@pytest.mark.parametrize("sql", ["INSERT INTO t VALUES (1)", "COMMIT", "NONSENSE"])
def test_the_applications_own_authorizer_is_back_afterwards(
    connection: EngineConnection, sql: str
) -> None:
    """After a migration, refused or not, the application's authorizer answers again."""
    connection.set_authorizer(
        lambda action, *_: sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_DELETE else 0
    )
    with nullcontext() if sql.startswith("INSERT") else pytest.raises(MigrationFailed):
        migrate(connection, f"DELETE FROM t; {sql}")

    with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
        connection.execute("DELETE FROM t")
    connection.set_authorizer(None)
    connection.execute("DELETE FROM t")
