"""Wave's own migrations, 1 to 5, and the schema from before there were any.

The built-in example and the default of the command line; everything works the same for others.
"""

from __future__ import annotations

from wave_async.model.migration import Migration

_STATE_UP = """
CREATE TABLE pipeline_state (
    pipeline_id TEXT PRIMARY KEY,
    pipeline_name TEXT NOT NULL,
    status TEXT NOT NULL,
    input TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);

CREATE TABLE step_state (
    step_id TEXT PRIMARY KEY,
    pipeline_id TEXT NOT NULL REFERENCES pipeline_state (pipeline_id) ON DELETE CASCADE,
    state TEXT NOT NULL,
    retry_count INTEGER NOT NULL DEFAULT 0,
    started_at INTEGER,
    completed_at INTEGER,
    workspace_path TEXT,
    error_message TEXT
);

CREATE INDEX idx_step_state_pipeline_id ON step_state (pipeline_id);
"""

_STATE_DOWN = """
DROP TABLE step_state;
DROP TABLE pipeline_state;
"""

_OPS_UP = """
CREATE TABLE pipeline_run (
    run_id TEXT PRIMARY KEY,
    pipeline_name TEXT NOT NULL,
    status TEXT NOT NULL
        CHECK (status IN ('pending', 'running', 'completed', 'failed', 'cancelled')),
    input TEXT,
    current_step TEXT,
    total_tokens INTEGER NOT NULL DEFAULT 0,
    started_at INTEGER NOT NULL,
    completed_at INTEGER,
    cancelled_at INTEGER,
    error_message TEXT
);

CREATE INDEX idx_pipeline_run_pipeline_name ON pipeline_run (pipeline_name);
CREATE INDEX idx_pipeline_run_status ON pipeline_run (status);
CREATE INDEX idx_pipeline_run_started_at ON pipeline_run (started_at);

CREATE TABLE event_log (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL REFERENCES pipeline_run (run_id) ON DELETE CASCADE,
    timestamp INTEGER NOT NULL,
    step_id TEXT,
    state TEXT NOT NULL,
    persona TEXT,
    message TEXT,
    tokens_used INTEGER,
    duration_ms INTEGER
);

CREATE INDEX idx_event_log_run_id ON event_log (run_id);
CREATE INDEX idx_event_log_timestamp ON event_log (timestamp);

CREATE TABLE artifact (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL REFERENCES pipeline_run (run_id) ON DELETE CASCADE,
    step_id TEXT NOT NULL,
    name TEXT NOT NULL,
    path TEXT NOT NULL,
    type TEXT,
    size_bytes INTEGER,
    created_at INTEGER NOT NULL
);

CREATE INDEX idx_artifact_run_id ON artifact (run_id);

CREATE TABLE cancellation (
    run_id TEXT PRIMARY KEY REFERENCES pipeline_run (run_id) ON DELETE CASCADE,
    requested_at INTEGER NOT NULL,
    force BOOLEAN NOT NULL DEFAULT FALSE
);
"""

_OPS_DOWN = """
DROP TABLE cancellation;
DROP TABLE artifact;
DROP TABLE event_log;
DROP TABLE pipeline_run;
"""

_METRICS_UP = """
CREATE TABLE performance_metric (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL REFERENCES pipeline_run (run_id) ON DELETE CASCADE,
    step_id TEXT NOT NULL,
    pipeline_name TEXT NOT NULL,
    persona TEXT,
    started_at INTEGER NOT NULL,
    completed_at INTEGER,
    duration_ms INTEGER,
    tokens_used INTEGER NOT NULL DEFAULT 0,
    files_modified INTEGER NOT NULL DEFAULT 0,
    artifacts_generated INTEGER NOT NULL DEFAULT 0,
    memory_bytes INTEGER,
    success BOOLEAN NOT NULL DEFAULT TRUE,
    error_message TEXT
);

CREATE INDEX idx_performance_metric_run_id ON performance_metric (run_id);
CREATE INDEX idx_performance_metric_step_id ON performance_metric (step_id);
CREATE INDEX idx_performance_metric_pipeline_name ON performance_metric (pipeline_name);
CREATE INDEX idx_performance_metric_started_at ON performance_metric (started_at);
"""

