"""Many files: each by itself, none stopped by another, and all of them told."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from asyncclick.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from screen import WAVE, Screen

from wave_async import (
    FileResult,
    Migration,
    Outcome,
    errors,
    migrate_many,
    plan_many,
    status_many,
    validate_many,
)
from wave_async.cli import cli
from wave_async.model.fleet import Shard, spread

pytestmark = pytest.mark.once

MIGRATIONS = [
    Migration(1, "A", "CREATE TABLE a (x)", "DROP TABLE a"),
    Migration(2, "B", "CREATE TABLE b (x)", "DROP TABLE b"),
]
SCHEMA = json.loads((Path(__file__).parents[1] / "docs" / "wave.schema.json").read_text())


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder with two migrations and twelve empty files."""
    monkeypatch.chdir(tmp_path)
    Path("m").mkdir()
    Path("t").mkdir()
    for migration in MIGRATIONS:
        Path(f"m/{migration.version}_x.sql").write_text(str(migration.up))
    for number in range(12):
        Path(f"t/{number:02}.db").touch()


def spoil(*numbers: int) -> None:
    """Make files something else than databases."""
    for number in numbers:
        Path(f"t/{number:02}.db").write_text("no database, and long enough to be taken for none")


def crash(path: str) -> None:
    """Let a process die in the middle of a transaction that has reached the file."""
    program = (
        f"import os, sqlite3; c = sqlite3.connect({path!r}); c.execute('PRAGMA cache_size = 1'); "
        "c.execute('CREATE TABLE z (x)'); c.commit(); "
        "c.executemany('INSERT INTO z VALUES (?)', [(b'.' * 9000,)] * 99); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def tables(path: str) -> set[str]:
    """Return the tables of a file."""
    with closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}


async def wave(*arguments: object) -> Result:
    """Run `wave migrate fleet` in this process."""
    words = ["migrate", "--migrations", "m", "fleet", *map(str, arguments)]
    return await CliRunner().invoke(cli, words)


async def told(*arguments: object) -> dict[str, Any]:
    """Run `wave migrate fleet` and return its document."""
    result = await wave(*arguments, "--json")
    document: dict[str, Any] = json.loads(result.stdout)
    return document


async def test_one_bad_file_stops_nobody() -> None:
    """Every other file is migrated, and the bad one is a result with its error."""
    spoil(3)
    heard: list[FileResult] = []

    tally = await migrate_many("t/*.db", MIGRATIONS, limit=3, on_result=heard.append)

    assert {Outcome.MIGRATED: 11, Outcome.FAILED: 1} == tally.outcomes
    (bad,) = [result for result in heard if not result.ok]
    assert ("t/03.db", "DatabaseUnusable", None) == (bad.path, bad.error, bad.after)
    assert {(0, 2, 2)} == {(r.before, r.after, r.steps) for r in heard if r.ok}
    assert heard == pickle.loads(pickle.dumps(heard))


async def test_a_failed_migration_is_told_with_what_was_done() -> None:
    """The version that a file has kept is that of its last whole migration."""
    heard: list[FileResult] = []
    bad = [MIGRATIONS[0], Migration(2, "Bad", "CREATE TABLE b (x); SELEC 1")]

    await migrate_many(["t/00.db"], bad, on_result=heard.append)

    assert [("MigrationFailed", 0, 1, 1)] == [(r.error, r.before, r.after, r.steps) for r in heard]
    assert heard[0].fingerprint


async def test_an_async_iterator_is_taken_from_as_needed() -> None:
    """No more paths are taken than files are worked on."""
    taken, heard = Counter[str](), Counter[str]()

    async def paths() -> AsyncIterator[str]:
        for path in sorted(map(str, Path("t").iterdir())):
            taken[path] += 1
            assert taken.total() - heard.total() <= 2
            yield path

    await migrate_many(paths(), MIGRATIONS, limit=2, on_result=lambda r: heard.update([r.path]))

    assert (taken, 12) == (heard, heard.total())


async def test_again_finds_nothing_to_do() -> None:
    """A second run writes nothing."""
    await migrate_many("t/*.db", MIGRATIONS)
    before = {path: path.read_bytes() for path in Path("t").iterdir()}

    tally = await migrate_many("t/*.db", MIGRATIONS)

    assert {Outcome.CURRENT: 12} == tally.outcomes
    assert before == {path: path.read_bytes() for path in Path("t").iterdir()}


