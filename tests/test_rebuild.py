from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_errors import PROFILE

from wave_async import rebuild_table
from wave_async.database.guard import Guard
from wave_async.errors import RebuildRefused


@contextmanager
def database(script: str = "", keys: int = 0) -> Iterator[sqlite3.Connection]:
    """A database that a script made."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(f"{script}; PRAGMA foreign_keys = {keys}")
        yield connection


@contextmanager
def migrating(connection: sqlite3.Connection) -> Iterator[None]:
    """Do what the engine does around a step in Python: one transaction, under the guard."""
    connection.execute("BEGIN IMMEDIATE")
    connection.set_authorizer(Guard())
    try:
        yield
    except BaseException:
        connection.set_authorizer(None)
        connection.rollback()
        raise
    connection.set_authorizer(None)
    connection.commit()


def rebuild(connection: sqlite3.Connection, table: str, new_sql: str, **columns: str) -> None:
    """Rebuild a table as a step of a migration does."""
    with migrating(connection):
        rebuild_table(connection, table, new_sql, columns or None)


def content(connection: sqlite3.Connection) -> dict[str, Any]:
    """All that a database holds: its schema, its rows with their rowids, what its views show."""
    found: dict[str, Any] = {}
    for database in ("main", "temp"):
        schema = f"SELECT type, name, tbl_name, sql FROM {database}.sqlite_schema ORDER BY 1, 2"
        for kind, name, on, sql in connection.execute(schema).fetchall():
            spelled = (sql or "").replace(f'CREATE TABLE "{name}"', f"CREATE TABLE {name}")
            found[f"{database} {kind} {name}"] = on, " ".join(spelled.split())
            if kind in {"table", "view"} and name != "sqlite_sequence":
                found[f"rows of {database} {name}"] = rows(connection, f'{database}."{name}"')
    if "main table sqlite_sequence" in found:  # a counter at 0 is none
        counters = connection.execute("SELECT * FROM sqlite_sequence WHERE seq ORDER BY 1")
        found["counters"] = counters.fetchall()
    return found


def rows(connection: sqlite3.Connection, table: str) -> list[Any]:
    """The rows of a table or view, exactly, with the rowids that it has; or why there are none."""
    reason = ""
    for columns in ("rowid, *", "*"):
        try:
            return sorted(map(repr, connection.execute(f"SELECT {columns} FROM {table}")))
        except sqlite3.OperationalError as error:
            reason = str(error)
    return [reason]


ROWS = "INSERT INTO t (id, a, b) VALUES (5, 'x', 1), (2, 'y', 2), (9, 'z', NULL);"
TABLE = "(id INTEGER PRIMARY KEY, a TEXT, b)"
WIDER = "(id INTEGER PRIMARY KEY, a TEXT NOT NULL, b, c DEFAULT 'd', CHECK (b > 0))"
TRIGGERS = """CREATE TABLE log (n INTEGER PRIMARY KEY, x);
CREATE TRIGGER r AFTER UPDATE OF a ON t BEGIN INSERT INTO log (x) VALUES ('r'); END;
CREATE TRIGGER q AFTER UPDATE ON t BEGIN INSERT INTO log (x) VALUES ('q'); END;"""
VIEWS = """CREATE VIEW v AS SELECT a, t.b FROM t; CREATE VIEW w AS SELECT max(b) AS m FROM v;
CREATE TRIGGER r INSTEAD OF INSERT ON v BEGIN INSERT INTO t (a) VALUES (new.a); END"""
OTHERS = """CREATE TABLE o (x);
CREATE TRIGGER r AFTER DELETE ON o BEGIN UPDATE t SET b = old.x WHERE a IN (SELECT x FROM o); END;
CREATE TABLE q (x); CREATE TRIGGER broken AFTER DELETE ON q BEGIN DELETE FROM no; END;"""
CHILDREN = """CREATE TABLE o (x REFERENCES t ON DELETE CASCADE, y REFERENCES T (id));
INSERT INTO o VALUES (5, 2), (2, 2), (9, NULL);"""
COUNTING = "(id INTEGER PRIMARY KEY AUTOINCREMENT, a, b)"
COUNTED = "INSERT INTO t (id) VALUES (99); DELETE FROM t WHERE id = 99;"
CARRIED = {
    "an index": (TABLE, WIDER, "CREATE INDEX i ON t (a)"),
    "a quoted index": (TABLE, WIDER, 'CREATE INDEX "i ""j" ON "t" ("a")'),
    "a unique index": (TABLE, WIDER, "CREATE UNIQUE INDEX IF NOT EXISTS main.i ON t (b)"),
    "a partial index": (TABLE, WIDER, "CREATE INDEX i ON t (a) WHERE b IS NOT NULL"),
    "an index on an expression": (TABLE, WIDER, "CREATE INDEX i ON t (lower(a) DESC, b)"),
    "an index with an odd text": (TABLE, WIDER, 'CREATE INDEX i ON t (a) WHERE a = "gone"'),
    "triggers": (TABLE, WIDER, TRIGGERS),
    "triggers of others": (TABLE, WIDER, OTHERS),
    "views": (TABLE, WIDER, VIEWS),
    "a counter": (COUNTING, COUNTING.replace("b", "b, c"), COUNTED),
    "a counter without rows": (COUNTING, COUNTING.replace("b", "b, c"), "DELETE FROM t"),
    "a new counter": (TABLE, COUNTING, f"CREATE TABLE o {COUNTING}"),
    "no counter": (COUNTING, TABLE, f"CREATE TABLE o {COUNTING}; {COUNTED}"),
    "rowids": ("(id, a, b)", "(a UNIQUE, b, id)", "DELETE FROM t WHERE id = 2"),
    "rowids of other names": ("(id, a, b, rowid)", "(id, a, b, oid)", "DELETE FROM t WHERE id = 5"),
    "rowids beside a key": (
        "(id INTEGER PRIMARY KEY DESC, a, b)",
        "(id INTEGER PRIMARY KEY DESC, a, b, c)",
        "DELETE FROM t WHERE id = 5",
    ),
    "generated columns": (
        "(id INTEGER PRIMARY KEY, a, b, g AS (b + 1))",
        "(id INTEGER PRIMARY KEY, a, b, g AS (b + 1) STORED, h AS (g * 2))",
        "CREATE INDEX i ON t (g)",
    ),
    "WITHOUT ROWID, STRICT": (
        "(id INTEGER PRIMARY KEY, a, b) WITHOUT ROWID",
        "(id INTEGER, a ANY, b ANY, c ANY, PRIMARY KEY (a, id)) WITHOUT ROWID, STRICT",
        "CREATE INDEX i ON t (b)",
    ),
    "a reference of its own": (
        "(id INTEGER PRIMARY KEY, a, b REFERENCES t (id) ON DELETE CASCADE)",
        "(id INTEGER PRIMARY KEY, a, b REFERENCES t ON DELETE CASCADE, c)",
        "",
    ),
    "references": (TABLE, WIDER, CHILDREN),
    "statistics": (TABLE, TABLE.replace("b", "b, c"), "CREATE INDEX i ON t (a, b); ANALYZE"),
    "a TEMP table of its name": (TABLE, WIDER, "CREATE INDEX i ON t (a); CREATE TEMP TABLE t (a)"),
    "a TEMP trigger": (
        TABLE,
        WIDER,
        "CREATE TEMP TRIGGER r AFTER INSERT ON main.t BEGIN SELECT 1; END",
    ),
}


@pytest.mark.parametrize(("old", "new", "rest"), CARRIED.values(), ids=CARRIED)
def test_only_the_table_changes(old: str, new: str, rest: str) -> None:
    """A rebuilt database is one in which the table had its new definition all the time."""
    script = f"{{}}; {ROWS} {rest}"
    with (
        database(script.format(f"CREATE TABLE t {old}")) as connection,
        database(script.format(f"CREATE TABLE t {new}")) as wanted,
    ):
        rebuild(connection, "t", f"CREATE TABLE t {new}")
        assert content(wanted) == content(connection)
        assert [(0,)] == connection.execute("PRAGMA legacy_alter_table").fetchall()


def test_triggers_fire_in_the_order_they_had() -> None:
    """SQLite fires triggers in an undefined order, which a rebuild does not change."""
    old, new, rest = CARRIED["triggers"]
    with database(f"CREATE TABLE t {old}; {ROWS} {rest}; UPDATE t SET a = 1") as connection:
        before = connection.execute("SELECT x FROM log ORDER BY n").fetchall()
        rebuild(connection, "t", f"CREATE TABLE t {new}")
        connection.executescript("DELETE FROM log; UPDATE t SET a = 2")
        assert before == connection.execute("SELECT x FROM log ORDER BY n").fetchall()


@pytest.mark.parametrize("row_factory", [None, sqlite3.Row, lambda *_: None])
@pytest.mark.parametrize("text_factory", [str, bytes])
@pytest.mark.parametrize("isolation_level", [None, "", "IMMEDIATE"])
@pytest.mark.parametrize("legacy", [0, 1])
def test_any_connection(
    row_factory: Any, text_factory: Any, isolation_level: Any, legacy: int
) -> None:
    """A rebuild works on connections of all settings, keeps them, and leaves the end to others."""
    with database(f"CREATE TABLE t {TABLE}; {ROWS} CREATE INDEX i ON t (a)") as connection:
        connection.execute(f"PRAGMA legacy_alter_table = {legacy}")
        connection.isolation_level = isolation_level
        connection.row_factory, connection.text_factory = row_factory, text_factory
        before = connection.execute("BEGIN")
        rebuild_table(connection, "t", f"CREATE TABLE t {WIDER}")
        assert connection.in_transaction
        assert (row_factory, text_factory) == (connection.row_factory, connection.text_factory)
        connection.row_factory, connection.text_factory = None, str
        assert [(legacy,)] == connection.execute("PRAGMA legacy_alter_table").fetchall()
        assert [(3,)] == connection.execute("SELECT count(c) FROM t").fetchall()
        connection.rollback()
        assert 3 == len(connection.execute("PRAGMA table_info(t)").fetchall())
        del before


FAMILY = """
CREATE TABLE p (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT); CREATE INDEX i ON p (name);
CREATE TABLE c (p REFERENCES p (id) ON DELETE CASCADE); CREATE VIEW v AS SELECT name FROM p;
CREATE TRIGGER r AFTER INSERT ON c BEGIN UPDATE p SET name = name WHERE id = new.p; END;
WITH n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
INSERT INTO c SELECT i % 100 FROM n; INSERT INTO p SELECT DISTINCT p, 'p' || p FROM c;
"""


def test_a_parent_of_many_rows() -> None:
    """With foreign keys off, 10,000 children keep their parents, and all that hangs on these."""
    with database(FAMILY) as connection:
        before = content(connection)
        rebuild(
            connection,
            "p",
            "CREATE TABLE p (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE)",
        )
        after = content(connection)
        new = {"main table p", "main index sqlite_autoindex_p_1"}
        assert new == {key for key in after if after[key] != before.get(key)}
        assert [] == connection.execute("PRAGMA foreign_key_check").fetchall()
        assert 10_000 == len(after["rows of main c"])


@pytest.mark.parametrize(
    ("old", "new", "columns", "wanted"),
    [
        ("(a, b)", "(b, a)", {}, [(2, 1), (4, 3)]),
        ("(a, b)", "(a, c)", {"c": "b * 10"}, [(1, 20), (3, 40)]),
        ("(a, b)", "(a, c)", {"C": "t.b -- the old one"}, [(1, 2), (3, 4)]),
        ("(a, b)", "(A TEXT, b)", {"a": "'v' || a"}, [("v1", 2), ("v3", 4)]),
        ("(a, b)", "(a, n NOT NULL DEFAULT 7)", {}, [(1, 7), (3, 7)]),
        ("(a, b)", "(n INTEGER PRIMARY KEY, a)", {}, [(1, 1), (2, 3)]),
        ("(a, b)", "(n INTEGER PRIMARY KEY, a)", {"n": "a * 2"}, [(2, 1), (6, 3)]),
        ("(a, b, c AS (a + b))", "(c, d AS (c))", {}, [(3, 3), (7, 7)]),
        ("(a, b, PRIMARY KEY (b DESC)) WITHOUT ROWID", "(a, b)", {}, [(3, 4), (1, 2)]),
        ("(a, b, [x y] DEFAULT 5)", "([x y], [z\"'] DEFAULT 6)", {}, [(5, 6), (5, 6)]),
    ],
)
def test_columns(old: str, new: str, columns: dict[str, str], wanted: list[Any]) -> None:
    """A column is copied by its name, or computed from the old row, or has its default."""
    with database(
        f"CREATE TABLE t {old}; INSERT INTO t (a, b) VALUES (1, 2), (3, 4)"
    ) as connection:
        rebuild(connection, "t", f"CREATE TABLE t {new}", **columns)
        assert wanted == connection.execute("SELECT * FROM t").fetchall()


@pytest.mark.parametrize(
    "new_sql",
    [
        "create table T (a)",
        'CREATE TABLE"t"(a)',
        "CREATE TABLE IF NOT EXISTS [main] . `t` (a);",
        "-- CREATE TABLE x (\n/* ( ** ; */ CREATE\tTABLE/**/main.'t'--\n(a) -- end",
    ],
)
def test_spellings_of_the_definition(new_sql: str) -> None:
    """The name may be written in all ways that SQLite knows."""
    with database("CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 2)") as connection:
        rebuild(connection, "T", new_sql)
        assert [(1,)] == connection.execute("SELECT * FROM t").fetchall()
        assert [("t",)] == connection.execute("SELECT name FROM sqlite_schema").fetchall()


def test_odd_names() -> None:
    """Names that need quotes are in no SQL without them."""
    script = """CREATE TABLE "a ""b" ("c ""d" UNIQUE); INSERT INTO "a ""b" VALUES (1);
    CREATE VIEW "v ""w" AS SELECT * FROM [a "b]; CREATE INDEX "i ""j" ON "a ""b" ("c ""d");
    CREATE TRIGGER "t ""r" AFTER UPDATE OF "c ""d" ON "a ""b" BEGIN SELECT 1; END"""
    with database(script) as connection:
        before = content(connection)
        rebuild(connection, 'a "b', 'CREATE TABLE `A "b` ("c ""d" UNIQUE, e)')
        assert before.keys() == content(connection).keys()
        with pytest.raises(RebuildRefused, match=r'no such column: "c ""d"'):
            rebuild(connection, 'a "b', 'CREATE TABLE "a ""b" (e)')


def test_the_temporary_name_is_nobody_elses() -> None:
    """Whatever names the schema holds, none is in the way."""
    script = "CREATE TABLE t (a); CREATE TABLE _REBUILT_0_ (x); CREATE INDEX _rebuilt_1_ ON t (a)"
    with database(script) as connection:
        before = content(connection)
        rebuild(connection, "t", "CREATE TABLE t (a)")
        assert before.keys() == content(connection).keys()


SCHEMA = """
CREATE TABLE t (id INTEGER PRIMARY KEY, a, gone); INSERT INTO t VALUES (1, 2, 3), (2, 2, 4);
CREATE TABLE o (x); CREATE VIEW v AS SELECT a FROM t; CREATE TABLE schema_migrations (version);
CREATE VIRTUAL TABLE f USING fts5 (x); CREATE TEMP TABLE temporary (x);
CREATE TABLE s (i INTEGER PRIMARY KEY AUTOINCREMENT);
"""
GOOD = "CREATE TABLE t (id INTEGER PRIMARY KEY, a)"


@pytest.mark.parametrize(
    ("table", "new_sql", "problem"),
    [
        ("no", "CREATE TABLE no (x)", "there is no such table"),
        ("", "CREATE TABLE t (x)", "there is no such table"),
        ("temporary", "CREATE TABLE temporary (x)", "there is no such table"),
        ("v", "CREATE TABLE v (a)", "it is a view"),
        ("f", "CREATE TABLE f (x)", "it is a virtual table"),
        ("f_data", "CREATE TABLE f_data (x)", "it is a part of a virtual table"),
        ("sqlite_sequence", "CREATE TABLE sqlite_sequence (x)", "it is not the application's own"),
        ("Schema_Migrations", "CREATE TABLE x (x)", "it is not the application's own"),
        ("t", "", "the new definition is not CREATE TABLE name (...)"),
        ("t", "DROP TABLE t", "the new definition is not CREATE TABLE name (...)"),
        ("t", "CREATE TABLE t AS SELECT 1", "the new definition is not CREATE TABLE name (...)"),
        ("t", "CREATE TEMP TABLE t (x)", "the new definition is not CREATE TABLE name (...)"),
        ("t", "/* CREATE TABLE t ( */", "the new definition is not CREATE TABLE name (...)"),
        ("t", "CREATE TABLE o (id)", "the new definition is of another table: o"),
        ("t", "CREATE TABLE temp.t (id)", "the new definition is in another database: temp"),
        ("t", "CREATE TABLE t (x)", "no column of the new definition is in the old one"),
    ],
)  # fmt: skip
def test_refused(table: str, new_sql: str, problem: str) -> None:
    """What is no table of the application, or no definition of it, is refused."""
    with database(SCHEMA) as connection:
        before = content(connection)
        with pytest.raises(RebuildRefused) as caught:
            rebuild(connection, table, new_sql)
        assert (table, problem) == (caught.value.table, caught.value.problem)
        assert before == content(connection)


def test_refused_without_a_transaction() -> None:
    """Half a rebuild cannot be taken back unless the caller has a transaction open."""
    with database(SCHEMA) as connection, pytest.raises(RebuildRefused, match="no transaction"):
        rebuild_table(connection, "t", GOOD)


def test_a_column_that_is_not_there_is_refused() -> None:
    """An expression for no column, or for a generated one, is a slip."""
    with (
        database(SCHEMA) as connection,
        pytest.raises(RebuildRefused, match=r"such column: no, g$"),
    ):
        rebuild(connection, "t", "CREATE TABLE t (id, g AS (id))", id="a", no="1", G="2")


CALLS = """CREATE TRIGGER q DELETE ON o BEGIN DELETE FROM o; DELETE FROM s; END;
CREATE TRIGGER r DELETE ON s BEGIN DELETE FROM t WHERE gone; END;
CREATE TRIGGER s DELETE ON s BEGIN DELETE FROM t; END;"""
GENERATED = """CREATE TABLE n (x, y AS (x));
CREATE TRIGGER r AFTER UPDATE ON n BEGIN DELETE FROM t WHERE gone; END;"""
INSTEAD = """CREATE VIEW w AS SELECT * FROM t;
CREATE TRIGGER r INSTEAD OF UPDATE ON w BEGIN SELECT new.gone; END;"""


@pytest.mark.parametrize(
    ("rest", "problem"),
    [
        ("CREATE INDEX i ON t (gone)", "index i does not fit"),
        ('CREATE INDEX i ON t ("gone")', "index i does not fit"),
        ('CREATE INDEX i ON t (a) WHERE "gone" > 1', "index i does not fit"),
        ("CREATE VIEW w AS SELECT gone FROM t", "view w does not fit"),
        ('CREATE VIEW w AS SELECT "gone" FROM t', "view w does not fit"),
        ('CREATE VIEW w AS SELECT "a text", gone FROM t', "view w does not fit"),
        ("CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT new.gone; END", "trigger r does not"),
        ("CREATE TRIGGER r AFTER DELETE ON t WHEN old.gone BEGIN SELECT 1; END", "trigger r does"),
        ("CREATE TRIGGER r UPDATE OF a, GONE ON t BEGIN SELECT 1; END", "trigger r does not fit"),
        ("CREATE TRIGGER r AFTER DELETE ON o BEGIN DELETE FROM t WHERE gone; END", "trigger r do"),
        ('CREATE TRIGGER r AFTER DELETE ON o BEGIN DELETE FROM t WHERE "gone"; END', "trigger r "),
        (GENERATED, "trigger r does not fit"),
        (CALLS, "trigger r does not fit"),
        (INSTEAD, "trigger r does not fit"),
    ],
)  # fmt: skip
def test_what_no_longer_fits(rest: str, problem: str) -> None:
    """A rebuild that would break an index, a view or a trigger names it; nothing is lost."""
    with database(f"{SCHEMA} {rest}") as connection:
        before = content(connection)
        with pytest.raises(RebuildRefused, match=problem) as caught:
            rebuild(connection, "t", GOOD)
        assert "no such column" in str(caught.value)
        assert before == content(connection)


@pytest.mark.parametrize(
    "rest",
    [
        'CREATE VIEW w AS SELECT 1 AS "gone" FROM t',
        'CREATE VIEW w AS SELECT "gone" FROM o',
        'CREATE TABLE q ("gone"); CREATE VIEW w AS SELECT q."gone" FROM q JOIN t',
        "CREATE VIEW w AS SELECT gone FROM no",
        "CREATE TRIGGER r AFTER DELETE ON o BEGIN DELETE FROM no WHERE gone; END",
        "CREATE TRIGGER r AFTER UPDATE OF a ON t BEGIN SELECT 'gone'; END",
    ],
)
def test_what_has_nothing_to_do_with_it(rest: str) -> None:
    """What only looks like a dropped column, or was broken before, hinders nobody."""
    with database(f"{SCHEMA} {rest}") as connection:
        before = content(connection).keys()
        rebuild(connection, "t", GOOD)
        assert before == content(connection).keys()


@pytest.mark.parametrize(
    ("new", "columns", "error"),
    [
        ("(id, n NOT NULL)", {}, "NOT NULL constraint failed"),
        ("(id, a UNIQUE ON CONFLICT IGNORE)", {}, "UNIQUE constraint failed"),
        ("(id, a UNIQUE ON CONFLICT ROLLBACK)", {}, "UNIQUE constraint failed"),
        ("(id, a UNIQUE ON CONFLICT REPLACE)", {}, "UNIQUE constraint failed"),
        ("(id, a, CHECK (a > 2))", {}, "CHECK constraint failed"),
        ("(id TEXT) STRICT", {"id": "x'00'"}, "cannot store BLOB value in TEXT column"),
        ("(id, a)", {"a": "nonsense"}, "no such column: nonsense"),
        ("(id, a)", {"a": "1, 2"}, "row value misused"),
        ("(id, a)", {"a": "max(a)"}, "cannot rebuild t: it had 2 rows and would have 1"),
        ("(id); DROP TABLE t", {}, "one statement at a time"),
    ],
)
def test_no_row_is_lost(new: str, columns: dict[str, str], error: str) -> None:
    """Where a row does not arrive the rebuild fails, the transaction and the table still there."""
    with database(SCHEMA) as connection:
        connection.execute("BEGIN")
        with pytest.raises(Exception, match=error):
            rebuild_table(connection, "t", f"CREATE TABLE t {new}", columns)
        assert connection.in_transaction
        assert [(2,)] == connection.execute("SELECT count(gone) FROM t").fetchall()


@pytest.mark.parametrize(
    ("rest", "new"),
    [
        ("CREATE TABLE c (x REFERENCES t ON DELETE CASCADE)", GOOD),
        ("CREATE TABLE c (x REFERENCES [T] (id)); CREATE TEMP TABLE c (x)", GOOD),
        ("", "CREATE TABLE t (id INTEGER PRIMARY KEY, a REFERENCES t ON DELETE CASCADE)"),
        ("", "CREATE TABLE t (id INTEGER PRIMARY KEY, a REFERENCES t)"),
    ],
)
def test_enforced_keys(rest: str, new: str) -> None:
    """With foreign keys on, a table that keys refer to is not dropped."""
    with database(f"{SCHEMA} {rest}; INSERT INTO o VALUES (1)", keys=1) as connection:
        before = content(connection)
        connection.execute("BEGIN")
        with pytest.raises(RebuildRefused, match=r"from [ct]; say foreign_keys=False"):
            rebuild_table(connection, "t", new)
        assert before == content(connection)


def test_enforced_keys_to_others() -> None:
    """With foreign keys on, a table that only refers to others is rebuilt, its rows checked."""
    script = f"{SCHEMA} CREATE TABLE p (id PRIMARY KEY); INSERT INTO p VALUES (2)"
    with database(script, keys=1) as connection:
        rebuild(connection, "t", "CREATE TABLE t (id INTEGER PRIMARY KEY, a REFERENCES p)")
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
            rebuild(connection, "t", "CREATE TABLE t (id REFERENCES p, a)")


def test_an_interrupted_rename_puts_the_pragma_back() -> None:
    """What fails between the pragma and its reset does not leave it on."""

    def deny(action: int, *_: object) -> int:
        return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_ALTER_TABLE else sqlite3.SQLITE_OK

    with database(SCHEMA) as connection:
        connection.execute("BEGIN")
        connection.set_authorizer(deny)
        with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
            rebuild_table(connection, "t", GOOD)
        assert [(0,)] == connection.execute("PRAGMA legacy_alter_table").fetchall()


def test_a_cancelled_rebuild_is_no_refusal() -> None:
    """An interrupt is told as one, also where other errors mean that something is unfit."""
    seen: list[str] = []
    with database(f"{SCHEMA} CREATE INDEX i ON t (a)") as connection:
        connection.execute("BEGIN")
        connection.set_trace_callback(seen.append)
        connection.set_progress_handler(lambda: any("CREATE INDEX main." in s for s in seen), 1)
        with pytest.raises(sqlite3.OperationalError, match="interrupted"):
            rebuild_table(connection, "t", GOOD)


KINDS = st.sampled_from(["", "INTEGER", "INT", "TEXT", "REAL", "BLOB", "NUMERIC", "VARCHAR(3)"])
RULES = st.sampled_from(
    ["", "", "UNIQUE", "NOT NULL", "COLLATE NOCASE", "DEFAULT (1 + 1)", "CHECK (a IS NOT 'q')"]
)
KEYS = [
    ")",
    ", PRIMARY KEY (a))",
    ", PRIMARY KEY (b, a))",
    ", PRIMARY KEY (b, a)) WITHOUT ROWID",
    ", id INTEGER PRIMARY KEY AUTOINCREMENT)",
]
TEXTS = st.text("aQ'\"é\0", max_size=3)
NUMBERS = st.integers(-9, 9) | st.floats(width=16)
VALUES = st.none() | NUMBERS | TEXTS | st.binary(max_size=2)
WHERE = st.sampled_from(
    ["(a)", "(b DESC, a)", "(a COLLATE NOCASE)", "(a || b)", '("a") WHERE b > 0', "(g)"]
)
TABLES = st.builds(
    "CREATE TABLE t (a {} {}, g AS (length(a)) {}, b {} {}{}".format,
    KINDS,
    RULES,
    st.sampled_from(["VIRTUAL", "STORED"]),
    KINDS,
    RULES,
    st.sampled_from(KEYS),
)
INDEXES = st.builds("CREATE {} INDEX {{}} ON t {}".format, st.sampled_from(["", "UNIQUE"]), WHERE)


@PROFILE
@given(
    definition=TABLES,
    indexes=st.lists(INDEXES, max_size=3),
    rows=st.lists(st.tuples(VALUES, VALUES), max_size=8),
    deleted=st.integers(0, 8),
)
def test_the_same_definition_changes_nothing(
    definition: str, indexes: list[str], rows: list[Any], deleted: int
) -> None:
    """Rebuilding a table as it is leaves every row, rowid, index and counter as it was."""
    with database(definition) as connection:
        for number, sql in enumerate(indexes):
            connection.execute(sql.format(f"i{number}"))
        for row in rows:
            with suppress(sqlite3.IntegrityError):  # no integer for an INTEGER PRIMARY KEY
                connection.execute("INSERT OR IGNORE INTO t (a, b) VALUES (?, ?)", row)
        connection.execute("DELETE FROM t WHERE a IN (SELECT a FROM t LIMIT 1 OFFSET ?)", [deleted])
        connection.execute("ANALYZE")
        before = content(connection)
        rebuild(connection, "t", definition)
        assert before == content(connection)
        assert [("ok",)] == connection.execute("PRAGMA integrity_check").fetchall()


def test_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples of docs/rebuild.md rebuild the table that they speak of, and keep its child."""
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("app.db")) as connection:
        connection.executescript(
            """CREATE TABLE runs (id INTEGER PRIMARY KEY, state, minutes);
            CREATE TABLE steps (run REFERENCES runs ON DELETE CASCADE);
            CREATE INDEX runs_by_state ON runs (state);
            INSERT INTO runs VALUES (7, NULL, 90); INSERT INTO steps VALUES (7)"""
        )
    guide = (Path(__file__).parents[1] / "docs" / "rebuild.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec("\n".join(re.findall(r"```python\n(.*?)```", guide, re.DOTALL)), names)
    with closing(names["connection"]) as connection:
        both = connection.execute("SELECT * FROM runs, steps")
        assert [(7, "new", 1.5, 7)] == both.fetchall()
