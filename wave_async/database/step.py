"""The program of one migration: one transaction, its statements, its record.

Also the one way in which the engine writes at all: look, wait for the lock, look again under it,
write and commit, or roll back.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from wave_async.database import guard, history
from wave_async.database.requests import (
    BeginWrite,
    Execute,
    Guard,
    Program,
    Query,
    Report,
    Restore,
    Rollback,
    T,
)
from wave_async.database.session import TELL_AFTER
from wave_async.errors import DatabaseLocked, MigrationFailed, TransactionEnded, WaveError
from wave_async.model.catalogue import Entry
from wave_async.model.events import StepFinished, StepStarted, WaitingForLock
from wave_async.model.migration import Direction
from wave_async.model.script import Script

Blame = Callable[[int | None, int | None, str, str], MigrationFailed]
"""Makes the error of a failed statement: its number, line, first line, and the reason."""

LOOK_AGAIN = 0.25
"""How long a waiter waits for the lock before it looks at the database without one, in seconds."""


def write(
    look: Callable[[], Program[T | None]], body: Callable[[T], Program[None]], patience: float
) -> Program[T | None]:
    """Run `body` under the write lock on what `look` finds; answers that, or None for nothing.

    `look` runs without a lock first, again whenever the lock is not to be had, and once more under
    it: only what it still finds there is written. `body` commits; whatever else happens is rolled
    back. Raises `DatabaseLocked` when what `look` finds has not changed for `patience` seconds.
    """
    waited = 0.0
    found = yield from look()
    while found is not None:
        if (yield from _with_foreign_keys(partial(_attempt, look, body, found))):
            return found
        before, found = found, (yield from look())
        waited = waited + LOOK_AGAIN if found == before else 0.0
        if waited >= patience:
            raise DatabaseLocked(waited)
        if waited == TELL_AFTER:
            yield Report(WaitingForLock(waited))
    return None


def _attempt(
    look: Callable[[], Program[T | None]], body: Callable[[T], Program[None]], found: T
) -> Program[bool]:
    if not (yield BeginWrite(LOOK_AGAIN)):
        return False
    try:
        if still := (yield from look()) == found:
            yield from body(found)
        return still
    finally:
        yield Rollback()  # whatever was not committed


def _with_foreign_keys(program: Callable[[], Program[T]]) -> Program[T]:
    """Run a program with keys enforced; the switch does nothing inside a transaction.

    https://sqlite.org/pragma.html#pragma_foreign_keys
    """
    ((before,),) = yield Query("PRAGMA foreign_keys")
    if before:
        return (yield from program())
    try:
        yield Execute("PRAGMA foreign_keys = ON")
        return (yield from program())
    finally:
        yield Restore(f"PRAGMA foreign_keys = {before}")


def migrate(entry: Entry, direction: Direction, *, tracked: bool) -> Program[None]:
    """Run one migration and its record inside the transaction that is open, and commit both.

    Raises `MigrationFailed`; its cause is the database's error, `StatementRefused` or
    `TransactionEnded`.
    """
    step = entry.step(direction)
    blame = partial(MigrationFailed, step.version, step.description, direction.value)
    yield Report(StepStarted(step))
    if not tracked:
        yield from _own(Execute(history.CREATE), blame)
    yield from run_script(entry.script(direction), blame)
    if direction is Direction.UP:
        yield from _own(Execute(history.RECORD, entry.row), blame)
    else:
        yield from _own(Execute(history.FORGET, (step.version,)), blame)
    yield from _own(Execute("COMMIT"), blame)
    yield Report(StepFinished(step))


def run_script(script: Script, blame: Blame) -> Program[None]:
    """Run the statements of a script under the guard, one by one."""
    yield Guard(on=True)
    try:
        for number, statement in enumerate(script.statements, 1):
            try:
                guard.check(statement.sql)
                if not (yield Execute(statement.sql)):
                    raise TransactionEnded
            except Exception as error:
                reason = _reason(error)
                raise blame(number, statement.line, statement.first_line, reason) from error
    finally:
        yield Guard(on=False)


def _own(request: Execute, blame: Blame) -> Program[None]:
    try:
        yield request
    except Exception as error:
        raise blame(None, None, request.sql.partition("\n")[0], _reason(error)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, WaveError):
        return error.sentence()
    return f"{getattr(error, 'sqlite_errorname', type(error).__name__)}: {error}"
