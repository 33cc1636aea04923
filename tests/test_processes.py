"""Many processes on one database: each migration runs once, and every one of them ends well."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import worker
from conftest import rounds
from worker import EIGHT, PATIENCE, checked_log, ended, hears, lets_go, race, started, wave

from wave_async import (
    Event,
    MigrationConfig,
    SingleConnectionPool,
    WaitingForLock,
    migrate_on_startup,
)
from wave_async.errors import DatabaseLocked

pytestmark = pytest.mark.chaos

WAITING = "Waiting for another process (1 s)"

Outcomes = list[dict[str, Any]]


def all_of(race: Iterable[Outcomes]) -> Outcomes:
    """Put the outcomes of all workers together."""
    return [outcome for outcomes in race for outcome in outcomes]


def errors(outcomes: Outcomes) -> Counter[str]:
    """Count the errors, by their names and texts."""
    return Counter(f"{o['error']}: {o['message']}" for o in outcomes if o["error"])


def tell(title: str, outcomes: Outcomes, **numbers: object) -> None:
    """Print the summary of a test."""
    about = {
        **numbers,
        "runs": len(outcomes),
        "errors": dict(Counter(o["error"] for o in outcomes if o["error"])),
        "longest": f"{max(o['seconds'] for o in outcomes):.2f} s",
    }
    worker.say(f"\n{title}: " + ", ".join(f"{name} {value}" for name, value in about.items()))


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that holds the write lock in migration 2 until it is let go on."""
    with started("hold", path, "HELD") as process:
        hears(process, "ready")
        lets_go(process)
        hears(process, "holding")
        yield process


@pytest.mark.parametrize(
    ("processes", "times"),
    [(16, rounds(2, 20)), (rounds(24, 64), rounds(1, 3))],
    ids=["rounds", "crowd"],
)
def test_each_migration_runs_once_when_many_start_at_once(
    tmp_path: Path, processes: int, times: int
) -> None:
    """Many processes migrate one fresh file: each migration runs in one of them, none fails."""
    outcomes: Outcomes = []
    for number in range(times):
        path = tmp_path / f"{number}.db"
        raced = all_of(race([("startup", path, "EIGHT")] * processes))

        assert {} == errors(raced)
        assert list(range(1, 9)) == checked_log(path)
        assert 8 == sum(o["steps"] for o in raced)
        outcomes += raced
    tell(f"{processes} at once", outcomes, rounds=times)


def test_a_rollback_among_many_that_migrate_up_only_ever_finds_the_plan_changed(
    path: Path,
) -> None:
    """One process rolls back while eight migrate up: no step runs at a version it was not made for.

    The rollback may say that somebody else migrated meanwhile; nobody says anything else.
    """
    asyncio.run(worker.migrate(path, EIGHT))
    times = rounds(20, 300)
    down, *ups = race(
        [("down", path, "EIGHT", times), *[("up", path, "EIGHT", times)] * 8],
    )

    assert {} == errors(all_of(ups))
    assert {o["error"] for o in down} <= {None, "PlanChanged"}, errors(down)
    steps = checked_log(path)
    assert any(step < 0 for step in steps), "nothing was ever rolled back"
    tell("1 down, 8 up", [*down, *all_of(ups)], steps=len(steps))


def test_a_process_that_only_knows_older_migrations_is_done_or_finds_the_database_newer(
    tmp_path: Path,
) -> None:
    """Two versions of the code start at once: the newer one migrates, the older one never harms."""
    outcomes: Outcomes = []
    for number in range(times := rounds(1, 8)):
        path = tmp_path / f"{number}.db"
        jobs = [("startup", path, name) for name in ("FIVE", "EIGHT") * 8]
        raced = race(jobs)

        assert {} == errors(all_of(raced[1::2]))
        assert {o["error"] for o in all_of(raced[::2])} <= {None, "NewerDatabase"}
        assert list(range(1, 9)) == checked_log(path)
        outcomes += all_of(raced)
    tell("two versions", outcomes, rounds=times)


def test_a_gradual_rollout_troubles_neither_version_of_the_code(path: Path) -> None:
    """With the limit at the older version both kinds of processes start, and nothing goes above."""
    raced = all_of(race([("rollout", path, "EIGHT"), ("startup", path, "FIVE")] * 4))

    assert {} == errors(raced)
    assert list(range(1, 6)) == checked_log(path)
    tell("gradual rollout", raced)


