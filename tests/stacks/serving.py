"""Runs real servers with several workers, and the programs of `examples/`, as a person would."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import httpx2 as httpx
import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PATIENCE = 120
"""After how many seconds something that does not come fails its test."""

SERVERS = {
    "uvicorn": "uvicorn {app} --workers {workers} --port {port}",
    "hypercorn": "hypercorn {app} --workers {workers} --bind 127.0.0.1:{port}",
    "gunicorn": (
        "gunicorn {app} --workers {workers} --bind 127.0.0.1:{port}"
        " --worker-class uvicorn_worker.UvicornWorker --no-control-socket"
    ),
    "gunicorn-aiohttp": (
        "gunicorn {app} --workers {workers} --bind 127.0.0.1:{port}"
        " --worker-class aiohttp.GunicornWebWorker --no-control-socket"
    ),
}
UP = {
    "uvicorn": "Application startup complete",
    "hypercorn": "[INFO] Running on",
    "gunicorn": "Application startup complete",
    "gunicorn-aiohttp": "Booting worker",
}
"""What each worker says once; of aiohttp's there is nothing later than that it boots."""


def need(*packages: str) -> None:
    """Skip the tests of a module, with a message, where a package is missing."""
    for name in packages:
        pytest.importorskip(name, reason=f"{name} is missing; `tox run -e stacks` has it")


def copied(name: str, to: Path) -> Path:
    """Copy an example into a folder of the test, which is where it will leave its databases."""
    copy = to / name
    shutil.copytree(EXAMPLES / name, copy, ignore=shutil.ignore_patterns("__pycache__", "*.db*"))
    return copy


def environment() -> dict[str, str]:
    """Return an environment in which every warning is shown."""
    return {**os.environ, "PYTHONWARNINGS": "default"}


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs, perhaps not yet listening."""

    process: subprocess.Popen[bytes]
    port: int
    output: Path

    def get(self, path: str, seconds: float = 10) -> httpx.Response | None:
        """Answer a request; None where there is no answer within some seconds."""
        with suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=seconds)
        return None

    def answers(self, status: int, path: str = "/healthz") -> bool:
        """Whether a request is answered with a status."""
        response = self.get(path)
        return response is not None and response.status_code == status

    def said(self) -> str:
        """Return what it has written so far."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition is true; fail with what was written where it never is."""
        deadline = monotonic() + PATIENCE
        while not condition():
            assert monotonic() < deadline, self.said()
            sleep(0.05)

    def stop(self) -> str:
        """End it as a supervisor does, and wait for it and for all of its workers."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)
        self.until(lambda: not self._group_lives())
        return self.said()

    def kill(self) -> None:
        """End what a failed test has left."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)

    def _group_lives(self) -> bool:
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(command: str, folder: Path, **named: object) -> Iterator[Server]:
    """Run a server in a folder; `{port}` in the command and what is named are filled in."""
    port = free_port()
    output = folder / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *command.format(port=port, **named).split()],
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(process, port, output)
    try:
        yield server
    finally:
        server.kill()
