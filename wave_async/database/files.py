"""What a path must be before SQLite may open it, and how a question opens it without a trace.

Runs on a connection's thread; knows files, not SQL.
"""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from wave_async.errors import DatabaseUnusable, InvalidPath, printable

MEMORY = ":memory:"
UNWRITABLE = "attempt to write a readonly database; the file and its directory must be writable"

_PARTS = {"journal", "shm", "wal"}
"""What SQLite keeps beside a database (https://sqlite.org/tempfiles.html)."""

logger = logging.getLogger("wave_async")

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def database_path(path: str | os.PathLike[str]) -> str:
    """Return the absolute path of a database, or `:memory:`.

    Raises `InvalidPath` for an empty name, a `file:` URI (SQLite would read options out of it) and
    a NUL character.
    """
    name = os.fspath(path)
    if name == MEMORY:
        return name
    if not name:
        raise InvalidPath(name, "it is empty")
    if name.startswith("file:"):
        raise InvalidPath(name, "URIs are not supported; give the path alone")
    if "\0" in name:
        raise InvalidPath(name, "it contains a NUL character")
    return str(Path(name).absolute())


def check(path: str) -> bool:
    """Return whether there is a file; raise `DatabaseUnusable` where SQLite should not even try."""
    try:
        owner = _owner(path)
        about = Path(path).stat()
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as error:
        raise DatabaseUnusable(path, reason_of(error)) from error
    if owner is not None:
        raise DatabaseUnusable(path, f"it belongs to {printable(owner)}")
    if kind := _KINDS.get(stat.S_IFMT(about.st_mode)):
        raise DatabaseUnusable(path, f"it is {kind}, not a file")
    if about.st_nlink > 1:
        logger.warning(
            "%s has %d names (hard links): each has a write-ahead log of its own, "
            "and using two of them damages the database",
            path,
            about.st_nlink,
            extra={"database": path, "version": None},
        )
    return True


def _owner(path: str) -> str | None:
    """Return the database of which a file is the journal or the like, None for any other file.

    An empty one would become a database, under the hands of whoever writes to its owner.
    """
    owner, dash, part = path.rpartition("-")
    return owner if dash and part in _PARTS and Path(owner).is_file() else None


def check_writable(path: str) -> None:
    """Raise `DatabaseUnusable` for a file that may not be written.

    SQLite would open it all the same, and leave an empty -wal and -shm beside it.
    """
    if not os.access(path, os.W_OK):
        raise DatabaseUnusable(path, UNWRITABLE)


def make_directory(path: str) -> None:
    """Create the directory of a database that is new, for its owner alone."""
    try:
        make_private(Path(path).parent)
    except OSError as error:
        reason = f"its directory cannot be created: {reason_of(error)}"
        raise DatabaseUnusable(path, reason) from error


def make_private(directory: Path) -> None:
    """Create a directory, and what is missing above it, for its owner alone."""
    for missing in reversed([p for p in (directory, *directory.parents) if not p.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)


def reason_of(error: OSError | ValueError) -> str:
    """Say in a few words why the system refused something."""
    return (getattr(error, "strerror", None) or str(error)).lower()


def untouchable(path: str) -> tuple[object, ...] | None:
    """Return a stamp of a database that no other process can be writing, or None.

    Without a journal and without frames in the write-ahead log the file alone is the database, and
    SQLite may read it as `immutable`, which leaves no -wal and -shm behind. A caller compares the
    stamps from before and after (https://sqlite.org/uri.html#uriimmutable).
    """
    if Path(f"{path}-journal").exists() or _size(f"{path}-wal"):
        return None
    about = Path(path).stat()
    return about.st_ino, about.st_size, about.st_mtime_ns


def size(path: str) -> int:
    """Return the bytes of a database and its write-ahead log, 0 for a missing one."""
    return _size(path) + _size(f"{path}-wal")


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except FileNotFoundError:
        return 0


def read_only_uri(path: str, *, immutable: bool) -> str:
    """Return the URI that opens a database for a question."""
    return Path(path).as_uri() + ("?immutable=1" if immutable else "?mode=ro")
