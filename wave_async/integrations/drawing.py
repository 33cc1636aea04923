"""A diagram as SVG: Graphviz says where everything is, this draws it.

Light or dark as the reader's system is, and what is new is marked by more than a colour. The text
is of one width per character, so that a box is as wide as what is in it.
"""

# ruff: noqa: PLC0415 - what an extra brings is imported when it is needed
from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unicodedata import east_asian_width
from xml.etree import ElementTree as ET

from wave_async.errors import printable
from wave_async.integrations.extras import needs
from wave_async.model.diagram import Change, Column, Diagram, Key, Table

_CHARACTER, _ROW, _HEAD, _MARGIN = 7.25, 22, 30, 24
_MARK, _GAP, _LONGEST = 6.5, 28, 48
_STYLE = Path(__file__).parent / "page" / "diagram.css"
_LEGEND = (("new", "new in this version"), ("changed", "changed in this version"))


def svg(diagram: Diagram) -> str:
    """Draw a diagram. Raises `MissingExtra` without `wave-async[svg]`."""
    boxes = {table.name: _Box(table) for table in diagram.tables}
    picture = _Picture(diagram, boxes, _laid_out(boxes, diagram.keys))
    return ET.tostring(picture.drawn(), encoding="unicode") + "\n"


def _width(text: str) -> float:
    return sum(2 if east_asian_width(c) in "WF" else 1 for c in text) * _CHARACTER


def _shown(text: str) -> str:
    shown = printable(text)
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "\u2026"


@dataclass(frozen=True)
class _Box:
    """How large a table is drawn."""

    table: Table

    @cached_property
    def heading(self) -> str:
        """What stands beside its name."""
        return ", ".join(filter(None, (self.table.about, self.table.change.value)))

    @cached_property
    def gutter(self) -> int:
        """Where the names of its columns begin, to the right of their keys."""
        return 16 + round(max((len(_marks(c)) for c in self.table.columns), default=0) * _MARK)

    @cached_property
    def width(self) -> int:
        """As wide as its heading and every column need it."""
        rows = (_width(_shown(c.name)) + _width(_type(c)) for c in self.table.columns)
        head = _width(_shown(self.table.name)) * 1.1 + _width(self.heading) + 12
        return round(max((head, *(self.gutter + row for row in rows))) + _GAP + 12)

    @cached_property
    def height(self) -> int:
        """As high as its heading and a line for each column."""
        return _HEAD + _ROW * len(self.table.columns) + (4 if self.table.columns else 0)

    def cells(self) -> str:
        """Return it as Graphviz has it: empty cells, as large as they are drawn."""
        heights = [_HEAD, *[_ROW] * len(self.table.columns), *[4] * bool(self.table.columns)]
        size = f'FIXEDSIZE="TRUE" WIDTH="{self.width}"'
        rows = "".join(
            f'<TR><TD PORT="r{at}" {size} HEIGHT="{height}"></TD></TR>'
            for at, height in enumerate(heights)
        )
        return f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="0">{rows}</TABLE>'


def _marks(column: Column) -> str:
    return " ".join(column.keys)


def _type(column: Column) -> str:
    return _shown(column.declared)


def _laid_out(boxes: Mapping[str, _Box], keys: Iterable[Key]) -> dict[str, Any]:
    """Return what Graphviz says: the nodes by number, and the edges in the order of the keys."""
    with needs("svg"):
        from pygraphviz import AGraph
    numbers = {name: number for number, name in enumerate(boxes)}
    lines = [
        "digraph {",
        'graph [rankdir=LR, pack=36, packmode="array", nodesep=0.45, ranksep=1]',
        "node [shape=plain] edge [dir=none]",
        *(f"{numbers[name]} [label=<{box.cells()}>]" for name, box in boxes.items()),
    ]
    for key in keys:
        own = key.parent == key.table
        parent = _port(boxes[key.parent].table.row(key.parents), "e")
        child = _port(boxes[key.table].table.row(key.columns), "e" if own else "w")
        lines.append(f"{numbers[key.parent]}{parent} -> {numbers[key.table]}{child}")
    graph = AGraph(string="\n".join([*lines, "}"]))
    found: dict[str, Any] = json.loads(graph.draw(format="json", prog="dot"))
    graph.close()
    return found


def _port(row: int | None, side: str) -> str:
    return f":r{0 if row is None else row + 1}:{side}"