_METRICS_DOWN = """
DROP TABLE performance_metric;
"""

_PROGRESS_UP = """
CREATE TABLE progress_snapshot (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL REFERENCES pipeline_run (run_id) ON DELETE CASCADE,
    step_id TEXT NOT NULL,
    timestamp INTEGER NOT NULL,
    progress INTEGER NOT NULL CHECK (progress BETWEEN 0 AND 100),
    current_action TEXT,
    estimated_time_ms INTEGER,
    validation_phase TEXT,
    compaction_stats TEXT
);

CREATE INDEX idx_progress_snapshot_run_id ON progress_snapshot (run_id);
CREATE INDEX idx_progress_snapshot_step_id ON progress_snapshot (step_id);
CREATE INDEX idx_progress_snapshot_timestamp ON progress_snapshot (timestamp);

CREATE TABLE step_progress (
    step_id TEXT PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES pipeline_run (run_id) ON DELETE CASCADE,
    persona TEXT,
    state TEXT NOT NULL,
    progress INTEGER NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 100),
    current_action TEXT,
    message TEXT,
    started_at INTEGER,
    updated_at INTEGER NOT NULL,
    estimated_completion_ms INTEGER,
    tokens_used INTEGER NOT NULL DEFAULT 0
);

CREATE INDEX idx_step_progress_run_id ON step_progress (run_id);
CREATE INDEX idx_step_progress_state ON step_progress (state);
CREATE INDEX idx_step_progress_updated_at ON step_progress (updated_at);

CREATE TABLE pipeline_progress (
    run_id TEXT PRIMARY KEY REFERENCES pipeline_run (run_id) ON DELETE CASCADE,
    total_steps INTEGER NOT NULL,
    completed_steps INTEGER NOT NULL DEFAULT 0,
    current_step_index INTEGER NOT NULL DEFAULT 0,
    overall_progress INTEGER NOT NULL DEFAULT 0 CHECK (overall_progress BETWEEN 0 AND 100),
    estimated_completion_ms INTEGER,
    updated_at INTEGER NOT NULL
);
"""

_PROGRESS_DOWN = """
DROP TABLE pipeline_progress;
DROP TABLE step_progress;
DROP TABLE progress_snapshot;
"""

_ARTIFACTS_UP = """
CREATE TABLE artifact_metadata (
    artifact_id INTEGER PRIMARY KEY REFERENCES artifact (id) ON DELETE CASCADE,
    run_id TEXT NOT NULL REFERENCES pipeline_run (run_id) ON DELETE CASCADE,
    step_id TEXT NOT NULL,
    preview_text TEXT,
    mime_type TEXT,
    encoding TEXT,
    metadata_json TEXT,
    indexed_at INTEGER NOT NULL
);

CREATE INDEX idx_artifact_metadata_run_id ON artifact_metadata (run_id);
CREATE INDEX idx_artifact_metadata_step_id ON artifact_metadata (step_id);
"""

_ARTIFACTS_DOWN = """
DROP TABLE artifact_metadata;
"""

MIGRATIONS = (
    Migration(1, "Create initial pipeline and step state tables", _STATE_UP, _STATE_DOWN),
    Migration(2, "Add ops commands tables for run tracking (spec 016)", _OPS_UP, _OPS_DOWN),
    Migration(3, "Add performance metrics tables (spec 018 - part 1)", _METRICS_UP, _METRICS_DOWN),
    Migration(4, "Add progress tracking tables (spec 018 - part 2)", _PROGRESS_UP, _PROGRESS_DOWN),
    Migration(
        5, "Add artifact metadata extension (spec 018 - part 3)", _ARTIFACTS_UP, _ARTIFACTS_DOWN
    ),
)

LEGACY_SCHEMA = (
    (_STATE_UP + _OPS_UP + _METRICS_UP + _PROGRESS_UP + _ARTIFACTS_UP)
    .replace("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS ")
    .replace("CREATE INDEX ", "CREATE INDEX IF NOT EXISTS ")
)
"""Wave's old schema.sql: the state after all five, each object made if it does not exist."""
