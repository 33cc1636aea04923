"""The command line: parse, call, print, exit code; decides nothing.

Exit codes: 0 done or nothing to do, 1 refused or failed, 2 usage, 3 `status --check` found pending
migrations, 130 and 143 ended by SIGINT and SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import wraps
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio
import asyncclick as click

from wave_async import safety
from wave_async.config import MigrationConfig
from wave_async.definitions import MIGRATIONS
from wave_async.errors import (
    ConfigError,
    ConfirmationRequired,
    RehearsalFailed,
    WaveError,
    local_time,
    megabytes,
    printable,
)
from wave_async.model.events import Event, SnapshotTaken, StepStarted, WaitingForLock
from wave_async.model.migration import LogEntry, Migration, Step
from wave_async.model.plan import MigrationStatus, State, Status
from wave_async.runner import MigrationRunner
from wave_async.sources.load import load_migrations
from wave_async.sources.settings import read_settings, resolve_setup

if TYPE_CHECKING:
    from wave_async.model.difference import Difference
    from wave_async.model.effects import Effect, Preview
    from wave_async.model.rehearsal import Rehearsal, RowChange
    from wave_async.safety.snapshots import Snapshot, SnapshotPolicy

DATABASE = ".wave/state.db"
PENDING_FOUND = 3
_MARKS = {State.APPLIED: "[x]", State.PENDING: "[ ]", State.UNKNOWN: "[?]"}
_SIGNALS = {signal.SIGINT: "Interrupted", signal.SIGTERM: "Terminated"}


@dataclass(frozen=True, slots=True)
class Options:
    """What was said before the command, by its options or their variables."""

    said: Mapping[str, Any]

    def settings(self) -> dict[str, Any]:
        """Lay what was said over `[tool.wave]`, and that over the defaults."""
        return {"database": DATABASE, **read_settings(), **self.said}

    def runner(self, **options: Any) -> MigrationRunner:
        """Open the database and the migrations that were named."""
        settings = self.settings()
        migrations: Iterable[Migration] = MIGRATIONS
        if "migrations" not in settings and "format" in settings:
            raise ConfigError("--format", settings["format"], "only for migrations in files")
        if "migrations" in settings:
            migrations = load_migrations(
                settings["migrations"],
                format=settings.get("format"),
                placeholders=settings.get("placeholders"),
            )
        if "setup" in settings:
            options["setup"] = resolve_setup(settings["setup"])
        config = MigrationConfig.from_env()
        return MigrationRunner(settings["database"], migrations, config=config, **options)


@click.group()
@click.version_option(package_name="wave-async", message="%(prog)s %(version)s")
def cli() -> None:
    """Migrations for SQLite."""


@cli.group()
@click.option(
    "--database",
    metavar="PATH",
    envvar="WAVE_DATABASE",
    show_envvar=True,
    help=f"The database; {DATABASE} if not given.",
)
@click.option(
    "--migrations",
    metavar="SOURCE",
    envvar="WAVE_MIGRATIONS",
    show_envvar=True,
    help="Where the migrations are: a folder, a .py file with MIGRATIONS, package:NAME or "
    "module:attribute; Wave's own if not given.",
)
@click.option("--format", metavar="NAME", help="The format of a folder, if not to be found out.")
@click.pass_context
def migrate(context: click.Context, /, **said: str | None) -> None:
    """Look at the version of a database, and change it.

    What is not given is taken from [tool.wave] of the nearest pyproject.toml.
    """
    context.obj = Options({name: text for name, text in said.items() if text is not None})


class _ReaderGone(Exception):
    """Nobody reads stdout any more; asyncclick would end the process on a plain BrokenPipeError."""


def command(function: Callable[..., Awaitable[int | None]]) -> click.Command:
    """Make a function a command: `--json`, its result as exit code, its errors as one line."""

    @wraps(function)
    async def run(options: Options, *, as_json: bool, **rest: Any) -> None:
        try:
            code = await function(options, as_json=as_json, **rest)
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise _ReaderGone from error
        except (WaveError, OSError) as error:
            about = {"error": type(error).__name__, "message": str(error)}
            print(json.dumps(about) if as_json else f"Error: {error}", file=sys.stderr)
            if not as_json:
                _print_diff(getattr(error, "differences", ()))
            code = 1
        raise click.exceptions.Exit(code or 0)

    with_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
    return migrate.command()(with_json(click.pass_obj(cast(Any, run))))


@command
@click.option("--check", is_flag=True, help="Exit with 3 if an `up` would apply something.")
async def status(options: Options, *, as_json: bool, check: bool) -> int:
    """Show which migrations are applied and which are pending."""
    async with options.runner() as runner:
        found = await runner.status()
    if as_json:
        _print_json(_status_document(runner.database, found))
    else:
        print("\n".join(_status_lines(found)))
    return PENDING_FOUND if check and found.due else 0


def _print_diff(differences: Iterable[Difference]) -> None:
    """Show on stderr in what schemas differ, in colour on a terminal."""
    colours = (
        {"-": "red", "+": "green"} if sys.stderr.isatty() and not os.getenv("NO_COLOR") else {}
    )
    for difference in differences:
        print(f"  {printable(str(difference))}", file=sys.stderr)
        for line in difference.diff:
            shown = click.style(printable(line), fg=colours.get(line[:1]))
            print(f"    {shown if colours else printable(line)}", file=sys.stderr)


def timeouts(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of commands that write; `WAVE_LOCK_TIMEOUT` is read by the configuration."""
    seconds = click.FloatRange(min=0)
    function = click.option(
        "--lock-timeout",
        type=seconds,
        metavar="SECONDS",
        help="How long to wait for another process.  [env var: WAVE_LOCK_TIMEOUT; default: 60]",
    )(function)
    return click.option(
        "--statement-timeout",
        type=seconds,
        metavar="SECONDS",
        help="End a statement that takes longer.",
    )(function)


