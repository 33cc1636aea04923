"""The pages for those who come from another tool: each command is run and says what is shown."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from asyncclick.testing import CliRunner
from left_by import CODE, FILES, left_by

from wave_async.cli import cli
from wave_async.database.foreign import TOOLS

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "coming-from"
SETTINGS = re.compile(r"```toml\n(.*?)```", re.DOTALL)
SCRIPT = re.compile(r"```sql\n(.*?)```", re.DOTALL)
CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)


async def said(command: str) -> str:
    """Run a command of a page; what it shows."""
    if command.startswith("wave "):
        words = re.findall(r'"([^"]+)"|(\S+)', command.removeprefix("wave "))
        result = await CliRunner().invoke(cli, [quoted or plain for quoted, plain in words])
        return result.stdout + result.stderr
    shell = await anyio.run_process(command)
    return (shell.stdout + shell.stderr).decode()


async def transcript(shown: str) -> str:
    """Run the commands of a transcript anew."""
    commands = re.findall(r"^\$ (.*)\n", shown, re.MULTILINE)
    return "".join([f"$ {command}\n{await said(command)}" for command in commands])


def anywhere(text: str) -> str:
    """Take a transcript out of its time and place."""
    text = text.replace(str(Path.cwd()), "/home/ada/app")
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "2026-01-01 12:00:00", text)


@pytest.mark.parametrize("tool", [tool for tool in TOOLS if tool != "golang-migrate"])
async def test_the_page_is_so(tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a database that the tool has left the commands of its page do what the page shows."""
    page = (PAGES / f"{tool}.md").read_text(encoding="utf-8")
    left_by(tool, tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("pyproject.toml").write_text("".join(SETTINGS.findall(page)), encoding="utf-8")

    for shown in CONSOLE.findall(page):
        assert anywhere(shown) == anywhere(await transcript(shown))
    with closing(sqlite3.connect("app.db")) as db:
        db.executescript("".join(SCRIPT.findall(page)))


def test_every_tool_has_its_line() -> None:
    """The table names each tool that can be imported, its table, and its page."""
    index = (PAGES / "index.md").read_text(encoding="utf-8")
    lines = dict(re.findall(r"^\| \[?([\w-]+)\]?\S* \| `(\w+)` \|", index, re.MULTILINE))

    assert {name: tool.table for name, tool in TOOLS.items()} == {
        name.lower(): table for name, table in lines.items()
    }
    assert {*FILES, *CODE} == {*TOOLS}
    assert {p.stem for p in PAGES.glob("*.md")} == {*TOOLS, "index"} - {"golang-migrate"}
