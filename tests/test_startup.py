"""A start on every kind of database under every switch, by hand and inside a web framework."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from conftest import numbered, sql
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient as FastAPIClient
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from wave_async import (
    Migration,
    MigrationConfig,
    MigrationManager,
    SingleConnectionPool,
    StartupReport,
    errors,
    lifespan,
    migrate_on_startup,
)

LEGACY = """
CREATE TABLE IF NOT EXISTS t1 (x INTEGER);
CREATE TABLE IF NOT EXISTS t2 (x INTEGER);
CREATE TABLE IF NOT EXISTS t3 (x INTEGER);
"""


def found(path: Path) -> tuple[set[str], list[int] | None]:
    """Return the application's tables and what is recorded; None where nothing ever was."""
    if not path.exists():
        return set(), None
    tables = {
        name for (name,) in sql(path, "SELECT name FROM sqlite_schema WHERE type = 'table'")
    } - {"schema_migrations_log"}
    if "schema_migrations" not in tables:
        return tables, None
    rows = sql(path, "SELECT version FROM schema_migrations")
    return tables - {"schema_migrations"}, [version for (version,) in rows]


def folder(path: Path) -> dict[str, bytes]:
    """Return everything beside a database; for when this process has no connection to it."""
    return {found.name: found.read_bytes() for found in path.parent.iterdir()}


def mode(path: Path) -> int:
    """Return who may use a directory."""
    return path.stat().st_mode & 0o777


async def prepare(path: Path, kind: str) -> None:
    """Make a database: fresh, legacy, tracked at version 2, newer or edited."""
    if kind == "legacy":
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(LEGACY)
    elif kind != "fresh":
        async with SingleConnectionPool(path) as pool:
            await MigrationManager(pool, numbered(4)).migrate_up(4 if kind == "newer" else 2)
    if kind == "edited":
        sql(path, "UPDATE schema_migrations SET checksum = 'w1:0:0' WHERE version = 1")


async def start(
    path: Path, config: MigrationConfig | None = None, migrations: Sequence[Migration] = ()
) -> StartupReport:
    """Start an application of three migrations and the schema that it had before them."""
    async with SingleConnectionPool(path) as pool:
        return await migrate_on_startup(
            pool, migrations or numbered(3), config=config, legacy_schema=LEGACY
        )


def upto(version: int) -> set[str]:
    """Return the tables of a version."""
    return {f"t{n}" for n in range(1, version + 1)}


DEFAULT = MigrationConfig()
BY_HAND = MigrationConfig(auto_migrate=False)
OFF = MigrationConfig(enabled=False)
LENIENT = MigrationConfig(skip_validation=True)
LIMITED = MigrationConfig(max_version=1)


@pytest.mark.parametrize(
    ("kind", "config", "tables", "recorded"),
    [
        ("fresh", DEFAULT, upto(3), [1, 2, 3]),
        ("fresh", BY_HAND, upto(0), None),
        ("fresh", OFF, upto(3), None),
        ("fresh", LENIENT, upto(3), [1, 2, 3]),
        ("fresh", LIMITED, upto(1), [1]),
        ("legacy", DEFAULT, upto(3), [1, 2, 3]),
        ("legacy", BY_HAND, upto(3), None),
        ("legacy", OFF, upto(3), None),
        ("legacy", LENIENT, upto(3), [1, 2, 3]),
        ("legacy", LIMITED, upto(3), [1, 2, 3]),
        ("tracked", DEFAULT, upto(3), [1, 2, 3]),
        ("tracked", BY_HAND, upto(2), [1, 2]),
        ("tracked", OFF, upto(2), [1, 2]),
        ("tracked", LENIENT, upto(3), [1, 2, 3]),
        ("tracked", LIMITED, upto(2), [1, 2]),
        ("newer", OFF, upto(4), [1, 2, 3, 4]),
        ("edited", OFF, upto(2), [1, 2]),
        ("edited", LENIENT, upto(3), [1, 2, 3]),
    ],
)
async def test_every_switch_on_every_database(
    path: Path, kind: str, config: MigrationConfig, tables: set[str], recorded: list[int] | None
) -> None:
    """A start leaves the tables and the records that its configuration wants."""
    await prepare(path, kind)

    await start(path, config)

    assert (tables, recorded) == found(path)


