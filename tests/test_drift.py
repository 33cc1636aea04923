"""Drift, adoption, baseline and repair: what the schema proves, and what is refused."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import numbered, sql, wave
from screen import WAVE, Terminal

from wave_async import (
    Migration,
    MigrationManager,
    SingleConnectionPool,
    errors,
    migrate_on_startup,
)
from wave_async.definitions import LEGACY_SCHEMA, MIGRATIONS
from wave_async.model.migration import AppliedMigration

MINE = [
    Migration(
        1,
        "Runs",
        """CREATE TABLE run (
            id INTEGER PRIMARY KEY,
            status TEXT CHECK (status IN ('new', 'done')),
            size INTEGER, double INTEGER GENERATED ALWAYS AS (size * 2) VIRTUAL
        );
        CREATE INDEX by_status ON run (status) WHERE size > 1;
        CREATE TABLE log (run REFERENCES run, what DEFAULT 'It''s  So');
        CREATE TRIGGER noted AFTER INSERT ON run BEGIN INSERT INTO log VALUES (new.id, 'New'); END;
        CREATE VIEW fresh AS SELECT * FROM run WHERE status = 'new';
        CREATE VIRTUAL TABLE words USING fts5 (word);""",
        "DROP TABLE words; DROP VIEW fresh; DROP TABLE log; DROP TABLE run;",
    ),
    Migration(2, "Notes", "ALTER TABLE run ADD COLUMN note TEXT;"),
]


def rewrite(path: Path, change: Callable[[str], str], name: str | None = None) -> None:
    """Write the text of objects, or of one, in sqlite_schema anew."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.create_function("change", 1, change)
        db.execute("PRAGMA writable_schema = ON")
        where = "" if name is None else f" AND name = '{name}'"
        db.execute(f"UPDATE sqlite_schema SET sql = change(sql) WHERE sql NOT NULL{where}")
        db.execute("PRAGMA writable_schema = RESET")
        assert [("ok",)] == db.execute("PRAGMA integrity_check").fetchall()


def folder(path: Path) -> dict[str, bytes]:
    """Return every file beside a database."""
    return {p.name: p.read_bytes() for p in path.parent.iterdir()}


async def made(path: Path, migrations: list[Migration] | tuple[Migration, ...] = MINE) -> None:
    """Migrate a database up, and close it."""
    async with SingleConnectionPool(path) as pool:
        await MigrationManager(pool, migrations).migrate_up()


async def ask(
    path: Path,
    act: Callable[[MigrationManager], Awaitable[Any]],
    migrations: Any = MINE,
    **options: Any,
) -> Any:
    """Do something with a manager of its own."""
    async with SingleConnectionPool(path) as pool:
        return await act(MigrationManager(pool, migrations, **options))


async def drift(path: Path, *, strict: bool = False) -> list[str]:
    """Return the differences that a validation finds."""
    with pytest.raises(errors.ValidationFailed) as failed:
        await ask(path, lambda m: m.validate(strict=strict))
    return list(map(str, failed.value.differences))


# Validation.


@pytest.mark.parametrize(
    ("by_hand", "found"),
    [
        ("ALTER TABLE run ADD COLUMN x", ["table run: column x: not ours"]),
        ("ALTER TABLE run DROP COLUMN note", ["table run: column note: missing"]),
        ("ALTER TABLE run RENAME COLUMN note TO Notes", 2),
        ("DROP INDEX by_status", ["index by_status: missing"]),
        ("DROP TRIGGER noted", ["trigger noted: missing"]),
        ("DROP VIEW fresh", ["view fresh: missing"]),
        ("DROP TABLE words", ["table words: missing"]),
    ],
)
async def test_what_was_done_by_hand(path: Path, by_hand: str, found: list[str] | int) -> None:
    """A change behind the engine's back is told by name."""
    await made(path)
    sql(path, by_hand)

    differences = await drift(path)
    assert found == (len(differences) if isinstance(found, int) else differences)


