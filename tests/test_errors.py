"""The sentences that people read, literally, and the tree that the docstring draws."""

from __future__ import annotations

import os
import pickle
import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wave_async import errors
from wave_async.errors import (
    AdoptionRefused,
    BatchLost,
    CascadeRefused,
    ChecksumMismatch,
    ClusterUnreachable,
    ConfigError,
    ConfirmationRequired,
    ConnectionLost,
    DatabaseLocked,
    DatabaseUnusable,
    DumpTooLarge,
    DuplicateVersion,
    FleetFailed,
    ForeignBookkeeping,
    HookFailed,
    ImportRefused,
    InvalidFiles,
    InvalidMigration,
    InvalidPath,
    InvalidRecord,
    InvalidScript,
    InvalidTarget,
    Irreversible,
    KeysViolated,
    LeadKept,
    LockMismatch,
    MigrationFailed,
    MigrationsDisabled,
    MissingExtra,
    NeedsRecovery,
    NewerDatabase,
    NoSpace,
    NotAtomic,
    NotPortable,
    NotProven,
    NotReplayed,
    OutOfOrder,
    PlanChanged,
    PoolDeadlock,
    RebuildRefused,
    RehearsalFailed,
    ReportNotWritten,
    SchemaDrifted,
    SnapshotFailed,
    SnapshotNotFound,
    SnapshotUnusable,
    SourceNotFound,
    StatementRefused,
    StatementTimeout,
    TransactionEnded,
    UnknownChecksum,
    UnknownMigration,
    ValidationFailed,
    VersionGap,
    WaveError,
    WorkerLost,
    local_time,
    printable,
)

PROFILE = settings(
    deadline=None, derandomize=True, max_examples=int(os.environ.get("WAVE_EXAMPLES", "100"))
)