def test_an_untracked_database_is_adopted_once(tmp_path: Path) -> None:
    """Many processes find tables of version 3 without bookkeeping: one adopts, each step runs once.

    What the adopted migrations would do is not done again.
    """
    outcomes: Outcomes = []
    for number in range(times := rounds(1, 10)):
        path = tmp_path / f"{number}.db"
        with closing(sqlite3.connect(path)) as db:
            for migration in EIGHT[:3]:
                db.executescript(migration.up)
        raced = all_of(race([("startup", path, "EIGHT")] * 16))

        assert {} == errors(raced)
        assert list(range(1, 9)) == checked_log(path)
        assert (3, 5) == (sum(o["adopted"] for o in raced), sum(o["steps"] for o in raced))
        outcomes += raced
    tell("16 adopting", outcomes, rounds=times)


def test_a_waiter_gives_up_at_its_deadline_and_changes_nothing(path: Path) -> None:
    """A migration that outlasts the timeout: the waiters say so once, then exit with 1.

    The migration they waited for succeeds.
    """
    with holder(path) as migrating, ExitStack() as stack:
        before = contents(path)
        waiters = [
            stack.enter_context(wave(path, "HELD", "up", "--lock-timeout", "2")) for _ in range(4)
        ]
        told = [(*w.communicate(timeout=PATIENCE), w.returncode) for w in waiters]

        error = (
            "Error: database is locked: another process has been using it for 2 s; "
            "try again when it is done"
        )
        assert [("", f"{WAITING}\n{error}\n", 1)] * 4 == told
        assert before == contents(path)
        outcomes = ended(migrating)
    assert {} == errors(outcomes)
    assert [1, 2, 3] == checked_log(path)
    tell("outlasted", outcomes, waiters=4)


def test_an_up_to_date_process_starts_while_another_one_migrates(path: Path) -> None:
    """What has nothing to do needs no lock: it ends while a migration is still running."""
    with holder(path) as migrating:
        before = contents(path)
        outcomes = all_of(race([("startup", path, "ONE")] * 2))
        with wave(path, "HELD", "up", "1") as process:
            told = (*process.communicate(timeout=PATIENCE), process.returncode)

        assert ("Nothing to do: the database is at version 1\n", "", 0) == told
        assert [(None, 0)] * 2 == [(o["error"], o["steps"]) for o in outcomes]
        assert before == contents(path)
        assert {} == errors(ended(migrating))
    tell("up to date", outcomes)


def test_a_waiter_leaves_as_soon_as_nothing_is_pending(tmp_path: Path) -> None:
    """Somebody else does what it waits for and keeps the lock: it is done all the same.

    It has said after a second, and once, that it waits.
    """
    path, twin = tmp_path / "state.db", tmp_path / "twin.db"
    asyncio.run(worker.migrate(path, EIGHT, 7))
    asyncio.run(worker.migrate(twin, EIGHT))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("ATTACH ? AS twin", [str(twin)])
        other.execute("BEGIN IMMEDIATE")
        start = monotonic()
        with wave(path, "EIGHT", "up") as waiter:
            assert waiter.stderr
            assert f"{WAITING}\n" == waiter.stderr.readline()
            waited = monotonic() - start
            other.execute("CREATE TABLE t8 (x INTEGER)")
            other.execute("INSERT INTO log VALUES (8)")
            other.execute(
                "INSERT INTO schema_migrations"
                " SELECT * FROM twin.schema_migrations WHERE version = 8"
            )
            other.execute("COMMIT")
            other.execute("BEGIN IMMEDIATE")
            committed = monotonic()
            told = (*waiter.communicate(timeout=PATIENCE), waiter.returncode)
            left = monotonic() - committed
        other.execute("ROLLBACK")

    assert ("Database is up to date\n", "", 0) == told
    assert waited >= 1
    assert list(range(1, 9)) == checked_log(path)
    worker.say(f"\nwaiter: told after {waited:.2f} s, left after {left:.2f} s")


async def test_the_lock_timeout_holds_for_the_legacy_schema_too(path: Path) -> None:
    """Migrations switched off: a start waits for the lock as long as configured, and says so."""
    events: list[Event] = []
    config = MigrationConfig(enabled=False, lock_timeout=2)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN IMMEDIATE")
        start = monotonic()
        async with SingleConnectionPool(path) as pool, asyncio.timeout(20):
            with pytest.raises(DatabaseLocked):
                await migrate_on_startup(
                    pool,
                    EIGHT,
                    config=config,
                    legacy_schema="CREATE TABLE t (x);",
                    on_event=events.append,
                )
        waited = monotonic() - start

    assert [WaitingForLock(1)] == events
    assert waited >= 2
    worker.say(f"\nlegacy schema: gave up after {waited:.2f} s")


def contents(path: Path) -> Sequence[bytes]:
    """Read the database and its log; its shared memory holds no data."""
    return path.read_bytes(), Path(f"{path}-wal").read_bytes()
