"""Steps that are Python: inside the engine's transaction, under its guard, whatever they do."""

from __future__ import annotations

import asyncio
import contextvars
import importlib.util
import inspect
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from wave_async import Migration, MigrationManager, SingleConnectionPool
from wave_async.errors import (
    CascadeRefused,
    ChecksumMismatch,
    DatabaseLocked,
    DatabaseUnusable,
    MigrationFailed,
    PoolDeadlock,
    StatementRefused,
    StatementTimeout,
    TransactionEnded,
)

FIRST = """
CREATE TABLE t (x INTEGER PRIMARY KEY);
INSERT INTO t VALUES (1), (2);
CREATE TABLE child (x REFERENCES t ON DELETE CASCADE);
INSERT INTO child VALUES (1);
"""
ENDLESS = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT sum(x) FROM c"
READS = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c"

Action = str | Callable[[Any], Any]
"""A statement, or what is called with the connection and awaited if need be."""


def plain(*actions: Action, catching: bool = False) -> Callable[[Any], Any]:
    """Return a function that does something on the connection's thread."""

    def step(connection: sqlite3.Connection) -> None:
        for action in actions:
            try:
                connection.execute(action) if isinstance(action, str) else action(connection)
            except Exception:
                if not catching:
                    raise

    return step


def awaited(*actions: Action, catching: bool = False) -> Callable[[Any], Any]:
    """Return a function that does the same on the loop."""

    async def step(db: Any) -> None:
        for action in actions:
            try:
                done = db.execute(action) if isinstance(action, str) else action(db)
                if inspect.isawaitable(done):
                    await done
            except Exception:
                if not catching:
                    raise

    return step


KINDS = pytest.mark.parametrize("kind", [plain, awaited])


def manager(pool: SingleConnectionPool, work: Any, **options: Any) -> MigrationManager:
    """Return a manager whose second migration does this work."""
    down = options.pop("down", "")
    return MigrationManager(
        pool, [Migration(1, "First", FIRST), Migration(2, "Step", work, down)], **options
    )


def contents(pool: SingleConnectionPool) -> list[Any]:
    """Return everything that is in the database, as another connection sees it."""
    with closing(sqlite3.connect(pool.path)) as other:
        schema = other.execute("SELECT * FROM sqlite_schema ORDER BY 1, 2").fetchall()
        tables = [n for kind, n, *_ in schema if kind == "table" and not n.endswith("_log")]
        return [schema, *(other.execute(f'SELECT * FROM "{t}"').fetchall() for t in tables)]


async def rows(pool: SingleConnectionPool, sql: str) -> list[Any]:
    """Ask the pool's own connection, which must be as the pool has opened it."""
    async with asyncio.timeout(10), pool.acquire() as db:
        assert not db.in_transaction
        found = (db.row_factory, db.text_factory, db.isolation_level)
        assert (None, str, None) == found
        for name, value in (("foreign_keys", 1), ("legacy_alter_table", 0), ("busy_timeout", 5000)):
            assert [(value,)] == await db.execute_fetchall(f"PRAGMA {name}"), name
        await db.execute("BEGIN IMMEDIATE")
        await db.execute("ROLLBACK")
        return list(await db.execute_fetchall(sql))


async def failure(
    pool: SingleConnectionPool,
    work: Any,
    expected: type[BaseException] = MigrationFailed,
    **options: Any,
) -> Any:
    """Run work that fails: nothing of it is left, and the pool is usable at once."""
    await MigrationManager(pool, [Migration(1, "First", FIRST)]).migrate_up()
    before = contents(pool)
    with pytest.raises(expected) as failed:
        await manager(pool, work, **options).migrate_up()
    assert before == contents(pool)
    assert [(1,)] == await rows(pool, "SELECT max(version) FROM schema_migrations")
    assert [] == await rows(pool, "SELECT name FROM temp.sqlite_schema")
    await manager(pool, "CREATE TABLE mended (x)").migrate_up()
    return failed.value