async def test_what_another_run_has_done_meanwhile_is_told() -> None:
    """A file that waited for another one's `up` is told at the version that it has then."""
    heard: list[FileResult] = []
    tally = await migrate_many(["t/00.db"] * 4, MIGRATIONS, limit=4, on_result=heard.append)

    assert (4, 0, 2) == (tally.total, tally.failed, sum(result.steps for result in heard))
    assert {2} == {result.after for result in heard}


async def test_a_missing_file_stays_missing() -> None:
    """A tenant that is gone does not come back."""
    tally = await migrate_many([Path("t/gone.db")], MIGRATIONS)

    assert (1, False) == (tally.failed, Path("t/gone.db").exists())


async def test_what_sqlite_keeps_beside_a_file_is_no_file() -> None:
    """A pattern that matches them, too, leaves them as they are, also where they are empty."""
    for part in ("journal", "shm", "wal"):
        Path(f"t/00.db-{part}").touch()
    Path("t/x-wal").touch()
    heard: list[FileResult] = []
    tally = await migrate_many("t/*", MIGRATIONS, limit=1, on_result=heard.append)

    assert {Outcome.MIGRATED: 13, Outcome.FAILED: 3} == tally.outcomes
    assert {"t/00.db-journal", "t/00.db-shm", "t/00.db-wal"} == {
        result.path for result in heard if not result.ok
    }


async def test_bad_migrations_are_refused_before_any_file() -> None:
    """What is wrong with the list, or the target, is an error and no result."""
    with pytest.raises(errors.DuplicateVersion):
        await migrate_many("t/*.db", [MIGRATIONS[0], MIGRATIONS[0]])
    with pytest.raises(errors.InvalidTarget):
        await migrate_many("t/*.db", MIGRATIONS, target=9)
    with pytest.raises(ValueError, match="at least one"):
        await migrate_many("t/*.db", MIGRATIONS, limit=0)

    assert {0} == {path.stat().st_size for path in Path("t").iterdir()}


async def test_cancelled_leaves_whole_migrations() -> None:
    """Cancelled in the middle of a statement, a file is at its last whole migration."""
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n"

    def tell(_: sqlite3.Connection) -> None:
        loop.call_soon_threadsafe(begun.set)

    slow = [MIGRATIONS[0], Migration(2, "Slow", [tell, f"CREATE TABLE b AS {endless}"])]
    task = asyncio.create_task(migrate_many("t/*.db", slow, limit=2))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    tally = await status_many("t/*.db", MIGRATIONS)

    assert {0, 1} == {group.version for group in tally.groups}


async def test_a_listener_that_raises_ends_it() -> None:
    """What `on_result` raises comes out as it is."""

    def refuse(_: FileResult) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await migrate_many("t/*.db", MIGRATIONS, on_result=refuse)


async def test_a_listener_that_nobody_awaits_is_refused() -> None:
    """A coroutine function would hear nothing at all."""

    async def hear(_: FileResult) -> None:
        raise LookupError

    with pytest.raises(TypeError, match="nobody runs"):
        await migrate_many("t/*.db", MIGRATIONS, on_result=hear)


async def test_every_name_is_that_of_a_file() -> None:
    """What means something else to a pool is a file here, as a pattern may find it."""
    for name in (":memory:", "file:x.db"):
        Path(name).touch()
    tally = await migrate_many([":memory:", "file:x.db"], MIGRATIONS)

    assert {Outcome.MIGRATED: 2} == tally.outcomes
    assert {"a", "b"} <= tables(str(Path(":memory:").absolute()))


# The command.


