"""The report: one page about a database and its migrations, that needs nothing but itself."""

# ruff: noqa: PLC0415 - what an extra brings is imported when it is needed
from __future__ import annotations

import asyncio
import os
import re
import time
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.resources import files
from itertools import groupby

from wave_async.database.log import DONE
from wave_async.database.pool import is_cluster
from wave_async.errors import (
    ChecksumMismatch,
    HistoryError,
    ValidationFailed,
    printable,
)
from wave_async.integrations.drawing import svg
from wave_async.integrations.extras import needs
from wave_async.model.diagram import Diagram
from wave_async.model.difference import Difference, differences
from wave_async.model.migration import LogEntry, Migration, Work, parts
from wave_async.model.plan import MigrationStatus, Status, Validation
from wave_async.model.schema import Schema
from wave_async.model.work import source
from wave_async.runner import MigrationRunner

MARK = "wave-async report"
"""What the page says of itself, so that a later report may take its place."""

_VERBS = {
    "up": "applied",
    "down": "rolled back",
    "skip": "adopted",
    "baseline": "recorded",
    "repair": "repaired",
    "undo": "restored",
}
_TRIED = {"up": "failed to apply", "down": "failed to roll back"}
# What could reorder or hide a part of a script; the layout of lines and tabs is the script's own.
_MISLEADING = re.compile("[\0-\x08\x0b-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Code:
    """A part of a migration: a script, or the source of a function."""

    text: str
    language: str


@dataclass(frozen=True, slots=True)
class Chapter:
    """What the page tells of one migration.

    `migration` is None where only the database knows it. `changes` are what it makes of the schema,
    None where that is not known. `seconds` is how long it took when it was last applied, and
    `edited` says that this was not its present text.
    """

    status: MigrationStatus
    migration: Migration | None
    changes: tuple[Difference, ...] | None
    seconds: float | None
    edited: bool

    @property
    def state(self) -> str:
        """Where it stands, in a word."""
        return "edited" if self.edited else self.status.state.value

    @property
    def up(self) -> tuple[Code, ...]:
        """Its way up."""
        return _code(self.migration.up) if self.migration else ()

    @property
    def down(self) -> tuple[Code, ...]:
        """Its way down; empty where there is none."""
        return _code(self.migration.down) if self.migration else ()


@dataclass(frozen=True, slots=True)
class Run:
    """What one process did, without another between: entries of the log, newest first."""

    entries: tuple[LogEntry, ...]

    @property
    def by(self) -> LogEntry:
        """The entry that it began with."""
        return self.entries[-1]

    @property
    def seconds(self) -> float:
        """How long all of it took."""
        return sum(entry.duration for entry in self.entries)

    @property
    def failures(self) -> tuple[LogEntry, ...]:
        """What failed and was rolled back."""
        return tuple(entry for entry in self.entries if entry.outcome != DONE)

    @property
    def told(self) -> str:
        """What was done, in a few words."""
        groups = groupby(reversed(self.entries), _verb)
        return ", ".join(_told(verb, list(found)) for verb, found in groups)


@dataclass(frozen=True, slots=True)
class Report:
    """All that the page shows.

    `validation` is None where there are `problems`; `drift` are the differences of the schema from
    what the migrations make. `unproven` is the version of the first
    migration that cannot be replayed without rows: what follows it has no known schema.
    """

    database: str
    exists: bool
    made_at: float
    status: Status
    problems: tuple[HistoryError, ...]
    drift: tuple[object, ...]
    validation: Validation | None
    runs: tuple[Run, ...]
    chapters: tuple[Chapter, ...]
    diagram: Diagram
    unproven: int | None


async def gather(runner: MigrationRunner) -> Report:
    """Ask a database for all that a report tells; nothing is written.

    A history that contradicts the migrations is told. Raises `DefinitionError`, `DatabaseError`,
    and `HistoryError` where there is no history that could be read.
    """
    status, log = await runner.status(), await runner.log()
    validation: Validation | None = None
    problems: tuple[HistoryError, ...] = ()
    drift: tuple[object, ...] = ()
    try:
        validation = await runner.validate()
    except ValidationFailed as error:
        problems, drift = error.problems, error.differences
    schemas = await runner.schemas()
    migrations = {migration.version: migration for migration in runner.migrations}
    took = {e.version: e.duration for e in log if (e.action, e.outcome) == ("up", DONE)}
    edited = {problem.version for problem in problems if isinstance(problem, ChecksumMismatch)}
    changes = await asyncio.to_thread(_changes, schemas)
    return Report(
        database=runner.database,
        exists=is_cluster(runner.database)
        or await asyncio.to_thread(os.path.exists, runner.database),
        made_at=time.time(),
        status=status,
        problems=problems,
        drift=drift,
        validation=validation,
        runs=tuple(_runs(log)),
        chapters=tuple(
            Chapter(
                found,
                migrations.get(found.version),
                changes.get(found.version),
                None if found.applied_at is None else took.get(found.version),
                edited=found.version in edited,
            )
            for found in status.migrations
        ),
        diagram=picture(migrations, schemas, max(schemas, default=0)),
        unproven=next((version for version in migrations if version not in schemas), None),
    )


def picture(
    migrations: Mapping[int, Migration], schemas: Mapping[int, Schema], version: int
) -> Diagram:
    """Return the diagram at a version, and what its migration added; 0 is before them all."""
    if version not in schemas:
        return Diagram(version)
    before = max((v for v in schemas if v < version), default=None)
    was = Schema() if before is None else schemas[before]
    return Diagram.of(version, migrations[version].description, schemas[version], was)


def render(report: Report) -> str:
    """Return the page. Raises `MissingExtra` without `wave-async[report]`."""
    with needs("report"):
        from jinja2 import Environment, StrictUndefined
        from pygments import highlight
        from pygments.formatters import HtmlFormatter
        from pygments.lexers import get_lexer_by_name
    formatter = HtmlFormatter(nowrap=True)
    lexers = {name: get_lexer_by_name(name, stripnl=False) for name in ("sql", "python")}

    def highlighted(code: Code) -> str:
        return str(highlight(code.text, lexers[code.language], formatter))

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "highlighted": highlighted,
        "shown": lambda value: printable(str(value)),
        "moment": _moment,
        "instant": _instant,
        "duration": duration,
        "verb": _verb,
    }
    script = _part("report.js")
    digest = b64encode(sha256(script.encode()).digest()).decode()
    return environment.from_string(_part("report.html")).render(
        report=report,
        diagram=svg(report.diagram),
        longest=max((e.duration for run in report.runs for e in run.entries), default=0),
        mark=MARK,
        style=_part("report.css"),
        script=script,
        digest=digest,
    )


