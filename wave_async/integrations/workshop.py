"""Makes databases for the tests of a project: one of each version, and then copies of it.

What it runs has a thread and an event loop of its own: sync and async tests use it alike.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, Union

from wave_async import safety
from wave_async.database.connection import SingleConnectionPool
from wave_async.manager import MigrationManager
from wave_async.model.catalogue import Catalogue
from wave_async.model.effects import Effect
from wave_async.model.migration import Direction, Migration
from wave_async.model.schema import Schema
from wave_async.sources.load import load_migrations
from wave_async.sources.lockfile import lock_path
from wave_async.sources.settings import read_settings, resolve

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from wave_async.safety.verify import Verification

T = TypeVar("T")
Source: TypeAlias = Union[str, "os.PathLike[str]", "Traversable", Iterable[Migration]]
"""What `load_migrations` takes, or the migrations themselves."""

LOCK_TIMEOUT = 5.0
"""In seconds: a test that keeps its own database locked would wait for itself."""


class Workshops:
    """The workshops of a session, one for each list of migrations under test."""

    def __init__(self, root: Path, new_folder: Callable[[str], Path]) -> None:
        self._root = root
        self._new_folder = new_folder
        self._made: dict[int, Workshop] = {}

    def of(self, source: Source) -> Workshop:
        """Return the workshop of a source, the same one for the same object; raises `WaveError`."""
        if id(source) not in self._made:
            settings = read_settings(self._root)
            if source != settings.get("migrations", source):
                settings = {key: settings[key] for key in settings.keys() & {"setup"}}
            folder = self._new_folder("wave")
            self._made[id(source)] = Workshop({**settings, "migrations": source}, folder)
        return self._made[id(source)]


class Workshop:
    """The migrations of a project, by its settings, and the databases that a folder has of them.

    Everything may raise `WaveError`.
    """

    def __init__(self, settings: Mapping[str, Any], folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._templates: dict[int, Path] = {}

    @cached_property
    def _migrations(self) -> tuple[Migration, ...]:
        """What the source says: it may be an iterator, which tells it only once."""
        source = self._settings["migrations"]
        if isinstance(source, str) or not isinstance(source, Iterable):
            formatted = {key: self._settings.get(key) for key in ("format", "placeholders")}
            source = load_migrations(source, **formatted)
        return tuple(source)

    @cached_property
    def catalogue(self) -> Catalogue:
        """The migrations, every script read."""
        catalogue = Catalogue(self._migrations)
        catalogue.prove()
        return catalogue

    @property
    def lock(self) -> Path | None:
        """Where the lock file would be."""
        return lock_path(self._settings)

    def newest(self, path: Path) -> Path:
        """Make a database of the newest version."""
        return self._copied(path, self.catalogue.newest)

    def at(self, path: Path, version: int) -> Path:
        """Take a database to a version, up or down; it is made if it is not there."""
        if not path.exists():
            return self._copied(path, version)
        apart(partial(self._migrate, path, version))
        return path

    def verification(self) -> Verification:
        """Try every migration there and back; that an interrupt does no harm is the engine's."""
        verify = partial(safety.verify.verify, setup=self._setup, interrupt=False)
        return apart(partial(verify, self.catalogue))

    def effects(self) -> tuple[Effect, ...]:
        """Tell what each migration destroys."""

        async def tried() -> tuple[Effect, ...]:
            async with SingleConnectionPool(":memory:", setup=self._setup) as pool:
                tried_out = partial(safety.effects.effects, Schema(), self.catalogue, Direction.UP)
                return await pool.run(tried_out) or ()

        return apart(tried)

    @cached_property
    def _setup(self) -> Callable[..., Any] | None:
        name = self._settings.get("setup")
        return name and resolve("setup", name)

    def _copied(self, path: Path, version: int) -> Path:
        if version not in self._templates:
            template = self._folder / f"{version}.db"
            template.touch()
            apart(partial(self._migrate, template, version))
            self._templates[version] = template
        shutil.copyfile(self._templates[version], path)
        return path

    async def _migrate(self, path: Path, version: int) -> None:
        """Migrate a file; SQLite folds the log into it when its last connection is closed."""
        migrations = [entry.migration for entry in self.catalogue]
        async with SingleConnectionPool(path, setup=self._setup) as pool:
            manager = MigrationManager(pool, migrations, lock_timeout=LOCK_TIMEOUT)
            down = version < await manager.current_version()
            await (manager.migrate_down if down else manager.migrate_up)(version)


def apart(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Await something in a thread of its own, where no event loop runs yet."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(work())).result()
