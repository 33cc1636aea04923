"""Previews: what a plan would destroy is told, what it would not is not, and nothing is written."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Any

import aiosqlite
import pytest
from conftest import numbered, wave

from wave_async import Migration, MigrationManager, SingleConnectionPool, SnapshotPolicy, errors
from wave_async.model.effects import Preview

T = "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b); INSERT INTO t VALUES (1, 2, 3), (2, 4, NULL);"
NEW = "CREATE TABLE n (id INTEGER PRIMARY KEY, a, b);"
S = "CREATE TABLE s (x); INSERT INTO s VALUES (1);"
FAMILY = """
    CREATE TABLE p (id INTEGER PRIMARY KEY);
    CREATE TABLE c (id INTEGER PRIMARY KEY, p REFERENCES P ON DELETE CASCADE);
    CREATE TABLE g (c REFERENCES c ON DELETE CASCADE, p REFERENCES p ON DELETE SET NULL);
    INSERT INTO p VALUES (1); INSERT INTO c VALUES (1, 1); INSERT INTO g VALUES (1, 1);
"""
BOTH = ["deletes rows of table c (1 row)", "deletes rows of table g (1 row)"]
ODD = 'CREATE TABLE "a\n\x1b[31m""b" (x); INSERT INTO "a\n\x1b[31m""b" VALUES (1);'

NOTHING: dict[str, tuple[str, str]] = {
    "a table more": (T, "CREATE TABLE u (x)"),
    "a table that is there": (T, "CREATE TABLE IF NOT EXISTS T (x)"),
    "a column more": (T, "ALTER TABLE t ADD COLUMN c NOT NULL DEFAULT 1 CHECK (c > 0)"),
    "a column renamed": (T, "ALTER TABLE t RENAME COLUMN a TO c"),
    "a table renamed": (T, "ALTER TABLE t RENAME TO u"),
    "a table in other letters": (T, "ALTER TABLE t RENAME TO u; ALTER TABLE u RENAME TO T"),
    "two tables that change names": (
        T + S,
        "ALTER TABLE t RENAME TO x; ALTER TABLE s RENAME TO t; ALTER TABLE x RENAME TO s",
    ),
    "a rebuild": (
        T,
        f"{NEW} INSERT INTO n SELECT * FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t",
    ),
    "a rebuild in other letters": (
        T,
        f"{NEW} INSERT INTO n SELECT ID, A, B FROM T; DROP TABLE T; ALTER TABLE n RENAME TO T",
    ),
    "a rebuild, the old one renamed first": (
        T,
        (
            "ALTER TABLE t RENAME TO o; CREATE TABLE t (id, a, b);"
            "INSERT INTO t SELECT * FROM o; DROP TABLE o"
        ),
    ),
    "another type for a column": (
        T,
        (
            "ALTER TABLE t ADD COLUMN c TEXT; UPDATE t SET c = a; ALTER TABLE t DROP COLUMN a;"
            "ALTER TABLE t RENAME COLUMN c TO a"
        ),
    ),
    "temporary tables": (
        T,
        (
            "CREATE TEMP TABLE t (x, y); ALTER TABLE temp.t DROP COLUMN x; DELETE FROM t;"
            "DROP TABLE temp.t"
        ),
    ),
    "a table of its own": (T, "CREATE TABLE n (x); DELETE FROM n; DROP TABLE n"),
    "an index and a view": (
        T + "CREATE INDEX i ON t (a); CREATE VIEW v AS SELECT * FROM t;",
        "DROP INDEX i; DROP VIEW v",
    ),
    "a parent's update": (FAMILY, "UPDATE p SET id = 2"),
}
SOMETHING: dict[str, tuple[str, str, list[str]]] = {
    "a table": (T, "DROP TABLE T", ["drops table t (2 rows)"]),
    "a table renamed before": (
        T,
        "ALTER TABLE t RENAME TO u; ALTER TABLE u RENAME TO v; DROP TABLE v",
        ["drops table t (2 rows)"],
    ),
    "one of two renamed ones": (
        T + S,
        "ALTER TABLE t RENAME TO u; ALTER TABLE s RENAME TO r; DROP TABLE r",
        ["drops table s (1 row)"],
    ),
    "a table made anew": (
        T,
        "DROP TABLE t; CREATE TABLE t (id, a, b)",
        ["deletes rows of table t (2 rows)"],
    ),
    "a table renamed, made anew": (
        T,
        "ALTER TABLE t RENAME TO o; CREATE TABLE t (id, a, b); DROP TABLE o",
        ["deletes rows of table t (2 rows)"],
    ),
    "a column, by a rebuild": (
        T,
        (
            "CREATE TABLE n (id, a); INSERT INTO n SELECT id, a FROM t; DROP TABLE t;"
            "ALTER TABLE n RENAME TO t"
        ),
        ["drops column t.b (1 row)"],
    ),
    "a column": (T, "ALTER TABLE t DROP COLUMN B", ["drops column t.b (1 row)"]),
    "a column, with another in its place": (
        T,
        "ALTER TABLE t ADD COLUMN c; ALTER TABLE t DROP COLUMN b",
        ["drops column t.b (1 row)"],
    ),
    "a column, with one of its name": (
        T,
        "ALTER TABLE t DROP COLUMN b; ALTER TABLE t ADD COLUMN b",
        ["drops column t.b (1 row)"],
    ),
    "a column, and another renamed": (
        T,
        "ALTER TABLE t RENAME COLUMN a TO c; ALTER TABLE t DROP COLUMN b",
        ["drops column t.b (1 row)"],
    ),
    "a column renamed before": (
        T,
        "ALTER TABLE t RENAME COLUMN b TO c; ALTER TABLE t DROP COLUMN c",
        ["drops column t.b (1 row)"],
    ),
    "a column of a table renamed before": (
        T,
        "ALTER TABLE t RENAME TO u; ALTER TABLE u DROP COLUMN b",
        ["drops column t.b (1 row)"],
    ),
    "a column named as a schema": (
        "CREATE TABLE t (a, temp); INSERT INTO t VALUES (1, 1);",
        "ALTER TABLE t DROP COLUMN temp",
        ["drops column t.temp (1 row)"],
    ),
    "rows": (T, "DELETE FROM T WHERE id > 1", ["deletes rows of table t (2 rows)"]),
    "rows of a table renamed before": (
        T,
        "ALTER TABLE t RENAME TO u; DELETE FROM u",
        ["deletes rows of table t (2 rows)"],
    ),
    "rows without a rowid": (
        "CREATE TABLE w (a PRIMARY KEY) WITHOUT ROWID;",
        "DELETE FROM w",
        ["deletes rows of table w (0 rows)"],
    ),
    "rows, by a trigger": (
        T + S + "CREATE TRIGGER g AFTER INSERT ON s BEGIN DELETE FROM t; END;",
        "INSERT INTO s VALUES (1)",
        ["deletes rows of table t (2 rows)"],
    ),
    "rows, through a view": (
        T + "CREATE VIEW v AS SELECT * FROM t;"
        "CREATE TRIGGER g INSTEAD OF DELETE ON v BEGIN DELETE FROM t; END;",
        "DELETE FROM v",
        ["deletes rows of table t (2 rows)"],
    ),
    "rows, with their parents": (
        FAMILY,
        "DELETE FROM p",
        [*BOTH, "deletes rows of table p (1 row)"],
    ),
    "a virtual table": (
        "CREATE VIRTUAL TABLE f USING fts5 (x); INSERT INTO f VALUES ('a');",
        "DROP TABLE f",
        ["drops table f (1 row)"],
    ),
    "an odd name": (ODD, 'DROP TABLE "a\n\x1b[31m""b"', ['drops table a\\n\\x1b[31m"b (1 row)']),
}


def told(preview: Preview) -> list[str]:
    """Return what a preview says of losses; nothing in it is unknown."""
    assert () == preview.unknown
    return [str(loss) for loss in preview.losses]


async def previewed(pool: SingleConnectionPool, base: str, *steps: Migration) -> Preview:
    """Preview steps 2 and on upon a database that a first one made."""
    first = Migration(1, "First", base)
    await MigrationManager(pool, [first]).migrate_up()
    return await MigrationManager(pool, [first, *steps]).preview_up()


@pytest.mark.parametrize(("base", "up"), NOTHING.values(), ids=NOTHING)
async def test_no_loss(pool: SingleConnectionPool, base: str, up: str) -> None:
    """What keeps every row and every value is told to destroy nothing."""
    assert [] == told(await previewed(pool, base, Migration(2, "Second", up)))


@pytest.mark.parametrize(("base", "up", "losses"), SOMETHING.values(), ids=SOMETHING)
async def test_a_loss(pool: SingleConnectionPool, base: str, up: str, losses: list[str]) -> None:
    """What destroys is told by name, with the rows that are there now."""
    assert losses == told(await previewed(pool, base, Migration(2, "Second", up)))


async def test_a_cascade_that_is_allowed(pool: SingleConnectionPool) -> None:
    """Rows that a dropped parent takes along are told; with keys off there are none."""
    drop = Migration(2, "Drop", "DROP TABLE p", cascade=True)
    assert [*BOTH, "drops table p (1 row)"] == told(await previewed(pool, FAMILY, drop))

    off = Migration(2, "Drop", "DROP TABLE p", cascade=True, foreign_keys=False)
    assert ["drops table p (1 row)"] == told(await previewed(pool, FAMILY, off))


async def test_the_way_down(pool: SingleConnectionPool) -> None:
    """A rollback is told newest first; what an earlier step of it made anew is not counted."""
    migrations = [
        *numbered(2),
        Migration(3, "Third", "ALTER TABLE t2 RENAME TO u", "ALTER TABLE u RENAME TO t2"),
    ]
    manager = MigrationManager(pool, migrations)
    await manager.migrate_up()

    found = await manager.preview_down(0)
    assert ["drops table t2", "drops table t1 (0 rows)"] == told(found)
    assert [(3, ("u",)), (2, ("t2",)), (1, ("t1",))] == [
        (e.step.version, e.touches) for e in found.effects
    ]


def fill(connection: sqlite3.Connection) -> None:
    """Add a row."""
    connection.execute("INSERT INTO t VALUES (9, 9, 9)")


async def tidy(db: aiosqlite.Connection) -> None:
    """Take rows away."""
    await db.execute("DELETE FROM t")


def needs_rows(connection: sqlite3.Connection) -> None:
    """Fail without rows."""
    (_,) = connection.execute("SELECT * FROM t").fetchone()


async def test_functions(pool: SingleConnectionPool) -> None:
    """They are tried out too, and their source is shown between the scripts around them."""
    preview = await previewed(pool, T, Migration(2, "Second", ["SELECT 1;\n", fill, tidy]))

    (effect,) = preview.effects
    assert ["deletes rows of table t (2 rows)"] == told(preview)
    assert 3 == effect.statements
    assert effect.script.startswith("SELECT 1;\n")
    assert effect.script.index("def fill(") < effect.script.index("def tidy(")


async def test_what_needs_rows_is_unknown(pool: SingleConnectionPool) -> None:
    """A step that fails on empty tables is told to be unknown with the reason, and all after it."""
    steps = Migration(2, "Second", needs_rows), Migration(3, "Third", "DROP TABLE t")
    preview = await previewed(pool, T, *steps)

    assert () == preview.losses
    second, third = (effect.unknown for effect in preview.unknown)
    assert "TypeError" in second
    assert "migration 2 could not be tried out before it" == third


async def test_a_step_outside_a_transaction(pool: SingleConnectionPool) -> None:
    """It can destroy nothing, is not run, and hides nothing behind it."""
    steps = Migration(2, "Shrink", "VACUUM", transaction=False), Migration(3, "X", "DELETE FROM t")

    assert ["deletes rows of table t (2 rows)"] == told(await previewed(pool, T, *steps))


async def test_a_schema_that_needs_the_applications_functions(path: Path) -> None:
    """They are there with `setup`; without it the schema cannot be copied, and that is told."""

    def setup(connection: sqlite3.Connection) -> None:
        connection.create_function("twice", 1, lambda x: x, deterministic=True)

    base = T + "CREATE INDEX i ON t (twice(a));"
    async with SingleConnectionPool(path, setup=setup) as pool:
        steps = Migration(2, "Second", "DELETE FROM t")
        assert ["deletes rows of table t (2 rows)"] == told(await previewed(pool, base, steps))
    async with SingleConnectionPool(path) as pool:
        manager = MigrationManager(pool, [Migration(1, "First", base), steps])
        (effect,) = (await manager.preview_up()).unknown
    assert "the schema cannot be copied: no such function: twice" == effect.unknown


async def test_an_extension_that_is_not_loaded(pool: SingleConnectionPool, path: Path) -> None:
    """A virtual table of which nothing can be asked makes losses unknown and stops nothing."""
    migrations = numbered(2)
    await MigrationManager(pool, migrations).migrate_up()
    await pool.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(
            "CREATE VIRTUAL TABLE f USING fts5 (x); PRAGMA writable_schema = ON;"
            "UPDATE sqlite_schema SET sql = replace(sql, 'fts5', 'gone') WHERE name = 'f'"
        )
    manager = MigrationManager(pool, migrations, snapshots=SnapshotPolicy())

    (effect,) = (await manager.preview_down(1)).effects
    assert "the schema cannot be copied: no such module: gone" == effect.unknown
    assert (await manager.rehearse_down(1)).failure == ""
    assert 1 == len((await manager.migrate_down(1)).steps)
    assert 1 == len((await manager.migrate_up()).steps)
    assert await manager.validate()


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
async def test_a_preview_writes_nothing(path: Path, mode: str) -> None:
    """Not a byte of the database, nor a file beside it, with no connection open and with one."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"PRAGMA journal_mode = {mode}").fetchall()
        db.executescript(T)
    migrations = [
        Migration(1, "First", "DROP TABLE t"),
        Migration(2, "Second", "CREATE TABLE u(x)"),
    ]
    before = {p.name: p.read_bytes() for p in path.parent.iterdir()}
    async with SingleConnectionPool(path) as pool:
        await MigrationManager(pool, migrations).preview_up()
        assert before == {p.name: p.read_bytes() for p in path.parent.iterdir()}
    assert [path] == list(path.parent.iterdir())


