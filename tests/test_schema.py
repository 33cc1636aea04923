"""A whole schema as a value: what belongs to it, and its fingerprint."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from time import perf_counter

import pytest

from wave_async.model.schema import Object, Schema

FINGERPRINT = "b074d83c916e7bdf12893497b5a9dd04aa1123fc2bf7f18e1d7ef2cd201ffb14"
VIRTUAL = "CREATE VIRTUAL TABLE Docs USING fts5(body)"


def objects(script: str) -> list[Object]:
    """Return what sqlite_schema holds after a script."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(script)
        rows = connection.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL"
        )
        return [Object(*row) for row in rows]


def schema(script: str) -> Schema:
    """Return the schema that a script makes."""
    return Schema.of(objects(script))


def named(schema: Schema) -> list[str]:
    """Return the names of a schema's objects."""
    return [o.name for o in schema.objects]


def test_only_what_the_application_made_belongs_to_it() -> None:
    """SQLite's own objects and the bookkeeping, with what stands on it, are left out."""
    found = schema("""
        CREATE TABLE a (x INTEGER PRIMARY KEY AUTOINCREMENT, y UNIQUE);
        CREATE TABLE sqlitestore (x);
        CREATE TABLE "Schema_Migrations" (version);
        CREATE TABLE schema_migrations_log (version);
        CREATE INDEX log ON schema_migrations_log (version);
        CREATE INDEX i ON a (y);
        CREATE VIEW v AS SELECT 1;
        CREATE TRIGGER tr AFTER INSERT ON a BEGIN SELECT 1; END;
        ANALYZE;
    """)

    assert ["i", "a", "sqlitestore", "tr", "v"] == named(found)


@pytest.mark.parametrize(
    "shadows", [None, ["docs_data", "DOCS_IDX", "docs_content", "docs_docsize", "docs_config"]]
)
def test_shadow_tables_do_not_belong_to_it(shadows: list[str] | None) -> None:
    """What a virtual table keeps for itself is left out, told by SQLite or guessed by its name."""
    found = Schema.of(objects(f"{VIRTUAL}; CREATE TABLE docs_more (x)"), shadows)

    assert ["Docs", "docs_more"] == named(found)


def test_a_table_is_a_shadow_only_beside_its_virtual_table() -> None:
    """A name that only looks like a shadow table's is the application's."""
    assert ["docs_data"] == named(schema("CREATE TABLE docs_data (x)"))
    assert ["Docs", "Docs_data"] == named(Schema.of(objects(f"{VIRTUAL};")[:2], []))


def test_equal_schemas() -> None:
    """The order in which objects were made, and how they were written, make no difference."""
    one = schema("CREATE TABLE a (x); CREATE TABLE b (y INT); CREATE INDEX i ON a (x)")
    two = schema("create table B ([Y] int); create table a (x); create index I on A(x)")

    assert one == two
    assert hash(one) == hash(two)
    assert one.fingerprint == two.fingerprint


@pytest.mark.parametrize(
    "script",
    [
        "CREATE TABLE a (x)",
        "CREATE TABLE a (x); CREATE VIEW b AS SELECT 1",
        "CREATE TABLE a (x); CREATE TABLE c (y)",
        "CREATE TABLE a (x, y); CREATE TABLE b (y)",
        "CREATE TABLE a (x CHECK (1)); CREATE TABLE b (y)",
        "CREATE TABLE a (x, CHECK (1)); CREATE TABLE b (y)",
        "CREATE TABLE a (x) STRICT; CREATE TABLE b (y)".replace("x)", "x INT)"),
    ],
)
def test_other_schemas(script: str) -> None:
    """An object more or less, or one that says something else, makes another schema."""
    one, other = schema("CREATE TABLE a (x); CREATE TABLE b (y)"), schema(script)

    assert one != other
    assert one.fingerprint != other.fingerprint


def test_an_object_is_equal_to_objects_only() -> None:
    """A comparison with anything else is no error."""
    assert schema("CREATE TABLE a (x)").objects[0] != "a"


def test_rebuilt_and_altered_tables_are_equal_to_plain_ones() -> None:
    """What SQLite makes of ALTER TABLE says the same as the table written at once."""
    altered = schema("""
        CREATE TABLE p (id INTEGER PRIMARY KEY, CHECK (id > 0));
        CREATE TABLE new_t (a TEXT   ,   k REFERENCES p (id));
        CREATE INDEX i ON new_t (a);
        ALTER TABLE new_t RENAME TO t;
        ALTER TABLE t ADD COLUMN   b  INT  DEFAULT 1;
        ALTER TABLE t RENAME COLUMN a TO "c";
        ALTER TABLE p ADD COLUMN name TEXT;
    """)
    plain = schema("""
        CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT, CHECK (id > 0));
        CREATE TABLE t (c TEXT, k REFERENCES p (id), b INT DEFAULT 1);
        CREATE INDEX i ON t (c);
    """)

    assert plain == altered
    assert plain.fingerprint == altered.fingerprint


def test_the_fingerprint_never_changes() -> None:
    """It is the same in every process and on every Python, so that it may be kept."""
    code = """if True:
        from wave_async.model.schema import Object, Schema
        sql = "CREATE TABLE t (\\u00e9 DEFAULT '\\U0001f600', \\"Order\\" INT, CHECK (1)) STRICT"
        print(Schema.of([Object("table", "t", "t", sql)]).fingerprint)
    """
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout.strip()
        for seed in ("1", "2")
    }

    assert {FINGERPRINT} == said


def test_an_empty_schema_has_a_fingerprint() -> None:
    """No object at all is a schema too."""
    assert 64 == len(Schema().fingerprint)


def test_a_thousand_tables_are_cheap() -> None:
    """A fingerprint of 1,000 tables is a matter of a fraction of a second."""
    columns = "id INTEGER PRIMARY KEY, name TEXT NOT NULL, at INTEGER NOT NULL DEFAULT 0"
    many = [
        Object("table", f"t{n}", f"t{n}", f"CREATE TABLE t{n} ({columns})") for n in range(1000)
    ]
    start = perf_counter()
    assert Schema.of(many).fingerprint

    assert perf_counter() - start < 2
