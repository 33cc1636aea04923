"""The command line: its transcripts to the letter, its JSON, exit codes and one-line errors."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from asyncclick.testing import CliRunner, Result
from conftest import sql, wave

from wave_async.cli import cli
from wave_async.definitions import LEGACY_SCHEMA

HERE = Path(".wave/state.db")
AT_THREE = """\
Current schema version: 3

Migration Status:
================
[x] 1: Create initial pipeline and step state tables (applied 2026-02-03 15:14:29)
[x] 2: Add ops commands tables for run tracking (spec 016) (applied 2026-02-03 15:14:29)
[x] 3: Add performance metrics tables (spec 018 - part 1) (applied 2026-02-03 15:14:29)
[ ] 4: Add progress tracking tables (spec 018 - part 2)
[ ] 5: Add artifact metadata extension (spec 018 - part 3)

2 pending migration(s)
"""
THE_REST = """\
Applying migration 4: Add progress tracking tables (spec 018 - part 2)
Applying migration 5: Add artifact metadata extension (spec 018 - part 3)
Migrations applied successfully
"""
BACK_TO_TWO = """\
WARNING: Rolling back to version 2. This may result in data loss.
  drops table performance_metric (0 rows)
Rolling back migration 3: Add performance metrics tables (spec 018 - part 1)
Successfully rolled back to version 2
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in an empty directory, in UTC, and keep it out of the import path afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with monkeypatch.context() as utc:
        utc.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `python -m wave_async` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "wave_async", *arguments],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
        | options,
        text=True,
        timeout=30,
        check=False,
    )


async def at_three() -> None:
    """Migrate the database of the transcripts to version 3, at the time they tell."""
    assert 0 == (await wave("up", 3)).exit_code
    sql(HERE, "UPDATE schema_migrations SET applied_at = 1770131669")


def tree() -> dict[str, bytes | None]:
    """Return everything below the current directory; None for what is no file."""
    return {
        str(found): found.read_bytes() if found.is_file() else None
        for found in Path().rglob("*")
        if "__pycache__" not in str(found)
    }


def one_error(result: Result) -> str:
    """Return the error of a command that printed nothing but its one line."""
    assert (1, "") == (result.exit_code, result.stdout)
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert line.isprintable()
    return line


# The transcripts.


async def test_the_transcript_of_status() -> None:
    """`status` shows what is applied, when, and what is pending."""
    await at_three()

    result = await wave("status")

    assert (AT_THREE, "", 0) == (result.stdout, result.stderr, result.exit_code)


async def test_the_transcript_of_up() -> None:
    """`up` names each migration; then it and `status` say that there is nothing left."""
    await at_three()

    result = await wave("up")

    assert (THE_REST, "", 0) == (result.stdout, result.stderr, result.exit_code)
    assert "Database is up to date\n" == (await wave("up")).stdout
    assert (await wave("status")).stdout.endswith("\n\nDatabase is up to date\n")


async def test_the_transcript_of_down() -> None:
    """`down --yes` warns, names each migration and says where the database is now."""
    await at_three()

    result = await wave("down", 2, "--yes")

    (snapshot,) = HERE.with_name("snapshots").iterdir()
    told = f"Snapshot taken: {snapshot.absolute()}\n"
    assert (BACK_TO_TWO, told, 0) == (result.stdout, result.stderr, result.exit_code)


async def test_the_transcript_of_validate() -> None:
    """`validate` says that all is as it was applied."""
    await at_three()

    result = await wave("validate")

    assert "Migration integrity check passed\n" == result.stdout
    assert ("", 0) == (result.stderr, result.exit_code)


async def test_the_transcript_of_a_failing_validate() -> None:
    """`validate` shows twelve digits of what is recorded and of what the code has."""
    await at_three()
    ((checksum,),) = sql(HERE, "SELECT checksum FROM schema_migrations WHERE version = 3")
    edited = "w1:" + "abc123" * 10 + "abcd:" + "0" * 64
    sql(HERE, f"UPDATE schema_migrations SET checksum = '{edited}' WHERE version = 3")

    assert (
        "Error: migration validation failed: migration 3 checksum mismatch: "
        f"expected abc123abc123, got {checksum[3:15]}"
    ) == one_error(await wave("validate"))


