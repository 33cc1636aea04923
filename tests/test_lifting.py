"""What is taken out of a script for the engine to do, and what is left for the guard to refuse."""

from __future__ import annotations

import pytest

from wave_async.model.lifting import lift, runs_outside
from wave_async.model.script import parse

OFF = "PRAGMA foreign_keys = OFF"
ON = "PRAGMA foreign_keys = ON"

KEYS_OFF = [
    OFF,
    "pragma FOREIGN_KEYS=off",
    "PRAGMA foreign_keys = 0",
    "PRAGMA foreign_keys = no",
    "PRAGMA foreign_keys = False",
    "PRAGMA foreign_keys = 'off'",
    "PRAGMA foreign_keys(0)",
    "PRAGMA foreign_keys ( OFF )",
    "PRAGMA main.foreign_keys = OFF",
    "PRAGMA main . foreign_keys = OFF",
    "PRAGMA/**/foreign_keys/* = ON */=-- no\n\tOFF",
]
KEYS_ON = [word.lower() for word in (ON, ON.replace("ON", "1"), ON.replace("ON", "'yes'"))]
BEGINS = [
    "BEGIN",
    "begin transaction",
    "BEGIN IMMEDIATE",
    "BEGIN /* all of it */ EXCLUSIVE TRANSACTION",
    "BEGIN DEFERRED",
]
COMMITS = ["COMMIT", "end", "COMMIT TRANSACTION", "End -- of it\n Transaction"]

LIFTED = [
    *((f"{off}; A; B;", "A B", True) for off in KEYS_OFF),
    *((f"{on}; A; {on}", "A", False) for on in KEYS_ON),
    *((f"{begin}; A; B; COMMIT;", "A B", False) for begin in BEGINS),
    *((f"BEGIN; A; {commit}", "A", False) for commit in COMMITS),
    ("A; B", "A B", False),
    ("", "", False),
    (OFF, "", True),
    ("BEGIN; COMMIT;", "", False),
    (f"{OFF}; A; {ON};", "A", True),
    (f"{ON}; {OFF}; A;", "A", True),
    (f"{OFF}; {OFF}; A;", "A", True),
    (f"{OFF}; BEGIN; A; B; COMMIT; {ON};", "A B", True),
    (f"BEGIN; {OFF}; A; {ON}; COMMIT;", "A", True),
    (f"-- a note\n{OFF};\n/* another */ BEGIN; A; COMMIT; -- the end", "A", True),
    ("PRAGMA journal_mode=wal; A;", "A", False),
    ("PRAGMA journal_mode = WAL; BEGIN; A; COMMIT; PRAGMA journal_mode('wal')", "A", False),
]

LEFT = [
    f"A; {OFF}",
    f"A; {OFF}; B",
    "BEGIN",
    "COMMIT",
    "A; COMMIT",
    "BEGIN; A",
    "BEGIN; A; COMMIT; B",
    "BEGIN; BEGIN; A; COMMIT",
    f"{OFF}; BEGIN; A",
    "A; BEGIN; B; COMMIT",
    "BEGIN; A; ROLLBACK",
    "SAVEPOINT s; A; RELEASE s",
    "BEGIN TRANSACTION named; A; COMMIT",
    "EXPLAIN BEGIN; A; COMMIT",
    "PRAGMA foreign_keys",
    "PRAGMA foreign_keys = maybe",
    "PRAGMA temp.foreign_keys = OFF",
    "PRAGMA foreign_keys_list = OFF",
    "PRAGMA defer_foreign_keys = ON",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA journal_mode",
    "SELECT 'PRAGMA foreign_keys = OFF'",
    f"PRAGMA foreign_keys /*{'x' * 200}*/ = OFF",
]


def statements(script: str) -> list[str]:
    """Split a script."""
    return [s.sql for s in parse(script, "").statements]


@pytest.mark.parametrize(("script", "left", "off"), LIFTED, ids=[row[0] for row in LIFTED])
def test_what_is_lifted(script: str, left: str, *, off: bool) -> None:
    """Plain forms of switching keys and of one transaction are taken out, in any spelling."""
    found, keys_off = lift(parse(script, "").statements)

    assert (left.split(), off) == ([s.sql for s in found], keys_off)


@pytest.mark.parametrize("script", LEFT)
def test_what_is_left_for_the_guard(script: str) -> None:
    """Anything that is no plain form stays where it is, so that the guard names it."""
    found, keys_off = lift(parse(script, "").statements)

    assert (statements(script), False) == ([s.sql for s in found], keys_off)


def test_the_second_pair_stays() -> None:
    """Of two transactions in a row the outermost words go, and the guard meets the inner ones."""
    found, _ = lift(parse("BEGIN; A; COMMIT; BEGIN; B; COMMIT;", "").statements)

    assert [("A", 2), ("COMMIT", 3), ("BEGIN", 4), ("B", 5)] == [(s.sql, s.number) for s in found]


@pytest.mark.parametrize(
    ("sql", "outside"),
    [
        ("VACUUM", True),
        ("vacuum main", True),
        ("VACUUM /* all */", True),
        ("PRAGMA page_size = 8192", True),
        ("pragma main.auto_vacuum(FULL)", True),
        ("PRAGMA journal_mode = DELETE", True),
        ("PRAGMA journal_mode = WAL", True),
        ("VACUUM INTO 'copy.db'", False),
        ("VACUUM other", False),
        ("PRAGMA page_size", False),
        ("PRAGMA foreign_keys = OFF", False),
        ("PRAGMA synchronous = OFF", False),
        ("CREATE TABLE vacuum (x)", False),
    ],
)
def test_what_runs_outside_a_transaction(sql: str, *, outside: bool) -> None:
    """VACUUM and what sets a journal mode or the size of pages; nothing that merely asks."""
    (statement,) = parse(sql, "").statements

    assert outside is runs_outside(statement)