@pytest.mark.parametrize(
    ("kind", "config", "error"),
    [
        *(("newer", c, errors.NewerDatabase) for c in (DEFAULT, BY_HAND, LIMITED, LENIENT)),
        *(("edited", c, errors.ChecksumMismatch) for c in (DEFAULT, BY_HAND, LIMITED)),
    ],
)
async def test_a_contradicting_database_is_refused(
    path: Path, kind: str, config: MigrationConfig, error: type[Exception]
) -> None:
    """Whatever may be applied, a newer or edited database ends the start and stays as it is."""
    await prepare(path, kind)
    before = folder(path)

    with pytest.raises(error):
        await start(path, config)

    assert before == folder(path)


@pytest.mark.parametrize("kind", ["fresh", "legacy", "tracked"])
async def test_auto_migrate_off_leaves_no_trace(path: Path, kind: str) -> None:
    """With WAVE_AUTO_MIGRATE=false not a byte beside the database is written."""
    await prepare(path, kind)
    before = folder(path)

    await start(path, BY_HAND)

    assert before == folder(path)


async def test_auto_migrate_off_creates_no_directory(tmp_path: Path) -> None:
    """With WAVE_AUTO_MIGRATE=false not even the directory is made."""
    report = await start(tmp_path / "new" / "state.db", BY_HAND)

    assert (3, False) == (report.pending, bool(report.done))
    assert {} == folder(tmp_path / "new")


async def test_a_missing_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    """Every directory that a start makes has mode 0700; one that is there keeps its own."""
    there = tmp_path / "there"
    there.mkdir(mode=0o755)

    await start(there / "new" / "deep" / "state.db")

    assert [0o755, 0o700, 0o700] == list(map(mode, (there, there / "new", there / "new" / "deep")))


