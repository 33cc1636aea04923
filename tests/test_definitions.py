"""Wave's own migrations, on SQLite alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from wave_async.definitions import LEGACY_SCHEMA, MIGRATIONS
from wave_async.model.catalogue import Catalogue
from wave_async.model.migration import Migration

# `*` primary key, `+` its numbers are never used again, `#` INTEGER, `!` BOOLEAN, else TEXT;
# `?` may be NULL, `=` default, `>` a foreign key to a table, `^` has an index of its own.
TABLES = {
    1: {
        "pipeline_state": "pipeline_id* pipeline_name status input? created_at# updated_at#",
        "step_state": "step_id* pipeline_id>pipeline_state^ state retry_count#=0 started_at#? "
        "completed_at#? workspace_path? error_message?",
    },
    2: {
        "pipeline_run": "run_id* pipeline_name^ status^ input? current_step? total_tokens#=0 "
        "started_at#^ completed_at#? cancelled_at#? error_message?",
        "event_log": "id*+# run_id>pipeline_run^ timestamp#^ step_id? state persona? message? "
        "tokens_used#? duration_ms#?",
        "artifact": "id*+# run_id>pipeline_run^ step_id name path type? size_bytes#? created_at#",
        "cancellation": "run_id*>pipeline_run requested_at# force!=FALSE",
    },
    3: {
        "performance_metric": "id*+# run_id>pipeline_run^ step_id^ pipeline_name^ persona? "
        "started_at#^ completed_at#? duration_ms#? tokens_used#=0 files_modified#=0 "
        "artifacts_generated#=0 memory_bytes#? success!=TRUE error_message?",
    },
    4: {
        "progress_snapshot": "id*+# run_id>pipeline_run^ step_id^ timestamp#^ progress# "
        "current_action? estimated_time_ms#? validation_phase? compaction_stats?",
        "step_progress": "step_id* run_id>pipeline_run^ persona? state^ progress#=0 "
        "current_action? message? started_at#? updated_at#^ estimated_completion_ms#? "
        "tokens_used#=0",
        "pipeline_progress": "run_id*>pipeline_run total_steps# completed_steps#=0 "
        "current_step_index#=0 overall_progress#=0 estimated_completion_ms#? updated_at#",
    },
    5: {
        "artifact_metadata": "artifact_id*#>artifact run_id>pipeline_run^ step_id^ preview_text? "
        "mime_type? encoding? metadata_json? indexed_at#",
    },
}
MARKS = {"TEXT": "", "INTEGER": "#", "BOOLEAN": "!"}

Connection = sqlite3.Connection


@pytest.fixture
def connection() -> Iterator[Connection]:
    """Open an empty database in memory."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    yield connection
    connection.close()


@pytest.fixture
def migrated(connection: Connection) -> Connection:
    """Apply all five and start one run."""
    apply(connection, 5)
    connection.execute("INSERT INTO pipeline_run VALUES ('r','p','failed','',NULL,0,1,2,3,'')")
    return connection


def apply(connection: Connection, version: int) -> None:
    """Apply the migrations up to a version."""
    for migration in MIGRATIONS[:version]:
        connection.executescript(migration.up)


def schema(connection: Connection) -> list[tuple[str, ...]]:
    """Return everything in the database but what SQLite itself put there."""
    return connection.execute(
        "SELECT type, name, tbl_name, replace(sql, 'IF NOT EXISTS ', '') FROM sqlite_schema "
        "WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
    ).fetchall()


def tables(connection: Connection) -> dict[str, str]:
    """Return each table in the notation above."""
    return {
        name: described(connection, name)
        for kind, name, *_ in schema(connection)
        if kind == "table"
    }


def described(connection: Connection, table: str) -> str:
    """Return the columns of a table in the notation above."""
    parents = {
        row[3]: f">{row[2]}" for row in connection.execute(f"PRAGMA foreign_key_list({table})")
    }
    indexed = {
        connection.execute(f"PRAGMA index_info({name})").fetchall()[0][2]
        for _, name, _, origin, _ in connection.execute(f"PRAGMA index_list({table})")
        if origin == "c"
    }
    ((sql,),) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (table,))
    counted = "+" if "AUTOINCREMENT" in sql else ""
    return " ".join(
        "".join(
            (
                name,
                f"*{counted}" if key else "",
                MARKS[kind],
                "" if key or not_null else "?",
                "" if default is None else f"={default}",
                parents.get(name, ""),
                "^" if name in indexed else "",
            )
        )
        for _, name, kind, not_null, default, key in connection.execute(
            f"PRAGMA table_info({table})"
        )
    )


