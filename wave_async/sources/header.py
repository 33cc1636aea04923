"""The one header comment of a migration file: `-- wave: foreign_keys=off, irreversible`.

It stands among the comments before the first statement, in a Python file behind `#`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wave_async.errors import InvalidScript
from wave_async.sources.folder import line_of

_FORMS = (
    "foreign_keys=on|off, transaction=on|off, legacy_alter_table=on|off, cascade=allowed, "
    'loss=allowed, irreversible, description="..."'
)
_SWITCHES = ("foreign_keys", "transaction", "legacy_alter_table")
_MEANING = {
    **{(name, value): value == "on" for name in _SWITCHES for value in ("on", "off")},
    ("cascade", "allowed"): True,
    ("loss", "allowed"): True,
    ("irreversible", ""): True,
}
_OPTION = re.compile(r'\s*(\w+)\s*(?:=\s*("[^"]+"|\w+)\s*)?(?:,|$)')
_MARK = re.compile(r"(?i)wave:")
_SQL = (
    re.compile(r"(?im)^[ \t]*--[ \t]*wave:(.*)$"),
    re.compile(r"(?:\s+|--[^\n]*|/\*(?s:.*?)\*/)*"),
)
_PYTHON = re.compile(r"(?im)^[ \t]*#[ \t]*wave:(.*)$"), re.compile(r"(?:\s+|#[^\n]*)*")


@dataclass(frozen=True, slots=True)
class Header:
    """What a header says, by the names of `_FORMS`; `line` is where it stands, 0 for nowhere."""

    line: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)


def read_header(file: str, text: str) -> Header:
    """Read the header of a file, an empty one if there is none.

    Raises `InvalidScript` for an unknown option or value, an option that is said twice, a second
    header, and one after the first statement.
    """
    if not _MARK.search(text):
        return Header()
    pattern, before = _PYTHON if file.endswith(".py") else _SQL
    header, body = Header(), before.match(text)
    for match in pattern.finditer(text):
        line = line_of(text, match.start())
        if body and match.start() >= body.end():
            raise InvalidScript(file, line, "a wave: header belongs before the first statement")
        if header.line:
            raise InvalidScript(file, line, "a second wave: header; write all options in one")
        header = Header(line, _options(file, line, match[1].strip()))
    return header


def _options(file: str, line: int, body: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    at = 0
    while at < len(body):
        match = _OPTION.match(body, at)
        name, value = (match[1].lower(), match[2] or "") if match else ("", "")
        meaning: bool | str | None = _MEANING.get((name, value.lower()))
        if name == "description" and value.startswith('"'):
            meaning = value[1:-1]
        if match is None or meaning is None:
            raise InvalidScript(
                file, line, f"cannot read {body[at:].lstrip()!r}; options are {_FORMS}"
            )
        if name in options:
            raise InvalidScript(file, line, f"{name} is said twice")
        options[name], at = meaning, match.end()
    return options