async def test_what_up_refuses_is_refused(pool: SingleConnectionPool) -> None:
    """A preview raises what the run would raise beforehand."""
    manager = MigrationManager(pool, numbered(3), max_version=2)
    with pytest.raises(errors.InvalidTarget):
        await manager.preview_up(3)
    assert [1, 2] == [e.step.version for e in (await manager.preview_up()).effects]
    await MigrationManager(pool, [Migration(1, "One way", "SELECT 1")]).migrate_up()
    with pytest.raises(errors.ChecksumMismatch):
        await manager.preview_up()
    with pytest.raises(errors.Irreversible):
        await MigrationManager(pool, [Migration(1, "One way", "SELECT 1")]).preview_down(0)


async def test_a_huge_schema(path: Path) -> None:
    """A plan and a proof over a thousand tables with an index each are made while one waits."""
    count = 1000
    up = "".join(f"CREATE TABLE t{n} (x); CREATE INDEX i{n} ON t{n} (x);" for n in range(count))
    async with SingleConnectionPool(path) as pool:
        many = [
            Migration(1, "Many", up),
            Migration(2, "One", "DROP TABLE t7", "CREATE TABLE t7(x)"),
        ]
        await MigrationManager(pool, many).migrate_up(1)
        manager, start = MigrationManager(pool, many), monotonic()
        assert ["drops table t7 (0 rows)"] == told(await manager.preview_up())
        assert await manager.validate()
    assert monotonic() - start < 20


