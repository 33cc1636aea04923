"""How much the command line tells, and in which colours."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from conftest import sql, wave

GREEN, YELLOW, RED = "\x1b[32m", "\x1b[33m", "\x1b[31m"

BAD = "from wave_async import Migration\nALL = [Migration(1, 'Bad', 'SELEC 1')]\n"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty directory, and keep it out of the import path afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("TERM", "xterm")
    Path("bad.py").write_text(BAD)


def plain(text: str) -> str:
    """Return a text without its colours."""
    return re.sub(r"\x1b\[[\d;]*m", "", text)


# Colour.


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(
    ("option", "environment", "coloured"),
    [
        (None, {}, None),
        (None, {"NO_COLOR": "1"}, False),
        (None, {"NO_COLOR": ""}, None),
        (None, {"FORCE_COLOR": "1"}, True),
        (None, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        (None, {"TERM": "dumb"}, False),
        (None, {"TERM": "dumb", "FORCE_COLOR": "1"}, True),
        ("always", {"NO_COLOR": "1"}, True),
        ("always", {"TERM": "dumb"}, True),
        ("never", {"FORCE_COLOR": "1"}, False),
        ("auto", {}, None),
        ("auto", {"NO_COLOR": "1"}, False),
    ],
)
async def test_who_decides_about_colour(
    option: str | None,
    environment: dict[str, str],
    coloured: bool | None,  # noqa: FBT001 - of a table
    terminal: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The option goes before the variables, and they before the terminal."""
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    said = [] if option is None else ["--color", option]

    before = await wave(*said, "status", terminal=terminal)
    after = await wave("status", *said, terminal=terminal)

    assert before.stdout == after.stdout
    assert ("\x1b[" in before.stdout) is (terminal if coloured is None else coloured)


async def test_the_last_word_about_colour_counts() -> None:
    """What is said after a command goes before what is said before it."""
    result = await wave("--color", "always", "status", "--color", "never")

    assert "\x1b[" not in result.stdout


async def test_marks_have_their_colours() -> None:
    """Applied is green, pending yellow, unknown red."""
    await wave("up", 2)
    sql(".wave/state.db", "INSERT INTO schema_migrations VALUES (99, 'Whose?', 0, 'w1:a:b')")
    shown = (await wave("--color", "always", "status")).stdout

    assert f"{GREEN}[x]\x1b[0m 1: " in shown
    assert f"{YELLOW}[ ]\x1b[0m 3: " in shown
    assert f"{RED}[?]\x1b[0m 99: " in shown


COMMANDS = [
    ["status"],
    ["plan"],
    ["up", "3"],
    ["plan", "1", "--down"],
    ["validate"],
    ["down", "2", "--yes", "--no-snapshot"],
    ["up"],
    ["up"],
    ["up", "99"],
    ["verify"],
    ["snapshots"],
    ["repair"],
]


async def test_colours_are_all_that_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its colours every text is to the letter what it is where there are none."""
    shown: dict[str, list[str]] = {}
    for when in ("always", "never"):
        database = ["--database", f"{when}.db", "--color", when]
        for arguments in COMMANDS:
            result = await wave(*database, *arguments)
            shown.setdefault(when, []).append(result.stdout + result.stderr)
    colours = "".join(shown["always"])

    assert [plain(text) for text in shown["always"]] == [
        text.replace("never.db", "always.db") for text in shown["never"]
    ]
    assert {GREEN, YELLOW, RED} <= set(re.findall(r"\x1b\[3\dm", colours))


async def test_a_difference_is_red_and_green() -> None:
    """What is missing is red, what is there instead green, and the word `Error:` is red."""
    await wave("up")
    sql(".wave/state.db", "ALTER TABLE pipeline_run ADD COLUMN mine TEXT")
    told = (await wave("--color", "always", "validate")).stderr

    assert told.startswith(f"{RED}Error:\x1b[0m ")
    assert re.search(r"^    \x1b\[32m\+.*mine", told, re.MULTILINE)


async def test_json_has_no_colour() -> None:
    """What programs read is never coloured."""
    await wave("up", 2)

    for command in (["status"], ["plan"], ["up", "99"]):
        result = await wave("--color", "always", *command, "--json")
        assert "\x1b" not in result.stdout + result.stderr


# How much.


@pytest.mark.parametrize("before", [True, False])
async def test_quiet_says_nothing_of_what_went_well(
    before: bool,  # noqa: FBT001 - of a table
) -> None:
    """With `--quiet`, before or after the command, what changes something prints nothing."""
    for command in (["up", 3], ["down", 2, "--yes"], ["undo", "--yes"], ["up"], ["repair"]):
        said = ["--quiet", *command] if before else [*command, "--quiet"]
        result = await wave(*said)
        assert (0, "", "") == (result.exit_code, result.stdout, result.stderr)
    assert "Database is up to date\n" == (await wave("status")).stdout[-23:]


async def test_quiet_answers_questions() -> None:
    """What is asked for is printed, and errors are."""
    await wave("up", 2)
    asked = [["status"], ["validate"], ["plan"], ["log"], ["snapshots"], ["verify"]]

    for command in asked:
        assert (await wave(*command)).stdout == (await wave(*command, "--quiet")).stdout != ""
    failed = await wave("--migrations", "bad:ALL", "--database", "bad.db", "up", "--quiet")
    assert ("", 1) == (failed.stdout, failed.exit_code)
    assert failed.stderr.startswith("Error: migration 1 (Bad) failed")


async def test_verbose_tells_statements_and_times() -> None:
    """With `--verbose` stderr has each statement and how long it took; stdout is the same."""
    result = await wave("up", 1, "--verbose")
    Path(".wave").rename("before")
    quiet = await wave("up", 1)
    told = result.stderr.splitlines()

    assert quiet.stdout == result.stdout
    assert "" == quiet.stderr
    assert told[0] == f"Database: {Path('.wave/state.db').absolute()}"
    assert told[1].startswith("  statement 1, line 2: CREATE TABLE ")
    assert re.fullmatch(r"  done in \d\.\d{3} s", told[-2])
    assert re.fullmatch(r"1 migration\(s\) in \d\.\d{3} s", told[-1])


async def test_verbose_tells_a_failure() -> None:
    """The statement that fails is the last one told, with the time until then."""
    failed = await wave("--migrations", "bad:ALL", "up", "--verbose")

    assert re.search(
        r"  statement 1, line 1: SELEC 1\n  failed after \d\.\d{3} s\n"
        r"0 migration\(s\) in \d\.\d{3} s\nError: migration 1 ",
        failed.stderr,
    )


async def test_a_statement_is_told_safely() -> None:
    """Control characters of a statement reach the terminal as text, in one line."""
    script = "SELECT 'a\\x1b[31m',\\n 2"
    Path("evil.py").write_text(
        f"from wave_async import Migration\nALL = [Migration(1, 'Evil', \"{script}\")]\n"
    )
    told = (await wave("--migrations", "evil:ALL", "up", "--verbose")).stderr

    assert r"  statement 1, line 1: SELECT 'a\x1b[31m', 2" in told.splitlines()


async def test_not_both_quiet_and_verbose() -> None:
    """They exclude each other, wherever they stand."""
    assert 2 == (await wave("--quiet", "status", "--verbose")).exit_code
