"""Snapshots of a database: taken before what destroys, listed, and restored.

Knows when and where; how a database is copied is told in `copies`.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import cast

from wave_async.database import files, history, replication
from wave_async.database.driver import EngineConnection
from wave_async.database.question import Setup
from wave_async.database.requests import BeginWrite, Call, Program, Report, Rollback
from wave_async.database.schema import READ
from wave_async.database.session import POLL
from wave_async.database.walk import Walk
from wave_async.errors import (
    DatabaseLocked,
    SnapshotFailed,
    SnapshotNotFound,
    SnapshotUnusable,
)
from wave_async.model.events import SnapshotTaken
from wave_async.model.migration import Direction, Step
from wave_async.model.rehearsal import RowChange
from wave_async.model.schema import BOOKKEEPING, REPLICATION, Object, Schema
from wave_async.model.script import quoted_name
from wave_async.safety.copies import (
    Check,
    copy_database,
    damage,
    locked,
    opened,
    page_size,
    private_directory,
    size,
    sync,
)
from wave_async.safety.policy import SnapshotPolicy

Carry = Callable[[EngineConnection, EngineConnection], object]
"""Given a connection that reads what is being replaced and one that writes what replaces it."""

COPY = "copy.db"
_TIME = "%Y%m%dT%H%M%S%fZ"
_NAME = re.compile(r"(.+)-v(\d+)-(\d{8}T\d{12}Z)-([0-9a-f]{12})\.db", re.DOTALL)
_TABLES = f"""SELECT name FROM main.sqlite_schema WHERE type = 'table' AND rootpage > 0
    AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
    AND lower(name) NOT IN {(*BOOKKEEPING, *REPLICATION)}"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy of a database as it was; everything but its size is in its name."""

    path: Path
    database: str
    version: int
    taken_at: datetime
    fingerprint: str
    size: int

    @classmethod
    def at(cls, path: Path) -> Snapshot | None:
        """Return the snapshot in a file; None where it is gone, or its name that of no snapshot."""
        if named := _NAME.fullmatch(path.name):
            database, version, time, fingerprint = named.groups()
            with suppress(FileNotFoundError, ValueError):
                taken_at = datetime.strptime(time, _TIME).replace(tzinfo=UTC)
                size = path.stat().st_size
                return cls(path, database, int(version), taken_at, fingerprint, size)
        return None

    @property
    def name(self) -> str:
        """The name by which it is restored."""
        return self.path.name


@dataclass(frozen=True, slots=True)
class Undone:
    """The snapshot that was restored, and the one of what it replaced."""

    restored: Snapshot
    replaced: Snapshot


