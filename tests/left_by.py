"""Databases as other tools leave them, from the dumps in `histories/`."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

HISTORIES = Path(__file__).parent / "histories"
FILES = ("dbmate", "goose", "sqlx", "golang-migrate")
"""Tools whose files are our migrations, too."""
CODE = ("alembic", "yoyo", "django", "aerich")
"""Tools whose migrations are programs."""


def left_by(tool: str, folder: Path) -> Path:
    """Lay out a project as a tool leaves it: `app.db`, and `migrations` where they are SQL."""
    with closing(sqlite3.connect(folder / "app.db")) as db:
        db.executescript((HISTORIES / f"{tool}.sql").read_text(encoding="utf-8"))
    if tool in FILES:
        shutil.copytree(HISTORIES / tool, folder / "migrations")
    return folder / "app.db"
