"""What shells complete: the script for each, and the words that only this program knows."""

from __future__ import annotations

from asyncclick import Command
from asyncclick.shell_completion import CompletionItem, get_completion_class

from wave_async.sources.detect import FORMATS

VARIABLE = "_WAVE_COMPLETE"


def script(cli: Command, shell: str) -> str:
    """Return the script that a shell has to read, with which it asks the program itself."""
    found = get_completion_class(shell)
    assert found is not None  # noqa: S101 - the choices of the command are those that there are
    return found(cli, {}, "wave", VARIABLE).source()


def files(_: str) -> list[CompletionItem[str]]:
    """Leave it to the shell: a file or a folder."""
    return [CompletionItem("", type="file")]


def formats(incomplete: str) -> list[CompletionItem[str]]:
    """Return the formats of folders."""
    return [CompletionItem(name) for name in FORMATS if name.startswith(incomplete)]
