"""The commands on many databases: fleet up, status, validate, plan."""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any, TextIO

import asyncclick as click
from asyncclick.core import ParameterSource

from wave_async.cli import crew, fleet_report
from wave_async.cli.command import command, out_of_order, precautions, print_json, timeouts
from wave_async.cli.group import Options
from wave_async.cli.progress import Progress
from wave_async.cli.terminal import can_draw
from wave_async.cli.voice import Voice, bad, faint, good, remark, say, waiting
from wave_async.config import MigrationConfig
from wave_async.errors import ConfigError, FleetFailed, printable
from wave_async.fleet import LIMIT, matching
from wave_async.model.fleet import FileResult, Group, Outcome, Shard, Tally, spread

MOST_FAILURES = 20
"""So many failures are told one by one; a report has them all."""
_SHOWN_DIGITS = 12
_TONES = {Outcome.FAILED: bad, Outcome.UNKNOWN: bad, Outcome.PENDING: waiting}

Allowed = Callable[[int], float]
"""How many of so many files may fail."""


@click.group()
def fleet() -> None:
    """Migrate or look at many databases, named by patterns such as 'tenants/*.db'."""


def _shard(_context: click.Context, _parameter: click.Parameter, said: str | None) -> Shard:
    number, slash, count = ("1/1" if said is None else said).partition("/")
    try:
        return Shard(int(number), int(count) if slash else 0)
    except ValueError as error:
        raise click.BadParameter("it is like 2/3: the second of three parts") from error


def _budget(_context: click.Context, _parameter: click.Parameter, said: str | None) -> Allowed:
    if said is None:
        return lambda _total: inf
    if not (found := re.fullmatch(r"(\d{1,9})(%?)", said)):
        raise click.BadParameter("it is a number of files, or like 5%")
    number, part = int(found[1]), bool(found[2])
    if part and number > 100:  # noqa: PLR2004 - per cent
        raise click.BadParameter("more than 100% cannot fail")
    return lambda total: total * number // 100 if part else number


