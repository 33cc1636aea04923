"""The ordered, checked set of migrations that the code knows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

from wave_async.errors import DuplicateVersion, InvalidMigration, VersionGap, printable
from wave_async.model.migration import Direction, Migration, Step, Work
from wave_async.model.work import ReadyWork, ready, work_digest

FIRST_TIMESTAMP = 10**7
"""A list whose first version is at least this is numbered by timestamps, which have gaps."""


class Entry:
    """A migration of a catalogue; its scripts are read when they are first asked for.

    What asks for one may meet `InvalidScript`.
    """

    def __init__(self, migration: Migration) -> None:
        self.migration = migration
        self.version = migration.version

    @cached_property
    def up(self) -> ReadyWork:
        """Its work up."""
        return self._ready(self.migration.up, Direction.UP)

    @cached_property
    def down(self) -> ReadyWork:
        """Its work down."""
        return self._ready(self.migration.down, Direction.DOWN)

    @cached_property
    def text_digest(self) -> str:
        """The digest of its up script's text: equal where nothing at all was edited."""
        return work_digest(self.migration.up, self._where(Direction.UP))

    @property
    def checksum(self) -> str:
        """The checksum of its up script, so that a broken down script may be mended."""
        return self.up.checksum

    @property
    def row(self) -> tuple[int, str, str]:
        """What is recorded of it: version, description, checksum."""
        return self.version, self.migration.description, self.checksum

    @property
    def reversible(self) -> bool:
        """Whether it has a way down."""
        return bool(self.down.steps)

    def _ready(self, work: Work, direction: Direction) -> ReadyWork:
        return ready(work, self._where(direction), transaction=self.migration.transaction)

    def _where(self, direction: Direction) -> str:
        origin = f" ({printable(self.migration.origin)})" if self.migration.origin else ""
        return f"migration {self.version}{origin}, {direction.value} script"

    def work(self, direction: Direction) -> ReadyWork:
        """Return the work of a direction."""
        return self.up if direction is Direction.UP else self.down

    def keys_on(self, direction: Direction) -> bool:
        """Whether foreign keys are enforced while a direction runs."""
        return self.migration.foreign_keys and not self.work(direction).keys_off

    def step(self, direction: Direction) -> Step:
        """Return this migration as a step of a plan."""
        return Step(direction, self.version, self.migration.description)


class Catalogue:
    """All migrations of an application, by version; an empty one is allowed.

    Raises `DuplicateVersion`, `VersionGap` (a list that starts below 10^7 has no gaps; from
    there on its versions are timestamps, and files follow their tool), `InvalidMigration`.
    """

    def __init__(self, migrations: Iterable[Migration]) -> None:
        self.entries: dict[int, Entry] = {}
        for migration in sorted(map(_migration, migrations), key=lambda m: m.version):
            self._add(migration)

    def __iter__(self) -> Iterator[Entry]:
        """Return the entries, by version."""
        return iter(self.entries.values())

    @property
    def newest(self) -> int:
        """The highest version, 0 if there is none."""
        return next(reversed(self.entries), 0)

    def prove(self) -> None:
        """Read every script, so that a bad one fails before any database is opened.

        Raises `InvalidScript`.
        """
        for entry in self:
            _ = entry.up, entry.down

    def _add(self, migration: Migration) -> None:
        version = migration.version
        if known := self.entries.get(version):
            raise DuplicateVersion(version, (known.migration.description, migration.description))
        if (
            self.entries
            and migration.origin is None
            and self.newest + 1 != version
            and next(iter(self.entries)) < FIRST_TIMESTAMP
        ):
            raise VersionGap(self.newest + 1, version)
        self.entries[version] = Entry(migration)


def _migration(value: object) -> Migration:
    if not isinstance(value, Migration):
        raise InvalidMigration(value, "it is not a Migration")
    return value
