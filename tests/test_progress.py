"""The line that shows how far a run has come: its text, and a real screen."""

from __future__ import annotations

import re
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from screen import PATIENCE, WAVE, Screen
from wcwidth import wcswidth

from wave_async import Direction, RunStarted, Step, StepFinished, StepStarted
from wave_async.cli.progress import Progress, fitting

pytestmark = pytest.mark.once

SLOW = """
from pathlib import Path
from time import sleep
from wave_async import Migration

def wait(connection):
    while not Path("go").exists():
        connection.execute("SELECT 1")
        sleep(0.01)

ALL = [
    Migration(1, "Quick", "CREATE TABLE a (x)", "DROP TABLE a"),
    Migration(2, "Slow 宽字符", ["CREATE TABLE b (x)", wait, "CREATE TABLE c (x)"]),
    Migration(3, "Last", "CREATE TABLE d (x)"),
]
BAD = [*ALL[:2], Migration(3, "Bad", "SELEC 1")]
"""
BAR = "[########------------] 1/3 2: Slow 宽字符"
NARROW = "2: S.."

Watched = Callable[..., Screen]


@pytest.fixture
def up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """Give what starts an up whose second migration waits for a file, and ends what is left."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slow.py").write_text(SLOW)
    opened: list[Screen] = []

    def start(source: str = "slow:ALL", *options: str, **about: str | int) -> Screen:
        command = (*WAVE, "--migrations", source, "up", *options)
        opened.append(Screen(command, **about))  # type: ignore[arg-type]
        return opened[-1]

    yield start
    for screen in opened:
        screen.close()


def clock(text: str) -> str:
    """Return the time that a screen's last line shows."""
    found = re.search(r"(\d+:\d\d) [|/\\-]$", text)
    return found[1] if found else ""


# On a screen.


def test_the_line_shows_where_a_run_is_and_that_time_goes_on(up: Watched) -> None:
    """The line tells the migration, the statement and the time, which passes within one of them."""
    screen = up()
    screen.wait_for(lambda text: "0:01" == clock(text))

    assert screen.lines[:2] == ["Applying migration 1: Quick", "Applying migration 2: Slow 宽字符"]
    assert screen.lines[2].startswith(BAR)
    assert "statement 2/3" in screen.lines[2]
    screen.wait_for(lambda text: "0:02" == clock(text))


def test_at_the_end_the_line_is_gone(up: Watched) -> None:
    """A run that went well leaves on the screen what it leaves in a file, in colour."""
    screen = up()
    screen.wait_for(clock)
    Path("go").touch()

    assert 0 == screen.end()
    assert [
        "Applying migration 1: Quick",
        "Applying migration 2: Slow 宽字符",
        "Applying migration 3: Last",
        "Migrations applied successfully",
    ] == screen.lines
    assert [set(), {"green"}] == [screen.colours(0), screen.colours(3)]


def test_a_failure_leaves_no_line(up: Watched) -> None:
    """A run that failed ends with its error, in red, and nothing of the line."""
    screen = up("slow:BAD")
    screen.wait_for(clock)
    Path("go").touch()

    assert 1 == screen.end()
    assert screen.lines[2] == "Applying migration 3: Bad"
    assert screen.lines[3].startswith("Error: migration 3 (Bad) failed")
    assert {"red"} == screen.colours(3)
    assert "[" not in screen.text


def test_ctrl_c_leaves_no_line(up: Watched) -> None:
    """Ctrl-C takes the line away, and the sentence begins at the margin."""
    screen = up()
    screen.wait_for(clock)
    screen.type("\x03")

    assert 130 == screen.end()
    assert "Interrupted: what was not finished is rolled back" == screen.lines[-1]
    assert "statement" not in screen.text


def test_a_window_may_change_its_size(up: Watched) -> None:
    """The line always fits the window as it is now."""
    screen = up(columns=60)
    screen.wait_for(lambda text: "statement 2/3" in text)
    screen.resize(20)
    screen.wait_for(lambda text: text.split("\n")[-1].startswith(NARROW))
    screen.resize(80)
    screen.wait_for(lambda text: BAR in text)


def test_a_narrow_window_shows_the_most_important(up: Watched) -> None:
    """In 20 columns there are still the version, the statement and the time."""
    screen = up(columns=20)
    screen.wait_for(clock)

    assert re.fullmatch(r"2: S\.\. +2/3 0:0\d [|/\\-]", screen.lines[-1])


