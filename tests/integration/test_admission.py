"""Quarantine, refused requests and `explain`: nothing is lost that was signed, and every refusal has its reason."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from tests.integration.conftest import KEY, Consumer
from tests.support import Clock
from webhooks.database import tables as schema
from webhooks.errors import NotFound
from webhooks.intake import quarantine as admission
from webhooks.model import Disposition, Event
from webhooks.operations.explain import of_event
from webhooks.routing import Registry
from webhooks.store.rejections import ROWS_PER_KIND, Rejection

pytestmark = pytest.mark.one_database


@pytest.fixture
def consumer(make_consumer: Callable[..., Consumer], clock: Clock) -> Consumer:
    """A consumer whose parser is broken until `mend` is called, and that writes its rejections at once."""
    consumer = make_consumer(clock=clock)
    consumer.webhooks.background.write_soon = lambda write: write()
    return consumer


def broken(consumer: Consumer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Break the parser of source close; undo with the returned context."""
    from webhooks.errors import Malformed

    def parse(request: Any) -> Any:
        raise Malformed("a fault of ours")

    context = pytest.MonkeyPatch()
    context.setattr(consumer.webhooks.sources["close"], "parse", parse)
    return context


def retry(consumer: Consumer, id: str) -> admission.Admission:
    webhooks = consumer.webhooks
    return admission.retry(int(id), store=webhooks.store, ingest=webhooks.ingest, by="ines")