async def test_up_and_down_with_nothing_to_do() -> None:
    """A target on the other side of the current version is done already."""
    await at_three()

    results = [
        await wave("up", 2),
        await wave("up", 3),
        await wave("down", 3),
        await wave("down", 5),
    ]

    assert [
        "Nothing to do: the database is at version 3\n",
        "Nothing to do: the database is at version 3\n",
        "Nothing to do: nothing above version 3 is applied\n",
        "Nothing to do: nothing above version 5 is applied\n",
    ] == [result.stdout for result in results]
    assert {0} == {result.exit_code for result in results}


async def test_up_tells_what_it_adopted() -> None:
    """A database from before there were migrations is adopted, and that is said."""
    with closing(sqlite3.connect("old.db")) as connection:
        connection.executescript(LEGACY_SCHEMA)

    result = await wave("--database", "old.db", "up")

    lines = result.stdout.splitlines()
    assert "Adopted migration 5: Add artifact metadata extension (spec 018 - part 3)" == lines[4]
    assert "Migrations applied successfully" == lines[5]


async def test_skipped_validation_is_called_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where checksums are not compared `validate` does not say that they passed."""
    monkeypatch.setenv("WAVE_SKIP_MIGRATION_VALIDATION", "yes")

    for arguments in (("validate",), ("validate", "--json")):
        result = await wave(*arguments)
        assert "skipped" in result.stdout
        assert "passed" not in result.stdout


# JSON.


async def test_status_as_json(tmp_path: Path) -> None:
    """Times are UTC in ISO 8601, states are words, and nothing else is on stdout."""
    await at_three()

    result = await wave("status", "--json")

    document = json.loads(result.stdout)
    migrations = document.pop("migrations")
    assert {
        "database": str(tmp_path / HERE),
        "current_version": 3,
        "pending": 2,
        "due": 2,
    } == document
    assert {
        "version": 1,
        "description": "Create initial pipeline and step state tables",
        "state": "applied",
        "applied_at": "2026-02-03T15:14:29Z",
    } == migrations[0]
    assert ("pending", None) == (migrations[3]["state"], migrations[3]["applied_at"])


async def test_up_down_and_validate_as_json() -> None:
    """Each command prints one document of what it did, and no running commentary."""
    await at_three()

    up = json.loads((await wave("up", "--json")).stdout)
    again = json.loads((await wave("up", "--json")).stdout)
    down = json.loads((await wave("down", 3, "--yes", "--json")).stdout)
    validate = json.loads((await wave("validate", "--json")).stdout)

    assert [4, 5] == [step["version"] for step in up["applied"]]
    assert {"adopted": [], "applied": []} == again
    assert [5, 4] == [step["version"] for step in down["rolled_back"]]
    assert {"validation": "passed", "foreign": [], "unproven": None} == validate


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("up", 9), "InvalidTarget"),
        (("down", 2), "ConfirmationRequired"),
        (("validate",), "ValidationFailed"),
        (("up",), "ChecksumMismatch"),
    ],
)
async def test_an_error_as_json(arguments: tuple[object, ...], error: str) -> None:
    """Under `--json` an error is one object on stderr, and stdout stays empty."""
    await at_three()
    if error in {"ValidationFailed", "ChecksumMismatch"}:
        sql(HERE, "UPDATE schema_migrations SET checksum = 'w1:0:0' WHERE version = 1")

    result = await wave(*arguments, "--json")

    document = json.loads(result.stderr)
    assert (error, 1, "") == (document["error"], result.exit_code, result.stdout)
    assert {"error", "message"} == set(document)


# Exit codes.


@pytest.mark.parametrize(
    ("limit", "code", "held"),
    [
        ("0", 3, ""),
        ("4", 3, " (1 above WAVE_MAX_MIGRATION_VERSION=4)"),
        ("3", 0, " (2 above WAVE_MAX_MIGRATION_VERSION=3)"),
    ],
)
async def test_status_check(
    limit: str, code: int, held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`status --check` exits with 3 where an `up` would apply something."""
    await at_three()
    monkeypatch.setenv("WAVE_MAX_MIGRATION_VERSION", limit)

    result = await wave("status", "--check")

    assert f"2 pending migration(s){held}" == result.stdout.splitlines()[-1]
    assert code == result.exit_code


