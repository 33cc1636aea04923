"""The door of this room: cheap to import, the formats are imported when something is loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from wave_async.model.migration import Migration

if TYPE_CHECKING:  # it brings shutil and tempfile along
    from importlib.resources.abc import Traversable


def load_migrations(
    source: str | os.PathLike[str] | Traversable,
    *,
    format: str | None = None,  # noqa: A002 - as the option and the key in pyproject.toml
    placeholders: Mapping[str, str] | None = None,
) -> tuple[Migration, ...]:
    """Return the migrations of a source, in order; an empty folder has none.

    A source is a folder, a Python file with `MIGRATIONS`, `package:NAME` (its `MIGRATIONS`, else
    its resources) or `module:attribute`; what exists as a path is one. `format` names that of a
    folder where it is not to be found out; `placeholders` are flyway's.
    Raises `SourceNotFound`, `ConfigError` for an unknown format, and `DefinitionError` for what is
    wrong with the files, naming them.
    """
    from wave_async.sources.find import find  # noqa: PLC0415 - only who loads files pays for it

    return find(source, format, placeholders or {})
