"""A diagram as text: golden files, and what real parsers read back where there is one."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pygraphviz import AGraph
from test_diagram import schema

from wave_async.model.diagram import Column, Diagram, Key, Table
from wave_async.model.notation import FORMATS, d2, dot, mermaid

GOLDEN = Path(__file__).parent / "golden"
BEFORE = """
    CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE posts (id INTEGER PRIMARY KEY, author INT NOT NULL REFERENCES users);
"""
AFTER = """
    ALTER TABLE posts ADD COLUMN "a ""net"" price" NUMERIC(10, 2);
    CREATE TABLE "<b>tags</b> & co" (post INT UNIQUE REFERENCES posts, style, "${x}" TEXT,
        lost REFERENCES "it's gone");
    CREATE VIEW "end" AS SELECT 1;
"""
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)

# What Mermaid's lexer takes for a type and a name, a comment, an alias and an edge
# (packages/mermaid/src/diagrams/er/parser/erDiagram.jison).
_WORD = r"[A-Za-z_\u00c0-\ud7ff][A-Za-z0-9\-_\[\](),.\u00c0-\ud7ff]*"
_KEYS = r"(?: (?:PK|FK|UK)(?:, (?:PK|FK|UK))*)?"
_TEXT = r'"(?:[\w.,()\- ]|#\d+;)+"'
_ID = "[A-Za-z_][A-Za-z0-9_]*"
MERMAID = re.compile(
    "|".join(
        (
            r"erDiagram|    accTitle: (?:[\w.,()\- ]|#\d+;)+|    }",
            rf"    {_ID}(?:\[{_TEXT}\])?(?: {{)?",
            rf"        {_WORD} {_WORD}{_KEYS}(?: {_TEXT})?",
            rf'    {_ID} \|[o|]--o[{{|] {_ID} : (?:{_TEXT}|"")',
            r"    classDef \w+ [\w:#,-]+|    class [\w,]+ \w+",
        )
    )
)


@pytest.mark.parametrize("name", FORMATS)
def test_golden(name: str) -> None:
    """Each format writes tables, keys, what is new, and names with quotes and markup like this."""
    found = Diagram.of(2, "Add tags", schema(BEFORE + AFTER), schema(BEFORE))

    assert (GOLDEN / f"diagram.{name}").read_text() == FORMATS[name](found)


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_at_all(name: str) -> None:
    """An empty schema is a document as well."""
    assert "schema at version 0" in FORMATS[name](Diagram(0))


def named(tables: list[str], columns: list[str]) -> Diagram:
    """Return a diagram of tables that all have the same columns, each the child of the next."""
    boxes = [Table(t, columns=tuple(Column(c, c, new=True) for c in columns)) for t in tables]
    keys = [Key(a, (columns[0],), b, (columns[-1],)) for a, b in pairwise(tables)]
    return Diagram(1, "".join(tables), tuple(boxes), tuple(keys))


NAMED = st.builds(
    named,
    st.lists(NAMES, min_size=1, max_size=4, unique_by=str.lower),
    st.lists(NAMES, min_size=1, max_size=3, unique_by=str.lower),
)


@given(NAMED)
def test_mermaid_is_in_its_grammar(diagram: Diagram) -> None:
    """Whatever the names are, every line is one that Mermaid's lexer takes."""
    for line in mermaid(diagram).splitlines():
        assert MERMAID.fullmatch(line), line


def test_commands_of_mermaid_are_no_names() -> None:
    """A table that is called as a command, or holds one, is written by another word."""
    text = mermaid(named(["style", "END", "x direction TB y", "table_1", " "], ["x"]))

    assert "    style" not in text
    assert 'table_2["END"]' in text
    assert "x#32;direction#32;TB#32;y" in text
    assert '["#34; #34;"]' in text
    assert "table_1_[" in text


@given(NAMED)
@example(named(["back\\", 'quote"', '\\"', "<b>&amp;"], ["\\", '"']))
def test_dot_is_read_by_graphviz(diagram: Diagram) -> None:
    """Graphviz finds as many tables and keys as there are, whatever the names are."""
    found = AGraph(string=dot(diagram), strict=False)

    assert len(diagram.tables) == found.number_of_nodes()
    assert len(diagram.keys) == found.number_of_edges()
    assert b"<svg" in found.draw(format="svg", prog="dot")


@given(NAMED)
def test_d2_is_quoted(diagram: Diagram) -> None:
    """Every name stands in single quotes, in which only a single quote means something."""
    for line in d2(diagram).splitlines()[2:]:
        rest = re.sub("'(?:[^']|'')*'", "Q", line)
        assert re.fullmatch(
            r"Q: \{|  shape: sql_table|  Q: Q( \{constraint: \[[\w; ]+\]\})?|\}"
            r"|Q(\.Q)? -> Q(\.Q)?",
            rest,
        ), line
