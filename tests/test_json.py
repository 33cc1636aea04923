"""What commands print for programs has the shapes that docs/wave.schema.json says."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncclick as click
import pytest
from conftest import sql, wave
from jsonschema import Draft202012Validator
from left_by import left_by

from wave_async.cli import cli
from wave_async.cli.group import COMMANDS

pytestmark = pytest.mark.once

DOCS = Path(__file__).parents[1] / "docs"
SCHEMA = json.loads((DOCS / "wave.schema.json").read_text(encoding="utf-8"))
SHAPES = SCHEMA["$defs"]["commands"]
EVENTS = SCHEMA["$defs"]["events"]

ENDLESS = """
from wave_async import Migration
ALL = [
    Migration(1, "Short", "CREATE TABLE short (x)"),
    Migration(2, "Long", '''CREATE TABLE long AS
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n'''),
]
BAD = [ALL[0], Migration(2, "Bad", "CREATE TABLE b (x); SELEC 1")]
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty directory with a folder of migrations and a module."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("migrations").mkdir()
    Path("migrations/0001_a.up.sql").write_text("CREATE TABLE a (x);")
    Path("migrations/0001_a.down.sql").write_text("DROP TABLE a;")
    Path("endless.py").write_text(ENDLESS)


def fits(document: Any, shape: dict[str, Any]) -> None:
    """See that a document has a shape of the schema."""
    Draft202012Validator({"$defs": SCHEMA["$defs"], **shape}).validate(document)


def events(text: str) -> list[dict[str, Any]]:
    """Return the events of a stream, each of which has its shape."""
    found = [json.loads(line) for line in text.splitlines()]
    for event in found:
        fits(event, EVENTS[event["event"]])
    return found


def kinds(found: list[dict[str, Any]]) -> list[str]:
    """Return what kinds of events there are."""
    return [event["event"] for event in found]


def test_the_schema_is_one() -> None:
    """The file is a JSON Schema, and has a shape for each command and no other."""
    Draft202012Validator.check_schema(SCHEMA)

    assert set(SHAPES) == {name for names in COMMANDS.values() for name in names}


def test_the_page_names_every_shape() -> None:
    """Each command and each kind of event is on the page."""
    page = (DOCS / "json.md").read_text(encoding="utf-8")

    assert set(SHAPES) | set(EVENTS) | {"error"} <= set(re.findall(r"`([a-z_-]+)`", page))


@pytest.mark.parametrize(
    "example",
    re.findall(r"```json\n(.*?)```", (DOCS / "json.md").read_text(encoding="utf-8"), re.DOTALL),
)
def test_the_examples_of_the_page_fit(example: str) -> None:
    """What the page shows is what the schema says."""
    for line in example.splitlines():
        shown = json.loads(line)
        if "event" in shown:
            fits(shown, EVENTS[shown["event"]])
        else:
            fits(shown, {"$ref": "#/$defs/error"} if "error" in shown else SHAPES["up"])


OWN = "wave_async.definitions:MIGRATIONS"
RUNS: list[tuple[str, list[str]]] = [
    ("status", ["status"]),
    ("plan", ["plan"]),
    ("rehearse", ["rehearse"]),
    ("up", ["up", "3"]),
    ("status", ["status"]),
    ("plan", ["plan", "1", "--down"]),
    ("rehearse", ["rehearse", "1", "--down"]),
    ("validate", ["validate"]),
    ("down", ["down", "2", "--yes"]),
    ("down", ["down", "2", "--yes"]),
    ("snapshots", ["snapshots"]),
    ("undo", ["undo", "--yes"]),
    ("baseline", ["baseline", "3"]),
    ("repair", ["repair"]),
    ("log", ["log"]),
    ("up", ["up"]),
    ("up", ["up"]),
    ("new", ["--migrations", "migrations", "new", "add b"]),
    ("lock", ["--migrations", "migrations", "lock"]),
    ("lock", ["--migrations", "migrations", "lock", "--check"]),
    ("fleet", ["fleet", "up", ".wave/state.db", "--migrations", OWN]),
    ("fleet", ["fleet", "status", ".wave/state.db", "--migrations", OWN]),
    ("fleet", ["fleet", "validate", ".wave/state.db", "--migrations", OWN]),
    ("fleet", ["fleet", "plan", ".wave/state.db", "--migrations", OWN]),
    ("diagram", ["diagram", "2", "--format", "dot"]),
    ("report", ["report", "out.html"]),
    ("verify", ["--migrations", "migrations", "verify"]),
]


async def test_every_command_prints_its_shape() -> None:
    """With `--json` a command prints one document, of its shape, in whatever state it finds."""
    assert {name for name, _ in RUNS} == set(SHAPES) - {"import-history", "unlock"}
    for name, arguments in RUNS:
        result = await wave(*arguments, "--json")
        assert 0 == result.exit_code, result.stderr
        fits(json.loads(result.stdout), SHAPES[name])


@pytest.mark.parametrize("tool", ["goose", "dbmate"])
async def test_an_import_prints_its_shape(tool: str, tmp_path: Path) -> None:
    """An import that was planned and one that was done say what and, if so, which table went."""
    Path("project").mkdir()
    left_by(tool, tmp_path / "project")
    settings = ("--database", "project/app.db", "--migrations", "project/migrations")
    for more in (["--plan"], ["--yes"]):
        result = await wave(*settings, "import-history", "--from", tool, *more, "--json")
        assert 0 == result.exit_code, result.stderr
        fits(json.loads(result.stdout), SHAPES["import-history"])


