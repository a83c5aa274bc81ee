"""The overview: the verdict first, figures that say what they compare, and every state that an installation can be in."""

from __future__ import annotations

import html
import re
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event

from tests.integration.conftest import KEY
from tests.integration.dashboard.conftest import Site, shown
from webhooks.dashboard import UserRole
from webhooks.dashboard.kept import Remembered
from webhooks.dashboard.remedies import ALARM_OF
from webhooks.delivery import handler_rows
from webhooks.model import AttemptOutcome, DeliveryClass, DeliveryState, Disposition
from webhooks.operations.alarms import ALARMS
from webhooks.operations.doctor import CHECKS
from webhooks.operations.doctor.checks import code_of
from webhooks.operations.examinations import DOCTOR, SUBSCRIPTIONS
from webhooks.routing import Registry, Verdict
from webhooks.store.deliveries import Finished
from webhooks.store.rejections import Rejection
from webhooks.store.tallies import UNTIMED, Counts, Kind, LevelSample, Ran

pytestmark = pytest.mark.one_database

#: Statements that a page may send.
MOST_STATEMENTS = 12


@pytest.fixture
def registry() -> Registry:
    registry = Registry()

    @registry.on("**", name="h")
    def h(event: Any) -> None: ...

    return registry


def fail(site: Site, reason: str = "KeyError: 'contact_ids'") -> None:
    """Have every delivery that is due die."""
    claimed = site.store.deliveries.claim(
        {("h", kind): 100 for kind in DeliveryClass}, lease=timedelta(seconds=30), worker="w"
    )
    dead = Verdict(DeliveryState.DEAD, AttemptOutcome.FAILED, reason=reason, error="Traceback")
    site.store.deliveries.finish([Finished(each.delivery, dead) for each in claimed])


@pytest.fixture
def statements(make_site: Callable[..., Site]) -> Iterator[Callable[[Site], list[str]]]:
    """Note what a site sends in this thread from here on; others write what was noted in passing."""
    here = threading.get_ident()
    watched: list[tuple[Any, Any]] = []

    def watch(site: Site) -> list[str]:
        said: list[str] = []

        def note(conn: Any, cursor: Any, statement: str, *_: Any) -> None:
            if threading.get_ident() == here:
                said.append(statement)

        event.listen(site.store.database.engine, "before_cursor_execute", note)
        watched.append((site.store.database.engine, note))
        return said

    yield watch
    for engine, note in watched:
        event.remove(engine, "before_cursor_execute", note)


def test_an_empty_installation_says_what_comes_next(site: Site) -> None:
    text = site.text("/", UserRole.VIEWER)
    assert "No event has come yet" in text
    assert "No worker runs" in text
    assert "webhooks trigger" in text
    assert "No figures yet" in text


def test_all_is_well_when_every_handler_keeps_up(
    make_site: Callable[..., Site], registry: Registry, payload: Callable[[str], bytes]
) -> None:
    site = make_site(registry)
    site.store.processes.beat("w", "worker", "1", ["h"], lease=timedelta(seconds=30))
    site.send(payload("lead_merged"))
    text = site.text("/")
    assert "All is well" in text
    assert "every handler keeps up" in text
    assert "No worker runs" not in text


