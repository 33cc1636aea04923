"""Hostile places, files, histories and scripts: one line of error, and nothing is changed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import pytest
from asyncclick.testing import CliRunner, Result
from conftest import numbered

from wave_async import Migration, MigrationManager, SingleConnectionPool
from wave_async.cli import cli
from wave_async.errors import MigrationFailed, StatementTimeout
from wave_async.model.catalogue import Catalogue
from wave_async.model.script import parse

pytestmark = pytest.mark.once

KNOWN = numbered(3)
"""What the code of most cases knows."""

TIMESTAMPS = [replace(m, version=10**7 + 2 * m.version) for m in numbered(3)]

SECONDS = 120
"""How long a case may take at most."""

COMMANDS = {
    "status": ["status"],
    "validate": ["validate"],
    "up": ["up", "--lock-timeout", "0.5"],
    "down": ["down", "0", "--yes", "--no-snapshot", "--lock-timeout", "0.5"],
}
READING = ("status", "validate")
JOURNALS = ("wal", "delete")

Place = Callable[[Path], AbstractContextManager[object] | None]
Row = tuple[object, object, object, object]

BOOKKEEPING = """CREATE TABLE schema_migrations (
    version INTEGER PRIMARY KEY,
    description TEXT NOT NULL,
    applied_at INTEGER NOT NULL,
    checksum TEXT NOT NULL
)"""
UNTYPED = "CREATE TABLE schema_migrations (version, description, applied_at, checksum)"
# "INTEGER PRIMARY KEY DESC" is no alias of the rowid: https://sqlite.org/lang_createtable.html#rowid
DESCENDING = BOOKKEEPING.replace("PRIMARY KEY", "PRIMARY KEY DESC")

NEWER = "the database is newer than this code: it has"
FOREIGN = "schema_migrations is not ours: "
LOCKED = "database is locked: another process has been using it for"
REPAIR = "a writer crashed; the next write access repairs it"
NOT_A_DATABASE = "it is not an SQLite database"
DAMAGED = "it is damaged (database disk image is malformed)"
ESCAPES = "red \x1b[31m\r\nError: two lines \x07\x9b2J \u202e\u2028 end"


@dataclass(frozen=True)
class Case:
    """One row: a place, what each command says to it, and the code it is migrated with."""

    name: str
    make: Place
    refused: str | dict[str, str] | None = None
    """The fragment of every command's error, or of some commands'; the others succeed."""
    code: str = ""
    """The text of a module with MIGRATIONS; KNOWN if empty."""
    source: str = "hostile_code:MIGRATIONS"
    database: Callable[[Path], str] = str
    """How the path is written on the command line."""
    zone: str = ""
    """The local time zone."""

    def fragment(self, command: str) -> str | None:
        """Return what the error of a command must hold, or None."""
        return self.refused.get(command) if isinstance(self.refused, dict) else self.refused


def other(commands: tuple[str, ...], fragment: str) -> dict[str, str]:
    """Refuse some commands with one fragment."""
    return dict.fromkeys(commands, fragment)


NOT_STATUS = ("validate", "up", "down")
WRITING = ("up", "down")


# Rows of a history


def rows(migrations: list[Migration]) -> list[Row]:
    """Return the history of a database with these migrations."""
    entries = Catalogue(migrations).entries.values()
    return [(e.version, e.migration.description, 1_770_000_000, e.checksum) for e in entries]


def changed(version: int, **columns: object) -> list[Row]:
    """Return the history of KNOWN with other columns in one row."""
    names = ("version", "description", "applied_at", "checksum")
    return [
        tuple(columns.get(n, v) for n, v in zip(names, row, strict=True))  # type: ignore[misc]
        if row[0] == version
        else row
        for row in rows(KNOWN)
    ]


# Places


def write(path: Path, *statements: str, journal: str = "wal", encoding: str = "UTF-8") -> None:
    """Make a database and close it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA encoding = '{encoding}'")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"PRAGMA journal_mode = {journal}")
        connection.execute("BEGIN")
        for statement in statements:
            connection.execute(statement)
        connection.execute("COMMIT")


