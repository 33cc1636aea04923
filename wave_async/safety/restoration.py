"""Restores a snapshot into the live database.

SQLite's own backup writes it, page by page in one transaction, while others have the database open.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import cast

from wave_async.database import replication
from wave_async.database.driver import EngineConnection
from wave_async.database.requests import BeginWrite, Call, Program, Rollback
from wave_async.database.session import POLL
from wave_async.errors import DatabaseLocked, SnapshotUnusable
from wave_async.safety.copies import Check, copy_database, damage, opened, page_size, size
from wave_async.safety.snapshots import COPY, Snapshot, Snapshots, Undone

Carry = Callable[[EngineConnection, EngineConnection], object]
"""Given a connection that reads what is being replaced and one that writes what replaces it."""


def restore(
    snapshots: Snapshots, snapshot: Snapshot, patience: float, carry: Carry
) -> Program[Undone]:
    """Write a snapshot into the live database, in one transaction.

    Other connections read on, and see it when it is done. What is replaced is kept as a snapshot,
    under the same lock; what `carry` writes then is part of what replaces it. Raises
    `SnapshotUnusable`, `SnapshotFailed`, `NoSpace` and `DatabaseLocked`, nothing changed then.
    """
    if not (yield BeginWrite(patience)):  # this waiting is told, that of a backup is not
        raise DatabaseLocked(patience)
    yield Rollback()
    restoration = _Restoration(snapshots, snapshot, patience, carry)
    yield Call(restoration.run)
    with suppress(OSError):
        snapshots.prune()
    return Undone(snapshot, cast(Snapshot, restoration.replaced))


class _Restoration:
    """One run on the connection's thread."""

    def __init__(
        self, snapshots: Snapshots, snapshot: Snapshot, patience: float, carry: Carry
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
                    self._carry(old, new)
                    new.execute("COMMIT")
