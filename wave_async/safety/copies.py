"""Copies of a database that is in use, and private places to make them in.

Knows files and connections, not what a copy is for. A live database is never opened but by SQLite:
closing its file would drop the locks that SQLite holds on it
(https://sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_).
"""

from __future__ import annotations

import fcntl
import glob
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from wave_async.database import files
from wave_async.database.driver import EngineConnection, refuse_unrun
from wave_async.database.question import Setup
from wave_async.database.requests import Call, Program, Query
from wave_async.database.walk import consistently
from wave_async.errors import NoSpace

Check = Callable[[], object]
"""Called every few milliseconds while something goes on; what it raises ends that."""

_PAGES_AT_ONCE = 1000
_OPCODES_AT_ONCE = 100_000
_LOOK = "SELECT count(*) FROM main.sqlite_schema"  # from here on a transaction sees one moment
_BROKEN_ROWS = re.compile(r"(NULL|NUMERIC|TEXT|non-\w+) value in ")


def unchecked() -> None:
    """Let it go on."""


@contextmanager
def opened(
    path: str | Path,
    setup: Setup | None = None,
    *,
    read_only: bool = False,
    immutable: bool = False,
) -> Iterator[EngineConnection]:
    """Open a database, `read_only`, or `immutable` where nobody writes it, and close it."""
    name = str(path)
    if uri := read_only or immutable:
        name = files.read_only_uri(name, immutable=immutable)
    with closing(EngineConnection(name, uri=uri, isolation_level=None)) as connection:
        if setup is not None:
            refuse_unrun(setup(connection))
        yield connection


def copy_database(
    source: EngineConnection,
    target: Path,
    setup: Setup | None = None,
    *,
    mode: int = 0o600,
    durable: bool = False,
    check: Check = unchecked,
) -> None:
    """Copy what a connection sees at one moment to a new file of this `mode`.

    Others write on where the source is in WAL. A source in a write transaction of its own would
    wait for ever. The copy is one file, not in WAL; a `durable` one is on the disk at the end. What
    fails leaves a part of it. Raises `NoSpace`, `FileExistsError` and `sqlite3.Error`.
    """
    with _one_moment(source):
        require_space(target.parent, size(source))
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        target.chmod(mode)
        with opened(target, setup) as copy:
            if not durable:
                copy.execute("PRAGMA synchronous = OFF")
            source.backup(copy, pages=_PAGES_AT_ONCE, progress=lambda *_: check())
            copy.execute("PRAGMA journal_mode = DELETE")
    if durable:
        sync(target)


@contextmanager
def _one_moment(source: EngineConnection) -> Iterator[None]:
    """Keep a read transaction open: without one each foreign write would start a copy anew.

    https://sqlite.org/c3ref/backup_finish.html#sqlite3backupstep
    """
    if source.in_transaction:
        yield
        return
    source.execute("BEGIN")
    try:
        source.execute(_LOOK).fetchall()
        yield
    finally:
        source.execute("ROLLBACK")


def size(connection: EngineConnection) -> int:
    """Return the bytes of a database, its write-ahead log folded in."""
    ((pages,),) = connection.execute("PRAGMA main.page_count")
    return int(pages) * page_size(connection)


def page_size(connection: EngineConnection) -> int:
    """Return the bytes of a page."""
    ((found,),) = connection.execute("PRAGMA main.page_size")
    return int(found)


def require_space(directory: Path, needed: int) -> None:
    """Raise `NoSpace` where a file of so many bytes has no room."""
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise NoSpace(str(directory), needed, free)


def sync(path: Path) -> None:
    """Bring a file, or the names in a directory, to the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def damage(connection: EngineConnection, check: Check = unchecked) -> str | None:
    """Return the first thing that is wrong with the pages or indexes of a database.

    A row that breaks a CHECK, a NOT NULL or a type is no damage.
    """
    connection.set_progress_handler(check, _OPCODES_AT_ONCE)
    try:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        found = [line for (line,) in connection.execute("PRAGMA main.integrity_check")]
    except sqlite3.DatabaseError as error:
        check()
        return str(error)
    return next((line for line in found if line != "ok" and not _BROKEN_ROWS.match(line)), None)


@contextmanager
def private_directory(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a directory for this user alone, and remove it with all that is in it at the end.

    It is locked as long as its process lives; what crashed runs have left under the same prefix is
    removed. Raises `OSError`.
    """
    _clear(parent, prefix)
    place, lock = _made(parent, prefix)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(lock)


def _clear(parent: Path, prefix: str) -> None:
    for place in parent.glob(f"{glob.escape(prefix)}*"):
        with suppress(OSError):  # somebody else's
            lock = locked(place)
            if lock is not None:
                shutil.rmtree(place, ignore_errors=True)
                os.close(lock)


def _made(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        place = Path(mkdtemp(prefix=prefix, dir=parent))
        lock = locked(place)
        if lock is not None:  # else another run took it for a leftover
            return place, lock


def locked(place: Path) -> int | None:
    """Lock a file or directory as long as the number returned is open.

    None where it is gone, or somebody has locked it. Raises `OSError`.
    """
    with suppress(FileNotFoundError):
        lock = os.open(place, os.O_RDONLY | os.O_NOFOLLOW)
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if place.exists() and os.path.samestat(os.fstat(lock), place.stat()):
                return lock
        os.close(lock)
    return None


def copying(target: Path, setup: Setup | None = None) -> Program[None]:
    """Copy the database that this program is run on to a private file; a question.

    Raises `NoSpace`.
    """

    def copy(source: EngineConnection) -> None:
        target.unlink(missing_ok=True)  # a question may be asked twice
        copy_database(source, target, setup, check=source.raise_if_cancelled)

    def program() -> Program[None]:
        yield Query(_LOOK)
        yield Call(copy)

    yield from consistently(program)
