"""What the bookkeeping of another tool says of our migrations.

Knows rows and versions; how they are read, and from where, is the database's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import sha384

from wave_async.errors import ImportRefused, quoted
from wave_async.model.catalogue import Entry
from wave_async.model.migration import AppliedMigration, version_of

_BYTE_ORDER_MARK = "\ufeff"


class Naming(Enum):
    """What the rows of a tool's table name."""

    FILES = "files"
    """Each row is the number of a file that is one of our migrations, too."""
    NEWEST = "newest"
    """The only row is the number of the newest of them."""
    HEAD = "head"
    """The only row is the newest of the tool's own migrations, which are program code."""
    CODE = "code"
    """Each row is one of the tool's own migrations, which are program code."""

    @property
    def is_ours(self) -> bool:
        """Whether the numbers are versions of our migrations, too."""
        return self in {Naming.FILES, Naming.NEWEST}

    @property
    def is_single(self) -> bool:
        """Whether there is one row, not one for each migration."""
        return self in {Naming.NEWEST, Naming.HEAD}


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a tool's table.

    `applied_at` is in seconds since 1970, UTC; `checksum` is the SHA-384 of a file in hexadecimal.
    Both are None where the tool keeps none. A `failed` one was left behind half done.
    """

    name: str
    applied_at: int | None = None
    failed: bool = False
    checksum: str | None = None


@dataclass(frozen=True, slots=True)
class Import:
    """What of another tool's history is recorded as ours; nothing if all of it was before.

    `renamed` are the old and the new name of a table of the tool that had our table's name.
    """

    tool: str
    records: tuple[AppliedMigration, ...] = ()
    renamed: tuple[str, str] | None = None


def judge(tool: str, naming: Naming, rows: Sequence[Row]) -> None:
    """Raise `ImportRefused` for rows that tell no version: none, failed ones, several heads."""
    if not rows:
        raise ImportRefused(tool, "it has applied nothing here")
    for row in rows:
        if row.failed:
            problem = f"it left {quoted(row.name)} half done; mend that with {tool} first"
            raise ImportRefused(tool, problem)
    if naming.is_single and len(rows) > 1:
        names = ", ".join(quoted(row.name) for row in rows)
        raise ImportRefused(tool, f"it has {len(rows)} heads, {names}; merge them first")


def meant(
    tool: str, naming: Naming, rows: Sequence[Row], entries: Sequence[Entry]
) -> tuple[Entry, ...]:
    """Return the migrations that rows with our own versions name, lowest first.

    Raises `ImportRefused` for a version that is not ours, one left out below another, and a file
    that was edited after the tool applied it.
    """
    known = {entry.version: entry for entry in entries}
    by_version = {_version(row.name): row for row in rows}
    unknown = [row.name for version, row in by_version.items() if version not in known]
    if unknown:
        names = ", ".join(map(quoted, unknown))
        raise ImportRefused(tool, f"it has applied {names}, which this code does not have")
    newest = max(version for version in by_version if version is not None)
    found = tuple(entry for entry in entries if entry.version <= newest)
    for entry in found if naming is Naming.FILES else ():
        if entry.version not in by_version:
            problem = f"migration {entry.version} is pending below the applied {newest}"
            raise ImportRefused(tool, f"{problem}; apply it with {tool} first, or renumber it")
        if _edited(entry, by_version[entry.version].checksum):
            problem = f"migration {entry.version} was edited after it was applied"
            raise ImportRefused(tool, f"{problem}; bring the old text back")
    return found


def records(
    naming: Naming, rows: Iterable[Row], entries: Iterable[Entry], now: int
) -> tuple[AppliedMigration, ...]:
    """Return what is to be recorded of migrations, with the times that the tool knows.

    Of program code that is its newest time: then the schema became what it is.
    """
    rows = list(rows)
    newest = max((row.applied_at for row in rows if row.applied_at is not None), default=now)
    times = {_version(row.name): row.applied_at for row in rows}
    found = []
    for entry in entries:
        at = times.get(entry.version) if naming.is_ours else newest
        version, description, checksum = entry.row
        found.append(AppliedMigration(version, description, now if at is None else at, checksum))
    return tuple(found)


def unrecorded(
    tool: str, entries: Sequence[Entry], applied: Collection[AppliedMigration]
) -> Sequence[Entry]:
    """Return what of some migrations our own history lacks: all of them, or none.

    Raises `ImportRefused` where it has others, or some: two histories tell different things.
    """
    have = {row.version for row in applied}
    missing = [entry.version for entry in entries if entry.version not in have]
    if have and missing:
        problem = f"schema_migrations is there already, without {missing[0]}"
        raise ImportRefused(
            tool, f"{problem}; if that is applied, wave migrate baseline records it"
        )
    return entries if missing else ()


def _version(name: str) -> int | None:
    return version_of(name) if name.isascii() and name.isdigit() else None


def _edited(entry: Entry, checksum: str | None) -> bool:
    text = entry.migration.up
    if checksum is None or not isinstance(text, str):
        return False
    texts = (text, _BYTE_ORDER_MARK + text)
    return checksum.lower() not in {sha384(text.encode()).hexdigest() for text in texts}