class _Picture:
    """Turns what Graphviz says into shapes; its y goes up, that of SVG down."""

    def __init__(self, diagram: Diagram, boxes: Mapping[str, _Box], layout: dict[str, Any]) -> None:
        self._diagram = diagram
        self._boxes = tuple(boxes.values())
        self._nodes = [n for n in layout.get("objects", ()) if "pos" in n]
        self._edges = layout.get("edges", ())
        _, _, width, height = map(float, layout.get("bb", "0,0,0,0").split(","))
        self._width, self._height = max(width, 360), height

    def drawn(self) -> ET.Element:
        """Return the whole picture."""
        about = f"Schema at version {self._diagram.version}"
        width = round(self._width + 2 * _MARGIN)
        height = round(self._height + 2 * _MARGIN + _ROW)
        root = ET.Element(
            "svg",
            {
                "xmlns": "http://www.w3.org/2000/svg",
                "class": "wave-diagram",
                "viewBox": f"0 0 {width} {height}",
                "width": str(width),
                "height": str(height),
                "role": "img",
                "aria-labelledby": "wave-diagram-title wave-diagram-about",
            },
        )
        _text(root, "title", about, id="wave-diagram-title")
        _text(root, "desc", self._told(), id="wave-diagram-about")
        _text(root, "style", _STYLE.read_text(encoding="utf-8"))
        ET.SubElement(root, "rect", {"class": "paper", "width": "100%", "height": "100%"})
        self._draw_legend(root, about)
        for key, edge in zip(self._diagram.keys, self._edges, strict=True):
            root.append(self._edge(key, edge["pos"]))
        for box, node in zip(self._boxes, self._nodes, strict=True):
            root.append(_drawn_table(box, *self._corner(box, node["pos"])))
        return root

    def _told(self) -> str:
        tables, keys = self._diagram.tables, self._diagram.keys
        new = [printable(t.name) for t in tables if t.change is not Change.NONE]
        more = f"; new or changed: {', '.join(new)}" if new else ""
        return f"{len(tables)} tables and views, {len(keys)} foreign key(s){more}"

    def _draw_legend(self, root: ET.Element, about: str) -> None:
        _text(root, "text", about, x=str(_MARGIN), y="26", **{"class": "about"})
        x = _MARGIN + _width(about) + 36
        used = {table.change.value for table in self._diagram.tables}
        for name, told in _LEGEND:
            if name in used:
                swatch = {"class": f"swatch {name}", "x": f"{x:g}", "y": "15", "rx": "3"}
                ET.SubElement(root, "rect", {**swatch, "width": "14", "height": "14"})
                _text(root, "text", told, x=f"{x + 20:g}", y="26", **{"class": "kind"})
                x += 20 + _width(told) + 20

    def _point(self, pair: str) -> tuple[float, float]:
        x, y = map(float, pair.split(","))
        return x + _MARGIN, self._height - y + _MARGIN + _ROW

    def _corner(self, box: _Box, centre: str) -> tuple[float, float]:
        x, y = self._point(centre)
        return round(x - box.width / 2, 1), round(y - box.height / 2, 1)

    def _edge(self, key: Key, pos: str) -> ET.Element:
        """Draw a foreign key from its parent to its child, whose end is a crow's foot."""
        first, *rest = (f"{x:.5g},{y:.5g}" for x, y in map(self._point, re.split(r"\s+", pos)))
        group = ET.Element("g", {"class": "key new" if key.new else "key"})
        child = f"{key.table} ({', '.join(key.columns)})"
        _text(group, "title", printable(f"{child} references {key.parent}"))
        ET.SubElement(group, "path", {"d": f"M{first}C{' '.join(rest)}"})
        for name, x, y in (("one", *first.split(",")), ("many", *rest[-1].split(","))):
            foot = _FEET["one" if key.single else name]
            flip = name == "one" or key.parent == key.table
            turn = " scale(-1,1)" if flip else ""
            ET.SubElement(group, "path", {"d": foot, "transform": f"translate({x},{y}){turn}"})
        return group


_FEET = {"one": "M-7,-5V5", "many": "M0,-5L-9,0L0,5"}
"""The ends of a key, seen from a table to the right of it."""


def _drawn_table(box: _Box, x: float, y: float) -> ET.Element:
    table = box.table
    place = f"translate({x:g},{y:g})"
    group = ET.Element("g", {"class": f"table {table.mark}".strip(), "transform": place})
    _text(group, "title", printable(table.name))
    size = {"width": str(box.width), "rx": "6"}
    ET.SubElement(group, "rect", {"class": "box", "height": str(box.height), **size})
    round_head = f"M0,{_HEAD}V6Q0,0 6,0H{box.width - 6}Q{box.width},0 {box.width},6V{_HEAD}Z"
    whole = f"M6,0H{box.width - 6}Q{box.width},0 {box.width},6V{_HEAD - 6}Q{box.width},{_HEAD} "
    whole += f"{box.width - 6},{_HEAD}H6Q0,{_HEAD} 0,{_HEAD - 6}V6Q0,0 6,0Z"
    ET.SubElement(group, "path", {"class": "head", "d": round_head if table.columns else whole})
    _text(group, "text", _shown(table.name), x="12", y="20", **{"class": "name"})
    if box.heading:
        place_of_kind = {"x": str(box.width - 12), "y": "20", "class": "kind end"}
        _text(group, "text", box.heading, **place_of_kind)
    for at, column in enumerate(table.columns):
        group.extend(_drawn_column(column, box, _HEAD + 2 + at * _ROW))
    return group


def _drawn_column(column: Column, box: _Box, y: int) -> Iterator[ET.Element]:
    if column.new:
        size = {"x": "1", "y": str(y), "width": str(box.width - 2), "height": str(_ROW)}
        yield ET.Element("rect", {"class": "fresh", **size})
        yield ET.Element("rect", {"class": "bar", **size, "width": "3"})
    for text, x, kind in (
        (_marks(column), 9, "mark"),
        (_shown(column.name), box.gutter, "column pk" if column.primary else "column"),
        (_type(column), box.width - 12, "kind end"),
    ):
        if text:
            element = ET.Element("text", {"x": str(x), "y": str(y + 15), "class": kind})
            element.text = text
            yield element


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = text
