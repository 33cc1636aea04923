"""The pytest plugin, in pytest runs of its own: what its fixtures make, what its suite finds.

Each run is a process, as the plugin of this one was imported long before.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

pytest_plugins = ["pytester"]

PROJECT = """
[tool.wave]
migrations = "db"

[tool.pytest.ini_options]
addopts = "-ra -p no:cacheprovider"
filterwarnings = ["error"]
"""
SUITE = "from wave_async.integrations.pytest_suite import TestMigrations as TestMigrations\n"
USERS = "CREATE TABLE users (name TEXT NOT NULL);"


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with two migrations."""
    pytester.makepyprojecttoml(PROJECT)
    pytester.mkdir("db")
    migration(pytester, "1_users", USERS, "DROP TABLE users;")
    migration(pytester, "2_emails", "CREATE TABLE emails (user TEXT);", "DROP TABLE emails;")
    return pytester


def migration(project: pytest.Pytester, name: str, up: str, down: str = "") -> None:
    """Write a migration, over the one of that name."""
    (project.path / "db" / f"{name}.up.sql").write_text(up)
    (project.path / "db" / f"{name}.down.sql").write_text(down)


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run pytest in a process of its own, without what takes longest to import."""
    return project.runpytest_subprocess("-p", "no:hypothesispytest", *arguments, timeout=120)


def suite(project: pytest.Pytester, *arguments: str, **outcomes: int) -> str:
    """Run the ready suite, and return what it says besides the outcomes."""
    project.makepyfile(test_db=SUITE)
    result = run(project, *arguments)
    result.assert_outcomes(**outcomes)
    return result.stdout.str()


# The fixtures.

DATABASE = """
    import sqlite3
    from contextlib import closing

    import pytest

    def rows(path, sql):
        with closing(sqlite3.connect(path)) as connection, connection:
            return connection.execute(sql).fetchall()
