"""Foreign keys while a migration runs: enforced, not enforced and checked, or cascading."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from wave_async import Migration, MigrationManager, SingleConnectionPool
from wave_async.definitions import MIGRATIONS
from wave_async.errors import CascadeRefused, DatabaseLocked, KeysViolated, MigrationFailed

FAMILY = """
CREATE TABLE parent (id INTEGER PRIMARY KEY, a INTEGER, b INTEGER, UNIQUE (a, b));
INSERT INTO parent VALUES (1, 10, 100), (2, 20, 200), (3, 30, 300);
"""
EVERYTHING = "SELECT name, sql FROM sqlite_schema ORDER BY name"


def child(reference: str, rows: str = "(1), (1), (2), (NULL)", name: str = "child") -> str:
    """Write a child table and its rows."""
    return f"CREATE TABLE {name} (p {reference}); INSERT INTO {name} VALUES {rows};"


async def migrate(pool: SingleConnectionPool, *scripts: Any, **options: Any) -> None:
    """Run scripts as migrations, one after another; the options are the last one's."""
    migrations = [Migration(n, "Add", script) for n, script in enumerate(scripts[:-1], 1)]
    last = Migration(len(scripts), "Last", scripts[-1], **options)
    await MigrationManager(pool, [*migrations, last]).migrate_up()


async def rows(pool: SingleConnectionPool, sql: str) -> list[Any]:
    """Ask the pool's own connection, which must be as the pool has opened it."""
    async with pool.acquire() as db:
        assert not db.in_transaction
        for name, value in (("foreign_keys", 1), ("legacy_alter_table", 0), ("busy_timeout", 5000)):
            assert [(value,)] == await db.execute_fetchall(f"PRAGMA {name}"), name
        return [tuple(row) for row in await db.execute_fetchall(sql)]


async def failure(pool: SingleConnectionPool, *scripts: Any, **options: Any) -> MigrationFailed:
    """Run scripts of which the last one fails and leaves everything as it was."""
    await migrate(pool, *scripts[:-1])
    dump = await contents(pool)
    with pytest.raises(MigrationFailed) as failed:
        await migrate(pool, *scripts, **options)
    assert dump == await contents(pool)
    return failed.value


async def contents(pool: SingleConnectionPool) -> list[Any]:
    """Return everything that is in the database, as another connection sees it."""
    with closing(sqlite3.connect(pool.path)) as other:
        schema = other.execute("SELECT * FROM sqlite_schema ORDER BY 1, 2").fetchall()
        tables = [n for kind, n, *_ in schema if kind == "table" and not n.endswith("_log")]
        return [schema, *(other.execute(f'SELECT * FROM "{t}"').fetchall() for t in tables)]


# The cascade guard.


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL", "SET DEFAULT"])
@pytest.mark.parametrize(
    "drop",
    [
        "DROP TABLE parent",
        "drop table PARENT",
        "DROP TABLE IF EXISTS parent",
        "DROP TABLE main.parent",
        'DROP TABLE "main" . "Parent"',
        "DROP TABLE [parent]",
        "DROP TABLE `parent`",
        "DROP TABLE 'parent'",
        "DROP/**/TABLE-- the old one\nparent",
    ],
)
async def test_dropping_a_parent_is_refused(
    pool: SingleConnectionPool, action: str, drop: str
) -> None:
    """However it is written, it does not run, and the children are named with their rows."""
    children = child(f"INTEGER REFERENCES parent ON DELETE {action}")
    other = child(f"INTEGER REFERENCES PARENT (id) ON DELETE {action}", "(3)", '"o ther"')
    failed = await failure(pool, FAMILY + children + other, f"SELECT 1;\n{drop};")

    cause = failed.__cause__
    assert isinstance(cause, CascadeRefused)
    assert ("parent", (("child", 3), ("o ther", 1))) == (cause.table.lower(), cause.children)
    assert (2, 2) == (failed.number, failed.line)
    assert "child (3 row(s)), o ther (1 row(s)); say foreign_keys=off" in str(failed)


