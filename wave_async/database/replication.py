"""What Litestream keeps in a database that it replicates; it stops where that is gone."""

from __future__ import annotations

import sqlite3

from wave_async.model.schema import REPLICATION

FIND = "SELECT sql FROM main.sqlite_schema WHERE type = 'table' AND name = ?"


def carry_over(old: sqlite3.Connection, new: sqlite3.Connection) -> None:
    """Give a database that replaces another one what that one has and it lacks of this."""
    for table in sorted(REPLICATION):
        found = old.execute(FIND, (table,)).fetchall()
        if found and not new.execute(FIND, (table,)).fetchall():
            ((create,),) = found
            new.execute(create)
            rows = old.execute(f"SELECT * FROM main.{table}").fetchall()
            holes = ", ".join("?" for _ in old.execute(f"PRAGMA main.table_info({table})"))
            new.executemany(f"INSERT INTO main.{table} VALUES ({holes})", rows)
