"""What the commands share: their options, their errors, and how they print."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, cast

import asyncclick as click

from wave_async import safety
from wave_async.cli.group import Options, placed
from wave_async.cli.hint import print_hint
from wave_async.cli.stream import error_document, print_line, utc
from wave_async.cli.voice import Voice, bad, good, say, voiced
from wave_async.errors import WaveError, local_time, printable
from wave_async.model.migration import Step

if TYPE_CHECKING:
    from wave_async.model.difference import Difference
    from wave_async.safety.policy import SnapshotPolicy
    from wave_async.safety.snapshots import Snapshot


class ReaderGone(Exception):
    """Nobody reads stdout any more; asyncclick would end the process on a plain BrokenPipeError."""


def command(function: Callable[..., Awaitable[int | None]]) -> click.Command:
    """Make a function a command: `--json`, its result as exit code, its errors as one line."""

    @wraps(function)
    async def run(options: Options, *, as_json: bool, **rest: Any) -> None:
        voice = _voice(as_json=as_json)
        as_json = as_json or voice.events
        try:
            code = await function(options, as_json=as_json, **rest)
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise ReaderGone from error
        except (WaveError, OSError) as error:
            _print_error(error, as_json=as_json)
            if voice.events:
                print_line("error", error_document(error))
            code = 1
        except asyncio.CancelledError as error:
            if voice.events:
                with suppress(OSError):  # where nobody reads it, it is the signal that counts
                    print_line("error", error_document(error))
            raise
        raise click.exceptions.Exit(code or 0)

    with_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
    return click.command()(placed(voiced(with_json(click.pass_obj(cast(Any, run))))))


def _voice(*, as_json: bool) -> Voice:
    voice = Voice.of(click.get_current_context())
    if as_json and voice.events:
        raise click.UsageError("--events and --json exclude each other")
    if voice.quiet and voice.verbose:
        raise click.UsageError("--quiet and --verbose exclude each other")
    return voice


def _print_error(error: Exception, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(error_document(error)), file=sys.stderr)
    else:
        say(f"{bad('Error:')} {error}", err=True)
        print_diff(getattr(error, "differences", ()))
        print_hint(error)


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


def snapshot_policy(directory: str | None, *, wanted: bool | None = None) -> SnapshotPolicy | None:
    """Turn what was said of snapshots into a policy; unsaid, it is the default one."""
    if wanted is False:
        return None
    return safety.policy.SnapshotPolicy(always=bool(wanted), directory=directory)


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


def print_diff(differences: Iterable[Difference | str]) -> None:
    """Show on stderr in what schemas differ."""
    tones = {"-": bad, "+": good}
    for difference in differences:
        if isinstance(difference, str):  # a reason, which the sentence has told
            continue
        say(f"  {printable(str(difference))}", err=True)
        for line in difference.diff:
            say(f"    {tones.get(line[:1], str)(printable(line))}", err=True)


def print_json(document: dict[str, Any]) -> None:
    """Print the one document that `--json` asks for, or the last line that `--events` does."""
    if Voice.of(click.get_current_context()).events:
        print_line("result", document)
    else:
        print(json.dumps(document, indent=2))


def step_list(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Return steps as JSON has them."""
    return [{"version": step.version, "description": step.description} for step in steps]


def snapshot_document(snapshot: Snapshot) -> dict[str, Any]:
    """Return a snapshot as JSON has it."""
    return {
        "name": snapshot.name,
        "path": str(snapshot.path),
        "version": snapshot.version,
        "taken_at": utc(snapshot.taken_at.timestamp()),
        "fingerprint": snapshot.fingerprint,
        "size": snapshot.size,
    }


def taken(snapshot: Snapshot) -> str:
    """Tell when a snapshot was taken, in local time."""
    return f"taken {local_time(int(snapshot.taken_at.timestamp()))}"
