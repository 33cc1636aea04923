"""The proof that every migration can be undone, done again, and stopped at any moment.

It is tried on two databases in memory, one without rows and one with rows that were made up. What
it finds are values; nothing of it touches a database of the application.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from math import inf

from wave_async.database.connection import SingleConnectionPool
from wave_async.database.question import Setup
from wave_async.errors import printable
from wave_async.model.catalogue import Catalogue, Entry
from wave_async.model.difference import Difference
from wave_async.model.migration import Direction, Step
from wave_async.safety.trial import Findings, Trial


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found about one migration; `notes` are no problems.

    `differences` is how the schema differs after its way down from what it was.
    """

    version: int
    description: str
    reversible: bool
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    interrupts: int
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found about all migrations, by version.

    `problems` are those of the whole list, `unseeded` the tables that no row could be made up for,
    with the reason, and `unverified` the versions after one that cannot be applied.
    """

    migrations: tuple[Verified, ...]
    problems: tuple[str, ...] = ()
    unseeded: tuple[tuple[str, str], ...] = ()
    unverified: tuple[int, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether no problem was found."""
        return not (self.problems or any(m.problems for m in self.migrations))

    @property
    def irreversible(self) -> tuple[int, ...]:
        """The versions that have no way down."""
        return tuple(m.version for m in self.migrations if not m.reversible)

    @property
    def interrupts(self) -> int:
        """How many times a migration was interrupted."""
        return sum(m.interrupts for m in self.migrations)

    def lines(self) -> Iterator[str]:
        """Yield what a person reads."""
        for migration in self.migrations:
            yield from _told(migration)
        yield ""
        for table, reason in self.unseeded:
            yield f"No rows could be made up for table {printable(table)}: {printable(reason)}"
        if self.unverified:
            yield f"Not verified: {', '.join(map(str, self.unverified))}"
        yield from map(printable, self.problems)
        if self.ok:
            yield f"Verified {len(self.migrations)} migration(s), {self.interrupts:,} interrupts"
        else:
            count = len(self.problems) + sum(len(m.problems) for m in self.migrations)
            yield f"Verification failed: {count} problem(s)"


def _told(migration: Verified) -> Iterator[str]:
    mark = "[!]" if migration.problems else "[x]"
    way = "" if migration.reversible else " (irreversible)"
    yield f"{mark} {migration.version}: {printable(migration.description)}{way}"
    yield from (f"    {printable(problem)}" for problem in migration.problems)
    yield from (f"    note: {printable(note)}" for note in migration.notes)


async def verify(
    catalogue: Catalogue,
    *,
    setup: Setup | None = None,
    thorough: bool = False,
    interrupt: bool = True,
    statement_timeout: float = inf,
    on_step: Callable[[Step], None] | None = None,
) -> Verification:
    """Try every migration of a catalogue on databases in memory.

    Up and down again leaves the schema and the rows as they were, up once more gives the same
    schema, down to 0 leaves nothing, and a statement that is interrupted leaves everything as it
    was before the migration: at some moments, with rows; `thorough` at each step of SQLite's
    machine, and without rows, too; without `interrupt` at none. Rows that an up takes away, a down
    need not bring back.

    What fails with made-up rows alone is a problem; then it goes on without them. A migration that
    fails on empty tables ends it. One outside a transaction is only applied. `setup` prepares each
    connection; `on_step` is told of each migration. `statement_timeout`, in seconds, does not hold
    for a run that is interrupted.
    """
    pool = partial(SingleConnectionPool, ":memory:", setup=setup)
    trial = partial(Trial, statement_timeout=statement_timeout, thorough=thorough)
    async with pool() as bare, pool() as full:
        proof = _Proof(trial(bare), trial(full), thorough=thorough, interrupt=interrupt)
        left = list(catalogue)
        while left:
            if on_step is not None:
                on_step(left[0].step(Direction.UP))
            if not await proof.hold(left.pop(0)):
                break
        else:
            await proof.undo()
        return proof.verification(left)


class _Proof:
    """What was found so far, on tables `bare` of rows and on `full` ones."""

    def __init__(self, bare: Trial, full: Trial, *, thorough: bool, interrupt: bool) -> None:
        self._bare = bare
        self._full = full
        self._thorough = thorough
        self._interrupt = interrupt
        self._found: dict[Entry, tuple[Findings, Findings]] = {}
        self._problems: dict[str, None] = {}
        self._unseeded: dict[str, str] = {}

    async def hold(self, entry: Entry) -> bool:
        """Try a migration on both databases; answers whether it can be applied at all."""
        self._unseeded |= await self._full.seed()
        full = await self._full.migration(entry, interrupt=self._interrupt)
        also_bare = self._interrupt and (self._thorough or not full.applied)
        bare = await self._bare.migration(entry, interrupt=also_bare)
        self._found[entry] = bare, full
        if bare.applied and not full.applied:
            full.notes.append("went on without rows")
            await self._full.restore(await self._bare.image())
        return bare.applied

    async def undo(self) -> None:
        """Roll everything back, newest first, down to 0 or to what has no proven way down."""
        self._unseeded |= await self._full.seed()
        for number, trial in enumerate((self._bare, self._full)):
            for entry in reversed(self._found):
                problems = self._found[entry][number].problems
                if problems or not entry.reversible:
                    break
                if failure := await trial.step(entry, Direction.DOWN):
                    problems.append(failure)
                    break
            else:
                if left := await trial.leftovers():
                    self._problems[f"down to 0 leaves something: {left}"] = None

    def verification(self, left: Iterable[Entry]) -> Verification:
        """Return all that was found, with the migrations that could not be tried."""
        return Verification(
            tuple(_verified(entry, *found) for entry, found in self._found.items()),
            tuple(self._problems),
            tuple(self._unseeded.items()),
            tuple(entry.version for entry in left),
        )


def _verified(entry: Entry, bare: Findings, full: Findings) -> Verified:
    problems = dict.fromkeys([*bare.problems, *full.problems])
    with_rows = " (on tables with rows)"
    return Verified(
        entry.version,
        entry.migration.description,
        entry.reversible,
        tuple(text if text in bare.problems else text + with_rows for text in problems),
        tuple(dict.fromkeys([*bare.notes, *full.notes])),
        bare.interrupts + full.interrupts,
        tuple(bare.left or full.left),
    )
