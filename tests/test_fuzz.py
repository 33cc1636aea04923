"""What random scripts, histories and runs may never do; more examples with WAVE_EXAMPLES."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import chain, cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any, ClassVar

import aiosqlite
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from wave_async import (
    AppliedMigration,
    Direction,
    Migration,
    MigrationManager,
    Plan,
    SingleConnectionPool,
    WaveError,
)
from wave_async.errors import (
    ChecksumMismatch,
    DatabaseLocked,
    HistoryError,
    InvalidScript,
    InvalidTarget,
    Irreversible,
    MigrationFailed,
    NeedsRecovery,
    NewerDatabase,
    OutOfOrder,
    PlanChanged,
    UnknownChecksum,
    UnknownMigration,
)
from wave_async.model import plan
from wave_async.model.catalogue import FIRST_TIMESTAMP, Catalogue, Entry
from wave_async.model.plan import Rules
from wave_async.model.schema import BOOKKEEPING
from wave_async.model.script import parse

pytestmark = pytest.mark.chaos

EXAMPLES = int(os.environ.get("WAVE_EXAMPLES", "60"))
FUZZ = settings(
    deadline=None,
    derandomize=True,
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


# --- The splitter against sqlite3.complete_statement -------------------------------------------


def any_case(words: Iterable[str]) -> st.SearchStrategy[str]:
    """Draw the words in upper, lower and mixed case."""
    cases = [str.upper, str.lower, str.title, str.swapcase]
    return st.builds(
        lambda word, case: case(word), st.sampled_from(list(words)), st.sampled_from(cases)
    )


KEYWORDS = any_case(
    [
        *("create ", "temp ", "temporary ", "trigger ", "explain ", "end", "END ", "begin "),
        *("query plan ", "table ", "case when ", "select ", "insert into ", "update ", "end;"),
    ]
)
# `EXPLAIN 1.create` is no SQL: there SQLite's tokenizer and its complete.c disagree, and nobody
# minds. So a number with a point is never followed by a word.
PIECES = st.sampled_from(
    [
        *(";", ";", ";", " ;\n", " ", "\t", "\f", "\v", "\r", "\n", "\r\n", "é", "表", "\xa0", "𝄞"),
        *(
            "'a;b'",
            "'it''s;'",
            "''",
            "'",
            '"a;"',
            '""";"',
            '"',
            "`;`",
            "```;`",
            "`",
            "[;]",
            "[",
            "]",
        ),
        *("--", "-- c;\n", "-- '\r\n", "--\n", "/*", "*/", "/* ; */", "/**/", "/***/", "/*/", "/"),
        *("x'00'", "x", "E'a'", "$end", ":end", "@temp", "#", "1", "1. ", ".5", "0x1F", "1e+5 "),
        *("(", ")", ",", "*", "-", "->>", "||", "<>", "=", "!", "?1", "\\", "a", "_end", "end_"),
    ]
)
TRIGGERS = st.builds(
    "{0} {1}{2} {3} AFTER INSERT ON t BEGIN {4}; {5}; {6}".format,
    any_case(["create", "explain create", "explain query plan create"]),
    any_case(["", "temp ", "temporary ", "temp/* ; */"]),
    any_case(["trigger"]),
    st.sampled_from(["a", '"end"', "[;]", "trigger", "end"]),
    st.sampled_from(
        ["SELECT 1", "SELECT ';END;'", "SELECT CASE 1 WHEN 2 THEN 3 END", "SELECT end"]
    ),
    st.sampled_from(["SELECT 2", "", "-- END;\n", "/* ;END; */", "END SELECT"]),
    any_case(["end", "end;", "end -- ;\n;", "end/**/;", "ending;", "'end';", ""]),
)
TEXTS = st.lists(
    st.one_of(KEYWORDS, PIECES, PIECES, TRIGGERS, st.text("'\"`[]-/*;\n\r ae", max_size=4)),
    max_size=24,
).map("".join)

CLOSING = {"'": "'", '"': '"', "`": "`", "[": "]"}


class Unterminated(Exception):
    """A quote or comment that begins at `at` and never ends."""

    def __init__(self, at: int) -> None:
        self.at = at


def tokens(text: str) -> Iterator[tuple[int, str]]:
    """Yield each token with its place: SQLite's rules again, by hand and without a regex."""
    at = 0
    while at < len(text):
        end = token_end(text, at)
        if text[at] not in " \t\n\f\r" and not text.startswith(("--", "/*"), at):
            yield at, text[at:end]
        at = end


def token_end(text: str, at: int) -> int:
    """Find where the token, the comment or the blank that begins at a place ends."""
    if text.startswith("--", at):
        return text.find("\n", at) + 1 or len(text)
    if text.startswith("/*", at):
        return _found(text, "*/", at + 2, at) + 2
    if closing_quote := CLOSING.get(text[at]):
        end = _found(text, closing_quote, at + 1, at) + 1
        while closing_quote != "]" and text.startswith(closing_quote, end):
            end = _found(text, closing_quote, end + 1, at) + 1
        return end
    end = at + 1
    while _is_word(text[at]) and end < len(text) and _is_word(text[end]):
        end += 1
    return end


def _found(text: str, what: str, start: int, opened: int) -> int:
    if (at := text.find(what, start)) < 0:
        raise Unterminated(opened)
    return at


def _is_word(character: str) -> bool:
    return character > "\x7f" or (character.isalnum() or character in "_$")


def _closed(text: str) -> bool:
    try:
        list(tokens(text))
    except Unterminated:
        return False
    return True


def _split(text: str) -> list[str]:
    return [statement.sql for statement in parse(text, "fuzz").statements]


@FUZZ
@given(TEXTS)
def test_statements_are_complete(text: str) -> None:
    """A statement ends at the first semicolon at which SQLite calls it complete, never before."""
    assume(_closed(text))
    statements = _split(text)

    for sql in statements[:-1]:
        assert sqlite3.complete_statement(sql + ";")
    for sql in statements:
        cuts = [at + 1 for at, character in enumerate(sql) if character == ";"]
        assert not any(sqlite3.complete_statement(sql[:cut]) for cut in cuts)


