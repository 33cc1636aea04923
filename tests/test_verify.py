"""Verification: what it proves of good migrations, and what it finds in broken ones."""

from __future__ import annotations

import json
import sqlite3
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from asyncclick.testing import CliRunner
from conftest import numbered

from wave_async import Migration, MigrationManager, SingleConnectionPool, Verification
from wave_async.cli import cli
from wave_async.database.requests import Rollback
from wave_async.database.session import Hop
from wave_async.definitions import MIGRATIONS
from wave_async.model.catalogue import Catalogue
from wave_async.model.migration import Direction, Step, Work
from wave_async.safety.verify import verify

pytestmark = pytest.mark.once

RUNS = "CREATE TABLE runs (id INTEGER PRIMARY KEY, state TEXT NOT NULL, note TEXT);"
FIRST = Migration(1, "Create runs", RUNS, "DROP TABLE runs;")
WITH_ROWS = " (on tables with rows)"


async def verified(*migrations: Migration, **options: Any) -> Verification:
    """Verify a list of migrations."""
    return await verify(Catalogue(migrations), **options)


async def of_second(up: Work, down: Work = "", **options: Any) -> Verification:
    """Verify a migration after the one that makes `runs`."""
    return await verified(FIRST, Migration(2, "The second", up, down, **options))


def folder(path: Path) -> list[str]:
    """Return the names of what is beside a file."""
    return [found.name for found in path.parent.iterdir()]


def problems(verification: Verification) -> list[tuple[str, ...]]:
    """Return the problems of each migration, and those of the whole list where it has some."""
    own = [m.problems for m in verification.migrations]
    return [*own, verification.problems] if verification.problems else own


async def test_waves_own_migrations_pass() -> None:
    """All five come back, are stopped at many moments, and every table of theirs gets rows."""
    found = await verified(*MIGRATIONS)

    assert found.ok
    assert [1, 2, 3, 4, 5] == [m.version for m in found.migrations]
    assert ((), (), ()) == (found.irreversible, found.unseeded, found.unverified)
    assert all(m.interrupts > 4 for m in found.migrations)


BROKEN_DOWNS = {
    "forgets an index": (
        "CREATE INDEX by_state ON runs (state); CREATE INDEX by_note ON runs (note);",
        "DROP INDEX by_note;",
        "down does not restore the schema: index by_state: left behind",
    ),
    "drops too much": (
        "CREATE TABLE steps (id INTEGER PRIMARY KEY);",
        "DROP TABLE steps; DROP TABLE runs;",
        "down does not restore the schema: table runs: missing",
    ),
    "leaves a table": (
        "CREATE TABLE steps (x INT); CREATE TABLE parts (x INT);",
        "DROP TABLE parts;",
        "down does not restore the schema: table steps: left behind",
    ),
    "leaves a column": (
        "ALTER TABLE runs ADD COLUMN x INT; CREATE INDEX i ON runs (x);",
        "DROP INDEX i;",
        "down does not restore the schema: table runs: column x: left behind",
    ),
    "restores another type": (
        "ALTER TABLE runs DROP COLUMN note;",
        "ALTER TABLE runs ADD COLUMN note BLOB;",
        "down does not restore the schema: table runs: column note: TEXT -> BLOB",
    ),
    "restores another check": (
        "DROP TABLE checked;",
        "CREATE TABLE checked (x INT CHECK (x > 1));",
        (
            "down does not restore the schema: table checked: "
            "column x: INT CHECK (x > 0) -> INT CHECK (x > 1)"
        ),
    ),
    "loses rows": (
        "CREATE INDEX i ON runs (state);",
        "DROP INDEX i; DELETE FROM runs WHERE note IS NULL;",
        "down loses or changes 1 row(s) of table runs that up had kept" + WITH_ROWS,
    ),
    "changes rows": (
        "CREATE INDEX i ON runs (state);",
        "DROP INDEX i; UPDATE runs SET state = 'x';",
        "down loses or changes 3 row(s) of table runs that up had kept" + WITH_ROWS,
    ),
    "loses rows together with those of its up": (
        "INSERT INTO runs (state) VALUES ('new'), ('old');",
        "DELETE FROM runs;",
        "down loses or changes 3 row(s) of table runs that up had kept" + WITH_ROWS,
    ),
    "leaves the rows of its up": (
        "INSERT INTO runs (state) VALUES ('new'), ('old');",
        "DELETE FROM runs WHERE state = 'old';",
        "down leaves 1 row(s) in table runs that up had added",
    ),
}


