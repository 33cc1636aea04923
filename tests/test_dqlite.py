"""The programs on a cluster: three real nodes, some of which are killed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from math import inf
from pathlib import Path
from typing import Any

import pytest
from dqlite_cluster import Cluster, missing

from wave_async import Event, Migration, MigrationManager, SnapshotPolicy, StepFinished
from wave_async.database.linked import FileLink
from wave_async.database.pool import open_cluster, open_pool
from wave_async.errors import (
    CascadeRefused,
    ClusterUnreachable,
    ConfigError,
    ConnectionLost,
    DatabaseLocked,
    DatabaseUnusable,
    DumpTooLarge,
    InvalidPath,
    MigrationFailed,
    StatementRefused,
    StatementTimeout,
)

if why := missing():
    pytest.skip(why, allow_module_level=True)

import dqlite_worker
from dqliteclient import DqliteConnectionError
from dqliteclient.exceptions import DqliteError

from wave_async.database import dqlite
from wave_async.database.dqlite import DqlitePool

USERS = Migration(
    1,
    "Users",
    "CREATE TABLE users (id INTEGER PRIMARY KEY, active BOOLEAN, at DATETIME);"
    "INSERT INTO users VALUES (1, 1, '2026-01-01'); SELECT * FROM users;",
    "DROP TABLE users;",
)
POSTS = Migration(
    2,
    "Posts",
    "CREATE TABLE posts (author INTEGER REFERENCES users (id) ON DELETE CASCADE);"
    "INSERT INTO posts VALUES (1);",
    "DROP TABLE posts;",
)
BOTH = [USERS, POSTS]
ENDLESS = "WITH RECURSIVE n AS (SELECT 1 UNION ALL SELECT 1 FROM n) SELECT count(*) FROM n;"
NAMES = count()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running cluster."""
    with Cluster(tmp_path_factory.mktemp("cluster")) as found:
        asyncio.run(found.join())
        yield found


@pytest.fixture
async def pool(cluster: Cluster) -> AsyncIterator[DqlitePool]:
    """A pool on an empty database of the cluster."""
    async with DqlitePool(cluster.url(f"app{next(NAMES)}")) as found:
        yield found


@asynccontextmanager
async def connected(pool: DqlitePool) -> AsyncIterator[Any]:
    """Connect to a pool's database as anybody would."""
    connection = await pool.cluster.connect(pool.database)
    try:
        yield connection
    finally:
        await connection.close()


async def versions(pool: DqlitePool) -> list[int]:
    """Return what is applied."""
    return [row.version for row in await MigrationManager(pool, BOTH).applied()]


