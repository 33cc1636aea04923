"""Which format a folder is of.

Each file that a format could read is a claim. The folder's format is the first, in the order of
`FORMATS`, that claims every claimed file: drizzle, python, diesel, rusqlite, prisma, flyway,
refinery, pairs, goose, dbmate, single. A format that is named has to be among those that could.
"""

from __future__ import annotations

from collections.abc import Mapping

from wave_async.errors import ConfigError, InvalidFiles
from wave_async.sources.assembly import Format
from wave_async.sources.drizzle import DRIZZLE
from wave_async.sources.flyway import FLYWAY, REFINERY
from wave_async.sources.folder import Folder, looks_like_migration
from wave_async.sources.folders import DIESEL, PRISMA, RUSQLITE
from wave_async.sources.marked import DBMATE, GOOSE
from wave_async.sources.pairs import PAIRS, SINGLE
from wave_async.sources.python import PYTHON

FORMATS = {
    found.name: found
    for found in (
        DRIZZLE,
        PYTHON,
        DIESEL,
        RUSQLITE,
        PRISMA,
        FLYWAY,
        REFINERY,
        PAIRS,
        GOOSE,
        DBMATE,
        SINGLE,
    )
}


def detect(folder: Folder, named: str | None) -> tuple[Format, list[str]]:
    """Return a folder's format and its files; of a folder without any, the named one or pairs.

    Raises `ConfigError` for a name that is no format's, and `InvalidFiles` for files of several
    formats, for files of another format than the named one, and for stray ones: those that look
    like a migration and are of no format.
    """
    if named is not None and named not in FORMATS:
        raise ConfigError("format", named, ", ".join(FORMATS))
    claims = {file: _claims(folder, file) for file in folder}
    _refuse_strays(claims)
    claims = {file: names for file, names in claims.items() if names}
    possible = [name for name in FORMATS if all(name in names for names in claims.values())]
    if not possible:
        raise _mixed(claims)
    if not claims:
        return FORMATS[named or PAIRS.name], []
    if named and named not in possible:
        raise InvalidFiles(tuple(claims), f"the format is {possible[0]}, not {named}")
    return FORMATS[named or possible[0]], list(claims)


def _claims(folder: Folder, file: str) -> tuple[str, ...]:
    return tuple(name for name, found in FORMATS.items() if found.claims(folder, file))


def _refuse_strays(claims: Mapping[str, tuple[str, ...]]) -> None:
    claimed = {file.partition("/")[0] + "/" for file, names in claims.items() if names}
    strays = (
        file
        for file, names in claims.items()
        if not names and file not in claimed and looks_like_migration(file)
    )
    if found := tuple(strays):
        problem = "looks like a migration, but is of no known format; rename it or move it away"
        raise InvalidFiles(found, problem)


def _mixed(claims: Mapping[str, tuple[str, ...]]) -> InvalidFiles:
    """Name one file of each format."""
    examples: dict[str, str] = {}
    for file, names in claims.items():
        examples.setdefault(names[0], file)
    problem = f"formats are mixed in one folder: {', '.join(examples)}"
    return InvalidFiles(tuple(examples.values()), problem)