def record(path: Path, records: list[Row]) -> None:
    """Add rows to the bookkeeping."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.executemany("INSERT INTO schema_migrations VALUES (?, ?, ?, ?)", records)


def ours(
    records: list[Row] | None = None,
    *,
    journal: str = "wal",
    table: str = BOOKKEEPING,
    extra: tuple[str, ...] = (),
    encoding: str = "UTF-8",
) -> Place:
    """Return a database of ours, with the tables of KNOWN; the extra statements run last."""
    records = rows(KNOWN) if records is None else records

    def make(path: Path) -> None:
        tables = [m.up.rstrip(";") for m in KNOWN if m.version in [r[0] for r in records]]
        write(path, table, *tables, journal=journal, encoding=encoding)
        record(path, records)
        if extra:
            write(path, *extra, journal=journal, encoding=encoding)

    return make


def theirs(*statements: str, journal: str = "wal") -> Place:
    """Return a database of a stranger."""
    tables = ("CREATE TABLE theirs (x)", "INSERT INTO theirs VALUES (1), (2)")
    return lambda path: write(path, *tables, *statements, journal=journal)


def damaged(damage: Callable[[bytearray], bytes | bytearray], journal: str = "delete") -> Place:
    """Return a database of ours whose bytes were changed."""

    def make(path: Path) -> None:
        filler = ("CREATE TABLE filler AS SELECT randomblob(9000) AS x",)
        ours(journal=journal, extra=filler)(path)
        path.write_bytes(damage(bytearray(path.read_bytes())))

    return make


def overwritten(start: int, with_: bytes) -> Callable[[bytearray], bytearray]:
    """Return a damage that writes over some bytes."""

    def damage(content: bytearray) -> bytearray:
        content[start : start + len(with_)] = with_
        return content

    return damage


def page(content: bytearray, table: str) -> int:
    """Find where the root page of a table begins."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(bytes(overwritten(18, b"\1\1")(bytearray(content))))  # not in WAL
        ((number,),) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)
        )
    size: int = int.from_bytes(content[16:18], "big")
    return (number - 1) * size


def holding(content: bytes) -> Place:
    """Return a file of some bytes."""
    return lambda path: path.write_bytes(content) and None


PARTNER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    connection.execute(statement).fetchall()
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def partner(path: Path, *statements: str) -> Iterator[subprocess.Popen[str]]:
    """Start a process that runs statements and holds its connection open."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", PARTNER, str(path), *statements],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert "ready\n" == process.stdout.readline()
            yield process
        finally:
            process.kill()


def beside(base: Place, *statements: str) -> Place:
    """Return a place with another process at work on it."""

    @contextmanager
    def make(path: Path) -> Iterator[None]:
        base(path)
        with partner(path, *statements):
            yield

    return make


SPILL = (
    "PRAGMA cache_size = 1",
    "CREATE TABLE IF NOT EXISTS load (x)",
    "BEGIN IMMEDIATE",
    (
        "INSERT INTO load SELECT randomblob(2000) FROM "
        "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 99) SELECT i FROM n)"
    ),
)
"""Half a transaction whose pages are on disk already."""


def crashed(base: Place, *statements: str, lost: tuple[str, ...] = ()) -> Place:
    """Return a place whose writer was killed in the middle of a transaction."""

    def make(path: Path) -> None:
        base(path)
        with partner(path, "PRAGMA wal_autocheckpoint = 0", *statements, *SPILL):
            pass
        assert {p.name for p in path.parent.iterdir()} & {
            f"{path.name}-wal",
            f"{path.name}-journal",
        }
        for suffix in lost:
            path.with_name(path.name + suffix).unlink()

    return make


def with_wal(base: Place, wal: bytes | None) -> Place:
    """Return a clean database with a write-ahead log beside it that is not its own."""

    def make(path: Path) -> None:
        base(path)
        log = path.with_name(path.name + "-wal")
        if wal is not None:
            log.write_bytes(wal)
            return
        stranger = path.parent.parent / "stranger.db"
        crashed(theirs())(stranger)
        shutil.copy(f"{stranger}-wal", log)

    return make


def nothing(path: Path) -> None:
    """Make no file."""


def fifo(path: Path) -> None:
    """Make a named pipe."""
    os.mkfifo(path)


@contextmanager
def listening(path: Path) -> Iterator[None]:
    """Listen on a socket, as a server does."""
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket is at most 107 bytes long
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
            server.listen()
            yield
    finally:
        os.chdir(here)


def loop(path: Path) -> None:
    """Make a link to a link to itself."""
    path.symlink_to(path.with_name("other"))
    path.with_name("other").symlink_to(path)


def link_to(target: str, base: Place = nothing) -> Place:
    """Return a link beside a database."""

    def make(path: Path) -> None:
        base(path.with_name("real.db"))
        path.symlink_to(path.parent / target)

    return make


def forbidden(mode: int, *, folder: bool, access: int, base: Place | None = None) -> Place:
    """Forbid a place to its user; skipped where that stops nobody."""

    @contextmanager
    def make(path: Path) -> Iterator[None]:
        (base or ours(rows(KNOWN)[:2]))(path)
        victim = path.parent if folder else path
        before, content = victim.stat().st_mode, snapshot(path.parent)
        victim.chmod(mode)
        try:
            if os.access(victim, access):
                pytest.skip("permissions are not enforced for this user")
            yield
        finally:
            victim.chmod(before)
        assert content == snapshot(path.parent)  # while it was forbidden we could not look either

    return make


# Code


def code(up: str, *, version: str = "3", description: str = "'Last'", before: str = "") -> str:
    """Write a module of three migrations, the last hostile, out of Python expressions."""
    return f"""
