"""Rebuilds a table: what ALTER TABLE cannot change, done as SQLite recommends.

https://sqlite.org/lang_altertable.html#otheralter
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any

from wave_async.database.history import TABLE
from wave_async.errors import RebuildRefused
from wave_async.model.script import LETTER, LETTER_OR_DIGIT, lowered, quoted_name, unquoted

_Ask = Callable[..., list[Any]]

_OBJECTS = """SELECT type, name, tbl_name, sql FROM main.sqlite_schema WHERE sql IS NOT NULL
    AND (type IN ('view', 'trigger') OR type = 'index' AND tbl_name = ? COLLATE NOCASE)"""
_TEMP_TRIGGERS = "SELECT sql FROM temp.sqlite_schema WHERE type = 'trigger'"
_COLUMNS = "SELECT name, hidden, pk FROM pragma_table_xinfo(?, 'main')"
_BOOKKEEPING = """SELECT name FROM main.sqlite_schema
    WHERE name IN ('sqlite_sequence', 'sqlite_stat1', 'sqlite_stat4')"""
_KEY_INDEX = "SELECT 1 FROM pragma_index_list(?, 'main') WHERE origin = 'pk'"
_REFERENCES = """SELECT DISTINCT m.name
    FROM main.sqlite_schema m, pragma_foreign_key_list(m.name, 'main') k
    WHERE m.type = 'table' AND k."table" = ? COLLATE NOCASE ORDER BY 1"""

_SPACE = r"(?:[ \t\n\f\r]|--[^\n]*(?:\n|\Z)|/\*(?:[^*]|\*(?!/))*+\*/)"
_NAME = (
    rf"""(?:{LETTER}{LETTER_OR_DIGIT}*+|"(?:[^"]|"")*+\""""
    r"""|`(?:[^`]|``)*+`|'(?:[^']|'')*+'|\[[^\]]*+\])"""
)


def _syntax(pattern: str) -> re.Pattern[str]:
    """Compile a pattern in which ~ is a white space or comment, and @ a name in any quotes."""
    return re.compile(pattern.replace("~", _SPACE).replace("@", _NAME), re.IGNORECASE)


_CREATE_TABLE = _syntax(
    r"~*+CREATE~++TABLE\b~*+(?:IF~++NOT~++EXISTS\b~*+)?(?:(?P<schema>@)~*+\.~*+)?(?P<name>@)~*+\("
)
# What SQLite stores of the others begins so, whatever was written before the name.
_STORED = _syntax(r"CREATE (UNIQUE )?(INDEX|TRIGGER|VIEW) (@)")
_EVENT = _syntax(
    r"CREATE TRIGGER @~*+(?:(?:BEFORE|AFTER|INSTEAD~++OF)~++)?"
    r"(?P<event>INSERT|UPDATE|DELETE)\b(?:~++OF\b~*+(?P<columns>@(?:~*+,~*+@)*))?"
)
_AGAIN = count()  # one EXPLAIN twice, from sqlite3's cache of statements, sees no change of schema
_QUOTED = re.compile(r'"(?:[^"]|"")*+"')


def rebuild_table(
    connection: sqlite3.Connection,
    table: str,
    new_sql: str,
    columns: Mapping[str, str] | None = None,
) -> None:
    """Give a table another definition; its rows stay, and all that hangs on it.

    Works in the transaction that the caller has open. `new_sql` is the whole CREATE TABLE of the
    same name. Columns of one name are copied; `columns` maps a new one to an SQL expression over
    the old table. Indexes, triggers, views, statistics and the counter of an AUTOINCREMENT go
    along, and rowids, unless an INTEGER PRIMARY KEY that is filled says other ones. What other
    tables' keys refer to is not looked at: foreign keys are checked by who switched them off.

    Raises `RebuildRefused` for what is no ordinary table or no definition of it, where enforced
    foreign keys refer to the table, if an index, trigger or view does not fit the new one, and if
    not all rows arrived; SQLite's own error where it refuses the definition or a row. The
    transaction is to be rolled back then.
    """
    rows, text = connection.row_factory, connection.text_factory
    connection.row_factory, connection.text_factory = None, str
    try:
        if not connection.in_transaction:
            raise RebuildRefused(table, "no transaction is open; say BEGIN first")
        _rebuild(
            lambda sql, *values: connection.execute(sql, values).fetchall(),
            table,
            new_sql,
            {lowered(name): expression for name, expression in (columns or {}).items()},
        )
    finally:
        connection.row_factory, connection.text_factory = rows, text


def _rebuild(ask: _Ask, table: str, new_sql: str, given: Mapping[str, str]) -> None:
    old, body = _stored_name(ask, table), _body(table, new_sql)
    new = _unused_name(ask)
    ask(f"CREATE TABLE main.{new} ({body}")
    _refuse_enforced_keys(ask, old, new)
    gone = _names(ask, old) - _names(ask, new)
    probe = f"{new}probe"
    before, temporary = _broken(ask, old, probe, gone), ask(_TEMP_TRIGGERS)
    mine = [row for row in ask(_OBJECTS, old) if lowered(row[2]) == lowered(old)]
    _copy(ask, old, new, given)
    statistics = _hand_over(ask, old, new)
    ask(f"DROP TABLE main.{quoted_name(old)}")
    with _legacy_alter_table(ask):
        ask(f"ALTER TABLE main.{new} RENAME TO {quoted_name(old)}")
    for name in statistics:
        ask(f"UPDATE main.{name} SET tbl = ? WHERE tbl = ?", old, new)
    for found in mine:
        again = _STORED.sub(r"CREATE \1\2 main.\3", found[3])
        if reason := _never_fires(found[3], gone) or _failure(ask, again):
            raise _unfit(old, found, reason)
    left = ask(_TEMP_TRIGGERS)
    for (sql,) in (row for row in temporary if row not in left):
        ask(sql.replace("CREATE", "CREATE TEMP", 1))
    after = _broken(ask, old, probe, gone)
    if unfit := {found: reason for found, reason in after.items() if found not in before}:
        culprit = _culprit(ask, unfit)
        raise _unfit(old, culprit, unfit[culprit])


def _stored_name(ask: _Ask, table: str) -> str:
    """Return a table's name as it is stored."""
    if lowered(table).startswith("sqlite_") or lowered(table) == TABLE:
        raise RebuildRefused(table, "it is not the application's own")
    found = ask("SELECT name, type FROM pragma_table_list(?) WHERE schema = 'main'", table)
    if not found:
        raise RebuildRefused(table, "there is no such table")
    ((name, kind),) = found
    if kind != "table":
        what = {"virtual": "a virtual table", "shadow": "a part of a virtual table"}
        raise RebuildRefused(table, f"it is {what.get(kind, 'a view')}")
    return str(name)


def _body(table: str, new_sql: str) -> str:
    """Return what follows the first parenthesis of a table's definition."""
    head = _CREATE_TABLE.match(new_sql)
    if head is None:
        raise RebuildRefused(table, "the new definition is not CREATE TABLE name (...)")
    if head["schema"] and lowered(unquoted(head["schema"])) != "main":
        raise RebuildRefused(table, f"the new definition is in another database: {head['schema']}")
    if lowered(unquoted(head["name"])) != lowered(table):
        raise RebuildRefused(table, f"the new definition is of another table: {head['name']}")
    return new_sql[head.end() :]


def _refuse_enforced_keys(ask: _Ask, table: str, new: str) -> None:
    """Raise, and leave nothing behind, where DROP TABLE would delete the rows and keys act on it.

    https://sqlite.org/foreignkeys.html#fk_schemacommands
    """
    if ask("PRAGMA foreign_keys") == [(1,)] and (children := ask(_REFERENCES, table)):
        ask(f"DROP TABLE main.{new}")
        names = ", ".join(table if name == new else name for (name,) in children)
        raise RebuildRefused(
            table,
            f"foreign keys are enforced and refer to it from {names}; "
            "say foreign_keys=False on the migration (by hand: PRAGMA foreign_keys=OFF first)",
        )


def _unused_name(ask: _Ask) -> str:
    """Return a name that needs no quotes and stands nowhere in the schema."""
    schema = ask("SELECT name || ' ' || coalesce(sql, '') FROM main.sqlite_schema")
    known = "\n".join(text for (text,) in schema).lower()
    return next(name for n in count() if (name := f"_rebuilt_{n}_") not in known)


def _copy(ask: _Ask, old: str, new: str, given: Mapping[str, str]) -> None:
    """Copy all rows, or raise."""
    source = {lowered(n): quoted_name(n) for n, *_ in ask(_COLUMNS, old)} | dict(given)
    columns = ask(_COLUMNS, new)
    target = {lowered(n): n for n, hidden, _ in columns if not hidden}
    if unknown := [key for key in given if key not in target]:
        raise RebuildRefused(old, f"the new definition has no such column: {', '.join(unknown)}")
    filled = {quoted_name(n): f"({source[key]}\n)" for key, n in target.items() if key in source}
    if not filled:
        raise RebuildRefused(old, "no column of the new definition is in the old one")
    rowids = _rowid(ask, old), _rowid(ask, new)
    key = {lowered(n) for n, _, pk in columns if pk} if not ask(_KEY_INDEX, new) else set()
    if all(rowids) and not key & source.keys():
        filled[rowids[1]] = rowids[0]
    ask(  # ABORT: the new table's own ON CONFLICT must neither drop rows nor end the transaction
        f"INSERT OR ABORT INTO main.{new} ({', '.join(filled)})"
        f" SELECT {', '.join(filled.values())} FROM main.{quoted_name(old)}"
    )
    counts = (
        f"SELECT (SELECT count(*) FROM main.{quoted_name(old)}), (SELECT count(*) FROM main.{new})"
    )
    ((had, has),) = ask(counts)
    if had != has:
        raise RebuildRefused(old, f"it had {had:,} rows and would have {has:,}")


def _rowid(ask: _Ask, table: str) -> str:
    """Return a name of a table's rowid that no column hides, or "" without one."""
    ((without,),) = ask("SELECT wr FROM pragma_table_list(?) WHERE schema = 'main'", table)
    hidden = _names(ask, table)
    free = (name for name in ("rowid", "oid", "_rowid_") if name not in hidden)
    return "" if without else next(free, "")


def _names(ask: _Ask, table: str) -> set[str]:
    return {lowered(name) for name, *_ in ask(_COLUMNS, table)}


def _hand_over(ask: _Ask, old: str, new: str) -> list[str]:
    """Save the counter and the statistics from DROP TABLE; answers the tables of the latter."""
    own = {name for (name,) in ask(_BOOKKEEPING)}
    if "sqlite_sequence" in own:  # copying gave the new table its row, if it counts at all
        ask(
            "UPDATE main.sqlite_sequence SET seq = max(seq, coalesce((SELECT max(seq)"
            " FROM main.sqlite_sequence WHERE name = ?), 0)) WHERE name = ?",
            old,
            new,
        )
    statistics = sorted(own - {"sqlite_sequence"})
    for name in statistics:
        ask(f"UPDATE main.{name} SET tbl = ? WHERE tbl = ?", new, old)
    return statistics


@contextmanager
def _legacy_alter_table(ask: _Ask) -> Iterator[None]:
    """Let views and triggers name a table that is not there while another gets its name."""
    ((before,),) = ask("PRAGMA legacy_alter_table")
    ask("PRAGMA legacy_alter_table = ON")
    try:
        yield
    finally:
        ask(f"PRAGMA legacy_alter_table = {before}")


_Object = tuple[str, str, str, str]
"""Kind, name, table and SQL of an index, trigger or view, as SQLite stores them."""


def _broken(ask: _Ask, table: str, probe: str, gone: Collection[str]) -> dict[_Object, str]:
    """Find the views, triggers and indexes of a table that do not work, with SQLite's reasons.

    Where "x" is no column SQLite takes it for the text 'x' (https://sqlite.org/quirks.html#dblquote),
    so what quotes a column that is gone is tried under another name with [x].
    """

    def bracketed(quoted: re.Match[str]) -> str:
        name = unquoted(quoted[0])
        return f"[{name}]" if lowered(name) in gone else quoted[0]

    def works(found: _Object) -> None:
        kind, _, on, sql = found
        _prove(ask, found)
        if (strict := _QUOTED.sub(bracketed, sql)) != sql:
            ask(_STORED.sub(rf"CREATE \2 main.{probe}", strict))
            try:
                _prove(ask, (kind, probe, on, sql))
            finally:
                ask(f"DROP {kind} main.{probe}")

    reasons = {found: _failure(works, found) for found in ask(_OBJECTS, table)}
    return {found: reason for found, reason in reasons.items() if reason}


def _prove(ask: _Ask, found: _Object) -> None:
    """Let SQLite compile what uses a view or fires a trigger; raises what it says."""
    kind, name, on, sql = found
    if kind == "view":
        ask(f"EXPLAIN SELECT * FROM main.{quoted_name(name)} -- {next(_AGAIN)}")
    elif event := _EVENT.match(sql):
        fires = {"INSERT": "INSERT INTO {} DEFAULT VALUES", "DELETE": "DELETE FROM {}"}
        change = fires.get(event["event"].upper())
        if change is None:
            names = [quoted_name(n) for n, hidden, _ in ask(_COLUMNS, on) if not hidden]
            change = "UPDATE {} SET " + ", ".join(f"{n} = {n}" for n in names)
        ask(f"EXPLAIN {change.replace('{}', f'main.{quoted_name(on)}', 1)} -- {next(_AGAIN)}")


def _failure(action: Callable[..., object], *values: object) -> str:
    """Do something; return why SQLite cannot, or nothing."""
    try:
        action(*values)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            raise
        return str(error)
    return ""


def _culprit(ask: _Ask, broken: Mapping[_Object, str]) -> _Object:
    """Return what to blame: with a trigger fails all that fires it, and all that fires that."""
    if others := [found for found in broken if found[0] != "trigger"]:
        return others[0]
    triggers = list(broken)
    while True:
        first = triggers.pop(0)
        ask(f"DROP TRIGGER main.{quoted_name(first[1])}")
        if not any(_failure(_prove, ask, other) for other in triggers):
            return first


def _unfit(table: str, found: _Object, reason: str) -> RebuildRefused:
    return RebuildRefused(
        table,
        f"{found[0]} {found[1]} does not fit the new definition: {reason}; "
        "drop it before, and create it anew after",
    )


def _never_fires(sql: str, gone: Collection[str]) -> str:
    """Say what SQLite does not: that a trigger waits for changes of a column that is gone."""
    event = _EVENT.match(sql)
    names = re.findall(_NAME, re.sub(_SPACE, " ", event["columns"] or "")) if event else []
    return next((f"no such column: {n}" for n in names if lowered(unquoted(n)) in gone), "")
