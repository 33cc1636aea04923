"""The lock file as a value: the digests of all migrations in order, and what has changed since.

A line says the version, the digest of the way up without comments and layout, and a description
that nobody compares. The last line seals all of them. Each change of the list changes that line, so
that two branches which add a migration meet there, whatever their numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from itertools import pairwise

from wave_async.errors import InvalidFiles, LockMismatch, printable
from wave_async.model.catalogue import Entry

LOCK_FILE = "migrations.lock"

_HEAD = "# Written by `wave migrate lock`. After a merge conflict run it again.\n"
_LINE = re.compile(r"([0-9]{1,19}) (\S+)(?: (.*))?")
_SEAL = "sealed"
_AGAIN = "run `wave migrate lock`"


class Change(StrEnum):
    """How a migration is not what was locked."""

    EDITED = "edited"
    MISSING = "missing"
    ADDED = "added"
    REORDERED = "reordered"


@dataclass(frozen=True, slots=True)
class LockChange:
    """One migration that is not what was locked; `instead` is where a reordered one is now."""

    change: Change
    version: int
    description: str
    instead: int = 0

    def __str__(self) -> str:
        where = f": it is {self.instead} now" if self.instead else ""
        return f"{self.change} migration {self.version} ({printable(self.description)}){where}"


@dataclass(frozen=True, slots=True)
class Locked:
    """What is locked of one migration; the description is for people."""

    version: int
    digest: str
    description: str = field(compare=False)


@dataclass(frozen=True, slots=True)
class Lock:
    """What a lock file says, in its own order; it is whole if `seal` is that of its lines."""

    migrations: tuple[Locked, ...]
    seal: str

    def text(self) -> str:
        """Return the text of the file, LF at the end of each line."""
        lines = [f"{m.version} {m.digest} {printable(m.description)}" for m in self.migrations]
        return _HEAD + "".join(f"{line.rstrip()}\n" for line in [*lines, f"{_SEAL} {self.seal}"])

    def changes(self, now: Lock) -> tuple[LockChange, ...]:
        """Return what has changed since, by version; empty if nothing has."""
        was, today = _by_version(self), _by_version(now)
        found = (_change(version, was, today) for version in sorted(was | today))
        return tuple(change for change in found if change) or tuple(_misplaced(self))

    def require(self, now: Lock, where: str) -> None:
        """Raise `LockMismatch` if something has changed, `InvalidFiles` if the lock is not whole.

        `where` is the file, for the message.
        """
        if changes := self.changes(now):
            raise LockMismatch(where, changes)
        if self.seal != _seal(self.migrations):
            problem = "its last line does not fit those above; it was merged or edited by hand"
            raise InvalidFiles((where,), f"{problem}, {_AGAIN}")


def lock_of(entries: Iterable[Entry]) -> Lock:
    """Lock migrations as they are now; raises `InvalidScript`."""
    migrations = tuple(
        Locked(e.version, e.checksum.rpartition(":")[0], e.migration.description) for e in entries
    )
    return Lock(migrations, _seal(migrations))


def parse_lock(text: str, where: str) -> Lock:
    """Read the text of a lock file; raises `InvalidFiles` for a line that is none, naming it."""
    migrations: dict[int, Locked] = {}
    seal = ""
    for number, line in enumerate(text.splitlines(), 1):
        match = _LINE.fullmatch(line)
        if line.startswith(f"{_SEAL} ") and not seal:
            seal = line.removeprefix(f"{_SEAL} ")
        elif match and int(match[1]) not in migrations:
            migrations[int(match[1])] = Locked(int(match[1]), match[2], match[3] or "")
        elif line.strip() and not line.startswith("#"):
            problem = f"line {number} is left from a merge, or was never one of a lock file"
            raise InvalidFiles((where,), f"{problem}; {_AGAIN}")
    return Lock(tuple(migrations.values()), seal)


def _seal(migrations: Iterable[Locked]) -> str:
    lines = "".join(f"{m.version} {m.digest}\n" for m in migrations)
    return sha256(lines.encode()).hexdigest()


def _by_version(lock: Lock) -> dict[int, Locked]:
    return {migration.version: migration for migration in lock.migrations}


def _change(version: int, was: dict[int, Locked], now: dict[int, Locked]) -> LockChange | None:
    locked, current = was.get(version), now.get(version)
    if locked == current:
        return None
    if locked is None:
        added = now[version]
        moved = _elsewhere(added, was, now)
        return None if moved else LockChange(Change.ADDED, version, added.description)
    if instead := _elsewhere(locked, now, was):
        return LockChange(Change.REORDERED, version, locked.description, instead)
    change = Change.EDITED if current else Change.MISSING
    return LockChange(change, version, locked.description)


def _elsewhere(one: Locked, there: dict[int, Locked], here: dict[int, Locked]) -> int:
    """Return the version that a migration has on the other side, if it moved; else 0."""
    for other in there.values():
        if other.digest == one.digest and here.get(other.version) != other:
            return other.version
    return 0


def _misplaced(lock: Lock) -> Iterator[LockChange]:
    """Tell the lines that stand below those of higher versions."""
    for before, after in pairwise(lock.migrations):
        if before.version > after.version:
            yield LockChange(Change.REORDERED, after.version, after.description)