"""


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["alone", "xdist"])
def test_a_migrated_database(project: pytest.Pytester, workers: list[str]) -> None:
    """Each test has a fresh file of its own at the newest version, without side files."""
    project.makepyfile(
        DATABASE
        + """
    @pytest.mark.parametrize("n", range(8))
    def test_it(migrated_database, n):
        assert ["migrated.db"] == [p.name for p in migrated_database.parent.iterdir()]
        assert [(1,), (2,)] == rows(migrated_database, "SELECT version FROM schema_migrations")
        assert [("wal",)] == rows(migrated_database, "PRAGMA journal_mode")
        assert [("ok",)] == rows(migrated_database, "PRAGMA integrity_check")
        assert [] == rows(migrated_database, "SELECT * FROM users")
        rows(migrated_database, "INSERT INTO users VALUES ('Ada')")
    """
    )

    run(project, *workers).assert_outcomes(passed=8)


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["alone", "xdist"])
def test_it_is_made_once(project: pytest.Pytester, workers: list[str]) -> None:
    """However many tests want it, the migrations run once in a session, or in each worker."""
    migrations = "import os\nfrom wave_async import Migration\n\ndef note(db):\n"
    migrations += (
        "    with open(os.environ['NOTES'], 'a') as file: file.write(f'{os.getpid()}\\n')\n"
    )
    project.makepyfile(app=migrations + "\nMIGRATIONS = [Migration(1, 'Note', note)]\n")
    (project.path / "pyproject.toml").write_text(PROJECT.replace('"db"', '"app:MIGRATIONS"'))
    project.makepyfile(
        """
    import pytest

    @pytest.mark.parametrize("n", range(20))
    def test_it(migrated_database, n):
        pass
    """
    )
    notes = project.path / "notes"
    notes.touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOTES", str(notes))
        run(project, *workers).assert_outcomes(passed=20)

    processes = notes.read_text().splitlines()
    assert (len(workers) or 1) == len(processes) == len(set(processes))


def test_to_a_version_and_on(project: pytest.Pytester) -> None:
    """`migrate_to` takes one file up with the data in it, and down again, in any kind of test."""
    migration(
        project,
        "3_split",
        "ALTER TABLE users ADD first TEXT; UPDATE users SET first = name;",
        "ALTER TABLE users DROP first;",
    )
    project.makeconftest(
        "import pytest\n\n@pytest.fixture\ndef anyio_backend(): return 'asyncio'\n"
    )
    project.makepyfile(
        DATABASE
        + """
    def test_sync(migrate_to):
        path = migrate_to(2)
        rows(path, "INSERT INTO users VALUES ('Ada')")
        assert path == migrate_to(3)
        assert [("Ada", "Ada")] == rows(path, "SELECT * FROM users")
        assert [("Ada",)] == rows(migrate_to(1), "SELECT * FROM users")
        assert [] == rows(migrate_to(0), "SELECT * FROM schema_migrations")

    @pytest.mark.anyio
    async def test_async(migrate_to, migrated_database):
        import aiosqlite

        async with aiosqlite.connect(migrate_to(2)) as db:
            await db.execute("INSERT INTO users VALUES ('Ada')")
            await db.commit()
            migrate_to(3)
            assert [("Ada", "Ada")] == await db.execute_fetchall("SELECT * FROM users")
        assert migrated_database != migrate_to(3)

    def test_nothing(migrate_to):
        assert [] == rows(migrate_to(0), "SELECT * FROM sqlite_schema")
    """
    )

    run(project).assert_outcomes(passed=3)


def test_a_migration_that_fails(project: pytest.Pytester) -> None:
    """A fixture fails with a sentence, a call raises it into the test; our insides do not show."""
    migration(project, "2_emails", "CREATE TABLE users (x);")
    project.makepyfile(
        """
    from pytest import raises
    from wave_async.errors import InvalidTarget, MigrationFailed

    def test_fixture(migrated_database): pass

    def test_call(migrate_to):
        migrate_to(1)
        migrate_to(2)

    def test_wrong(migrate_to):
        with raises(InvalidTarget, match="above the newest version, 2"):
            migrate_to(3)

    def test_with_data(migrate_to):
        migrate_to(1)
        with raises(MigrationFailed):
            migrate_to(2)
    """
    )

    result = run(project)
    result.assert_outcomes(errors=1, failed=1, passed=2)
    text = result.stdout.str()
    failed = "migration 2 (emails) failed and was rolled back: up script, statement 1, line 1"
    result.stdout.fnmatch_lines(
        ["*ERROR at setup of test_fixture*", f"{failed}*", ">*migrate_to(2)", f"E*{failed}*"]
    )
    assert "workshop.py" not in text
    assert "pytest_plugin.py" not in text
    assert "During handling" not in text


def test_a_function_that_fails(project: pytest.Pytester) -> None:
    """The line of the project's own code is shown, and none of ours above it."""
    project.makeconftest(
        """
    import pytest
    from wave_async import Migration

    def plain(db):
        {}["plain"]

    async def waits(db):
        {}["waits"]

    @pytest.fixture(scope="session")
    def wave_migrations():
        return [Migration(1, "A", "CREATE TABLE a (x);"), Migration(2, "B", [plain])]

    @pytest.fixture(scope="session")
    def async_migrations():
        return [Migration(1, "A", waits)]
    """
    )
    project.makepyfile(
        test_plain="def test_it(migrate_to): migrate_to(2)",
        test_waits="""
    import pytest

    @pytest.fixture(scope="session")
    def wave_migrations(async_migrations):
        return async_migrations

    def test_it(migrate_to): migrate_to(1)
    """,
    )

    result = run(project)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            '>*"plain"*',
            "*direct cause*",
            ">*migrate_to(2)*",
            "E*MigrationFailed: migration 2 (B) failed*",
            '>*"waits"*',
            "*direct cause*",
            ">*migrate_to(1)*",
        ]
    )
    assert "wave_async/" not in result.stdout.str()


def test_other_migrations(project: pytest.Pytester) -> None:
    """`wave_migrations` may be overridden anywhere: by a list in one module, a path in another."""
    project.makepyfile(
        test_list=DATABASE
        + """
    from wave_async import Migration

    @pytest.fixture(scope="session")
    def wave_migrations():
        return [Migration(1, "One", "CREATE TABLE one (x);")]

    def test_it(migrated_database):
        assert [] == rows(migrated_database, "SELECT * FROM one")
    """,
        test_path=DATABASE
        + """
    from pathlib import Path

    @pytest.fixture(scope="session")
    def wave_migrations():
        return Path(__file__).parent / "other"

    def test_it(migrated_database):
        assert [] == rows(migrated_database, "SELECT * FROM other")
    """,
        test_default=DATABASE
        + """
    def test_it(migrated_database):
        assert [] == rows(migrated_database, "SELECT * FROM emails")
    """,
    )
    project.mkdir("other").joinpath("V1__other.sql").write_text("CREATE TABLE other (x);")
    settings = PROJECT.replace('"db"', '"db"\nformat = "pairs"')
    (project.path / "pyproject.toml").write_text(settings)

    run(project).assert_outcomes(passed=3)


