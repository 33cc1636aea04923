"""The commands that change a database: up, down, undo, baseline, repair."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import asyncclick as click

from wave_async.cli.command import (
    command,
    out_of_order,
    precautions,
    print_json,
    snapshot_directory,
    snapshot_document,
    snapshot_policy,
    step_list,
    taken,
    timeouts,
)
from wave_async.cli.foresee import loss_lines, require_passed, show_plan
from wave_async.cli.group import Options
from wave_async.cli.terminal import confirmed, telling
from wave_async.cli.voice import good, remark, say, streaming, waiting
from wave_async.errors import printable
from wave_async.model.migration import Step

if TYPE_CHECKING:
    from wave_async.model.rehearsal import RowChange
    from wave_async.safety.snapshots import Snapshot


@command
@click.argument("target_version", type=int, required=False)
@out_of_order
@click.option("--atomic", is_flag=True, help="Apply all in one transaction, or nothing.")
@click.option("--rehearse", "first", is_flag=True, help="Rehearse it first; stop if that fails.")
@timeouts
@streaming
@precautions
async def up(
    options: Options,
    *,
    as_json: bool,
    target_version: int | None,
    allow_out_of_order: bool,
    atomic: bool,
    first: bool,
    snapshot: bool | None,
    snapshot_dir: str | None,
    **limits: float | None,
) -> None:
    """Apply what is pending, up to TARGET_VERSION if given."""
    async with (
        telling(as_json=as_json) as tell,
        options.runner(
            allow_out_of_order=allow_out_of_order,
            on_event=tell,
            tell_statements=tell.statements,
            snapshots=snapshot_policy(snapshot_dir, wanted=snapshot),
            **limits,
        ) as runner,
    ):
        with tell.watching(runner, "Preparing"):
            if first:
                require_passed(await runner.rehearse_up(target_version))
            done = await runner.migrate_up(target_version, atomic=atomic)
        everything = target_version is None and not runner.max_version
        now = None if done or everything else await runner.status()
    if as_json:
        print_json({"adopted": step_list(done.adopted), "applied": step_list(done.steps)})
        return
    for step in done.adopted:
        remark(f"Adopted migration {step.version}: {printable(step.description)}")
    if done:
        remark(good("Migrations applied successfully"))
        if options.has_guessed:
            remark(waiting("They are those that Wave ships; --migrations names yours"), err=True)
    elif now and now.pending:
        remark(f"Nothing to do: the database is at version {now.current_version}")
    else:
        remark(good("Database is up to date"))


@command
@click.argument("target_version", type=int)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--plan", "only", is_flag=True, help="Show what it would do, and do nothing.")
@click.option("--rehearse", "first", is_flag=True, help="Rehearse it first; stop if that fails.")
@timeouts
@streaming
@precautions
async def down(
    options: Options,
    *,
    as_json: bool,
    target_version: int,
    yes: bool,
    only: bool,
    first: bool,
    snapshot: bool | None,
    snapshot_dir: str | None,
    **limits: float | None,
) -> None:
    """Roll back everything above TARGET_VERSION."""
    if only:
        await show_plan(options.runner(), target_version, as_json=as_json, down=True)
        return
    policy = snapshot_policy(snapshot_dir, wanted=snapshot)
    async with (
        telling(as_json=as_json) as tell,
        options.runner(
            on_event=tell, tell_statements=tell.statements, snapshots=policy, **limits
        ) as runner,
    ):
        runner.require_enabled()
        planned = await runner.preview_down(target_version)
        if planned and not as_json:
            warn = remark if yes else say
            about = f"Rolling back to version {target_version}. This may result in data loss."
            warn(waiting(f"WARNING: {about}"))
            for line in loss_lines(planned.effects):
                warn(line)
        if planned and not yes and not await confirmed(as_json=as_json):
            say("Rollback cancelled")
            return
        with tell.watching(runner, "Preparing"):
            if first:
                require_passed(await runner.rehearse_down(target_version))
            done = await runner.migrate_down(target_version) if planned else None
    if as_json:
        print_json({"rolled_back": step_list(done.steps if done else ())})
    elif done:
        remark(good(f"Successfully rolled back to version {target_version}"))
    else:
        remark(f"Nothing to do: nothing above version {target_version} is applied")


@command
@click.argument("name", required=False)
@click.option("--yes", is_flag=True, help="Do not ask.")
@timeouts
@streaming
@snapshot_directory
async def undo(
    options: Options,
    *,
    as_json: bool,
    name: str | None,
    yes: bool,
    snapshot_dir: str | None,
    **limits: float | None,
) -> None:
    """Restore the snapshot NAME, the newest if not given.

    What it replaces is kept as another snapshot.
    """
    policy = snapshot_policy(snapshot_dir)
    async with (
        telling(as_json=as_json) as tell,
        options.runner(
            on_event=tell, tell_statements=tell.statements, snapshots=policy, **limits
        ) as runner,
    ):
        snapshot, rows = await runner.plan_undo(name)
        if not as_json:
            (remark if yes else say)("\n".join(_undo_lines(snapshot, rows)))
        if not yes and not await confirmed(as_json=as_json):
            say("Undo cancelled")
            return
        with tell.watching(runner, f"Restoring version {snapshot.version}"):
            done = await runner.undo(str(snapshot.path))
    if as_json:
        about = {"restored": done.restored, "replaced": done.replaced}
        print_json({what: snapshot_document(s) for what, s in about.items()})
    else:
        remark(good(f"Restored version {done.restored.version}"))
        remark(f"What it replaced is kept: {printable(done.replaced.name)}")


def _undo_lines(snapshot: Snapshot, rows: Iterable[RowChange]) -> Iterable[str]:
    yield waiting(
        f"WARNING: Restoring version {snapshot.version}, {taken(snapshot)}. "
        "What was written since will be replaced."
    )
    for row in rows:
        now, then = (
            "no such table" if count is None else f"{count:,} row(s)"
            for count in (row.after, row.before)
        )
        yield f"  {printable(row.table)}: {now} now, {then} in the snapshot"


@command
@click.argument("version", type=int)
@click.option("--force", is_flag=True, help="Take your word for it, whatever the schema says.")
async def baseline(options: Options, *, as_json: bool, version: int, force: bool) -> None:
    """Record migrations up to VERSION, without running them.

    They count as applied from then on, once the schema proves that they are.
    """
    async with options.runner() as runner:
        recorded = await runner.baseline(version, force=force)
    _print_recorded(recorded, "Recorded", as_json=as_json)


@command
@click.argument("versions", type=int, nargs=-1)
@click.option("--force", is_flag=True, help="Take your word for it, whatever the schema says.")
async def repair(
    options: Options, *, as_json: bool, versions: tuple[int, ...], force: bool
) -> None:
    """Accept edited migrations whose schema is the same.

    All of them, or only VERSIONS.
    """
    async with options.runner() as runner:
        repaired = await runner.repair(versions, force=force)
    _print_recorded(repaired, "Accepted", as_json=as_json)


def _print_recorded(steps: Sequence[Step], verb: str, *, as_json: bool) -> None:
    if as_json:
        print_json({verb.lower(): step_list(steps)})
        return
    for step in steps:
        remark(f"{verb} migration {step.version}: {printable(step.description)}")
    if not steps:
        remark("Nothing to do")
