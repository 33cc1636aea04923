"""Write reference/cli.md from the commands themselves; a test compares it with them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import asyncclick as click

from wave_async.cli import cli

PAGE = Path(__file__).parent / "reference" / "cli.md"
HEAD = """# The command line

Written by `python docs/commands.py`; `wave migrate COMMAND --help` says the same.
What stops a command is told in [errors.md](../errors.md).
What every command takes, too, is told once, at `wave migrate`.

| exit code | meaning |
|---|---|
| 0 | done, or nothing to do |
| 1 | refused or failed: one `Error:` line on stderr |
| 2 | usage |
| 3 | `status --check` found work |
| 130, 143 | ended by SIGINT, SIGTERM |
"""


def page() -> str:
    """Return the page as it should be."""
    return "\n".join([HEAD, *_told(cli, click.Context(cli, info_name="wave"))])


def _told(command: click.Command, context: click.Context) -> Iterable[str]:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"## `{context.command_path}`\n"
    yield f"`{usage}`\n"
    yield f"{' '.join((command.help or '').split())}\n"
    before = {param.name for param in (context.parent.command.params if context.parent else [])}
    options = [
        param
        for param in command.params
        if isinstance(param, click.Option) and param.name not in before
    ]
    if options:
        yield "| option | meaning |\n|---|---|"
        yield from (_row(option) for option in options)
        yield ""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            if found := command.get_command(context, name):
                yield from _told(found, click.Context(found, info_name=name, parent=context))


def _row(option: click.Option) -> str:
    value = "" if option.is_flag else f" {option.metavar or option.type.name.upper()}"
    names = [
        f"`{name}{value}`".replace("|", r"\|") for name in (*option.opts, *option.secondary_opts)
    ]
    read = f" Its variable: `{option.envvar}`." if option.envvar else ""
    return f"| {', '.join(names)} | {option.help or ''}{read} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
