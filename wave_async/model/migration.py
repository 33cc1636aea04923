"""What a migration is, before and after it was applied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from enum import Enum
from typing import Any

from wave_async.errors import InvalidMigration, printable

VERSION_LIMIT = 2**63
"""Versions are kept in SQLite's 64-bit signed INTEGER PRIMARY KEY."""

KEPT_DIGITS = 18
"""How many digits a number keeps that is too large for a version."""

_TELLING_DIGITS = 20
"""How many tell that a number is too large; Python does not read one of more than 4300."""

Part = str | Callable[[Any], Any]
"""SQL, `def step(connection: sqlite3.Connection)` or `async def step(db: aiosqlite.Connection)`."""

Work = Part | Sequence[Part]
"""What a migration does: one part, or several in order."""


class Direction(Enum):
    """Which way a migration is run."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered change of a schema.

    `up` and `down` are SQL scripts of any number of statements, functions that get the connection
    inside the same transaction, or sequences of both. An `up` without statements is applied and
    recorded; a `down` without statements means that there is no way back. Raises
    `InvalidMigration` for a version outside 0 <= version < 2^63 or fields of other types.
    """

    version: int
    description: str
    up: Work
    down: Work = ""
    _: KW_ONLY
    foreign_keys: bool = True
    """False: keys are not enforced while it runs, and checked for new violations at its end."""
    transaction: bool = True
    """False: it runs outside a transaction, at least once; only VACUUM and its like may."""
    legacy_alter_table: bool = False
    """True: a table that is renamed keeps its old name in keys, views and triggers."""
    cascade: bool = False
    """True: dropping a table may take the rows along that refer to it."""
    loss: bool = False
    """True: it is announced that it destroys data; `TestMigrations` refuses what is not."""
    origin: str | None = None
    """The file that it was read from; the versions of files may have gaps."""

    def __post_init__(self) -> None:
        """Refuse what could not be recorded or run."""
        if isinstance(self.version, bool) or not isinstance(self.version, int):
            raise InvalidMigration(self.version, "its version is not an integer")
        if not 0 <= self.version < VERSION_LIMIT:
            raise InvalidMigration(self.version, "its version is not between 0 and 2^63 - 1")
        if not isinstance(self.description, str):
            raise InvalidMigration(self.version, "its description is not a string")
        for field in ("up", "down"):
            work = parts(getattr(self, field))
            if not all(isinstance(part, str) or callable(part) for part in work):
                raise InvalidMigration(self.version, f"its {field} is neither SQL nor a function")
        if not self.description.isascii() and any(
            "\ud800" <= c <= "\udfff" for c in self.description
        ):
            raise InvalidMigration(self.version, "its description has lone surrogates")


def version_of(number: str) -> int:
    """Return the version of a number as it is written in the name of a file."""
    version = int(number.replace("-", "").lstrip("0")[:_TELLING_DIGITS] or 0)
    return version if version < VERSION_LIMIT else int(str(version)[:KEPT_DIGITS])


def parts(work: Work) -> Sequence[Part]:
    """Return the parts of a migration's work, in order."""
    return work if isinstance(work, Sequence) and not isinstance(work, str) else (work,)


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


class Action(Enum):
    """What the log tells of."""

    UP = "up"
    DOWN = "down"
    SKIP = "skip"
    """Adopted: recorded, not run, as the schema proved to have it already."""
    BASELINE = "baseline"
    """Recorded, not run, on somebody's word or proof."""
    IMPORT = "import"
    """Recorded, not run, as another tool's bookkeeping says and the schema proves."""
    REPAIR = "repair"
    UNDO = "undo"
    MARK = "mark"
    """Not done but noted: what a hook said of the moment before a run."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One row of schema_migrations_log.

    `started_at` is in seconds since 1970, UTC, and `duration` in seconds. `outcome` is `done`, or
    why it failed and was rolled back; of a `mark` it is what a hook said before the run whose first
    version it has. `version` and `checksum` are None where there is none.
    """

    action: str
    version: int | None
    checksum: str | None
    started_at: float
    duration: float
    outcome: str
    tool: str
    host: str
    pid: int
