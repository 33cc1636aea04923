"""Real servers with several workers: all come up, and each migration runs once."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic

import pytest
from serving import PATIENCE, SERVERS, UP, Server, copied, environment, need, serving

need("aiohttp", "gunicorn", "hypercorn", "litestar", "quart", "uvicorn_worker")

WORKERS = {"uvicorn": 4, "hypercorn": 3, "gunicorn": 3, "gunicorn-aiohttp": 3}

FIRST = 'up = "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL);"\n'
SLOW = """
import time
from pathlib import Path

def up(connection):
    connection.execute("ALTER TABLE notes ADD COLUMN done INTEGER NOT NULL DEFAULT 0")
    Path("held").touch()
    while not Path("let-go").exists():
        time.sleep(0.01)
"""
ENDLESS = '''
up = """
CREATE TABLE made AS SELECT 1 AS x;
WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x FROM c) INSERT INTO made SELECT x FROM c
WHERE x > 1;
"""
'''
LAST = 'up = "CREATE INDEX notes_by_text ON notes (text);"\n'


def applied(folder: Path) -> list[tuple[int, str]]:
    """Return what ran, in order, by the log of the database."""
    with closing(sqlite3.connect(folder / "app.db")) as connection:
        return connection.execute(
            "SELECT version, outcome FROM schema_migrations_log ORDER BY id"
        ).fetchall()


def done(*versions: int) -> list[tuple[int, str]]:
    """Return what the log says where each version ran once, in order."""
    return [(version, "done") for version in versions]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The applications, on no database yet."""
    return copied("frameworks", tmp_path)


@pytest.fixture
def slow(folder: Path) -> Path:
    """The applications with a database at version 1, and a migration that a test lets go."""
    migrations = folder / "migrations"
    for file in migrations.iterdir():
        file.unlink()
    (migrations / "0001_notes.py").write_text(FIRST)
    command = ["-m", "wave_async", "migrate", "--database", "app.db"]
    subprocess.run(
        [sys.executable, *command, "--migrations", "migrations", "up"],
        cwd=folder,
        env=environment(),
        check=True,
    )
    (migrations / "0002_done.py").write_text(SLOW)
    (migrations / "0003_index.py").write_text(LAST)
    return folder


@contextmanager
def workers(name: str, app: str, folder: Path, more: str = "", count: int = 0) -> Iterator[Server]:
    """Serve an application with several workers."""
    command = f"-m {SERVERS[name]} {more}"
    with serving(command, folder, app=f"{app}:app", workers=count or WORKERS[name]) as server:
        yield server


def up(server: Server, name: str) -> int:
    """Count the workers that have said that they are up."""
    return server.said().count(UP[name])


def clean(output: str) -> None:
    """Nothing went wrong, nothing was warned of but the socket that uvicorn's parent leaves."""
    output = re.sub(r"sys:1: ResourceWarning: unclosed <socket.*\nResourceWarning.*\n", "", output)
    found = [word for word in ("Traceback", "Warning", "ERROR", "died") if word in output]
    assert not found, output


@pytest.mark.parametrize(
    ("name", "app"),
    [
        ("uvicorn", "starlette_app"),
        ("uvicorn", "fastapi_app"),
        ("hypercorn", "litestar_app"),
        ("hypercorn", "quart_app"),
        ("gunicorn", "fastapi_app"),
        ("gunicorn-aiohttp", "aiohttp_app"),
    ],
)
def test_a_fresh_database(folder: Path, name: str, app: str) -> None:
    """Every worker comes up, one of them migrates, and the database serves."""
    with workers(name, app, folder) as server:
        server.until(lambda: server.answers(200))
        server.until(lambda: up(server, name) == WORKERS[name])
        notes = server.get("/notes")
        assert notes is not None
        assert [] == notes.json()
        output = server.stop()

    assert done(1, 2) == applied(folder)
    assert 0 == server.process.returncode
    clean(output)


def test_aiohttp_by_itself(folder: Path) -> None:
    """The server that aiohttp brings along starts on a migrated database, too."""
    with serving("aiohttp_app.py {port}", folder) as server:
        server.until(lambda: server.answers(200))
        output = server.stop()

    assert done(1, 2) == applied(folder)
    clean(output)


@pytest.mark.parametrize(
    ("name", "app"),
    [
        ("uvicorn", "starlette_app"),
        ("hypercorn", "quart_app"),
        ("gunicorn", "fastapi_app"),
        ("gunicorn-aiohttp", "aiohttp_app"),
    ],
)
def test_a_lifespan_lets_nobody_in_while_it_migrates(slow: Path, name: str, app: str) -> None:
    """No server answers before a slow migration is done; then all workers do, and it ran once."""
    with workers(name, app, slow) as server:
        server.until((slow / "held").exists)
        assert server.get("/healthz", seconds=1) is None
        (slow / "let-go").touch()
        server.until(lambda: server.answers(200))
        server.until(lambda: up(server, name) == WORKERS[name])
        output = server.stop()

    assert done(1, 2, 3) == applied(slow)
    clean(output)


