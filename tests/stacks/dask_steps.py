"""Steps of migrations that workers import, and what a test asks of a worker."""

from __future__ import annotations

import os
import signal
import sqlite3
from pathlib import Path

from wave_async.integrations import dask

ENDLESS = (
    "CREATE TABLE e AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
    "SELECT sum(i) FROM n"
)


def database(connection: sqlite3.Connection) -> Path:
    """Return the file that a step is in."""
    return Path(connection.execute("PRAGMA database_list").fetchone()[2])


def touch(connection: sqlite3.Connection) -> None:
    """Leave a file beside the database, named after it."""
    database(connection).with_suffix(".here").touch()


def hold_once(connection: sqlite3.Connection) -> None:
    """Leave the number of the process beside the database and go on forever, the first time."""
    here = database(connection).with_suffix(".here")
    if not here.exists():
        here.with_suffix(".new").write_text(str(os.getpid()))
        here.with_suffix(".new").rename(here)
        connection.execute(ENDLESS)


def die_once(connection: sqlite3.Connection) -> None:
    """Kill the worker in the middle of 0110.db, the first time."""
    path = database(connection)
    if path.name == "0110.db" and not path.with_suffix(".here").exists():
        touch(connection)
        os.kill(os.getpid(), signal.SIGKILL)


def die(connection: sqlite3.Connection) -> None:
    """Kill the worker in the middle of 0010.db, always."""
    if database(connection).name == "0010.db":
        os.kill(os.getpid(), signal.SIGKILL)


def be_version(version: str) -> None:
    """Make a worker one of another release."""
    dask.VERSION = version
