"""Migration files as people have them: what each format's files mean, and what is refused."""

from __future__ import annotations

import inspect
import os
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from contextlib import closing
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import pytest

from wave_async import Migration, MigrationManager, SingleConnectionPool, load_migrations
from wave_async.errors import ConfigError, DefinitionError, SourceNotFound
from wave_async.model.catalogue import Entry
from wave_async.sources.assembly import runs_only_outside
from wave_async.sources.settings import read_settings, resolve

SHELL = shutil.which("sqlite3")

USERS = "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL DEFAULT 'a;b');\n"
LOG = """CREATE TABLE log (user INTEGER REFERENCES users, what TEXT);
CREATE TRIGGER noted AFTER INSERT ON users BEGIN
  INSERT INTO log VALUES (new.id, 'made');
  UPDATE log SET what = CASE WHEN new.id > 1 THEN 'later' ELSE 'first' END;
END;
"""
MAIL = "ALTER TABLE users ADD COLUMN mail TEXT;\nCREATE INDEX by_mail ON users (mail);\n"
NO_MAIL = "DROP INDEX by_mail;\nALTER TABLE users DROP COLUMN mail;\n"
NO_LOG = "DROP TRIGGER noted;\nDROP TABLE log;\n"
NO_USERS = "DROP TABLE users;\n"

JOURNAL = """{"version": "7", "dialect": "sqlite", "entries": [
  {"idx": 0, "version": "6", "when": 1700000000000, "tag": "0000_users", "breakpoints": true},
  {"idx": 1, "version": "6", "when": 1700000001000, "tag": "0001_log", "breakpoints": true},
  {"idx": 2, "version": "6", "when": 1700000002000, "tag": "0002_mail", "breakpoints": true}
]}"""

