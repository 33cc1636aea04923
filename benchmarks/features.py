"""What each precaution of the engine costs: applying with it, and with it taken out.

The engine has no switch for most of them; here they are taken out of its code for a moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from apply import as_migrations, engine, in_turn
from contestants import ENGINE
from results import Results
from workloads import Workload

from wave_async import Migration
from wave_async.database import guard, keys
from wave_async.database.driver import EngineConnection
from wave_async.database.keys import Violations
from wave_async.database.requests import Program
from wave_async.database.walk import Walk

COST = "precautions"
KEYS_OFF = f"{ENGINE}, foreign_keys=off"
PRECAUTIONS = {
    "the guard": (ENGINE, "without the guard"),
    "the look at what a DROP cascades to": (ENGINE, "without the look at cascades"),
    "the second look, under the lock": (ENGINE, "without the second look"),
    "the log": (ENGINE, "without the log"),
    "the check of keys, where they are off": (KEYS_OFF, "without the check of keys"),
}
"""Each precaution, with the row that has it and the row that has not."""


def nothing(*_: object, **__: object) -> Program[Any]:
    """Ask the database for nothing."""
    yield from ()


def no_violations() -> Program[Violations]:
    """Count no violations."""
    yield from ()
    return Violations({}, set(), {})


@contextmanager
def without_guard() -> Iterator[None]:
    """Let statements do what they want: no authorizer, no look at their text."""
    with (
        patch.object(EngineConnection, "stand_in", lambda *_: None),
        patch.object(guard, "look", nothing),
    ):
        yield


@contextmanager
def without_second_look() -> Iterator[None]:
    """Believe under the lock what was read before it."""
    look = Walk._look  # noqa: SLF001

    def once(walk: Walk) -> Program[None]:
        if walk._seen is None:  # noqa: SLF001
            yield from look(walk)

    with patch.object(Walk, "_look", once):
        yield


def cost(results: Results, workload: Workload, rounds: int) -> None:
    """Measure the engine with everything, and without one thing each, in turn."""
    print(f"  {COST}: {workload.name}", flush=True)
    plain = as_migrations(workload)
    keyless = [replace(migration, foreign_keys=False) for migration in plain]

    def job(
        migrations: list[Migration],
        changed: Callable[[], AbstractContextManager[object]] = nullcontext,
        *,
        log: bool = True,
    ) -> Callable[[Path], object]:
        def run(path: Path) -> None:
            with changed():
                asyncio.run(engine(path, migrations, log=log))

        return run

    jobs = {
        ENGINE: job(plain),
        "without the guard": job(plain, without_guard),
        "without the look at cascades": job(
            plain, lambda: patch.object(keys, "refuse_cascade", nothing)
        ),
        "without the second look": job(plain, without_second_look),
        "without the log": job(plain, log=False),
        KEYS_OFF: job(keyless),
        "without the check of keys": job(
            keyless, lambda: patch.object(keys, "violations", no_violations)
        ),
    }
    for name, values in in_turn(jobs, rounds).items():
        results.add(COST, workload.name, name, "s", values)


def measure(rounds: int, workload: Workload) -> Results:
    """Take the figures of all precautions."""
    results = Results()
    cost(results, workload, rounds)
    return results
