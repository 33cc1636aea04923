"""A fleet on a real Dask cluster: a scheduler and workers, each a process that may be killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask_steps
import pytest
from conftest import numbered
from serving import PATIENCE, need

from wave_async import (
    FileResult,
    Migration,
    Outcome,
    Tally,
    load_migrations,
    plan_many,
    status_many,
)
from wave_async.errors import InvalidTarget, NotPortable
from wave_async.integrations.dask import migrate_on
from wave_async.version import VERSION

need("distributed")
from distributed import Client, Future  # noqa: E402 - where it is installed

TWO = numbered(2)
DEADLY = [*TWO, Migration(3, "Die", [dask_steps.die_once, "CREATE TABLE d (x);"])]
HELD = [Migration(1, "Held", [dask_steps.touch, dask_steps.ENDLESS])]
RESTRICTED = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}
HOSTS = ("127.0.0.2", "127.0.0.3")
THIRD, WATCHED = "127.0.0.4", "127.0.0.5"


@dataclass
class Cluster:
    """A scheduler and its workers, each of one thread and on a host of its own."""

    folder: Path
    scheduler: subprocess.Popen[bytes] | None = None
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """Where the scheduler says its address."""
        return str(self.folder / "scheduler.json")

    def start(self) -> None:
        """Start the scheduler."""
        self.scheduler = self._process("scheduler", "--port", "0", "--dashboard-address", ":0")

    def fill(self, *hosts: str, nanny: bool = False) -> None:
        """Start a worker on each host that has none that lives."""
        for host in hosts:
            if host not in self.workers or self.workers[host].poll() is not None:
                watched = "--nanny" if nanny else "--no-nanny"
                options = ("--nthreads", "1", "--host", host, watched)
                self.workers[host] = self._process("worker", *options, "--no-dashboard")

    def process(self, number: int) -> subprocess.Popen[bytes]:
        """Return the worker that has the number."""
        return next(process for process in self.workers.values() if process.pid == number)

    def stop(self) -> None:
        """End all that is left."""
        for process in filter(None, (*self.workers.values(), self.scheduler)):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)

    def _process(self, kind: str, *options: str) -> subprocess.Popen[bytes]:
        here = Path(__file__).parent
        path = os.pathsep.join(filter(None, (str(here), os.environ.get("PYTHONPATH"))))
        with (self.folder / f"{kind}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", kind, "--scheduler-file", self.file, *options],
                cwd=self.folder,
                env={**os.environ, **RESTRICTED, "PYTHONPATH": path},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler; workers are started by who needs them."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[Client]:
    """An application that has two workers."""
    async with Client(scheduler_file=cluster.file, asynchronous=True) as client:

        async def complete() -> bool:
            cluster.fill(*HOSTS)
            return len(await owners(client)) == len(HOSTS)

        await until(complete)
        yield client


async def owners(client: Client) -> dict[str, int]:
    """Return the process that works on each of the hosts."""
    processes = await client.run(os.getpid, on_error="ignore")
    return {host: pid for host in HOSTS for where, pid in processes.items() if f"{host}:" in where}


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that another process does."""
    async with asyncio.timeout(PATIENCE):
        while not await true():  # noqa: ASYNC110 - another process makes it so
            await asyncio.sleep(0.01)


async def there(path: Path) -> None:
    """Wait for a file that a worker makes."""

    async def exists() -> bool:
        return path.exists()

    await until(exists)


def files(folder: Path, count: int) -> list[Path]:
    """Make empty files."""
    paths = [folder / f"{number:04}.db" for number in range(count)]
    for path in paths:
        path.touch()
    return paths


def log(path: Path) -> list[tuple[str, int, int]]:
    """Return what was done to a file that is in order: the action, the version, the process."""
    with closing(sqlite3.connect(path)) as db:
        assert [("ok",)] == db.execute("PRAGMA integrity_check").fetchall()
        return db.execute("SELECT action, version, pid FROM schema_migrations_log").fetchall()


def done(path: Path) -> list[tuple[str, int]]:
    """Return what was done to a file."""
    return [(action, version) for action, version, _ in log(path)]


def tables(path: Path) -> list[Any]:
    """Return the tables of a file."""
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT name FROM sqlite_schema").fetchall()


async def through(*arguments: Any, **options: Any) -> Tally:
    """Do it through Dask, and fail where it does not end."""
    async with asyncio.timeout(PATIENCE):
        return await migrate_on(*arguments, **options)


