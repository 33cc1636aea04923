"""The switches of a deployment, read from the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wave_async.errors import ConfigError, MigrationsDisabled
from wave_async.model.migration import VERSION_LIMIT

_BOOLEANS = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


@dataclass(frozen=True, slots=True)
class MigrationConfig:
    """How migrations are rolled out; every field has a variable of its own."""

    enabled: bool = True
    """WAVE_MIGRATION_ENABLED: false switches the migration system off."""
    auto_migrate: bool = True
    """WAVE_AUTO_MIGRATE: false makes startup apply and create nothing."""
    skip_validation: bool = False
    """WAVE_SKIP_MIGRATION_VALIDATION: true leaves checksums uncompared."""
    max_version: int = 0
    """WAVE_MAX_MIGRATION_VERSION: nothing above it is applied; 0 means no limit."""
    log: bool = True
    """WAVE_MIGRATION_LOG: false keeps no schema_migrations_log."""
    lock_timeout: float | None = None
    """WAVE_LOCK_TIMEOUT: seconds to wait for another process; None leaves it to the caller."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> MigrationConfig:
        """Read the variables; one that is missing or empty has its default.

        Raises `ConfigError`, which names the variable, its value and what is allowed.
        """
        return cls(
            enabled=_boolean(environ, "WAVE_MIGRATION_ENABLED", default=True),
            auto_migrate=_boolean(environ, "WAVE_AUTO_MIGRATE", default=True),
            skip_validation=_boolean(environ, "WAVE_SKIP_MIGRATION_VALIDATION", default=False),
            max_version=_version(environ, "WAVE_MAX_MIGRATION_VERSION"),
            log=_boolean(environ, "WAVE_MIGRATION_LOG", default=True),
            lock_timeout=_seconds(environ, "WAVE_LOCK_TIMEOUT"),
        )

    @property
    def manager_options(self) -> dict[str, Any]:
        """What a `MigrationManager` is to be told; `lock_timeout` only where it is set."""
        options: dict[str, Any] = {
            "max_version": self.max_version,
            "validate_checksums": not self.skip_validation,
            "log": self.log,
        }
        return (
            options if self.lock_timeout is None else {**options, "lock_timeout": self.lock_timeout}
        )

    def require_enabled(self) -> None:
        """Raise `MigrationsDisabled` where the migration system is off."""
        if not self.enabled:
            raise MigrationsDisabled


def _boolean(environ: Mapping[str, str], name: str, *, default: bool) -> bool:
    value = environ.get(name, "")
    if not value:
        return default
    try:
        return _BOOLEANS[value.lower()]
    except KeyError:
        raise ConfigError(name, value, ", ".join(_BOOLEANS)) from None


def _version(environ: Mapping[str, str], name: str) -> int:
    value = environ.get(name, "") or "0"
    if not re.fullmatch("[0-9]{1,19}", value) or int(value) >= VERSION_LIMIT:
        raise ConfigError(name, value, "a version, or 0 for no limit")
    return int(value)


def _seconds(environ: Mapping[str, str], name: str) -> float | None:
    value = environ.get(name, "")
    if not value:
        return None
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]*)?", value):
        raise ConfigError(name, value, "a number of seconds")
    return float(value)