SENTENCES: list[tuple[WaveError, str]] = [
    (
        ConfigError("WAVE_AUTO_MIGRATE", "maybe", "true, false"),
        "WAVE_AUTO_MIGRATE='maybe' is not valid; allowed: true, false",
    ),
    (
        MigrationsDisabled(),
        "migrations are switched off: WAVE_MIGRATION_ENABLED is false; set it to true",
    ),
    (
        HookFailed("litestream: connection refused"),
        "the hook before the run failed, nothing was changed: litestream: connection refused",
    ),
    (
        InvalidMigration(-1, "its version is not between 0 and 2^63 - 1"),
        "migration -1: its version is not between 0 and 2^63 - 1",
    ),
    (
        InvalidScript("migration 3, up script", 7, "a string that is never closed"),
        "migration 3, up script, line 7: a string that is never closed",
    ),
    (
        DuplicateVersion(2, ("Add a", "Add b")),
        "version 2 is used twice: 'Add a' and 'Add b'; renumber one",
    ),
    (
        VersionGap(3, 5),
        "migration 3 is missing before 5; versions are numbered without gaps",
    ),
    (
        InvalidFiles(("1_a.sql", "2_b'.sql"), "formats are mixed in one folder: single, goose"),
        "'1_a.sql', \"2_b'.sql\": formats are mixed in one folder: single, goose",
    ),
    (
        InvalidFiles(tuple("abcdefg"), "not in meta/_journal.json"),
        "'a', 'b', 'c', 'd', 'e' and 2 more: not in meta/_journal.json",
    ),
    (
        SourceNotFound("app:LIST", "ModuleNotFoundError: No module named 'app'"),
        "cannot load migrations from 'app:LIST': ModuleNotFoundError: No module named 'app'",
    ),
    (
        LockMismatch("db/migrations.lock", ("edited migration 1 (Add a)",)),
        (
            "db/migrations.lock does not fit: edited migration 1 (Add a); undo that, or record it: "
            "wave migrate lock"
        ),
    ),
    (
        LockMismatch("db/migrations.lock", ("missing migration 1 (Add a)", "...", "...")),
        (
            "db/migrations.lock does not fit: missing migration 1 (Add a) and 2 more; undo that, "
            "or record it: wave migrate lock"
        ),
    ),
    (
        NewerDatabase((6,), 5),
        (
            "the database is newer than this code: it has 6, this code knows migrations up to 5; "
            "deploy newer code, nothing was changed"
        ),
    ),
    (
        NewerDatabase((6, 7, 8), 5),
        (
            "the database is newer than this code: it has 6, 7 and 8, this code knows migrations "
            "up to 5; deploy newer code, nothing was changed"
        ),
    ),
    (
        UnknownMigration(3, "Add c"),
        (
            "migration 3 (Add c) is applied, but this code does not have it; bring it back, "
            "nothing was changed"
        ),
    ),
    (
        ChecksumMismatch(3, "abc123", "def456"),
        "migration 3 checksum mismatch: expected abc123, got def456",
    ),
    (
        UnknownChecksum(3, "sha1-of-x"),
        (
            "migration 3 is recorded with a checksum of an unknown algorithm: 'sha1-of-x'; "
            "another tool or a newer release wrote it"
        ),
    ),
    (
        OutOfOrder(2, 4),
        (
            "migration 2 is pending below the applied 4; renumber it, or allow it with "
            "--out-of-order (allow_out_of_order=True)"
        ),
    ),
    (
        ForeignBookkeeping("it is a view"),
        (
            "schema_migrations is not ours: it is a view; another tool may own this database, "
            "nothing was changed. wave migrate import-history adopts dbmate's and golang-migrate's"
        ),
    ),
    (
        InvalidRecord(3, "applied_at", "yesterday"),
        (
            "schema_migrations, version 3: applied_at is 'yesterday'; the row is damaged, "
            "nothing was changed"
        ),
    ),
    (
        ValidationFailed((ChecksumMismatch(3, "abc123", "def456"),)),
        "migration validation failed: migration 3 checksum mismatch: expected abc123, got def456",
    ),
    (
        ValidationFailed((ChecksumMismatch(1, "a", "b"), ChecksumMismatch(2, "c", "d"))),
        (
            "migration validation failed: migration 1 checksum mismatch: expected a, got b; "
            "migration 2 checksum mismatch: expected c, got d"
        ),
    ),
    (
        AdoptionRefused((), 2, "table t3: missing"),
        (
            "the database has tables but no schema_migrations, and its schema fits no version; "
            "nearest is 2: table t3: missing; nothing was changed. "
            "If you know the version, say so: wave migrate baseline VERSION"
        ),
    ),
    (
        AdoptionRefused((2, 3), 2, ""),
        (
            "the database has tables but no schema_migrations, and its schema fits versions 2 and "
            "3 equally (data leaves no trace there); nothing was changed. "
            "If you know the version, say so: wave migrate baseline VERSION"
        ),
    ),
    (
        CascadeRefused("p", (("a", 1), ("b", 12345))),
        (
            "dropping p would delete or change the rows that refer to it: a (1 row(s)), "
            "b (12,345 row(s)); say foreign_keys=off to rebuild the table, cascade=allowed to lose "
            "the rows"
        ),
    ),
    (
        KeysViolated((("c", "p", 3), ("d", "q", 0))),
        "foreign keys are violated: c -> p (3 new), d -> q (no such table)",
    ),
    (
        SchemaDrifted(("table a: missing", "b", "c", "d", "e", "f")),
        "the schema is not what the migrations make: table a: missing; b; c; d; e and 1 more",
    ),
    (
        NotProven("version 3 cannot be recorded", ("table a: missing",)),
        (
            "version 3 cannot be recorded: table a: missing; nothing was changed. "
            "To record it all the same, on your word, say --force (force=True)"
        ),
    ),
    (InvalidTarget(-1, "below 0"), "target version -1 is below 0"),
    (
        Irreversible(4, "Merge users"),
        (
            "migration 4 (Merge users) cannot be rolled back: it has no down script; "
            "nothing was changed"
        ),
    ),
    (
        PlanChanged(4, 5),
        (
            "the rollback stopped before migration 4: somebody else migrated meanwhile, "
            "migration 5 is the newest now; look at the status and try again"
        ),
    ),
    (
        PlanChanged(4, None),
        (
            "the rollback stopped before migration 4: somebody else migrated meanwhile, "
            "nothing is the newest now; look at the status and try again"
        ),
    ),
    (
        SnapshotNotFound(None, "/x/snapshots"),
        "there is no snapshot in /x/snapshots; `wave migrate snapshots` lists them",
    ),
    (
        SnapshotNotFound("a.db", "/x/snapshots"),
        "there is no snapshot 'a.db' in /x/snapshots; `wave migrate snapshots` lists them",
    ),
    (
        ConfirmationRequired("a rollback may lose data"),
        "a rollback may lose data and there is no terminal to ask on; say --yes",
    ),
    (
        ImportRefused("goose", "there is no table goose_db_version"),
        (
            "the history of goose cannot be imported: there is no table goose_db_version; "
            "nothing was changed"
        ),
    ),
    (
        NotAtomic(3, "it runs outside a transaction"),
        (
            "migration 3 cannot be in one transaction with the others: it runs outside a "
            "transaction; migrate up to it without --atomic"
        ),
    ),
    (
        RehearsalFailed("no such table: t"),
        "the rehearsal failed, nothing was changed: no such table: t",
    ),
    (
        MigrationFailed(3, "Add c", "up", 2, 9, "CREATE TABL c (x)", "near TABL: syntax error"),
        (
            "migration 3 (Add c) failed and was rolled back: up script, statement 2, line 9: "
            "CREATE TABL c (x): near TABL: syntax error"
        ),
    ),
    (
        MigrationFailed(3, "Add c", "down", None, None, "COMMIT", "disk full"),
        "migration 3 (Add c) failed and was rolled back: down script: COMMIT: disk full",
    ),
    (
        MigrationFailed(None, "the old schema", "up", 1, 1, "CREATE", "incomplete input"),
        (
            "the old schema failed and was rolled back: up script, statement 1, line 1: "
            "CREATE: incomplete input"
        ),
    ),
    (
        StatementRefused("COMMIT", "the engine owns the transaction"),
        "COMMIT is not allowed in a migration: the engine owns the transaction",
    ),
    (RebuildRefused("t", "it is a view"), "cannot rebuild t: it is a view"),
    (StatementTimeout(2.5), "it was ended after 2.5 s (statement_timeout)"),
    (
        TransactionEnded(),
        "the statement ended the migration's transaction (ROLLBACK as a conflict clause?)",
    ),
    (
        DatabaseLocked(60.0),
        "database is locked: another process has been using it for 60 s; try again when it is done",
    ),
    (
        ClusterUnreachable("dqlite://a:1/app", 60.0, "a:1: refused"),
        "no leader of dqlite://a:1/app has answered for 60 s: a:1: refused",
    ),
    (
        ClusterUnreachable("dqlite://a:1/app", 0.0, "a:1: refused"),
        "no leader of dqlite://a:1/app answers: a:1: refused",
    ),
    (
        LeadKept("a:1", "there is no other voter"),
        "a:1 still leads the cluster: there is no other voter",
    ),
    (
        DumpTooLarge("dqlite://a:1/app", 75_128_832, 67_108_864),
        (
            "dqlite://a:1/app has 75.1 MB, and a cluster hands out at most 67.1 MB, its log "
            "included; rehearse without rows"
        ),
    ),
    (
        ConnectionLost("dqlite://a:1/app", "closed", in_doubt=True),
        (
            "the connection to dqlite://a:1/app was lost: closed; the last COMMIT may have "
            "applied: run it again, it looks at the history first"
        ),
    ),
    (
        NoSpace("/x", 209_715_200, 1_000_000),
        (
            "no room for a copy in /x: it needs 209.7 MB, 1.0 MB are free; make space, or name "
            "another directory"
        ),
    ),
    (
        SnapshotFailed("/x/snapshots", "permission denied"),
        (
            "cannot take a snapshot in /x/snapshots: permission denied; nothing was changed. Name "
            "another directory with --snapshot-dir, or go without: --no-snapshot"
        ),
    ),
    (
        SnapshotUnusable("/x/a.db", "it is damaged: file is not a database"),
        (
            "cannot restore snapshot /x/a.db: it is damaged: file is not a database; nothing was "
            "changed"
        ),
    ),
    (FleetFailed(2, 9, "", 0), "2 of 9 file(s) failed"),
    (
        FleetFailed(2, 9, "its budget", 90),
        "2 of 9 file(s) failed; stopped by its budget, 90 not begun",
    ),
    (
        BatchLost("KilledWorker: ..."),
        "the batch that it was in was given up: KilledWorker: ...",
    ),
    (
        NotPortable("'app' cannot be imported there"),
        (
            "workers cannot be sent this: 'app' cannot be imported there; a function has to be at "
            "the top of a module that they can import"
        ),
    ),
    (
        WorkerLost(-9),
        "the process that had it ended with -9; what was not finished is undone",
    ),
    (
        DatabaseUnusable("/x/state.db", "it is a directory"),
        "cannot use database /x/state.db: it is a directory",
    ),
    (
        NeedsRecovery("/x/state.db", "a crashed writer left a journal"),
        "cannot use database /x/state.db: a crashed writer left a journal",
    ),
    (
        InvalidPath("file:x", "URIs are not supported"),
        "'file:x' is not a path of a database: URIs are not supported",
    ),
    (
        PoolDeadlock(),
        (
            "this task already holds the pool's connection (pool.acquire()) and would wait for "
            "itself; leave the block first"
        ),
    ),
    (
        MissingExtra("report", "No module named 'jinja2'"),
        "No module named 'jinja2'; install the extra: pip install \"wave-async[report]\"",
    ),
    (
        NotReplayed(5, 3),
        "the schema at version 5 is not known: migration 3 cannot be replayed without rows",
    ),
    (
        ReportNotWritten("/x/out.html", "permission denied"),
        "the report cannot be written to '/x/out.html': permission denied",
    ),
]

