"""What a migration is, before and after it was applied."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from wave_async.errors import InvalidMigration, printable

VERSION_LIMIT = 2**63
"""Versions are kept in SQLite's 64-bit signed INTEGER PRIMARY KEY."""


class Direction(Enum):
    """Which way a migration is run."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered change of a schema.

    `up` and `down` are SQL scripts of any number of statements. An `up` without statements is
    applied and recorded; a `down` without statements means that there is no way back.
    Raises `InvalidMigration` for a version outside 0 <= version < 2^63 or fields of other types.
    """

    version: int
    description: str
    up: str
    down: str = ""

    def __post_init__(self) -> None:
        """Refuse what could not be recorded or run."""
        if isinstance(self.version, bool) or not isinstance(self.version, int):
            raise InvalidMigration(self.version, "its version is not an integer")
        if not 0 <= self.version < VERSION_LIMIT:
            raise InvalidMigration(self.version, "its version is not between 0 and 2^63 - 1")
        for field in ("description", "up", "down"):
            if not isinstance(getattr(self, field), str):
                raise InvalidMigration(self.version, f"its {field} is not a string")
        if not self.description.isascii() and any(
            "\ud800" <= c <= "\udfff" for c in self.description
        ):
            raise InvalidMigration(self.version, "its description has lone surrogates")


@dataclass(frozen=True, slots=True)
class AppliedMigration:
    """One row of schema_migrations; `applied_at` is in seconds since 1970, UTC."""

    version: int
    description: str
    applied_at: int
    checksum: str


@dataclass(frozen=True, slots=True)
class Step:
    """One migration that a plan would run, or a run has run."""

    direction: Direction
    version: int
    description: str

    def __str__(self) -> str:
        verb = "Applying" if self.direction is Direction.UP else "Rolling back"
        return f"{verb} migration {self.version}: {printable(self.description)}"
