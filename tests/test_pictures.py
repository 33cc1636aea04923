"""The commands that draw: what they print and write, what they refuse, and that they only look."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from asyncclick.testing import Result
from conftest import wave

pytestmark = pytest.mark.once

HERE = Path(".wave/state.db")
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty directory."""
    monkeypatch.chdir(tmp_path)


def one_error(result: Result) -> str:
    """Return the error of a command that printed nothing but its one line."""
    assert (1, "") == (result.exit_code, result.stdout)
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    return line


def folder(**scripts: str) -> None:
    """Write the migrations `m/1_first.up.sql` and so on."""
    Path("m").mkdir()
    for number, (name, script) in enumerate(scripts.items(), 1):
        Path("m", f"{number}_{name}.up.sql").write_text(script)


# The diagram.


async def test_the_diagram_is_of_the_newest_migration() -> None:
    """Without a version it shows all that the code makes, and the database is not even made."""
    result = await wave("diagram")

    assert "erDiagram\n    accTitle: schema at version 5" in result.stdout
    assert "class artifact_metadata new" in result.stdout
    assert not HERE.exists()


async def test_the_diagram_of_a_version() -> None:
    """A version shows what there was then, and what was new then."""
    result = await wave("diagram", 1)

    assert "class pipeline_state,step_state new" in result.stdout
    assert "artifact" not in result.stdout
    assert "accTitle: schema at version 0\n" in (await wave("diagram", 0)).stdout


@pytest.mark.parametrize("name", ["mermaid", "dot", "d2", "svg"])
async def test_the_diagram_as_json(name: str) -> None:
    """The document holds the version that was drawn, the format and its text."""
    plain = (await wave("diagram", "--format", name)).stdout
    document = json.loads((await wave("diagram", "--format", name, "--json")).stdout)

    assert {"version": 5, "format": name, "diagram": plain} == document


@pytest.mark.parametrize("version", ["6", "-1"])
async def test_a_version_that_there_is_not(version: str) -> None:
    """A version that the code does not have is one line of error."""
    error = one_error(await wave("diagram", "--", version))

    assert f"Error: target version {version} is no migration of this code" == error


async def test_what_cannot_be_replayed_is_not_drawn() -> None:
    """A schema that needs rows to come about is refused; one before it is drawn."""
    folder(
        a="CREATE TABLE t (x);",
        b="INSERT INTO t SELECT abs(-9223372036854775808) WHERE NOT EXISTS (SELECT 1 FROM t);",
    )

    error = one_error(await wave("--migrations", "m", "diagram"))

    assert error.endswith("version 2 is not known: migration 2 cannot be replayed without rows")
    assert "    t {" in (await wave("--migrations", "m", "diagram", 1)).stdout


async def test_the_drawing_shows_every_table_and_key() -> None:
    """The SVG is XML, names every table and column, draws every key, and says what it is."""
    result = await wave("diagram", "--format", "svg")

    root = ET.fromstring(result.stdout)
    texts = [element.text for element in root.iter(f"{SVG}text")]
    keys = [
        element.get("class")
        for element in root.iter(f"{SVG}g")
        if "key" in element.get("class", "")
    ]
    assert {"pipeline_state", "artifact_metadata", "preview_text"} <= set(texts)
    assert (8, 2) == (keys.count("key"), keys.count("key new"))
    assert "img" == root.get("role")
    assert root.find(f"{SVG}title") is not None


async def test_names_are_text_in_the_drawing() -> None:
    """A name with markup, control characters or of great length breaks nothing and is shown."""
    markup = "</text></svg><script>alert(1)</script>"
    folder(a=f"""CREATE TABLE "{markup}" ("a\x01b" INT, "{"w" * 500}" TEXT, "表" TEXT);""")

    result = await wave("--migrations", "m", "diagram", "--format", "svg")

    root = ET.fromstring(result.stdout)
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert {markup, "a\\x01b", "w" * 47 + "…", "表"} <= set(texts)
    assert [] == list(root.iter(f"{SVG}script"))


async def test_tables_do_not_overlap() -> None:
    """Every table has its own place, wherever keys lead, to itself and in circles too."""
    scripts = [
        f"CREATE TABLE t{n} (x REFERENCES t{n * 7 % 30}, y REFERENCES t{n});" for n in range(30)
    ]
    folder(a="".join(scripts))

    result = await wave("--migrations", "m", "diagram", "--format", "svg")

    boxes = []
    for group in ET.fromstring(result.stdout).iter(f"{SVG}g"):
        if group.get("class", "").startswith("table"):
            x, y = map(float, group.get("transform", "")[10:-1].split(","))
            box = group.find(f"{SVG}rect")
            assert box is not None
            boxes.append((x, y, x + float(box.get("width", 0)), y + float(box.get("height", 0))))
    assert 30 == len(boxes)
    for at, (x1, y1, x2, y2) in enumerate(boxes):
        for a1, b1, a2, b2 in boxes[at + 1 :]:
            assert x2 <= a1 or a2 <= x1 or y2 <= b1 or b2 <= y1


# The report as a file.


async def test_the_report_is_written() -> None:
    """It tells where; it replaces an older report, and leaves nothing beside it."""
    await wave("up", 3)
    for _ in range(2):
        result = await wave("report", "out.html")
        assert (f"{Path('out.html').absolute()}\n", "", 0) == (
            result.stdout,
            result.stderr,
            result.exit_code,
        )

    assert {".wave", "out.html"} == {path.name for path in Path().iterdir()}
    assert Path("out.html").read_text().startswith("<!DOCTYPE html>")
    assert stat.S_IMODE(Path("out.html").stat().st_mode) == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


