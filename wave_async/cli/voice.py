"""How the command line speaks: how much, in which colour, and to whom.

Decided once, by the options before or after a command, the environment and the streams. Who says
something names what it means; whether that is a colour is not theirs to know.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import asyncclick as click

good = partial(click.style, fg="green")
"""Applied, passed, done."""
waiting = partial(click.style, fg="yellow")
"""Pending, a warning, something to know before going on."""
bad = partial(click.style, fg="red")
"""Unknown, failed, lost."""
faint = partial(click.style, dim=True)
"""What only `--verbose` tells."""

_MARKS = {"[x]": good, "[ ]": waiting, "[?]": bad, "[!]": bad}
_COLOURS = {"always": True, "never": False}
_SAID = "wave_async.voice"


@dataclass(frozen=True, slots=True)
class Voice:
    """How much is told, and whether to a program that reads events."""

    quiet: bool = False
    verbose: bool = False
    events: bool = False

    @classmethod
    def of(cls, context: click.Context) -> Voice:
        """Return what the options of a command and of its group said."""
        return cls(**context.meta.get(_SAID, {}))


def voiced(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that a command has and that may stand before it, too."""
    option = partial(click.option, expose_value=False, callback=_note)
    for add in (
        option("--verbose", is_flag=True, help="Tell each statement and what took how long."),
        option("--quiet", is_flag=True, help="Tell only errors, and results that are asked for."),
        option(
            "--color",
            type=click.Choice(["auto", "always", "never"]),
            help="When to use colours.  [env var: NO_COLOR, FORCE_COLOR; default: auto]",
        ),
    ):
        function = add(function)
    return function


def streaming(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option of commands that tell a program what happens while they run."""
    return click.option(
        "--events",
        is_flag=True,
        expose_value=False,
        callback=_note,
        help="Print a line of JSON for each event, the result last.",
    )(function)


def _note(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if parameter.name == "color":
        if value is not None or context.color is None:
            context.color = _wanted_colour(value)
    elif value:
        context.meta.setdefault(_SAID, {})[parameter.name] = True


def _wanted_colour(said: str | None) -> bool | None:
    """Return whether colours are wanted; None: on each stream that is a terminal.

    The option goes before the variables (https://no-color.org, https://force-color.org), of which
    NO_COLOR wins, as in Python itself, and they before the terminal.
    """
    if said in _COLOURS:
        return _COLOURS[said]
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return False if os.environ.get("TERM") == "dumb" else None


def say(text: str, *, err: bool = False) -> None:
    """Print what is asked for; where no colours are wanted, without."""
    click.echo(text, sys.stderr if err else sys.stdout)


def remark(text: str, *, err: bool = False) -> None:
    """Print what `--quiet` leaves out."""
    if not Voice.of(click.get_current_context()).quiet:
        say(text, err=err)


def marked(line: str) -> str:
    """Give the mark that a line begins with its colour."""
    mark, rest = line[:3], line[3:]
    return f"{_MARKS[mark](mark)}{rest}" if mark in _MARKS else line