GROUPS = {"WaveError", "DefinitionError", "HistoryError", "PlanError", "DatabaseError", "PoolError"}


def classes() -> dict[str, type[WaveError]]:
    """Return every error of the package by its name."""
    found = vars(errors).values()
    return {c.__name__: c for c in found if isinstance(c, type) and issubclass(c, WaveError)}


def drawn_tree() -> dict[str, str]:
    """Return each class that the docstring draws, with the name of its parent."""
    parents, path = {}, ["Exception"]
    for line in (errors.__doc__ or "").splitlines():
        if drawn := re.match(r"([│├└─ ]*)(\w+)(?:  +\S|$)", line):
            depth = len(drawn[1]) // 4 + 1
            path[depth:] = [drawn[2]]
            parents[drawn[2]] = path[depth - 1]
    return parents


@pytest.mark.parametrize(("error", "sentence"), SENTENCES)
def test_sentence(error: WaveError, sentence: str) -> None:
    """Every error says what happened, to what, and what to do next, in these words."""
    assert sentence == str(error)


def test_every_error_has_its_sentence_here() -> None:
    """No error but the bare groups escapes the table of sentences."""
    assert classes().keys() - GROUPS == {type(error).__name__ for error, _ in SENTENCES}


def test_tree() -> None:
    """The tree that the docstring draws is the tree of the classes."""
    assert drawn_tree() == {name: c.__base__.__name__ for name, c in classes().items()}  # type: ignore[union-attr]


