"""Handlers, sources, refused, quarantine, doctor, subscriptions, processes: full, empty, hostile, and within their budget."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event

from tests.integration.dashboard.conftest import Site, shown
from webhooks.app.dashboard import keys_of, register, services_without_handlers
from webhooks.dashboard import UserRole
from webhooks.dashboard.pages.operate import differing
from webhooks.dashboard.pages.refused import ADVICE, groups_of
from webhooks.delivery import handler_rows
from webhooks.errors import Refusal
from webhooks.operations import Finding, Level, records
from webhooks.operations.examinations import DOCTOR, SUBSCRIPTIONS, document
from webhooks.routing import Registry
from webhooks.selection import Selection
from webhooks.settings import load_settings
from webhooks.store.rejections import Rejection

pytestmark = pytest.mark.one_database

NAUGHTY = "<script>alert(1)</script>\x00\u202e\"'&"
PAGES = (
    "/handlers",
    "/sources",
    "/sources/close",
    "/refused",
    "/quarantine",
    "/doctor",
    "/subscriptions",
    "/processes",
)
#: Statements that a page may send.
MOST_STATEMENTS = 12


@pytest.fixture
def registry() -> Registry:
    registry = Registry()

    @registry.on("lead.**", name="leads.link", concurrency=4)
    def link(event: Any) -> None: ...

    @registry.on("**", name="odd:name")
    def odd(event: Any) -> None: ...

    return registry


@pytest.fixture
def full(make_site: Callable[..., Site], registry: Registry, payload: Callable[[str], bytes]) -> Site:
    """An installation with something of everything, and hostile texts wherever a sender or a handler can put one."""
    site = make_site(registry)
    store, now = site.store, site.store.database.now()
    store.handlers.register(handler_rows(registry))
    store.processes.beat(
        f"host{NAUGHTY.replace(chr(0), '')}:1", "worker", "0.9", ["leads.link"], lease=timedelta(seconds=30)
    )
    store.processes.beat("host:2", "worker", "1.0", ["leads.link", "odd:name"], lease=timedelta(seconds=30))
    site.send(payload("lead_merged"))
    for number in range(7):
        text = NAUGHTY if number % 2 else "another key"
        store.rejections.put(
            Rejection(
                "close",
                now,
                f"req{number}",
                401,
                text.replace("\x00", ""),
                None,
                (NAUGHTY.replace("\x00", ""),),
                10,
                20,
                b"x",
                "signature",
            )
        )
    store.quarantine.put("close", b"{<b>broken\xff", reason="no JSON", kind="unparseable", received_at=now, headers='{"Close-Sig-Hash": "secret-value"}', key_label="k")  # fmt: skip
    finding = Finding(Level.WARNING, "source-silent", "close", "close is silent", "webhooks catch-up")
    store.snapshots.put(DOCTOR, document([finding], {}, "2026-03-10T02:41:00+00:00"))
    subscription = {
        "id": "whsub_1", "url": "https://example.com/webhooks/close", "status": "paused", "types": ["lead.created"], "filtered": [],
        "verify_ssl": True, "health_status": None, "latest_error": NAUGHTY.replace("\x00", ""), "pause_reason": None,
        "created_at": None, "is_key_held": False, "key_last_used_at": "2026-03-10T02:41:00+00:00",
    }  # fmt: skip
    store.snapshots.put(
        SUBSCRIPTIONS,
        {
            "close": {
                "why_not": None,
                "is_refused": False,
                "subscriptions": [subscription],
                "wanted": ["a"],
                "missing": ["lead.updated"],
            }
        },
    )
    return site


def statements_of(site: Site, act: Callable[[], Any]) -> list[str]:
    """What is asked of the database meanwhile; what a process writes besides is not the page's."""
    here = threading.get_ident()
    said: list[str] = []

    def note(conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        if threading.get_ident() == here:
            said.append(statement)

    engine = site.store.database.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        act()
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return [each for each in said if not each.lower().startswith(("pragma", "begin", "set ", "insert"))]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_of_an_empty_installation_says_what_would_be_there(site: Site, path: str) -> None:
    assert site.get(path, UserRole.VIEWER).status_code == 200


@pytest.mark.parametrize("path", [*PAGES, "/handlers/leads.link", "/handlers/odd:name", "/refused/req1"])
def test_a_full_page_is_small_asks_little_and_runs_nothing(
    full: Site, path: str, timeless: Callable[[Site], Site]
) -> None:
    timeless(full)
    responses: list[Any] = []
    asked = statements_of(full, lambda: responses.append(full.get(path, UserRole.VIEWER)))
    (response,) = responses
    assert response.status_code == 200, shown(response.text)
    assert len(response.data) <= 80_000
    assert "<script>alert" not in response.text
    assert "secret-value" not in response.text
    assert "\u202e" not in response.text
    assert len(asked) <= MOST_STATEMENTS, "\n".join(each[:90] for each in asked)


@pytest.mark.parametrize(
    "path",
    ["/events", "/deliveries", "/failures", "/failures/blocked", "/refused", "/quarantine", "/replays", "/activity"],
)
def test_new_rows_of_a_table_wait_while_one_reads_in_it(site: Site, path: str) -> None:
    page = site.get(path, UserRole.VIEWER).text
    (held,) = [part for part in page.split("data-live")[1:] if "data-hold>" in part.split("\n")[0]]
    assert "data-fresh hidden></button>" in held, "where they are said"


def test_handlers_that_do_not_load_are_a_finding_and_keep_nothing_from_being_seen(full: Site) -> None:
    settings = load_settings({}, overrides={**full.webhooks._overrides})
    problem = "handlers/leads.py, line 3: NameError: name 'x' is not defined"
    app = Flask("unloaded")
    services = services_without_handlers(settings, problem)
    try:
        register(app, services, keys_of(settings, {}))
        bare = Site(app, full.webhooks)
        (event, *_) = full.store.listings.events(Selection())
        overview = bare.text("/")
        assert "All is well" not in overview
        assert "handlers/leads.py, line 3: NameError" in bare.text("/doctor")
        findings = bare.get("/doctor.json").get_json()["findings"]
        assert [one["level"] for one in findings if one["code"] == "handlers-not-loaded"] == ["error"]
        assert "orphaned-deliveries" not in {one["code"] for one in findings}
        page = bare.get(f"/events/{event.id}").text
        assert 'aria-disabled="true"' in page
        assert "/replays/new" not in page
        assert "line 3: NameError" in bare.text("/handlers")
    finally:
        services.store.database.dispose()


def test_documents_are_those_of_the_command_line(full: Site) -> None:
    names = [each["name"] for each in full.get("/handlers.json").get_json()["handlers"]]
    assert names == ["leads.link", "odd:name"]
    assert full.get("/handlers/leads.link.json").get_json()["name"] == "leads.link"
    assert [each["name"] for each in full.get("/sources.json").get_json()["sources"]] == ["close"]
    refused = full.get("/refused.json").get_json()["refused"]
    found = full.store.rejections.find("req3")
    assert found is not None
    assert next(each for each in refused if each["request_id"] == "req3") == records.rejection_json(found)
    assert full.get("/refused.jsonl").data.count(b"\n") == 7
    assert full.get("/handlers.json").get_json()["replies"] == []
    assert json.loads(full.get("/quarantine.jsonl").text)["kind"] == "unparseable"
    assert [one.subject for one in full.store.actions.page() if one.verb == "export"] == ["quarantine", "refused"]
    (kept,) = full.get("/quarantine.json").get_json()["quarantine"]
    whole = full.store.quarantine.get(int(kept["id"]))
    assert whole is not None
    assert kept == records.quarantined_json(whole)
    assert set(full.get("/doctor.json").get_json()) == {"findings", "repaired"}
    assert [each["id"] for each in full.get("/subscriptions.json").get_json()["subscriptions"]] == ["whsub_1"]
    assert {each["version"] for each in full.get("/processes.json").get_json()["processes"]} == {"0.9", "1.0"}


def test_a_paused_handler_says_by_whom_and_why(full: Site) -> None:
    full.post("/handlers/leads.link/pause", {"why": "the CRM is being moved"})
    page = full.text("/handlers/leads.link")
    assert "paused by ada" in page
    assert "the CRM is being moved" in page


def test_a_quarantined_body_is_shown_to_who_may_see_payloads(full: Site) -> None:
    (kept,) = full.store.quarantine.list(10)
    path = f"/quarantine/{kept.id}"
    assert "broken" in full.text(path, UserRole.OPERATOR)
    assert "broken" not in full.text(path, UserRole.VIEWER)
    assert "You may not see payloads" in full.text(path, UserRole.VIEWER)
    assert "body_base64" not in full.get(f"{path}.json", UserRole.VIEWER).get_json()
    assert "Close-Sig-Hash" in full.text(path, UserRole.VIEWER)
    assert "secret-value" not in full.get(path, UserRole.OPERATOR).text


def test_what_is_not_there_is_said(full: Site) -> None:
    for path, words in (
        ("/handlers/leads.lnk", "leads.link"),
        ("/sources/clsoe", "close"),
        ("/refused/nothing", "no refused request"),
        ("/quarantine/17", "nothing is quarantined"),
    ):
        response = full.get(path)
        assert response.status_code == 404
        assert words in shown(response.text)


def test_pages_say_what_needs_someone(full: Site) -> None:
    assert "Not every worker has odd:name" in full.text("/processes")
    assert "Several versions run: 0.9, 1.0" in full.text("/processes")
    assert "lead.updated" in full.text("/subscriptions")
    assert "close is silent" in full.text("/doctor")
    assert "close is silent" in full.text("/sources/close")
    assert "leads.link" in full.text("/handlers/leads.link")
    assert "test_reading.py" in full.text("/handlers/leads.link"), "where it is written"


@pytest.fixture
def rejections() -> list[Rejection]:
    at = datetime(2026, 3, 10, tzinfo=UTC)

    def made(number: int, status: int, diagnosis: str | None, reason: str = "r") -> Rejection:
        return Rejection(
            "close", at + timedelta(minutes=number), str(number), status, reason, diagnosis, (), 0, 0, None, "signature"
        )

    return [
        made(1, 401, "old clock"),
        made(2, 401, "other key"),
        made(3, 200, None),
        made(4, 401, "other key"),
        made(5, 401, None),
    ]


def test_refused_requests_are_grouped_by_diagnosis(rejections: list[Rejection]) -> None:
    groups = groups_of(rejections)
    assert [(group.text, group.count, group.has_diagnosis) for group in groups] == [
        ("other key", 2, True),
        ("old clock", 1, True),
        ("r", 1, False),
    ]
    assert groups[0].example.request_id == "4"


def test_there_is_advice_for_every_reason() -> None:
    assert set(ADVICE) == set(Refusal)


def test_workers_differ_in_what_some_of_them_lack() -> None:
    assert differing([["a", "b"], ["b"], ["b", "c"]]) == ["a", "c"]
    assert differing([["a"]]) == []
    assert differing([]) == []
