"""`[tool.wave]` of the nearest pyproject.toml: what a project says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from wave_async.errors import ConfigError, InvalidFiles, SourceNotFound
from wave_async.sources.imports import attribute, look_in

_TABLE = b"[tool.wave"
_TEXTS = ("database", "format", "migrations", "setup")
_KEYS = (*_TEXTS, "placeholders")


class Settings(NamedTuple):
    """Where a database and its migrations are; None where nothing is said."""

    database: str | None = None
    migrations: str | None = None
    format: str | None = None
    placeholders: Mapping[str, str] = MappingProxyType({})
    setup: str | None = None

    def setup_function(self) -> Callable[..., Any] | None:
        """Import what `setup` names as `module:function`; raises `ConfigError`."""
        if self.setup is None:
            return None
        try:
            found: Callable[..., Any] = attribute(self.setup)
        except SourceNotFound as error:
            raise _refused("setup", self.setup, f"module:function ({error.problem})") from error
        if not callable(found):
            raise _refused("setup", self.setup, "module:function")
        return found


def read_settings() -> Settings:
    """Read `[tool.wave]` of the first pyproject.toml at or above the current directory.

    Relative paths are taken from its folder, and modules are imported from there too. Without a
    file, or a line that begins with `[tool.wave`, all settings are empty. Raises `InvalidFiles` for
    what is not TOML, `ConfigError` for unknown keys and values of other types.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (path := folder / "pyproject.toml").is_file():
            content = path.read_bytes()
            return _settings(folder, _table(path, content)) if _TABLE in content else Settings()
    return Settings()


def _table(path: Path, content: bytes) -> Mapping[str, Any]:
    import tomllib  # noqa: PLC0415 - only who has such a table pays for it

    try:
        document = tomllib.loads(content.decode("utf-8-sig"))
    except ValueError as error:  # not TOML, or not UTF-8
        raise InvalidFiles((str(path),), f"it is not TOML: {error}") from error
    table = document.get("tool", {}).get("wave", {})
    if not isinstance(table, dict):
        raise ConfigError("tool.wave", str(table), "a table")
    return table


def _settings(folder: Path, table: Mapping[str, Any]) -> Settings:
    for key, value in table.items():
        if key not in _KEYS:
            raise _refused(key, value, f"only {', '.join(_KEYS)}")
        if key in _TEXTS and not (value and isinstance(value, str)):
            raise _refused(key, value, "a text")
    placeholders = table.get("placeholders", {})
    if not isinstance(placeholders, dict) or not all(
        isinstance(text, str) for text in placeholders.values()
    ):
        raise _refused("placeholders", placeholders, "a table of texts")
    if table:
        look_in(folder)
    found = dict(table)
    for key in found.keys() & {"database", "migrations"}:
        found[key] = _placed(folder, found[key])
    return Settings(**found)


def _placed(folder: Path, path: str) -> str:
    """Return a path absolute; what names a module, or no file at all, stays as it is."""
    return path if ":" in path and not (folder / path).exists() else str(folder / path)


def _refused(key: str, value: object, allowed: str) -> ConfigError:
    return ConfigError(f"tool.wave.{key}", str(value), allowed)