@FUZZ
@given(TEXTS)
def test_last_statement_lacks_no_more_than_the_script(text: str) -> None:
    """Only a script that SQLite calls incomplete has a last statement that is incomplete."""
    assume(_closed(text))
    statements = _split(text)
    assume(statements)

    whole = sqlite3.complete_statement(text + "\n;")
    assert whole == sqlite3.complete_statement(statements[-1] + ";")
    assert whole or sqlite3.complete_statement(statements[-1] + ";END;")


@FUZZ
@given(TEXTS, st.booleans())
def test_nothing_is_lost(text: str, mark: bool) -> None:  # noqa: FBT001 - Hypothesis calls it
    """The tokens of the statements, on their lines, are the script's, but for empty statements."""
    assume(_closed(text))
    left = list(tokens(text))

    for statement in parse("\ufeff" * mark + text, "fuzz").statements:
        while left[0][1] == ";":
            left.pop(0)
        assert 1 + text.count("\n", 0, left[0][0]) == statement.line
        for at, token in tokens(statement.sql):
            assert left.pop(0)[1] == token, at
        assert not left or left[0][1] == ";"
    assert {";"} >= {token for _, token in left}


@FUZZ
@given(TEXTS)
def test_exactly_the_unterminated_is_refused(text: str) -> None:
    """A script is refused if and only if a quote or a comment in it never ends."""
    if _closed(text):
        parse(text, "fuzz")
    else:
        with pytest.raises(InvalidScript):
            parse(text, "fuzz")


@FUZZ
@given(
    TEXTS, st.sampled_from(["'", '"', "`", "[", "/*"]), st.sampled_from(["", "\n", "''", "\n''"])
)
def test_the_unterminated_is_named_by_its_line(text: str, opening: str, rest: str) -> None:
    """The refusal names the line on which the unterminated quote or comment begins."""
    assume(_closed(text))
    text += "\n" + opening + rest
    with pytest.raises(Unterminated) as expected:
        list(tokens(text))
    with pytest.raises(InvalidScript) as refused:
        parse(text, "fuzz")

    assert 1 + text.count("\n", 0, expected.value.at) == refused.value.line


@FUZZ
@given(TEXTS, TEXTS, st.sampled_from(["\0", "\ud800", "\udfff"]))
def test_what_is_no_text_is_refused(before: str, after: str, character: str) -> None:
    """A NUL or a lone surrogate is refused wherever it stands, with its line."""
    with pytest.raises(InvalidScript) as refused:
        parse(before + character + after, "fuzz")

    assert 1 + before.count("\n") == refused.value.line


# --- The splitter against the effect of executescript ------------------------------------------

LAYOUT = [
    *(" ", " ", "\n", "\r\n", "\t", "\f ", "--\n", "-- ; ' END;\r\n", '-- " ` [ /*\n', "/**/"),
    *("/* ; ' END; */", "/***/ ", "/* ;\n * -- \r\n **/", "\n\n"),
]
NASTY = [
    *("", ";", "'", "''", '"', "`", "[", "]", "--", "-- ;\n", "/*", "*/", "END;", "; END ;", "é;"),
    *("表", "a\nb", "a\r\nb", "\t", "BEGIN", "CREATE TRIGGER", "\ufeff", "\x0b", "\\", "𝄞", "%s?1"),
]
NAMES = ["t", "a b", "a;b", "it's", 'say "x;"', "--", "/*", "*/", "`", "[", "END;", "表;", "x\ny"]
BARE = ["end", "trigger", "temp", "begin", "explain", "temporary"]

Tokens = list[str]


