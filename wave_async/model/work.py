"""What a migration does, made ready to run: SQL that was split, functions that were looked up."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from wave_async.errors import InvalidScript
from wave_async.model.lifting import lift, runs_outside
from wave_async.model.migration import Part, Work, parts
from wave_async.model.script import ALGORITHM, Statement, parse, text_digest


@dataclass(frozen=True, slots=True)
class Function:
    """One step that is program code; `line` is where it begins in its own file.

    It `awaits` if it is declared `async def`: then it runs on the event loop.
    """

    call: Callable[[Any], Any]
    line: int
    number: int
    awaits: bool

    @property
    def first_line(self) -> str:
        """Its name, for a message."""
        return f"{self.call.__qualname__}()"


@dataclass(frozen=True, slots=True)
class ReadyWork:
    """The steps of one direction of a migration, in order, and their checksum.

    `keys_off` says that a script among them switched foreign keys off by itself, see `lift`.
    """

    steps: tuple[Statement | Function, ...]
    checksum: str
    keys_off: bool = False


def ready(work: Work, where: str, *, transaction: bool) -> ReadyWork:
    """Split the scripts and find the functions of a migration's work; steps are numbered through.

    The checksum of a single script is that of `parse`; that of a function is of its source, and
    that of several parts of the parts' checksums. Raises `InvalidScript`, also for a function whose
    source cannot be found, and without a `transaction` for a step that needs one.
    """
    steps: list[Statement | Function] = []
    digests: list[Sequence[str]] = []
    keys_off, count = False, 0
    for part in parts(work):
        if isinstance(part, str):
            script = parse(part, where)
            statements, off = lift(script.statements)
            steps += (
                [replace(s, number=s.number + count) for s in statements] if count else statements
            )
            digests.append(script.checksum.split(":")[1:])
            keys_off, count = keys_off or off, count + len(script.statements)
        else:
            count += 1
            digests.append([text_digest(source(part, where))] * 2)
            line = inspect.getsourcelines(part)[1]
            steps.append(Function(part, line, count, inspect.iscoroutinefunction(part)))
    if not transaction:
        _refuse_inside(steps, where)
    tokens, texts = (_joined([digest[n] for digest in digests]) for n in (0, 1))
    return ReadyWork(tuple(steps), f"{ALGORITHM}:{tokens}:{texts}", keys_off)


def work_digest(work: Work, where: str) -> str:
    """Return the last part of the checksum of a migration's work, without splitting its scripts."""
    return _joined([text_digest(source(part, where)) for part in parts(work)])


def _refuse_inside(steps: Sequence[Statement | Function], where: str) -> None:
    for step in steps:
        if isinstance(step, Function) or not runs_outside(step):
            problem = (
                f"{step.first_line}: without a transaction only VACUUM and PRAGMA journal_mode, "
                "page_size and auto_vacuum may run; move it into a migration of its own"
            )
            raise InvalidScript(where, step.line, problem)


def _joined(digests: Sequence[str]) -> str:
    return digests[0] if len(digests) == 1 else sha256("\0".join(digests).encode()).hexdigest()


def source(part: Part, where: str) -> str:
    """Return a script, or the source of a function: a checksum of either is of its text."""
    if isinstance(part, str):
        return part
    try:
        return inspect.getsource(part)
    except (OSError, TypeError) as error:
        raise InvalidScript(where, 1, f"the source of {part!r} cannot be found") from error