async def test_the_report_as_json() -> None:
    """The document tells where the page is, how large, and what it says of the database."""
    await wave("up", 3)

    document = json.loads((await wave("report", "out.html", "--json")).stdout)

    assert {
        "written": str(Path("out.html").absolute()),
        "size": Path("out.html").stat().st_size,
        "current_version": 3,
        "pending": 2,
        "problems": [],
    } == document


async def test_the_report_can_be_printed() -> None:
    """`-` prints the page; not beside the document of `--json`."""
    result = await wave("report", "-")

    assert result.stdout.startswith("<!DOCTYPE html>")
    assert 2 == (await wave("report", "-", "--json")).exit_code


@pytest.mark.parametrize(
    "name", ["notes.txt", "link", ".wave/state.db", "/dev/null", ".", "no/x.html"]
)
async def test_nothing_else_is_overwritten(name: str) -> None:
    """What is no report stays as it is, and one line says why."""
    await wave("up")
    Path("notes.txt").write_text("mine")
    Path("link").symlink_to("notes.txt")

    error = one_error(await wave("report", name))

    assert "the report cannot be written to" in error
    assert "mine" == Path("notes.txt").read_text()
    assert b"SQLite" == HERE.read_bytes()[:6]


async def test_force() -> None:
    """`--force` overwrites a file, by a link too, but never the database."""
    await wave("up")
    Path("notes.txt").write_text("mine")
    Path("link").symlink_to("notes.txt")

    assert 0 == (await wave("report", "link", "--force")).exit_code
    assert Path("notes.txt").read_text().startswith("<!DOCTYPE html>")
    assert Path("link").is_symlink()
    assert "it is the database" in one_error(await wave("report", HERE, "--force"))


@pytest.mark.parametrize("end", ["", "-wal", "-shm", "-journal"])
async def test_the_files_of_a_database_that_is_not_there(end: str) -> None:
    """No report is written where the database will be, or what SQLite keeps beside it."""
    name = f"{HERE}{end}"
    HERE.parent.mkdir()

    assert "it is the database, or a file that" in one_error(await wave("report", name, "--force"))
    assert [] == list(HERE.parent.iterdir())


async def test_the_log_of_an_open_database() -> None:
    """What is committed in the write-ahead log alone is not replaced by a page."""
    await wave("up")
    with closing(sqlite3.connect(HERE)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA user_version = 7")
        log = HERE.with_name(f"{HERE.name}-wal")
        before = log.read_bytes()
        one_error(await wave("report", str(log), "--force"))

        assert before == log.read_bytes()


async def test_a_link_to_itself() -> None:
    """A link that leads nowhere is no report either, and stays."""
    Path("loop").symlink_to("loop")
    one_error(await wave("report", "loop"))

    assert Path("loop").is_symlink()


async def test_only_looking() -> None:
    """The database keeps its bytes, and one that does not exist is not made."""
    assert 0 == (await wave("report", "out.html")).exit_code
    assert not HERE.exists()
    await wave("up")
    before = HERE.read_bytes()

    await wave("report", "out.html")

    assert before == HERE.read_bytes()
    assert ["state.db"] == [path.name for path in HERE.parent.iterdir()]


async def test_not_a_database() -> None:
    """A text file is one line of error, and no page."""
    Path("text.db").write_text("no database at all, but long enough to be looked at as one")

    assert "text.db" in one_error(await wave("--database", "text.db", "report", "out.html"))
    assert not Path("out.html").exists()


async def test_another_tools_bookkeeping() -> None:
    """Where there is no history to be read there is no page."""
    with closing(sqlite3.connect("theirs.db")) as connection:
        connection.execute("CREATE TABLE schema_migrations (version varchar(255))")

    assert "not ours" in one_error(await wave("--database", "theirs.db", "report", "out.html"))


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("jinja2", ("report", "out.html"), "report"),
        ("pygments", ("report", "out.html"), "report"),
        ("pygraphviz", ("report", "out.html"), "svg"),
        ("pygraphviz", ("diagram", "--format", "svg"), "svg"),
    ],
)
def test_an_extra_that_is_missing(module: str, arguments: tuple[str, ...], extra: str) -> None:
    """One line names what to install, and nothing is written."""
    code = f"import sys; sys.modules[{module!r}] = None; from wave_async.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code, "migrate", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )

    (line,) = result.stderr.splitlines()
    assert (1, "") == (result.returncode, result.stdout)
    assert line.startswith("Error: ")
    assert line.endswith(f'pip install "wave-async[{extra}]"')
    assert [] == list(Path().iterdir())


def test_text_needs_no_extra() -> None:
    """The formats that are text are written without any of the libraries."""
    missing = "; ".join(f"sys.modules[{m!r}] = None" for m in ("jinja2", "pygments", "pygraphviz"))
    code = f"import sys; {missing}; from wave_async.cli import main; main()"
    command = [sys.executable, "-c", code, "migrate", "diagram", "--format"]

    for name in ("mermaid", "dot", "d2"):
        result = subprocess.run([*command, name], capture_output=True, text=True, check=False)
        assert (0, "") == (result.returncode, result.stderr)
