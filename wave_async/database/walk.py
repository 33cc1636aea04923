"""The programs of whole runs: up, down, marking versions as applied, loading a schema.

Each decides again, from what it reads, what comes next; a list made before the lock would leave
holes when somebody else migrates meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from time import monotonic, time

from wave_async.database import guard, history, keys, step
from wave_async.database.history import History
from wave_async.database.log import OFF, Log
from wave_async.database.requests import DataVersion, Execute, Program, Report, Rollback, T
from wave_async.errors import MigrationFailed, NotAtomic, PlanChanged, WaveError
from wave_async.model.catalogue import Entry
from wave_async.model.events import RunEnded, RunStarted, StepFailed
from wave_async.model.migration import Action, Direction, Step
from wave_async.model.script import Script

Choice = Callable[[History, int], Iterable[Entry]]
"""What is left to run, first things first, given the history and the number of steps done."""


Look = Callable[[], Program[tuple[Entry, ...] | None]]
"""Finds the migrations that are to be recorded, or None."""


class Walk:
    """One run, up or down, step by step until nothing is left.

    The history is read again only when another connection has committed since: our own steps are
    known. Those of `before_lock` are run once, when there is something to do and no lock is taken
    yet; those of `before_first` once, inside the transaction of the first step that this run does,
    before that step's own statements (before a step outside a transaction there is none). What they
    raise fails the run. `atomic` runs all steps in one transaction. `changed` says
    whether a step may have changed the database for good, `is_empty` whether it had nothing in it.
    """

    def __init__(
        self,
        direction: Direction,
        choose: Choice,
        patience: float,
        log: Log = OFF,
        *,
        atomic: bool = False,
    ) -> None:
        self.before_lock: list[Callable[[], Program[object]]] = []
        self.before_first: list[Callable[[], Program[object]]] = []
        self.is_empty = False
        self.changed = False
        self.direction = direction
        self._atomic = atomic
        self._choose = choose
        self._patience = patience
        self.log = log
        self._seen: object = None
        self._tracked = False
        self._left: deque[Entry] = deque()
        self._done: list[Step] = []
        self._since: float | None = None
        self._begun: tuple[Entry, float] | None = None

    def program(self) -> Program[tuple[Step, ...]]:
        """Run every step; answers those that this run has done.

        What it raises names in `done` the versions that had been finished by then.
        """
        try:
            yield from self._look()
            while batch := self._next():
                yield from self._start()
                on = _keys_on(batch, self.direction)
                yield from keys.enforced(partial(self._run_all, keys_on=on), on=on)
        except BaseException as error:
            if isinstance(error, WaveError):
                error.done = tuple(s.version for s in self._done)
            yield from self._tell_end(error)
            raise
        yield from self._tell_end()
        return tuple(self._done)

    def _start(self) -> Program[None]:
        if self._since is None:
            self._since = monotonic()
            yield Report(RunStarted(self.direction, len(self._left)))
            for before in self.before_lock:
                yield from before()

    def _tell_end(self, error: BaseException | None = None) -> Program[None]:
        now = monotonic()
        if error is not None and self._begun is not None:
            entry, since = self._begun
            yield Report(StepFailed(entry.step(self.direction), now - since, error))
        if self._since is not None:
            done = tuple(self._done)
            yield Report(RunEnded(self.direction, done, now - self._since, error))

    @property
    def left(self) -> tuple[Step, ...]:
        """What this run would still do, first things first, as of its last look."""
        return tuple(entry.step(self.direction) for entry in self._left)

    def _next(self) -> tuple[Entry, ...]:
        """Return what belongs into the next transaction: a step, or all of them."""
        return tuple(islice(self._left, None if self._atomic else 1))

    def _look(self) -> Program[None]:
        seen = yield DataVersion()
        if seen != self._seen:
            found = yield from history.read()
            self._tracked = found.tracked
            self.is_empty = not (found.tracked or found.populated)
            self.log = yield from self.log.unless_triggered()
            self._left = deque(self._choose(found, len(self._done)))
            self._seen = seen

    def _run_all(self, *, keys_on: bool) -> Program[None]:
        """Run what comes next, as long as it wants foreign keys as they are."""
        while (batch := self._next()) and _keys_on(batch, self.direction) is keys_on:
            yield from self._run(batch)

    def _run(self, batch: tuple[Entry, ...]) -> Program[None]:
        """Run one transaction, unless there is something else to do by then."""
        direction, started, since = self.direction, time(), 0.0
        took: list[float] = []

        def look() -> Program[tuple[Entry, ...] | None]:
            yield from self._look()
            return batch if self._next() == batch else None

        def write(_: object) -> Program[None]:
            nonlocal started, since
            tracked = self._tracked
            took.clear()
            for entry in batch:
                if entry.migration.transaction:
                    since = yield from self._begin(entry)
                    started = time()  # now that the lock is held
                    yield from step.migrate(entry, direction, tracked=tracked)
                    tracked = True
                yield from step.record(entry, direction, self.log, started, tracked=tracked)
                took.append(monotonic() - since)
            yield from step.commit(batch, direction, took)
            self._begun = None

        try:
            if not batch[0].migration.transaction:
                since = yield from self._begin(batch[0])
                self.changed = True
                yield from step.outside(batch[0], direction)
            landed = partial(self._is_recorded, batch)
            if (yield from step.write(look, write, self._patience, found=batch, landed=landed)):
                if self._begun is not None:  # what committed it was never answered
                    yield from step.finish(batch, direction, took, confirmed=True)
                self._tracked = self.changed = True
                self._done += [self._left.popleft().step(direction) for _ in batch]
            self._begun = None
        except MigrationFailed as error:
            version = error.version or 0
            yield from self.log.append_failure(Action(direction.value), version, started, error)
            raise

    def _is_recorded(self, batch: tuple[Entry, ...]) -> Program[bool]:
        """Whether the history says that a batch is done; what another connection saw is nothing."""
        self._seen = None
        versions = {row.version for row in (yield from history.read()).applied}
        up = self.direction is Direction.UP
        return all((entry.version in versions) is up for entry in batch)

    def _begin(self, entry: Entry) -> Program[float]:
        """Run what comes before the first step; answers when this one began."""
        due, self.before_first = self.before_first, []
        for before in due:
            yield from before()
        since = monotonic()
        self._begun = entry, since
        return since


def _keys_on(batch: Sequence[Entry], direction: Direction) -> bool:
    """Return whether keys are enforced in one transaction of several steps.

    Raises `NotAtomic` where some want them and some do not, or one is to run outside of any.
    """
    first, *rest = batch
    for entry in batch if rest else ():
        if not entry.migration.transaction:
            raise NotAtomic(entry.version, "it runs outside a transaction")
        if entry.keys_on(direction) is not first.keys_on(direction):
            raise NotAtomic(entry.version, f"foreign keys are not as in migration {first.version}")
    return first.keys_on(direction)


def consistently(program: Callable[[], Program[T]]) -> Program[T]:
    """Run a question in one read transaction."""
    yield Execute("BEGIN")
    try:
        return (yield from program())
    finally:
        yield Rollback()


def fixed(first: Callable[[History], list[Entry]]) -> Choice:
    """Choose once, what a rollback does; from then on the newest version must be the next of it.

    Raises `PlanChanged` where it is not: somebody else has migrated meanwhile.
    """
    chosen: list[Entry] | None = None

    def choose(found: History, done: int) -> list[Entry]:
        nonlocal chosen
        if chosen is None:
            chosen = first(found)
        left = chosen[done:]
        newest = found.applied[-1].version if found.applied else None
        if left and newest != left[0].version:
            raise PlanChanged(left[0].version, newest)
        return left

    return choose


def mark(
    look: Look,
    patience: float,
    action: Action = Action.BASELINE,
    log: Log = OFF,
) -> Program[tuple[Entry, ...]]:
    """Record, without running them, the migrations that `look` finds; all or none.

    A `REPAIR` gives applied ones the checksums of today; any other action records them as applied.
    """

    def record(entries: tuple[Entry, ...]) -> Program[None]:
        if not (yield from history.read()).tracked:
            yield Execute(history.CREATE)
        written = yield from log.unless_triggered()
        for entry in entries:
            if action is Action.REPAIR:
                yield Execute(history.REPAIR, (entry.checksum, entry.version))
            else:
                yield Execute(history.RECORD, entry.row)
            yield from written.append(action, entry.version, entry.checksum, time())
        yield Execute("COMMIT")

    return (yield from step.write(look, record, patience)) or ()


def untracked() -> Program[bool | None]:
    """Answer True for a database without bookkeeping, None for one with it."""
    return None if (yield from history.read()).tracked else True


def load(script: Script, name: str, patience: float) -> Program[bool]:
    """Run a script in one transaction, without a record; answers False on a tracked database."""

    def run(_: bool) -> Program[None]:  # noqa: FBT001 - what look answers
        failed = partial(MigrationFailed, None, name, Direction.UP.value)
        yield from step.run_steps(script.statements, failed, guard.look)
        yield Execute("COMMIT")

    if not (yield from untracked()):
        return False
    loading = partial(step.write, untracked, run, patience, found=True)
    return bool((yield from keys.enforced(loading, on=True)))
