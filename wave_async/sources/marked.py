"""Files with both ways in them, divided by comments: goose and dbmate.

goose orders by number, dbmate by name. The marks stay in the scripts, where SQL takes them for
comments, and a way down is padded, so that a line of a script is the line of its file. goose's
`StatementEnd` also ends the statement before it, whether or not a semicolon does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from wave_async.errors import InvalidScript
from wave_async.model.script import parse
from wave_async.sources.assembly import (
    Format,
    Match,
    Placeholders,
    Scripts,
    Slot,
    by_name,
)
from wave_async.sources.folder import Folder, line_of

SINGLE_NAME = re.compile(
    r"(?![vV][0-9]+(?:[._][0-9]+)*__|.*\.(?:up|down)\.sql)(?P<prefix>[vV]?)(?P<number>[0-9]+)"
    r"(?:(?P<separator>[_-]|\.(?![0-9]))(?P<name>[^/]*?))?\.sql"
)
_GOOSE = re.compile(r"(?im)^[ \t]*--[ \t]*\+goose\b[ \t]*(?P<mark>.*?)[ \t\r]*$")
_DBMATE = re.compile(
    r"(?im)^[ \t]*--[ \t]*migrate:(?P<mark>up|down)\b[ \t]*(?P<options>.*?)[ \t\r]*$"
)
_GOOSE_MARKS = ("up", "down", "statementbegin", "statementend", "no transaction")
_DBMATE_OPTIONS = {"": False, "transaction:true": False, "transaction:false": True}


def mark_of(folder: Folder, file: str) -> str:
    """Return the name of the tool whose mark a file has, an empty one if it has none."""
    text = folder.text(file)
    lower = text.lower()
    if "+goose" in lower and _GOOSE.search(text):
        return "goose"
    return "dbmate" if "migrate:" in lower and _DBMATE.search(text) else ""


def _goose(folder: Folder, slot: Slot, _: Placeholders) -> Scripts:
    file = slot.up.file
    marks: dict[str, list[Match]] = {mark: [] for mark in _GOOSE_MARKS}
    text = folder.text(file)
    for match in _GOOSE.finditer(text):
        mark = " ".join(match["mark"].lower().split())
        if mark not in marks:
            raise InvalidScript(file, line_of(text, match.start()), f"unknown mark {match[0]!r}")
        marks[mark].append(match)
    _refuse_unbalanced(file, text, marks["statementbegin"], marks["statementend"])
    up, down = _sections(file, text, marks["up"], marks["down"])
    return Scripts(_ended(up), _ended(down), bool(marks["no transaction"]))


def _refuse_unbalanced(file: str, text: str, begins: list[Match], ends: list[Match]) -> None:
    inside = 0
    for match in sorted(begins + ends, key=lambda match: match.start()):
        inside += 1 if match in begins else -1
        if inside not in {0, 1}:
            break
    else:
        if not inside:
            return
    line = line_of(text, match.start())
    raise InvalidScript(file, line, "StatementBegin and StatementEnd do not come in pairs")


def _ended(script: str) -> str:
    def end(match: Match) -> str:
        return f";{match[0]}" if match["mark"].lower() == "statementend" else match[0]

    return _GOOSE.sub(end, script)


def _dbmate(folder: Folder, slot: Slot, _: Placeholders) -> Scripts:
    file, text = slot.up.file, folder.text(slot.up.file)
    ways: dict[str, list[Match]] = {"up": [], "down": []}
    alone = False
    for match in _DBMATE.finditer(text):
        way, options = match["mark"].lower(), match["options"].lower()
        if options not in _DBMATE_OPTIONS:
            raise InvalidScript(file, line_of(text, match.start()), f"unknown option {options!r}")
        ways[way].append(match)
        alone |= way == "up" and _DBMATE_OPTIONS[options]
    return Scripts(*_sections(file, text, ways["up"], ways["down"]), alone)


def _sections(
    file: str, text: str, ups: Sequence[Match], downs: Sequence[Match]
) -> tuple[str, str]:
    """Divide a text at its marks; one up, then at most one down, and nothing before them runs."""
    if not ups:
        raise InvalidScript(file, 1, "it has no mark for the way up")
    for extra in (*ups[1:], *downs[1:]):
        raise InvalidScript(file, line_of(text, extra.start()), "a way is marked twice")
    up, end = ups[0].start(), downs[0].start() if downs else len(text)
    if end < up:
        raise InvalidScript(file, line_of(text, end), "the way down is marked before the way up")
    for statement in parse(text[:up], file).statements:
        raise InvalidScript(file, statement.line, "a statement before the first mark")
    return text[:end], "\n" * text.count("\n", 0, end) + text[end:] if downs else ""


GOOSE = Format(
    "goose",
    SINGLE_NAME,
    first="00000000000000",
    written=(
        ("{prefix}{number}{separator}{name}.sql", "-- +goose Up\n{up}\n-- +goose Down\n{down}"),
    ),
    accepts=lambda folder, file: mark_of(folder, file) == "goose",
    scripts=_goose,
)
DBMATE = Format(
    "dbmate",
    SINGLE_NAME,
    first="00000000000000",
    written=(
        ("{prefix}{number}{separator}{name}.sql", "-- migrate:up\n{up}\n-- migrate:down\n{down}"),
    ),
    order=by_name,
    accepts=lambda folder, file: mark_of(folder, file) == "dbmate",
    scripts=_dbmate,
)
