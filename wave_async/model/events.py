"""What a run tells while it goes on: frozen values for the `on_event` callback."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from wave_async.model.migration import Direction, Step


@dataclass(frozen=True, slots=True)
class RunStarted:
    """There is something to do: `count` steps, as of now; somebody else may do some of them."""

    direction: Direction
    count: int


@dataclass(frozen=True, slots=True)
class StepStarted:
    """The lock is held and the first of the `statements` of `step` comes next."""

    step: Step
    statements: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class StatementStarted:
    """A statement, or a function, of the started step runs now; both numbers count from 1.

    Told only where it was asked for: each one interrupts the event loop.
    """

    number: int
    line: int
    sql: str


@dataclass(frozen=True, slots=True)
class StepFinished:
    """`step` and its record are committed; its own work took `seconds`.

    `confirmed` says that the answer to the commit was lost, and that the history proves it.
    """

    step: Step
    seconds: float = field(default=0.0, compare=False)
    confirmed: bool = False


@dataclass(frozen=True, slots=True)
class StepFailed:
    """`step` was rolled back because of `error`, which is a `CancelledError` if it was cancelled.

    Of an atomic run it is the last step that had started; those before it are rolled back with it.
    """

    step: Step
    seconds: float
    error: BaseException


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A run that has started is over: `done` is what it did for good, `error` what ended it."""

    direction: Direction
    done: tuple[Step, ...]
    seconds: float = field(default=0.0, compare=False)
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class WaitingForLock:
    """Somebody else has held the write lock for `seconds`; told once in a wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class SnapshotTaken:
    """The database as it is before the first step was copied to `path`."""

    path: str


@dataclass(frozen=True, slots=True)
class Marked:
    """The hook before the run has left `mark`, which the log gets with the first step."""

    mark: str


@dataclass(frozen=True, slots=True)
class UpcomingRun:
    """What a hook is told before a run: the path of the database, and all that is to be done."""

    database: str
    direction: Direction
    steps: tuple[Step, ...]


Hook = Callable[[UpcomingRun], str | Awaitable[str | None] | None]
"""Called before a run; may return a mark of the moment before it."""

Event = (
    RunStarted
    | StepStarted
    | StatementStarted
    | StepFinished
    | StepFailed
    | RunEnded
    | WaitingForLock
    | SnapshotTaken
    | Marked
)
