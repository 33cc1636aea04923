"""Whole scripts against the guard: what is refused before it runs, and what people may still do."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest

from wave_async import Migration, MigrationManager, SingleConnectionPool
from wave_async.errors import MigrationFailed, StatementRefused, TransactionEnded

FIRST = Migration(
    1,
    "Add kept",
    """
    CREATE TABLE kept (id INTEGER PRIMARY KEY, x TEXT UNIQUE);
    CREATE TABLE spare (id INTEGER PRIMARY KEY, x TEXT);
    INSERT INTO kept VALUES (1, 'one');
    """,
    "DROP TABLE kept; DROP TABLE spare;",
)
KEPT = {"kept", "spare", "schema_migrations", "schema_migrations_log"}

OWN = "one transaction of the engine; leave it out"
OTHER = "open the other one in the application"
OUTSIDE = "outside a transaction; mark the migration transaction=off"
BY_HAND = "outside a transaction; run it by hand"
LASTING = "set it where the connection is opened"
NOTHING = "inside a transaction it does nothing"
SCHEMA = "use ALTER TABLE"
NAME = "choose another name"
BOOKS = "writing, changing or shadowing schema_migrations"

TRANSACTIONS = [
    ("COMMIT", "COMMIT"),
    ("COMMIT TRANSACTION", "COMMIT"),
    ("END", "COMMIT"),
    ("eNd TrAnSaCtIoN", "COMMIT"),
    ("ROLLBACK", "ROLLBACK"),
    ("ROLLBACK TRANSACTION", "ROLLBACK"),
    ("/* ; */ ROLLBACK /* ; */", "ROLLBACK"),
    ("/**/commit/**/", "COMMIT"),
    ("-- COMMIT\nCOMMIT", "COMMIT"),
    ("BEGIN", "BEGIN"),
    ("BEGIN IMMEDIATE TRANSACTION", "BEGIN"),
    ("BEGIN EXCLUSIVE", "BEGIN"),
    ("SAVEPOINT s", "SAVEPOINT"),
    ("RELEASE s", "SAVEPOINT"),
    ("RELEASE SAVEPOINT s", "SAVEPOINT"),
    ("ROLLBACK TO s", "SAVEPOINT"),
    ("ROLLBACK TRANSACTION TO SAVEPOINT s", "SAVEPOINT"),
    ("EXPLAIN COMMIT", "COMMIT"),
]

FILES = [
    ("ATTACH 'other.db' AS other", "ATTACH", OTHER),
    ("ATTACH DATABASE ':memory:' AS other", "ATTACH", OTHER),
    ("ATTACH '' AS other", "ATTACH", OTHER),
    ("DETACH temp", "DETACH", OTHER),
    ("VACUUM", "VACUUM", OUTSIDE),
    ("vacuum main", "VACUUM", OUTSIDE),
    ("/* ; */ VACUUM", "VACUUM", OUTSIDE),
    ("VACUUM INTO 'copy.db'", "VACUUM", OTHER),
    ("VACUUM/**/INTO 'copy.db'", "VACUUM", OTHER),
]

PRAGMAS = [
    ("writable_schema = 1", SCHEMA),
    ("writable_schema = RESET", SCHEMA),
    ("schema_version = 7", SCHEMA),
    ("journal_mode = DELETE", NOTHING),
    ("main.journal_mode = OFF", NOTHING),
    ("foreign_keys = OFF", NOTHING),
    ("foreign_keys(0)", NOTHING),
    ("synchronous = OFF", BY_HAND),
    ("page_size = 512", OUTSIDE),
    ("auto_vacuum = FULL", OUTSIDE),
    ("encoding = 'UTF-16'", BY_HAND),
    ("wal_checkpoint", BY_HAND),
    ("wal_checkpoint(TRUNCATE)", BY_HAND),
    ("optimize", BY_HAND),
    ("incremental_vacuum", BY_HAND),
    ("locking_mode = EXCLUSIVE", LASTING),
    ("busy_timeout = 1", LASTING),
    ("cache_size = 1", LASTING),
    ("temp_store = MEMORY", LASTING),
    ("query_only = 1", LASTING),
    ("recursive_triggers = 1", LASTING),
    ("secure_delete = 0", LASTING),
    ("trusted_schema = 1", LASTING),
    ("ignore_check_constraints = 1", LASTING),
    ("max_page_count = 10", LASTING),
    ("mmap_size = 1000000", LASTING),
    ("wal_autocheckpoint = 0", LASTING),
    ("case_sensitive_like = 1", LASTING),
    ("reverse_unordered_selects = 1", LASTING),
    ("hard_heap_limit = 1", LASTING),
    ("no_such_pragma = 1", LASTING),
]

BOOKKEEPING = [
    "INSERT INTO schema_migrations VALUES (9, '', 1, '')",
    "INSERT INTO main.schema_migrations VALUES (9, '', 1, '')",
    "INSERT OR REPLACE INTO \"schema_migrations\" VALUES (1, '', 1, '')",
    "REPLACE INTO [Schema_Migrations] SELECT 1, '', 1, ''",
    "INSERT INTO schema_migrations VALUES (1, '', 1, '') ON CONFLICT DO UPDATE SET checksum = ''",
    "UPDATE schema_migrations SET checksum = ''",
    "UPDATE `SCHEMA_MIGRATIONS` SET version = version + 1",
    "DELETE FROM schema_migrations",
    "DELETE FROM 'schema_migrations' WHERE version = 1",
    "WITH v(i) AS (SELECT 1) DELETE FROM main . schema_migrations WHERE version IN v",
    "DROP TABLE schema_migrations",
    "DROP TABLE IF EXISTS/**/schema_migrations",
    "ALTER TABLE schema_migrations ADD COLUMN more",
    "ALTER TABLE schema_migrations DROP COLUMN checksum",
    "ALTER TABLE schema_migrations RENAME COLUMN checksum TO sum",
    "ALTER TABLE schema_migrations RENAME TO old",
    "CREATE INDEX i ON schema_migrations (checksum)",
    "CREATE TABLE temp.schema_migrations (x)",
    "CREATE TEMP TABLE schema_migrations (version, description, applied_at, checksum)",
    "CREATE TEMPORARY TABLE Schema_Migrations AS SELECT 1",
    "CREATE TEMP VIEW schema_migrations AS SELECT 1",
    "CREATE TEMP TRIGGER schema_migrations AFTER INSERT ON kept BEGIN SELECT 1; END",
    "CREATE TRIGGER schema_migrations AFTER INSERT ON kept BEGIN SELECT 1; END",
    "CREATE VIRTUAL TABLE temp.schema_migrations USING fts5(x)",
    "ALTER TABLE spare RENAME TO schema_migrations",
    "ALTER TABLE spare RENAME /* ; */ TO -- x\n 'Schema_Migrations'",
    'ALTER TABLE "spare" RENAME TO [schema_migrations]',
    "alter table spare rename to`schema_migrations`",
    'ALTER TABLE spare RENAME TO"schema_migrations"',
    "ALTER TABLE hidden RENAME TO schema_migrations",
    'ALTER TABLE temp.hidden RENAME TO "Schema_Migrations"',
    'ALTER TABLE temp.hidden RENAME TO"schema_migrations"',
    "ALTER TABLE temp.hidden RENAME TO[schema_migrations]",
    "ALTER TABLE hidden RENAME TO'schema_migrations'",
    "CREATE TRIGGER w AFTER INSERT ON kept BEGIN DELETE FROM schema_migrations; END",
    "CREATE TEMP TRIGGER w AFTER INSERT ON kept BEGIN DELETE FROM main.schema_migrations; END",
    (
        "CREATE TRIGGER w AFTER DELETE ON kept WHEN 1 BEGIN SELECT 1; "
        "UPDATE [Schema_Migrations] SET checksum = ''; END"
    ),
    (
        "CREATE TRIGGER IF NOT EXISTS w BEFORE UPDATE ON kept FOR EACH ROW BEGIN "
        "INSERT INTO/**/'schema_migrations' VALUES (9, '', 1, ''); END"
    ),
    "CREATE -- x\n TRIGGER w AFTER INSERT ON schema_migrations BEGIN SELECT 1; END",
    "CREATE TEMP TRIGGER w AFTER INSERT ON main.schema_migrations BEGIN SELECT 1; END",
]

REFUSED = [
    *((sql, what, OWN) for sql, what in TRANSACTIONS),
    *FILES,
    *(
        (f"PRAGMA {p}", f"PRAGMA {p.split()[0].split('(')[0].split('.')[-1]}", r)
        for p, r in PRAGMAS
    ),
    ("pragma/**/JOURNAL_MODE=off", "PRAGMA journal_mode", NOTHING),
    *((sql, BOOKS, NAME) for sql in BOOKKEEPING),
]


async def rows(pool: SingleConnectionPool, sql: str) -> list[Any]:
    """Ask the pool's own connection."""
    async with pool.acquire() as connection:
        return [tuple(row) for row in await connection.execute_fetchall(sql)]


