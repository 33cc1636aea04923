"""Many processes on one fresh file at the same moment: who fails, and how long each one waits."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from contestants import ENGINE, LIMIT, STACK, Contestant, Projects, baselines, tables
from peers import Installed
from results import Results
from rows import PATIENCE, PREFIX, Failed, environment, named_error, run
from workloads import Workload

TOGETHER = 8
ERRORS, WAIT, WALL, BROKEN = "errors", "wait", "all done", "broken afterwards"


@dataclass(frozen=True)
class Ended:
    """How one process ended: after how many seconds, and with which error."""

    seconds: float
    error: str


@dataclass(frozen=True)
class Race:
    """How all ended, and what is wrong with the database afterwards."""

    ended: tuple[Ended, ...]
    broken: str


def race(contestant: Contestant, projects: Projects, processes: int) -> Race:
    """Let processes apply the same migrations to one fresh file. Raises `Failed`."""
    with TemporaryDirectory(prefix=PREFIX) as parent:
        folder = Path(parent)
        projects.fresh(contestant)(folder)
        ended = raced(contestant, folder, processes)
        return Race(tuple(ended), after(contestant, projects.workload, folder))


def raced(contestant: Contestant, folder: Path, processes: int) -> list[Ended]:
    """Hold all processes at a gate, open it, and see how each one ends."""
    gate, opener = os.pipe()
    command = ("sh", "-c", 'read _; exec "$@" < /dev/null', "sh", *contestant.up)
    started = [
        subprocess.Popen(
            command,
            cwd=folder,
            env=environment(),
            stdin=gate,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    os.close(gate)
    with ThreadPoolExecutor(processes) as waiting:
        start = time.perf_counter()
        os.close(opener)
        return list(waiting.map(lambda process: ending(process, start), started))


def ending(process: subprocess.Popen[str], start: float) -> Ended:
    """Wait for one process."""
    assert process.stderr
    with closing(process.stderr), process:
        said = process.stderr.read()
        code = process.wait(PATIENCE)
    error = (named_error(said) or f"exit code {code}") if code else ""
    return Ended(time.perf_counter() - start, error)


def after(contestant: Contestant, workload: Workload, folder: Path) -> str:
    """Say what is wrong once all have ended and one more has tried; nothing, if all is well."""
    try:
        run(contestant.up, folder)
    except Failed as error:
        return str(error)
    missing = workload.tables - tables(folder)
    return f"{missing} tables are missing" if missing else ""


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of all is not above."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def record(results: Results, name: str, raced: Sequence[Race], processes: int) -> None:
    """Add the figures of the races of one row."""
    about = f"{processes} processes"
    waits = [[one.seconds for one in race.ended] for race in raced]
    results.add(ERRORS, about, name, "", [sum(bool(e.error) for e in r.ended) for r in raced])
    results.add(BROKEN, about, name, "", [bool(r.broken) for r in raced])
    results.add(WALL, about, name, "s", [max(w) for w in waits])
    for share, label in ((0.5, "p50"), (0.99, "p99")):
        results.add(f"{WAIT} {label}", about, name, "s", [percentile(w, share) for w in waits])
    # 1: everyone waits for as long; 0: one waits for all.
    results.add("fairness", about, name, "", [min(w) / max(w) for w in waits])
    said = Counter(alike(e.error) for r in raced for e in r.ended if e.error)
    said.update(f"afterwards: {alike(r.broken)}" for r in raced if r.broken)
    if said:
        errors = "; ".join(f"{count} x {error}" for error, count in said.most_common())
        results.notes.append(f"{name}, {len(raced)} races of {about}: {errors}")


def alike(error: str) -> str:
    """Return an error without what differs from process to process: tables, numbers, folders."""
    return re.sub(rf"\S*{PREFIX}[^\s'\"/]*/?", "", re.sub(r"\d{3,}|(?<=\bt)\d+", "N", error))


def measure(
    installed: Installed, workload: Workload, rounds: int, crowds: Sequence[int]
) -> Results:
    """Race everyone with eight processes, and the engine beside its limit with any number."""
    results = Results(versions=installed.versions, missing=dict(installed.missing))
    own = [c for c in baselines() if c.name in (ENGINE, LIMIT, STACK)]
    fields = dict.fromkeys(crowds, own)
    fields[TOGETHER] = [
        *own,
        *(kind for c in installed.contestants.values() for kind in (c, c.after_wal())),
    ]
    with TemporaryDirectory(prefix=PREFIX) as place:
        projects = Projects(Path(place), workload)
        for processes, rows in fields.items():
            print(f"  race of {processes} processes: {workload.name}", flush=True)
            races(results, rows, projects, processes, rounds)
    return results


def races(
    results: Results,
    rows: Sequence[Contestant],
    projects: Projects,
    processes: int,
    rounds: int,
) -> None:
    """Let every row race alone, in turn."""
    found: dict[str, list[Race]] = {row.name: [] for row in rows}
    for _ in range(rounds):
        for row in rows:
            try:
                found[row.name].append(race(row, projects, processes))
            except Failed as error:
                lacking = {row.name: str(error)}
                results.lack(f"race of {processes}", projects.workload.name, lacking)
    for name, of_row in found.items():
        if of_row:
            record(results, name, of_row, processes)
