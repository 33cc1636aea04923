"""Scripts into statements: where each begins and ends, and what its checksum notices."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wave_async.errors import InvalidScript
from wave_async.model.script import Statement, parse, text_digest

PROFILE = settings(
    deadline=None, derandomize=True, max_examples=int(os.environ.get("WAVE_EXAMPLES", "100"))
)

TRIGGER = """\
CREATE TRIGGER tr AFTER INSERT ON t BEGIN
    UPDATE t SET x = CASE WHEN x > 1 THEN ';' ELSE 2 END; -- END;
    DELETE FROM t WHERE x = 'END;';
END"""


def split(text: str) -> list[tuple[int, str]]:
    """Return each statement after its line."""
    return [(statement.line, statement.sql) for statement in parse(text, "test").statements]


def digest(text: str) -> str:
    """Return the part of the checksum that decides whether an edit is real."""
    _, tokens, _ = parse(text, "test").checksum.split(":")
    return tokens


def split_by_sqlite(text: str) -> list[str]:
    """Cut a text at the semicolons where SQLite itself calls it complete; drop what is empty."""
    pieces, start = [], 0
    for end in (at + 1 for at, character in enumerate(text) if character == ";"):
        if sqlite3.complete_statement(text[start:end]):
            pieces.append(text[start : end - 1])
            start = end
    pieces.append(text[start:])
    return [piece for piece in pieces if not sqlite3.complete_statement(";" + piece)]


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        ("", []),
        (" \t\r\n\f", []),
        ("-- nothing here", []),
        ("/* nothing\nhere */ ; ;;", []),
        ("\ufeff", []),
        ("SELECT 1", [(1, "SELECT 1")]),
        ("SELECT 1;", [(1, "SELECT 1")]),
        ("SELECT 1 ; ; ;SELECT 2", [(1, "SELECT 1"), (1, "SELECT 2")]),
        ("\ufeffSELECT 1;", [(1, "SELECT 1")]),
        ("\n\nSELECT\n1;\n\nSELECT 2", [(3, "SELECT\n1"), (6, "SELECT 2")]),
        ("SELECT 1;\r\nSELECT\r\n2;\r\n", [(1, "SELECT 1"), (2, "SELECT\r\n2")]),
        ("-- a;\nSELECT 1 -- b;\n;-- c;", [(2, "SELECT 1")]),
        ("/* a;\n*/ SELECT /* b; */ 1 /* c; */;", [(2, "SELECT /* b; */ 1")]),
        ("SELECT 1 /**/ + /***/ 2 /* * / **/;", [(1, "SELECT 1 /**/ + /***/ 2")]),
        ("SELECT 4 / 2 - -1; SELECT 2", [(1, "SELECT 4 / 2 - -1"), (1, "SELECT 2")]),
        ("SELECT 'a;\n''b;';SELECT 2", [(1, "SELECT 'a;\n''b;'"), (2, "SELECT 2")]),
        ('SELECT ";""; -- ";', [(1, 'SELECT ";""; -- "')]),
        ("SELECT `;``;`, [;'];", [(1, "SELECT `;``;`, [;']")]),
        ("SELECT '--', '/*';SELECT 2", [(1, "SELECT '--', '/*'"), (1, "SELECT 2")]),
        ('SELECT "it\'s"; SELECT 2', [(1, 'SELECT "it\'s"'), (1, "SELECT 2")]),
        ("SELECT x';'", [(1, "SELECT x';'")]),
        (f"{TRIGGER};\nSELECT 1;", [(1, TRIGGER), (5, "SELECT 1")]),
        (f"{TRIGGER}", [(1, TRIGGER)]),
        (f"{TRIGGER}\n/* ; */;", [(1, TRIGGER)]),
        (
            "create/**/temp trigger a begin select 1;end;select 2;",
            [(1, "create/**/temp trigger a begin select 1;end"), (1, "select 2")],
        ),
        (
            "CREATE TEMPORARY TRIGGER a BEGIN SELECT 1; END; SELECT 2",
            [(1, "CREATE TEMPORARY TRIGGER a BEGIN SELECT 1; END"), (1, "SELECT 2")],
        ),
        (
            "EXPLAIN QUERY PLAN CREATE TRIGGER a BEGIN SELECT 1; END; SELECT 2",
            [(1, "EXPLAIN QUERY PLAN CREATE TRIGGER a BEGIN SELECT 1; END"), (1, "SELECT 2")],
        ),
        ("EXPLAIN SELECT 1; SELECT 2", [(1, "EXPLAIN SELECT 1"), (1, "SELECT 2")]),
        ("CREATE TABLE trigger_end(x); END;", [(1, "CREATE TABLE trigger_end(x)"), (1, "END")]),
        ('CREATE TABLE "TRIGGER"(x); END', [(1, 'CREATE TABLE "TRIGGER"(x)'), (1, "END")]),
        ("DROP TRIGGER a; SELECT 1", [(1, "DROP TRIGGER a"), (1, "SELECT 1")]),
        ("BEGIN; SELECT 1; END;", [(1, "BEGIN"), (1, "SELECT 1"), (1, "END")]),
        ("SELECT é, 表; SELECT 2", [(1, "SELECT é, 表"), (1, "SELECT 2")]),
    ],
)
def test_split(text: str, statements: list[tuple[int, str]]) -> None:
    """A script is cut where SQLite ends its statements, each with the line where it begins."""
    assert statements == split(text)


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("SELECT 1;\nSELECT '\0'", 2, "a NUL character; save the script as UTF-8"),
        ("SELECT 1;\n\n-- \ud800", 3, "a lone surrogate; save the script as UTF-8"),
        ("SELECT 1;\nSELECT 'a\n;\n", 2, "a string that is never closed"),
        ("SELECT 'it''s", 1, "a string that is never closed"),
        ("SELECT\r\nx'00", 2, "a string that is never closed"),
        ('\n\nSELECT "a', 3, "a quoted name that is never closed"),
        ("SELECT `a``", 1, "a quoted name that is never closed"),
        ("SELECT [a", 1, "a quoted name that is never closed"),
        ("SELECT 1;\n/* a\n * b", 2, "a comment that is never closed"),
        ("SELECT 1 /*/", 1, "a comment that is never closed"),
        ("SELECT 1 /*", 1, "a comment that is never closed"),
    ],
)
def test_refused(text: str, line: int, problem: str) -> None:
    """What cannot be read as SQL is refused, naming the line where it begins."""
    with pytest.raises(InvalidScript) as refused:
        parse(text, "migration 3, up script")

    assert f"migration 3, up script, line {line}: {problem}" == str(refused.value)


@pytest.mark.parametrize(
    ("sql", "first_line"),
    [
        ("SELECT 1", "SELECT 1"),
        ("CREATE TABLE t (\n    x\n)", "CREATE TABLE t ("),
        ("CREATE TABLE t (\r\n    x\r\n)", "CREATE TABLE t ("),
    ],
)
def test_first_line(sql: str, first_line: str) -> None:
    """A message quotes the first line of a statement."""
    assert first_line == Statement(sql, 1, 1).first_line


def test_split_runs(tmp_path: Path) -> None:
    """The statements one by one build what SQLite builds from the whole script."""
    script = (
        f"-- b;\nCREATE TABLE t (x /* ; */ DEFAULT ';');\r\n{TRIGGER};CREATE VIEW [v;] AS SELECT 1"
    )
    schema = "SELECT sql FROM sqlite_schema"
    with sqlite3.connect(":memory:") as whole, sqlite3.connect(":memory:") as single:
        whole.executescript(script)
        for _, sql in split(script):
            single.execute(sql)

        assert whole.execute(schema).fetchall() == single.execute(schema).fetchall()
    whole.close()
    single.close()


@pytest.mark.parametrize(
    ("text", "checksum"),
    [
        (
            "",
            (
                "w1:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
                ":e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
            ),
        ),
        (
            "CREATE TABLE t (x); -- é\r\n",
            (
                "w1:fc94dfe98338c61ae275bd10ed17a840d140e21e1c534c198f3a892bdcbc9be9"
                ":428c96eacfcf0a7b2ac8ca9895c883dee27136dd86e5715f704a351a33a0f485"
            ),
        ),
        (
            "CREATE TRIGGER tr AFTER INSERT ON t BEGIN SELECT 'a;'; END",
            (
                "w1:2aadebe393f52c3041fdf919a14f2d9fa5238bccc6ce918413c9e694b50eeb56"
                ":0b992cf3b89bc06201f7dc6a9fc4b206f05c5172e9a2791f7f828f2fa4642a6f"
            ),
        ),
    ],
)
def test_checksum(text: str, checksum: str) -> None:
    """The checksum of a script is the same in every release: databases hold it."""
    assert checksum == parse(text, "test").checksum


ORIGINAL = "CREATE TABLE t (x DEFAULT 'a\nb');\nSELECT 1.5, x'00' FROM t;\n"


@pytest.mark.parametrize(
    "edited",
    [
        ORIGINAL.rstrip().rstrip(";"),
        ORIGINAL.replace("\n", "\r\n"),
        ORIGINAL.replace(";\n", ";"),
        ORIGINAL.replace(" (", "("),
        ORIGINAL.replace("SELECT ", "SELECT\n\t\f"),
        ORIGINAL.replace("TABLE ", "/* a */TABLE-- b;\n"),
        ORIGINAL.replace(";", ";;/* c */;"),
        "-- d\n" + ORIGINAL + "/* e */",
        "\ufeff" + ORIGINAL,
    ],
)
def test_cosmetic_edit(edited: str) -> None:
    """Layout, comments, line ends and empty statements do not change the token digest."""
    assert digest(ORIGINAL) == digest(edited)
    assert parse(ORIGINAL, "test").checksum[:3] == "w1:"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT 1.e5", "SELECT 1. e5"),
        ("SELECT 1e5", "SELECT 1 e5"),
        ("SELECT 1e+5", "SELECT 1e +5"),
        ("SELECT 1.5", "SELECT 1 .5"),
        ("SELECT 0x10", "SELECT 0 x10"),
        ("SELECT x'00'", "SELECT x '00'"),
        ("SELECT x'00'", "SELECT X'00'"),
        ("SELECT ab", "SELECT a b"),
        ("SELECT 'a''b'", "SELECT 'a' 'b'"),
        ("SELECT 'a  b'", "SELECT 'a b'"),
        ("SELECT ' -- a'", "SELECT ' -- b'"),
        ("SELECT 'a'", 'SELECT "a"'),
        ("SELECT a", "SELECT A"),
        ("SELECT a", 'SELECT "a"'),
        ("SELECT [a]", "SELECT `a`"),
        ("SELECT a >= b", "SELECT a > = b"),
        ("SELECT a || b", "SELECT a | | b"),
        ("SELECT a -> b", "SELECT a - > b"),
        ("SELECT a ->> b", "SELECT a -> > b"),
        ("SELECT - -1", "SELECT --1\n"),
        ("SELECT a, b", "SELECT a b"),
        ("SELECT a;b", "SELECT a b"),
        ("SELECT 1;SELECT 2", "SELECT 2;SELECT 1"),
        ("SELECT 1", "SELECT 1;SELECT 1"),
        ("SELECT 1", ""),
        ("SELECT 1 /* a */", "SELECT 1 '/* a */'"),
    ],
)
def test_real_edit(one: str, other: str) -> None:
    """Any change of a token changes the token digest."""
    assert digest(one) != digest(other)


def test_text_digest_notices_comments() -> None:
    """The text digest is of the whole text: of two equal ones nothing need be tokenised."""
    one, other = (parse(text, "test").checksum for text in ("SELECT 1 -- a", "SELECT 1 -- b"))

    assert one.split(":")[:2] == other.split(":")[:2]
    assert one != other


@pytest.mark.parametrize("text", ["", "SELECT 1", "\ufeffSELECT 'é'\r\n;", "-- a\r\n"])
def test_text_digest_needs_no_reading(text: str) -> None:
    """The last part of a checksum can be had without reading the script."""
    assert text_digest(text) == parse(text, "test").checksum.split(":")[2]


FRAGMENTS = [
    *("create ", "CREATE\n", "temp ", "Temporary ", "trigger ", " end ", "end", "explain "),
    *("begin ", "case ", "query plan ", "a", " x", "$a ", "é", ";", ";", ";", " ", "\n", "\r\n"),
    *("'a;b'", "''", "'", '"q;"', '"', "[b;]", "[", "]", "`c;`", "`", "x'00'", "-- c;\n", "--"),
    *("/* ; */", "/**/", "/*", "*/", "/", "*", "-", ">", "|", "1 ", "1.5 ", ".5 ", "\f", "\v"),
]


@PROFILE
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=30).map("".join))
def test_split_agrees_with_sqlite(text: str) -> None:
    """Whatever the text, it is cut at the very semicolons where SQLite calls it complete."""
    try:
        statements = [statement.sql for statement in parse(text, "test").statements]
    except InvalidScript:
        return
    pieces = split_by_sqlite(text)

    assert len(pieces) == len(statements)
    assert all(sql in piece for sql, piece in zip(statements, pieces, strict=True))


@PROFILE
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=30).map("".join))
def test_split_and_joined(text: str) -> None:
    """Statements begin on their lines, and joined again they are the script that was split."""
    try:
        statements = parse(text, "test").statements
    except InvalidScript:
        return
    lines = text.split("\n")

    assert all(s.first_line in lines[s.line - 1] for s in statements)
    assert digest(text) == digest(";\n".join(s.sql for s in statements))


TOKENS = st.sampled_from(
    [
        *("SELECT", "create", "é", "a", "b", "end", ";", ";", ",", "(", ")", "->>", "->", "||"),
        *("'a'", "'a b'", "'it''s'", "x'00'", '"a"', "[a]", "`a`", "1", "1.", "1.5e-3", ".5"),
        *("0x1F", "-", ">", "=", "<=", "?", ":", "."),
    ]
)
SCRIPTS = st.lists(TOKENS, max_size=25)
LAYOUT = st.sampled_from([" ", "\n", "\r\n", "\t\f", " -- c;'\n", "\n/* ;\n' */", " /**/ -- d\n"])


def meaning(tokens: list[str]) -> list[list[str]]:
    """Return the statements of a list of tokens without triggers."""
    statements = " ".join(tokens).split(";")
    return [statement.split() for statement in statements if statement.split()]


@PROFILE
@given(SCRIPTS, st.data())
def test_digest_ignores_layout(tokens: list[str], data: st.DataObject) -> None:
    """Whatever stands between the tokens, the token digest stays."""
    laid_out = "".join(token + data.draw(LAYOUT) for token in tokens)

    assert digest(" ".join(tokens)) == digest(laid_out)


@PROFILE
@given(SCRIPTS, st.data())
def test_digest_notices_tokens(tokens: list[str], data: st.DataObject) -> None:
    """One token put in, taken out or replaced changes the token digest, unless it is nothing."""
    start = data.draw(st.integers(0, len(tokens)))
    end = data.draw(st.integers(start, start + 1))
    edited = [*tokens[:start], *data.draw(st.lists(TOKENS, max_size=1)), *tokens[end:]]

    same = meaning(tokens) == meaning(edited)

    assert same == (digest(" ".join(tokens)) == digest(" ".join(edited)))


def test_long_script() -> None:
    """A literal of a million quotes and twenty thousand statements are read like any other."""
    text = "INSERT INTO t VALUES ('" + "''" * 500_000 + "');\n" + "SELECT 1;\n" * 20_000

    assert len(split(text)) == 20_001
    assert digest(text) == digest(text.replace("\n", " -- c\n"))
