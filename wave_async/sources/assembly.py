"""What every format shares: names of files into ordered slots, slots into migrations.

A format says what its file names mean and which scripts its texts hold. Everything else is here:
which version a number is, which files belong together, and what is refused.

Versions are the numbers in the names, read as integers, dashes left out. A number of 2^63 or more
keeps its first 18 digits (a timestamp of 20 digits loses its last two). Files are ordered as their
own tool orders them; where the versions say otherwise, the folder is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

from wave_async.errors import (
    DuplicateVersion,
    InvalidFiles,
    InvalidMigration,
    InvalidScript,
    VersionGap,
)
from wave_async.model.lifting import runs_outside
from wave_async.model.migration import Direction, Migration, Work, parts, version_of
from wave_async.model.script import parse
from wave_async.sources.folder import Folder
from wave_async.sources.header import read_header

Placeholders: TypeAlias = Mapping[str, str]
Match: TypeAlias = re.Match[str]


@dataclass(frozen=True, slots=True)
class Name:
    """What the name of a file says; `number` as it is written, `order` as its tool sorts."""

    file: str
    number: str
    version: int
    order: Any
    description: str
    direction: Direction = Direction.UP
    prefix: str = ""
    separator: str = "_"


@dataclass(frozen=True, slots=True)
class Slot:
    """The files of one migration."""

    up: Name
    down: Name | None = None


@dataclass(frozen=True, slots=True)
class Scripts:
    """What the files of one migration hold; `alone` is a tool's own no-transaction mark."""

    up: Work
    down: Work = ""
    alone: bool = False


def by_number(match: Match) -> int:
    """Order files by their numbers."""
    return int(match["number"])


def by_digits(match: Match) -> str:
    """Order files by their digits as text."""
    return match["number"].replace("-", "")


def by_name(match: Match) -> str:
    """Order files by their whole names as text."""
    return match.string


def name_of(match: Match, version: int, order: Any) -> Name:
    """Read a name by the groups of a pattern: number, name, down, prefix and separator."""
    groups = {key: value or "" for key, value in match.groupdict().items()}
    return Name(
        match.string,
        groups["number"],
        version,
        order,
        groups["name"].replace("_", " ").strip() or groups["number"],
        Direction.DOWN if groups.get("down") else Direction.UP,
        groups.get("prefix", ""),
        groups.get("separator") or "_",
    )


def plain_scripts(folder: Folder, slot: Slot, _: Placeholders) -> Scripts:
    """Read each file as one script."""
    return Scripts(folder.text(slot.up.file), folder.text(slot.down.file) if slot.down else "")


@dataclass(frozen=True, slots=True)
class Format:
    """One way to lay out migrations in a folder.

    A file belongs to it if `pattern` fits its name and `accepts` it; `scripts` reads a slot, and
    `named` reads the names where more than one has to be seen. `gapless` formats count from 1;
    `orphan` is said of a way down without its migration. `first` is the first number, or the shape
    of a timestamp. `written` are the files of a new migration and their texts, whose scripts are
    `quoted`, `written_down` is one that is written where it has a script or the newest migration
    has it too, and `index` a file that lists all of
    them, whose new text `indexed` makes of the old one and a name.
    """

    name: str
    pattern: re.Pattern[str]
    first: str
    written: tuple[tuple[str, str], ...]
    written_down: str = ""
    order: Callable[[Match], Any] = by_number
    accepts: Callable[[Folder, str], bool] = lambda _folder, _file: True
    scripts: Callable[[Folder, Slot, Placeholders], Scripts] = plain_scripts
    named: Callable[[Folder, Sequence[Match]], Iterable[Name]] | None = None
    index: str = ""
    indexed: Callable[[str | None, str], str] = lambda _old, _name: ""
    quoted: Callable[[str], str] = str
    gapless: bool = False
    orphan: str = "a way down without the migration that it belongs to"

    def claims(self, folder: Folder, file: str) -> bool:
        """Return whether a file may be of this format."""
        return bool(self.pattern.fullmatch(file)) and self.accepts(folder, file)

    def slots(self, folder: Folder, files: Iterable[str]) -> list[Slot]:
        """Return the migrations of some files in order, by their names alone.

        Raises `DuplicateVersion`, `VersionGap`, and `InvalidFiles` for a way down alone, and for
        names whose order is not that of their versions.
        """
        matches = [match for file in files if (match := self.pattern.fullmatch(file))]
        ups, downs = _sides(self._named(folder, matches))
        if orphans := tuple(downs[version].file for version in downs if version not in ups):
            raise InvalidFiles(orphans, self.orphan)
        ordered = sorted(ups.values(), key=lambda name: name.order)
        _refuse_other_order(ordered)
        if self.gapless:
            _refuse_gaps(ordered)
        return [Slot(up, downs.get(up.version)) for up in ordered]

    def _named(self, folder: Folder, matches: Sequence[Match]) -> Iterable[Name]:
        if self.named:
            return self.named(folder, matches)
        return (name_of(m, version_of(m["number"]), self.order(m)) for m in matches)


def migration_of(folder: Folder, slot: Slot, scripts: Scripts) -> Migration:
    """Build the migration of a slot, its header and its tool's marks applied.

    Raises `InvalidScript` for a bad header, one in a file of its own for the way down, and
    `irreversible` beside a way down; `InvalidFiles` for what a `Migration` refuses.
    """
    file = slot.up.file
    header = read_header(file, folder.text(file))
    options = {"description": slot.up.description, **header.options}
    if slot.down and (below := read_header(slot.down.file, folder.text(slot.down.file))).line:
        raise InvalidScript(slot.down.file, below.line, f"options belong into {file}")
    if options.pop("irreversible", False) and _does_something(scripts.down, file):
        raise InvalidScript(file, header.line, "irreversible, but it has a way down; keep one")
    if scripts.alone and runs_only_outside(scripts.up, file):
        options.setdefault("transaction", False)
    try:
        return Migration(slot.up.version, up=scripts.up, down=scripts.down, origin=file, **options)
    except InvalidMigration as error:
        raise InvalidFiles((file,), error.problem) from error


def runs_only_outside(work: Work, file: str) -> bool:
    """Return whether a script has statements, and none that a transaction could hold.

    Those are VACUUM and the pragmas journal_mode, page_size and auto_vacuum.
    """
    statements = parse(work, file).statements if isinstance(work, str) else ()
    return bool(statements) and all(map(runs_outside, statements))


def _does_something(work: Work, file: str) -> bool:
    return any(not isinstance(p, str) or parse(p, file).statements for p in parts(work))


def _sides(names: Iterable[Name]) -> tuple[dict[int, Name], dict[int, Name]]:
    sides: dict[Direction, dict[int, Name]] = {Direction.UP: {}, Direction.DOWN: {}}
    for name in names:
        known = sides[name.direction].setdefault(name.version, name)
        if known is not name:
            raise DuplicateVersion(name.version, (known.file, name.file))
    return sides[Direction.UP], sides[Direction.DOWN]


def _refuse_other_order(ordered: Sequence[Name]) -> None:
    for before, after in pairwise(ordered):
        if before.version > after.version:
            problem = "their tool runs them in this order, their numbers say another; renumber one"
            raise InvalidFiles((before.file, after.file), problem)


def _refuse_gaps(ordered: Sequence[Name]) -> None:
    for expected, name in enumerate(ordered, 1):
        if name.version != expected:
            raise VersionGap(expected, name.version)