async def test_the_configuration_is_read_from_the_environment(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `config` the variables count."""
    monkeypatch.setenv("WAVE_MAX_MIGRATION_VERSION", "2")

    report = await start(path)

    assert [1, 2] == [step.version for step in report.done.steps]


async def test_a_bad_variable_ends_the_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that means nothing is an error before anything is created."""
    monkeypatch.setenv("WAVE_AUTO_MIGRATE", "perhaps")

    with pytest.raises(errors.ConfigError, match="WAVE_AUTO_MIGRATE='perhaps' is not valid"):
        await start(path)

    assert {} == folder(path)


async def test_switched_off_without_a_legacy_schema_does_nothing(path: Path) -> None:
    """With WAVE_MIGRATION_ENABLED=false and no schema nothing is made."""
    async with SingleConnectionPool(path) as pool:
        report = await migrate_on_startup(pool, numbered(3), config=OFF)

    assert (False, False) == (report.legacy, bool(report.done))
    assert {} == folder(path)


async def test_a_legacy_schema_is_loaded_in_one_transaction(path: Path) -> None:
    """A pre-migration schema that fails leaves nothing, and the error says where it failed."""
    async with SingleConnectionPool(path) as pool:
        with pytest.raises(errors.MigrationFailed) as caught:
            await migrate_on_startup(
                pool, [], config=OFF, legacy_schema="CREATE TABLE a (x);\nCREATE TABEL b (x);"
            )

    assert "the pre-migration schema failed and was rolled back: " in str(caught.value)
    assert "statement 2, line 2: CREATE TABEL b (x): SQLITE_ERROR" in str(caught.value)
    assert (set(), None) == found(path)


async def test_a_legacy_schema_may_be_loaded_at_every_start(path: Path) -> None:
    """Switched off, a second start is as good as the first."""
    reports = [await start(path, OFF), await start(path, OFF)]

    assert [True, True] == [report.legacy for report in reports]
    assert (upto(3), None) == found(path)


@pytest.mark.parametrize(
    ("kind", "config", "said"),
    [
        ("tracked", DEFAULT, "INFO {path}: applied migration 3: Add t3\n"),
        ("legacy", DEFAULT, "INFO {path}: adopted at version 3\n"),
        ("tracked", LIMITED, ""),
        (
            "fresh",
            BY_HAND,
            "WARNING {path}: 3 pending migration(s) not applied, WAVE_AUTO_MIGRATE is false\n",
        ),
        (
            "tracked",
            OFF,
            (
                "WARNING {path}: WAVE_MIGRATION_ENABLED is false, but the database has "
                "schema_migrations: the pre-migration schema was not loaded\n"
            ),
        ),
    ],
)
async def test_a_start_logs_what_it_did(
    path: Path, caplog: pytest.LogCaptureFixture, kind: str, config: MigrationConfig, said: str
) -> None:
    """What was done is information; what was left undone is a warning."""
    await prepare(path, kind)
    caplog.set_level(logging.INFO, "wave_async")
    caplog.clear()

    await start(path, config)

    told = "".join(f"{record.levelname} {record.getMessage()}\n" for record in caplog.records)
    assert said.format(path=path) == told


@pytest.mark.parametrize(
    ("kind", "config", "version"),
    [
        ("tracked", DEFAULT, 3),
        ("legacy", DEFAULT, 3),
        ("fresh", BY_HAND, None),
        ("tracked", OFF, None),
    ],
)
async def test_a_record_carries_database_and_version(
    path: Path,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    config: MigrationConfig,
    version: int | None,
) -> None:
    """Where a record is about a migration its version is a field of it, and so is the database."""
    await prepare(path, kind)
    caplog.set_level(logging.INFO, "wave_async")
    caplog.clear()

    await start(path, config)

    (record,) = caplog.records
    assert (str(path), version) == (vars(record)["database"], vars(record)["version"])


async def test_a_logged_description_is_safe(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A description cannot forge a line of the log, nor paint a terminal that shows it."""
    caplog.set_level(logging.INFO, "wave_async")

    await start(path, migrations=[Migration(1, "a\x1b[31m\nroot: all is well", "")])

    (record,) = caplog.records
    assert record.getMessage().isprintable()


# Inside a web framework.


@asynccontextmanager
async def inner(app: object) -> AsyncIterator[dict[str, str]]:
    """Give a state, as the lifespan of an application does."""
    yield {"name": "inner"}


def test_lifespan_in_starlette(path: Path) -> None:
    """The database is ready when Starlette answers, and the state of `inner` is handed on."""

    async def answer(request: StarletteRequest) -> PlainTextResponse:
        async with pool.acquire() as connection:
            ((count,),) = await connection.execute_fetchall("SELECT count(*) FROM t3")
        return PlainTextResponse(f"{request.state.name} {count}")

    pool = SingleConnectionPool(path)
    app = Starlette(routes=[Route("/", answer)], lifespan=lifespan(pool, numbered(3), inner=inner))

    with TestClient(app) as client:
        assert "inner 0" == client.get("/").text

    assert ["state.db"] == list(folder(path))


def test_lifespan_in_fastapi(path: Path) -> None:
    """The same in FastAPI."""
    pool = SingleConnectionPool(path)
    app = FastAPI(lifespan=lifespan(pool, numbered(3), inner=inner))

    @app.get("/")
    async def answer(request: Request) -> dict[str, Any]:
        status = await MigrationManager(pool, numbered(3)).current_version()
        return {"name": request.state.name, "version": status}

    with FastAPIClient(app) as client:
        assert {"name": "inner", "version": 3} == client.get("/").json()

    assert ["state.db"] == list(folder(path))


def test_lifespan_without_inner_and_migrations_from_a_generator(path: Path) -> None:
    """An application may be started twice, though its migrations could be read only once."""
    app = Starlette(
        lifespan=lifespan(SingleConnectionPool(path), (m for m in numbered(3)), config=LIMITED)
    )

    for _ in range(2):
        with TestClient(app):
            pass

    assert (upto(1), [1]) == found(path)


def test_a_failing_lifespan_raises_and_closes(path: Path) -> None:
    """A start that fails raises its error through the framework and runs no `inner`."""
    entered: list[object] = []

    @asynccontextmanager
    async def never(app: object) -> AsyncIterator[None]:
        entered.append(app)
        yield

    bad = [Migration(1, "Breaks", "SELEC 1")]
    app = Starlette(lifespan=lifespan(SingleConnectionPool(path), bad, inner=never))

    with pytest.raises(errors.MigrationFailed), TestClient(app):
        pass

    assert [] == entered


FAILING = """
import asyncio, sys
from wave_async import Migration, SingleConnectionPool, lifespan, migrate_on_startup

pool = SingleConnectionPool(sys.argv[1])
migrations = [Migration(1, "Breaks", "SELEC 1")]

async def by_hand():
    await migrate_on_startup(pool, migrations)

async def by_lifespan():
    async with lifespan(pool, migrations)(None):
        pass

asyncio.run({how}())
"""


@pytest.mark.parametrize("how", ["by_hand", "by_lifespan"])
def test_a_failing_start_ends_its_process(path: Path, how: str) -> None:
    """With the pool in a global and open, the process ends by itself with the error."""
    ended = subprocess.run(
        [sys.executable, "-c", FAILING.replace("{how}", how), path],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert 1 == ended.returncode
    last = ended.stderr.rstrip().splitlines()[-1]
    assert last.startswith("wave_async.errors.MigrationFailed: migration 1 (Breaks) failed")
