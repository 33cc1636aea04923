"""What a migration does, ready to run: its steps, their numbers, and what their checksum is of."""

from __future__ import annotations

import functools
import importlib.util
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from wave_async.errors import InvalidScript
from wave_async.model.migration import Work
from wave_async.model.work import Function, ready, work_digest

SOURCE = '''"""Steps of an application."""


def up(connection):
    connection.execute("CREATE TABLE t (x)")  # a note


async def down(db):
    await db.execute("DROP TABLE t")
'''


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], ModuleType]:
    """Return what imports source as a module of its own."""
    made: list[Path] = []

    def load(source: str) -> ModuleType:
        made.append(tmp_path / f"steps_{len(made)}.py")
        made[-1].write_bytes(source.encode())
        spec = importlib.util.spec_from_file_location(made[-1].stem, made[-1])
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def checksum(work: Work) -> str:
    """Return the checksum of a work."""
    found = ready(work, "here", transaction=True).checksum
    assert found.split(":")[2] == work_digest(work, "here")
    return found


def first(connection: sqlite3.Connection) -> None:
    """Do nothing, as the other one."""


async def second(db: Any) -> None:
    """Do nothing either."""


def test_the_checksum_of_a_script_is_what_it_was_before_there_were_functions() -> None:
    """What an older release has recorded stays right, lifted statements, CRLF and BOM included."""
    script = (
        "\ufeffPRAGMA foreign_keys=OFF;\r\nBEGIN;\r\nCREATE TABLE t (x); -- a note\r\n"
        "INSERT INTO t VALUES ('a\r\nb');\r\nCOMMIT;\r\n"
    )
    golden = (
        "w1:5e69c740600d6f79cf7cb4a321bb48e4bca13b88eddf52f2ae11ac4118869f6a"
        ":7d9c22f1ca8219189e63dd2cbd78a571ef1e9d7a7a85d6d7208ab4864c71ddb7"
    )

    assert [golden, golden] == [checksum(script), checksum([script])]


@pytest.mark.parametrize("name", ["up", "down"])
def test_the_checksum_of_a_function_is_of_its_source(
    load: Callable[[str], ModuleType], name: str
) -> None:
    """Another line ending or place in the file changes nothing; any other edit does."""
    plain = checksum(getattr(load(SOURCE), name))

    assert plain == checksum(getattr(load(SOURCE.replace("\n", "\r\n")), name))
    assert plain == checksum(getattr(load(f"import os\n\n\n{SOURCE}"), name))
    edited = checksum(getattr(load(SOURCE.replace("TABLE t", "TABLE u")), name))
    assert all(a != b for a, b in zip(plain.split(":")[1:], edited.split(":")[1:], strict=True))


def test_the_checksum_of_parts_is_of_each_in_order() -> None:
    """An edit of any part shows, and so do their order and where one ends; layout of SQL not."""
    work = ["CREATE TABLE t (x)", first, "CREATE TABLE u (x)"]
    others: list[Work] = [
        [work[0], first, "CREATE TABLE u (y)"],
        [work[0], second, work[2]],
        [first, work[0], work[2]],
        [work[0], work[2]],
        [work[0], "", first, work[2]],
        first,
    ]

    assert len(others) + 1 == len({checksum(work), *map(checksum, others)})
    relaid = checksum(["CREATE TABLE\n t (x); -- a note", first, work[2]])
    assert checksum(work).split(":")[:2] == relaid.split(":")[:2]
    assert checksum("SELECT 1; SELECT 2") != checksum(["SELECT 1;", "SELECT 2"])


def test_steps_are_numbered_through() -> None:
    """Statements keep the number that they have in the file, through all parts; lines their own."""
    script = "PRAGMA foreign_keys = OFF;\nBEGIN;\nSELECT 1;\nCOMMIT;\nPRAGMA foreign_keys = ON;"
    work = ready([script, first, "SELECT 2;\n\nSELECT 3;", second], "here", transaction=True)
    shown = [(s.first_line, s.number) for s in work.steps]

    assert [("SELECT 1", 3), ("first()", 6), ("SELECT 2", 7), ("SELECT 3", 8), ("second()", 9)] == (
        shown
    )
    assert [3, first.__code__.co_firstlineno, 1, 3, second.__code__.co_firstlineno] == [
        s.line for s in work.steps
    ]
    assert [False, True] == [s.awaits for s in work.steps if isinstance(s, Function)]
    assert work.keys_off


def wrapped() -> Callable[..., object]:
    """Return a function whose wrapper does not await it."""

    @functools.wraps(second)
    def wrapper(db: object) -> object:
        return second(db)

    return wrapper


def test_a_wrapper_is_run_as_what_it_is() -> None:
    """What awaits is what is declared so, and the source is that of the function inside."""
    (step,) = ready(wrapped(), "here", transaction=True).steps

    assert isinstance(step, Function)
    assert not step.awaits
    assert checksum(second) == checksum(wrapped())


class Callable_:  # noqa: N801 - beside the type of that name
    """Something that can be called and has no source of its own."""

    def __call__(self, connection: sqlite3.Connection) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    "step",
    [
        eval(compile("lambda connection: None", "<nowhere>", "eval")),
        functools.partial(first),
        Callable_(),
        print,
    ],
    ids=["lambda", "partial", "object", "builtin"],
)
def test_a_function_without_source_is_refused(step: Callable[[Any], Any]) -> None:
    """What could not be recognised as edited is no step of a migration."""
    with pytest.raises(InvalidScript, match=r"here, line 1: the source of .* cannot be found"):
        ready(["SELECT 1", step], "here", transaction=True)


@pytest.mark.parametrize(
    ("work", "line", "what"),
    [
        ("VACUUM;\nCREATE TABLE t (x);", 2, "CREATE TABLE t (x)"),
        ("VACUUM;\n\n\nINSERT INTO t\nVALUES (1)", 4, "INSERT INTO t"),
        ("VACUUM INTO 'copy.db'", 1, "VACUUM INTO 'copy.db'"),
        ("BEGIN;\nVACUUM", 1, "BEGIN"),
        (["VACUUM", first], first.__code__.co_firstlineno, "first()"),
    ],
)
def test_what_needs_a_transaction_is_refused_without_one(work: Work, line: int, what: str) -> None:
    """Before anything runs the statement is named, with its line and what may run instead."""
    with pytest.raises(InvalidScript) as refused:
        ready(work, "here", transaction=False)

    assert f"here, line {line}: {what}: without a transaction only VACUUM " in str(refused.value)


@pytest.mark.parametrize("work", ["", "VACUUM", ["PRAGMA page_size = 512", "VACUUM main"]])
def test_what_runs_without_a_transaction(work: Work) -> None:
    """VACUUM and its like may run outside a transaction; so may nothing at all."""
    assert ready(work, "here", transaction=False).checksum == checksum(work)
