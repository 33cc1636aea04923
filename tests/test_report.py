"""The report: what the page tells of any history, that it is HTML, and that people can use it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import html5lib
import pytest
from conftest import numbered, sql

from wave_async import Migration, MigrationConfig, MigrationRunner
from wave_async.integrations.report import MARK, duration, gather, render

pytestmark = pytest.mark.once

PAGE = Path(__file__).parent.parent / "wave_async" / "integrations" / "page"
MARKUP = """<b>"it's"</b> & <script>alert('x')</script></title></svg><!--"""
TWO = numbered(2)


def read(element: ET.Element) -> str:
    """Return the text of an element, on one line."""
    return " ".join("".join(element.itertext()).split())


class Page:
    """A page as an HTML parser reads it, which takes no mistake."""

    def __init__(self, text: str) -> None:
        parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
        self.root: ET.Element = parser.parse(text)
        self.text = read(self.root)
        self.main = read(self.one("main"))

    def all(self, tag: str) -> Iterator[ET.Element]:
        """Return the elements of a name."""
        return self.root.iter(tag)

    def one(self, tag: str) -> ET.Element:
        """Return the one element of a name."""
        (found,) = self.all(tag)
        return found

    def with_class(self, name: str) -> list[str]:
        """Return the texts of the elements of a class."""
        found = (e for e in self.root.iter() if name in e.get("class", "").split())
        return [read(e) for e in found]


async def page(path: Path, migrations: list[Migration], **options: Any) -> Page:
    """Return the report of a database."""
    async with MigrationRunner(path, migrations, **options) as runner:
        return Page(render(await gather(runner)))


async def migrated(path: Path, migrations: list[Migration]) -> None:
    """Apply migrations."""
    async with MigrationRunner(path, migrations) as runner:
        await runner.migrate_up()


# What it tells.


async def test_up_to_date(path: Path) -> None:
    """It says so, and shows each migration with its SQL, its way back and what it makes."""
    await migrated(path, TWO)

    found = await page(path, TWO)

    assert ["The database is up to date."] == found.with_class("verdict")
    assert ["applied", "applied"] == found.with_class("state")
    assert ["table t1: added", "table t2: added"] == [
        " ".join("".join(e.itertext()).split())
        for e in found.root.findall(".//ul[@class='changes']/li")
    ]
    assert "CREATE TABLE t1 (x INTEGER);" in found.with_class("code")
    assert "DROP TABLE t1;" in found.with_class("code")


async def test_pending(path: Path) -> None:
    """Pending migrations are counted; the schema is that of the code, and says so."""
    await migrated(path, TWO[:1])

    found = await page(path, TWO)

    assert ["1 of 2 migrations is pending."] == found.with_class("verdict")
    assert ["applied", "pending"] == found.with_class("state")
    assert "at version 2; the database is at version 1." in found.main


async def test_a_limit_is_told(path: Path) -> None:
    """What is held back by a gradual rollout is said to be."""
    found = await page(path, TWO, config=MigrationConfig(max_version=1))

    assert "Nothing above version 1 is applied: WAVE_MAX_MIGRATION_VERSION=1" in found.main


async def test_nothing_at_all(path: Path) -> None:
    """No migrations and no database are a page as well."""
    found = await page(path, [])

    assert ["The database does not exist yet."] == found.with_class("verdict")
    assert [] == list(found.all("details"))
    assert not path.exists()


async def test_a_broken_history(path: Path) -> None:
    """Edited, unknown and newer migrations are named, all of them, and marked where they stand."""
    await migrated(path, numbered(4))
    edited = replace(TWO[0], up="CREATE TABLE t1 (x, y);")

    found = await page(path, [edited, TWO[1]])

    assert ["The database is not what this code expects."] == found.with_class("verdict")
    assert ["edited", "applied", "unknown", "unknown"] == found.with_class("state")
    assert "the database is newer than this code: it has 3 and 4" in found.main
    assert "migration 1 checksum mismatch" in found.main
    assert "The database has it, but this code does not." in found.main


async def test_drift(path: Path) -> None:
    """What somebody did by hand is shown, line by line."""
    await migrated(path, TWO)
    sql(path, "ALTER TABLE t1 ADD COLUMN by_hand TEXT", "DROP TABLE t2")

    found = await page(path, TWO)

    assert ["table t1: column by_hand: not ours", "table t2: missing"] == found.with_class("change")
    assert ["+by_hand TEXT", "-CREATE TABLE t2 (x INTEGER)"] == found.with_class("diff")


async def test_what_is_not_ours_is_told(path: Path) -> None:
    """A table that no migration makes is no problem, but is named."""
    await migrated(path, TWO)
    sql(path, "CREATE TABLE extra (x)")

    found = await page(path, TWO)

    assert ["The database is up to date."] == found.with_class("verdict")
    assert "Not made by a migration table extra" in found.main


async def test_the_timeline(path: Path) -> None:
    """Each process has what it did, the newest first: applied, repaired, failed, rolled back."""
    await migrated(path, TWO)
    bad = Migration(3, "Bad", "INSERT INTO nowhere VALUES (1);")
    async with MigrationRunner(path, [*TWO, bad]) as runner:
        with pytest.raises(Exception, match="nowhere"):
            await runner.migrate_up()
        await runner.migrate_down(1)
    edited = replace(TWO[0], up="CREATE TABLE t1 (x INTEGER); ;")
    sql(path, "UPDATE schema_migrations SET checksum = 'w1:0:0' WHERE version = 1")
    async with MigrationRunner(path, [edited, TWO[1]]) as runner:
        await runner.repair()
    sql(path, "UPDATE schema_migrations_log SET pid = 7, duration = 75.2 WHERE id < 3")

    found = await page(path, TWO)

    timeline = next(e for e in found.all("ol") if e.get("class") == "runs")
    runs = ["".join(e.itertext()) for e in timeline.iter("span") if e.get("class") == "about"]
    assert ["failed to apply 3, rolled back 2, repaired 1", "applied 1 to 2"] == runs
    assert "no such table: nowhere" in found.with_class("failure")[0]
    assert "2 min 30 s" in found.text


async def test_a_log_that_was_not_kept(path: Path) -> None:
    """Without a log the page says that there is none."""
    await migrated(path, TWO)
    sql(path, "DROP TABLE schema_migrations_log")

    assert "No log was kept of what was applied." in (await page(path, TWO)).main


async def test_functions_and_lists(path: Path) -> None:
    """A function is shown by its source, and a list part by part."""

    def fill(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO t1 VALUES (1)")

    migrations = [Migration(1, "Fill", ["CREATE TABLE t1 (x);", fill])]

    found = await page(path, migrations)

    script, function = found.with_class("code")
    assert "CREATE TABLE t1 (x);" == script
    assert function.startswith("def fill(connection")
    assert "There is no way back." in found.main


async def test_what_cannot_be_replayed(path: Path) -> None:
    """Where a migration needs rows the page ends with what is known, and says which it is."""
    needs_rows = (
        "INSERT INTO t1 SELECT abs(-9223372036854775808) WHERE NOT EXISTS (SELECT 1 FROM t1);"
    )
    migrations = [TWO[0], Migration(2, "Needs rows", needs_rows), *numbered(3)[2:]]

    found = await page(path, migrations)

    assert 2 == found.main.count("Not known: migration 2 cannot be replayed without rows.")
    assert "What the migrations make, at version 1" in found.main


async def test_checksums_that_are_not_compared(path: Path) -> None:
    """Switched off, validation is not called passed."""
    found = await page(path, TWO, config=MigrationConfig(skip_validation=True))

    assert "Validationswitched off" in found.main


# Names are text.


async def test_markup_is_text(path: Path) -> None:
    """Markup in descriptions, names, SQL and the log is shown as it is, and means nothing."""
    table = f'CREATE TABLE "{MARKUP.replace(chr(34), chr(34) * 2)}" ("{MARKUP[:3]}" TEXT);'
    migrations = [Migration(1, MARKUP, f"-- </pre>{MARKUP}\n{table}", origin=f"m/{MARKUP}")]
    await migrated(path, migrations)
    sql(path, "UPDATE schema_migrations_log SET tool = '</table><script>alert(2)</script>'")

    found = await page(path, migrations)

    assert MARKUP in found.with_class("about")
    assert any(f"-- </pre>{MARKUP}" in code for code in found.with_class("code"))
    assert 1 == len(list(found.all("script")))
    assert [] == list(found.all("b"))
    assert "</table><script>alert(2)</script>" in found.main
    assert len(list(found.root.iter("{http://www.w3.org/2000/svg}svg"))) == 1


async def test_what_misleads_is_shown(path: Path) -> None:
    """Control characters and those that turn text around are shown as escapes."""
    migrations = [Migration(1, "a\u202eb\x1b", "SELECT '\u202e\x07';\n")]

    found = await page(path, migrations)

    assert "a\\u202eb\\x1b" in found.with_class("about")
    assert ["SELECT '\\u202e\\x07';"] == found.with_class("code")


# People can use it.


async def test_it_needs_nothing_else(path: Path) -> None:
    """It names no other document, allows none, and only its one script may run."""
    await migrated(path, TWO)

    found = await page(path, TWO)

    links = {e.get("href") for e in found.root.iter() if e.get("href")}
    assert {"data:,", "#main", "#status", "#migrations", "#timeline", "#schema"} == links
    assert [] == [e for e in found.root.iter() if e.get("src") or e.get("style", "").count("url")]
    assert not re.search(r"url\(|@import", "".join(e.text or "" for e in found.all("style")))
    policy = next(e.get("content", "") for e in found.all("meta") if e.get("http-equiv"))
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-")
    assert MARK == next(e.get("content") for e in found.all("meta") if e.get("name") == "generator")


async def test_it_can_be_read_aloud(path: Path) -> None:
    """It has a language, a title, landmarks, headings in order, and every part has a name."""
    await migrated(path, TWO)

    found = await page(path, TWO)

    ids = [e.get("id") for e in found.root.iter() if e.get("id")]
    levels = [int(e.tag[1]) for e in found.root.iter() if re.fullmatch(r"h\d", str(e.tag))]
    named = [e.get("aria-labelledby", "").split() for e in found.root.iter()]
    assert "en" == found.root.get("lang")
    assert found.one("title").text == f"Migrations of {path}"
    assert found.one("main") is not None
    assert found.one("header") is not None
    assert found.one("nav").get("aria-label")
    assert len(set(ids)) == len(ids)
    assert {name for names in named for name in names} <= set(ids)
    assert [1, 2] == levels[:2]
    assert all(b <= a + 1 for a, b in pairwise(levels))
    assert all(e.get("aria-label") or (e.text or "").strip() for e in found.all("button"))
    assert all(e.get("scope") == "col" for e in found.all("th"))


async def test_it_can_be_used_by_keys(path: Path) -> None:
    """What scrolls can be focused, and what is pressed is a button or a summary."""
    await migrated(path, TWO)

    found = await page(path, TWO)

    diagram = next(e for e in found.all("div") if e.get("id") == "diagram")
    assert ("0", "region") == (diagram.get("tabindex"), diagram.get("role"))
    assert diagram.get("aria-label")
    assert all(e.get("tabindex") == "0" for e in found.all("pre"))
    assert all(e[0].tag == "summary" for e in found.all("details"))
    assert {"button"} == {e.get("type") for e in found.all("button")}


def colours(sheet: str, *, dark: bool) -> dict[str, str]:
    """Return the colours of a style sheet by their names."""
    light, _, rest = sheet.partition("prefers-color-scheme: dark")
    block = rest.partition("\n}")[0] if dark else light
    return dict(re.findall(r"--([\w-]+): (#\w{6})", block))


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour (https://www.w3.org/TR/WCAG22/)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, from 1 to 21."""
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


