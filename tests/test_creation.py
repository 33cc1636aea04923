"""A live schema as a first migration: it makes the same schema, and goes back."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from asyncclick.testing import CliRunner, Result
from left_by import CODE, FILES, left_by

from wave_async import MigrationManager, SingleConnectionPool, load_migrations
from wave_async.cli import cli
from wave_async.model.creation import Creation, creation
from wave_async.model.schema import Object, Schema
from wave_async.sources.detect import FORMATS

EVERYTHING = r'''
CREATE TABLE posts (
    id INTEGER PRIMARY KEY, -- why
    author INTEGER REFERENCES authors (id) ON DELETE CASCADE,
    reply_to INTEGER REFERENCES posts (id),
    size INTEGER, double INTEGER GENERATED ALWAYS AS (size * 2) VIRTUAL
);
CREATE TABLE authors (
    id INTEGER PRIMARY KEY, "it's ""so""" TEXT DEFAULT 'a\n''"""b', braces DEFAULT '{up}'
);
CREATE TABLE first (id INTEGER PRIMARY KEY, second REFERENCES second (id));
CREATE TABLE second (id INTEGER PRIMARY KEY, first REFERENCES first (id));
CREATE TABLE kept (k TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5 (word);
CREATE INDEX by_size ON posts (size) WHERE size > 1;
CREATE UNIQUE INDEX "by ""name""" ON authors (lower("it's ""so"""));
CREATE VIEW a_view AS SELECT * FROM b_view;
CREATE VIEW b_view AS SELECT id FROM posts -- the last word
;
CREATE TRIGGER noted AFTER INSERT ON posts BEGIN
    INSERT INTO words VALUES ('a;b'); UPDATE posts SET size = 1;
END;
CREATE TRIGGER instead INSTEAD OF INSERT ON a_view BEGIN SELECT 1; END;
CREATE TABLE sequenced (id INTEGER PRIMARY KEY AUTOINCREMENT);
ANALYZE;
'''


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def wave(*arguments: str) -> Result:
    """Run a command on `app.db` and `migrations`."""
    about = ("--database", "app.db", "--migrations", "migrations")
    return await CliRunner().invoke(cli, ["migrate", *about, *arguments])


def made(script: str) -> None:
    """Make a database."""
    with closing(sqlite3.connect("app.db")) as db:
        db.executescript(script)


def tables() -> list[str]:
    """Return the names of what is in the database, but for SQLite's own and ours."""
    with closing(sqlite3.connect("app.db")) as db:
        found = db.execute("SELECT name FROM sqlite_schema WHERE sql IS NOT NULL")
        return [n for (n,) in found if not n.startswith(("sqlite_", "schema_migrations"))]


@pytest.mark.parametrize("name", FORMATS)
async def test_it_makes_the_same_schema(name: str) -> None:
    """In every format the first migration makes all that is there, however it is written."""
    made(EVERYTHING)
    result = await wave("--format", name, "new", "--from-database", "First")
    assert (0, "") == (result.exit_code, result.stderr)

    (first,) = load_migrations("migrations", format=name)
    async with SingleConnectionPool("app.db") as pool:
        manager = MigrationManager(pool, [first])
        assert [first.version] == [step.version for step in await manager.baseline(first.version)]
        assert await manager.validate(strict=True)


async def test_it_goes_back_with_rows() -> None:
    """Its way down takes all of it away, also tables that refer to each other and hold rows."""
    made(EVERYTHING)
    made(
        "INSERT INTO authors (id) VALUES (1); INSERT INTO posts (id, author) VALUES (1, 1);"
        "INSERT INTO posts (id, author, reply_to) VALUES (2, 1, 1);"
        "INSERT INTO first VALUES (1, NULL); INSERT INTO second VALUES (1, 1);"
        "UPDATE first SET second = 1;"
    )
    for arguments in (("new", "--from-database", "First"), ("baseline", "1")):
        assert 0 == (await wave(*arguments)).exit_code
    result = await wave("down", "0", "--yes", "--no-snapshot")

    assert (0, "") == (result.exit_code, result.stderr)
    assert [] == tables()
    assert 0 == (await wave("up")).exit_code
    assert 0 == (await wave("validate", "--strict")).exit_code


MARKS = {
    "a comment without end": ("pairs", "CREATE VIEW v AS SELECT 1 /* and so on"),
    "a header": ("drizzle", "CREATE TABLE t (x\n-- wave: transaction=off\n)"),
    "another format": ("single", "CREATE TABLE t (x DEFAULT '\n-- +goose Up\n')"),
    "a way down": ("dbmate", "CREATE TABLE t (x\n-- migrate:down\n)"),
    "a placeholder": ("flyway", "CREATE TABLE t (x DEFAULT '${x}')"),
}


@pytest.mark.parametrize("case", MARKS)
async def test_a_schema_that_a_format_cannot_say(case: str) -> None:
    """What would not be read as it is in the database is refused, and nothing is written."""
    name, script = MARKS[case]
    with closing(sqlite3.connect("app.db")) as db:
        db.execute(script)
    result = await wave("--format", name, "new", "--from-database", "First")

    assert 1 == result.exit_code
    assert 1 == result.stderr.count("\n")
    assert f"this schema cannot be written as {name}: " in result.stderr
    assert [] == list(Path("migrations").rglob("*"))


def test_children_come_after_their_parents() -> None:
    """Tables are made after those that they refer to, and dropped before them."""
    objects = [Object("table", n, n, f"CREATE TABLE {n} (x)") for n in ("A", "b", "c")]
    found = creation(Schema.of(objects), {"a": {"b", "elsewhere"}, "b": {"c", "b"}})

    assert "CREATE TABLE c (x);\nCREATE TABLE b (x);\nCREATE TABLE A (x);\n" == found.up
    assert 'DROP TABLE "A";\nDROP TABLE "b";\nDROP TABLE "c";\n' == found.down


def test_circles_need_keys_off() -> None:
    """Only where tables refer to each other are keys off."""
    objects = [Object("table", n, n, f"CREATE TABLE {n} (x)") for n in ("a", "b")]

    circle = creation(Schema.of(objects), {"a": {"b"}, "b": {"a"}})
    assert circle.up.startswith("-- wave: foreign_keys=off\n")
    assert "wave:" not in creation(Schema.of(objects), {"a": {"b"}, "b": {"b"}}).up
    assert Creation() == creation(Schema(), {})


@pytest.mark.parametrize("tool", [*FILES, *CODE])
async def test_bookkeeping_is_left_out(tool: str, project: Path) -> None:
    """What other tools and this one keep for themselves is no part of the first migration."""
    left_by(tool, project)
    async with SingleConnectionPool("app.db") as pool:
        found = await MigrationManager(pool, ()).creation()

    kept = ("schema_migrations", "alembic", "yoyo", "django_migrations", "goose", "sqlx", "aerich")
    assert "CREATE TABLE" in found.up
    assert not any(name in found.up for name in kept)


async def test_a_table_that_only_has_the_name() -> None:
    """A table of the application that is called like a tool's is the application's."""
    made("CREATE TABLE aerich (x); CREATE TABLE goose_db_version (version_id);")
    assert 0 == (await wave("new", "--from-database", "First")).exit_code

    text = Path("migrations/0001_First.up.sql").read_text()
    assert "CREATE TABLE aerich (x);\nCREATE TABLE goose_db_version (version_id);\n" == text


@pytest.mark.parametrize("there", ["nothing", "no table", "a migration"])
async def test_what_is_refused(there: str) -> None:
    """Without tables, or with migrations already, no file is written and no database made."""
    problem = "allowed: one that has tables of yours"
    if there != "nothing":
        made("CREATE TABLE t (x);" if there == "a migration" else "PRAGMA user_version = 1;")
    if there == "a migration":
        await wave("new", "before")
        problem = "the first migration is there already"
    before = sorted(Path().rglob("*"))
    result = await wave("new", "--from-database", "First")

    assert 1 == result.exit_code
    assert problem in result.stderr
    assert before == sorted(Path().rglob("*"))
