"""What a statement does by its own words, where no authorizer can be asked."""

from __future__ import annotations

import pytest

from wave_async.database import words
from wave_async.errors import StatementRefused

COLUMNS = [("id", "INTEGER"), ("ok", "BOOLEAN"), ("at", "DATETIME")]


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("BEGIN", "BEGIN"),
        ("/* now */ COMMIT", "COMMIT"),
        ("end transaction", "COMMIT"),
        ("ROLLBACK TO a", "ROLLBACK"),
        ("SAVEPOINT a", "SAVEPOINT"),
        ("RELEASE a", "SAVEPOINT"),
        ("ATTACH 'a.db' AS a", "ATTACH"),
        ("DETACH a", "DETACH"),
        ("PRAGMA foreign_keys = OFF", "PRAGMA foreign_keys"),
        ("PRAGMA main.synchronous(1)", "PRAGMA synchronous"),
        ("DELETE FROM schema_migrations", "writing, changing or shadowing schema_migrations"),
        ("DELETE FROM 'schema_migrations'", "writing, changing or shadowing schema_migrations"),
        ('DROP TABLE "Schema_Migrations"', "writing, changing or shadowing schema_migrations"),
        (
            "WITH a AS (SELECT 1) UPDATE [schema_migrations_log] SET pid = 1",
            "writing, changing or shadowing schema_migrations",
        ),
    ],
)
def test_the_guard_reads(sql: str, what: str) -> None:
    """What SQLite would ask an authorizer is read off the words, and refused with its reason."""
    with pytest.raises(StatementRefused) as caught:
        words.refuse(sql)

    assert what == caught.value.what


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE a (begin TEXT DEFAULT 'COMMIT')",
        "INSERT INTO a VALUES ('schema_migrations')",
        "SELECT * FROM schema_migrations",
        "PRAGMA user_version = 5",
        "CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM b; END",
        "",
    ],
)
def test_the_guard_lets_pass(sql: str) -> None:
    """A word in a string, in a name or inside of a trigger is not what a statement does."""
    words.refuse(sql)
    words.refuse_deadly(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t (ok) VALUES (1) RETURNING id",
        "WITH a AS (SELECT 1) DELETE FROM t RETURNING *",
        "PRAGMA journal_mode",
        "PRAGMA main.page_size = 8192",
        "CREATE TABLE a (ok BOOLEAN NOT NULL DEFAULT 'yes')",
        "ALTER TABLE t ADD COLUMN then TIMESTAMP DEFAULT 1.5",
    ],
)
def test_what_can_end_a_node(sql: str) -> None:
    """What a node cannot send back is refused, with the reason."""
    with pytest.raises(StatementRefused, match="a node of a cluster cannot answer it"):
        words.refuse_deadly(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (1, 'yes', 1)",
        "INSERT INTO t VALUES (1, 0, 1), (2, 'yes', 1)",
        "INSERT OR IGNORE INTO main.t (at, ok) VALUES (lower('x, y'), 'no')",
        "REPLACE INTO t (id, at) VALUES (1, -1.5)",
        "UPDATE t SET id = 2, ok = 'yes' WHERE id = 1",
        "UPDATE t SET at = 1e3",
        "UPDATE t SET ok = 1.5",
        "INSERT INTO t VALUES (1, x'00', 1)",
        "INSERT INTO t VALUES (1, NULL, '1.5')",
        "INSERT INTO t VALUES (1, NULL, 99999999999999999999)",
    ],
)
def test_values_that_can_end_a_node(sql: str) -> None:
    """A plain value that a column's type makes deadly is refused before it is written."""
    ((table, values),) = words.written(sql)

    assert "t" == table
    with pytest.raises(StatementRefused):
        words.refuse_values(COLUMNS, values)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (1, 1, '2026-01-01')",
        "INSERT INTO t VALUES (1, TRUE, 0x10, 'one too many')",
        "INSERT INTO t VALUES (1, '1', '2026')",
        "INSERT INTO t (id, ok) SELECT 1, 'unseen'",
        "INSERT INTO t DEFAULT VALUES",
        "UPDATE t SET ok = 'a' || 'b' WHERE id = 1.5",
        "UPDATE t SET at = '2026-01-01'",
        "DELETE FROM t WHERE ok = 'yes'",
        "SELECT 'yes'",
    ],
)
def test_values_that_pass(sql: str) -> None:
    """Values of the right kind pass, and so does what only the database could tell."""
    for _, values in words.written(sql):
        words.refuse_values(COLUMNS, values)


@pytest.mark.parametrize(
    ("sql", "hides"),
    [
        ("INSERT INTO t VALUES (1, NULL, '2026-01-01'), (+2, x'00', FALSE)", False),
        ("CREATE TABLE t (a)", False),
        ("SELECT * FROM t", False),
        ("INSERT INTO t VALUES (1, lower('YES'), 1)", True),
        ("INSERT INTO t VALUES (1, 0, CURRENT_TIMESTAMP)", True),
        ("INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET ok = 'yes'", True),
        ("INSERT INTO t SELECT * FROM (VALUES (1))", True),
        ("INSERT INTO t DEFAULT VALUES", True),
        ("WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a", True),
        ("WITH a AS (VALUES (1)) INSERT INTO t VALUES (2, lower('YES'), 1)", True),
        ("INSERT OR IGNORE INTO t VALUES (1) ON CONFLICT DO NOTHING", False),
        ("UPDATE t SET ok = other", True),
        ("UPDATE t SET ok = lower('YES'), id = 2 WHERE id IN (VALUES (1))", True),
        ("DELETE FROM t", True),
        ("ALTER TABLE t ADD COLUMN is BOOLEAN AS (id)", True),
    ],
)
def test_what_hides_values(sql: str, *, hides: bool) -> None:
    """Only an INSERT of plain values shows all that it writes."""
    assert hides is words.hides(sql)


def test_more_unreadable_cells_than_before() -> None:
    """A cell that was there already is nobody's fault, and one that moves is none more."""
    ok, at = ("t", "ok", "BOOLEAN"), ("t", "at", "DATE")
    words.refuse_written({ok: 1, at: 0}, {ok: 1, at: 0})
    words.refuse_written({ok: 1}, {at: 1})

    with pytest.raises(StatementRefused, match=r"a float or a blob in a DATE column \(t.at\)"):
        words.refuse_written({ok: 1, at: 0}, {ok: 1, at: 2})


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("DROP TABLE t", ["t"]),
        ('drop table if exists main."My ""T"""', ['my "t"']),
        ("DROP INDEX t", []),
        ("ALTER TABLE t DROP COLUMN a", []),
        ("", []),
    ],
)
def test_dropped_tables(sql: str, tables: list[str]) -> None:
    """What would be dropped is read off the statement."""
    assert tables == words.dropped(sql)


@pytest.mark.parametrize(
    ("sql", "sent", "asks"),
    [
        ("SELECT * FROM t", "SELECT count(*) FROM (SELECT * FROM t)", True),
        ("WITH a AS (VALUES (1)) SELECT * FROM a", None, True),
        ("WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a", None, False),
        ("PRAGMA table_info(t)", None, True),
        ("PRAGMA user_version = 1", None, False),
        ("CREATE TABLE t AS SELECT 1", None, False),
    ],
)
def test_how_it_is_sent(sql: str, sent: str | None, *, asks: bool) -> None:
    """A statement that answers rows is sent as a question, which answers only how many."""
    if sent is not None:
        assert sent == words.sent(sql)

    assert asks is words.answers(words.sent(sql))
