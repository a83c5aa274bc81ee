"""An installation with faults in it is repaired from the first page on, in a browser, without a command."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.acceptance.dashboard.conftest import Browser
from tests.integration.conftest import KEY
from tests.integration.dashboard.conftest import Site
from tests.integration.dashboard.stories import body
from webhooks.delivery import handler_rows
from webhooks.routing import Registry, RetryPolicy
from webhooks.selection import Selection
from webhooks.store.rejections import Rejection

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


class Mirror:
    """A handler's database: down until it is mended."""

    is_up = False


@pytest.fixture
def mirror() -> Mirror:
    return Mirror()


@pytest.fixture
def faulty(make_site: Callable[..., Site], mirror: Mirror) -> Site:
    """A dead handler, an open breaker, a blocked lane, a silent source, quarantined requests, and a wrong key."""
    registry = Registry()

    @registry.on("lead.**", name="leads.mirror", ordered_by="object_id", retry=RetryPolicy(max_attempts=1))
    def mirrored(event: Any) -> None:
        if not mirror.is_up:
            raise ConnectionError("crm-mirror.internal:5432, connection refused")

    site = make_site(registry, sources={"close": {"secret": KEY, "expect_within": "2m"}}, sample_rejected="0")
    store = site.store
    store.handlers.register(handler_rows(registry))
    store.processes.beat("hooks-1:1", "worker", "1.2", ["leads.mirror"], lease=timedelta(hours=1))
    for number in range(2):
        site.send(body(f"ev_{number}"))
        site.work()
    now = store.database.now()
    store.handlers.open_breaker("leads.mirror", 10, timedelta(minutes=30))
    for kind in ("5", "6"):
        store.quarantine.put(
            "close", kind.encode(), reason="no event", kind="unparseable", received_at=now, headers="{}"
        )
    for number in range(6):
        store.rejections.put(
            Rejection("close", now, f"{number:016x}", 401, "no key made this", None, (), 0, 0, kind="signature")
        )
    return site


def findings(page: Any) -> str:
    page.goto(page.url.partition("/dashboard")[0] + "/dashboard/")
    text: str = page.locator(".verdict").inner_text()
    return text


def test_everything_is_repaired_from_the_first_page(
    faulty: Site, mirror: Mirror, open_browser: Callable[[Site], Browser]
) -> None:
    browser = open_browser(faulty)
    page = browser.page(width=1280)
    page.goto(browser.served.at("/"))
    said = findings(page)
    for part in ("lane stuck behind a dead delivery", "breaker", "refused for their signature", "stay in quarantine"):
        assert part in said

    # the cause is mended elsewhere; one delivery is tried, and it succeeds
    mirror.is_up = True
    page.locator(".verdict").get_by_role("button", name="Try one now").click()
    page.wait_for_selector("[role=status]")
    assert faulty.store.handlers.close_breaker("leads.mirror")  # as a worker does after the success

    # what is dead holds its lane: all of it again
    findings(page)
    page.locator(".finding", has_text="stuck behind").get_by_role("link", name="Requeue…").click()
    page.wait_for_load_state("domcontentloaded")
    page.locator("main form[method=post] button").last.click()
    page.wait_for_url(re.compile(r"/activity/\d+"), wait_until="domcontentloaded")
    faulty.work(3)
    page.reload()
    assert "1 succeeded" in page.inner_text("main")
    page.get_by_role("link", name="leads.mirror").click()
    page.wait_for_url(re.compile("/handlers/"), wait_until="domcontentloaded")

    # what cannot be read is given up, all at once
    findings(page)
    page.get_by_role("link", name="See what is held").click()
    page.wait_for_load_state("domcontentloaded")
    for box in page.locator("input[name=id]").all():
        box.check()
    page.click("summary:has-text('Drop')")
    page.fill("input[name=why]", "a test of the sender's")
    page.get_by_role("button", name="Give them up").click()
    page.wait_for_selector("text=Nothing is held")

    # the wrong key: its page names what to do; the sender has the right one now
    findings(page)
    page.get_by_role("link", name="See what was wrong").click()
    page.wait_for_load_state("domcontentloaded")
    page.locator(".err a").first.click()
    page.wait_for_load_state("domcontentloaded")
    assert "Compare the key" in page.inner_text("main")

    deliveries = faulty.store.listings.deliveries(Selection(handler="leads.mirror"))
    assert {one.state.label for one in deliveries} == {"succeeded"}
    said = findings(page)
    for part in ("stuck behind", "breaker", "quarantine"):
        assert part not in said