class Snapshots:
    """The snapshots of one database, in a directory of theirs.

    Its functions do their work where they are called: on a thread. In a `directory` that was named,
    databases of the same name are told apart by their paths.
    """

    def __init__(self, database: str, policy: SnapshotPolicy, setup: Setup | None = None) -> None:
        self.database = database
        self.policy = policy
        self.setup = setup

    @cached_property
    def directory(self) -> Path:
        """Where they are; it need not exist."""
        if self.policy.directory is not None:
            return Path(self.policy.directory).absolute()
        beside = Path(self.database).resolve().parent
        return beside / "snapshots" if beside.name == ".wave" else beside / ".wave" / "snapshots"

    @cached_property
    def _label(self) -> str:
        path = Path(self.database).resolve()
        name = path.name.removesuffix(".db")
        if self.policy.directory is None:
            return name
        return f"{name}.{sha256(os.fsencode(path)).hexdigest()[:8]}"

    def listed(self) -> tuple[Snapshot, ...]:
        """Return those of this database, newest first."""
        ours = [found for found in self._all() if found.database == self._label]
        return tuple(sorted(ours, key=lambda s: s.taken_at, reverse=True))

    def _all(self) -> Iterator[Snapshot]:
        return filter(None, map(Snapshot.at, self.directory.glob("*.db")))

    def find(self, name: str | None = None) -> Snapshot:
        """Return the newest one, or the one of a name or at a path. Raises `SnapshotNotFound`."""
        if name is None:
            found = next(iter(self.listed()), None)
        else:
            found = Snapshot.at(self.directory / name)
        if found is None:
            raise SnapshotNotFound(name, str(self.directory))
        return found

    @contextmanager
    def workplace(self, purpose: str) -> Iterator[Path]:
        """Make a private place among them; raises `SnapshotFailed` for what fails in it."""
        try:
            files.make_private(self.directory)
            with private_directory(self.directory, f".{self._label}.{purpose}-") as place:
                yield place
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise SnapshotFailed(str(self.directory), reason) from error

    def take(self, live: EngineConnection, check: Check, *, verify: bool = True) -> Snapshot:
        """Copy what a connection sees; only what is whole gets a name, also after a crash.

        Raises `SnapshotFailed` and `NoSpace`.
        """
        with self.workplace("snapshot") as place:
            copy, mode = place / COPY, Path(self.database).stat().st_mode & 0o777
            try:
                copy_database(live, copy, self.setup, mode=mode, durable=True, check=check)
                with opened(copy, self.setup) as connection:
                    found = damage(connection, check) if verify else None
                    snapshot = self._snapshot(connection)
            except sqlite3.Error as error:
                found = str(error)
            if found:
                raise SnapshotFailed(str(self.directory), found)
            copy.rename(snapshot.path)
            sync(self.directory)
        return snapshot

    def _snapshot(self, copy: EngineConnection) -> Snapshot:
        version, now, schema = newest_version(copy), datetime.now(UTC), fingerprint(copy)[:12]
        name = f"{self._label}-v{version}-{now.strftime(_TIME)}-{schema}.db"
        return Snapshot(self.directory / name, self._label, version, now, schema, size(copy))

    def prune(self) -> None:
        """Delete all but the newest ones."""
        for surplus in self.listed()[self.policy.keep :]:
            surplus.path.unlink(missing_ok=True)

    def is_guarding(self, version: int) -> bool:
        """Whether a run that goes on has taken one, and has brought the database to a version."""
        return any(s.version != version and _is_held(s.path) for s in self.listed())

    def rows_since(self, snapshot: Snapshot, live: EngineConnection) -> tuple[RowChange, ...]:
        """Return the tables whose rows are not as many as they were.

        Raises `SnapshotUnusable`.
        """
        try:
            with opened(snapshot.path, self.setup, immutable=True) as connection:
                then = _counts(connection)
        except sqlite3.DatabaseError as error:
            raise SnapshotUnusable(str(snapshot.path), str(error)) from error
        now = _counts(live)
        return tuple(
            RowChange(table, then.get(table), now.get(table))
            for table in sorted({*now, *then})
            if now.get(table) != then.get(table)
        )

    def undo(
        self, snapshot: Snapshot, patience: float, carry: Carry | None = None
    ) -> Program[Undone]:
        """Write a snapshot into the live database, in one transaction.

        Other connections read on, and see it when it is done. What is replaced is kept as a
        snapshot, under the same lock; what `carry` writes then is part of what replaces it. Raises
        `SnapshotUnusable`, `SnapshotFailed`, `NoSpace` and `DatabaseLocked`, nothing changed then.
        """
        if not (yield BeginWrite(patience)):  # this waiting is told, that of a backup is not
            raise DatabaseLocked(patience)
        yield Rollback()
        restoration = _Restoration(self, snapshot, patience, carry)
        yield Call(restoration.run)
        with suppress(OSError):
            self.prune()
        return Undone(snapshot, cast(Snapshot, restoration.replaced))


