"""How the event loop waits for what goes on in a thread, also when it is cancelled meanwhile.

Knows tasks and threads; knows neither SQLite nor the lock of a pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from contextvars import copy_context
from copy import copy
from threading import Lock
from typing import Any, TypeVar

import anyio

from wave_async.database.driver import refuse_unrun
from wave_async.database.question import Question
from wave_async.database.session import POLL, Hop, Part
from wave_async.model.events import Event, StatementStarted
from wave_async.model.work import Function

T = TypeVar("T")


def reporter(
    on_event: Callable[[Event], None] | None, events: Any = Event
) -> Callable[[Event], None]:
    """Return what a thread may call to tell an event on the loop; a closed loop hears nothing.

    Only `events` are told: each wakes the loop, which then wants the interpreter's lock. They are
    told in the context of who asks for the reporter.
    """
    if on_event is None:
        return lambda _: None
    loop, context = asyncio.get_running_loop(), copy_context()

    def report(event: Event) -> None:
        if isinstance(event, events):
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(on_event, event, context=context)

    return report


def part_reporter(report: Callable[[Event], None]) -> Callable[[Part], None]:
    """Return what tells the parts of migrations as events."""

    def tell(part: Part) -> None:
        text = part.first_line if isinstance(part, Function) else part.sql
        report(StatementStarted(part.number, part.line, text))

    return tell


async def on_a_thread(question: Question[Any]) -> None:
    """Ask a question on a thread of the loop's; cancelled before one is free, it is never asked.

    Starting a thread takes longer than most questions, as it waits for the new one's first step.
    """
    turn = Lock()  # taken by the thread, or by who gives up before it

    def work() -> None:
        if turn.acquire(blocking=False):
            question.ask()

    try:
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, work))
    except asyncio.CancelledError:
        if turn.acquire(blocking=False):
            question.finished = True
        raise


async def to_answer(
    hop: Hop[Any],
    run: Callable[[], Awaitable[object]],
    connection: Any | None = None,
) -> None:
    """Run a hop to its end, and with the connection what it has to await on the loop meanwhile.

    Cancelled, however often, it waits until the hop's thread has answered.
    """
    try:
        await run()
        while hop.awaited is not None:
            hop.answer(await _failure(hop.awaited, connection))
            await run()
    except asyncio.CancelledError as error:
        rest: asyncio.Future[object] | None = None
        with anyio.CancelScope(shield=True):
            while not (hop.finished and (rest is None or rest.done())):
                hop.cancel()
                if hop.awaited is not None:
                    hop.answer(error)
                    rest = asyncio.ensure_future(run())
                with suppress(asyncio.CancelledError):  # a native cancel passes anyio's shield
                    await asyncio.sleep(POLL / 2)
        raise


async def _failure(
    function: Callable[[Any], Awaitable[object]], connection: Any | None
) -> BaseException | None:
    """Await a function, and end its use of the connection with it.

    It has a double, which is emptied afterwards: a task that it left behind would go on to write,
    each statement committed by itself, after a rollback as after a commit.
    """
    lent = copy(connection)
    try:
        refuse_unrun(await function(lent))
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - the program decides what follows
        return error
    finally:
        if lent is not None:
            vars(connection).update(vars(lent))  # it may be closed now
            vars(lent).update(dict.fromkeys(vars(lent)))
    return None


async def _nothing() -> None:
    """Do nothing meanwhile."""


async def to_its_end(
    awaitable: Awaitable[T], meanwhile: Callable[[], Awaitable[None]] = _nothing
) -> T:
    """Await something that must not be left half done; a cancellation is raised after it.

    `meanwhile` is called every few milliseconds until then.
    """
    task = asyncio.ensure_future(awaitable)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            # A scope would import anyio's backend, a tenth of a start; the first cancellation needs
            # none, as it does not reach the task.
            with anyio.CancelScope(shield=True) if cancelled else nullcontext():
                await asyncio.wait([task], timeout=POLL / 2)
        except asyncio.CancelledError as error:
            cancelled = cancelled or error
        if not task.done():
            await meanwhile()
    if cancelled:
        raise cancelled
    return task.result()
