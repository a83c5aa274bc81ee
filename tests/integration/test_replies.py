"""A reply answers its sender once the event is stored, by either route, and costs the event nothing whatever it does."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select

from tests.integration.conftest import Consumer
from tests.support import Clock
from tests.unit.sources.cases import NOW
from webhooks.database import tables as schema
from webhooks.http import DirectRoute
from webhooks.intake import ReplyRunner
from webhooks.model import Event
from webhooks.routing import Registry
from webhooks.sources.samples import samples

pytestmark = pytest.mark.one_database

SLACK = {"slack": {"secret": "made-up-slack-4f9d0c7be2"}}
ERRORS = {"response_action": "errors", "errors": {"people": "Ten at most."}}


def stored(consumer: Consumer) -> int:
    with consumer.webhooks.database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(schema.events)).scalar_one())


@pytest.fixture
def consumer(make_consumer: Callable[..., Consumer]) -> Consumer:
    """A consumer with Slack, whose replies have all the time of a busy machine."""
    made = make_consumer(Registry(), sources=SLACK, clock=Clock(NOW))
    made.webhooks.ingest.replies = ReplyRunner(lambda: made.webhooks.around_handlers, patience_seconds=60)
    return made


def request_of(consumer: Consumer, type: str = "view_submission") -> tuple[bytes, dict[str, str]]:
    sample = next(each for each in samples("slack") if each.type == type)
    return sample.body, {**sample.headers, **consumer.webhooks.sources["slack"].sign(sample.body, NOW)}


def post(consumer: Consumer, type: str = "view_submission") -> Any:
    body, headers = request_of(consumer, type)
    return consumer.client.post("/webhooks/slack", data=body, headers=list(headers.items()))


def answer_with(consumer: Consumer, function: Callable[[Event], Any], **options: Any) -> None:
    replies = consumer.webhooks.registry.replies
    replies._frozen = False  # a test is a start of its own
    replies.add(function, "view_submission", name="book", **options)


def test_a_reply_answers_what_is_stored_and_again_for_a_copy(consumer: Consumer) -> None:
    seen: list[Event] = []
    at_that_time: list[int] = []

    def book(event: Event) -> dict[str, Any]:
        seen.append(event)
        at_that_time.append(stored(consumer))
        return ERRORS

    answer_with(consumer, book, source="slack")
    for _ in range(2):
        answer = post(consumer)
        assert (answer.status_code, answer.json) == (200, ERRORS)
        assert answer.headers["Cache-Control"] == "no-store"
    assert at_that_time == [1, 1]
    first, copy = seen
    assert first.id == copy.id
    assert consumer.webhooks.store.events.get(first.id) is not None
    assert first.data["view"]["callback_id"] == "book_room"
    assert "x-slack-signature" not in first.headers
    assert first.headers["content-type"] == "application/x-www-form-urlencoded"


def test_events_that_no_reply_fits_get_the_default(consumer: Consumer) -> None:
    answer_with(consumer, lambda event: ERRORS)
    answer = post(consumer, "command./weather")
    assert (answer.status_code, answer.data) == (200, b"")
    assert stored(consumer) == 1


@pytest.mark.parametrize("outcome", ["raises", "says nothing", "is no answer"])
def test_whatever_a_reply_does_the_event_is_stored_and_the_default_sent(consumer: Consumer, outcome: str) -> None:
    def book(event: Event) -> Any:
        if outcome == "raises":
            raise RuntimeError("no room")
        return None if outcome == "says nothing" else object()

    answer_with(consumer, book)
    answer = post(consumer)
    assert (answer.status_code, answer.data) == (200, b"")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert stored(consumer) == 1


def test_what_is_refused_is_never_asked_about(consumer: Consumer) -> None:
    answer_with(consumer, lambda event: pytest.fail("it was called"))
    body, headers = request_of(consumer)
    answer = consumer.client.post("/webhooks/slack", data=body + b" ", headers=list(headers.items()))
    assert answer.status_code == 401


def test_the_direct_route_asks_it_too(consumer: Consumer) -> None:
    answer_with(consumer, lambda event: event.data["user"]["name"], content_type="text/html")
    webhooks = consumer.webhooks
    route = DirectRoute(consumer.app.wsgi_app, webhooks.ingest, paths=webhooks.paths, max_body=2**20)
    body, headers = request_of(consumer)
    environ = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
    environ["CONTENT_TYPE"] = environ.pop("HTTP_CONTENT_TYPE")
    said: list[Any] = []
    written = route(
        {
            **environ,
            "REQUEST_METHOD": "POST",
            "PATH_INFO": "/webhooks/slack",
            "HTTP_HOST": "hooks.example.com",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
        },
        lambda status, headers: said.append((status, dict(headers))),  # type: ignore[arg-type]
    )
    assert b"".join(written) == b"ada"
    assert said[0][0] == "200 OK"
    assert said[0][1]["Content-Type"] == "text/html"


def test_within_an_application_it_has_its_context(consumer: Consumer) -> None:
    from flask import current_app

    consumer.app.config["GREETING"] = "hello"
    answer_with(consumer, lambda event: current_app.config["GREETING"])
    assert post(consumer).text == "hello"
