"""Imports what people name: their code, and whatever it raises."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from wave_async.errors import SourceNotFound


def attribute(source: str) -> Any:
    """Import what is named as `module:attribute`; raises `SourceNotFound`."""
    module, separator, name = source.partition(":")
    if not (module and separator and name):
        raise SourceNotFound(source, "name it as module:attribute")
    with theirs(source):
        return getattr(imported(source, module), name)


def imported(source: str, name: str) -> ModuleType:
    """Import a module, from the current directory too; raises `SourceNotFound`."""
    look_in(Path.cwd())
    with theirs(source):
        return import_module(name)


def look_in(folder: Path) -> None:
    """Let modules be imported from a folder, as `python -m` does from the current one."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


@contextmanager
def theirs(source: str) -> Iterator[None]:
    """Let somebody's code raise what it likes: it is told as a `SourceNotFound`."""
    try:
        yield
    except SourceNotFound:
        raise
    except (Exception, SystemExit) as error:
        raise SourceNotFound(source, f"{type(error).__name__}: {error}") from error
