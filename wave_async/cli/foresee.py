"""The commands that tell what would be: plan, rehearse, verify."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import asyncclick as click

from wave_async.cli.command import command, out_of_order, print_json, staging, step_list
from wave_async.cli.group import Options
from wave_async.cli.terminal import watching
from wave_async.cli.voice import bad, good, marked, say, waiting
from wave_async.errors import RehearsalFailed, printable
from wave_async.runner import MigrationRunner

if TYPE_CHECKING:
    from wave_async.model.effects import Effect, Preview
    from wave_async.model.rehearsal import Rehearsal


@command
@click.argument("target_version", type=int, required=False)
@click.option("--down", is_flag=True, help="Plan the way down to TARGET_VERSION.")
@click.option("--sql", is_flag=True, help="Print the scripts.")
@out_of_order
async def plan(
    options: Options,
    *,
    as_json: bool,
    target_version: int | None,
    down: bool,
    sql: bool,
    allow_out_of_order: bool,
) -> None:
    """Show what an `up` or a `down` would do, and destroy.

    The way up leads to TARGET_VERSION if given, else to the newest.
    """
    if down and target_version is None:
        raise click.UsageError("--down needs a TARGET_VERSION")
    runner = options.runner(allow_out_of_order=allow_out_of_order)
    await show_plan(runner, target_version, as_json=as_json, down=down, sql=sql)


async def show_plan(
    opened: MigrationRunner, target: int | None, *, as_json: bool, down: bool, sql: bool = False
) -> None:
    """Print what an `up` would do, or a `down`."""
    async with opened as runner:
        preview: Any = runner.preview_down if down else runner.preview_up
        found: Preview = await preview(target)
    if as_json:
        print_json(_preview_document(found))
    elif not found:
        say("Nothing to do")
    else:
        say("\n".join(_preview_lines(found, sql=sql)))


def _preview_lines(preview: Preview, *, sql: bool) -> Iterable[str]:
    for step in preview.adopted:
        yield f"Adopting migration {step.version}: {printable(step.description)}"
    for effect in preview.effects:
        yield str(effect.step)
        touches = f", touches {', '.join(map(printable, effect.touches))}" if effect.touches else ""
        back = "" if effect.reversible else f", {waiting('cannot be rolled back')}"
        yield f"  {effect.statements} statement(s){touches}{back}"
        yield from loss_lines([effect])
        if sql:
            lines = effect.script.splitlines()
            yield from (f"  | {printable(line.expandtabs(), len(line) * 8)}" for line in lines)


def loss_lines(effects: Iterable[Effect]) -> Iterable[str]:
    """Tell what would be destroyed, a line each."""
    for effect in effects:
        yield from (bad(f"  {loss}") for loss in effect.losses)
        if effect.unknown:
            yield waiting(f"  what it destroys is not known: {printable(effect.unknown)}")


def _preview_document(preview: Preview) -> dict[str, Any]:
    return {
        "adopted": step_list(preview.adopted),
        "steps": [
            {
                "direction": effect.step.direction.value,
                "version": effect.step.version,
                "description": effect.step.description,
                "statements": effect.statements,
                "reversible": effect.reversible,
                "touches": effect.touches,
                "losses": [asdict(loss) for loss in effect.losses],
                "unknown": effect.unknown or None,
                "sql": effect.script,
            }
            for effect in preview.effects
        ],
    }


@command
@click.argument("target_version", type=int, required=False)
@click.option("--down", is_flag=True, help="Rehearse the way down to TARGET_VERSION.")
@staging
@out_of_order
async def rehearse(
    options: Options,
    *,
    as_json: bool,
    target_version: int | None,
    down: bool,
    schema_only: bool | None,
    tmp: str | None,
    allow_out_of_order: bool,
) -> int:
    """Run an `up` or a `down` on a private copy.

    It tells what came of it; the database itself is left alone.
    """
    if down and target_version is None:
        raise click.UsageError("--down needs a TARGET_VERSION")
    async with options.runner(allow_out_of_order=allow_out_of_order) as runner:
        act: Any = runner.rehearse_down if down else runner.rehearse_up
        with watching(runner, "Rehearsing", as_json=as_json):
            found: Rehearsal = await act(target_version, schema_only=schema_only, directory=tmp)
    if as_json:
        print_json(_rehearsal_document(found))
    else:
        say("\n".join(_rehearsal_lines(found)))
    return 0 if found.ok else 1


def require_passed(rehearsal: Rehearsal) -> None:
    """Raise `RehearsalFailed` unless a rehearsal went well."""
    if not rehearsal.ok:
        problems = (rehearsal.failure, rehearsal.violations, *rehearsal.damage)
        raise RehearsalFailed("; ".join(filter(None, problems)))


def _rehearsal_lines(found: Rehearsal) -> Iterable[str]:
    if found.schema_only:
        yield f"Rehearsed without rows: {found.schema_only}"
    for step, seconds in zip(found.steps, found.times, strict=False):
        yield f"{step} ({seconds:.3f} s)"
    if not found.steps:
        yield "Nothing to do"
    for change in found.changes:
        yield f"  {printable(change.change)}"
    for row in found.rows:
        before, after = ("none" if n is None else f"{n:,}" for n in (row.before, row.after))
        yield f"  rows of {printable(row.table)}: {before} -> {after}"
    for problem in (found.violations, *found.damage, found.failure):
        if problem:
            yield bad(f"Problem: {printable(problem, 4000)}")
    if found.steps and found.back is None and not found.failure:
        yield waiting("It cannot be taken back: there is no way back")
    elif found.back:
        yield waiting("Going back does not restore the schema:")
        yield from (f"  {printable(str(difference))}" for difference in found.back)
    yield good("Rehearsal passed") if found.ok else bad("Rehearsal failed")


def _rehearsal_document(found: Rehearsal) -> dict[str, Any]:
    return {
        "ok": found.ok,
        "steps": [
            {**step, "seconds": seconds}
            for step, seconds in zip_longest(step_list(found.steps), found.times)
        ],
        "failure": found.failure or None,
        "changes": [printable(change.change) for change in found.changes],
        "rows": [asdict(row) for row in found.rows],
        "violations": found.violations or None,
        "damage": found.damage,
        "reversible": found.back is not None,
        "not_restored": [str(difference) for difference in found.back or ()],
        "schema_only": found.schema_only or None,
    }


@command
@click.option("--thorough", is_flag=True, help="Interrupt at every moment; takes long.")
async def verify(options: Options, *, as_json: bool, thorough: bool) -> int:
    """Try every migration in memory, up, down and interrupted."""
    async with options.runner() as runner:
        with watching(runner, "Verifying", as_json=as_json):
            found = await runner.verify(thorough=thorough)
    if as_json:
        print_json({"ok": found.ok, "interrupts": found.interrupts, **asdict(found)})
    else:
        *lines, verdict = map(marked, found.lines())
        say("\n".join([*lines, (good if found.ok else bad)(verdict)]))
    return 0 if found.ok else 1