@pytest.mark.parametrize("action", ["", "ON DELETE NO ACTION", "ON DELETE RESTRICT"])
async def test_a_key_that_does_not_cascade_protects_itself(
    pool: SingleConnectionPool, action: str
) -> None:
    """SQLite's own error is the answer where no row would be lost."""
    failed = await failure(pool, FAMILY + child(f"REFERENCES parent {action}"), "DROP TABLE parent")

    assert isinstance(failed.__cause__, sqlite3.IntegrityError)
    assert "FOREIGN KEY constraint failed" in str(failed)


KEYS = {
    "implicit": ("CREATE TABLE c (p REFERENCES parent ON DELETE CASCADE)", "(1)"),
    "named": ("CREATE TABLE c (p REFERENCES parent (id) ON DELETE CASCADE)", "(1)"),
    "composite": (
        "CREATE TABLE c (x, y, FOREIGN KEY (x, y) REFERENCES parent (a, b) ON DELETE SET NULL)",
        "(10, 100), (20, NULL), (NULL, 100)",
    ),
    "composite, implicit": (
        """CREATE TABLE pair (a, b, PRIMARY KEY (b, a)) WITHOUT ROWID;
        INSERT INTO pair VALUES (1, 2);
        CREATE TABLE c (x, y, FOREIGN KEY (x, y) REFERENCES pair ON DELETE CASCADE)""",
        "(2, 1)",
    ),
    "two keys": (
        """CREATE TABLE c (p REFERENCES parent ON DELETE CASCADE,
        q REFERENCES parent ON DELETE SET NULL)""",
        "(NULL, 1), (NULL, NULL)",
    ),
    "other affinity": ("CREATE TABLE c (p TEXT REFERENCES parent ON DELETE CASCADE)", "('1')"),
    "without rowid": (
        "CREATE TABLE c (p PRIMARY KEY REFERENCES parent ON DELETE CASCADE) WITHOUT ROWID",
        "(1)",
    ),
    "generated": (
        "CREATE TABLE c (x, p AS (x + 1) STORED REFERENCES parent ON DELETE CASCADE)",
        "(0)",
    ),
}


@pytest.mark.parametrize(("table", "values"), KEYS.values(), ids=KEYS)
async def test_every_kind_of_key_is_seen(
    pool: SingleConnectionPool, table: str, values: str
) -> None:
    """One row that matches is enough, whatever the key looks like; it counts once."""
    dropped = "pair" if "pair" in table else "parent"
    failed = await failure(
        pool, f"{FAMILY}{table}; INSERT INTO c VALUES {values}", f"DROP TABLE {dropped}"
    )

    assert isinstance(failed.__cause__, CascadeRefused)
    assert (("c", 1),) == failed.__cause__.children


CASCADES = "INTEGER REFERENCES parent ON DELETE CASCADE"
PASSING = {
    "no child": "DROP TABLE parent",
    "empty child": f"CREATE TABLE child (p {CASCADES}); DROP TABLE parent",
    "NULL keys": f"{child(CASCADES, '(NULL), (NULL)')} DROP TABLE parent",
    "self reference": (
        "CREATE TABLE tree (id INTEGER PRIMARY KEY, up REFERENCES Tree ON DELETE CASCADE);"
        "INSERT INTO tree VALUES (1, NULL), (2, 1); DROP TABLE tree; DROP TABLE parent"
    ),
    "child dropped before": f"{child(CASCADES)} DROP TABLE child; DROP TABLE parent",
    "rows deleted before": f"{child(CASCADES)} DELETE FROM child; DROP TABLE parent",
    "no such table": "DROP TABLE parent; DROP TABLE IF EXISTS parent",
    "key to no column": (
        "CREATE TABLE child (p REFERENCES parent (nope) ON DELETE CASCADE); DROP TABLE parent"
    ),
    "parent without key": (
        "CREATE TABLE q (x); CREATE TABLE child (p REFERENCES q ON DELETE CASCADE);"
        "DROP TABLE q; DROP TABLE parent"
    ),
    "in comments and strings": (
        f"{child(CASCADES)} SELECT 'DROP TABLE parent' /* DROP TABLE parent */;"
    ),
    "drops of other things": (
        f"{child(CASCADES)} CREATE INDEX i ON child (p); DROP INDEX i; CREATE VIEW v AS SELECT 1;"
        "DROP VIEW v; CREATE TRIGGER t AFTER INSERT ON child BEGIN SELECT 1; END; DROP TRIGGER t;"
        "ALTER TABLE child ADD COLUMN x; ALTER TABLE child DROP COLUMN x"
    ),
    "virtual table": "CREATE VIRTUAL TABLE f USING fts5(x); DROP TABLE f; DROP TABLE parent",
    "temp table of that name": (
        f"{child(CASCADES)} CREATE TEMP TABLE parent (id INTEGER PRIMARY KEY);"
        "INSERT INTO temp.parent VALUES (1); DROP TABLE parent"
    ),
    "child in temp": (
        "CREATE TEMP TABLE child (p REFERENCES parent ON DELETE CASCADE);"
        "DROP TABLE parent; DROP TABLE temp.child"
    ),
}