class Writer:
    """Writes a valid script, token by token; Hypothesis decides."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self._draw = draw
        self._tables: dict[str, int] = {}
        self._made = 0
        self._taken: set[str] = set()
        self._views: list[str] = []

    def script(self, mark: str) -> str:
        """Write a table, and some statements after it."""
        return self.laid_out(self.statements(), mark)

    def statements(self) -> list[Tokens]:
        """Write the tokens of a table, and of some statements after it."""
        kinds = [self._table, self._insert, self._update, self._delete, self._index, self._view]
        kinds += [
            self._trigger,
            self._trigger,
            self._column,
            self._pragma,
            self._drop,
            self._explain,
        ]
        statements = [self._table()]
        statements += [self._one(kinds)() for _ in range(self._draw(st.integers(0, 7)))]
        return [self._spelt(statement) for statement in statements]

    def laid_out(self, statements: Iterable[Tokens], mark: str = "") -> str:
        """Put comments and white space between tokens, and empty statements between statements."""
        text = self._one(["", "\ufeff", "\n-- first\n", ";;"])
        for statement in statements:
            text += (
                mark
                + self._spaced(statement)
                + ";"
                + self._one(["", "\n", *LAYOUT, ";", " ; ;\r\n"])
            )
        return (
            text.rstrip("; \r\n") if self._one([True, False]) else text + self._one(["", "-- end"])
        )

    def _one(self, of: Iterable[Any]) -> Any:
        return self._draw(st.sampled_from(list(of)))

    def _spelt(self, statement: Tokens) -> Tokens:
        case = self._one([str.upper, str.lower, str.title])
        keywords = [t.isascii() and t.isalpha() and t.isupper() for t in statement]
        return [case(t) if k else t for t, k in zip(statement, keywords, strict=True)]

    def _spaced(self, statement: Tokens) -> str:
        text = ""
        layout = cycle(self._draw(st.lists(st.sampled_from(LAYOUT), min_size=1, max_size=4)))
        for token in statement:
            if text and not (text.endswith(("(", ",", ";")) or token in "(),;"):
                text += next(layout)
            elif text:
                text += next(layout).replace(" ", "")
            text += token
        return text

    def _name(self) -> str:
        self._made += 1
        return self._one([*(f"{name}{self._made}" for name in NAMES), *BARE])

    def _new_name(self, prefix: str = "") -> str:
        name = prefix + self._name()
        name = f"{name}{self._made}" if name in self._taken else name
        self._taken.add(name)
        return name

    def _quoted(self, name: str) -> str:
        styles = ['"' + name.replace('"', '""') + '"', "`" + name.replace("`", "``") + "`"]
        styles += [f"[{name}]"] * ("]" not in name)
        styles += [name] * (name in BARE)
        return self._one(styles)

    def _literal(self) -> str:
        text = self._one(NASTY)
        string = "'" + text.replace("'", "''") + "'"
        return self._one(
            [string, string, f"x'{text.encode().hex()}'", "NULL", "-1.5e3", ".5", "0x1F"]
        )

    def _old_table(self) -> str:
        return self._one(sorted(self._tables))

    def _case(self) -> Tokens:
        return [
            "CASE",
            "WHEN",
            self._literal(),
            "THEN",
            self._literal(),
            "ELSE",
            self._literal(),
            "END",
        ]

    def _table(self) -> Tokens:
        name = self._new_name()
        self._tables[name] = self._draw(st.integers(1, 3))
        columns = [
            [f"c{number}", *self._one([[], ["TEXT"], ["DEFAULT", "(", *self._case(), ")"]])]
            for number in range(self._tables[name])
        ]
        return ["CREATE", "TABLE", self._quoted(name), "(", *_commas(columns), ")"]

    def _columns(self, table: str) -> Tokens:
        return [f"c{number}" for number in range(self._tables[table])]

    def _insert(self) -> Tokens:
        table = self._old_table()
        columns = self._columns(table)
        values = [self._one([self._case(), [self._literal()]]) for _ in columns]
        into = ["INTO", self._quoted(table), "(", *_commas([c] for c in columns), ")"]
        return [self._one(["INSERT", "REPLACE"]), *into, "VALUES", "(", *_commas(values), ")"]

    def _update(self) -> Tokens:
        table = self._old_table()
        column = self._one(self._columns(table))
        where = self._one([[], ["WHERE", column, "IS", "NOT", self._literal()]])
        return ["UPDATE", self._quoted(table), "SET", column, "=", *self._case(), *where]

    def _delete(self) -> Tokens:
        return [
            "DELETE",
            "FROM",
            self._quoted(self._old_table()),
            "WHERE",
            "c0",
            "IS",
            self._literal(),
        ]

    def _index(self) -> Tokens:
        table = self._old_table()
        on = ["ON", self._quoted(table), "(", self._one(self._columns(table)), "DESC", ")"]
        return ["CREATE", "INDEX", self._quoted(self._new_name("i")), *on]

    def _view(self) -> Tokens:
        select = ["SELECT", *self._case(), "AS", self._quoted(self._name()), ",", "*", "FROM"]
        name, table = self._new_name(), self._old_table()
        self._views.append(name)
        return ["CREATE", "VIEW", self._quoted(name), "AS", *select, self._quoted(table)]

    def _trigger(self) -> Tokens:
        event, row = self._one([("INSERT", "new"), ("UPDATE", "new"), ("DELETE", "old")])
        table = self._quoted(self._old_table())
        when = self._one([[], ["WHEN", f"{row}.c0", "IS", "NOT", self._literal()]])
        each = self._one([[], ["FOR", "EACH", "ROW"]])
        kinds = [self._insert, self._update, self._delete, lambda: ["SELECT", *self._case()]]
        body = [[*self._one(kinds)(), ";"] for _ in range(self._draw(st.integers(1, 3)))]
        name = self._quoted(self._new_name(self._one(["", "tr"])))
        head = ["CREATE", "TRIGGER", *self._one([[], ["IF", "NOT", "EXISTS"]]), name]
        head += [self._one(["AFTER", "BEFORE"]), event, "ON", table, *each, *when, "BEGIN"]
        return [*head, *chain.from_iterable(body), "END"]

    def _column(self) -> Tokens:
        table = self._old_table()
        self._tables[table] += 1
        added = [self._columns(table)[-1], "DEFAULT", self._literal()]
        return ["ALTER", "TABLE", self._quoted(table), "ADD", "COLUMN", *added]

    def _pragma(self) -> Tokens:
        return ["PRAGMA", "user_version", "=", str(self._draw(st.integers(0, 99)))]

    def _drop(self) -> Tokens:
        what = self._one(["VIEW", "INDEX", "TRIGGER"])
        names = self._views if what == "VIEW" else []
        return ["DROP", what, "IF", "EXISTS", self._quoted(self._one([*names, "nothing"]))]

    def _explain(self) -> Tokens:
        query = self._one([[], ["QUERY", "PLAN"]])
        return ["EXPLAIN", *query, *self._one([self._trigger, self._insert, self._update])()]


def _commas(parts: Iterable[Tokens]) -> Tokens:
    return [token for part in parts for token in (*part, ",")][:-1]


@st.composite
def scripts(draw: Any, mark: str = "") -> str:
    """Scripts that SQLite runs to their end, a mark before each statement."""
    return Writer(draw).script(mark)


def dump(connection: sqlite3.Connection, *without: str) -> dict[str, Any]:
    """Return all that a database holds, but for some tables."""
    schema = connection.execute("SELECT name, type, tbl_name, sql FROM sqlite_schema").fetchall()
    contents: dict[str, Any] = {
        name: (kind, table, sql) for name, kind, table, sql in schema if table not in without
    }
    for name, (kind, *_) in list(contents.items()):
        if kind == "table":
            quoted = name.replace('"', '""')
            rows = connection.execute(f'SELECT rowid, * FROM "{quoted}" ORDER BY rowid').fetchall()
            contents[f"rows of {name}"] = rows
    contents["user_version"] = connection.execute("PRAGMA user_version").fetchone()
    return contents


def _scratch(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    return connection


def _built_by_sqlite(script: str, folder: Path) -> dict[str, Any]:
    with closing(_scratch(folder / "whole.db")) as whole:
        whole.executescript(script)
        return dump(whole)


@FUZZ
@given(scripts())
def test_split_does_what_executescript_does(script: str) -> None:
    """Run one by one, the statements of a script build what SQLite builds from the whole."""
    with TemporaryDirectory() as folder, closing(_scratch(Path(folder, "split.db"))) as single:
        for sql in _split(script):
            single.execute(sql).fetchall()

        assert _built_by_sqlite(script, Path(folder)) == dump(single)


async def _migrated(path: Path, *migrations: Migration) -> None:
    async with SingleConnectionPool(path) as pool:
        await MigrationManager(pool, migrations).migrate_up()


@FUZZ
@given(scripts())
def test_a_migration_does_what_executescript_does(script: str) -> None:
    """Applied as a migration, a script builds what SQLite builds from it; nothing is refused."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "engine.db")
        asyncio.run(_migrated(path, Migration(1, "fuzz", script)))
        with closing(sqlite3.connect(path)) as engine:
            assert _built_by_sqlite(script, Path(folder)) == dump(engine, *BOOKKEEPING)