@pytest.mark.parametrize(("up", "down", "told"), BROKEN_DOWNS.values(), ids=BROKEN_DOWNS.keys())
async def test_a_broken_down_is_caught(up: str, down: str, told: str) -> None:
    """A down that does not restore what was there is a problem, and the difference is named."""
    checked = "CREATE TABLE checked (x INT CHECK (x > 0));"
    first = replace(FIRST, up=RUNS + checked, down="DROP TABLE checked; DROP TABLE runs;")

    third = Migration(3, "The third", "ALTER TABLE runs ADD COLUMN y;", "ALTER TABLE runs DROP y;")

    found = await verified(first, Migration(2, "The second", up, down), third)

    assert not found.ok
    assert told in found.migrations[1].problems
    assert ((), ()) == (found.migrations[0].problems, found.migrations[2].problems)


GOOD_DOWNS = {
    "rebuilds there and back": (
        (
            "CREATE TABLE n (id INTEGER PRIMARY KEY, state TEXT NOT NULL, note TEXT, x INT);"
            "INSERT INTO n SELECT *, 1 FROM runs; DROP TABLE runs; ALTER TABLE n RENAME TO runs;"
        ),
        "ALTER TABLE runs DROP COLUMN x;",
    ),
    "computes there and back": (
        "UPDATE runs SET state = state || '!';",
        "UPDATE runs SET state = substr(state, 1, length(state) - 1);",
    ),
    "renames there and back": (
        "ALTER TABLE runs RENAME COLUMN note TO remark;",
        "ALTER TABLE runs RENAME COLUMN remark TO note;",
    ),
}


@pytest.mark.parametrize(("up", "down"), GOOD_DOWNS.values(), ids=GOOD_DOWNS.keys())
async def test_a_good_down_is_good(up: str, down: str) -> None:
    """A down that restores schema and rows is no problem, however it does it."""
    found = await of_second(up, down)

    assert ([(), ()], ()) == (problems(found), found.migrations[1].notes)


@pytest.mark.parametrize(
    ("up", "down"),
    [
        ("ALTER TABLE runs DROP COLUMN note;", "ALTER TABLE runs ADD COLUMN note TEXT;"),
        ("DROP TABLE runs;", RUNS),
        ("UPDATE runs SET state = 'x';", "SELECT 1;"),
        ("DELETE FROM runs WHERE note IS NULL;", "SELECT 1;"),
    ],
)
async def test_what_an_up_took_away_need_not_come_back(up: str, down: str) -> None:
    """Rows that a down cannot bring back are told, and are no problem."""
    found = await of_second(up, down)

    note = "down does not bring back what up changed in the rows of table runs"
    assert ([(), ()], (note,)) == (problems(found), found.migrations[1].notes)


@pytest.mark.parametrize(
    ("up", "reason"),
    [
        ("CREATE UNIQUE INDEX i ON runs (state);", "UNIQUE constraint failed: runs.state"),
        (
            (
                "CREATE TABLE n (id INTEGER PRIMARY KEY, state TEXT NOT NULL, note TEXT NOT NULL);"
                "INSERT INTO n SELECT * FROM runs; DROP TABLE runs; ALTER TABLE n RENAME TO runs;"
            ),
            "NOT NULL constraint failed: n.note",
        ),
    ],
)
async def test_what_works_on_empty_tables_alone_is_found(up: str, reason: str) -> None:
    """It is a problem, it goes on without rows, and what follows is verified as ever."""
    second = Migration(2, "The second", up + "CREATE TABLE later (x);")
    third = Migration(3, "The third", "CREATE TABLE t (x INT); DROP TABLE later;", "SELECT 1;")

    found = await verified(FIRST, second, third)

    (problem,) = found.migrations[1].problems
    assert problem.endswith(reason + WITH_ROWS)
    assert ("went on without rows",) == found.migrations[1].notes
    assert found.migrations[1].interrupts > 4
    told = "down does not restore the schema: table later: missing; table t: left behind"
    assert told == found.migrations[2].problems[0]
    assert not any(text.endswith(WITH_ROWS) for text in found.migrations[2].problems)


async def test_an_up_that_cannot_be_done_again_is_caught() -> None:
    """What a down leaves behind may stop the next up; that is said, too."""
    found = await of_second("CREATE TABLE t (x);", "SELECT 1;")

    left, again = found.migrations[1].problems
    assert "down does not restore the schema: table t: left behind" == left
    assert again.startswith("up again after its down: migration 2 (The second) failed")
    assert again.endswith("table t already exists")


