"""Litestream beside the engine: what is written is replicated, and a moment can be restored."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from conftest import numbered
from serving import PATIENCE

from wave_async import (
    LogEntry,
    Migration,
    MigrationManager,
    SingleConnectionPool,
    SnapshotPolicy,
    errors,
)
from wave_async.integrations.litestream import Litestream

BESIDE = shutil.which("litestream", path=str(Path(sys.executable).parent))
PROGRAM = BESIDE or shutil.which("litestream")
if PROGRAM is None:
    pytest.skip("litestream is missing; `tox run -e stacks` has it", allow_module_level=True)

THREE = numbered(3)
SEED = Migration(2, "Seed", "INSERT INTO t1 VALUES (1), (2), (3);", "DELETE FROM t1;")
RUN = [
    THREE[0],
    SEED,
    Migration(3, "Lose", "DELETE FROM t1; CREATE TABLE t3 (x);", "DROP TABLE t3;"),
]
SNAPSHOTS = SnapshotPolicy()


@dataclass
class Replica:
    """A daemon that replicates one database to a folder; it compacts within seconds."""

    folder: Path
    retention: str = "1h"
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def database(self) -> Path:
        """The database."""
        return self.folder / "app.db"

    @property
    def socket(self) -> Path:
        """The control socket of the daemon."""
        return self.folder / "litestream.sock"

    @property
    def log(self) -> Path:
        """What the daemon says."""
        return self.folder / "daemon.log"

    @property
    def hook(self) -> Litestream:
        """The hook for this daemon."""
        return Litestream(self.socket, program=PROGRAM)

    def start(self) -> None:
        """Start the daemon and wait until it answers."""
        (self.folder / "litestream.json").write_text(
            json.dumps(
                {
                    "socket": {"enabled": True, "path": str(self.socket)},
                    "l0-retention": self.retention,
                    "l0-retention-check-interval": "100ms",
                    "levels": [{"interval": "1s"}],
                    "dbs": [
                        {
                            "path": str(self.database),
                            "checkpoint-interval": "500ms",
                            "monitor-interval": "100ms",
                            "replica": {
                                "type": "file",
                                "path": str(self.folder / "replica"),
                                "sync-interval": "100ms",
                            },
                        }
                    ],
                }
            )
        )
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(PROGRAM), "replicate", *self._config], stdout=log, stderr=log
            )
        until(self._answers)

    def stop(self) -> None:
        """Stop the daemon; what it has not replicated yet it does now."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(PATIENCE)
            self.process = None

    def say(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Litestream."""
        return subprocess.run(
            [str(PROGRAM), *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def sync(self) -> str:
        """Wait until all is replicated; returns the transaction id."""
        options = ("-wait", "-json", "-socket", str(self.socket))
        done = self.say("sync", *options, str(self.database))
        assert 0 == done.returncode, done.stderr
        return f"{json.loads(done.stdout)['replica_txid']:016x}"

    def restored(self, name: str, *options: str) -> Path:
        """Restore the replica to another file."""
        path = self.folder / name
        done = self.say(
            *("restore", *self._config, "-integrity-check", "full", "-o", str(path)),
            *(*options, str(self.database)),
        )
        assert 0 == done.returncode, done.stderr
        return path

    def restorable(self, txid: str) -> bool:
        """Whether the replica can still give the state of a transaction."""
        out = ("-o", str(self.folder / "never.db"))
        options = ("-dry-run", "-txid", txid, *out)
        return 0 == self.say("restore", *self._config, *options, str(self.database)).returncode

    def complaints(self) -> list[str]:
        """Return the warnings and errors of the daemon."""
        lines = self.log.read_text().splitlines()
        return [line for line in lines if "level=WARN" in line or "level=ERROR" in line]

    def check(self) -> None:
        """Check that a restore is what the database is, and that the daemon has not complained."""
        self.sync()
        assert dump(self.database) == dump(self.restored(f"copy{monotonic()}.db"))
        assert [] == self.complaints()

    @property
    def _config(self) -> tuple[str, str]:
        return "-config", str(self.folder / "litestream.json")

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as found:
            return found.connect_ex(str(self.socket)) == 0


def until(true: Any) -> None:
    """Wait for something that another process does."""
    deadline = monotonic() + PATIENCE
    while not true():
        assert monotonic() < deadline, "it never came"


def dump(path: Path) -> list[str]:
    """Return all that is in a database, but for what Litestream keeps there."""
    with closing(sqlite3.connect(path)) as db:
        return [line for line in db.iterdump() if "_litestream_" not in line]


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Replica]:
    """A daemon that is to be started, and is stopped at the end."""
    replica = Replica(tmp_path)
    yield replica
    replica.stop()


def managed(
    pool: SingleConnectionPool, replica: Replica, migrations: Any = RUN
) -> MigrationManager:
    """Return a manager with the hook."""
    return MigrationManager(pool, migrations, snapshots=SNAPSHOTS, before=replica.hook)


def marks(log: tuple[LogEntry, ...]) -> dict[int | None, str]:
    """Return the transaction ids of a log, by the version of what came after."""
    return {e.version: e.outcome.split()[-1] for e in log if e.action == "mark"}


async def begun(replica: Replica) -> None:
    """Make the database, and start to replicate it."""
    async with SingleConnectionPool(replica.database) as pool:
        await MigrationManager(pool, RUN).migrate_up(1)
    replica.start()


async def test_moment_before(replica: Replica) -> None:
    """The id in the log restores exactly the state before the migration that it names."""
    await begun(replica)
    async with SingleConnectionPool(replica.database) as pool:
        manager = managed(pool, replica)
        await manager.migrate_up(2)
        wanted = dump(replica.database)
        await manager.migrate_up(3)
        found = marks(await manager.log())
    replica.stop()

    assert [2, 3] == sorted(map(int, filter(None, found)))
    assert wanted == dump(replica.restored("before.db", "-txid", found[3]))


async def test_restore_in_place(replica: Replica) -> None:
    """Both stopped, restored and started: ids go on, and what was discarded is there as well."""
    await begun(replica)
    async with SingleConnectionPool(replica.database) as pool:
        manager = managed(pool, replica)
        await manager.migrate_up()
        txid = marks(await manager.log())[2]
    discarded, last = dump(replica.database), replica.sync()
    replica.stop()
    replica.restored("app.db", "-force", "-txid", txid)

    replica.start()
    async with SingleConnectionPool(replica.database) as pool:
        manager = managed(pool, replica)
        assert 1 == await manager.current_version()
        await manager.migrate_up()
        again = marks(await manager.log())[2]

    assert again > last
    replica.check()
    assert discarded == dump(replica.restored("discarded.db", "-txid", last))


async def test_everything_the_engine_writes(replica: Replica) -> None:
    """Up, down, undo, a rehearsal, a baseline, a repair, a VACUUM: the replication is in order."""
    await begun(replica)
    async with SingleConnectionPool(replica.database) as pool:
        manager = managed(pool, replica)
        await manager.rehearse_up()
        await manager.migrate_up(atomic=True)
        replica.check()
        await manager.migrate_down(1)
        replica.check()
        await manager.undo()
        replica.check()
        edited = [RUN[0], Migration(2, "Seed", "INSERT INTO t1 VALUES (9);"), RUN[2]]
        await MigrationManager(pool, edited).repair(force=True)
        tidy = Migration(5, "Tidy", "VACUUM;", transaction=False)
        await MigrationManager(pool, [*edited, numbered(4)[3]]).baseline(4, force=True)
        await managed(pool, replica, [*edited, numbered(4)[3], tidy]).migrate_up()

        replica.check()


async def test_import(replica: Replica) -> None:
    """So does the adoption of what another tool has applied."""
    with closing(sqlite3.connect(replica.database)) as db:
        db.executescript(
            "PRAGMA journal_mode = WAL;"
            "CREATE TABLE schema_migrations (version uint64, dirty bool);"
            "INSERT INTO schema_migrations VALUES (3, 0);"
            + "".join(m.up for m in THREE if isinstance(m.up, str))
        )
    replica.start()
    replica.sync()
    async with SingleConnectionPool(replica.database) as pool:
        await managed(pool, replica, THREE).import_history("golang-migrate")

    replica.check()


async def test_undo_of_a_snapshot_from_before(replica: Replica) -> None:
    """What Litestream keeps in a database stays there when an older snapshot is restored."""
    async with SingleConnectionPool(replica.database) as pool:
        manager = managed(pool, replica)
        await MigrationManager(pool, RUN).migrate_up()
        await MigrationManager(pool, RUN, snapshots=SNAPSHOTS).migrate_down(2)
        replica.start()
        replica.sync()

        await manager.undo()

        assert 3 == await manager.current_version()
        replica.check()


async def test_its_tables(replica: Replica) -> None:
    """Its tables are no drift, however strict, and no reason to adopt an empty database."""
    with closing(sqlite3.connect(replica.database)) as db:
        db.execute("PRAGMA journal_mode = WAL")
    replica.start()
    replica.sync()
    async with SingleConnectionPool(replica.database) as pool:
        manager = managed(pool, replica)
        done = await manager.migrate_up()
        validation = await manager.validate(strict=True)

    assert ((), 3) == (done.adopted, len(done.steps))
    assert () == validation.foreign
    replica.check()


async def test_compaction_forgets(replica: Replica) -> None:
    """An id can be restored only as long as Litestream keeps each transaction: `l0-retention`."""
    replica.retention = "1ms"
    await begun(replica)
    ids = []
    with closing(sqlite3.connect(replica.database, isolation_level=None)) as db:
        for n in range(3):
            db.execute("INSERT INTO t1 VALUES (?)", (n,))
            ids.append(replica.sync())

    until(lambda: not all(map(replica.restorable, ids)))


async def test_refused(replica: Replica) -> None:
    """Without a daemon, or with one that does not know the database, nothing is migrated."""
    await begun(replica)
    async with SingleConnectionPool(replica.folder / "other.db") as other:
        await MigrationManager(other, RUN).migrate_up(1)
        with pytest.raises(errors.HookFailed, match="database not found"):
            await managed(other, replica).migrate_up()
    replica.stop()
    async with SingleConnectionPool(replica.database) as pool:
        with pytest.raises(errors.HookFailed, match="; start `litestream replicate`, or set"):
            await managed(pool, replica).migrate_up()
        nothing = MigrationManager(pool, RUN, before=Litestream(program=replica.folder / "none"))
        with pytest.raises(errors.HookFailed, match="cannot be run"):
            await nothing.migrate_up()

        assert 1 == await MigrationManager(pool, RUN).current_version()
