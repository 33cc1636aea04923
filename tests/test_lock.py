"""The lock file: what it says, what it finds, and that two branches meet in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from asyncclick.testing import CliRunner, Result

from wave_async import Migration
from wave_async.cli import cli
from wave_async.errors import InvalidFiles
from wave_async.model.catalogue import Catalogue
from wave_async.model.lock import Lock, lock_of, parse_lock
from wave_async.sources.lockfile import lock_path, read_lock, write_lock

pytestmark = pytest.mark.once

DAYS = tuple(range(20260101, 20260120))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty directory, and keep it out of the import path afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])


def lock(**scripts: str) -> Lock:
    """Lock migrations `_1="..."`, by version."""
    made = [Migration(int(name[1:]), f"Add {up}", f"SELECT {up};") for name, up in scripts.items()]
    return lock_of(Catalogue(made).entries.values())


def told(was: Lock, now: Lock) -> list[str]:
    """Return what has changed as a person reads it."""
    return [str(change) for change in was.changes(now)]


def test_the_text() -> None:
    """A head, a line for each migration in order, and a seal; what is written is read again."""
    locked = lock(_1="1", _2="2")
    head, first, second, seal, end = locked.text().split("\n")

    assert head.startswith("# ")
    assert f"1 {locked.migrations[0].digest} Add 1" == first
    assert f"2 {locked.migrations[1].digest} Add 2" == second
    assert (f"sealed {locked.seal}", "") == (seal, end)
    for text in (locked.text(), locked.text().replace("\n", "\r\n")):
        assert locked == parse_lock(text, "x")


def test_layout_and_descriptions_are_not_locked() -> None:
    """Comments, layout and descriptions may change, as they may once applied; the rest may not."""
    was = lock_of(Catalogue([Migration(1, "A", "CREATE TABLE a (x);")]).entries.values())
    same = Migration(1, "B", "-- new\nCREATE  TABLE a\n(x)", "DROP TABLE a;")
    other = Migration(1, "A", "CREATE TABLE a (y);")

    assert [] == told(was, lock_of(Catalogue([same]).entries.values()))
    assert ["edited migration 1 (A)"] == told(was, lock_of(Catalogue([other]).entries.values()))


@pytest.mark.parametrize(
    ("was", "now", "changes"),
    [
        (lock(_1="1"), lock(_1="1", _2="2"), ["added migration 2 (Add 2)"]),
        (lock(_1="1", _2="2"), lock(_1="1"), ["missing migration 2 (Add 2)"]),
        (lock(), lock(_1="1"), ["added migration 1 (Add 1)"]),
        (
            lock(_1="1", _2="2", _3="3"),
            lock(_1="1", _2="3", _3="2"),
            [
                "reordered migration 2 (Add 2): it is 3 now",
                "reordered migration 3 (Add 3): it is 2 now",
            ],
        ),
        (
            lock(_1="1", _2="2"),
            lock(_1="1", _2="9", _3="2"),
            ["reordered migration 2 (Add 2): it is 3 now"],
        ),
        (
            lock(_1="1", _2="1"),
            lock(_1="1", _2="8"),
            ["edited migration 2 (Add 1)"],
        ),
        (
            lock(_20260101="1", _20260103="3"),
            lock(_20260101="1", _20260102="2", _20260103="4"),
            ["added migration 20260102 (Add 2)", "edited migration 20260103 (Add 3)"],
        ),
    ],
)
def test_changes(was: Lock, now: Lock, changes: list[str]) -> None:
    """Each migration that is not what was locked is told once, by version."""
    assert changes == told(was, now)


def test_lines_in_another_order() -> None:
    """Lines that were moved in the file itself are found, too."""
    head, first, second, *rest = lock(_1="1", _2="2").text().splitlines()
    moved = parse_lock("\n".join([head, second, first, *rest]), "x")

    assert ["reordered migration 1 (Add 1)"] == told(moved, lock(_1="1", _2="2"))


def test_a_lock_whose_seal_is_of_something_else() -> None:
    """Lines that are right under a seal that is not, or under none, were merged by hand."""
    now = lock(_1="1", _2="2")
    text = now.text().replace(now.seal, lock(_1="1").seal)

    for wrong in (text, text.rpartition("sealed")[0]):
        with pytest.raises(InvalidFiles, match=r"'x': its last line does not fit those above"):
            parse_lock(wrong, "x").require(now, "x")


@pytest.mark.parametrize(
    "line",
    ["<<<<<<< HEAD", "1 w1:abc again", "sealed twice", "what", f"{'9' * 5000} w1:abc"],
    ids=["marker", "again", "sealed", "word", "number"],
)
def test_a_line_that_is_none(line: str) -> None:
    """What a merge leaves behind is named by its line."""
    text = lock(_1="1").text() + line

    with pytest.raises(InvalidFiles, match="'x': line 4 is left from a merge"):
        parse_lock(text, "x")


def test_a_description_stays_on_its_line() -> None:
    """Whatever a description holds, the file has a line for each migration."""
    made = Catalogue([Migration(1, "a\nsealed b\u2028c", "SELECT 1;"), Migration(2, "", "")])
    locked = lock_of(made.entries.values())

    assert locked == parse_lock(locked.text(), "x")
    assert 4 == len(locked.text().splitlines())


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    """It is refused with its name."""
    path = tmp_path / "migrations.lock"
    path.write_bytes(b"\xff")

    with pytest.raises(InvalidFiles, match="it is not UTF-8"):
        read_lock(path)


def test_where_it_is(tmp_path: Path) -> None:
    """It lies beside the folder or the file of the migrations, or where the project says."""
    (tmp_path / "db").mkdir()
    (tmp_path / "all.py").touch()
    here = tmp_path / "migrations.lock"

    assert here == lock_path({"migrations": "db"}) == lock_path({"migrations": "all.py"})
    assert Path("a/b") == lock_path({"migrations": "db", "lock": "a/b"})
    assert lock_path({"migrations": "app:LIST"}) is lock_path({}) is None


# The command.


async def wave(*arguments: str) -> Result:
    """Run `wave migrate` on the folder db/migrations."""
    said = ["migrate", "--migrations", "db/migrations", *arguments]
    return await CliRunner().invoke(cli, said)


def write(version: int, sql: str) -> None:
    """Write a migration file."""
    folder = Path("db/migrations")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{version:04}_a.sql").write_text(sql)


async def test_lock_and_check() -> None:
    """`lock` writes the file once, `--check` agrees, and the database is never made."""
    write(1, "CREATE TABLE a (x);")
    path = Path("db/migrations.lock").absolute()

    assert f"1 migration(s) locked in {path}\n" == (await wave("lock")).stdout
    written = path.stat()
    result = await wave("lock", "--check")
    assert (0, f"1 migration(s) as in {path}\n") == (result.exit_code, result.stdout)
    await wave("lock")
    assert written.st_ino == path.stat().st_ino
    assert ["migrations", "migrations.lock"] == sorted(p.name for p in Path("db").iterdir())
    assert not Path(".wave").exists()


async def test_check_names_the_first_difference() -> None:
    """`--check` exits with 1 and one line, and writes nothing; `lock` tells what it changes."""
    write(1, "CREATE TABLE a (x);")
    assert "there is no lock file" in (await wave("lock", "--check")).stderr
    await wave("lock")
    before = Path("db/migrations.lock").read_bytes()
    write(1, "CREATE TABLE a (y);")
    write(2, "CREATE TABLE b (x);")

    result = await wave("lock", "--check")
    path = Path("db/migrations.lock").absolute()
    assert 1 == result.exit_code
    assert "" == result.stdout
    assert (
        f"Error: {path} does not fit: edited migration 1 (a) and 1 more; "
        "undo that, or record it: wave migrate lock\n"
    ) == result.stderr
    assert before == path.read_bytes()
    said = json.loads((await wave("lock", "--json")).stdout)
    changes = ["edited migration 1 (a)", "added migration 2 (a)"]
    assert {"lock": str(path), "migrations": 2, "changes": changes} == said
    write(3, "SELECT 1;")
    assert "  added migration 3 (a)\n3 migra" in (await wave("lock")).stdout


async def test_lock_mends_a_conflict() -> None:
    """What a merge has left unreadable is written anew."""
    write(1, "CREATE TABLE a (x);")
    path = Path("db/migrations.lock")
    path.write_text("<<<<<<< HEAD\n")

    assert 1 == (await wave("lock", "--check")).exit_code
    assert 0 == (await wave("lock")).exit_code
    assert 0 == (await wave("lock", "--check")).exit_code


async def test_migrations_without_a_folder() -> None:
    """They have a lock file where the project says so, and elsewhere are refused in a line."""
    result = await CliRunner().invoke(cli, ["migrate", "lock"])
    assert "Error: tool.wave.lock='' is not valid; allowed: a path, " in result.stderr
    Path("pyproject.toml").write_text('[tool.wave]\nlock = "wave.lock"\n')

    assert 0 == (await CliRunner().invoke(cli, ["migrate", "lock"])).exit_code
    assert "\n5 w1:" in Path("wave.lock").read_text()


# Two branches.


def git(*arguments: str) -> int:
    """Run git in the current directory, as nobody in particular."""
    alone = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    return subprocess.run(
        ["git", *who, *arguments], env=alone, capture_output=True, check=False
    ).returncode


def commit(versions: dict[int, str], *, sealed: bool = True) -> None:
    """Commit the lock file of some migrations."""
    path = Path("migrations.lock")
    made = [Migration(version, "A", up) for version, up in versions.items()]
    write_lock(path, lock_of(Catalogue(made).entries.values()))
    if not sealed:
        path.write_text(path.read_text().rpartition("sealed")[0])
    assert 0 == git("add", ".")
    assert 0 == git("commit", "-m", "a")


def merged(ours: dict[int, str], theirs: dict[int, str], *, sealed: bool = True) -> bool:
    """Add migrations to the same list on two branches; answers whether git merges them."""
    base = dict.fromkeys(DAYS[::2], "SELECT 1;")
    git("init")
    commit(base, sealed=sealed)
    git("checkout", "-b", "theirs")
    commit({**base, **theirs}, sealed=sealed)
    git("checkout", "main")
    commit({**base, **ours}, sealed=sealed)
    return git("merge", "theirs") == 0


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({20260201: "SELECT 2;"}, {20260201: "SELECT 3;"}),
        ({20260201: "SELECT 2;"}, {20260202: "SELECT 2;"}),
        ({DAYS[1]: "SELECT 2;"}, {20260202: "SELECT 3;"}),
        ({DAYS[1]: "SELECT 2;"}, {DAYS[15]: "SELECT 3;"}),
        ({DAYS[0]: "SELECT 2;"}, {20260202: "SELECT 3;"}),
    ],
    ids=["same-number", "both-newest", "older-and-newest", "far-apart", "edited-and-added"],
)
def test_two_branches_conflict(ours: dict[int, str], theirs: dict[int, str]) -> None:
    """Two branches that both change the migrations cannot be merged without a look."""
    assert not merged(ours, theirs)
    assert "<<<<<<<" in Path("migrations.lock").read_text()
    with pytest.raises(InvalidFiles, match="left from a merge"):
        read_lock(Path("migrations.lock"))


def test_it_is_the_seal_that_conflicts() -> None:
    """Without it git merges lines that are far apart, silently."""
    assert merged({DAYS[1]: "SELECT 2;"}, {DAYS[15]: "SELECT 3;"}, sealed=False)


def test_one_branch_merges() -> None:
    """A branch that leaves the migrations alone, or made the very same ones, is merged."""
    assert merged({20260201: "SELECT 2;"}, {20260201: "SELECT 2;"})


def test_a_merge_that_takes_all_lines_is_found() -> None:
    """Where a merge driver took the lines of both branches there are two seals."""
    Path(".gitattributes").write_text("*.lock merge=union\n")

    assert merged({DAYS[1]: "SELECT 2;"}, {DAYS[15]: "SELECT 3;"})
    with pytest.raises(InvalidFiles, match="left from a merge"):
        read_lock(Path("migrations.lock"))
