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
from asyncclick.testing import CliRunner

from wave_async.cli import cli
from wave_async.config import MigrationConfig
from wave_async.sources.detect import FORMATS
from wave_async.sources.header import read_header

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
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


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(WAVE_\w+)`", README))))
def test_every_variable_is_read(name: str) -> None:
    """A variable that the README explains is one that the code reads."""
    migrate = cli.commands["migrate"]
    read = {option.envvar for option in migrate.params} | set(
        re.findall(
            r"WAVE_\w+", Path(sys.modules[MigrationConfig.__module__].__file__ or "").read_text()
        )
    )

    assert name in read


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


async def test_the_tour_is_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page about safety shows is what the commands say, but for times and hosts."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "safety.md").read_text()
    down, rehearse, validate, log = re.findall(r"```\n\$ wave migrate (.*?)```", page, re.DOTALL)

    async def said(command: str) -> str:
        result = await CliRunner().invoke(cli, ["migrate", *command.split()])
        return f"{command}\n{result.stdout}{result.stderr}"

    def untimed(text: str) -> str:
        return re.sub(r"\d+\.\d+ s\b", "0.000 s", text)

    await said("up 3")
    assert down == await said("down 2 --plan")
    assert untimed(rehearse) == untimed(await said("rehearse --down 2"))
    line = r"log\n[-\d]+ [:\d]+ up 1: done in [.\d]+ s \(wave-async \S+, \S+, process \d+\)\n"
    assert re.fullmatch(line, log)
    assert re.match(line, await said("log"))
    with closing(sqlite3.connect(".wave/state.db")) as connection:
        connection.execute("DROP INDEX idx_performance_metric_run_id")
    assert validate == await said("validate")