def test_waiting_for_a_lock_is_told_beside_the_line(up: Watched, tmp_path: Path) -> None:
    """The sentence about the other process stays, whole, and the line goes on below it."""
    path = tmp_path / ".wave" / "state.db"
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("PRAGMA journal_mode = WAL")
        holder.execute("BEGIN IMMEDIATE")
        screen = up()
        screen.wait_for(lambda text: "\n" in text and clock(text) >= "0:02")
        assert screen.lines[0] == "Waiting for another process (1 s)"
        assert "Waiting for another process  " in screen.lines[1]
    Path("go").touch()

    assert 0 == screen.end()
    assert screen.lines[0] == "Waiting for another process (1 s)"
    assert screen.lines[1] == "Applying migration 1: Quick"


@pytest.mark.parametrize(
    ("options", "environment"), [(["--quiet"], {}), (["--json"], {}), ([], {"TERM": "dumb"})]
)
def test_no_line_where_none_is_wanted(
    up: Watched, options: list[str], environment: dict[str, str]
) -> None:
    """`--quiet`, `--json` and a terminal that can do nothing see no line."""
    screen = up("slow:ALL", *options, **environment)
    with pytest.raises(subprocess.TimeoutExpired):
        screen.process.wait(2.5)
    Path("go").touch()

    assert 0 == screen.end()
    assert "0:0" not in screen.text


def test_off_a_terminal_there_are_plain_lines(tmp_path: Path, up: Watched) -> None:
    """A pipe gets one line for each migration and the result, however long it takes."""
    command = [*WAVE, "--migrations", "slow:ALL", "up"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2.5)
        Path("go").touch()
        shown, told = process.communicate(timeout=PATIENCE)

    assert b"" == told
    assert [
        "Applying migration 1: Quick",
        "Applying migration 2: Slow 宽字符",
        "Applying migration 3: Last",
        "Migrations applied successfully",
    ] == shown.decode().splitlines()


def test_results_in_a_file_and_the_line_on_the_screen(up: Watched, tmp_path: Path) -> None:
    """With stdout in a file the line is still drawn, and the file has nothing of it."""
    shell = " ".join((*WAVE, "--migrations", "slow:ALL", "up", "> out.txt"))
    with closing(Screen(["sh", "-c", shell])) as screen:
        screen.wait_for(lambda text: text.startswith(BAR))
        Path("go").touch()
        assert 0 == screen.end()
        assert [""] == screen.lines

    assert Path("out.txt").read_text(encoding="utf-8").endswith("applied successfully\n")


# The text.


def drawn(columns: int, description: str = "Add users", statement: int = 2) -> str:
    """Return the line of a run that is at the second of three migrations."""
    progress = Progress(StringIO(), "Preparing", lambda: statement)
    first, second = (Step(Direction.UP, n, description) for n in (1, 2))
    for event in (
        RunStarted(Direction.UP, 3),
        StepStarted(first, 1),
        StepFinished(first),
        StepStarted(second, 4),
    ):
        progress.hear(event)
    return progress.line(columns)


@pytest.mark.parametrize(
    "line",
    [
        "[########------------] 1/3 2: Add users                 statement 2/4  0:00 |",
        "[########------------] 1/3 2: Ad..  statement 2/4  0:00 |",
        "2: Add users                 2/4 0:00 |",
        "2: Add.. 2/4 0:00 |",
        ".. 2/4 0:00 |",
        "0:00 |",
        "0:0",
        "",
    ],
)
def test_the_line_at_some_widths(line: str) -> None:
    """What matters least goes first, and three columns stay free."""
    assert line == drawn(len(line) + 3)


def test_the_page_shows_such_a_line() -> None:
    """The line in docs/terminal.md is one that an up draws."""
    page = (Path(__file__).parents[1] / "docs" / "terminal.md").read_text(encoding="utf-8")
    line = drawn(80, "Fill the archive").replace("0:00", "0:07")

    assert f"```\n{line}\n```" in page


# Wide since Unicode 16, which 3.11 does not know, and the halves of flags: terminals differ.
UNSETTLED = [*range(0x2630, 0x2638), *range(0x268A, 0x2690), *range(0x4DC0, 0x4E00)]
UNSETTLED += [*range(0x1D300, 0x1D357), *range(0x1D360, 0x1D377), *range(0x1F1E6, 0x1F200)]
LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="".join(map(chr, UNSETTLED)))


@given(st.text(LETTERS, max_size=60), st.integers(1, 120))
def test_the_line_never_breaks(description: str, columns: int) -> None:
    """Whatever letters a description has, the line takes no more columns than it may."""
    assert max(columns - 3, 0) >= wcswidth(drawn(columns, description))


@given(st.text("a宽é\u0301\uff57", max_size=12), st.integers(0, 14))
def test_fitting_takes_exactly_its_columns(text: str, columns: int) -> None:
    """A text of wide and of combining letters is cut or filled up to the column."""
    found = fitting(text, columns)

    assert columns == wcswidth(found)
    assert found.startswith(text) or found.rstrip().endswith("." * min(columns, 2))
