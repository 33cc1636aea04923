"""The commands that write files of the project: new."""

from __future__ import annotations

import asyncclick as click

from wave_async.cli.command import command, print_json
from wave_async.cli.group import Options
from wave_async.errors import printable
from wave_async.sources.new import new_migration


@command
@click.argument("description")
async def new(options: Options, *, as_json: bool, description: str) -> None:
    """Write the next migration file of a folder, as those before it."""
    settings = options.settings()
    written = new_migration(settings.get("migrations"), description, settings.get("format"))
    if as_json:
        print_json({"written": [str(path) for path in written]})
    else:
        for path in written:
            print(printable(str(path), longest=4000))
