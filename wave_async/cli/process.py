"""The process around a command: signals, streams, exit code."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import asyncclick as click

from wave_async.cli.command import ReaderGone
from wave_async.cli.group import cli

_SIGNALS = {signal.SIGINT: "Interrupted", signal.SIGTERM: "Terminated"}


class _Signals:
    """The first SIGINT or SIGTERM cancels the one task there is; repeats do nothing.

    Python's own handlers: those of a loop would be gone while the interpreter still shuts down.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._cancel: Callable[[], object] | None = None
        for number in _SIGNALS:
            signal.signal(number, self._end)

    @property
    def code(self) -> int:
        """The exit code of who was ended by a signal; 0: none has come."""
        return 128 + self.received if self.received is not None else 0

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
    mend_streams()
    try:
        code = asyncio.run(_run(sys.argv[1:], signals))
        sys.stdout.flush()
    except (OSError, ReaderGone):  # `wave migrate status | head -1`, or a full disk, told by then
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = signals.code or 1
    # Blocked first: one between Python's last look and sigaction() would print a traceback.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    for number in _SIGNALS:  # handlers are taken away while the interpreter ends; this one stays
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def mend_streams() -> None:
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
        return signals.code


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