@pytest.mark.parametrize(
    ("name", "old", "new", "found"),
    [
        ("run", "'done'", "'DONE'", "table run: column status"),
        ("run", "size * 2", "size * 3", "table run: column double"),
        ("noted", "'New'", "'new'", "trigger noted: changed"),
        ("by_status", "> 1", "> 2", "index by_status: changed"),
        ("log", "It''s  So", "It''s So", "table log: column what"),
    ],
)
async def test_what_was_written_into_the_schema(
    path: Path, name: str, old: str, new: str, found: str
) -> None:
    """A changed CHECK, expression, trigger body, predicate or default is drift."""
    await made(path)
    rewrite(path, lambda text: text.replace(old, new), name)

    (difference,) = await drift(path)
    assert difference.startswith(found)


REFORMATTED: list[Callable[[str], str]] = [
    lambda text: text.replace(" ", "  \n\t").replace("It''s  \n\t  \n\tSo", "It''s  So"),
    lambda text: text.replace("INTEGER", "integer").replace(" status", " STATUS"),
    lambda text: text.replace("(", "( /* why */ ").replace(",", " -- so\n,"),
]


@pytest.mark.parametrize("change", REFORMATTED)
async def test_another_layout_is_no_drift(path: Path, change: Callable[[str], str]) -> None:
    """Spaces, comments, letters and quotes may change wherever they mean nothing."""
    await made(path)
    for name in ("run", "log", "by_status", "fresh", "noted"):
        rewrite(path, change, name)

    assert () == (await ask(path, MigrationManager.validate)).foreign


@pytest.mark.parametrize(
    "by_hand",
    [
        "ANALYZE",
        "INSERT INTO words VALUES ('a')",
        "INSERT INTO words (words) VALUES ('optimize')",
        "VACUUM",
        "REINDEX",
        "PRAGMA user_version = 7",
        "DELETE FROM log",
        "DROP TABLE schema_migrations_log",
    ],
)
async def test_what_changes_no_schema_is_no_drift(path: Path, by_hand: str) -> None:
    """Statistics, data, upkeep, shadow tables and our own log are not compared, even strictly."""
    await made(path)
    sql(path, by_hand)

    assert (await ask(path, lambda m: m.validate(strict=True))).unproven is None


async def test_foreign_objects_are_information(path: Path) -> None:
    """What no migration makes is told, and refused only where that is asked for."""
    await made(path)
    sql(
        path,
        "CREATE TABLE theirs (x)",
        "CREATE INDEX i ON theirs (x)",
        "CREATE INDEX j ON log (run)",
    )

    told = ["index j: not ours", "table theirs: not ours", "index i: not ours"]
    assert told == [str(d) for d in (await ask(path, MigrationManager.validate)).foreign]
    assert told == await drift(path, strict=True)


async def test_a_skipped_validation(path: Path) -> None:
    """With checksums uncompared the schema is not compared either, and nothing is promised."""
    await made(path)
    sql(path, "DROP VIEW fresh")

    assert not await ask(path, MigrationManager.validate, validate_checksums=False)
    async with SingleConnectionPool(path) as pool:  # a start compares checksums alone
        assert not (await migrate_on_startup(pool, MINE)).done


async def test_only_what_is_applied_is_wanted(path: Path) -> None:
    """Pending migrations and those that were rolled back are not missed."""
    await ask(path, lambda m: m.migrate_up(1))
    assert await ask(path, MigrationManager.validate)
    await ask(path, lambda m: m.migrate_down(0))
    assert await ask(path, lambda m: m.validate(strict=True))
    assert not path.with_name("other.db").exists()
    assert await ask(path.with_name("other.db"), lambda m: m.validate(strict=True))
    assert not path.with_name("other.db").exists()


def by_function(connection: sqlite3.Connection) -> None:
    """Make a table."""
    connection.execute("CREATE TABLE made (x)")


