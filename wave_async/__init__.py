"""Migrations for asyncio applications on SQLite: safe when many start at once."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from wave_async import errors
from wave_async.errors import WaveError

if TYPE_CHECKING:
    from wave_async.config import MigrationConfig
    from wave_async.database.connection import SingleConnectionPool
    from wave_async.database.rebuild import rebuild_table
    from wave_async.fleet import (
        migrate_many,
        plan_many,
        rehearse_many,
        status_many,
        validate_many,
    )
    from wave_async.manager import MigrationManager
    from wave_async.model.creation import Creation
    from wave_async.model.difference import Difference
    from wave_async.model.effects import Effect, Loss, Preview
    from wave_async.model.events import (
        Event,
        Hook,
        Marked,
        RunEnded,
        RunStarted,
        SnapshotTaken,
        StatementStarted,
        StepFailed,
        StepFinished,
        StepStarted,
        UpcomingRun,
        WaitingForLock,
    )
    from wave_async.model.fleet import FileResult, Group, Outcome, Tally
    from wave_async.model.foreign import Import
    from wave_async.model.migration import AppliedMigration, Direction, LogEntry, Migration, Step
    from wave_async.model.plan import MigrationStatus, Plan, State, Status, Validation
    from wave_async.model.rehearsal import Rehearsal, RowChange
    from wave_async.runner import MigrationRunner
    from wave_async.safety.policy import SnapshotPolicy
    from wave_async.safety.snapshots import Snapshot, Undone
    from wave_async.safety.verify import Verification, Verified
    from wave_async.sources.load import load_migrations
    from wave_async.startup import StartupReport, lifespan, migrate_on_startup

__all__ = [
    "AppliedMigration",
    "Creation",
    "Difference",
    "Direction",
    "Effect",
    "Event",
    "FileResult",
    "Group",
    "Hook",
    "Import",
    "LogEntry",
    "Loss",
    "Marked",
    "Migration",
    "MigrationConfig",
    "MigrationManager",
    "MigrationRunner",
    "MigrationStatus",
    "Outcome",
    "Plan",
    "Preview",
    "Rehearsal",
    "RowChange",
    "RunEnded",
    "RunStarted",
    "SingleConnectionPool",
    "Snapshot",
    "SnapshotPolicy",
    "SnapshotTaken",
    "StartupReport",
    "State",
    "StatementStarted",
    "Status",
    "Step",
    "StepFailed",
    "StepFinished",
    "StepStarted",
    "Tally",
    "Undone",
    "UpcomingRun",
    "Validation",
    "Verification",
    "Verified",
    "WaitingForLock",
    "WaveError",
    "errors",
    "lifespan",
    "load_migrations",
    "migrate_many",
    "migrate_on_startup",
    "plan_many",
    "rebuild_table",
    "rehearse_many",
    "status_many",
    "validate_many",
]

_WHERE = {
    "AppliedMigration": "model.migration",
    "Creation": "model.creation",
    "Difference": "model.difference",
    "Direction": "model.migration",
    "Effect": "model.effects",
    "Event": "model.events",
    "FileResult": "model.fleet",
    "Group": "model.fleet",
    "Hook": "model.events",
    "Import": "model.foreign",
    "LogEntry": "model.migration",
    "Loss": "model.effects",
    "Marked": "model.events",
    "Migration": "model.migration",
    "MigrationConfig": "config",
    "MigrationManager": "manager",
    "MigrationRunner": "runner",
    "MigrationStatus": "model.plan",
    "Outcome": "model.fleet",
    "Plan": "model.plan",
    "Preview": "model.effects",
    "Rehearsal": "model.rehearsal",
    "RowChange": "model.rehearsal",
    "RunEnded": "model.events",
    "RunStarted": "model.events",
    "SingleConnectionPool": "database.connection",
    "Snapshot": "safety.snapshots",
    "SnapshotPolicy": "safety.policy",
    "SnapshotTaken": "model.events",
    "StartupReport": "startup",
    "State": "model.plan",
    "StatementStarted": "model.events",
    "Status": "model.plan",
    "Step": "model.migration",
    "StepFailed": "model.events",
    "StepFinished": "model.events",
    "StepStarted": "model.events",
    "Tally": "model.fleet",
    "Undone": "safety.snapshots",
    "UpcomingRun": "model.events",
    "Validation": "model.plan",
    "Verification": "safety.verify",
    "Verified": "safety.verify",
    "WaitingForLock": "model.events",
    "lifespan": "startup",
    "load_migrations": "sources.load",
    "migrate_many": "fleet",
    "migrate_on_startup": "startup",
    "plan_many": "fleet",
    "rebuild_table": "database.rebuild",
    "rehearse_many": "fleet",
    "status_many": "fleet",
    "validate_many": "fleet",
}
"""What is imported only when it is asked for: who uses one name does not pay for all."""


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(name)
