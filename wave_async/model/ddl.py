"""The text of one CREATE statement as a value: what it says, however it is written.

Knows SQLite's tokens, which words are names, and the outer shape of CREATE TABLE; knows nothing of
a whole schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from wave_async.model.script import (
    CAPITALS,
    LETTER,
    LETTER_OR_DIGIT,
    Token,
    lowered,
    quoted_name,
    tokens,
    unquoted,
)

Line = tuple[str, str]
"""A line of a statement: its normal form, and how it was written."""

# Quoted, these are names; plain, they are syntax, joins or constants. Any other keyword means the
# same quoted and plain (`%fallback ID` in https://sqlite.org/src/file/src/parse.y).
_SYNTAX = """
    add all alter and as autoincrement between case cast check collate commit constraint create
    cross current_date current_time current_timestamp default deferrable delete distinct drop
    else escape except exists false foreign from full group having in index indexed inner insert
    intersect into is isnull join left limit natural not nothing notnull null on or order outer
    primary raise references returning right select set table then to transaction true union
    unique update using values when where
"""
_NOT_A_NAME = frozenset(_SYNTAX.split())
_PLAIN = re.compile(f"{LETTER}{LETTER_OR_DIGIT}*")

# A double-quoted word is a string where no column of that name is in sight, and then its case
# counts (https://sqlite.org/quirks.html#dblquote). Beside these it is a name.
_BESIDE = ". as collate constraint from index into join on references table trigger update view"
_BEFORE_A_NAME = frozenset(_BESIDE.split())
_AFTER_A_NAME = frozenset({".", "("})

# Any other word after DEFAULT is a string (https://sqlite.org/lang_createtable.html#dfltval).
_CONSTANTS = "null true false current_date current_time current_timestamp"
_NO_STRING = frozenset({*_CONSTANTS.split(), "values"})  # INSERT INTO t DEFAULT VALUES

_CONSTRAINT = frozenset({"constraint", "primary", "unique", "check", "foreign"})


@dataclass(frozen=True, slots=True)
class Definition:
    """What a statement says, in words joined by spaces.

    `rest` is a table's options, or all of anything else. `written` is how each column, then each
    constraint was written; it does not count in a comparison.
    """

    columns: tuple[str, ...]
    constraints: tuple[str, ...]
    rest: str
    written: tuple[str, ...] = field(default=(), compare=False)


def define(sql: str) -> Definition:
    """Return what a CREATE statement says, as sqlite_schema holds it.

    It does not depend on layout, comments, the case of anything but literals, the quotes of names
    that need none, nor on a table's constraints standing between its columns or after them. A
    double-quoted word that SQLite might take for a string keeps its case.
    """
    found, words, doubtful = _read(sql)
    of_index = "index" in words[1:3]
    if not of_index and words[1:2] != ["table"]:
        _settle(words, doubtful, ())
        return Definition((), (), " ".join(words))
    items, end = _items(words)
    columns = [item for item in items if words[item[0]] not in _CONSTRAINT]
    _settle(words, doubtful, [a for a, _ in columns])
    if of_index:
        return Definition((), (), " ".join(words))
    constraints = [item for item in items if words[item[0]] in _CONSTRAINT]
    return Definition(
        tuple([" ".join(words[a:b]) for a, b in columns]),
        tuple([" ".join(words[a:b]) for a, b in constraints]),
        ", ".join(sorted(" ".join(words[end:]).split(" , "))),
        tuple([_written(sql, found[a:b]) for a, b in (*columns, *constraints)]),
    )


def name_and_rest(column: str) -> tuple[str, str]:
    """Split a column, written or in words, into its name without quotes and what follows."""
    _, name, end = tokens(column)[0]
    return unquoted(name), as_shown(column[end:])


def lines(sql: str) -> list[Line]:
    """Break a statement into its clauses, so that a change of one is a change of one line."""
    found, words, doubtful = _read(sql)
    _settle(words, doubtful, ())
    cuts = [0, *(i for i in range(1, len(words)) if _begins_a_line(words[i - 1], words[i]))]
    return [
        (" ".join(words[a:b]), as_shown(_written(sql, found[a:b])))
        for a, b in zip(cuts, [*cuts[1:], len(words)], strict=True)
    ]


def as_shown(sql: str) -> str:
    """Return a piece of SQL on one line, without its comments."""
    text, before = "", 0
    for _, part, end in tokens(sql):
        spaced = end - len(part) > before and part != ")" and not text.endswith("(")
        text += f" {part}" if spaced else part
        before = end
    return text.strip()


def _written(sql: str, found: Sequence[Token]) -> str:
    """Return the piece of SQL that some tokens, one at least, were found in."""
    _, first, end = found[0]
    return sql[end - len(first) : found[-1][2]]


def _begins_a_line(before: str, word: str) -> bool:
    return word in {"from", "where", "begin"} or before in {"begin", ";"}


def _read(sql: str) -> tuple[list[Token], list[str], list[int]]:
    """Return the tokens, their normal forms, and which of them may be strings or names."""
    found = tokens(lowered(sql))
    words = [token for _, token, _ in found]
    doubtful: list[int] = []
    for at, (kind, token, end) in enumerate(found):
        if kind == "literal":
            before = words[at - 1]
            words[at] = _literal(sql[end - len(token) : end], before)
            if token[0] == '"' and before != "default" and CAPITALS.search(words[at]):
                doubtful.append(at)
        elif kind == "word" and token not in _NO_STRING and words[at - 1] == "default":
            words[at] = quoted_name(sql[end - len(token) : end])
    return found, words, doubtful


def _literal(token: str, before: str) -> str:
    if token[0] not in '"`[':
        return token.replace("\r\n", "\n")  # as in the checksum of a script
    name = unquoted(token)
    sure = token[0] != '"' or before in _BEFORE_A_NAME or not CAPITALS.search(name)
    return _name(name) if sure and before != "default" else quoted_name(name)


def _settle(words: list[str], doubtful: Iterable[int], columns: Sequence[int]) -> None:
    """Make names of the words that define columns, and of the doubtful that mean one."""
    for at in columns:
        if words[at][0] in "\"'":
            words[at] = _name(unquoted(words[at]))
    known = {words[at] for at in columns}
    for at in doubtful:
        name = _name(unquoted(words[at]))
        of_parent = words[_opening(words, at) - 2] == "references"
        if name in known or of_parent or not _AFTER_A_NAME.isdisjoint(words[at + 1 : at + 2]):
            words[at] = name


def _opening(words: Sequence[str], at: int) -> int:
    """Return where the last parenthesis before a word is, the first word if there is none."""
    return next((i for i in range(at, 0, -1) if words[i] in {"(", ")"}), 0)


def _name(name: str) -> str:
    name = lowered(name)
    plain = _PLAIN.fullmatch(name) and name not in _NOT_A_NAME
    return name if plain else quoted_name(name)


def _items(words: Sequence[str]) -> tuple[list[tuple[int, int]], int]:
    """Return where the items of the first parenthesis begin and end, and where it is over."""
    items: list[tuple[int, int]] = []
    depth = start = 0
    for i, word in enumerate(words):
        if word == "(":
            depth += 1
            start = i + 1 if depth == 1 else start
        elif word == ")":
            depth -= 1
            if depth == 0:
                items.append((start, i))
                return [(a, b) for a, b in items if a < b], i + 1
        elif word == "," and depth == 1:
            items.append((start, i))
            start = i + 1
    return [], 0
