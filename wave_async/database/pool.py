"""What the engine needs of whoever has the connection, be it to a file or to a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from wave_async.database.closing import Closing
from wave_async.database.connection import LOCK_TIMEOUT, SingleConnectionPool
from wave_async.database.question import Setup
from wave_async.database.requests import Program, T
from wave_async.database.session import Part
from wave_async.errors import ConfigError, InvalidPath, MissingExtra
from wave_async.model.events import Event

if TYPE_CHECKING:
    from wave_async.database.dqlite import DqlitePool

_CLUSTER = "dqlite:"


class Pool(Closing, Protocol):
    """One connection behind one lock, on which programs run; see `SingleConnectionPool`."""

    generation: int

    @property
    def path(self) -> str:
        """What the database is called."""

    @property
    def file(self) -> str | None:
        """The file that the database is, None where it is not one of its own."""

    @property
    def setup(self) -> Setup | None:
        """What prepares each connection, a copy's too."""

    @property
    def running_part(self) -> Part | None:
        """What of a migration runs now."""

    async def run(
        self,
        program: Callable[[], Program[T]],
        *,
        judge: Callable[[], Program[object]] | None = None,
        on_event: Callable[[Event], None] | None = None,
        events: Any = Event,
        statements: bool = False,
        patience: float = LOCK_TIMEOUT,
        statement_timeout: float = inf,
    ) -> T | None:
        """Run a program that may write."""

    async def ask(self, program: Callable[[], Program[T]], *, patience: float = LOCK_TIMEOUT) -> T:
        """Run a program that does not write, perhaps twice."""


@runtime_checkable
class Remote(Protocol):
    """A pool of a database that lies elsewhere, and that can be copied here."""

    async def dump(self, target: Path, *, patience: float = LOCK_TIMEOUT) -> None:
        """Write the database to a file, with its WAL beside it; raises `DumpTooLarge`."""


def is_cluster(database: str) -> bool:
    """Whether a database is named by the URL of a cluster, be it wrong."""
    return database.lower().startswith(_CLUSTER)


def open_copy(pool: Pool, copy: str | Path) -> Pool:
    """Return the pool of a copy of a pool's database, which refuses what that one refuses."""
    if not isinstance(pool, Remote):
        return SingleConnectionPool(copy, setup=pool.setup)
    from wave_async.database.linked import FileLink, LinkedPool  # noqa: PLC0415 - a file needs none

    return LinkedPool(os.fspath(copy), FileLink(copy))


def open_pool(database: str | os.PathLike[str], setup: Setup | None = None) -> Pool:
    """Return the pool of a path, or of the URL of a cluster.

    Raises `InvalidPath` for what is neither, `ConfigError` for a setup of a cluster, and
    `MissingExtra` where its client is not installed.
    """
    name = os.fspath(database)
    if not is_cluster(name):
        return SingleConnectionPool(database, setup=setup)
    if setup is not None:
        raise ConfigError("setup", name, "none; the connections of a cluster are a node's own")
    return open_cluster(name)


def open_cluster(url: str) -> DqlitePool:
    """Return the pool of the URL of a cluster; raises `InvalidPath` and `MissingExtra`."""
    if not is_cluster(url):
        raise InvalidPath(url, "it is no cluster (dqlite://host:port,host:port/name)")
    try:
        from wave_async.database.dqlite import DqlitePool  # noqa: PLC0415 - it is an extra
    except ImportError as error:
        raise MissingExtra("dqlite", str(error)) from error
    return DqlitePool(url)