@pytest.mark.parametrize("jobs", [1, 2])
async def test_up_and_its_report(jobs: int) -> None:
    """Each file has its line in the report, of its shape, and a failure makes the exit code 1."""
    spoil(4)
    result = await wave("up", "t/*.db", "--jobs", jobs, "--limit", 2, "--report", "r.jsonl")
    lines = [json.loads(line) for line in Path("r.jsonl").read_text().splitlines()]

    assert 1 == result.exit_code
    assert "Error: 1 of 12 file(s) failed" in result.stderr
    assert {f"t/{n:02}.db" for n in range(12)} == {line["path"] for line in lines}
    for line in lines:
        shape = {"$defs": SCHEMA["$defs"], **SCHEMA["$defs"]["fleet_report"]}
        Draft202012Validator(shape).validate(line)
    assert all("b" in tables(f"t/{n:02}.db") for n in range(12) if n != 4)


async def test_a_failed_canary_stops() -> None:
    """Nothing but the canary is touched when one of it fails."""
    spoil(1)
    document = await told("up", "t/*.db", "--canary", 3)

    assert ("its canary", 9) == (document["stopped"], document["left"])
    assert [True] + [False] * 9 == [
        Path(f"t/{n:02}.db").stat().st_size > 0 for n in (0, *range(3, 12))
    ]


@pytest.mark.parametrize(("budget", "left"), [("0", 10), ("1", 9), ("10%", 9), ("50%", 6)])
async def test_a_budget_stops(budget: str, left: int) -> None:
    """No further file is begun once more have failed than may."""
    spoil(1, 2, *range(3, 7))
    document = await told("up", "t/*.db", "--budget", budget, "--limit", 1)

    stopped = budget != "50%"
    assert ("its budget" if stopped else None) == document["stopped"]
    assert (left if stopped else 0) == document["left"]


async def test_a_failed_rehearsal_stops() -> None:
    """Nothing is touched when a rehearsal on a sample goes wrong."""
    Path("m/3_bad.sql").write_text("SELEC 1")
    document = await told("up", "t/*.db", "--rehearse", 2)

    assert ("its rehearsal", 12, {}) == (
        document["stopped"],
        document["left"],
        document["outcomes"],
    )
    assert {0} == {path.stat().st_size for path in Path("t").iterdir()}


async def test_a_failed_rehearsal_is_told() -> None:
    """What is counted is the sample, when nothing has followed it."""
    spoil(6)
    result = await wave("up", "t/*.db", "--rehearse", 4)

    assert result.stdout.startswith("3 rehearsed, 1 failed in ")
    assert result.stderr.endswith(
        "Error: 1 of 4 file(s) failed; stopped by its rehearsal, 12 not begun\n"
    )


async def test_a_rehearsal_that_went_well_is_followed() -> None:
    """The sample is told in the report, and everything is migrated."""
    document = await told("up", "t/*.db", "--rehearse", 2, "--report", "r.jsonl")
    operations = Counter(
        json.loads(x)["operation"] for x in Path("r.jsonl").read_text().splitlines()
    )

    assert {"migrated": 12} == document["outcomes"]
    assert {"rehearse": 2, "up": 12} == operations


async def test_resume_leaves_out_what_is_done() -> None:
    """Files that failed, or whose line was cut off, are done again; another goal does all again."""
    spoil(4)
    await told("up", "t/*.db", "--report", "r.jsonl")
    Path("t/04.db").write_bytes(b"")
    written = Path("r.jsonl").read_text()
    Path("r.jsonl").write_text(f'{written}{{"operation": "up", "pa')
    again = await told("up", "t/*.db", "--resume", "r.jsonl", "--report", "r.jsonl")
    third = await told("up", "t/*.db", "--resume", "r.jsonl")
    other = await told("up", "t/*.db", "--resume", "r.jsonl", "--target", 1)

    assert ({"migrated": 1}, 11) == (again["outcomes"], again["resumed"])
    assert ({}, 12) == (third["outcomes"], third["resumed"])
    assert 0 == other["resumed"]


async def test_a_drifted_tenant_stands_out() -> None:
    """The one whose schema is another is named, and validate says why."""
    await wave("up", "t/*.db")
    with closing(sqlite3.connect("t/05.db")) as connection:
        connection.execute("CREATE TABLE stray (x)")
    status = await wave("status", "t/*.db")
    strict = await wave("validate", "t/*.db", "--strict")

    assert (0, 1) == (status.exit_code, strict.exit_code)
    assert 1 == status.stdout.count("unlike the others: t/05.db")
    assert "table stray" in strict.stderr


