"""Each answer is counted, by whichever door it was given: Flask's routes, the short way, and refusals in part."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from tests.acceptance.test_server import KEY, SOURCE, body
from webhooks import signals
from webhooks.app import create_app
from webhooks.errors import RequestTimeout
from webhooks.http.gunicorn.refusals import LeavesTraces
from webhooks.http.metrics import Autoscale
from webhooks.model import Headers, new_id
from webhooks.store.handlers import HandlerRow
from webhooks.store.intake import Item, Routed

pytestmark = pytest.mark.one_database

TOKEN = "0123456789abcdef"


@pytest.fixture
def app(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name, value in {
        "DATABASE_URL": database_url,
        "WEBHOOKS_SOURCES__close__SECRET": KEY,
        "WEBHOOKS_METRICS": "true",
        "WEBHOOKS_METRICS_TOKEN": TOKEN,
    }.items():
        monkeypatch.setenv(name, value)
    app = create_app()
    yield app
    ours = app.extensions["webhooks"]
    ours.meter.disconnect()
    ours.close()
    for signal in signals.all_signals():
        assert not signal.receivers


def count(status: int, source: str = "close") -> float:
    labels = {"source": source, "status": str(status)}
    return REGISTRY.get_sample_value("webhooks_requests_total", labels) or 0.0


def signed(content: bytes) -> dict[str, str]:
    return dict(SOURCE.sign(content, datetime.now(UTC)))


def test_an_event_is_counted_once_whichever_way_it_came_in(app: Any) -> None:
    ours, client = app.extensions["webhooks"], app.test_client()
    stored = {"source": "close", "receipt": "stored"}
    before = count(200), REGISTRY.get_sample_value("webhooks_events_total", stored)
    one, two, three = body("1"), body("2"), body("3")
    assert client.post("/webhooks/close", data=one, headers=signed(one)).status_code == 200
    assert client.post("/webhooks/close?a=b", data=two, headers=signed(two)).status_code == 200
    fields = [(name.lower(), value.encode()) for name, value in signed(three).items()]
    assert ours.direct_route.post("close", Headers(fields), three).status == 200
    assert count(200) - before[0] == 3
    assert (REGISTRY.get_sample_value("webhooks_events_total", stored) or 0) - (before[1] or 0) == 3
    assert REGISTRY.get_sample_value("webhooks_waiting_requests") == 0


@pytest.mark.parametrize("status", [400, 408, 503])
def test_what_a_server_reads_in_part_is_counted(app: Any, status: int) -> None:
    before = count(status)
    assert app.extensions["webhooks"].direct_route.refuse("close", status).status == status
    assert count(status) - before == 1


def test_what_gunicorn_ends_before_the_application_is_called_is_counted(app: Any) -> None:
    class Answers:
        def handle_error(self, *_: Any) -> None: ...

    class Worker(LeavesTraces, Answers):
        refusals = app.extensions["webhooks"].refusals

    worker = Worker()
    before = count(408), count(503), count(400, "")
    worker.note_refused_in_part("close", 408)
    worker.note_refused_in_part("close", 503)
    worker.note_refused(RequestTimeout("late"), "close")
    unparseable = type("Nonsense", (Exception,), {"__module__": "gunicorn.http.errors"})
    worker.handle_error(SimpleNamespace(), None, None, unparseable())
    assert (count(408) - before[0], count(503) - before[1], count(400, "") - before[2]) == (2, 1, 1)


def test_a_second_application_in_the_process_counts_no_event_twice(app: Any, sqlite_url: str) -> None:
    second = create_app({"database_url": sqlite_url})
    client = app.test_client()
    before = count(200)
    content = body("x")
    assert client.post("/webhooks/close", data=content, headers=signed(content)).status_code == 200
    assert count(200) - before == 1
    second.extensions["webhooks"].close()


def test_the_figures_come_with_the_token_alone(app: Any) -> None:
    client = app.test_client()
    assert client.get("/metrics/database").status_code == 401
    answer = client.get("/metrics/database", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    assert b"webhooks_database_up 1.0" in answer.data
    assert client.get("//metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 404


def test_a_scaler_is_answered_by_a_web_process_alone(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker ever ran here, so a scaler can begin at none."""
    monkeypatch.setattr(Autoscale, "KEPT", -1.0)
    client, token = app.test_client(), {"Authorization": f"Bearer {TOKEN}"}
    assert client.get("/autoscale").status_code == 401
    assert client.get("//autoscale", headers=token).status_code == 404
    answer = client.get("/autoscale?target=1min&concurrency=2", headers=token)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    assert answer.get_json() == {
        "queue": "default",
        "due": 0,
        "running": 0,
        "oldest_due_seconds": 0.0,
        "due_seconds": 0.0,
        "workers": 0,
        "wanted": 0,
    }
    at = datetime.now(UTC)
    store = app.extensions["webhooks"].store
    store.handlers.register([HandlerRow("cut", ["**"], queue="video")])
    item = Item(new_id(), "close", "ev_1", 1, "x", at, at, b"{}", routes=(Routed(new_id(), "cut", None),))
    store.intake.record([item])
    found = client.get("/autoscale?queue=video", headers=token).get_json()
    assert (found["due"], found["workers"], found["wanted"]) == (1, 0, 1)
    refused = client.get("/autoscale?queue=vidoe", headers=token)
    assert (refused.status_code, refused.get_json()["error"]) == (404, "not_found")
    for query in ("target=0s", "target=soon", "concurrency=0", "concurrency=x", "concurrency=%D9%A3"):
        assert client.get(f"/autoscale?{query}", headers=token).status_code == 400
