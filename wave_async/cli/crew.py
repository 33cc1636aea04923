"""The processes that share the work on a fleet: each takes paths from a pipe and answers results.

Knows pipes and processes. What is done to a file, and in which order, is not theirs to know.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain, islice
from typing import Any, BinaryIO, TextIO, cast

from wave_async import fleet
from wave_async.cli.command import snapshot_policy
from wave_async.cli.group import Options
from wave_async.cli.process import mend_streams
from wave_async.config import MigrationConfig
from wave_async.errors import WorkerLost
from wave_async.model.fleet import FileResult, Outcome
from wave_async.model.migration import Migration

OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "up": fleet.migrate_many,
    "status": fleet.status_many,
    "validate": fleet.validate_many,
    "plan": fleet.plan_many,
    "rehearse": fleet.rehearse_many,
}
AHEAD = 2
"""A process holds so many times the files that it works on, so that it never waits for more."""

_LONGEST_LINE = 2**20
_FLAGS = () if sys.modules["__main__"].__spec__ else ("-P",)
"""`-m` looks for every module in the current directory first, which a script does not."""

OnResult = Callable[[FileResult], object]


@dataclass(frozen=True)
class Job:
    """What is done to each file, as a line of JSON can say it."""

    operation: str
    said: Mapping[str, Any]
    limit: int
    options: Mapping[str, Any]
    snapshots: tuple[str | None, bool | None] | None = None
    """Where they are, and whether one is taken always or never; None: where nothing is written."""

    @cached_property
    def migrations(self) -> tuple[Migration, ...]:
        """The migrations that were named; raises what loading them does."""
        options = Options(self.said)
        return tuple(options.migrations(options.settings()))

    async def run(self, paths: fleet.Paths, on_result: OnResult) -> None:
        """Do it in this process."""
        options = Options(self.said)
        functions = options.functions(options.settings())
        configured = MigrationConfig.from_env().manager_options
        more: dict[str, Any] = {**configured, **self.options, **functions}
        if self.snapshots is not None:
            directory, wanted = self.snapshots
            more["snapshots"] = snapshot_policy(directory, wanted=wanted)
        await OPERATIONS[self.operation](
            paths,
            self.migrations,
            limit=self.limit,
            on_result=on_result,
            **more,
        )


async def run(job: Job, paths: Iterable[str], on_result: OnResult, processes: int) -> None:
    """Do a job on all paths, in this process or in so many; `paths` may end it early.

    Cancelled, the processes are ended, and what runs is rolled back.
    """
    if processes == 1:
        await job.run(paths, on_result)
        return
    await job.run((), on_result)  # what is wrong with the migrations is said once, and here
    feed = iter(paths)
    async with fleet.task_group() as group:
        for _ in range(processes):
            group.create_task(_keep_going(job, feed, on_result))


async def _keep_going(job: Job, feed: Iterator[str], on_result: OnResult) -> None:
    """Keep a process busy; one that has died is followed by another."""
    for path in feed:
        await _one_process(job, chain([path], feed), on_result)


async def _one_process(job: Job, feed: Iterator[str], on_result: OnResult) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *_FLAGS, "-m", __name__),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LONGEST_LINE,
        start_new_session=True,  # a terminal's Ctrl-C is for this process, which ends the others
    )
    asked, answers = cast(
        "tuple[asyncio.StreamWriter, asyncio.StreamReader]", (process.stdin, process.stdout)
    )
    held: set[str] = set()

    def hand_out(count: int) -> None:
        for path in islice(feed, count):
            held.add(path)
            asked.write(_line(path))

    try:
        asked.write(_line(asdict(job)))
        hand_out(job.limit * AHEAD)
        while held and (line := await answers.readline()).endswith(b"\n"):
            result = _result(json.loads(line))
            held.remove(result.path)
            on_result(result)
            hand_out(1)
    except BaseException:
        with suppress(ProcessLookupError):
            process.terminate()
        raise
    finally:
        asked.close()
        _, code = await asyncio.gather(process.communicate(), process.wait())
    lost = WorkerLost(code)
    for path in sorted(held):
        on_result(FileResult.lost(path, lost))


def _result(said: dict[str, Any]) -> FileResult:
    return FileResult(**{**said, "outcome": Outcome(said["outcome"])})


def _line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


async def _serve(asked: BinaryIO, answers: TextIO) -> None:
    """Do the job of the first line with the paths of the others."""
    loop, task = asyncio.get_running_loop(), cast("asyncio.Task[None]", asyncio.current_task())
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    lines = asyncio.StreamReader(limit=_LONGEST_LINE)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), asked)
    job = Job(**json.loads(await lines.readline()))

    async def paths() -> AsyncIterator[str]:
        async for line in lines:
            yield json.loads(line)

    def answer(result: FileResult) -> None:
        print(json.dumps(asdict(result)), file=answers, flush=True)

    await job.run(paths(), answer)


def main() -> None:
    """Work for another process until it has no more, or is gone.

    What migrations print is on stderr, and what they read is empty.
    """
    mend_streams()
    asked = os.fdopen(os.dup(sys.stdin.fileno()), "rb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with suppress(asyncio.CancelledError, BrokenPipeError):
        asyncio.run(_serve(asked, answers))


if __name__ == "__main__":
    main()
