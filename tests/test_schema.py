"""Which version of ours the tables of a database fit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wave_async.errors import AdoptionRefused
from wave_async.model.schema import Column, Tables, fitting_version

ID = Column("id", "INTEGER", not_null=False, default=None, key=1, hidden=0)
NAME = Column("name", "TEXT", not_null=True, default=None, key=0, hidden=0)
AGE = Column("age", "INTEGER", not_null=True, default="0", key=0, hidden=0)

REPLAY: list[tuple[int, Tables]] = [
    (1, {"users": (ID, NAME)}),
    (2, {"users": (ID, NAME, AGE)}),
    (3, {"users": (ID, NAME, AGE), "posts": (ID, NAME)}),
    (4, {"posts": (ID, NAME)}),
]
DATA_ONLY: list[tuple[int, Tables]] = [(1, REPLAY[0][1]), (2, REPLAY[0][1]), (3, REPLAY[1][1])]


@pytest.mark.parametrize(
    ("live", "version"),
    [
        ({}, None),
        ({"theirs": (ID,)}, None),
        *((tables, version) for version, tables in REPLAY),
        ({**REPLAY[1][1], "theirs": (ID,)}, 2),
    ],
)
def test_fits(live: Tables, version: int | None) -> None:
    """A database is at the one version that makes its tables; foreign tables do not count."""
    assert version == fitting_version(REPLAY, live)


def test_nothing_to_replay() -> None:
    """Without migrations every database is fresh."""
    assert fitting_version([], {"theirs": (ID,)}) is None


def test_several_fit() -> None:
    """Versions that differ in data alone cannot be told apart, so none is chosen."""
    with pytest.raises(AdoptionRefused) as refused:
        fitting_version(DATA_ONLY, REPLAY[0][1])

    assert (refused.value.fits, refused.value.nearest) == ((1, 2), 1)


@pytest.mark.parametrize(
    ("users", "nearest", "difference"),
    [
        ((ID,), 1, "table users: column name is missing"),
        ((NAME, ID), 1, "table users: its columns are in another order"),
        ((ID, NAME, NAME), 1, "table users: its columns are in another order"),
        ((ID, NAME, AGE, replace(AGE, name="nick")), 2, "table users: column nick is not ours"),
        (
            (ID, replace(NAME, not_null=False)),
            1,
            "table users: column name is TEXT, not TEXT NOT NULL",
        ),
        (
            (ID, replace(NAME, default="'x'")),
            1,
            "table users: column name is TEXT NOT NULL DEFAULT 'x', not TEXT NOT NULL",
        ),
        (
            (replace(ID, type="", key=0), NAME),
            1,
            "table users: column id is untyped, not INTEGER PRIMARY KEY",
        ),
    ],
)
def test_fits_none(users: tuple[Column, ...], nearest: int, difference: str) -> None:
    """Tables of no version are refused, with the nearest one and how they differ from it."""
    with pytest.raises(AdoptionRefused) as refused:
        fitting_version(REPLAY, {"users": users})

    assert AdoptionRefused((), nearest, difference).args == refused.value.args


@pytest.mark.parametrize(
    ("replay", "live", "nearest", "difference"),
    [
        (REPLAY[2:3], REPLAY[1][1], 3, "table posts is missing"),
        (
            [REPLAY[0], REPLAY[2]],
            {**REPLAY[0][1], "posts": (ID, NAME)},
            3,
            "table users: column age is missing",
        ),
        (
            [(1, dict.fromkeys("dbac", (ID,)))],
            {"a": (ID,), "b": ()},
            1,
            "table b: column id is missing; table c is missing; table d is missing",
        ),
        (
            [(1, dict.fromkeys("abcde", (ID,)))],
            {"e": (ID,)},
            1,
            "table a is missing; table b is missing; table c is missing",
        ),
    ],
)
def test_tables_that_fit_none(
    replay: list[tuple[int, Tables]], live: Tables, nearest: int, difference: str
) -> None:
    """A refusal shows the first three differences, by table."""
    with pytest.raises(AdoptionRefused) as refused:
        fitting_version(replay, live)

    assert AdoptionRefused((), nearest, difference).args == refused.value.args


@pytest.mark.parametrize(
    ("ours", "live"),
    [(NAME, replace(NAME, hidden=2)), (replace(NAME, key=2), replace(NAME, key=3))],
)
def test_difference_that_hides(ours: Column, live: Column) -> None:
    """A generated column and the order of a key are differences that can be read."""
    with pytest.raises(AdoptionRefused) as refused:
        fitting_version([(1, {"users": (ID, ours)})], {"users": (ID, live)})
    found, wanted = refused.value.difference.partition(" is ")[2].split(", not ")

    assert wanted != found
