"""Figures as values, kept as JSON beside the machine that they were taken on."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from machine import described
from rows import Spent

FOLDER = Path(__file__).with_name("results")
UNITS = {"wall": "s", "cpu": "s", "memory": "B"}


@dataclass(frozen=True)
class Figure:
    """What one row took of one thing under one workload, once for each round."""

    what: str
    workload: str
    row: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle of all rounds."""
        return statistics.median(self.values)


@dataclass
class Results:
    """All that one benchmark found: figures, and what there is none of and why."""

    figures: list[Figure] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    versions: dict[str, list[str]] = field(default_factory=dict)
    machine: dict[str, str] = field(default_factory=dict)

    def add(self, what: str, workload: str, row: str, unit: str, values: Iterable[float]) -> None:
        """Add a figure, if there is any value."""
        if found := tuple(float(f"{value:.6g}") for value in values):
            self.figures.append(Figure(what, workload, row, unit, found))

    def add_spent(self, what: str, workload: str, took: Mapping[str, list[Spent]]) -> None:
        """Add what whole processes took."""
        for row, rounds in took.items():
            for part, unit in UNITS.items():
                values = [getattr(one, part) for one in rounds]
                self.add(f"{what}: {part}", workload, row, unit, values)

    def lack(self, what: str, workload: str, failed: Mapping[str, str]) -> None:
        """Say why rows have no figure."""
        for row, reason in failed.items():
            self.missing[f"{row}: {what}, {workload}"] = reason

    def of(self, what: str, workload: str = "") -> dict[str, Figure]:
        """Return the figures of one thing by their rows."""
        return {f.row: f for f in self.figures if f.what == what and workload in ("", f.workload)}

    def workloads(self, what: str) -> list[str]:
        """Return the workloads under which a thing was measured, in their order."""
        return list(dict.fromkeys(f.workload for f in self.figures if f.what == what))

    def save(self, name: str) -> None:
        """Write the figures to a file of the results folder."""
        self.machine = described(tempfile.gettempdir())
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / f"{name}.json").write_text(self.text(), encoding="utf-8")

    def text(self) -> str:
        """Write everything as JSON, a line for each figure."""
        about = json.dumps({**vars(self), "figures": []}, indent=1)
        figures = ",\n".join(f"  {json.dumps(asdict(figure))}" for figure in self.figures)
        return about.replace('"figures": []', f'"figures": [\n{figures}\n ]') + "\n"


def load(name: str) -> Results:
    """Read the figures of a benchmark; none, if it never ran."""
    path = FOLDER / f"{name}.json"
    if not path.exists():
        return Results()
    found = json.loads(path.read_text(encoding="utf-8"))
    figures = [Figure(**{**f, "values": tuple(f["values"])}) for f in found.pop("figures")]
    return Results(figures=figures, **found)


def faster(found: Mapping[str, Figure], suffix: str) -> dict[str, Figure]:
    """Return the rows with and without a suffix as one each: the faster of both."""
    rows: dict[str, Figure] = {}
    for name, figure in found.items():
        one = name.removesuffix(suffix)
        if one not in rows or figure.median < rows[one].median:
            rows[one] = figure
    return rows


def ratios(figure: Figure, base: Figure) -> list[float]:
    """Return how a row stood to another in each round."""
    return [value / other for value, other in zip(figure.values, base.values, strict=True)]
