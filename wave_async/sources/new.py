"""Writes the next migration of a folder, in its own format and numbering."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from wave_async.errors import ConfigError, DefinitionError, InvalidFiles
from wave_async.model.catalogue import FIRST_TIMESTAMP, Catalogue
from wave_async.model.creation import Creation
from wave_async.model.lock import lock_of
from wave_async.model.migration import KEPT_DIGITS
from wave_async.sources.assembly import Format, Name, Slot
from wave_async.sources.detect import detect
from wave_async.sources.folder import Folder
from wave_async.sources.load import load_migrations

_LONGEST_NAME = 150  # bytes; file systems allow 255
_TIMESTAMP_DIGITS = 8
_UNIX = {10: 1, 13: 1000}


def new_migration(
    source: str | None,
    description: str,
    format_name: str | None,
    first: Creation | None = None,
) -> list[Path]:
    """Write the next file, or files, of a folder and return what was written.

    They have no statements yet; the `first` migration of a folder may be given its scripts.

    The folder is made if it is missing; without a format an empty one gets pairs. Numbers go on as
    the newest goes, counted or timestamps. Nothing is overwritten, and who asks at the same moment
    gets the next number. Raises `ConfigError` for a source that is no folder, `DefinitionError`
    where the folder, or the description, is not right.
    """
    root, words = _root(source), _words(description)
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root):
        folder = Folder(root)
        chosen, files = detect(folder, format_name)
        if first and files:
            raise InvalidFiles(tuple(files), "the first migration is there already")
        new = _files(chosen, chosen.slots(folder, files), words, first or Creation())
        if not chosen.index:
            chosen.slots(folder, [*files, *new])
        if first:
            _require_read(chosen, new, first)
        return _written(root, chosen, new)


def next_number(newest: str, now: datetime) -> str:
    """Return the number after `newest`, in its shape.

    Timestamps go on as `now`, or one above the newest if that is later; dotted versions in their
    last part; anything else is counted.
    """
    *before, last = re.split("([._])", newest)
    if before:
        return "".join(before) + str(int(last) + 1).zfill(len(last))
    digits = newest.replace("-", "")
    value = int(digits) + 10 ** max(0, len(digits) - KEPT_DIGITS)
    if _is_timestamp(digits):
        value = max(value, _stamp(digits, now))
    following = iter(str(value).zfill(len(digits)))
    return "".join(c if c == "-" else next(following) for c in newest) + "".join(following)


def _is_timestamp(digits: str) -> bool:
    return len(digits) >= _TIMESTAMP_DIGITS and (int(digits) == 0 or int(digits) >= FIRST_TIMESTAMP)


def _stamp(digits: str, now: datetime) -> int:
    """Return now in as many digits, 0 if no timestamp has so many."""
    length = len(digits)
    if length in _UNIX and digits.startswith("1"):
        return int(now.timestamp() * _UNIX[length])
    text = now.strftime("%Y%m%d%H%M%S%f")
    known = length in {8, 10, 12} or length in range(14, len(text) + 1)
    return int(text[:length]) if known else 0


def _root(source: str | None) -> Path:
    path = Path(source or "")
    named = ":" in (source or "") or path.suffix in {".py", ".sql"}
    if not source or (not path.is_dir() and (path.exists() or named)):
        raise ConfigError("--migrations", source or "", "a folder, to write the new file into")
    return path


def _words(description: str) -> str:
    words = re.sub(r"\W+", "_", description).strip("_").encode(errors="ignore")
    if not words:
        raise InvalidFiles((description,), "a description has letters or digits")
    return words[:_LONGEST_NAME].decode(errors="ignore")


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Let one process or thread at a time number the files of a folder; others wait."""
    handle = os.open(root, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks: still nothing is overwritten
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _files(chosen: Format, slots: Sequence[Slot], words: str, scripts: Creation) -> dict[str, str]:
    """Return the next files and their texts."""
    newest = slots[-1] if slots else Slot(Name("", chosen.first, 0, 0, ""))
    number = chosen.first
    if slots or _is_timestamp(number.replace("-", "")):
        number = next_number(newest.up.number, datetime.now(UTC))
    templates = list(chosen.written)
    if (newest.down or scripts.down) and chosen.written_down:
        templates.append((chosen.written_down, "{down}"))
    shape = {"prefix": newest.up.prefix, "separator": newest.up.separator}
    texts = {"up": chosen.quoted(scripts.up), "down": chosen.quoted(scripts.down)}
    return {
        path.format(number=number, name=words, **shape): text.format(**texts)
        for path, text in templates
    }


def _written(root: Path, chosen: Format, files: dict[str, str]) -> list[Path]:
    """Write files, and the index that lists them; all of it or nothing."""
    paths = [root / file for file in files]
    with ExitStack() as undo:
        for path, text in zip(paths, files.values(), strict=True):
            if not path.parent.exists():
                path.parent.mkdir()
                undo.callback(path.parent.rmdir)
            with path.open("x", encoding="utf-8", newline="\n") as stream:
                undo.callback(path.unlink)
                stream.write(text)
        if chosen.index:
            _list_in(root / chosen.index, chosen, paths[0].stem)
        undo.pop_all()
    return paths


def _require_read(chosen: Format, files: dict[str, str], scripts: Creation) -> None:
    """Raise `InvalidFiles` unless a first migration is read as what it is made of.

    A schema may have in its comments and strings what means something in a format.
    """
    problem = "another schema would be read from it"
    try:
        with TemporaryDirectory() as place:
            _written(Path(place), chosen, files)
            read = Catalogue(load_migrations(place, format=chosen.name)).entries.values()
        meant = Catalogue(replace(entry.migration, up=scripts.up) for entry in read)
        same = lock_of(read) == lock_of(meant.entries.values())
    except DefinitionError as error:
        same, problem = False, str(error)
    if not same:
        about = f"this schema cannot be written as {chosen.name}"
        raise InvalidFiles(tuple(files), f"{about}: {problem}; nothing was written")


def _list_in(index: Path, chosen: Format, name: str) -> None:
    """Exchange an index at once, so that nobody reads half of it."""
    index.parent.mkdir(exist_ok=True)
    old = index.read_text(encoding="utf-8-sig") if index.exists() else None
    beside = index.with_name(f".{index.name}.{os.getpid()}")
    beside.write_text(chosen.indexed(old, name), encoding="utf-8")
    beside.replace(index)
