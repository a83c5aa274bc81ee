"""`hand_over`: a handler that calls a Celery task, over a broker in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.rig import NOW, Rig, rig
from webhooks.contrib.celery import hand_over
from webhooks.contrib.celery.recipe import event_document
from webhooks.formats import iso_text
from webhooks.model import Content, DeliveryState

pytestmark = pytest.mark.one_database

celery = pytest.importorskip("celery", reason="Celery is not installed; it is the extra celery")


def read(raw: bytes, type: str) -> Content:
    return Content(data=json.loads(raw))


@pytest.fixture
def made(database_url: str) -> Iterator[Rig]:
    with rig(database_url, content=read) as made:
        yield made


@pytest.fixture
def app() -> Iterator[Any]:
    # tasks of it are made with shared=False: others would be on every application of this process from then on
    app = celery.Celery("shop", broker="memory://", set_as_current=False)
    app.conf.task_default_queue = "shop"
    yield app
    app.close()


def test_the_task_is_called_with_the_event_and_its_idempotency_key(made: Rig, app: Any) -> None:
    called: list[tuple[Any, str]] = []

    def sync(event: Any, idempotency_key: str) -> None:
        called.append((event, idempotency_key))

    sync_lead = app.task(name="shop.tasks.sync_lead", ignore_result=True, shared=False)(sync)
    handler = made.registry.on("**")(hand_over(sync_lead, queue="crm"))
    (id,) = made.put(1, "shop.tasks.sync_lead", body=b'{"name": "Ada"}')
    finished = made.run_one("shop.tasks.sync_lead")
    assert finished is not None
    assert finished.verdict.state is DeliveryState.SUCCEEDED
    assert not made.registry.get("shop.tasks.sync_lead").wants_session  # type: ignore[union-attr]
    assert handler.__module__ == "shop.tasks"

    with app.connection_for_read() as connection:
        message = connection.SimpleQueue("crm").get(timeout=5)
    arguments, options, _ = message.payload
    sync_lead(*arguments, **options)
    ((event, key),) = called
    assert event["data"] == {"name": "Ada"}
    assert event["occurred_at"] == iso_text(NOW)
    assert (event["source"], event["type"]) == ("close", "lead.updated")
    assert key == f"{event['id']}:shop.tasks.sync_lead"
    assert made.row(id).state == DeliveryState.SUCCEEDED


def test_a_broker_that_does_not_take_it_is_a_failed_attempt_which_is_tried_again(
    made: Rig, app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: list[dict[str, Any]] = []

    def sync(event: Any, idempotency_key: str) -> None: ...

    sync_lead = app.task(name="shop.tasks.sync_lead", shared=False)(sync)

    def refuse(**given: Any) -> None:
        options.append(given)
        if len(options) == 1:
            raise ConnectionRefusedError("no broker")

    monkeypatch.setattr(sync_lead, "apply_async", refuse)
    made.registry.on("**", name="h")(hand_over(sync_lead, priority=3))
    (id,) = made.put(1, body=b"{}")
    made.run_one()
    assert made.outcomes(id) == ["failed"]
    assert made.row(id).state == DeliveryState.PENDING
    made.run_one()
    assert made.outcomes(id) == ["failed", "succeeded"]
    assert options[0]["kwargs"] == options[1]["kwargs"]
    assert [(each["retry"], each["priority"]) for each in options] == [(False, 3)] * 2


def test_what_a_task_gets_is_json(made: Rig) -> None:
    made.on()(lambda event: None)
    made.put(1, body=b'{"n": [1, null, "\\u00fc"]}')
    event = made.claim().event
    assert event is not None
    document = event_document(event)
    assert json.loads(json.dumps(document)) == document
    assert document["data"] == {"n": [1, None, "ü"]}
