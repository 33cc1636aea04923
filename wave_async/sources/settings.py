"""`[tool.wave]` of the nearest pyproject.toml: what a project says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wave_async.errors import ConfigError, InvalidFiles, SourceNotFound
from wave_async.sources.imports import attribute, look_in

_TABLE = b"[tool.wave"
_TEXTS = ("before", "database", "format", "lock", "migrations", "setup")
_KEYS = (*_TEXTS, "placeholders")


def read_settings(start: Path | None = None) -> dict[str, Any]:
    """Return `[tool.wave]` of the first pyproject.toml at or above `start`.

    That is the current directory if not given. `before`, `database`, `migrations`, `format`,
    `lock` and `setup` are texts, `placeholders` are a mapping; what is not said is not there.
    Relative paths are made absolute from the file's folder, and modules are imported from there
    too. A file without a line that begins with `[tool.wave` is not parsed.
    Raises `InvalidFiles` for what is not TOML, `ConfigError` for unknown keys and other types.
    """
    here = start or Path.cwd()
    for folder in (here, *here.parents):
        if (path := folder / "pyproject.toml").is_file():
            content = path.read_bytes()
            return _settings(folder, _table(path, content)) if _TABLE in content else {}
    return {}


def resolve(key: str, name: str) -> Callable[..., Any]:
    """Import what `setup` or `before` names as `module:function`; raises `ConfigError`."""
    try:
        found: Callable[..., Any] = attribute(name)
    except SourceNotFound as error:
        raise _refused(key, name, f"module:function ({error.problem})") from error
    if not callable(found):
        raise _refused(key, name, "module:function")
    return found


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


def _settings(folder: Path, table: Mapping[str, Any]) -> dict[str, Any]:
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
    for key in found.keys() & {"database", "lock", "migrations"}:
        found[key] = _placed(folder, found[key])
    return found


def _placed(folder: Path, path: str) -> str:
    """Return a path absolute; what names a module, or no file at all, stays as it is."""
    return path if ":" in path and not (folder / path).exists() else str(folder / path)


def _refused(key: str, value: object, allowed: str) -> ConfigError:
    return ConfigError(f"tool.wave.{key}", str(value), allowed)
