"""Every page in Chromium: both themes, wide and narrow, without JavaScript, by keyboard alone, with hostile text in it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.acceptance.dashboard.conftest import AXE, Browser
from tests.integration.dashboard.conftest import PASSWORD, Site
from tests.integration.dashboard.stories import body, make_registry
from tests.support import either_database
from webhooks.dashboard.endpoints import every_endpoint
from webhooks.dashboard.kept import Remembered
from webhooks.errors import StorageUnavailable
from webhooks.model import new_id
from webhooks.operations import Actor, Journal, Verb
from webhooks.selection import Selection
from webhooks.store.rejections import Rejection

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600), either_database]

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
#: Text that acts where it is not escaped, or breaks a layout.
NAUGHTY = [
    '"><script>alert(1)</script>',
    "<img src=x onerror=alert(1)>",
    "javascript:alert(1)",
    "{{7*7}}${7*7}<%= 7*7 %>",
    "\u202eevil\u202c \u0000\u0007\u200b",
    "x" * 250,
    "'; drop table webhooks_events; --",
    "🏴\u200d☠️ ﷽ Ṱ̺̺̕o͞ ̷i̲̬͇̪͙n̝̗͕v̟̜̘̦͟o̶̙̰̠kè͚̮̺̪̹̱̤ ",
]


def every_page(site: Site) -> Iterator[str]:
    """The address of each page that can be opened: those without a variable, and one of each thing that is stored."""
    for endpoint in every_endpoint():
        is_page = (
            endpoint.method == "GET" and "html" in endpoint.forms and endpoint.name not in ("login", "go", "complete")
        )
        if is_page and "<" not in endpoint.path and not endpoint.console:
            yield endpoint.path
    events = site.get("/events.json").get_json()["events"]
    deliveries = site.get("/deliveries.json").get_json()["deliveries"]
    if events:
        for view in ("tree&at=3", "changes", "raw", "headers"):
            yield f"/events/{events[0]['id']}?view={view}"
    for one in deliveries[:2]:
        yield f"/deliveries/{one['id']}"
    for handler in site.webhooks.registry.handlers()[:2]:
        yield f"/handlers/{handler.name}"
    yield "/sources/close"
    if deliveries:
        yield from pages_of_actions(site, deliveries[0]["id"])
    yield "/events?q=state:ded"
    yield "/events?q=no-such-event"
    yield "/no-such-page"


def pages_of_actions(site: Site, delivery: str) -> Iterator[str]:
    """Previews, a plan, and what was done: a replay that waits, a requeue that waits for a worker, one that is done."""
    store, ada = site.store, Actor("ada")
    if not store.actions.page(1):
        replayer = site.webhooks.make_replayer()
        replayer.start(replayer.plan(Selection()), actor=ada, why="a story", detached=True)
        log = site.webhooks.make_activity()
        log.changes()[Verb.REQUEUE].begin(Selection(handler="leads.mirror"), actor=ada, why="a story")
        Journal(store).note(Verb.EXPORT, ada, "events")
    yield from (f"/activity/{action.id}" for action in store.actions.page())
    yield from (f"/replays/{replay.id}" for replay in store.replays.all())
    at = new_id()
    yield f"/change/requeue?delivery={delivery}&at={at}"
    yield f"/change/requeue?q=&at={at}"
    yield f"/change/cancel?q=state:dead&at={at}"
    yield "/replays/new?q=type:lead.**"
    yield "/failures?q=state:ded"


def is_wider_than_the_window(page: Any) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_pages_are_accessible(browser: Browser, theme: str, width: int) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is missing; `make test-browser` fetches it by npm")
    source = AXE.read_text("utf-8")
    page = browser.page(theme=theme, width=width)
    found = []
    for path in every_page(browser.served.site):
        page.goto(browser.served.at(path))
        if width > 820:
            assert not is_wider_than_the_window(page), path
        page.evaluate(source)
        result = page.evaluate("rules => axe.run(document, {runOnly: {type: 'tag', values: rules}})", RULES)
        found += [
            f"{path}: {one['id']}: {one['help']}: {one['nodes'][0]['html'][:200]}" for one in result["violations"]
        ]
    page.goto(browser.served.at("/events"))
    page.keyboard.press("p")
    page.wait_for_selector("#peek")
    page.keyboard.press(".")
    page.wait_for_selector(".menu-list:visible")
    page.evaluate(source)
    result = page.evaluate("rules => axe.run(document, {runOnly: {type: 'tag', values: rules}})", RULES)
    found += [f"peek and menu: {one['id']}: {one['nodes'][0]['html'][:200]}" for one in result["violations"]]
    assert not found, "\n".join(found)


def test_no_page_is_wider_than_a_phone(browser: Browser) -> None:
    page = browser.page(width=390)
    wide = []
    for path in every_page(browser.served.site):
        page.goto(browser.served.at(path))
        if is_wider_than_the_window(page):
            wide.append(path)
    assert not wide


def test_every_page_can_be_read_at_twice_its_size(browser: Browser) -> None:
    """A window of 1,280 pixels at 200 %, as WCAG 1.4.4 asks: nothing is beside it, cut off, or out of reach."""
    page = browser.page(width=1280, zoom=2)
    wrong = []
    for path in every_page(browser.served.site):
        page.goto(browser.served.at(path))
        cut = page.evaluate(
            """() => [...document.querySelectorAll("h1, h2, .btn, .tag, label")]
              .filter((one) => one.offsetParent && one.getClientRects().length && one.scrollWidth > one.clientWidth + 1
                && getComputedStyle(one).overflow === "hidden" && !one.closest(".vh")).map((one) => one.outerHTML.slice(0, 80))"""
        )
        if is_wider_than_the_window(page) or cut or not page.locator("#q").is_visible():
            wrong.append((path, cut))
    assert not wrong
    page.goto(browser.served.at("/events"))
    page.click("summary:has-text('Menu')")
    page.locator(".menu .nav").get_by_role("link", name="Failures").click()
    page.wait_for_url(re.compile("/failures"), wait_until="domcontentloaded")


def test_every_page_works_without_javascript(browser: Browser) -> None:
    page = browser.page(javascript=False)
    for path in every_page(browser.served.site):
        response = page.goto(browser.served.at(path))
        assert response.status < 500, path
        assert page.locator("main").inner_text().strip(), path
        assert not page.locator(".needs-js:visible").count(), path
    page.goto(browser.served.at("/events"))
    page.fill("#q", "key:ev_1")
    page.press("#q", "Enter")
    page.wait_for_url(re.compile("/dashboard/events/"), wait_until="domcontentloaded")
    assert "leads.mirror" in page.inner_text("main")
    page.click("text=Raw")
    assert "whsub_1" in page.inner_text(".raw")
    page.goto(browser.served.at("/events"))
    page.click("summary:has-text('Conditions')")
    page.fill("input[name=state]", "dead")
    page.click(".conditions button")
    assert page.input_value("#q") == "state:dead"


def test_hostile_text_stays_text(make_site: Callable[..., Site], open_browser: Callable[[Site], Browser]) -> None:
    site = make_site(make_registry())
    for number, text in enumerate(NAUGHTY):
        data = {text: text, "list": [text, {text: 1}]}
        raw = json.loads(body(f"ev_{number}", **{"name": text}))
        raw["event"]["data"] = data
        raw["event"]["object_type"] = "lead"
        site.send(json.dumps(raw).encode())
        site.send(body(text.replace("\u0000", "")[:200], name=text))
    site.work()
    browser = open_browser(site)
    for width in (1440, 390):
        page = browser.page(width=width)
        for event in site.get("/events.json").get_json()["events"]:
            for view in ("tree&at=30", "raw", "headers"):
                page.goto(browser.served.at(f"/events/{event['id']}?view={view}"))
                assert not is_wider_than_the_window(page), (event["key"], view, width)
        for text in NAUGHTY:
            from urllib.parse import quote

            for path in ("/events", "/deliveries", "/go"):
                page.goto(browser.served.at(f"{path}?q={quote(text.replace(chr(0), ''))}"))
                assert not is_wider_than_the_window(page), (path, text, width)


def test_a_password_lets_in(browser: Browser) -> None:
    page = browser.page(role=None)
    page.goto(browser.served.at("/events?q=state:dead"))
    page.fill("#name", "ada")
    page.fill("#password", "wrong")
    page.click("button:has-text('Log in')")
    assert "Name or password is wrong" in page.inner_text("main")
    page.fill("#password", PASSWORD)
    page.click("button:has-text('Log in')")
    page.wait_for_url(re.compile("q=state"), wait_until="domcontentloaded")
    assert "leads.mirror" not in page.inner_text(".top")
    page.click("button[title='Log out']")
    page.wait_for_selector("#password")


def test_the_keyboard_alone_is_enough(browser: Browser) -> None:
    page = browser.page()
    page.goto(browser.served.at("/events"))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "q"
    page.keyboard.type("state:de")
    page.wait_for_selector("#suggestions [role=option]")
    page.keyboard.press("ArrowDown")
    assert page.get_attribute("#q", "aria-activedescendant") == "suggestion-0"
    page.keyboard.press("Enter")
    assert page.input_value("#q") == "state:dead "
    # waited for from before the key on: what is typed between two pages is the browser's
    with page.expect_navigation(url=re.compile("q=state"), wait_until="domcontentloaded"):
        page.keyboard.press("Enter")
    page.keyboard.press("j")
    with page.expect_navigation(url=re.compile(r"/events/\d+"), wait_until="domcontentloaded"):
        page.keyboard.press("Enter")
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#keys").is_visible()
    with page.expect_navigation(url=re.compile("/dashboard/events$"), wait_until="domcontentloaded"):
        page.keyboard.press("g")
        page.keyboard.press("e")
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_a_key_right_after_a_dialog_was_closed_is_taken(browser: Browser) -> None:
    """Until the next frame its field has the focus still."""
    page = browser.page()
    page.goto(browser.served.at("/events"))
    theme = page.evaluate(
        """() => {
          const dialog = document.querySelector("#keys"), field = dialog.querySelector("input");
          const press = () => field.dispatchEvent(new KeyboardEvent("keydown", { key: "t", bubbles: true }));
          dialog.showModal();
          press();
          const before = document.documentElement.dataset.theme;
          dialog.close();
          press();
          return [before ?? null, document.documentElement.dataset.theme];
        }"""
    )
    assert theme == [None, "dark"]


def test_new_events_appear_while_one_looks(browser: Browser) -> None:
    page = browser.page()
    page.goto(browser.served.at("/events"))
    page.evaluate("document.body.dataset.interval = '0.2'")
    page.mouse.move(5, 5)
    browser.served.site.send(body("ev_later"))
    page.wait_for_selector("text=ev_later", timeout=15_000)
    page.click("[data-pause]")
    assert page.inner_text("[data-state]") == "Paused"


def test_new_rows_wait_while_one_reads(browser: Browser) -> None:
    page = browser.page()
    page.goto(browser.served.at("/events"))
    page.evaluate("document.body.dataset.interval = '0.2'")
    page.hover("tbody tr:last-child")
    browser.served.site.send(body("ev_later"))
    browser.served.site.send(body("ev_later_still"))
    page.wait_for_selector("[data-fresh]:has-text('2 new')", timeout=20_000)
    assert not page.locator("text=ev_later_still").count(), "it is not put under one's eyes"
    page.click("[data-fresh]")
    page.mouse.move(5, 5)
    page.wait_for_selector("text=ev_later_still", timeout=20_000)
    page.wait_for_selector("[data-fresh]", state="hidden")


def refuse(site: Site, number: int) -> None:
    site.store.rejections.put(
        Rejection("close", site.store.database.now(), f"{number:016x}", 401, "no key made this", None, (), 0, 0, kind="signature")
    )  # fmt: skip


def fail_anew(site: Site, number: int) -> None:
    site.send(body(f"ev_deal{number}", type="opportunity"))
    site.work()


#: {page with a table: what puts another row into it}
ROWS: dict[str, Callable[[Site, int], Any]] = {
    "/deliveries": lambda site, number: site.send(body(f"ev_new{number}", type="contact")),
    "/failures": fail_anew,
    "/refused": refuse,
    "/activity": lambda site, number: Journal(site.store).note(Verb.EXPORT, Actor("grace"), f"new{number}"),
}


def test_new_rows_of_other_tables_wait_as_well(browser: Browser) -> None:
    site = browser.served.site
    page = browser.page()
    for path, add in ROWS.items():
        for number in range(2 if path != "/failures" else 0):
            add(site, number)
        page.goto(browser.served.at(path))
        page.evaluate("document.body.dataset.interval = '0.2'")
        page.hover("tbody tr:last-child a[data-row]")
        shown = page.locator("a[data-row]").count()
        add(site, 7)
        page.wait_for_selector("[data-fresh]:has-text('1 new')", timeout=20_000)
        assert page.locator("a[data-row]").count() == shown, path
        page.click("[data-fresh]")
        page.mouse.move(5, 5)
        page.wait_for_function("n => document.querySelectorAll('a[data-row]').length > n", arg=shown, timeout=20_000)
        page.wait_for_selector("[data-fresh]", state="hidden")


def test_rows_are_peeked_into_picked_and_have_a_menu(browser: Browser) -> None:
    page = browser.page()
    page.goto(browser.served.at("/events"))
    page.keyboard.press("j")
    page.keyboard.press("p")
    page.wait_for_selector("#peek .json")
    page.keyboard.press("j")
    page.keyboard.press("p")
    page.wait_for_selector("#peek")
    page.keyboard.press("Escape")
    assert not page.locator("#peek").count()
    page.keyboard.press(".")
    page.get_by_role("link", name="Only this type").locator("visible=true").click()
    page.wait_for_url(re.compile("q=type"), wait_until="domcontentloaded")
    page.goto(browser.served.at("/deliveries"))
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    assert page.locator("input[name=delivery]:checked").count() == 2
    page.click("button[form=picked]:has-text('Requeue')")
    page.wait_for_url(re.compile("change/requeue.*delivery=.*delivery="), wait_until="domcontentloaded")
    page.goto(browser.served.at("/"))
    page.keyboard.press("w")
    page.wait_for_url(re.compile("window=6h"), wait_until="domcontentloaded")


def test_times_of_day_follow_the_zone_of_the_browser_where_that_is_chosen(browser: Browser) -> None:
    page = browser.page(timezone="Asia/Tokyo")
    page.goto(browser.served.at("/events"))
    clock = page.locator("tbody time").first
    at, utc = clock.get_attribute("datetime"), clock.inner_text()
    page.click("[data-zone-button]")
    there = datetime.fromisoformat(at).astimezone(ZoneInfo("Asia/Tokyo"))
    assert clock.inner_text() == f"{there:%H:%M:%S}"
    assert page.inner_text("[data-zone]") == "GMT+9"
    page.reload()
    assert clock.inner_text() == f"{there:%H:%M:%S}", "it is kept"
    page.click("[data-zone-button]")
    assert clock.inner_text() == utc


def test_a_page_stays_while_the_database_is_away_and_one_that_was_not_had_comes(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise StorageUnavailable("connection refused")

    site = browser.served.site
    page, other = browser.page(), browser.page()
    page.goto(browser.served.at("/events"))
    shown = page.locator("a[data-row]").count()
    monkeypatch.setattr(Remembered, "get", lambda self, name, make, seconds: make())
    with monkeypatch.context() as patch:
        for name in ("read", "write"):
            patch.setattr(site.store.database, name, away)
        other.goto(browser.served.at("/events?q=state:dead"))
        assert "The database cannot be reached" in other.inner_text("main")
        for each in (page, other):
            each.evaluate("document.body.dataset.interval = '0.2'")
            each.mouse.move(5, 5)
        page.wait_for_selector("[data-state].bad", timeout=20_000)
        assert page.locator("a[data-row]").count() == shown, "what was there stays"
    other.wait_for_selector("a[data-row]", timeout=60_000)
    page.wait_for_selector("[data-state]:not(.bad)", timeout=60_000)
    browser.said[:] = [line for line in browser.said if "503" not in line]


def test_what_is_unfolded_stays_unfolded_while_pages_are_renewed(browser: Browser) -> None:
    site = browser.served.site
    event = site.store.listings.ids_of_key("ev_1")[-1]
    page = browser.page()
    page.goto(browser.served.at(f"/events/{event}"))
    page.click(".trace summary")
    with page.expect_response(lambda response: "/events/" in response.url and response.request.method == "GET"):
        page.evaluate("document.querySelector('#happened').dispatchEvent(new CustomEvent('poll'))")
    page.wait_for_timeout(200)
    assert page.locator(".trace[open]").count() == 1
