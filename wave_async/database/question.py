"""Answers a question about a database file without leaving a trace on it.

Owns the short read-only connection; knows nothing of event loops.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from wave_async.database import files
from wave_async.database.driver import EngineConnection, refuse_unrun
from wave_async.database.requests import Program
from wave_async.database.session import Hop, T
from wave_async.errors import DatabaseUnusable
from wave_async.model.events import Event

Setup = Callable[[sqlite3.Connection], object]
"""Prepares a new connection for an application, with its own functions say."""


class Question(Hop[T]):
    """One run of a program on a connection of its own, opened for it and closed after it.

    A missing file is answered as an empty database and stays missing. Where nobody can be writing
    the file is read as immutable; what changed under such a read is read again as others read it.
    """

    def __init__(
        self,
        path: str,
        program: Callable[[], Program[T]],
        report: Callable[[Event], None],
        patience: float,
        setup: Setup | None = None,
    ) -> None:
        super().__init__(program, report, patience)
        self._path = path
        self._setup = setup

    def ask(self) -> None:
        """Open, run and close, on the calling thread; never raises, see `outcome`."""
        try:
            self._ask()
        except OSError as error:  # the file went away between two looks
            self._error = DatabaseUnusable(self._path, files.reason_of(error))
        except BaseException as error:  # noqa: BLE001 - outcome() raises it in the awaiter
            self._error = error
        self.finished = True

    def _ask(self) -> None:
        if not files.check(self._path):
            self._read(files.MEMORY)
            return
        stamp = files.untouchable(self._path)
        if stamp is not None:
            self._read(files.read_only_uri(self._path, immutable=True))
        if stamp is None or stamp != files.untouchable(self._path):
            self._read(files.read_only_uri(self._path, immutable=False))

    def _read(self, uri: str) -> None:
        connection = EngineConnection(uri, uri=True, isolation_level=None, check_same_thread=False)
        try:
            if self._setup is not None:
                refuse_unrun(self._setup(connection))
            self._try_on(connection)
        finally:
            connection.close()