async def test_every_file_once(client: Client, tmp_path: Path) -> None:
    """Two workers share the files; each is migrated once, and told once."""
    paths, heard = files(tmp_path, 200), list[FileResult]()

    tally = await through(client, paths, TWO, batch=10, on_result=heard.append)

    assert {Outcome.MIGRATED: 200} == tally.outcomes
    assert [str(path) for path in paths] == sorted(result.path for result in heard)
    assert all([("up", 1), ("up", 2)] == done(path) for path in paths)
    assert 1 < len({pid for path in paths for _, _, pid in log(path)})


async def test_pinned(client: Client, tmp_path: Path) -> None:
    """Files are migrated by the worker that has them, as its host says."""
    paths = files(tmp_path, 30)
    places = {HOSTS[0]: paths[:20], HOSTS[1]: paths[20:]}
    owner = await owners(client)

    await through(client, places, TWO, batch=4)

    found = {host: {pid for p in places[host] for _, _, pid in log(p)} for host in HOSTS}
    assert {host: {pid} for host, pid in owner.items()} == found


async def test_killed(client: Client, tmp_path: Path) -> None:
    """The batch of a worker that dies in a migration goes to another; nothing is done twice."""
    paths, heard = files(tmp_path, 200), list[FileResult]()
    options: dict[str, Any] = {"batch": 20, "limit": 1, "on_result": heard.append}

    tally = await through(client, paths, DEADLY, **options)

    assert (tmp_path / "0110.here").exists()
    assert {Outcome.MIGRATED: 190, Outcome.CURRENT: 10} == tally.outcomes
    assert paths[100:110] == sorted(Path(r.path) for r in heard if r.outcome is Outcome.CURRENT)
    assert all([("up", 1), ("up", 2), ("up", 3)] == done(path) for path in paths)
    assert 2 == len({pid for path in paths[100:120] for _, _, pid in log(path)})


@pytest.mark.chaos
async def test_killed_where_it_is_pinned(client: Client, cluster: Cluster, tmp_path: Path) -> None:
    """Files that only one machine has wait until a worker is there again."""
    cluster.fill(WATCHED, nanny=True)
    paths = files(tmp_path, 120)

    tally = await through(client, {WATCHED: paths}, DEADLY, batch=20, limit=1)

    assert (tmp_path / "0110.here").exists()
    assert {Outcome.MIGRATED: 110, Outcome.CURRENT: 10} == tally.outcomes
    assert all([("up", 1), ("up", 2), ("up", 3)] == done(path) for path in paths)
    assert 2 == len({pid for path in paths for _, _, pid in log(path)})


async def test_a_worker_is_ended(client: Client, cluster: Cluster, tmp_path: Path) -> None:
    """A worker that is told to end rolls back what it does, and another does it."""
    held = tmp_path / "held.db"
    held.touch()
    held_once = [Migration(1, "Held", [dask_steps.hold_once, "CREATE TABLE h (x);"])]
    run = asyncio.create_task(through(client, [held], held_once))
    await there(held.with_suffix(".here"))
    first = int(held.with_suffix(".here").read_text())

    os.kill(first, signal.SIGTERM)
    await run
    await asyncio.to_thread(cluster.process(first).wait, PATIENCE)

    [(*step, second)] = log(held)
    assert ["up", 1] == step
    assert first != second


async def test_given_up(client: Client, cluster: Cluster, tmp_path: Path) -> None:
    """A batch that kills two workers, as many as it may, fails its files, and no others."""
    cluster.fill(THIRD)
    paths, heard = files(tmp_path, 40), list[FileResult]()
    options: dict[str, Any] = {"batch": 10, "limit": 1, "on_result": heard.append}
    deadly = [*TWO, Migration(3, "Die", [dask_steps.die, "CREATE TABLE d (x);"])]

    tally = await through(client, paths, deadly, ahead=1, **options)

    assert {Outcome.MIGRATED: 30, Outcome.FAILED: 10} == tally.outcomes
    lost = [result for result in heard if not result.ok]
    assert paths[10:20] == [Path(result.path) for result in lost]
    assert {"BatchLost"} == {result.error for result in lost}
    assert all("KilledWorker" in str(result.message) for result in lost)
    assert [("up", 1), ("up", 2)] == done(paths[10])
    assert all([] == tables(path) for path in paths[11:20])


@pytest.mark.parametrize("ending", ["cancelled", "on_result"])
async def test_ended_early(client: Client, tmp_path: Path, ending: str) -> None:
    """What runs on a worker is rolled back before the caller goes on; the worker is free."""
    held, free = tmp_path / "held.db", tmp_path / "free.db"
    held.touch()
    free.touch()

    def refuse(_: FileResult) -> None:
        raise KeyError("no")

    if ending == "cancelled":
        run = asyncio.create_task(through(client, [held], HELD))
        await there(held.with_suffix(".here"))
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
    else:

        async def paths() -> AsyncIterator[Path]:
            yield held
            await there(held.with_suffix(".here"))
            yield tmp_path / "missing.db"

        with pytest.raises(KeyError):
            await through(client, paths(), HELD, batch=1, on_result=refuse)

    assert [] == tables(held)
    assert 2 == (await through(client, [held, free], TWO)).outcomes[Outcome.MIGRATED]