def test_the_setup_of_the_project(project: pytest.Pytester) -> None:
    """What the schema needs of a connection is there when the migrations run, in the suite too."""
    project.makepyfile(
        app="def setup(db): db.create_function('twice', 1, lambda x: 2 * x, deterministic=True)\n",
        test_it=SUITE + "def test_it(migrated_database): pass\n",
    )
    migration(project, "3_twice", "CREATE INDEX i ON users (twice(name));", "DROP INDEX i;")
    settings = PROJECT.replace('"db"', '"db"\nsetup = "app:setup"')
    (project.path / "pyproject.toml").write_text(settings)

    run(project).assert_outcomes(passed=6, skipped=1)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ("", "wave-async does not know which migrations to test: name them"),
        ("[tool.wave]\nmigration = 1", "tool.wave.migration='1' is not valid; allowed: only"),
        (
            "[tool.wave]\nmigrations = 'no'",
            "cannot load migrations from *: there is no such folder",
        ),
        ("[tool.wave]\nmigrations = 'db'\nsetup = 'a:b'", "tool.wave.setup='a:b' is not valid*"),
    ],
)
def test_settings_that_are_wrong(project: pytest.Pytester, settings: str, sentence: str) -> None:
    """They are one sentence, and no traceback."""
    (project.path / "pyproject.toml").write_text(settings)
    project.makepyfile("def test_it(migrated_database): pass")

    result = run(project, "--rootdir", str(project.path))
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*ERROR at setup of test_it*", f"{sentence}*"])
    assert "Traceback" not in result.stdout.str()
    assert "settings.py" not in result.stdout.str()


# The suite.


def test_a_good_history(project: pytest.Pytester) -> None:
    """Every test of the suite passes; without a lock file that one is skipped, and says why."""
    text = suite(project, "-v", passed=5, skipped=1)

    assert "test_db.py::TestMigrations::test_every_migration_round_trips PASSED" in text
    assert "there is no lock file; `wave migrate lock` writes it" in text


def test_under_xdist(project: pytest.Pytester) -> None:
    """The suite may be spread over workers."""
    suite(project, "-n", "2", passed=5, skipped=1)


def test_a_lock_file(project: pytest.Pytester) -> None:
    """An edit after the file was written fails, in a sentence; a new layout passes."""
    locked = project.run(sys.executable, "-m", "wave_async", "migrate", "lock")
    assert 0 == locked.ret
    migration(project, "1_users", f"-- ours\n{USERS}", "DROP TABLE users;")
    suite(project, passed=6)

    migration(project, "1_users", USERS.replace("NOT NULL", ""), "DROP TABLE users;")
    text = suite(project, failed=1, passed=5)
    line = f"{project.path}/migrations.lock does not fit: edited migration 1 (users); "
    assert f"\n{line}undo that, or record it: wave migrate lock\n" in text
    assert "During handling" not in text


def test_a_down_that_forgets(project: pytest.Pytester) -> None:
    """The failure shows what the schema was, and what the way down made of it."""
    migration(
        project,
        "2_emails",
        "ALTER TABLE users ADD email TEXT; CREATE INDEX by_email ON users (email);",
        "DROP INDEX by_email; CREATE VIEW v AS SELECT 1;",
    )
    text = suite(project, failed=1, passed=4, skipped=1)

    assert (
        "\nmigration 2 (emails):\n    down does not restore the schema: table users: column email: "
        "left behind; view v: left behind\n"
    ) in text
    assert (
        "\n    table users, before its way up and after its way down:\n        +email TEXT\n"
        "    view v, before its way up and after its way down:\n"
        "        +CREATE VIEW v AS SELECT 1\n"
    ) in text
    assert "trial.py" not in text
    assert "verify.py" not in text


