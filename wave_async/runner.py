"""A manager opened from a path, as the command line needs it."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from wave_async.config import MigrationConfig
from wave_async.database.closing import Closing
from wave_async.database.pool import open_pool
from wave_async.database.question import Setup
from wave_async.definitions import MIGRATIONS
from wave_async.manager import MigrationManager
from wave_async.model.events import Event, Hook
from wave_async.model.migration import LogEntry, Migration, Step
from wave_async.model.plan import Plan, Status, Validation

if TYPE_CHECKING:
    from wave_async.model.creation import Creation
    from wave_async.model.effects import Preview
    from wave_async.model.foreign import Import
    from wave_async.model.rehearsal import Rehearsal, RowChange
    from wave_async.model.schema import Schema
    from wave_async.safety.policy import SnapshotPolicy
    from wave_async.safety.snapshots import Snapshot, Undone
    from wave_async.safety.verify import Verification


class MigrationRunner(Closing):
    """Opens a database by its path, migrates or questions it, and closes it again.

    `migrations` are Wave's own if not given; `config` has its defaults; `setup` prepares each
    connection, as in `SingleConnectionPool`. As an async context manager
    it closes the database at the end. `migrate_up` and `migrate_down` raise `MigrationsDisabled`
    where the configuration says so; everything else is as in `MigrationManager`.
    """

    def __init__(
        self,
        database: str | os.PathLike[str],
        migrations: Iterable[Migration] = MIGRATIONS,
        *,
        config: MigrationConfig | None = None,
        allow_out_of_order: bool = False,
        lock_timeout: float | None = None,
        statement_timeout: float | None = None,
        on_event: Callable[[Event], None] | None = None,
        tell_statements: bool = False,
        setup: Setup | None = None,
        snapshots: SnapshotPolicy | None = None,
        before: Hook | None = None,
    ) -> None:
        self._config = config or MigrationConfig()
        configured = self._config.manager_options
        if lock_timeout is not None:
            configured["lock_timeout"] = lock_timeout
        self._pool = open_pool(database, setup)
        self._manager = MigrationManager(
            self._pool,
            migrations,
            allow_out_of_order=allow_out_of_order,
            statement_timeout=statement_timeout,
            on_event=on_event,
            tell_statements=tell_statements,
            snapshots=snapshots,
            before=before,
            **configured,
        )

    async def close(self) -> None:
        """Close the database; it is opened again when it is used again."""
        await self._pool.close()

    @property
    def database(self) -> str:
        """The absolute path of the database, or the URL of its cluster."""
        return self._pool.path

    @property
    def max_version(self) -> int:
        """The newest version that the configuration lets be applied, 0 for no limit."""
        return self._config.max_version

    @property
    def running_statement(self) -> int | None:
        """The number of the statement that runs now, None where none of a migration does."""
        return self._manager.running_statement

    async def status(self) -> Status:
        """Return where every migration stands."""
        return await self._manager.status()

    @property
    def migrations(self) -> tuple[Migration, ...]:
        """The migrations that it knows, by version."""
        return self._manager.migrations

    async def schemas(self) -> dict[int, Schema]:
        """Return the schema after each migration, by version; the database is not opened."""
        return await self._manager.schemas()

    async def log(self) -> tuple[LogEntry, ...]:
        """Return what was done to the database, the oldest first."""
        return await self._manager.log()

    async def verify(self, *, thorough: bool = False) -> Verification:
        """Try every migration in memory; the database is not opened."""
        return await self._manager.verify(thorough=thorough)

    async def validate(self, *, strict: bool = False) -> Validation:
        """Compare the history with the migrations, and the schema with what they make."""
        return await self._manager.validate(strict=strict)

    def require_enabled(self) -> None:
        """Raise `MigrationsDisabled` where the configuration says so."""
        self._config.require_enabled()

    async def plan_up(self, target: int | None = None) -> Plan:
        """Return what `migrate_up` would do now, and raise what it would raise beforehand."""
        return await self._manager.plan_up(target)

    async def preview_up(self, target: int | None = None) -> Preview:
        """Return what `migrate_up` would do to the database."""
        return await self._manager.preview_up(target)

    async def preview_down(self, target: int) -> Preview:
        """Return what `migrate_down` would do to the database, and what it would destroy."""
        return await self._manager.recovering(partial(self._manager.preview_down, target))

    async def rehearse_up(self, target: int | None = None, **options: Any) -> Rehearsal:
        """Run what `migrate_up` would do on a private copy."""
        return await self._manager.rehearse_up(target, **options)

    async def rehearse_down(self, target: int, **options: Any) -> Rehearsal:
        """Run what `migrate_down` would do on a private copy."""
        return await self._manager.rehearse_down(target, **options)

    async def baseline(self, version: int, *, force: bool = False) -> tuple[Step, ...]:
        """Record migrations 1 to `version` as applied without running them, once proven."""
        self._config.require_enabled()
        return await self._manager.baseline(version, force=force)

    async def import_history(
        self, tool: str, *, version: int | None = None, force: bool = False
    ) -> Import:
        """Record as applied what another tool's bookkeeping says is, once proven."""
        self._config.require_enabled()
        return await self._manager.import_history(tool, version=version, force=force)

    async def creation(self) -> Creation:
        """Return scripts that make the live schema and take it back: a first migration."""
        return await self._manager.creation()

    async def plan_import(
        self, tool: str, *, version: int | None = None, force: bool = False
    ) -> Import:
        """Return what `import_history` would do now."""
        return await self._manager.plan_import(tool, version=version, force=force)

    async def repair(
        self, versions: Collection[int] = (), *, force: bool = False
    ) -> tuple[Step, ...]:
        """Record the checksums of edited migrations anew, once proven."""
        self._config.require_enabled()
        return await self._manager.repair(versions, force=force)

    async def migrate_up(self, target: int | None = None, *, atomic: bool = False) -> Plan:
        """Apply what is pending up to `target`; with nothing to do nothing is opened to write."""
        self._config.require_enabled()
        return await self._manager.migrate_up(target, atomic=atomic)

    async def migrate_down(self, target: int) -> Plan:
        """Roll back what is applied above `target`."""
        self._config.require_enabled()
        return await self._manager.migrate_down(target)

    async def snapshots(self) -> tuple[Snapshot, ...]:
        """Return the snapshots of the database, newest first."""
        return await self._manager.snapshots()

    async def plan_undo(self, name: str | None = None) -> tuple[Snapshot, tuple[RowChange, ...]]:
        """Return what `undo` would restore, and the tables that have other numbers of rows now."""
        self._config.require_enabled()
        return await self._manager.recovering(partial(self._manager.plan_undo, name))

    async def undo(self, name: str | None = None) -> Undone:
        """Restore the newest snapshot, or the one of a name, into the live database."""
        self._config.require_enabled()
        return await self._manager.undo(name)

    async def force_mark_applied(self, version: int) -> tuple[Step, ...]:
        """Record migrations 1 to `version` as applied without running them, on your word."""
        self._config.require_enabled()
        return await self._manager.force_mark_applied(version)
