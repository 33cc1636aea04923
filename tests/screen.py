"""A real process on a terminal of its own, and what its screen shows."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Sequence
from time import monotonic

import pyte

PATIENCE = 30
"""Seconds after which a screen that does not show what it should has failed."""

WAVE = (sys.executable, "-m", "wave_async", "migrate")

_OWN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A process whose stdin, stdout and stderr are a terminal: all that was `shown`, and keys."""

    def __init__(
        self, command: Sequence[str], *, columns: int = 0, lines: int = 0, **environment: str
    ) -> None:
        self._screen, there = pty.openpty()
        self._set_size(lines, columns)
        self._name = os.ttyname(there)
        self.shown = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", _OWN_TERMINAL, *command],
            stdin=there,
            stdout=there,
            stderr=there,
            start_new_session=True,
            env=os.environ | environment,
        )
        os.close(there)

    def close(self) -> None:
        """Take the terminal away, and the process if it is still there."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._screen)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._screen, keys.encode())

    def read_until(self, text: str) -> None:
        """Wait until the screen ends with a text."""
        while not self.shown.endswith(text):
            assert self._read(), f"ended with {self.shown!r}"

    def let_it_read(self) -> None:
        """Wait until the process has taken what was typed."""
        deadline = monotonic() + PATIENCE
        there = os.open(self._name, os.O_RDWR | os.O_NOCTTY)
        while fcntl.ioctl(there, termios.FIONREAD, bytes(4)) != bytes(4):
            assert monotonic() < deadline
            os.sched_yield()
        os.close(there)

    def end(self) -> int:
        """Wait for the end; answers the exit code."""
        while self._read():
            pass
        return self.process.wait(PATIENCE)

    def _set_size(self, lines: int, columns: int) -> None:
        size = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(self._screen, termios.TIOCSWINSZ, size)

    def _read(self) -> bytes:
        """Return what is shown next, nothing at the end."""
        ready, _, _ = select.select([self._screen], [], [], PATIENCE)
        assert ready, f"silent after {self.shown!r}"
        try:
            more = os.read(self._screen, 4096)
        except OSError:  # EIO: nobody has the terminal open any more
            return b""
        self.shown += more.decode(errors="replace")
        return more


class Screen(Terminal):
    """A terminal of some columns, and what is to be seen on it."""

    def __init__(
        self, command: Sequence[str], *, columns: int = 80, lines: int = 24, **environment: str
    ) -> None:
        environment = {"TERM": "xterm", **environment}
        super().__init__(command, columns=columns, lines=lines, **environment)
        self._seen = pyte.Screen(columns, lines)
        self._seen.write_process_input = self.type
        self._stream = pyte.ByteStream(self._seen)

    def resize(self, columns: int) -> None:
        """Make the window narrower or wider."""
        self._seen.resize(columns=columns)
        self._set_size(self._seen.lines, columns)
        os.kill(self.process.pid, signal.SIGWINCH)

    @property
    def lines(self) -> list[str]:
        """What is to be seen, without empty lines at the end."""
        return "\n".join(line.rstrip() for line in self._seen.display).rstrip().split("\n")

    @property
    def text(self) -> str:
        """What is to be seen, as one text."""
        return "\n".join(self.lines)

    def colours(self, line: int) -> set[str]:
        """Return the colours of the letters of a line; the default is none."""
        row = self._seen.buffer[line]
        found = {row[x].fg for x in range(self._seen.columns) if row[x].data.strip()}
        return {colour for colour in found if colour != "default"}

    def wait_for(self, shown: Callable[[str], object]) -> None:
        """Read until the screen shows something."""
        deadline = monotonic() + PATIENCE
        while not shown(self.text):
            assert monotonic() < deadline, self.text
            assert self._read(), f"ended with {self.text}"

    def _read(self) -> bytes:
        self._stream.feed(more := super()._read())
        return more
