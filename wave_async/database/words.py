"""What a statement does, going by its own words, where no authorizer can be asked: on a cluster.

Feeds the guard with what SQLite would ask it, and refuses what can end a node: a cell that its
protocol cannot send back is met by an assertion there, and the node is gone. Such a cell does no
harm until it is read through its column; a `typeof` of it can be read.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from wave_async.database import guard, history, log
from wave_async.errors import StatementRefused
from wave_async.model.script import Token, lowered, quoted_name, tokens

COLUMNS = "SELECT name, type FROM pragma_table_info(?)"

_ROWS = frozenset({"SELECT", "VALUES", "EXPLAIN"})
_CHANGES = frozenset({"INSERT", "REPLACE", "UPDATE", "DELETE"})
_HIDING = frozenset({"DEFAULT", "DELETE", "SELECT", "SET", "WITH"})
_TRANSACTIONS = {"BEGIN": "BEGIN", "COMMIT": "COMMIT", "END": "COMMIT", "ROLLBACK": "ROLLBACK"}
_SAVEPOINTS = frozenset({"SAVEPOINT", "RELEASE"})
_FILES = {"ATTACH": sqlite3.SQLITE_ATTACH, "DETACH": sqlite3.SQLITE_DETACH}
_BOOKS = frozenset({history.TABLE, log.TABLE})
# After these even a string is a name (https://sqlite.org/quirks.html#dblquote).
_BEFORE_NAMES = frozenset({"EXISTS", "FROM", "INTO", "ON", "TABLE", "TO", "UPDATE"})
_DEADLY_PRAGMAS = frozenset({"journal_mode", "page_size"})
_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*")
_WHOLE = re.compile(r"\s*[+-]?(?:\d{1,18}|0[xX][0-9a-fA-F]+)\s*")
_ANSWERS = "a node of a cluster cannot answer it and may end"
_NAMES = {"text": "text", "real": "a float", "blob": "a blob"}
_NOT_A_TIME = (("real", "blob"), "text or a whole number")
_UNREADABLE = {
    "BOOLEAN": (("text", "real", "blob"), "0 or 1"),
    "DATETIME": _NOT_A_TIME,
    "DATE": _NOT_A_TIME,
    "TIMESTAMP": _NOT_A_TIME,
}
"""By a column's declared type, which of SQLite's types it cannot be read as, and what to write."""

TYPED_COLUMNS = (
    "SELECT t.name, c.name, upper(c.type) FROM sqlite_schema AS t, pragma_table_xinfo(t.name) AS c "
    f"WHERE t.type = 'table' AND upper(c.type) IN {tuple(_UNREADABLE)}"
)

Value = tuple[str | int, str]
"""A column by its name or its place, and SQLite's type of what is written; empty: nobody knows."""


def refuse(sql: str) -> bool:
    """Raise `StatementRefused` as the guard does; answers whether it lets what lasts be altered."""
    asked = guard.Guard()
    for action, first, second in _actions(tokens(sql)):
        asked(action, first, second, "main", None)
        if asked.refusal is not None:
            raise asked.refusal
    return asked.altered


def _actions(found: Sequence[Token]) -> Iterator[tuple[int, str, str | None]]:
    """Yield what SQLite would ask an authorizer, as far as the guard cares."""
    verb = _word(found, 0)
    if verb in _TRANSACTIONS:
        yield sqlite3.SQLITE_TRANSACTION, _TRANSACTIONS[verb], None
    elif verb in _SAVEPOINTS:
        yield sqlite3.SQLITE_SAVEPOINT, verb, None
    elif verb in _FILES:
        yield _FILES[verb], "", None
    elif verb == "PRAGMA":
        yield sqlite3.SQLITE_PRAGMA, *_pragma(found)
    elif _verb(found) not in _ROWS:
        for at, token in enumerate(found):
            name = _name(token)
            if name in _BOOKS and (token[1][0] != "'" or _word(found, at - 1) in _BEFORE_NAMES):
                yield sqlite3.SQLITE_INSERT, name, None


