"""Made-up rows: what every kind of table gets, and what is said of those that get none."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wave_async import SingleConnectionPool
from wave_async.database.requests import Execute, Program, Query
from wave_async.database.schema import read_schema
from wave_async.definitions import LEGACY_SCHEMA
from wave_async.model.schema import Schema
from wave_async.model.script import parse, quoted_name
from wave_async.safety.seeds import seed

pytestmark = pytest.mark.once

Answer = tuple[dict[str, str], dict[str, list[Any]], list[Any]]


def seeding(script: str, again: str = "") -> Program[Answer]:
    """Make a schema, perhaps change it, and seed it; answers the unseeded, the rows, bad keys."""
    before = Schema()
    for text in filter(None, (script, again)):
        for statement in parse(text, "the test").statements:
            yield Execute(statement.sql)
        schema = yield from read_schema()
        unseeded = yield from seed(schema, before)
        before = schema
    rows = {}
    for table in schema.objects:
        if table.type == "table":
            rows[table.name] = yield Query(f"SELECT * FROM {quoted_name(table.name)}")
    return unseeded, rows, (yield Query("PRAGMA foreign_key_check"))


async def seeded(script: str, again: str = "") -> Answer:
    """Seed a database in memory, trusted like one whose pool has a setup of its own."""
    async with SingleConnectionPool(":memory:", setup=lambda _: None) as pool:
        return await pool.ask(partial(seeding, script, again))


ZOO = {
    "a key of two columns": """
        CREATE TABLE p (x INT NOT NULL, y INT NOT NULL, PRIMARY KEY (x, y)) WITHOUT ROWID;
        CREATE TABLE c (x INT NOT NULL, y INT NOT NULL, FOREIGN KEY (x, y) REFERENCES p);""",
    "a child before its parent": """
        CREATE TABLE c (p TEXT NOT NULL REFERENCES p (k));
        CREATE TABLE p (K TEXT PRIMARY KEY NOT NULL);""",
    "the last before the first": """
        CREATE TABLE a (b INT NOT NULL REFERENCES b);
        CREATE TABLE b (id INTEGER PRIMARY KEY, c INT NOT NULL REFERENCES c);
        CREATE TABLE c (id INTEGER PRIMARY KEY, d INT NOT NULL REFERENCES d);
        CREATE TABLE d (id INTEGER PRIMARY KEY);""",
    "one to one": """
        CREATE TABLE p (id INTEGER PRIMARY KEY);
        CREATE TABLE c (id INTEGER PRIMARY KEY REFERENCES p);""",
    "a cycle through NULL": """
        CREATE TABLE a (id INTEGER PRIMARY KEY, b INT REFERENCES b);
        CREATE TABLE b (id INTEGER PRIMARY KEY, a INT NOT NULL REFERENCES a);""",
    "itself": "CREATE TABLE t (id INT PRIMARY KEY, boss INT NOT NULL REFERENCES T (ID))",
    "a list": "CREATE TABLE t (s TEXT NOT NULL CHECK (s IN ('it''s')))",
    "a unique list": "CREATE TABLE t (s TEXT NOT NULL UNIQUE CHECK (s IN ('a', 'b', 'c')))",
    "a named check": "CREATE TABLE t (a INT NOT NULL, s TEXT NOT NULL, "
    "CONSTRAINT \"odd one\" CHECK (s IN ('a')), CONSTRAINT two CHECK (a > 1000 AND a < 1003))",
    "many named checks": "CREATE TABLE t ("
    + ", ".join(f"c{n} TEXT NOT NULL CONSTRAINT is_{n} CHECK (c{n} = 'v{n}')" for n in range(9))
    + ")",
    "checks of two columns": "CREATE TABLE t (lo INT NOT NULL, hi INT NOT NULL, CHECK (hi > lo))",
    "one of two": "CREATE TABLE t (a, b, CHECK ((a IS NULL) <> (b IS NULL)))",
    "a fraction": "CREATE TABLE t (p REAL NOT NULL CHECK (p > 0 AND p < 1))",
    "a length": "CREATE TABLE t (u TEXT NOT NULL UNIQUE CHECK (length(u) = 36))",
    "a blob's length": "CREATE TABLE t (u BLOB NOT NULL UNIQUE CHECK (length(u) = 16))",
    "a pattern": "CREATE TABLE t (mail TEXT NOT NULL CHECK (mail LIKE '%_@_%'))",
    "json": "CREATE TABLE t (j TEXT NOT NULL CHECK (json_type(j) = 'object'))",
    "a truth": "CREATE TABLE t (b BOOLEAN NOT NULL CHECK (b IN (TRUE, FALSE)))",
    "a date": "CREATE TABLE t (d TEXT NOT NULL CHECK (date(d) IS NOT NULL))",
    "strict": "CREATE TABLE t (i INTEGER NOT NULL, r REAL NOT NULL, t TEXT NOT NULL, "
    "b BLOB NOT NULL, a ANY NOT NULL) STRICT",
    "generated": "CREATE TABLE t (a INT NOT NULL, b AS (a * 2) STORED, c TEXT AS (a || 'x'))",
    "partly unique": """
        CREATE TABLE t (k TEXT NOT NULL, live INT NOT NULL);
        CREATE UNIQUE INDEX i ON t (k) WHERE live;
        CREATE UNIQUE INDEX j ON t (lower(k));""",
    "odd names": 'CREATE TABLE "we ""ird" ("a b" TEXT NOT NULL UNIQUE, "order" INT NOT NULL)',
    "a trigger": """
        CREATE TABLE t (x INT);
        CREATE TRIGGER r BEFORE INSERT ON t WHEN new.x IS NULL OR new.x < 3
            BEGIN SELECT RAISE(ABORT, 'too small'); END;""",
    "a table of one row": "CREATE TABLE t (id INTEGER PRIMARY KEY CHECK (id = 1), v TEXT)",
    "Wave's own": LEGACY_SCHEMA,
}


@pytest.mark.parametrize("script", ZOO.values(), ids=ZOO.keys())
async def test_every_table_gets_rows(script: str) -> None:
    """A table gets rows whatever its constraints, and no key is left without its row."""
    unseeded, rows, violations = await seeded(script)

    assert ({}, []) == (unseeded, violations)
    assert all(rows.values())


async def test_rows_repeat_and_are_null_where_they_may() -> None:
    """Two rows are the same but for what is unique, and one is NULL but for what may not be."""
    _, rows, _ = await seeded("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT NOT NULL, b INT)")

    (one, a, b), (two, *rest), (_, other, nothing) = rows["t"]
    assert [a, b] == rest
    assert one != two
    assert (True, None) == (other.startswith("text "), nothing)
    assert a != other


async def test_what_cannot_be_seeded_is_listed_with_its_reason() -> None:
    """A table that stays empty is named with what SQLite said; others get their rows."""
    unseeded, rows, _ = await seeded("""
        CREATE TABLE never (x INT NOT NULL, CHECK (x > 5 AND x < 3));
        CREATE TABLE a (id INTEGER PRIMARY KEY, b INT NOT NULL REFERENCES b);
        CREATE TABLE b (id INTEGER PRIMARY KEY, a INT NOT NULL REFERENCES a);
        CREATE TABLE orphan (x INT NOT NULL REFERENCES nowhere (x));
        CREATE TABLE fine (x INT);
    """)

    assert {"never", "a", "b", "orphan"} == set(unseeded)
    assert "CHECK constraint failed: x > 5 AND x < 3" == unseeded["never"]
    assert 3 == len(rows["fine"])


async def test_only_what_is_new_or_empty_is_seeded_again() -> None:
    """A table that changed gets rows of its new columns, one that did not keeps its own."""
    script = "CREATE TABLE same (x INT); CREATE TABLE changed (x INT); CREATE TABLE emptied (x);"
    again = "ALTER TABLE changed ADD COLUMN y TEXT; DELETE FROM emptied;"

    _, rows, _ = await seeded(script, again)

    assert {"same": 3, "changed": 6, "emptied": 3} == {name: len(r) for name, r in rows.items()}
    assert any(y is not None for _, y in rows["changed"])


async def test_virtual_tables_are_left_alone() -> None:
    """Neither a virtual table nor those behind it get rows."""
    unseeded, rows, _ = await seeded("CREATE VIRTUAL TABLE f USING fts5(body)")

    assert ({}, {"f": []}) == (unseeded, rows)


async def test_the_same_schema_gets_the_same_rows() -> None:
    """What was found once is found again."""
    assert await seeded(LEGACY_SCHEMA) == await seeded(LEGACY_SCHEMA)


TYPES = ["INTEGER", "TEXT", "REAL", "BLOB", "", "VARCHAR(10)", "BOOLEAN", "DATETIME"]
CHECKS = [
    "",
    "CHECK ({0} IN ('a', 'b'))",
    "CHECK ({0} BETWEEN 10 AND 20)",
    "CHECK (length({0}) = 4)",
    "CHECK ({0} IS NULL OR {0} <> 'x')",
    "CHECK ({0} > 5 AND {0} < 3)",
]


@st.composite
def schemas(draw: st.DrawFn) -> str:
    """Write tables of columns of any type, with constraints, and keys to any table."""
    count = draw(st.integers(1, 4))
    tables = []
    for n in range(count):
        columns = ["id INTEGER PRIMARY KEY"]
        for c in range(draw(st.integers(0, 4))):
            kind, check = draw(st.sampled_from(TYPES)), draw(st.sampled_from(CHECKS))
            rest = draw(st.sets(st.sampled_from(["NOT NULL", "UNIQUE", "KEY"])))
            key = f" REFERENCES t{draw(st.integers(0, count))}" if "KEY" in rest else ""
            rules = " ".join(sorted(rest - {"KEY"}))
            columns.append(f"c{c} {kind} {rules}{key} {check.format(f'c{c}')}")
        tables.append(f"CREATE TABLE t{n} ({', '.join(columns)});")
    return "\n".join(tables)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schemas())
async def test_any_schema_is_seeded_or_listed(script: str) -> None:
    """Whatever the schema, a table has rows or a reason, and what has rows obeys every rule."""
    unseeded, rows, violations = await seeded(script)

    assert {name for name, found in rows.items() if not found} == set(unseeded)
    assert all(unseeded.values())
    assert [] == violations