@pytest.mark.parametrize("name", ["uvicorn", "hypercorn", "gunicorn"])
def test_in_the_background_health_answers_meanwhile(slow: Path, name: str) -> None:
    """All workers are up and answer 503 while one migrates, and 200 afterwards; it ran once."""
    with workers(name, "background_app", slow) as server:
        server.until((slow / "held").exists)
        server.until(lambda: up(server, name) == WORKERS[name])
        server.until(lambda: server.answers(503))
        health = server.get("/healthz")
        assert health is not None
        assert {"state": "migrating", "version": 1, "pending": 2} == health.json()
        assert server.answers(503, "/notes")
        (slow / "let-go").touch()
        server.until(lambda: server.answers(200))
        output = server.stop()

    assert done(1, 2, 3) == applied(slow)
    clean(output)


@pytest.mark.parametrize("name", ["uvicorn", "hypercorn", "gunicorn"])
def test_in_the_background_a_stop_ends_the_migration(slow: Path, name: str) -> None:
    """A server that is told to stop interrupts an endless statement, which leaves nothing."""
    (slow / "migrations" / "0002_done.py").write_text(ENDLESS)
    with workers(name, "background_app", slow, count=2) as server:
        server.until(lambda: up(server, name) == 2)
        server.until(lambda: server.answers(503))
        output = server.stop()

    assert [1] == [version for version, outcome in applied(slow) if outcome == "done"]
    with closing(sqlite3.connect(slow / "app.db")) as connection:
        assert not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'made'").fetchall()
    clean(output)


def test_in_the_background_a_failure_is_told(slow: Path) -> None:
    """A migration that fails is logged by each worker, which stays at 503 and can be stopped."""
    (slow / "migrations" / "0002_done.py").write_text('up = "CREATE TABEL x (y);"\n')
    with workers("uvicorn", "background_app", slow, count=2) as server:
        server.until(lambda: server.said().count("the migration failed: migration 2") >= 2)
        health = server.get("/healthz")
        assert health is not None
        assert {"state": "failed", "version": 1, "pending": 2} == health.json()
        output = server.stop()

    assert [1] == [version for version, outcome in applied(slow) if outcome == "done"]
    assert "Traceback" not in output


@pytest.mark.chaos  # a busy machine may hold a heartbeat back for longer
@pytest.mark.parametrize("app", ["starlette_app", "background_app"])
def test_gunicorn_waits_longer_than_its_timeout(slow: Path, app: str) -> None:
    """A migration may take many times gunicorn's timeout, in a lifespan and in the background."""
    with workers("gunicorn", app, slow, "--timeout 2", count=2) as server:
        server.until((slow / "held").exists)
        begun = monotonic()
        server.until(lambda: monotonic() - begun > 6)
        (slow / "let-go").touch()
        server.until(lambda: server.answers(200))
        output = server.stop()

    assert done(1, 2, 3) == applied(slow)
    assert "WORKER TIMEOUT" not in output
    clean(output)


def test_hypercorn_gives_a_lifespan_up_after_its_startup_timeout(slow: Path) -> None:
    """What the page warns of: the server ends by itself, and of the migration nothing is left."""
    (slow / "migrations" / "0002_done.py").write_text(ENDLESS)
    (slow / "hypercorn.toml").write_text("startup_timeout = 1\n")
    with workers("hypercorn", "starlette_app", slow, "--config hypercorn.toml", count=2) as server:
        server.process.wait(PATIENCE)
        assert "LifespanTimeoutError" in server.said()

    assert [1] == [version for version, outcome in applied(slow) if outcome == "done"]


@pytest.mark.parametrize(
    ("name", "app"),
    [
        ("uvicorn", "starlette_app"),
        ("hypercorn", "quart_app"),
        ("gunicorn", "fastapi_app"),
        ("gunicorn-aiohttp", "aiohttp_app"),
    ],
)
def test_a_lifespan_that_fails_ends_the_server(slow: Path, name: str, app: str) -> None:
    """A migration that fails is in the server's output, and the server ends by itself."""
    (slow / "migrations" / "0002_done.py").write_text('up = "CREATE TABEL x (y);"\n')
    with workers(name, app, slow, count=2) as server:
        server.process.wait(PATIENCE)
        assert "MigrationFailed: migration 2 (done) failed and was rolled back" in server.said()

    assert [1] == [version for version, outcome in applied(slow) if outcome == "done"]


def test_behind_is_not_ready(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a start may not migrate, one that is behind answers 503, and by how much."""
    monkeypatch.setenv("WAVE_AUTO_MIGRATE", "false")
    with workers("uvicorn", "starlette_app", folder, count=2) as server:
        server.until(lambda: server.answers(503))
        health = server.get("/healthz")
        assert health is not None
        assert {"version": 0, "pending": 2} == health.json()
        server.stop()

    assert not (folder / "app.db").exists()


def test_a_limit_is_ready(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a gradual rollout, what lies above the limit is not waited for."""
    monkeypatch.setenv("WAVE_MAX_MIGRATION_VERSION", "1")
    with workers("uvicorn", "starlette_app", folder, count=2) as server:
        server.until(lambda: server.answers(200))
        server.stop()

    assert done(1) == applied(folder)
