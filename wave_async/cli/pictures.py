"""The commands that draw: diagram, report."""

from __future__ import annotations

import sys
from pathlib import Path

import asyncclick as click

from wave_async.cli.command import command, print_json
from wave_async.cli.group import Options
from wave_async.cli.voice import remark
from wave_async.errors import InvalidTarget, NotReplayed, printable
from wave_async.integrations import drawing, saving
from wave_async.integrations import report as reports
from wave_async.model.diagram import Diagram
from wave_async.model.notation import FORMATS
from wave_async.runner import MigrationRunner

_WRITERS = {**FORMATS, "svg": drawing.svg}


@command
@click.argument("version", type=int, required=False)
@click.option(
    "--format",
    "notation",
    type=click.Choice(list(_WRITERS)),
    default="mermaid",
    show_default=True,
    help="How it is written; svg needs wave-async[svg].",
)
async def diagram(options: Options, *, as_json: bool, version: int | None, notation: str) -> None:
    """Draw the schema at VERSION, or at the newest.

    What that migration added is in colour. The database is not opened.
    """
    async with options.runner() as runner:
        drawn = await _drawn(runner, version)
    text = _WRITERS[notation](drawn)
    if as_json:
        print_json({"version": drawn.version, "format": notation, "diagram": text})
    else:
        sys.stdout.write(text)


async def _drawn(runner: MigrationRunner, version: int | None) -> Diagram:
    known = {migration.version: migration for migration in runner.migrations}
    wanted = max(known, default=0) if version is None else version
    if wanted and wanted not in known:
        raise InvalidTarget(wanted, "no migration of this code")
    schemas = await runner.schemas()
    unproven = next((v for v in known if v not in schemas), None)
    if unproven is not None and wanted >= unproven:
        raise NotReplayed(wanted, unproven)
    return reports.picture(known, schemas, wanted)


@command
@click.argument("out", type=click.Path(allow_dash=True))
@click.option("--force", is_flag=True, help="Overwrite a file that is no report.")
async def report(options: Options, *, as_json: bool, out: str, force: bool) -> None:
    """Write an HTML page about the database to OUT.

    With - as OUT it is printed. The page needs nothing but itself: no network, no other file. An
    older report is replaced. Needs wave-async[report].
    """
    if as_json and out == "-":
        raise click.UsageError("--json and the page cannot both be printed")
    async with options.runner() as runner:
        found = await reports.gather(runner)
    page = reports.render(found)
    if out == "-":
        sys.stdout.write(page)
        return
    written = saving.save(page, Path(out), database=found.database, force=force)
    if as_json:
        print_json(
            {
                "written": str(written),
                "size": len(page.encode()),
                "current_version": found.status.current_version,
                "pending": len(found.status.pending),
                "problems": [printable(problem.sentence(), 4000) for problem in found.problems],
            }
        )
    else:
        remark(printable(str(written), longest=4000))
