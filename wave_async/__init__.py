"""Migrations for asyncio applications on SQLite: safe when many start at once."""

from wave_async import errors
from wave_async.config import MigrationConfig
from wave_async.database.connection import SingleConnectionPool
from wave_async.database.rebuild import rebuild_table
from wave_async.errors import WaveError
from wave_async.manager import MigrationManager
from wave_async.model.events import Event, StepFinished, StepStarted, WaitingForLock
from wave_async.model.migration import AppliedMigration, Direction, Migration, Step
from wave_async.model.plan import MigrationStatus, Plan, State, Status
from wave_async.runner import MigrationRunner
from wave_async.safety.verify import Verification, Verified
from wave_async.startup import StartupReport, lifespan, migrate_on_startup

__all__ = [
    "AppliedMigration",
    "Direction",
    "Event",
    "Migration",
    "MigrationConfig",
    "MigrationManager",
    "MigrationRunner",
    "MigrationStatus",
    "Plan",
    "SingleConnectionPool",
    "StartupReport",
    "State",
    "Status",
    "Step",
    "StepFinished",
    "StepStarted",
    "Verification",
    "Verified",
    "WaitingForLock",
    "WaveError",
    "errors",
    "lifespan",
    "migrate_on_startup",
    "rebuild_table",
]