async def test_plan_and_status_write_nothing() -> None:
    """They tell what is pending, in every process, and a target counts."""
    plan = await told("plan", "t/*.db", "--jobs", 2, "--target", 1)
    status = await told("status", "t/*.db")

    assert {"pending": 12} == plan["outcomes"] == status["outcomes"]
    assert (1, 2) == (plan["goal"], status["goal"])
    assert {0} == {path.stat().st_size for path in Path("t").iterdir()}


async def test_snapshots_are_taken_where_wanted() -> None:
    """With `--snapshot` each file that is changed is copied before, with `--no-snapshot` none."""
    await wave("up", "t/*.db", "--target", 1, "--no-snapshot")
    await wave("up", "t/00.db", "--snapshot", "--snapshot-dir", "s")

    assert 1 == len(list(Path("s").rglob("*.db")))


async def test_verbose_tells_each_file() -> None:
    """With `--verbose` there is a line for each file, with `--quiet` none at all."""
    verbose = await wave("up", "t/*.db", "--verbose")
    quiet = await wave("up", "t/*.db", "--quiet")

    assert 12 == verbose.stderr.count("migrated at version 2")
    assert ("", "") == (quiet.stdout, quiet.stderr)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--shard", "3/2"],
        ["--shard", "1"],
        ["--shard", "x/2"],
        ["--shard", ""],
        ["--budget", "x"],
        ["--budget", "101%"],
        ["--jobs", "0"],
        ["--database", "a.db"],
    ],
)
async def test_usage(arguments: list[str]) -> None:
    """What an option cannot mean is an error of usage."""
    assert 2 == (await wave("up", "t/*.db", *arguments)).exit_code


async def test_a_pattern_that_matches_nothing_is_refused() -> None:
    """It is named, and nothing is done."""
    result = await wave("up", "none/*.db")

    assert "none/*.db" in result.stderr
    assert 1 == result.exit_code


@pytest.mark.parametrize("line", ["no report", "null", "[]", "[" * 100_000])
async def test_what_is_no_report_is_refused(line: str) -> None:
    """A file that begins with another line is no report, whatever that line is."""
    Path("r.jsonl").write_text(f"{line}\n")
    result = await wave("up", "t/*.db", "--resume", "r.jsonl")

    assert "Error: 'r.jsonl': it is not a report of a fleet\n" == result.stderr
    assert 1 == result.exit_code


async def test_a_line_of_a_report_that_names_no_path_counts_for_nothing() -> None:
    """What somebody else has written into a report does not end the command."""
    Path("r.jsonl").write_text('{"operation": "up", "goal": 2, "path": [], "outcome": "current"}\n')
    document = await told("up", "t/*.db", "--resume", "r.jsonl")

    assert ({"migrated": 12}, 0) == (document["outcomes"], document["resumed"])


async def test_a_report_is_added_to_a_report_alone() -> None:
    """What is something else stays as it is: `--report t/*.db` is quickly written."""
    await wave("up", "t/*.db")
    before = Path("t/00.db").read_bytes()
    result = await wave("status", "t/*.db", "--report", "t/00.db")

    assert 1 == result.exit_code
    assert "Error: 't/00.db': it is not a report of a fleet\n" == result.stderr
    assert before == Path("t/00.db").read_bytes()


def test_a_pipe_that_nobody_reads_is_not_waited_for() -> None:
    """A report to it is an error."""
    os.mkfifo("pipe")
    command = (*WAVE, "--migrations", "m", "fleet", "status", "t/*.db", "--report", "pipe")
    done = subprocess.run(command, check=False, capture_output=True, timeout=60)

    assert 1 == done.returncode
    assert b"no such device" in done.stderr


async def test_a_report_may_be_a_pipe() -> None:
    """A program that reads a pipe gets every line."""
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    await wave("status", "t/*.db", "--report", "pipe")
    with os.fdopen(reader) as lines:
        assert 12 == len(lines.readlines())