@pytest.mark.parametrize("error", [error for error, _ in SENTENCES])
def test_pickling(error: WaveError) -> None:
    """An error crosses to another process whole, with what was done before it."""
    error.done = (1, 2)

    copy = pickle.loads(pickle.dumps(error))

    assert (type(error), str(error), error.done) == (type(copy), str(copy), copy.done)


def test_built_by_keywords() -> None:
    """An error may be built by the names of its data, as the type checker allows."""
    error = VersionGap(missing=3, following=5)

    assert str(VersionGap(3, 5)) == str(pickle.loads(pickle.dumps(error)))


@pytest.mark.parametrize("values", [(), (3,), (3, 5, 7)])
def test_built_from_too_much_or_too_little(values: tuple[int, ...]) -> None:
    """An error that could not write its sentence cannot be built."""
    with pytest.raises((TypeError, ValueError)):
        VersionGap(*values)


@pytest.mark.parametrize(
    ("done", "ending"),
    [
        ((), "target version -1 is below 0"),
        ((4,), "target version -1 is below 0 (before that, done for good: 4)"),
        ((4, 5), "target version -1 is below 0 (before that, done for good: 4 and 5)"),
        ((4, 5, 6), "target version -1 is below 0 (before that, done for good: 4, 5 and 6)"),
    ],
)
def test_done(done: tuple[int, ...], ending: str) -> None:
    """A failed run says what stays applied."""
    error = InvalidTarget(-1, "below 0")
    error.done = done

    assert ending == str(error)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("Añadir 表 🌊", "Añadir 表 🌊"),
        ("two\nlines\r\n\ttab", r"two\nlines\r\n\ttab"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x00\x7f\x9b", r"\x00\x7f\x9b"),
        ("user\u202etxt.exe", r"user\u202etxt.exe"),
        ("\u2066a\u2069\u200b\ufeff", r"\u2066a\u2069\u200b\ufeff"),
        ("one\u2028two\u2029", r"one\u2028two\u2029"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("x" * 300, "x" * 300),
        ("x" * 301, "x" * 300 + "..."),
    ],
)
def test_printable(text: str, shown: str) -> None:
    """Foreign text cannot move the cursor, turn the line around or fill the screen."""
    assert shown == printable(text)


