"""What to do about a database: (catalogue, history, target) to a plan, or a precise refusal."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from wave_async.errors import (
    ChecksumMismatch,
    HistoryError,
    InvalidTarget,
    Irreversible,
    NewerDatabase,
    OutOfOrder,
    UnknownChecksum,
    UnknownMigration,
    printable,
)
from wave_async.model.catalogue import Catalogue, Entry
from wave_async.model.migration import AppliedMigration, Direction, Step
from wave_async.model.script import ALGORITHM

if TYPE_CHECKING:
    from wave_async.model.difference import Difference

SHOWN_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Rules:
    """What a database may look like, and how far up it may go."""

    limit: int = 0
    """The gradual rollout: nothing above it is applied; 0 means no limit."""
    check_checksums: bool = True
    allow_out_of_order: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do, or has done, in order; with nothing to do it is empty and false.

    `adopted` are the migrations that an untracked database proves to have already: they are
    recorded, not run.
    """

    direction: Direction
    steps: tuple[Step, ...] = ()
    adopted: tuple[Step, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.steps or self.adopted)

    def __str__(self) -> str:
        adopted = [
            f"Adopting migration {s.version}: {printable(s.description)}" for s in self.adopted
        ]
        return "\n".join([*adopted, *map(str, self.steps)]) or "Nothing to do"


class State(Enum):
    """Where a migration stands."""

    APPLIED = "applied"
    PENDING = "pending"
    UNKNOWN = "unknown"
    """Applied to the database, but not known to this code."""


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """One line of a status; `applied_at` is in seconds since 1970, UTC, or None."""

    version: int
    description: str
    state: State
    applied_at: int | None


@dataclass(frozen=True, slots=True)
class Status:
    """Every migration that the code or the database knows, by version."""

    current_version: int
    migrations: tuple[MigrationStatus, ...]
    limit: int = 0

    @property
    def pending(self) -> tuple[MigrationStatus, ...]:
        """Those that the database lacks, whatever the rollout limit."""
        return tuple(m for m in self.migrations if m.state is State.PENDING)

    @property
    def due(self) -> tuple[MigrationStatus, ...]:
        """Those that an `up` would apply: pending up to the rollout limit."""
        return tuple(m for m in self.pending if not self.limit or m.version <= self.limit)


@dataclass(frozen=True, slots=True)
class Validation:
    """What `validate()` found in order; true if checksums and schema were compared at all.

    `foreign` are objects that no migration makes. `unproven` is a migration that cannot be replayed
    on an empty database, so that the schema was not compared; None: it was.
    """

    compared: bool
    foreign: tuple[Difference, ...] = ()
    unproven: int | None = None

    def __bool__(self) -> bool:
        return self.compared


def current_version(applied: Sequence[AppliedMigration]) -> int:
    """Return the newest applied version, 0 where nothing is applied."""
    return applied[-1].version if applied else 0


def status(catalogue: Catalogue, applied: Sequence[AppliedMigration], rules: Rules) -> Status:
    """Return where every migration stands; an odd history is shown, not refused."""
    rows = {
        entry.version: MigrationStatus(
            entry.version, entry.migration.description, State.PENDING, applied_at=None
        )
        for entry in catalogue
    }
    for row in applied:
        known = row.version in rows
        rows[row.version] = MigrationStatus(
            row.version,
            rows[row.version].description if known else row.description,
            State.APPLIED if known else State.UNKNOWN,
            row.applied_at,
        )
    return Status(current_version(applied), tuple(rows[v] for v in sorted(rows)), rules.limit)


def problems(
    catalogue: Catalogue, applied: Sequence[AppliedMigration], rules: Rules
) -> Iterator[HistoryError]:
    """Yield everything in which the history contradicts the catalogue, the gravest first."""
    known = catalogue.entries
    unknown = [row for row in applied if row.version not in known]
    if newer := tuple(row.version for row in unknown if row.version > catalogue.newest):
        yield NewerDatabase(newer, catalogue.newest)
    for row in unknown:
        if row.version <= catalogue.newest:
            yield UnknownMigration(row.version, row.description)
    if rules.check_checksums:
        for row in applied:
            if row.version in known:
                yield from _compared(row, known[row.version])