def from_rows(connection: sqlite3.Connection) -> None:
    """Make a table for each row, at least for one."""
    for (name,) in connection.execute("SELECT name FROM names").fetchall() or [1 / 0]:
        connection.execute(f"CREATE TABLE {name} (x)")


async def test_functions(path: Path) -> None:
    """What functions make is compared as well; one that needs rows leaves it open, and is told."""
    await made(path, [Migration(1, "Made", by_function)])
    assert await ask(path, lambda m: m.validate(strict=True), [Migration(1, "Made", by_function)])

    other = path.with_name("other.db")
    needy = [
        Migration(1, "Names", "CREATE TABLE names (name)"),
        Migration(2, "From rows", from_rows),
    ]
    await made(other, needy[:1])
    sql(other, "INSERT INTO names VALUES ('a')")
    await made(other, needy)
    found = await ask(other, MigrationManager.validate, needy)
    assert (True, 2, ()) == (bool(found), found.unproven, found.foreign)


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
async def test_a_validation_writes_and_locks_nothing(path: Path, mode: str) -> None:
    """Not a byte is changed, no file left, and it is answered while somebody holds the lock."""
    await made(path)
    sql(path, f"PRAGMA journal_mode = {mode}")
    before = folder(path)
    assert await ask(path, MigrationManager.validate)
    assert before == folder(path)

    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        assert await ask(path, MigrationManager.validate, lock_timeout=0)


# Adoption.


def legacy(path: Path, version: int, extra: str = "") -> None:
    """Make a database as an application did before there was bookkeeping."""
    with closing(sqlite3.connect(path)) as db:
        for migration in MIGRATIONS[:version]:
            db.executescript(str(migration.up))
        db.executescript(extra)


async def test_the_legacy_schema_is_adopted(path: Path) -> None:
    """The database of before is recognised, recorded, and brought to the newest version."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript(LEGACY_SCHEMA)
    done = await ask(path, MigrationManager.migrate_up, MIGRATIONS)

    assert [1, 2, 3, 4, 5] == [s.version for s in (*done.adopted, *done.steps)]
    assert len(done.adopted) > 0
    assert await ask(path, lambda m: m.validate(strict=True), MIGRATIONS)


@pytest.mark.parametrize("extra", ["", "CREATE TABLE theirs (x); CREATE INDEX t ON theirs (x);"])
async def test_versions_one_to_three_are_adopted(path: Path, extra: str) -> None:
    """With foreign tables or without: 1 to 3 are recorded, 4 and 5 run."""
    legacy(path, 3, extra)
    done = await ask(path, MigrationManager.migrate_up, MIGRATIONS)

    assert ([1, 2, 3], [4, 5]) == (
        [s.version for s in done.adopted],
        [s.version for s in done.steps],
    )
    found = await ask(path, MigrationManager.validate, MIGRATIONS)
    assert (["theirs", "t"] if extra else []) == [d.name for d in found.foreign]


async def test_a_column_less_is_refused(path: Path) -> None:
    """One column of 1 to 3 is missing: refused with the version and the column, nothing changed."""
    legacy(path, 3, "ALTER TABLE pipeline_run DROP COLUMN cancelled_at;")
    before = folder(path)
    with pytest.raises(errors.AdoptionRefused) as refused:
        await ask(path, MigrationManager.migrate_up, MIGRATIONS)

    assert (3, ()) == (refused.value.nearest, refused.value.fits)
    assert "table pipeline_run: column cancelled_at: missing" == refused.value.difference
    assert before == folder(path)


# Baseline.


async def test_a_baseline_that_is_proven(path: Path) -> None:
    """The schema is what the migrations make, with others besides: they are recorded."""
    legacy(path, 3, "CREATE TABLE theirs (x);")

    done = await ask(path, lambda m: m.baseline(3), MIGRATIONS)
    assert [1, 2, 3] == [step.version for step in done]
    assert () == await ask(path, lambda m: m.baseline(3), MIGRATIONS)
    assert 2 == len((await ask(path, MigrationManager.migrate_up, MIGRATIONS)).steps)


@pytest.mark.parametrize(
    ("has", "version", "told"),
    [
        (3, 4, "missing"),
        (3, 2, "table performance_metric: not ours"),
        (3, 0, None),
    ],
)
async def test_a_baseline_that_is_not(path: Path, has: int, version: int, told: str | None) -> None:
    """Too high or too low a version is refused with the difference; version 0 is nothing to do."""
    legacy(path, has)
    before = folder(path)
    if told is None:
        assert () == await ask(path, lambda m: m.baseline(version), MIGRATIONS)
        return
    with pytest.raises(errors.NotProven, match=told):
        await ask(path, lambda m: m.baseline(version), MIGRATIONS)

    assert before == folder(path)
    assert version == len(await ask(path, lambda m: m.baseline(version, force=True), MIGRATIONS))


async def test_a_baseline_out_of_range(path: Path) -> None:
    """A version that there is not is no question of proof."""
    for version in (-1, 6):
        with pytest.raises(errors.InvalidTarget):
            await ask(path, lambda m, v=version: m.baseline(v), MIGRATIONS)
    assert not path.exists()


async def test_what_cannot_be_replayed_proves_nothing(path: Path) -> None:
    """Where a function needs rows nothing is proven; force is one's word."""
    needy = [Migration(1, "Needy", from_rows)]
    sql(path, "CREATE TABLE names (name)")
    with pytest.raises(errors.NotProven, match="migration 1 cannot be replayed without rows"):
        await ask(path, lambda m: m.baseline(1), needy)

    assert 1 == len(await ask(path, lambda m: m.baseline(1, force=True), needy))


