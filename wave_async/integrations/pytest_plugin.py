"""The pytest plugin: databases for a project's tests.

Every test run of an environment imports this file, so it imports nothing but pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from wave_async.integrations.workshop import Source, Workshop, Workshops

_UNNAMED = (
    "wave-async does not know which migrations to test: name them as `migrations` in [tool.wave] "
    "of pyproject.toml, or override the fixture `wave_migrations`"
)


@contextmanager
def told() -> Iterator[None]:
    """Let a test fail with the sentence of a `WaveError`, and nothing else."""
    from wave_async.errors import WaveError  # noqa: PLC0415 - as everything here

    try:
        yield
    except WaveError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None


@pytest.fixture(scope="session")
def wave_migrations(pytestconfig: pytest.Config) -> Source:
    """Return the migrations under test, as `[tool.wave]` names them.

    Override it to name others: a source as `load_migrations` takes it, or a list.
    """
    from wave_async.sources.settings import read_settings  # noqa: PLC0415

    with told():
        source: Source | None = read_settings(pytestconfig.rootpath).get("migrations")
    if source is None:
        pytest.fail(_UNNAMED, pytrace=False)
    return source


@pytest.fixture(scope="session")
def _wave_workshops(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Workshops:
    from wave_async.integrations.workshop import Workshops  # noqa: PLC0415

    return Workshops(pytestconfig.rootpath, tmp_path_factory.mktemp)


@pytest.fixture
def wave_workshop(wave_migrations: Source, _wave_workshops: Workshops) -> Workshop:
    """Return what the other fixtures and the ready suite are made with; not for tests."""
    with told():
        return _wave_workshops.of(wave_migrations)


@pytest.fixture
def migrated_database(wave_workshop: Workshop, tmp_path: Path) -> Path:
    """Return the path of a fresh database of the test's own, at the newest version.

    It is a copy of one that is made once in a session, in each worker of pytest-xdist.
    """
    with told():
        return wave_workshop.newest(tmp_path / "migrated.db")


@pytest.fixture
def migrate_to(wave_workshop: Workshop, tmp_path: Path) -> Callable[[int], Path]:
    """Return a function that takes a database of the test's own to a version, up or down.

    It answers the path, the same one each time, and needs no `await`, in an async test neither. It
    raises what `MigrationManager` raises.
    """
    from wave_async.errors import WaveError  # noqa: PLC0415

    def migrate_to(version: int) -> Path:
        __tracebackhide__ = True
        try:
            return wave_workshop.at(tmp_path / "migrating.db", version)
        except WaveError as error:
            raise error.with_traceback(None) from _theirs(error.__cause__)

    return migrate_to


def _theirs(error: BaseException | None) -> BaseException | None:
    """Return what a project's own function raised, from there on; None for anything else."""
    trace = error.__traceback__ if error else None
    while trace and trace.tb_frame.f_globals.get("__name__", "").startswith("wave_async."):
        trace = trace.tb_next
    return error.with_traceback(trace) if error and trace else None
