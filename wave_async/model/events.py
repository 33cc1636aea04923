"""What a run tells while it goes on: frozen values for the `on_event` callback."""

from __future__ import annotations

from dataclasses import dataclass

from wave_async.model.migration import Step


@dataclass(frozen=True, slots=True)
class StepStarted:
    """The lock is held and the first statement of `step` comes next."""

    step: Step


@dataclass(frozen=True, slots=True)
class StepFinished:
    """`step` and its record are committed."""

    step: Step


@dataclass(frozen=True, slots=True)
class WaitingForLock:
    """Somebody else has held the write lock for `seconds`; told once in a wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class SnapshotTaken:
    """The database as it is before the first step was copied to `path`."""

    path: str


Event = StepStarted | StepFinished | WaitingForLock | SnapshotTaken