# Repair.


def forget_checksums(path: Path) -> None:
    """Give a database the checksums that the old Wave program wrote."""
    sql(path, "UPDATE schema_migrations SET checksum = (400 + version) || '-C-;'")


def recorded(path: Path) -> list[tuple[int, str]]:
    """Return what a database records."""
    return sql(path, "SELECT version, checksum FROM schema_migrations ORDER BY version")


async def test_an_old_wave_database(path: Path) -> None:
    """Weak old checksums are refused by `up`, and accepted by a repair once the schema is equal."""
    await made(path, MIGRATIONS)
    good = recorded(path)
    forget_checksums(path)
    with pytest.raises(errors.UnknownChecksum):
        await ask(path, MigrationManager.migrate_up, MIGRATIONS)

    assert [2] == [s.version for s in await ask(path, lambda m: m.repair([2]), MIGRATIONS)]
    assert [1, 3, 4, 5] == [s.version for s in await ask(path, MigrationManager.repair, MIGRATIONS)]
    assert good == recorded(path)
    assert () == await ask(path, MigrationManager.repair, MIGRATIONS)


async def test_an_old_wave_database_that_differs(path: Path) -> None:
    """Where the schema is another nothing is accepted, but on somebody's word."""
    await made(path, MIGRATIONS)
    forget_checksums(path)
    sql(path, "DROP INDEX idx_pipeline_run_status")
    before = folder(path)
    with pytest.raises(errors.NotProven, match="index idx_pipeline_run_status: missing"):
        await ask(path, MigrationManager.repair, MIGRATIONS)

    assert before == folder(path)
    assert 5 == len(await ask(path, lambda m: m.repair(force=True), MIGRATIONS))


async def test_an_edited_migration(path: Path) -> None:
    """An edit that makes the same schema is accepted, one that makes another is not."""
    await made(path, numbered(2))
    first, second = numbered(2)
    same = Migration(2, "Edited", f"{second.up} DELETE FROM t2;")
    other = Migration(2, "Edited", "CREATE TABLE t2 (x INTEGER, y)")

    with pytest.raises(errors.NotProven, match="table t2: column y: missing"):
        await ask(path, MigrationManager.repair, [first, other])
    assert [2] == [s.version for s in await ask(path, MigrationManager.repair, [first, same])]
    assert await ask(path, MigrationManager.validate, [first, same])