def test_catalogue() -> None:
    """The five are a list that can be right, with the descriptions of the transcripts."""
    assert [
        (e.version, e.migration.description) for e in Catalogue(MIGRATIONS).entries.values()
    ] == [
        (1, "Create initial pipeline and step state tables"),
        (2, "Add ops commands tables for run tracking (spec 016)"),
        (3, "Add performance metrics tables (spec 018 - part 1)"),
        (4, "Add progress tracking tables (spec 018 - part 2)"),
        (5, "Add artifact metadata extension (spec 018 - part 3)"),
    ]


@pytest.mark.parametrize("version", TABLES)
def test_tables(connection: Connection, version: int) -> None:
    """Every version has the tables, columns and indexes that Wave has."""
    apply(connection, version)

    assert {
        name: shape for v in range(1, version + 1) for name, shape in TABLES[v].items()
    } == tables(connection)


@pytest.mark.parametrize("migration", MIGRATIONS, ids=lambda migration: migration.version)
def test_way_down(connection: Connection, migration: Migration) -> None:
    """Rolling one back restores the schema from before it."""
    apply(connection, migration.version - 1)
    before = schema(connection)

    connection.executescript(migration.up)
    assert before != schema(connection)

    connection.executescript(migration.down)
    assert before == schema(connection)


def test_legacy_schema(migrated: Connection) -> None:
    """Wave's old schema is the state after all five."""
    with sqlite3.connect(":memory:") as legacy:
        legacy.executescript(LEGACY_SCHEMA)

        assert schema(migrated) == schema(legacy)
    legacy.close()


def test_legacy_schema_again(migrated: Connection) -> None:
    """Loading the old schema where it is already changes neither schema nor rows."""
    before = list(migrated.iterdump())

    migrated.executescript(LEGACY_SCHEMA)

    assert before == list(migrated.iterdump())


def test_foreign_keys_cascade(migrated: Connection) -> None:
    """Every foreign key takes its rows along when their parent goes."""
    rules = {
        row[6]
        for name in tables(migrated)
        for row in migrated.execute(f"PRAGMA foreign_key_list({name})")
    }

    assert {"CASCADE"} == rules


def test_deleting_a_run(migrated: Connection) -> None:
    """With a run goes what belongs to it, down to the metadata of its artifacts."""
    migrated.executescript("""
        INSERT INTO artifact VALUES (7, 'r', 's', 'n', 'p', NULL, NULL, 1);
        INSERT INTO artifact_metadata VALUES (7, 'r', 's', NULL, NULL, NULL, NULL, 1);
        INSERT INTO cancellation (run_id, requested_at) VALUES ('r', 1);
        DELETE FROM pipeline_run;
    """)

    assert {0} == {
        migrated.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables(migrated)
    }


STATUS = "UPDATE pipeline_run SET status = ?"
SNAPSHOT = (
    "INSERT INTO progress_snapshot (run_id, step_id, timestamp, progress) VALUES ('r','s',1,?)"
)
STEP = (
    "INSERT INTO step_progress (step_id, run_id, state, progress, updated_at) "
    "VALUES ('s', 'r', 'x', ?, 1)"
)
PIPELINE = (
    "INSERT INTO pipeline_progress (run_id, total_steps, overall_progress, updated_at) "
    "VALUES ('r', 1, ?, 1)"
)


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        *((STATUS, s) for s in ("pending", "running", "completed", "failed", "cancelled")),
        *((statement, n) for statement in (SNAPSHOT, STEP, PIPELINE) for n in (0, 50, 100)),
    ],
)
def test_allowed(migrated: Connection, statement: str, value: object) -> None:
    """The values that Wave writes are accepted."""
    assert migrated.execute(statement, (value,)).rowcount == 1


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        *((STATUS, s) for s in ("done", "PENDING", "", None)),
        *((statement, n) for statement in (SNAPSHOT, STEP, PIPELINE) for n in (-1, 101, None)),
    ],
)
def test_not_allowed(migrated: Connection, statement: str, value: object) -> None:
    """A status of another name and a progress outside 0 to 100 are refused."""
    with pytest.raises(sqlite3.IntegrityError, match="constraint failed"):
        migrated.execute(statement, (value,))


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO step_state (step_id, pipeline_id, state) VALUES ('s', 'none', 'x')",
        "INSERT INTO cancellation (run_id, requested_at) VALUES ('none', 1)",
        (
            "INSERT INTO artifact_metadata (artifact_id, run_id, step_id, indexed_at) "
            "VALUES (9, 'r', 's', 1)"
        ),
    ],
)
def test_orphans(migrated: Connection, statement: str) -> None:
    """A row without its parent is refused."""
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        migrated.execute(statement)
