"""The story of a run: build the catalogue, read the history, plan, and run the plan's program."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from functools import partial
from math import inf

from wave_async.database import history
from wave_async.database.connection import BUSY_TIMEOUT, LOCK_TIMEOUT, SingleConnectionPool
from wave_async.database.history import History
from wave_async.database.requests import Program, Query, T
from wave_async.database.schema import read_schema, replay
from wave_async.database.walk import Walk, consistently, fixed, load, mark, untracked
from wave_async.errors import HistoryError, NeedsRecovery, ValidationFailed
from wave_async.model import plan
from wave_async.model.catalogue import Catalogue, Entry
from wave_async.model.difference import fitting_version
from wave_async.model.events import Event, WaitingForLock
from wave_async.model.migration import AppliedMigration, Direction, Migration, Step
from wave_async.model.plan import MigrationStatus, Plan, Rules, Status
from wave_async.model.script import parse
from wave_async.safety.verify import Verification, verify

logger = logging.getLogger("wave_async")


class _Untracked(Exception):
    """The database has tables but no bookkeeping: see first whether it can be adopted."""


class MigrationManager:
    """Migrates the database of a pool, up and down, and answers questions about it.

    Any number of tasks and processes may use managers on one database at once. Every step is one
    transaction with its record: it is done or it is not, whatever happens. Questions (`status`,
    `applied`, `pending`, `plan_up`, `plan_down`, `validate`, `current_version`) never write.

    `migrations` are numbered from their first version without gaps, or by timestamps.
    `max_version` limits what is applied (0: no limit); `validate_checksums=False` accepts edited
    migrations; `allow_out_of_order=True` applies pending versions below applied ones.
    `lock_timeout` is how many seconds to wait while another process holds the database and its
    history does not move; waiting for the pool never times out. `statement_timeout` ends a
    statement of a migration that takes longer, in seconds. `on_event` is called on the event loop
    with `StepStarted`, `StepFinished` and `WaitingForLock`.

    Every method but `applied` and `current_version` raises `DefinitionError` for a list of
    migrations that cannot be right, before it opens the database (`status` does not read scripts),
    `HistoryError` for a database that contradicts it, and `DatabaseError`.
    """

    def __init__(
        self,
        pool: SingleConnectionPool,
        migrations: Iterable[Migration],
        *,
        max_version: int = 0,
        validate_checksums: bool = True,
        allow_out_of_order: bool = False,
        lock_timeout: float = LOCK_TIMEOUT,
        statement_timeout: float | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        self._pool = pool
        self._migrations = tuple(migrations)
        self._rules = Rules(max_version, validate_checksums, allow_out_of_order)
        self._lock_timeout = lock_timeout
        self._statement_timeout = inf if statement_timeout is None else statement_timeout
        self._run = partial(
            pool.run,
            patience=lock_timeout,
            statement_timeout=self._statement_timeout,
            on_event=self._tell,
        )
        self._on_event = on_event
        self._built: Catalogue | None = None
        self._reading = asyncio.Lock()
        self._read_all = False
        self._up_to_date: object = None

    async def status(self) -> Status:
        """Return where every migration stands; an odd history is shown, not refused."""
        catalogue, applied = self._catalogue(), await self.applied()
        return plan.status(catalogue, applied, self._rules)

    async def current_version(self) -> int:
        """Return the newest applied version, 0 where nothing is applied."""
        return plan.current_version(await self.applied())

    async def applied(self) -> tuple[AppliedMigration, ...]:
        """Return what the database records, by version."""
        return (await self._asked(_read)).applied

    async def pending(self) -> tuple[MigrationStatus, ...]:
        """Return what the database lacks, by version, whatever `max_version` says."""
        return (await self.status()).pending

    async def plan_up(self, target: int | None = None) -> Plan:
        """Return what `migrate_up` would do now, and raise what it would raise beforehand."""
        catalogue = await self._proven()

        def decide(found: History) -> tuple[list[Entry], bool]:
            return plan.up(catalogue, found.applied, target, self._rules), found.populated

        entries, untracked = await self._decided(decide)
        adopted: tuple[Entry, ...] | None = None
        if entries and untracked:
            proof = await self._proof(catalogue)
            question = partial(consistently, proof)
            adopted = await self._pool.ask(question, patience=self._lock_timeout)
        adopted = adopted or ()
        return _plan(Direction.UP, [e for e in entries if e not in adopted], adopted)

    async def plan_down(self, target: int) -> Plan:
        """Return what `migrate_down` would do now, and raise what it would raise beforehand."""
        entries = await self._decided(self._rollback(await self._proven(), target))
        return _plan(Direction.DOWN, entries)

    async def validate(self) -> bool:
        """Compare the history with the migrations; False says that checksums were not compared.

        Raises `ValidationFailed` with everything that it found.
        """
        catalogue = await self._proven()

        def decide(found: History) -> tuple[HistoryError, ...]:
            return tuple(plan.problems(catalogue, found.applied, self._rules))

        if problems := await self._decided(decide):
            raise ValidationFailed(problems)
        return self._rules.check_checksums

    async def verify(self, *, thorough: bool = False) -> Verification:
        """Try every migration in memory: there and back, with and without rows, interrupted.

        The database is not opened. `thorough` interrupts at every moment, not at some. What fails
        is no error but a problem of the answer.
        """
        return await verify(
            await self._proven(),
            setup=self._pool.setup,
            thorough=thorough,
            statement_timeout=self._statement_timeout,
        )

    async def migrate_up(self, target: int | None = None) -> Plan:
        """Apply what is pending up to `target` (None: the newest version), lowest first.

        Returns what was done. A target at or below the current version does nothing. With nothing
        to do, nothing is written and no write lock is taken. Cancelled, the running step is rolled
        back and finished ones stay.

        A database with tables but no bookkeeping is adopted first: the migrations are replayed in
        memory, and the one version whose whole schema is there is recorded, with all below it; what
        no version makes may be there besides. Where nothing is ours, everything is applied.

        Raises `InvalidTarget`, `OutOfOrder`, `AdoptionRefused`, `MigrationFailed` and
        `DatabaseLocked`.
        """
        catalogue = await self._proven()
        try:
            return await self._migrate_up(catalogue, target, adopt=True)
        except _Untracked:
            proof = await self._proof(catalogue)
            adopted = await self._run(partial(mark, proof, self._lock_timeout), judge=proof)
            done = await self._migrate_up(catalogue, target, adopt=False)
            return replace(done, adopted=_steps(Direction.UP, adopted or ()))

    async def migrate_down(self, target: int) -> Plan:
        """Roll back what is applied above `target`, newest first.

        Returns what was done. A target at or above the current version does nothing. Every step is
        known, unchanged and has a way down before the first one runs. Raises `InvalidTarget`,
        `Irreversible`, `PlanChanged` when somebody else migrates meanwhile, `MigrationFailed`,
        `DatabaseLocked`.
        """
        first = self._rollback(await self._proven(), target)
        walk = Walk(Direction.DOWN, fixed(first), self._lock_timeout)

        def judge() -> Program[list[Entry] | None]:
            return first((yield from _read())) or None

        return Plan(Direction.DOWN, await self._run(walk.program, judge=judge) or ())

    async def force_mark_applied(self, version: int) -> tuple[Step, ...]:
        """Record migrations 1 to `version` as applied without running them, on your word.

        Those that are recorded already are left alone. All or none is recorded. Raises
        `InvalidTarget`.
        """
        catalogue = await self._proven()

        def unmarked() -> Program[tuple[Entry, ...] | None]:
            found = yield from history.read()
            return plan.unmarked(catalogue, found.applied, version, self._rules) or None

        marked = await self._run(partial(mark, unmarked, self._lock_timeout), judge=unmarked)
        return _steps(Direction.UP, marked or ())

    async def _asked(self, question: Callable[[], Program[T]]) -> T:
        return await self._pool.ask(question, patience=min(BUSY_TIMEOUT, self._lock_timeout))

    async def _decided(self, decide: Callable[[History], T]) -> T:
        """Read the history and decide on its thread: comparing many scripts may take a while."""

        def program() -> Program[T]:
            return decide((yield from _read()))

        return await self._pool.ask(program, patience=self._lock_timeout)

    def _rollback(self, catalogue: Catalogue, target: int) -> Callable[[History], list[Entry]]:
        return lambda found: plan.down(catalogue, found.applied, target, self._rules)

    async def recovering(self, question: Callable[[], Awaitable[T]]) -> T:
        """Ask again after a repair, where a writer crashed and only another writer can repair it.

        For what goes on to write anyway; a question alone leaves everything as it is.
        """
        try:
            return await question()
        except NeedsRecovery:
            await self._run(history.read)  # SQLite rolls back what the crash left behind
            return await question()

    async def is_tracked(self) -> bool:
        """Whether the database has a schema_migrations of ours."""
        return (await self._asked(_read)).tracked

    async def load_untracked(self, schema: str) -> bool:
        """Run a plain script in one transaction; False, and nothing done, on a tracked database.

        It is what an application did before it had migrations. Raises `InvalidScript`,
        `MigrationFailed`, `DatabaseLocked`.
        """
        script = await asyncio.to_thread(parse, schema, "pre-migration schema")
        program = partial(load, script, "the pre-migration schema", self._lock_timeout)
        return bool(await self._run(program, judge=untracked))

    async def _migrate_up(self, catalogue: Catalogue, target: int | None, *, adopt: bool) -> Plan:
        def choose(found: History, _done: int) -> list[Entry]:
            pending = plan.up(catalogue, found.applied, target, self._rules)
            if pending and found.populated and adopt:
                raise _Untracked
            return pending

        def program() -> Program[tuple[Step, ...]]:
            (stamp,) = yield Query(history.STAMP)
            verdict = (self._pool.generation, stamp, target)
            if self._up_to_date == verdict:
                return ()
            steps = yield from Walk(Direction.UP, choose, self._lock_timeout).program()
            self._up_to_date = None if steps else verdict
            return steps

        def judge() -> Program[list[Entry]]:
            return choose((yield from _read()), 0)

        return Plan(Direction.UP, await self._run(program, judge=judge) or ())

    async def _proof(self, catalogue: Catalogue) -> Callable[[], Program[tuple[Entry, ...] | None]]:
        """Return the question which migrations an untracked database has; None: none of ours."""
        entries = tuple(catalogue.entries.values())
        async with SingleConnectionPool(":memory:", setup=self._pool.setup) as scratch:
            run = partial(scratch.run, statement_timeout=self._statement_timeout)
            versions = await run(partial(replay, entries)) or []

        def proven() -> Program[tuple[Entry, ...] | None]:
            # The schema first: what was untracked after it was read was so while it was.
            live = yield from read_schema()
            if (yield from history.read()).tracked:
                return None
            fit = fitting_version(versions, live)
            return None if fit is None else tuple(e for e in entries if e.version <= fit.version)

        return proven

    def _tell(self, event: Event) -> None:
        if isinstance(event, WaitingForLock):
            logger.info("%s: waiting for another process (%g s)", self._pool.path, event.seconds)
        if self._on_event is not None:
            self._on_event(event)

    def _catalogue(self) -> Catalogue:
        if self._built is None:
            self._built = Catalogue(self._migrations)
        return self._built

    async def _proven(self) -> Catalogue:
        """Return the catalogue with every script read: on a thread, as that may take long."""
        catalogue = self._catalogue()
        if not self._read_all:
            async with self._reading:
                if not self._read_all:
                    await asyncio.to_thread(catalogue.prove)
                    self._read_all = True
        return catalogue


def _read() -> Program[History]:
    return (yield from consistently(history.read))


def _steps(direction: Direction, entries: Iterable[Entry]) -> tuple[Step, ...]:
    return tuple(entry.step(direction) for entry in entries)


def _plan(direction: Direction, entries: Iterable[Entry], adopted: Iterable[Entry] = ()) -> Plan:
    return Plan(direction, _steps(direction, entries), _steps(direction, adopted))