HISTORIES: dict[str, tuple[dict[str, str], list[int]]] = {
    "golang-migrate": (
        {
            "1_users.up.sql": USERS,
            "1_users.down.sql": NO_USERS,
            "2_log.up.sql": LOG,
            "2_log.down.sql": NO_LOG,
            "10_mail.up.sql": MAIL,
            "10_mail.down.sql": NO_MAIL,
        },
        [1, 2, 10],
    ),
    "pairs with V and a dot": (
        {
            "V001.users.up.sql": USERS,
            "V001.users.down.sql": NO_USERS,
            "V002.log.up.sql": LOG,
            "V002.log.down.sql": NO_LOG,
            "V003.mail.up.sql": MAIL,
            "V003.mail.down.sql": NO_MAIL,
        },
        [1, 2, 3],
    ),
    "sqlx": (
        {
            "20240101120000_users.sql": USERS,
            "20240102120000_log.sql": LOG,
            "20240102120001_mail.sql": f"-- no-transaction\n{MAIL}",
            "README.md": "how we migrate",
        },
        [20240101120000, 20240102120000, 20240102120001],
    ),
    "goose": (
        {
            "00001_users.sql": f"-- +goose Up\n{USERS}\n-- +goose Down\n{NO_USERS}",
            "00002_log.sql": (
                "-- Log what users do.\n-- +goose UP\n-- +goose StatementBegin\n"
                f"{LOG.removesuffix(chr(10)).removesuffix(';')}\n-- +goose StatementEnd\n"
                f"-- +goose down\n-- +goose statementbegin\n{NO_LOG}-- +goose statementend\n"
            ),
            "00003_mail.sql": (
                f"-- +goose NO TRANSACTION\n--+goose up\n{MAIL}-- +goose Down\n{NO_MAIL}"
            ),
        },
        [1, 2, 3],
    ),
    "dbmate": (
        {
            "20240101_users.sql": f"-- migrate:up\n{USERS}\n-- migrate:down\n{NO_USERS}",
            "20240102_log.sql": f"-- migrate:up\n{LOG}\n-- migrate:down\n{NO_LOG}",
            "20240103_mail.sql": (
                f"-- migrate:up transaction:false\n{MAIL}-- migrate:down transaction:false\n"
                f"{NO_MAIL}"
            ),
        },
        [20240101, 20240102, 20240103],
    ),
    "diesel": (
        {
            "00000000000000_diesel_initial_setup/up.sql": USERS,
            "00000000000000_diesel_initial_setup/down.sql": NO_USERS,
            "2023-05-01-120000_log/up.sql": LOG,
            "2023-05-01-120000_log/down.sql": NO_LOG,
            "2024-11-18-182736-0000_mail/up.sql": MAIL,
            "2024-11-18-182736-0000_mail/down.sql": NO_MAIL,
            "2024-11-18-182736-0000_mail/metadata.toml": "run_in_transaction = false\n",
        },
        [0, 20230501120000, 202411181827360000],
    ),
    "prisma": (
        {
            "0_init/migration.sql": USERS,
            "0_init/down.sql": NO_USERS,
            "20240101120000_log/migration.sql": LOG,
            "20240101120000_log/down.sql": NO_LOG,
            "20240102120000_mail/migration.sql": MAIL,
            "20240102120000_mail/down.sql": NO_MAIL,
            "migration_lock.toml": 'provider = "sqlite"\n',
        },
        [0, 20240101120000, 20240102120000],
    ),
    "rusqlite": (
        {
            "01-users/up.sql": USERS,
            "01-users/down.sql": NO_USERS,
            "02-the_log/up.sql": LOG,
            "02-the_log/down.sql": NO_LOG,
            "03-mail/up.sql": MAIL,
            "03-mail/down.sql": NO_MAIL,
        },
        [1, 2, 3],
    ),
    "drizzle": (
        {
            "meta/_journal.json": JOURNAL,
            "meta/0000_snapshot.json": "{}",
            "0000_users.sql": USERS,
            "0001_log.sql": LOG.replace(";\nCREATE", "\n--> statement-breakpoint\nCREATE"),
            "0002_mail.sql": MAIL.replace(";\nC", ";--> statement-breakpoint\nC"),
        },
        [0, 1, 2],
    ),
    "flyway": (
        {
            "V1__users.sql": USERS.replace("users", "${Table}"),
            "V1.9__log.sql": LOG,
            "V1_10__mail.sql": MAIL,
            "U1__users.sql": NO_USERS.replace("users", "${table}"),
            "U1.9.0__no_log.sql": NO_LOG,
            "U1_10__mail.sql": NO_MAIL,
            "V1_10__mail.sql.conf": "executeInTransaction=false\n",
        },
        [1_000_000_000, 1_009_000_000, 1_010_000_000],
    ),
    "refinery": (
        {"V1__users.sql": USERS, "U2__log.sql": LOG, "V10__mail.sql": MAIL},
        [1, 2, 10],
    ),
    "python": (
        {
            "0001_users.py": f"up = {USERS!r}\ndown = {NO_USERS!r}\n",
            "0002_log.py": f"import json\nup = {LOG!r}\ndown = {NO_LOG!r}\n",
            "0003_mail.py": f"# wave: foreign_keys=on\nup = {MAIL!r}\ndown = {NO_MAIL!r}\n",
            "__init__.py": "",
            "helpers.py": "raise ValueError('nobody runs this')\n",
        },
        [1, 2, 3],
    ),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "flyway": {"placeholders": {"TABLE": "users"}},
    "refinery": {"format": "refinery"},
}
FORWARD_ONLY = {"sqlx", "drizzle", "refinery"}