def wave(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command on a database of the cluster."""
    command = [sys.executable, "-m", "wave_async", "migrate", "--database", cluster.url("cli")]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)


async def test_up_and_down(pool: DqlitePool) -> None:
    """The programs migrate a cluster up and down, and what they make is what they say."""
    manager = MigrationManager(pool, BOTH)
    up = await manager.migrate_up()
    again = await manager.migrate_up()
    await manager.validate(strict=True)
    log = [(entry.action, entry.version, entry.outcome) for entry in await manager.log()]
    down = await manager.migrate_down(0)

    assert [1, 2] == [step.version for step in up.steps]
    assert () == again.steps
    assert [("up", 1, "done"), ("up", 2, "done")] == log
    assert [2, 1] == [step.version for step in down.steps]
    assert [] == await versions(pool)


@pytest.mark.parametrize(
    ("sql", "cause"),
    [
        ("INSERT INTO users VALUES (2, 'yes', NULL)", StatementRefused),
        ("UPDATE users SET at = 1.5", StatementRefused),
        ("INSERT INTO users SELECT 2, 'y' || 'es', NULL", StatementRefused),
        ("UPDATE users SET at = julianday('now')", StatementRefused),
        ("ALTER TABLE users ADD COLUMN is_new BOOLEAN AS (at || 'yes')", StatementRefused),
        ("INSERT INTO users (id) VALUES (2) RETURNING id", StatementRefused),
        ("PRAGMA journal_mode", StatementRefused),
        ("COMMIT", StatementRefused),
        ("DROP TABLE users", CascadeRefused),
        ("INSERT INTO posts VALUES (7)", Exception),
        ("nonsense", Exception),
    ],
)
async def test_what_fails_is_rolled_back(
    cluster: Cluster, pool: DqlitePool, sql: str, cause: type[Exception]
) -> None:
    """A migration that is refused or fails leaves nothing, and every node runs on."""
    bad = Migration(3, "Bad", f"CREATE TABLE left_behind (x); {sql};")
    await MigrationManager(pool, BOTH).migrate_up()
    with pytest.raises(MigrationFailed, match="statement 2") as caught:
        await MigrationManager(pool, [*BOTH, bad]).migrate_up()

    assert isinstance(caught.value.__cause__, cause)
    assert (1, 2) == tuple(await versions(pool))
    async with connected(pool) as connection:
        assert 0 == await connection.fetchval(
            "SELECT count(*) FROM sqlite_schema WHERE name = 'left_behind'"
        )
    assert cluster.is_alive()


async def test_a_function_is_refused(pool: DqlitePool) -> None:
    """A function has no connection to run on there."""
    with pytest.raises(MigrationFailed, match="a function is not allowed"):
        await MigrationManager(pool, [Migration(1, "Function", wave)]).migrate_up()


async def test_a_hook_is_called(pool: DqlitePool) -> None:
    """A hook before a run needs no connection, and its mark is in the log."""
    await MigrationManager(pool, [USERS]).migrate_up()
    manager = MigrationManager(pool, BOTH, before=lambda run: f"before {run.steps[0].version}")
    await manager.migrate_up()

    assert [("up", 1, "done"), ("mark", 2, "before 2"), ("up", 2, "done")] == [
        (entry.action, entry.version, entry.outcome) for entry in await manager.log()
    ]


async def test_a_migration_that_writes_much(pool: DqlitePool) -> None:
    """What a transaction has written it can write again, however much came in between."""
    much = Migration(
        1,
        "Much",
        "CREATE TABLE much (id INTEGER PRIMARY KEY, x BLOB, is_old BOOLEAN);"
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 5000)"
        "INSERT INTO much SELECT i, zeroblob(1000), 1 FROM n;"
        "UPDATE much SET is_old = 0;",
    )
    await MigrationManager(pool, [much]).migrate_up()

    async with connected(pool) as connection:
        assert 5000 == await connection.fetchval("SELECT count(*) FROM much WHERE is_old = 0")


async def test_keys_stay_off_on_a_new_connection(pool: DqlitePool) -> None:
    """A rebuild without keys keeps the children, and keys are enforced afterwards."""
    rebuild = Migration(
        3,
        "Rebuild",
        "CREATE TABLE new (id INTEGER PRIMARY KEY); INSERT INTO new SELECT id FROM users;"
        "DROP TABLE users; ALTER TABLE new RENAME TO users;",
        foreign_keys=False,
    )
    await MigrationManager(pool, [*BOTH, rebuild]).migrate_up()

    async with connected(pool) as connection:
        assert 1 == await connection.fetchval("SELECT count(*) FROM posts")
    with pytest.raises(MigrationFailed, match="FOREIGN KEY"):
        await MigrationManager(
            pool, [*BOTH, rebuild, Migration(4, "Orphan", "INSERT INTO posts VALUES (7);")]
        ).migrate_up()


async def test_a_held_lock_is_waited_for(pool: DqlitePool) -> None:
    """Where somebody else holds the lock it is waited for, and given up after the patience."""
    async with connected(pool) as other:
        await other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseLocked):
            await MigrationManager(pool, BOTH, lock_timeout=0.5).migrate_up()
        waiting = asyncio.ensure_future(MigrationManager(pool, BOTH).migrate_up())
        await asyncio.wait([waiting], timeout=0.3)
        assert not waiting.done()
        await other.execute("ROLLBACK")

        assert 2 == len((await waiting).steps)


async def test_unlock_frees_the_lock_of_a_hung_client(cluster: Cluster, pool: DqlitePool) -> None:
    """Another node takes the lead, and what the client held is rolled back."""
    async with connected(pool) as hung:
        await hung.execute("BEGIN IMMEDIATE")
        await hung.execute("CREATE TABLE half_done (x)")
        before, after = await pool.unlock()

        assert 2 == len((await MigrationManager(pool, BOTH).migrate_up()).steps)
        with pytest.raises(DqliteError):
            await hung.execute("COMMIT")
    assert before != after


async def test_unlock_passes_over_a_node_that_has_ended(cluster: Cluster, pool: DqlitePool) -> None:
    """Of two others that might lead, the one that runs is made to."""
    leader = await cluster.leader()
    ended = min({1, 2, 3} - {leader})
    cluster.kill(ended)
    try:
        before, after = await pool.unlock()
    finally:
        cluster.start(ended)

    assert cluster.addresses[leader] == before
    assert after not in {before, cluster.addresses[ended]}


async def test_a_cancelled_run_leaves_nothing(pool: DqlitePool) -> None:
    """A statement that is given up is rolled back, and the lock is free again."""
    endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 900000) "
    slow = Migration(
        1, "Slow", f"CREATE TABLE slow (i); {endless} INSERT INTO slow SELECT i FROM n;"
    )
    with pytest.raises(MigrationFailed) as caught:
        await MigrationManager(pool, [slow], statement_timeout=0.1).migrate_up()
    task = asyncio.ensure_future(MigrationManager(pool, [slow]).migrate_up())
    while pool.running_part is None or pool.running_part.number == 1:
        await asyncio.wait([task], timeout=0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert isinstance(caught.value.__cause__, StatementTimeout)
    assert 2 == len((await MigrationManager(pool, BOTH).migrate_up()).steps)


def lose(
    pool: DqlitePool,
    monkeypatch: pytest.MonkeyPatch,
    statement: str,
    *,
    applied: bool = True,
    for_good: bool = False,
) -> None:
    """Lose the connection, or the cluster `for_good`, in the first such statement."""
    connect, losses = pool.cluster.connect, iter([True])

    async def losing(*arguments: Any, **options: Any) -> Any:
        connection = await connect(*arguments, **options)
        execute = connection.execute

        async def lost(sql: str, parameters: Any = None) -> Any:
            if not sql.startswith(statement) or not next(losses, False):
                return await execute(sql, parameters)
            if applied:
                await execute(sql, parameters)
            if for_good:
                monkeypatch.setattr(pool.cluster, "connect", unreachable)
            connection.terminate()
            raise DqliteConnectionError("the answer is lost")

        connection.execute = lost
        return connection

    async def unreachable(*arguments: Any, **options: Any) -> Any:
        raise DqliteConnectionError("nobody is there")

    monkeypatch.setattr(pool.cluster, "connect", losing)


@pytest.mark.parametrize("applied", [True, False])
async def test_a_commit_that_is_not_answered(
    pool: DqlitePool, monkeypatch: pytest.MonkeyPatch, *, applied: bool
) -> None:
    """A COMMIT whose answer is lost is looked up: applied or not, it is there once."""
    told: list[Event] = []
    lose(pool, monkeypatch, "COMMIT", applied=applied)
    done = await MigrationManager(pool, BOTH, on_event=told.append).migrate_up()
    await asyncio.sleep(0)

    assert [1, 2] == [step.version for step in done.steps] == await versions(pool)
    confirmed = [e.confirmed for e in told if isinstance(e, StepFinished)]
    assert [applied, False] == confirmed


async def test_vacuum_is_not_answered(pool: DqlitePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of a transaction nothing is sent again: the run ends, and the next one goes on."""
    vacuum = Migration(3, "Vacuum", "VACUUM;", transaction=False)
    manager = MigrationManager(pool, [*BOTH, vacuum])
    lose(pool, monkeypatch, "VACUUM")
    with pytest.raises(ConnectionLost, match="was lost: the answer is lost"):
        await manager.migrate_up()
    before = await versions(pool)
    again = await manager.migrate_up()

    assert [1, 2] == before
    assert [3] == [step.version for step in again.steps]


async def test_a_doubt_that_stays(pool: DqlitePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the cluster stays away after a COMMIT, the error says that it may have applied."""
    lose(pool, monkeypatch, "COMMIT", for_good=True)
    with pytest.raises(ConnectionLost, match="the last COMMIT may have applied"):
        await MigrationManager(pool, BOTH, lock_timeout=0.3).migrate_up()


async def test_a_rehearsal_runs_on_a_copy(pool: DqlitePool, tmp_path: Path) -> None:
    """A rehearsal tells what would happen to the rows, and nothing happens to them."""
    await MigrationManager(pool, BOTH).migrate_up()
    found = await MigrationManager(pool, BOTH).rehearse_down(0, directory=tmp_path)

    assert {("posts", 1), ("users", 1)} == {(row.table, row.before) for row in found.rows}
    assert [1, 2] == await versions(pool)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("schema_only", [False, True])
@pytest.mark.parametrize(
    ("work", "why"),
    [
        ("INSERT INTO users SELECT 2, 'y' || 'es', NULL;", "in a BOOLEAN column"),
        ("INSERT INTO users (id) VALUES (2) RETURNING id;", "RETURNING is not allowed"),
        (wave, "a function is not allowed"),
    ],
)
async def test_a_rehearsal_refuses_what_a_cluster_would(
    pool: DqlitePool, work: Any, why: str, *, schema_only: bool
) -> None:
    """A copy is a file here, but what could not be done on the cluster fails on it too."""
    manager = MigrationManager(pool, [*BOTH, Migration(3, "Bad", work)])
    await manager.migrate_up(2)
    found = await manager.rehearse_up(schema_only=schema_only)

    assert why in found.failure


async def test_a_rehearsal_is_cancelled(pool: DqlitePool) -> None:
    """A statement that takes too long on the copy is interrupted there."""
    slow = Migration(1, "Slow", ENDLESS)
    found = await MigrationManager(pool, [slow], statement_timeout=0.1).rehearse_up()

    assert "ended after 0.1 s" in found.failure


async def test_a_statement_on_a_copy_is_cancelled_twice() -> None:
    """It is over before the cancellation is raised, so that the copy can be taken away."""
    link = FileLink(":memory:")
    task = asyncio.create_task(link.send(ENDLESS, rows=True, patience=1))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert [(1,)] == await link.send("SELECT 1", rows=True, patience=1)
    await link.close()


async def test_a_database_that_is_too_large_to_copy(
    pool: DqlitePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is rehearsed on without its rows, unless they are asked for, which is refused."""
    monkeypatch.setattr(dqlite, "LARGEST_DUMP", 4096)
    manager = MigrationManager(pool, BOTH)
    await manager.migrate_up()
    found = await manager.rehearse_down(0)
    with pytest.raises(DumpTooLarge, match=r"hands out at most 4\.1 kB"):
        await manager.rehearse_down(0, schema_only=False)

    assert found.ok
    assert "hands out at most 4.1 kB" in found.schema_only


@pytest.mark.chaos
@pytest.mark.parametrize("looked_at", [True, False])
async def test_a_database_of_70_megabytes(
    pool: DqlitePool, monkeypatch: pytest.MonkeyPatch, *, looked_at: bool
) -> None:
    """What the client does not take is refused, before it is asked for and afterwards alike."""
    if not looked_at:
        monkeypatch.setattr(dqlite, "LARGEST_DUMP", inf)
    async with connected(pool) as connection:
        await connection.execute("CREATE TABLE large (x)")
        for _ in range(14):
            await connection.execute("INSERT INTO large VALUES (zeroblob(5000000))")
    found = await MigrationManager(pool, BOTH).rehearse_up()

    assert "has 70." in found.schema_only
    assert found.ok


async def test_there_are_no_snapshots(pool: DqlitePool) -> None:
    """What needs a file is refused; a rollback goes without, unless it was told where to."""
    manager = MigrationManager(pool, BOTH, snapshots=SnapshotPolicy())
    await manager.migrate_up()
    there = MigrationManager(pool, BOTH, snapshots=SnapshotPolicy(directory="snapshots"))
    for act in (manager.snapshots, partial(there.migrate_down, 0)):
        with pytest.raises(DatabaseUnusable, match="on a cluster has no snapshots"):
            await act()

    assert 2 == len((await manager.migrate_down(0)).steps)


async def test_nobody_answers() -> None:
    """Where no node runs, that is said when the patience is over."""
    async with DqlitePool("dqlite://127.0.0.1:1/app") as pool:
        manager = MigrationManager(pool, BOTH, lock_timeout=0.2)
        for act in (manager.migrate_up, manager.rehearse_up, pool.unlock):
            with pytest.raises(ClusterUnreachable):
                await act()


@pytest.mark.parametrize(
    "url", ["dqlite://", "dqlite://a:1", "dqlite://a/app", "dqlite:///app", "DQLite:/a:1/app"]
)
def test_urls(url: str) -> None:
    """What does not name nodes and a database is refused."""
    with pytest.raises(InvalidPath):
        open_pool(url)


def test_other_names(tmp_path: Path) -> None:
    """A path is no cluster, and nothing of Python is set up on a cluster's connections."""
    with pytest.raises(InvalidPath, match="is no cluster"):
        open_cluster(str(tmp_path / "a.db"))
    with pytest.raises(ConfigError):
        open_pool("dqlite://a:1/app", print)


def test_the_command_line(cluster: Cluster) -> None:
    """The commands work on a cluster as they do on a file, and one is for clusters alone."""
    up = wave(cluster, "up")
    status = wave(cluster, "status", "--check")
    unasked = wave(cluster, "unlock")
    unlocked = wave(cluster, "unlock", "--yes", "--json")
    down = wave(cluster, "down", "1", "--yes")

    assert (0, 0, 1, 0, 0) == tuple(r.returncode for r in (up, status, unasked, unlocked, down))
    assert "Migrations applied successfully\n" == up.stdout.splitlines(keepends=True)[-1]
    assert "there is no terminal to ask on" in unasked.stderr
    assert '"leads"' in unlocked.stdout


@pytest.mark.chaos
async def test_the_leader_is_killed_again_and_again(tmp_path: Path) -> None:
    """Eight processes apply a hundred migrations, each exactly once, however many leaders end."""
    with Cluster(tmp_path) as cluster:
        await cluster.join()
        url = cluster.url("app")
        command = [sys.executable, dqlite_worker.__file__, url]
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        workers = [subprocess.Popen(command, **pipes) for _ in range(8)]
        async with DqlitePool(url) as pool:
            manager = MigrationManager(pool, dqlite_worker.migrations())
            for version in (15, 35, 55, 75, 90):
                while await manager.current_version() < version:
                    pass
                await _replace_leader(cluster)
            ends = [await asyncio.to_thread(worker.communicate) for worker in workers]

            assert [(0, "")] * 8 == [
                (worker.returncode, stderr)
                for worker, (_, stderr) in zip(workers, ends, strict=True)
            ]
            async with connected(pool) as connection:
                rows = await connection.fetchall("SELECT version FROM done ORDER BY rowid")
        assert list(range(1, 101)) == [version for (version,) in rows]


async def _replace_leader(cluster: Cluster) -> None:
    """Kill who leads, wait until another node does, and start the killed one again."""
    leader = await cluster.leader()
    cluster.kill(leader)
    while True:
        try:
            if leader != await cluster.leader():
                break
        except DqliteError:
            await asyncio.sleep(0.05)
    cluster.start(leader)
