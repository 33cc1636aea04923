"""Pages of Markdown, read as what their reader would do, and done in one shell.

A fenced block is run by its language, in the order of the page and in one folder:

- `console`: a transcript; what follows a `$ command` is what it says
- `python`, `sql`: go on from those before it on the page; `await` may stand at the top
- `sh`, `json`: run, parsed
- `toml`: parsed, and tried as the project's settings if it has a `[tool.wave]`
- `{directive}`: the build of the documentation runs it

A comment before a block says what else is to be done with it, `run` needs no block:

- `<!-- file: PATH -->`: it is the content of a file
- `<!-- same as: PATH -->`: it is that file of the repository, or a piece of it, which a test runs
- `<!-- run: COMMAND -->`: something is done first that a reader has done before
- `<!-- not run: REASON -->`
"""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
PATIENCE = 120
PORT = "8000"
"""The port in the pages, for which a free one is taken."""
FOLDER = "/srv/app"
"""The folder in the pages, for which a temporary one is taken."""

_COMMENT = re.compile(r"(?s)<!-- (not run|file|same as|run):\s(.+?)\s-->\s*")
_PROMPT = re.compile(r"(?m)(\(y/N\): )(\w)\n")
_LOOSE = (
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z?", "<time>"),
    (r"\b[\d.]+ ?(s|ms)\b", "<seconds>"),
    (r"\b\d{8}T\d+Z-[0-9a-f]{12}\b", "<stamp>"),
    (r"\b[\d,.]+ MB", "<size>"),
    (r"\b\d+ interrupts", "<interrupts>"),
    (r"\(wave-async \S+, \S+, process \d+\)", "(<process>)"),
)
_PYTHON = """
import ast, asyncio, inspect, sys
names = {"__name__": "__main__"}
with asyncio.Runner() as runner:
    for path in sys.argv[1:]:
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(open(path).read(), path, "exec", flags, dont_inherit=True)
        if code.co_flags & inspect.CO_COROUTINE:
            runner.run(eval(code, names))
        else:
            exec(code, names)
"""
_SQL = """
import sqlite3, sys
for path in sys.argv[1:]:
    connection = globals().setdefault("connection", sqlite3.connect(":memory:"))
    connection.executescript(open(path).read())
connection.close()
"""
_TOML = """
import shutil, sys, tomllib
from wave_async.sources.settings import read_settings
if "wave" in tomllib.load(open(sys.argv[1], "rb")).get("tool", {}):
    shutil.copy(sys.argv[1], "pyproject.toml")
    assert read_settings()
"""
_JSON = "import json, sys; json.load(open(sys.argv[1]))"
_PROGRAMS = {"python": _PYTHON, "sql": _SQL, "toml": _TOML, "json": _JSON}
_GOES_ON = {"python", "sql"}
_LANGUAGES = {"console", "sh", *_PROGRAMS}


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page, or a `run` comment, which is a block of `sh`."""

    line: int
    language: str
    text: str
    order: str = ""
    argument: str = ""

    @property
    def is_run(self) -> bool:
        """Whether its own page runs it."""
        return self.order not in {"not run", "same as"} and not self.language.startswith("{")

    @property
    def problem(self) -> str:
        """Why it may not stay as it is, if that is so."""
        if self.order == "same as":
            there = ROOT / self.argument
            same = there.is_file() and self.text in there.read_text(encoding="utf-8")
            return "" if same else f"it is not in {self.argument}"
        if self.language == "console" and self.is_run and not self.text.startswith("$ "):
            return "a transcript begins with a command"
        runnable = self.order == "file" or self.language in _LANGUAGES
        return "" if runnable or not self.is_run else "it can neither be run nor says why not"


@dataclass(frozen=True, slots=True)
class Part:
    """A command of the shell, and what it says; without that it must succeed."""

    line: int
    command: str
    says: str | None = None


def blocks(text: str) -> list[Block]:
    """Return the blocks of a page; raises `ValueError` for an order that none follows."""
    found, order = [], ("", "")
    for token in MarkdownIt("commonmark").parse(text):
        line = token.map[0] + 1 if token.map else 0
        comment = _COMMENT.fullmatch(token.content) if token.type == "html_block" else None
        if comment and comment[1] == "run":
            found.append(Block(line, "sh", comment[2] + "\n"))
        elif comment:
            order = (comment[1], comment[2])
        elif token.type in {"fence", "code_block"}:
            found.append(Block(line, token.info.partition(" ")[0], token.content, *order))
            order = ("", "")
        elif any(order):
            problem = f"line {line}: no block follows `{': '.join(order)}`"
            raise ValueError(problem)
    return found


def parts(page: Sequence[Block], staged: Path) -> Iterator[Part]:
    """Turn the blocks of a page into commands; what they read is written to `staged`."""
    before: dict[str, list[str]] = {}
    for block in page:
        path = staged / f"{block.line}.{block.language}"
        path.write_text(block.text)
        if block.order == "file":
            there = Path(block.argument)
            copy = f"mkdir -p {quote(str(there.parent))} && cp {path} {quote(str(there))}"
            yield Part(block.line, copy)
        elif block.language == "console":
            yield from _transcript(block)
        elif block.language == "sh":
            yield Part(block.line, f"set -e; . {path}; set +e")
        else:
            paths = before.setdefault(block.language, [])
            paths[:] = [*(paths if block.language in _GOES_ON else ()), str(path)]
            program = quote(_PROGRAMS[block.language])
            yield Part(block.line, f"python -c {program} {' '.join(paths)}")


def _transcript(block: Block) -> Iterator[Part]:
    for entry in re.split(r"(?m)^\$ ", block.text)[1:]:
        command, *lines = re.split(r"(?<!\\)\n", entry, maxsplit=1)
        yield Part(block.line, command, "".join(lines).rstrip())


def run(todo: Sequence[Part], folder: Path) -> list[tuple[int, str]]:
    """Do all in one shell in a folder; return each one's exit code and what it said.

    Questions are answered from a terminal with what the transcripts show.
    """
    port = _free_port()
    marked = (f"{part.command.replace(PORT, port)}\nprintf '\\x1e%d\\x1f' $?" for part in todo)
    script = "\n".join(["trap 'kill $(jobs -p) 2>/dev/null' EXIT", *marked])
    answers = "".join(f"{found[2]}\n" for part in todo for found in _PROMPT.finditer(_says(part)))
    keyboard, terminal = pty.openpty()
    os.write(keyboard, answers.encode())
    environ = {name: text for name, text in os.environ.items() if not name.startswith("WAVE_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
    environ |= {
        "PATH": path,
        "HOME": str(folder),
        "LC_ALL": "C",
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
    }
    shell = subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder,
        env=environ,
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said = shell.communicate(timeout=PATIENCE)[0]
    except subprocess.TimeoutExpired:
        os.killpg(shell.pid, signal.SIGKILL)
        said = shell.communicate()[0]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        os.close(keyboard)
        os.close(terminal)
    said = said.replace(str(folder), FOLDER).replace(port, PORT)
    return [
        (int(code), text.rstrip()) for text, code in re.findall(r"(?s)(.*?)\x1e(\d+)\x1f", said)
    ]


def _says(part: Part) -> str:
    return f"{part.says or ''}\n"


def _free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def loosened(text: str) -> str:
    """Return what is said without what is another at each run: times, sizes, processes."""
    for pattern, what in _LOOSE:
        text = re.sub(pattern, what, text)
    return _PROMPT.sub(r"\1", f"{text}\n").rstrip("\n")


def fits(said: str, shown: str) -> bool:
    """Tell whether what was said is what is shown, in which a line of `...` is any lines."""
    lines = (".*" if line == "..." else re.escape(line) for line in shown.split("\n"))
    return re.fullmatch("\n".join(lines), said, re.DOTALL) is not None