async def test_what_failed_before_comes_last_and_is_no_canary() -> None:
    """A file that is known to be bad does not stop a run that goes on."""
    spoil(0, 1)
    await wave("up", "t/0[0-3].db", "--report", "r.jsonl")
    again = ("--report", "r2.jsonl", "--resume", "r.jsonl", "--limit", 1)
    document = await told("up", "t/*.db", "--canary", 2, "--budget", "17%", *again)

    assert {"migrated": 8, "failed": 2} == document["outcomes"]
    assert (2, None, 0) == (document["resumed"], document["stopped"], document["left"])
    told_of = [json.loads(line)["path"] for line in Path("r2.jsonl").read_text().splitlines()]
    assert ["t/00.db", "t/01.db"] == told_of[-2:]


async def test_a_budget_in_per_cent_is_of_all_files() -> None:
    """It is the same after a kill as before, however few are left."""
    for number in range(6):
        await wave("up", f"t/{number:02}.db", "--report", "r.jsonl")
    spoil(6, 7)
    document = await told("up", "t/*.db", "--budget", "17%", "--resume", "r.jsonl", "--limit", 1)

    assert ({"failed": 2, "migrated": 4}, None) == (document["outcomes"], document["stopped"])


async def test_without_paths_there_is_nothing_to_do() -> None:
    """Patterns are an argument, or paths are in a file."""
    result = await wave("up")

    assert 2 == result.exit_code
    assert "PATTERNS..." in result.stderr


async def test_a_report_that_cannot_be_written_is_one_line() -> None:
    """It is said before a file is opened."""
    result = await wave("up", "t/*.db", "--report", "none/r.jsonl")

    assert (1, "Error: 'none/r.jsonl': no such file or directory") == (
        result.exit_code,
        result.stderr.splitlines()[0],
    )
    assert 0 == Path("t/00.db").stat().st_size


async def test_paths_come_from_a_file() -> None:
    """As many as no command line holds, with names of any bytes, beside those that are named."""
    odd = os.fsdecode(b"t/\xff name.db")
    Path(odd).touch()
    Path("list").write_bytes(b"t/03.db\n\n" + os.fsencode(odd) + b"\nt/gone.db")
    document = await told("up", "t/00.db", "--files", "list")

    assert {"migrated": 3, "failed": 1} == document["outcomes"]
    assert "b" in tables(odd)


async def test_many_failures_are_counted() -> None:
    """The first ones are told one by one, the others by their kind."""
    for number in range(30):
        Path(f"t/bad{number}.db").write_text("no database, and long enough to be taken for none")
    result = await wave("up", "t/*.db")

    assert 20 == result.stderr.count("failed t/bad")
    assert "10 more failed: 10 DatabaseUnusable; --report FILE tells each" in result.output


async def test_few_files_of_a_kind_are_named() -> None:
    """A file that was left behind stands out, also where no other is at its version."""
    await migrate_many("t/*.db", MIGRATIONS)
    Path("t/new.db").touch()
    result = await wave("status", "t/*.db", "--color", "never")

    assert ": 12 file(s)\n" in result.stdout
    assert ": 1 file(s): t/new.db\n" in result.stdout


async def test_what_is_not_adopted_is_not_valid() -> None:
    """A file without a history is told as skipped; with `--strict` nothing of it is ours."""
    for number in range(12):
        with closing(sqlite3.connect(f"t/{number:02}.db")) as connection:
            connection.execute("CREATE TABLE a (x)")

    assert {"skipped": 12} == (await told("validate", "t/*.db"))["outcomes"]
    assert {"failed": 12} == (await told("validate", "t/*.db", "--strict"))["outcomes"]


async def test_a_path_that_is_gone_is_a_result() -> None:
    """One of the files that a shell has listed may be gone by now; a pattern matches something."""
    document = await told("up", "t/00.db", "t/gone.db")
    nothing = await wave("up", "t/gone*.db")

    assert {"migrated": 1, "failed": 1} == document["outcomes"]
    assert ["t/gone.db"] == [failure["path"] for failure in document["failures"]]
    assert (1, False) == (nothing.exit_code, Path("t/gone.db").exists())


async def test_the_migrations_are_named() -> None:
    """Wave's own migrations are for Wave's databases, and not for whatever a pattern matches."""
    result = await CliRunner().invoke(cli, ["migrate", "fleet", "up", "t/*.db"])

    assert 2 == result.exit_code
    assert "by --migrations" in result.stderr
    assert 0 == Path("t/00.db").stat().st_size


