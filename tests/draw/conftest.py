"""A browser for the interactive page."""

import shutil

import pytest

from daguerre.draw import Figure
from daguerre.draw.page import page
from daguerre.draw.sheet import sheet

QUIET = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install it")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs the program chromium")
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        yield running
        running.close()


@pytest.fixture(scope="module")
def desk(browser):
    return browser.new_context(viewport={"width": 1000, "height": 720}, reduced_motion="reduce")


@pytest.fixture
def opened(browser, desk, tmp_path):
    """Open figures as a page; at the end nothing was asked for, said or thrown but the page."""
    seen, pages = [], []

    def show(*figures: Figure, **options):
        shown = (browser.new_context(**options) if options else desk).new_page()
        shown.set_default_timeout(5000)
        pages.append(shown)
        for event in ("console", "pageerror", "dialog"):
            shown.on(event, lambda found, event=event: seen.append((event, str(found))))
        shown.on("request", lambda request: seen.append(("request", request.url[-7:])))
        path = tmp_path / f"{len(pages)}.html"
        path.write_text(page(sheet(figures)), encoding="utf-8")
        shown.goto(path.as_uri())
        return shown

    yield show
    for shown in pages:
        shown.close()
    assert seen == [("request", f"/{k + 1}.html") for k in range(len(pages))]
