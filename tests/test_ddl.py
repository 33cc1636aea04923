"""What a statement says, whatever it looks like."""

from __future__ import annotations

import os
import random
import sqlite3
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wave_async.model.ddl import as_shown, define, lines, name_and_rest
from wave_async.model.script import lowered, tokens

PROFILE = settings(
    deadline=None, derandomize=True, max_examples=int(os.environ.get("WAVE_EXAMPLES", "100"))
)

TRIGGER = """CREATE TRIGGER tr AFTER UPDATE OF a ON t FOR EACH ROW WHEN new.a > 1 BEGIN
    UPDATE t SET b = CASE WHEN new.a > 2 THEN 'A;' ELSE b END WHERE a = new.a;
    INSERT INTO u DEFAULT VALUES;
    SELECT raise(ABORT, 'No') FROM u;
END"""


def columns(sql: str) -> list[str]:
    """Return the names of a table's columns as they were written."""
    definition = define(sql)
    return [name_and_rest(text)[0] for text in definition.written[: len(definition.columns)]]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("CREATE TABLE t (a INT, b)", "create\ttable T(A int,\n  B\n)"),
        ("CREATE TABLE t (a INT, b)", "CREATE TABLE t (a /* x */ INT, -- y, z\n b)/**/"),
        ("CREATE TABLE t (a, b)", 'CREATE TABLE "t" ([a], `b`)'),
        ("CREATE TABLE t (a, b)", "CREATE TABLE 't' ('A', \"B\")"),
        ('CREATE TABLE t ("order", "a b", "1")', "CREATE TABLE t (`Order`, [A b], [1])"),
        ("CREATE TABLE t (key, desc)", 'CREATE TABLE t ("key", [DESC])'),
        ('CREATE TABLE t ("a""b`")', 'CREATE TABLE t (`A"B```)'),
        ("CREATE TABLE t (é)", 'CREATE TABLE t ("é")'),
        ("CREATE TABLE t (a, CHECK (a > 0), b)", "CREATE TABLE t (a, b, CHECK (a > 0))"),
        ("CREATE TABLE t (aB CHECK (aB > 0))", 'CREATE TABLE t ("aB" CHECK ("Ab" > 0))'),
        ("CREATE TABLE t (a) STRICT, WITHOUT ROWID", "CREATE TABLE t (a) without rowid,strict"),
        ("CREATE TABLE t (a DEFAULT CURRENT_TIME)", "CREATE TABLE t (a default current_time)"),
        ("CREATE TABLE t (a DEFAULT 1E5)", "CREATE TABLE t (a DEFAULT 1e5)"),
        ("CREATE TABLE t (a DEFAULT Open)", 'CREATE TABLE t (a DEFAULT "Open")'),
        ("CREATE TABLE t (a REFERENCES p (Id))", 'CREATE TABLE t (a REFERENCES "P" ("Id"))'),
        ("CREATE TABLE t (a COLLATE NOCASE)", 'CREATE TABLE t (a COLLATE "NoCase")'),
        ("CREATE TABLE t (a CONSTRAINT c UNIQUE)", 'CREATE TABLE t (a CONSTRAINT "C" UNIQUE)'),
        ("CREATE TABLE t (a DEFAULT 'x\r\ny')", "CREATE TABLE t (a DEFAULT 'x\ny')"),
        ("CREATE INDEX i ON t (aB) WHERE aB > 0", 'CREATE INDEX "I" ON "T"("aB")WHERE "AB">0'),
        ("CREATE UNIQUE INDEX i ON t (lower(a))", 'CREATE UNIQUE INDEX i ON t ("Lower"("a"))'),
        (TRIGGER, TRIGGER.lower().replace("a;", "A;").replace("'no'", "'No'")),
        (TRIGGER, TRIGGER.replace("new.a", '"New"."A"')),
        (
            "CREATE VIEW v (X) AS SELECT a AS X FROM t",
            'CREATE VIEW v ("x") AS SELECT a AS "X" FROM "T"',
        ),
        ("CREATE VIRTUAL TABLE f USING fts5(a)", "CREATE VIRTUAL TABLE [f] using FTS5 ( A )"),
    ],
)
def test_statements_that_say_the_same(one: str, two: str) -> None:
    """Layout, case, comments, quotes that are not needed and late columns make no difference."""
    assert define(one) == define(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("CREATE TABLE t (a, b)", "CREATE TABLE t (b, a)"),
        ("CREATE TABLE t (a, b)", "CREATE TABLE t (a b)"),
        ("CREATE TABLE t (a, UNIQUE (a), CHECK (a))", "CREATE TABLE t (a, CHECK (a), UNIQUE (a))"),
        ("CREATE TABLE t (a CHECK (a > 0))", "CREATE TABLE t (a CHECK (a >= 0))"),
        ("CREATE TABLE t (a COLLATE nocase)", "CREATE TABLE t (a COLLATE rtrim)"),
        ("CREATE TABLE t (a DEFAULT 'a')", "CREATE TABLE t (a DEFAULT 'A')"),
        ('CREATE TABLE t (a DEFAULT "a")', 'CREATE TABLE t (a DEFAULT "A")'),
        ("CREATE TABLE t (a DEFAULT a)", "CREATE TABLE t (a DEFAULT A)"),
        ("CREATE TABLE t (a DEFAULT true)", 'CREATE TABLE t (a DEFAULT "true")'),
        ('CREATE TABLE t (a CHECK (a IN ("b")))', 'CREATE TABLE t (a CHECK (a IN ("B")))'),
        ("CREATE TABLE t (a DEFAULT x'00')", "CREATE TABLE t (a DEFAULT '00')"),
        ("CREATE TABLE t (a DEFAULT -1)", "CREATE TABLE t (a DEFAULT 1)"),
        ("CREATE TABLE t (a DEFAULT ' ')", "CREATE TABLE t (a DEFAULT '  ')"),
        ("CREATE TABLE t (a, b AS (a + 1))", "CREATE TABLE t (a, b AS (a + 2))"),
        ("CREATE TABLE t (a, b AS (a) STORED)", "CREATE TABLE t (a, b AS (a))"),
        ("CREATE TABLE t (a INT)", "CREATE TABLE t (a INT) STRICT"),
        ("CREATE TABLE t (a REFERENCES p)", "CREATE TABLE t (a REFERENCES p DEFERRABLE)"),
        ("CREATE TABLE t (É)", "CREATE TABLE t (é)"),
        ("CREATE INDEX i ON t (a)", "CREATE UNIQUE INDEX i ON t (a)"),
        ("CREATE INDEX i ON t (a) WHERE a > 1", "CREATE INDEX i ON t (a) WHERE a > 2"),
        ("CREATE INDEX i ON t (a) WHERE b = 'x'", "CREATE INDEX i ON t (a) WHERE b = 'X'"),
        ('CREATE INDEX i ON t (a) WHERE b = "X"', 'CREATE INDEX i ON t (a) WHERE b = "x"'),
        (TRIGGER, TRIGGER.replace("'A;'", "'B;'")),
        (TRIGGER, TRIGGER.replace("AFTER", "BEFORE")),
        (
            'CREATE VIEW v AS SELECT 1 FROM t "left" JOIN u',
            "CREATE VIEW v AS SELECT 1 FROM t left JOIN u",
        ),
        (
            "CREATE VIRTUAL TABLE f USING fts5(a)",
            "CREATE VIRTUAL TABLE f USING fts5(a, prefix='2')",
        ),
    ],
)
def test_statements_that_differ(one: str, two: str) -> None:
    """A change of what SQLite would do is a difference, in any part of any statement."""
    assert define(one) != define(two)


