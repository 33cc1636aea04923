"""A schema as a picture needs it: what its statements say, and what is new."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from wave_async.model.diagram import Change, Column, Diagram, Key, Kind, Table
from wave_async.model.schema import Object, Schema


def schema(script: str) -> Schema:
    """Return the schema that a script makes."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(script)
        rows = connection.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL"
        )
        return Schema.of(Object(*row) for row in rows)


def drawn(script: str, before: str | None = None) -> Diagram:
    """Return the diagram of what a script makes, after another one if there is one."""
    was = None if before is None else schema(before)
    return Diagram.of(2, "", schema((before or "") + script), was)


def columns(script: str) -> tuple[Column, ...]:
    """Return the columns of the first table."""
    return drawn(script).tables[0].columns


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ("x", Column("x", "")),
        ("x INTEGER PRIMARY KEY", Column("x", "INTEGER", primary=True, required=True)),
        ("x int NOT NULL DEFAULT 0", Column("x", "int", required=True)),
        ("x INT NULL", Column("x", "INT")),
        ('"e mail" VARCHAR(10, 2) COLLATE nocase', Column("e mail", "VARCHAR(10, 2)")),
        ("[a b] DOUBLE  PRECISION UNIQUE", Column("a b", "DOUBLE PRECISION", unique=True)),
        ("`not` TEXT", Column("not", "TEXT")),
        ('"primary key" TEXT', Column("primary key", "TEXT")),
        ("x TEXT DEFAULT 'NOT NULL UNIQUE'", Column("x", "TEXT")),
        ("x TEXT CHECK (x NOT NULL OR 'unique')", Column("x", "TEXT")),
        ("x INT CONSTRAINT named NOT NULL", Column("x", "INT", required=True)),
        ("x INT REFERENCES t NOT DEFERRABLE", Column("x", "INT", foreign=True)),
        ("x INT /* UNIQUE */ -- NOT NULL\n", Column("x", "INT")),
    ],
)
def test_a_column(definition: str, expected: Column) -> None:
    """A column has its name without quotes, its type as written, and what its words mean."""
    assert (expected,) == columns(f"CREATE TABLE t ({definition});")


def test_a_column_that_is_generated() -> None:
    """What a generated column is computed from is no part of its type."""
    _, made = columns("CREATE TABLE t (x, y INT GENERATED ALWAYS AS (x + 1));")

    assert Column("y", "INT") == made


def test_constraints_of_a_table_tell_keys_too() -> None:
    """Keys are the same, whether the column or the table tells them, however names are written."""
    found = columns(
        """CREATE TABLE t (a, B, c, d, PRIMARY KEY (A DESC, "b"), UNIQUE (c COLLATE nocase),
        CONSTRAINT f FOREIGN KEY (d) REFERENCES t (c));"""
    )

    assert [("PK",), ("PK",), ("UK",), ("FK",)] == [column.keys for column in found]
    assert [True, True, False, False] == [column.required for column in found]


@pytest.mark.parametrize(
    ("index", "unique"),
    [
        ("CREATE UNIQUE INDEX i ON t (x)", True),
        ("CREATE UNIQUE INDEX i ON t (X COLLATE nocase DESC)", True),
        ("CREATE UNIQUE INDEX i ON t (x, y)", False),
        ("CREATE UNIQUE INDEX i ON t (lower(x))", False),
        ("CREATE UNIQUE INDEX i ON t (x) WHERE (y > 1)", False),
        ('CREATE INDEX "unique" ON t (x)', False),
    ],
)
def test_a_unique_index(index: str, unique: bool) -> None:  # noqa: FBT001
    """A unique index over all rows makes its one column unique."""
    assert unique == columns(f"CREATE TABLE t (x, y); {index};")[0].unique


def test_a_foreign_key() -> None:
    """It names what is there, and the primary key of its parent if it names no columns."""
    found = drawn("""CREATE TABLE Users (Id INTEGER PRIMARY KEY);
        CREATE TABLE posts (author INT NOT NULL REFERENCES users ON DELETE CASCADE);""")

    assert (Key("posts", ("author",), "Users", ("Id",), optional=False),) == found.keys


def test_a_foreign_key_of_several_columns() -> None:
    """All columns have to be required that none may be missing; unique together, it is single."""
    found = drawn("""CREATE TABLE p (a, b, PRIMARY KEY (a, b));
        CREATE TABLE c (x NOT NULL, y, UNIQUE (y, x), FOREIGN KEY (x, y) REFERENCES p);""")

    assert (Key("c", ("x", "y"), "p", ("a", "b"), optional=True, single=True),) == found.keys


def test_a_foreign_key_to_nowhere() -> None:
    """A table that only a key names is there once, as a missing one."""
    found = drawn("CREATE TABLE c (x REFERENCES gone (id), y REFERENCES GONE);")

    assert [("c", Kind.TABLE), ("gone", Kind.MISSING)] == [(t.name, t.kind) for t in found.tables]


def test_views_and_virtual_tables() -> None:
    """They are boxes without columns, and what a virtual table keeps for itself is not there."""
    found = drawn("CREATE VIRTUAL TABLE words USING fts5(body); CREATE VIEW v AS SELECT 1;")

    assert (Table("v", Kind.VIEW), Table("words", Kind.VIRTUAL)) == found.tables


def test_what_is_new() -> None:
    """New tables, new and changed columns and new keys are marked, what was there is not."""
    found = drawn(
        """ALTER TABLE users ADD COLUMN boss REFERENCES users; CREATE TABLE fresh (x);
        CREATE INDEX i ON named (x);""",
        before="CREATE TABLE users (id INTEGER PRIMARY KEY); CREATE TABLE named (x); "
        "CREATE TABLE same (x REFERENCES users); CREATE INDEX j ON same (x);",
    )

    assert {
        "fresh": Change.NEW,
        "named": Change.CHANGED,
        "same": Change.NONE,
        "users": Change.CHANGED,
    } == {table.name: table.change for table in found.tables}
    assert [("fresh", "x"), ("users", "boss")] == [
        (table.name, column.name)
        for table in found.tables
        for column in table.columns
        if column.new
    ]
    assert [("same", False), ("users", True)] == [(key.table, key.new) for key in found.keys]


def test_the_first_version_is_all_new() -> None:
    """After nothing at all everything is new; without a before nothing is."""
    assert {Change.NEW} == {t.change for t in drawn("CREATE TABLE t (x);", before="").tables}
    assert {Change.NONE} == {t.change for t in drawn("CREATE TABLE t (x);").tables}
