"""Cancellation and signals at random moments: whole migrations, no lock kept, nothing left changed.

Every moment is drawn from a seeded generator; `pytest -s` shows what each test measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import sqlite3
import statistics
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import anyio
import pytest
from conftest import rounds
from worker import OWN_LOG

from wave_async import Migration, MigrationManager, SingleConnectionPool
from wave_async.model.script import parse

pytestmark = pytest.mark.chaos

Job = Callable[[], Awaitable[object]]
Mode = Callable[[Job, float, random.Random], Awaitable[float]]

STEPS = 6
LEAST = 0.1
"""How long the migrations take together at least, in seconds."""
RELEASED = 0.05
"""Within how many seconds whoever cancels has the caller back (issue 3)."""
HUNG = 60.0
SLACK = 1.1
"""Some moments come after the end, to meet the last commit as well."""

DEFAULTS = {
    "foreign_keys": 1,
    "busy_timeout": 5000,
    "synchronous": 2,
    "trusted_schema": 0,
    "recursive_triggers": 0,
    "legacy_alter_table": 0,
}
READS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c"


def say(line: str) -> None:
    """Tell the reader of `pytest -s` what was measured."""
    sys.stdout.write(f"\n    {line}")


def delete(path: Path) -> None:
    """Delete a database."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def filling(rows: int, *, probed: bool = False) -> list[Migration]:
    """Migrations that write rows, index them, read long, and switch settings of the connection.

    Where `probed`, each also calls `probe()`, a function of the application.
    """
    found = []
    for n in range(1, STEPS + 1):
        first = "CREATE TABLE log (version INTEGER NOT NULL); CREATE TABLE app (x INTEGER);"
        count = f"c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < {rows})"
        up = f"""{first if n == 1 else ""}
            PRAGMA legacy_alter_table = {n % 2};
            PRAGMA defer_foreign_keys = ON;
            CREATE TABLE t{n} (x INTEGER PRIMARY KEY, y TEXT NOT NULL);
            WITH RECURSIVE {count} INSERT INTO t{n} SELECT x, 'row ' || x FROM c;
            {"SELECT probe();" if probed else ""}
            CREATE INDEX i{n} ON t{n} (y);
            WITH RECURSIVE {count} SELECT sum(x) FROM c;
            WITH RECURSIVE {count} INSERT INTO log SELECT {n} FROM c;
            {"SELECT probe();" if probed else ""}
            PRAGMA user_version = {n};
        """
        down = f"""PRAGMA legacy_alter_table = {n % 2};
            DELETE FROM log WHERE version = {n};
            UPDATE t{n} SET y = y || '!';
            WITH RECURSIVE {count} SELECT sum(x) FROM c;
            UPDATE t{n} SET y = y || '?';
            DROP TABLE t{n};
            PRAGMA user_version = {n - 1};
            {"DROP TABLE log; DROP TABLE app;" if n == 1 else ""}
        """
        found.append(Migration(n, f"Fill t{n}", up, down))
    return found


def in_python(script: str) -> Callable[[sqlite3.Connection], None]:
    """Return a function that runs a script on the connection's thread."""

    def step(connection: sqlite3.Connection) -> None:
        for statement in parse(script, "").statements:
            connection.execute(statement.sql)

    return step


def in_async_python(script: str) -> Callable[[Any], Awaitable[None]]:
    """Return a function that runs a script from the loop, waits, cleans up and makes cursors."""

    async def step(db: Any) -> None:
        try:
            for statement in parse(script, "").statements:
                async with db.execute(statement.sql) as cursor:
                    await cursor.fetchone()
                await asyncio.sleep(0.001)
        finally:
            await db.execute_fetchall("SELECT count(*) FROM sqlite_schema")

    return step


def functions(rows: int, step: Callable[[str], Any]) -> list[Migration]:
    """Migrations that do the same in functions, one of them between parts in SQL."""
    options = [{}, {"foreign_keys": False}, {"legacy_alter_table": True}]
    found = [
        replace(m, up=step(m.up), down=step(m.down), **options[m.version % 3])
        for m in filling(rows)
    ]
    found[2] = replace(found[2], up=["SELECT 1", found[2].up, step("SELECT 2; SELECT 3")])
    return found


