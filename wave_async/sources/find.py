"""From a source, however it is named, to its migrations."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wave_async.errors import InvalidFiles, SourceNotFound
from wave_async.model.migration import Migration
from wave_async.sources.assembly import migration_of
from wave_async.sources.detect import detect
from wave_async.sources.flyway import FLYWAY
from wave_async.sources.folder import Folder
from wave_async.sources.imports import attribute, imported, theirs
from wave_async.sources.python import run

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_LIST = "MIGRATIONS"
_HOW = "name a folder or package:NAME, or name them as module:attribute"


def find(
    source: str | os.PathLike[str] | Traversable,
    format_name: str | None,
    placeholders: Mapping[str, str],
) -> tuple[Migration, ...]:
    """Do what `load_migrations` says."""
    found = _found(source)
    if isinstance(found, Folder):
        return _read(found, format_name, placeholders)
    with theirs(str(source)):
        return tuple(found)


def _read(
    folder: Folder, format_name: str | None, placeholders: Mapping[str, str]
) -> tuple[Migration, ...]:
    chosen, files = detect(folder, format_name)
    if placeholders and files and chosen is not FLYWAY:
        raise InvalidFiles(tuple(files), f"placeholders are flyway's, the format is {chosen.name}")
    return tuple(
        migration_of(folder, slot, chosen.scripts(folder, slot, placeholders))
        for slot in chosen.slots(folder, files)
    )


def _found(source: str | os.PathLike[str] | Traversable) -> Any:
    """Return a folder, or a list as it stands in somebody's code."""
    name = str(source)
    path = Path(source) if isinstance(source, str | os.PathLike) else source
    if name and path.is_dir():
        return Folder(path)
    if name and path.is_file():
        return _listed(name, path)
    kind, separator, rest = name.partition(":")
    if kind == "package" and rest:
        return _packaged(name, rest)
    if kind and separator and rest:
        return attribute(name)
    raise SourceNotFound(name, f"there is no such folder; {_HOW}")


def _listed(source: str, path: Traversable) -> Any:
    if not source.endswith(".py"):
        raise SourceNotFound(source, f"it is a file, not a folder; {_HOW}")
    with theirs(source):
        return getattr(run(source, path.read_text(encoding="utf-8-sig")), _LIST)


def _packaged(source: str, name: str) -> Any:
    from importlib.resources import files  # noqa: PLC0415 - it takes as long as all formats

    module = imported(source, name)
    if hasattr(module, _LIST):
        return getattr(module, _LIST)
    if not hasattr(module, "__path__"):
        raise SourceNotFound(source, f"it is no package, and has no {_LIST}")
    return Folder(files(module), name)