async def test_an_up_that_makes_something_else_the_second_time_is_caught() -> None:
    """A step in Python may look at what it finds."""

    def up(connection: sqlite3.Connection) -> None:
        ((times,),) = connection.execute("PRAGMA user_version").fetchall()
        connection.execute(f"PRAGMA user_version = {times + 1}")
        connection.execute(f"CREATE TABLE t (x CHECK (x > {times}))")

    found = await of_second(up, "DROP TABLE t;")

    (problem,) = found.migrations[1].problems
    assert problem.startswith("up again after its down makes another schema: table t: column x")


async def test_down_to_zero_leaves_nothing() -> None:
    """What is left at the end, although each down for itself is good, is told of the whole list."""

    def down(connection: sqlite3.Connection) -> None:
        if not connection.execute("SELECT * FROM runs").fetchall():
            connection.execute("DROP TABLE runs")

    found = await verified(replace(FIRST, down=down))

    told = "down to 0 leaves something: table runs: left behind"
    assert [(), (told,)] == problems(found)
    assert not found.ok


async def test_a_down_that_fails_on_what_came_later_is_caught() -> None:
    """A down alone may be fine, and fail on the rows of the whole schema."""
    strict = RUNS.replace("note TEXT", "note TEXT NOT NULL")
    rebuild = (
        "ALTER TABLE runs RENAME TO old; {} INSERT INTO runs SELECT * FROM old; DROP TABLE old;"
    )

    found = await verified(
        replace(FIRST, up=strict),
        Migration(2, "Allow NULL", rebuild.format(RUNS), rebuild.format(strict)),
    )

    (problem,) = found.migrations[1].problems
    assert problem.endswith("NOT NULL constraint failed: runs.note" + WITH_ROWS)


async def test_a_migration_without_a_way_down_is_no_problem() -> None:
    """It is listed, stopped at many moments as any other, and nothing is rolled back over it."""
    found = await of_second("CREATE TABLE t (x);")

    assert found.ok
    assert (2,) == found.irreversible
    assert found.migrations[1].interrupts > 4


async def test_a_migration_that_fails_ends_it() -> None:
    """Its error is its problem; what comes after it is not verified."""
    bad = Migration(2, "Bad", "CREATE TABLE t (x); CREATE TABLE t (x);")

    found = await verified(FIRST, bad, *[replace(m, version=m.version + 2) for m in numbered(2)])

    (problem,) = found.migrations[1].problems
    assert problem.startswith(
        "migration 2 (Bad) failed and was rolled back: up script, statement 2"
    )
    assert ((3, 4), False) == (found.unverified, found.ok)


async def test_a_down_that_fails_is_a_problem() -> None:
    """The next migrations are verified all the same."""
    found = await verified(
        FIRST,
        Migration(2, "Bad", "CREATE TABLE t (x);", "DROP TABLE u;"),
        Migration(3, "Good", "CREATE TABLE u (x);", "DROP TABLE u;"),
    )

    assert [0, 1, 0] == [len(found) for found in problems(found)]
    assert found.migrations[1].problems[0].endswith("no such table: u")


