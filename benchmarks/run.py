"""Everything in one command: `python benchmarks/run.py [OPTION ...]`, see `--help`.

Takes the figures and writes results/NAME.json, the tables and the charts.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import apply
import cold
import features
import peers
import race
import tasks
from results import Results
from workloads import Workload, big_schema, filling, generated, wave

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Extent:
    """How much is measured."""

    rounds: int
    workloads: tuple[Workload, ...]
    known: tuple[int, ...]
    tasks: tuple[int, ...]
    processes: tuple[int, ...]
    synced_at: tuple[int, ...]


SHORT = Extent(
    rounds=3,
    workloads=(wave(), generated(100)),
    known=(10, 1000),
    tasks=(1, 100, 1000),
    processes=(1, 4, 16),
    synced_at=(20,),
)
LONG = Extent(
    rounds=9,
    workloads=(wave(), generated(100), generated(1000), filling(), big_schema()),
    known=(10, 100, 1000),
    tasks=(1, 10, 100, 1000, 10_000),
    processes=(1, 4, 16, 64),
    synced_at=(100, 1000),
)


def benchmarks(extent: Extent) -> dict[str, Callable[[], Results]]:
    """Return every benchmark by the name of its file of results."""
    rounds = extent.rounds
    return {
        "apply": lambda: apply.measure(rounds, extent.workloads, extent.known),
        "tasks": lambda: tasks.measure(rounds, extent.tasks),
        "features": lambda: features.measure(rounds, generated(100)),
        "race": lambda: race.measure(peers.install(), generated(100), rounds, extent.processes),
        "cold": lambda: cold.measure(peers.install(), extent.workloads, rounds, extent.synced_at),
    }


def main() -> None:
    """Measure, then draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true", help="all workloads, for an hour or more")
    parser.add_argument("--rounds", type=int, help="how often everything is measured")
    parser.add_argument("--only", nargs="+", choices=benchmarks(SHORT), help="these benchmarks")
    parser.add_argument("--workloads", nargs="+", metavar="WORD", help="those with it in the name")
    said = parser.parse_args()
    extent = LONG if said.long else SHORT
    if said.rounds:
        extent = replace(extent, rounds=said.rounds)
    if words := said.workloads:
        chosen = [w for w in extent.workloads if any(word in w.name for word in words)]
        extent = replace(extent, workloads=tuple(chosen))
    for name, measure in benchmarks(extent).items():
        if not said.only or name in said.only:
            print(name, flush=True)
            measure().save(name)
    for script in ("tables.py", "charts.py"):
        subprocess.run([sys.executable, str(HERE / script)], check=True)


if __name__ == "__main__":
    main()
