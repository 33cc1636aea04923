"""How one schema differs from another, and which version of ours a database fits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum
from itertools import zip_longest
from typing import NamedTuple

from wave_async.errors import AdoptionRefused
from wave_async.model.ddl import Definition, as_shown, lines, name_and_rest
from wave_async.model.schema import Object, Schema
from wave_async.model.script import lowered

_Change = tuple[str, tuple[str, ...]]  # what changed in an object, and the lines that show it


class _Column(NamedTuple):
    name: str
    kind: str
    line: str
    words: str


class Kind(StrEnum):
    """How an object differs: it is not there, it is not ours, or it says something else."""

    MISSING = "missing"
    FOREIGN = "foreign"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference of a live object from the wanted one; a changed table may have several.

    `table` is the table of the object. `diff` are the lines that show it: wanted ones begin with
    `-`, live ones with `+`, and what is the same in both with a space.
    """

    kind: Kind
    type: str
    table: str
    name: str
    detail: str
    diff: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.type} {self.name}: {self.detail}"

    @property
    def change(self) -> str:
        """It told as a change: what is missing was dropped, what is foreign was added."""
        about = str(self).removesuffix("missing").removesuffix("not ours")
        words = {"missing": "dropped", "not ours": "added"}
        return about + next((words[w] for w in words if self.detail.endswith(w)), "")


@dataclass(frozen=True, slots=True)
class Fit:
    """The one version whose whole schema is there, and the foreign objects beside it."""

    version: int
    foreign: tuple[Difference, ...]


def differences(wanted: Schema, live: Schema) -> list[Difference]:
    """Return how a live schema differs from the wanted one, table by table; empty if it does not.

    What only the live one has is foreign, but a column more makes its table a changed one.
    """
    ours, theirs = ({o.key: o for o in schema.objects} for schema in (wanted, live))
    found = [_whole(Kind.MISSING, "missing", o) for key, o in ours.items() if key not in theirs]
    for key, o in theirs.items():
        if key not in ours:
            found.append(_whole(Kind.FOREIGN, "not ours", o))
        elif o != ours[key]:
            found += _changed(ours[key], o)
    return sorted(found, key=_place)


def fitting_version(replay: Sequence[tuple[int, Schema]], live: Schema) -> Fit | None:
    """Return the one version whose whole schema, as `replay` made it, a live database has.

    An object is ours if some version makes one of its type and name; others do not count. None of
    ours there gives None: the database is fresh to us. Raises `AdoptionRefused` where no version
    fits, or several.
    """
    ours = {o.key for _, schema in replay for o in schema.objects}
    known = Schema(tuple(o for o in live.objects if o.key in ours))
    if not known.objects:
        return None
    fits = tuple(version for version, schema in replay if schema == known)
    if len(fits) == 1:
        return Fit(fits[0], tuple(differences(known, live)))
    distance = _Distance(known)
    nearest, schema = min(replay, key=lambda made: distance.to(made[1]))
    told = [
        f"{d.type} {d.name}: not in version {nearest}" if d.kind is Kind.FOREIGN else str(d)
        for d in differences(schema, known)[:3]
    ]
    raise AdoptionRefused(fits, nearest, "; ".join(told))


class _Distance:
    """How far a live schema is from each of many, which share most of their objects."""

    def __init__(self, live: Schema) -> None:
        self._live = {o.key: o for o in live.objects}
        self._changes: dict[int, int] = {}

    def to(self, wanted: Schema) -> tuple[int, int]:
        """Count differences; of two equally far ones that with the same objects is nearer."""
        there = [o for o in wanted.objects if o.key in self._live]
        absent = len(wanted.objects) + len(self._live) - 2 * len(there)
        return absent + sum(map(self._changed, there)), absent

    def _changed(self, wanted: Object) -> int:
        if (known := self._changes.get(id(wanted))) is None:
            live = self._live[wanted.key]
            known = 0 if wanted == live else sum(1 for _ in _changed(wanted, live))
            self._changes[id(wanted)] = known
        return known


