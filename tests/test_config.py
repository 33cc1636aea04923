"""The switches of a deployment, as the environment spells them."""

from __future__ import annotations

import pytest

from wave_async import MigrationConfig
from wave_async.errors import ConfigError, MigrationsDisabled

BOOLEANS = {
    "WAVE_MIGRATION_ENABLED": "enabled",
    "WAVE_AUTO_MIGRATE": "auto_migrate",
    "WAVE_SKIP_MIGRATION_VALIDATION": "skip_validation",
}
ALLOWED = "true, 1, yes, on, false, 0, no, off"


@pytest.mark.parametrize(
    "environ",
    [{}, dict.fromkeys([*BOOLEANS, "WAVE_MAX_MIGRATION_VERSION", "WAVE_LOCK_TIMEOUT"], "")],
)
def test_defaults(environ: dict[str, str]) -> None:
    """What is missing or empty has its default."""
    assert MigrationConfig(
        enabled=True, auto_migrate=True, skip_validation=False, max_version=0, lock_timeout=None
    ) == MigrationConfig.from_env(environ)


@pytest.mark.parametrize(("variable", "field"), BOOLEANS.items())
@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        *((value, True) for value in ("true", "TRUE", "True", "1", "yes", "Yes", "on", "ON")),
        *((value, False) for value in ("false", "FALSE", "0", "no", "No", "off", "Off")),
    ],
)
def test_booleans(variable: str, field: str, value: str, *, meaning: bool) -> None:
    """A switch may be spelled in four ways, in any case."""
    assert meaning is getattr(MigrationConfig.from_env({variable: value}), field)


@pytest.mark.parametrize("variable", BOOLEANS)
@pytest.mark.parametrize("value", ["maybe", "2", "-1", "y", "t", "truefalse", "none", " "])
def test_what_is_no_boolean(variable: str, value: str) -> None:
    """Anything else is an error that names the variable, its value and what is allowed."""
    with pytest.raises(ConfigError) as refused:
        MigrationConfig.from_env({variable: value})

    assert f"{variable}={value!r} is not valid; allowed: {ALLOWED}" == str(refused.value)


@pytest.mark.parametrize(("value", "version"), [("0", 0), ("3", 3), (str(2**63 - 1), 2**63 - 1)])
def test_max_version(value: str, version: int) -> None:
    """A limit is any version that a database can hold."""
    environ = {"WAVE_MAX_MIGRATION_VERSION": value}

    assert version == MigrationConfig.from_env(environ).max_version


@pytest.mark.parametrize(
    "value", ["-1", "+1", "3.0", "1e3", "1_000", "٣", "five", str(2**63), "3\n"]
)
def test_what_is_no_version(value: str) -> None:
    """A limit that is no version is refused, never taken as no limit."""
    with pytest.raises(ConfigError) as refused:
        MigrationConfig.from_env({"WAVE_MAX_MIGRATION_VERSION": value})

    assert ("WAVE_MAX_MIGRATION_VERSION", value) == (refused.value.variable, refused.value.value)


@pytest.mark.parametrize(("value", "seconds"), [("0", 0.0), ("90", 90.0), ("2.5", 2.5)])
def test_lock_timeout(value: str, seconds: float) -> None:
    """How long to wait for another process is a number of seconds."""
    assert seconds == MigrationConfig.from_env({"WAVE_LOCK_TIMEOUT": value}).lock_timeout


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "1e9", "5s", "2,5", ".", " "])
def test_what_is_no_lock_timeout(value: str) -> None:
    """A wait that is no number of seconds is refused, never taken as forever."""
    with pytest.raises(ConfigError) as refused:
        MigrationConfig.from_env({"WAVE_LOCK_TIMEOUT": value})

    assert ("WAVE_LOCK_TIMEOUT", value) == (refused.value.variable, refused.value.value)


def test_the_process_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mapping the environment of the process is read, as it is now."""
    monkeypatch.setenv("WAVE_AUTO_MIGRATE", "off")

    assert not MigrationConfig.from_env().auto_migrate


def test_require_enabled() -> None:
    """Only a system that is switched off refuses to work."""
    MigrationConfig().require_enabled()

    with pytest.raises(MigrationsDisabled):
        MigrationConfig(enabled=False).require_enabled()