def snapshot_directory(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option where snapshots are."""
    return click.option(
        "--snapshot-dir",
        metavar="DIR",
        type=click.Path(file_okay=False),
        help="Where snapshots are.  [default: .wave/snapshots beside the database]",
    )(function)


def precautions(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of commands that take a snapshot before they write."""
    return click.option(
        "--snapshot/--no-snapshot",
        default=None,
        help="Take a snapshot always, or never.  [default: before what destroys something]",
    )(snapshot_directory(function))


out_of_order = click.option(
    "--out-of-order",
    "allow_out_of_order",
    is_flag=True,
    help="Apply versions below applied ones too.",
)


def _policy(directory: str | None, *, wanted: bool | None = None) -> SnapshotPolicy | None:
    if wanted is False:
        return None
    return safety.snapshots.SnapshotPolicy(always=bool(wanted), directory=directory)


@command
@click.argument("target_version", type=int, required=False)
@out_of_order
@click.option("--atomic", is_flag=True, help="Apply all in one transaction, or nothing.")
@click.option("--rehearse", "first", is_flag=True, help="Rehearse it first; stop if that fails.")
@timeouts
@precautions
async def up(
    options: Options,
    *,
    as_json: bool,
    target_version: int | None,
    allow_out_of_order: bool,
    atomic: bool,
    first: bool,
    snapshot: bool | None,
    snapshot_dir: str | None,
    **limits: float | None,
) -> None:
    """Apply what is pending, up to TARGET_VERSION if given."""
    async with (
        _telling(as_json=as_json) as tell,
        options.runner(
            allow_out_of_order=allow_out_of_order,
            on_event=tell,
            snapshots=_policy(snapshot_dir, wanted=snapshot),
            **limits,
        ) as runner,
    ):
        if first:
            _require_passed(await runner.rehearse_up(target_version))
        done = await runner.migrate_up(target_version, atomic=atomic)
        now = None if done else await runner.status()
    if as_json:
        _print_json({"adopted": _step_list(done.adopted), "applied": _step_list(done.steps)})
        return
    for step in done.adopted:
        print(f"Adopted migration {step.version}: {printable(step.description)}")
    if now is None:
        print("Migrations applied successfully")
    elif now.pending:
        print(f"Nothing to do: the database is at version {now.current_version}")
    else:
        print("Database is up to date")


@command
@click.argument("target_version", type=int)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--plan", "only", is_flag=True, help="Show what it would do, and do nothing.")
@click.option("--rehearse", "first", is_flag=True, help="Rehearse it first; stop if that fails.")
@timeouts
@precautions
async def down(
    options: Options,
    *,
    as_json: bool,
    target_version: int,
    yes: bool,
    only: bool,
    first: bool,
    snapshot: bool | None,
    snapshot_dir: str | None,
    **limits: float | None,
) -> None:
    """Roll back everything above TARGET_VERSION."""
    if only:
        await _show_plan(options.runner(), target_version, as_json=as_json, down=True)
        return
    policy = _policy(snapshot_dir, wanted=snapshot)
    async with (
        _telling(as_json=as_json) as tell,
        options.runner(on_event=tell, snapshots=policy, **limits) as runner,
    ):
        runner.require_enabled()
        planned = await runner.preview_down(target_version)
        if planned and not as_json:
            print(
                f"WARNING: Rolling back to version {target_version}. This may result in data loss."
            )
            for line in _loss_lines(planned.effects):
                print(line)
        if planned and not yes and not await _confirmed(as_json=as_json):
            print("Rollback cancelled")
            return
        if first:
            _require_passed(await runner.rehearse_down(target_version))
        done = await runner.migrate_down(target_version) if planned else None
    if as_json:
        _print_json({"rolled_back": _step_list(done.steps if done else ())})
    elif done:
        print(f"Successfully rolled back to version {target_version}")
    else:
        print(f"Nothing to do: nothing above version {target_version} is applied")


@command
@snapshot_directory
async def snapshots(options: Options, *, as_json: bool, snapshot_dir: str | None) -> None:
    """List the snapshots of the database, newest first."""
    async with options.runner(snapshots=_policy(snapshot_dir)) as runner:
        found = await runner.snapshots()
    if as_json:
        _print_json({"snapshots": list(map(_snapshot_document, found))})
    for snapshot in found if not as_json else ():
        about = f"version {snapshot.version}, {_taken(snapshot)}, {megabytes(snapshot.size)}"
        print(f"{printable(snapshot.name)}  ({about})")
    if not found and not as_json:
        print("No snapshots")


@command
@click.argument("name", required=False)
@click.option("--yes", is_flag=True, help="Do not ask.")
@timeouts
@snapshot_directory
async def undo(
    options: Options,
    *,
    as_json: bool,
    name: str | None,
    yes: bool,
    snapshot_dir: str | None,
    **limits: float | None,
) -> None:
    """Restore the snapshot NAME, the newest if not given; what it replaces is kept as another."""
    policy = _policy(snapshot_dir)
    async with (
        _telling(as_json=as_json) as tell,
        options.runner(on_event=tell, snapshots=policy, **limits) as runner,
    ):
        snapshot, rows = await runner.plan_undo(name)
        if not as_json:
            print("\n".join(_undo_lines(snapshot, rows)))
        if not yes and not await _confirmed(as_json=as_json):
            print("Undo cancelled")
            return
        done = await runner.undo(str(snapshot.path))
    if as_json:
        about = {"restored": done.restored, "replaced": done.replaced}
        _print_json({what: _snapshot_document(s) for what, s in about.items()})
    else:
        print(f"Restored version {done.restored.version}")
        print(f"What it replaced is kept: {printable(done.replaced.name)}")


@command
@click.option("--strict", is_flag=True, help="Refuse also what no migration makes.")
async def validate(options: Options, *, as_json: bool, strict: bool) -> None:
    """Compare the applied migrations with those of the code, and the schema with what they make."""
    async with options.runner() as runner:
        found = await runner.validate(strict=strict)
    if as_json:
        _print_json(
            {
                "validation": "passed" if found else "skipped",
                "foreign": [str(difference) for difference in found.foreign],
                "unproven": found.unproven,
            }
        )
        return
    if not found:
        print("Migration integrity check skipped (WAVE_SKIP_MIGRATION_VALIDATION is true)")
        return
    print("Migration integrity check passed")
    for difference in found.foreign:
        print(f"Not made by a migration: {difference.type} {printable(difference.name)}")
    if found.unproven is not None:
        print(f"Schema not compared: migration {found.unproven} cannot be replayed without rows")


@command
@click.argument("target_version", type=int, required=False)
@click.option("--down", is_flag=True, help="Plan the way down to TARGET_VERSION.")
@click.option("--sql", is_flag=True, help="Print the scripts.")
@out_of_order
async def plan(
    options: Options,
    *,
    as_json: bool,
    target_version: int | None,
    down: bool,
    sql: bool,
    allow_out_of_order: bool,
) -> None:
    """Show what an `up` would do, up to TARGET_VERSION if given, or a `down` to it."""
    if down and target_version is None:
        raise click.UsageError("--down needs a TARGET_VERSION")
    runner = options.runner(allow_out_of_order=allow_out_of_order)
    await _show_plan(runner, target_version, as_json=as_json, down=down, sql=sql)


async def _show_plan(
    opened: MigrationRunner, target: int | None, *, as_json: bool, down: bool, sql: bool = False
) -> None:
    async with opened as runner:
        preview: Any = runner.preview_down if down else runner.preview_up
        found: Preview = await preview(target)
    if as_json:
        _print_json(_preview_document(found))
    elif not found:
        print("Nothing to do")
    else:
        print("\n".join(_preview_lines(found, sql=sql)))


def _require_passed(rehearsal: Rehearsal) -> None:
    if not rehearsal.ok:
        problems = (rehearsal.failure, rehearsal.violations, *rehearsal.damage)
        raise RehearsalFailed("; ".join(filter(None, problems)))


def staging(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of where a rehearsal takes place."""
    function = click.option(
        "--schema-only/--full",
        default=None,
        help="Rehearse without rows, or with them all.  [default: with them, up to 1 GiB]",
    )(function)
    return click.option(
        "--tmp",
        metavar="DIR",
        type=click.Path(exists=True, file_okay=False),
        help="Where the private copy is made.  [default: beside the database]",
    )(function)


@command
@click.argument("target_version", type=int, required=False)
@click.option("--down", is_flag=True, help="Rehearse the way down to TARGET_VERSION.")
@staging
@out_of_order
async def rehearse(
    options: Options,
    *,
    as_json: bool,
    target_version: int | None,
    down: bool,
    schema_only: bool | None,
    tmp: str | None,
    allow_out_of_order: bool,
) -> int:
    """Run what an `up` would do, or a `down`, on a private copy, and tell what came of it."""
    if down and target_version is None:
        raise click.UsageError("--down needs a TARGET_VERSION")
    async with options.runner(allow_out_of_order=allow_out_of_order) as runner:
        act: Any = runner.rehearse_down if down else runner.rehearse_up
        found: Rehearsal = await act(target_version, schema_only=schema_only, directory=tmp)
    if as_json:
        _print_json(_rehearsal_document(found))
    else:
        print("\n".join(_rehearsal_lines(found)))
    return 0 if found.ok else 1


@command
@click.argument("version", type=int)
@click.option("--force", is_flag=True, help="Take your word for it, whatever the schema says.")
async def baseline(options: Options, *, as_json: bool, version: int, force: bool) -> None:
    """Record migrations 1 to VERSION as applied, without running them."""
    async with options.runner() as runner:
        recorded = await runner.baseline(version, force=force)
    _print_recorded(recorded, "Recorded", as_json=as_json)


@command
@click.argument("versions", type=int, nargs=-1)
@click.option("--force", is_flag=True, help="Take your word for it, whatever the schema says.")
async def repair(
    options: Options, *, as_json: bool, versions: tuple[int, ...], force: bool
) -> None:
    """Accept edited migrations, all or VERSIONS, whose schema is the same as before."""
    async with options.runner() as runner:
        repaired = await runner.repair(versions, force=force)
    _print_recorded(repaired, "Accepted", as_json=as_json)


def _print_recorded(steps: Sequence[Step], verb: str, *, as_json: bool) -> None:
    if as_json:
        _print_json({verb.lower(): _step_list(steps)})
    for step in () if as_json else steps:
        print(f"{verb} migration {step.version}: {printable(step.description)}")
    if not steps and not as_json:
        print("Nothing to do")


def _rehearsal_lines(found: Rehearsal) -> Iterable[str]:
    if found.schema_only:
        yield f"Rehearsed without rows: {found.schema_only}"
    for step, seconds in zip(found.steps, found.times, strict=False):
        yield f"{step} ({seconds:.3f} s)"
    if not found.steps:
        yield "Nothing to do"
    for change in found.changes:
        yield f"  {_change(change)}"
    for row in found.rows:
        before, after = ("none" if n is None else f"{n:,}" for n in (row.before, row.after))
        yield f"  rows of {printable(row.table)}: {before} -> {after}"
    for problem in (found.violations, *found.damage, found.failure):
        if problem:
            yield f"Problem: {printable(problem, 4000)}"
    if found.steps and found.back is None and not found.failure:
        yield "It cannot be taken back: there is no way back"
    elif found.back:
        yield "Going back does not restore the schema:"
        yield from (f"  {printable(str(difference))}" for difference in found.back)
    yield "Rehearsal passed" if found.ok else "Rehearsal failed"


def _change(difference: Difference) -> str:
    """Tell a difference as a change: what is missing was dropped, what is foreign was added."""
    about = str(difference).removesuffix("missing").removesuffix("not ours")
    words = {"missing": "dropped", "not ours": "added"}
    ending = next((words[w] for w in words if difference.detail.endswith(w)), "")
    return printable(about + ending)


def _rehearsal_document(found: Rehearsal) -> dict[str, Any]:
    return {
        "ok": found.ok,
        "steps": [
            {**step, "seconds": seconds}
            for step, seconds in zip_longest(_step_list(found.steps), found.times)
        ],
        "failure": found.failure or None,
        "changes": [_change(change) for change in found.changes],
        "rows": [asdict(row) for row in found.rows],
        "violations": found.violations or None,
        "damage": found.damage,
        "reversible": found.back is not None,
        "not_restored": [str(difference) for difference in found.back or ()],
        "schema_only": found.schema_only or None,
    }


def _preview_lines(preview: Preview, *, sql: bool) -> Iterable[str]:
    for step in preview.adopted:
        yield f"Adopting migration {step.version}: {printable(step.description)}"
    for effect in preview.effects:
        yield str(effect.step)
        touches = f", touches {', '.join(map(printable, effect.touches))}" if effect.touches else ""
        back = "" if effect.reversible else ", cannot be rolled back"
        yield f"  {effect.statements} statement(s){touches}{back}"
        yield from _loss_lines([effect])
        if sql:
            lines = effect.script.splitlines()
            yield from (f"  | {printable(line.expandtabs(), len(line) * 8)}" for line in lines)


def _loss_lines(effects: Iterable[Effect]) -> Iterable[str]:
    for effect in effects:
        yield from (f"  {loss}" for loss in effect.losses)
        if effect.unknown:
            yield f"  what it destroys is not known: {printable(effect.unknown)}"


def _preview_document(preview: Preview) -> dict[str, Any]:
    return {
        "adopted": _step_list(preview.adopted),
        "steps": [
            {
                "direction": effect.step.direction.value,
                "version": effect.step.version,
                "description": effect.step.description,
                "statements": effect.statements,
                "reversible": effect.reversible,
                "touches": effect.touches,
                "losses": [asdict(loss) for loss in effect.losses],
                "unknown": effect.unknown or None,
                "sql": effect.script,
            }
            for effect in preview.effects
        ],
    }


@command
@click.argument("description")
async def new(options: Options, *, as_json: bool, description: str) -> None:
    """Write the next migration file of a folder, as those before it."""
    from wave_async.sources.new import new_migration  # noqa: PLC0415 - only this command needs it

    settings = options.settings()
    written = new_migration(settings.get("migrations"), description, settings.get("format"))
    if as_json:
        _print_json({"written": [str(path) for path in written]})
    else:
        for path in written:
            print(printable(str(path), longest=4000))


@command
async def log(options: Options, *, as_json: bool) -> None:
    """Show what was done to the database, by whom and how it went."""
    async with options.runner() as runner:
        entries = await runner.log()
    if as_json:
        _print_json({"database": runner.database, "log": [_log_document(e) for e in entries]})
        return
    for entry in entries:
        who = f"{entry.tool}, {entry.host}, process {entry.pid}"
        what = entry.action if entry.version is None else f"{entry.action} {entry.version}"
        about = f"{what}: {entry.outcome} in {entry.duration:.3f} s ({who})"
        print(f"{local_time(int(entry.started_at))} {printable(about)}")


def _log_document(entry: LogEntry) -> dict[str, Any]:
    return {**asdict(entry), "started_at": _utc(entry.started_at)}


@command
@click.option("--thorough", is_flag=True, help="Interrupt at every moment; takes long.")
async def verify(options: Options, *, as_json: bool, thorough: bool) -> int:
    """Try every migration in memory: up, down, up again, and interrupted."""
    async with options.runner() as runner:
        found = await runner.verify(thorough=thorough)
    if as_json:
        _print_json({"ok": found.ok, "interrupts": found.interrupts, **asdict(found)})
    else:
        print("\n".join(found.lines()))
    return 0 if found.ok else 1


def _status_lines(status: Status) -> Iterable[str]:
    yield f"Current schema version: {status.current_version}"
    yield ""
    yield "Migration Status:"
    yield "================"
    yield from map(_status_line, status.migrations)
    yield ""
    if any(m.state is State.UNKNOWN for m in status.migrations):
        yield "This code does not know every applied migration"
    if status.pending:
        held = len(status.pending) - len(status.due)
        limit = f" ({held} above WAVE_MAX_MIGRATION_VERSION={status.limit})" if held else ""
        yield f"{len(status.pending)} pending migration(s){limit}"
    else:
        yield "Database is up to date"


def _status_line(migration: MigrationStatus) -> str:
    applied = migration.applied_at
    when = "" if applied is None else f" (applied {local_time(applied)})"
    about = f"{migration.version}: {printable(migration.description)}"
    return f"{_MARKS[migration.state]} {about}{when}"


def _status_document(database: str, status: Status) -> dict[str, Any]:
    return {
        "database": database,
        "current_version": status.current_version,
        "pending": len(status.pending),
        "due": len(status.due),
        "migrations": [
            {
                "version": m.version,
                "description": m.description,
                "state": m.state.value,
                "applied_at": None if m.applied_at is None else _utc(m.applied_at),
            }
            for m in status.migrations
        ],
    }


def _undo_lines(snapshot: Snapshot, rows: Iterable[RowChange]) -> Iterable[str]:
    yield (
        f"WARNING: Restoring version {snapshot.version}, {_taken(snapshot)}. "
        "What was written since will be replaced."
    )
    for row in rows:
        now, then = (
            "no such table" if count is None else f"{count:,} row(s)"
            for count in (row.after, row.before)
        )
        yield f"  {printable(row.table)}: {now} now, {then} in the snapshot"


def _taken(snapshot: Snapshot) -> str:
    return f"taken {local_time(int(snapshot.taken_at.timestamp()))}"


def _snapshot_document(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "name": snapshot.name,
        "path": str(snapshot.path),
        "version": snapshot.version,
        "taken_at": snapshot.taken_at.isoformat().replace("+00:00", "Z"),
        "fingerprint": snapshot.fingerprint,
        "size": snapshot.size,
    }


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _step_list(steps: Sequence[Step]) -> list[dict[str, Any]]:
    return [{"version": step.version, "description": step.description} for step in steps]


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=2))


@asynccontextmanager
async def _telling(*, as_json: bool) -> AsyncIterator[Callable[[Event], None]]:
    """Print events as they come; what printing raises is raised when the run has ended."""
    failures: list[OSError] = []

    def tell(event: Event) -> None:
        try:
            match event:
                case StepStarted(step) if not as_json and not failures:
                    print(step, flush=True)
                case SnapshotTaken(path):
                    print(f"Snapshot taken: {printable(path)}", file=sys.stderr)
                case WaitingForLock(seconds):
                    print(f"Waiting for another process ({seconds:g} s)", file=sys.stderr)
        except OSError as error:
            failures.append(error)

    yield tell
    if failures:
        raise failures[0]


async def _confirmed(*, as_json: bool) -> bool:
    """Ask whether to go on; raises `ConfirmationRequired` where nobody can be asked."""
    if as_json or not sys.stdin.isatty():
        raise ConfirmationRequired
    return await _asked("Continue? (y/N): ") in {"y", "Y"}


async def _asked(question: str) -> str:
    """Ask on the terminal; waiting for the answer, the loop goes on and can be cancelled."""
    print(question, end="", flush=True)
    await anyio.wait_readable(sys.stdin)
    return os.read(sys.stdin.fileno(), 1024).decode(errors="replace").rstrip("\n")


class _Signals:
    """The first SIGINT or SIGTERM cancels the one task there is; repeats do nothing.

    Python's own handlers: those of a loop would be gone while the interpreter still shuts down.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._cancel: Callable[[], object] | None = None
        for number in _SIGNALS:
            signal.signal(number, self._end)

    def cancel_by(self, cancel: Callable[[], object]) -> None:
        """Say how to cancel; a signal that has come before does it at once."""
        self._cancel = cancel
        if self.received is not None:
            cancel()

    def _end(self, number: int, _frame: object) -> None:
        if self.received is None:
            self.received = signal.Signals(number)
            if self._cancel is not None:
                self._cancel()


def main() -> None:
    """Run the command line and exit with its code."""
    signals = _Signals()
    _mend_streams()
    try:
        code = asyncio.run(_run(sys.argv[1:], signals))
        sys.stdout.flush()
    except (OSError, _ReaderGone):  # `wave migrate status | head -1`, or a full disk, told by then
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    for number in _SIGNALS:  # handlers are taken away while the interpreter ends; this one stays
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def _mend_streams() -> None:
    """Put something in the place of closed streams, and let no text fail to be printed."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


async def _run(arguments: Sequence[str], signals: _Signals) -> int:
    task = asyncio.ensure_future(_command(arguments))
    loop = asyncio.get_running_loop()
    signals.cancel_by(lambda: loop.call_soon_threadsafe(task.cancel))
    try:
        with _woken_by_signals(loop):
            return await task
    except asyncio.CancelledError:
        if signals.received is None:
            raise
        gap = "\n" if sys.stderr.isatty() else ""  # after the terminal's ^C
        about = f"{_SIGNALS[signals.received]}: what was not finished is rolled back"
        print(f"{gap}{about}", file=sys.stderr)
        return 128 + signals.received


@contextmanager
def _woken_by_signals(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Let the loop wake up for a signal that the connection's thread got: its handler runs here."""
    here, there = socket.socketpair()
    there.settimeout(0)
    loop.add_reader(here, here.recv, 4096)
    signal.set_wakeup_fd(there.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        loop.remove_reader(here)
        here.close()
        there.close()


async def _command(arguments: Sequence[str]) -> int:
    try:
        return int(await cli.main(list(arguments), prog_name="wave", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return error.exit_code