def _compared(row: AppliedMigration, entry: Entry) -> Iterator[HistoryError]:
    """Compare the texts, and only where they differ the tokens."""
    algorithm, _, digests = row.checksum.partition(":")
    tokens, separator, text = digests.partition(":")
    if algorithm != ALGORITHM or not separator:
        yield UnknownChecksum(row.version, row.checksum)
    elif text != entry.text_digest and tokens != (got := entry.checksum.split(":")[1]):
        yield ChecksumMismatch(row.version, tokens[:SHOWN_DIGITS], got[:SHOWN_DIGITS])


def edited(
    catalogue: Catalogue, applied: Sequence[AppliedMigration], versions: Collection[int]
) -> tuple[Entry, ...]:
    """Return the applied migrations whose recorded checksum is another; only of `versions`, if any.

    Raises `InvalidTarget` for one of `versions` that is not applied or not known.
    """
    known = catalogue.entries
    rows = {row.version: row for row in applied if row.version in known}
    for version in versions:
        if version not in rows:
            raise InvalidTarget(version, "not an applied migration of this code")
    return tuple(
        known[version]
        for version, row in rows.items()
        if (not versions or version in versions) and any(_compared(row, known[version]))
    )


def judge(catalogue: Catalogue, applied: Sequence[AppliedMigration], rules: Rules) -> None:
    """Raise the first of the `problems`, if there is one."""
    for problem in problems(catalogue, applied, rules):
        raise problem


def up(
    catalogue: Catalogue, applied: Sequence[AppliedMigration], target: int | None, rules: Rules
) -> list[Entry]:
    """Return the pending migrations up to `target` (None: the newest), lowest first.

    Nothing pending gives an empty list. Raises what `judge` raises, `InvalidTarget` for a target
    below 0, above the newest version or above the rollout limit, and `OutOfOrder`.
    """
    _check_target(catalogue, target)
    judge(catalogue, applied, rules)
    highest = (rules.limit or catalogue.newest) if target is None else target
    pending = _missing(catalogue, applied, highest)
    if pending and rules.limit and pending[-1].version > rules.limit:
        raise InvalidTarget(highest, f"above WAVE_MAX_MIGRATION_VERSION={rules.limit}")
    newest = current_version(applied)
    if pending and pending[0].version < newest and not rules.allow_out_of_order:
        raise OutOfOrder(pending[0].version, newest)
    return pending


def down(
    catalogue: Catalogue, applied: Sequence[AppliedMigration], target: int, rules: Rules
) -> list[Entry]:
    """Return the applied migrations above `target`, newest first, all with a way down.

    A target at or above the current version gives an empty list. Raises what `judge` raises,
    `InvalidTarget`, and `Irreversible` before anything runs.
    """
    _check_target(catalogue, target)
    judge(catalogue, applied, rules)
    entries = [catalogue.entries[row.version] for row in reversed(applied) if row.version > target]
    for entry in entries:
        if not entry.reversible:
            raise Irreversible(entry.version, entry.migration.description)
    return entries


def unmarked(
    catalogue: Catalogue, applied: Sequence[AppliedMigration], version: int, rules: Rules
) -> tuple[Entry, ...]:
    """Return the migrations up to `version` that are not recorded as applied, lowest first.

    Raises what `judge` raises, and `InvalidTarget`.
    """
    _check_target(catalogue, version)
    judge(catalogue, applied, rules)
    return tuple(_missing(catalogue, applied, version))


def _missing(
    catalogue: Catalogue, applied: Sequence[AppliedMigration], highest: int
) -> list[Entry]:
    done = {row.version for row in applied}
    return [e for v, e in catalogue.entries.items() if v <= highest and v not in done]


def _check_target(catalogue: Catalogue, target: int | None) -> None:
    if target is None:
        return
    if target < 0:
        raise InvalidTarget(target, "below 0")
    if target > catalogue.newest:
        raise InvalidTarget(target, f"above the newest version, {catalogue.newest}")
