"""flyway and refinery: `V<version>__name.sql`, `U<version>__name.sql`.

In flyway a U is the way down of the V with its version, `${name}` is replaced from the
placeholders, in any case, and `<file>.conf` may say `executeInTransaction=false`. In refinery,
which has to be named, a U is a migration like any other.

As soon as one version in a folder is dotted, all of them count as four parts, each below 1000 but
the first: 1.2 is 1_002_000_000. What does not fit is refused. (Introducing the first dot renumbers
a folder: then the recorded versions are no longer known, which is refused before anything runs.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from wave_async.errors import InvalidFiles, InvalidScript
from wave_async.model.migration import VERSION_LIMIT, version_of
from wave_async.sources.assembly import (
    Format,
    Match,
    Name,
    Placeholders,
    Scripts,
    Slot,
    name_of,
)
from wave_async.sources.folder import Folder, line_of

_PARTS, _PART_LIMIT = 4, 1000
_PLACEHOLDER = re.compile(r"\$\{([^}\n]*)\}")
_NO_TRANSACTION = re.compile(r"(?im)^\s*executeInTransaction\s*=\s*false\s*$")
_NAME = r"__(?P<name>(?![^/]*\.(?:up|down)\.sql)[^/]*)\.sql"


def _names(_folder: Folder, matches: Sequence[Match]) -> Iterator[Name]:
    dotted = any(not match["number"].isdigit() for match in matches)
    for match in matches:
        version = _dotted(match) if dotted else version_of(match["number"])
        yield name_of(match, version, version)


def _dotted(match: Match) -> int:
    first, *rest = map(int, re.split("[._]", match["number"]))
    version = first
    for part in [*rest, 0, 0, 0][: _PARTS - 1]:
        version = version * _PART_LIMIT + part
    if len(rest) >= _PARTS or max(rest, default=0) >= _PART_LIMIT or version >= VERSION_LIMIT:
        problem = "a dotted version has at most four parts, each below 1000 but the first"
        raise InvalidFiles((match.string,), problem)
    return version


def _scripts(folder: Folder, slot: Slot, placeholders: Placeholders) -> Scripts:
    known = {name.lower(): value for name, value in placeholders.items()}
    configuration = f"{slot.up.file}.conf"
    alone = configuration in folder and _NO_TRANSACTION.search(folder.text(configuration))
    return Scripts(
        _filled(folder, slot.up.file, known),
        _filled(folder, slot.down.file, known) if slot.down else "",
        bool(alone),
    )


def _filled(folder: Folder, file: str, known: Placeholders) -> str:
    text = folder.text(file)

    def value(match: Match) -> str:
        if match[1].lower() not in known:
            raise InvalidScript(
                file, line_of(text, match.start()), f"unknown placeholder {match[0]}"
            )
        return known[match[1].lower()]

    return _PLACEHOLDER.sub(value, text)


FLYWAY = Format(
    "flyway",
    re.compile(rf"(?:V|(?P<down>U))(?P<number>[0-9]+(?:[._][0-9]+)*){_NAME}"),
    first="1",
    written=(("V{number}__{name}.sql", "{up}"),),
    written_down="U{number}__{name}.sql",
    scripts=_scripts,
    named=_names,
    orphan="an undo without its V; if it is refinery's, name that format",
)
REFINERY = Format(
    "refinery",
    re.compile(rf"[VU](?P<number>[0-9]+){_NAME}"),
    first="1",
    written=(("V{number}__{name}.sql", "{up}"),),
)