@pytest.mark.parametrize("script", PASSING.values(), ids=PASSING)
async def test_what_loses_no_row_passes(pool: SingleConnectionPool, script: str) -> None:
    """Nothing is refused that would not delete or change a row of another table."""
    await migrate(pool, FAMILY, script)

    if "INSERT INTO child" in script and "DELETE" in script and "DROP TABLE child" not in script:
        assert await rows(pool, "SELECT count(*) FROM child")
    assert [(2,)] == await rows(pool, "SELECT max(version) FROM schema_migrations")


async def test_a_table_of_the_same_name_in_temp_hides_nothing(pool: SingleConnectionPool) -> None:
    """Whose rows are lost is looked for in the database itself."""
    shadows = "CREATE TEMP TABLE child (p); CREATE TEMP TABLE parent (id); DROP TABLE main.parent;"
    failed = await failure(pool, FAMILY + child(CASCADES), shadows)

    assert isinstance(failed.__cause__, CascadeRefused)


@pytest.mark.parametrize("options", [{"cascade": True}, {"foreign_keys": False, "cascade": True}])
async def test_cascade_takes_the_rows_along(
    pool: SingleConnectionPool, options: dict[str, bool]
) -> None:
    """Who says so loses the rows; without enforced keys there is nothing that would cascade."""
    script = "DROP TABLE parent; CREATE TABLE parent (id INTEGER PRIMARY KEY)"
    if "foreign_keys" in options:
        script += "; INSERT INTO parent VALUES (1), (2)"
    await migrate(pool, FAMILY + child(CASCADES), script, **options)

    left = [(None,)] if "foreign_keys" not in options else [(1,), (1,), (2,), (None,)]
    assert left == await rows(pool, "SELECT p FROM child")


async def test_a_refused_drop_on_the_way_down(pool: SingleConnectionPool) -> None:
    """A rollback is looked at like a migration up."""
    manager = MigrationManager(
        pool, [Migration(1, "Add", FAMILY + child(CASCADES), "DROP TABLE parent; DROP TABLE child")]
    )
    await manager.migrate_up()
    with pytest.raises(MigrationFailed) as failed:
        await manager.migrate_down(0)

    assert isinstance(failed.value.__cause__, CascadeRefused)
    assert 1 == await manager.current_version()


async def test_the_built_in_migrations_go_down_on_full_tables(pool: SingleConnectionPool) -> None:
    """With a row in each table, none of Wave's own downs is refused."""
    manager = MigrationManager(pool, MIGRATIONS)
    await manager.migrate_up()
    async with pool.acquire() as db:
        await db.executescript("PRAGMA foreign_keys = 0; PRAGMA ignore_check_constraints = 1")
        tables = await rows_of(db, "SELECT name FROM sqlite_schema WHERE type = 'table'")
        ours = [n for (n,) in tables if not n.startswith(("sqlite_", "schema_migrations"))]
        for table in ours:
            columns = await rows_of(db, f"SELECT count(*) FROM pragma_table_info('{table}')")
            await db.execute(f"INSERT INTO {table} VALUES ({', '.join(['1'] * columns[0][0])})")
        await db.executescript("PRAGMA foreign_keys = 1; PRAGMA ignore_check_constraints = 0")
        assert [] == await rows_of(db, "PRAGMA foreign_key_check")
    assert 11 == len(ours)
    await manager.migrate_down(0)

    assert [("schema_migrations",)] == await rows(
        pool, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE '%migrations'"
    )