def _on_a_fleet(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what all these commands take: which files, and by how many hands."""
    existing = click.Path(exists=True, dir_okay=False)
    positive = click.IntRange(min=1)
    for add in (
        click.option("--report", type=click.Path(dir_okay=False), metavar="FILE",
                     help="Add a line of JSON for each file."),
        click.option("--resume", type=existing, metavar="REPORT",
                     help="Leave out the files that a report has as done."),
        click.option("--shard", callback=_shard, metavar="I/N",
                     help="Only part I of N, told by the path alone."),
        click.option("--limit", type=positive, default=LIMIT, metavar="N",
                     help=f"How many files at a time in each process.  [default: {LIMIT}]"),
        click.option("--jobs", type=positive, default=1, metavar="N",
                     help="How many processes.  [default: 1]"),
        click.option("--files", "listed", type=existing, metavar="LIST",
                     help="Take the paths in a file, too, one a line."),
        click.argument("patterns", nargs=-1),
    ):  # fmt: skip
        function = add(function)
    return function


_target = click.option("--target", type=int, metavar="VERSION", help="Up to this version.")


@command
@_on_a_fleet
@_target
@out_of_order
@click.option(
    "--canary",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="These many first, and no more if one of them fails.",
)
@click.option(
    "--budget",
    "allowed",
    callback=_budget,
    metavar="N|N%",
    help="Stop when more files have failed.  [default: never]",
)
@click.option(
    "--rehearse",
    "sample",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Rehearse on copies of so many first; stop if that fails.",
)
@timeouts
@precautions
async def up(
    options: Options,
    *,
    as_json: bool,
    target: int | None,
    canary: int,
    allowed: Allowed,
    sample: int,
    snapshot: bool | None,
    snapshot_dir: str | None,
    allow_out_of_order: bool,
    lock_timeout: float | None,
    statement_timeout: float | None,
    **scope: Any,
) -> None:
    """Apply what is pending in every file that PATTERNS match."""
    MigrationConfig.from_env().require_enabled()
    work = _Work(options, "up", as_json=as_json, **scope)
    limits: dict[str, Any] = {"statement_timeout": statement_timeout}
    if lock_timeout is not None:
        limits["lock_timeout"] = lock_timeout
    order = {"target": target, "allow_out_of_order": allow_out_of_order}
    job = work.job("up", **order, **limits)
    with work.opened(job, target):
        if sample:
            rehearsal = work.job("rehearse", **order, statement_timeout=statement_timeout)
            await work.rehearse(rehearsal, spread(work.paths, sample))
        job = replace(job, snapshots=(snapshot_dir, snapshot))
        canaries = min(canary, work.fresh)
        await work.go_on(job, work.paths[:canaries], 0, "its canary")
        await work.go_on(job, work.paths[canaries:], allowed(work.total), "its budget")
    work.finish(remark)


@command
@_on_a_fleet
async def status(options: Options, *, as_json: bool, **scope: Any) -> None:
    """Show how many files are at which version, and which need an `up`."""
    await _look(_Work(options, "status", as_json=as_json, **scope))


@command
@_on_a_fleet
@click.option("--strict", is_flag=True, help="Refuse also what no migration makes.")
async def validate(options: Options, *, as_json: bool, strict: bool, **scope: Any) -> None:
    """Compare history and schema of every file with the migrations."""
    await _look(_Work(options, "validate", as_json=as_json, **scope), strict=strict)


@command
@_on_a_fleet
@_target
@out_of_order
async def plan(
    options: Options, *, as_json: bool, target: int | None, allow_out_of_order: bool, **scope: Any
) -> None:
    """Show in how many files an `up` would do something, and where it would refuse."""
    work = _Work(options, "plan", as_json=as_json, **scope)
    await _look(work, target=target, allow_out_of_order=allow_out_of_order)


for _command in (up, status, validate, plan):
    fleet.add_command(_command)


async def _look(work: _Work, **options: Any) -> None:
    job = work.job(work.operation, **options)
    with work.opened(job, options.get("target")):
        await work.go_on(job, work.paths, inf)
    work.finish(say)


def _refuse_one_database() -> None:
    context: click.Context | None = click.get_current_context()
    while context is not None:
        if context.get_parameter_source("database") is ParameterSource.COMMANDLINE:
            raise click.UsageError("PATTERNS name the databases; leave out --database")
        context = context.parent


@dataclass
class _Work:
    """One command on a fleet: its files, what came of them, and who is told."""

    options: Options
    operation: str
    as_json: bool
    patterns: tuple[str, ...]
    listed: str | None
    limit: int
    jobs: int
    shard: Shard
    resume: str | None
    report: str | None
    paths: list[str] = field(default_factory=list)
    fresh: int = 0
    resumed: int = 0
    goal: int = 0
    rehearsed: Tally = field(default_factory=Tally)
    tally: Tally = field(default_factory=Tally)
    failures: list[FileResult] = field(default_factory=list)
    untold: Counter[str | None] = field(default_factory=Counter)
    stopped: str = ""
    _since: float = field(default_factory=time.monotonic)
    _file: TextIO | None = None
    _progress: Progress | None = None

    def job(self, operation: str, **options: Any) -> crew.Job:
        """Return what is to be done to each file."""
        return crew.Job(operation, dict(self.options.said), self.limit, options)

    @contextmanager
    def opened(self, job: crew.Job, target: int | None) -> Iterator[None]:
        """Find the files, open the report, and show meanwhile how far it has come."""
        _refuse_one_database()
        if "migrations" not in self.options.settings():
            raise click.UsageError(
                "name the migrations of these databases by --migrations; "
                "Wave's own are wave_async.definitions:MIGRATIONS"
            )
        newest = max((m.version for m in job.migrations), default=0)
        held = MigrationConfig.from_env().max_version or newest
        self.goal = min(newest, held, newest if target is None else target)
        self._find()
        with ExitStack() as stack:
            if self.report is not None:
                self._file = stack.enter_context(fleet_report.opened(Path(self.report)))
            if not (self.as_json or Voice.of(click.get_current_context()).quiet) and can_draw():
                self._progress = Progress(sys.stderr, "Preparing", lambda: None)
                stack.callback(self._progress.stop)
                self._progress.start()
            yield

    def _find(self) -> None:
        """Find the files; those that have failed before are the last ones, and no canaries."""
        patterns = (*self.patterns, *(_lines_of(self.listed) if self.listed else ()))
        if not patterns:
            raise click.UsageError("Missing argument 'PATTERNS...', or --files.")
        found = [path for path in _matching(patterns) if path in self.shard]
        known = dict[str, bool]()
        if self.resume is not None:
            known = fleet_report.told(Path(self.resume), self.operation, self.goal)
        new = [path for path in found if path not in known]
        self.paths = new + [path for path in found if known.get(path) is False]
        self.fresh = len(new)
        self.resumed = len(found) - len(self.paths)

    @property
    def total(self) -> int:
        """How many files there are, also with what was done before."""
        return len(self.paths) + self.resumed

    async def rehearse(self, job: crew.Job, sample: list[str]) -> None:
        """Try it on copies of a sample; if that fails, nothing else is done."""

        def heard(result: FileResult) -> None:
            self._write("rehearse", result)
            self.rehearsed.add(result)
            if not result.ok:
                self._fail(result)

        await crew.run(job, sample, heard, min(self.jobs, len(sample)) or 1)
        if self.rehearsed.failed:
            self.stopped = "its rehearsal"

    async def go_on(self, job: crew.Job, paths: list[str], allowed: float, who: str = "") -> None:
        """Do it to more files, until more than so many have failed; `who` has stopped it then."""

        def feed() -> Iterator[str]:
            for path in paths:
                if self.tally.failed > allowed:
                    return
                yield path

        if not self.stopped:
            await crew.run(job, feed(), self._heard, min(self.jobs, len(paths)) or 1)
            if self.tally.failed > allowed:
                self.stopped = who

    def _heard(self, result: FileResult) -> None:
        self._write(self.operation, result)
        self.tally.add(result)
        if not result.ok:
            self._fail(result)
        elif Voice.of(click.get_current_context()).verbose:
            self._detail(result)
        if self._progress is not None:
            self._progress.reach(self.tally.total, len(self.paths), str(self.tally))

    def _detail(self, result: FileResult) -> None:
        way = f"{result.outcome} at version {result.after}, {result.steps} step(s)"
        self._say(faint(f"{printable(result.path, 4000)}: {way} in {result.seconds:.3f} s"))

    def _write(self, operation: str, result: FileResult) -> None:
        if self._file is not None:
            fleet_report.write(self._file, operation, self.goal, result)

    def _fail(self, result: FileResult) -> None:
        if len(self.failures) == MOST_FAILURES:
            self.untold[result.error] += 1
            return
        self.failures.append(result)
        if not self.as_json:
            self._say(f"{bad('failed')} {printable(result.path, 4000)}: {result.message}")

    def _say(self, line: str) -> None:
        if self._progress is not None:
            self._progress.erase()
        say(line, err=True)

    def finish(self, tell: Callable[[str], None]) -> None:
        """Print what came of it; raises `FleetFailed` where a file failed."""
        left = len(self.paths) - self.tally.total
        if self.as_json:
            print_json(self._document(left))
        else:
            tell("\n".join(self._lines()))
        if self.failures or self.stopped:
            raise FleetFailed(self._last.failed, self._last.total, self.stopped, left)

    @property
    def _last(self) -> Tally:
        return self.tally if self.tally.total else self.rehearsed

    def _lines(self) -> Iterator[str]:
        if self.untold:
            kinds = ", ".join(f"{count:,} {error}" for error, count in self.untold.most_common())
            where = printable(self.report) if self.report else "--report FILE"
            yield bad(f"{self.untold.total():,} more failed: {kinds}; {where} tells each")
        groups = self.tally.groups
        for group in groups:
            yield _group_line(group, named=len(groups) > 1)
        if self.resumed:
            yield f"{self.resumed} file(s) were done before"
        seconds = time.monotonic() - self._since
        tone = next((_TONES[o] for o in _TONES if self._last.outcomes[o]), good)
        yield tone(f"{str(self._last) or 'Nothing to do'} in {seconds:.3f} s")

    def _document(self, left: int) -> dict[str, Any]:
        return {
            "operation": self.operation,
            "goal": self.goal,
            "outcomes": {outcome.value: count for outcome, count in self.tally.outcomes.items()},
            "groups": [asdict(group) for group in self.tally.groups],
            "failures": [asdict(result) for result in self.failures],
            "resumed": self.resumed,
            "stopped": self.stopped or None,
            "left": left,
        }


def _group_line(group: Group, *, named: bool) -> str:
    version = "not readable" if group.version is None else f"version {group.version}"
    schema = "" if group.fingerprint is None else f", schema {group.fingerprint[:_SHOWN_DIGITS]}"
    line = f"{version}{schema}: {group.count:,} file(s)"
    few = group.count <= len(group.examples)
    if not (group.odd or (named and few)):
        return line
    examples = ", ".join(printable(path) for path in group.examples)
    about = ", unlike the others" if group.odd else ""
    return waiting(f"{line}{about}: {examples}{'' if few else ', ...'}")


def _lines_of(path: str) -> list[str]:
    with Path(path).open(encoding="utf-8", errors="surrogateescape") as lines:
        return [name for line in lines if (name := line.rstrip("\n"))]


def _matching(patterns: Iterable[str]) -> list[str]:
    """Return the files that patterns match, each once and in order; a path may be a pattern, too.

    Raises `ConfigError` for one that matches nothing.
    """
    found: set[str] = set()
    for pattern in patterns:
        here = matching(pattern)
        if not here:
            raise ConfigError("PATTERNS", pattern, "a pattern that matches a file")
        found.update(here)
    return sorted(found)