def version_of(db: sqlite3.Connection, rows: int, *, untracked: int = 0) -> int:
    """Return a database's version, having seen that each migration is there wholly or not at all.

    A database without bookkeeping must be as version `untracked` is.
    """
    names = {name for (name,) in db.execute("SELECT name FROM sqlite_schema")} - {OWN_LOG}
    versions = list(range(1, untracked + 1))
    if tracked := "schema_migrations" in names:
        sql = "SELECT version FROM schema_migrations ORDER BY version"
        versions = [version for (version,) in db.execute(sql)]
    version = len(versions)
    expected = {f"{kind}{v}" for v in versions for kind in "ti"}
    expected |= {"log", "app"} if version else set()
    expected |= {"schema_migrations"} if tracked else set()
    assert list(range(1, version + 1)) == versions
    assert expected == names
    for v in versions:
        assert [(rows,)] == db.execute(f"SELECT count(*) FROM t{v}").fetchall()
    if version:
        logged = dict(db.execute("SELECT version, count(*) FROM log GROUP BY version"))
        assert dict.fromkeys(versions, rows) == logged
    assert [(version,)] == db.execute("PRAGMA user_version").fetchall()
    return version


# What is cancelled on: a database, its pool, and what the application has set on the connection.


class Sandbox:
    """A database that is migrated and cancelled again and again, and what must be true of it."""

    def __init__(
        self,
        folder: Path,
        rows: int,
        chance: random.Random,
        *,
        probed: bool = False,
        migrations: list[Migration] | None = None,
    ) -> None:
        self.rows = rows
        self.chance = chance
        self.kept: list[object] = []
        self.path = folder / "none.db"
        self.pool = SingleConnectionPool(self.path)
        self.untracked = 0
        self._folder = folder
        self._probed = probed
        self._migrations = migrations or filling(rows, probed=probed)
        self._made = 0
        self._called = 0

    async def renew(self, template: Path | None = None) -> None:
        """Start over on a new database, or on a copy of one, with other settings."""
        self.kept.clear()
        await self.pool.close()
        delete(self.path)
        self._made += 1
        self.path = self._folder / f"{self._made}.db"
        if template:
            shutil.copy(template, self.path)
        self.pool = SingleConnectionPool(self.path)
        self.managers = [
            MigrationManager(self.pool, self._migrations, statement_timeout=timeout)
            for timeout in (None, HUNG)
        ]
        self.settings = DEFAULTS
        self.tuned = self._probed or self.chance.random() < 0.7
        if self.tuned:
            await self._tune()

    async def _tune(self) -> None:
        """Set on the connection whatever an application may set there."""
        chance = self.chance
        self.settings = {
            "foreign_keys": chance.randrange(2),
            "busy_timeout": chance.randrange(1000, 3000),
            "synchronous": chance.randrange(1, 3),
            "trusted_schema": chance.randrange(2),
            "recursive_triggers": 1,
            "legacy_alter_table": chance.randrange(2),
        }
        async with self.pool.acquire() as connection:
            for name, value in self.settings.items():
                await connection.execute(f"PRAGMA {name} = {value}")
            connection.row_factory = sqlite3.Row
            connection.text_factory = bytes
            await connection.set_authorizer(self._authorize)
            await connection.set_progress_handler(self._progress, 10_000)
            if self._probed:
                raw = connection._conn
                await connection.create_function("probe", 0, lambda: self._probe(raw))

    @staticmethod
    def _authorize(action: int, _first: str, second: str, *_: str) -> int:
        denied = action == sqlite3.SQLITE_FUNCTION and second == "hex"
        return sqlite3.SQLITE_DENY if denied else sqlite3.SQLITE_OK

    def _progress(self) -> int:
        self._called += 1
        return 0

    def _probe(self, raw: sqlite3.Connection) -> int:
        """Leave a half-read cursor behind in the middle of a migration."""
        cursor = raw.execute(READS)
        cursor.fetchone()
        self.kept.append(cursor)
        return 1

    @property
    def manager(self) -> MigrationManager:
        """A manager with or without a statement timeout, which stands in for a handler."""
        return self.chance.choice(self.managers)

    async def run(self, *, down: bool = False) -> None:
        """Migrate; however that ends, the connection's thread has cleaned up when it does."""
        try:
            await (self.manager.migrate_down(0) if down else self.manager.migrate_up())
        finally:
            connection = self.pool._connection
            assert not (connection and connection.in_transaction), "let go with a transaction open"

    async def version(self) -> int:
        """Return the version, having seen that everything is as it must be after a cancellation."""
        async with self.pool.acquire() as connection:
            assert not connection.in_transaction
            await self._unchanged(connection)
            await connection.execute("BEGIN IMMEDIATE")
            await connection.execute("ROLLBACK")
        with closing(sqlite3.connect(self.path, timeout=0, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # at once: nobody holds the lock
            version = version_of(other, self.rows, untracked=self.untracked)
            other.execute("ROLLBACK")
        if version:
            async with self.pool.acquire() as connection:
                await connection.execute("INSERT INTO app VALUES (1)")
        return version

    async def _unchanged(self, connection: Any) -> None:
        found = {}
        for name in self.settings:
            ((found[name],),) = await connection.execute_fetchall(f"PRAGMA {name}")
        assert self.settings == found
        expected = (sqlite3.Row, bytes, b"a") if self.tuned else (None, str, "a")
        ((text,),) = rows = await connection.execute_fetchall("SELECT 'a'")
        assert expected == (connection.row_factory, connection.text_factory, text)
        assert (sqlite3.Row if self.tuned else tuple) is type(rows[0])
        if not self.tuned:
            await connection.execute_fetchall("SELECT hex(1)")
            return
        with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
            await connection.execute_fetchall("SELECT hex(1)")
        called = self._called
        await connection.execute_fetchall(f"SELECT sum(x) FROM ({READS} LIMIT 5000)")
        assert called < self._called, "the application's progress handler is gone"


# The settings: what else goes on while a run is cancelled.

Setting = Callable[[Sandbox], "contextlib.AbstractAsyncContextManager[None]"]


@asynccontextmanager
async def plain(_: Sandbox) -> AsyncIterator[None]:
    """Nothing else goes on."""
    yield


@asynccontextmanager
async def half_read(sandbox: Sandbox) -> AsyncIterator[None]:
    """Keep cursors that the application has half read; drop them meanwhile, now and then."""
    async with sandbox.pool.acquire() as connection:
        cursor = await connection.execute(READS)
        await cursor.fetchone()
        schema = await connection.cursor()
        await schema.execute("SELECT * FROM sqlite_schema, (SELECT 1 UNION SELECT 2)")
        await schema.fetchone()
    sandbox.kept += [cursor, schema]
    del cursor, schema
    drop = asyncio.get_running_loop().call_later(
        sandbox.chance.uniform(0, 2 * LEAST), sandbox.kept.clear
    )
    yield
    drop.cancel()
    sandbox.kept.clear()


@asynccontextmanager
async def traceback_kept(sandbox: Sandbox) -> AsyncIterator[None]:
    """Store an exception that holds a half-read cursor in a frame of its traceback."""

    async def fail() -> None:
        async with sandbox.pool.acquire() as connection:
            cursor = await connection.execute(READS)
            await cursor.fetchone()
            raise LookupError(cursor.description)

    try:
        await fail()
    except LookupError as error:
        sandbox.kept.append(error)
    yield
    sandbox.kept.clear()


@asynccontextmanager
async def probed(sandbox: Sandbox) -> AsyncIterator[None]:
    """Let a function of the application leave half-read cursors inside the migration."""
    yield
    sandbox.kept.clear()


@asynccontextmanager
async def waiting(sandbox: Sandbox) -> AsyncIterator[None]:
    """Another connection has the lock from before the moment until after it."""
    kind = sandbox.chance.choice(["IMMEDIATE", "EXCLUSIVE"])
    with closing(sqlite3.connect(sandbox.path, timeout=5, isolation_level=None)) as holder:
        holder.execute(f"BEGIN {kind}")
        before = holder.total_changes, version_of(holder, sandbox.rows)
        yield
        assert before == (holder.total_changes, version_of(holder, sandbox.rows))
        holder.execute("ROLLBACK")


SETTINGS: dict[str, Setting] = {
    "plain": plain,
    "half read": half_read,
    "traceback": traceback_kept,
    "function": probed,
    "waiting": waiting,
}

WRITER = """
import random, select, sqlite3, sys, time
chance, db = random.Random(5), None
while True:
    if db is None or select.select([sys.stdin], [], [], 0)[0]:
        told = sys.stdin.readline().rstrip()
        if not told:
            break
        if db:
            db.close()
        db = None if told == "stop" else sqlite3.connect(told, timeout=0.02, isolation_level=None)
        print("ok", flush=True)
        continue
    try:
        db.execute("BEGIN IMMEDIATE")
        if db.execute("SELECT * FROM sqlite_schema WHERE name = 'app'").fetchall():
            db.execute("INSERT INTO app VALUES (2)")
        time.sleep(chance.uniform(0, 0.03))
        db.execute("COMMIT")
    except sqlite3.OperationalError:
        if db.in_transaction:
            db.execute("ROLLBACK")
    time.sleep(chance.uniform(0, 0.01))
"""


@asynccontextmanager
async def writers() -> AsyncIterator[Setting]:
    """Start a process that writes, when told to, on the database of a sandbox."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin
    assert process.stdout

    async def tell(line: str) -> None:
        process.stdin.write(f"{line}\n".encode())
        assert b"ok\n" == await process.stdout.readline()

    @asynccontextmanager
    async def writer(sandbox: Sandbox) -> AsyncIterator[None]:
        await tell(str(sandbox.path))
        yield
        await tell("stop")

    try:
        yield writer
    finally:
        process.stdin.close()
        await process.wait()


# The modes: how a run is cancelled. Each answers when it was.


async def _cancelled(job: Job, delay: float, pauses: list[float]) -> float:
    task = asyncio.ensure_future(job())
    if delay:
        await asyncio.wait([task], timeout=delay)
    asked = asyncio.get_running_loop().time()
    took = task.cancel()
    for pause in pauses:
        await asyncio.sleep(pause)
        task.cancel()
    await asyncio.wait([task])
    if not took:
        await task
    assert took == task.cancelled(), "a cancellation was swallowed"
    return asked


async def once(job: Job, delay: float, _: random.Random) -> float:
    """`task.cancel()`."""
    return await _cancelled(job, delay, [])


async def thrice(job: Job, delay: float, chance: random.Random) -> float:
    """`task.cancel()` three times in a row."""
    return await _cancelled(job, delay, chance.choices([0, 0.0005, 0.003], k=2))


async def move_on_after(job: Job, delay: float, _: random.Random) -> float:
    """`anyio.move_on_after`."""
    with anyio.move_on_after(delay) as scope:
        await job()
    return scope.deadline


async def timeout(job: Job, delay: float, _: random.Random) -> float:
    """`asyncio.timeout`."""
    asked = asyncio.get_running_loop().time() + delay
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(asked):
            await job()
    return asked


async def task_group(job: Job, delay: float, _: random.Random) -> float:
    """Cancel an anyio task group."""
    async with anyio.create_task_group() as group:
        group.start_soon(job)
        await anyio.sleep(delay)
        asked = asyncio.get_running_loop().time()
        group.cancel_scope.cancel()
    return asked


MODES: dict[str, Mode] = {
    "once": once,
    "thrice": thrice,
    "move_on_after": move_on_after,
    "timeout": timeout,
    "task group": task_group,
}


# The moments, and what is measured at each.


def own_threads() -> int:
    """Count the threads that are not kept by a loop for what comes next."""
    return sum(not thread.name.startswith("asyncio_") for thread in threading.enumerate())


class Measured:
    """What came of the moments of one test."""

    def __init__(self, sandbox: Sandbox | None = None) -> None:
        self.pace = 1.0
        self.moments = 0
        self.failures: list[str] = []
        self.released: list[float] = []
        self.gaps: list[float] = []
        self._sandbox = sandbox

    async def moment(self, mode: Mode, job: Job, delay: float, chance: random.Random) -> None:
        """Run a job and cancel it after `delay` seconds; measure how long it took to let go."""
        self.moments += 1
        loop = asyncio.get_running_loop()
        ended: list[float] = []

        async def timed() -> None:
            try:
                await job()
            finally:
                ended.append(loop.time())

        ticker = asyncio.ensure_future(self._tick())
        task = asyncio.ensure_future(mode(timed, delay, chance))
        await asyncio.wait([task], timeout=HUNG)
        ticker.cancel()
        if not task.done():
            await self._rescue(task)
            pytest.fail(f"not released {HUNG:g} s after it was cancelled")
        asked = task.result()
        if ended and ended[0] > asked:
            self.released.append(ended[0] - asked)
            self.pace = min(1.0, self.pace * 1.02)
        else:  # the machine is quicker than it was when it was measured
            self.pace *= 0.93

    async def _rescue(self, task: asyncio.Future[float]) -> None:
        """End what does not let go, so that the test can say so instead of hanging."""
        while not task.done():
            if self._sandbox and self._sandbox.pool._connection:
                await self._sandbox.pool._connection.interrupt()
            await asyncio.wait([task], timeout=0.01)

    async def _tick(self) -> None:
        last = monotonic()
        while True:
            await asyncio.sleep(0.001)
            now = monotonic()
            self.gaps.append(now - last)
            last = now

    def judged(self, name: str) -> None:
        """Say what was measured, and fail where it must."""
        released = sorted(self.released)
        median, high = statistics.median(released), percentile(released, 0.95)
        say(
            f"{name}: {self.moments} moments, {len(released)} cancelled in time, "
            f"{len(self.failures)} failures; release median {median * 1000:.1f} ms, "
            f"95 % {high * 1000:.1f} ms, worst {released[-1] * 1000:.1f} ms; "
            f"longest gap of the loop {max(self.gaps) * 1000:.1f} ms"
        )
        assert [] == self.failures
        assert len(released) * 3 >= self.moments, "too few moments came in time to prove anything"
        assert median < RELEASED
        gap = percentile(sorted(self.gaps), 0.99)
        if len(released) >= 100:  # of fewer, a percentile is the one that was unlucky
            assert high < RELEASED
            assert gap < RELEASED
        assert gap < 10 * RELEASED


def percentile(ordered: list[float], share: float) -> float:
    """Return the value that `share` of the ordered values do not exceed."""
    return ordered[int((len(ordered) - 1) * share)]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many rows make the migrations, up as down, take `LEAST` seconds on this machine."""

    async def timed(path: Path, count: int) -> float:
        async with SingleConnectionPool(path) as pool:
            manager = MigrationManager(pool, filling(count))
            begun = monotonic()
            await manager.migrate_up()
            up = monotonic() - begun
            await manager.migrate_down(0)
            return min(up, monotonic() - begun - up)

    folder, count = tmp_path_factory.mktemp("rows"), 4000
    while min(asyncio.run(timed(folder / f"{count}-{i}.db", count)) for i in (1, 2)) < LEAST:
        count = count * 5 // 4
    return count


@pytest.fixture(scope="module")
def seconds(rows: int, tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long the migrations take that nobody cancels."""

    async def timed() -> float:
        folder = tmp_path_factory.mktemp("seconds")
        async with SingleConnectionPool(folder / "timed.db") as pool:
            begun = monotonic()
            await MigrationManager(pool, filling(rows)).migrate_up()
            return monotonic() - begun

    return asyncio.run(timed())


@pytest.fixture(scope="module")
def full(rows: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a database with every migration."""
    path = tmp_path_factory.mktemp("full") / "full.db"

    async def make() -> None:
        async with SingleConnectionPool(path) as pool:
            await MigrationManager(pool, filling(rows)).migrate_up()

    asyncio.run(make())
    return path


def moments_of(chance: random.Random, longest: float) -> float:
    """Draw a moment: anywhere, now and then at the very beginning."""
    if chance.random() < 0.1:
        return chance.choice([0.0, 0.0, chance.uniform(0, 0.005)])
    return chance.uniform(0, longest * SLACK)


async def chaos(
    name: str,
    sandbox: Sandbox,
    seconds: float,
    *,
    times: int,
    mode: Mode | None = None,
    settings: list[Setting],
    down: Path | None = None,
) -> None:
    """Cancel runs up (or down, from a full database) at random moments; each goes on from the last.

    Once the way is nearly done, or at random, the run is completed and a new database begun.
    """
    chance, measured = sandbox.chance, Measured(sandbox)
    end = 0 if down else STEPS

    async def go() -> None:
        await sandbox.run(down=down is not None)

    await sandbox.renew(down)
    version = STEPS - end
    for number in range(times):
        left = abs(end - version) / STEPS * seconds
        how, setting = mode or chance.choice(list(MODES.values())), chance.choice(settings)
        delay = moments_of(chance, measured.pace * (left / 3 if setting is waiting else left))
        before = version
        try:
            async with setting(sandbox):
                await measured.moment(how, go, delay, chance)
            version = await sandbox.version()
            assert before <= version <= end or before >= version >= end
            if version == end or chance.random() < 0.1:
                await go()
                assert end == await sandbox.version(), "the final run did not complete"
                await sandbox.renew(down)
                version = STEPS - end
        except Exception as error:  # noqa: BLE001 - counted, with its moment
            measured.failures.append(f"{number} ({how.__name__}, {delay:.4f} s): {error!r}")
            await sandbox.renew(down)
            version = STEPS - end
    await go()
    assert end == await sandbox.version()
    await sandbox.pool.close()
    measured.judged(name)


@pytest.mark.parametrize("mode", MODES)
async def test_a_cancelled_up_is_whole_and_lets_go(
    tmp_path: Path, rows: int, seconds: float, mode: str
) -> None:
    """However an `up` is cancelled, each migration is there or not, and all else is as before."""
    sandbox = Sandbox(tmp_path, rows, random.Random(f"up {mode}"))
    await chaos(
        f"up, {mode}",
        sandbox,
        seconds,
        times=rounds(40, 1000),
        mode=MODES[mode],
        settings=[plain],
    )


@pytest.mark.parametrize("setting", [name for name in SETTINGS if name != "plain"])
async def test_what_the_application_left_behind_cannot_spoil_the_cleanup(
    tmp_path: Path, rows: int, seconds: float, setting: str
) -> None:
    """Half-read cursors and foreign locks change nothing about a cancelled `up`, in any mode."""
    many = 300 if setting == "function" else 1000
    chance = random.Random(f"setting {setting}")
    sandbox = Sandbox(tmp_path, rows, chance, probed=setting == "function")
    await chaos(
        f"up, {setting}",
        sandbox,
        seconds,
        times=rounds(12, many),
        settings=[SETTINGS[setting]],
    )


@pytest.mark.parametrize("step", [in_async_python, in_python])
@pytest.mark.parametrize("down", [False, True], ids=["up", "down"])
async def test_a_cancelled_function_is_whole_and_lets_go(
    tmp_path: Path, rows: int, step: Callable[[str], Any], *, down: bool
) -> None:
    """What holds for scripts holds for functions, on either side, in any mode and setting."""
    migrations = functions(rows, step)
    template = tmp_path / "template.db"
    begun = monotonic()
    async with SingleConnectionPool(template) as pool:
        await MigrationManager(pool, migrations).migrate_up()
    sandbox = Sandbox(tmp_path, rows, random.Random(f"functions {down}"), migrations=migrations)
    await chaos(
        f"functions {'down' if down else 'up'}, {step.__name__}",
        sandbox,
        monotonic() - begun,
        times=rounds(40, 500),
        settings=[plain, plain, half_read, traceback_kept, waiting],
        down=template if down else None,
    )


ENDLESS = {
    "insert": f"INSERT INTO log {READS};",
    "select": f"SELECT sum(x) FROM ({READS});",
    "create": f"CREATE TABLE endless AS {READS};",
    "update": f"UPDATE log SET version = -1; UPDATE t1 SET y = (SELECT sum(x) FROM ({READS}));",
    "delete": f"DELETE FROM log; DELETE FROM t1 WHERE x = (SELECT sum(x) FROM ({READS}));",
    "many": "CREATE TABLE many (x); INSERT INTO many VALUES (1);"
    + "INSERT INTO many SELECT max(x) + 1 FROM many;" * 30_000,
}
"""What never ends by itself, or not soon, one statement or many."""


@pytest.mark.parametrize("kind", ENDLESS)
async def test_a_cancelled_statement_is_interrupted(tmp_path: Path, kind: str) -> None:
    """A statement that never ends lets go at once as well, in any mode and setting."""
    chance = random.Random(f"endless {kind}")
    rows = 100
    migrations = [*filling(rows)[:1], Migration(2, "Endless", ENDLESS[kind])]
    sandbox = Sandbox(tmp_path, rows, chance, migrations=migrations)
    measured = Measured(sandbox)
    for number in range(rounds(8, 150)):
        if number % 10 == 0:
            await sandbox.renew()
        delay = chance.uniform(0, LEAST)
        setting = chance.choice([plain, half_read, traceback_kept])
        mode = chance.choice(list(MODES.values()))
        try:
            async with setting(sandbox):
                await measured.moment(mode, sandbox.run, delay, chance)
            assert await sandbox.version() in {0, 1}
        except Exception as error:  # noqa: BLE001 - counted, with its moment
            measured.failures.append(f"{number} ({mode.__name__}, {delay:.4f} s): {error!r}")
            await sandbox.renew()
    await sandbox.pool.close()
    measured.judged(f"endless {kind}")


async def test_a_cancelled_query_of_the_application_is_interrupted(tmp_path: Path) -> None:
    """Whoever is cancelled in an endless query through the pool lets go, rolled back, at once."""
    chance = random.Random("query")
    rows = 100
    sandbox = Sandbox(tmp_path, rows, chance, migrations=filling(rows)[:1])
    measured = Measured(sandbox)

    async def query() -> None:
        async with sandbox.pool.acquire() as connection:
            if chance.random() < 0.5:
                await connection.execute("BEGIN")
            await connection.execute(f"{chance.choice(['', 'INSERT INTO app '])}{READS}")
            await connection.execute_fetchall(f"SELECT sum(x) FROM ({READS})")

    for number in range(rounds(24, 500)):
        delay = chance.choice([0.0005, 0.002, 0.03]) * chance.random()
        mode = chance.choice(list(MODES.values()))
        try:
            if number % 20 == 0:
                await sandbox.renew()
                await sandbox.run()
            await measured.moment(mode, query, delay, chance)
            assert 1 == await sandbox.version()
        except Exception as error:  # noqa: BLE001 - counted, with its moment
            measured.failures.append(f"{number} ({mode.__name__}, {delay:.4f} s): {error!r}")
    await sandbox.pool.close()
    measured.judged("query of the application")


async def test_a_writer_in_another_process_cannot_spoil_the_cleanup(
    tmp_path: Path, rows: int, seconds: float
) -> None:
    """While another process takes and leaves the lock, a cancelled `up` is whole and lets go."""
    async with writers() as writer:
        await chaos(
            "up, writer",
            Sandbox(tmp_path, rows, random.Random("writer")),
            1.5 * seconds,
            times=rounds(12, 1000),
            settings=[writer],
        )


async def test_a_cancelled_down_is_whole_and_lets_go(
    tmp_path: Path, rows: int, seconds: float, full: Path
) -> None:
    """In any mode and setting a cancelled rollback has taken back whole migrations only."""
    async with writers() as writer:
        await chaos(
            "down",
            Sandbox(tmp_path, rows, random.Random("down")),
            seconds,
            times=rounds(16, 1000),
            settings=[plain, half_read, traceback_kept, waiting, writer],
            down=full,
        )


async def test_a_cancelled_adoption_is_all_or_nothing(
    tmp_path: Path, rows: int, seconds: float, full: Path
) -> None:
    """An untracked database is untouched or adopted up to its version, never in between."""
    chance, measured = random.Random("adoption"), Measured()
    template = tmp_path / "untracked.db"
    shutil.copy(full, template)
    async with SingleConnectionPool(template) as pool:
        await MigrationManager(pool, filling(rows)).migrate_down(3)
        async with pool.acquire() as connection:
            await connection.execute("DROP TABLE schema_migrations")
    sandbox = Sandbox(tmp_path, rows, chance)
    sandbox.untracked = 3
    for number in range(rounds(8, 150)):
        await sandbox.renew(template)
        delay = moments_of(chance, measured.pace * 2 * seconds)
        try:
            mode = chance.choice(list(MODES.values()))
            await measured.moment(mode, sandbox.run, delay, chance)
            assert await sandbox.version() in range(3, STEPS + 1)
            if number % 4 == 0:
                await sandbox.manager.migrate_up()
                assert STEPS == await sandbox.version()
        except Exception as error:  # noqa: BLE001 - counted, with its moment
            measured.failures.append(f"{number} ({delay:.4f} s): {error!r}")
    await sandbox.pool.close()
    measured.judged("adoption")


@pytest.mark.parametrize("opened", [False, True], ids=["closed pool", "open pool"])
async def test_a_cancelled_question_leaves_no_trace(
    tmp_path: Path, full: Path, rows: int, *, opened: bool
) -> None:
    """A cancelled `status` has changed no byte, keeps no lock and no thread, and can be repeated.

    Half of the moments find the database locked by another connection, so that it waits.
    """
    chance, measured = random.Random(f"questions {opened}"), Measured()
    path = tmp_path / "asked.db"
    shutil.copy(full, path)
    with closing(sqlite3.connect(path)) as db:
        if not opened:  # so that an exclusive lock shuts readers out
            db.execute("PRAGMA journal_mode = DELETE")
        db.executemany(
            "INSERT INTO schema_migrations VALUES (?, 'x', 0, 'w1:0:0')",
            [(version,) for version in range(100, 3000)],
        )
        db.commit()
    # Read only while nothing is open: closing a file drops the locks that SQLite has on it.
    before = path.read_bytes()
    async with SingleConnectionPool(path) as pool:
        manager = MigrationManager(pool, filling(rows))
        if opened:
            async with pool.acquire():
                pass
        expected = await manager.status()
        threads = own_threads()
        for number in range(rounds(30, 500)):
            delay = chance.uniform(0, 0.015)
            try:
                with closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as holder:
                    if chance.random() < 0.5:
                        holder.execute("BEGIN EXCLUSIVE")
                    mode = chance.choice(list(MODES.values()))
                    await measured.moment(mode, manager.status, delay, chance)
                    if holder.in_transaction:
                        holder.execute("ROLLBACK")
                    holder.execute("PRAGMA busy_timeout = 0")
                    holder.execute("BEGIN IMMEDIATE")
                    holder.execute("ROLLBACK")
                if number % 10 == 0:
                    assert expected == await manager.status()
            except Exception as error:  # noqa: BLE001 - counted, with its moment
                measured.failures.append(f"{number} ({delay:.4f} s): {error!r}")
        assert expected == await manager.status()
        assert own_threads() <= threads
    assert before == path.read_bytes()
    measured.judged(f"status, {'open' if opened else 'closed'} pool")


# Signals, sent to real processes.


async def lines_until_exit(process: asyncio.subprocess.Process) -> tuple[str, list[str]]:
    """Return what a process printed: its output, and the lines of its errors."""
    out, err = await asyncio.wait_for(process.communicate(), HUNG)
    return out.decode(), [line for line in err.decode().splitlines() if line]


@asynccontextmanager
async def command_line(folder: Path, path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `wave migrate up` in a process of its own."""
    about = ["migrate", "--database", str(path), "--migrations", "chaotic:MIGRATIONS", "up"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "wave_async", *about),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("again", [False, True], ids=["once", "again and again"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_the_command_line_cleanly(
    tmp_path: Path, rows: int, seconds: float, number: signal.Signals, *, again: bool
) -> None:
    """At any moment of `up`: its exit code, one line of error, whole migrations, no lock.

    Where the run had won, it ends well. Repeats do nothing, up to the end of the process.
    """
    chance = random.Random(f"{number.name} {again}")
    source = f"from wave_async import Migration\nMIGRATIONS = {filling(2 * rows)!r}\n"
    (tmp_path / "chaotic.py").write_text(source)
    failures, slow, won = [], [], 0
    expected = {
        signal.SIGINT: "Interrupted: what was not finished is rolled back",
        signal.SIGTERM: "Terminated: what was not finished is rolled back",
    }[number]
    for moment in range(total := rounds(4, 15 if again else 40)):
        path = tmp_path / f"{moment}.db"
        async with command_line(tmp_path, path) as process:
            assert process.stdout
            await asyncio.wait_for(process.stdout.readline(), HUNG)
            delay = chance.uniform(0, 2 * seconds)
            await asyncio.sleep(delay)
            asked = monotonic()
            with contextlib.suppress(ProcessLookupError):  # it had won already
                os.kill(process.pid, number)
            while again and process.returncode is None:
                await asyncio.sleep(0.002)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, number)  # send_signal() polls: asyncio loses the exit code
            _, errors = await lines_until_exit(process)
            slow.append(monotonic() - asked)
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            version = version_of(other, 2 * rows)
            other.execute("ROLLBACK")
        won += process.returncode == 0
        if (process.returncode, errors) not in [(128 + number, [expected]), (0, [])]:
            failures.append(f"{moment} ({delay:.3f} s): {process.returncode} {errors}")
        if process.returncode == 0 and version != STEPS:
            failures.append(f"{moment} ({delay:.3f} s): exit 0 at version {version}")
        async with SingleConnectionPool(path) as pool:
            await MigrationManager(pool, filling(2 * rows)).migrate_up()
        with closing(sqlite3.connect(path)) as other:
            assert STEPS == version_of(other, 2 * rows)
        delete(path)
    say(
        f"{number.name}{', again and again' if again else ''}: {total} moments, "
        f"{won} had won, {len(failures)} failures; "
        f"gone after {statistics.median(slow) * 1000:.0f} ms, worst {max(slow) * 1000:.0f} ms"
    )
    assert [] == failures


async def test_a_signal_while_waiting_for_the_lock_ends_the_command_line(
    tmp_path: Path, rows: int
) -> None:
    """A command line that waits for another process ends at once, with nothing changed."""
    source = f"from wave_async import Migration\nMIGRATIONS = {filling(rows)!r}\n"
    (tmp_path / "chaotic.py").write_text(source)
    path = tmp_path / "held.db"
    slow = []
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as holder:
        holder.execute("PRAGMA journal_mode = WAL")
        holder.execute("BEGIN IMMEDIATE")
        for number in (signal.SIGINT, signal.SIGTERM):
            async with command_line(tmp_path, path) as process:
                assert process.stderr
                waiting_line = await asyncio.wait_for(process.stderr.readline(), HUNG)
                assert b"Waiting for another process (1 s)\n" == waiting_line
                asked = monotonic()
                process.send_signal(number)
                _, errors = await lines_until_exit(process)
                slow.append(monotonic() - asked)
            assert (128 + number, 1) == (process.returncode, len(errors))
        assert 0 == version_of(holder, rows)
        holder.execute("ROLLBACK")
    say(f"signals while waiting: 2 moments, 0 failures; gone after {max(slow) * 1000:.0f} ms")
