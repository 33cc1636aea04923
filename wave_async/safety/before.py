"""The application's own hook before a run: called without a lock, its mark kept in the log."""

from __future__ import annotations

import asyncio
from functools import partial
from inspect import isawaitable
from time import time

from wave_async.database.requests import Call, Program, Report
from wave_async.database.walk import Walk
from wave_async.errors import HookFailed, WaveError
from wave_async.model.events import Hook, Marked, UpcomingRun
from wave_async.model.migration import Action, Step


class Before:
    """Calls a hook once a walk has something to do, and gives the log its mark with the first step.

    On an empty database it is not called: there is nothing to go back to. Of many workers that
    start at once each one that sees something to do calls it, and the one that does the first step
    alone has its mark in the log. Raises `HookFailed` for what it raises, but for errors of ours.
    """

    def __init__(self, hook: Hook, database: str, walk: Walk) -> None:
        self._hook = hook
        self._database = database
        self._walk = walk
        self._first: Step | None = None
        self._mark: str | None = None
        self._started = 0.0
        walk.before_lock.append(self._tell)
        walk.before_first.append(self._note)

    def _tell(self) -> Program[None]:
        walk = self._walk
        if walk.is_empty:
            return
        self._first, self._started = walk.left[0], time()
        run = UpcomingRun(self._database, walk.direction, walk.left)
        try:
            yield Call(partial(self._call, run), awaits=True)
        except WaveError:
            raise
        except Exception as error:
            raise HookFailed(f"{type(error).__name__}: {error}") from error
        if self._mark is not None:
            yield Report(Marked(self._mark))

    async def _call(self, run: UpcomingRun, _connection: object) -> None:
        mark = await asyncio.to_thread(self._hook, run)
        if isawaitable(mark):
            mark = await mark
        if not isinstance(mark, str | None):
            raise HookFailed(f"it returned {mark!r}, which is no text")
        self._mark = mark

    def _note(self) -> Program[None]:
        log, first = self._walk.log, self._walk.left[0]
        if self._mark is not None and self._first == first:  # nobody else has done it meanwhile
            yield from log.append(Action.MARK, first.version, None, self._started, self._mark)