def refuse_deadly(sql: str) -> None:
    """Raise `StatementRefused` for what can end a node, whatever is in the database."""
    found = tokens(sql)
    names = _words(found)
    if _verb(found) in _CHANGES and "RETURNING" in names:
        raise StatementRefused("RETURNING", _ANSWERS)
    if names[:1] == ["PRAGMA"] and (name := _pragma(found)[0]) in _DEADLY_PRAGMAS:
        raise StatementRefused(f"PRAGMA {name}", _ANSWERS)
    if names[:1] in (["CREATE"], ["ALTER"]):
        _refuse_defaults(found)


def _refuse_defaults(found: Sequence[Token]) -> None:
    kind = ""
    for at in range(len(found)):
        word = _word(found, at)
        if found[at][1] in {",", "("}:
            kind = ""
        elif word in _UNREADABLE:
            kind = word
        elif word == "DEFAULT" and kind:
            _refuse_value(kind, _literal(found[at + 1 : at + 2]), "its default")


def written(sql: str) -> Iterator[tuple[str, list[Value]]]:
    """Yield the table that a statement writes into, and the values that its words show."""
    found = tokens(sql)
    words = _words(found)
    if words[:1] == ["UPDATE"] and "SET" in words:
        at = words.index("SET")
        yield _name(found[at - 1]), list(_set(found[at + 1 :]))
    elif words[:1] in (["INSERT"], ["REPLACE"]) and "VALUES" in words and "INTO" in words:
        at, into = words.index("VALUES"), words.index("INTO") + 1
        into += 2 if found[into + 1][1] == "." else 0
        columns = [_name(token) for token in found[into + 1 : at] if token[1] not in "(),"]
        yield _name(found[into]), list(_rows(found[at + 1 :], columns))


def hides(sql: str) -> bool:
    """Whether a statement may write what its words do not show."""
    found = tokens(sql)
    if _verb(found) not in _CHANGES | {"ALTER"}:
        return False
    words = _words(found)
    values = [value for _, values in written(sql) for _, value in values]
    return "" in values or "VALUES" not in words or not _HIDING.isdisjoint(words)


def _set(found: Sequence[Token]) -> Iterator[Value]:
    for at in range(1, len(found) - 1):
        after = _word(found, at + 2) if at + 2 < len(found) else ""
        ends = at + 2 >= len(found) or found[at + 2][1] == "," or after in {"WHERE", "FROM"}
        if found[at][1] == "=" and ends and (kind := _literal(found[at + 1 : at + 2])):
            yield _name(found[at - 1]), kind


def _rows(found: Sequence[Token], columns: Sequence[str]) -> Iterator[Value]:
    depth, place, value = 0, 0, list[Token]()
    for token in found:
        text = token[1]
        depth += (text == "(") - (text == ")")
        if (text == "," and depth == 1) or (text == ")" and depth == 0):
            if value:
                yield (columns[place] if place < len(columns) else place), _literal(value)
            place, value = place + 1, []
        elif text == "(" and depth == 1:
            place, value = 0, []
        else:
            value.append(token)


def refuse_values(columns: Iterable[tuple[Any, ...]], values: Iterable[Value]) -> None:
    """Raise `StatementRefused` for a value that a node cannot read back from its column."""
    kinds = [(lowered(name), kind.upper()) for name, kind in columns]
    named = dict(kinds)
    for column, value in values:
        if isinstance(column, str):
            _refuse_value(named.get(column, ""), value, column)
        elif column < len(kinds):
            _refuse_value(kinds[column][1], value, kinds[column][0])


def _refuse_value(kind: str, value: str, where: str) -> None:
    if value in _UNREADABLE.get(kind, ((), ""))[0]:
        raise _unreadable(_NAMES[value], kind, where)


def _unreadable(what: str, kind: str, where: str) -> StatementRefused:
    why = f"{_ANSWERS}; write {_UNREADABLE[kind][1]}"
    return StatementRefused(f"{what} in a {kind} column ({where})", why)