def test_what_is_wrong_comes_first_and_is_judged_now(
    make_site: Callable[..., Site],
    registry: Registry,
    payload: Callable[[str], bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = make_site(registry)
    site.store.handlers.register(handler_rows(registry))
    site.send(payload("lead_merged"))
    fail(site)
    site.store.handlers.pause("h", by="grace")
    text = site.text("/")
    assert "2 things need you" in text
    assert "paused by grace" in text
    assert "KeyError" in text
    assert text.index("paused by grace") < text.index("Accepted")
    site.store.handlers.resume("h")
    monkeypatch.setattr(Remembered, "get", lambda self, name, make, seconds: make())
    assert "paused by grace" not in site.text("/")


def test_what_senders_said_last_is_shown_with_its_age(site: Site) -> None:
    finding = {"level": "error", "code": "subscription-paused", "subject": "whsub_1", "text": "the sender paused it",
               "command": "webhooks subscriptions resume whsub_1", "fix": "resume", "since": "2026-03-10T02:41:00+00:00"}  # fmt: skip
    site.store.snapshots.put(DOCTOR, {"findings": [finding], "repaired": []})
    text = site.text("/")
    assert "1 thing needs you" in text
    assert "the sender paused it" in text
    assert "since" in text
    found = site.get("/overview.json").get_json()
    assert [each["code"] for each in found["findings"] if each["level"] != "note"] == ["subscription-paused"]
    assert "since" not in found["findings"][0], "the document is that of webhooks doctor --json"


def test_what_comes_is_judged_as_one_looks(make_site: Callable[..., Site]) -> None:
    """Without a worker and without an examination: a wrong key, what is held, and silence."""
    sources = {"close": {"secret": KEY, "expect_within": "2m"}}
    site = make_site(sources=sources)
    now = site.store.database.now()
    for number in range(5):
        site.store.rejections.put(
            Rejection("close", now, f"req{number}", 401, "no key", None, (), 0, 0, kind="signature")
        )
    site.store.quarantine.put("close", b"{}", reason="r", kind="unparseable", received_at=now, headers="{}")
    site.store.key_uses.note("close", "1", now - timedelta(hours=1))
    page = site.get("/").text
    text = shown(page)
    assert "probably a wrong key" in text
    assert "1 request could not be read" in text
    assert "close has sent nothing for 1 h; expected within 2 min" in text
    assert "/dashboard/refused?source=close" in page
    assert "3 things need you" in text
    assert "Quarantine 1 held" in text, "counts beside the links are of this moment too"
    assert "probably a wrong key" in site.text("/sources/close")


def test_what_was_pressed_is_seen_at_once(make_site: Callable[..., Site], registry: Registry) -> None:
    """What a page keeps for seconds is forgotten when something is changed."""
    site = make_site(registry)
    site.store.handlers.register(handler_rows(registry))
    site.store.handlers.pause("h", by="grace")
    assert "paused by grace" in site.text("/")
    assert site.post("/handlers/h/resume", {"next": "/dashboard/"}).status_code == 303
    assert "paused by grace" not in site.text("/")


def test_what_is_known_is_muted_from_the_verdict(make_site: Callable[..., Site], registry: Registry) -> None:
    assert set(ALARM_OF) <= {code_of(check) for _, check in CHECKS}
    assert set(ALARM_OF.values()) <= set(ALARMS)
    site = make_site(registry, alarms={"ops": {"kind": "command", "command": "true"}})
    site.store.handlers.register(handler_rows(registry))
    site.store.handlers.pause("h", by="grace")
    assert "Mute 2 h" in site.text("/")
    assert "Mute 2 h" not in site.text("/", UserRole.VIEWER)
    address = re.search(r'action="/dashboard(/alarms/mute[^"]+)"', site.get("/").text)
    assert address is not None
    assert site.post(html.unescape(address[1])).status_code == 303
    row = site.store.alarms.rows()["paused-long", "h"]
    assert row.muted_until is not None
    assert row.muted_until - site.store.database.now() > timedelta(hours=1)


def test_a_paused_subscription_is_resumed_from_the_verdict(site: Site) -> None:
    finding = {"level": "error", "code": "subscription-paused", "subject": "whsub_1", "text": "it is paused",
               "command": "webhooks subscriptions resume whsub_1", "fix": "resume", "since": "2026-03-10T02:41:00+00:00"}  # fmt: skip
    said = {"why_not": None, "is_refused": False, "wanted": [], "missing": [], "subscriptions": [{"id": "whsub_1"}]}
    site.store.snapshots.put(DOCTOR, {"findings": [finding], "repaired": []})
    site.store.snapshots.put(SUBSCRIPTIONS, {"close": said})
    page = site.get("/").text
    assert "/subscriptions/close/whsub_1/resume" in page
    assert site.post("/subscriptions/close/whsub_1/resume").status_code == 303


def test_figures_are_compared_and_charts_have_their_numbers(site: Site) -> None:
    tallies = site.store.tallies
    stored, ran = (Kind.REQUESTS, "close", Disposition.STORED.code, 3), (Kind.RUNS, "h", Ran.SUCCEEDED, 5)
    tallies.add([(60.0 * age, {stored: 120, ran: 240, (Kind.REQUESTS, "close", 401, UNTIMED): 1}) for age in range(60)])
    tallies.add([(86_400.0 + 60.0 * age, {stored: 100}) for age in range(60)])
    tallies.add(
        [(0.0, {(Kind.LEVELS, "", LevelSample.SAMPLED, UNTIMED): 1, (Kind.LEVELS, "h", LevelSample.DUE, UNTIMED): 7})]
    )
    tallies.fold()
    page = site.get("/?window=1h&table=accepted")
    text = shown(page.text)
    assert re.search(r"Accepted 1(19|20|18) /min", text)
    assert "over yesterday" in text
    assert "% of them 2xx" in text
    assert "stored 7,200" in text or "stored 7,1" in text
    assert page.text.count('role="img"') >= 4
    assert "Hide table" in text
    for window in ("15m", "6h", "24h", "7d", "30d", "nonsense"):
        assert site.get(f"/?window={window}").status_code == 200


def test_what_people_did_is_marked_in_every_chart(make_site: Callable[..., Site], registry: Registry) -> None:
    site = make_site(registry)
    assert site.post("/handlers/h/pause", {"why": "it is being mended"}).status_code == 303
    page = site.get("/").text
    assert page.count("ada paused h") >= 4


def test_a_breaker_is_marked_where_it_opened(make_site: Callable[..., Site], registry: Registry) -> None:
    site = make_site(registry)
    handlers = site.store.handlers
    handlers.register(handler_rows(registry))
    handlers.open_breaker("h", 10, timedelta(minutes=5))
    opened_at = handlers.states()["h"].breaker_opened_at
    assert opened_at is not None
    assert handlers.half_open_breaker("h", at_once=True)
    handlers.open_breaker("h", 11, timedelta(minutes=5))
    assert handlers.states()["h"].breaker_opened_at == opened_at, (
        "what fails again while it is tried is the same trouble"
    )
    page = site.get("/").text
    assert page.count("the breaker of h opened") >= 4
    assert "since" in shown(page.split("the circuit breaker of")[1].split("</div>")[0])
    assert handlers.close_breaker("h")
    assert handlers.states()["h"].breaker_opened_at == opened_at, "charts mark what is over too"


def test_failures_have_their_day_and_their_button_on_every_page(
    make_site: Callable[..., Site], registry: Registry, payload: Callable[[str], bytes]
) -> None:
    site = make_site(registry)
    site.store.handlers.register(handler_rows(registry))
    site.store.processes.beat("w", "worker", "1.2", ["h"], lease=timedelta(seconds=30))
    site.send(payload("lead_merged"))
    fail(site)
    for path in ("/", "/failures", "/handlers/h"):
        page = site.get(path).text
        assert "Requeue 1…" in shown(page), path
        assert "1 in 24 hours, each two hours: 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1" in page, path
        assert "new since 1.2 started" in shown(page), path
        assert "Requeue" not in site.text(path, UserRole.VIEWER), path
    assert "Attempts after which deliveries ended: 1 at attempt 1" in site.get("/handlers/h").text


def test_the_page_asks_little_and_is_small(
    make_site: Callable[..., Site],
    registry: Registry,
    payload: Callable[[str], bytes],
    statements: Callable[[Site], list[str]],
    timeless: Callable[[Site], Site],
) -> None:
    site = timeless(make_site(registry))
    site.store.handlers.register(handler_rows(registry))
    for kind in (Disposition.STORED, Disposition.REVISION, Disposition.DUPLICATE, Disposition.QUARANTINED):
        counts: Counts = {
            (Kind.REQUESTS, "close", kind.code, 3): 50,
            (Kind.RUNS, "h", Ran.SUCCEEDED, 4): 9,
            (Kind.RUNS, "h", Ran.DEAD, 9): 9,
        }
        site.store.tallies.add([(60.0 * age, counts) for age in range(60)])
    site.send(payload("lead_merged"))
    fail(site)
    said = statements(site)
    page = site.get("/")
    asked = [each for each in said if not each.lower().startswith(("pragma", "begin", "set "))]
    assert len(asked) <= MOST_STATEMENTS, "\n".join(each[:90] for each in asked)
    assert len(page.data) <= 80_000
    said.clear()
    site.get("/")
    assert len(said) <= 4, "twenty browsers cost what one does"


def test_a_database_that_is_away_is_a_page_that_says_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from webhooks.dashboard.kept import Remembered
    from webhooks.errors import StorageUnavailable

    def away(*_: Any, **__: Any) -> None:
        raise StorageUnavailable("connection refused")

    assert site.get("/").status_code == 200
    for name in ("read", "write"):
        monkeypatch.setattr(site.store.database, name, away)
    monkeypatch.setattr(Remembered, "get", lambda self, name, make, seconds: make())
    for path in ("/", "/events", "/deliveries", "/failures", "/handlers", "/refused", "/doctor", "/activity"):
        response = site.get(path)
        text = shown(response.text)
        assert response.status_code == 503, path
        assert "connection refused" in text, path
        assert "Failures" in text, "the navigation stays"
        assert '<noscript><meta http-equiv="refresh" content="5">' in response.text, "it is tried again"
    assert site.get("/events.json").get_json()["error"].startswith("connection refused")
    response = site.get("/no-such-page")
    assert (response.status_code, "http-equiv" in response.text) == (404, False)
    page = site.post("/doctor/examine")
    assert (page.status_code, "http-equiv" in page.text) == (503, False), "what was pressed is not pressed again"


def test_beside_ingest_two_pages_are_made_at_once_and_the_third_is_told_to_come_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events are accepted meanwhile; what cannot have a place asks nothing of the database."""
    monkeypatch.setattr("webhooks.dashboard.blueprint.PLACE_SECONDS", 0.05)
    entered, leave = threading.Semaphore(0), threading.Event()
    real = site.store.health.gauges

    def slow(**bounds: Any) -> Any:
        entered.release()
        assert leave.wait(20)
        return real(**bounds)

    monkeypatch.setattr(site.store.health, "gauges", slow)
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(site.get("/").status_code)) for _ in range(2)]
    try:
        for thread in threads:
            thread.start()
        for _ in threads:
            assert entered.acquire(timeout=20)
        refused = site.get("/")
        assert refused.status_code == 503
        assert refused.headers["Retry-After"] == "2"
        assert site.send(b"{}") is not None, "an event is answered"
    finally:
        leave.set()
        for thread in threads:
            thread.join()
    assert statuses == [200, 200]
