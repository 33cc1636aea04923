"""One database in memory on which migrations are tried: there and back again, and interrupted."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from math import inf
from typing import Any, NamedTuple

from wave_async.database import history
from wave_async.database.connection import LOCK_TIMEOUT, SingleConnectionPool
from wave_async.database.driver import EngineConnection
from wave_async.database.requests import Call, Execute, Program, Query
from wave_async.database.schema import read_schema
from wave_async.database.walk import Walk
from wave_async.errors import WaveError
from wave_async.model.catalogue import Entry
from wave_async.model.difference import Difference, differences
from wave_async.model.migration import Direction
from wave_async.model.schema import Schema
from wave_async.model.script import quoted_name
from wave_async.safety.interrupter import Interrupter
from wave_async.safety.seeds import COLUMNS, seed

GROWTH = 4
"""How many times later each interrupt of a statement comes, unless every moment is tried."""


@dataclass(slots=True)
class Findings:
    """What was found of one migration on one database; `notes` are no problems.

    `left` is how the schema differs after its way down.
    """

    applied: bool = False
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left: list[Difference] = field(default_factory=list)
    interrupts: int = 0


class Rows(NamedTuple):
    """The rows of a table, without the columns that are computed."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]

    def of(self, columns: Iterable[str]) -> list[str]:
        """Return what some columns hold, in an order that is not that of the rows."""
        places = [self.columns.index(column) for column in columns]
        return sorted(repr([row[place] for place in places]) for row in self.rows)

    def like(self, other: Rows) -> list[str]:
        """Return the columns that another table has, too."""
        return [column for column in self.columns if column in other.columns]


@dataclass(frozen=True, slots=True)
class State:
    """A whole database; `image` are its bytes."""

    schema: Schema
    rows: Mapping[str, Rows]
    applied: tuple[int, ...]
    image: bytes = field(compare=False)


class Trial:
    """A database in memory, and what is tried on it."""

    def __init__(
        self, pool: SingleConnectionPool, statement_timeout: float, *, thorough: bool
    ) -> None:
        self._pool = pool
        self._timeout = statement_timeout
        self._thorough = thorough
        self._interrupter = Interrupter()
        self._seeded = Schema()

    async def image(self) -> bytes:
        """Return the database's bytes."""
        return await self._pool.ask(_image)

    async def restore(self, image: bytes) -> bytes:
        """Make the database what it was, or what another one is; answers its bytes now."""
        return await self._pool.ask(lambda: _restore(image))

    async def seed(self) -> dict[str, str]:
        """Make up rows for what is new or empty; answers the tables that stay empty, and why."""
        schema = await self._pool.ask(read_schema)
        before, self._seeded = self._seeded, schema
        return await self._pool.ask(lambda: seed(schema, before))

    async def leftovers(self) -> str:
        """Name all that is there."""
        return _unlike(Schema(), await self._pool.ask(read_schema))

    async def step(self, entry: Entry, direction: Direction) -> str:
        """Run a migration; answers why it failed, if it did."""
        return await self._run(_walk(entry, direction), self._timeout)

    async def _run(self, program: Program[object], statement_timeout: float = inf) -> str:
        try:
            await self._pool.run(lambda: program, statement_timeout=statement_timeout)
        except WaveError as error:
            return error.sentence()
        return ""

    async def migration(self, entry: Entry, *, interrupt: bool) -> Findings:
        """Apply a migration, and try before that what may happen to it."""
        found = Findings()
        before = await self._state()
        if failure := await self.step(entry, Direction.UP):
            found.problems.append(failure)
            return found
        found.applied = True
        if entry.migration.transaction:
            after = await self._state()
            if entry.reversible:
                undone = await self._there_and_back(entry, before, after, found)
                if undone and interrupt:
                    await self._interrupted(entry, Direction.DOWN, after, undone, found)
            if interrupt:
                await self._interrupted(entry, Direction.UP, before, after, found)
            await self.restore(after.image)
        return found

    async def _there_and_back(
        self, entry: Entry, before: State, after: State, found: Findings
    ) -> State | None:
        if failure := await self.step(entry, Direction.DOWN):
            found.problems.append(failure)
            return None
        back = await self._state()
        if unlike := _unlike(before.schema, back.schema):
            found.problems.append(f"down does not restore the schema: {unlike}")
            found.left = differences(before.schema, back.schema)
        for can_be_restored, told in _other_rows(before, after, back):
            (found.problems if can_be_restored else found.notes).append(told)
        if failure := await self.step(entry, Direction.UP):
            found.problems.append(f"up again after its down: {failure}")
        elif unlike := _unlike(after.schema, await self._pool.ask(read_schema)):
            found.problems.append(f"up again after its down makes another schema: {unlike}")
        return back

    async def _interrupted(
        self, entry: Entry, direction: Direction, start: State, end: State, found: Findings
    ) -> None:
        """Interrupt a run again and again, each time later, until it comes to its end."""
        image = await self.restore(start.image)
        interrupter, hit = self._interrupter, (0, 0)
        async with self._ticking():
            while True:
                interrupter.aim((hit[0], hit[1] + 1 if self._thorough else hit[1] * GROWTH or 1))
                failure = await self._run(interrupter.watch(_walk(entry, direction)))
                if interrupter.hit is None:
                    return
                hit = interrupter.hit
                found.interrupts += 1
                if await self.image() != image:
                    if wrong := _wrong(await self._state(), start, end, failure):
                        found.problems.append(f"{direction.value}, when interrupted, {wrong}")
                        return
                    image = await self.restore(start.image)

    @asynccontextmanager
    async def _ticking(self) -> AsyncIterator[None]:
        async with self._pool.acquire() as connection:
            await connection.set_progress_handler(self._interrupter.tick, 1)
        yield
        async with self._pool.acquire() as connection:
            await connection.set_progress_handler(self._interrupter.tick, 0)

    async def _state(self) -> State:
        return await self._pool.ask(_state)