async def test_a_repair_of_what_is_not_there(path: Path) -> None:
    """A version that is not applied, or not known, is refused."""
    await made(path, numbered(2))
    for version in (3, 9):
        with pytest.raises(errors.InvalidTarget, match="not an applied migration"):
            await ask(path, lambda m, v=version: m.repair([v]), numbered(3))


class Overtaken(MigrationManager):
    """A manager that somebody overtakes, as soon as it has seen what is applied."""

    overtake: Callable[[], Awaitable[object]] | None = None

    async def applied(self) -> tuple[AppliedMigration, ...]:
        """Look, and let the other one act."""
        found = await super().applied()
        act, self.overtake = self.overtake, None
        if act is not None:
            await act()
        return found


async def test_a_repair_that_is_overtaken(path: Path) -> None:
    """What somebody else migrates between the proof and the lock is proven again."""
    await made(path, numbered(2))
    edited = [
        *numbered(1),
        Migration(2, "Edited", "CREATE TABLE t2(x INTEGER); SELECT 1"),
        numbered(3)[2],
    ]

    async def onwards() -> None:
        await ask(path, lambda m: m.migrate_up(3), numbered(3))

    async with SingleConnectionPool(path) as pool:
        manager = Overtaken(pool, edited)
        manager.overtake = onwards
        assert [2] == [step.version for step in await manager.repair()]

    async def by_hand() -> None:
        forget_checksums(path)
        sql(path, "DROP TABLE t1")

    async with SingleConnectionPool(path) as pool:
        manager = Overtaken(pool, edited)
        manager.overtake = by_hand
        with pytest.raises(errors.NotProven, match="table t1: missing"):
            await manager.repair()


@pytest.mark.parametrize("action", ["repair", "baseline"])
async def test_two_at_once(path: Path, action: str) -> None:
    """Of many that record the same at once one does, and the others find nothing to do."""
    legacy(path, 3)
    if action == "repair":
        await ask(path, lambda m: m.baseline(3), MIGRATIONS)
        forget_checksums(path)

    def act(manager: MigrationManager) -> Awaitable[Any]:
        return manager.repair() if action == "repair" else manager.baseline(3)

    done = await asyncio.gather(*(ask(path, act, MIGRATIONS) for _ in range(8)))
    assert [0] * 7 + [3] == sorted(map(len, done))


# The commands.


DIFF = """\
  index idx_pipeline_run_status: missing
    -CREATE INDEX idx_pipeline_run_status ON pipeline_run (status)
"""


async def test_the_transcript_of_drift(here: Path) -> None:
    """One line of error, then each difference with its lines; exit code 1."""
    await wave("up")
    sql(here, "DROP INDEX idx_pipeline_run_status")

    found = await wave("validate")
    error, *diff = found.stderr.splitlines(keepends=True)
    assert (1, "", DIFF) == (found.exit_code, found.stdout, "".join(diff))
    assert error.endswith("make: index idx_pipeline_run_status: missing\n")
    document = json.loads((await wave("validate", "--json")).stderr)
    assert "ValidationFailed" == document["error"]
    assert "idx_pipeline_run_status" in document["message"]


async def test_the_transcript_of_foreign_objects(here: Path) -> None:
    """They are named after the verdict, escaped; with `--strict` they are the error."""
    await wave("up")
    sql(here, 'CREATE TABLE "odd\n\x1b[31m" (x)')

    found = await wave("validate")
    assert (
        "Migration integrity check passed\nNot made by a migration: table odd\\n\\x1b[31m\n"
    ) == found.stdout
    document = json.loads((await wave("validate", "--json")).stdout)
    assert {
        "validation": "passed",
        "foreign": ["table odd\n\x1b[31m: not ours"],
        "unproven": None,
    } == document
    refused = await wave("validate", "--strict")
    assert 1 == refused.exit_code
    assert "\x1b" not in refused.stderr
    assert "+CREATE TABLE" in refused.stderr


