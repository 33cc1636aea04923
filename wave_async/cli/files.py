"""The commands that write files of the project: new."""

from __future__ import annotations

import asyncclick as click

from wave_async.cli.command import command, print_json
from wave_async.cli.group import Options
from wave_async.errors import ConfigError, printable
from wave_async.sources.new import new_migration


@command
@click.argument("description")
@click.option(
    "--from-database", "from_database", is_flag=True, help="The first one: what the database has."
)
async def new(options: Options, *, as_json: bool, description: str, from_database: bool) -> None:
    """Write the next migration file of a folder, as those before it."""
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
            print(printable(str(path), longest=4000))