def written(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write files into a folder and return it."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def schema(path: Path) -> list[Any]:
    """Return everything that a database has, but for our own table."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_schema"
            " WHERE name NOT LIKE 'schema_migrations%'"
        ).fetchall()


def from_shell(path: Path, *scripts: str) -> list[Any]:
    """Return what the sqlite3 shell makes of scripts; where there is none, `executescript`."""
    if SHELL:
        subprocess.run([SHELL, "-bail", path], input="".join(scripts), text=True, check=True)
    else:
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript("".join(scripts))
    return schema(path)


@pytest.mark.parametrize("name", HISTORIES)
async def test_a_history_makes_what_the_shell_makes(name: str, tmp_path: Path, path: Path) -> None:
    """Each format's files are applied in the order of its own tool, and rolled back by its downs.

    There is no way below version 0, with which drizzle, diesel and prisma may begin.
    """
    files, versions = HISTORIES[name]
    loaded = load_migrations(written(tmp_path / "m", files), **OPTIONS.get(name, {}))
    async with SingleConnectionPool(path) as pool:
        manager = MigrationManager(pool, loaded)

        assert versions == [step.version for step in (await manager.migrate_up()).steps]
        assert from_shell(tmp_path / "up.db", USERS, LOG, MAIL) == schema(path)
        if name in FORWARD_ONLY:
            assert [""] * 3 == [migration.down for migration in loaded]
            return
        down = await manager.migrate_down(0)
        assert [v for v in reversed(versions) if v] == [step.version for step in down.steps]
        left = [] if versions[0] else [USERS]
        assert from_shell(tmp_path / "down.db", *left) == schema(path)


async def test_layout_may_change(tmp_path: Path, path: Path) -> None:
    """A file whose line ends, comments and layout were edited is as it was applied."""
    folder = written(tmp_path / "m", {"1_users.sql": USERS, "2_log.sql": LOG})
    async with SingleConnectionPool(path) as pool:
        await MigrationManager(pool, load_migrations(folder)).migrate_up()

        written(
            folder,
            {
                "1_users.sql": f"\ufeff-- who\n{USERS}".replace("\n", "\r\n"),
                "2_log.sql": LOG.replace("  ", "\n\t/* ; */"),
            },
        )
        assert await MigrationManager(pool, load_migrations(folder)).validate()


@pytest.mark.parametrize("name", HISTORIES)
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_a_package_has_what_its_folder_has(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, packed: bool
) -> None:
    """The resources of a package, on a disk or in a zip, are read as a folder is."""
    files, _ = HISTORIES[name]
    package = f"app_{list(HISTORIES).index(name)}_{packed:d}"
    folder = written(tmp_path / "m", files)
    if packed:
        with zipfile.ZipFile(tmp_path / "app.zip", "w") as archive:
            archive.writestr(f"{package}/__init__.py", "")
            archive.writestr(f"{package}/migrations/__init__.py", "")
            for file in files.keys() - {"__init__.py"}:
                archive.writestr(f"{package}/migrations/{file}", files[file])
        monkeypatch.syspath_prepend(tmp_path / "app.zip")
    else:
        written(tmp_path / package / "migrations", {"__init__.py": "", **files})
        monkeypatch.syspath_prepend(tmp_path)

    options = OPTIONS.get(name, {})
    for source in (f"package:{package}.migrations", resources(package) / "migrations"):
        assert load_migrations(folder, **options) == load_migrations(source, **options)
    with pytest.raises(SourceNotFound, match="there is no such folder"):
        load_migrations(resources(package) / "nowhere")


def test_steps_in_a_zip_have_their_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function of a migration file may use its package, and its source can be read for ever."""
    step = "from . import TABLE\n\n\ndef up(connection):\n    connection.execute(TABLE)\n"
    with zipfile.ZipFile(tmp_path / "steps.zip", "w") as archive:
        archive.writestr("zipped_steps/__init__.py", "TABLE = 'CREATE TABLE t (x)'\n")
        archive.writestr("zipped_steps/0001_t.py", step)
    monkeypatch.syspath_prepend(tmp_path / "steps.zip")
    (migration,) = load_migrations("package:zipped_steps")

    assert callable(migration.up)
    assert "def up(connection):\n    connection.execute(TABLE)\n" == inspect.getsource(migration.up)
    with closing(sqlite3.connect(":memory:")) as connection:
        migration.up(connection)
        assert [("t",)] == connection.execute("SELECT name FROM sqlite_schema").fetchall()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty directory, and keep it out of the import path afterwards."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    return tmp_path


LISTED = "from wave_async import Migration\nMIGRATIONS = (m for m in [Migration(1, 'One', '')])\n"


def test_lists_in_python(here: Path) -> None:
    """A file, a package and an attribute of a module may list migrations, as any iterable."""
    for source in ("listed_in.py", Path("listed_by.py"), "listed_at:MIGRATIONS", "package:listed"):
        written(here, {f"listed{end}.py": LISTED for end in ("_in", "_by", "_at", "/__init__")})

        assert ["One"] == [migration.description for migration in load_migrations(source)]


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("", "there is no such folder; name a folder or package:NAME, or name them as"),
        ("nowhere", "there is no such folder; "),
        ("module:", "there is no such folder; "),
        (":LIST", "there is no such folder; "),
        ("package:", "there is no such folder; "),
        ("no_such_module:LIST", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("..:LIST", "TypeError: "),
        ("package:no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("package:json.decoder", "it is no package, and has no MIGRATIONS"),
        ("json:NOTHING", "AttributeError: "),
        ("json:__doc__.nothing", "AttributeError: "),
        ("math:pi", "TypeError: 'float' object is not iterable"),
        ("empty.py", "AttributeError: "),
        ("exits.py", "SystemExit: no"),
        ("breaks.py", r"ValueError: first\nsecond"),
        ("a.sql", "it is a file, not a folder; "),
        (Path("nowhere"), "there is no such folder; "),
    ],
)
def test_no_source(source: str | Path, problem: str, here: Path) -> None:
    """What is no source is said in one sentence that names it."""
    breaks = "raise ValueError('first\\nsecond')"
    exits = "raise SystemExit('no')"
    written(here, {"empty.py": "", "a.sql": "", "exits.py": exits, "breaks.py": breaks})

    with pytest.raises(SourceNotFound) as refused:
        load_migrations(source)

    assert str(refused.value).startswith(f"cannot load migrations from '{source}': {problem}")
    assert str(refused.value).isprintable()


def test_what_the_system_refuses(here: Path) -> None:
    """A file that cannot be read, and a folder that cannot be listed, are named."""
    written(here, {"m/1_a.sql": ""})
    (here / "m" / "2_b.sql").symlink_to("nowhere")

    with pytest.raises(SourceNotFound, match=r"from 'm/2_b\.sql': FileNotFoundError: "):
        load_migrations("m")
    if os.geteuid():
        (here / "m").chmod(0)
        with pytest.raises(SourceNotFound, match="from 'm': PermissionError: "):
            load_migrations("m")


STRAY = "looks like a migration, but is of no known format; rename it or move it away"
ORPHAN = "a way down without the migration that it belongs to"
ORDER = "their tool runs them in this order, their numbers say another; renumber one"
UP = "-- +goose Up\n"
DBMATE = "-- migrate:up\n"
OPTIONS_ARE = (
    "foreign_keys=on|off, transaction=on|off, legacy_alter_table=on|off, cascade=allowed, "
    'loss=allowed, irreversible, description="..."'
)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        # two files with one version
        (["1_a.up.sql", "01_b.up.sql"], "version 1 is used twice: '01_b.up.sql' and '1_a.up.sql'"),
        (["1_a.sql", "001_b.sql"], "version 1 is used twice: '001_b.sql' and '1_a.sql'"),
        (["V1__a.sql", "V1.0__b.sql", "V2__c.sql"], "version 1000000000 is used twice: 'V1.0__b"),
        (["1_a/migration.sql", "1_b/migration.sql"], "version 1 is used twice: '1_a/migration.sql"),
        (
            ["20240101120000123456_a.sql", "20240101120000123457_b.sql"],
            "version 202401011200001234 is used twice: '20240101120000123456_a.sql' and '20240101",
        ),
        ({"1_a.py": "up = ''", "01_b.py": "up = ''"}, "version 1 is used twice: '01_b.py' and "),
        # orphaned downs
        (["1_a.up.sql", "2_b.down.sql"], f"'2_b.down.sql': {ORPHAN}"),
        (["1_a/down.sql"], f"'1_a/down.sql': {ORPHAN}"),
        (["V1__a.sql", "U2__b.sql"], "'U2__b.sql': an undo without its V; if it is refinery's"),
        # stray files
        (["1_a.up.sql", "users.sql"], f"'users.sql': {STRAY}"),
        (["1_a.up.sql", "1_a.up.sql.orig"], f"'1_a.up.sql.orig': {STRAY}"),
        (["1_a.sql", "2_b.SQL"], f"'2_b.SQL': {STRAY}"),
        (["1_a.sql", "2_b.go"], f"'2_b.go': {STRAY}"),
        (["1_a.sql", "1.1_b.sql"], f"'1.1_b.sql': {STRAY}"),
        (["V1__a.sql", "R__views.sql"], f"'R__views.sql': {STRAY}"),
        (["V1__a.sql", "sub/V2__b.sql"], f"'sub/V2__b.sql': {STRAY}"),
        ({"1_a.up.sql": "-- +goose Up"}, f"'1_a.up.sql': {STRAY}"),
        (["1_a/up.sql", "2_b/README.md"], f"'2_b/': {STRAY}"),
        (["1_a/up.sql", "1_a/up2.sql"], f"'1_a/up2.sql': {STRAY}"),
        ([f"x{n}.sql" for n in range(7)], f"{STRAY}"),
        # mixed formats
        (
            ["1_a.up.sql", "2_b.sql"],
            "'1_a.up.sql', '2_b.sql': formats are mixed in one folder: pairs, single",
        ),
        (
            {"1_a.sql": UP, "2_b.sql": DBMATE, "3_c.sql": UP},
            "'1_a.sql', '2_b.sql': formats are mixed in one folder: goose, dbmate",
        ),
        ({"1_a.sql": UP, "2_b.sql": ""}, "formats are mixed in one folder: goose, single"),
        (["1_a.sql", "2_b.py"], "formats are mixed in one folder: single, python"),
        (["1_a/up.sql", "2-b/up.sql"], "formats are mixed in one folder: diesel, rusqlite"),
        (["V1__a.sql", "V2_b.sql"], "formats are mixed in one folder: flyway, single"),
        # orders and numbers
        ({"10_b.sql": DBMATE, "2_a.sql": DBMATE}, f"'10_b.sql', '2_a.sql': {ORDER}"),
        (["10_b/up.sql", "2_a/up.sql"], f"'10_b/up.sql', '2_a/up.sql': {ORDER}"),
        (["01-a/up.sql", "03-b/up.sql"], "migration 2 is missing before 3"),
        (["V1.1000__a.sql"], "'V1.1000__a.sql': a dotted version has at most four parts"),
        (["V1.2.3.4.5__a.sql"], "'V1.2.3.4.5__a.sql': a dotted version has at most four parts"),
        (["V99999999999.1__a.sql"], "'V99999999999.1__a.sql': a dotted version has at most"),
        # texts
        ({"1_a.sql": b"--\n\xff"}, "1_a.sql, line 2: it is not UTF-8; save the file as UTF-8"),
        ({"V1__a.sql": "--\n${x}"}, "V1__a.sql, line 2: unknown placeholder ${x}"),
        ({"1_a.py": "down = ''"}, "'1_a.py': it has no `up`"),
        ({"1_a.py": "1 / 0"}, "'1_a.py': ZeroDivisionError: division by zero"),
        ({"1_a.py": "x ="}, "'1_a.py': SyntaxError: "),
        ({"1_a.py": "raise SystemExit"}, "'1_a.py': SystemExit: "),
        ({"1_a.py": "up = 3"}, "'1_a.py': its up is neither SQL nor a function"),
        ({"1_a/up.sql": "", "1_a/metadata.toml": "="}, "'1_a/metadata.toml': it is not TOML: "),
        # drizzle's journal
        ({"meta/_journal.json": "{"}, "'meta/_journal.json': it is no journal: JSONDecodeError"),
        ({"meta/_journal.json": "{}"}, "'meta/_journal.json': it is no journal: KeyError"),
        ({"meta/_journal.json": '{"entries": [{"idx": "0", "tag": ""}]}'}, "it is no journal: "),
        ({"meta/_journal.json": JOURNAL}, "'0000_users.sql', '0001_log.sql', '0002_mail.sql': in "),
        (
            {**HISTORIES["drizzle"][0], "0003_more.sql": ""},
            "'0003_more.sql': not in meta/_journal.json",
        ),
        # marks
        ({"1_a.sql": "-- +goose Down\n"}, "1_a.sql, line 1: it has no mark for the way up"),
        ({"1_a.sql": UP + UP}, "1_a.sql, line 2: a way is marked twice"),
        ({"1_a.sql": "-- +goose Down\n" + UP}, "line 1: the way down is marked before the way up"),
        ({"1_a.sql": "--\nSELECT 1;\n" + UP}, "1_a.sql, line 2: a statement before the first mark"),
        ({"1_a.sql": UP + "-- +goose ENVSUB ON\n"}, "line 2: unknown mark '-- +goose ENVSUB ON'"),
        ({"1_a.sql": UP + "-- +goose StatementBegin\n"}, "1_a.sql, line 2: StatementBegin and "),
        ({"1_a.sql": UP + "-- +goose StatementEnd\n"}, "1_a.sql, line 2: StatementBegin and "),
        ({"1_a.sql": "-- migrate:up now\n"}, "1_a.sql, line 1: unknown option 'now'"),
        ({"1_a.sql": DBMATE + "--\n" + DBMATE}, "1_a.sql, line 3: a way is marked twice"),
        # headers
        (
            {"1_a.sql": "\n-- wave: foreign_key=off"},
            f"1_a.sql, line 2: cannot read 'foreign_key=off'; options are {OPTIONS_ARE}",
        ),
        ({"1_a.sql": "-- wave: irreversible, foreign_keys=no"}, "cannot read 'foreign_keys=no'; "),
        ({"1_a.sql": "-- wave: cascade"}, "line 1: cannot read 'cascade'; options are "),
        ({"1_a.sql": "-- wave: irreversible=on"}, "line 1: cannot read 'irreversible=on'; "),
        ({"1_a.sql": "-- wave: description=x"}, "line 1: cannot read 'description=x'; "),
        ({"1_a.sql": "-- wave: cascade=allowed cascade"}, "line 1: cannot read 'cascade=allowed c"),
        (
            {"1_a.sql": "-- wave: transaction=on, transaction=off"},
            "1_a.sql, line 1: transaction is said twice",
        ),
        (
            {"1_a.sql": "-- wave: irreversible\n-- wave: transaction=on"},
            "1_a.sql, line 2: a second wave: header; write all options in one",
        ),
        (
            {"1_a.sql": "SELECT 1;\n-- wave: irreversible"},
            "1_a.sql, line 2: a wave: header belongs before the first statement",
        ),
        (
            {"1_a.up.sql": "", "1_a.down.sql": "-- wave: foreign_keys=off"},
            "1_a.down.sql, line 1: options belong into 1_a.up.sql",
        ),
        (
            {"1_a.up.sql": "-- wave: irreversible", "1_a.down.sql": "DROP TABLE t"},
            "1_a.up.sql, line 1: irreversible, but it has a way down; keep one",
        ),
        (
            {"1_a.py": "# wave: irreversible\nup = ''\ndown = ['-- none', 'SELECT 1']"},
            "1_a.py, line 1: irreversible, but it has a way down; keep one",
        ),
        ({"1_a.py": "up = ''\n# wave: irreversible"}, "1_a.py, line 2: a wave: header belongs "),
    ],
)
def test_refused(
    files: Mapping[str, str | bytes] | list[str], sentence: str, tmp_path: Path
) -> None:
    """What cannot be right is refused, naming the files, and the line where there is one."""
    if isinstance(files, list):
        files = dict.fromkeys(files, "")

    with pytest.raises(DefinitionError) as refused:
        load_migrations(written(tmp_path, files))

    assert sentence in str(refused.value)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("files", "options", "sentence"),
    [
        (["1_a.sql"], {"format": "alembic"}, "format='alembic' is not valid; allowed: drizzle, "),
        (["1_a.sql"], {"format": "goose"}, "'1_a.sql': the format is single, not goose"),
        (["1_a.sql"], {"placeholders": {"a": "b"}}, "placeholders are flyway's, the format is "),
    ],
)
def test_refused_options(
    files: list[str], options: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    """An option that does not fit the folder is refused."""
    with pytest.raises((ConfigError, DefinitionError)) as refused:
        load_migrations(written(tmp_path, dict.fromkeys(files, "")), **options)

    assert sentence in str(refused.value)


OFF = {"foreign_keys": False}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, {}),
        ({"1_a.sql": "-- wave: foreign_keys=off\nSELECT 1"}, OFF),
        ({"1_a.sql": "/* ours */\r\n  --WAVE:Foreign_Keys=OFF ,\r\nSELECT 1"}, OFF),
        ({"1_a.sql": "-- wave: foreign_keys = on"}, {"foreign_keys": True}),
        (
            {"1_a.sql": "-- wave: transaction=off, legacy_alter_table=on, cascade=allowed"},
            {"transaction": False, "legacy_alter_table": True, "cascade": True},
        ),
        ({"1_a.sql": '-- wave: description="Add a, b", irreversible'}, {"description": "Add a, b"}),
        ({"1_a.sql": "-- wave:\nSELECT '-- wave: x'"}, {}),
        ({"1_add_users.sql": ""}, {"description": "add users", "origin": "1_add_users.sql"}),
        ({"0001.up.sql": ""}, {"description": "0001", "origin": "0001.up.sql"}),
        ({"1_a.sql": f"-- wave: foreign_keys=off\n{UP}"}, OFF),
        ({"1_a.sql": f"{UP}-- wave: foreign_keys=off\n"}, OFF),
        ({"V1__a_b.sql": ""}, {"description": "a b", "version": 1}),
        ({"1-a/up.sql": "-- wave: foreign_keys=off"}, {**OFF, "origin": "1-a/up.sql"}),
        ({"1_a.py": "# ours\n# wave: foreign_keys=off\nup = ''"}, OFF),
        ({"1_a.sql": b"\xef\xbb\xbf-- wave: foreign_keys=off"}, OFF),
        # a tool's own mark counts where nothing else could run
        ({"1_a.sql": "-- no-transaction\nVACUUM;"}, {"transaction": False}),
        ({"1_a.sql": "-- no-transaction\nVACUUM; SELECT 1"}, {"transaction": True}),
        ({"1_a.sql": "VACUUM;"}, {"transaction": True}),
        ({"1_a.sql": f"-- +goose no transaction\n{UP}VACUUM;"}, {"transaction": False}),
        ({"1_a.sql": "-- migrate:up transaction:false\nVACUUM"}, {"transaction": False}),
        (
            {"1_a.sql": "-- migrate:up\nVACUUM\n-- migrate:down transaction:false"},
            {"transaction": True},
        ),
        (
            {"1_a/up.sql": "VACUUM", "1_a/metadata.toml": "run_in_transaction = false"},
            {"transaction": False},
        ),
        (
            {"V1__a.sql": "VACUUM", "V1__a.sql.conf": "executeInTransaction=false"},
            {"transaction": False},
        ),
    ],
)
def test_options(
    files: Mapping[str, str | bytes], expected: dict[str, Any], tmp_path: Path
) -> None:
    """Headers, names and the tools' own marks become what a `Migration` says of itself."""
    for migration in load_migrations(written(tmp_path, files)):
        assert expected == {key: getattr(migration, key) for key in expected}


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("", False),
        ("-- VACUUM", False),
        ("VACUUM", True),
        ("vacuum main; -- and\nPRAGMA main . page_size = 4096;", True),
        ("PRAGMA auto_vacuum=2; VACUUM", True),
        ("PRAGMA journal_mode = wal", True),
        ("PRAGMA foreign_keys = off; VACUUM", False),
        ("VACUUM; DROP TABLE t", False),
        ("VACUUMS", False),
        (["VACUUM"], False),
    ],
)
def test_only_outside(script: Any, *, expected: bool) -> None:
    """Only scripts of statements that no transaction could hold run outside of one."""
    assert expected is runs_only_outside(script, "test")


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    """A statement of a marked file has, in both scripts, the line where it stands."""
    text = "-- about\n-- +goose Up\n\nSELECT 1;\n-- +goose Down\n--\nSELECT 2;\n"
    (migration,) = load_migrations(written(tmp_path, {"1_a.sql": text}))

    assert [4] == [s.line for s in Entry(migration).up.steps]
    assert [7] == [s.line for s in Entry(migration).down.steps]


