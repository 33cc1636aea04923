"""The program of one migration: one transaction, its statements, its record.

Also the one way in which the engine writes at all: look, wait for the lock, look again under it,
write and commit, or roll back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from math import inf
from time import monotonic

from wave_async.database import guard, history, keys
from wave_async.database.log import Log
from wave_async.database.requests import (
    Asked,
    BeginWrite,
    Call,
    Execute,
    Guard,
    Look,
    Program,
    Query,
    Report,
    Rollback,
    SwitchToWal,
    T,
    Unguard,
)
from wave_async.database.session import TELL_AFTER
from wave_async.errors import (
    ClusterUnreachable,
    ConnectionLost,
    DatabaseLocked,
    MigrationFailed,
    TransactionEnded,
    WaveError,
)
from wave_async.model.catalogue import Entry
from wave_async.model.events import StepFinished, StepStarted, WaitingForLock
from wave_async.model.migration import Action, Direction
from wave_async.model.script import Statement
from wave_async.model.work import Function

Blame = Callable[[int | None, int | None, str, str], MigrationFailed]
"""Makes the error of a failed statement: its number, line, first line, and the reason."""

LOOK_AGAIN = 0.25
"""How long a waiter waits for the lock before it looks at the database without one, in seconds."""


def write(
    look: Callable[[], Program[T | None]],
    body: Callable[[T], Program[None]],
    patience: float,
    *,
    found: T | None = None,
    landed: Callable[[], Program[bool]] | None = None,
) -> Program[T | None]:
    """Run `body` under the write lock on what `look` finds; answers that, or None for nothing.

    `look` runs without a lock first, unless what it has `found` is given, again whenever the lock
    is not to be had, and once more under it: only what it still finds there is written. `body`
    commits; whatever else happens is rolled back. Raises `DatabaseLocked` when what `look` finds
    has not changed for `patience` seconds.

    Where the connection is lost it is tried again. Where it was lost in a COMMIT, what was written
    is looked for under the lock of a new one, by `landed` (as a rule: `look` finds something else),
    and written again only if it is not there.
    """
    waited = 0.0
    found = (yield from look()) if found is None else found
    landed = landed or partial(_differs, look, found)
    doubt, given_up = None, inf
    while found is not None:
        try:
            if doubt is not None and (yield from _has_landed(landed, doubt, given_up)):
                return found
            if (yield from _attempt(look, body, found)):
                return found
        except (ClusterUnreachable, ConnectionLost) as error:
            doubt = error if isinstance(error, ConnectionLost) and error.in_doubt else doubt
            given_up = min(given_up, monotonic() + patience)
            if isinstance(error, ClusterUnreachable) or monotonic() >= given_up:
                raise error if doubt is None else doubt  # noqa: B904 - it may be the same
            continue
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


def _has_landed(
    landed: Callable[[], Program[bool]], doubt: ConnectionLost, given_up: float
) -> Program[bool]:
    """Look under the lock; what is found there is proven by a commit, which only a leader can do.

    A plain read may be answered by who has not heard yet that another node leads. Raises the
    `doubt` where the lock is not to be had before it is `given_up`.
    """
    while not (yield BeginWrite(LOOK_AGAIN)):
        if monotonic() >= given_up:
            raise doubt
    try:
        if found := (yield from landed()):
            ((version,),) = yield Query("PRAGMA user_version")
            yield Execute(f"PRAGMA user_version = {version}")  # writes a page, and changes nothing
            yield Execute("COMMIT")
        return found
    finally:
        yield Rollback()


def _differs(look: Callable[[], Program[T | None]], found: T) -> Program[bool]:
    return (yield from look()) != found


def migrate(entry: Entry, direction: Direction, *, tracked: bool) -> Program[None]:
    """Run one migration inside the transaction that is open; its record and COMMIT come after it.

    Raises `MigrationFailed`; its cause is the database's error, what a function raised, or one of
    ours: `StatementRefused`, `CascadeRefused`, `KeysViolated`, `TransactionEnded`.
    """
    failed, keys_on = blame(entry, direction), entry.keys_on(direction)
    yield Report(_started(entry, direction))
    before = None if keys_on else (yield from keys.violations())
    if not tracked:
        yield from _own(Execute(history.CREATE), failed)
    yield from run(entry, direction)
    if before is not None:
        with _blaming(failed, None, None, "PRAGMA foreign_key_check"):
            yield from keys.check(before)


def outside(entry: Entry, direction: Direction) -> Program[None]:
    """Run a migration that asked for it outside a transaction; its record comes after it.

    Interrupted between the two it runs again: at least once. Unguarded: VACUUM attaches a database.
    """
    yield Report(_started(entry, direction))
    try:
        for statement in entry.work(direction).steps:
            yield from _run_step(statement, blame(entry, direction), _look_away, transaction=False)
    finally:
        yield SwitchToWal(LOOK_AGAIN, anew=True)


def record(
    entry: Entry, direction: Direction, log: Log, started: float, *, tracked: bool
) -> Program[None]:
    """Write the record of a migration inside the transaction that is open.

    The log gets its row too; `started` is in seconds since 1970.
    """
    failed = blame(entry, direction)
    if not tracked:
        yield from _own(Execute(history.CREATE), failed)
    if direction is Direction.UP:
        yield from _own(Execute(history.RECORD, entry.row), failed)
    else:
        yield from _own(Execute(history.FORGET, (entry.version,)), failed)
    yield from log.append(Action(direction.value), entry.version, entry.checksum, started)


def commit(
    entries: Sequence[Entry], direction: Direction, seconds: Sequence[float]
) -> Program[None]:
    """Commit migrations with their records; each has taken so many seconds."""
    yield from _own(Execute("COMMIT"), blame(entries[-1], direction))
    yield from finish(entries, direction, seconds)


def finish(
    entries: Sequence[Entry],
    direction: Direction,
    seconds: Sequence[float],
    *,
    confirmed: bool = False,
) -> Program[None]:
    """Tell that migrations are committed."""
    for entry, took in zip(entries, seconds, strict=True):
        yield Report(StepFinished(entry.step(direction), took, confirmed))


def run(entry: Entry, direction: Direction) -> Program[Asked]:
    """Run the steps of a migration under the guard, with the options that it asked for.

    Answers what the guard was asked.
    """
    cascade = entry.migration.cascade or not entry.keys_on(direction)
    look = guard.look if cascade else _look_at_cascades
    legacy = entry.migration.legacy_alter_table
    steps = entry.work(direction).steps
    return (yield from run_steps(steps, blame(entry, direction), look, legacy_alter_table=legacy))


def run_steps(
    steps: Iterable[Statement | Function],
    failed: Blame,
    look: Look,
    *,
    legacy_alter_table: bool = False,
) -> Program[Asked]:
    """Run steps under the guard, one by one, each statement looked at before it runs.

    Answers what the guard was asked.
    """
    try:
        yield Guard(look, legacy_alter_table)
        for step in steps:
            yield from _run_step(step, failed, look)
    finally:
        asked = yield Unguard()
    return asked  # type: ignore[no-any-return]


def _run_step(
    step: Statement | Function, failed: Blame, look: Look, *, transaction: bool = True
) -> Program[None]:
    with _blaming(failed, step.number, step.line, step.first_line):
        if isinstance(step, Function):
            still_open = yield Call(step.call, step.awaits, step)
        else:
            yield from look(step.sql)
            still_open = yield Execute(step.sql, part=step)
        if transaction and not still_open:
            raise TransactionEnded


def _started(entry: Entry, direction: Direction) -> StepStarted:
    steps = entry.work(direction).steps
    return StepStarted(entry.step(direction), steps[-1].number if steps else 0)


def _look_at_cascades(sql: str) -> Program[None]:
    yield from guard.look(sql)
    yield from keys.refuse_cascade(sql)


def _look_away(_: str) -> Program[None]:
    yield from ()


def blame(entry: Entry, direction: Direction) -> Blame:
    """Return what makes the error of a failed step of a migration."""
    return partial(MigrationFailed, entry.version, entry.migration.description, direction.value)


def _own(request: Execute, failed: Blame) -> Program[None]:
    with _blaming(failed, None, None, request.sql.partition("\n")[0]):
        yield request


@contextmanager
def _blaming(
    failed: Blame, number: int | None, line: int | None, first_line: str
) -> Iterator[None]:
    """Make what a statement raises the error of its migration; a lost connection is nobody's."""
    try:
        yield
    except ConnectionLost:
        raise
    except Exception as error:
        raise failed(number, line, first_line, _reason(error)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, WaveError):
        return error.sentence()
    return f"{getattr(error, 'sqlite_errorname', type(error).__name__)}: {error}"
