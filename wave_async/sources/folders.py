"""A folder for each migration: diesel, rusqlite_migration and prisma.

diesel orders by the digits as text, prisma by the name as text, rusqlite_migration by number and
without gaps from 1. diesel's `metadata.toml` may say `run_in_transaction = false`. Beside prisma's
`migration.sql` a `down.sql` is the way down.
"""

from __future__ import annotations

import re
from dataclasses import replace

from wave_async.errors import InvalidFiles
from wave_async.sources.assembly import (
    Format,
    Placeholders,
    Scripts,
    Slot,
    by_digits,
    by_name,
    plain_scripts,
)
from wave_async.sources.folder import Folder


def _pattern(number: str, separator: str, up: str) -> re.Pattern[str]:
    return re.compile(
        rf"(?P<number>{number}){separator}(?P<name>[^/]*)/(?:{up}|(?P<down>down))\.sql"
    )


def _diesel(folder: Folder, slot: Slot, placeholders: Placeholders) -> Scripts:
    scripts = plain_scripts(folder, slot, placeholders)
    file = slot.up.file.replace("up.sql", "metadata.toml")
    if file not in folder:
        return scripts
    import tomllib  # noqa: PLC0415 - one folder in a thousand has such a file

    try:
        metadata = tomllib.loads(folder.text(file))
    except tomllib.TOMLDecodeError as error:
        raise InvalidFiles((file,), f"it is not TOML: {error}") from error
    return replace(scripts, alone=metadata.get("run_in_transaction") is False)


DIESEL = Format(
    "diesel",
    _pattern(r"[0-9]+(?:-[0-9]+)*", "_", "up"),
    first="0000-00-00-000000",
    written=(("{number}_{name}/up.sql", "{up}"), ("{number}_{name}/down.sql", "{down}")),
    order=by_digits,
    scripts=_diesel,
)
RUSQLITE = Format(
    "rusqlite",
    _pattern(r"[0-9]+", "-", "up"),
    first="01",
    written=(("{number}-{name}/up.sql", "{up}"),),
    written_down="{number}-{name}/down.sql",
    gapless=True,
)
PRISMA = Format(
    "prisma",
    _pattern(r"[0-9]+", "_", "migration"),
    first="00000000000000",
    written=(("{number}_{name}/migration.sql", "{up}"),),
    written_down="{number}_{name}/down.sql",
    order=by_name,
)
