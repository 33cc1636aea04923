"""Puts a report where it belongs: whole or not at all, and over nothing else."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from wave_async.database.files import reason_of
from wave_async.errors import ReportNotWritten
from wave_async.integrations.report import MARK

_BEGINNING = 1024
"""Within how many bytes a report says that it is one."""
_DATABASE = ("", "-wal", "-shm", "-journal")
"""What SQLite adds to a database's path for its files (https://www.sqlite.org/tempfiles.html)."""


def save(page: str, path: Path, *, database: str, force: bool = False) -> Path:
    """Write a page in one step and return where, with links followed.

    An older report is replaced; any other file only with `force`, and never one of the database,
    there or not. Raises `ReportNotWritten`.
    """
    path = Path(os.path.realpath(path))
    if problem := _problem(path, Path(database), force=force):
        raise ReportNotWritten(str(path), problem)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("x", encoding="utf-8", newline="\n") as file:
            file.write(page)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise ReportNotWritten(str(path), reason_of(error)) from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
    return path


def _problem(path: Path, database: Path, *, force: bool) -> str:
    try:
        if str(path) in {os.path.realpath(database) + end for end in _DATABASE}:
            return "it is the database, or a file that goes with it"
        if not os.path.lexists(path):
            return ""
        if not path.is_file():
            return "it is no regular file; to print the page, say -"
        if database.exists() and path.samefile(database):
            return "it is the database"
        with path.open("rb") as file:
            ours = MARK.encode() in file.read(_BEGINNING)
    except (OSError, ValueError) as error:
        return reason_of(error)
    return "" if ours or force else "it is no report; to overwrite it, say --force"