def test_a_migration_that_cannot_be_applied(project: pytest.Pytester) -> None:
    """It is named, with what was not tested after it."""
    migration(project, "2_emails", "CREATE TABLE users (x);", "DROP TABLE users;")
    migration(project, "3_more", "SELECT 1;")
    text = suite(project, "-k", "round_trips", failed=1, deselected=5)

    assert "SQLITE_ERROR: table users already exists\nnot tested: 3\n" in text


def test_loss(project: pytest.Pytester) -> None:
    """What destroys has to say so, once it does all is well; a rebuild destroys nothing."""
    drop = "DROP TABLE emails; DELETE FROM users;"
    rebuild = "CREATE TABLE n (name); INSERT INTO n SELECT * FROM users; DROP TABLE users;"
    migration(project, "3_rebuild", f"{rebuild} ALTER TABLE n RENAME TO users;")
    migration(project, "4_drop", drop)
    text = suite(project, failed=1, passed=4, skipped=1)

    assert (
        "\nmigration 4 (drop) destroys data and does not announce it:\n    drops table emails\n"
        "    deletes rows of table users\n    if that is meant, say `-- wave: loss=allowed` "
    ) in text
    assert "3 (rebuild)" not in text
    migration(project, "4_drop", f"-- wave: loss=allowed\n{drop}")
    suite(project, passed=5, skipped=1)


def test_loss_that_cannot_be_tried(project: pytest.Pytester) -> None:
    """A migration that might destroy, and does not run on empty tables, has to say so, too."""
    migration(project, "3_odd", "INSERT INTO nowhere VALUES (1); DROP TABLE emails;")
    text = suite(project, "-k", "loss", failed=1, deselected=5)

    assert "    could not be tried out: SQLITE_ERROR: no such table: nowhere\n" in text


def test_two_heads(project: pytest.Pytester) -> None:
    """Two migrations of one number fail one test; what cannot be tested then is skipped."""
    migration(project, "2_names", "SELECT 1;")
    text = suite(project, failed=1, passed=1, skipped=4)

    assert "test_single_head _" in text
    assert "During handling" not in text
    assert (
        "\nversion 2 is used twice: '2_emails.down.sql' and '2_names.down.sql'; renumber one\n"
        in text
    )


def test_two_heads_of_an_iterator(project: pytest.Pytester) -> None:
    """Migrations that can be told only once are the same ones in each test."""
    project.makeconftest(
        """
    import pytest
    from wave_async import Migration

    @pytest.fixture(scope="session")
    def wave_migrations():
        return (Migration(1, name, "SELECT 1;") for name in "ab")
    """
    )
    text = suite(project, failed=1, passed=1, skipped=4)

    assert "\nversion 1 is used twice: 'a' and 'b'; renumber one\n" in text


@pytest.mark.parametrize(
    ("name", "gap"),
    [("4_later", True), ("20260101_later", False)],
    ids=["counted", "timestamps"],
)
def test_a_gap(project: pytest.Pytester, name: str, *, gap: bool) -> None:
    """A number that is left out fails; going over to timestamps leaves none out."""
    migration(project, name, "SELECT 1;")
    text = suite(project, failed=int(gap), passed=5 - gap, skipped=1)

    assert gap == ("\nmigration 3 is missing before 4; versions are numbered without" in text)


def test_a_gap_in_a_list(project: pytest.Pytester) -> None:
    """A list in code may have none at all, and is refused for it."""
    project.makeconftest(
        """
    import pytest
    from wave_async import Migration

    @pytest.fixture(scope="session")
    def wave_migrations():
        return [Migration(1, "A", ""), Migration(3, "C", "")]
    """
    )
    text = suite(project, failed=1, passed=2, skipped=3)

    assert "\nmigration 2 is missing before 3; versions are numbered without" in text


def test_a_script_that_cannot_be_read(project: pytest.Pytester) -> None:
    """It fails a test of its own, naming the file and the line."""
    migration(project, "2_emails", "SELECT 'x;")
    text = suite(project, failed=1, passed=1, skipped=4)

    assert "test_can_be_read _" in text
    assert "\nmigration 2 (2_emails.up.sql), up script, line 1: " in text