TEXTS = {
    "report.css": [
        *((ink, paper) for ink in ("ink", "soft", "link") for paper in ("paper", "panel")),
        *((code, "panel") for code in ("keyword", "name", "text", "number", "comment")),
        *((state, f"{state}-paper") for state in ("good", "due", "bad")),
        ("bad", "paper"),
    ],
    "diagram.css": [
        ("ink", "paper"),
        ("soft", "paper"),
        *((ink, f"{part}") for ink in ("ink", "soft") for part in ("box", "head")),
        *((ink, f"new-{part}") for ink in ("ink", "soft") for part in ("head", "row")),
        *((ink, "changed-head") for ink in ("ink", "soft")),
    ],
}


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", TEXTS)
def test_contrast(name: str, dark: bool) -> None:  # noqa: FBT001
    """Every text has the contrast that WCAG asks for, 4.5, in the light and in the dark."""
    found = colours((PAGE / name).read_text(), dark=dark)

    assert [] == [pair for pair in TEXTS[name] if contrast(found[pair[0]], found[pair[1]]) < 4.5]


def test_lines_can_be_seen() -> None:
    """The lines of keys and of what is new have the contrast of graphics, 3."""
    for dark in (False, True):
        found = colours((PAGE / "diagram.css").read_text(), dark=dark)
        assert all(contrast(found[line], found["paper"]) >= 3 for line in ("key", "new", "changed"))


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.0, "under 1 ms"),
        (0.0014, "1 ms"),
        (0.9994, "999 ms"),
        (1.26, "1.3 s"),
        (125, "2 min 5 s"),
    ],
)
def test_duration(seconds: float, told: str) -> None:
    """How long something took is told as precisely as it is of use."""
    assert told == duration(seconds)


async def test_many_migrations(path: Path) -> None:
    """Two hundred migrations are a page of less than a megabyte, folded up."""
    migrations = numbered(200)
    await migrated(path, migrations)
    async with MigrationRunner(path, migrations) as runner:
        text = render(await gather(runner))

    found = Page(text)
    assert len(text) < 1_000_000
    assert 200 == sum(e.get("class") == "migration" for e in found.all("details"))
    assert not any("open" in e.attrib for e in found.all("details"))
    assert "applied 1 to 200" in found.with_class("about")