async def refuse(pool: SingleConnectionPool, script: str) -> MigrationFailed:
    """Run a hostile script after a good one, and check that nothing of it is left anywhere."""
    with pytest.raises(MigrationFailed) as failed:
        await MigrationManager(pool, [FIRST, Migration(2, "Hostile", script)]).migrate_up()

    names = "SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite%'"
    assert KEPT == {name for (name,) in await rows(pool, names)}
    assert [] == await rows(pool, "SELECT name FROM temp.sqlite_schema")
    assert [(1, "one")] == await rows(pool, "SELECT id, x FROM kept")
    with closing(sqlite3.connect(pool.path)) as other:
        assert [(1,)] == other.execute("SELECT version FROM schema_migrations").fetchall()
    assert (1,) == failed.value.done
    return failed.value


@pytest.mark.parametrize(("statement", "what", "remedy"), REFUSED, ids=[r[0] for r in REFUSED])
async def test_refused(pool: SingleConnectionPool, statement: str, what: str, remedy: str) -> None:
    """The statement is refused before it runs, by name, with reason and remedy; all is undone."""
    before = (
        "CREATE TABLE before (x);\nUPDATE kept SET x = 'changed';\nCREATE TEMP TABLE hidden (x);\n"
    )
    error = await refuse(pool, f"{before}{statement};\nCREATE TABLE after (x);")

    assert isinstance(error.__cause__, StatementRefused)
    assert (what, 2, 4) == (error.__cause__.what, error.version, error.number)
    assert remedy in str(error)
    assert f"{what} is not allowed in a migration: " in str(error)
    assert error.statement in statement
    async with pool.acquire() as connection:
        assert not connection.in_transaction
    mended = [FIRST, Migration(2, "Mended", "CREATE TABLE mended (x);")]
    assert await MigrationManager(pool, mended).migrate_up()


