"""A pool on a link, whatever that sends through, and the link to a file that stands for a cluster.

A rehearsal runs on such a file: in the session of a cluster, so that what a cluster would refuse is
refused there.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any, Final

from wave_async.database.closing import Closing
from wave_async.database.connection import LOCK_TIMEOUT, explained
from wave_async.database.remote import Link, RemoteRun, T
from wave_async.database.requests import Program
from wave_async.database.session import Part
from wave_async.database.waiting import part_reporter, reporter, to_its_end
from wave_async.errors import ConnectionLost
from wave_async.model.events import Event


class LinkedPool(Closing):
    """One link behind one asyncio lock, on which programs run, on the event loop.

    As an async context manager it closes the link at the end.
    """

    file: Final = None
    """There is no file to look at."""
    setup: Final = None
    """Nothing of Python can be put on a node's connection."""

    def __init__(self, path: str, link: Link) -> None:
        self.path = path
        self.generation = 0
        """How many connections were opened: what one says of changes means nothing for another."""
        self._link = link
        self._running: RemoteRun[Any] | None = None
        self._lock = asyncio.Lock()

    @property
    def running_part(self) -> Part | None:
        """The statement of a migration that runs now."""
        return None if self._running is None else self._running.part

    async def close(self) -> None:
        """Close the connection, if it is open; the pool opens a new one when it is used again."""
        async with self._lock:
            await to_its_end(self._link.close())

    async def run(
        self,
        program: Callable[[], Program[T]],
        *,
        judge: Callable[[], Program[object]] | None = None,  # noqa: ARG002 - nothing is created
        on_event: Callable[[Event], None] | None = None,
        events: Any = Event,
        statements: bool = False,
        patience: float = LOCK_TIMEOUT,
        statement_timeout: float = inf,
    ) -> T | None:
        """Run a program of the engine, from its first request to its last.

        A busy database, or a cluster without a leader, is waited for `patience` seconds. Everything
        else is as in `SingleConnectionPool.run`; the program itself runs on the event loop.
        """
        report = reporter(on_event, events)
        on_part = part_reporter(report) if statements else None
        run = RemoteRun[T](self._link, report, patience, statement_timeout, on_part)
        async with self._lock:
            return await self._driven(run, program, patience)

    async def ask(self, program: Callable[[], Program[T]], *, patience: float = LOCK_TIMEOUT) -> T:
        """Answer a question; the program is run again where the connection is lost meanwhile."""
        start = monotonic()
        async with self._lock:
            while True:
                run = RemoteRun[T](self._link, reporter(None), patience)
                try:
                    return await self._driven(run, program, patience)
                except ConnectionLost:
                    if monotonic() - start >= patience:
                        raise

    async def _driven(
        self, run: RemoteRun[T], program: Callable[[], Program[T]], patience: float
    ) -> T:
        self._running = run
        try:
            return await run.drive(program())
        except sqlite3.Error as error:
            raise explained(error, self.path, patience) from error
        finally:
            self._running = None


class FileLink:
    """A `Link` to a database in a file, or in memory, that nobody else uses."""

    def __init__(self, path: str | Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA foreign_keys = ON")  # as a node has it

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._connection.in_transaction

    async def send(
        self,
        sql: str,
        parameters: tuple[Any, ...] = (),
        *,
        rows: bool,  # noqa: ARG002 - all are asked for theirs
        patience: float,  # noqa: ARG002 - nobody else is there
    ) -> list[tuple[Any, ...]]:
        """Run one statement on a thread; cancelled, it is interrupted and over."""
        job = asyncio.ensure_future(asyncio.to_thread(self._run, sql, parameters))
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            with suppress(Exception):  # it is over, however it ended
                await to_its_end(job, self._interrupt)
            raise

    async def _interrupt(self) -> None:
        self._connection.interrupt()

    def _run(self, sql: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, parameters).fetchall()

    def drop(self) -> None:
        """Close the connection."""
        self._connection.close()

    async def close(self) -> None:
        """Close the connection."""
        await asyncio.to_thread(self._connection.close)
