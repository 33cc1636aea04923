"""A dqlite cluster of three nodes on loopback, each a process that can be killed and started."""

from __future__ import annotations

import ctypes
import importlib.util
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

NODE = Path(__file__).with_name("dqlite_node.py")
NODES = (1, 2, 3)


def missing() -> str:
    """Return what a cluster lacks here, nothing where it can be started."""
    if importlib.util.find_spec("dqliteclient") is None:
        return "dqlite-client is not installed; it needs Python 3.13"
    try:
        ctypes.CDLL("libdqlite.so.0")
    except OSError:
        return "libdqlite.so.0 is missing; Debian has it in libdqlite0"
    return ""


class Cluster:
    """Three nodes; as a context manager it ends their processes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.processes: dict[int, subprocess.Popen[str]] = {}
        with ExitStack() as taken:
            self.addresses = {n: f"127.0.0.1:{_free_port(taken)}" for n in NODES}

    def __enter__(self) -> Self:
        for number in NODES:
            self.start(number)
        return self

    def __exit__(self, *_: object) -> None:
        for number in NODES:
            self.kill(number)

    def url(self, name: str) -> str:
        """Return what a database of the cluster is called."""
        return f"dqlite://{','.join(self.addresses.values())}/{name}"

    def start(self, number: int) -> None:
        """Start a node; it goes on where it was killed."""
        place = self.directory / f"node{number}"
        place.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(NODE), str(number), self.addresses[number], str(place)]
        with (place / "stderr").open("a") as stderr:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
        assert process.stdout is not None
        assert "ready\n" == process.stdout.readline()
        self.processes[number] = process

    def kill(self, number: int) -> None:
        """End a node at once."""
        process = self.processes[number]
        process.kill()
        process.communicate()

    def is_alive(self) -> bool:
        """Whether every node runs."""
        return all(process.poll() is None for process in self.processes.values())

    async def join(self) -> None:
        """Make the nodes voters of one cluster."""
        from dqlitewire.constants import NodeRole  # noqa: PLC0415 - it may be missing

        client = self.client()
        for number in NODES[1:]:
            await client.add_node(number, self.addresses[number], role=NodeRole.VOTER)

    def client(self) -> Any:
        """Return a client of all nodes."""
        from dqliteclient import ClusterClient  # noqa: PLC0415 - it may be missing

        return ClusterClient.from_addresses(
            list(self.addresses.values()), timeout=10, concurrent_leader_conns=1
        )

    async def leader(self) -> int:
        """Return the number of the node that leads."""
        return int((await self.client().leader_info()).node_id)


def _free_port(taken: ExitStack) -> int:
    listener = taken.enter_context(socket.socket())
    listener.bind(("127.0.0.1", 0))
    return int(listener.getsockname()[1])