@pytest.mark.parametrize(
    ("table", "names", "constraints"),
    [
        ("CREATE TABLE t (a)", ["a"], 0),
        ("CREATE TABLE t (a, b INT DEFAULT (max(1, 2)) CHECK (b IN (1, ',)')))", ["a", "b"], 0),
        ('CREATE TABLE t ("check" INT, [unique], `primary`)', ["check", "unique", "primary"], 0),
        ("CREATE TABLE t (constraint_id, primary_a)", ["constraint_id", "primary_a"], 0),
        ('CREATE TABLE t (\'a,b\' VARCHAR(1, 2), "c"")" TEXT)', ["a,b", 'c")'], 0),
        ("CREATE TABLE t (a -- b, c\n, d /* ) */)", ["a", "d"], 0),
        ("CREATE TABLE t (a, b, CONSTRAINT c CHECK (a), PRIMARY KEY (a, b))", ["a", "b"], 2),
        (
            "CREATE TABLE t (a REFERENCES t (a) ON DELETE SET NULL, FOREIGN KEY (a) REFERENCES t)",
            ["a"],
            1,
        ),
        ("CREATE TABLE t (a GENERATED ALWAYS AS (b, 1), b DOUBLE PRECISION)", ["a", "b"], 0),
    ],
)
def test_parts_of_a_table(table: str, names: list[str], constraints: int) -> None:
    """Columns and table constraints are told apart, whatever is nested or quoted in them."""
    definition = define(table)

    assert names == columns(table)
    assert constraints == len(definition.constraints)


NAMES = st.sampled_from(
    ["a", "Bc", "key", "order", "a b", "é", 'q"q', "x)", "y,", "check", "_1", "T"]
)
TYPES = st.sampled_from(["", "INT", "VARCHAR(10, 2)", "double precision", '"my type"'])
TAILS = st.sampled_from(
    ["", "NOT NULL", "DEFAULT 'a,b)'", "DEFAULT (1 + (2))", "CHECK (1 IN (1, 2))", "COLLATE nocase",
     "UNIQUE", "REFERENCES p (a) DEFERRABLE", "DEFAULT Open", "CONSTRAINT c CHECK ('x' <> \"y\")"]
)  # fmt: skip
QUOTES = st.sampled_from(['""', "[]", "``", "''"])


