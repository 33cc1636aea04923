"""Draws the charts of results/*.svg from results/*.json; the colours are those of Okabe and Ito."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cold
import matplotlib as mpl
import race
import tasks
from contestants import ENGINE, FLOOR, IN_WAL, LIMIT
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as Picture
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from results import FOLDER, Results, faster, load, ratios

ENGINE_COLOUR, PEER_COLOUR, LIMIT_COLOUR = "#0072B2", "#E69F00", "#999999"
LINES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
MARKS = "osD^vX"
GREY = "#444444"
SPREAD = "; thin line: least to most"


@dataclass(frozen=True)
class Bar:
    """One row of a chart: its middle, its least and its most."""

    name: str
    middle: float
    low: float
    high: float


def colour(name: str) -> str:
    """Return the colour of a row: this engine, the limits, everybody else."""
    if name.startswith(ENGINE):
        return ENGINE_COLOUR
    return LIMIT_COLOUR if name.startswith(("limit", FLOOR)) else PEER_COLOUR


def bars(axes: Axes, rows: Sequence[Bar], label: str, *, log: bool = False) -> None:
    """Draw rows with their spread and their figures: bars, but dots where there is no zero."""
    names = [row.name for row in rows]
    middles = [row.middle for row in rows]
    colours = [colour(name) for name in names]
    if log:
        axes.scatter(middles, names, color=colours, zorder=3)
        logarithmic(axes, "x", marks=(1, 2, 5))
        axes.grid(axis="y", color="#eeeeee")
    else:
        axes.barh(names, middles, color=colours, height=0.7)
    for place, row in enumerate(rows):
        axes.plot([row.low, row.high], [place, place], color=GREY, linewidth=1)
        axes.annotate(
            f"{row.middle:.3g}",
            (max(row.middle, row.high), place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.tick_params(axis="y", length=0)


def logarithmic(axes: Axes, *which: str, marks: Sequence[int] = (1,)) -> None:
    """Make scales logarithmic, with numbers that a person reads."""
    for name in which:
        axes.set(**{f"{name}scale": "log"})
        axis: Axis = getattr(axes, f"{name}axis")
        axis.set_major_locator(LogLocator(subs=marks))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axis.set_minor_formatter(NullFormatter())


def bare(axes: Axes) -> None:
    """Take away what carries nothing."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def finish(picture: Picture, title: str, results: Results, name: str, more: str = SPREAD) -> None:
    """Give a chart its title, the machine and the date, and write it."""
    machine = results.machine
    said = f"{machine['date']}, {machine['processor']}, SQLite {machine['SQLite']}"
    picture.suptitle(title, x=0.01, ha="left", fontsize=11)
    picture.text(0.01, 0.01, said + more, fontsize=7, color=GREY)
    picture.tight_layout(rect=(0, 0.04, 1, 1))
    # No date and no random identifiers: the same figures make the same file.
    picture.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})


def relative(results: Results, what: str, workload: str, base: str) -> list[Bar]:
    """Return all rows relative to one of them, least first; of peers the faster journal mode."""
    found = results.of(what, workload)
    rows = [
        Bar(name, statistics.median(values), min(values), max(values))
        for name, figure in faster(found, IN_WAL).items()
        if (values := ratios(figure, found[base]))
    ]
    return sorted(rows, key=lambda bar: bar.middle)


def applying(results: Results) -> None:
    """Draw a fresh `up` of the biggest generated workload."""
    what = f"{cold.FRESH}: wall"
    workload = [name for name in results.workloads(what) if "of two statements" in name][-1]
    picture = Picture(figsize=(7, 4))
    axes = picture.subplots()
    bare(axes)
    rows = relative(results, what, workload, LIMIT)
    bars(axes, rows, "time relative to the limit (log)", log=True)
    title = f"A whole `up` of {workload}; peers in their faster journal mode"
    finish(picture, title, results, "apply")


def racing(results: Results) -> None:
    """Draw who fails when eight processes start at once, and when the last one is done."""
    about = f"{race.TOGETHER} processes"
    errors, wall = results.of(race.ERRORS, about), results.of(race.WALL, about)
    names = sorted(errors, key=lambda name: (statistics.mean(errors[name].values), name))
    picture = Picture(figsize=(9, 5.5))
    left, right = picture.subplots(1, 2, sharey=True)

    def row(name: str, values: Sequence[float], middle: float) -> Bar:
        return Bar(name, middle, min(values), max(values))

    failed = [
        row(n, share, statistics.mean(share))
        for n in names
        if (share := [100 * value / race.TOGETHER for value in errors[n].values])
    ]
    waited = [row(n, wall[n].values, wall[n].median) for n in names]
    bars(left, failed, "processes that end with an error, % (mean)")
    bars(right, waited, "until all have ended, s (median, log)", log=True)
    right.invert_yaxis()  # the left one has turned the axis that both share
    left.set_xlim(0, 110)
    for axes in (left, right):
        bare(axes)
    finish(picture, f"{about} apply the same 100 migrations to one file", results, "race")


def crowding(results: Results) -> None:
    """Draw how long the slowest percent of tasks waits."""
    picture = Picture(figsize=(7, 4))
    axes = picture.subplots()
    bare(axes)
    what = "wait p99"
    for number, name in enumerate(
        (tasks.LOCK, tasks.DONE, tasks.FRESH, tasks.MIXED, tasks.QUERIES)
    ):
        points = [
            (int(about.split()[0].replace(",", "")), results.of(what, about)[name].median)
            for about in results.workloads(what)
            if name in results.of(what, about)
        ]
        axes.plot(*zip(*points, strict=True), color=LINES[number], marker=MARKS[number], label=name)
    logarithmic(axes, "x", "y")
    axes.set_xlabel("tasks that await one manager at once (log)")
    axes.set_ylabel("99 of 100 are done after, s (log)")
    axes.legend(frameon=False, fontsize=8)
    finish(picture, "Many tasks of one process", results, "tasks", "")


def starting(results: Results) -> None:
    """Draw a cold `status` of Wave's five."""
    what = f"{cold.STATUS}: wall"
    picture = Picture(figsize=(7, 4))
    axes = picture.subplots()
    bare(axes)
    workload = results.workloads(what)[0]
    bars(axes, relative(results, what, workload, FLOOR), "time relative to the floor of the stack")
    finish(picture, f"A cold `status`, or what is nearest to it: {workload}", results, "status")


CHARTS = (("cold", applying), ("cold", starting), ("race", racing), ("tasks", crowding))


def main() -> None:
    """Draw everything that was measured."""
    mpl.rcParams.update({"svg.hashsalt": "wave", "svg.fonttype": "none", "font.size": 9})
    for name, draw in CHARTS:
        results = load(name)
        if results.figures:
            draw(results)
            print(Path(f"{name}.json"), draw.__name__)


if __name__ == "__main__":
    main()
