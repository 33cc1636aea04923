"""The lock file of a project's migrations: where it is, read, written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wave_async.errors import InvalidFiles
from wave_async.model.lock import LOCK_FILE, Lock, parse_lock


def lock_path(settings: Mapping[str, Any]) -> Path | None:
    """Return where the lock file of a project is: `lock`, else beside its folder or `.py` file.

    None for migrations that are named by a module or not at all.
    """
    if "lock" in settings:
        return Path(settings["lock"])
    source = settings.get("migrations")
    if not isinstance(source, str | os.PathLike) or not (path := Path(source)).exists():
        return None
    return path.absolute().with_name(LOCK_FILE)


def read_lock(path: Path) -> Lock | None:
    """Return what a lock file says, None if there is none; raises `InvalidFiles`."""
    try:
        return parse_lock(path.read_text(encoding="utf-8-sig"), str(path))
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise InvalidFiles((str(path),), f"it is not UTF-8: {error}") from error


def write_lock(path: Path, lock: Lock) -> None:
    """Exchange a lock file at once, so that nobody reads half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(lock.text(), encoding="utf-8", newline="\n")
    beside.replace(path)
