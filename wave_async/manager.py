"""The story of a run: build the catalogue, read the history, plan, and run the plan's program."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import replace
from functools import partial
from math import inf
from time import time
from typing import TYPE_CHECKING, Any, cast

from wave_async import safety
from wave_async.database import history, log
from wave_async.database.connection import BUSY_TIMEOUT, LOCK_TIMEOUT, SingleConnectionPool
from wave_async.database.files import MEMORY
from wave_async.database.history import History
from wave_async.database.log import Log
from wave_async.database.pool import Pool
from wave_async.database.requests import Call, Program, Query, T
from wave_async.database.walk import Choice, Look, Walk, consistently, fixed, load, mark, untracked
from wave_async.errors import DatabaseUnusable, NeedsRecovery, SchemaDrifted, ValidationFailed
from wave_async.model import plan
from wave_async.model.catalogue import Catalogue, Entry
from wave_async.model.events import Event, Hook, WaitingForLock
from wave_async.model.migration import (
    Action,
    AppliedMigration,
    Direction,
    LogEntry,
    Migration,
    Step,
)
from wave_async.model.plan import MigrationStatus, Plan, Rules, Status, Validation
from wave_async.model.script import parse

if TYPE_CHECKING:
    from wave_async.model.creation import Creation
    from wave_async.model.effects import Preview
    from wave_async.model.foreign import Import
    from wave_async.model.rehearsal import Rehearsal, RowChange
    from wave_async.model.schema import Schema
    from wave_async.safety.policy import SnapshotPolicy
    from wave_async.safety.proof import Replayed
    from wave_async.safety.rehearsal import Stopwatch
    from wave_async.safety.snapshots import Snapshot, Snapshots, Undone
    from wave_async.safety.verify import Verification

logger = logging.getLogger("wave_async")


class _Moved(Exception):
    """Somebody else has migrated since it was proven what is to be recorded."""


class _Untracked(Exception):
    """The database has tables but no bookkeeping: see first whether it can be adopted."""


class MigrationManager:
    """Migrates the database of a pool, up and down, and answers questions about it.

    Any number of tasks and processes may use managers on one database at once. Every step is one
    transaction with its record: it is done or it is not, whatever happens. Questions (`status`,
    `applied`, `pending`, `plan_up`, `plan_down`, `validate`, `current_version`) never write.

    `migrations` are numbered from their first version without gaps, or by timestamps.
    `max_version` limits what is applied (0: no limit); `validate_checksums=False` accepts edited
    migrations; `allow_out_of_order=True` applies pending versions below applied ones; `log=False`
    keeps no `schema_migrations_log`.
    `lock_timeout` is how many seconds to wait while another process holds the database and its
    history does not move; waiting for the pool never times out. `statement_timeout` ends a
    statement of a migration that takes longer, in seconds. `on_event` is called on the event loop,
    in the context of who runs, with each `Event`; with `StatementStarted` only if
    `tell_statements`. What it raises goes to the loop's exception handler, and the run goes on.
    `snapshots` says when the database is copied before it is changed; without it never. `before` is
    called when an up or down has something to do, before it takes a lock, unless the database is
    empty: the text that it returns is in the log, what it raises ends the run.

    Every method but `applied` and `current_version` raises `DefinitionError` for a list of
    migrations that cannot be right, before it opens the database (`status` does not read scripts),
    `HistoryError` for a database that contradicts it, and `DatabaseError`.
    """

    def __init__(
        self,
        pool: Pool,
        migrations: Iterable[Migration],
        *,
        max_version: int = 0,
        validate_checksums: bool = True,
        allow_out_of_order: bool = False,
        log: bool = True,
        lock_timeout: float = LOCK_TIMEOUT,
        statement_timeout: float | None = None,
        on_event: Callable[[Event], None] | None = None,
        tell_statements: bool = False,
        snapshots: SnapshotPolicy | None = None,
        before: Hook | None = None,
    ) -> None:
        self.pool = pool
        self._migrations = tuple(migrations)
        self._rules = Rules(max_version, validate_checksums, allow_out_of_order)
        self._log = Log(log)
        self._lock_timeout = lock_timeout
        self._statement_timeout = inf if statement_timeout is None else statement_timeout
        self._tell_statements = tell_statements
        self._on_event = on_event
        self._snapshots = snapshots
        self._before = before
        self._built: Catalogue | None = None
        self._reading = asyncio.Lock()
        self._read_all = False
        self._up_to_date: object = None
        self._replays: dict[tuple[int, ...], Replayed] = {}

    async def _run(
        self,
        program: Callable[[], Program[T]],
        *,
        judge: Callable[[], Program[object]] | None = None,
    ) -> T | None:
        return await self.pool.run(
            program,
            judge=judge,
            patience=self._lock_timeout,
            statement_timeout=self._statement_timeout,
            on_event=self._tell,
            events=WaitingForLock if self._on_event is None else Event,
            statements=self._tell_statements,
        )

    @property
    def running_statement(self) -> int | None:
        """The number of the statement that runs now, from 1, None where none of a migration does.

        To be asked now and then by who shows progress: it costs a run nothing.
        """
        part = self.pool.running_part
        return None if part is None else part.number

    async def status(self) -> Status:
        """Return where every migration stands; an odd history is shown, not refused."""
        self._catalogue()
        return self.status_of(await self._asked(_read))

    def status_of(self, found: History) -> Status:
        """Return where every migration stands on a database that records this."""
        return plan.status(self._catalogue(), found.applied, self._rules)

    async def current_version(self) -> int:
        """Return the newest applied version, 0 where nothing is applied."""
        return plan.current_version(await self.applied())

    async def applied(self) -> tuple[AppliedMigration, ...]:
        """Return what the database records, by version."""
        return (await self._asked(_read)).applied

    async def examine(self) -> tuple[History, Schema]:
        """Return what the database records and its schema, both of one moment."""
        return await self._looked(_history_and_schema)

    async def pending(self) -> tuple[MigrationStatus, ...]:
        """Return what the database lacks, by version, whatever `max_version` says."""
        return (await self.status()).pending

    async def plan_up(self, target: int | None = None) -> Plan:
        """Return what `migrate_up` would do now, and raise what it would raise beforehand."""
        catalogue = await self._proven()

        def decide(found: History) -> tuple[list[Entry], bool]:
            return plan.up(catalogue, found.applied, target, self._rules), found.populated

        entries, untracked = await self._decided(decide)
        proven = None
        if entries and untracked:
            proven = await self._looked((await self._replayed()).adoption)
        adopted = proven or ()
        return _plan(Direction.UP, [e for e in entries if e not in adopted], adopted)

    def due(self, found: History, target: int | None = None) -> Plan:
        """Return what `migrate_up` would do to a database that records this, without adoption."""
        return _plan(Direction.UP, plan.up(self._catalogue(), found.applied, target, self._rules))

    async def plan_down(self, target: int) -> Plan:
        """Return what `migrate_down` would do now, and raise what it would raise beforehand."""
        entries = await self._decided(self._rollback(await self._proven(), target))
        return _plan(Direction.DOWN, entries)

    async def preview_up(self, target: int | None = None) -> Preview:
        """Return what `migrate_up` would do to the database, tried out on an empty copy of it.

        Raises what `plan_up` raises.
        """
        return await self._preview(await self.plan_up(target))

    async def preview_down(self, target: int) -> Preview:
        """Return what `migrate_down` would do to the database, and what it would destroy.

        Raises what `plan_down` raises.
        """
        return await self._preview(await self.plan_down(target))

    async def validate(self, *, strict: bool = False) -> Validation:
        """Compare the history with the migrations, and the schema with what they make.

        They are replayed in memory for that. What no migration makes is told, not refused, unless
        `strict`. With `validate_checksums=False` neither is compared. Raises `ValidationFailed`
        with everything that it found.
        """
        await self._proven()
        return await self.compare(*await self.examine(), strict=strict)

    async def compare(self, found: History, live: Schema, *, strict: bool = False) -> Validation:
        """Do what `validate` does with what has been read of a database."""
        catalogue = await self._proven()
        if problems := tuple(plan.problems(catalogue, found.applied, self._rules)):
            raise ValidationFailed(problems)
        if not self._rules.check_checksums:
            return Validation(compared=False)
        replayed = await self._replayed(row.version for row in found.applied)
        wrong, foreign, unproven = await asyncio.to_thread(replayed.compare, live)
        if drift := (*wrong, *(foreign if strict else ())):
            raise ValidationFailed((SchemaDrifted(drift),))
        return Validation(compared=True, foreign=tuple(foreign), unproven=unproven)

    async def verify(self, *, thorough: bool = False) -> Verification:
        """Try every migration in memory: there and back, with and without rows, interrupted.

        The database is not opened. `thorough` interrupts at every moment, not at some. What fails
        is no error but a problem of the answer.
        """
        return await safety.verify.verify(
            await self._proven(),
            setup=self.pool.setup,
            thorough=thorough,
            statement_timeout=self._statement_timeout,
        )

    async def migrate_up(
        self, target: int | None = None, *, atomic: bool = False, examined: History | None = None
    ) -> Plan:
        """Apply what is pending up to `target` (None: the newest version), lowest first.

        Returns what was done. A target at or below the current version does nothing. With nothing
        to do, nothing is written and no write lock is taken. Cancelled, the running step is rolled
        back and finished ones stay; `atomic` runs them all in one transaction, so that none does.

        A database with tables but no bookkeeping is adopted first: the migrations are replayed in
        memory, and the one version whose whole schema is there is recorded, with all below it; what
        no version makes may be there besides. Where nothing is ours, everything is applied.

        `examined` is what the database has just said: it is not asked again before it is opened to
        write, and asked again then.

        Raises `InvalidTarget`, `OutOfOrder`, `NotAtomic`, `AdoptionRefused`, `MigrationFailed` and
        `DatabaseLocked`.
        """
        catalogue = await self._proven()
        found = None if examined is None or examined.populated else examined
        harmful = frozenset[int]()
        guarded = self._snapshots and not self._snapshots.always
        if guarded:
            planned = (
                await self.recovering(partial(self.plan_up, target))
                if found is None
                else self.due(found, target)
            )
            if not planned:
                return planned
            if found is None or found.tracked:  # without tables there is nothing to destroy
                harmful = await self._destroying(planned)
        migrate = partial(self._migrate_up, catalogue, target, harmful, atomic=atomic)
        try:
            return await migrate(adopt=True, judged=bool(found or guarded))
        except _Untracked:
            proof = (await self._replayed()).adoption
            adopted = await self._recorded(proof, Action.SKIP)
            return replace(await migrate(adopt=False, judged=False), adopted=adopted)

    async def migrate_down(self, target: int) -> Plan:
        """Roll back what is applied above `target`, newest first.

        Returns what was done. A target at or above the current version does nothing. Every step is
        known, unchanged and has a way down before the first one runs. Raises `InvalidTarget`,
        `Irreversible`, `PlanChanged` when somebody else migrates meanwhile, `MigrationFailed`,
        `DatabaseLocked`.
        """
        first = self._rollback(await self._proven(), target)
        program = self._walk(Direction.DOWN, fixed(first))

        def judge() -> Program[list[Entry] | None]:
            return first((yield from _read())) or None

        return Plan(Direction.DOWN, await self._run(program, judge=judge) or ())

    async def force_mark_applied(self, version: int) -> tuple[Step, ...]:
        """Record migrations 1 to `version` as applied without running them, on your word.

        As `baseline` with `force=True`.
        """
        return await self.baseline(version, force=True)

    async def baseline(self, version: int, *, force: bool = False) -> tuple[Step, ...]:
        """Record migrations 1 to `version` as applied without running them.

        Those that are recorded already are left alone. All or none is recorded. The schema has to
        be what they make, with anything besides, unless `force` is your word for it. Raises
        `InvalidTarget` and `NotProven`.
        """
        catalogue = await self._proven()
        upto = sum(entry.version <= version for entry in catalogue)
        demand = safety.proof.trust
        if not force:
            what = f"version {version} cannot be recorded"
            demand = partial((await self._replayed()).demand, upto, what)

        def unmarked() -> Program[tuple[Entry, ...] | None]:
            found = yield from history.read()
            entries = plan.unmarked(catalogue, found.applied, version, self._rules)
            if entries:
                yield from demand()
            return entries or None

        return await self._recorded(unmarked, Action.BASELINE)

    async def import_history(
        self, tool: str, *, version: int | None = None, force: bool = False
    ) -> Import:
        """Record as applied what another tool's bookkeeping says is, without running it.

        `tool` is alembic, yoyo, django, dbmate, goose, sqlx, aerich or golang-migrate. The rows of
        those with files that are our migrations, too, name what is applied. For those with program
        code the schema tells which version it is, or `version`. All or none is recorded, with the
        tool's own times where it keeps them; its tables are left as they are, but one that is
        called schema_migrations is renamed. The schema has to be what the migrations make, with
        anything besides, unless `force` is your word for it.

        Returns what was done. Raises `ConfigError` for an unknown tool, `ImportRefused`,
        `InvalidTarget`, `NotProven`, `AdoptionRefused` and `DatabaseLocked`.
        """
        look = await self._importing(tool, version, force=force)
        program = partial(safety.importing.record, look, self._lock_timeout, self._log)
        return await self._run(program, judge=look) or safety.importing.Import(tool)

    async def plan_import(
        self, tool: str, *, version: int | None = None, force: bool = False
    ) -> Import:
        """Return what `import_history` would do now, and raise what it would raise."""
        look = await self._importing(tool, version, force=force)
        return await self._looked(look) or safety.importing.Import(tool)

    async def creation(self) -> Creation:
        """Return scripts that make the live schema and take it back: a first migration.

        Rows are not in them, nor is what this engine and the tools that can be imported keep.
        """
        return await self._asked(partial(consistently, safety.importing.read_creation))

    async def _importing(
        self, tool: str, version: int | None, *, force: bool
    ) -> Callable[[], Program[Import | None]]:
        known, catalogue = safety.importing.tool_named(tool), await self._proven()
        replayed = None if force else await self._replayed()
        return safety.importing.Importing(known, catalogue, self._rules, version, replayed).look

    async def repair(
        self, versions: Collection[int] = (), *, force: bool = False
    ) -> tuple[Step, ...]:
        """Record the checksums of edited migrations anew, of all or only of `versions`.

        The schema has to be what their new text makes, unless `force` is your word for it. An
        applied migration is not run again. Raises `InvalidTarget` and `NotProven`.
        """
        catalogue = await self._proven()
        applied = [r.version for r in await self.applied()]
        known = [version for version in applied if version in catalogue.entries]
        demand = safety.proof.trust
        if not force:
            what = "the edited migrations cannot be accepted"
            demand = partial((await self._replayed(known)).demand, len(known), what)

        def edited() -> Program[tuple[Entry, ...] | None]:
            found = yield from history.read()
            entries = plan.edited(catalogue, found.applied, versions)
            if entries:
                if applied != [r.version for r in found.applied]:
                    raise _Moved
                yield from demand()
            return entries or None

        try:
            return await self._recorded(edited, Action.REPAIR)
        except _Moved:
            return await self.repair(versions, force=force)

    async def _destroying(self, planned: Plan) -> frozenset[int]:
        """Return the versions of a plan whose way up destroys something, or may."""
        entries = self._catalogue().entries
        works = [entries[step.version].migration.up for step in planned.steps]
        if not await self._asked(partial(safety.risk.is_risky, works)):
            return frozenset()
        found = (await self._preview(planned)).effects
        return frozenset(effect.step.version for effect in found if effect.may_destroy)

    async def rehearse_up(
        self,
        target: int | None = None,
        *,
        schema_only: bool | None = None,
        directory: str | os.PathLike[str] | None = None,
    ) -> Rehearsal:
        """Run what `migrate_up` would do on a private copy, and tell what came of it.

        The copy lies in `directory`, beside the database if not given, and is gone afterwards. With
        `schema_only` it has no rows and lies in memory; None: if the database is larger than 1 GiB,
        or the disk has no room. Raises what `plan_up` raises; a migration that fails is told.
        """
        async with self._stage(schema_only=schema_only, directory=directory) as (copy, watch, why):
            planned = await copy.plan_up(target)
            version = max([*(s.version for s in planned.adopted), await copy.current_version()])
            below = any(step.version < version for step in planned.steps)
            back = None if below else partial(copy.migrate_down, version)
            act = partial(copy.migrate_up, target)
            return await safety.rehearsal.rehearse(copy.pool, act, back, watch, why)

    async def rehearse_down(
        self,
        target: int,
        *,
        schema_only: bool | None = None,
        directory: str | os.PathLike[str] | None = None,
    ) -> Rehearsal:
        """Run what `migrate_down` would do on a private copy, and tell what came of it.

        As `rehearse_up`; going back is migrating up again.
        """
        async with self._stage(schema_only=schema_only, directory=directory) as (copy, watch, why):
            back = partial(copy.migrate_up, await copy.current_version())
            act = partial(copy.migrate_down, target)
            return await safety.rehearsal.rehearse(copy.pool, act, back, watch, why)

    @asynccontextmanager
    async def _stage(
        self, *, schema_only: bool | None, directory: str | os.PathLike[str] | None
    ) -> AsyncIterator[tuple[MigrationManager, Stopwatch, str]]:
        """Open a manager like this one on a private copy of the database."""
        rehearsal = safety.rehearsal
        place = rehearsal.stage(
            self.pool, schema_only=schema_only, directory=directory, patience=self._lock_timeout
        )
        async with place as (pool, why):
            watch, other = rehearsal.Stopwatch(), self.for_pool(pool)
            vars(other).update(
                _on_event=watch.hear, _snapshots=None, _tell_statements=False, _before=None
            )
            yield other, watch, why

    def for_pool(self, pool: Pool) -> MigrationManager:
        """Return a manager of another database, with the same migrations and options.

        What has been read of the migrations is shared. Raises `DefinitionError`.
        """
        self._catalogue()
        other = copy(self)
        vars(other).update(pool=pool, _up_to_date=None)
        return other

    async def _preview(self, planned: Plan) -> Preview:
        if not planned.steps:
            return safety.effects.Preview(adopted=planned.adopted)
        catalogue = self._catalogue()
        entries = [catalogue.entries[step.version] for step in planned.steps]
        schema = await self._asked(safety.proof.read_schema)
        async with self._scratch() as run:
            found = await run(partial(safety.effects.effects, schema, entries, planned.direction))
        found = await self._asked(partial(safety.effects.counted, found or ()))
        return safety.effects.Preview(found, planned.adopted)

    @property
    def migrations(self) -> tuple[Migration, ...]:
        """The migrations that it knows, by version."""
        return tuple(entry.migration for entry in self._catalogue())

    async def schemas(self) -> dict[int, Schema]:
        """Return the schema after each migration, by version: they are replayed in memory.

        The database is not opened. It ends before a migration that cannot be replayed without rows.
        """
        return dict((await self._replayed()).versions)

    async def log(self) -> tuple[LogEntry, ...]:
        """Return what was done to the database, the oldest first; empty where there is no log."""
        return await self._asked(log.read)

    async def snapshots(self) -> tuple[Snapshot, ...]:
        """Return the snapshots of the database, newest first."""
        return await asyncio.to_thread(self._shelf().listed)

    async def plan_undo(self, name: str | None = None) -> tuple[Snapshot, tuple[RowChange, ...]]:
        """Return what `undo` would restore, and the tables that have other numbers of rows now.

        Raises `SnapshotNotFound` and `SnapshotUnusable`.
        """
        shelf = self._shelf()
        snapshot = await asyncio.to_thread(shelf.find, name)
        counted: list[tuple[RowChange, ...]] = []

        def program() -> Program[None]:
            yield Call(lambda live: counted.append(shelf.rows_since(snapshot, live)))

        await self._asked(program)
        return snapshot, counted[-1]

    async def undo(self, name: str | None = None) -> Undone:
        """Restore the newest snapshot, or the one of a name, into the live database.

        Everything written since is replaced, in one transaction; other connections may stay open.
        It is kept as a snapshot, so that another `undo` takes this one back. Cancelled, nothing is
        changed. Raises `SnapshotNotFound`, `SnapshotUnusable`, `SnapshotFailed`, `NoSpace` and
        `DatabaseLocked`.
        """
        shelf = self._shelf()
        snapshot = await asyncio.to_thread(shelf.find, name)
        carry = partial(self._log.carry_over, time(), snapshot.version)
        program = partial(safety.restoration.restore, shelf, snapshot, self._lock_timeout, carry)
        return cast("Undone", await self._run(program))

    def _shelf(self) -> Snapshots:
        if self.pool.file is None:
            what = "in memory" if self.pool.path == MEMORY else "on a cluster"
            raise DatabaseUnusable(self.pool.path, f"a database {what} has no snapshots")
        policy = self._snapshots or safety.policy.SnapshotPolicy()
        return safety.snapshots.Snapshots(self.pool.file, policy, self.pool.setup)

    def _walk(
        self,
        direction: Direction,
        choose: Choice,
        harmful: frozenset[int] = frozenset(),
        *,
        atomic: bool = False,
    ) -> Callable[[], Program[tuple[Step, ...]]]:
        walk = Walk(direction, choose, self._lock_timeout, self._log, atomic=atomic)
        if self._before is not None:
            safety.before.Before(self._before, self.pool.path, walk)
        policy = self._snapshots
        guarded = policy and (direction is Direction.DOWN or policy.always or harmful)
        asked = policy and (policy.always or policy.directory is not None)
        if not guarded or self.pool.path == MEMORY or (self.pool.file is None and not asked):
            return walk.program
        return safety.precaution.Precaution(self._shelf(), walk, harmful).program

    async def _asked(self, question: Callable[[], Program[T]]) -> T:
        return await self.pool.ask(question, patience=min(BUSY_TIMEOUT, self._lock_timeout))

    async def _looked(self, question: Callable[[], Program[T]]) -> T:
        """Ask in one read transaction, as patiently as a run."""
        return await self.pool.ask(partial(consistently, question), patience=self._lock_timeout)

    async def _decided(self, decide: Callable[[History], T]) -> T:
        """Read the history and decide on its thread: comparing many scripts may take a while."""

        def program() -> Program[T]:
            return decide((yield from _read()))

        return await self.pool.ask(program, patience=self._lock_timeout)

    async def _recorded(self, look: Look, action: Action) -> tuple[Step, ...]:
        marking = partial(mark, look, self._lock_timeout, action, self._log)
        return _steps(Direction.UP, await self._run(marking, judge=look) or ())

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

    async def _migrate_up(
        self,
        catalogue: Catalogue,
        target: int | None,
        harmful: frozenset[int],
        *,
        adopt: bool,
        atomic: bool,
        judged: bool,
    ) -> Plan:
        def choose(found: History, _done: int) -> list[Entry]:
            pending = plan.up(catalogue, found.applied, target, self._rules)
            if pending and found.populated and adopt:
                raise _Untracked
            return pending

        def program() -> Program[tuple[Step, ...]]:
            (stamp,) = yield Query(history.STAMP)
            verdict = (self.pool.generation, stamp, target)
            if self._up_to_date == verdict:
                return ()
            steps = yield from self._walk(Direction.UP, choose, harmful, atomic=atomic)()
            self._up_to_date = None if steps else verdict
            return steps

        def judge() -> Program[list[Entry] | None]:
            return choose((yield from _read()), 0) or None

        done = await self._run(program, judge=None if judged else judge)
        return Plan(Direction.UP, done or ())

    async def _replayed(self, versions: Iterable[int] | None = None) -> Replayed:
        """Replay migrations in memory, up to one that cannot be without rows; None: all of them.

        Each list of versions is replayed once, for all managers of these migrations.
        """
        entries = (await self._proven()).entries
        key = tuple(entries if versions is None else versions)
        if key not in self._replays:
            async with self._scratch() as run:
                self._replays[key] = await safety.proof.replayed(run, [entries[v] for v in key])
        return self._replays[key]

    @asynccontextmanager
    async def _scratch(self) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
        """Open an empty database in memory; yields what runs a program on it."""
        async with SingleConnectionPool(":memory:", setup=self.pool.setup) as scratch:
            yield partial(scratch.run, statement_timeout=self._statement_timeout)

    def _tell(self, event: Event) -> None:
        if isinstance(event, WaitingForLock):
            logger.info(
                "%s: waiting for another process (%g s)",
                self.pool.path,
                event.seconds,
                extra={"database": self.pool.path, "version": None},
            )
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


def _history_and_schema() -> Program[tuple[History, Schema]]:
    return (yield from history.read()), (yield from safety.proof.read_schema())


def _steps(direction: Direction, entries: Iterable[Entry]) -> tuple[Step, ...]:
    return tuple(entry.step(direction) for entry in entries)


def _plan(direction: Direction, entries: Iterable[Entry], adopted: Iterable[Entry] = ()) -> Plan:
    return Plan(direction, _steps(direction, entries), _steps(direction, adopted))