@PROFILE
@given(st.text(), st.integers(0, 20))
def test_printable_always_is(text: str, longest: int) -> None:
    """Whatever the text, one printable line of bounded length comes out."""
    shown = printable(text, longest)

    assert shown.isprintable()
    assert len(shown) <= len(r"\U00000000") * longest + len("...")


@pytest.mark.parametrize(
    "error",
    [
        DatabaseUnusable("/x/\x1b[2J.db", "it is a directory"),
        StatementRefused("\x1b[2J", "it is not"),
        ForeignBookkeeping("a table of other columns (\x1b[2J)"),
        ValidationFailed((UnknownMigration(3, "\x1b[2J"),)),
        MigrationFailed(3, "d", "up", 1, 1, "SELECT '\x1b[2J", "no such table: \x1b[2J"),
    ],
)
def test_foreign_text_in_a_sentence(error: WaveError) -> None:
    """A name from the database or the code cannot drive the terminal through any error."""
    assert str(error).isprintable()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            ConfigError("WAVE_AUTO_MIGRATE", "a\nb", "true"),
            r"WAVE_AUTO_MIGRATE='a\nb' is not valid; allowed: true",
        ),
        (
            DuplicateVersion(2, ("a\tb", "c")),
            r"version 2 is used twice: 'a\tb' and 'c'; renumber one",
        ),
    ],
)
def test_foreign_text_is_escaped_once(error: WaveError, sentence: str) -> None:
    """A control character in quoted foreign text is shown with one backslash."""
    assert sentence == str(error)


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Where a test may set TZ and call time.tzset()."""
    yield monkeypatch
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("name", "seconds", "shown"),
    [
        ("UTC0", 0, "1970-01-01 00:00:00"),
        ("UTC0", 1770131669, "2026-02-03 15:14:29"),
        ("EAST-2", 1770131669, "2026-02-03 17:14:29"),
        ("UTC0", 253402300799, "9999-12-31 23:59:59"),
    ],
)
def test_local_time(zone: pytest.MonkeyPatch, name: str, seconds: int, shown: str) -> None:
    """Times are shown in the zone of the reader, to the second."""
    zone.setenv("TZ", name)
    time.tzset()

    assert shown == local_time(seconds)


def test_local_time_of_the_last_second(zone: pytest.MonkeyPatch) -> None:
    """The latest time that the history may hold can be shown east of Greenwich, too."""
    zone.setenv("TZ", "EAST-2")
    time.tzset()

    assert local_time(253402300799)
