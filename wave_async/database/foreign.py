"""The bookkeeping of other tools: what their tables are called, their shape, and how they are read.

Their tables are left as they are. One that has the name of ours is renamed, and only by an import.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import time
from typing import TypeAlias

from wave_async.database import history, step
from wave_async.database.history import YEAR_10000, History
from wave_async.database.log import Log
from wave_async.database.requests import Execute, Program, Query
from wave_async.errors import ConfigError, ImportRefused
from wave_async.model.foreign import Import, Naming, Row
from wave_async.model.migration import Action

KIND = """SELECT type FROM main.sqlite_schema
    WHERE name = ? COLLATE NOCASE AND type != 'trigger'"""
COLUMNS = "SELECT lower(name) FROM pragma_table_xinfo(?, 'main')"

_Shape: TypeAlias = tuple[str, tuple[str, ...]]
"""Table, view or index, whose names exclude each other, and its columns."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool: its table and all columns of it, and what of them tells the parts of a `Row`.

    `where` says which rows count; `besides` are further tables that it keeps for itself.
    """

    name: str
    naming: Naming
    table: str
    columns: str
    label: str
    time: str = "NULL"
    failed: str = "0"
    checksum: str = "NULL"
    where: str = "1"
    besides: tuple[str, ...] = ()

    @property
    def shape(self) -> _Shape:
        """What its table is when it is the tool's."""
        return "table", tuple(self.columns.split())

    @property
    def aside(self) -> str:
        """The name that its table gets where it has the name of ours."""
        return f"{self.table}_{self.name.replace('-', '_')}"

    @property
    def names(self) -> tuple[str, ...]:
        """What its table may be called."""
        return (self.table, self.aside) if self.table == history.TABLE else (self.table,)


_DATED = "CAST(strftime('%s', {}) AS INTEGER)"
# A rollback by an old release of goose adds a row, one by a new release removes it.
_LAST_WORDS = """version_id > 0 AND is_applied
    AND id = (SELECT max(id) FROM main.goose_db_version o WHERE o.version_id = t.version_id)"""
TOOLS = {
    tool.name: tool
    for tool in (
        Tool("alembic", Naming.HEAD, "alembic_version", "version_num", "version_num"),
        Tool(
            "yoyo",
            Naming.CODE,
            "_yoyo_migration",
            "migration_hash migration_id applied_at_utc",
            "migration_id",
            time=_DATED.format("applied_at_utc"),
            besides=("_yoyo_log", "_yoyo_version", "yoyo_lock"),
        ),
        Tool(
            "django",
            Naming.CODE,
            "django_migrations",
            "id app name applied",
            "app || '.' || name",
            time=_DATED.format("applied"),
        ),
        Tool("dbmate", Naming.FILES, history.TABLE, "version", "version"),
        Tool(
            "goose",
            Naming.FILES,
            "goose_db_version",
            "id version_id is_applied tstamp",
            "version_id",
            time=_DATED.format("tstamp"),
            where=_LAST_WORDS,
        ),
        Tool(
            "sqlx",
            Naming.FILES,
            "_sqlx_migrations",
            "version description installed_on success checksum execution_time",
            "version",
            time=_DATED.format("installed_on"),
            failed="NOT success",
            checksum="hex(checksum)",
        ),
        Tool("aerich", Naming.CODE, "aerich", "id version app content", "app || '.' || version"),
        Tool(
            "golang-migrate",
            Naming.NEWEST,
            history.TABLE,
            "version dirty",
            "version",
            failed="dirty",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Found:
    """What a tool has in a database: its rows, our own history beside it, and its table's name."""

    rows: tuple[Row, ...]
    history: History
    table: str

    @property
    def is_in_our_place(self) -> bool:
        """Whether the tool's table has the name of ours."""
        return self.table == history.TABLE


def tool_named(name: str) -> Tool:
    """Return a tool. Raises `ConfigError` for a name that is no tool's."""
    if name not in TOOLS:
        raise ConfigError("--from", name, ", ".join(TOOLS))
    return TOOLS[name]


def read(tool: Tool) -> Program[Found]:
    """Read a tool's table.

    Raises `ImportRefused` where there is none, or one of another shape, and what reading our own
    history raises.
    """
    table = yield from _table(tool)
    columns = f"{tool.label}, {tool.time}, {tool.failed}, {tool.checksum}"
    rows = yield Query(f"SELECT {columns} FROM main.{table} t WHERE {tool.where} ORDER BY 1")
    ours = History(tracked=False)
    if table != history.TABLE:
        ours = yield from history.read()
    return Found(tuple(_row(*row) for row in rows), ours, table)


def _table(tool: Tool) -> Program[str]:
    """Return what a tool's table is called; its shape is right."""
    shapes: dict[str, _Shape] = {}
    for name in tool.names:
        if shape := (yield from _shape(name)):
            shapes[name] = shape
    fitting = [name for name, shape in shapes.items() if shape == tool.shape]
    if tool.table not in shapes and not fitting:
        raise ImportRefused(tool.name, f"there is no table {tool.table}")
    if not fitting:
        kind, columns = shapes[tool.table]
        problem = f"{tool.table} is a {kind} of other columns ({', '.join(columns)})"
        raise ImportRefused(tool.name, problem)
    if fitting[0] == tool.table and len(shapes) > 1:
        problem = f"{tool.table} has to be renamed, but {tool.aside} is there already"
        raise ImportRefused(tool.name, problem)
    return fitting[0]


def _shape(name: str) -> Program[_Shape | None]:
    """Return what has a name, and its columns; None: nothing has it."""
    found = yield Query(KIND, (name,))
    columns = yield Query(COLUMNS, (name,))
    return (found[0][0], tuple(column for (column,) in columns)) if found else None


def _row(name: object, applied_at: int | None, failed: object, checksum: str | None) -> Row:
    in_range = applied_at is not None and 0 <= applied_at < YEAR_10000
    return Row(str(name), applied_at if in_range else None, bool(failed), checksum)


def bookkeeping() -> Program[frozenset[str]]:
    """Return the tables of all tools that keep their bookkeeping here."""
    found: set[str] = set()
    for tool in TOOLS.values():
        for name in tool.names:
            if (yield from _shape(name)) == tool.shape:
                found |= {name, *tool.besides}
    return frozenset(found)


def record(
    look: Callable[[], Program[Import | None]], patience: float, log: Log
) -> Program[Import | None]:
    """Record what `look` finds, in one transaction; answers that, or None for nothing to do."""

    def write(found: Import) -> Program[None]:
        if found.renamed:
            old, new = found.renamed
            yield Execute(f"ALTER TABLE main.{old} RENAME TO {new}")
        if not (yield from history.read()).tracked:
            yield Execute(history.CREATE)
        written = yield from log.unless_triggered()
        for row in found.records:
            values = (row.version, row.description, row.applied_at, row.checksum)
            yield Execute(history.RESTORE, values)
            yield from written.append(Action.IMPORT, row.version, row.checksum, time())
        yield Execute("COMMIT")

    return (yield from step.write(look, write, patience))
