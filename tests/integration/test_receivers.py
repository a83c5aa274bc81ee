"""What senders do, through HTTP into the database: each habit of `receivers` is met by configuration alone."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from tests.integration.conftest import Consumer
from tests.integration.receivers import (
    ANSWERS,
    AT,
    BODIES,
    DEDUP,
    HANDSHAKES,
    METHODS,
    PROOFS,
    READING,
    Kind,
    Sent,
    custom,
    signed,
)
from tests.support import Clock, pairs
from webhooks.database import tables as schema
from webhooks.intake import quarantine as admission

pytestmark = pytest.mark.one_database

NOW = datetime.fromtimestamp(AT, UTC)
KINDS = (*READING, *BODIES, *PROOFS, *HANDSHAKES, *METHODS, *ANSWERS, *DEDUP)


def send(consumer: Consumer, sent: Sent) -> Any:
    return consumer.client.open(
        "/webhooks/it", method=sent.method, data=sent.body, headers=dict(sent.headers), query_string=sent.query
    )


def types(consumer: Consumer) -> list[str]:
    with consumer.webhooks.database.read() as connection:
        return list(connection.execute(select(schema.events.c.type).order_by(schema.events.c.id)).scalars())


def answers(answer: Any) -> list[str]:
    body = answer.json
    return [each["status"] for each in body["events"]] or [body["status"]] if "events" in body else [body["status"]]


def check(consumer: Consumer, sent: Sent) -> None:
    before = types(consumer)
    answer = send(consumer, sent)
    assert answer.status_code == sent.status, answer.text
    assert types(consumer)[len(before) :] == list(sent.types)
    if sent.answers is not None:
        assert answers(answer) == list(sent.answers)
    if sent.text is not None:
        assert answer.text == sent.text
    if sent.content_type is not None:
        assert answer.content_type.startswith(sent.content_type.partition(";")[0])
    for name, value in sent.answer_headers.items():
        assert answer.headers.get(name) == value


@pytest.mark.parametrize(
    ("kind", "database_url"), pairs(*KINDS), indirect=["database_url"], ids=lambda value: getattr(value, "name", value)
)
def test_a_habit_of_senders_is_met_by_configuration(make_consumer: Callable[..., Consumer], kind: Kind) -> None:
    consumer = make_consumer(sources={"it": dict(kind.source)}, clock=Clock(NOW))
    for sent in kind.sent:
        check(consumer, sent)


def test_a_key_is_forgotten_counted_from_the_copy_that_was_accepted(
    make_consumer: Callable[..., Consumer], clock: Clock
) -> None:
    """Copies in between do not prolong it, and what is accepted again is an event of its own."""
    section = custom(type="delta", dedup_for="10m")
    consumer = make_consumer(sources={"it": section}, clock=clock)
    ping = signed({"accounts": [1]}, "delta")
    first = send(consumer, ping).json
    for _ in range(3):
        clock.move(timedelta(minutes=3))
        assert send(consumer, ping).json["event_id"] == first["event_id"]
    clock.move(timedelta(minutes=1))
    assert send(consumer, ping).json["status"] == "duplicate"  # exactly ten minutes
    clock.move(timedelta(seconds=1))
    second = send(consumer, ping).json
    assert second["status"] == "stored"
    assert second["event_id"] != first["event_id"]
    clock.move(timedelta(minutes=9))
    assert send(consumer, ping).json["event_id"] == second["event_id"]


def test_an_hour_of_equal_bodies_begins_again(make_consumer: Callable[..., Consumer], clock: Clock) -> None:
    section = custom(type="delta", dedup="none", equal_bodies=2)
    consumer = make_consumer(sources={"it": section}, clock=clock)
    ping = signed({"accounts": [1]}, "delta")
    ids = [send(consumer, ping).json["event_id"] for _ in range(4)]
    assert len(set(ids)) == 2
    assert ids[1:] == [ids[1]] * 3  # a duplicate names the last that ran
    assert consumer.webhooks.store.intake.overrun("it", 2) in (0, 1)  # by the database's clock
    clock.move(timedelta(minutes=59))
    assert send(consumer, ping).json["status"] == "duplicate"
    clock.move(timedelta(minutes=1))
    assert send(consumer, ping).json["status"] == "stored"


def test_copies_at_once_keep_the_bound(make_consumer: Callable[..., Consumer]) -> None:
    consumer = make_consumer(sources={"it": custom(type="delta", dedup="none", equal_bodies=5)}, clock=Clock(NOW))
    ping = signed({"accounts": [1]}, "delta")
    with ThreadPoolExecutor(8) as pool:
        found = list(
            pool.map(
                lambda _: consumer.app.test_client().post("/webhooks/it", data=ping.body, headers=dict(ping.headers)),
                range(24),
            )
        )
    assert [answer.status_code for answer in found] == [200] * 24
    assert len(types(consumer)) == 5


def test_an_item_that_was_kept_aside_is_admitted_once_it_can_be_read(make_consumer: Callable[..., Consumer]) -> None:
    kind = READING[0]
    consumer = make_consumer(sources={"it": dict(kind.source)}, clock=Clock(NOW))
    answer = send(consumer, kind.sent[0]).json
    assert answer["status"] == "quarantined"
    ids = [each["quarantine_id"] for each in answer["events"] if each["status"] == "quarantined"]
    (listed,) = consumer.webhooks.store.quarantine.list(10)
    kept = consumer.webhooks.store.quarantine.get(listed.id)
    assert kept is not None
    assert (listed.body, listed.body_bytes) == (b"", len(kept.body)), "a listing leaves bodies where they are"
    assert ([str(kept.id)], kept.body, kept.is_item, kept.key_label) == (ids, b'{"event": "bounce"}', True, "1")
    webhooks = consumer.webhooks
    assert "id is missing" in str(
        admission.retry(kept.id, store=webhooks.store, ingest=webhooks.ingest, by="ines").reason
    )
    mended = make_consumer(sources={"it": {**kind.source, "id": ["{event_id}", ""]}}, clock=Clock(NOW)).webhooks
    (receipt,) = admission.retry(kept.id, store=mended.store, ingest=mended.ingest, by="ines").receipts
    assert receipt.status.value == "stored"
    assert types(consumer)[-1] == "bounce"


def test_a_source_that_rejects_what_it_cannot_read_rejects_the_batch(make_consumer: Callable[..., Consumer]) -> None:
    consumer = make_consumer(sources={"it": {**READING[0].source, "on_unparseable": "reject"}}, clock=Clock(NOW))
    assert send(consumer, READING[0].sent[0]).status_code == 400
    assert types(consumer) == []
