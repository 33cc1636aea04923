"""Completion in the real shells, each on a terminal."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from screen import Screen

from wave_async.sources.detect import FORMATS

pytestmark = pytest.mark.once

PROMPT = "ready> "
SHELLS = {
    "bash": (
        ["bash", "--norc", "--noprofile", "-i"],
        f"PS1='{PROMPT}'; eval \"$(wave completion bash)\"",
    ),
    "zsh": (
        ["zsh", "-f", "-i"],
        f"PS1='{PROMPT}'; autoload -Uz compinit; compinit -u -D; eval \"$(wave completion zsh)\"",
    ),
    "fish": (
        ["fish", "--no-config"],
        f"function fish_prompt; echo -n '{PROMPT}'; end; wave completion fish | source",
    ),
}


@pytest.fixture(params=SHELLS)
def shell(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Screen]:
    """Give a shell that has read its script, in a folder with a database and migrations."""
    command, setup = SHELLS[request.param]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    here = tmp_path / "here"
    (here / "migrations").mkdir(parents=True)
    (here / "orders.db").touch()
    programs = tmp_path / "bin"
    programs.mkdir()
    wave = programs / "wave"
    wave.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m wave_async "$@"\n')
    wave.chmod(0o755)
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    with closing(Screen(command)) as screen:
        screen.type(f"{setup}; clear\n")
        screen.wait_for(lambda text: text.strip() == PROMPT.strip())
        yield screen


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("wave mig", "wave migrate"),
        ("wave migrate rehe", "wave migrate rehearse"),
        ("wave migrate --form", "wave migrate --format"),
        ("wave migrate up --ato", "wave migrate up --atomic"),
        ("wave migrate --format refi", "wave migrate --format refinery"),
        ("wave migrate --color alw", "wave migrate --color always"),
        ("wave migrate --database ord", "wave migrate --database orders.db"),
        ("wave migrate --migrations migr", "wave migrate --migrations migrations/"),
        ("wave completion zs", "wave completion zsh"),
    ],
)
def test_a_key_completes(shell: Screen, typed: str, completed: str) -> None:
    """Tab completes commands, options, what an option may be, files and folders."""
    shell.type(f"{typed}\t")

    shell.wait_for(lambda text: f"{PROMPT}{completed}" in text)


def test_what_is_possible_is_listed(shell: Screen) -> None:
    """Where several words fit, all of them are shown."""
    shell.type("wave migrate --format \t\t")

    shell.wait_for(lambda text: all(name in text for name in FORMATS))


def test_an_unknown_shell_is_refused() -> None:
    """A shell without a script is an error of usage that names those with one."""
    ended = subprocess.run(
        [sys.executable, "-m", "wave_async", "completion", "tcsh"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert 2 == ended.returncode
    assert "bash" in ended.stderr
    assert "fish" in ended.stderr
