"""Rows that are measured in turn: A B C, A B C, ..., so that a noisy machine is noisy for all."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

SPENT = Path(__file__).with_name("spent.py")
PATIENCE = 600
PREFIX = "wave-bench-"

Command = tuple[str, ...]
Prepare = Callable[[Path], None]


@dataclass(frozen=True)
class Row:
    """What is measured: a command in a folder of its own, which `prepare` fills before.

    `prepare` runs once; each round gets a copy of the folder, unless the command changes nothing
    (`again`).
    """

    name: str
    prepare: Prepare
    command: Command
    again: bool = False


class Spent(NamedTuple):
    """What a whole process took: seconds, seconds of processor, bytes at its highest."""

    wall: float
    cpu: float
    memory: float


class Failed(Exception):
    """A command did not end well; the text is how it named its error."""


def environment() -> dict[str, str]:
    """Return the variables of this process without those that would lead a row astray."""
    led = ("WAVE_", "DJANGO_", "DBMATE_", "DATABASE_URL", "VIRTUAL_ENV", "PYTHONDONTWRITE")
    return {name: value for name, value in os.environ.items() if not name.startswith(led)}


def last_line(text: str) -> str:
    """Return what a program said last, which is where most name their error."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "").strip()


def named_error(text: str) -> str:
    """Return the line in which a program names its error, else its last."""
    lines = [
        line.strip() for line in text.splitlines() if re.match(r"[\w.]*(Error|Exception)", line)
    ]
    return lines[-1] if lines else last_line(text)


def run(command: Command, folder: Path) -> str:
    """Run a command in a folder to its end; return what it printed. Raises `Failed`."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode:
        raise Failed(named_error(done.stderr or done.stdout) or f"exit code {done.returncode}")
    return done.stdout


def spent(command: Command, folder: Path) -> Spent:
    """Run a command and return what it took.

    A small process starts it: the peak of a process counts from that of the one it was forked from.
    """
    return Spent(
        *json.loads(last_line(run((sys.executable, "-ISE", str(SPENT), *command), folder)))
    )


def once(row: Row, template: Path) -> Spent:
    """Run a row one time, where it finds the folder as it was prepared."""
    if row.again:
        return spent(row.command, template)
    with tempfile.TemporaryDirectory(prefix=PREFIX) as parent:
        folder = Path(parent, "copy")
        shutil.copytree(template, folder, symlinks=True)
        return spent(row.command, folder)


@contextmanager
def noted(failed: dict[str, str], row: Row) -> Iterator[None]:
    """Note why a row failed."""
    try:
        yield
    except (Failed, subprocess.TimeoutExpired) as error:
        failed[row.name] = str(error)


def in_turn(
    rows: Sequence[Row], rounds: int, *, warm: bool = True
) -> tuple[dict[str, list[Spent]], dict[str, str]]:
    """Measure rows in turn, `warm` after a round before; return what they took, and who failed."""
    took: dict[str, list[Spent]] = {row.name: [] for row in rows}
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix=PREFIX) as parent:
        templates = {row.name: Path(parent, str(number)) for number, row in enumerate(rows)}
        for row in rows:
            with noted(failed, row):
                templates[row.name].mkdir()
                row.prepare(templates[row.name])
        for number in range(-1 if warm else 0, rounds):
            for row in rows:
                if row.name in failed:
                    continue
                with noted(failed, row):
                    result = once(row, templates[row.name])
                    if number >= 0:
                        took[row.name].append(result)
    return {name: values for name, values in took.items() if name not in failed}, failed
