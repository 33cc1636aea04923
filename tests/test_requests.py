"""A program is a plain generator: these few lines serve it on a connection of the standard library.

The tests of steps and walks drive their programs with them, one request at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from wave_async.database import history
from wave_async.database.guard import look
from wave_async.database.requests import (
    BeginWrite,
    DataVersion,
    Execute,
    Foresee,
    Guard,
    Program,
    Query,
    Report,
    Request,
    Restore,
    Rollback,
    SwitchToWal,
    Unguard,
)
from wave_async.model.events import WaitingForLock

Serve = Callable[[Request], Any]


def drive(program: Program[Any], serve: Serve) -> tuple[list[Request], Any]:
    """Serve a program to its end; answers its requests in order, and its result or its error."""
    asked: list[Request] = []
    resume: Callable[[Any], Request] = program.send
    answer: Any = None
    while True:
        try:
            request = resume(answer)
        except StopIteration as stop:
            return asked, stop.value
        except BaseException as error:  # noqa: BLE001 - it is what the program ended with
            return asked, error
        asked.append(request)
        try:
            resume, answer = program.send, serve(request)
        except BaseException as error:  # noqa: BLE001 - the program decides what follows
            resume, answer = program.throw, error


class Hands:
    """Serves requests on a connection, and knows whether the guard is up."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.guarded = False

    def __call__(self, request: Request) -> Any:
        """Do what a request asks for."""
        match request:
            case Execute(sql, parameters):
                self.connection.execute(sql, parameters)
                return self.connection.in_transaction
            case Query(sql, parameters):
                return self.connection.execute(sql, parameters).fetchall()
            case DataVersion():
                return self.connection.execute(history.DATA_VERSION).fetchone()[0]
            case BeginWrite():
                self.connection.execute("BEGIN IMMEDIATE")
                return True
            case Foresee():
                return []
            case Guard():
                self.guarded = True
            case Unguard():
                self.guarded = False
            case Restore(sql):
                self.connection.execute(sql)
            case Rollback():
                self.connection.rollback()
        return None


def opened(path: Path) -> closing[sqlite3.Connection]:
    """Open a database as anybody would, in autocommit mode, and close it at the end."""
    return closing(sqlite3.connect(path, isolation_level=None, timeout=0))


def raising(error: BaseException, when: Callable[[Request], bool], serve: Serve) -> Serve:
    """Fail the requests that `when` picks."""

    def answer(request: Request) -> Any:
        if when(request):
            raise error
        return serve(request)

    return answer


def is_cleanup(request: Request) -> bool:
    """Whether no session ever cancels this request."""
    return isinstance(request, Rollback | Restore | Unguard)


def kth(k: int) -> Callable[[Request], bool]:
    """Pick the k-th request, counted from 0, unless it is one of a cleanup."""
    numbers = count()
    return lambda request: next(numbers) == k and not is_cleanup(request)


def meanwhile(act: Callable[[], object], before: type[Request], serve: Serve) -> Serve:
    """Let somebody else act once, just before the first request of a kind is served."""
    acts = iter([act])

    def answer(request: Request) -> Any:
        if isinstance(request, before):
            next(acts, lambda: None)()
        return serve(request)

    return answer


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        (Execute("SELECT 1"), Execute("SELECT 1", ()), Query("SELECT 1")),
        (Query("SELECT ?", (1,)), Query("SELECT ?", (1,)), Query("SELECT ?", (2,))),
        (BeginWrite(1), BeginWrite(1.0), SwitchToWal(1)),
        (Guard(look), Guard(look), Unguard()),
        (Rollback(), Rollback(), Restore("ROLLBACK")),
        (Report(WaitingForLock(1)), Report(WaitingForLock(1)), Report(WaitingForLock(2))),
    ],
)
def test_a_request_is_a_value(one: Request, same: Request, other: Request) -> None:
    """A request equals one that asks for the same, and no other."""
    assert same == one
    assert hash(same) == hash(one)
    assert other != one
