"""A manager opened from a path and a source of migrations, as the command line needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Self

from wave_async.config import MigrationConfig
from wave_async.database.connection import LOCK_TIMEOUT, SingleConnectionPool
from wave_async.database.question import Setup
from wave_async.definitions import MIGRATIONS
from wave_async.errors import SourceNotFound
from wave_async.manager import MigrationManager
from wave_async.model.events import Event
from wave_async.model.migration import Migration, Step
from wave_async.model.plan import Plan, Status
from wave_async.safety.verify import Verification


def load_migrations(source: str) -> tuple[Migration, ...]:
    """Import migrations named as `module:attribute`, from the current directory too.

    Raises `SourceNotFound` where that cannot be imported or is no list of migrations.
    """
    module, separator, attribute = source.partition(":")
    if not (module and separator and attribute):
        raise SourceNotFound(source, "name them as module:attribute")
    here = str(Path.cwd())
    if here not in sys.path:  # as `python -m` has it
        sys.path.insert(0, here)
    try:
        found = getattr(import_module(module), attribute)
        return tuple(found)
    except (Exception, SystemExit) as error:  # the module is somebody else's code
        raise SourceNotFound(source, f"{type(error).__name__}: {error}") from error


class MigrationRunner:
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
        setup: Setup | None = None,
    ) -> None:
        self._config = config or MigrationConfig()
        lock_timeout = self._config.lock_timeout if lock_timeout is None else lock_timeout
        self._pool = SingleConnectionPool(database, setup=setup)
        self._manager = MigrationManager(
            self._pool,
            migrations,
            max_version=self._config.max_version,
            validate_checksums=not self._config.skip_validation,
            allow_out_of_order=allow_out_of_order,
            lock_timeout=LOCK_TIMEOUT if lock_timeout is None else lock_timeout,
            statement_timeout=statement_timeout,
            on_event=on_event,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._pool.close()

    @property
    def database(self) -> str:
        """The absolute path of the database."""
        return self._pool.path

    async def status(self) -> Status:
        """Return where every migration stands."""
        return await self._manager.status()

    async def validate(self) -> bool:
        """Compare the history with the migrations; False says that checksums were not compared."""
        return await self._manager.validate()

    async def verify(self, *, thorough: bool = False) -> Verification:
        """Try every migration in memory; the database is not opened."""
        return await self._manager.verify(thorough=thorough)

    async def plan_down(self, target: int) -> Plan:
        """Return what `migrate_down` would do now."""
        self._config.require_enabled()
        return await self._manager.recovering(partial(self._manager.plan_down, target))

    async def migrate_up(self, target: int | None = None) -> Plan:
        """Apply what is pending up to `target`; with nothing to do nothing is opened to write."""
        self._config.require_enabled()
        plan = await self._manager.recovering(partial(self._manager.plan_up, target))
        return plan and await self._manager.migrate_up(target)

    async def migrate_down(self, target: int) -> Plan:
        """Roll back what is applied above `target`."""
        self._config.require_enabled()
        return await self._manager.migrate_down(target)

    async def force_mark_applied(self, version: int) -> tuple[Step, ...]:
        """Record migrations 1 to `version` as applied without running them, on your word."""
        self._config.require_enabled()
        return await self._manager.force_mark_applied(version)
