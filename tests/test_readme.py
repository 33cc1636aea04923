"""What the README shows is so."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import asyncclick as click
import pytest

from wave_async.cli import cli
from wave_async.config import MigrationConfig
from wave_async.sources.detect import FORMATS
from wave_async.sources.header import read_header

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CONFIGURATION = (ROOT / "docs" / "reference" / "configuration.md").read_text()
EXAMPLE, LIFESPAN, FUNCTIONS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_example_runs(tmp_path: Path) -> None:
    """The example migrates, and finds nothing to do the second time."""
    outputs = [
        subprocess.run(
            [sys.executable, "-c", EXAMPLE],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    ]

    assert ["Applying migration 1: Create users\n", "Nothing to do\n"] == outputs


def test_the_lifespan_migrates(tmp_path: Path) -> None:
    """The application of the README starts on a migrated database."""
    start = "from fastapi.testclient import TestClient\nwith TestClient(app): pass"
    definitions = EXAMPLE.partition("async def main")[0]
    code = f"{definitions}\n{LIFESPAN}\n{start}"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)

    assert (tmp_path / "app.db").exists()


def test_the_functions_run(tmp_path: Path) -> None:
    """The functions of the README fill the table of its example."""
    definitions, _, start = EXAMPLE.partition("async def main")
    (tmp_path / "app.py").write_text(f"{definitions}\n{FUNCTIONS}\nasync def main{start}")
    subprocess.run([sys.executable, "app.py"], cwd=tmp_path, check=True)

    with closing(sqlite3.connect(tmp_path / "app.db")) as connection:
        assert [("ada",), ("bob",)] == connection.execute("SELECT name FROM users").fetchall()


def test_two_commands_open_it() -> None:
    """The first block holds the two commands for a fresh machine, alone and nothing else."""
    block = README.partition("```sh\n")[2].partition("```")[0].splitlines()

    assert 2 == len(block)
    assert all(line.startswith("python3 -m venv .venv && .venv/bin/pip install") for line in block)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(test_\w+\.py)`", README))))
def test_every_proof_is_there(name: str) -> None:
    """A test that the README points to exists."""
    assert (ROOT / "tests" / name).exists()


def test_every_variable_is_explained() -> None:
    """The table of variables has those that the code reads, and no other."""
    table = CONFIGURATION.partition("## Variables")[2].partition("\n\nTruths")[0]
    config = Path(sys.modules[MigrationConfig.__module__].__file__ or "").read_text()
    options = {option.envvar for option in cli.commands["migrate"].params} - {None}

    assert options | set(re.findall(r"WAVE_\w+", config)) == set(
        re.findall(r"(?m)^\| `(WAVE_\w+)`", table)
    )


def test_every_format_is_explained() -> None:
    """Each format has its line in the README and on its own page, and no other has one."""
    page = (ROOT / "docs" / "formats.md").read_text()

    for text in (README, page):
        table = text.partition("| format |")[2].partition("\n\n")[0]
        assert set(FORMATS) == set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))


def test_the_header_that_is_shown_can_be_read() -> None:
    """The comment of the page is one that a file may have."""
    line = re.findall(r"```sql\n(.*)\n```", (ROOT / "docs" / "formats.md").read_text())[0]
    options = {"foreign_keys", "transaction", "legacy_alter_table", "cascade", "loss"}

    assert options | {"irreversible", "description"} == set(read_header("a.sql", line).options)


def test_every_command_has_its_line() -> None:
    """The table of the README names the commands that there are, each once."""
    block = README.partition("## The command line")[2].split("```")[1]
    migrate = cli.commands["migrate"]

    assert migrate.list_commands(click.Context(migrate)) == sorted(
        re.findall(r"^([a-z-]+)\b(?! migrate)", block, re.MULTILINE)
    )
