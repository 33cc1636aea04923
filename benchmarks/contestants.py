"""Who takes part: how each one's project is written, and which commands move and show it."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from rows import Command, Failed, Prepare, Row, run
from workloads import Workload

HERE = Path(__file__).parent
DATABASE = "app.db"
FOLDER = "migrations"

ENGINE = "wave"
IN_WAL = ", in WAL"
LIMIT = "limit (sqlite3)"
STACK = "limit (with the stack)"
SHELL = "limit (shell)"
FLOOR = "floor"


@dataclass(frozen=True)
class Contestant:
    """A tool: `write` lays its project into an empty folder, where its commands are run.

    `listing` is the command nearest to `status`; `note` says so where it is not the same.
    """

    name: str
    write: Callable[[Path, Workload], None]
    up: Command
    listing: Command | None = None
    note: str = ""
    in_wal: bool = False

    def after_wal(self) -> Contestant:
        """Return the same tool on a database that is in WAL mode already."""
        return replace(self, name=self.name + IN_WAL, in_wal=True)

    def done(self, workload: Workload) -> Prepare:
        """Return what lays a project out and applies all of it. Raises `Failed`."""

        def prepare(folder: Path) -> None:
            self.write(folder, workload)
            self.begin(folder)
            run(self.up, folder)
            if (missing := workload.tables - tables(folder)) > 0:
                raise Failed(f"{missing} tables are missing after it said that all is well")

        return prepare

    def forget(self, folder: Path) -> None:
        """Put the database back to what it was before anything was applied."""
        for path in folder.glob(f"{DATABASE}*"):
            path.unlink()
        self.begin(folder)

    def begin(self, folder: Path) -> None:
        """Make the database before the tool does, where that is asked for."""
        if self.in_wal:
            with closing(sqlite3.connect(folder / DATABASE)) as db:
                db.execute("PRAGMA journal_mode = WAL").fetchall()

    def row(self, prepare: Prepare, command: Command, *, again: bool = False) -> Row:
        """Return a row of this tool."""
        return Row(self.name, prepare, command, again)


@dataclass
class Projects:
    """The projects of one workload, each written and applied once and then copied."""

    place: Path
    workload: Workload

    def done(self, contestant: Contestant) -> Prepare:
        """Return what lays a project out that everything is applied of. Raises `Failed`."""

        def prepare(folder: Path) -> None:
            made = self.place / contestant.name
            if not made.exists():
                half = self.place / "half"
                shutil.rmtree(half, ignore_errors=True)
                half.mkdir()
                contestant.done(self.workload)(half)
                half.rename(made)
            shutil.copytree(made, folder, symlinks=True, dirs_exist_ok=True)

        return prepare

    def fresh(self, contestant: Contestant) -> Prepare:
        """Return what lays the same project out with nothing applied, its files compiled."""
        done = self.done(contestant)

        def prepare(folder: Path) -> None:
            done(folder)
            contestant.forget(folder)

        return prepare


def tables(folder: Path) -> int:
    """Count the tables that a workload can have made."""
    with closing(sqlite3.connect(folder / DATABASE)) as db:
        names = "name GLOB 't[0-9]*' OR name IN (SELECT value FROM json_each(?))"
        query = f"SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND ({names})"
        return int(db.execute(query, (WAVES_TABLES,)).fetchone()[0])


WAVES_TABLES = """["step_state", "pipeline_state", "pipeline_run", "event_log", "artifact",
    "cancellation", "performance_metric", "progress_snapshot", "step_progress",
    "pipeline_progress", "artifact_metadata"]"""


def pairs(folder: Path, workload: Workload) -> None:
    """Write two files for each migration, one for each way."""
    (folder / FOLDER).mkdir()
    for step in workload.steps:
        stem = f"{step.version:04}_{step.name}"
        (folder / FOLDER / f"{stem}.up.sql").write_text(step.script, encoding="utf-8")
        (folder / FOLDER / f"{stem}.down.sql").write_text(step.back, encoding="utf-8")


def one_script(folder: Path, workload: Workload) -> None:
    """Write all migrations and their records as one script for the shell."""
    table = "CREATE TABLE done (version INTEGER PRIMARY KEY);\n"
    steps = "".join(
        f"BEGIN IMMEDIATE;\nSELECT count(version) FROM done;\n{step.script}"
        f"INSERT INTO done VALUES ({step.version});\nCOMMIT;\n"
        for step in workload.steps
    )
    start = "PRAGMA journal_mode = WAL;\nPRAGMA synchronous = FULL;\n"
    (folder / "all.sql").write_text(start + table + steps, encoding="utf-8")


def baselines() -> Iterator[Contestant]:
    """Yield this engine and the least that its job needs."""
    wave = (sys.executable, "-m", "wave_async", "migrate")
    about = ("--database", DATABASE, "--migrations", FOLDER)
    yield Contestant(ENGINE, pairs, (*wave, *about, "up"), (*wave, *about, "status"))
    atomic = "all in one transaction; the peers that can do that are not asked to"
    yield Contestant(f"{ENGINE}, atomic", pairs, (*wave, *about, "up", "--atomic"), note=atomic)
    limit = (sys.executable, str(HERE / "limit.py"), FOLDER, DATABASE)
    yield Contestant(LIMIT, pairs, limit, (*limit, "status"))
    yield Contestant(STACK, pairs, (*limit, "stack"), (*limit, "status", "stack"))
    if shell := shutil.which("sqlite3"):
        listing = (shell, DATABASE, "SELECT version FROM done")
        yield Contestant(SHELL, one_script, (shell, "-bail", DATABASE, ".read all.sql"), listing)


def floor(projects: Projects) -> Row:
    """Return the row of the least that a command of this stack needs, on an applied database."""
    command = (sys.executable, str(HERE / "floor.py"), DATABASE)
    return Row(FLOOR, projects.done(next(baselines())), command, again=True)
