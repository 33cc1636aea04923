"""How schemas differ, and which version of ours a database fits."""

from __future__ import annotations

import pytest
from test_schema import schema

from wave_async.errors import AdoptionRefused
from wave_async.model.difference import Difference, Fit, Kind, differences, fitting_version
from wave_async.model.schema import Schema

RUN = "CREATE TABLE run (id INTEGER PRIMARY KEY, status TEXT NOT NULL, x INT);"
TRIGGER = "CREATE TRIGGER tr AFTER INSERT ON run BEGIN SELECT 1; SELECT 2; END;"


@pytest.mark.parametrize(
    ("wanted", "live", "told"),
    [
        (RUN, RUN.lower(), []),
        (RUN, "", ["missing: table run: missing"]),
        ("", RUN, ["foreign: table run: not ours"]),
        (
            RUN,
            RUN.replace("TEXT", "INTEGER"),
            ["changed: table run: column status: TEXT NOT NULL -> INTEGER NOT NULL"],
        ),
        (
            RUN,
            RUN.replace(" TEXT NOT NULL", ""),
            ["changed: table run: column status: TEXT NOT NULL -> untyped"],
        ),
        (RUN, RUN.replace(", x INT", ""), ["changed: table run: column x: missing"]),
        (
            RUN,
            RUN.replace("x INT", "x INT, [Y z] /* y */ TEXT"),
            ["changed: table run: column Y z: not ours"],
        ),
        (
            RUN,
            "CREATE TABLE run (x INT, id INTEGER PRIMARY KEY, z);",
            [
                "changed: table run: columns in another order: id, x -> x, id",
                "changed: table run: column status: missing",
                "changed: table run: column z: not ours",
            ],
        ),
        (
            "CREATE TABLE t (a, CHECK (a > 0), UNIQUE (a))",
            "CREATE TABLE t (a, CHECK (a > 1), UNIQUE (a))",
            ["changed: table t: constraint CHECK (a > 0) -> CHECK (a > 1)"],
        ),
        (
            "CREATE TABLE t (a, CHECK (a > 0), UNIQUE (a))",
            "CREATE TABLE t (a)",
            [
                "changed: table t: constraint CHECK (a > 0): missing",
                "changed: table t: constraint UNIQUE (a): missing",
            ],
        ),
        (
            "CREATE TABLE t (a)",
            "CREATE TABLE t (a, CHECK (1))",
            ["changed: table t: constraint CHECK (1): not ours"],
        ),
        (
            "CREATE TABLE t (a, CHECK (a), UNIQUE (a))",
            "CREATE TABLE t (a, UNIQUE (a), CHECK (a))",
            ["changed: table t: constraints in another order"],
        ),
        (
            "CREATE TABLE t (a INT)",
            "CREATE TABLE t (a INT) strict",
            ["changed: table t: options: none -> STRICT"],
        ),
        (RUN + "CREATE INDEX i ON run (x)", RUN, ["missing: index i: missing"]),
        (RUN, RUN + "CREATE INDEX i ON run (x)", ["foreign: index i: not ours"]),
        (RUN + TRIGGER, RUN + TRIGGER.replace("2", "3"), ["changed: trigger tr: changed"]),
        (
            "CREATE VIEW v AS SELECT 1",
            "CREATE TABLE v (x)",
            ["foreign: table v: not ours", "missing: view v: missing"],
        ),
        (
            "CREATE VIRTUAL TABLE f USING fts5(a)",
            "CREATE VIRTUAL TABLE f USING fts5(b)",
            ["changed: table f: changed"],
        ),
        (
            "CREATE VIRTUAL TABLE f USING fts5(a)",
            "CREATE TABLE f (a)",
            ["changed: table f: changed"],
        ),
        (
            "CREATE TABLE b(x);CREATE TABLE a(x);CREATE INDEX b2 ON b (x); CREATE INDEX b1 ON b(x)",
            "CREATE TABLE c (x)",
            [
                "missing: table a: missing",
                "missing: table b: missing",
                "missing: index b1: missing",
                "missing: index b2: missing",
                "foreign: table c: not ours",
            ],
        ),
    ],
)
def test_differences_are_told(wanted: str, live: str, told: list[str]) -> None:
    """A person reads what is missing, what is not ours and what changed, table by table."""
    found = differences(schema(wanted), schema(live))

    assert told == [f"{difference.kind}: {difference}" for difference in found]


@pytest.mark.parametrize(
    ("wanted", "live", "diff"),
    [
        ("CREATE TABLE t (\n  a\n)", "", ["-CREATE TABLE t (", "-  a", "-)"]),
        ("", "CREATE TABLE t (a)", ["+CREATE TABLE t (a)"]),
        ("CREATE TABLE t (a, b\nTEXT)", "CREATE TABLE t (a, B INT)", ["-b TEXT", "+B INT"]),
        ("CREATE TABLE t (a, b)", "CREATE TABLE t (a)", ["-b"]),
        ("CREATE TABLE t (a, b)", "CREATE TABLE t (b, a)", ["-a, b", "+b, a"]),
        ("CREATE TABLE t (a)", "CREATE TABLE t (a, CHECK(\n1))", ["+CHECK(1)"]),
        (
            RUN + TRIGGER,
            RUN + TRIGGER.replace("SELECT 2", "select\n3").replace("BEGIN", "-- here\nBEGIN"),
            [
                " CREATE TRIGGER tr AFTER INSERT ON run",
                " BEGIN",
                " SELECT 1;",
                "-SELECT 2;",
                "+select 3;",
                " END",
            ],
        ),
        (
            RUN + "CREATE INDEX i ON run (x)",
            RUN + "CREATE INDEX i ON run (x) WHERE x > 1",
            [" CREATE INDEX i ON run (x)", "+WHERE x > 1"],
        ),
    ],
)
def test_a_difference_can_be_shown_as_a_diff(wanted: str, live: str, diff: list[str]) -> None:
    """Lines that should be there, that are there, and those between, whatever the layout."""
    (found,) = differences(schema(wanted), schema(live))

    assert diff == list(found.diff)


