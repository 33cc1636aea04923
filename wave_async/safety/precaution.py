"""The snapshot that a run takes before it destroys something."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress

from wave_async.database.driver import EngineConnection
from wave_async.database.requests import Call, Program, Report
from wave_async.database.walk import Walk
from wave_async.model.events import SnapshotTaken
from wave_async.model.migration import Direction, Step
from wave_async.safety.copies import locked, opened
from wave_async.safety.snapshots import Snapshot, Snapshots, newest_version


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