def duration(seconds: float) -> str:
    """Write how long something took as people read it."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds * 1000 >= 1 else "under 1 ms"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _part(name: str) -> str:
    return files(__package__).joinpath("page", name).read_text(encoding="utf-8")


def _code(work: Work) -> tuple[Code, ...]:
    return tuple(
        Code(_revealed(source(part, "")), "sql" if isinstance(part, str) else "python")
        for part in parts(work)
        if not isinstance(part, str) or part.strip()
    )


def _revealed(text: str) -> str:
    text = text.replace("\r\n", "\n").strip("\n")
    return _MISLEADING.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def _verb(entry: LogEntry) -> str:
    verbs = _VERBS if entry.outcome == DONE else _TRIED
    return verbs.get(entry.action, printable(entry.action))


def _told(verb: str, entries: Sequence[LogEntry]) -> str:
    versions = [entry.version for entry in entries if entry.version is not None]
    if not versions:
        return verb
    first, last = versions[0], versions[-1]
    return f"{verb} {first}" if first == last else f"{verb} {first} to {last}"


def _runs(log: Iterable[LogEntry]) -> Iterator[Run]:
    runs = [tuple(found) for _, found in groupby(log, lambda e: (e.tool, e.host, e.pid))]
    for entries in reversed(runs):
        yield Run(entries[::-1])


def _changes(schemas: Mapping[int, Schema]) -> dict[int, tuple[Difference, ...]]:
    """Return what each migration makes of the schema that it finds."""
    befores = [Schema(), *schemas.values()]
    return {
        version: tuple(differences(before, after))
        for before, (version, after) in zip(befores, schemas.items(), strict=False)
    }
