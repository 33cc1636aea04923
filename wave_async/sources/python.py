"""A folder of Python files with one migration each.

Such a file, `0003_users.py`, has an `up` and may have a `down`: a script, a function, or a list of
both. It is run once, under the name of its package if it is in one, and ordered by number.
"""

from __future__ import annotations

import linecache
import re
import sys
from types import ModuleType

from wave_async.errors import InvalidFiles
from wave_async.sources.assembly import Format, Placeholders, Scripts, Slot
from wave_async.sources.folder import Folder


def run(path: str, text: str, package: str = "", name: str = "") -> ModuleType:
    """Run a text as a module that `inspect` and dataclasses find, also out of a zip."""
    module = ModuleType(f"{package}.{name}" if package else path)
    module.__file__, module.__package__ = path, package
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    sys.modules[module.__name__] = module
    exec(compile(text, path, "exec", dont_inherit=True), vars(module))  # noqa: S102 - their code
    return module


def _scripts(folder: Folder, slot: Slot, _: Placeholders) -> Scripts:
    file = slot.up.file
    try:
        module = run(folder.path(file), folder.text(file), folder.package, file.removesuffix(".py"))
    except (Exception, SystemExit) as error:
        raise InvalidFiles((file,), f"{type(error).__name__}: {error}") from error
    if not hasattr(module, "up"):
        raise InvalidFiles((file,), "it has no `up`")
    return Scripts(module.up, getattr(module, "down", ""))


def _in_quotes(script: str) -> str:
    return script.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')


PYTHON = Format(
    "python",
    re.compile(r"(?P<prefix>[vV]?)(?P<number>[0-9]+)(?:(?P<separator>[_-])(?P<name>[^/]*))?\.py"),
    first="0001",
    written=(
        ("{prefix}{number}{separator}{name}.py", 'up = """\n{up}"""\n\ndown = """\n{down}"""\n'),
    ),
    scripts=_scripts,
    quoted=_in_quotes,
)
