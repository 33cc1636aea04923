"""The applications of `examples/` do what their READMEs say, and the pages show the very files."""

from __future__ import annotations

import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from serving import EXAMPLES, PATIENCE, ROOT, copied, environment, need, serving

SHOWN = {
    **dict.fromkeys(sorted((EXAMPLES / "frameworks").glob("*.py")), "frameworks/{}.md"),
    **dict.fromkeys(sorted((EXAMPLES / "orms").glob("*.py")), "orms.md"),
}
"""Which page shows a file."""


@pytest.fixture
def bin_there(tmp_path: Path) -> Path:
    """What a README's virtual environment holds: this interpreter, its packages and `wave`."""
    binaries = tmp_path / ".venv" / "bin"
    binaries.mkdir(parents=True)
    for name, module in (("python", ""), ("wave", "-m wave_async")):
        script = binaries / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {module} "$@"\n')
        script.chmod(0o755)
    return binaries


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run what a README tells to type."""
    return subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def transcripts(folder: Path) -> list[tuple[str, str]]:
    """Return the commands of a README with what it says that they print."""
    blocks = re.findall(r"```console\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    return [
        (command, printed)
        for block in blocks
        for command, printed in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
    ]


def commands(folder: Path) -> list[str]:
    """Return the lines of a README's `sh` blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing")
def test_the_notes_do_what_their_readme_says(tmp_path: Path, bin_there: Path) -> None:
    """Its tests pass, its server starts with four workers, and every transcript is so."""
    need("uvicorn")
    folder = copied("notes_api", tmp_path / "examples")
    *_, tests, server_command = commands(folder)

    assert shell(tests, folder).returncode == 0
    prefix, command = server_command.split(" ", 1)
    assert prefix.endswith("/.venv/bin/python")
    with serving(command.replace("8000", "{port}"), folder) as server:
        server.until(lambda: server.answers(200))
        said = [
            (line, shell(line.replace("8000", str(server.port)), folder).stdout)
            for line, _ in transcripts(folder)
        ]
        server.stop()
    assert [(line, p.strip()) for line, p in transcripts(folder)] == [
        (line, printed.strip()) for line, printed in said
    ]


def test_the_tenants_do_what_their_readme_says(tmp_path: Path, bin_there: Path) -> None:
    """Every transcript is so, from a folder without any database."""
    folder = copied("tenants", tmp_path / "examples")

    assert transcripts(folder) == [
        (line, shell(line, folder).stdout) for line, _ in transcripts(folder)
    ]


def test_a_tenant_that_is_broken_is_named(tmp_path: Path) -> None:
    """One file that is no database does not keep the others from being written and migrated."""
    folder = copied("tenants", tmp_path)
    (folder / "data").mkdir()
    (folder / "data" / "bad.db").write_text("this is no database, but a text that is long enough")
    journal = f"{shlex.quote(sys.executable)} journal.py data"

    written = shell(f"printf 'bad: x\\ngood: y\\n???\\n' | {journal} write", folder)
    migrated = shell(f"{journal} migrate", folder)

    assert (1, "good: 1 written\n") == (written.returncode, written.stdout)
    assert re.search(r"^bad: .*it is not an SQLite database", written.stderr, re.MULTILINE)
    assert "not understood: '???\\n'\n" in written.stderr
    assert (1, "good: 0 applied\n") == (migrated.returncode, migrated.stdout)
    assert "it is not an SQLite database" in migrated.stderr


def test_many_tasks_migrate_a_tenant_once(tmp_path: Path) -> None:
    """However many lines name a tenant, its file is migrated once and holds them all, in order."""
    folder = copied("tenants", tmp_path)
    lines = "".join(f"t{n % 5}: line {n}\\n" for n in range(500))

    ended = shell(f"printf '{lines}' | {shlex.quote(sys.executable)} journal.py data write", folder)

    assert "".join(f"t{n}: 100 written\n" for n in range(5)) == ended.stdout
    for number in range(5):
        with closing(sqlite3.connect(folder / "data" / f"t{number}.db")) as connection:
            texts = [text for (text,) in connection.execute("SELECT text FROM entry ORDER BY id")]
            ran = connection.execute("SELECT version FROM schema_migrations_log").fetchall()
        assert [f"line {n}" for n in range(number, 500, 5)] == texts
        assert [(1,), (2,)] == ran


@pytest.mark.parametrize("file", SHOWN, ids=lambda file: file.stem)
def test_a_page_shows_the_very_file(file: Path) -> None:
    """The code of a page about a framework or an ORM is the file that the tests run."""
    page = ROOT / "docs" / SHOWN[file].format(file.stem.removesuffix("_app"))

    assert f"```python\n{file.read_text()}```\n" in page.read_text()


@pytest.mark.parametrize("name", ["notes_api", "tenants"])
def test_a_readme_sets_up_a_fresh_clone(name: str) -> None:
    """It begins at the root of the clone, and goes on in the example's own folder."""
    create, install, enter, *_ = commands(EXAMPLES / name)

    assert "python3 -m venv .venv" == create
    assert install.startswith(".venv/bin/pip install -q .")
    assert f"cd examples/{name}" == enter
