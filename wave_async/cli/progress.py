"""A line at the bottom of a terminal that shows how far a run has come, and is gone at its end."""

from __future__ import annotations

import os
import unicodedata
from asyncio import TimerHandle, get_running_loop
from collections.abc import Callable
from contextlib import suppress
from itertools import accumulate
from time import monotonic
from typing import TextIO

from wave_async.errors import printable
from wave_async.model.events import Event, RunStarted, StepFinished, StepStarted, WaitingForLock

FIRST = 1.0
"""A run that is over by then shows no line, in seconds."""
AGAIN = 0.2

_ERASE = "\r\x1b[K"
_BAR = 20
_WIDE = 60
"""From so many columns on there is room for a bar and for whole words."""
_FREE = 3
"""The columns that stay free: two for the ^C that a terminal shows, and the last one."""
_DOTS = ".."
_PULSE = "|/-\\"


class Progress:
    """Draws the line now and then, on the event loop, from what it hears and may ask.

    `statement` answers the number of the statement that runs now. A terminal that has gone away is
    not drawn on any more.
    """

    def __init__(self, stream: TextIO, about: str, statement: Callable[[], int | None]) -> None:
        self._stream = stream
        self._about = about
        self._statement = statement
        self._since = monotonic()
        self._count = self._done = self._statements = self._beats = 0
        self._drawn = False
        self._timer: TimerHandle | None = None

    def start(self) -> None:
        """Draw from now on."""
        self._timer = get_running_loop().call_later(FIRST, self._draw)

    def stop(self) -> None:
        """Leave nothing behind."""
        if self._timer is not None:
            self._timer.cancel()
        self.erase()

    def hear(self, event: Event) -> None:
        """Note what happens."""
        match event:
            case RunStarted(_, count):
                self._count, self._done = count, 0
            case StepStarted(step, statements):
                self._about = f"{step.version}: {printable(step.description)}"
                self._statements = statements
            case StepFinished():
                self._done, self._statements = self._done + 1, 0
            case WaitingForLock():
                self._about, self._statements = "Waiting for another process", 0

    def reach(self, done: int, count: int, about: str) -> None:
        """Note how far something has come that tells no events."""
        self._done, self._count, self._about = done, count, about

    def erase(self) -> None:
        """Make room for a line that stays."""
        if self._drawn:
            self._drawn = False
            with suppress(OSError):
                self._write(_ERASE)

    def _draw(self) -> None:
        self._beats += 1
        self._drawn = True
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns
            self._write(_ERASE + self.line(columns or 80))
        except OSError:
            return
        self._timer = get_running_loop().call_later(AGAIN, self._draw)

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    def line(self, columns: int) -> str:
        """Return the line for a terminal of so many columns."""
        roomy = columns >= _WIDE
        bar = f"{self._bar()} " if roomy and self._count else ""
        time = f"{_clock(monotonic() - self._since)} {_PULSE[self._beats % len(_PULSE)]}"
        end = f" {self._place(roomy=roomy)}{time}"
        room = columns - _FREE - len(bar) - len(end)
        if room < 0:
            return time[: max(columns - _FREE, 0)]
        return f"{bar}{fitting(self._about, room)}{end}"

    def _bar(self) -> str:
        part = (self._number() - 1) / self._statements if self._statements else 0
        full = min(_BAR, int(_BAR * (self._done + part) / self._count))
        return f"[{'#' * full}{'-' * (_BAR - full)}] {self._done}/{self._count}"

    def _place(self, *, roomy: bool) -> str:
        if not self._statements:
            return ""
        where = f"{self._number()}/{self._statements}"
        return f" statement {where}  " if roomy else f"{where} "

    def _number(self) -> int:
        return min(self._statement() or 1, self._statements)


def _clock(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    minutes = f"{hours}:{rest // 60:02}" if hours else str(rest // 60)
    return f"{minutes}:{rest % 60:02}"


def width(character: str) -> int:
    """Return how many columns a printable character takes (https://www.unicode.org/reports/tr11/)."""
    if unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def fitting(text: str, columns: int) -> str:
    """Return a text that takes exactly so many columns: cut, or filled up."""
    missing = columns - sum(map(width, text))
    if missing < 0:
        dots = _DOTS[:columns]
        room = columns - len(dots)
        fits = [used <= room for used in accumulate(map(width, text))]
        text = f"{text[: fits.index(False)]}{dots}"
        missing = columns - sum(map(width, text))
    return text + " " * missing
