"""The report of a fleet: a line of JSON for each file, written as it comes, read to go on from.

Knows lines and the file that they are in; how a fleet is worked on is not its to know.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from wave_async.cli.stream import utc
from wave_async.database.files import reason_of
from wave_async.errors import InvalidFiles
from wave_async.model.fleet import FileResult, Outcome

_NO_REPORT = "it is not a report of a fleet"


def write(report: TextIO, operation: str, goal: int, result: FileResult) -> None:
    """Add what came of a file, at once."""
    about = {"operation": operation, "goal": goal, "time": utc(time.time())}
    print(json.dumps({**about, **asdict(result)}), file=report, flush=True)


def told(report: Path, operation: str, goal: int) -> dict[str, bool]:
    """Return for each file in a report whether it went well, as of its last line.

    A line that a crash has cut off counts for nothing. Raises `InvalidFiles` for no report.
    """
    known: dict[str, bool] = {}
    with report.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            try:
                found = json.loads(line)
                kind, path = (found["operation"], found["goal"]), str(found["path"])
                ok = found["outcome"] != Outcome.FAILED
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                if number == 1 and line.endswith("\n"):
                    raise InvalidFiles((str(report),), _NO_REPORT) from error
                continue
            if kind == (operation, goal):
                known[path] = ok
    return known


def _ends(report: Path) -> tuple[bytes, bytes]:
    """Return the first and the last byte of a file, nothing where there is none."""
    if not report.is_file():
        return b"", b""
    with report.open("rb") as file:
        first = file.read(1)
        file.seek(max(0, report.stat().st_size - 1))
        return first, file.read(1)


def opened(report: Path) -> TextIO:
    """Open a report to go on with; what a crash has cut off stays a line of its own.

    A pipe that nobody reads is an error, and not waited for. Raises `InvalidFiles` for a file that
    is something else, or cannot be opened.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK
    try:
        first, last = _ends(report)
        if first not in {b"", b"{"}:
            raise InvalidFiles((str(report),), _NO_REPORT)
        descriptor = os.open(report, flags, 0o666)
    except OSError as error:
        raise InvalidFiles((str(report),), reason_of(error)) from error
    os.set_blocking(descriptor, True)
    file = os.fdopen(descriptor, "a", encoding="utf-8")
    if last not in {b"", b"\n"}:
        file.write("\n")
    return file
