"""A sender whose first request brings the secret, and one that wants its subscription confirmed."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Consumer
from tests.integration.receivers import AT
from tests.support import Clock
from webhooks.errors import ConfigurationError, NotFound
from webhooks.model import new_id
from webhooks.operations import Actor, Via, registrations
from webhooks.store.intake import Item

pytestmark = pytest.mark.one_database

NOW = datetime.fromtimestamp(AT, UTC)
SECRET = "0c4f1e8a77d25b9361ae90fd12c3b648"
BY = Actor("ines", Via.CLI)


@pytest.fixture
def make(make_consumer: Callable[..., Consumer], tmp_path: Path) -> Callable[[], Consumer]:
    section = {"secret_file": str(tmp_path / "asana.json")}  # the shipped row says the rest
    return lambda: make_consumer(sources={"asana": section}, clock=Clock(NOW))


def bring(consumer: Consumer, secret: str = SECRET) -> Any:
    consumer.webhooks.ingest._listened.clear()
    return consumer.client.post("/webhooks/asana", headers={"x-hook-secret": secret, "user-agent": "Asana/1"})


def event(consumer: Consumer) -> Any:
    import hashlib
    import hmac

    body = b'{"events":[{"action":"changed","resource":{"gid":"1","resource_type":"task"}}]}'
    mac = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return consumer.client.post("/webhooks/asana", data=body, headers={"x-hook-signature": mac})


def test_a_secret_counts_only_in_a_window_and_after_a_yes(make: Callable[[], Consumer], tmp_path: Path) -> None:
    consumer = make()
    store, source = consumer.webhooks.store, consumer.webhooks.sources["asana"]
    assert bring(consumer).status_code == 401
    assert event(consumer).status_code == 401
    answers: list[Any] = []

    def sleep(seconds: float) -> None:
        if not answers:
            answers.append(bring(consumer))
            answers.append(bring(consumer, "another-secret-of-a-stranger"))
            answers.append(bring(consumer))  # the sender tries again

    found = registrations.listen(store, source, timedelta(minutes=10), actor=BY, sleep=sleep)
    assert found is not None
    assert (found.sender, SECRET in repr(found)) == ("Asana/1", False)
    assert [answer.status_code for answer in answers] == [200, 401, 200]
    assert answers[0].headers["X-Hook-Secret"] == SECRET
    assert event(consumer).status_code == 401  # no yes has been said
    registrations.accept(store, source, "brought")
    assert json.loads((tmp_path / "asana.json").read_text()) == {"brought": SECRET}
    assert event(consumer).json["status"] == "stored"
    assert store.registrations.of("asana") is None
    assert bring(consumer).status_code == 401
    with pytest.raises(NotFound):
        registrations.accept(store, source, "brought")


def test_a_no_forgets_it_and_a_window_ends(make: Callable[[], Consumer], tmp_path: Path) -> None:
    consumer = make()
    store, source = consumer.webhooks.store, consumer.webhooks.sources["asana"]
    registrations.listen(store, source, timedelta(minutes=10), actor=BY, sleep=lambda seconds: bring(consumer))
    registrations.refuse(store, source)
    assert not (tmp_path / "asana.json").exists()
    ticks = iter(range(0, 10_000, 100))
    assert (
        registrations.listen(
            store,
            source,
            timedelta(minutes=10),
            actor=BY,
            sleep=lambda seconds: None,
            monotonic=lambda: float(next(ticks)),
        )
        is None
    )
    assert bring(consumer).status_code == 401


def test_a_source_whose_sender_brings_none_is_not_listened_for(make_consumer: Callable[..., Consumer]) -> None:
    consumer = make_consumer()
    with pytest.raises(ConfigurationError, match="its handshake has no secret"):
        registrations.require_bringing(consumer.webhooks.sources["close"])


TOPIC = "arn:aws:sns:eu-central-1:123456789012:orders"
CONFIRM = "https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=x&Token=y"


@pytest.mark.parametrize(
    ("address", "is_asked"),
    [
        (CONFIRM, True),
        (CONFIRM.replace("amazonaws.com", "amazonaws.com.evil.example"), False),
        ("http://127.0.0.1/", False),
    ],
)
def test_a_topic_is_confirmed_at_amazon_and_nowhere_else(
    make_consumer: Callable[..., Consumer], address: str, is_asked: bool
) -> None:
    section = {"scheme": "sns", "topic": TOPIC, "accept_unsigned_body": True}
    consumer = make_consumer(sources={"ses": section}, clock=Clock(NOW))
    store, source = consumer.webhooks.store, consumer.webhooks.sources["ses"]
    with pytest.raises(NotFound):
        registrations.confirm(store, source)
    body = json.dumps({"Type": "SubscriptionConfirmation", "SubscribeURL": address}).encode()
    store.intake.record([Item(new_id(), "ses", "m-1", 0, "sns.SubscriptionConfirmation", NOW, NOW, body)])
    asked: list[str] = []

    def fetch(address: str) -> bytes:
        asked.append(address)
        return b""

    if is_asked:
        registrations.confirm(store, source, fetch)
    else:
        with pytest.raises(ConfigurationError, match="none of Amazon SNS"):
            registrations.confirm(store, source, fetch)
    assert asked == ([address] if is_asked else [])
