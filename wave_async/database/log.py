"""The schema_migrations_log table: what was done to a database, by whom and how it went.

For people. Nothing depends on it: absent, damaged or somebody else's, it never stops a migration.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from wave_async.database.requests import BeginWrite, Execute, Program, Query, Rollback
from wave_async.errors import WaveError
from wave_async.model.migration import Action, LogEntry
from wave_async.version import VERSION

TABLE = "schema_migrations_log"

CREATE = f"""CREATE TABLE IF NOT EXISTS main.{TABLE} (
    id INTEGER PRIMARY KEY,
    action TEXT NOT NULL,
    version INTEGER,
    checksum TEXT,
    started_at REAL NOT NULL,
    duration REAL NOT NULL,
    outcome TEXT NOT NULL,
    tool TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL
)"""
_COLUMNS = "action, version, checksum, started_at, duration, outcome, tool, host, pid"
FIND = f"SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = '{TABLE}'"
TRIGGERS = f"""SELECT 1 FROM main.sqlite_schema
    WHERE type = 'trigger' AND tbl_name = '{TABLE}' COLLATE NOCASE"""
APPEND = f"INSERT OR ABORT INTO main.{TABLE} ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
# Somebody may have written to it by hand; only what can be shown is read.
READ = f"""SELECT {_COLUMNS} FROM main.{TABLE}
    WHERE typeof(action) = 'text' AND typeof(version) IN ('integer', 'null')
        AND typeof(checksum) IN ('text', 'null') AND typeof(started_at) = 'real'
        AND started_at BETWEEN 0 AND 253402300799 AND typeof(duration) = 'real'
        AND typeof(outcome) = 'text' AND typeof(tool) = 'text' AND typeof(host) = 'text'
        AND typeof(pid) = 'integer' ORDER BY id"""

DONE = "done"


@dataclass(frozen=True, slots=True)
class Log:
    """Writes the log, or nothing where it is switched off."""

    on: bool = True

    def unless_triggered(self) -> Program[Log]:
        """Return this log, or none where a trigger might end the transaction that writes it."""
        return OFF if self.on and (yield Query(TRIGGERS)) else self

    def append(
        self,
        action: Action,
        version: int | None,
        checksum: str | None,
        started: float,
        outcome: str = DONE,
    ) -> Program[None]:
        """Add what was done, inside the transaction that does it; the table is made if missing."""
        if not self.on:
            return
        append = Execute(APPEND, _row(action, version, checksum, started, outcome))
        try:
            yield append
        except sqlite3.Error:
            with suppress(sqlite3.Error):
                yield Execute(CREATE)
                yield append

    def append_failure(
        self, action: Action, version: int, started: float, error: WaveError
    ) -> Program[None]:
        """Add what failed and was rolled back, where there is a log and nobody holds the lock."""
        if not self.on:
            return
        try:
            if (yield Query(FIND)) and (yield BeginWrite(0)):
                yield Execute(APPEND, _row(action, version, None, started, error.sentence()))
                yield Execute("COMMIT")
        except sqlite3.Error:
            return
        finally:
            yield Rollback()

    def carry_over(
        self, started: float, version: int, old: sqlite3.Connection, new: sqlite3.Connection
    ) -> None:
        """Give a database that replaces another one its log, and the row of the undo."""
        if not self.on:
            return
        with suppress(sqlite3.Error):
            rows = old.execute(READ).fetchall()
            new.execute(f"DROP TABLE IF EXISTS main.{TABLE}")
            new.execute(CREATE)
            new.executemany(APPEND, rows)
        with suppress(sqlite3.Error):
            new.execute(APPEND, _row(Action.UNDO, version, None, started, DONE))


OFF = Log(on=False)


def read() -> Program[tuple[LogEntry, ...]]:
    """Return the log, the oldest first; an absent or damaged one is empty."""
    try:
        rows = yield Query(READ)
    except sqlite3.Error:
        return ()
    return tuple(LogEntry(*row) for row in rows)


def _row(
    action: Action, version: int | None, checksum: str | None, started: float, outcome: str
) -> tuple[object, ...]:
    duration = time.time() - started
    return (action.value, version, checksum, started, duration, outcome, *_who())


@cache
def _who() -> tuple[str, str, int]:
    return f"wave-async {VERSION}", socket.gethostname(), os.getpid()