async def test_a_failed_rehearsal_and_an_adoption_have_their_shapes() -> None:
    """Fields that are mostly empty have their shape when they are not."""
    failed = await wave("--migrations", "endless:BAD", "rehearse", "--json")
    fits(json.loads(failed.stdout), SHAPES["rehearse"])
    await wave("up", 3)
    sql(".wave/state.db", "DROP TABLE schema_migrations")
    adopted = await wave("up", "--json")
    fits(json.loads(adopted.stdout), SHAPES["up"])
    sql(".wave/state.db", "CREATE TABLE foreign_table (x)")
    foreign = await wave("validate", "--json")
    fits(json.loads(foreign.stdout), SHAPES["validate"])

    assert [True, True, True] == [
        bool(json.loads(failed.stdout)["failure"]),
        bool(json.loads(adopted.stdout)["adopted"]),
        bool(json.loads(foreign.stdout)["foreign"]),
    ]


async def test_an_error_has_its_shape() -> None:
    """With `--json` an error is one object on stderr."""
    result = await wave("up", 99, "--json")

    assert (1, "") == (result.exit_code, result.stdout)
    fits(json.loads(result.stderr), {"$ref": "#/$defs/error"})


# Events.


async def test_up_streams_its_events() -> None:
    """With `--events` each event is a line, and the result is the last one."""
    found = events((await wave("up", 2, "--events")).stdout)

    steps = ["step_started", "step_finished"]
    assert ["run_started", *steps, *steps, "run_ended", "result"] == kinds(found)
    assert found[0]["count"] == 2
    assert [1, 2] == [step["version"] for step in found[-1]["applied"]]


async def test_verbose_streams_the_statements_too() -> None:
    """With `--verbose` there is a line for each statement."""
    result = await wave("--migrations", "migrations", "up", "--events", "--verbose")

    (statement,) = [e for e in events(result.stdout) if e["event"] == "statement_started"]
    assert {"number": 1, "line": 1, "sql": "CREATE TABLE a (x)"}.items() <= statement.items()


async def test_down_and_undo_stream_too() -> None:
    """A rollback and an undo end with their results; they ask nothing, so they need `--yes`."""
    await wave("up", 2)
    down = events((await wave("down", 1, "--yes", "--events")).stdout)
    undo = events((await wave("undo", "--yes", "--events")).stdout)
    refused = await wave("down", 0, "--events")

    steps = ["step_started", "step_finished"]
    assert ["run_started", "snapshot_taken", *steps, "run_ended", "result"] == kinds(down)
    assert ["result"] == kinds(undo)
    fits({k: v for k, v in down[-1].items() if k not in {"event", "time"}}, SHAPES["down"])
    fits({k: v for k, v in undo[-1].items() if k not in {"event", "time"}}, SHAPES["undo"])
    assert ["error"] == kinds(events(refused.stdout))
    assert "ConfirmationRequired" == json.loads(refused.stderr)["error"]


async def test_a_failure_ends_the_stream() -> None:
    """A failed step and a failed run say why, and the last line is the error, as on stderr."""
    result = await wave("--migrations", "endless:BAD", "up", "--events")
    found = events(result.stdout)

    assert 1 == result.exit_code
    assert ["step_failed", "run_ended", "error"] == kinds(found)[-3:]
    assert {"MigrationFailed"} == {found[-3]["error"]["error"], found[-1]["error"]}
    assert [1] == [step["version"] for step in found[-2]["done"]]
    assert json.loads(result.stderr)["message"] == found[-1]["message"]


async def test_events_come_while_it_runs_and_end_when_it_is_interrupted() -> None:
    """A line is there before the statement that follows it ends; an interrupt is an error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "wave_async", "migrate"),
        *("--migrations", "endless:ALL", "up", "--events"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )
    assert process.stdout
    first = [await asyncio.wait_for(process.stdout.readline(), 30) for _ in range(4)]
    process.send_signal(signal.SIGINT)
    rest, _ = await asyncio.wait_for(process.communicate(), 30)
    found = events((b"".join(first) + rest).decode())

    assert 130 == process.returncode
    assert "step_started" == found[3]["event"]
    assert ["step_failed", "run_ended", "error"] == kinds(found)[4:]
    assert "CancelledError" == found[-1]["error"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_after_the_reader_went_away(number: signal.Signals) -> None:
    """The exit code tells the signal, also where nobody reads what is told."""
    reader, writer = os.pipe()
    command = (sys.executable, "-m", "wave_async", "migrate", "--migrations", "endless:ALL")
    with subprocess.Popen(
        [*command, "up", "--events"], stdout=writer, stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(writer)
        with open(reader) as lines:  # noqa: PTH123 - a descriptor is no path
            assert any("step_started" in lines.readline() for _ in range(4))
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)

    assert 128 + number == process.returncode
    assert 1 == errors.count("\n")


@pytest.mark.parametrize("command", [["up"], ["down", "1"], ["undo"]])
async def test_either_json_or_events(command: list[str]) -> None:
    """`--json` and `--events` together are an error of usage."""
    assert 2 == (await wave(*command, "--json", "--events")).exit_code


def test_who_has_events() -> None:
    """The commands that run migrations for long stream events."""
    migrate = cli.commands["migrate"]
    context = click.Context(migrate)
    found = {
        name
        for name in migrate.list_commands(context)
        if "--events" in {o for p in migrate.get_command(context, name).params for o in p.opts}
    }

    assert {"up", "down", "undo"} == found
