"""Where the documentation tells of an error."""

from __future__ import annotations

import sys

from wave_async.cli.voice import faint, say
from wave_async.errors import WaveError

ERRORS_PAGE = "docs/errors.md"
"""Has a section for each class of error, named after it."""


def print_hint(error: BaseException) -> None:
    """Name the section on an error, or on what made a migration fail, if a person reads stderr."""
    if not isinstance(error, WaveError) or not sys.stderr.isatty():
        return
    told = error.__cause__ if isinstance(error.__cause__, WaveError) else error
    say(faint(f"see {ERRORS_PAGE}#{type(told).__name__.lower()}"), err=True)
