"""On a terminal an error names its section of the documentation, elsewhere nothing is added."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from wave_async.cli.hint import ERRORS_PAGE


def said_on_a_terminal(folder: Path, *arguments: str, **environ: str) -> str:
    """Return what a command that fails says on a stderr that is a terminal."""
    screen, terminal = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "wave_async", "migrate", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stderr=terminal,
        env={name: text for name, text in os.environ.items() if name != "NO_COLOR"} | environ,
        check=False,
    )
    os.close(terminal)
    said = os.read(screen, 65536).decode()
    os.close(screen)
    assert done.returncode == 1
    return said


def test_an_error_names_its_section(tmp_path: Path) -> None:
    """The last line leads to the section of the class, and is dim."""
    *_, hint = said_on_a_terminal(tmp_path, "up", "99").splitlines()

    assert f"\x1b[2msee {ERRORS_PAGE}#invalidtarget\x1b[0m" == hint


def test_without_colour(tmp_path: Path) -> None:
    """NO_COLOR takes the colour away, not the line."""
    *_, hint = said_on_a_terminal(tmp_path, "up", "99", NO_COLOR="1").splitlines()

    assert f"see {ERRORS_PAGE}#invalidtarget" == hint


def test_the_cause_is_named(tmp_path: Path) -> None:
    """Where one of our errors made a migration fail, its section is the one to read."""
    (tmp_path / "1_vacuum.sql").write_text("VACUUM;")

    said = said_on_a_terminal(tmp_path, "--migrations", ".", "up", NO_COLOR="1")

    assert said.endswith(f"see {ERRORS_PAGE}#statementrefused\r\n")


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_off_a_terminal(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """A script reads one line, as ever."""
    done = subprocess.run(
        [sys.executable, "-m", "wave_async", "migrate", "up", "99", *flags],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr.count("\n") == 1
    assert ERRORS_PAGE not in done.stderr


def test_json_on_a_terminal(tmp_path: Path) -> None:
    """A program that reads JSON from a terminal gets JSON alone."""
    assert ERRORS_PAGE not in said_on_a_terminal(tmp_path, "up", "99", "--json")