async def test_a_bad_file(client: Client, tmp_path: Path) -> None:
    """A file that is no database is a result, with its own error, beside the others."""
    paths, heard = files(tmp_path, 6), list[FileResult]()
    paths[2].write_text("no database, and long enough to be taken for none")

    await through(client, [*paths, tmp_path / "gone.db"], TWO, batch=3, on_result=heard.append)

    failed = {Path(result.path).name: result.error for result in heard if not result.ok}
    assert {"0002.db": "DatabaseUnusable", "gone.db": "DatabaseUnusable"} == failed
    assert 7 == len(heard)


async def test_other_operations(client: Client, tmp_path: Path) -> None:
    """What looks at files does so on the workers, too, with its own options."""
    paths = files(tmp_path, 4)
    tally = await through(client, str(tmp_path / "*.db"), TWO, target=1)
    found = await through(client, paths, TWO, operation=status_many)
    planned = await through(client, paths, TWO, operation=plan_many, target=1)

    assert {Outcome.MIGRATED: 4} == tally.outcomes
    assert {Outcome.PENDING: 4} == found.outcomes
    assert {Outcome.CURRENT: 4} == planned.outcomes
    assert [(1, 4)] == [(group.version, group.count) for group in found.groups]
    assert all(group.fingerprint for group in found.groups)


async def test_only_so_many_ahead(client: Client, tmp_path: Path) -> None:
    """Paths are taken as batches end, so that memory does not grow with their number."""
    paths, taken, heard = files(tmp_path, 60), list[Path](), list[int]()

    def taking() -> Iterator[Path]:
        for path in paths:
            taken.append(path)
            yield path

    def hear(_: FileResult) -> None:
        heard.append(len(taken) - len(heard))

    tally = await through(client, taking(), TWO, batch=3, ahead=2, on_result=hear)

    assert 60 == tally.total
    assert 3 * (2 + 1) >= max(heard)


async def test_another_release(client: Client, tmp_path: Path) -> None:
    """A worker that has another version of this package touches no file, and says so."""
    paths, heard = files(tmp_path, 2), list[FileResult]()
    await client.run(dask_steps.be_version, "0.0.9")
    try:
        await through(client, paths, TWO, on_result=heard.append)
    finally:
        await client.run(dask_steps.be_version, VERSION)

    assert [("BatchLost", [])] * 2 == [(r.error, tables(Path(r.path))) for r in heard]
    assert "the worker has wave-async 0.0.9" in str(heard[0].message)


async def test_a_batch_that_somebody_cancels(client: Client, tmp_path: Path) -> None:
    """Its files are failed results, and it is ended on its worker, too."""
    held, heard = tmp_path / "held.db", list[FileResult]()
    held.touch()
    run = asyncio.create_task(through(client, [held], HELD, on_result=heard.append))
    await there(held.with_suffix(".here"))

    await client.cancel([Future(key, client) for key in client.futures])
    await run

    assert ["BatchLost"] == [result.error for result in heard]
    assert [] == tables(held)


async def test_refused_at_once(client: Client, tmp_path: Path) -> None:
    """What no worker could do right is told before a file is touched."""
    paths = files(tmp_path, 1)

    def own(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE own (x)")

    with pytest.raises(NotPortable, match="own"):
        await through(client, paths, [Migration(1, "Own", own)])
    with pytest.raises(InvalidTarget):
        await through(client, paths, TWO, target=-1)
    with pytest.raises(ValueError, match="batch=0"):
        await through(client, paths, TWO, batch=0)
    with pytest.raises(TypeError, match="limits"):
        await through(client, paths, TWO, limits=1)

    assert [] == tables(paths[0])


async def test_functions_of_files(client: Client, tmp_path: Path) -> None:
    """A function in a migration's own file is not sent, as workers could not find its source."""
    (tmp_path / "0001_fill.py").write_text("def up(connection): pass\n")

    with pytest.raises(NotPortable, match="cannot be imported there"):
        await through(client, [], load_migrations(tmp_path))


def test_a_client_of_another_loop(cluster: Cluster, tmp_path: Path) -> None:
    """A synchronous client is refused with what to use."""
    with Client(scheduler_file=cluster.file) as client, pytest.raises(ValueError, match="asynchr"):
        asyncio.run(through(client, [], TWO))
