"""The least that the job needs, with stdlib sqlite3: `limit.py FOLDER DATABASE [status] [stack]`.

WAL, synchronous FULL, one BEGIN IMMEDIATE .. COMMIT per migration, the pending list read again
under the lock, and its row. Opening, the switch to WAL and closing belong to it. With `stack` it
imports what a command of this engine cannot do without, so that only the engine differs.
"""

from __future__ import annotations

import hashlib
import sqlite3
import sys
import time
from collections.abc import Mapping
from pathlib import Path

CREATE = """CREATE TABLE IF NOT EXISTS schema_migrations (
    version INTEGER PRIMARY KEY,
    description TEXT NOT NULL,
    applied_at INTEGER NOT NULL,
    checksum TEXT NOT NULL
)"""
READ = "SELECT version FROM schema_migrations"

Scripts = Mapping[int, str]


def connected(database: Path | str) -> sqlite3.Connection:
    """Open a database as durably as the engine does, waiting for whoever else does."""
    connection = sqlite3.connect(database, isolation_level=None, timeout=60)
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            break
        except sqlite3.OperationalError:  # no busy timeout covers the switch
            time.sleep(0.005)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def up(database: Path | str, scripts: Scripts) -> int:
    """Apply what is pending; return how many were."""
    connection = connected(database)
    if not connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall():
        connection.execute(CREATE)
    known = {version for (version,) in connection.execute(READ)}
    applied = 0
    for version, script in scripts.items():
        if version not in known:
            applied += step(connection, version, script)
    connection.close()
    return applied


def step(connection: sqlite3.Connection, version: int, script: str) -> bool:
    """Apply one migration, unless another process has."""
    connection.execute("BEGIN IMMEDIATE")
    pending = version not in {found for (found,) in connection.execute(READ)}
    if pending:
        for statement in script.split(";\n")[:-1]:
            connection.execute(statement)
        digest = hashlib.sha256(script.encode()).hexdigest()
        row = (version, f"migration {version}", int(time.time()), digest)
        connection.execute("INSERT INTO schema_migrations VALUES (?, ?, ?, ?)", row)
    connection.execute("COMMIT")
    return pending


def status(database: Path, scripts: Scripts) -> None:
    """Print what is applied and what is pending."""
    connection = sqlite3.connect(database)
    known = {version for (version,) in connection.execute(READ)}
    for version in scripts:
        print("[x]" if version in known else "[ ]", version)
    connection.close()


def read(folder: Path) -> dict[int, str]:
    """Read the scripts of a folder in the order of their names."""
    paths = sorted(folder.glob("*.up.sql"))
    return {int(path.name.partition("_")[0]): path.read_text(encoding="utf-8") for path in paths}


if __name__ == "__main__":
    if "stack" in sys.argv[3:]:
        import aiosqlite  # noqa: F401
        import asyncclick  # noqa: F401
    (status if "status" in sys.argv[3:] else up)(Path(sys.argv[2]), read(Path(sys.argv[1])))
