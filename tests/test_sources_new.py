"""The next file of a folder: its name, its numbering, and several people at once."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from wave_async import load_migrations
from wave_async.errors import ConfigError, DefinitionError
from wave_async.sources.detect import FORMATS
from wave_async.sources.new import new_migration, next_number

NOW = datetime(2026, 2, 3, 15, 14, 29, 123456, UTC)


def written(folder: Path, files: Mapping[str, str]) -> Path:
    """Write files into a folder and return it."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def names(folder: Path) -> list[str]:
    """Return the files in a folder, without what locks or hides."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize(
    ("newest", "following"),
    [
        ("1", "2"),
        ("9", "10"),
        ("0009", "0010"),
        ("0099", "0100"),
        ("99", "100"),
        ("00000001", "00000002"),
        ("1.9", "1.10"),
        ("1_09", "1_10"),
        ("20240101", "20260203"),
        ("2024010112", "2026020315"),
        ("202401011200", "202602031514"),
        ("20240101120000", "20260203151429"),
        ("20990101120000", "20990101120001"),
        ("20240101120000123", "20260203151429123"),
        ("20240101120000123456", "20260203151429123456"),
        ("29990101120000123456", "29990101120000123556"),
        ("1700000000", str(int(NOW.timestamp()))),
        ("1700000000000", str(int(NOW.timestamp() * 1000))),
        ("123456789", "123456790"),
        ("00000000000000", "20260203151429"),
        ("2024-11-18-182736", "2026-02-03-151429"),
        ("2024-11-18-182736-0000", "2026-02-03-151429-1234"),
    ],
)
def test_next_number(newest: str, following: str) -> None:
    """Counted numbers are counted on in their width; timestamps go on as now, and always up."""
    assert following == next_number(newest, NOW)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, ["0001_add_users.down.sql", "0001_add_users.up.sql"]),
        ({"1_a.up.sql": ""}, ["2_add_users.down.sql", "2_add_users.up.sql"]),
        ({"V09.a.up.sql": ""}, ["V10.add_users.down.sql", "V10.add_users.up.sql"]),
        ({"0009_a.sql": "SELECT 1"}, ["0010_add_users.sql"]),
        ({"1_a.sql": "-- +goose Up\n"}, ["2_add_users.sql"]),
        ({"1_a.sql": "-- migrate:up\n"}, ["2_add_users.sql"]),
        ({"1_a/up.sql": ""}, ["2_add_users/down.sql", "2_add_users/up.sql"]),
        ({"1-a/up.sql": ""}, ["2-add_users/up.sql"]),
        ({"1-a/up.sql": "", "1-a/down.sql": ""}, ["2-add_users/down.sql", "2-add_users/up.sql"]),
        ({"0_init/migration.sql": ""}, ["1_add_users/migration.sql"]),
        ({"V1.2__a.sql": ""}, ["V1.3__add_users.sql"]),
        ({"V1__a.sql": "", "U1__a.sql": ""}, ["U2__add_users.sql", "V2__add_users.sql"]),
        ({"0001_a.py": "up = ''"}, ["0002_add_users.py"]),
    ],
)
def test_the_folders_own_form(
    files: Mapping[str, str], expected: list[str], tmp_path: Path
) -> None:
    """The next migration is written as those before it, and is loaded as the newest."""
    folder = written(tmp_path / "m", files)
    before = names(folder)
    paths = new_migration(str(folder), "add users", None)

    assert expected == sorted(str(path.relative_to(folder)) for path in paths)
    assert sorted([*before, *expected]) == names(folder)
    assert "add users" == load_migrations(folder)[-1].description


@pytest.mark.parametrize("name", FORMATS)
def test_the_first_of_each_format(name: str, tmp_path: Path) -> None:
    """A missing folder is made, and the first two migrations of a named format can be loaded."""
    for words in ("add users", "Add log!"):
        new_migration(str(tmp_path / "a" / "m"), words, name)
    loaded = load_migrations(tmp_path / "a" / "m", format=name)

    assert ["add users", "Add log"] == [m.description for m in loaded]
    assert loaded[0].version < loaded[1].version


def test_drizzles_journal_goes_on(tmp_path: Path) -> None:
    """A new file of drizzle is entered in the journal, after all others."""
    for words in ("a", "b"):
        new_migration(str(tmp_path), words, "drizzle")
    entries = json.loads((tmp_path / "meta/_journal.json").read_text())["entries"]

    assert [(0, "0000_a"), (1, "0001_b")] == [(e["idx"], e["tag"]) for e in entries]
    assert entries[0]["when"] < entries[1]["when"]


@pytest.mark.parametrize(
    ("files", "words", "format_", "sentence"),
    [
        ({}, " -- ", None, "' -- ': a description has letters or digits"),
        ({}, "a", "alembic", "format='alembic' is not valid; allowed: drizzle, "),
        ({"1_a.sql": ""}, "a", "pairs", "'1_a.sql': the format is single, not pairs"),
        ({"1_a.sql": "", "2_b.up.sql": ""}, "c", None, "formats are mixed in one folder"),
        ({"9_a.sql": "-- migrate:up"}, "b", None, "'10_b.sql', '9_a.sql': their tool runs them"),
    ],
)
def test_refused(
    files: Mapping[str, str], words: str, format_: str | None, sentence: str, tmp_path: Path
) -> None:
    """Where the next file cannot be right nothing is left behind."""
    written(tmp_path, files)

    with pytest.raises((ConfigError, DefinitionError)) as refused:
        new_migration(str(tmp_path), words, format_)

    assert sentence in str(refused.value)
    assert sorted(files) == names(tmp_path)


def test_long_and_foreign_words(tmp_path: Path) -> None:
    """Words become a name that a file system takes, however long and in whatever script."""
    (path,) = new_migration(str(tmp_path), "größe/" * 100, "python")

    assert re.fullmatch(r"0001_größe_größe_.*\.py", path.name)
    assert 255 > len(path.name.encode())


@pytest.mark.parametrize("source", [None, "", "app:LIST", "package:app", "list.py", "a.sql"])
def test_no_folder(source: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only into a folder something can be written, and nothing else is made one."""
    monkeypatch.chdir(written(tmp_path, {"a.sql": ""}))

    with pytest.raises(ConfigError) as refused:
        new_migration(source, "add users", None)

    assert f"--migrations={source or ''!r} is not valid; allowed: a folder" in str(refused.value)
    assert ["a.sql"] == names(tmp_path)