class _Restoration:
    """One run of `undo` on the connection's thread."""

    def __init__(
        self, snapshots: Snapshots, snapshot: Snapshot, patience: float, carry: Carry | None
    ) -> None:
        self._snapshots = snapshots
        self._snapshot = snapshot
        self._opened = partial(opened, setup=snapshots.setup)
        self._patience = patience
        self._carry = carry
        self.replaced: Snapshot | None = None

    def run(self, live: EngineConnection) -> None:
        with (
            self._snapshots.workplace("undo") as place,
            self._opened(self._whole_copy(place, live.raise_if_cancelled)) as new,
        ):
            self._require_fit(new, live)
            self._deadline = monotonic() + self._patience
            step = partial(self._step, place / COPY, live.raise_if_cancelled)
            # After one page the lock is ours, and nothing is final yet.
            try:
                new.backup(live, pages=1, progress=step, sleep=POLL)
            except BaseException:
                if self.replaced is not None:
                    self.replaced.path.unlink(missing_ok=True)
                raise

    def _whole_copy(self, place: Path, check: Check) -> Path:
        """Copy the snapshot to a private place, where others may not damage it any more."""
        setup, copy = self._snapshots.setup, place / COPY
        try:
            with self._opened(self._snapshot.path, immutable=True) as source:
                copy_database(source, copy, setup, check=check)
            with self._opened(copy) as connection:
                found = damage(connection, check)
        except sqlite3.DatabaseError as error:
            found = str(error)
        if found:
            raise SnapshotUnusable(str(self._snapshot.path), f"it is damaged: {found}")
        return copy

    def _require_fit(self, new: EngineConnection, live: EngineConnection) -> None:
        its, ours = page_size(new), page_size(live)
        if its != ours:
            reason = f"its pages have {its} bytes, those of the database {ours}"
            raise SnapshotUnusable(str(self._snapshot.path), reason)
        if size(new) < 2 * its:  # of a single page there is no callback before the end
            new.execute("CREATE TABLE main.two_pages (x)")
            new.execute("DROP TABLE main.two_pages")
        if size(new) < 2 * its:  # auto_vacuum gave the page back
            raise SnapshotUnusable(str(self._snapshot.path), "it is empty: delete the database")

    def _step(self, copy: Path, check: Check, status: int, _left: int, _all: int) -> None:
        if status == sqlite3.SQLITE_DONE:  # committed: nothing may fail any more
            return
        check()
        if status in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            if monotonic() >= self._deadline:  # SQLite itself would try for ever
                raise DatabaseLocked(self._patience)
        elif self.replaced is None:
            with self._opened(self._snapshots.database, read_only=True) as old:
                # Not verified: damage is a reason to undo.
                self.replaced = self._snapshots.take(old, check, verify=False)
                with self._opened(copy) as new:  # changed, it is copied from its start again
                    new.execute("BEGIN")
                    replication.carry_over(old, new)
                    if self._carry is not None:
                        self._carry(old, new)
                    new.execute("COMMIT")


class Precaution:
    """The snapshot of one run, taken under the lock of its first step.

    As long as the run goes on its file is locked: so of many workers that start at once the first
    alone takes one. A run that has changed nothing leaves none behind. `harmful` are the versions
    that destroy something on the way up.
    """

    def __init__(self, snapshots: Snapshots, walk: Walk, harmful: Collection[int] = ()) -> None:
        self._snapshots = snapshots
        self._walk = walk
        self._harmful = harmful
        self._taken: Snapshot | None = None
        self._lock: int | None = None
        walk.before_first.append(self._take)

    def program(self) -> Program[tuple[Step, ...]]:
        """Run the walk."""
        try:
            return (yield from self._walk.program())
        finally:
            self._end()

    def _take(self) -> Program[None]:
        walk = self._walk
        harmful = any(step.version in self._harmful for step in walk.left)
        if harmful or self._snapshots.policy.always or walk.direction is Direction.DOWN:
            yield Call(self._take_beside)
        if self._taken is not None:
            yield Report(SnapshotTaken(str(self._taken.path)))

    def _take_beside(self, connection: EngineConnection) -> None:
        snapshots = self._snapshots
        with opened(snapshots.database, snapshots.setup, read_only=True) as live:
            if not snapshots.is_guarding(newest_version(live)):
                with suppress(OSError):
                    snapshots.prune()  # what killed runs have left
                self._taken = snapshots.take(live, connection.raise_if_cancelled)
                self._lock = locked(self._taken.path)

    def _end(self) -> None:
        if self._taken is None:
            return
        with suppress(OSError):
            if self._walk.changed:
                self._snapshots.prune()
            else:
                self._taken.path.unlink(missing_ok=True)
        if self._lock is not None:
            os.close(self._lock)


def _is_held(path: Path) -> bool:
    try:
        lock = locked(path)
    except OSError:
        return False
    if lock is None:
        return path.exists()
    os.close(lock)
    return False


def newest_version(connection: EngineConnection) -> int:
    """Return the newest version that a database records, 0 where it records none."""
    try:
        ((version,),) = connection.execute(history.NEWEST)
    except sqlite3.DatabaseError:
        return 0
    return version if isinstance(version, int) and version >= 0 else 0


def fingerprint(connection: EngineConnection) -> str:
    """Return the fingerprint of a schema."""
    return Schema.of(Object(*row) for row in connection.execute(READ)).fingerprint


def _counts(connection: EngineConnection) -> dict[str, int]:
    tables = [name for (name,) in connection.execute(_TABLES)]
    counts = {}
    for table in tables:
        sql = f"SELECT count(*) FROM main.{quoted_name(table)}"
        ((counts[table],),) = connection.execute(sql)
    return counts