def test_size_of_the_table() -> None:
    """At least forty different scripts are refused."""
    assert 40 <= len({statement for statement, _, _ in REFUSED})


@pytest.mark.parametrize("statement", ["COMMIT", "PRAGMA foreign_keys = OFF", BOOKKEEPING[7]])
async def test_refused_on_the_way_down(pool: SingleConnectionPool, statement: str) -> None:
    """A script down is guarded like one up, and the version stays."""
    manager = MigrationManager(
        pool, [Migration(1, "Add t", "CREATE TABLE t (x);", f"DROP TABLE t; {statement};")]
    )
    await manager.migrate_up()
    with pytest.raises(MigrationFailed) as failed:
        await manager.migrate_down(0)

    assert isinstance(failed.value.__cause__, StatementRefused)
    assert ("down", 2) == (failed.value.direction, failed.value.number)
    assert [("t",)] == await rows(pool, "SELECT name FROM sqlite_schema WHERE name = 't'")
    assert 1 == await manager.current_version()


@pytest.mark.parametrize("statement", ["COMMIT", "DROP TABLE schema_migrations"])
async def test_refused_in_the_first_migration(pool: SingleConnectionPool, statement: str) -> None:
    """On a fresh database nothing is left of a refused first migration, no bookkeeping either."""
    hostile = Migration(1, "Hostile", f"CREATE TABLE t (x); {statement};")
    with pytest.raises(MigrationFailed) as failed:
        await MigrationManager(pool, [hostile]).migrate_up()

    assert isinstance(failed.value.__cause__, StatementRefused)
    assert [] == await rows(pool, "SELECT name FROM sqlite_schema")


