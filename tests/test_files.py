from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from wave_async.database import files
from wave_async.errors import DatabaseUnusable, InvalidPath


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "it is empty"),
        ("file:x", "URIs are not supported"),
        ("file:/tmp/x.db?mode=memory", "URIs are not supported"),
        ("a\0b", "a NUL character"),
    ],
)
def test_a_name_that_is_no_path_is_refused(name: str, problem: str) -> None:
    """What SQLite would take for something else than a path is refused."""
    with pytest.raises(InvalidPath, match=problem):
        files.database_path(name)


@pytest.mark.parametrize(
    "name", ["state.db", "deep/er/state.db", "we?ird#%41 name.db", ":memory", "File:x", "ünï.db"]
)
def test_a_path_is_made_absolute(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path means a file below the directory of the moment, for good."""
    monkeypatch.chdir(tmp_path)

    assert str(tmp_path / name) == files.database_path(name)
    assert str(tmp_path / name) == files.database_path(Path(name))
    assert str(tmp_path / name) == files.database_path(tmp_path / name)


def test_a_database_in_memory_has_no_path() -> None:
    """`:memory:` stays what it is."""
    assert files.database_path(":memory:") == ":memory:"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("directory", "it is a directory, not a file"),
        ("pipe", "it is a named pipe, not a file"),
        ("socket", "it is a socket, not a file"),
        ("device", "it is a device, not a file"),
        ("loop", "too many levels of symbolic links"),
        ("link to a directory", "it is a directory, not a file"),
        ("file under a file", "not a directory"),
        ("name too long", "file name too long"),
        ("journal", "it belongs to x"),
    ],
)
def test_what_is_no_file_is_refused(
    kind: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite is not even asked about what cannot be a database; the reason is told."""
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    path = Path("x")
    match kind:
        case "directory":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as made:
                made.bind("x")
        case "device":
            path.symlink_to(os.devnull)
        case "loop":
            path.symlink_to(path)
        case "link to a directory":
            path.symlink_to(tmp_path)
        case "file under a file":
            path.touch()
            path /= "y"
        case "name too long":
            path = Path(f"{'x' * 1000}-wal")
        case "journal":
            path.touch()
            path = Path("x-journal")
            path.touch()

    with pytest.raises(DatabaseUnusable, match=reason):
        files.check(str(path))


def test_a_file_is_there_or_not(tmp_path: Path) -> None:
    """A file is there, also through a link; what is missing, with its directory even, is not."""
    there, link, dangling = tmp_path / "a", tmp_path / "link", tmp_path / "dangling"
    there.touch()
    link.symlink_to(there)
    dangling.symlink_to(tmp_path / "missing")
    paths = [there, link, dangling, tmp_path / "missing", tmp_path / "no" / "such" / "file"]

    assert [files.check(str(path)) for path in paths] == [True, True, False, False, False]


def test_new_directories_are_for_their_owner_alone(tmp_path: Path) -> None:
    """Every directory that has to be made is private; one that is there is left alone."""
    tmp_path.chmod(0o755)
    files.make_directory(str(tmp_path / "a" / "b" / "state.db"))
    files.make_directory(str(tmp_path / "a" / "b" / "other.db"))
    directories = [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]

    modes = [stat.S_IMODE(directory.stat().st_mode) for directory in directories]
    assert modes == [0o755, 0o700, 0o700]
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_directory_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    """Where the directory cannot be created the error says so."""
    (tmp_path / "file").touch()

    with pytest.raises(DatabaseUnusable, match="its directory cannot be created: not a directory"):
        files.make_directory(str(tmp_path / "file" / "a" / "state.db"))


@pytest.mark.parametrize(
    ("beside", "content", "touchable"),
    [
        ("-wal", b"", False),
        ("-wal", b"frames", True),
        ("-journal", b"", True),
        ("-journal", b"pages", True),
        ("-shm", b"index", False),
    ],
)
def test_a_database_that_somebody_may_be_writing_is_recognised(
    path: Path, beside: str, content: bytes, *, touchable: bool
) -> None:
    """Frames in the log, or a journal, say that the file alone is not the database."""
    path.write_bytes(b"database")
    path.with_name(path.name + beside).write_bytes(content)

    assert touchable == (files.untouchable(str(path)) is None)


@pytest.mark.parametrize("change", ["size", "time", "file"])
def test_a_change_gives_another_stamp(path: Path, change: str) -> None:
    """Whatever is written to a database moves its stamp."""
    path.write_bytes(b"database")
    os.utime(path, ns=(1, 1))
    stamp = files.untouchable(str(path))
    assert stamp == files.untouchable(str(path))
    match change:
        case "size":
            path.write_bytes(b"database, longer")
            os.utime(path, ns=(1, 1))
        case "time":
            os.utime(path, ns=(1, 2))
        case "file":
            new = path.with_name("new")
            new.write_bytes(b"database")
            os.utime(new, ns=(1, 1))
            new.replace(path)

    assert stamp != files.untouchable(str(path))


@pytest.mark.parametrize("name", ["state.db", "we?ird#%41 &x=1.db", "ünï.db"])
@pytest.mark.parametrize(("immutable", "option"), [(True, "?immutable=1"), (False, "?mode=ro")])
def test_a_read_only_uri_names_exactly_the_file(
    tmp_path: Path, name: str, option: str, *, immutable: bool
) -> None:
    """No character of a name is read as part of the URI."""
    uri = files.read_only_uri(str(tmp_path / name), immutable=immutable)

    assert (tmp_path / name).as_uri() + option == uri
    assert uri.count("?") == 1