def test_text_that_breaks_nothing(tmp_path: Path) -> None:
    """Hidden files, documents and other folders are no migrations, and an empty folder has none."""
    files = {".1_a.sql": "", "README.md": "", "1-why.md": "", "fixtures/1_a.sql": "", "go.sum": ""}

    assert () == load_migrations(written(tmp_path, files))
    assert () == load_migrations(tmp_path, format="goose", placeholders={"a": "b"})


@pytest.fixture
def below(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder below a project's."""
    (here / "sub").mkdir()
    monkeypatch.chdir(here / "sub")
    return here


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[project]\nname = 'x'", {}),
        ("[tool.waves]\nheight = 3", {}),
        (
            '[tool.wave]\nmigrations = "db/migrations"\ndatabase = "state.db"\nformat = "goose"',
            {
                "database": "{root}/state.db",
                "migrations": "{root}/db/migrations",
                "format": "goose",
            },
        ),
        (
            '[tool.wave]\nmigrations = "a.b:LIST"\ndatabase = ":memory:"\nsetup = "a:b"',
            {"database": ":memory:", "migrations": "a.b:LIST", "setup": "a:b"},
        ),
        ('[tool.wave.placeholders]\na = "b"', {"placeholders": {"a": "b"}}),
    ],
)
def test_settings(text: str, expected: dict[str, Any], below: Path) -> None:
    """The nearest pyproject.toml says where things are, from its own folder."""
    assert {} == read_settings()

    (below / "pyproject.toml").write_text(text)

    placed = {key: str(v).replace("{root}", str(below)) for key, v in expected.items()}
    assert placed == {key: str(v) for key, v in read_settings().items()}