CONFLICT = "INSERT OR ROLLBACK INTO kept VALUES (1, 'again')"
RAISE = "CREATE TRIGGER deny BEFORE INSERT ON spare BEGIN SELECT RAISE(ROLLBACK, 'denied'); END"
CLAUSE = "CREATE TABLE strict_one (x UNIQUE ON CONFLICT ROLLBACK)"


@pytest.mark.parametrize(
    ("statements", "number"),
    [
        ([CONFLICT], 2),
        (["UPDATE OR ROLLBACK kept SET id = 'text'"], 2),
        ([RAISE, "INSERT INTO spare VALUES (1, 'x')"], 3),
        ([CLAUSE, "INSERT INTO strict_one VALUES (1), (1)"], 3),
    ],
    ids=["insert or rollback", "update or rollback", "raise", "on conflict rollback"],
)
async def test_transaction_ended(
    pool: SingleConnectionPool, statements: list[str], number: int
) -> None:
    """A statement that rolls the transaction back itself is noticed; what follows never runs."""
    script = ";\n".join(["CREATE TABLE before (x)", *statements, "CREATE TABLE after (x)"])
    error = await refuse(pool, script)

    assert (2, number) == (error.version, error.number)
    assert isinstance(error.__cause__, sqlite3.IntegrityError | TransactionEnded)
    mended = [FIRST, Migration(2, "Mended", "CREATE TABLE mended (x);")]
    assert await MigrationManager(pool, mended).migrate_up()


