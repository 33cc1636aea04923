"""What a person sees while a command runs, and how they are asked."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import asyncclick as click

from wave_async.cli.stream import print_event
from wave_async.cli.voice import Voice, bad, faint, remark, waiting
from wave_async.errors import ConfirmationRequired, printable
from wave_async.model.events import (
    Event,
    Marked,
    RunEnded,
    SnapshotTaken,
    StatementStarted,
    StepFailed,
    StepFinished,
    StepStarted,
    WaitingForLock,
)

if TYPE_CHECKING:
    from wave_async.cli.progress import Progress
    from wave_async.runner import MigrationRunner


class Teller:
    """Tells the events of a run as they come: in lines, or as lines of JSON.

    With `--verbose` it wants to hear of all `statements`. What printing raises is kept in `failure`
    until the run has ended.
    """

    def __init__(self, voice: Voice, *, as_json: bool) -> None:
        self.failure: OSError | None = None
        self.statements = voice.verbose
        self._voice = voice
        self._as_json = as_json
        self._progress: Progress | None = None

    def __call__(self, event: Event) -> None:
        """Tell an event."""
        try:
            if self._voice.events:
                print_event(event)
            else:
                self._show(event)
        except OSError as error:
            self.failure = self.failure or error

    @contextmanager
    def watching(self, runner: MigrationRunner, about: str) -> Iterator[None]:
        """Show on a terminal how far a runner has come, and what it is about until it says so."""
        if self._voice.verbose:
            remark(faint(f"Database: {printable(runner.database)}"), err=True)
        if self._as_json or self._voice.quiet or not can_draw():
            yield
            return
        from wave_async.cli.progress import Progress  # noqa: PLC0415 - for a terminal alone

        self._progress = Progress(sys.stderr, about, lambda: runner.running_statement)
        self._progress.start()
        try:
            yield
        finally:
            self._progress.stop()
            self._progress = None

    def _show(self, event: Event) -> None:
        if self._progress is not None:
            self._progress.hear(event)
        if line := self._line(event):
            if self._progress is not None:
                self._progress.erase()
            remark(line, err=not isinstance(event, StepStarted))

    def _line(self, event: Event) -> str | None:
        match event:
            case StepStarted(step) if not self._as_json and self.failure is None:
                return str(step)
            case SnapshotTaken(path):
                return f"Snapshot taken: {printable(path)}"
            case Marked(mark):
                return f"Before it: {printable(mark)}"
            case StepFinished(confirmed=True):
                return waiting("Confirmed after re-check: the connection was lost in its COMMIT")
            case WaitingForLock(seconds):
                return waiting(f"Waiting for another process ({seconds:g} s)")
        return self._detail(event) if self._voice.verbose else None

    def _detail(self, event: Event) -> str | None:
        match event:
            case StatementStarted(number, line, sql):
                text = " ".join(printable(sql.replace("\n", " "), 4000).split())
                return faint(f"  statement {number}, line {line}: {text}")
            case StepFinished(_, seconds):
                return faint(f"  done in {seconds:.3f} s")
            case StepFailed(_, seconds):
                return bad(f"  failed after {seconds:.3f} s")
            case RunEnded(_, done, seconds):
                return faint(f"{len(done)} migration(s) in {seconds:.3f} s")
        return None


def watching(runner: MigrationRunner, about: str, *, as_json: bool) -> AbstractContextManager[None]:
    """Show on a terminal that something goes on which tells no events."""
    voice = Voice.of(click.get_current_context())
    return Teller(voice, as_json=as_json).watching(runner, about)


def can_draw() -> bool:
    """Whether stderr is a terminal with a line that can be drawn again."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


@asynccontextmanager
async def telling(*, as_json: bool) -> AsyncIterator[Teller]:
    """Print events as they come; what printing raises is raised when the run has ended."""
    teller = Teller(Voice.of(click.get_current_context()), as_json=as_json)
    yield teller
    if teller.failure is not None:
        raise teller.failure


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