async def rows_of(db: Any, sql: str) -> list[Any]:
    """Ask a connection that is held."""
    return [tuple(row) for row in await db.execute_fetchall(sql)]


@pytest.mark.parametrize("pragma", ["writable_schema", "trusted_schema", "recursive_triggers"])
async def test_looking_at_a_statement_does_not_run_it(
    pool: SingleConnectionPool, pragma: str
) -> None:
    """A pragma acts while it is prepared, also under EXPLAIN: what is refused has not acted."""
    ((before,),) = await rows(pool, f"PRAGMA {pragma}")
    await failure(pool, FAMILY, f"PRAGMA /* DROP */ {pragma} = {1 - before}")

    assert [(before,)] == await rows(pool, f"PRAGMA {pragma}")


# Keys that are not enforced, and checked.


@pytest.mark.parametrize("word", ["option", "pragma"])
async def test_new_violations_fail(pool: SingleConnectionPool, word: str) -> None:
    """They are counted by child and parent; what was violated before is not held against it."""
    old = "PRAGMA foreign_keys = OFF; INSERT INTO child VALUES (7)"
    script = "INSERT INTO child VALUES (8), (9); CREATE TABLE gone (x REFERENCES nowhere);"
    options = {"foreign_keys": False}
    if word == "pragma":
        script, options = f"PRAGMA foreign_keys = OFF; {script} PRAGMA foreign_keys = ON", {}
    with closing(sqlite3.connect(pool.path)) as other:
        other.executescript(f"{FAMILY}{child(CASCADES)}{old}; DROP TABLE IF EXISTS app")
        other.executescript("CREATE TABLE app AS SELECT 1")
    await MigrationManager(pool, [Migration(1, "Mark", "")]).force_mark_applied(1)
    dump = await contents(pool)
    with pytest.raises(MigrationFailed) as failed:
        await migrate(pool, "", script, **options)

    assert isinstance(failed.value.__cause__, KeysViolated)
    assert (("child", "parent", 2), ("gone", "nowhere", 0)) == failed.value.__cause__.violations
    assert dump == await contents(pool)
    await migrate(pool, "", "INSERT INTO child VALUES (1)", foreign_keys=False)
    assert [(6,)] == await rows(pool, "SELECT count(*) FROM child")


async def test_a_key_whose_table_is_gone_fails(pool: SingleConnectionPool) -> None:
    """Also where no row needs the table yet; one that was gone before is nobody's fault now."""
    orphan = "CREATE TABLE orphan (x REFERENCES nowhere);"
    failed = await failure(pool, FAMILY, orphan, foreign_keys=False)
    await migrate(pool, FAMILY, orphan, "SELECT 1", foreign_keys=False)

    assert isinstance(failed.__cause__, KeysViolated)
    assert (("orphan", "nowhere", 0),) == failed.__cause__.violations


async def test_a_key_that_fits_nothing_does_not_hide_others(pool: SingleConnectionPool) -> None:
    """Where one table's keys cannot be counted before, the others' still are."""
    unfit = "CREATE TABLE loose (x); CREATE TABLE unfit (x REFERENCES loose (x));"
    failed = await failure(
        pool,
        FAMILY + child(CASCADES) + unfit,
        "INSERT INTO child VALUES (8)",
        foreign_keys=False,
    )

    assert isinstance(failed.__cause__, KeysViolated)
    await migrate(pool, FAMILY + child(CASCADES) + unfit, "SELECT 1", foreign_keys=False)