from wave_async import Migration
{before}
MIGRATIONS = [
    Migration(1, "Add t1", "CREATE TABLE t1 (x INTEGER);", "DROP TABLE t1;"),
    Migration(2, "Add t2", "CREATE TABLE t2 (x INTEGER);", "DROP TABLE t2;"),
    Migration({version}, {description}, {up}, "SELECT 1;"),
]
"""


TWO = ours(rows(KNOWN)[:2])
GOOD = "'CREATE TABLE t3 (x INTEGER);'"

PATHS = [
    Case("a missing file", nothing),
    Case("a missing folder", nothing, database=lambda p: str(p.with_name("a") / "b" / p.name)),
    Case("a directory", lambda p: p.mkdir(), "it is a directory, not a file"),
    Case("a named pipe", fifo, "it is a named pipe, not a file"),
    Case("a socket", listening, "it is a socket, not a file"),
    Case("a device", nothing, "it is a device, not a file", database=lambda p: os.devnull),
    Case("a symlink loop", loop, "too many levels of symbolic links"),
    Case("a dangling symlink", link_to("real.db")),
    Case(
        "a dangling symlink into no folder",
        link_to("no/real.db"),
        {"up": "it cannot be opened"},
    ),
    Case("a symlink to a database", link_to("real.db", TWO)),
    Case(
        "a path through a file",
        holding(b"a file"),
        "not a directory",
        database=lambda p: str(p / "state.db"),
    ),
    Case("an empty path", nothing, "it is empty", database=lambda p: ""),
    Case(
        "a URI",
        nothing,
        "URIs are not supported",
        database=lambda p: "file:x?mode=memory&cache=shared",
    ),
    Case("a path with NUL", nothing, "it contains a NUL character", database=lambda p: f"{p}\0"),
    Case("a path of 5,000 characters", nothing, "too long", database=lambda p: f"{p}{'x' * 5000}"),
    Case("a name of 300 characters", nothing, "too long", database=lambda p: f"{p}{'x' * 300}"),
    Case("a path that a URI would cut", nothing, database=lambda p: f"{p}?mode=ro#%41 &%"),
    Case("a path that is not UTF-8", nothing, database=lambda p: f"{p}\udcff"),
    Case(
        "a path with escapes",
        lambda p: p.with_name(ESCAPES).mkdir(),
        "it is a directory, not a file",
        database=lambda p: str(p.with_name(ESCAPES)),
    ),
    Case(
        "a file that may not be read",
        forbidden(0, folder=False, access=os.R_OK),
        "it cannot be opened",
    ),
    Case(
        "a folder that may not be entered",
        forbidden(0, folder=True, access=os.X_OK),
        "permission denied",
    ),
    Case(
        "a file that may not be written",
        forbidden(0o444, folder=False, access=os.W_OK),
        other(WRITING, "attempt to write a readonly database"),
    ),
    Case(
        "a folder that may not be written",
        forbidden(0o555, folder=True, access=os.W_OK),
        other(WRITING, "directory must be writable"),
    ),
    Case(
        "a folder that may not be written, with nothing in it",
        forbidden(0o555, folder=True, access=os.W_OK, base=nothing),
        {"up": "it cannot be opened"},
    ),
]

FILES = [
    Case("an empty file", holding(b"")),
    Case("a text file", holding(b"Dear diary,\n" * 100), NOT_A_DATABASE),
    # SQLite itself calls a file of one byte empty: unixFileSize() in its os_unix.c.
    Case("a file of one byte", holding(b"x")),
    Case("a file of five bytes", holding(b"SQLit"), NOT_A_DATABASE),
    Case("a file of zeros", holding(bytes(8192)), NOT_A_DATABASE),
    Case("a file of noise", holding(random.Random(1).randbytes(8192)), NOT_A_DATABASE),
    *(
        case
        for j in JOURNALS
        for case in (
            Case(
                f"a header of noise, {j}",
                damaged(overwritten(0, random.Random(2).randbytes(100)), j),
                NOT_A_DATABASE,
            ),
            Case(
                f"a file format of version 3, {j}",
                damaged(overwritten(18, b"\3\3"), j),
                NOT_A_DATABASE,
            ),
            Case(f"a file cut to half, {j}", damaged(lambda c: c[: len(c) // 2], j), DAMAGED),
            Case(f"a file cut to 100 bytes, {j}", damaged(lambda c: c[:100], j), DAMAGED),
            Case(
                f"a schema page of noise, {j}",
                damaged(overwritten(100, random.Random(3).randbytes(3996)), j),
                DAMAGED,
            ),
            Case(
                f"a history page of noise, {j}",
                damaged(
                    lambda c: overwritten(
                        page(c, "schema_migrations"), random.Random(4).randbytes(4096)
                    )(c),
                    j,
                ),
                DAMAGED,
            ),
        )
    ),
    Case(
        "a schema format of the future",
        damaged(overwritten(44, b"\0\0\0\x09")),
        "unsupported file format",
    ),
    Case(
        "a trigger on the bookkeeping",
        ours(
            rows(KNOWN)[:2],
            extra=(
                (
                    "CREATE TRIGGER deny BEFORE INSERT ON schema_migrations "
                    "BEGIN SELECT raise(ABORT, 'not for you'); END"
                ),
            ),
        ),
        {"up": "INSERT INTO main.schema_migrations"},
    ),
    Case("a database in UTF-16", ours(rows(KNOWN)[:2], encoding="UTF-16")),
]


def shapes(journal: str) -> Iterator[Case]:
    """Yield what may have the name of the bookkeeping."""

    def shape(name: str, *statements: str, refused: str | dict[str, str] | None = FOREIGN) -> Case:
        return Case(f"{name}, {journal}", theirs(*statements, journal=journal), refused)

    yield shape("other columns", "CREATE TABLE schema_migrations (id INTEGER PRIMARY KEY, name)")
    yield shape("a column more", BOOKKEEPING.replace("\n)", ", more)"))
    yield shape("a generated column more", BOOKKEEPING.replace("\n)", ", g AS (version))"))
    yield shape("Rails", "CREATE TABLE schema_migrations (version varchar NOT NULL PRIMARY KEY)")
    yield shape("no types", UNTYPED)
    yield shape(
        "no types, a text as version",
        UNTYPED,
        "INSERT INTO schema_migrations VALUES ('abc', '', 1, '')",
    )
    yield shape(
        "no types, a version twice",
        UNTYPED,
        "INSERT INTO schema_migrations VALUES (1, '', 1, ''), (1, '', 1, '')",
    )
    yield shape(
        "no types, odd versions",
        UNTYPED,
        "INSERT INTO schema_migrations VALUES (NULL, 1, 1, 1), (x'00', 1, 1, 1), (1.5, 1, 1, 1)",
    )
    view = (
        "CREATE VIEW schema_migrations AS SELECT 1 AS version, '' AS description, 1 AS applied_at"
    )
    yield shape("a view", view, refused="it is a view")
    yield shape(
        "an index", "CREATE INDEX schema_migrations ON theirs (x)", refused="it is an index"
    )
    yield shape(
        "a trigger",
        "CREATE TRIGGER schema_migrations AFTER INSERT ON theirs BEGIN SELECT 1; END",
        refused=None,
    )
    yield shape(
        "a full-text table",
        "CREATE VIRTUAL TABLE schema_migrations USING fts5(version, checksum)",
    )
    yield Case(f"a strict table, {journal}", ours(journal=journal, table=f"{BOOKKEEPING} STRICT"))
    yield Case(
        f"other letters, {journal}",
        ours(journal=journal, table=BOOKKEEPING.replace("schema_m", "Schema_M")),
    )
    yield shape("a table without rowid", f"{BOOKKEEPING} WITHOUT ROWID")
    yield Case(
        f"a table without rowid, a text as version, {journal}",
        ours([("abc", "", 1, "")], journal=journal, table=f"{BOOKKEEPING} WITHOUT ROWID"),
        "schema_migrations",
    )
    for what, version in (("a text", "abc"), ("NULL", None), ("a blob", b"\0"), ("a float", 1.5)):
        yield Case(
            f"a descending key, {what} as version, {journal}",
            ours([*rows(KNOWN), (version, "", 1, "")], journal=journal, table=DESCENDING),
            "schema_migrations",
        )
    yield Case(
        f"a table of ours in a stranger's database, {journal}",
        theirs("CREATE TABLE t1 (other TEXT)", journal=journal),
        {"up": "the database has tables but no schema_migrations, and its schema fits no version"},
    )
    yield Case(f"a stranger's database, {journal}", theirs(journal=journal))


def histories(journal: str) -> Iterator[Case]:
    """Yield what the bookkeeping may hold."""

    def history(name: str, records: list[Row], refused: str | dict[str, str] | None) -> Case:
        return Case(f"{name}, {journal}", ours(records, journal=journal), refused)

    yield history("nothing", [], None)
    yield history("everything", rows(KNOWN), None)
    yield history("a negative version", [(-1, "", 1, "w1:a:b"), *rows(KNOWN)], "version is -1")
    yield history("a version -2^63", [(-(2**63), "", 1, "w1:a:b")], "version is -9223372036854")
    newer = other(NOT_STATUS, f"{NEWER} 9223372036854775807")
    yield history("a version 2^63 - 1", [*rows(KNOWN), (2**63 - 1, "x", 1, "w1:a:b")], newer)
    newer = other(NOT_STATUS, f"{NEWER} 4")
    yield history("a newer version", [*rows(KNOWN), (4, "x", 1, "w1:a:b")], newer)
    zero = other(NOT_STATUS, "migration 0 (x) is applied, but this code does not have it")
    yield history("a version below the first", [(0, "x", 1, "w1:a:b"), *rows(KNOWN)], zero)
    hole = {"up": "migration 2 is pending below the applied 3"}
    yield history("a hole", [r for r in rows(KNOWN) if r[0] != 2], hole)
    middle = other(NOT_STATUS, "migration 10000003 (x) is applied, but this code does not have it")
    yield Case(
        f"an unknown version in the middle, {journal}",
        ours(sorted([*rows(TIMESTAMPS)[:2], (10**7 + 3, "x", 1, "w1:a:b")]), journal=journal),
        middle,
        source=f"{__name__}:TIMESTAMPS",
    )

    edited = parse("CREATE TABLE t2 (edited);", "").checksum
    got = rows(KNOWN)[1][3]
    mismatch = f"migration 2 checksum mismatch: expected {edited[3:15]}, got {str(got)[3:15]}"
    yield history("an edited migration", changed(2, checksum=edited), other(NOT_STATUS, mismatch))
    for what, checksum in (
        ("of yoyo", "412-C-;"),
        ("w2", f"w2:{edited[3:]}"),
        ("of capital letters", f"W{edited[1:]}"),
        ("w1 alone", "w1"),
        ("w1 without digests", "w1:"),
        ("w1 with one digest", "w1:abc"),
        ("of nothing", ""),
        ("of 1 MB", "x" * 10**6),
        ("with escapes", ESCAPES),
    ):
        yield history(
            f"a checksum {what}",
            changed(2, checksum=checksum),
            other(NOT_STATUS, "migration 2 is recorded with a checksum of an unknown algorithm"),
        )
    yield history("a blob as checksum", changed(2, checksum=b"\x1b"), "version 2: checksum is")
    for what, at in (
        ("a text", "yester\x1bday"),
        ("negative", -1),
        ("the year 10^6", 31_556_889_864_403),
        ("2^63 - 1", 2**63 - 1),
        ("a blob", b"\x00\xff"),
        ("a float", 1.5),
        ("infinite", float("inf")),
    ):
        yield history(f"applied_at {what}", changed(2, applied_at=at), "version 2: applied_at is")
    for what, description, shown in (
        ("of 1 MB", "y" * 10**6, "yyy"),
        ("of nothing", "", ""),
        ("with escapes", ESCAPES, "red"),
        ("with NUL", "a\0b", "a\\x00b"),
    ):
        yield history(f"a description {what}", changed(2, description=description), None)
        yield history(
            f"an unknown description {what}",
            [(0, description, 1, "w1:a:b"), *rows(KNOWN)],
            other(NOT_STATUS, f"migration 0 ({shown}"),
        )
    yield history(
        "a blob as description", changed(2, description=b"\x1b"), "version 2: description is"
    )
    yield Case(
        f"a description that is not UTF-8, {journal}",
        ours(
            journal=journal,
            extra=(
                "INSERT INTO schema_migrations VALUES (0, CAST(x'c3281b5b' AS TEXT), 1, 'w1:a:b')",
            ),
        ),
        "decode",
    )


CRASHES = [
    Case("ours, crashed in WAL", crashed(TWO)),
    Case("ours, crashed in WAL, without -shm", crashed(TWO, lost=("-shm",))),
    Case("ours, crashed in WAL, nothing pending", crashed(ours())),
    Case(
        "newer, crashed in WAL",
        crashed(ours(), "INSERT INTO schema_migrations VALUES (4, 'x', 1, 'w1:a:b')"),
        other(NOT_STATUS, f"{NEWER} 4"),
    ),
    Case("a stranger's, crashed in WAL", crashed(theirs())),
    Case(
        "a foreign table, crashed in WAL",
        crashed(theirs(), "CREATE TABLE schema_migrations (version)"),
        FOREIGN,
    ),
    Case(
        "ours, crashed with a journal",
        crashed(ours(rows(KNOWN)[:2], journal="delete")),
        other(("status", "validate"), REPAIR),
    ),
    Case(
        "a stranger's, crashed with a journal",
        crashed(theirs(journal="delete")),
        other(("status", "validate"), REPAIR),
    ),
    Case("a -wal of noise, wal", with_wal(TWO, random.Random(5).randbytes(9000))),
    Case(
        "a -wal of noise, delete",
        with_wal(ours(rows(KNOWN)[:2], journal="delete"), random.Random(5).randbytes(9000)),
    ),
    Case("an empty -wal", with_wal(TWO, b"")),
    Case("a -wal of a stranger, wal", with_wal(TWO, None)),
    Case(
        "a -wal of a stranger, delete",
        with_wal(ours(rows(KNOWN)[:2], journal="delete"), None),
    ),
]

PENDING_LOCKED = {"up": LOCKED, "down": LOCKED}


def companies(journal: str) -> Iterator[Case]:
    """Yield databases at which other processes are at work."""
    two, everything = (ours(r, journal=journal) for r in (rows(KNOWN)[:2], rows(KNOWN)))
    newer = ours([*rows(KNOWN), (4, "x", 1, "w1:a:b")], journal=journal)
    write_lock = ("BEGIN IMMEDIATE", "CREATE TABLE half (x)")
    exclusively = ("PRAGMA locking_mode = EXCLUSIVE", "CREATE TABLE load (x)")
    yield Case(f"ours beside a writer, {journal}", beside(two, *write_lock), PENDING_LOCKED)
    yield Case(
        f"everything applied beside a writer, {journal}",
        beside(everything, *write_lock),
        {"down": LOCKED},
    )
    yield Case(
        f"a newer one beside a writer, {journal}",
        beside(newer, *write_lock),
        other(NOT_STATUS, f"{NEWER} 4"),
    )
    yield Case(
        f"a foreign table beside a writer, {journal}",
        beside(theirs(UNTYPED, journal=journal), *write_lock),
        FOREIGN,
    )
    yield Case(
        f"a stranger's beside a writer, {journal}",
        beside(theirs(journal=journal), *write_lock),
        {"up": LOCKED},
    )
    yield Case(f"a database held exclusively, {journal}", beside(two, *exclusively), LOCKED)
    yield Case(
        f"a database held exclusively, in a transaction, {journal}",
        beside(two, exclusively[0], *write_lock),
        PENDING_LOCKED,
    )
    reader = beside(two, "BEGIN", "SELECT * FROM t1")
    yield Case(
        f"ours beside a reader, {journal}", reader, PENDING_LOCKED if journal != "wal" else None
    )


SCRIPTS = [
    Case("a script of 20 MB", TWO, code=code("f\"INSERT INTO t1 VALUES ('{'x' * 20_000_000}');\"")),
    Case("100,000 statements", TWO, code=code("'INSERT INTO t1 VALUES (1);\\n' * 100_000")),
    *(
        Case(
            f"a script with {name}",
            TWO,
            other(("validate", "up", "down"), f"migration 3, up script, line {line}: {said}"),
            code(up),
        )
        for name, up, line, said in (
            ("NUL", "'SELECT 1;\\nSELECT \\0;'", 2, "a NUL character"),
            ("a lone surrogate", "'SELECT 1;\\n\\nSELECT \"\\udc80\";'", 3, "a lone surrogate"),
            ("an open literal", "'\\nSELECT \\'abc;\\n\\n'", 2, "a string that is never closed"),
            ("an open comment", "'SELECT 1; /* \\n'", 1, "a comment that is never closed"),
            ("an open name", "'SELECT \"a;\\n'", 1, "a quoted name that is never closed"),
            ("an open bracket", "'SELECT [a;\\n'", 1, "a quoted name that is never closed"),
        )
    ),
    Case(
        "an endless trigger",
        TWO,
        {"up": "migration 3 (Last) failed and was rolled back: up script, statement 2, line 2"},
        code("'SELECT 1;\\nCREATE TRIGGER e AFTER INSERT ON t1 BEGIN SELECT 1; SELECT 2;'"),
    ),
    Case(
        "a wrong statement with escapes",
        TWO,
        {"up": "statement 1, line 1: SELEC "},
        code("'SELEC \\x1b]31m\\x9b\\u2028 \\'\\r\\'\\n;'"),
    ),
    Case("a version below 0", TWO, "is not between 0 and 2^63 - 1", code(GOOD, version="-1")),
    Case("a version 2^63", TWO, "is not between 0 and 2^63 - 1", code(GOOD, version="2**63")),
    Case("a version True", TWO, "its version is not an integer", code(GOOD, version="True")),
    Case("a text as version", TWO, "its version is not an integer", code(GOOD, version="'\\x1b'")),
    Case("a version twice", TWO, "version 2 is used twice", code(GOOD, version="2")),
    Case("a missing version", TWO, "migration 3 is missing before 4", code(GOOD, version="4")),
    Case("a script of bytes", TWO, "its up is neither SQL nor a function", code("b'SELECT 1'")),
    Case(
        "a description with surrogates",
        TWO,
        "its description has lone surrogates",
        code(GOOD, description="'\\udc80'"),
    ),
    Case("a description with escapes in code", TWO, code=code(GOOD, description=repr(ESCAPES))),
    Case("a description of 1 MB in code", TWO, code=code(GOOD, description="'z' * 10**6")),
    Case("a description of nothing in code", TWO, code=code(GOOD, description="''")),
    Case("a list of texts", TWO, "it is not a Migration", "MIGRATIONS = ['x\\x1b' * 10**6]"),
    Case("no list", TWO, "cannot load migrations from", "MIGRATIONS = 3"),
    Case("code that does not parse", TWO, "cannot load migrations from", "MIGRATIONS = [\n"),
    Case("code that is not UTF-8", TWO, "cannot load migrations from", "MIGRATIONS = '\udcff'"),
    Case("code that fails", TWO, "RuntimeError: boo", "raise RuntimeError('boo\\n\\x1b[31m')"),
    Case("code that exits", TWO, "cannot load migrations from", "raise SystemExit(0)"),
    Case("no module", TWO, "cannot load migrations from", source="no_such_module:MIGRATIONS"),
    Case("no attribute", TWO, "cannot load migrations from", source=f"{__name__}:NONE"),
    Case("no module named", TWO, "name them as module:attribute", source=":MIGRATIONS"),
    Case("a relative module", TWO, "cannot load migrations from", source=".x:MIGRATIONS"),
    Case("a module with escapes", TWO, "cannot load migrations from", source=f"{ESCAPES}:X"),
]

ZONES = [
    Case("the last second, far east", ours(changed(2, applied_at=253_402_300_799)), zone="X-14"),
    Case("the first second, far west", ours(changed(2, applied_at=0)), zone="X+12"),
]

CASES = [
    *PATHS,
    *FILES,
    *(case for journal in JOURNALS for case in shapes(journal)),
    *(case for journal in JOURNALS for case in histories(journal)),
    *CRASHES,
    *(case for journal in JOURNALS for case in companies(journal)),
    *SCRIPTS,
    *ZONES,
]


def snapshot(folder: Path) -> dict[str, tuple[int, str]]:
    """Return every name below a folder with its mode and content.

    A reader of a write-ahead log with content makes or changes its -shm: that is left out.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        log = path.with_name(path.name.removesuffix("-shm") + "-wal")
        if log.exists() and log.stat().st_size and path.name.endswith("-shm"):
            continue
        mode = path.lstat().st_mode
        content = ""
        if stat.S_ISLNK(mode):
            content = str(path.readlink())
        elif stat.S_ISREG(mode) and os.access(path, os.R_OK):
            content = sha256(path.read_bytes()).hexdigest()
        found[str(path.relative_to(folder))] = mode, content
    return found