@FUZZ
@given(scripts(mark="\ufeff"))
def test_a_byte_order_mark_before_any_statement(script: str) -> None:
    """Scripts that were saved with byte order marks may be put together: SQLite skips each."""
    with TemporaryDirectory() as folder, closing(_scratch(Path(folder, "split.db"))) as single:
        expected = _built_by_sqlite(script, Path(folder))
        for sql in _split(script):
            single.execute(sql).fetchall()

        assert expected == dump(single)


@FUZZ
@given(st.data())
def test_only_tokens_count(data: st.DataObject) -> None:
    """A record stays valid however its script is laid out anew, and not with any other token."""
    writer = Writer(data.draw)
    statements = writer.statements()
    row = _recorded(Entry(Migration(1, "m", writer.laid_out(statements))))

    def problems() -> list[HistoryError]:
        script = Migration(1, "m", writer.laid_out(statements))
        return list(plan.problems(Catalogue([script]), [row], Rules()))

    assert [] == problems()

    statement = data.draw(st.sampled_from(statements))
    place = data.draw(st.sampled_from([n for n, token in enumerate(statement) if token != ";"]))
    other = data.draw(st.sampled_from(["", "x", "'x'", ",", ")", "0", *chain(*statements)]))
    assume(other != ";" and _unix(other) != _unix(statement[place]))
    statement[place] = other
    assert [ChecksumMismatch] == [type(problem) for problem in problems()]


def _unix(token: str) -> str:
    return token.replace("\r\n", "\n")


# --- Plans -------------------------------------------------------------------------------------

CHECKSUMS = ["", "w1:", "w1:short", "w2:a:b", "md5:0123", "deadbeef", "w1::"]


@st.composite
def catalogues(draw: Any) -> Catalogue:
    """Catalogues of numbers or timestamps, given in any order, some with no way back."""
    first = draw(st.sampled_from([0, 1, 1, 2, FIRST_TIMESTAMP - 2]))
    numbers = st.integers(0, 7).map(lambda count: list(range(first, first + count)))
    stamps = st.lists(st.integers(FIRST_TIMESTAMP, 2**63 - 1), unique=True, max_size=7)
    versions = draw(st.one_of(numbers, numbers, stamps).flatmap(st.permutations))
    one_way = draw(st.sets(st.sampled_from(versions), max_size=1)) if versions else set()
    return Catalogue(
        Migration(v, f"m{v}", f"CREATE TABLE t{v} (x)", "" if v in one_way else f"DROP TABLE t{v}")
        for v in versions
    )


def _recorded(entry: Entry, checksum: str | None = None) -> AppliedMigration:
    return AppliedMigration(entry.version, "m", 0, checksum or entry.checksum)


@st.composite
def histories(draw: Any, catalogue: Catalogue) -> tuple[AppliedMigration, ...]:
    """Clean prefixes, histories with holes, and histories that contradict the catalogue."""
    entries = list(catalogue.entries.values())
    applied = entries[: draw(st.integers(0, len(entries)))]
    if draw(st.booleans()):
        kept = draw(st.lists(st.booleans(), min_size=len(entries), max_size=len(entries)))
        applied = [entry for entry, keep in zip(entries, kept, strict=True) if keep]
    rows = {entry.version: _recorded(entry) for entry in applied}
    if draw(st.integers(0, 2)) == 2 and rows:
        version = draw(st.sampled_from(sorted(rows)))
        algorithm, digest, _ = rows[version].checksum.split(":")
        odd = [*CHECKSUMS, f"{algorithm}:{digest}:cosmetic", f"{algorithm}:{digest[:-1]}:real"]
        rows[version] = replace(rows[version], checksum=draw(st.sampled_from(odd)))
    if draw(st.integers(0, 3)) == 3:
        version = draw(st.one_of(st.integers(0, 12), st.integers(0, 2**63 - 1)))
        rows.setdefault(version, AppliedMigration(version, "unknown", 0, "w1:a:b"))
    return tuple(rows[version] for version in sorted(rows))


RULES = st.builds(
    Rules,
    st.one_of(st.just(0), st.integers(0, 9), st.integers(0, 2**63)),
    st.sampled_from([True, True, False]),
    st.booleans(),
)


def targets(catalogue: Catalogue) -> st.SearchStrategy[int]:
    """Targets at, beside and far from the versions of a catalogue."""
    near = [v + by for v in (0, *catalogue.entries) for by in (-1, 0, 1)]
    return st.one_of(st.sampled_from(near), st.sampled_from(near), st.integers(-1, 2**64))


def contradictions(
    catalogue: Catalogue, applied: tuple[AppliedMigration, ...], rules: Rules
) -> set[type[WaveError]]:
    """Say in what a history contradicts a catalogue, by the words of the design."""
    kinds: set[type[WaveError]] = set()
    newest = max(catalogue.entries, default=0)
    for row in applied:
        entry = catalogue.entries.get(row.version)
        if entry is None:
            kinds.add(NewerDatabase if row.version > newest else UnknownMigration)
        elif rules.check_checksums and row.checksum.split(":")[:2] != entry.checksum.split(":")[:2]:
            readable = row.checksum.startswith("w1:") and row.checksum.count(":") == 2
            kinds.add(ChecksumMismatch if readable else UnknownChecksum)
    return kinds


def _out_of_range(catalogue: Catalogue, target: int | None) -> bool:
    return target is not None and not 0 <= target <= max(catalogue.entries, default=0)


def _versions(entries: Iterable[Entry]) -> list[int]:
    return [entry.version for entry in entries]


def _after(
    applied: Iterable[AppliedMigration], *, up: Iterable[Entry] = (), down: Iterable[Entry] = ()
) -> tuple[AppliedMigration, ...]:
    """Return the history after a plan was carried out."""
    gone = _versions(down)
    rows = [*applied, *map(_recorded, up)]
    return tuple(sorted((r for r in rows if r.version not in gone), key=lambda row: row.version))