async def test_the_files_of_a_pattern_are_found_before_one_is_opened() -> None:
    """While files are open a directory might not be, and `glob` would pass over it in silence."""
    files = [Path(f"d/{number:03}/a.db") for number in range(300)]
    for file in files:
        file.parent.mkdir(parents=True)
        file.touch()

    def remove_them(_: FileResult) -> None:
        for file in files:
            file.unlink(missing_ok=True)

    tally = await status_many("d/*/a.db", MIGRATIONS, limit=1, on_result=remove_them)

    assert {Outcome.PENDING: 1, Outcome.FAILED: 299} == tally.outcomes


async def test_shards_divide_the_files() -> None:
    """Each file is in one of the shards."""
    found = [await told("up", "t/*.db", "--shard", f"{n}/3") for n in (1, 2, 3)]

    assert 12 == sum(sum(d["outcomes"].values()) for d in found)


@given(st.sets(st.text()), st.integers(1, 9))
def test_shards_are_disjoint_and_complete(paths: set[str], count: int) -> None:
    """Every path is in exactly one shard, whatever else there is."""
    shards = [Shard(number, count) for number in range(1, count + 1)]

    assert {1} >= {sum(path in shard for shard in shards) for path in paths}


@given(st.lists(st.text(), unique=True), st.integers(1, 9))
def test_a_sample_is_of_different_files(paths: list[str], count: int) -> None:
    """A sample has as many different files as wanted, or all."""
    assert min(count, len(paths)) == len(set(spread(paths, count)) & set(paths))


async def test_validate_replays_once_for_all_files() -> None:
    """What the migrations make is the same for every file that has them all."""
    await migrate_many("t/*.db", MIGRATIONS)
    opened: list[str] = []

    def setup(connection: sqlite3.Connection) -> None:
        opened.append(connection.execute("PRAGMA database_list").fetchone()[2])

    tally = await validate_many("t/*.db", MIGRATIONS, limit=1, setup=setup)

    assert {Outcome.VALID: 12} == tally.outcomes
    assert 12 == sum(map(bool, opened)), "one look at each file"
    assert 2 == opened.count(""), "one database in memory to judge the list, one to replay it"


async def test_files_with_tables_but_no_history_are_adopted() -> None:
    """Each is recorded at the version that its schema proves, as one file would be."""
    for number in range(12):
        with closing(sqlite3.connect(f"t/{number:02}.db")) as connection:
            connection.execute("CREATE TABLE a (x)" if number else "CREATE TABLE b (x)")
    heard: list[FileResult] = []

    planned = await plan_many("t/*.db", MIGRATIONS)
    await migrate_many("t/*.db", MIGRATIONS, on_result=heard.append)

    assert {Outcome.PENDING: 11, Outcome.FAILED: 1} == planned.outcomes
    assert ["AdoptionRefused"] == [r.error for r in heard if not r.ok]
    assert {(0, 2, 2)} == {(r.before, r.after, r.steps) for r in heard if r.ok}


async def test_a_file_that_a_crash_left_is_repaired_by_an_up() -> None:
    """What only a writer can read is read by one that writes, and told by a question."""
    crash("t/00.db")
    assert Path("t/00.db-journal").exists()

    asked = await status_many(["t/00.db"], MIGRATIONS)
    done = await migrate_many(["t/00.db"], MIGRATIONS)

    assert ({Outcome.FAILED: 1}, {Outcome.MIGRATED: 1}) == (asked.outcomes, done.outcomes)
    assert {"a", "b", "z"} <= tables("t/00.db")


async def test_an_up_may_be_out_of_order() -> None:
    """A file that lacks a migration below what it has is refused, unless that is allowed."""
    Path("s").mkdir()
    Path("s/20240102000000_b.sql").write_text("CREATE TABLE b (x)")
    command = ["migrate", "--migrations", "s", "fleet", "up", "t/*.db", "--quiet"]
    await CliRunner().invoke(cli, command)
    Path("s/20240101000000_a.sql").write_text("CREATE TABLE a (x)")

    refused = await CliRunner().invoke(cli, command)
    assert (1, 12) == (refused.exit_code, refused.stderr.count("--out-of-order"))
    allowed = await CliRunner().invoke(cli, [*command, "--out-of-order"])
    assert (0, {"a", "b"}) == (allowed.exit_code, tables("t/07.db") & {"a", "b"})


