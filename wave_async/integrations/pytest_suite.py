"""A ready suite for a project's migrations, switched on by one line in a test file of its own.

`from wave_async.integrations.pytest_suite import TestMigrations as TestMigrations`
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise

import pytest

from wave_async.errors import DuplicateVersion, VersionGap, WaveError, printable
from wave_async.integrations.pytest_plugin import told
from wave_async.integrations.workshop import Workshop
from wave_async.model.catalogue import FIRST_TIMESTAMP, Catalogue
from wave_async.model.effects import Effect
from wave_async.model.lock import lock_of
from wave_async.safety.verify import Verification, Verified
from wave_async.sources.lockfile import read_lock


class TestMigrations:
    """What holds for every good list of migrations; the fixture `wave_migrations` says which.

    A subclass leaves a test out: `test_no_gap = None`.
    """

    def test_can_be_read(self, wave_workshop: Workshop) -> None:
        """Files, headers and scripts are what their format wants."""
        error = _problem(wave_workshop)
        if error and not isinstance(error, DuplicateVersion | VersionGap):
            _fail([str(error)])

    def test_single_head(self, wave_workshop: Workshop) -> None:
        """No two migrations have one version."""
        if isinstance(error := _problem(wave_workshop), DuplicateVersion):
            _fail([str(error)])

    def test_no_gap(self, wave_workshop: Workshop) -> None:
        """Counted versions follow each other; timestamps need not."""
        if isinstance(error := _problem(wave_workshop), VersionGap):
            _fail([str(error)])
        _fail(str(gap) for gap in _gaps(_readable(wave_workshop).entries))

    def test_lock_file(self, wave_workshop: Workshop) -> None:
        """Every migration is what the lock file recorded, if there is one."""
        catalogue, path = _readable(wave_workshop), wave_workshop.lock
        with told():
            locked = path and read_lock(path)
            if not locked:
                pytest.skip("there is no lock file; `wave migrate lock` writes it")
            locked.require(lock_of(catalogue), str(path))

    def test_no_unannounced_loss(self, wave_workshop: Workshop) -> None:
        """A migration that destroys data says so."""
        catalogue = _readable(wave_workshop)
        with told():
            effects = wave_workshop.effects()
        entries = zip(catalogue, effects, strict=True)
        _fail(_losses(effect for entry, effect in entries if not entry.migration.loss))

    def test_every_migration_round_trips(self, wave_workshop: Workshop) -> None:
        """Up, down and up again, with rows and without, and at the end down to 0."""
        _readable(wave_workshop)
        with told():
            verification = wave_workshop.verification()
        _fail(_unproven(verification))


def _problem(workshop: Workshop) -> WaveError | None:
    try:
        _ = workshop.catalogue
    except WaveError as error:
        return error
    return None


def _readable(workshop: Workshop) -> Catalogue:
    """Return what there is to test; where it cannot be read, another test fails."""
    if error := _problem(workshop):
        pytest.skip(f"not tested: {error}")
    return workshop.catalogue


def _gaps(versions: Iterable[int]) -> Iterator[VersionGap]:
    for before, after in pairwise(versions):
        if before + 1 < after < FIRST_TIMESTAMP:
            yield VersionGap(before + 1, after)


def _losses(effects: Iterable[Effect]) -> Iterator[str]:
    for effect in effects:
        if effect.may_destroy:
            about = f"migration {effect.step.version} ({printable(effect.step.description)})"
            yield f"{about} destroys data and does not announce it:"
            yield from (f"    {loss}" for loss in effect.losses)
            if effect.unknown:
                yield f"    could not be tried out: {printable(effect.unknown)}"
            yield "    if that is meant, say `-- wave: loss=allowed` (loss=True)"


def _unproven(verification: Verification) -> Iterator[str]:
    for migration in verification.migrations:
        if migration.problems:
            yield from _unproven_migration(migration)
    yield from map(printable, verification.problems)
    if verification.unverified:
        yield f"not tested: {', '.join(map(str, verification.unverified))}"


def _unproven_migration(migration: Verified) -> Iterator[str]:
    yield f"migration {migration.version} ({printable(migration.description)}):"
    yield from (f"    {printable(problem)}" for problem in migration.problems)
    for name, differences in groupby(migration.differences, lambda d: f"{d.type} {d.name}"):
        yield f"    {printable(name)}, before its way up and after its way down:"
        lines = (line for difference in differences for line in difference.diff)
        yield from (f"        {printable(line)}" for line in lines)


def _fail(problems: Iterable[str]) -> None:
    """Fail with nothing but what was found; pass where that is nothing."""
    if text := "\n".join(problems):
        pytest.fail(text, pytrace=False)