def test_a_difference_is_a_value() -> None:
    """It names the object, its table and what is odd about it."""
    (found,) = differences(schema(RUN + "CREATE INDEX i ON run (x)"), schema(RUN))

    assert (
        Difference(Kind.MISSING, "index", "run", "i", "missing", ("-CREATE INDEX i ON run (x)",))
        == found
    )


USERS = "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);"
AGED = USERS.replace("NULL)", "NULL, age INTEGER NOT NULL DEFAULT 0)")
POSTS = "CREATE TABLE posts (id INTEGER PRIMARY KEY, name TEXT);"
BY_NAME = "CREATE INDEX by_name ON users (name);"

REPLAY = [
    (1, schema(USERS)),
    (2, schema(AGED)),
    (3, schema(AGED + POSTS)),
    (4, schema(AGED + POSTS + BY_NAME)),
    (5, schema(POSTS)),
]
DATA_ONLY = [(1, REPLAY[0][1]), (2, REPLAY[0][1]), (3, REPLAY[1][1])]


@pytest.mark.parametrize(
    ("live", "version", "foreign"),
    [
        (USERS.lower(), 1, []),
        (AGED, 2, []),
        (AGED + POSTS, 3, []),
        (AGED + POSTS + BY_NAME, 4, []),
        (POSTS, 5, []),
        (AGED + "CREATE TABLE theirs (x)", 2, ["table theirs: not ours"]),
        (AGED + "CREATE INDEX quick ON users (age)", 2, ["index quick: not ours"]),
        (AGED + "CREATE VIEW posts AS SELECT 1", 2, ["view posts: not ours"]),
    ],
)
def test_fits(live: str, version: int, foreign: list[str]) -> None:
    """A database is at the one version that makes its schema; foreign objects are listed."""
    fit = fitting_version(REPLAY, schema(live))

    assert fit
    assert (version, foreign) == (fit.version, [str(difference) for difference in fit.foreign])


@pytest.mark.parametrize(
    "live", ["", "CREATE TABLE theirs (id INTEGER)", "CREATE VIEW users AS SELECT 1"]
)
def test_nothing_of_ours_is_fresh(live: str) -> None:
    """A database with nothing of ours fits no version and contradicts none."""
    assert fitting_version(REPLAY, schema(live)) is None
    assert fitting_version([], schema(live)) is None


def test_several_fit() -> None:
    """Versions that differ in data alone cannot be told apart, so none is chosen."""
    with pytest.raises(AdoptionRefused) as refused:
        fitting_version(DATA_ONLY, REPLAY[0][1])

    assert ((1, 2), 1) == (refused.value.fits, refused.value.nearest)


def test_a_fit_is_a_value() -> None:
    """Two equal ones are equal."""
    assert Fit(1, ()) == fitting_version(REPLAY, REPLAY[0][1])


@pytest.mark.parametrize(
    ("live", "nearest", "difference"),
    [
        ("CREATE TABLE users (id INTEGER PRIMARY KEY)", 1, "table users: column name: missing"),
        (
            "CREATE TABLE users (name TEXT NOT NULL, id INTEGER PRIMARY KEY)",
            1,
            "table users: columns in another order: id, name -> name, id",
        ),
        (AGED.replace("0)", "0, nick)"), 2, "table users: column nick: not ours"),
        (USERS.replace(" NOT NULL", ""), 1, "table users: column name: TEXT NOT NULL -> TEXT"),
        (
            USERS.replace("NOT NULL", "NOT NULL CHECK (1)"),
            1,
            "table users: column name: TEXT NOT NULL -> TEXT NOT NULL CHECK (1)",
        ),
        (USERS + POSTS, 3, "table users: column age: missing"),
        (USERS + BY_NAME, 1, "index by_name: not in version 1"),
        (
            AGED + POSTS + BY_NAME.replace("(name)", "(age)"),
            4,
            "index by_name: changed",
        ),
    ],
)
def test_fits_none(live: str, nearest: int, difference: str) -> None:
    """A schema of no version is refused, with the nearest one and how it differs from that."""
    with pytest.raises(AdoptionRefused) as refused:
        fitting_version(REPLAY, schema(live))

    assert AdoptionRefused((), nearest, difference).args == refused.value.args


def test_a_refusal_shows_three_differences() -> None:
    """What else differs is left to whoever asks for the differences."""
    replay = [(1, schema("".join(f"CREATE TABLE {name} (x);" for name in "edcba")))]
    with pytest.raises(AdoptionRefused) as refused:
        fitting_version(replay, schema("CREATE TABLE e (x)"))

    assert "table a: missing; table b: missing; table c: missing" == refused.value.difference


def test_no_difference_between_nothing_and_nothing() -> None:
    """Two empty schemas are equal."""
    assert [] == differences(Schema(), Schema())
