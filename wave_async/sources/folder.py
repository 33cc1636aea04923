"""The files of a folder of migrations, wherever it is: a disk, a package's resources, a zip import.

Knows names and texts; knows nothing of formats. A file in a folder of its own is named with it,
`0003_users/up.sql`, and such a folder is listed too, as `0003_users/`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from wave_async.errors import InvalidScript, SourceNotFound

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

JOURNAL = "meta/_journal.json"
_NUMBERED = re.compile(r"[vVuU]?[0-9]")
_FLYWAYS = re.compile(r"(?:[VU][0-9]+(?:[._][0-9]+)*|R)__.*\.sql")
_DOCUMENTS = (".md", ".rst", ".txt", ".conf")


class Folder:
    """Lists its names once and reads each file at most once; hidden files are not there.

    `package` is the name of the package whose resources these are. Raises `SourceNotFound` for
    what the system refuses to list or read.
    """

    def __init__(self, root: Traversable, package: str = "") -> None:
        self.package = package
        self._texts: dict[str, str] = {}
        try:
            self._files = dict(sorted(_files(root), key=lambda file: file[0]))
        except OSError as error:
            raise SourceNotFound(str(root), f"{type(error).__name__}: {error}") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def path(self, name: str) -> str:
        """Return the path of a file, for a traceback."""
        return str(self._files[name])

    def text(self, name: str) -> str:
        """Return the text of a file without its byte order mark; its line ends are kept.

        Raises `InvalidScript` where it is not UTF-8.
        """
        if name not in self._texts:
            self._texts[name] = self._read(name)
        return self._texts[name]

    def _read(self, name: str) -> str:
        try:
            return self._files[name].read_bytes().decode("utf-8-sig")
        except OSError as error:
            raise SourceNotFound(self.path(name), f"{type(error).__name__}: {error}") from error
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise InvalidScript(name, line, "it is not UTF-8; save the file as UTF-8") from error


def looks_like_migration(name: str) -> bool:
    """Return whether somebody may have meant a file or folder to be a migration.

    SQL is; so is, at the top, whatever is numbered and is no document.
    """
    lower, at_the_top = name.lower(), "/" not in name[:-1]
    numbered = at_the_top and _NUMBERED.match(name) and not lower.endswith(_DOCUMENTS)
    return lower.endswith(".sql") or bool(numbered)


def line_of(text: str, offset: int) -> int:
    """Return the line of a place in a text, counted from 1."""
    return text.count("\n", 0, offset) + 1


def _files(root: Traversable) -> Iterator[tuple[str, Traversable]]:
    for node in _visible(root):
        if not node.is_dir():
            yield node.name, node
            continue
        numbered = bool(_NUMBERED.match(node.name))
        if numbered:
            yield f"{node.name}/", node
        for child in _visible(node):
            name = f"{node.name}/{child.name}"
            if numbered or name == JOURNAL or _FLYWAYS.fullmatch(child.name):
                yield name, child


def _visible(folder: Traversable) -> Iterator[Traversable]:
    return (node for node in folder.iterdir() if not node.name.startswith("."))
