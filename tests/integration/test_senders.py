"""Every sender through HTTP into the database: its samples are stored, its tricks are refused, its handshakes answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import func, select

from tests.integration.conftest import Consumer
from tests.support import Clock, pairs
from tests.unit.sources.cases import CASES, NOW, Case, secret_for
from webhooks.database import tables as schema
from webhooks.model import Event
from webhooks.routing import Registry
from webhooks.sources.samples import samples

pytestmark = pytest.mark.one_database

by_scheme = {case.scheme: case for case in CASES}
every_scheme = pytest.mark.parametrize(
    ("case", "database_url"),
    pairs(*CASES),
    indirect=["database_url"],
    ids=lambda value: getattr(value, "scheme", value),
)


@pytest.fixture
def make(make_consumer: Callable[..., Consumer]) -> Callable[..., Consumer]:
    """A consumer with one source, named as its scheme, that stands at the time of the samples."""

    def consumer(case: Case, registry: Registry | None = None) -> Consumer:
        settings = dict(case.settings)
        section = {"secret": list(case.secrets), **settings.pop("options", {}), **settings, "scheme": case.scheme}
        section.setdefault("public_url", "https://hooks.example.com/webhooks/it")
        made = make_consumer(registry, sources={case.scheme: section}, clock=Clock(NOW))
        made.webhooks.background.write_soon = lambda write: write()
        return made

    return consumer


def post(consumer: Consumer, case: Case, sample: Any = None, **changes: Any) -> Any:
    request = case.request(sample)
    request = replace(request, **changes)
    headers = [(name, value.decode("latin-1")) for name, value in request.headers.items()]
    return consumer.client.post(f"/webhooks/{case.scheme}", data=request.body, headers=headers)


def count(consumer: Consumer, table: Any) -> int:
    with consumer.webhooks.database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


@every_scheme
def test_each_sample_is_stored_once_and_read_again(make: Callable[..., Consumer], case: Case) -> None:
    consumer = make(case)
    stored = 0
    for sample in samples(case.scheme):
        before = count(consumer, schema.events)
        answer = post(consumer, case, sample)
        assert answer.status_code in (200, 204), answer.text
        stored += count(consumer, schema.events) - before
        again = post(consumer, case, sample)
        assert again.status_code == answer.status_code
        if again.is_json and "status" in again.json:
            runs_again = case.scheme == "dropbox"  # its bodies say only whose files changed
            assert again.json["status"] in (("stored",) if runs_again else ("duplicate", "revision", "stale"))
    assert stored >= 1
    with consumer.webhooks.database.read() as connection:
        ids = connection.execute(select(schema.events.c.id)).scalars().all()
    for id in ids:
        event = consumer.webhooks.store.events.get(id)
        assert event is not None
        assert event.type
        assert event.data is not None or event.previous is not None
        assert event.key_label == "1"
    assert consumer.webhooks.store.key_uses.of(case.scheme).keys() == {"1"}


@every_scheme
def test_a_request_of_another_key_is_401_and_explained(make: Callable[..., Consumer], case: Case) -> None:
    consumer = make(case)
    secret, options = secret_for(case.scheme, 3)
    own = {**case.settings.get("options", {}), **options}
    stranger = replace(case, secrets=(secret, case.secrets[1]), settings={**case.settings, "options": own})
    answer = post(consumer, stranger)
    assert answer.status_code == 401
    assert answer.json["error"] == "signature_verification_failed"
    found = consumer.webhooks.store.rejections.find(answer.json["request_id"])
    assert found is not None
    assert found.reason
    assert not any(secret in f"{found.reason} {found.diagnosis}" for secret in case.secrets)
    assert count(consumer, schema.events) == 0


def test_one_body_with_many_events_is_one_transaction_and_one_receipt_each(make: Callable[..., Consumer]) -> None:
    case = by_scheme["sendgrid"]
    consumer = make(case)
    sample = samples("sendgrid")[0]
    first = json.loads(sample.body)[0]
    body = json.dumps([{**first, "sg_event_id": f"id-{n}"} for n in (1, 2, 1)]).encode()
    answer = post(consumer, case, replace(sample, body=body)).json
    assert [event["status"] for event in answer["events"]] == ["stored", "stored", "duplicate"]
    assert answer["status"] == "stored"
    assert answer["events"][0]["event_id"] == answer["events"][2]["event_id"] != answer["events"][1]["event_id"]
    with consumer.webhooks.database.read() as connection:
        requests = connection.execute(select(schema.events.c.request_id)).scalars().all()
    assert set(requests) == {answer["request_id"]}
    assert len(requests) == 2


def test_the_same_body_under_a_new_unsigned_id_runs_so_often_and_no_more(make: Callable[..., Consumer]) -> None:
    case = by_scheme["github"]
    consumer = make(case)
    request = case.request()
    headers = {name: value.decode() for name, value in request.headers.items()}
    found = []
    for number in range(25):
        headers["x-github-delivery"] = f"00000000-0000-0000-0000-{number:012}"
        found.append(consumer.client.post("/webhooks/github", data=request.body, headers=headers).json["status"])
    assert found == ["stored"] * 20 + ["duplicate"] * 5


def test_the_second_of_two_secrets_is_recorded_by_its_label(make: Callable[..., Consumer]) -> None:
    case = by_scheme["github"]
    consumer = make(case)
    answer = post(consumer, replace(case, secrets=(case.secrets[1], case.secrets[0])))
    event = consumer.webhooks.store.events.get(int(answer.json["event_id"]))
    assert event is not None
    assert event.key_label == "2"


def test_a_handshake_by_get_is_answered_with_the_token_of_ours_only(make: Callable[..., Consumer]) -> None:
    consumer = make(by_scheme["meta"])
    query = "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token="
    right = consumer.client.get(f"/webhooks/meta?{query}a-token-of-ours")
    assert (right.status_code, right.data, right.mimetype) == (200, b"1158201444", "text/plain")
    wrong = consumer.client.get(f"/webhooks/meta?{query}guessed")
    assert wrong.status_code in (401, 403)
    assert b"1158201444" not in wrong.data
    script = consumer.client.get(f"/webhooks/meta?{query.replace('1158201444', '<script>')}a-token-of-ours")
    assert script.status_code != 200


def test_a_handshake_by_post_is_verified_before_it_is_answered(make: Callable[..., Consumer]) -> None:
    case = by_scheme["slack"]
    consumer = make(case)
    body = b'{"type": "url_verification", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}'
    request = case.request(body=body)
    headers = {name: value.decode() for name, value in request.headers.items()}
    answer = consumer.client.post("/webhooks/slack", data=body, headers=headers)
    assert answer.status_code == 200
    assert b"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P" in answer.data
    assert consumer.client.post("/webhooks/slack", data=body).status_code == 401
    assert count(consumer, schema.events) == 0


def test_a_sender_with_a_fixed_answer_gets_it(make: Callable[..., Consumer]) -> None:
    answer = post(make(by_scheme["twilio"]), by_scheme["twilio"])
    assert answer.status_code == 200
    assert b"<Response" in answer.data


def test_an_empty_list_of_events_is_acknowledged(make: Callable[..., Consumer]) -> None:
    case = by_scheme["line"]
    consumer = make(case)
    answer = post(consumer, case, replace(samples("line")[0], body=b'{"destination": "U1", "events": []}'))
    assert answer.status_code == 200
    assert count(consumer, schema.events) == 0


def test_events_of_any_sender_reach_its_handlers(make: Callable[..., Consumer]) -> None:
    case = by_scheme["stripe"]
    registry = Registry()
    seen: list[Event] = []

    @registry.on("**", source="stripe", name="seen")
    def handle(event: Event) -> None:
        seen.append(event)
        worker.stop()

    consumer = make(case, registry)
    consumer.webhooks.database.clock = lambda: datetime.now(UTC)
    post(consumer, case)
    worker = consumer.webhooks.make_worker()
    worker.run()
    assert [event.type for event in seen] == [case.sample().type]
