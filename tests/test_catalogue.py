"""Which lists of migrations are right, and in which order they run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from conftest import numbered

from wave_async.errors import DefinitionError
from wave_async.model.catalogue import Catalogue
from wave_async.model.migration import Direction, Migration, Step
from wave_async.model.script import parse


def versioned(*versions: int) -> list[Migration]:
    """Return a migration for each version."""
    return [Migration(version, f"Add {version}", "SELECT 1") for version in versions]


@pytest.mark.parametrize(
    ("given", "ordered"),
    [
        ((), []),
        ((1,), [1]),
        ((0, 1, 2), [0, 1, 2]),
        ((3, 1, 2), [1, 2, 3]),
        ((7, 8, 9), [7, 8, 9]),
        ((8, 10, 9), [8, 9, 10]),
        ((10**7 - 1, 10**7), [10**7 - 1, 10**7]),
        ((10**7,), [10**7]),
        ((20260203, 10**7, 20250101), [10**7, 20250101, 20260203]),
        ((2**63 - 1, 20260203151429), [20260203151429, 2**63 - 1]),
    ],
)
def test_order(given: Sequence[int], ordered: list[int]) -> None:
    """Migrations are ordered by version, as numbers, however they were listed."""
    catalogue = Catalogue(iter(versioned(*given)))

    assert ordered == list(catalogue.entries)
    assert (ordered or [0])[-1] == catalogue.newest


@pytest.mark.parametrize(
    ("migrations", "sentence"),
    [
        (
            [Migration(2, "Add a", ""), *versioned(1), Migration(2, "Add b", "")],
            "version 2 is used twice: 'Add a' and 'Add b'; renumber one",
        ),
        (
            versioned(20260203, 20260203),
            "version 20260203 is used twice: 'Add 20260203' and 'Add 20260203'; renumber one",
        ),
        (
            versioned(5, 1, 2),
            "migration 3 is missing before 5; versions are numbered without gaps",
        ),
        (
            versioned(0, 2),
            "migration 1 is missing before 2; versions are numbered without gaps",
        ),
        (
            versioned(1, 20260203),
            "migration 2 is missing before 20260203; versions are numbered without gaps",
        ),
        (
            versioned(10**7 - 1, 10**7 + 1),
            "migration 10000000 is missing before 10000001; versions are numbered without gaps",
        ),
        ([("1", "Add a", "")], "migration ('1', 'Add a', ''): it is not a Migration"),
        ([None], "migration None: it is not a Migration"),
    ],
)
def test_refused(migrations: list[Any], sentence: str) -> None:
    """A list that cannot be right is refused, naming what is wrong with it."""
    with pytest.raises(DefinitionError) as refused:
        Catalogue(migrations)

    assert sentence == str(refused.value)


@pytest.mark.parametrize(
    ("migration", "sentence"),
    [
        (
            Migration(1, "Add a", "SELECT 1;\n'"),
            "migration 1, up script, line 2: a string that is never closed",
        ),
        (
            Migration(1, "Add a", "SELECT 1", "\n\n/*"),
            "migration 1, down script, line 3: a comment that is never closed",
        ),
    ],
)
def test_unreadable_script(migration: Migration, sentence: str) -> None:
    """A script is read when it is asked for, and all are to prove that they can be."""
    catalogue = Catalogue([migration])

    with pytest.raises(DefinitionError) as refused:
        catalogue.prove()

    assert sentence == str(refused.value)


def test_entry() -> None:
    """An entry is a migration with both scripts read, its record and its steps."""
    entry = Catalogue(numbered(1)).entries[1]
    up, down = parse("CREATE TABLE t1 (x INTEGER);", "test"), parse("DROP TABLE t1;", "test")

    assert up.statements == entry.work(Direction.UP).steps
    assert down.statements == entry.work(Direction.DOWN).steps
    assert (1, "Add t1", up.checksum) == entry.row
    assert Step(Direction.DOWN, 1, "Add t1") == entry.step(Direction.DOWN)


@pytest.mark.parametrize(
    ("down", "reversible"),
    [("DROP TABLE t", True), ("", False), ("-- there is no way back", False), (";", False)],
)
def test_reversible(down: str, *, reversible: bool) -> None:
    """A way down is a statement; comments are none."""
    entry = Catalogue([Migration(1, "Add t", "CREATE TABLE t (x)", down)]).entries[1]

    assert reversible is entry.reversible


def test_checksum_leaves_the_way_down_out() -> None:
    """A broken down script may be mended after its migration was applied."""
    broken, mended = (
        Catalogue([Migration(1, "Add t", "CREATE TABLE t (x)", down)]).entries[1].checksum
        for down in ("DROP TABL t", "DROP TABLE t")
    )

    assert broken == mended