ALLOWED = {
    "full text": (
        "CREATE VIRTUAL TABLE f USING fts5(x); INSERT INTO f VALUES ('some words');",
        "SELECT x FROM f WHERE f MATCH 'words'",
        "some words",
    ),
    "r-tree": (
        "CREATE VIRTUAL TABLE r USING rtree(id, a, b); INSERT INTO r VALUES (1, 2, 3);",
        "SELECT id FROM r WHERE a < 3",
        1,
    ),
    "trigger": (
        (
            "CREATE TRIGGER t AFTER INSERT ON kept BEGIN UPDATE spare SET x = CASE WHEN new.id > 1 "
            "THEN ';' ELSE 'END' END; INSERT INTO spare VALUES (new.id, new.x); END;"
            "INSERT INTO kept VALUES (2, 'two');"
        ),
        "SELECT x FROM spare",
        "two",
    ),
    "view and its trigger": (
        (
            "CREATE VIEW v AS SELECT x FROM kept; CREATE TRIGGER t INSTEAD OF INSERT ON v BEGIN "
            "INSERT INTO spare (x) VALUES (new.x); END; INSERT INTO v VALUES ('via');"
        ),
        "SELECT x FROM spare",
        "via",
    ),
    "generated columns": (
        "CREATE TABLE g (a, b AS (a * 2), c AS (a * 3) STORED); INSERT INTO g VALUES (2);",
        "SELECT b + c FROM g",
        10,
    ),
    "strict": (
        "CREATE TABLE s (x INTEGER) STRICT; INSERT INTO s VALUES (1);",
        "SELECT x FROM s",
        1,
    ),
    "without rowid": (
        "CREATE TABLE w (x PRIMARY KEY) WITHOUT ROWID; INSERT INTO w VALUES (1);",
        "SELECT x FROM w",
        1,
    ),
    "partial and expression indexes": (
        "CREATE INDEX p ON kept (x) WHERE id > 1; CREATE UNIQUE INDEX e ON kept (lower(x));",
        "SELECT count(*) FROM sqlite_schema WHERE name IN ('p', 'e')",
        2,
    ),
    "user_version": ("PRAGMA user_version = 7;", "PRAGMA user_version", 7),
    "application_id": ("PRAGMA main.application_id(9);", "PRAGMA application_id", 9),
    "defer_foreign_keys": (
        (
            "CREATE TABLE a (x INTEGER PRIMARY KEY); CREATE TABLE b (y REFERENCES a);"
            "PRAGMA defer_foreign_keys = ON; INSERT INTO b VALUES (1); INSERT INTO a VALUES (1);"
        ),
        "SELECT y FROM b",
        1,
    ),
    "common table expressions": (
        (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10) "
            "INSERT INTO spare SELECT i, 'n' FROM n;"
        ),
        "SELECT count(*) FROM spare",
        10,
    ),
    "upsert": (
        "INSERT INTO kept VALUES (1, 'uno') ON CONFLICT (id) DO UPDATE SET x = excluded.x;",
        "SELECT x FROM kept",
        "uno",
    ),
    "insert or ignore": (
        "INSERT OR IGNORE INTO kept VALUES (1, 'no'); INSERT OR REPLACE INTO kept VALUES (1, 'y');",
        "SELECT x FROM kept",
        "y",
    ),
    "json": (
        "UPDATE kept SET x = json_object('a', json_array(1, 2));",
        "SELECT x ->> '$.a[1]' FROM kept",
        2,
    ),
    "window and returning": (
        "INSERT INTO spare SELECT row_number() OVER (ORDER BY x), x FROM kept RETURNING id;",
        "SELECT id FROM spare",
        1,
    ),
    "rename a table": ("ALTER TABLE spare RENAME TO other;", "SELECT count(*) FROM other", 0),
    "rename a column": (
        "ALTER TABLE kept RENAME COLUMN x TO schema_migrations;",
        "SELECT schema_migrations FROM kept",
        "one",
    ),
    "add a column": ("ALTER TABLE kept ADD COLUMN y DEFAULT 5;", "SELECT y FROM kept", 5),
    "drop a column": (
        "ALTER TABLE spare DROP COLUMN x;",
        "SELECT count(*) FROM pragma_table_info('spare')",
        1,
    ),
    "rebuild a table": (
        (
            "CREATE TABLE new (id INTEGER PRIMARY KEY, x TEXT NOT NULL); "
            "INSERT INTO new SELECT * FROM kept; DROP TABLE kept; ALTER TABLE new RENAME TO kept;"
        ),
        "SELECT x FROM kept",
        "one",
    ),
    "legacy_alter_table": (
        (
            "PRAGMA legacy_alter_table = ON; CREATE VIEW v AS SELECT x FROM spare; "
            "ALTER TABLE spare RENAME TO other;"
        ),
        "SELECT sql FROM sqlite_schema WHERE name = 'v'",
        "CREATE VIEW v AS SELECT x FROM spare",
    ),
    "temporary table": (
        (
            "CREATE TEMP TABLE scratch AS SELECT 3 AS x; "
            "INSERT INTO spare SELECT x, x FROM scratch; DROP TABLE scratch;"
        ),
        "SELECT id FROM spare",
        3,
    ),
    "reading the bookkeeping": (
        "INSERT INTO spare SELECT version, description FROM schema_migrations;",
        "SELECT x FROM spare",
        "Add kept",
    ),
    "other names like ours": (
        (
            "CREATE TABLE old_schema_migrations (schema_migrations); "
            "CREATE TABLE schema_migrations_2 (x DEFAULT 'schema_migrations'); "
            "ALTER TABLE spare RENAME TO schema_migrations_3;"
        ),
        "SELECT count(*) FROM sqlite_schema WHERE name GLOB 'schema_migrations_[23]'",
        2,
    ),
    "words in texts": (
        (
            "INSERT INTO spare VALUES (1, 'COMMIT; VACUUM; DROP TABLE schema_migrations'); "
            "/* COMMIT; */ -- ROLLBACK;\n"
        ),
        "SELECT count(*) FROM spare",
        1,
    ),
    "questions": (
        (
            "PRAGMA table_info(kept); PRAGMA foreign_key_check; PRAGMA integrity_check; "
            "PRAGMA journal_mode; PRAGMA foreign_keys; SELECT * FROM pragma_index_list('kept');"
        ),
        "SELECT 1",
        1,
    ),
    "analyze and reindex": (
        "CREATE INDEX i ON kept (x); ANALYZE; REINDEX kept;",
        "SELECT count(*) FROM sqlite_schema WHERE name = 'sqlite_stat1'",
        1,
    ),
    "explain": ("EXPLAIN QUERY PLAN SELECT * FROM kept; EXPLAIN SELECT 1;", "SELECT 1", 1),
}