def _place(found: Difference) -> tuple[str, bool, str, str]:
    return lowered(found.table), found.type != "table", found.type, lowered(found.name)


def _whole(kind: Kind, detail: str, o: Object) -> Difference:
    sign = "-" if kind is Kind.MISSING else "+"
    diff = tuple(sign + line for line in o.sql.splitlines())
    return Difference(kind, o.type, o.table, o.name, detail, diff)


def _changed(wanted: Object, live: Object) -> Iterator[Difference]:
    ours, theirs = wanted.definition, live.definition
    changes = [("changed", _diff(wanted.sql, live.sql))]
    if ours.columns and theirs.columns:
        changes = [*_columns(ours, theirs), *_constraints(ours, theirs), *_options(ours, theirs)]
    for detail, diff in changes:
        yield Difference(Kind.CHANGED, wanted.type, wanted.table, wanted.name, detail, diff)


def _columns(wanted: Definition, live: Definition) -> Iterator[_Change]:
    ours, theirs = _by_name(wanted), _by_name(live)
    was, now = ([n for n in one if n in two] for one, two in ((ours, theirs), (theirs, ours)))
    if was != now:
        told = [", ".join(ours[name].name for name in names) for names in (was, now)]
        yield f"columns in another order: {told[0]} -> {told[1]}", (f"-{told[0]}", f"+{told[1]}")
    for name, column in ours.items():
        other = theirs.get(name)
        if other is None:
            yield f"column {column.name}: missing", (f"-{column.line}",)
        elif other.words != column.words:
            diff = f"-{column.line}", f"+{other.line}"
            yield f"column {column.name}: {column.kind} -> {other.kind}", diff
    for name, column in theirs.items():
        if name not in ours:
            yield f"column {column.name}: not ours", (f"+{column.line}",)


def _by_name(definition: Definition) -> dict[str, _Column]:
    found = {}
    for words, written in zip(definition.columns, definition.written, strict=False):
        name, kind = name_and_rest(written)
        found[name_and_rest(words)[0]] = _Column(name, kind or "untyped", as_shown(written), words)
    return found


def _constraints(wanted: Definition, live: Definition) -> Iterator[_Change]:
    if wanted.constraints == live.constraints:
        return
    gone, new = (
        [as_shown(text) for words, text in zip(one, texts, strict=True) if words not in two]
        for one, texts, two in (
            (wanted.constraints, wanted.written[len(wanted.columns) :], live.constraints),
            (live.constraints, live.written[len(live.columns) :], wanted.constraints),
        )
    )
    for was, now in zip_longest(gone, new):
        if was is None:
            yield f"constraint {now}: not ours", (f"+{now}",)
        elif now is None:
            yield f"constraint {was}: missing", (f"-{was}",)
        else:
            yield f"constraint {was} -> {now}", (f"-{was}", f"+{now}")
    if not gone and not new:
        yield "constraints in another order", ()


def _options(wanted: Definition, live: Definition) -> Iterator[_Change]:
    if wanted.rest != live.rest:
        was, now = (definition.rest.upper() or "none" for definition in (wanted, live))
        yield f"options: {was} -> {now}", (f"-{was}", f"+{now}")


def _diff(wanted: str, live: str) -> tuple[str, ...]:
    ours, theirs = lines(wanted), lines(live)
    match = SequenceMatcher(None, [w for w, _ in ours], [w for w, _ in theirs], autojunk=False)
    found: list[str] = []
    for tag, a, b, c, d in match.get_opcodes():
        if tag == "equal":
            found += [f" {text}" for _, text in ours[a:b]]
        else:
            found += [f"-{text}" for _, text in ours[a:b]] + [f"+{text}" for _, text in theirs[c:d]]
    return tuple(found)
