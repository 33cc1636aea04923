"""Plain files: pairs as of golang-migrate and sqlx, and single ones as of sqlx.

Ordered by number. `-- no-transaction` as first line is sqlx's mark.
"""

from __future__ import annotations

import re
from dataclasses import replace

from wave_async.sources.assembly import Format, Placeholders, Scripts, Slot, plain_scripts
from wave_async.sources.folder import Folder
from wave_async.sources.marked import SINGLE_NAME, mark_of

_PAIR_NAME = re.compile(
    r"(?P<prefix>[vV]?)(?P<number>[0-9]+)"
    r"(?:(?P<separator>[_-]|\.(?![0-9]))(?P<name>[^/]*?))?\.(?:up|(?P<down>down))\.sql"
)


def _scripts(folder: Folder, slot: Slot, placeholders: Placeholders) -> Scripts:
    scripts = plain_scripts(folder, slot, placeholders)
    return replace(scripts, alone=folder.text(slot.up.file).startswith("-- no-transaction"))


PAIRS = Format(
    "pairs",
    _PAIR_NAME,
    first="0001",
    written=(
        ("{prefix}{number}{separator}{name}.up.sql", "{up}"),
        ("{prefix}{number}{separator}{name}.down.sql", "{down}"),
    ),
    accepts=lambda folder, file: not mark_of(folder, file),
    scripts=_scripts,
)
SINGLE = Format(
    "single",
    SINGLE_NAME,
    first="00000000000000",
    written=(("{prefix}{number}{separator}{name}.sql", "{up}"),),
    accepts=lambda folder, file: not mark_of(folder, file),
    scripts=_scripts,
)