@st.composite
def tables(draw: st.DrawFn) -> str:
    """Write some CREATE TABLE that SQLite takes."""
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique_by=str.lower))
    items = []
    for name in names:
        left, right = draw(QUOTES)
        quoted = left + name.replace(right, right * 2) + right
        items.append(f"{quoted} {draw(TYPES)} {draw(TAILS)}")
    items += draw(st.lists(st.sampled_from(["CHECK (1 > 0)", "CONSTRAINT u CHECK ('a' = 'a')"])))
    options = draw(st.sampled_from(["", "/* x */"]))
    return f"CREATE TABLE t ({', '.join(items)}){options}"


@PROFILE
@given(tables())
def test_columns_are_those_that_sqlite_sees(table: str) -> None:
    """The names of the columns are SQLite's own, for any table that it takes."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(table)
        ((stored,),) = connection.execute("SELECT sql FROM sqlite_schema WHERE type = 'table'")
        names = [name for _, name, *_ in connection.execute("PRAGMA table_xinfo(t)")]

    assert names == columns(stored)


STATEMENTS = [
    """CREATE TABLE t (id INTEGER PRIMARY KEY, aB TEXT NOT NULL DEFAULT 'It''s' CHECK (aB <> 'x' AND
    length(aB) < 1e3), c AS (aB || 'Y'), k REFERENCES p (id) ON DELETE CASCADE, CONSTRAINT named
    UNIQUE (aB COLLATE nocase, c), FOREIGN KEY (k, c) REFERENCES q (a, b)) STRICT""",
    "CREATE UNIQUE INDEX i ON t (aB, c DESC) WHERE aB > 'A' AND c IS NOT NULL",
    TRIGGER,
    "CREATE VIEW v (x, y) AS SELECT t.a, 'B' AS y FROM t JOIN u ON t.a = u.b WHERE t.a > 0.5",
]  # fmt: skip
QUOTABLE = {"ab", "t", "id", "k", "named", "p", "q", "c", "i", "v", "u", "a", "b", "x", "y", "tr"}
SPACES = [" ", "\n\t", " -- it's; (\n", '/* " , */', "\r\n"]


def rewritten(sql: str, chance: random.Random) -> str:
    """Write a statement in another way: other spaces, comments, quotes and case."""
    text = ""
    for kind, token, _ in tokens(sql):
        if kind == "word" and token.lower() in QUOTABLE and chance.random() < 0.5:
            left, right = chance.choice(['""', "[]", "``"])
            token = left + chance.choice([token, token.lower()]) + right  # noqa: PLW2901
        elif kind in {"word", "number"}:
            token = "".join(chance.choice([c.upper(), c.lower()]) for c in token)  # noqa: PLW2901
        text += chance.choice(SPACES) + token
    return text


@PROFILE
@given(st.sampled_from(STATEMENTS), st.randoms(use_true_random=False))
def test_writing_a_statement_in_another_way_changes_nothing(
    sql: str, chance: random.Random
) -> None:
    """Any mixture of layout, comments, quotes and case says the same."""
    assert define(sql) == define(rewritten(sql, chance))


@PROFILE
@given(st.sampled_from(STATEMENTS), st.data())
def test_a_changed_literal_is_a_difference(sql: str, data: st.DataObject) -> None:
    """No literal may change unnoticed, in its case or otherwise."""
    literals = [(text, end) for kind, text, end in tokens(sql) if kind in {"literal", "number"}]
    text, end = data.draw(st.sampled_from(literals or [("CREATE", 6)]))
    swapped = text.swapcase() if text[0] == "'" else text
    other = swapped if swapped != text else text[:-1] + "1" + text[-1]

    assert define(sql) != define(sql[: end - len(text)] + other + sql[end:])


PIECES = [
    "table",
    "index",
    "view",
    " ",
    "(",
    ")",
    ",",
    "'",
    '"',
    "[",
    "]",
    ";",
    "/*",
    "default",
    "A",
]


@PROFILE
@given(st.lists(st.sampled_from(PIECES), max_size=20).map(" ".join))
def test_any_text_is_read(text: str) -> None:
    """What no SQLite would hold is read without an error all the same, and is not nothing."""
    assert define(f"CREATE {text}") != define(f"CREATE x {text}")
    assert lines(f"CREATE {text}")


def test_lines_do_not_depend_on_layout() -> None:
    """A trigger is broken where its clauses begin, however it was written."""
    one = "CREATE TRIGGER tr AFTER INSERT ON t BEGIN SELECT 1 FROM u WHERE 2; SELECT 3; END"
    shown = [
        "CREATE TRIGGER tr AFTER INSERT ON t",
        "BEGIN",
        "SELECT 1",
        "FROM u",
        "WHERE 2;",
        "SELECT 3;",
        "END",
    ]

    assert shown == [line for _, line in lines(one)]
    assert shown == [line for _, line in lines(one.replace(" ", " /* x */\n"))]


def test_sql_is_shown_on_one_line() -> None:
    """Comments go, breaks become spaces, and literals stay."""
    sql = "CHECK (\n  a IN ( 'x  y', -- c\n b.c ) /* d */\n)"

    assert "CHECK (a IN ('x  y', b.c))" == as_shown(sql)


def test_only_the_letters_of_ascii_have_a_case() -> None:
    """Names are compared as SQLite compares them."""
    assert "aé" == lowered("Aé")
    assert "aÉ" == lowered("AÉ")