async def test_the_transcripts_of_baseline_and_repair(here: Path) -> None:
    """What is recorded is named, one a line; what is refused says `--force`."""
    here.parent.mkdir()
    legacy(here, 1)
    first = "migration 1: Create initial pipeline and step state tables\n"

    refused = await wave("baseline", 2)
    assert (1, "", True) == (refused.exit_code, refused.stdout, "--force" in refused.stderr)
    assert f"Recorded {first}" == (await wave("baseline", 1)).stdout
    assert "Nothing to do\n" == (await wave("baseline", 1)).stdout
    assert {"recorded": []} == json.loads((await wave("baseline", 1, "--json")).stdout)
    forget_checksums(here)
    assert f"Accepted {first}" == (await wave("repair")).stdout
    assert "Nothing to do\n" == (await wave("repair", 1)).stdout
    assert {"accepted": []} == json.loads((await wave("repair", "--json")).stdout)
    sql(here, "DROP TABLE step_state")
    forget_checksums(here)
    refused = await wave("repair", 1)
    assert "table step_state: missing" in refused.stderr
    assert "\n    -CREATE TABLE step_state" in refused.stderr
    assert f"Accepted {first}" == (await wave("repair", 1, "--force")).stdout


async def test_switched_off(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With migrations off nothing is recorded, but questions are answered."""
    await wave("up")
    monkeypatch.setenv("WAVE_MIGRATION_ENABLED", "false")

    for command in (["baseline", 1], ["repair"]):
        assert "WAVE_MIGRATION_ENABLED" in (await wave(*command)).stderr
    for command in (["validate"], ["plan"], ["log"], ["rehearse"], ["snapshots"]):
        assert 0 == (await wave(*command)).exit_code


@pytest.mark.parametrize("colour", [True, False])
def test_the_colour_of_a_diff(here: Path, monkeypatch: pytest.MonkeyPatch, colour: bool) -> None:  # noqa: FBT001
    """On a terminal what is missing is red and what is not ours green, unless NO_COLOR says no."""
    asyncio.run(made(here, MIGRATIONS))
    sql(here, "DROP INDEX idx_pipeline_run_status", "ALTER TABLE pipeline_run ADD COLUMN x")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if not colour:
        monkeypatch.setenv("NO_COLOR", "1")
    with closing(Terminal([*WAVE, "validate"])) as terminal:
        assert 1 == terminal.end()

    red, green = ("\x1b[31m", "\x1b[32m") if colour else ("", "")
    end = "\x1b[0m" if colour else ""
    assert f"    {red}-CREATE INDEX idx_pipeline_run_status" in terminal.shown
    assert f"    {green}+x{end}\r\n" in terminal.shown
    assert colour == ("\x1b" in terminal.shown)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write in a read-only directory")
async def test_a_read_only_place(path: Path) -> None:
    """Questions are answered where this user may not write, neither the file nor beside it."""
    await made(path)
    path.chmod(0o400)
    path.parent.chmod(0o500)
    try:
        assert await ask(path, MigrationManager.validate)
        assert not await ask(path, MigrationManager.preview_up)
    finally:
        path.parent.chmod(0o700)


async def test_a_reason_instead_of_a_difference(tmp_path: Path) -> None:
    """What cannot be replayed is told in the one line of the error."""
    script, database = tmp_path / "1_t.sql", tmp_path / "app.db"
    chosen = ("--database", database, "--migrations", script.parent)
    script.write_text("CREATE TABLE t (x);")
    await wave(*chosen, "up")
    script.write_text("CREATE TABLE t (x); INSERT INTO nowhere VALUES (1);")

    said = (await wave(*chosen, "repair")).stderr

    assert said.startswith("Error: the edited migrations cannot be accepted: migration 1 cannot")
    assert 1 == said.count("\n")
