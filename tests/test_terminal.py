"""The command line on a real terminal, and what signals do to a real process."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic

import pytest
from conftest import sql
from screen import PATIENCE, WAVE, Terminal

from wave_async import MigrationRunner

WARNING = (
    "WARNING: Rolling back to version 2. This may result in data loss.\r\n"
    "  drops table performance_metric (0 rows)\r\n"
)
QUESTION = "Continue? (y/N): "
ROLLED_BACK = (
    "Rolling back migration 3: Add performance metrics tables (spec 018 - part 1)\r\n"
    "Successfully rolled back to version 2\r\n"
)

INTERRUPTED = "Interrupted: what was not finished is rolled back"

LONG = """
from wave_async import Migration
ALL = [
    Migration(1, "Short", "CREATE TABLE short (x)"),
    Migration(2, "Long", '''
        CREATE TABLE begun (x);
        CREATE TABLE long AS
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
            SELECT count(*) FROM n;
    '''),
]
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty directory, without colours; answers where its database will be."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    return tmp_path / ".wave" / "state.db"


@pytest.fixture
def at_three(here: Path) -> Path:
    """Make a database at version 3."""
    asyncio.run(up_to_three(here))
    return here


@pytest.fixture
def asked(at_three: Path) -> Iterator[Terminal]:
    """Give a terminal on which `down 2` has just asked its question."""
    with closing(Terminal([*WAVE, "down", "2"])) as terminal:
        terminal.read_until(QUESTION)
        yield terminal


def told_apart(shown: str) -> str:
    """Return what a screen shows without the line about the snapshot, which went to stderr."""
    shown, told = re.subn(r"Snapshot taken: \S+\r\n", "", shown)
    assert 1 == told
    return shown


async def up_to_three(path: Path) -> None:
    """Migrate a database to version 3 of Wave's own migrations."""
    async with MigrationRunner(path) as runner:
        await runner.migrate_up(3)


def versions(path: Path) -> list[int]:
    """Return what the database records."""
    return [version for (version,) in sql(path, "SELECT version FROM schema_migrations")]


# The question.


@pytest.mark.parametrize("answer", ["y", "Y"])
def test_the_transcript_of_down(asked: Terminal, here: Path, answer: str) -> None:
    """Down warns and asks; `y` or `Y` goes on, to the letter of the transcript."""
    asked.type(f"{answer}\n")

    assert 0 == asked.end()
    assert f"{WARNING}{QUESTION}{answer}\r\n{ROLLED_BACK}" == told_apart(asked.shown)
    assert [1, 2] == versions(here)


@pytest.mark.parametrize("answer", ["n", "", "yes", "\x1b[A"])
def test_anything_else_cancels(asked: Terminal, here: Path, answer: str) -> None:
    """Any other answer changes nothing and is no failure."""
    before = here.read_bytes()
    asked.type(f"{answer}\n")

    assert 0 == asked.end()
    assert asked.shown.endswith("\r\nRollback cancelled\r\n")
    assert before == here.read_bytes()


def test_the_end_of_input_cancels(asked: Terminal, here: Path) -> None:
    """Ctrl-D is no consent."""
    before = here.read_bytes()
    asked.type("\x04")

    assert 0 == asked.end()
    assert asked.shown.endswith("Rollback cancelled\r\n")
    assert before == here.read_bytes()


def test_a_line_without_an_end_does_not_stop_the_loop(asked: Terminal, here: Path) -> None:
    """After half a line, sent by Ctrl-D, Ctrl-C still ends the command."""
    asked.type("y\x04")
    asked.read_until("y")
    asked.let_it_read()
    asked.type("\x03")
    asked.read_until(f"^C\r\n{INTERRUPTED}\r\n")

    assert 130 == asked.end()
    assert [1, 2, 3] == versions(here)


def test_ctrl_c_at_the_question(asked: Terminal, here: Path) -> None:
    """Ctrl-C ends the command with one line, exit code 130, and nothing is changed."""
    before = here.read_bytes()
    asked.type("\x03")

    assert 130 == asked.end()
    assert f"{WARNING}{QUESTION}^C\r\n{INTERRUPTED}\r\n" == asked.shown
    assert before == here.read_bytes()


def test_yes_asks_nothing(at_three: Path) -> None:
    """With `--yes` a terminal is not asked either."""
    with closing(Terminal([*WAVE, "down", "2", "--yes"])) as terminal:
        assert 0 == terminal.end()

    assert WARNING + ROLLED_BACK == told_apart(terminal.shown)
    assert [1, 2] == versions(at_three)


