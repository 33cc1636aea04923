"""`kill -9` at random moments: a migration and its record are there together, or neither is."""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import pytest
import worker
from conftest import rounds
from worker import FILLED, checked_fill, ended, hears, lets_go, started

pytestmark = pytest.mark.chaos

KINDS = {"fresh": ("up", 0), "half migrated": ("up", 10), "rolling back": ("down", 20)}
"""What is killed: an action, and the version it begins at."""


@contextmanager
def going(kind: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a worker on a database of its own, and let it go."""
    action, version = KINDS[kind]
    path = folder / "state.db"
    folder.mkdir()
    if version:
        asyncio.run(worker.migrate(path, FILLED, version))
    with started(action, path, "FILLED") as process:
        hears(process, "ready")
        lets_go(process)
        yield process


def how_long(kind: str, folder: Path) -> float:
    """Measure a worker that nobody kills."""
    with going(kind, folder) as process:
        (outcome,) = ended(process)
    assert outcome["error"] is None, outcome["message"]
    return float(outcome["seconds"])


def test_a_killed_process_leaves_whole_migrations_and_the_next_run_completes(
    tmp_path: Path,
) -> None:
    """Whatever the moment: versions 1 to n with all their rows, and the next run does the rest."""
    seconds = {kind: how_long(kind, tmp_path / kind) for kind in KINDS}
    chance = random.Random(3)
    found: Counter[str] = Counter()
    longest = 0.0
    for number in range(times := rounds(12, 240)):
        kind = list(KINDS)[number % len(KINDS)]
        crashed, copy = tmp_path / f"{number}", tmp_path / f"{number}-copy"
        with going(kind, crashed) as process:
            sleep(seconds[kind] * chance.random())
            process.kill()
        shutil.copytree(crashed, copy)  # looked at there: to look is to recover
        found["with a log"] += (copy / "state.db-wal").exists()

        version = checked_fill(copy / "state.db")
        assert (0, 10, 1)[number % 3] <= version <= 20
        start = monotonic()
        done = asyncio.run(worker.migrate(crashed / "state.db", FILLED))
        longest = max(longest, monotonic() - start)
        assert list(range(version + 1, 21)) == [step.version for step in done.steps]
        assert 20 == checked_fill(crashed / "state.db")
        found["in the middle"] += version not in {0, 1, 10, 20}
        shutil.rmtree(crashed)
        shutil.rmtree(copy)

    assert found["in the middle"] or times < 100, "no kill came in the middle of anything"
    about = ", ".join(f"{what} {count}" for what, count in found.items())
    worker.say(f"\nkill -9: rounds {times}, failures 0, {about}, longest rerun {longest:.2f} s")
