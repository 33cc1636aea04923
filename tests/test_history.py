from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from wave_async import AppliedMigration, SingleConnectionPool
from wave_async.database import history
from wave_async.database.history import History
from wave_async.errors import ForeignBookkeeping, InvalidRecord

TRIGGER = "CREATE TRIGGER schema_migrations AFTER INSERT ON t BEGIN SELECT 1; END"
UNTYPED = "CREATE TABLE schema_migrations (version, description, applied_at, checksum)"


def make(path: Path, *statements: str) -> None:
    """Make a database with another tool."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for sql in statements:
            connection.execute(sql)


def bytes_of(path: Path) -> bytes:
    """Return what a file holds."""
    return path.read_bytes()


@pytest.mark.parametrize(
    ("statements", "populated"),
    [
        ([], False),
        (["CREATE TABLE t (x INTEGER PRIMARY KEY AUTOINCREMENT)"], True),
        (["CREATE VIEW v AS SELECT 1"], False),
        (["CREATE TABLE sqlitestore (x)"], True),
        (["CREATE TABLE t (x)", "ANALYZE", "DROP TABLE t"], False),
        (
            [
                "CREATE TABLE t (x)",
                TRIGGER,
            ],
            True,
        ),
    ],
)
async def test_a_database_without_bookkeeping_is_untracked(
    pool: SingleConnectionPool, path: Path, statements: list[str], *, populated: bool
) -> None:
    """Without schema_migrations nothing is applied, and tables of anybody's are told."""
    make(path, *statements)

    assert History(tracked=False, populated=populated) == await pool.ask(history.read)


@pytest.mark.parametrize(
    "create",
    [
        history.CREATE,
        history.CREATE.lower(),
        history.CREATE.replace("main.schema_migrations", '"Schema_Migrations"'),
        history.CREATE + " STRICT",
    ],
)
async def test_our_bookkeeping_is_accepted(
    pool: SingleConnectionPool, path: Path, create: str
) -> None:
    """Our table is ours in any letter case, strict or not, and is read by version."""
    make(
        path,
        create,
        "INSERT INTO schema_migrations VALUES (2, 'b', 20, 'w1:y'), (0, '', 0, 'w1:x')",
    )
    rows = (AppliedMigration(0, "", 0, "w1:x"), AppliedMigration(2, "b", 20, "w1:y"))

    assert History(tracked=True, applied=rows) == await pool.ask(history.read)


@pytest.mark.parametrize(
    ("statements", "found"),
    [
        (["CREATE VIEW schema_migrations AS SELECT 1"], "it is a view"),
        (["CREATE TABLE t (x)", "CREATE INDEX schema_migrations ON t (x)"], "it is an index"),
        (["CREATE TABLE t (x)", "CREATE INDEX SCHEMA_MIGRATIONS ON t (x)"], "it is an index"),
        (
            ["CREATE TABLE schema_migrations (version VARCHAR)"],
            r"other columns \(version VARCHAR\)",
        ),
        ([UNTYPED], r"\(version, description, applied_at, checksum\)"),
        (["CREATE VIRTUAL TABLE schema_migrations USING fts5(version)"], "other columns"),
        ([history.CREATE.replace("INTEGER PRIMARY", "TEXT PRIMARY")], "version TEXT"),
        ([history.CREATE.replace("TEXT NOT NULL", "TEXT", 1)], "other columns"),
        ([history.CREATE, "ALTER TABLE schema_migrations ADD COLUMN dirty"], "dirty"),
        ([history.CREATE, "ALTER TABLE schema_migrations ADD d AS (version)"], "d"),
        ([history.CREATE, "ALTER TABLE schema_migrations RENAME checksum TO hash"], "hash TEXT"),
        ([history.CREATE + " WITHOUT ROWID"], "other columns"),
    ],
)
async def test_somebody_elses_bookkeeping_is_refused(
    pool: SingleConnectionPool, path: Path, statements: list[str], found: str
) -> None:
    """Whatever else has the name schema_migrations is refused and left as it is."""
    make(path, *statements)
    before = bytes_of(path)

    with pytest.raises(ForeignBookkeeping, match=found):
        await pool.ask(history.read)

    assert before == bytes_of(path)


@pytest.mark.parametrize(
    ("row", "version", "column"),
    [
        ("-1, 'd', 1, 'w1:x'", -1, "version"),
        ("1, x'ff', 1, 'w1:x'", 1, "description"),
        ("1, 'd', 'yesterday', 'w1:x'", 1, "applied_at"),
        ("1, 'd', 1.5, 'w1:x'", 1, "applied_at"),
        ("1, 'd', x'00', 'w1:x'", 1, "applied_at"),
        ("1, 'd', -1, 'w1:x'", 1, "applied_at"),
        ("1, 'd', 253402300800, 'w1:x'", 1, "applied_at"),
        ("1, 'd', 9223372036854775807, 'w1:x'", 1, "applied_at"),
        ("1, 'd', 1, x'00'", 1, "checksum"),
    ],
)
async def test_a_damaged_row_is_refused(
    pool: SingleConnectionPool, path: Path, row: str, version: int, column: str
) -> None:
    """A row that the engine never writes is refused; the error names its version and column."""
    make(path, history.CREATE, f"INSERT INTO schema_migrations VALUES ({row})")

    with pytest.raises(InvalidRecord, match=column) as refused:
        await pool.ask(history.read)

    assert (version, column) == (refused.value.version, refused.value.column)


@pytest.mark.parametrize("applied_at", [0, 253_402_300_799])
async def test_a_row_at_the_edge_is_accepted(
    pool: SingleConnectionPool, path: Path, applied_at: int
) -> None:
    """The largest version and the years 1970 to 9999 are all right."""
    row = f"{2**63 - 1}, '\N{SNOWMAN}', {applied_at}, ''"
    make(path, history.CREATE, f"INSERT INTO schema_migrations VALUES ({row})")

    assert (AppliedMigration(2**63 - 1, "\N{SNOWMAN}", applied_at, ""),) == (
        await pool.ask(history.read)
    ).applied


async def test_a_temporary_table_does_not_shadow_the_bookkeeping(
    pool: SingleConnectionPool,
) -> None:
    """A TEMP table of the name is not taken for the bookkeeping."""
    async with pool.acquire() as connection:
        await connection.execute(history.CREATE)
        await connection.execute(UNTYPED.replace("TABLE", "TEMP TABLE"))

    assert History(tracked=True) == await pool.ask(history.read)


async def test_the_stamp_moves_with_every_write(pool: SingleConnectionPool, path: Path) -> None:
    """An own write, a foreign one and a change of the schema each give another stamp."""
    stamps = []
    async with pool.acquire() as connection:
        stamps.append(await connection.execute_fetchall(history.STAMP))
        await connection.execute("CREATE TABLE t (x)")
        stamps.append(await connection.execute_fetchall(history.STAMP))
        await connection.execute("INSERT INTO t VALUES (1)")
        stamps.append(await connection.execute_fetchall(history.STAMP))
        make(path, "INSERT INTO t VALUES (1)")
        stamps.append(await connection.execute_fetchall(history.STAMP))
        last = await connection.execute_fetchall(history.STAMP)

    assert len({str([*stamp]) for stamp in stamps}) == 4
    assert stamps[-1] == last
