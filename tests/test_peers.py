"""The real tools, end to end: each migrates a database, and its history becomes ours.

`tox -e peers` runs these; they install the pinned tools of the benchmarks once.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from asyncclick.testing import CliRunner
from left_by import HISTORIES

from wave_async.cli import cli
from wave_async.database.foreign import TOOLS

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif("WAVE_PEERS" not in os.environ, reason="tox -e peers runs the real tools"),
]

SCRIPT = "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);"
TORTOISE = {
    "connections": {"default": "sqlite://app.db"},
    "apps": {"models": {"models": ["models", "aerich.models"], "default_connection": "default"}},
}
PROJECTS: dict[str, tuple[dict[str, str], list[str]]] = {
    "yoyo": (
        {
            "steps/0001_users.py": f"from yoyo import step\nsteps = [step({SCRIPT!r})]\n",
            "steps/0002_fill.sql": "INSERT INTO users (name) VALUES ('Ada');\n",
        },
        ["yoyo apply --batch --no-config-file --database sqlite:///app.db steps"],
    ),
    "alembic": (
        {
            "alembic.ini": "[alembic]\nscript_location = steps\nsqlalchemy.url = sqlite:///app.db\n",
            "steps/script.py.mako": "",
            "steps/env.py": "from alembic import context\n"
            "from sqlalchemy import engine_from_config\n"
            "settings = context.config.get_section('alembic')\n"
            "with engine_from_config(settings).connect() as connection:\n"
            "    context.configure(connection)\n"
            "    with context.begin_transaction():\n"
            "        context.run_migrations()\n",
            "steps/versions/1975ea83b712.py": "from alembic import op\n"
            "revision, down_revision = '1975ea83b712', None\n"
            f"def upgrade():\n    op.execute({SCRIPT!r})\n",
        },
        ["alembic upgrade head"],
    ),
    "django": (
        {
            "settings.py": "SECRET_KEY, USE_TZ = 'x', True\n"
            "INSTALLED_APPS = ['django.contrib.contenttypes', 'django.contrib.auth', 'blog']\n"
            "DEFAULT_AUTO_FIELD = 'django.db.models.BigAutoField'\n"
            "DATABASES = {'default': {\n"
            "    'ENGINE': 'django.db.backends.sqlite3', 'NAME': 'app.db'}}\n",
            "blog/__init__.py": "",
            "blog/migrations/__init__.py": "",
            "blog/models.py": "from django.db import models\n"
            "class User(models.Model):\n    name = models.TextField()\n",
        },
        [
            "python -m django makemigrations blog --settings=settings",
            "python -m django migrate --settings=settings",
        ],
    ),
    "aerich": (
        {
            "settings.py": f"TORTOISE_ORM = {TORTOISE!r}\n",
            "models.py": "from tortoise import fields\nfrom tortoise.models import Model\n"
            "class User(Model):\n    name = fields.TextField()\n",
        },
        ["aerich init -t settings.TORTOISE_ORM", "aerich init-db", "aerich upgrade"],
    ),
}
DBMATE = "dbmate --url sqlite:app.db --migrations-dir migrations --no-dump-schema"
REQUIRED = {"yoyo": "yoyo", "alembic": "alembic", "django": "Django", "aerich": "aerich"}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in; the benchmarks can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return tmp_path


def programs(peer: str) -> Path:
    """Return where the programs of a peer are, installed if they are not."""
    pinned = {found.name: found.requires for found in import_module("peers").PEERS}[peer]
    environment = import_module("environments").environment
    return Path(environment(pinned[0].partition("==")[0], pinned))


def run(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run a program of a peer."""
    name, *arguments = command.split()
    environment = {**os.environ, "PYTHONPATH": "."}
    return subprocess.run(
        [str(folder / name), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


async def wave(*arguments: str) -> dict[str, Any]:
    """Run a command that succeeds."""
    about = ("--database", "app.db", "--migrations", "migrations")
    result = await CliRunner().invoke(cli, ["migrate", *about, *arguments, "--json"])

    assert (0, "") == (result.exit_code, result.stderr)
    return dict(json.loads(result.stdout))


def shape(tool: str, name: str, script: str | None = None) -> list[Any]:
    """Return how the table of a tool was made, in `app.db` or by a script."""
    with closing(sqlite3.connect(":memory:" if script else "app.db")) as db:
        db.executescript(script or "")
        return db.execute(
            "SELECT replace(sql, tbl_name, ?) FROM sqlite_schema WHERE name = ?", (tool, name)
        ).fetchall()


@pytest.mark.parametrize("tool", PROJECTS)
async def test_program_code(tool: str) -> None:
    """A real database of a tool is adopted, and the committed one has the same bookkeeping.

    The tool still finds its own history and has nothing to do.
    """
    files, commands = PROJECTS[tool]
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    where = programs(REQUIRED[tool])
    for command in commands:
        done = run(where, command)
        assert 0 == done.returncode, done.stderr
    golden = (HISTORIES / f"{tool}.sql").read_text()
    table = TOOLS[tool].table

    assert shape(tool, table, golden) == shape(tool, table)
    await wave("new", "--from-database", "First")
    recorded = (await wave("import-history", "--from", tool))["recorded"]
    assert [1] == [row["version"] for row in recorded]
    await wave("validate")
    assert 0 == run(where, commands[-1]).returncode
    await wave("validate")


async def test_dbmate() -> None:
    """What dbmate has applied is adopted; run by mistake afterwards it changes nothing."""
    Path("migrations").mkdir()
    first = f"-- migrate:up\n{SCRIPT}\n-- migrate:down\nDROP TABLE users;\n"
    Path("migrations/20240101120000_users.sql").write_text(first)
    where = programs("dbmate")
    assert 0 == run(where, f"{DBMATE} up").returncode
    golden = (HISTORIES / "dbmate.sql").read_text()

    assert shape("", "schema_migrations", golden) == shape("", "schema_migrations")
    assert 1 == len((await wave("import-history", "--from", "dbmate", "--yes"))["recorded"])
    assert "Applied: 1" in run(where, f"{DBMATE} status").stdout
    second = "-- migrate:up\nCREATE TABLE posts (id);\n-- migrate:down\nDROP TABLE posts;\n"
    Path("migrations/20240102120000_posts.sql").write_text(second)
    mistaken = run(where, f"{DBMATE} up")
    assert 0 != mistaken.returncode
    assert "NOT NULL constraint failed: schema_migrations.description" in mistaken.stderr
    assert 1 == (await wave("status"))["pending"]
    assert 1 == len((await wave("up"))["applied"])
    assert "Pending: 0" in run(where, f"{DBMATE} status").stdout