async def test_a_new_key_that_fits_nothing_fails(pool: SingleConnectionPool) -> None:
    """SQLite's own error says which one it is."""
    failed = await failure(
        pool,
        FAMILY,
        "CREATE TABLE unfit (x REFERENCES parent (a)); INSERT INTO unfit VALUES (1)",
        foreign_keys=False,
    )

    assert 'foreign key mismatch - "unfit" referencing "parent"' in str(failed)


async def test_keys_are_given_back_as_the_application_had_them(
    pool: SingleConnectionPool,
) -> None:
    """An application that does not enforce keys gets its connection back like that."""
    async with pool.acquire() as db:
        await db.execute("PRAGMA foreign_keys = OFF")
    await migrate(pool, FAMILY + child(CASCADES), "SELECT 1", foreign_keys=False)
    async with pool.acquire() as db:
        assert [(0,)] == await rows_of(db, "PRAGMA foreign_keys")
        await db.execute("PRAGMA foreign_keys = ON")
    scripts = FAMILY + child(CASCADES), "SELECT 1", "SELECT * FROM nonsense"
    with pytest.raises(MigrationFailed, match="no such table: nonsense"):
        await migrate(pool, *scripts, foreign_keys=False)

    assert [(4,)] == await rows(pool, "SELECT count(*) FROM child")


COUNT = "WITH RECURSIVE c (x) AS (SELECT entered() UNION ALL SELECT x + 1 FROM c)"


@pytest.mark.parametrize(
    "options", [{"foreign_keys": False}, {"legacy_alter_table": True}, {"cascade": True}]
)
async def test_a_cancelled_migration_gives_everything_back(
    path: Path, options: dict[str, bool]
) -> None:
    """Keys and legacy renames are as before when a migration with options was cancelled."""
    entered, loop = asyncio.Event(), asyncio.get_running_loop()

    def setup(connection: sqlite3.Connection) -> None:
        call = loop.call_soon_threadsafe
        connection.create_function("entered", 0, lambda: call(entered.set) and 1)

    async with SingleConnectionPool(path, setup=setup) as pool:
        script = f"INSERT INTO parent {COUNT} SELECT x, x, x FROM c"
        await migrate(pool, FAMILY)
        task = asyncio.ensure_future(migrate(pool, FAMILY, script, **options))
        await entered.wait()
        task.cancel()
        await asyncio.wait([task])

        assert task.cancelled()
        assert [(3,)] == await rows(pool, "SELECT count(*) FROM parent")


# Rebuilds.

MANY = """
CREATE TABLE runs (id INTEGER PRIMARY KEY, x TEXT);
WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 100)
INSERT INTO runs SELECT i, 'run ' || i FROM c;
CREATE TABLE events (run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE);
WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 10000)
INSERT INTO events SELECT i % 100 + 1 FROM c;
CREATE VIEW seen AS SELECT x FROM runs JOIN events ON run = id;
"""
NEW_FIRST = """
DROP VIEW seen;
CREATE TABLE new (id INTEGER PRIMARY KEY, x TEXT NOT NULL);
INSERT INTO new SELECT id, x FROM runs;
DROP TABLE runs;
ALTER TABLE new RENAME TO runs;
CREATE VIEW seen AS SELECT x FROM runs JOIN events ON run = id;
"""
OLD_FIRST = """
ALTER TABLE runs RENAME TO old;
CREATE TABLE runs (id INTEGER PRIMARY KEY, x TEXT NOT NULL);
INSERT INTO runs SELECT id, x FROM old;
DROP TABLE old;
"""


def in_python(connection: sqlite3.Connection) -> None:
    """Rebuild a table statement by statement."""
    for statement in NEW_FIRST.strip().rstrip(";").split(";"):
        connection.execute(statement)


async def in_async_python(db: Any) -> None:
    """Rebuild a table by a script."""
    await db.executescript(NEW_FIRST)


