"""What the engine is meant to reach, and whether it did, in the biggest workload that was run."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import apply
import cold
import race
import tasks
from contestants import ENGINE, FLOOR, LIMIT, STACK
from results import Figure, Results, load, ratios


@dataclass(frozen=True)
class Target:
    """A ratio, or a count, that is not to be above a bound."""

    what: str
    bound: float
    found: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle of what was found."""
        return statistics.median(self.found)

    @property
    def met(self) -> bool:
        """Whether the middle is within the bound."""
        return self.median <= self.bound


@dataclass(frozen=True)
class Aim:
    """Which row is to be within which bound of which other."""

    benchmark: str
    what: str
    row: str
    base: str
    bound: float
    biggest_of: str = ""


AIMS = (
    Aim("apply", apply.APPLY, ENGINE, LIMIT, 1.3, "of two statements"),
    Aim("apply", apply.CHECK, ENGINE, apply.SELECT, 1.5),
    Aim("cold", f"{cold.STATUS}: wall", ENGINE, FLOOR, 1.25),
    Aim("cold", f"{cold.NOTHING}: wall", ENGINE, FLOOR, 1.25),
    Aim("cold", f"{cold.STATUS}: memory", ENGINE, FLOOR, 1.25),
    Aim("tasks", "wait longest", tasks.DONE, tasks.LOCK, 1.2, "tasks"),
)
CROWD = "16 processes"
ATOMIC = ("yoyo", "Django", "sqlite-utils", "peewee-migrate", "tortoise")
"""The peers in Python whose migrations are there in whole or not at all; they list them, too."""


def found(aim: Aim) -> Iterator[Target]:
    """Yield what became of an aim under each workload, or under the biggest of a kind."""
    results = load(aim.benchmark)
    workloads = results.workloads(aim.what)
    if aim.biggest_of:
        workloads = [name for name in workloads if aim.biggest_of in name][-1:]
    for workload in workloads:
        rows = results.of(aim.what, workload)
        if aim.row in rows and aim.base in rows:
            values = ratios(rows[aim.row], rows[aim.base])
            yield Target(f"{aim.what}, {workload}, to {aim.base}", aim.bound, tuple(values))


def against_peers() -> Iterator[Target]:
    """Yield how the engine stands to the fastest comparable peer, in its faster journal mode."""
    results = load("cold")
    wall = f"{cold.STATUS}: wall"
    for workload in results.workloads(wall):
        yield from to_fastest(wall, workload, results.of(wall, workload), 1.0)
    for workload in results.workloads(f"{cold.FRESH}: wall"):
        if "of two statements" in workload:
            yield from to_fastest(cold.RATE, workload, cold.rate(results, workload), 0.65)


def to_fastest(
    what: str, workload: str, rows: Mapping[str, Figure], bound: float
) -> Iterator[Target]:
    """Yield how the engine stands to the fastest comparable peer."""
    peers = [row for name, row in rows.items() if name.startswith(ATOMIC)]
    if ENGINE in rows and peers:
        fastest = min(peers, key=lambda row: row.median)
        values = tuple(ratios(rows[ENGINE], fastest))
        yield Target(f"{what}, {workload}, to {fastest.row}", bound, values)


def counted() -> Iterator[Target]:
    """Yield the targets that are no ratios to a row of the same figure."""
    racing, whole = load("race"), load("cold")
    yield from of(racing, race.ERRORS, CROWD, 0)
    wall = racing.of(race.WALL, CROWD)
    for base in (LIMIT, STACK):
        if ENGINE in wall and base in wall:
            values = tuple(ratios(wall[ENGINE], wall[base]))
            yield Target(f"{CROWD}, {race.WALL}, to {base}", 1.2, values)
    for workload in whole.workloads(cold.FSYNC)[-1:]:
        yield from of(whole, cold.FSYNC, workload, 1.1)


def of(results: Results, what: str, workload: str, bound: float) -> Iterator[Target]:
    """Yield a figure of the engine as it is."""
    figure = results.of(what, workload).get(ENGINE)
    if figure:
        yield Target(f"{what}, {workload}", bound, figure.values)


def targets() -> list[Target]:
    """Return every target that there are figures for."""
    return [*(target for aim in AIMS for target in found(aim)), *against_peers(), *counted()]
