"""import-history: other tools' bookkeeping becomes ours once the schema proves it, or nothing."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from conftest import sql, wave
from left_by import CODE, FILES, left_by
from screen import WAVE, Terminal

from wave_async import Migration, MigrationManager, SingleConnectionPool, errors
from wave_async.database import history
from wave_async.database.foreign import TOOLS

FROM_DATABASE = ("new", "--from-database", "First")
SEPARATE = [tool for tool in FILES if tool not in {"dbmate", "golang-migrate"}]
"""Tools with files whose table does not have the name of ours."""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own to stand in, whose settings name database and migrations."""
    text = '[tool.wave]\ndatabase = "app.db"\nmigrations = "migrations"\n'
    (tmp_path / "pyproject.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def said(*arguments: str) -> str:
    """Run a command that succeeds; its output."""
    result = await wave(*arguments)

    assert (0, "") == (result.exit_code, result.stderr)
    return result.stdout


async def imported(tool: str, *options: str) -> dict[str, Any]:
    """Import a history; what was said of it."""
    document = await said("import-history", "--from", tool, "--yes", "--json", *options)
    return dict(json.loads(document))


async def refusal(tool: str, *options: str) -> str:
    """Run an import that is refused and leaves everything as it was; its error."""
    before = everything()
    result = await wave("import-history", "--from", tool, "--yes", *options)

    assert (1, "", before) == (result.exit_code, result.stdout, everything())
    return result.stderr


def everything() -> dict[str, bytes]:
    """Return every file there is."""
    return {str(p): p.read_bytes() for p in Path().rglob("*") if p.is_file()}


def kept(tool: str, *, renamed: bool = False) -> list[Any]:
    """Return the rows of a tool's own table."""
    name = TOOLS[tool].names[-1] if renamed else TOOLS[tool].table
    return sql("app.db", f"SELECT * FROM {name}")


# What is recorded.


@pytest.mark.parametrize("tool", FILES)
async def test_the_same_files(tool: str, project: Path) -> None:
    """The versions of a tool are ours: recorded once, valid, nothing pending, its rows kept."""
    left_by(tool, project)
    before = kept(tool)
    found = await imported(tool)

    versions = sorted(int(p.name.partition("_")[0]) for p in Path("migrations").iterdir())
    assert sorted({*versions}) == [row["version"] for row in found["recorded"]]
    assert "Database is up to date" in await said("status", "--check")
    assert "check passed" in await said("validate")
    assert [] == (await imported(tool))["recorded"]
    assert before == kept(tool, renamed=True)
    assert {"import"} == {e["action"] for e in json.loads(await said("log", "--json"))["log"]}


@pytest.mark.parametrize("tool", CODE)
async def test_a_first_migration_for_program_code(tool: str, project: Path) -> None:
    """A first migration made from the database, and the history of the tool is ours."""
    left_by(tool, project)
    before = kept(tool)
    await said(*FROM_DATABASE)
    found = await imported(tool)

    assert [1] == [row["version"] for row in found["recorded"]]
    told = await said("validate")
    assert "Migration integrity check passed" in told
    assert f"Not made by a migration: table {TOOLS[tool].table}" in told
    assert "Verified 1 migration(s)" in await said("verify")
    assert [] == (await imported(tool))["recorded"]
    assert before == kept(tool)


@pytest.mark.parametrize("tool", ["goose", "sqlx"])
async def test_each_keeps_its_time(tool: str, project: Path) -> None:
    """Where a tool knows when it applied a migration, so do we."""
    left_by(tool, project)
    found = await imported(tool)

    times = ["2024-01-01T12:00:00Z", "2024-01-02T12:00:00Z"]
    assert times == [row["applied_at"] for row in found["recorded"]]
    shown = json.loads(await said("status", "--json"))["migrations"]
    assert times == [row["applied_at"] for row in shown]


@pytest.mark.parametrize(("tool", "column"), [("django", "applied"), ("yoyo", "applied_at_utc")])
async def test_program_code_has_its_newest_time(tool: str, column: str, project: Path) -> None:
    """A first migration was applied when the tool's last one was."""
    left_by(tool, project)
    await said(*FROM_DATABASE)
    found = await imported(tool)

    ((newest,),) = sql("app.db", f"SELECT max({column}) FROM {TOOLS[tool].table}")
    assert [newest[:19].replace(" ", "T") + "Z"] == [r["applied_at"] for r in found["recorded"]]


@pytest.mark.parametrize(
    ("tool", "column", "value"),
    [("goose", "tstamp", "NULL"), ("goose", "tstamp", "'soon'"), ("sqlx", "installed_on", "x'00'")],
)
async def test_a_time_that_is_none(tool: str, column: str, value: str, project: Path) -> None:
    """A row without a time that can be read is recorded as of now."""
    left_by(tool, project)
    sql("app.db", f"UPDATE {TOOLS[tool].table} SET {column} = {value}")

    assert all(row["applied_at"] > "2026" for row in (await imported(tool))["recorded"])


@pytest.mark.parametrize("tool", FILES)
async def test_what_the_tool_had_not_applied_is_pending(tool: str, project: Path) -> None:
    """Only what the tool has applied is recorded; an `up` goes on from there."""
    left_by(tool, project)
    sql("app.db", "DROP TABLE posts", *ONE_APPLIED[tool])

    assert 1 == len((await imported(tool))["recorded"])
    assert 1 == json.loads(await said("status", "--json"))["pending"]
    assert "Migrations applied successfully" in await said("up")
    assert "check passed" in await said("validate")


ONE_APPLIED = {
    "dbmate": ["DELETE FROM schema_migrations WHERE version LIKE '20240102%'"],
    "goose": ["DELETE FROM goose_db_version WHERE version_id = 2"],
    "sqlx": ["DELETE FROM _sqlx_migrations WHERE version > 20240102000000"],
    "golang-migrate": ["UPDATE schema_migrations SET version = 1"],
}


async def test_goose_rolled_back_by_an_old_release(project: Path) -> None:
    """The last row of a version counts: rolled back it is pending, applied again it is applied."""
    left_by("goose", project)
    add = "INSERT INTO goose_db_version (version_id, is_applied) VALUES (2, {})"
    sql("app.db", "DROP TABLE posts", add.format(1), add.format(0))

    planned = json.loads(await said("import-history", "--from", "goose", "--plan", "--json"))
    assert [1] == [row["version"] for row in planned["would_record"]]
    sql("app.db", add.format(1))
    assert "table posts: missing" in await refusal("goose")


@pytest.mark.parametrize("tool", ["goose", "sqlx", "alembic"])
async def test_data_migrations(tool: str, project: Path) -> None:
    """The rows of a tool tell versions of one schema apart; for program code somebody has to."""
    left_by(tool, project)
    if tool == "alembic":
        await said(*FROM_DATABASE)
        Path("migrations/0002_fill.up.sql").write_text("INSERT INTO users VALUES (1, 'Ada');")
        assert "fits versions 1 and 2 equally" in await refusal(tool)
        recorded = (await imported(tool, "--version", "1"))["recorded"]
    else:
        name = "00003_fill.sql" if tool == "goose" else "20240103120000_fill.up.sql"
        text = "-- +goose Up\n" if tool == "goose" else ""
        Path("migrations", name).write_text(f"{text}INSERT INTO users VALUES (1, 'Ada');")
        recorded = (await imported(tool))["recorded"]

    assert 1 == json.loads(await said("status", "--json"))["pending"]
    assert (1 if tool == "alembic" else 2) == len(recorded)
    await said("up")
    assert [(1,)] == sql("app.db", "SELECT count(*) FROM users")


async def test_the_newest_of_several_is_found(project: Path) -> None:
    """With further migrations beside the first one the schema tells which are applied."""
    left_by("alembic", project)
    await said(*FROM_DATABASE)
    Path("migrations/0002_tags.up.sql").write_text("CREATE TABLE tags (x);")

    assert [1] == [row["version"] for row in (await imported("alembic"))["recorded"]]
    await said("up")
    assert [] == (await imported("alembic"))["recorded"]


# Looking before touching.


@pytest.mark.parametrize("tool", [*FILES, *CODE])
async def test_a_plan_writes_nothing(tool: str, project: Path) -> None:
    """A plan tells what an import would do, and which table it would rename, and does nothing."""
    left_by(tool, project)
    if tool in CODE:
        await said(*FROM_DATABASE)
    before = everything()
    planned = await said("import-history", "--from", tool, "--plan")

    assert before == everything()
    done = await said("import-history", "--from", tool, "--yes")
    assert planned == done.replace("Renamed", "Would rename").replace("Recorded", "Would record")


@pytest.mark.parametrize("tool", ["dbmate", "golang-migrate"])
async def test_a_table_in_our_way_is_renamed_only_if_told(tool: str, project: Path) -> None:
    """Without a terminal to ask on, and without --yes, nothing is renamed, nothing changed."""
    left_by(tool, project)
    before = everything()
    result = await wave("import-history", "--from", tool)

    new = f"schema_migrations_{tool.replace('-', '_')}"
    what = f"the table schema_migrations of {tool} will be renamed to {new}"
    assert f"Error: {what} and there is no terminal to ask on; say --yes\n" == result.stderr
    assert before == everything()
    assert "schema_migrations is not ours" in (await wave("up")).stderr
    assert before == everything()


@pytest.mark.parametrize("answer", ["y", "n"])
def test_asking_on_a_terminal(answer: str, project: Path) -> None:
    """A person is asked before a table is renamed; anything but y leaves everything as it is."""
    left_by("dbmate", project)
    before = everything()
    with closing(Terminal([*WAVE, "import-history", "--from", "dbmate"])) as terminal:
        terminal.read_until("Continue? (y/N): ")
        terminal.type(f"{answer}\n")
        assert 0 == terminal.end()

    assert ("Import cancelled" in terminal.shown) is (answer == "n")
    assert (before == everything()) is (answer == "n")


# What is refused.

REFUSED = {
    "no table": ("goose", ["DROP TABLE goose_db_version"], "there is no table goose_db_version"),
    "no table in our way": (
        "dbmate",
        ["DROP TABLE schema_migrations"],
        "there is no table schema_migrations",
    ),
    "empty": ("sqlx", ["DELETE FROM _sqlx_migrations"], "it has applied nothing here"),
    "only row 0": (
        "goose",
        ["DELETE FROM goose_db_version WHERE version_id > 0"],
        "it has applied nothing here",
    ),
    "another shape": (
        "sqlx",
        ["ALTER TABLE _sqlx_migrations ADD COLUMN more"],
        "_sqlx_migrations is a table of other columns (version, description, installed_on, succ",
    ),
    "a view": (
        "goose",
        [
            "ALTER TABLE goose_db_version RENAME TO kept",
            "CREATE VIEW goose_db_version AS SELECT * FROM kept",
        ],
        "goose_db_version is a view",
    ),
    "unknown": (
        "dbmate",
        ["INSERT INTO schema_migrations VALUES ('20250101000000')"],
        "it has applied '20250101000000', which this code does not have",
    ),
    "no number": (
        "dbmate",
        ["INSERT INTO schema_migrations VALUES ('first')"],
        "it has applied 'first', which this code does not have",
    ),
    "a number without end": (
        "dbmate",
        [f"INSERT INTO schema_migrations VALUES ('{'9' * 5000}')"],
        "which this code does not have",
    ),
    "a hole": (
        "goose",
        ["DELETE FROM goose_db_version WHERE version_id = 1"],
        "migration 1 is pending below the applied 2",
    ),
    "failed": (
        "sqlx",
        ["UPDATE _sqlx_migrations SET success = false WHERE version > 20240102000000"],
        "it left '20240102120000' half done; mend that with sqlx first",
    ),
    "dirty": (
        "golang-migrate",
        ["UPDATE schema_migrations SET dirty = 1"],
        "it left '2' half done",
    ),
    "edited": (
        "sqlx",
        ["UPDATE _sqlx_migrations SET checksum = x'00' WHERE version > 20240102000000"],
        "migration 20240102120000 was edited after it was applied; bring the old text back",
    ),
    "two heads": (
        "alembic",
        ["INSERT INTO alembic_version VALUES ('ae1027a6acf')"],
        "it has 2 heads, '1975ea83b712', 'ae1027a6acf'; merge them first",
    ),
    "nothing of ours": (
        "alembic",
        ["DROP TABLE posts", "DROP TABLE users"],
        "nothing of what our migrations make is there",
    ),
    "renamed before": (
        "dbmate",
        ["CREATE TABLE schema_migrations_dbmate (x)"],
        "schema_migrations has to be renamed, but schema_migrations_dbmate is there already",
    ),
    "an index of that name": (
        "dbmate",
        ["CREATE INDEX schema_migrations_dbmate ON users (name)"],
        "schema_migrations has to be renamed, but schema_migrations_dbmate is there already",
    ),
    "two histories": (
        "goose",
        [
            history.CREATE,
            "INSERT INTO schema_migrations SELECT 1, 'create users', 0, 'w1:a:b'",
        ],
        "migration 1 checksum mismatch",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_is_refused(case: str, project: Path) -> None:
    """What tells no version of ours is refused with its name, and not a byte is changed."""
    tool, statements, problem = REFUSED[case]
    left_by(tool, project)
    if tool in CODE:
        await said(*FROM_DATABASE)
    sql("app.db", *statements)

    assert problem in await refusal(tool)
    assert problem in await refusal(tool, "--plan")


async def test_two_histories(project: Path) -> None:
    """Our own history with less in it than the tool's is not added to."""
    left_by("goose", project)
    await said("baseline", "1", "--force")

    assert "schema_migrations is there already, without 2" in await refusal("goose")


USERS = """SELECT name FROM sqlite_schema
    WHERE type = 'table' AND name LIKE '%user%' AND name NOT LIKE 'auth%'"""


@pytest.mark.parametrize("tool", [*FILES, *CODE])
async def test_a_schema_that_differs(tool: str, project: Path) -> None:
    """A column by hand is refused with the difference, unless it is taken on somebody's word."""
    left_by(tool, project)
    if tool in CODE:
        await said(*FROM_DATABASE)
    ((table,),) = sql("app.db", USERS)
    sql("app.db", f'ALTER TABLE "{table}" ADD COLUMN by_hand')
    told = await refusal(tool, *(["--version", "1"] if tool in CODE else []))

    assert f"table {table}: column by_hand: not ours" in told
    assert "    +by_hand" in told
    assert (await imported(tool, "--force"))["recorded"]


async def test_what_cannot_be_asked_for(project: Path) -> None:
    """An unknown tool, a version of a tool that knows its own, and one that is not there."""
    left_by("goose", project)

    assert "--from='rails' is not valid; allowed: alembic, yoyo" in await refusal("rails")
    assert "target version 1 is not for you to say" in await refusal("goose", "--version", "1")
    Path("app.db").unlink()
    assert "there is no table goose_db_version" in await refusal("goose")
    assert not Path("app.db").exists()


async def test_a_version_out_of_range(project: Path) -> None:
    """A version above all there are is refused."""
    left_by("alembic", project)
    await said(*FROM_DATABASE)

    assert "target version 2 is above the newest" in await refusal("alembic", "--version", "2")


async def test_switched_off(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where migrations are switched off there is no import, but a plan of one."""
    left_by("goose", project)
    monkeypatch.setenv("WAVE_MIGRATION_ENABLED", "false")

    assert "WAVE_MIGRATION_ENABLED" in await refusal("goose")
    assert "Would record migration 1" in await said("import-history", "--from", "goose", "--plan")


# Many at once, and the end of a process.


def process(*arguments: str) -> subprocess.Popen[str]:
    """Start a command."""
    command = (sys.executable, "-m", "wave_async", "migrate", *arguments)
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)


def at_once(*commands: tuple[str, ...]) -> list[int]:
    """Run commands at the same moment, when the lock that all of them wait for is let go."""
    with ExitStack() as stack:
        with closing(sqlite3.connect("app.db", isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            running = [stack.enter_context(process(*command)) for command in commands]
            for waiting in running:
                assert waiting.stderr
                assert waiting.stderr.readline().startswith("Waiting for another process")
        return [waiting.wait(timeout=60) for waiting in running]


@pytest.mark.chaos
@pytest.mark.parametrize("tool", FILES)
async def test_imports_at_once(tool: str, project: Path) -> None:
    """Of many imports one records, and all of them end well."""
    left_by(tool, project)

    assert [0] * 4 == at_once(*[("import-history", "--from", tool, "--yes")] * 4)
    assert [(2, 2)] == sql(
        "app.db", "SELECT count(*), count(DISTINCT version) FROM schema_migrations_log"
    )
    assert "check passed" in await said("validate")


@pytest.mark.chaos
@pytest.mark.parametrize("tool", SEPARATE)
async def test_an_up_at_the_same_time(tool: str, project: Path) -> None:
    """An `up` and an import agree on what is recorded, whoever is first, and both end well."""
    left_by(tool, project)
    sql("app.db", "DROP TABLE posts", *ONE_APPLIED[tool])
    both = (("import-history", "--from", tool), ("up",))

    assert [0, 0, 0, 0] == at_once(*both, *both)
    assert [(2,)] == sql("app.db", "SELECT count(*) FROM schema_migrations")
    assert "check passed" in await said("validate")


KILLED = """
import os, signal, sys
from wave_async.database import foreign
real, left = foreign.Execute, int(sys.argv.pop(1))
def execute(*request):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*request)
foreign.Execute = execute
from wave_async.cli import main
main()
"""


@pytest.mark.chaos
@pytest.mark.parametrize("tool", ["dbmate", "sqlx"])
def test_killed_at_every_write(tool: str, project: Path) -> None:
    """Killed before any of its statements an import has done nothing; the next one does it all."""
    left_by(tool, project)
    before = kept(tool)
    arguments = ("migrate", "import-history", "--from", tool, "--yes")
    kills = 0
    while True:
        command = (sys.executable, "-c", KILLED, str(kills + 1), *arguments)
        code = subprocess.run(command, capture_output=True, check=False).returncode
        if code == 0:
            break
        kills += 1
        assert -signal.SIGKILL == code
        assert before == kept(tool)
        assert [] == sql("app.db", "SELECT 1 FROM sqlite_schema WHERE name LIKE '%_log'")

    assert {"dbmate": 5, "sqlx": 4}[tool] == kills
    assert [(2,)] == sql("app.db", "SELECT count(*) FROM schema_migrations")


async def test_somebody_rolls_back_meanwhile(project: Path) -> None:
    """What the tool says under the lock is what counts, not what it said before."""
    path = left_by("goose", project)
    up = "-- +goose Up\nCREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);"
    async with SingleConnectionPool(path) as pool:
        manager = MigrationManager(pool, [Migration(1, "create users", up), Migration(2, "b", "")])
        look = await manager._importing("goose", None, force=True)
        with closing(sqlite3.connect(path)) as db:
            db.execute("DELETE FROM goose_db_version WHERE version_id = 2")
            db.commit()
        found = await pool.ask(look)

    assert found
    assert [1] == [row.version for row in found.records]


@pytest.mark.parametrize("tool", FILES)
@pytest.mark.parametrize("there", [True, False])
async def test_a_refused_database_is_not_opened(tool: str, project: Path, *, there: bool) -> None:
    """The manager too looks before it opens: not a byte is changed, no file is made."""
    path = left_by(tool, project)
    if not there:
        path.unlink()
    before = everything()
    async with SingleConnectionPool(path) as pool:
        with pytest.raises(errors.ImportRefused):
            await MigrationManager(pool, ()).import_history(tool)

    assert before == everything()


async def test_a_view_that_is_broken(project: Path) -> None:
    """What SQLite cannot rename in a broken schema stays as it is, and SQLite's reason is told."""
    left_by("dbmate", project)
    sql("app.db", "CREATE VIEW broken AS SELECT * FROM nowhere")
    before = kept("dbmate")
    result = await wave("import-history", "--from", "dbmate", "--yes")

    assert 1 == result.exit_code
    assert "error in view broken" in result.stderr
    assert before == kept("dbmate")


async def test_the_api(project: Path) -> None:
    """The manager does what the command does."""
    path = left_by("alembic", project)
    async with SingleConnectionPool(path) as pool:
        first = await MigrationManager(pool, ()).creation()
        manager = MigrationManager(pool, [Migration(1, "First", first.up, first.down)])
        planned = await manager.plan_import("alembic")
        assert planned == await manager.import_history("alembic")
        assert () == (await manager.import_history("alembic")).records
        with pytest.raises(errors.ConfigError):
            await manager.import_history("rails")
        assert [1] == [row.version for row in await manager.applied()]
