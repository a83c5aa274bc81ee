"""Who comes and what they must reach (docs/dashboard.md): each acted out in a browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.acceptance.dashboard.conftest import Browser
from tests.acceptance.support import Processes
from tests.integration.dashboard.conftest import Site
from tests.integration.dashboard.stories import body, fill, make_registry
from webhooks.dashboard import UserRole

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture
def story(make_site: Callable[..., Site]) -> Site:
    site = make_site(make_registry(), sample_rejected="0")
    fill(site)
    return site


def test_an_operator_at_night_finds_the_button_on_a_phone(story: Site, open_browser: Callable[[Site], Browser]) -> None:
    """One page, one press: the verdict and its button stand before any chart."""
    story.store.handlers.pause("leads.mirror", by="grace")
    browser = open_browser(story)
    page = browser.page(width=390)
    page.goto(browser.served.at("/"))
    verdict = page.locator(".verdict")
    assert "paused by grace" in verdict.inner_text()
    assert verdict.bounding_box()["y"] < page.locator(".figures").bounding_box()["y"]
    verdict.get_by_role("button", name="Resume").click()
    page.wait_for_selector("[role=status]")
    assert not story.store.handlers.states()["leads.mirror"].paused


def test_anyone_finds_a_webhook_in_one_search(story: Site, open_browser: Callable[[Site], Browser]) -> None:
    refused = story.send(body("ev_refused"), **{"close-sig-hash": "0" * 64})["request_id"]
    browser = open_browser(story)
    page = browser.page(role=UserRole.VIEWER)
    for word, wanted in (("ev_1", "leads.mirror"), (refused, "signature")):
        page.goto(browser.served.at("/events"))
        page.fill("#q", word)
        page.press("#q", "Enter")
        page.wait_for_url(re.compile(r"/(events|refused)/\w"), wait_until="domcontentloaded")
        assert wanted in page.inner_text("main")


def test_an_author_learns_why_a_handler_did_not_run(story: Site, open_browser: Callable[[Site], Browser]) -> None:
    browser = open_browser(story)
    page = browser.page()
    page.goto(browser.served.at("/events?q=key:ev_1"))
    page.click("a[data-row]")
    page.wait_for_selector("text=Why did it run, or not?")
    assert "none of its patterns matches: contact.**" in page.inner_text(".why")


def test_an_operator_runs_a_group_of_failures_again(story: Site, open_browser: Callable[[Site], Browser]) -> None:
    browser = open_browser(story)
    page = browser.page()
    page.goto(browser.served.at("/failures"))
    page.get_by_role("link", name=re.compile("Requeue 1")).click()
    page.wait_for_load_state("domcontentloaded")
    assert "leads.mirror" in page.inner_text("main")
    page.locator("main form[method=post] button").last.click()
    page.wait_for_url(re.compile(r"/activity/\d+"), wait_until="domcontentloaded")
    assert "1 of 1" in page.inner_text("main")
    (dead,) = [one for one in story.store.listings.of_event(event_of(story)) if one.handler == "leads.mirror"]
    assert dead.state.label == "pending"


def event_of(story: Site) -> int:
    return story.store.listings.ids_of_key("ev_1")[-1]


def test_a_team_lead_looks_and_cannot_act(story: Site, open_browser: Callable[[Site], Browser]) -> None:
    browser = open_browser(story)
    page = browser.page(role=UserRole.VIEWER)
    page.goto(browser.served.at("/"))
    assert page.locator(".verdict").is_visible()
    assert not page.locator("main form[method=post]").count()
    page.fill("#q", 'where: data.name == "Grace"')
    page.press("#q", "Enter")
    page.wait_for_selector("a[data-row]")
    assert "ev_2" in page.inner_text("main")


def test_a_newcomer_sends_an_event_and_sees_it_handled(processes: Processes, chromium: Any) -> None:
    """From the printed link to a handler that ran: one page, one press."""
    assert processes.run("webhooks", "init").wait() == 0
    dev = processes.start("webhooks", "dev")
    dev.wait_for(r"/dashboard/console\?key=", timedelta(seconds=90))
    link = re.search(r"http://127\.0\.0\.1:\d+/dashboard/console\?key=\S+", dev.output)
    assert link is not None
    context = chromium.new_context()
    try:
        page = context.new_page()
        page.goto(link[0])
        assert "key=" not in page.url
        page.click("text=Send an event…")
        page.select_option("select[name=type]", "activity.whatsapp_message.created")
        page.click("text=Take this sample")
        page.click("button:has-text('Send'):not(:has-text('sample'))")
        page.wait_for_selector("text=Answered 200")
        page.click("text=see what becomes of it")
        page.wait_for_selector("text=succeeded", timeout=20_000)
    finally:
        context.close()
    assert dev.stop() == 0
