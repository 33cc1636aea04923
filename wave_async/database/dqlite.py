"""A pool on a dqlite cluster: who its leader is, and what its errors mean.

Owns the client's connection; no other room imports the client. One statement is sent at a time, and
transactions are begun and ended by the programs alone.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from dqliteclient import ClusterClient, DqliteConnection, OperationalError
from dqliteclient.exceptions import DqliteError, ProtocolError

from wave_async.database import words
from wave_async.database.connection import LOCK_TIMEOUT
from wave_async.database.driver import is_busy
from wave_async.database.linked import LinkedPool
from wave_async.database.requests import Program, Query
from wave_async.errors import (
    ClusterUnreachable,
    ConnectionLost,
    DumpTooLarge,
    InvalidPath,
    LeadKept,
)

LARGEST_DUMP = 64 * 2**20
"""So many bytes are the largest message that the client takes, and a dump is one message."""

_URL = re.compile(r"(?i:dqlite)://(?P<nodes>[^/,\s]+(?:,[^/,\s]+)*)/(?P<name>[^/\s]+)")
_ATTEMPT = 2.0
_VOTER = 0
_LONGEST_STATEMENT = 3600.0
_PAUSE = 0.1
_BEGINS = re.compile(r"BEGIN\b")
_ENDS = re.compile(r"(?:COMMIT|ROLLBACK)\b")
_SETTING = re.compile(r"PRAGMA (foreign_keys) = \w+")
# A node cannot write again what a transaction of more than 2 MB has spilled
# (https://github.com/canonical/dqlite/issues/432).
_NEVER_SPILL = "PRAGMA cache_spill = OFF"
_FAILURES = (DqliteError, OSError)
_KINDS = {sqlite3.SQLITE_CONSTRAINT: sqlite3.IntegrityError}
_NAMES = {
    getattr(sqlite3, name): name
    for name in sorted(dir(sqlite3))
    if re.fullmatch(r"SQLITE_(?:ERROR|BUSY|LOCKED|FULL|IOERR|CONSTRAINT|READONLY|CORRUPT).*", name)
}


class DqlitePool(LinkedPool):
    """One connection to the leader of a cluster, opened when it is needed, behind one asyncio lock.

    `url` is `dqlite://host:port,host:port/name`: nodes of the cluster, any of which tells who leads
    it, and the name of the database. Foreign keys are on. A statement that nobody answers is given
    up after an hour; a node that ends is noticed at once. As an async context manager it closes the
    connection at the end. Raises `InvalidPath` for another URL.
    """

    def __init__(self, url: str) -> None:
        match = _URL.fullmatch(url)
        if match is None:
            raise InvalidPath(url, "a cluster is named dqlite://host:port,host:port/name")
        self.database = match["name"]
        try:
            self.cluster = ClusterClient.from_addresses(
                match["nodes"].split(","),
                timeout=_LONGEST_STATEMENT,
                dial_timeout=_ATTEMPT,
                attempt_timeout=_ATTEMPT,
                concurrent_leader_conns=1,  # it leaves the sockets of probes that it cancels open
            )
        except ValueError as error:
            raise InvalidPath(url, str(error)) from error
        super().__init__(url, _Link(self))

    async def dump(self, target: Path, *, patience: float = LOCK_TIMEOUT) -> None:
        """Write what the leader has of the database to a file, and its WAL beside it.

        Raises `DumpTooLarge` where it is larger than a message may be, and `ClusterUnreachable`.
        """
        size = await self.ask(_size, patience=patience)
        if size > LARGEST_DUMP:
            raise DumpTooLarge(self.path, size, LARGEST_DUMP)
        try:
            files = await self.cluster.dump(self.database)
        except ProtocolError as error:  # its WAL made it larger
            raise DumpTooLarge(self.path, size, LARGEST_DUMP) from error
        except _FAILURES as error:
            raise ClusterUnreachable(self.path, 0.0, str(error)) from error
        for name, content in files.items():
            place = target.with_name(target.name + name.removeprefix(self.database))
            await asyncio.to_thread(place.write_bytes, content)

    async def unlock(self) -> tuple[str, str]:
        """Hand the lead to another voter, which rolls back whatever holds the lock.

        Returns the address of who led, and of who was asked to lead. Raises `ClusterUnreachable`,
        and `LeadKept` where no other voter takes it.
        """
        try:
            nodes = await self.cluster.cluster_info()
            leader = await self.cluster.leader_info()
        except _FAILURES as error:
            raise ClusterUnreachable(self.path, 0.0, str(error)) from error
        if leader is None:
            raise ClusterUnreachable(self.path, 0.0, "an election goes on")
        refused = "there is no other voter"
        for voter in nodes:
            if voter.role == _VOTER and voter.node_id != leader.node_id:
                try:
                    await self.cluster.transfer_leadership(voter.node_id)
                except _FAILURES as error:  # it may have ended
                    refused = str(error)
                else:
                    return leader.address, voter.address
        raise LeadKept(leader.address, refused)


def _size() -> Program[int]:
    ((size,),) = yield Query(
        "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
    )
    return int(size)


class _Link:
    """A `remote.Link` through the client; settings of the connection outlive it."""

    def __init__(self, pool: DqlitePool) -> None:
        self.in_transaction = False
        self._pool = pool
        self._connection: DqliteConnection | None = None
        self._settings: dict[str, str] = {}

    async def send(
        self, sql: str, parameters: tuple[Any, ...] = (), *, rows: bool, patience: float
    ) -> list[tuple[Any, ...]]:
        """Run one statement; see `Link`."""
        ends = _ENDS.match(sql)
        if self._connection is None and self.in_transaction:
            self.in_transaction = ends is None
            raise ConnectionLost(self._pool.path, "its transaction is over", in_doubt=False)
        connection = await self._connected(patience)
        try:
            found = await _sent(connection, sql, parameters, rows=rows or words.answers(sql))
        except BaseException as error:
            self._after(connection, error, ends[0] if ends else None)
            raise
        self.in_transaction = bool(_BEGINS.match(sql)) or (self.in_transaction and not ends)
        if setting := _SETTING.fullmatch(sql):
            self._settings[setting[1]] = sql
        return found

    def _after(self, connection: DqliteConnection, error: BaseException, ends: str | None) -> None:
        """Raise what an error of the client means; of a cancellation nothing but the end."""
        if isinstance(error, OperationalError) and connection.is_connected:
            told = _as_sqlite(error)
            if not (ends and _is_doubtful(told)):
                raise told from error
        self.drop(keep_transaction=not ends)
        if isinstance(error, _FAILURES):
            in_doubt = ends == "COMMIT"
            raise ConnectionLost(self._pool.path, str(error), in_doubt=in_doubt) from error

    def drop(self, *, keep_transaction: bool = False) -> None:
        """Give the connection up; a transaction is over where nobody has to be told."""
        connection, self._connection = self._connection, None
        self.in_transaction = self.in_transaction and keep_transaction
        if connection is not None:
            connection.terminate()

    async def close(self) -> None:
        """Close the connection as the client does."""
        connection, self._connection, self.in_transaction = self._connection, None, False
        self._settings.clear()
        if connection is not None:
            await connection.close()

    async def _connected(self, patience: float) -> DqliteConnection:
        start = monotonic()
        while self._connection is None:
            try:
                self._connection = await self._connect()
            except _FAILURES as error:
                if monotonic() - start >= patience:
                    raise ClusterUnreachable(self._pool.path, patience, str(error)) from error
                await asyncio.sleep(_PAUSE)
        return self._connection

    async def _connect(self) -> DqliteConnection:
        connection = await self._pool.cluster.connect(self._pool.database, max_attempts=1)
        try:
            for sql in (_NEVER_SPILL, *self._settings.values()):
                await connection.execute(sql)
        except BaseException:
            connection.terminate()
            raise
        self._pool.generation += 1
        return connection


async def _sent(
    connection: DqliteConnection, sql: str, parameters: tuple[Any, ...], *, rows: bool
) -> list[tuple[Any, ...]]:
    if rows:
        _, found = await connection.query_raw(sql, parameters)
        return [tuple(row) for row in found]
    await connection.execute(sql, parameters)
    return []


def _is_doubtful(error: sqlite3.Error) -> bool:
    """Whether an error of a COMMIT leaves open if it has applied: what the cluster had to do."""
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_IOERR and not is_busy(error)


def _as_sqlite(error: OperationalError) -> sqlite3.Error:
    """Return an error as SQLite's own module raises it: what the programs know."""
    kind = _KINDS.get(error.code & 0xFF, sqlite3.OperationalError)
    text = error.message
    with suppress(ValueError):
        text = text[: text.rindex(" to ")]  # the client adds the address
    told = kind(text)
    told.sqlite_errorcode = error.code
    told.sqlite_errorname = _NAMES.get(error.code, _NAMES.get(error.code & 0xFF, str(error.code)))
    return told
