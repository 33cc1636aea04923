"""A diagram as text: Mermaid, DOT and D2, each with its own ways of quoting.

Control characters in names are shown as escapes, so that every name stays on its line.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from html import escape
from itertools import zip_longest

from wave_async.errors import printable
from wave_async.model.diagram import Change, Column, Diagram, Key, Table

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_NEW = "#d7f5dd", "#1a7f37"
_CHANGED = "#fff4ce", "#9a6700"
_GONE = "#f6f8fa", "#6e7781"


def _title(diagram: Diagram) -> str:
    about = f": {printable(diagram.description)}" if diagram.description else ""
    return f"schema at version {diagram.version}{about}"


def _label(table: Table) -> str:
    return f"{table.name} ({table.about})" if table.about else table.name


# Mermaid (https://mermaid.js.org/syntax/entityRelationshipDiagram.html).

_COMMANDS = """
    acctitle accdescr class classdef direction end erdiagram many one only optionally style
    subgraph title to u zero
"""
_MERMAID_WORDS = frozenset(_COMMANDS.split())
_NO_WORD = re.compile(r"[^A-Za-z0-9_()\[\]\u00c0-\ud7ff-]")


def mermaid(diagram: Diagram) -> str:
    """Write an `erDiagram`; what is new has a colour, and new columns say so."""
    return "\n".join(_mermaid(diagram)) + "\n"


def _mermaid(diagram: Diagram) -> Iterator[str]:
    ids = _ids(diagram.tables, _MERMAID_WORDS)
    yield "erDiagram"
    yield f"    accTitle: {_mermaid_text(_title(diagram))}"
    for table in diagram.tables:
        yield from (f"    {line}" for line in _mermaid_table(table, ids[table.name]))
    for key in diagram.keys:
        one = "|o" if key.optional else "||"
        many = "o|" if key.single else "o{"
        label = _mermaid_text(", ".join(key.columns))
        yield f'    {ids[key.parent]} {one}--{many} {ids[key.table]} : "{label}"'
    for name, (fill, stroke) in (("new", _NEW), ("changed", _CHANGED), ("missing", _GONE)):
        dashed = ",stroke-dasharray:4" if name == "missing" else ""
        if used := [ids[table.name] for table in diagram.tables if name == table.mark]:
            yield f"    classDef {name} fill:{fill},stroke:{stroke},color:#1f2328{dashed}"
            yield f"    class {','.join(used)} {name}"


def _mermaid_table(table: Table, name: str) -> Iterator[str]:
    shown = _label(table)
    label = f'["{_mermaid_text(shown)}"]' if name != shown else ""
    if not table.columns:
        yield f"{name}{label}"
        return
    yield f"{name}{label} {{"
    for column in table.columns:
        yield f"    {_mermaid_column(column)}"
    yield "}"


def _mermaid_column(column: Column) -> str:
    shown, kind = _mermaid_word(column.name), _mermaid_word(column.type.replace(", ", ","))
    told = [column.name] if shown != column.name else []
    told += [column.type] if kind != column.type else []
    told += column.remarks
    words = [kind or "any", shown, ", ".join(column.keys)]
    words += [f'"{_mermaid_text(", ".join(told))}"'] if told else []
    return " ".join(filter(None, words))


def _mermaid_word(text: str) -> str:
    """Return what the grammar takes for a word: letters, digits and what types are made of."""
    word = _NO_WORD.sub("_", printable(text))
    return word if not word or word[0].isalpha() else f"_{word}"


def _mermaid_text(text: str) -> str:
    """Escape as Mermaid does, by `#code;`; a space where `direction TB` would be a command.

    It cannot draw a blank label: a blank name is shown in quotes.
    """
    shown = printable(text) if text.strip() else f'"{text}"'
    plain = r"[^\w.,()\- ]" if "direction" not in text.lower() else r"[^\w.,()\-]"
    return re.sub(plain, lambda match: f"#{ord(match[0])};", shown)


def _ids(tables: Iterable[Table], reserved: Iterable[str]) -> dict[str, str]:
    """Return a plain word for each table: its name, if it is one."""
    names = {table.name for table in tables}
    taken = {name.lower() for name in names} | set(reserved)
    ids: dict[str, str] = {}
    for number, name in enumerate(sorted(names), 1):
        plain = _NAME.fullmatch(name) and name.lower() not in reserved
        word = name if plain else f"table_{number}"
        while not plain and word in taken:
            word += "_"
        ids[name] = word
    return ids


# DOT (https://graphviz.org/doc/info/lang.html, https://graphviz.org/doc/info/shapes.html#html).


def dot(diagram: Diagram) -> str:
    """Write a digraph of tables with a port for each column, from parents to children."""
    return "\n".join(_dot(diagram)) + "\n"


def _dot(diagram: Diagram) -> Iterator[str]:
    tables = {table.name: table for table in diagram.tables}
    yield f"digraph {_dot_quoted(_title(diagram))} {{"
    yield '    graph [rankdir=LR, pack=24, packmode="array", ranksep=0.8]'
    yield '    node [shape=plain, fontname="Helvetica", fontsize=11]'
    yield '    edge [dir=both, arrowhead=crow, arrowtail=tee, color="#57606a"]'
    for table in diagram.tables:
        yield f"    {_dot_quoted(table.name)} [label=<{_dot_table(table)}>]"
    for key in diagram.keys:
        parent = _dot_quoted(key.parent) + _port(tables[key.parent], key.parents, "right{}:e")
        child = _dot_quoted(key.table) + _port(tables[key.table], key.columns, "left{}:w")
        yield f"    {parent} -> {child}{_dot_edge(key)}"
    yield "}"


def _port(table: Table, names: Iterable[str], port: str) -> str:
    at = table.row(names)
    return "" if at is None else ":" + port.format(at)


def _dot_edge(key: Key) -> str:
    about = [f'color="{_NEW[1]}"', "penwidth=2"] if key.new else []
    about += ["arrowtail=teeodot"] if key.optional else []
    about += ["arrowhead=tee"] if key.single else []
    return f" [{', '.join(about)}]" if about else ""


def _dot_table(table: Table) -> str:
    fill, stroke = {Change.NEW: _NEW, Change.CHANGED: _CHANGED, Change.NONE: _GONE}[table.change]
    kind = f" <I>({table.about})</I>" if table.about else ""
    head = f'<TR><TD COLSPAN="3" BGCOLOR="{fill}"><B>{_html(table.name)}</B>{kind}</TD></TR>'
    rows = "".join(_dot_row(at, column) for at, column in enumerate(table.columns))
    return f'<TABLE BORDER="0" CELLBORDER="1" CELLSPACING="0" COLOR="{stroke}">{head}{rows}</TABLE>'


def _dot_row(at: int, column: Column) -> str:
    fill = f' BGCOLOR="{_NEW[0]}"' if column.new else ""
    cells = (
        f'<TD{fill} PORT="left{at}" ALIGN="LEFT">{_html(column.name)}</TD>',
        f'<TD{fill} ALIGN="LEFT">{_html(column.declared) or " "}</TD>',
        f'<TD{fill} PORT="right{at}">{", ".join(column.keys) or " "}</TD>',
    )
    return f"<TR>{''.join(cells)}</TR>"


def _html(text: str) -> str:
    return escape(printable(text), quote=True)


def _dot_quoted(text: str) -> str:
    return '"' + printable(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


# D2 (https://d2lang.com/tour/sql-tables).


def d2(diagram: Diagram) -> str:
    """Write `sql_table` shapes, quoted so that no name is a keyword or a substitution."""
    return "\n".join(_d2(diagram)) + "\n"


def _d2(diagram: Diagram) -> Iterator[str]:
    yield f"# {_title(diagram)}"
    yield "direction: right"
    for table in diagram.tables:
        yield from _d2_table(table)
    known = {(table.name, column.name) for table in diagram.tables for column in table.columns}
    for key in diagram.keys:
        style = f': {{style.stroke: "{_NEW[1]}"}}' if key.new else ""
        for column, parent in zip_longest(key.columns, key.parents):
            ends = (key.table, column), (key.parent, parent)
            yield " -> ".join(_d2_end(*end, known) for end in ends) + style


def _d2_end(table: str, column: str | None, known: Collection[tuple[str, str | None]]) -> str:
    at = _d2_quoted(table)
    return f"{at}.{_d2_quoted(column)}" if column and (table, column) in known else at


def _d2_table(table: Table) -> Iterator[str]:
    yield f"{_d2_quoted(table.name)}: {{"
    yield "  shape: sql_table"
    if table.about:
        yield f"  label: {_d2_quoted(_label(table))}"
    if table.change is not Change.NONE:
        fill = (_NEW if table.change is Change.NEW else _CHANGED)[1]
        yield f'  style.fill: "{fill}"'
    for column in table.columns:
        yield f"  {_d2_column(column)}"
    yield "}"


_D2_KEYS = {"PK": "primary_key", "FK": "foreign_key", "UK": "unique"}


def _d2_column(column: Column) -> str:
    keys = [*(_D2_KEYS[mark] for mark in column.keys), *column.remarks]
    told = f" {{constraint: [{'; '.join(keys)}]}}" if keys else ""
    return f"{_d2_quoted(column.name)}: {_d2_quoted(column.type or 'any')}{told}"


def _d2_quoted(text: str) -> str:
    return "'" + printable(text).replace("'", "''") + "'"


FORMATS = {"mermaid": mermaid, "dot": dot, "d2": d2}
"""What writes a diagram as text, by the name of its format."""