@FUZZ
@given(st.data())
def test_up_is_what_is_missing_in_order(data: st.DataObject) -> None:
    """An `up` is all that is pending up to target and limit, lowest first, or a true refusal."""
    catalogue = data.draw(catalogues())
    applied, rules = data.draw(histories(catalogue)), data.draw(RULES)
    target = data.draw(st.none() | targets(catalogue))
    refusals = contradictions(catalogue, applied, rules)
    bound = (rules.limit or 2**64) if target is None else target
    done = {row.version for row in applied}
    missing = sorted(v for v in catalogue.entries if v not in done and v <= bound)
    if _out_of_range(catalogue, target) or (
        not refusals and rules.limit and missing[-1:] > [rules.limit]
    ):
        refusals.add(InvalidTarget)
    if not refusals and missing and done and missing[0] < max(done):
        refusals |= set() if rules.allow_out_of_order else {OutOfOrder}

    if refusals:
        with pytest.raises(tuple(refusals)):
            plan.up(catalogue, applied, target, rules)
    else:
        entries = plan.up(catalogue, applied, target, rules)
        assert missing == _versions(entries)
        assert not plan.up(catalogue, _after(applied, up=entries), target, rules)


@FUZZ
@given(st.data())
def test_down_is_what_is_above_in_order(data: st.DataObject) -> None:
    """A `down` is all that is applied above the target, newest first, or a true refusal."""
    catalogue = data.draw(catalogues())
    applied, rules = data.draw(histories(catalogue)), data.draw(RULES)
    target = data.draw(targets(catalogue))
    refusals = contradictions(catalogue, applied, rules)
    above = sorted((row.version for row in applied if row.version > target), reverse=True)
    if _out_of_range(catalogue, target):
        refusals.add(InvalidTarget)
    if not refusals and not all(catalogue.entries[v].reversible for v in above):
        refusals.add(Irreversible)

    if refusals:
        with pytest.raises(tuple(refusals)):
            plan.down(catalogue, applied, target, rules)
    else:
        entries = plan.down(catalogue, applied, target, rules)
        assert above == _versions(entries)
        assert not plan.down(catalogue, _after(applied, down=entries), target, rules)


@FUZZ
@given(st.data())
def test_up_then_down_returns(data: st.DataObject) -> None:
    """Down to where an `up` began undoes its steps in turn; one without a way back refuses all."""
    catalogue = data.draw(catalogues())
    count = data.draw(st.integers(min(1, len(catalogue.entries)), len(catalogue.entries)))
    applied = tuple(map(_recorded, list(catalogue.entries.values())[:count]))
    went = plan.up(catalogue, applied, None, Rules())
    there = _after(applied, up=went)

    if all(entry.reversible for entry in went):
        back = plan.down(catalogue, there, plan.current_version(applied), Rules())
        assert _versions(went) == _versions(reversed(back))
        assert applied == _after(there, down=back)
    else:
        with pytest.raises(Irreversible):
            plan.down(catalogue, there, plan.current_version(applied), Rules())


@FUZZ
@given(st.data())
def test_two_ups_are_one(data: st.DataObject) -> None:
    """Stopping on the way changes nothing: two `up`s in turn are one to the further target."""
    catalogue = data.draw(catalogues())
    assume(catalogue.entries)
    near, far = sorted(data.draw(st.tuples(*[st.sampled_from(sorted(catalogue.entries))] * 2)))
    first = plan.up(catalogue, (), near, Rules())
    second = plan.up(catalogue, _after((), up=first), far, Rules())

    assert _versions(plan.up(catalogue, (), far, Rules())) == _versions(first) + _versions(second)


@FUZZ
@given(st.data())
def test_status_shows_each_version_once(data: st.DataObject) -> None:
    """Any history has a status; what it calls due is what an `up` would apply."""
    catalogue = data.draw(catalogues())
    applied, rules = data.draw(histories(catalogue)), data.draw(RULES)
    status = plan.status(catalogue, applied, rules)

    shown = [migration.version for migration in status.migrations]
    assert sorted({*catalogue.entries, *(row.version for row in applied)}) == shown
    kinds = {type(problem) for problem in plan.problems(catalogue, applied, rules)}
    assert contradictions(catalogue, applied, rules) == kinds
    try:
        entries = plan.up(catalogue, applied, None, rules)
    except WaveError:
        return
    assert _versions(entries) == [migration.version for migration in status.due]


# --- A database that lives through everything --------------------------------------------------

ROWS = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT 400)"
UPS = {
    1: "CREATE TABLE journal (n INTEGER PRIMARY KEY, what TEXT NOT NULL);",
    2: f"""CREATE TABLE parent (x INTEGER PRIMARY KEY, y TEXT);
        INSERT INTO parent {ROWS} SELECT i, hex(i) || ';' FROM n; -- END;
        CREATE INDEX parent_y ON parent (y);""",
    3: "",  # nothing but data: the schema does not tell whether it was applied
    4: f"""CREATE TABLE child (x INTEGER REFERENCES parent (x) ON DELETE CASCADE, z);
        INSERT INTO child {ROWS} SELECT i, zeroblob(2) FROM n;
        CREATE TRIGGER child_gone AFTER DELETE ON child BEGIN
            UPDATE child SET z = CASE WHEN z THEN ';' END WHERE x = old.x; SELECT 1;
        END;""",
    5: "ALTER TABLE parent ADD COLUMN z INTEGER; UPDATE parent SET z = x * 2;",
    6: "UPDATE journal SET what = 'six' WHERE n < 6;",
}
DOWNS = {
    1: "DROP TABLE journal;",
    2: "DROP TABLE parent;",
    3: "",
    4: "DROP TRIGGER child_gone; DROP TABLE child;",
    5: "ALTER TABLE parent DROP COLUMN z;",
    6: "UPDATE journal SET what = 'done' WHERE n < 6;",
}
MIGRATIONS = [
    Migration(
        n,
        f"Step {n}",
        f"{UPS[n]} INSERT INTO journal VALUES ({n}, 'done');",
        DOWNS[n] if n == 1 else f"DELETE FROM journal WHERE n = {n}; {DOWNS[n]}",
    )
    for n in UPS
]
LAST = len(MIGRATIONS)


def _built(count: int) -> dict[str, Any]:
    with closing(sqlite3.connect(":memory:")) as memory:
        for migration in MIGRATIONS[:count]:
            memory.executescript(migration.up)
        return dump(memory)