def test_settings_import_from_their_folder(below: Path) -> None:
    """What `setup` and `migrations` name is imported from beside the pyproject.toml too."""
    written(
        below,
        {
            "pyproject.toml": '[tool.wave]\nsetup = "settings_beside:setup"\n',
            "settings_beside.py": "def setup(connection): return 'set up'\n",
        },
    )
    setup = resolve("setup", read_settings()["setup"])

    assert "set up" == setup(None)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[tool.wave", "pyproject.toml': it is not TOML: "),
        ("[[tool.wave]]", "tool.wave='[{}]' is not valid; allowed: a table"),
        (
            "[tool.wave]\nmigration = 'x'",
            "tool.wave.migration='x' is not valid; allowed: only before, data",
        ),
        ("[tool.wave]\nmigrations = 3", "tool.wave.migrations='3' is not valid; allowed: a text"),
        ("[tool.wave]\nformat = ''", "tool.wave.format='' is not valid; allowed: a text"),
        ("[tool.wave]\nplaceholders = {a = 1}", "tool.wave.placeholders="),
        ("[tool.wave]\nsetup = 'os:sep'", "setup='os:sep' is not valid; allowed: module:function"),
        ("[tool.wave]\nsetup = 'os'", "allowed: module:function (name it as module:attribute)"),
        ("[tool.wave]\nsetup = 'os:no'", "allowed: module:function (AttributeError: "),
    ],
)
def test_bad_settings(text: str, sentence: str, here: Path) -> None:
    """A key or a value that cannot mean anything is refused, naming it."""
    (here / "pyproject.toml").write_text(text)

    with pytest.raises((ConfigError, DefinitionError)) as refused:
        resolve("setup", read_settings()["setup"])

    assert sentence in str(refused.value)


def test_a_migration_has_what_was_loaded(tmp_path: Path) -> None:
    """What comes out is an ordinary `Migration`, equal to one that is written in code."""
    written(tmp_path, {"7_a.up.sql": "SELECT 1", "7_a.down.sql": "SELECT 2"})

    assert (Migration(7, "a", "SELECT 1", "SELECT 2", origin="7_a.up.sql"),) == load_migrations(
        tmp_path
    )
