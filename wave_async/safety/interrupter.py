"""Interrupts a migration at a chosen moment, as a cancelled task would."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

from wave_async.database.requests import (
    BeginWrite,
    Call,
    Execute,
    Guard,
    Look,
    Program,
    Request,
    Rollback,
    T,
)

Place = tuple[int, int]
"""A moment of a run: which request it is, and which step of SQLite's machine."""


class Interrupter:
    """Ends a statement of a migration, from its BEGIN up to its COMMIT, at a place or after it."""

    def __init__(self) -> None:
        self._target = self._at = (0, 0)
        self._inside = self._armed = False
        self.hit: Place | None = None

    def aim(self, target: Place) -> None:
        """Wait for a place in the next run."""
        self._target, self._at, self.hit = target, (0, 0), None

    def tick(self) -> bool:
        """Count a step of SQLite's machine; answers whether the statement ends there."""
        if not self._armed or self.hit:
            return False
        self._at = self._at[0], self._at[1] + 1
        if self._at < self._target:
            return False
        self.hit = self._at
        return True

    def watch(self, program: Program[T]) -> Program[T]:
        """Run a program, and see what it asks for."""
        answer: Any = None
        resume: Callable[[Any], Request] = program.send
        while True:
            try:
                request = resume(answer)
            except StopIteration as stop:
                return cast(T, stop.value)
            self._see(request)
            if isinstance(request, Guard):
                request = replace(request, look=partial(self._see_inside, request.look))
            try:
                answer, resume = (yield request), program.send
            except BaseException as error:  # noqa: BLE001 - the program decides what follows
                answer, resume = error, program.throw

    def _see(self, request: Request) -> None:
        if isinstance(request, BeginWrite):
            self._inside = True
        elif isinstance(request, Rollback) or request == Execute("COMMIT"):
            self._inside = False
        self._armed = self._inside and isinstance(request, Execute | Call)
        self._at = self._at[0] + 1, 0

    def _see_inside(self, look: Look, sql: str) -> Program[None]:
        """Count a statement of a function like one of a script."""
        yield from look(sql)
        self._at = self._at[0] + 1, 0
