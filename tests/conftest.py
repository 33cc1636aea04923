"""What every test shares: real files in a temporary folder, and the one backend there is."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from asyncclick.testing import CliRunner, Result

from wave_async import Migration, SingleConnectionPool
from wave_async.cli import cli


@pytest.fixture
def anyio_backend() -> str:
    """Aiosqlite knows asyncio only."""
    return "asyncio"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the variables of whoever runs the tests out of them."""
    for name in (
        "FORCE_COLOR",
        "NO_COLOR",
        "WAVE_AUTO_MIGRATE",
        "WAVE_DATABASE",
        "WAVE_LOCK_TIMEOUT",
        "WAVE_MAX_MIGRATION_VERSION",
        "WAVE_MIGRATIONS",
        "WAVE_MIGRATION_ENABLED",
        "WAVE_MIGRATION_LOG",
        "WAVE_SKIP_MIGRATION_VALIDATION",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a database may be made."""
    return tmp_path / "state.db"


@pytest.fixture
async def pool(path: Path) -> AsyncIterator[SingleConnectionPool]:
    """A pool on a database that does not exist yet."""
    async with SingleConnectionPool(path) as pool:
        yield pool


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty directory; answers where its database will be."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / ".wave" / "state.db"


async def wave(*arguments: object, terminal: bool = False) -> Result:
    """Run `wave migrate` in this process, as if on a terminal or not."""
    runner = CliRunner()
    return await runner.invoke(cli, ["migrate", *map(str, arguments)], color=terminal)


def sql(path: Path | str, *statements: str) -> list[Any]:
    """Run statements as somebody else would; the rows of the last."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return [connection.execute(statement).fetchall() for statement in statements][-1]


def rounds(short: int, long: int) -> int:
    """How often a chaos test repeats: short in the gate, long in `tox -e chaos`."""
    return long if os.environ.get("WAVE_CHAOS") == "long" else short


def numbered(count: int) -> list[Migration]:
    """Migrations 1 to `count`, each a table of its own and its way down."""
    return [
        Migration(n, f"Add t{n}", f"CREATE TABLE t{n} (x INTEGER);", f"DROP TABLE t{n};")
        for n in range(1, count + 1)
    ]