def _walk(entry: Entry, direction: Direction) -> Program[object]:
    return Walk(direction, lambda *_: [entry], LOCK_TIMEOUT).program()


def _image() -> Program[bytes]:
    images: list[bytes] = []

    def serialize(connection: EngineConnection) -> None:
        images.append(connection.serialize())

    if (yield Query("PRAGMA page_count")) == [(0,)]:
        yield Execute("PRAGMA user_version = 0")  # a database without a page cannot be serialized
    yield Call(serialize)
    return images[0]


def _restore(image: bytes) -> Program[bytes]:
    def copy(connection: EngineConnection) -> None:
        # To deserialize into a connection that has been used crashes SQLite 3.40.
        with closing(EngineConnection(":memory:")) as source:
            source.deserialize(image)
            source.backup(connection)

    yield Call(copy)
    return (yield from _image())


def _state() -> Program[State]:
    schema = yield from read_schema()
    rows: dict[str, Rows] = {}
    for table in schema.objects:
        if table.type == "table" and not table.is_virtual:
            columns = [name for name, _ in (yield Query(COLUMNS, (table.name,)))]
            names = ", ".join(map(quoted_name, columns))
            found = yield Query(f"SELECT {names} FROM main.{quoted_name(table.name)}")
            rows[table.name] = Rows(tuple(columns), found)
    applied = (yield from history.read()).applied
    return State(schema, rows, tuple(row.version for row in applied), (yield from _image()))


def _unlike(wanted: Schema, live: Schema) -> str:
    """Say how a schema differs from what it should be; nothing if it does not."""
    told = map(str, differences(wanted, live))
    return "; ".join(
        f"{text.removesuffix('not ours')}left behind" if text.endswith(": not ours") else text
        for text in told
    )


def _wrong(now: State, start: State, end: State, failure: str) -> str:
    """Say what is not as it was, or after a run that went on, not as it makes it."""
    if failure:
        unlike = _unlike(start.schema, now.schema) or "rows differ"
        return "" if now == start else f"does not leave everything as it was: {unlike}"
    unlike = _unlike(end.schema, now.schema)
    if not unlike and _counts(end) != _counts(now):
        unlike = "rows differ"
    return unlike and f"goes on and commits something else: {unlike}"


def _counts(state: State) -> dict[str, int]:
    return {name: len(table.rows) for name, table in state.rows.items()}


def _other_rows(before: State, after: State, back: State) -> Iterator[tuple[bool, str]]:
    """Say which rows a down did not restore, and whether it could: not what its up took away."""
    for name in sorted(before.rows.keys() & back.rows.keys()):
        was, now, between = before.rows[name], back.rows[name], after.rows.get(name, Rows((), ()))
        columns = was.like(now)
        if was.of(columns) == now.of(columns):
            continue
        kept = [column for column in columns if column in between.columns]
        survivors = Counter(was.of(kept)) & Counter(between.of(kept))
        more = len(now.rows) - len(was.rows)
        if lost := (survivors - Counter(now.of(kept))).total():
            yield True, f"down loses or changes {lost} row(s) of table {name} that up had kept"
        elif more > 0:
            yield True, f"down leaves {more} row(s) in table {name} that up had added"
        else:
            yield False, f"down does not bring back what up changed in the rows of table {name}"