FAILURES = {
    "syntax": "SELEC 1",
    "no table": "INSERT INTO nowhere VALUES (1)",
    "constraint": "INSERT INTO half VALUES (1)",
    "own commit": "COMMIT",
    "own rollback": "INSERT OR ROLLBACK INTO half VALUES (1)",
    "savepoint": "SAVEPOINT a",
    "vacuum": "/* */ VACUUM",
    "attach": "ATTACH ':memory:' AS other",
    "bookkeeping": "DELETE FROM schema_migrations",
    "endless": "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i FROM n) SELECT max(i) FROM n",
    "at commit": "CREATE TABLE orphan (x REFERENCES half (x) DEFERRABLE INITIALLY DEFERRED);"
    "INSERT INTO orphan VALUES (99)",
}
HALF = "CREATE TABLE half (x INTEGER PRIMARY KEY); INSERT INTO half VALUES (1);"

VICTIM = """
import asyncio, json, sys
from wave_async import Migration, MigrationManager, SingleConnectionPool

async def main(path, direction, target, migrations):
    async with SingleConnectionPool(path) as pool:
        manager = MigrationManager(pool, [Migration(*m) for m in migrations])
        await getattr(manager, direction)(target)

asyncio.run(main(*json.loads(sys.stdin.readline())))
"""


class Victims:
    """Processes to be killed, each started while the test does something else."""

    def __init__(self) -> None:
        self._next = self._started()

    @staticmethod
    def _started() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", VICTIM]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, job: tuple[Any, ...], seconds: float) -> bytes:
        """Run a job for some seconds, kill it, and return what it complained of before."""
        with self._next as victim:
            self._next = self._started()
            victim.stdin.write(f"{json.dumps(job)}\n".encode())
            victim.stdin.flush()
            sleep(seconds)
            victim.kill()
            return victim.stderr.read()

    def close(self) -> None:
        """End the process that waits for a job."""
        with self._next as victim:
            victim.kill()


WHO = st.sampled_from([0, 1])
TARGETS = st.integers(0, LAST)
DIRECTIONS = st.sampled_from([Direction.UP, Direction.DOWN])
MOMENTS = st.integers(0, 120).map(lambda tenths: tenths / 10_000)