def unreadable(columns: Iterable[tuple[Any, ...]]) -> str:
    """Return a question after how many cells of each of the `TYPED_COLUMNS` would end a node."""
    return "SELECT " + ", ".join(
        f"(SELECT count(*) FROM {quoted_name(table)} "
        f"WHERE typeof({quoted_name(column)}) IN {_UNREADABLE[kind][0]})"
        for table, column, kind in columns
    )


def refuse_written(
    before: Mapping[tuple[Any, ...], int], after: Mapping[tuple[Any, ...], int]
) -> None:
    """Raise `StatementRefused` where there are more unreadable cells than before, by column."""
    if sum(after.values()) <= sum(before.values()):
        return
    table, column, kind = next(c for c, count in after.items() if count > before.get(c, 0))
    *names, last = (_NAMES[value] for value in _UNREADABLE[kind][0])
    raise _unreadable(f"{', '.join(names)} or {last}", kind, f"{table}.{column}")


def dropped(sql: str) -> list[str]:
    """Return the names of the tables that a statement would drop."""
    found = tokens(sql)
    if _words(found[:2]) != ["DROP", "TABLE"]:
        return []
    return [_name(found[-2] if found[-1][0] == "semicolon" else found[-1])]


def sent(sql: str) -> str:
    """Return a statement of a migration as it is sent.

    What answers rows is sent so that it answers their number: a cell may be what ends a node.
    """
    verb = _verb(tokens(sql))
    return f"SELECT count(*) FROM ({sql})" if verb in {"SELECT", "VALUES"} else sql


def answers(sql: str) -> bool:
    """Whether a statement has to be sent as a question: one that answers columns."""
    found = tokens(sql)
    if _word(found, 0) == "PRAGMA":
        return all(text != "=" for _, text, _ in found)
    return _verb(found) in _ROWS


def is_repeatable(sql: str, *, rows: bool) -> bool:
    """Whether a statement may be sent again, outside of a transaction, if its answer was lost."""
    return rows or _word(tokens(sql), 0) in {"BEGIN", "PRAGMA"}


def _verb(found: Sequence[Token]) -> str:
    """Return what a statement does: of one that begins with WITH, the first verb outside of it."""
    if _word(found, 0) != "WITH":
        return _word(found, 0)
    depth = 0
    for at, (_, text, _) in enumerate(found):
        depth += (text == "(") - (text == ")")
        if depth == 0 and (word := _word(found, at)) in _ROWS | _CHANGES:
            return word
    return ""


def _pragma(found: Sequence[Token]) -> tuple[str, str | None]:
    rest = [token for token in found[1:] if token[0] != "semicolon"]
    if len(rest) > 1 and rest[1][1] == ".":
        rest = rest[2:]
    return (_name(rest[0]) if rest else ""), (rest[2][1] if len(rest) > 2 else None)  # noqa: PLR2004


def _literal(value: Sequence[Token]) -> str:
    """Return the type of a plain value in a column that takes numbers; nothing of any other."""
    if value and value[0][1] in {"+", "-"}:
        value = value[1:]
    if len(value) != 1:
        return ""
    kind, text, _ = value[0]
    if kind == "number" or (text[0] == "'" and _NUMBER.fullmatch(text[1:-1])):
        return "integer" if _WHOLE.fullmatch(text.strip("'")) else "real"
    if kind == "literal" and text[0] in "'xX":
        return "text" if text[0] == "'" else "blob"
    return "integer" if text.upper() in {"NULL", "TRUE", "FALSE"} else ""


def _words(found: Sequence[Token]) -> list[str]:
    return [_word(found, at) for at in range(len(found))]


def _word(found: Sequence[Token], at: int) -> str:
    kind, text, _ = found[at] if at < len(found) else ("", "", 0)
    return text.upper() if kind == "word" else ""


def _name(token: Token) -> str:
    kind, text, _ = token
    if kind == "literal" and text[0] in "\"`['":
        text = text[1:-1].replace(text[0] * 2, text[0])
    return lowered(text) if kind in {"word", "literal"} else ""
