"""The report in a real browser; skipped where there is none, or nothing that drives it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from conftest import numbered
from test_report import MARKUP

from wave_async import Migration, MigrationRunner
from wave_async.integrations.report import gather, render

driver = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")

TABLE = MARKUP.replace('"', '""')
MIGRATIONS = [
    *numbered(2),
    Migration(3, MARKUP, f'CREATE TABLE "{TABLE}" ("{TABLE}" REFERENCES t1);'),
]


@pytest.fixture
async def report(path: Path) -> Path:
    """A report of a migrated database."""
    async with MigrationRunner(path, MIGRATIONS) as runner:
        await runner.migrate_up()
        page = render(await gather(runner))
    out = path.with_name("out.html")
    out.write_text(page, encoding="utf-8")
    return out


@pytest.fixture
async def browser() -> AsyncIterator[Any]:
    """A headless Chromium."""
    async with driver.async_playwright() as playwright:
        options = {"executable_path": CHROMIUM, "args": ["--no-sandbox"]}
        browser = await playwright.chromium.launch(**options)
        yield browser
        await browser.close()


class Watched:
    """A page that was opened from disk, and all that went wrong or left the disk on it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.troubles: list[str] = []
        page.on("console", lambda message: self.troubles.append(message.text))
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("dialog", lambda dialog: self.troubles.append(dialog.message))
        page.on("request", lambda request: self._asked(request.url))

    def _asked(self, url: str) -> None:
        if not url.startswith(("file:", "data:")):
            self.troubles.append(url)


async def opened(browser: Any, report: Path, **options: Any) -> Watched:
    """Open a report from disk."""
    watched = Watched(await browser.new_page(**options))
    await watched.page.goto(report.as_uri())
    return watched


async def test_it_works_from_disk(browser: Any, report: Path) -> None:
    """It opens without network, without trouble, and no markup in a name runs."""
    watched = await opened(browser, report)

    await watched.page.click("#unfold")

    assert [] == watched.troubles
    assert 3 == await watched.page.locator("details.migration[open]").count()
    assert 0 == await watched.page.locator("main script, main b").count()
    assert MARKUP == await watched.page.locator("#migration-3 .about").inner_text()


async def test_zoom_by_keys(browser: Any, report: Path) -> None:
    """The keys zoom the diagram where it has the focus, and the buttons do anywhere."""
    page = (await opened(browser, report)).page
    level, diagram = page.locator(".zoom output"), page.locator("#diagram")

    async def width() -> float:
        box = await page.locator("#diagram svg").bounding_box()
        return float(box["width"])

    first = await width()
    assert "100 %" == await level.inner_text()
    await diagram.focus()
    await page.keyboard.press("+")
    assert ("125 %", first * 1.25) == (await level.inner_text(), pytest.approx(await width()))
    await page.keyboard.press("-")
    assert "100 %" == await level.inner_text()
    await page.get_by_role("button", name="Zoom out").press("Enter")
    assert "80 %" == await level.inner_text()
    await page.get_by_role("button", name="Fit").press("Enter")
    assert first == pytest.approx(await width())


async def test_everything_is_reached_by_keys(browser: Any, report: Path) -> None:
    """The tab key reaches the way to the content, every summary, the zoom and the diagram."""
    page = (await opened(browser, report)).page
    reached = []
    for _ in range(40):
        await page.keyboard.press("Tab")
        focused = "document.activeElement"
        reached.append(
            await page.evaluate(f"{focused}.id || {focused}.className || {focused}.tagName")
        )

    assert "skip" == reached[0]
    assert {"unfold", "SUMMARY", "diagram", "BUTTON"} <= set(reached)
    await page.keyboard.press("Escape")
    await page.locator("#migration-2 > summary").press("Enter")
    assert await page.locator("#migration-2").evaluate("one => one.open")


async def test_what_a_screen_reader_finds(browser: Any, report: Path) -> None:
    """Landmarks, headings and the diagram have roles and names."""
    page = (await opened(browser, report)).page

    for role, name in (
        ("main", None),
        ("navigation", "On this page"),
        ("region", "Timeline"),
        ("group", "Zoom"),
        ("heading", "Schema"),
        ("img", "Schema at version 3"),
    ):
        found = page.get_by_role(role, name=name) if name else page.get_by_role(role)
        assert 1 <= await found.count(), role


@pytest.mark.parametrize("width", [320, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_any_width_and_light(browser: Any, report: Path, scheme: str, width: int) -> None:
    """It follows the system's colours, and only the diagram scrolls sideways."""
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
    page = (await opened(browser, report, **options)).page

    await page.click("#unfold")

    paper = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert {"light": "rgb(255, 255, 255)", "dark": "rgb(15, 19, 24)"}[scheme] == paper
    assert width >= await page.evaluate("document.documentElement.scrollWidth")


async def test_on_paper(browser: Any, report: Path) -> None:
    """Printed, everything is unfolded, light, and folded again afterwards."""
    page = (await opened(browser, report, color_scheme="dark")).page
    await page.emulate_media(media="print")

    await page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert 0 == await page.locator("details:not([open])").count()
    paper = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert "rgb(255, 255, 255)" == paper
    assert (await page.pdf()).startswith(b"%PDF")
    await page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert 3 == await page.locator("details.migration:not([open])").count()
