"""The console's own pages in Chromium: accessible in both themes, wide and narrow, and without JavaScript."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from tests.acceptance.dashboard.conftest import AXE, Browser, Served
from tests.acceptance.dashboard.test_pages import RULES, is_wider_than_the_window
from tests.integration.dashboard.conftest import Site
from tests.integration.dashboard.stories import fill, make_registry
from tests.support import either_database
from webhooks.app.dashboard import register, services_of
from webhooks.dashboard import Console

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300), either_database]

KEY = "key-of-this-start"
PAGES = ("/console", "/send", "/local-close")


@pytest.fixture
def console(make_site: Callable[..., Site], chromium: Any, serve: Callable[[Site], Served], tmp_path: Path) -> Any:
    """The console of an installation with a small story in it."""
    site = make_site(make_registry())
    fill(site)
    app = Flask("console")
    register(app, services_of(site.webhooks, Console(tmp_path, KEY, "http://127.0.0.1:8000", "ada")), [])
    browser = Browser(chromium, serve(Site(app, site.webhooks)))
    yield browser
    browser.close()
    assert not browser.said, browser.said


def test_pages_of_the_console_are_accessible(console: Browser) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is missing; `make test-browser` fetches it by npm")
    source, found = AXE.read_text("utf-8"), []
    for theme, width in (("light", 1440), ("dark", 1440), ("light", 390), ("dark", 390)):
        page = console.page(role=None, theme=theme, width=width)
        page.goto(console.served.at(f"/console?key={KEY}"))
        for path in PAGES:
            page.goto(console.served.at(path))
            assert not is_wider_than_the_window(page), (path, width)
            page.evaluate(source)
            result = page.evaluate("rules => axe.run(document, {runOnly: {type: 'tag', values: rules}})", RULES)
            found += [
                f"{path} {theme} {width}: {one['id']}: {one['nodes'][0]['html'][:200]}" for one in result["violations"]
            ]
    assert not found, "\n".join(found)


def test_pages_of_the_console_work_without_javascript(console: Browser) -> None:
    page = console.page(role=None, javascript=False)
    page.goto(console.served.at(f"/console?key={KEY}"))
    for path in PAGES:
        assert page.goto(console.served.at(path)).status == 200
        assert page.locator("h1").inner_text()
        assert not page.locator(".needs-js:visible").count()
