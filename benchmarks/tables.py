"""Writes the figures of results/*.json as tables.

All of them go to results/tables.md; the targets to docs/benchmarks.md and a summary to the README,
between two marks each.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import apply
import cold
import features
import race
import tasks
from contestants import ENGINE, FLOOR, IN_WAL, LIMIT
from results import FOLDER, Figure, Results, faster, load, ratios
from targets import targets

ROOT = Path(__file__).parents[1]
PAGE, README = ROOT / "docs" / "benchmarks.md", ROOT / "README.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"


def amount(value: float, unit: str) -> str:
    """Write a value with its unit, as a person would."""
    if unit == "B":
        return f"{value / 2**20:.0f} MiB"
    if unit == "s":
        return f"{value:.2f} s" if value >= 1 else milliseconds(value)
    return f"{value:.2f}".rstrip("0").rstrip(".")


def milliseconds(value: float) -> str:
    """Write less than a second."""
    return f"{value * 1e3:.0f} ms" if value >= 0.01 else f"{value * 1e6:.0f} us"  # noqa: PLR2004


def shown(figure: Figure) -> str:
    """Write the median, and the spread where it was measured more than once."""
    values = [amount(value, figure.unit) for value in (min(figure.values), max(figure.values))]
    spread = f" ({values[0]} .. {values[1]})" if values[0] != values[1] else ""
    return f"{amount(figure.median, figure.unit)}{spread}"


def relative(figure: Figure, base: Figure) -> str:
    """Write how a row stands to another that was measured in the same rounds."""
    found = ratios(figure, base)
    spread = f"{min(found):.2f} .. {max(found):.2f}"
    return f"{statistics.median(found):.2f} ({spread})" if len(found) > 1 else f"{found[0]:.2f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def beside(
    found: Mapping[str, Figure], base: str, *more: Mapping[str, Figure]
) -> list[tuple[str, ...]]:
    """Return rows, fastest first: name, ratio to the base, seconds, and what else there is."""
    rows = sorted(found.items(), key=lambda item: item[1].median)
    return [
        (
            f"**{name}**" if name == ENGINE else name,
            relative(figure, found[base]) if base in found else "",
            shown(figure),
            *(shown(other[name]) if name in other else "" for other in more),
        )
        for name, figure in rows
    ]


def machine(results: Results) -> str:
    """Describe what the figures were taken on."""
    return "; ".join(f"{name} {value}" for name, value in results.machine.items())


def about(results: Results) -> Iterator[str]:
    """Yield what the figures were taken on, what they leave out, and who is missing."""
    yield f"Taken on: {machine(results)}"
    yield ""
    yield from (f"- {note}" for note in results.notes)
    yield from (f"- no figure for {name}: {why}" for name, why in results.missing.items())
    if results.notes or results.missing:
        yield ""


def commands(results: Results) -> Iterator[str]:
    """Yield the tables of whole commands."""
    for what in (cold.STATUS, cold.NOTHING, cold.FRESH):
        base = LIMIT if what == cold.FRESH else FLOOR
        for workload in results.workloads(f"{what}: wall"):
            yield f"### A whole process, `{what}`: {workload}\n"
            wall, cpu, memory = (
                results.of(f"{what}: {part}", workload) for part in ("wall", "cpu", "memory")
            )
            head = ("row", f"to the {base}", "wall", "processor", "peak memory")
            yield from table(head, beside(wall, base, cpu, memory))
    for workload in results.workloads(f"{cold.FRESH}: wall"):
        yield f"### {cold.RATE}: {workload}\n"
        yield "What a whole `up` takes more than one with nothing to do.\n"
        rows = beside(cold.rate(results, workload), LIMIT)
        yield from table(("row", f"to the {LIMIT}", "wall"), rows)
    yield "### Importing\n"
    found = results.of(f"{cold.IMPORT}: wall")
    yield from table(("module of", "to an empty interpreter", "wall"), beside(found, "nothing"))
    for workload in results.workloads(cold.FSYNC):
        yield f"### Calls of fsync per migration: {workload}\n"
        found = results.of(cold.FSYNC, workload)
        counts = sorted(found.items(), key=lambda item: item[1].median)
        yield from table(("row", "fsync"), [(name, shown(figure)) for name, figure in counts])


def inside(results: Results) -> Iterator[str]:
    """Yield the tables of one process."""
    for what, base in ((apply.APPLY, LIMIT), (apply.CHECK, apply.SELECT)):
        for workload in results.workloads(what):
            yield f"### In a process, {what}: {workload}\n"
            found = results.of(what, workload)
            yield from table(("row", f"to {base}", "wall"), beside(found, base))


def crowds(results: Results) -> Iterator[str]:
    """Yield the tables of many tasks."""
    parts = ("wait p50", "wait p99", "wait longest", "in order", "event-loop gap")
    for workload in results.workloads("wait longest"):
        yield f"### {workload}\n"
        found = {part: results.of(part, workload) for part in parts}
        rows = [
            (
                name,
                relative(figure, found["wait longest"][tasks.LOCK]),
                *(shown(found[part][name]) for part in parts),
            )
            for name, figure in found["wait longest"].items()
        ]
        yield from table(("row", "all done, to the lock", *parts), rows)


def races(results: Results) -> Iterator[str]:
    """Yield the tables of many processes."""
    parts = (race.ERRORS, race.BROKEN, "wait p50", "wait p99", race.WALL, "fairness")
    for workload in sorted(results.workloads(race.ERRORS), key=lambda name: int(name.split()[0])):
        yield f"### {workload} on one fresh file\n"
        found = {part: results.of(part, workload) for part in parts}
        base = found[race.WALL].get(LIMIT)
        rows = [
            (
                f"**{name}**" if name == ENGINE else name,
                relative(figure, base) if base else "",
                *(shown(found[part][name]) for part in parts),
            )
            for name, figure in found[race.WALL].items()
        ]
        yield from table(("row", "all done, to the limit", *parts), rows)


def precautions(results: Results) -> Iterator[str]:
    """Yield what each precaution costs."""
    for workload in results.workloads(features.COST):
        yield f"### Applying {workload}\n"
        found = results.of(features.COST, workload)
        rows = [
            (name, relative(found[having], found[lacking]), shown(found[lacking]))
            for name, (having, lacking) in features.PRECAUTIONS.items()
        ]
        yield from table(("precaution", "with it, to without it", "without it"), rows)


PARTS: dict[str, tuple[str, Callable[[Results], Iterator[str]]]] = {
    "apply": ("Inside a process", inside),
    "cold": ("Whole commands", commands),
    "tasks": ("Tasks that await one manager", crowds),
    "race": ("Processes on one file", races),
    "features": ("What each precaution costs", precautions),
}


def aims() -> Iterator[str]:
    """Yield which targets are met, and on which machine."""
    measured = [results for name in PARTS if (results := load(name)).machine]
    yield from (f"Taken on: {machine(results)}\n" for results in measured[:1])
    rows = [
        (t.what, f"{t.bound:g}", f"{t.median:.2f}", "met" if t.met else "**missed**")
        for t in targets()
    ]
    yield from table(("what", "at most", "found", ""), rows)


def summary() -> Iterator[str]:
    """Yield the table of the README: everybody in the faster journal mode."""
    whole, racing = load("cold"), load("race")
    listing, fresh = f"{cold.STATUS}: wall", f"{cold.FRESH}: wall"
    workload = [name for name in whole.workloads(fresh) if "of two statements" in name][-1]
    status = whole.of(listing, whole.workloads(listing)[0])
    up = whole.of(fresh, workload)
    errors = racing.of(race.ERRORS, f"{race.TOGETHER} processes")
    rows = [
        (
            f"**{name}**" if name == ENGINE else name,
            short(figure, up[LIMIT]),
            short(faster(status, IN_WAL)[name], status[FLOOR]),
            f"{errors[name].median:g} of {race.TOGETHER}",
        )
        for name, figure in sorted(faster(up, IN_WAL).items(), key=lambda row: row[1].median)
        if name in errors and name in status
    ]
    head = (f"`up` of {workload}", "`status`", "started at once, fail")
    yield from table(("", *head), rows)


def short(figure: Figure, base: Figure) -> str:
    """Write how a row stands to another, without the spread."""
    return f"{statistics.median(ratios(figure, base)):.1f}"


def everything() -> Iterator[str]:
    """Yield all tables."""
    yield "# Figures\n"
    yield "Written by `benchmarks/tables.py`; what they mean is in `docs/benchmarks.md`.\n"
    for name, (title, lines) in PARTS.items():
        results = load(name)
        yield f"## {title}\n"
        if not results.figures:
            yield "Not measured yet.\n"
            continue
        yield from about(results)
        yield from lines(results)


def main() -> None:
    """Write all pages."""
    for page, lines in ((PAGE, aims()), (README, summary())):
        text = page.read_text(encoding="utf-8")
        before, after = text.partition(BEGIN)[0], text.partition(END)[2]
        made = "\n".join(lines).strip("\n")
        page.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{after}", encoding="utf-8")
    tables = "\n".join(everything()).strip("\n")
    (FOLDER / "tables.md").write_text(f"{tables}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
