"""The commands that write files of the project: new, lock."""

from __future__ import annotations

from pathlib import Path

import asyncclick as click

from wave_async.cli.command import command, print_json
from wave_async.cli.group import Options
from wave_async.cli.voice import remark, say
from wave_async.errors import ConfigError, InvalidFiles, printable
from wave_async.model.catalogue import Catalogue
from wave_async.model.lock import Lock, LockChange, lock_of
from wave_async.sources.lockfile import lock_path, read_lock, write_lock
from wave_async.sources.new import new_migration


@command
@click.argument("description")
@click.option(
    "--from-database",
    "from_database",
    is_flag=True,
    help="Write the first migration: what the database has.",
)
async def new(options: Options, *, as_json: bool, description: str, from_database: bool) -> None:
    """Write the next migration file, as those before it."""
    settings, first = options.settings(), None
    if from_database:
        async with options.without_migrations() as runner:
            first = await runner.creation()
            if not first.up:
                raise ConfigError("--database", runner.database, "one that has tables of yours")
    source = settings.get("migrations")
    written = new_migration(source, description, settings.get("format"), first)
    if as_json:
        print_json({"written": [str(path) for path in written]})
    else:
        for path in written:
            say(printable(str(path), longest=4000))


@command
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if it would change.")
async def lock(options: Options, *, as_json: bool, check: bool) -> None:
    """Write down the digests of all migrations, in order."""
    settings = options.settings()
    if (path := lock_path(settings)) is None:
        raise ConfigError("tool.wave.lock", "", "a path, where migrations are in no folder")
    now = lock_of(Catalogue(options.migrations(settings)))
    changes = _require(path, now) if check else _written(path, now)
    if as_json:
        told = {"lock": str(path), "migrations": len(now.migrations)}
        print_json({**told, "changes": list(map(str, changes))})
        return
    tell = say if check else remark
    for change in changes:
        tell(f"  {change}")
    done = "as in" if check else "locked in"
    tell(f"{len(now.migrations)} migration(s) {done} {printable(str(path), longest=4000)}")


def _require(path: Path, now: Lock) -> tuple[LockChange, ...]:
    was = read_lock(path)
    if was is None:
        raise InvalidFiles((str(path),), "there is no lock file; write it: wave migrate lock")
    was.require(now, str(path))
    return ()


def _written(path: Path, now: Lock) -> tuple[LockChange, ...]:
    """Write a lock file, and return what changed; what a merge left unreadable says nothing."""
    try:
        was = read_lock(path)
    except InvalidFiles:
        was = None
    if was is None or was.text() != now.text():
        write_lock(path, now)
    return was.changes(now) if was else ()
