"""What a person sees while a command runs, and how they are asked."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from wave_async.errors import ConfirmationRequired, printable
from wave_async.model.events import Event, SnapshotTaken, StepStarted, WaitingForLock


@asynccontextmanager
async def telling(*, as_json: bool) -> AsyncIterator[Callable[[Event], None]]:
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


async def confirmed(*, as_json: bool, what: str = "a rollback may lose data") -> bool:
    """Ask whether to go on; raises `ConfirmationRequired` where nobody can be asked."""
    if as_json or not sys.stdin.isatty():
        raise ConfirmationRequired(what)
    return await _asked("Continue? (y/N): ") in {"y", "Y"}


async def _asked(question: str) -> str:
    """Ask on the terminal; waiting for the answer, the loop goes on and can be cancelled."""
    import anyio  # noqa: PLC0415 - its sockets take as long to import as a status takes to answer

    print(question, end="", flush=True)
    await anyio.wait_readable(sys.stdin)
    return os.read(sys.stdin.fileno(), 1024).decode(errors="replace").rstrip("\n")