def test_what_was_quarantined_is_admitted_with_the_time_at_which_it_came(
    consumer: Consumer, clock: Clock, payload: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = payload("whatsapp_message_created_incoming")
    received_at = clock()
    fault = broken(consumer, monkeypatch)
    id = consumer.post(body).json["quarantine_id"]
    assert retry(consumer, id).reason == "a fault of ours"
    fault.undo()
    clock.move(timedelta(days=40))  # longer than any signature is good for
    (receipt,) = retry(consumer, id).receipts
    assert receipt.status is Disposition.STORED
    event = consumer.webhooks.store.events.get(receipt.event_id or 0)
    assert event is not None
    assert (event.received_at, event.origin, event.raw) == (received_at, "quarantine", body)
    kept = consumer.webhooks.store.quarantine.get(int(id))
    assert kept is not None
    assert (kept.state, kept.decided_by) == ("admitted", "ines")
    assert kept.receipts == [{"status": "stored", "event_id": str(event.id)}]
    assert "admitted by ines" in (retry(consumer, id).reason or "")


def test_a_quarantined_request_is_verified_again(
    consumer: Consumer, payload: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = broken(consumer, monkeypatch)
    id = consumer.post(payload("lead_merged")).json["quarantine_id"]
    fault.undo()
    with consumer.webhooks.database.write() as connection:
        connection.execute(schema.quarantine.update().values(body=payload("lead_deleted")))
    assert "signature" in (retry(consumer, id).reason or "")
    with consumer.webhooks.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(schema.events)).scalar_one() == 0


def test_what_came_again_meanwhile_is_a_duplicate(
    consumer: Consumer, payload: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = payload("lead_merged")
    fault = broken(consumer, monkeypatch)
    id = consumer.post(body).json["quarantine_id"]
    fault.undo()
    assert consumer.post(body).json["status"] == "stored"
    (receipt,) = retry(consumer, id).receipts
    assert receipt.status is Disposition.DUPLICATE


def test_two_people_at_once_admit_it_once(consumer: Consumer, payload: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = broken(consumer, monkeypatch)
    id = consumer.post(payload("lead_merged")).json["quarantine_id"]
    fault.undo()
    results: list[admission.Admission] = []
    threads = [threading.Thread(target=lambda: results.append(retry(consumer, id))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(bool(result.receipts) for result in results) == 1
    with consumer.webhooks.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(schema.events)).scalar_one() == 1


def test_an_interrupted_admission_can_be_taken_up_again(
    consumer: Consumer, payload: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = broken(consumer, monkeypatch)
    id = int(consumer.post(payload("lead_merged")).json["quarantine_id"])
    fault.undo()
    store = consumer.webhooks.store.quarantine
    assert store.begin(id, "rosa")
    assert not store.begin(id, "ines")
    with consumer.webhooks.database.write() as connection:
        now = consumer.webhooks.database.now(connection)
        connection.execute(schema.quarantine.update().values(decided_at=now - timedelta(minutes=3)))
    assert retry(consumer, str(id)).receipts


def test_dropped_ones_stay_dropped_and_unknown_ids_are_said(consumer: Consumer) -> None:
    id = consumer.post(b"no json").json["quarantine_id"]
    assert consumer.webhooks.store.quarantine.drop(int(id), "ines")
    assert not consumer.webhooks.store.quarantine.drop(int(id), "ines")
    assert "dropped by ines" in (retry(consumer, id).reason or "")
    assert [row.state for row in consumer.webhooks.store.quarantine.list(5, state=None)] == ["dropped"]
    with pytest.raises(NotFound, match="quarantine list"):
        retry(consumer, "1")


# -- refused requests --------------------------------------------------------------------------------------


def test_a_refused_request_is_kept_with_its_diagnosis_and_without_values(
    consumer: Consumer, clock: Clock, payload: Any
) -> None:
    body = payload("lead_merged")
    signed = dict(consumer.webhooks.sources["close"].sign(body, clock()))
    signed["Authorization"] = "Basic c2VjcmV0"
    reencoded = json.dumps(json.loads(body)).encode()
    response = consumer.client.post("/webhooks/close", data=reencoded, headers=signed)
    found = consumer.webhooks.store.rejections.find(response.json["request_id"])
    assert found is not None
    assert (found.status, found.body_bytes, found.body) == (401, len(reencoded), None)
    assert "authorization" in found.header_names
    assert found.diagnosis
    with consumer.webhooks.database.read() as connection:
        row = connection.execute(select(schema.rejections)).one()
    assert not any("c2VjcmV0" in str(value) or signed["close-sig-hash"] in str(value) for value in row)


def test_at_most_one_refused_request_a_second_is_kept(consumer: Consumer) -> None:
    ticks = iter([10.0, 10.5, 11.1])
    consumer.webhooks.rejections.monotonic = lambda: next(ticks)
    ids = [consumer.client.post("/webhooks/close", data=b"x").json["request_id"] for _ in range(3)]
    assert [consumer.webhooks.store.rejections.find(id) is not None for id in ids] == [True, False, True]


def test_each_refused_request_is_kept_where_that_is_asked_for(make_consumer: Callable[..., Consumer]) -> None:
    consumer = make_consumer(sample_rejected="0")
    consumer.webhooks.background.write_soon = lambda write: write()
    consumer.webhooks.rejections.monotonic = lambda: 10.0
    ids = [consumer.client.post("/webhooks/close", data=b"x").json["request_id"] for _ in range(3)]
    assert [consumer.webhooks.store.rejections.find(id) is not None for id in ids] == [True, True, True]


def test_a_body_is_captured_only_when_asked_for_and_cut(make_consumer: Callable[..., Consumer]) -> None:
    consumer = make_consumer(capture_rejected=True)
    consumer.webhooks.background.write_soon = lambda write: write()
    response = consumer.client.post("/webhooks/close", data=b"x" * 100_000)
    found = consumer.webhooks.store.rejections.find(response.json["request_id"])
    assert found is not None
    assert found.body is not None
    assert (len(found.body), found.body_bytes) == (64_000, 100_000)


def test_the_sample_of_a_source_and_kind_is_bounded(consumer: Consumer, clock: Clock) -> None:
    store = consumer.webhooks.store.rejections
    with consumer.webhooks.database.write() as connection:
        rows = [
            {"id": n, "source": "close", "received_at": clock(), "request_id": str(n), "status": 401, "reason": "r",
             "header_names": "[]", "header_bytes": 0, "body_bytes": 0, "kind": "signature"}
            for n in range(ROWS_PER_KIND)
        ]  # fmt: skip
        connection.execute(schema.rejections.insert(), rows)
    store.put(Rejection("close", clock(), "large", 413, "r", None, (), 0, 0, kind="too_large"))
    for n in range(3):
        store.put(Rejection("close", clock(), f"new-{n}", 401, "r", None, (), 0, 0, kind="signature"))
    store.put(Rejection("stripe", clock(), "other", 401, "r", None, (), 0, 0, kind="signature"))
    assert len(store.latest(5000, "close")) == ROWS_PER_KIND + 1
    assert store.find("0") is None
    assert store.find("new-2") is not None
    assert store.find("large") is not None


def test_no_more_than_twenty_refused_requests_a_second_are_kept_whatever_their_kinds(
    make_consumer: Callable[..., Consumer],
) -> None:
    sources = {f"s{n}": {"scheme": "close", "secret": KEY} for n in range(30)}
    consumer = make_consumer(sources=sources)
    now = [10.0]
    consumer.webhooks.background.write_soon = lambda write: write()
    consumer.webhooks.rejections.monotonic = lambda: now[0]
    for name in sources:
        assert consumer.client.post(f"/webhooks/{name}", data=b"x").status_code == 401
        now[0] += 0.01
    assert len(consumer.webhooks.store.rejections.latest(100)) == 20
    now[0] += 1
    consumer.client.post("/webhooks/s29", data=b"x")
    assert len(consumer.webhooks.store.rejections.latest(100)) == 21


def test_a_rejection_that_cannot_be_written_fails_no_request(
    make_consumer: Callable[..., Consumer], monkeypatch: pytest.MonkeyPatch
) -> None:
    webhooks = (consumer := make_consumer()).webhooks
    monkeypatch.setattr(webhooks.store.rejections, "put", lambda rejection: 1 / 0)
    assert consumer.client.post("/webhooks/close", data=b"x").status_code == 401
    thread = webhooks.background.thread
    assert thread is not None
    assert thread.daemon


def test_a_rejection_is_kept_although_the_secrets_of_another_source_are_unavailable(
    make_consumer: Callable[..., Consumer],
) -> None:
    def fail(request: Any) -> Any:
        raise OSError("the tenants' service is down")

    tenants = {"scheme": "close", "secret": KEY, "secrets_from": fail}
    consumer = make_consumer(sources={"close": {"secret": KEY}, "tenants": tenants})
    consumer.webhooks.background.write_soon = lambda write: write()
    signed = {"close-sig-hash": "0" * 64, "close-sig-timestamp": str(int(consumer.webhooks.clock().timestamp()))}
    refused = consumer.client.post("/webhooks/close", data=b"{}", headers=signed)
    assert refused.status_code == 401
    kept = consumer.webhooks.store.rejections.find(refused.json["request_id"])
    assert kept is not None
    assert "none of 1 secrets made this signature" in (kept.diagnosis or "")


def test_a_rejection_whose_diagnosis_fails_is_kept_without_one(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(consumer.webhooks.sources["close"], "diagnose", lambda *_: 1 / 0)
    refused = consumer.client.post("/webhooks/close", data=b"x")
    kept = consumer.webhooks.store.rejections.find(refused.json["request_id"])
    assert kept is not None
    assert (kept.status, kept.diagnosis) == (401, None)
    assert "could not be diagnosed" in caplog.text


def test_the_id_of_a_request_that_brought_a_duplicate_is_explained(consumer: Consumer, payload: Any) -> None:
    body = payload("lead_merged")
    first, second, third = [consumer.post(body).json for _ in range(3)]
    assert (first["status"], second["status"]) == ("stored", "duplicate")
    rejections = consumer.webhooks.store.rejections
    assert rejections.find(first["request_id"]) is None, "the event has it"
    kept = rejections.find(second["request_id"])
    assert kept is not None
    assert (kept.kind, kept.status, kept.source) == ("duplicate", 200, "close")
    assert f"webhooks explain {first['event_id']}" in kept.reason
    assert rejections.find(third["request_id"]) is None, "one a second is kept"


def test_the_use_of_a_key_is_remembered_by_its_label(make_consumer: Callable[..., Consumer], payload: Any) -> None:
    consumer = make_consumer(sources={"close": {"secret": {"old": KEY, "new": KEY[::-1]}}})
    consumer.webhooks.background.write_soon = lambda write: write()
    consumer.post(payload("lead_merged"))
    used = consumer.webhooks.store.key_uses.of("close")
    assert list(used) == ["old"]


# -- explain -----------------------------------------------------------------------------------------------


def test_explain_says_for_each_handler_what_became_of_an_event(
    make_consumer: Callable[..., Consumer], payload: Any
) -> None:
    registry = Registry()

    @registry.on("activity.whatsapp_message.created", name="takes")
    def takes(event: Event) -> None: ...

    @registry.on("lead.*", name="leads")
    def leads(event: Event) -> None: ...

    @registry.on("**", source="stripe", name="stripes")
    def stripes(event: Event) -> None: ...

    consumer = make_consumer(registry)
    webhooks = consumer.webhooks
    webhooks.register_handlers()
    response = consumer.post(payload("whatsapp_message_created_incoming")).json
    webhooks.store.handlers.pause("takes", "ines")
    event = webhooks.store.events.get(int(response["event_id"]))
    assert event is not None
    assert webhooks.store.events.ids_of_request(response["request_id"]) == [event.id]
    answers = {
        answer.handler: (answer.outcome, answer.why) for answer in of_event(webhooks.store, webhooks.registry, event)
    }
    assert answers["takes"][0] == "pending"
    assert "paused by ines" in answers["takes"][1]
    assert answers["leads"] == ("not subscribed", "none of its patterns matches: lead.*")
    assert answers["stripes"] == ("not subscribed", "it wants events of source 'stripe'")
