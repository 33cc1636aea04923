"""Migrations for asyncio applications on SQLite: safe when many start at once."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from wave_async import errors
from wave_async.config import MigrationConfig
from wave_async.database.connection import SingleConnectionPool
from wave_async.errors import WaveError
from wave_async.manager import MigrationManager
from wave_async.model.events import Event, SnapshotTaken, StepFinished, StepStarted, WaitingForLock
from wave_async.model.migration import AppliedMigration, Direction, LogEntry, Migration, Step
from wave_async.model.plan import MigrationStatus, Plan, State, Status, Validation
from wave_async.runner import MigrationRunner
from wave_async.sources.load import load_migrations
from wave_async.startup import StartupReport, lifespan, migrate_on_startup

if TYPE_CHECKING:
    from wave_async.database.rebuild import rebuild_table
    from wave_async.model.creation import Creation
    from wave_async.model.difference import Difference
    from wave_async.model.effects import Effect, Loss, Preview
    from wave_async.model.foreign import Import
    from wave_async.model.rehearsal import Rehearsal, RowChange
    from wave_async.safety.policy import SnapshotPolicy
    from wave_async.safety.snapshots import Snapshot, Undone
    from wave_async.safety.verify import Verification, Verified

__all__ = [
    "AppliedMigration",
    "Creation",
    "Difference",
    "Direction",
    "Effect",
    "Event",
    "Import",
    "LogEntry",
    "Loss",
    "Migration",
    "MigrationConfig",
    "MigrationManager",
    "MigrationRunner",
    "MigrationStatus",
    "Plan",
    "Preview",
    "Rehearsal",
    "RowChange",
    "SingleConnectionPool",
    "Snapshot",
    "SnapshotPolicy",
    "SnapshotTaken",
    "StartupReport",
    "State",
    "Status",
    "Step",
    "StepFinished",
    "StepStarted",
    "Undone",
    "Validation",
    "Verification",
    "Verified",
    "WaitingForLock",
    "WaveError",
    "errors",
    "lifespan",
    "load_migrations",
    "migrate_on_startup",
    "rebuild_table",
]

_LATER = {
    "Creation": "model.creation",
    "Difference": "model.difference",
    "Effect": "model.effects",
    "Import": "model.foreign",
    "Loss": "model.effects",
    "Preview": "model.effects",
    "Rehearsal": "model.rehearsal",
    "RowChange": "model.rehearsal",
    "Snapshot": "safety.snapshots",
    "SnapshotPolicy": "safety.policy",
    "Undone": "safety.snapshots",
    "Verification": "safety.verify",
    "Verified": "safety.verify",
    "rebuild_table": "database.rebuild",
}
"""What is imported only when it is asked for: an application's start pays for none of it."""


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(name)