async def test_an_up_waits_as_long_as_it_is_told() -> None:
    """A locked file fails after `--lock-timeout`, an endless statement after its own limit."""
    Path("m/3_x.sql").write_text(
        "CREATE TABLE c AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
        "SELECT sum(i) FROM n"
    )
    with closing(sqlite3.connect("t/00.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        limits = ("--lock-timeout", 0, "--statement-timeout", 0.1)
        document = await told("up", "t/00.db", "t/01.db", *limits)

    failed = {f["path"]: (f["error"], f["after"]) for f in document["failures"]}
    assert {"t/00.db": ("DatabaseLocked", 0), "t/01.db": ("MigrationFailed", 2)} == failed


SLOW = """
import time
from pathlib import Path
from wave_async import Migration
def pause(connection):
    name = Path(connection.execute("PRAGMA database_list").fetchone()[2]).name
    if name == "06.db" and not Path("go").exists():
        Path("here").touch()
        while not Path("go").exists():
            time.sleep(0.01)
ALL = [Migration(1, "A", "CREATE TABLE a (x)"), Migration(2, "B", [pause, "CREATE TABLE b (x)"])]
"""


@pytest.mark.parametrize("jobs", [1, 2])
def test_killed_in_the_middle_and_resumed(jobs: int) -> None:
    """After a kill nothing is half done, and a resumed run does the rest, each migration once."""
    Path("slow.py").write_text(SLOW)
    base = (sys.executable, "-m", "wave_async", "migrate", "--migrations", "slow:ALL", "fleet")
    command = (*base, "up", "t/*.db", "--report", "r.jsonl", "--limit", "2", "--jobs", str(jobs))
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not Path("here").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert "b" not in tables("t/06.db")
    Path("go").touch()
    done = subprocess.run((*command, "--resume", "r.jsonl"), check=False, capture_output=True)

    assert 0 == done.returncode, done.stderr
    assert all({"a", "b"} <= tables(f"t/{n:02}.db") for n in range(12))


def test_a_terminal_shows_how_far_it_has_come() -> None:
    """A line counts the files while they are migrated; failures stay above it, the groups below."""
    Path("slow.py").write_text(SLOW)
    spoil(1)
    with closing(Screen((*WAVE, "--migrations", "slow:ALL", "fleet", "up", "t/*.db"))) as screen:
        screen.wait_for(lambda text: "11/12 10 migrated, 1 failed" in text)
        above = screen.lines[0]
        Path("go").touch()
        code = screen.end()

    assert 1 == code
    assert above.startswith("failed t/01.db: ")
    assert "11/12" not in screen.text
    assert "version 2, schema " in screen.text
    assert "Error: 1 of 12 file(s) failed" in screen.text


def test_an_interrupt_ends_every_process() -> None:
    """SIGINT ends the command and its processes, and what ran is rolled back."""
    Path("endless.py").write_text(
        "from wave_async import Migration\nfrom pathlib import Path\n"
        "def here(c): Path('here').touch()\n"
        "ALL = [Migration(1, 'E', [here, 'CREATE TABLE a AS WITH RECURSIVE n(i) AS (SELECT 1 "
        "UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n'])]\n"
    )
    base = (sys.executable, "-m", "wave_async", "migrate", "--migrations", "endless:ALL", "fleet")
    process = subprocess.Popen((*base, "up", "t/*.db", "--jobs", "2"), stderr=subprocess.PIPE)
    while not Path("here").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)

    assert 130 == process.returncode
    assert b"Interrupted" in said
    assert {frozenset()} == {frozenset(tables(str(p))) for p in Path("t").glob("*.db")}


async def test_a_killed_worker_costs_only_what_it_had() -> None:
    """A process that dies fails the files it held; another goes on with the rest."""
    Path("deadly.py").write_text(
        "import os, signal\nfrom wave_async import Migration\n"
        "def die(c):\n"
        "    if c.execute('PRAGMA database_list').fetchone()[2].endswith('00.db'):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "ALL = [Migration(1, 'D', [die, 'CREATE TABLE a (x)'])]\n"
    )
    words = ["migrate", "--migrations", "deadly:ALL", "fleet", "up", "t/*.db", "--jobs", "2"]
    result = await CliRunner().invoke(cli, [*words, "--limit", "1", "--json"])
    document = json.loads(result.stdout)

    assert {"WorkerLost"} == {failure["error"] for failure in document["failures"]}
    assert 1 <= document["outcomes"]["failed"] <= 2
    assert 12 == sum(document["outcomes"].values())
    assert Path("t/11.db").stat().st_size


def test_processes_find_the_modules_that_the_command_finds() -> None:
    """A file beside the migrations that has the name of a module of Python is not taken for it."""
    Path("queue.py").write_text("raise RuntimeError")
    Path("bin").mkdir()
    Path("bin/wave").write_text("from wave_async.cli import main\nmain()\n")
    command = (sys.executable, "bin/wave", "migrate", "--migrations", "m", "fleet", "up", "t/*.db")
    done = subprocess.run((*command, "--jobs", "2"), check=False, capture_output=True, text=True)

    assert (0, "") == (done.returncode, done.stderr)


def test_what_a_migration_starts_takes_no_paths_away() -> None:
    """A migration that reads stdin finds it empty, in one of several processes."""
    Path("hungry.py").write_text(
        "import subprocess\nfrom wave_async import Migration\n"
        "def eat(c): subprocess.run(['cat'], check=True)\n"
        "ALL = [Migration(1, 'H', eat)]\n"
    )
    command = (*WAVE, "--migrations", "hungry:ALL", "fleet", "up", "t/*.db", "--jobs", "2")
    done = subprocess.run(
        command, check=False, capture_output=True, stdin=subprocess.DEVNULL, timeout=60
    )

    assert (0, b"") == (done.returncode, done.stderr)


def test_processes_work_without_a_stderr() -> None:
    """Where it is closed, as for a daemon, every process does its work all the same."""
    command = (*WAVE, "--migrations", "m", "fleet", "up", "t/*.db", "--jobs", "2")
    closed = ("sh", "-c", 'exec "$@" 2>&-', "sh", *command)
    done = subprocess.run(closed, check=False, capture_output=True, text=True)

    assert "12 migrated in " in done.stdout


async def test_a_worker_may_die_in_the_middle_of_an_answer() -> None:
    """Half a line is no answer: its file has failed, and the others go on."""
    Path("deadly.py").write_text(
        "import os, signal, stat\nfrom contextlib import suppress\n"
        "from wave_async import Migration\n"
        "def die(c):\n"
        "    if c.execute('PRAGMA database_list').fetchone()[2].endswith('00.db'):\n"
        "        for number in range(3, 99):\n"
        "            with suppress(OSError):\n"
        "                if stat.S_ISFIFO(os.fstat(number).st_mode):\n"
        "                    os.write(number, b'{\"path\": ')\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "ALL = [Migration(1, 'D', die)]\n"
    )
    words = ["migrate", "--migrations", "deadly:ALL", "fleet", "up", "t/*.db", "--jobs", "2"]
    result = await CliRunner().invoke(cli, [*words, "--limit", "1", "--json"])
    document = json.loads(result.stdout)

    assert {"WorkerLost"} == {failure["error"] for failure in document["failures"]}
    assert 12 == sum(document["outcomes"].values())


@pytest.mark.parametrize("jobs", [1, 2])
async def test_whatever_an_error_says_is_told_in_one_line(jobs: int) -> None:
    """The setup of a project may raise what it likes: no length and no character stops the rest."""
    Path("setups.py").write_text(
        "def long(c):\n"
        "    if c.execute('PRAGMA database_list').fetchone()[2].endswith('00.db'):\n"
        "        raise ValueError('\\x1b[2J\\n' + 'x' * 2**21)\n"
    )
    Path("pyproject.toml").write_text("[tool.wave]\nsetup = 'setups:long'\n")
    result = await wave("up", "t/*.db", "--jobs", jobs)

    assert "11 migrated, 1 failed" in result.stdout
    assert r"t/00.db: \x1b[2J\nxxx" in result.stderr
    assert 1000 > len(result.stderr)