# The command.


@pytest.fixture
def here(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the empty directory migrations of its own."""
    Path("m").mkdir()
    for name, text in {
        "1_users.up.sql": T,
        "1_users.down.sql": "DROP TABLE t;",
        "2_shrink.up.sql": "-- less\n\tALTER TABLE t DROP COLUMN b;\nDELETE FROM t;\n",
    }.items():
        Path("m", name).write_text(text)
    monkeypatch.setenv("WAVE_MIGRATIONS", "m")
    return here


PLANNED = """\
Applying migration 2: shrink
  2 statement(s), touches t, cannot be rolled back
  drops column t.b (1 row)
  deletes rows of table t (2 rows)
  | -- less
  |         ALTER TABLE t DROP COLUMN b;
  | DELETE FROM t;
"""


async def test_the_transcript(here: Path) -> None:
    """Each step, its statements, tables, losses, whether there is a way back; `--sql` its text."""
    await wave("up", 1)

    found = await wave("plan", "--sql")
    assert (PLANNED, "", 0) == (found.stdout, found.stderr, found.exit_code)
    without = "".join(line for line in PLANNED.splitlines(keepends=True) if "|" not in line)
    assert without == (await wave("plan")).stdout
    back = (
        "Rolling back migration 1: users\n  1 statement(s), touches t\n  drops table t (2 rows)\n"
    )
    assert back == (await wave("down", 0, "--plan")).stdout
    assert back == (await wave("plan", 0, "--down")).stdout
    assert "Nothing to do\n" == (await wave("plan", 1)).stdout
    assert all(len(line) <= 80 for line in (PLANNED + back).splitlines())


async def test_json(here: Path) -> None:
    """One document says the same, and the whole script."""
    await wave("up", 1)

    document = json.loads((await wave("plan", "--json")).stdout)
    (step,) = document["steps"]
    assert ([], "up", 2) == (document["adopted"], step["direction"], step["version"])
    assert (2, False, ["t"], None) == (
        step["statements"],
        step["reversible"],
        step["touches"],
        step["unknown"],
    )
    assert [
        {"kind": "column", "table": "t", "column": "b", "rows": 1},
        {"kind": "rows", "table": "t", "column": "", "rows": 2},
    ] == step["losses"]
    assert step["sql"].startswith("-- less\n\tALTER")


async def test_a_missing_database_stays_missing(here: Path) -> None:
    """Everything is planned, and not even its directory is made."""
    found = await wave("plan")

    assert (0, True) == (found.exit_code, found.stdout.startswith("Applying migration 1: users\n"))
    assert not here.parent.exists()


async def test_usage(here: Path) -> None:
    """`--down` needs a target; that is a mistake of usage."""
    assert 2 == (await wave("plan", "--down")).exit_code


async def test_out_of_order(here: Path, tmp_path: Path) -> None:
    """A plan that `up` refuses is refused, and allowed by the same option."""
    await wave("up")
    (tmp_path / "m" / "0_early.up.sql").write_text("CREATE TABLE e (x);")

    assert (1, True) == (
        (refused := await wave("plan")).exit_code,
        "--out-of-order" in refused.stderr,
    )
    assert "Applying migration 0: early\n" in (await wave("plan", "--out-of-order")).stdout
    assert (0, True) == (
        (found := await wave("rehearse", "--out-of-order")).exit_code,
        found.stdout.endswith("It cannot be taken back: there is no way back\nRehearsal passed\n"),
    )


async def test_down_names_what_goes_before_it_asks(here: Path) -> None:
    """The warning comes first, as ever, then every table and column with its rows."""
    await wave("up", 1)

    refused: Any = await wave("down", 0)
    assert 1 == refused.exit_code
    assert (
        "WARNING: Rolling back to version 0. This may result in data loss.\n"
        "  drops table t (2 rows)\n"
    ) == refused.stdout
