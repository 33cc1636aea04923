"""The commands that look at what is: status, validate, log, snapshots."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import asyncclick as click

from wave_async.cli.command import (
    command,
    print_json,
    snapshot_directory,
    snapshot_document,
    snapshot_policy,
    taken,
)
from wave_async.cli.group import Options
from wave_async.cli.stream import utc
from wave_async.cli.voice import bad, good, marked, say, waiting
from wave_async.database.log import DONE
from wave_async.errors import byte_size, local_time, printable
from wave_async.model.migration import Action, LogEntry
from wave_async.model.plan import MigrationStatus, State, Status

_MARKS = {State.APPLIED: "[x]", State.PENDING: "[ ]", State.UNKNOWN: "[?]"}
PENDING_FOUND = 3


@command
@click.option(
    "--check", is_flag=True, help="Exit with 3 if an `up` has work, with 1 if it is refused."
)
async def status(options: Options, *, as_json: bool, check: bool) -> int:
    """Show which migrations are applied and which are pending."""
    async with options.runner() as runner:
        found = await runner.status()
        if as_json:
            print_json(_status_document(runner.database, found))
        else:
            say("\n".join(_status_lines(found)))
        if check:
            await runner.plan_up()
    return PENDING_FOUND if check and found.due else 0


def _status_lines(status: Status) -> Iterable[str]:
    yield f"Current schema version: {status.current_version}"
    yield ""
    yield "Migration Status:"
    yield "================"
    yield from map(_status_line, status.migrations)
    yield ""
    if any(m.state is State.UNKNOWN for m in status.migrations):
        yield bad("This code does not know every applied migration")
    if status.pending:
        held = len(status.pending) - len(status.due)
        limit = f" ({held} above WAVE_MAX_MIGRATION_VERSION={status.limit})" if held else ""
        yield waiting(f"{len(status.pending)} pending migration(s){limit}")
    else:
        yield good("Database is up to date")


def _status_line(migration: MigrationStatus) -> str:
    applied = migration.applied_at
    when = "" if applied is None else f" (applied {local_time(applied)})"
    about = f"{migration.version}: {printable(migration.description)}"
    return marked(f"{_MARKS[migration.state]} {about}{when}")


def _status_document(database: str, status: Status) -> dict[str, Any]:
    return {
        "database": database,
        "current_version": status.current_version,
        "pending": len(status.pending),
        "due": len(status.due),
        "migrations": [
            {
                "version": m.version,
                "description": m.description,
                "state": m.state.value,
                "applied_at": None if m.applied_at is None else utc(m.applied_at),
            }
            for m in status.migrations
        ],
    }


@command
@click.option("--strict", is_flag=True, help="Refuse also what no migration makes.")
async def validate(options: Options, *, as_json: bool, strict: bool) -> None:
    """Compare the database with the migrations of the code.

    That is the applied ones with those of the code, and the schema with what they make.
    """
    async with options.runner() as runner:
        found = await runner.validate(strict=strict)
    if as_json:
        print_json(
            {
                "validation": "passed" if found else "skipped",
                "foreign": [str(difference) for difference in found.foreign],
                "unproven": found.unproven,
            }
        )
        return
    if not found:
        why = "(WAVE_SKIP_MIGRATION_VALIDATION is true)"
        say(waiting(f"Migration integrity check skipped {why}"))
        return
    say(good("Migration integrity check passed"))
    for difference in found.foreign:
        about = f"{difference.type} {printable(difference.name)}"
        say(waiting(f"Not made by a migration: {about}"))
    if found.unproven is not None:
        why = f"migration {found.unproven} cannot be replayed without rows"
        say(waiting(f"Schema not compared: {why}"))


@command
async def log(options: Options, *, as_json: bool) -> None:
    """Show what was done, by whom and how it went."""
    async with options.runner() as runner:
        entries = await runner.log()
    if as_json:
        print_json({"database": runner.database, "log": [_log_document(e) for e in entries]})
        return
    for entry in entries:
        who = f"{entry.tool}, {entry.host}, process {entry.pid}"
        what = entry.action if entry.version is None else f"{entry.action} {entry.version}"
        about = f"{what}: {entry.outcome} in {entry.duration:.3f} s ({who})"
        tone = str if entry.outcome == DONE or entry.action == Action.MARK.value else bad
        say(f"{local_time(int(entry.started_at))} {tone(printable(about))}")


def _log_document(entry: LogEntry) -> dict[str, Any]:
    return {**asdict(entry), "started_at": utc(entry.started_at)}


@command
@snapshot_directory
async def snapshots(options: Options, *, as_json: bool, snapshot_dir: str | None) -> None:
    """List the snapshots of the database, newest first."""
    async with options.runner(snapshots=snapshot_policy(snapshot_dir)) as runner:
        found = await runner.snapshots()
    if as_json:
        print_json({"snapshots": list(map(snapshot_document, found))})
        return
    for snapshot in found:
        about = f"version {snapshot.version}, {taken(snapshot)}, {byte_size(snapshot.size)}"
        say(f"{printable(snapshot.name)}  ({about})")
    if not found:
        say("No snapshots")
