"""drizzle: files listed in `meta/_journal.json`, divided by `--> statement-breakpoint`.

A version is an entry's `idx`, the order that of the journal. A breakpoint also ends the statement
before it, whether or not a semicolon does. A new migration is entered in the journal; drizzle-kit's
own snapshots are left to drizzle-kit.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

from wave_async.errors import InvalidFiles
from wave_async.sources.assembly import Format, Match, Name, Placeholders, Scripts, Slot
from wave_async.sources.folder import JOURNAL, Folder

_BREAKPOINT = "--> statement-breakpoint"
_TAG = re.compile(r"([0-9]*)_?(.*)")
_EMPTY = '{"version": "7", "dialect": "sqlite", "entries": []}'


def _in_journal(folder: Folder, _file: str) -> bool:
    return JOURNAL in folder


def _entries(text: str) -> list[dict[str, Any]]:
    """Return the entries of a journal; what it may not be is refused, with what it is."""
    try:
        entries: list[dict[str, Any]] = json.loads(text)["entries"]
        if all(isinstance(e["idx"], int) and isinstance(e["tag"], str) for e in entries):
            return entries
    except (ValueError, TypeError, LookupError) as error:
        raise InvalidFiles((JOURNAL,), f"it is no journal: {error!r}") from error
    raise InvalidFiles((JOURNAL,), "it is no journal: each entry has a number and a name")


def _names(folder: Folder, matches: Sequence[Match]) -> Iterator[Name]:
    there = [match.string for match in matches if match.string != JOURNAL]
    entries = _entries(folder.text(JOURNAL)) if JOURNAL in folder else []
    listed = [f"{entry['tag']}.sql" for entry in entries]
    if extra := tuple(file for file in there if file not in set(listed)):
        raise InvalidFiles(extra, f"not in {JOURNAL}")
    if missing := tuple(file for file in listed if file not in set(there)):
        raise InvalidFiles(missing, f"in {JOURNAL}, but there is no such file")
    for place, (entry, file) in enumerate(zip(entries, listed, strict=True)):
        number, name = _TAG.fullmatch(entry["tag"]).groups()  # type: ignore[union-attr]
        yield Name(file, number or str(entry["idx"]), entry["idx"], place, name.replace("_", " "))


def _scripts(folder: Folder, slot: Slot, _: Placeholders) -> Scripts:
    return Scripts(folder.text(slot.up.file).replace(_BREAKPOINT, f";{_BREAKPOINT}"))


def _with_entry(old: str | None, tag: str) -> str:
    document = json.loads(old or _EMPTY)
    entries: list[dict[str, Any]] = document["entries"]
    nothing: dict[str, Any] = {"idx": -1}
    last = max(entries, key=lambda entry: entry["idx"], default=nothing)
    now = max(int(time.time() * 1000), last.get("when", 0) + 1)
    entry = {"idx": last["idx"] + 1, "version": last.get("version", "6"), "when": now}
    entries.append(entry | {"tag": tag, "breakpoints": True})
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


DRIZZLE = Format(
    "drizzle",
    re.compile(rf"{re.escape(JOURNAL)}|[^/]+\.sql"),
    first="0000",
    written=(("{number}_{name}.sql", "{up}"),),
    accepts=_in_journal,
    scripts=_scripts,
    named=_names,
    index=JOURNAL,
    indexed=_with_entry,
)