async def test_python_steps_are_run() -> None:
    """Functions of both kinds go there and back and are interrupted."""

    def up(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE t (x)")

    async def down(db: aiosqlite.Connection) -> None:
        await db.execute("DROP TABLE t")

    found = await of_second(up, down)

    assert found.ok
    assert found.migrations[1].interrupts > 4


async def test_each_statement_of_a_function_is_interrupted() -> None:
    """A function is no blind spot: each of its statements is interrupted from its first step on."""

    def up(connection: sqlite3.Connection) -> None:
        for n in range(20):
            connection.execute(f"CREATE TABLE t{n} (x)")

    script = "".join(f"CREATE TABLE t{n} (x);" for n in range(20))

    by_function, by_script = await of_second(up), await of_second(script)

    assert by_function.ok
    assert by_script.interrupts == by_function.interrupts


async def test_a_step_that_swallows_an_interrupt_is_caught() -> None:
    """Half of it would be committed: SQLite itself rolls back an interrupted write, but no read."""

    def up(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE t (x)")
        try:
            connection.execute("SELECT count(*) FROM runs").fetchall()
        except sqlite3.Error:
            return
        connection.execute("CREATE TABLE u (x)")

    found = await of_second(up)

    told = "up, when interrupted, goes on and commits something else: table u: missing"
    assert (told + WITH_ROWS,) == found.migrations[1].problems


async def test_what_an_interrupt_leaves_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that did not roll back would be found out."""

    def commit(hop: Any, _: Rollback) -> bool:
        was_open: bool = hop._connection.in_transaction
        if was_open:
            hop._cleanup("COMMIT")
        return was_open

    def up(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("SELECT count(*) FROM runs").fetchall()

    monkeypatch.setitem(Hop._SERVE, Rollback, commit)

    found = await of_second(up)

    told = "up, when interrupted, does not leave everything as it was: table t: left behind"
    assert (told + WITH_ROWS,) == found.migrations[1].problems


async def test_thorough_is_every_moment() -> None:
    """It interrupts many times more often, on tables with rows and without."""
    sampled = await verified(FIRST)
    every = await verified(FIRST, thorough=True)

    assert every.ok
    assert every.interrupts > 5 * sampled.interrupts


async def test_outside_a_transaction_it_is_only_applied() -> None:
    """What needs no transaction can neither be rolled back nor interrupted."""
    found = await of_second("VACUUM;", transaction=False)

    assert found.ok
    assert 0 == found.migrations[1].interrupts


async def test_a_statement_without_end_is_ended() -> None:
    """The time limit of a statement is a problem of its migration."""
    forever = (
        "CREATE TABLE t AS WITH n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT * FROM n;"
    )

    found = await verified(Migration(1, "Forever", forever), statement_timeout=0.2)

    assert "ended after 0.2 s" in found.migrations[0].problems[0]


async def test_setup_and_events() -> None:
    """The application's own functions are there; each migration is told before it is tried."""
    steps: list[Step] = []

    def setup(connection: sqlite3.Connection) -> None:
        connection.create_function("twice", 1, lambda x: 2 * x, deterministic=True)

    up = "CREATE TABLE t (x INT NOT NULL CHECK (twice(x) > 4));"
    found = await verified(
        Migration(1, "Own", up, "DROP TABLE t;"), setup=setup, on_step=steps.append
    )

    assert found.ok
    assert [Step(Direction.UP, 1, "Own")] == steps


async def test_what_has_no_rows_is_listed() -> None:
    """A table that no row could be made up for is named; that is no problem."""
    found = await of_second("CREATE TABLE t (x INT NOT NULL CHECK (x < 1 AND x > 1));")

    assert (("t", "CHECK constraint failed: x < 1 AND x > 1"),) == found.unseeded
    assert found.ok


async def test_nothing_to_verify_is_fine() -> None:
    """An empty list has no problems."""
    assert Verification(()) == await verified()


async def test_the_manager_leaves_the_database_alone(path: Path) -> None:
    """Everything happens in memory; not even the file is made."""
    async with SingleConnectionPool(path) as pool:
        found = await MigrationManager(pool, numbered(2)).verify()

    assert found.ok
    assert [] == folder(path)


TRANSCRIPT = """\
[x] 1: Create runs
[!] 2: Add t (irreversible)
    migration 2 (Add t) failed and was rolled back: up script, statement 1, line 1: \
CREATE UNIQUE INDEX i ON runs (state): SQLITE_CONSTRAINT_UNIQUE: UNIQUE constraint failed: \
runs.state (on tables with rows)
    note: went on without rows

Verification failed: 1 problem(s)
"""


async def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It prints what was found, and exits with 1 if there are problems."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    text = (
        "from wave_async import Migration\n"
        f"bad = [Migration(1, 'Create runs', {RUNS!r}, 'DROP TABLE runs'), "
        "Migration(2, 'Add t', 'CREATE UNIQUE INDEX i ON runs (state)')]\n"
    )
    source = tmp_path / "verified.py"
    source.write_text(text)

    bad = await CliRunner().invoke(cli, ["migrate", "--migrations", "verified:bad", "verify"])
    good = await CliRunner().invoke(cli, ["migrate", "verify"])

    assert (TRANSCRIPT, "", 1) == (bad.stdout, bad.stderr, bad.exit_code)
    assert good.stdout.splitlines()[-1].startswith("Verified 5 migration(s), ")
    assert 0 == good.exit_code
    assert ["verified.py"] == [name for name in folder(source) if name.endswith((".py", ".db"))]


async def test_the_json_of_the_command() -> None:
    """It is one document with everything that was found."""
    result = await CliRunner().invoke(cli, ["migrate", "verify", "--json"])

    document = json.loads(result.stdout)
    assert [True, [], [], []] == [
        document[key] for key in ("ok", "problems", "unseeded", "unverified")
    ]
    found = {"version", "description", "reversible", "problems", "notes", "interrupts"}
    assert {*found, "differences"} == set(document["migrations"][0])