def test_a_subclass_leaves_a_test_out(project: pytest.Pytester) -> None:
    """A project that wants all but one test says so."""
    project.makepyfile(
        """
    from wave_async.integrations import pytest_suite

    class TestOurs(pytest_suite.TestMigrations):
        test_no_gap = None
    """
    )

    run(project).assert_outcomes(passed=4, skipped=1)


# What it costs who does not use it.


def test_who_does_not_use_it_does_not_pay(pytester: pytest.Pytester) -> None:
    """The plugin is there, and neither the engine nor anything that it needs is imported."""
    pytester.makepyfile(
        """
    import json, sys

    def test_it(pytestconfig):
        assert pytestconfig.pluginmanager.hasplugin("wave_async")
        with open("modules", "w") as file:
            json.dump(sorted(sys.modules), file)
    """
    )
    run(pytester, "-p", "no:anyio", "-p", "no:cov").assert_outcomes(passed=1)

    modules = json.loads((pytester.path / "modules").read_text())
    assert {
        "wave_async",
        "wave_async.errors",
        "wave_async.integrations",
        "wave_async.integrations.pytest_plugin",
    } == {name for name in modules if name.startswith("wave_async")}
    assert {"aiosqlite", "anyio", "asyncclick"}.isdisjoint(modules)


def test_it_does_not_need_the_command_line(project: pytest.Pytester) -> None:
    """Databases and the suite are made without asyncclick."""
    project.makeconftest("import sys\nsys.modules['asyncclick'] = None\n")
    project.makepyfile(test_one="def test_it(migrated_database, migrate_to): migrate_to(1)")

    suite(project, passed=6, skipped=1)


def test_the_fixtures_explain_themselves(pytester: pytest.Pytester) -> None:
    """`pytest --fixtures` tells what there is."""
    result = run(pytester, "--fixtures")

    for name in ("migrated_database", "migrate_to", "wave_migrations [[]session scope]"):
        result.stdout.fnmatch_lines([f"{name} -- *"])


def test_coverage_of_a_project(project: pytest.Pytester) -> None:
    """Code of a project that only a migration runs is measured, in all its lines."""
    project.makepyfile(
        app="from wave_async import Migration\n\ndef fill(db):\n    db.execute('SELECT 1')\n\n"
        "MIGRATIONS = [Migration(1, 'Fill', fill)]\n",
        test_it="def test_it(migrated_database): pass\n",
    )
    (project.path / "pyproject.toml").write_text(PROJECT.replace('"db"', '"app:MIGRATIONS"'))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG", "COVERAGE_FILE"):
            patch.delenv(name, raising=False)
        result = run(project, "--cov=app", "--cov-report=term-missing")

    result.stdout.fnmatch_lines(["app.py * 100%*"])
    assert Path(project.path / ".coverage").exists()


# The page.


def test_the_page_is_so(project: pytest.Pytester) -> None:
    """The examples of the page pass, and its failure and its lock file are what is printed."""
    page = (Path(__file__).parents[1] / "docs" / "testing.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(\w*)\n(.*?)```", page, re.DOTALL)
    fresh, between, other, line, subclass = (text for kind, text in blocks if kind == "python")
    failure, locked = (text for kind, text in blocks if not kind)
    split = "ALTER TABLE users ADD first TEXT; UPDATE users SET first = 'Ada';"
    migration(project, "3_split", split, "ALTER TABLE users DROP first;")
    project.makepyfile(
        test_use=fresh + "\n" + between,
        test_other=other + "\ndef test_it(migrated_database): pass\n",
        test_suite=line,
        test_less=subclass,
    )
    run(project).assert_outcomes(passed=3 + 5 + 4, skipped=2)

    project.run(sys.executable, "-m", "wave_async", "migrate", "lock")
    text = (project.path / "migrations.lock").read_text()
    shown = re.sub(r"(?m)^3 .*\n", "", re.sub(r"\b[0-9a-f]{64}\b", "...", text))
    assert re.sub(r"[0-9a-f]{6}\.\.\.", "...", locked) == shown
    email = "ALTER TABLE users ADD email TEXT;"
    migration(project, "2_emails", email, "SELECT 1;")
    project.makepyfile(test_suite=line)
    assert f"\n{failure}" in run(project, "test_suite.py", "-k", "round_trips").stdout.str()