@KINDS
async def test_functions_and_sql_share_one_transaction(
    pool: SingleConnectionPool, kind: Any
) -> None:
    """Parts run in order, each seeing the ones before, and nobody else sees any until the end."""
    seen: list[Any] = []
    work = [
        "CREATE TABLE u (x);",
        kind(
            "INSERT INTO u SELECT x FROM t",
            lambda db: seen.append((db.in_transaction, contents(pool))),
        ),
        "CREATE TABLE v AS SELECT sum(x) AS x FROM u",
    ]
    await MigrationManager(pool, [Migration(1, "First", FIRST)]).migrate_up()
    before = contents(pool)
    await manager(pool, work).migrate_up()

    assert [(True, before)] == seen
    assert [(3,)] == await rows(pool, "SELECT x FROM v")
    assert [(2, "Step")] == await rows(
        pool, "SELECT version, description FROM schema_migrations WHERE version > 1"
    )
    assert await manager(pool, work).validate()


@KINDS
async def test_a_function_may_be_the_way_down(pool: SingleConnectionPool, kind: Any) -> None:
    """It makes a migration reversible, and fails like a script."""
    migrate = manager(pool, "CREATE TABLE u (x)", down=kind("DROP TABLE u"))
    await migrate.migrate_up()
    broken = manager(pool, "CREATE TABLE u (x)", down=kind("DROP TABLE u", "NONSENSE"))
    with pytest.raises(MigrationFailed, match="down script, statement 1, line"):
        await broken.migrate_down(1)
    assert [(0,)] == await rows(pool, "SELECT count(*) FROM u")
    await migrate.migrate_down(1)

    assert [(1,)] == await rows(pool, "SELECT max(version) FROM schema_migrations")
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await rows(pool, "SELECT * FROM u")


SOURCE = """
def up(connection):
    connection.execute("CREATE TABLE made (x)")
"""