def versions(path: Path) -> list[int]:
    """Read what a database records, after everybody has left it."""
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as connection:
        assert [("ok",)] == connection.execute("PRAGMA integrity_check").fetchall()
        table = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'schema_migrations'"
        if connection.execute(f"{table} COLLATE NOCASE").fetchone() is None:
            return []
        found = connection.execute("SELECT version FROM schema_migrations ORDER BY version")
        return [version for (version,) in found]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Name the database of a case, alone in its folder, which is the current one."""
    folder = tmp_path / "place"
    folder.mkdir()
    (tmp_path / "code").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "code")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("WAVE_LOCK_TIMEOUT", "0.5")
    yield folder / "state.db"
    sys.modules.pop("hostile_code", None)


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Set the local time zone."""

    def set_zone(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_zone
    monkeypatch.undo()
    time.tzset()


async def invoke(case: Case, path: Path, command: str, *options: str) -> Result:
    """Run one command of the command line, within SECONDS."""
    source = case.source
    if case.code:
        module = path.parent.parent / "code" / "hostile_code.py"
        module.write_bytes(case.code.encode(errors="surrogateescape"))
    elif source == Case.source:
        source = f"{__name__}:KNOWN"
    arguments = ["migrate", "--database", case.database(path), "--migrations", source]
    async with asyncio.timeout(SECONDS):
        return await CliRunner().invoke(cli, [*arguments, *COMMANDS[command], *options])


def assert_refused(result: Result, fragment: str) -> None:
    """Check for one line of error that holds a fragment, and the exit code 1."""
    told = [line for line in result.stderr.split("\n") if not line.startswith("Waiting for ")]

    assert (1, 2, "") == (result.exit_code, len(told), told[-1]), result.stderr[:5000]
    assert told[0].startswith("Error: ")
    assert fragment in told[0]
    assert 5000 > len(told[0])


def assert_clean(result: Result) -> None:
    """Check for no traceback, and nothing that a terminal would obey."""
    if not isinstance(result.exception, SystemExit | None):
        raise result.exception
    for output in (result.stdout, result.stderr):
        assert "" == "".join(c for c in output if not c.isprintable() and c != "\n")
        assert not re.search(r'Traceback|File "', output)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
async def test_case(case: Case, command: str, place: Path, zone: Callable[[str], None]) -> None:
    """Each command says to each place what the table says, and changes nothing unless it works."""
    if case.zone:
        zone(case.zone)
    with ExitStack() as stack:
        if company := case.make(place):
            stack.enter_context(company)
        before = snapshot(place.parent)
        result = await invoke(case, place, command)
        after = snapshot(place.parent)

    assert_clean(result)
    fragment = case.fragment(command)
    if fragment is not None:
        assert_refused(result, fragment)
    else:
        assert (0, "") == (result.exit_code, result.stderr)
    idle = re.search("Nothing to do|is up to date", result.stdout)
    if "crashed with a journal" in case.name:  # SQLite repairs it before anything can be judged
        idle = None
    if fragment is not None or command in READING or idle:
        assert before == after
    elif case.database(place) != os.devnull:
        expected = [] if command == "down" else [1, 2, 3]
        assert expected == versions(Path(case.database(place)))


def test_size_of_the_table() -> None:
    """The table has the promised number of rows, each with a name of its own."""
    assert len(CASES) == len({case.name for case in CASES})
    assert 60 <= len(CASES)


@pytest.mark.parametrize("case", [SCRIPTS[2], PATHS[2]], ids=lambda case: case.name)
@pytest.mark.parametrize("command", ["validate", "up"])
async def test_json(case: Case, command: str, place: Path) -> None:
    """Under --json the error is one JSON object on stderr, and nothing is on stdout."""
    case.make(place)
    result = await invoke(case, place, command, "--json")

    assert (1, "") == (result.exit_code, result.stdout)
    assert {"error", "message"} == set(json.loads(result.stderr))


@pytest.mark.parametrize("command", COMMANDS)
async def test_hard_link(command: str, place: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of a database with a second name it is said that each name has a log of its own."""
    TWO(place)
    place.with_name("second.db").hardlink_to(place)
    result = await invoke(Case("a hard link", TWO), place, command)

    assert 0 == result.exit_code
    assert re.search("hard.?link", result.stderr + caplog.text, re.IGNORECASE)


@pytest.mark.parametrize("command", READING)
async def test_live_hard_link(command: str, place: Path) -> None:
    """A question about a database in use under its other name changes nothing of it."""
    TWO(place)
    second = place.with_name("second.db")
    second.hardlink_to(place)
    with partner(second, "INSERT INTO t1 VALUES (1)"):
        before = snapshot(place.parent)
        result = await invoke(Case("a hard link", TWO), place, command)
        after = snapshot(place.parent)

    assert_clean(result)
    assert before == after


ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) SELECT count(*) FROM n"
RUNAWAYS = {
    "query": ENDLESS,
    "insert": "INSERT INTO half WITH RECURSIVE n(x) AS "
    "(SELECT 1 UNION ALL SELECT x FROM n) SELECT count(*) FROM n",
    "table": f"CREATE TABLE other AS {ENDLESS}",
}


@pytest.mark.parametrize("runaway", RUNAWAYS.values(), ids=RUNAWAYS)
async def test_statement_timeout(pool: SingleConnectionPool, runaway: str) -> None:
    """An endless statement is ended and rolled back, with its own error; the pool is usable."""
    known = [*numbered(1), Migration(2, "Endless", f"CREATE TABLE half (x);\n{runaway};")]
    with pytest.raises(MigrationFailed) as failed:
        await MigrationManager(pool, known, statement_timeout=0.2).migrate_up()

    error = failed.value
    assert (2, 2, 2, (1,)) == (error.version, error.number, error.line, error.done)
    assert isinstance(error.__cause__, StatementTimeout)
    assert "ended after 0.2 s (statement_timeout)" in str(error)
    async with pool.acquire() as connection:
        assert not connection.in_transaction
        tables = await connection.execute_fetchall("SELECT name FROM sqlite_schema")
        assert {("schema_migrations",), ("schema_migrations_log",), ("t1",)} == set(tables)
    assert await MigrationManager(pool, numbered(2), statement_timeout=0.2).migrate_up()


async def test_statement_timeout_of_a_rollback(pool: SingleConnectionPool) -> None:
    """An endless way down is ended too, and the version stays."""
    manager = MigrationManager(
        pool, [Migration(1, "Add t", "CREATE TABLE t (x);", ENDLESS)], statement_timeout=0.2
    )
    await manager.migrate_up()
    with pytest.raises(MigrationFailed) as failed:
        await manager.migrate_down(0)

    assert isinstance(failed.value.__cause__, StatementTimeout)
    assert 1 == await manager.current_version()


async def test_progress_handler_stays(pool: SingleConnectionPool) -> None:
    """The application's progress handler is asked again after a run with a statement timeout."""
    calls = []
    async with pool.acquire() as connection:
        await connection.set_progress_handler(lambda: calls.append(1), 10)
    with pytest.raises(MigrationFailed):
        await MigrationManager(
            pool, [Migration(1, "Endless", ENDLESS)], statement_timeout=0.1
        ).migrate_up()
    calls.clear()
    async with pool.acquire() as connection:
        await connection.execute_fetchall(
            f"{ENDLESS} LIMIT 1".replace("FROM n)", "FROM n LIMIT 99)")
        )

    assert calls


async def test_no_statement_timeout(pool: SingleConnectionPool) -> None:
    """Without a statement timeout the application's progress handler may end a migration."""
    async with pool.acquire() as connection:
        await connection.set_progress_handler(lambda: 1, 1000)
    with pytest.raises(MigrationFailed, match="SQLITE_INTERRUPT"):
        await MigrationManager(pool, [Migration(1, "Endless", ENDLESS)]).migrate_up()


async def test_statement_timeout_of_the_command_line(place: Path) -> None:
    """`up --statement-timeout` ends an endless statement with one line of error."""
    case = Case("an endless script", TWO, code=code(repr(ENDLESS)))
    TWO(place)
    before = snapshot(place.parent)
    result = await invoke(case, place, "up", "--statement-timeout", "0.2")

    assert_clean(result)
    assert_refused(result, "it was ended after 0.2 s (statement_timeout)")
    assert before == snapshot(place.parent)