@pytest.mark.parametrize(
    "arguments",
    [
        ("up", "x"),
        ("up", "-1"),
        ("down",),
        ("down", "1", "2"),
        ("sideways",),
        ("status", "--nope"),
        (),
    ],
)
async def test_bad_usage(arguments: tuple[str, ...]) -> None:
    """What cannot be parsed exits with 2, changes nothing and shows the usage on stderr."""
    result = await wave(*arguments)

    assert 2 == result.exit_code
    assert "Usage: " in result.stderr
    assert {} == tree()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("up", 6), "Error: target version 6 is above the newest version, 5"),
        (("up", "--", -1), "Error: target version -1 is below 0"),
        (("down", 6), "Error: target version 6 is above the newest version, 5"),
        (("down", "--", -1), "Error: target version -1 is below 0"),
    ],
)
async def test_a_target_out_of_range(arguments: tuple[object, ...], sentence: str) -> None:
    """A target that is no version is one line and exit code 1."""
    assert sentence == one_error(await wave(*arguments))
    assert {} == tree()


# Databases that are none.


@pytest.mark.parametrize(
    "command", [("status",), ("validate",), ("down", 0), ("status", "--check")]
)
async def test_a_missing_database_stays_missing(command: tuple[object, ...]) -> None:
    """A question about a missing database is answered as version 0 and creates nothing."""
    result = await wave(*command)

    assert (3 if "--check" in command else 0) == result.exit_code
    if "status" in command:
        assert result.stdout.startswith("Current schema version: 0\n")
        assert result.stdout.endswith("\n5 pending migration(s)\n")
    assert {} == tree()


def text_file(path: Path) -> Path:
    """Write a letter."""
    path.write_text("Dear database,\n" * 100)
    return path


def directory(path: Path) -> Path:
    """Make a directory."""
    path.mkdir()
    return path


def fifo(path: Path) -> Path:
    """Make a named pipe, which nobody writes into."""
    os.mkfifo(path)
    return path


def below_a_file(path: Path) -> Path:
    """Name a file in a file."""
    return text_file(path) / "state.db"


def device(_: Path) -> Path:
    """Name what swallows everything."""
    return Path(os.devnull)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (text_file, "it is not an SQLite database (SQLITE_NOTADB)"),
        (directory, "it is a directory, not a file"),
        (fifo, "it is a named pipe, not a file"),
        (below_a_file, "not a directory"),
        (device, "it is a device, not a file"),
    ],
)
@pytest.mark.parametrize("command", [("up",), ("status",), ("validate",), ("down", 0, "--yes")])
async def test_what_is_no_database_is_one_line(
    tmp_path: Path, make: Callable[[Path], Path], reason: str, command: tuple[object, ...]
) -> None:
    """Every command refuses it in one line that says what it is, and leaves it as it is."""
    database = make(tmp_path / "thing")
    before = tree()

    result = await wave("--database", database, *command)

    assert f"Error: cannot use database {database}: {reason}" == one_error(result)
    assert before == tree()


@pytest.mark.parametrize(
    ("database", "reason"),
    [
        ("/proc/state.db", "it cannot be opened; the file must be readable and its directory writ"),
        ("/proc/new/state.db", "its directory cannot be created: no such file or directory"),
    ],
)
async def test_an_unwritable_place_is_one_line(database: str, reason: str) -> None:
    """Where nothing can be made `up` says so in one line."""
    result = await wave("--database", database, "up")

    assert f"Error: cannot use database {database}: {reason}" in one_error(result)


@pytest.mark.parametrize(
    ("database", "problem"),
    [
        ("", "it is empty"),
        ("file:a.db?mode=memory", "URIs are not supported; give the path alone"),
    ],
)
async def test_what_is_no_path_is_one_line(database: str, problem: str) -> None:
    """A name that SQLite would read in its own way is refused."""
    result = await wave("--database", database, "up")

    assert f"Error: {database!r} is not a path of a database: {problem}" == one_error(result)
    assert {} == tree()


