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
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, cast

import anyio
import asyncclick as click

from wave_async.config import MigrationConfig
from wave_async.definitions import MIGRATIONS
from wave_async.errors import ConfirmationRequired, WaveError, local_time, printable
from wave_async.model.events import Event, StepStarted, WaitingForLock
from wave_async.model.migration import Step
from wave_async.model.plan import MigrationStatus, State, Status
from wave_async.runner import MigrationRunner, load_migrations

PENDING_FOUND = 3
_MARKS = {State.APPLIED: "[x]", State.PENDING: "[ ]", State.UNKNOWN: "[?]"}
_SIGNALS = {signal.SIGINT: "Interrupted", signal.SIGTERM: "Terminated"}


@dataclass(frozen=True, slots=True)
class Options:
    """What was said before the command."""

    database: str
    source: str | None

    def runner(self, **options: Any) -> MigrationRunner:
        """Open the database and the migrations that were named."""
        migrations = load_migrations(self.source) if self.source else MIGRATIONS
        return MigrationRunner(
            self.database, migrations, config=MigrationConfig.from_env(), **options
        )


@click.group()
@click.version_option(package_name="wave-async", message="%(prog)s %(version)s")
def cli() -> None:
    """Migrations for SQLite."""


@cli.group()
@click.option(
    "--database",
    metavar="PATH",
    envvar="WAVE_DATABASE",
    default=".wave/state.db",
    show_default=True,
    show_envvar=True,
    help="The database.",
)
@click.option(
    "--migrations",
    "source",
    metavar="SOURCE",
    envvar="WAVE_MIGRATIONS",
    show_envvar=True,
    help="Where the migrations are, as module:attribute; Wave's own if not given.",
)
@click.pass_context
def migrate(context: click.Context, database: str, source: str | None) -> None:
    """Look at the version of a database, and change it."""
    context.obj = Options(database, source)


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


@command
@click.argument("target_version", type=int, required=False)
@click.option("--out-of-order", is_flag=True, help="Apply versions below applied ones too.")
@timeouts
async def up(
    options: Options,
    *,
    as_json: bool,
    target_version: int | None,
    out_of_order: bool,
    **limits: float | None,
) -> None:
    """Apply what is pending, up to TARGET_VERSION if given."""
    async with (
        _telling(as_json=as_json) as tell,
        options.runner(allow_out_of_order=out_of_order, on_event=tell, **limits) as runner,
    ):
        done = await runner.migrate_up(target_version)
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
@timeouts
async def down(
    options: Options, *, as_json: bool, target_version: int, yes: bool, **limits: float | None
) -> None:
    """Roll back everything above TARGET_VERSION."""
    async with (
        _telling(as_json=as_json) as tell,
        options.runner(on_event=tell, **limits) as runner,
    ):
        plan = await runner.plan_down(target_version)
        if plan and not as_json:
            print(
                f"WARNING: Rolling back to version {target_version}. This may result in data loss."
            )
        if plan and not yes:
            if as_json or not sys.stdin.isatty():
                raise ConfirmationRequired
            if await _asked("Continue? (y/N): ") not in {"y", "Y"}:
                print("Rollback cancelled")
                return
        done = plan and await runner.migrate_down(target_version)
    if as_json:
        _print_json({"rolled_back": _step_list(done.steps)})
    elif done:
        print(f"Successfully rolled back to version {target_version}")
    else:
        print(f"Nothing to do: nothing above version {target_version} is applied")


@command
async def validate(options: Options, *, as_json: bool) -> None:
    """Compare the applied migrations with those of the code."""
    async with options.runner() as runner:
        passed = await runner.validate()
    if as_json:
        _print_json({"validation": "passed" if passed else "skipped"})
    elif passed:
        print("Migration integrity check passed")
    else:
        print("Migration integrity check skipped (WAVE_SKIP_MIGRATION_VALIDATION is true)")


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


def _utc(seconds: int) -> str:
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
                case WaitingForLock(seconds):
                    print(f"Waiting for another process ({seconds:g} s)", file=sys.stderr)
        except OSError as error:
            failures.append(error)

    yield tell
    if failures:
        raise failures[0]


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
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # the interpreter takes its handlers away
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