def compiled(option: str) -> bool:
    """Whether SQLite was built with an option."""
    with closing(sqlite3.connect(":memory:")) as connection:
        ((used,),) = connection.execute("SELECT sqlite_compileoption_used(?)", (option,))
    return bool(used)


@pytest.mark.parametrize(("script", "question", "answer"), ALLOWED.values(), ids=ALLOWED)
async def test_allowed(
    pool: SingleConnectionPool,
    request: pytest.FixtureRequest,
    script: str,
    question: str,
    answer: object,
) -> None:
    """What real people use in migrations passes, works, and leaves the connection as it was."""
    for module, option in (("fts5", "ENABLE_FTS5"), ("rtree", "ENABLE_RTREE")):
        if module in script and not compiled(option):
            pytest.skip(f"this SQLite has no {module}")
    settings = ("foreign_keys", "legacy_alter_table", "synchronous", "journal_mode", "temp_store")
    manager = MigrationManager(pool, [FIRST, Migration(2, "Allowed", script)])
    await manager.migrate_up(1)
    before = [await rows(pool, f"PRAGMA {name}") for name in settings]
    await manager.migrate_up()

    assert (answer,) == (await rows(pool, question))[0]
    assert before == [await rows(pool, f"PRAGMA {name}") for name in settings]
    assert 2 == await manager.current_version()


@pytest.mark.parametrize("outer", [0, 1])
async def test_legacy_alter_table_is_given_back(pool: SingleConnectionPool, outer: int) -> None:
    """A migration that fails leaves legacy_alter_table as the application had set it."""
    async with pool.acquire() as connection:
        await connection.execute(f"PRAGMA legacy_alter_table = {outer}")
    script = f"PRAGMA legacy_alter_table = {1 - outer}; SELECT nothing FROM nowhere;"
    with pytest.raises(MigrationFailed):
        await MigrationManager(pool, [Migration(1, "Fails", script)]).migrate_up()

    assert [(outer,)] == await rows(pool, "PRAGMA legacy_alter_table")


async def test_the_guard_is_taken_down(pool: SingleConnectionPool) -> None:
    """After a refusal the application may do again what a migration may not."""
    await refuse(pool, "COMMIT;")
    async with pool.acquire() as connection:
        await connection.execute("BEGIN")
        await connection.execute("SAVEPOINT s")
        await connection.execute("COMMIT")
        await connection.execute("VACUUM")


async def test_a_cached_statement_is_refused(pool: SingleConnectionPool) -> None:
    """A statement that the application has run before is refused all the same."""
    async with pool.acquire() as connection:
        for statement in ("BEGIN", "COMMIT"):
            await connection.execute(statement)
    error = await refuse(pool, "COMMIT;")

    assert isinstance(error.__cause__, StatementRefused)
