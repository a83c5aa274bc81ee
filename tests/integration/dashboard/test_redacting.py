"""What `redact` hides is on no page, in no document and in no export, until it is revealed with a reason."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.dashboard.conftest import Site
from tests.integration.dashboard.stories import body
from tests.integration.dashboard.test_actions import follow
from webhooks.dashboard import UserRole
from webhooks.routing import Registry, RetryPolicy, field
from webhooks.selection import Selection

pytestmark = pytest.mark.one_database

PHONE, MAIL, NAME = "+49 170 1234567", "rosa@example.org", "Rosa Luchs"
SECRETS = (PHONE, "1234567", MAIL, NAME)
PATTERNS = ["data.remote_phone", "**.email", "data.contact"]


@pytest.fixture
def hiding(make_site: Callable[..., Site]) -> tuple[Site, int]:
    """A dashboard that hides, and an event whose handler quotes all that is hidden."""
    registry = Registry()

    @registry.on("lead.updated", name="leads.call", retry=RetryPolicy(max_attempts=1))
    def call(event: Any) -> None:
        raise ConnectionError(f"no answer from {PHONE} ({MAIL}), {event.data['contact']['name']}")

    @registry.on("lead.updated", name="leads.filtered", where=field("data.remote_phone") == "+49 89 1111111")
    def filtered(event: Any) -> None: ...

    @registry.on("lead.updated", name="leads.rehearsed", effects="session", retry=RetryPolicy(max_attempts=1))
    def rehearsed(event: Any, session: Any) -> None:
        raise ValueError(f"{PHONE} of {MAIL} is no number of {event.data['contact']['name']}")

    site = make_site(registry, dashboard={"redact": PATTERNS, "payloads_for": "viewer"})
    data: dict[str, Any] = {
        "id": "lead_1",
        "remote_phone": PHONE,
        "contact": {"name": NAME, "age": 1.50},
        "to": [{"email": MAIL}],
    }
    site.send(body("ev_1", **data))
    site.send(body("ev_1", updated="2026-03-10T14:06:12", status="won", **data))
    site.work(2)
    (newest, *_) = site.store.listings.events(Selection())
    return site, newest.id


def test_a_rehearsal_does_not_say_it(hiding: tuple[Site, int]) -> None:
    site, id = hiding
    text = site.post("/replays/rehearse", {"q": str(id)}).text
    assert "would fail" in text
    assert [secret for secret in SECRETS if secret in text] == []


def test_no_page_document_or_export_has_it(hiding: tuple[Site, int]) -> None:
    site, id = hiding
    (dead, *_) = site.store.listings.deliveries(Selection(handler="leads.call"))
    paths = [
        *(f"/events/{id}?view={view}" for view in ("tree", "changes", "raw", "headers")), f"/events/{id}.json",
        f"/events/{id}/payload", "/events.jsonl", "/events.csv", "/events", "/deliveries", "/deliveries.json", "/deliveries.csv",
        f"/deliveries/{dead.id}", f"/deliveries/{dead.id}.json", "/failures", "/failures.json", "/failures.csv",
        "/", "/handlers", "/handlers.json", "/handlers/leads.call", "/handlers/leads.call.json", "/activity", "/doctor",
        "/complete?q=error:c", "/complete?q=error:n", f"/events/{id}?at=5", "/failures/blocked?q=handler:leads.call", f"/change/requeue.json?delivery={dead.id}&at={id}",
    ]  # fmt: skip
    for path in paths:
        for role in UserRole:
            page = site.get(path, role)
            if page.status_code == 403:
                continue
            assert page.status_code == 200, path
            assert [secret for secret in SECRETS if secret in page.text] == [], path
    assert "[hidden]" in site.get(f"/events/{id}").text
    assert "lead_1" in site.get(f"/events/{id}").text
    assert [one.verb for one in site.store.actions.page()] == ["export"] * 8, "of four tables, by two"


def test_a_body_in_quarantine_is_hidden_and_revealed(hiding: tuple[Site, int]) -> None:
    site, _ = hiding
    now: Any = site.store.database.now()
    raw = json.dumps({"event": {"data": {"remote_phone": PHONE}}}).encode()
    kinds = {"reason": "no type", "kind": "unreadable", "received_at": now, "headers": "{}"}
    ids = [site.store.quarantine.put("close", body, **kinds) for body in (raw, f"no JSON of {NAME}".encode())]
    for id in ids:
        for path in (f"/quarantine/{id}", f"/quarantine/{id}.json", "/quarantine"):
            page = site.get(path).text
            assert [s for s in SECRETS if s in page or base64.b64encode(s.encode()).decode()[:8] in page] == [], path
    cookie = site.cookie(UserRole.OPERATOR)
    answer = site._open(
        "POST", f"/quarantine/{ids[1]}/reveal", UserRole.OPERATOR, cookie=cookie, headers={"Sec-Fetch-Site": "same-origin"},
        data={"form_token": site.token(cookie), "why": "to correct the reader"},
    )  # fmt: skip
    assert NAME in site.get(answer.headers["Location"].removeprefix("/dashboard"), cookie=cookie).text
    assert site.store.actions.page()[0].verb == "reveal"


def test_a_group_of_failures_is_still_requeued(hiding: tuple[Site, int]) -> None:
    site, _ = hiding
    link = re.search(r'href="/dashboard(/change/requeue\?[^"]+)"', site.get("/failures").text)
    assert link is not None
    preview = site.get(site.get(link[1].replace("&amp;", "&")).headers["Location"].removeprefix("/dashboard"))
    assert "Requeue 2 deliveries" in " ".join(re.sub("<[^>]+>", " ", preview.text).split())


def test_it_is_revealed_with_a_reason_to_this_session_for_a_while(hiding: tuple[Site, int]) -> None:
    site, id = hiding
    assert site.post(f"/events/{id}/reveal").status_code == 400
    assert site.post(f"/events/{id}/reveal", {"why": "x"}, role=UserRole.VIEWER).status_code == 403
    assert site.store.actions.page() == []
    cookie = site.cookie(UserRole.OPERATOR)
    headers = {"Sec-Fetch-Site": "same-origin"}
    answer = site._open(
        "POST", f"/events/{id}/reveal", UserRole.OPERATOR, cookie=cookie, headers=headers,
        data={"form_token": site.token(cookie), "why": "the customer calls"},
    )  # fmt: skip
    address = answer.headers["Location"].removeprefix("/dashboard")
    shown = site.get(address, cookie=cookie).text
    assert [secret for secret in (PHONE, MAIL, NAME) if secret not in shown] == []
    (noted,) = site.store.actions.page()
    assert (noted.verb, noted.subject, noted.why, noted.by) == ("reveal", str(id), "the customer calls", "ada")
    assert PHONE not in site.get(address).text, "another session"
    assert PHONE not in site.get(address, UserRole.VIEWER).text
    other = site.store.listings.events(Selection())[-1].id
    assert PHONE not in site.get(address.replace(str(id), str(other)), cookie=cookie).text, "another event"
    assert follow(site, site.post(f"/events/{id}/reveal", {"why": "x"}))


def test_a_pattern_that_is_none_stops_the_start(make_site: Callable[..., Site]) -> None:
    with pytest.raises(Exception, match="hides everything"):
        make_site(dashboard={"redact": ["**"]})


def test_a_command_that_posts_it_again_is_made_for_who_sees_it(hiding: tuple[Site, int], site: Site) -> None:
    hidden, id = hiding
    refused = hidden.post(f"/events/{id}/curl")
    assert (refused.status_code, "reveal the event first" in refused.text) == (403, True)
    assert hidden.store.actions.page() == []
    site.send(body("ev_9"))
    (one,) = site.store.listings.events(Selection(key="ev_9"))
    page = site.post(f"/events/{one.id}/curl").text
    assert "http://127.0.0.1:8000/webhooks/close" in page
    assert "close-sig-hash" in page.lower()
    assert [noted.verb for noted in site.store.actions.page()] == ["curl"]
    assert site.post(f"/events/{one.id}/curl", role=UserRole.VIEWER).status_code == 403