SAFE: dict[str, tuple[Any, dict[str, bool]]] = {
    "option": (NEW_FIRST, {"foreign_keys": False}),
    "pragma": (f"PRAGMA foreign_keys=OFF;{NEW_FIRST}PRAGMA foreign_keys=ON;", {}),
    "pragma around a transaction": (
        f"PRAGMA foreign_keys = OFF; BEGIN;{NEW_FIRST}COMMIT; PRAGMA foreign_keys = ON;",
        {},
    ),
    "pragma in a transaction": (f"BEGIN; PRAGMA foreign_keys=0;{NEW_FIRST}END TRANSACTION;", {}),
    "function": (in_python, {"foreign_keys": False}),
    "async function": (in_async_python, {"foreign_keys": False}),
    "pragma beside a function": (
        ["PRAGMA foreign_keys=OFF", in_python, "PRAGMA foreign_keys=ON"],
        {},
    ),
    "old name first": (OLD_FIRST, {"foreign_keys": False, "legacy_alter_table": True}),
    "old name first, pragmas": (
        f"PRAGMA foreign_keys=OFF; PRAGMA legacy_alter_table=ON;{OLD_FIRST}",
        {},
    ),
}


@pytest.mark.parametrize(("script", "options"), SAFE.values(), ids=SAFE)
async def test_a_rebuilt_parent_keeps_its_children(
    pool: SingleConnectionPool, script: Any, options: dict[str, bool]
) -> None:
    """All 10,000 rows are there, refer to the new table, and keys are enforced again."""
    await migrate(pool, MANY, script, **options)

    assert [(10_000, 100)] == await rows(pool, "SELECT count(*), count(DISTINCT run) FROM events")
    assert [(10_000,)] == await rows(pool, "SELECT count(*) FROM seen")
    assert [("runs",)] == await rows(pool, 'SELECT "table" FROM pragma_foreign_key_list("events")')
    assert [(1,)] == await rows(pool, "SELECT \"notnull\" FROM pragma_table_info('runs') WHERE cid")
    with pytest.raises(sqlite3.IntegrityError):
        await rows(pool, "INSERT INTO events VALUES (-1)")


@pytest.mark.parametrize("script", [NEW_FIRST, OLD_FIRST, in_python, in_async_python])
@pytest.mark.parametrize("options", [{}, {"legacy_alter_table": True}])
async def test_a_rebuild_with_enforced_keys_changes_nothing(
    pool: SingleConnectionPool, script: Any, options: dict[str, bool]
) -> None:
    """Whichever way round, also in a function, it is refused, as the children would be lost."""
    failed = await failure(pool, MANY, script, **options)

    assert isinstance(failed.__cause__, CascadeRefused)
    assert (("events", 10_000),) == failed.__cause__.children


async def test_a_rebuild_that_leaves_keys_without_their_table_fails(
    pool: SingleConnectionPool,
) -> None:
    """Old name first, without legacy renames: keys would refer to a table that is gone."""
    failed = await failure(pool, MANY.partition("CREATE VIEW")[0], OLD_FIRST, foreign_keys=False)

    assert isinstance(failed.__cause__, KeysViolated)
    assert ("events", "old", 0) in failed.__cause__.violations


# Without a transaction.

RESIZE = "PRAGMA journal_mode=DELETE; PRAGMA page_size=8192; VACUUM; PRAGMA journal_mode=WAL;"


@pytest.mark.parametrize("end", [RESIZE, RESIZE.replace("PRAGMA journal_mode=WAL;", "")])
async def test_the_size_of_pages_is_changed(pool: SingleConnectionPool, end: str) -> None:
    """What works only outside a transaction works, and the database is in WAL afterwards."""
    await migrate(pool, FAMILY, end, transaction=False)

    assert [(8192,)] == await rows(pool, "PRAGMA page_size")
    assert [("wal",)] == await rows(pool, "PRAGMA journal_mode")
    assert [(2,)] == await rows(pool, "SELECT max(version) FROM schema_migrations")


