"""ORMs on a file that wave-async migrates: the recipes run, and what the page warns of is so."""

from __future__ import annotations

import importlib.util
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from serving import EXAMPLES, copied, environment, need

from wave_async import Migration, MigrationManager, SingleConnectionPool, errors, load_migrations

need("apsw", "sqlmodel", "tortoise")
sqlalchemy = pytest.importorskip("sqlalchemy")
create_async_engine = pytest.importorskip("sqlalchemy.ext.asyncio").create_async_engine
text = sqlalchemy.text

MIGRATIONS = load_migrations(EXAMPLES / "orms" / "migrations")
COUNT = "SELECT count(*) FROM person"

Engine = Any


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    """The recipe for SQLAlchemy, imported."""
    file = EXAMPLES / "orms" / "with_sqlalchemy.py"
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def disposed(engine: Engine) -> AsyncIterator[Engine]:
    """Use an engine, and close its connections."""
    try:
        yield engine
    finally:
        await engine.dispose()


async def migrate(path: Path, target: int | None = None) -> None:
    """Migrate a file as an application's start does."""
    async with SingleConnectionPool(path) as pool:
        await MigrationManager(pool, MIGRATIONS, lock_timeout=0.2).migrate_up(target)


async def run(engine: Engine, *statements: str) -> Any:
    """Run statements in one transaction; answers the first value of the last, if it has rows."""
    async with engine.begin() as connection:
        for statement in statements:
            result = await connection.execute(text(statement))
        return result.scalar() if result.returns_rows else None


@pytest.mark.parametrize("name", ["sqlalchemy", "sqlmodel", "tortoise"])
def test_a_recipe_runs(tmp_path: Path, name: str) -> None:
    """It writes and reads on the migrated file, and a deleted team takes its people along."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", f"with_{name}.py"],
        cwd=copied("orms", tmp_path),
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (0, "Ada\n0\n", "") == (ended.returncode, ended.stdout, ended.stderr)


async def test_the_models_are_compared(path: Path, recipe: ModuleType) -> None:
    """What the models have and the migrations do not make is named."""
    await migrate(path, 1)

    async with disposed(recipe.engine_on(str(path))) as engine:
        assert {"person.email"} == await recipe.missing(engine)
        await migrate(path)
        assert set() == await recipe.missing(engine)


async def test_open_connections_see_what_a_migration_made(path: Path, recipe: ModuleType) -> None:
    """An engine with connections in its pool neither hinders a migration nor misses it."""
    await migrate(path, 1)

    async with disposed(recipe.engine_on(str(path))) as engine:
        assert await run(engine, COUNT) == 0
        await migrate(path)
        assert await run(engine, "SELECT count(email) FROM person") == 0


async def test_create_all_first_is_refused(path: Path, recipe: ModuleType) -> None:
    """A schema that the models made is not that of the migrations: they refuse to adopt it."""
    async with disposed(recipe.engine_on(str(path))) as engine, engine.begin() as connection:
        await connection.run_sync(recipe.Base.metadata.create_all)

    with pytest.raises(errors.AdoptionRefused, match="its schema fits no version"):
        await migrate(path)


async def test_create_all_afterwards_takes_a_migrations_place(
    path: Path, recipe: ModuleType
) -> None:
    """It makes the table whose migration is still to be written, which then fails."""
    team, *_ = MIGRATIONS[0].up.split("CREATE TABLE person")
    first, second = Migration(1, "Team", team), Migration(2, "Person", "CREATE TABLE person (x);")
    async with SingleConnectionPool(path) as pool:
        await MigrationManager(pool, [first]).migrate_up()
        async with disposed(recipe.engine_on(str(path))) as engine, engine.begin() as connection:
            await connection.run_sync(recipe.Base.metadata.create_all)

        with pytest.raises(errors.MigrationFailed, match="table person already exists"):
            await MigrationManager(pool, [first, second]).migrate_up()


async def test_a_transaction_is_not_shared(path: Path, recipe: ModuleType) -> None:
    """Migrating inside an engine's own transaction is waiting for oneself: it times out."""
    await migrate(path, 1)

    async with disposed(recipe.engine_on(str(path))) as engine:
        async with engine.begin() as connection:
            await connection.execute(text("INSERT INTO team (name) VALUES ('Engines')"))
            with pytest.raises(errors.DatabaseLocked):
                await migrate(path)
        await migrate(path)


async def test_memory_is_nobody_elses(recipe: ModuleType) -> None:
    """The engine's `:memory:` is another database than the pool's."""
    async with SingleConnectionPool(":memory:") as pool:
        await MigrationManager(pool, MIGRATIONS).migrate_up()
        async with disposed(recipe.engine_on(":memory:")) as engine:
            assert {"team.id", "team.name"} <= await recipe.missing(engine)


async def test_foreign_keys_are_a_matter_of_the_connection(path: Path, recipe: ModuleType) -> None:
    """An engine whose connections are not prepared leaves people without a team."""
    await migrate(path)
    insert = (
        "INSERT INTO team VALUES (1, 'Engines')",
        "INSERT INTO person VALUES (1, 'Ada', 1, NULL)",
        "DELETE FROM team",
        COUNT,
    )

    async with disposed(create_async_engine(f"sqlite+aiosqlite:///{path}")) as plain:
        assert await run(plain, *insert) == 1
        await run(plain, "DELETE FROM person")
    async with disposed(recipe.engine_on(str(path))) as prepared:
        assert await run(prepared, *insert) == 0


@pytest.mark.parametrize(("pool", "left"), [("NullPool", 1), ("StaticPool", 0)])
async def test_one_connection_is_one_transaction(path: Path, pool: str, left: int) -> None:
    """With StaticPool one task's rollback takes what another wrote; with NullPool it stays."""
    await migrate(path)
    url = f"sqlite+aiosqlite:///{path}"
    made = create_async_engine(url, poolclass=getattr(sqlalchemy.pool, pool))

    async with disposed(made) as engine:
        async with engine.connect() as writer, engine.connect() as other:
            await writer.execute(text("INSERT INTO team VALUES (1, 'Engines')"))
            await other.execute(text("SELECT 1"))
            await other.rollback()
            await writer.commit()
        assert left == await run(engine, "SELECT count(*) FROM team")


TAKE = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
HOLD = """
import apsw, sqlite3, subprocess, sys
path, what, take = sys.argv[1:]
mine = sqlite3.connect(path, isolation_level=None)
mine.execute("BEGIN IMMEDIATE")
if what == "open":
    open(path, "rb").close()
if what == "another library":
    apsw.Connection(path).close()
if what == "the same library":
    sqlite3.connect(path).close()
sys.exit(subprocess.run([sys.executable, "-c", take, path], stderr=-3).returncode)
"""


@pytest.mark.parametrize(
    ("what", "taken"),
    [("nothing", False), ("the same library", False), ("another library", True), ("open", True)],
)
@pytest.mark.skipif(sys.platform == "win32", reason="its locks are another story")
def test_closing_a_file_behind_sqlites_back_drops_its_locks(
    path: Path, what: str, *, taken: bool
) -> None:
    """Another process can write in the middle of a transaction: POSIX locks are the process's."""
    with sqlite3.connect(path) as made:
        made.execute("CREATE TABLE t (x)")
    made.close()

    ended = subprocess.run([sys.executable, "-c", HOLD, path, what, TAKE], check=False)

    assert taken == (ended.returncode == 0)
