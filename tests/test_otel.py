"""Spans of runs and migrations, as OpenTelemetry's own SDK exports them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest
from conftest import numbered
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from wave_async import Migration, MigrationManager, SingleConnectionPool, SnapshotPolicy, errors
from wave_async.integrations.otel import Tracing

BAD = Migration(3, "Bad", "CREATE TABLE b (x); SELEC 1;")


class Traced:
    """A manager whose spans are kept."""

    def __init__(self, pool: SingleConnectionPool, migrations: list[Migration]) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer("tests")
        self.tracing = Tracing(pool.path, tracer=self.tracer)
        self.manager = MigrationManager(pool, migrations, on_event=self.tracing)

    @property
    def spans(self) -> Mapping[str, ReadableSpan]:
        """The spans that have ended, by their names."""
        return {span.name: span for span in self._exporter.get_finished_spans()}


def ids(span: ReadableSpan) -> tuple[int, int]:
    """Return the trace of a span and its own id."""
    assert span.context
    return span.context.trace_id, span.context.span_id


async def test_a_span_for_the_run_and_one_for_each_migration(pool: SingleConnectionPool) -> None:
    """They carry the attributes of a database, and lie in the span that is current."""
    traced = Traced(pool, numbered(2))
    with traced.tracer.start_as_current_span("startup"):
        await traced.manager.migrate_up()
    spans = traced.spans
    run = spans["migrate up state.db"]

    assert ["migration 1 up", "migration 2 up", "migrate up state.db", "startup"] == list(spans)
    assert run.attributes == {
        "db.system.name": "sqlite",
        "db.namespace": pool.path,
        "db.operation.name": "migrate up",
        "wave.migrations.count": 2,
        "wave.migrations.done": 2,
    }
    assert run.parent is not None
    assert ids(spans["startup"]) == (run.parent.trace_id, run.parent.span_id)
    for version in (1, 2):
        step = spans[f"migration {version} up"]
        assert step.parent is not None
        assert ids(run) == (step.parent.trace_id, step.parent.span_id)
        assert step.attributes == {
            "db.system.name": "sqlite",
            "db.namespace": pool.path,
            "db.operation.name": "up",
            "db.operation.batch.size": 1,
            "wave.migration.version": version,
            "wave.migration.description": f"Add t{version}",
        }
        assert step.start_time
        assert step.end_time
        assert step.start_time < step.end_time


async def test_nothing_to_do_makes_no_span(pool: SingleConnectionPool) -> None:
    """A start that finds everything applied leaves no trace."""
    traced = Traced(pool, numbered(2))
    await MigrationManager(pool, numbered(2)).migrate_up()
    await traced.manager.migrate_up()

    assert {} == traced.spans


async def test_an_error_is_recorded(pool: SingleConnectionPool) -> None:
    """The migration that failed and its run are errors, with SQLite's code; others are not."""
    traced = Traced(pool, [*numbered(2), BAD])
    with pytest.raises(errors.MigrationFailed):
        await traced.manager.migrate_up()
    spans = traced.spans

    assert StatusCode.UNSET is spans["migration 2 up"].status.status_code
    for name in ("migration 3 up", "migrate up state.db"):
        span = spans[name]
        assert StatusCode.ERROR is span.status.status_code
        assert span.attributes
        assert "MigrationFailed" == span.attributes["error.type"]
        assert "SQLITE_ERROR" == span.attributes["db.response.status_code"]
        assert ["exception"] == [event.name for event in span.events]


async def test_of_an_atomic_run_every_span_ends(pool: SingleConnectionPool) -> None:
    """What is rolled back with a later migration is an error, too."""
    traced = Traced(pool, [*numbered(2), BAD])
    with pytest.raises(errors.MigrationFailed):
        await traced.manager.migrate_up(atomic=True)

    assert 4 == len(traced.spans)
    assert {StatusCode.ERROR} == {span.status.status_code for span in traced.spans.values()}


async def test_a_cancelled_run_ends_its_spans(pool: SingleConnectionPool) -> None:
    """A run that is cancelled in a migration leaves no span open."""
    reached = asyncio.Event()

    async def wait(_: object) -> None:
        reached.set()
        await asyncio.Event().wait()

    traced = Traced(pool, [*numbered(1), Migration(2, "Wait", wait)])
    task = asyncio.ensure_future(traced.manager.migrate_up())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert ["migration 1 up", "migration 2 up", "migrate up state.db"] == list(traced.spans)
    for name in ("migration 2 up", "migrate up state.db"):
        attributes = traced.spans[name].attributes
        assert attributes
        assert "CancelledError" == attributes["error.type"]


async def test_a_snapshot_is_noted(path: Path) -> None:
    """A rollback has the path of its snapshot on the span of its run."""
    async with SingleConnectionPool(path) as pool:
        traced = Traced(pool, numbered(2))
        await traced.manager.migrate_up()
        policy = SnapshotPolicy()
        down = MigrationManager(pool, numbered(2), on_event=traced.tracing, snapshots=policy)
        await down.migrate_down(1)

    (event,) = traced.spans["migrate down state.db"].events
    assert "wave.snapshot_taken" == event.name
    assert event.attributes
    assert Path(str(event.attributes["wave.snapshot.path"])).exists()
