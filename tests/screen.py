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


class Screen:
    """A process whose stdin, stdout and stderr are a terminal of some columns."""

    def __init__(
        self, command: Sequence[str], *, columns: int = 80, lines: int = 24, **environment: str
    ) -> None:
        self._there, slave = pty.openpty()
        self._screen = pyte.Screen(columns, lines)
        self._screen.write_process_input = self.type
        self._stream = pyte.ByteStream(self._screen)
        self._set_size(lines, columns)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _OWN_TERMINAL, *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm", **environment},
        )
        os.close(slave)

    def close(self) -> None:
        """Take the terminal away, and the process if it is still there."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._there)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._there, keys.encode())

    def resize(self, columns: int) -> None:
        """Make the window narrower or wider."""
        self._screen.resize(columns=columns)
        self._set_size(self._screen.lines, columns)
        os.kill(self.process.pid, signal.SIGWINCH)

    @property
    def lines(self) -> list[str]:
        """What is to be seen, without empty lines at the end."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip().split("\n")

    @property
    def text(self) -> str:
        """What is to be seen, as one text."""
        return "\n".join(self.lines)

    def colours(self, line: int) -> set[str]:
        """Return the colours of the letters of a line; the default is none."""
        row = self._screen.buffer[line]
        found = {row[x].fg for x in range(self._screen.columns) if row[x].data.strip()}
        return {colour for colour in found if colour != "default"}

    def wait_for(self, shown: Callable[[str], object]) -> None:
        """Read until the screen shows something."""
        deadline = monotonic() + PATIENCE
        while not shown(self.text):
            assert monotonic() < deadline, self.text
            assert self._read(), f"ended with {self.text}"

    def end(self) -> int:
        """Wait for the end; answers the exit code."""
        while self._read():
            pass
        return self.process.wait(PATIENCE)

    def _set_size(self, lines: int, columns: int) -> None:
        size = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(self._there, termios.TIOCSWINSZ, size)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._there], [], [], PATIENCE)
        assert ready, f"silent after {self.text}"
        try:
            shown = os.read(self._there, 4096)
        except OSError:  # EIO: nobody has the terminal open any more
            return False
        self._stream.feed(shown)
        return bool(shown)
