"""What the pages show is so: every block and transcript is run, or says why it is not."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from left_by import CODE, FILES, left_by
from pages import ROOT, blocks, fits, loosened, parts, run
from test_errors import GROUPS, SENTENCES, classes

import wave_async
from wave_async.cli.group import COMMANDS
from wave_async.database.foreign import TOOLS

pytestmark = pytest.mark.once

MOST_NOT_RUN = 12
COMING_FROM = "docs/coming-from/"
"""Its pages are run on databases that the tools have left."""

PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md")))
}
RUN = {
    name: found
    for name, text in PAGES.items()
    if (found := [block for block in blocks(text) if block.is_run and not block.problem])
}


@pytest.mark.parametrize("name", PAGES)
def test_every_block_is_run_or_says_why_not(name: str) -> None:
    """A block of a page is run with it, is a piece of a file that is, or gives its reason."""
    assert [] == [f"line {b.line}: {b.problem}" for b in blocks(PAGES[name]) if b.problem]


def test_few_blocks_are_not_run() -> None:
    """What is not run is counted, so that it does not become the habit."""
    reasons = [
        f"{name}, line {block.line}: {block.argument}"
        for name, text in PAGES.items()
        for block in blocks(text)
        if block.order == "not run"
    ]

    assert len(reasons) <= MOST_NOT_RUN, "\n".join(reasons)


@pytest.mark.parametrize("name", RUN)
def test_page(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a reader would do on a page succeeds, and says what the page shows."""
    staged, folder = tmp_path / "staged", tmp_path / "app"
    staged.mkdir()
    folder.mkdir()
    if name.startswith(COMING_FROM):
        left_by(Path(name).stem, folder)
    beside = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", f"{beside}{os.pathsep}{os.environ['PATH']}")
    for program in ("curl", "dask", "litestream", "taskiq"):
        if f"$ {program}" in PAGES[name] and shutil.which(program) is None:
            pytest.skip(f"{program} is not here")
    todo = list(parts(RUN[name], staged))

    done = run(todo, folder)

    assert len(todo) == len(done), f"the shell ended, or had to be, at {todo[len(done)]}"
    for part, (code, said) in zip(todo, done, strict=True):
        where = f"{name}, line {part.line}: {part.command}"
        if part.says is None:
            assert code == 0, f"{where}\n{said}"
        elif not fits(loosened(said), loosened(part.says)):
            assert f"{where}\n{part.says}" == f"{where}\n{said}"


@pytest.mark.parametrize("name", PAGES)
def test_commands_that_are_named_exist(name: str) -> None:
    """A `wave migrate` command in the prose of a page is one that there is."""
    named = set(re.findall(r"`wave migrate ([a-z][a-z-]*)", PAGES[name]))

    assert set() == named - {command for names in COMMANDS.values() for command in names}


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name: str) -> None:
    """A link to a file leads to one, and one to a section to a heading, on a forge too."""
    text = re.sub(r"(?s)```.*?```", "", PAGES[name])
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        path, _, section = target.partition("#")
        there = (ROOT / name).parent / path if path else ROOT / name
        assert there.exists(), target
        assert not section or section in headings(there.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("name", PAGES)
def test_every_row_has_its_cells(name: str) -> None:
    """A row of a table has as many cells as the line under its head: a bare `|` ends one."""
    text = re.sub(r"(?s)```.*?```", "", PAGES[name])
    for table in re.findall(r"(?m)(?:^\|.*\n)+", text):
        cells = [len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()]

        assert {cells[1]} == {*cells}, table


def headings(text: str) -> set[str]:
    """Return the anchors of a page, as a forge makes them."""
    lines = re.findall(r"(?m)^#+ (.*)$", text)
    return {re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in lines}


def test_every_error_has_its_section() -> None:
    """Each class that a user can meet has a section of its name, and begins with its sentence."""
    text = PAGES["docs/errors.md"]
    sections = dict(re.findall(r"(?m)^### (\w+)\n\n> (.*)$", text))
    known = {(type(error).__name__, sentence) for error, sentence in SENTENCES}

    assert classes().keys() - GROUPS == sections.keys()
    assert set(sections.items()) <= known


def test_every_tool_has_its_line() -> None:
    """The table names each tool that can be imported, its table, and its page."""
    index = PAGES[f"{COMING_FROM}index.md"]
    lines = dict(re.findall(r"^\| \[?([\w-]+)\]?\S* \| `(\w+)` \|", index, re.MULTILINE))
    pages = {Path(name).stem for name in PAGES if name.startswith(COMING_FROM)}

    assert {name: tool.table for name, tool in TOOLS.items()} == {
        name.lower(): table for name, table in lines.items()
    }
    assert {*FILES, *CODE} == {*TOOLS}
    assert pages == {*TOOLS, "index"} - {"golang-migrate"}


def test_every_name_has_its_reference() -> None:
    """The page of the API has what the package offers, each name once."""
    named = re.findall(r"(?m)^\.\. auto\w+:: wave_async\.(\w+)$", PAGES["docs/reference/api.md"])

    assert sorted(wave_async.__all__) == sorted(named)


def test_every_command_has_its_reference() -> None:
    """The page of the command line is what `python docs/commands.py` writes now."""
    page = runpy.run_path(str(ROOT / "docs" / "commands.py"))["page"]

    assert page() == PAGES["docs/reference/cli.md"]
