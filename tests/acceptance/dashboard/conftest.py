"""The dashboard in a real browser: a server over HTTP, Debian's Chromium, and pages that may say nothing on their console.

Everything that is thrown, logged or blocked in a page fails the test that opened it. Where there is no Chromium, these
tests are skipped, and say how to have it.
"""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import make_server

from tests.integration.conftest import unhurried
from tests.integration.dashboard.conftest import Site, make_site
from tests.integration.dashboard.stories import fill, make_registry
from webhooks.dashboard import UserRole
from webhooks.dashboard.access.sessions import NAME

__all__ = ["make_site", "unhurried"]

AXE = Path(sys.prefix) / "axe-4.14.1.js"
#: Without a sandbox, since tests may run as root; in a container /dev/shm is small.
OPTIONS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]


class Served:
    """A dashboard that is served over HTTP. site: the same without HTTP."""

    def __init__(self, site: Site, url: str) -> None:
        self.site = site
        self.url = url

    def at(self, path: str) -> str:
        """The address of a page below /dashboard."""
        return f"{self.url}/dashboard{path}"


class Browser:
    """Opens pages of one dashboard; a page that complains fails the test."""

    def __init__(self, chromium: Any, served: Served) -> None:
        self._chromium = chromium
        self.served = served
        self.said: list[str] = []
        self._contexts: list[Any] = []

    def page(
        self,
        *,
        role: UserRole | None = UserRole.OPERATOR,
        theme: str = "light",
        width: int = 1440,
        javascript: bool = True,
        zoom: int = 1,
        timezone: str = "UTC",
    ) -> Any:
        """A page of a browser of its own, logged in. zoom: a window of that width, zoomed, has so many times fewer pixels of CSS."""
        context = self._chromium.new_context(
            color_scheme=theme,
            viewport={"width": width // zoom, "height": 900 // zoom},
            device_scale_factor=zoom,
            java_script_enabled=javascript,
            timezone_id=timezone,
        )
        self._contexts.append(context)
        context.set_default_timeout(10_000)
        if role is not None:
            cookie = {"name": NAME, "value": self.served.site.cookie(role), "url": self.served.url + "/dashboard"}
            context.add_cookies([cookie])
        page = context.new_page()
        page.on("console", lambda message: self._hear(message.type, message.text))
        page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        page.on("dialog", self._dismiss)
        return page

    def _dismiss(self, dialog: Any) -> None:
        self.said.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _hear(self, kind: str, text: str) -> None:
        if "status of 4" not in text:  # a 404 that a test asks for
            self.said.append(f"{kind}: {text}")

    def close(self) -> None:
        """End what was opened."""
        for context in self._contexts:
            context.close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser, started once."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("there is no chromium; apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Site], Served]]:
    """Serve a dashboard over HTTP for as long as the test runs."""
    running: list[tuple[Any, threading.Thread]] = []

    def start(site: Site) -> Served:
        server = make_server("127.0.0.1", 0, site.app, threaded=True)
        thread = threading.Thread(target=server.serve_forever, name="server under test", daemon=True)
        thread.start()
        running.append((server, thread))
        return Served(site, f"http://127.0.0.1:{server.server_port}")

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join(timeout=10)
        server.server_close()


@pytest.fixture
def open_browser(chromium: Any, serve: Callable[[Site], Served]) -> Iterator[Callable[[Site], Browser]]:
    """A browser for a dashboard: `open_browser(site).page(width=390)`; what its pages complain of fails the test."""
    opened: list[Browser] = []

    def start(site: Site) -> Browser:
        browser = Browser(chromium, serve(site))
        opened.append(browser)
        return browser

    yield start
    for browser in opened:
        browser.close()
    said = [line for browser in opened for line in browser.said]
    assert not said, "\n".join(said)


@pytest.fixture
def browser(make_site: Callable[..., Site], open_browser: Callable[[Site], Browser]) -> Browser:
    """A browser for a dashboard with a small story in it."""
    site = make_site(make_registry())
    fill(site)
    return open_browser(site)