async def test_a_failed_statement_outside_leaves_no_record(pool: SingleConnectionPool) -> None:
    """It is named, the database is in WAL, and the next run repeats it from its beginning."""
    await migrate(pool, FAMILY)
    manager = MigrationManager(
        pool,
        [Migration(1, "Add", FAMILY), Migration(2, "Resize", RESIZE, transaction=False)],
        lock_timeout=0.05,
    )
    reader = sqlite3.connect(pool.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM parent").fetchone()
    with closing(reader), pytest.raises(MigrationFailed) as failed:
        await manager.migrate_up()
    assert (1, "PRAGMA journal_mode=DELETE") == (failed.value.number, failed.value.statement)
    assert [("wal",)] == await rows(pool, "PRAGMA journal_mode")
    assert [(1,)] == await rows(pool, "SELECT max(version) FROM schema_migrations")
    await migrate(pool, FAMILY, RESIZE, transaction=False)

    assert [(8192,)] == await rows(pool, "PRAGMA page_size")


async def test_what_runs_outside_is_repeated_where_its_record_is_missing(path: Path) -> None:
    """At least once: interrupted between statement and record, the next run does it again."""
    seen: list[str] = []

    def setup(connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(seen.append)

    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        async with SingleConnectionPool(path, setup=setup) as pool:
            await migrate(pool, FAMILY)
            holder.execute("BEGIN IMMEDIATE")
            manager = MigrationManager(
                pool,
                [
                    Migration(1, "Add", FAMILY),
                    Migration(2, "Ask", "PRAGMA auto_vacuum = FULL", transaction=False),
                ],
                lock_timeout=0.05,
            )
            with pytest.raises(DatabaseLocked):
                await manager.migrate_up()
            holder.execute("ROLLBACK")
            assert 1 == await manager.current_version()
            assert [2] == [s.version for s in (await manager.migrate_up()).steps]

    assert 2 == seen.count("PRAGMA auto_vacuum = FULL")


async def test_two_managers_at_once_run_outside_and_record_once(path: Path) -> None:
    """Both end well, whoever is first; the record is there once."""
    await asyncio.gather(*(vacuum(path) for _ in range(4)))

    with closing(sqlite3.connect(path)) as other:
        assert [(1,), (2,)] == other.execute("SELECT version FROM schema_migrations").fetchall()
        assert [(3,)] == other.execute("SELECT count(*) FROM parent").fetchall()


async def vacuum(path: Path) -> None:
    """Migrate by a pool of its own."""
    async with SingleConnectionPool(path) as pool:
        await migrate(pool, FAMILY, "VACUUM", transaction=False)


def test_a_process_killed_between_statement_and_record_repeats_it(path: Path) -> None:
    """What `kill -9` leaves is a database without the record, which the next run completes."""
    source = f"""
import asyncio, os, sys
from wave_async import Migration, MigrationManager, SingleConnectionPool
def setup(connection):
    def trace(sql):
        if sql.startswith("BEGIN IMMEDIATE") and connection.execute("PRAGMA page_size")\\
                .fetchone() == (8192,):
            os.kill(os.getpid(), 9)
    connection.set_trace_callback(trace)
async def main():
    async with SingleConnectionPool({str(path)!r}, setup=setup) as pool:
        await MigrationManager(pool, [
            Migration(1, "Add", {FAMILY!r}),
            Migration(2, "Resize", {RESIZE!r}, transaction=False),
        ]).migrate_up()
asyncio.run(main())
"""
    assert -9 == run_python(source)
    with closing(sqlite3.connect(path)) as other:
        assert [(1,)] == other.execute("SELECT version FROM schema_migrations").fetchall()
        assert [(8192,)] == other.execute("PRAGMA page_size").fetchall()

    async def again() -> None:
        async with SingleConnectionPool(path) as pool:
            await migrate(pool, FAMILY, RESIZE, transaction=False)
            assert [("wal",)] == await rows(pool, "PRAGMA journal_mode")

    asyncio.run(again())
    with closing(sqlite3.connect(path)) as other:
        assert [(1,), (2,)] == other.execute("SELECT version FROM schema_migrations").fetchall()


def run_python(source: str) -> int:
    """Run a program in a process of its own; answers its exit code."""
    return subprocess.run([sys.executable, "-c", source], check=False, timeout=60).returncode
