"""What a command costs, start of the interpreter to its end: `status`, `up` with nothing, `up`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from contestants import ENGINE, LIMIT, SHELL, Contestant, Projects, baselines, floor
from peers import PEERS, Installed
from results import Figure, Results
from rows import PREFIX, Failed, Row, in_turn, run
from workloads import Workload, generated

FRESH, NOTHING, STATUS, IMPORT = "up", "up with nothing to do", "status", "import"
FSYNC = "fsync per migration"
RATE = "applying alone"
MODULES = ("asyncio, sqlite3", "aiosqlite", "asyncclick", "wave_async", "wave_async.cli")


def everyone(installed: Installed) -> list[Contestant]:
    """Return all rows: each as it is, and the peers on a database in WAL as well."""
    peers = [kind for c in installed.contestants.values() for kind in (c, c.after_wal())]
    return [*baselines(), *peers]


def commands(
    results: Results, contestants: Sequence[Contestant], projects: Projects, rounds: int
) -> None:
    """Measure all three commands of everyone under one workload."""
    workload = projects.workload.name
    fresh = [c.row(projects.fresh(c), c.up) for c in contestants]
    # The shell runs a script, and knows nothing of what was applied before.
    again = [c for c in contestants if c.name != SHELL]
    nothing = [c.row(projects.done(c), c.up, again=True) for c in again]
    status = [c.row(projects.done(c), c.listing, again=True) for c in contestants if c.listing]
    base = floor(projects)
    figures = {FRESH: fresh, NOTHING: [base, *nothing], STATUS: [base, *status]}
    for what, rows in figures.items():
        print(f"  {what}: {workload}", flush=True)
        took, failed = in_turn(rows, rounds, warm=not projects.workload.heavy)
        results.add_spent(what, workload, took)
        results.lack(what, workload, failed)


def rate(results: Results, workload: str) -> dict[str, Figure]:
    """Return what an `up` of everything takes more than one with nothing to do, for each row."""
    fresh, nothing = (results.of(f"{what}: wall", workload) for what in (FRESH, NOTHING))
    return {
        name: Figure(RATE, workload, name, "s", more)
        for name in fresh.keys() & nothing.keys()
        if all(more := differences(fresh[name], nothing[name]))
    }


def differences(figure: Figure, base: Figure) -> tuple[float, ...]:
    """Return by how much a row was above another in each round, 0 where it was not."""
    pairs = zip(figure.values, base.values, strict=True)
    return tuple(max(value - other, 0.0) for value, other in pairs)


def imports(results: Results, installed: Installed, rounds: int) -> None:
    """Measure importing each tool beside an interpreter that imports nothing."""

    def row(name: str, python: str, module: str) -> Row:
        code = f"import {module}" if module else "pass"
        return Row(name, lambda _: None, (python, "-c", code), again=True)

    rows = [row("nothing", sys.executable, "")]
    rows += [row(module, sys.executable, module) for module in MODULES]
    rows += [
        row(peer.name, str(installed.programs[peer.name] / "python"), peer.imports)
        for peer in PEERS
        if peer.imports and peer.name in installed.programs
    ]
    print("  imports", flush=True)
    took, failed = in_turn(rows, rounds)
    results.add_spent(IMPORT, "", took)
    results.lack(IMPORT, "", failed)


def fsyncs(results: Results, contestants: Sequence[Contestant], counts: Sequence[int]) -> None:
    """Count what each asks of the disk, with strace; nothing here depends on the machine's load."""
    strace = shutil.which("strace")
    if strace is None:
        results.missing[FSYNC] = "strace is not installed"
        return
    for count in counts:
        workload = generated(count)
        print(f"  {FSYNC}: {workload.name}", flush=True)
        for contestant in contestants:
            if count > min(counts) and contestant.name not in (ENGINE, LIMIT):
                continue
            try:
                found = synced(strace, contestant, workload)
            except Failed as error:
                results.lack(FSYNC, workload.name, {contestant.name: str(error)})
                continue
            results.add(FSYNC, workload.name, contestant.name, "", [found / count])


def synced(strace: str, contestant: Contestant, workload: Workload) -> int:
    """Count the syncs of one fresh `up`. Raises `Failed`."""
    with TemporaryDirectory(prefix=PREFIX) as folder:
        contestant.done(workload)(Path(folder))
        contestant.forget(Path(folder))
        log = Path(folder, "strace.log")
        run(
            (strace, "-f", "-qq", "-e", "trace=fsync,fdatasync", "-o", str(log), *contestant.up),
            Path(folder),
        )
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return sum("fsync(" in line or "fdatasync(" in line for line in lines)


def few(rounds: int) -> int:
    """Return how many rounds are enough for what takes many seconds anyway."""
    return max(1, rounds // 3)


def measure(
    installed: Installed, workloads: Sequence[Workload], rounds: int, synced_at: Sequence[int]
) -> Results:
    """Take all figures of whole commands."""
    results = Results(versions=installed.versions, missing=dict(installed.missing))
    contestants = everyone(installed)
    results.notes.extend(dict.fromkeys(c.note for c in contestants if c.note))
    for workload in workloads:
        with TemporaryDirectory(prefix=PREFIX) as place:
            projects = Projects(Path(place), workload)
            commands(results, contestants, projects, few(rounds) if workload.heavy else rounds)
    imports(results, installed, rounds)
    fsyncs(results, contestants, synced_at)
    return results