async def test_a_busy_database_is_one_line() -> None:
    """Somebody else's write lock is waited for as long as `--lock-timeout` says."""
    await at_three()
    with closing(sqlite3.connect(HERE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        result = await wave("up", "--lock-timeout", 0)

    assert "Error: database is locked" == one_error(result)[:25]


# Where migrations come from.


def module(name: str, text: str) -> str:
    """Write a module into the current directory and return its name, which no other test has."""
    name = f"{name}_{Path.cwd().name}"
    Path(f"{name}.py").write_text("from wave_async import Migration\n" + text)
    return name


PROGRAMS = [[sys.executable, "-m", "wave_async"], [str(Path(sys.executable).with_name("wave"))]]


@pytest.mark.parametrize("program", PROGRAMS, ids=["python -m wave_async", "wave"])
def test_migrations_of_ones_own(program: list[str]) -> None:
    """`--migrations module:attribute` finds a module in the current directory."""
    name = module("own", "ALL = [Migration(1, 'Mine', 'CREATE TABLE mine (x)')]\n")

    ended = subprocess.run(
        [*program, "migrate", "--migrations", f"{name}:ALL", "up"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert "Applying migration 1: Mine\nMigrations applied successfully\n" == ended.stdout
    assert ("", 0) == (ended.stderr, ended.returncode)
    assert [("mine",)] == sql(HERE, "SELECT name FROM sqlite_schema WHERE name = 'mine'")


@pytest.mark.parametrize(
    "source",
    ["", "nothing", "no_such_module:ALL", "os:nothing", "os:sep:x", "math:pi", "string:digits"],
)
async def test_a_bad_source_is_one_line(source: str) -> None:
    """What is no list of migrations is refused before a database is made."""
    one_error(await wave("--migrations", source, "up"))

    assert {} == tree()


def files(folder: str, **texts: str) -> None:
    """Write SQL files into a folder."""
    Path(folder).mkdir(parents=True)
    for name, text in texts.items():
        Path(folder, f"{name}.sql").write_text(text)


def project(text: str) -> None:
    """Write the pyproject.toml of the current directory."""
    Path("pyproject.toml").write_text(text)


async def test_migrations_of_a_folder() -> None:
    """A folder is migrated up and down in the format that it has, or that is named."""
    files("db", V1__a="CREATE TABLE a (x)", U2__b="CREATE TABLE b (x)")

    assert "'U2__b.sql': an undo without its V" in one_error(await wave("--migrations", "db", "up"))
    result = await wave("--migrations", "db", "--format", "refinery", "up")
    assert "Applying migration 1: a\nApplying migration 2: b\n" in result.stdout
    files("pairs", **{"1_a.up": "CREATE TABLE c (x)", "1_a.down": "DROP TABLE c"})
    own = ("--database", "own.db", "--migrations", "pairs")
    assert 0 == (await wave(*own, "up")).exit_code
    assert "Rolling back migration 1: a\n" in (await wave(*own, "down", 0, "--yes")).stdout


async def test_the_project_names_what_nobody_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """An option counts before its variable, that before `[tool.wave]`, that before a default."""
    for name in ("project", "variable", "option"):
        files(name, **{f"1_{name}": f"CREATE TABLE {name} (x)"})
    project("[tool.wave]\nmigrations = 'project'\ndatabase = 'project.db'\nformat = 'single'\n")
    monkeypatch.chdir("option")

    assert "migration 1: project\n" in (await wave("up")).stdout
    monkeypatch.chdir("..")
    monkeypatch.setenv("WAVE_MIGRATIONS", "variable")
    monkeypatch.setenv("WAVE_DATABASE", "variable.db")
    assert "migration 1: variable\n" in (await wave("up")).stdout
    said = ("--migrations", "option", "--database", "option.db")
    assert "migration 1: option\n" in (await wave(*said, "up")).stdout
    assert {"project.db", "variable.db", "option.db"} <= tree().keys()
    assert "the format is single, not goose" in one_error(await wave("--format", "goose", "up"))


async def test_placeholders_of_the_project() -> None:
    """The values of flyway's placeholders stand in `[tool.wave.placeholders]`."""
    files("db", V1__a="CREATE TABLE ${Name} (x)")
    project("[tool.wave]\nmigrations = 'db'\nplaceholders = {name = 'filled'}\n")

    assert 0 == (await wave("up")).exit_code
    assert [("filled",)] == sql(HERE, "SELECT name FROM sqlite_schema WHERE name = 'filled'")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[tool.wave]\nname = 3", "tool.wave.name='3' is not valid; allowed: only "),
        ("[tool.wave]\nsetup = 'os:nothing'", "tool.wave.setup='os:nothing' is not valid; "),
        ("[tool.wave", "pyproject.toml': it is not TOML: "),
    ],
)
async def test_a_bad_project_is_one_line(text: str, sentence: str) -> None:
    """What `[tool.wave]` cannot mean is refused before a database is made."""
    project(text)

    assert sentence in one_error(await wave("up"))
    assert ["pyproject.toml"] == list(tree())


async def test_new() -> None:
    """`new` writes the next file in the folder's own form and says where."""
    files("db", **{"0001_a.up": "", "0001_a.down": ""})
    db = ("--migrations", "db")

    result = await wave(*db, "new", "add users")
    assert "db/0002_add_users.up.sql\ndb/0002_add_users.down.sql\n" == result.stdout
    assert (0, "") == (result.exit_code, result.stderr)
    said = json.loads((await wave(*db, "new", "--json", "add log")).stdout)
    assert {"written": ["db/0003_add_log.up.sql", "db/0003_add_log.down.sql"]} == said
    first = await wave("--migrations", "other", "--format", "drizzle", "new", "init")
    assert "other/0000_init.sql\n" == first.stdout


@pytest.mark.parametrize("source", [[], ["--migrations", "app:LIST"], ["--migrations", "a.sql"]])
async def test_new_needs_a_folder(source: list[str]) -> None:
    """Where migrations are not files of a folder nothing is written."""
    assert "allowed: a folder, to write the" in one_error(await wave(*source, "new", "add users"))
    assert {} == tree()


def test_who_has_no_files_does_not_pay_for_them() -> None:
    """With Wave's own migrations neither a format nor TOML is imported."""
    code = (
        "import sys; before = {*sys.modules}; from wave_async.cli import main\n"
        "try: main()\nfinally: print(*{*sys.modules} - before, sep='\\n', file=sys.stderr)"
    )
    project("[project]\n")
    ended = subprocess.run(
        [sys.executable, "-c", code, "migrate", "status"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    costly = {"wave_async.sources.find", "wave_async.sources.new", "tomllib", "importlib.resources"}
    assert set() == costly & set(ended.stderr.splitlines())


def test_a_source_that_wants_to_exit_is_one_line() -> None:
    """A module that ends its program ends ours as a source that cannot be loaded."""
    name = module("exits", "raise SystemExit('no')\n")

    ended = process("migrate", "--migrations", f"{name}:ALL", "up")

    assert (1, 1) == (ended.returncode, len(ended.stderr.splitlines()))
    assert ended.stderr.startswith(f"Error: cannot load migrations from '{name}:ALL': ")


async def test_a_failing_migration_is_one_line() -> None:
    """The error names migration, statement and line; what was done before is said and stays."""
    name = module("bad", "ALL = [Migration(1, 'a', ''), Migration(2, 'b', 'SELECT 1;\\nSELEC 2')]")

    result = await wave("--migrations", f"{name}:ALL", "up")

    assert "Applying migration 1: a\nApplying migration 2: b\n" == result.stdout
    assert (
        "Error: migration 2 (b) failed and was rolled back: up script, statement 2, line 2: "
        'SELEC 2: SQLITE_ERROR: near "SELEC": syntax error (before that, done for good: 1)\n'
    ) == result.stderr
    assert 1 == result.exit_code


async def test_a_hostile_description_is_printed_safely() -> None:
    """Escapes and newlines of a description reach the terminal as text, from all commands."""
    name = module("evil", "ALL = [Migration(1, 'a\\x1b[31m\\nb\\u202e', '', 'SELECT 1')]")
    own = ("--migrations", f"{name}:ALL")

    results = [
        await wave(*own, *command)
        for command in (("up",), ("status",), ("down", 0, "--yes"), ("up",), ("status", "--json"))
    ]

    for result in results:
        assert 0 == result.exit_code
        assert result.stdout.replace("\n", "").isprintable()
    assert r"Applying migration 1: a\x1b[31m\nb\u202e" == results[0].stdout.splitlines()[0]
    (row,) = json.loads(results[-1].stdout)["migrations"]
    assert "a\x1b[31m\nb\u202e" == row["description"]


# Variables.


async def test_the_variables_name_database_and_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """WAVE_DATABASE and WAVE_MIGRATIONS stand in for the options."""
    name = module("named", "ALL = [Migration(1, 'Named', '')]")
    monkeypatch.setenv("WAVE_DATABASE", "named.db")
    monkeypatch.setenv("WAVE_MIGRATIONS", f"{name}:ALL")

    result = await wave("up")

    assert "Applying migration 1: Named\nMigrations applied successfully\n" == result.stdout
    assert {"named.db", f"{name}.py"} == set(tree())


async def test_an_option_wins_over_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said on the line counts."""
    monkeypatch.setenv("WAVE_DATABASE", "variable.db")

    await wave("--database", "option.db", "up")

    assert ["option.db"] == list(tree())


async def test_the_limit_holds_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """WAVE_MAX_MIGRATION_VERSION stops `up` below it, and refuses a target above it."""
    monkeypatch.setenv("WAVE_MAX_MIGRATION_VERSION", "2")

    assert 3 == len((await wave("up")).stdout.splitlines())
    assert "Nothing to do: the database is at version 2\n" == (await wave("up")).stdout
    assert "Error: target version 3 is above WAVE_MAX_MIGRATION_VERSION=2" == one_error(
        await wave("up", 3)
    )


async def test_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """WAVE_MIGRATION_ENABLED=false refuses up and down by name; questions are answered."""
    await at_three()
    monkeypatch.setenv("WAVE_MIGRATION_ENABLED", "false")

    for command in (("up",), ("down", 0, "--yes")):
        assert "WAVE_MIGRATION_ENABLED" in one_error(await wave(*command))
    assert AT_THREE == (await wave("status")).stdout
    assert 0 == (await wave("validate")).exit_code


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WAVE_MIGRATION_ENABLED", "maybe"),
        ("WAVE_AUTO_MIGRATE", "2"),
        ("WAVE_SKIP_MIGRATION_VALIDATION", "nein"),
        ("WAVE_MAX_MIGRATION_VERSION", "-1"),
        ("WAVE_MAX_MIGRATION_VERSION", "three"),
        ("WAVE_MAX_MIGRATION_VERSION", "9223372036854775808"),
        ("WAVE_LOCK_TIMEOUT", "soon"),
    ],
)
@pytest.mark.parametrize("command", ["status", "up", "validate"])
async def test_a_bad_variable_is_one_line(
    variable: str, value: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value that means nothing is refused with its variable, itself and what is allowed."""
    monkeypatch.setenv(variable, value)

    line = one_error(await wave(command))

    assert line.startswith(f"Error: {variable}={value!r} is not valid; allowed: ")
    assert {} == tree()


# A rollback that nobody confirmed, and the edges of a process.


async def test_down_without_a_terminal_needs_yes() -> None:
    """Where nobody can be asked nothing is rolled back, and the error says what to say."""
    await at_three()
    before = tree()

    result = await wave("down", 2)

    assert (
        "Error: a rollback may lose data and there is no terminal to ask on; say --yes\n"
    ) == result.stderr
    assert 1 == result.exit_code
    assert before == tree()


@pytest.mark.parametrize("command", ["status", "up", "validate"])
def test_a_reader_that_went_away(command: str) -> None:
    """With `| head -1` no command prints a traceback."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stdout:  # noqa: PTH123 - a descriptor is no path
        ended = process("migrate", command, stdout=stdout)

    assert ("", 1) == (ended.stderr, ended.returncode)


@pytest.mark.parametrize("command", ["status", "up", "validate"])
def test_a_full_disk_behind_stdout(command: str) -> None:
    """What cannot be printed is one line of error."""
    with Path("/dev/full").open("w") as stdout:
        ended = process("migrate", command, stdout=stdout)

    assert ("Error: [Errno 28] No space left on device\n", 1) == (ended.stderr, ended.returncode)


@pytest.mark.parametrize(
    ("closed", "command", "code"),
    [
        ("<&-", "up", 0),
        ("<&-", "down 0", 1),
        (">&-", "up", 0),
        ("2>&-", "up", 0),
        ("2>&-", "up 9", 1),
    ],
)
async def test_a_closed_stream_is_no_traceback(closed: str, command: str, code: int) -> None:
    """A command whose stdin, stdout or stderr is closed does its work all the same."""
    if command.startswith("down"):
        await at_three()

    ended = subprocess.run(  # noqa: ASYNC221 - nothing else runs on this loop
        ["sh", "-c", f'exec "$0" -m wave_async migrate {command} {closed}', sys.executable],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert code == ended.returncode
    assert "Traceback" not in ended.stderr


def test_the_last_second_that_a_history_may_hold() -> None:
    """A time at the end of the year 9999 is shown in every time zone."""
    process("migrate", "up", "1")
    sql(HERE, "UPDATE schema_migrations SET applied_at = 253402300799")

    for zone in ("Asia/Tokyo", "America/New_York"):
        ended = process("migrate", "status", env=os.environ | {"TZ": zone})
        assert ("", 0) == (ended.stderr, ended.returncode)


@pytest.mark.parametrize(
    "arguments", [["--version"], ["migrate", "status"], ["migrate", "sideways"]]
)
def test_python_m_is_the_same_as_wave(arguments: list[str]) -> None:
    """`python -m wave_async` and the script `wave` say the same, and call themselves `wave`."""
    said, same = (
        subprocess.run(
            [*program, *arguments], capture_output=True, text=True, timeout=30, check=False
        )
        for program in PROGRAMS
    )

    assert (said.stdout, said.stderr, said.returncode) == (
        same.stdout,
        same.stderr,
        same.returncode,
    )
    assert "wave_async" not in same.stdout + same.stderr


def test_version() -> None:
    """`--version` says which release this is."""
    assert f"wave {version('wave-async')}\n" == process("--version").stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], ["migrate"]),
        (
            ["migrate"],
            [
                *("status", "up", "down", "validate", "new", "--format"),
                *("WAVE_DATABASE", "WAVE_MIGRATIONS", ".wave/state.db", "[tool.wave]"),
            ],
        ),
        (["migrate", "new"], ["DESCRIPTION", "--json"]),
        (["migrate", "status"], ["--check", "--json"]),
        (["migrate", "up"], ["TARGET_VERSION", "--out-of-order", "--json"]),
        (["migrate", "down"], ["TARGET_VERSION", "--yes", "--json"]),
        (["migrate", "validate"], ["--json"]),
    ],
)
async def test_help(arguments: list[str], named: list[str]) -> None:
    """`--help` names every command, option and variable."""
    result = await CliRunner().invoke(cli, [*arguments, "--help"])

    assert 0 == result.exit_code
    assert [] == [name for name in named if name not in result.stdout]


async def test_a_check_tells_what_an_up_would_refuse() -> None:
    """An edited migration is no pending one, but a deploy would fail at it: exit code 1."""
    name = module("edited", "from wave_async.definitions import MIGRATIONS\nALL = MIGRATIONS[:2]\n")
    await wave("--migrations", f"{name}:ALL", "up")
    sql(
        Path(".wave/state.db"), "UPDATE schema_migrations SET checksum = 'w1:0:0' WHERE version = 2"
    )

    result = await wave("--migrations", f"{name}:ALL", "status", "--check")

    assert 1 == result.exit_code
    assert "Database is up to date" in result.stdout
    assert "migration 2 checksum mismatch" in result.stderr


async def test_places_may_stand_after_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--database` and `--migrations` may follow the command; said there, they win."""
    name = module("own", "from wave_async import Migration\nALL = [Migration(7, 'One', '')]\n")
    monkeypatch.setenv("WAVE_DATABASE", "variable.db")
    await wave(
        "--database", "before.db", "up", "--database", "after.db", "--migrations", f"{name}:ALL"
    )

    assert Path("after.db").exists()
    assert not Path("before.db").exists()
    assert not Path("variable.db").exists()
    await wave("--database", "before.db", "up")
    assert Path("before.db").exists()


async def test_a_named_database_gets_migrations_by_name() -> None:
    """Who names a database and forgets the migrations is told whose they were."""
    told = await wave("--database", "mine.db", "up")

    assert "They are those that Wave ships; --migrations names yours\n" == told.stderr
    assert "" == (await wave("up")).stderr