@pytest.mark.parametrize(("answer", "version"), [("y", 3), ("n", 2)])
def test_undo_asks(at_three: Path, answer: str, version: int) -> None:
    """`undo` says what it would restore and asks, as `down` does."""
    with closing(Terminal([*WAVE, "down", "2", "--yes"])) as terminal:
        assert 0 == terminal.end()
    with closing(Terminal([*WAVE, "undo"])) as terminal:
        terminal.read_until(QUESTION)
        assert terminal.shown.startswith("WARNING: Restoring version 3, taken ")
        terminal.type(f"{answer}\n")
        assert 0 == terminal.end()

    assert ("Undo cancelled\r\n" in terminal.shown) == (version == 2)
    assert list(range(1, version + 1)) == versions(at_three)


def test_json_is_not_asked(at_three: Path) -> None:
    """Under `--json` there is no question, even on a terminal; it needs `--yes`."""
    with closing(Terminal([*WAVE, "down", "2", "--json"])) as terminal:
        assert 1 == terminal.end()

    assert '{"error": "ConfirmationRequired"' in terminal.shown
    assert QUESTION not in terminal.shown
    assert [1, 2, 3] == versions(at_three)


def test_nothing_to_roll_back_asks_nothing(at_three: Path) -> None:
    """Where there is nothing to do there is nothing to confirm."""
    with closing(Terminal([*WAVE, "down", "4"])) as terminal:
        assert 0 == terminal.end()

    assert "Nothing to do: nothing above version 4 is applied\r\n" == terminal.shown


# Signals.


@pytest.fixture
def migrating(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start an up whose second migration never ends, and wait until it runs."""
    (tmp_path / "long.py").write_text(LONG)
    with subprocess.Popen(
        [sys.executable, "-m", "wave_async", "migrate", "--migrations", "long:ALL", "up"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout
            assert "Applying migration 1: Short\n" == process.stdout.readline()
            assert "Applying migration 2: Long\n" == process.stdout.readline()
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[str], path: Path) -> tuple[int, str]:
    """Wait for the end, see that only the finished is there, answer exit code and last words."""
    rest, said = process.communicate(timeout=PATIENCE)
    assert "" == rest
    assert [1] == versions(path)
    assert [] == sql(path, "SELECT name FROM sqlite_schema WHERE name IN ('begun', 'long')")
    assert ["state.db"] == [found.name for found in path.parent.iterdir()]
    return process.returncode, said.strip()


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (signal.SIGINT, 130, INTERRUPTED),
        (signal.SIGTERM, 143, "Terminated: what was not finished is rolled back"),
    ],
)
def test_a_signal_rolls_back(
    migrating: subprocess.Popen[str], here: Path, number: int, code: int, line: str
) -> None:
    """A signal in a long migration ends it with one line and its exit code; the finished stays."""
    migrating.send_signal(number)

    assert (code, line) == ended(migrating, here)


def test_a_burst_of_signals_is_one(migrating: subprocess.Popen[str], here: Path) -> None:
    """Signals that follow the first at once do nothing more."""
    for _ in range(3):
        migrating.send_signal(signal.SIGINT)

    assert (130, INTERRUPTED) == ended(migrating, here)


def test_repeated_signals_do_nothing_more(migrating: subprocess.Popen[str], here: Path) -> None:
    """However long Ctrl-C is pressed, until the very end of the process, it is one line."""
    deadline = monotonic() + PATIENCE
    while migrating.poll() is None and monotonic() < deadline:
        migrating.send_signal(signal.SIGINT)

    assert (130, INTERRUPTED) == ended(migrating, here)


def test_ctrl_c_on_a_terminal_during_a_migration(tmp_path: Path, here: Path) -> None:
    """The key does what the signal does, and the line begins at the margin."""
    (tmp_path / "long.py").write_text(LONG)
    with closing(Terminal([*WAVE, "--migrations", "long:ALL", "up"])) as terminal:
        terminal.read_until("Applying migration 2: Long\r\n")
        terminal.type("\x03")

        assert 130 == terminal.end()

    assert terminal.shown.endswith(f"^C\r\n{INTERRUPTED}\r\n")
    assert [1] == versions(here)


def test_the_next_up_goes_on(migrating: subprocess.Popen[str], here: Path) -> None:
    """After a kill the next command finds the finished migrations and no obstacle."""
    migrating.kill()
    migrating.wait(PATIENCE)

    again = subprocess.run(
        [sys.executable, "-m", "wave_async", "migrate", "--migrations", "long:ALL", "status"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )

    assert "Current schema version: 1" == again.stdout.splitlines()[0]
    assert "1 pending migration(s)" == again.stdout.splitlines()[-1]