class Database(RuleBasedStateMachine):
    """Two pools on one file, a stranger beside them, and whatever may happen to a run."""

    victims: ClassVar[Victims]

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.path = Path(self.folder.name, "state.db")
        self.loop = asyncio.Runner()
        self.pools = [SingleConnectionPool(self.path) for _ in WHO.elements]
        self.managers = [MigrationManager(pool, MIGRATIONS) for pool in self.pools]
        self.half_read: dict[int, aiosqlite.Cursor] = {}
        self.current = 0
        self.allowed = {0}
        self.strangers = 0
        self.populated = False
        """Whether there are tables but no bookkeeping: then all is replayed in memory first."""

    def teardown(self) -> None:
        """Close everything: nothing may be left that holds the database."""
        for pool in self.pools:
            self._run(pool.close())
        self.loop.close()
        self.half_read.clear()
        try:
            self.promises_are_kept()
            self.nobody_reads()
        finally:
            self.folder.cleanup()

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run(asyncio.wait_for(coroutine, 60))

    def _plain(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=0, isolation_level=None)

    @invariant()
    def promises_are_kept(self) -> None:
        """Check that the database is the first migrations, whole, and nobody has it locked."""
        if not self.path.exists():
            assert 0 in self.allowed
            assert self.strangers == 0
            return
        with closing(self._plain()) as plain:
            plain.execute("BEGIN IMMEDIATE")
            assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            tables = {name for (name,) in plain.execute("SELECT name FROM sqlite_schema")}
            history = []
            if "schema_migrations" in tables:
                history = plain.execute("SELECT version FROM schema_migrations").fetchall()
            assert history == [(n,) for n in range(1, len(history) + 1)]
            assert len(history) in self.allowed
            assert _built(len(history)) == dump(plain, *BOOKKEEPING, "stranger")
            if self.strangers:
                rows = plain.execute("SELECT count(*) FROM stranger").fetchall()
                assert rows == [(self.strangers,)]
            plain.execute("ROLLBACK")
        self.current = len(history)
        self.populated = bool(tables) and "schema_migrations" not in tables
        self.allowed = {self.current}

    def _expected(self, direction: Direction, goal: int | None) -> list[int]:
        """Return the versions that a run has to do now."""
        if direction is Direction.UP:
            return list(range(self.current + 1, (LAST if goal is None else goal) + 1))
        return list(range(self.current, goal or 0, -1))

    def _may_stop_anywhere(self, direction: Direction, goal: int) -> None:
        by = 1 if direction is Direction.UP else -1
        self.allowed = {self.current, *(v - (by < 0) for v in self._expected(direction, goal))}

    @initialize(stranger=st.booleans())
    def begin(self, stranger: bool) -> None:  # noqa: FBT001 - Hypothesis passes it by name
        """Begin with no file, or with a table of somebody else."""
        if stranger:
            self.stranger_writes()

    @rule(who=WHO, direction=DIRECTIONS, goal=TARGETS)
    def migrate(self, who: int, direction: Direction, goal: int) -> None:
        """Do what is to be done: a run does it, says so, and another finds nothing left."""
        expected = self._expected(direction, goal)

        done = self._run(_move(self.managers[who], direction, goal))

        assert expected == _versions_of(done)
        self.allowed = {goal if expected else self.current}
        assert not self._run(_move(self.managers[who], direction, goal))

    @rule(who=WHO)
    def migrate_to_the_newest(self, who: int) -> None:
        """Apply everything, without a goal."""
        expected = self._expected(Direction.UP, None)

        assert expected == _versions_of(self._run(self.managers[who].migrate_up()))
        self.allowed = {LAST}

    @rule(
        who=WHO,
        direction=DIRECTIONS,
        goal=TARGETS,
        after=MOMENTS,
        ticks=st.integers(0, 4),
        times=st.integers(1, 3),
        new=st.booleans(),
    )
    def cancel(  # noqa: PLR0917 - Hypothesis passes them by name
        self,
        who: int,
        direction: Direction,
        goal: int,
        after: float,
        ticks: int,
        times: int,
        new: bool,  # noqa: FBT001 - Hypothesis passes it by name
    ) -> None:
        """End a run at once, between two migrations: the pool is as it was."""
        manager = MigrationManager(self.pools[who], MIGRATIONS) if new else self.managers[who]
        self._may_stop_anywhere(direction, goal)

        self._run(cancelled(_move(manager, direction, goal), after, ticks, times))

        self.settings_are_restored(who)

    @rule(direction=DIRECTIONS, goal=TARGETS, after=st.integers(0, 40))
    def crash(self, direction: Direction, goal: int, after: int) -> None:
        """Kill a process: it leaves whole migrations behind, and no lock."""
        self._may_stop_anywhere(direction, goal)
        scripts = [(m.version, m.description, m.up, m.down) for m in MIGRATIONS]
        job = (str(self.path), f"migrate_{direction.value}", goal, scripts)

        assert self.victims.run(job, after / 1000) == b""

    @rule(low=TARGETS, high=TARGETS, same=st.booleans())
    def race(self, low: int, high: int, same: bool) -> None:  # noqa: FBT001 - as above
        """Run several at once: each step is done by one, and only a rollback may give up."""
        others = MigrationManager(self.pools[0 if same else 1], MIGRATIONS)
        runs = [
            self.managers[0].migrate_up(high),
            others.migrate_down(low),
            others.migrate_up(high),
            self.managers[1].migrate_up(),
        ]
        before = self.current

        results = self._run(_gathered(*runs))

        self.allowed = set(range(LAST + 1))
        self.promises_are_kept()
        balance = Counter(range(1, before + 1))
        for result in results:
            assert isinstance(result, Plan | PlanChanged), repr(result)
        for result in (results[0], *results[2:]):
            balance.update(_versions_of(result))
        down = results[1]
        balance.subtract(down.done if isinstance(down, PlanChanged) else _versions_of(down))
        assert Counter(range(1, self.current + 1)) == +balance
        assert min(balance.values(), default=0) >= 0

    @rule(who=WHO, goal=TARGETS)
    def come_back(self, who: int, goal: int) -> None:
        """Close the pool after each run: the next one notices what others did meanwhile."""
        for _ in range(3):
            self._run(self.pools[who].close())
            self._run(self.managers[who].migrate_up())
        self._run(self.pools[who].close())
        self._run(self.managers[1 - who].migrate_down(goal))

        self.allowed = {goal}
        self.promises_are_kept()
        self.half_read.clear()
        assert self._expected(Direction.UP, None) == _versions_of(
            self._run(self.managers[who].migrate_up())
        )
        self.allowed = {LAST}

    @rule()
    def stranger_writes(self) -> None:
        """Write a table of somebody else, in the same file: it changes nothing for us."""
        with closing(self._plain()) as plain:
            plain.execute("BEGIN IMMEDIATE")
            self._write_as_stranger(plain)
            plain.execute("COMMIT")

    def _write_as_stranger(self, connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE IF NOT EXISTS stranger (x)")
        connection.execute("INSERT INTO stranger VALUES ('mine')")
        self.strangers += 1

    @rule(who=WHO, goal=TARGETS, after=MOMENTS, how=st.sampled_from(["wait", "cancel", "give up"]))
    def locked(self, who: int, goal: int, after: float, how: str) -> None:
        """Hold the lock: a run waits, may be cancelled, and without need does not wait."""
        expected = self._expected(Direction.UP, goal)
        patience = 0.2 if how == "give up" else 60
        manager = MigrationManager(self.pools[who], MIGRATIONS, lock_timeout=patience)
        with closing(self._plain()) as plain:
            plain.execute("BEGIN IMMEDIATE")
            if not expected:
                assert not self._run(asyncio.wait_for(manager.migrate_up(goal), 5))
            elif how == "cancel":
                self._run(cancelled(manager.migrate_up(goal), after, 0, 1))
            elif how == "give up":
                with pytest.raises(DatabaseLocked):
                    self._run(manager.migrate_up(goal))
            else:
                self._run(self._released(plain, manager.migrate_up(goal), after, expected))
                self.allowed = {goal}
        self.settings_are_restored(who)

    async def _released(
        self,
        plain: sqlite3.Connection,
        run: Coroutine[Any, Any, Plan],
        after: float,
        expected: list[int],
    ) -> None:
        task = asyncio.ensure_future(run)
        await asyncio.sleep(after)
        assert not task.done()
        self._write_as_stranger(plain)
        plain.execute("COMMIT")
        assert expected == _versions_of(await task)

    @rule(who=WHO)
    def reopen(self, who: int) -> None:
        """Close a pool: it opens again by itself."""
        self._run(self.pools[who].close())
        self.half_read.pop(who, None)

    @rule(who=WHO, at=st.integers(1, LAST), kind=st.sampled_from(sorted(FAILURES)))
    def fail(self, who: int, at: int, kind: str) -> None:
        """Fail: what was before stays; an edited or unknown one is refused."""
        broken = Migration(at, "Broken", HALF + FAILURES[kind], HALF)
        manager = MigrationManager(
            self.pools[who], [*MIGRATIONS[: at - 1], broken], statement_timeout=0.1
        )
        refusal = MigrationFailed if self.current < at else ChecksumMismatch
        with pytest.raises(NewerDatabase if self.current > at else refusal) as raised:
            self._run(manager.migrate_up())

        if refusal is MigrationFailed:
            before = list(range(self.current + 1, at))
            assert raised.value.version == at
            assert raised.value.done == tuple(before)
            self.allowed = {self.current + len(before)}
        self.settings_are_restored(who)

    @rule(who=WHO, at=st.integers(1, LAST), goal=TARGETS, kind=st.sampled_from(sorted(FAILURES)))
    def fail_on_the_way_down(self, who: int, at: int, goal: int, kind: str) -> None:
        """Fail on the way down: the rollback stops before the step that failed."""
        migrations = list(MIGRATIONS)
        migrations[at - 1] = replace(migrations[at - 1], down=HALF + FAILURES[kind])
        manager = MigrationManager(self.pools[who], migrations, statement_timeout=0.1)
        expected = self._expected(Direction.DOWN, goal)
        if at in expected:
            with pytest.raises(MigrationFailed) as raised:
                self._run(manager.migrate_down(goal))
            assert raised.value.version == at
            assert raised.value.done == tuple(range(self.current, at, -1))
            self.allowed = {at}
        else:
            assert expected == _versions_of(self._run(manager.migrate_down(goal)))
            self.allowed = {min(self.current, goal)}
        self.settings_are_restored(who)

    @rule(who=WHO)
    def read_half(self, who: int) -> None:
        """Leave a cursor of the application half read on the connection that it shares."""
        self.half_read[who] = self._run(_half_read(self.pools[who]))

    @rule(who=WHO, keep=st.booleans())
    def application_writes(self, who: int, keep: bool) -> None:  # noqa: FBT001 - as above
        """Write in a transaction of the application's own."""
        self._run(self._write_on(self.pools[who], keep=keep))

    async def _write_on(self, pool: SingleConnectionPool, *, keep: bool) -> None:
        async with pool.acquire() as connection:
            await connection.execute("BEGIN IMMEDIATE")
            await connection.execute("CREATE TABLE IF NOT EXISTS stranger (x)")
            await connection.execute("INSERT INTO stranger VALUES ('app')")
            await connection.execute("COMMIT" if keep else "ROLLBACK")
        self.strangers += keep

    @rule(who=WHO)
    def settings_are_restored(self, who: int) -> None:
        """Check that no run leaves a transaction, a setting or the guard behind."""
        answers = self._run(_connection_settings(self.pools[who]))

        assert answers == {
            "in_transaction": False,
            "foreign_keys": 1,
            "busy_timeout": 5000,
            "synchronous": 2,
            "legacy_alter_table": 0,
            "defer_foreign_keys": 0,
            "trusted_schema": 0,
            "journal_mode": "wal",
        }

    @rule(who=WHO, closed=st.booleans())
    def ask(self, who: int, closed: bool) -> None:  # noqa: FBT001 - as above
        """Ask: a question is answered truly and touches no file."""
        if closed:
            self.reopen(who)
        before = self._files(shared=not closed)
        try:
            status, down = self._run(_questions(self.managers[who]))
        except NeedsRecovery:
            assert closed
            assert Path(f"{self.path}-journal").exists()
            return

        assert before == self._files(shared=not closed)
        assert self.current == status.current_version
        assert self._expected(Direction.UP, None) == [m.version for m in status.pending]
        assert self._expected(Direction.DOWN, 0) == _versions_of(down)

    def _files(self, *, shared: bool) -> dict[str, tuple[int, int]]:
        """Return size and time of each file; opening one would drop this process's SQLite locks.

        Without those that reading makes on the application's own connection, if `shared`.
        """
        files = {file.name: file.stat() for file in self.path.parent.iterdir()}
        return {
            name: (0, 0) if name.endswith("-shm") else (about.st_size, about.st_mtime_ns)
            for name, about in files.items()
            if not shared
            or not (name.endswith("-shm") or (name.endswith("-wal") and not about.st_size))
        }

    @rule()
    def nobody_reads(self) -> None:
        """Check that no run leaves a reader behind, which would keep the log from shrinking."""
        if self.half_read or not self.path.exists():
            return
        with closing(self._plain()) as plain:
            ((busy, _, _),) = plain.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            assert not busy


def _move(
    manager: MigrationManager, direction: Direction, target: int
) -> Coroutine[Any, Any, Plan]:
    return manager.migrate_up(target) if direction is Direction.UP else manager.migrate_down(target)


def _versions_of(done: Plan) -> list[int]:
    return [step.version for step in (*done.adopted, *done.steps)]


async def cancelled(run: Coroutine[Any, Any, Plan], after: float, ticks: int, times: int) -> None:
    """Cancel a run after some time and turns of the loop; fails where it is slow to end."""
    task = asyncio.ensure_future(run)
    if after:
        await asyncio.sleep(after)
    for _ in range(ticks):
        await asyncio.sleep(0)
    start = monotonic()
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    (result,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(result, Plan | asyncio.CancelledError), repr(result)
    assert monotonic() - start < 1


async def _gathered(*runs: Coroutine[Any, Any, Plan]) -> list[Any]:
    return await asyncio.gather(*runs, return_exceptions=True)


async def _half_read(pool: SingleConnectionPool) -> aiosqlite.Cursor:
    async with pool.acquire() as connection:
        cursor = await connection.execute(
            f"{ROWS} SELECT i, s.name FROM n LEFT JOIN sqlite_schema AS s"
        )
        await cursor.fetchone()
        return cursor


async def _connection_settings(pool: SingleConnectionPool) -> dict[str, Any]:
    names = ["foreign_keys", "busy_timeout", "synchronous", "legacy_alter_table"]
    names += ["defer_foreign_keys", "trusted_schema", "journal_mode"]
    async with pool.acquire() as connection:
        answers: dict[str, Any] = {"in_transaction": connection.in_transaction}
        for name in names:
            async with connection.execute(f"PRAGMA {name}") as cursor:
                (answers[name],) = await cursor.fetchone()
        await connection.execute("SAVEPOINT free")  # the guard would refuse it
        await connection.execute("RELEASE free")
        return answers


async def _questions(manager: MigrationManager) -> tuple[Any, Plan]:
    assert await manager.validate()
    return await manager.status(), await manager.plan_down(0)


async def _failed(path: Path, *migrations: Migration) -> MigrationFailed:
    async with SingleConnectionPool(path) as pool:
        manager = MigrationManager(pool, migrations, statement_timeout=0.1)
        with pytest.raises(MigrationFailed) as raised:
            await asyncio.wait_for(manager.migrate_up(), 5)
        return raised.value


@pytest.mark.parametrize("stranger", [False, True], ids=["alone", "beside a stranger"])
@pytest.mark.parametrize("kind", FAILURES)
def test_failing_migration_is_named(path: Path, kind: str, stranger: bool) -> None:  # noqa: FBT001 - pytest passes it by name
    """A migration that fails is named, on a new file and on one with tables of somebody else."""
    with closing(sqlite3.connect(path)) as plain:
        plain.executescript("CREATE TABLE stranger (x)" * stranger)
    broken = Migration(2, "Broken", HALF + FAILURES[kind])

    assert asyncio.run(_failed(path, MIGRATIONS[0], broken)).version == 2


def test_database_lives_through_everything() -> None:
    """Whatever runs, fails, is cancelled or killed: the database is whole migrations, unlocked."""
    Database.victims = Victims()
    try:
        run_state_machine_as_test(
            Database,
            settings=settings(FUZZ, max_examples=max(EXAMPLES // 3, 1), stateful_step_count=25),
        )
    finally:
        Database.victims.close()
