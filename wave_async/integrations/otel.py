"""OpenTelemetry: a span for each run and for each migration in it; `wave-async[otel]`.

Made from the public events alone. Attributes are those of the semantic conventions for databases
(https://opentelemetry.io/docs/specs/semconv/database/) where there is one, else begin with `wave.`.
"""

from __future__ import annotations

import os
from time import time_ns

from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, get_tracer
from opentelemetry.trace.propagation import set_span_in_context

from wave_async.model.events import (
    Event,
    Marked,
    RunEnded,
    RunStarted,
    SnapshotTaken,
    StepFailed,
    StepFinished,
    StepStarted,
    WaitingForLock,
)
from wave_async.version import VERSION


class Tracing:
    """A listener, for `on_event`, that makes spans of what one manager does to one database.

    The span of a run is a child of the one that is current where the run is started. A step of an
    atomic run that is rolled back because a later one failed ends with the run, as an error.
    Without a `tracer` it takes that of the global provider.
    """

    def __init__(self, database: str | os.PathLike[str], *, tracer: Tracer | None = None) -> None:
        self._tracer = tracer or get_tracer("wave_async", VERSION)
        self._about = {"db.system.name": "sqlite", "db.namespace": os.fspath(database)}
        self._run: Span | None = None
        self._steps: dict[int, tuple[Span, int]] = {}
        self._since = 0

    def __call__(self, event: Event) -> None:
        """Begin or end a span, or note something on the one of the run."""
        match event:
            case RunStarted():
                self._begin_run(event)
            case StepStarted():
                self._begin_step(event)
            case StepFinished(step, seconds):
                self._end_step(step.version, seconds)
            case StepFailed(step, seconds, error):
                self._end_step(step.version, seconds, error)
            case RunEnded():
                self._end_run(event)
            case WaitingForLock(seconds) if self._run is not None:
                self._run.add_event("wave.waiting_for_lock", {"wave.seconds": seconds})
            case SnapshotTaken(path) if self._run is not None:
                self._run.add_event("wave.snapshot_taken", {"wave.snapshot.path": path})
            case Marked(mark) if self._run is not None:
                self._run.add_event("wave.marked", {"wave.mark": mark})

    def _begin_run(self, event: RunStarted) -> None:
        self._since = time_ns()
        operation = f"migrate {event.direction.value}"
        self._run = self._tracer.start_span(
            f"{operation} {os.path.basename(self._about['db.namespace'])}",  # noqa: PTH119 - :memory:
            kind=SpanKind.CLIENT,
            start_time=self._since,
            attributes={
                **self._about,
                "db.operation.name": operation,
                "wave.migrations.count": event.count,
            },
        )

    def _begin_step(self, event: StepStarted) -> None:
        since, step = time_ns(), event.step
        span = self._tracer.start_span(
            f"migration {step.version} {step.direction.value}",
            context=None if self._run is None else set_span_in_context(self._run),
            kind=SpanKind.CLIENT,
            start_time=since,
            attributes={
                **self._about,
                "db.operation.name": step.direction.value,
                "db.operation.batch.size": event.statements,
                "wave.migration.version": step.version,
                "wave.migration.description": step.description,
            },
        )
        self._steps[step.version] = span, since

    def _end_step(self, version: int, seconds: float, error: BaseException | None = None) -> None:
        span, since = self._steps.pop(version)
        _end(span, since, seconds, error)

    def _end_run(self, event: RunEnded) -> None:
        for span, _ in self._steps.values():
            span.set_status(Status(StatusCode.ERROR, "rolled back with the run"))
            span.end()
        self._steps.clear()
        if self._run is not None:
            self._run.set_attribute("wave.migrations.done", len(event.done))
            _end(self._run, self._since, event.seconds, event.error)
            self._run = None


def _end(span: Span, since: int, seconds: float, error: BaseException | None) -> None:
    """End a span after what was measured, however late the loop has heard of it."""
    end = since + int(seconds * 1e9)
    if error is not None:
        cause = getattr(error.__cause__, "sqlite_errorname", None)
        if cause is not None:
            span.set_attribute("db.response.status_code", cause)
        span.set_attribute("error.type", type(error).__qualname__)
        span.record_exception(error, timestamp=end)
        span.set_status(Status(StatusCode.ERROR, str(error)))
    span.end(end)
