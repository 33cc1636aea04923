"""What a migration may be, and how a step reads."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from wave_async.errors import InvalidMigration
from wave_async.model.migration import Direction, Migration, Step


@pytest.mark.parametrize("version", [0, 1, 20260203151429, 2**63 - 1])
def test_versions(version: int) -> None:
    """Every version that SQLite can keep as a key is one, and a way down may be left out."""
    assert (version, "") == (
        Migration(version, "d", "u").version,
        Migration(version, "d", "u").down,
    )


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ((-1, "d", "u"), "migration -1: its version is not between 0 and 2^63 - 1"),
        ((2**63, "d", "u"), f"migration {2**63}: its version is not between 0 and 2^63 - 1"),
        (("1", "d", "u"), "migration '1': its version is not an integer"),
        ((True, "d", "u"), "migration True: its version is not an integer"),
        ((1.0, "d", "u"), "migration 1.0: its version is not an integer"),
        ((None, "d", "u"), "migration None: its version is not an integer"),
        ((1, None, "u"), "migration 1: its description is not a string"),
        ((1, "d", b"u"), "migration 1: its up is neither SQL nor a function"),
        ((1, "d", "u", None), "migration 1: its down is neither SQL nor a function"),
        ((1, "\ud800", "u"), "migration 1: its description has lone surrogates"),
        ((1, chr(0xDFFF), "u"), "migration 1: its description has lone surrogates"),
    ],
)
def test_what_is_no_migration(fields: tuple[Any, ...], sentence: str) -> None:
    """A field that could not be recorded or run is refused where the migration is built."""
    with pytest.raises(InvalidMigration) as refused:
        Migration(*fields)

    assert sentence == str(refused.value)


def test_frozen() -> None:
    """A migration cannot be edited behind the catalogue's back."""
    with pytest.raises(FrozenInstanceError):
        Migration(1, "d", "u").up = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (Step(Direction.UP, 4, "Add d"), "Applying migration 4: Add d"),
        (Step(Direction.DOWN, 3, "Add c"), "Rolling back migration 3: Add c"),
        (Step(Direction.UP, 1, "a\n\x1b[2J"), r"Applying migration 1: a\n\x1b[2J"),
    ],
)
def test_step(step: Step, line: str) -> None:
    """A step prints as the line of the transcripts, safely."""
    assert line == str(step)