def test_a_file_without_its_entry(tmp_path: Path) -> None:
    """Where the journal cannot be written there is no new file either."""
    (tmp_path / f"meta/._journal.json.{os.getpid()}").mkdir(parents=True)

    with pytest.raises(IsADirectoryError):
        new_migration(str(tmp_path), "a", "drizzle")

    assert [] == names(tmp_path)


def test_a_folder_without_its_file(tmp_path: Path) -> None:
    """Where a file cannot be written, here because its path is too long, its folder goes too."""
    longest, number = 4095, "20260203151429_"
    root = tmp_path
    while len(str(root)) < longest - 300:
        root = root / ("x" * 99)
    root.mkdir(parents=True)
    words = "a" * 150
    root = root / ("y" * (longest - len(f"{root}//{number}{words}/")))

    with pytest.raises(OSError, match="File name too long"):
        new_migration(str(root), words, "prisma")

    assert [] == list(root.iterdir())


@pytest.mark.parametrize("format_", ["pairs", "goose", "drizzle", "diesel"])
def test_several_people_at_once(format_: str, tmp_path: Path) -> None:
    """Processes that ask at the same moment get a version each, and nothing is overwritten."""
    people, each = 3, 8
    code = (
        "import sys; from wave_async.sources.new import new_migration as new; sys.stdin.read()\n"
        f"for n in range({each}): new(sys.argv[1], f'{{sys.argv[3]}} {{n}}', sys.argv[2])"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, tmp_path, format_, f"p{person}"], stdin=subprocess.PIPE
        )
        for person in range(people)
    ]
    for process in processes:
        assert process.stdin
        process.stdin.close()  # all at once

    assert [0] * people == [process.wait(30) for process in processes]
    loaded = load_migrations(tmp_path)
    expected = {f"p{person} {n}" for person in range(people) for n in range(each)}
    assert expected == {migration.description for migration in loaded}
    assert people * each == len({migration.version for migration in loaded})
