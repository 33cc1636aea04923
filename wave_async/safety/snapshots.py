"""Snapshots of a database: taken, listed, compared.

Knows where they are and what they are called; how a database is copied is told in `copies`.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from wave_async.database import files, history
from wave_async.database.driver import EngineConnection
from wave_async.database.question import Setup
from wave_async.database.schema import READ
from wave_async.errors import SnapshotFailed, SnapshotNotFound, SnapshotUnusable
from wave_async.model.rehearsal import RowChange, row_changes
from wave_async.model.schema import BOOKKEEPING, REPLICATION, Object, Schema
from wave_async.model.script import quoted_name
from wave_async.safety.copies import (
    Check,
    copy_database,
    damage,
    locked,
    opened,
    private_directory,
    size,
    sync,
)
from wave_async.safety.policy import SnapshotPolicy

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
            raise SnapshotFailed(str(self.directory), files.reason_of(error)) from error

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
        return row_changes(then, _counts(live))


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
