"""The command that adopts what another tool has done: import-history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncclick as click

from wave_async.cli.command import command, print_json, timeouts
from wave_async.cli.group import Options
from wave_async.cli.stream import utc
from wave_async.cli.terminal import confirmed, telling
from wave_async.cli.voice import remark, say
from wave_async.errors import printable

if TYPE_CHECKING:
    from wave_async.model.foreign import Import


@command
@click.option(
    "--from",
    "tool",
    metavar="TOOL",
    required=True,
    help="The tool that has migrated it, goose say.",
)
@click.option(
    "--version",
    type=int,
    help="The newest of your migrations that it has.  [default: what the schema tells]",
)
@click.option("--plan", "only", is_flag=True, help="Show what it would do, and do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before a table of the tool is renamed.")
@click.option("--force", is_flag=True, help="Take your word for it, whatever the schema says.")
@timeouts
async def import_history(
    options: Options,
    *,
    as_json: bool,
    tool: str,
    version: int | None,
    only: bool,
    yes: bool,
    force: bool,
    **limits: float | None,
) -> None:
    """Make the history of another tool ours.

    What TOOL's bookkeeping says is applied is recorded, once the schema proves it.
    TOOL is alembic, yoyo, django, dbmate, goose, sqlx, aerich or golang-migrate.
    """
    async with (
        telling(as_json=as_json) as tell,
        options.runner(on_event=tell, tell_statements=tell.statements, **limits) as runner,
    ):
        if not only:
            runner.require_enabled()
        found = await runner.plan_import(tool, version=version, force=force)
        if only:
            _print(found, planned=True, as_json=as_json)
            return
        if found.renamed and not yes:
            old, new = found.renamed
            what = f"the table {old} of {tool} will be renamed to {new}"
            if not as_json:
                say(what[0].upper() + what[1:])
            if not await confirmed(as_json=as_json, what=what):
                say("Import cancelled")
                return
        done = await runner.import_history(tool, version=version, force=force)
    _print(done, planned=False, as_json=as_json)


def _print(found: Import, *, planned: bool, as_json: bool) -> None:
    if as_json:
        print_json(_document(found, "would_record" if planned else "recorded"))
        return
    tell = say if planned else remark
    if found.renamed:
        old, new = found.renamed
        tell(f"{'Would rename' if planned else 'Renamed'} table {old} to {new}")
    for row in found.records:
        about = f"migration {row.version}: {printable(row.description)}"
        tell(f"{'Would record' if planned else 'Recorded'} {about}")
    if not found.records:
        tell("Nothing to do")


def _document(found: Import, verb: str) -> dict[str, Any]:
    old, new = found.renamed or (None, None)
    return {
        "tool": found.tool,
        verb: [
            {
                "version": row.version,
                "description": row.description,
                "applied_at": utc(row.applied_at),
            }
            for row in found.records
        ],
        "renamed": {"from": old, "to": new} if old else None,
    }