async def test_an_edited_function_is_noticed(pool: SingleConnectionPool, tmp_path: Path) -> None:
    """The record is of its source: an edit is refused, another line ending is none."""

    def load(name: str, source: str) -> Any:
        (tmp_path / f"{name}.py").write_bytes(source.encode())
        spec = importlib.util.spec_from_file_location(name, tmp_path / f"{name}.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.up

    await manager(pool, load("one", SOURCE)).migrate_up()

    assert await manager(pool, load("two", SOURCE.replace("\n", "\r\n"))).validate()
    with pytest.raises(ChecksumMismatch):
        await manager(pool, load("three", SOURCE.replace("(x)", "(y)"))).migrate_up()


# What would end or leave the transaction.


class OtherCursor(sqlite3.Cursor):
    """A cursor that no guard oversees."""


def with_connection(connection: sqlite3.Connection) -> None:
    """Commit, as the context manager of a connection does."""
    with connection:
        connection.execute("INSERT INTO t VALUES (8)")


def set_isolation_level(connection: sqlite3.Connection) -> None:
    """Commit, as sqlite3 does when the level becomes None."""
    connection.isolation_level = None


async def enter(db: Any) -> None:
    """Open the connection again, and close it."""
    async with db:
        await db.execute("INSERT INTO t VALUES (8)")


def without_authorizer(db: Any) -> Any:
    """Take the application's authorizer away, which is not the guard."""
    return db.set_authorizer(None)


def without_progress(db: Any) -> Any:
    """Take the application's progress handler away, which is not the watch."""
    return db.set_progress_handler(None, 1)


OWN = "each migration runs in one transaction of the engine"
REFUSED: dict[str, tuple[list[Action], str]] = {
    "commit": ([lambda db: db.commit()], OWN),
    "rollback": ([lambda db: db.rollback()], OWN),
    "BEGIN": (["BEGIN"], OWN),
    "COMMIT": (["COMMIT"], OWN),
    "SAVEPOINT": (["SAVEPOINT s"], OWN),
    "executescript": ([lambda db: db.executescript("SELECT 1; COMMIT")], OWN),
    "pragma": (["PRAGMA foreign_keys = OFF"], "mark the migration foreign_keys=off"),
    "hidden pragma": (["PRAGMA writable_schema = ON /* DROP */"], "use ALTER TABLE"),
    "attach": (["ATTACH ':memory:' AS other"], "open the other one in the application"),
    "VACUUM": (["VACUUM"], "transaction=off"),
    "bookkeeping": (["DELETE FROM schema_migrations"], "choose another name"),
    "bookkeeping, many": (
        [lambda db: db.executemany("DELETE FROM schema_migrations WHERE version = ?", [(1,)])],
        "choose another name",
    ),
}
PLAIN: dict[str, tuple[list[Action], str]] = {
    "with": ([with_connection], OWN),
    "set_authorizer": ([without_authorizer, "COMMIT"], OWN),
    "isolation_level": ([set_isolation_level], OWN),
    "cursor": ([lambda c: c.cursor(OtherCursor)], "use the connection's own"),
}
if sys.version_info >= (3, 12):
    PLAIN["autocommit"] = ([lambda c: setattr(c, "autocommit", True)], OWN)
WAYS = [
    *((kind, *REFUSED[name]) for name in REFUSED for kind in (plain, awaited)),
    *((plain, *PLAIN[name]) for name in PLAIN),
]
IDS = [f"{kind.__name__} {name}" for name in REFUSED for kind in (plain, awaited)] + list(PLAIN)


@pytest.mark.parametrize(("kind", "actions", "why"), WAYS, ids=IDS)
async def test_what_is_refused_in_a_function(
    pool: SingleConnectionPool, kind: Any, actions: list[Action], why: str
) -> None:
    """It has not happened: a function that fails of it is undone, one that goes on is whole."""
    insert = "INSERT INTO t VALUES (9)"
    failed = await failure(pool, kind(insert, *actions))

    assert isinstance(failed.__cause__, StatementRefused)
    assert why in str(failed)
    assert "up script, statement 1, line" in str(failed)
    await MigrationManager(
        pool,
        [
            Migration(1, "First", FIRST),
            Migration(2, "Step", "CREATE TABLE mended (x)"),
            Migration(3, "Go on", kind(*actions, insert, catching=True)),
        ],
    ).migrate_up()
    expected = [(1,), (2,)] + [(8,)] * (actions == [with_connection]) + [(9,)]
    assert expected == await rows(pool, "SELECT x FROM t")
    assert [(1,), (2,), (3,)] == await rows(pool, "SELECT version FROM schema_migrations")


ENDING: dict[str, Action] = {
    "execute": "INSERT OR ROLLBACK INTO t VALUES (1)",
    "executemany": lambda db: db.executemany("INSERT OR ROLLBACK INTO t VALUES (?)", [(7,), (1,)]),
    "executescript": lambda db: db.executescript("INSERT OR ROLLBACK INTO t VALUES (1)"),
    "returning": "INSERT OR ROLLBACK INTO t VALUES (7), (1) RETURNING x",
}


@KINDS
@pytest.mark.parametrize("catching", [False, True])
@pytest.mark.parametrize("action", ENDING.values(), ids=ENDING)
async def test_a_function_that_ended_the_transaction_fails(
    pool: SingleConnectionPool, kind: Any, action: Action, *, catching: bool
) -> None:
    """Even where it goes on as if nothing had been: what follows does not run."""
    work = kind("INSERT INTO t VALUES (9)", action, "INSERT INTO t VALUES (10)", catching=catching)
    failed = await failure(pool, [work, "INSERT INTO t VALUES (11)"])

    expected = TransactionEnded if catching else (sqlite3.IntegrityError, TransactionEnded)
    assert isinstance(failed.__cause__, expected)


@KINDS
@pytest.mark.parametrize("drop", ["DROP TABLE t", lambda db: db.executescript("DROP TABLE t;")])
async def test_a_drop_in_a_function_is_looked_at(
    pool: SingleConnectionPool, kind: Any, drop: Action
) -> None:
    """A function cannot lose the rows of another table unasked, whatever it sets before."""

    def as_bytes(db: Any) -> None:
        db.text_factory = bytes

    failed = await failure(pool, kind(as_bytes, drop))

    assert isinstance(failed.__cause__, CascadeRefused)
    assert (("child", 1),) == failed.__cause__.children


@KINDS
async def test_a_function_that_closes_the_connection(pool: SingleConnectionPool, kind: Any) -> None:
    """It is told so, and the pool opens a new connection."""
    before = set(threading.enumerate())
    work = kind("INSERT INTO t VALUES (9)", lambda db: db.close())
    failed = await failure(pool, work, DatabaseUnusable)

    assert "a migration's function closed the connection" in str(failed)
    await pool.close()
    for thread in set(threading.enumerate()) - before:
        if not thread.name.startswith("asyncio"):  # a pool of the loop's own
            thread.join(10)
            assert not thread.is_alive()


# What a function may raise and return.


def raising(error: BaseException) -> Callable[[Any], Any]:
    """Return what raises an error."""

    def action(_: Any) -> None:
        raise error

    return action


@KINDS
@pytest.mark.parametrize("catching", [False, True])
@pytest.mark.parametrize(
    "error",
    [ValueError("v"), StopIteration(), StopAsyncIteration(), GeneratorExit(), RuntimeError()],
    ids=repr,
)
async def test_an_error_of_a_function_is_a_failed_migration(
    pool: SingleConnectionPool, kind: Any, error: BaseException, *, catching: bool
) -> None:
    """What it raises is the cause, and names the function; what it has written is undone."""
    work = kind("INSERT INTO t VALUES (9)", raising(error), catching=catching)
    if catching and isinstance(error, Exception):
        await manager(pool, work).migrate_up()
        assert [(3,)] == await rows(pool, "SELECT count(*) FROM t")
        return
    failed = await failure(pool, work)

    assert type(failed.__cause__) in {type(error), RuntimeError}
    assert f"{kind.__name__}.<locals>.step(): " in str(failed)


@KINDS
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
async def test_what_ends_a_program_ends_it(
    pool: SingleConnectionPool, kind: Any, error: type[BaseException]
) -> None:
    """An exception that is no error reaches the caller as it is, after the rollback."""
    await failure(pool, kind("INSERT INTO t VALUES (9)", raising(error())), error)


def generator(connection: Any) -> Any:
    """Do nothing before somebody asks for a first value."""
    yield connection.execute("INSERT INTO t VALUES (9)")


async def async_generator(db: Any) -> Any:
    """Do nothing before somebody asks for a first value."""
    yield await db.execute("INSERT INTO t VALUES (9)")


def coroutine(connection: Any) -> Any:
    """Return what has not run."""

    async def inner() -> None:
        connection.execute("INSERT INTO t VALUES (9)")

    return inner()


async def not_awaited(db: Any) -> Any:
    """Forget to await."""
    return db.execute("INSERT INTO t VALUES (9)")


@pytest.mark.filterwarnings("ignore:coroutine 'Connection.execute' was never awaited")
@pytest.mark.parametrize("work", [generator, async_generator, coroutine, not_awaited])
async def test_what_has_not_run_is_not_recorded(pool: SingleConnectionPool, work: Any) -> None:
    """A function that returns its work undone has failed."""
    failed = await failure(pool, work)

    assert "that nobody runs" in str(failed)


# What a function leaves behind.


@KINDS
async def test_a_half_read_cursor_does_not_hold_anything_up(
    pool: SingleConnectionPool, kind: Any
) -> None:
    """What a function has not read to its end is closed with it, though it is kept."""
    kept: list[Any] = []

    def leave(db: Any) -> Any:
        if isinstance(db, sqlite3.Connection):
            kept.append(db.execute("SELECT x FROM child UNION ALL SELECT x FROM t"))
            return kept[0].fetchone()

        async def read() -> None:
            kept.append(await db.execute("SELECT x FROM child UNION ALL SELECT x FROM t"))
            await kept[0].fetchone()

        return read()

    await manager(pool, [kind(leave), "DROP TABLE child", "DROP TABLE t"]).migrate_up()

    assert kept
    assert [(2,)] == await rows(pool, "SELECT max(version) FROM schema_migrations")


@pytest.mark.parametrize("fails", [False, True])
async def test_a_task_that_was_left_behind(pool: SingleConnectionPool, *, fails: bool) -> None:
    """What it has sent to the connection by the end of its function shares the function's fate."""
    left: list[asyncio.Task[Any]] = []

    async def work(db: Any) -> None:
        async def insert() -> None:
            await db.execute("INSERT INTO t VALUES (9)")

        left.append(asyncio.create_task(insert()))
        await asyncio.sleep(0)
        if fails:
            raise LookupError

    if fails:
        await failure(pool, work)
    else:
        await manager(pool, work).migrate_up()
    await asyncio.wait(left)

    assert [(2 if fails else 3,)] == await rows(pool, "SELECT count(*) FROM t")


@pytest.mark.parametrize("fails", [False, True])
async def test_a_task_that_goes_on_after_its_function_writes_nothing(
    pool: SingleConnectionPool, *, fails: bool
) -> None:
    """Neither the connection nor a cursor of it outlives the function that they were lent to."""
    left: list[asyncio.Task[Any]] = []
    over = asyncio.Event()

    async def work(db: Any) -> None:
        cursor = await db.cursor()

        async def insert(execute: Any) -> None:
            await over.wait()
            await execute("INSERT INTO t VALUES (9)")

        left.extend(asyncio.create_task(insert(x.execute)) for x in (db, cursor))
        if fails:
            raise LookupError

    if fails:
        await failure(pool, work)
    else:
        await manager(pool, work).migrate_up()
    over.set()
    await asyncio.wait(left)

    assert [ValueError, ValueError] == [type(task.exception()) for task in left]
    assert [(2,)] == await rows(pool, "SELECT count(*) FROM t")


@KINDS
@pytest.mark.parametrize("fails", [False, True])
async def test_what_a_function_sets_on_the_connection_is_taken_back(
    pool: SingleConnectionPool, kind: Any, *, fails: bool
) -> None:
    """Factories and modes are the application's again, and spoil no step in between."""

    def tune(db: Any) -> None:
        raw = db if isinstance(db, sqlite3.Connection) else db._conn
        raw.row_factory, raw.text_factory = sqlite3.Row, bytes
        if raw is db:
            raw.isolation_level = "IMMEDIATE"
            raw.autocommit = False

    parts = [kind(tune, "PRAGMA legacy_alter_table = ON"), "PRAGMA foreign_keys = OFF"]
    if fails:
        await failure(pool, [*parts, "NONSENSE"])
    else:
        await manager(pool, [*parts, kind(tune), "CREATE TABLE u (x)"]).migrate_up()

    assert [("t",)] == await rows(pool, "SELECT name FROM sqlite_schema WHERE name = 't'")
    async with pool.acquire() as db:
        await db.execute("INSERT INTO t VALUES (9)")
        assert not db.in_transaction


@KINDS
async def test_the_applications_own_hooks_stay(path: Path, kind: Any) -> None:
    """A guard stands in for the authorizer and a watch for the progress handler, no longer."""
    called: list[int] = []

    def authorize(action: int, *_: Any) -> int:
        return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_DELETE else sqlite3.SQLITE_OK

    def setup(connection: sqlite3.Connection) -> None:
        connection.set_progress_handler(lambda: called.append(1), 1)
        connection.set_authorizer(authorize)

    async with SingleConnectionPool(path, setup=setup) as pool:
        work = kind("CREATE TABLE u (x)", "DELETE FROM u", "DROP TABLE u")
        await manager(pool, work, statement_timeout=60).migrate_up()
        called.clear()

        assert [(2,)] == await rows(pool, "SELECT count(*) FROM t")
        assert called
        with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
            await rows(pool, "DELETE FROM t")


# Time and cancellation.


@KINDS
async def test_a_statement_of_a_function_has_its_time(
    pool: SingleConnectionPool, kind: Any
) -> None:
    """One that takes too long is ended, as in a script; the time is that of each statement."""
    short = ["SELECT 1"] * 20
    failed = await failure(pool, kind(*short, ENDLESS, without_progress), statement_timeout=0.05)

    assert isinstance(failed.__cause__, StatementTimeout)
    failed = await failure(
        SingleConnectionPool(f"{pool.path}.2"),
        kind(without_progress, ENDLESS),
        statement_timeout=0.05,
    )
    assert isinstance(failed.__cause__, StatementTimeout)


@KINDS
async def test_the_time_of_a_function_itself_does_not_count(
    pool: SingleConnectionPool, kind: Any
) -> None:
    """A short statement is not ended because of what its function has done before it."""

    def compute(_: Any) -> None:
        end = monotonic() + 0.1
        while monotonic() < end:
            pass

    some = f"SELECT sum(x) FROM ({READS} LIMIT 3000)"
    await manager(pool, kind(compute, some, compute, some), statement_timeout=0.1).migrate_up()

    assert [(2,)] == await rows(pool, "SELECT count(*) FROM t")


@pytest.mark.parametrize("stubborn", [False, True])
@pytest.mark.parametrize("statement", ["SELECT 1", "INSERT INTO t DEFAULT VALUES", ENDLESS])
@KINDS
async def test_a_cancelled_function_ends(
    pool: SingleConnectionPool, kind: Any, statement: str, *, stubborn: bool
) -> None:
    """Its next statement says that it was cancelled, also to one that catches every error."""
    begun, loop = threading.Event(), asyncio.get_running_loop()
    told = asyncio.Event()

    def tell(_: Any) -> None:
        if not begun.is_set():
            begun.set()
            loop.call_soon_threadsafe(told.set)

    await MigrationManager(pool, [Migration(1, "First", FIRST)]).migrate_up()
    before = contents(pool)
    work = kind(tell, *[statement] * 200_000, catching=stubborn)
    task = asyncio.ensure_future(manager(pool, work).migrate_up())
    await told.wait()
    task.cancel()
    await asyncio.wait([task], timeout=20)

    assert task.cancelled()
    assert before == contents(pool)
    assert [(1,)] == await rows(pool, "SELECT max(version) FROM schema_migrations")


async def test_a_function_that_waits_for_something_else_is_cancelled(
    pool: SingleConnectionPool,
) -> None:
    """What it does on the loop is cancelled where it is, and its cleanup runs."""
    begun, cleaned = asyncio.Event(), []

    async def work(db: Any) -> None:
        await db.execute("INSERT INTO t VALUES (9)")
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            with suppress(asyncio.CancelledError):
                await db.execute("INSERT INTO t VALUES (10)")
            cleaned.append(True)

    task = asyncio.ensure_future(manager(pool, work).migrate_up())
    await begun.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([task])

    assert task.cancelled()
    assert [True] == cleaned
    assert [(2,)] == await rows(pool, "SELECT count(*) FROM t")


async def test_a_function_is_cancelled_by_a_timeout_of_its_own(pool: SingleConnectionPool) -> None:
    """Then only what it has put into the timeout is ended."""

    async def work(db: Any) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        await db.execute("INSERT INTO t VALUES (9)")

    await manager(pool, work).migrate_up()

    assert [(3,)] == await rows(pool, "SELECT count(*) FROM t")


# A function that comes back to where it was called from.


async def acquires(pool: SingleConnectionPool) -> None:
    """Ask for the connection that is held."""
    async with pool.acquire():
        pass


async def migrates(pool: SingleConnectionPool) -> None:
    """Migrate inside a migration."""
    await manager(pool, "CREATE TABLE inner_one (x)").migrate_up()


async def asks(pool: SingleConnectionPool) -> None:
    """Ask a question inside a migration."""
    await manager(pool, "").status()


@pytest.mark.parametrize("job", [acquires, migrates, asks])
@KINDS
async def test_waiting_for_the_pool_inside_a_function_is_refused(
    pool: SingleConnectionPool, kind: Any, job: Any
) -> None:
    """The migration holds the pool; a loop of its own on the connection's thread is no way out."""

    def action(db: Any) -> Any:
        return asyncio.run(job(pool)) if kind is plain else job(pool)

    failed = await failure(pool, kind("INSERT INTO t VALUES (9)", action))

    assert isinstance(failed.__cause__, PoolDeadlock)


@KINDS
async def test_another_pool_waits_for_the_transaction(
    pool: SingleConnectionPool, kind: Any
) -> None:
    """Migrating the same file by another pool inside a migration ends with its lock timeout."""

    async def other(_: Any) -> None:
        async with SingleConnectionPool(pool.path) as second:
            await manager(second, "SELECT 1", lock_timeout=0.1).migrate_up()

    def action(db: Any) -> Any:
        return asyncio.run(other(db)) if kind is plain else other(db)

    failed = await failure(pool, kind("INSERT INTO t VALUES (9)", action))

    assert isinstance(failed.__cause__, DatabaseLocked)


async def test_an_async_function_runs_in_the_task_of_its_caller(pool: SingleConnectionPool) -> None:
    """Context variables and the current task are those of whoever migrates."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen: list[Any] = []

    async def work(_: Any) -> None:
        seen.append((variable.get(), asyncio.current_task()))

    variable.set("set")
    await manager(pool, work).migrate_up()

    assert [("set", asyncio.current_task())] == seen
