"""One trace from a request to its handlers, over both databases, as OpenTelemetry's own SDK sees it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler

from tests.integration.conftest import Consumer
from tests.support import PAYLOADS, ROOT
from webhooks.delivery import RunningAttempt
from webhooks.errors import Discard, Retry
from webhooks.intake import event_log
from webhooks.model import DeliveryClass, Headers, InboundRequest
from webhooks.routing import Registry
from webhooks.tracing import STORED, STORED_STATE, Tracing, trace_headers, trace_id_of

pytestmark = pytest.mark.one_database

THEIRS = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{THEIRS}-b7ad6b7169203331-01"
SECRET = "payload-4711"


def body_of(name: str) -> bytes:
    return (PAYLOADS / f"{name}.json").read_bytes()


class Switch(Sampler):
    """Samples every root, or none."""

    def __init__(self) -> None:
        self.is_on = True

    def should_sample(self, *arguments: Any, **named: Any) -> Any:
        return (ALWAYS_ON if self.is_on else ALWAYS_OFF).should_sample(*arguments, **named)

    def get_description(self) -> str:
        return "switch"


EXPORTER, SWITCH = InMemorySpanExporter(), Switch()


@pytest.fixture(scope="module", autouse=True)
def _provider() -> None:
    provider = TracerProvider(sampler=ParentBased(SWITCH), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(EXPORTER))
    trace.set_tracer_provider(provider)


@pytest.fixture(autouse=True)
def sampled() -> Iterator[Switch]:
    EXPORTER.clear()
    SWITCH.is_on = True
    yield SWITCH
    SWITCH.is_on = True


def spans() -> dict[str, ReadableSpan]:
    """{name: span} of what was recorded, in order."""
    return {span.name: span for span in EXPORTER.get_finished_spans()}


def ids(span: ReadableSpan) -> tuple[str, str]:
    context = span.get_span_context()
    assert context is not None
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


Make = Callable[..., Consumer]


def consumer_of(make_consumer: Make, handler: Callable[..., Any], **settings: Any) -> Consumer:
    registry = Registry()
    registry.on("**", name="h", retry=settings.pop("retry", None))(handler)
    return make_consumer(registry, **{"tracing": True, **settings})


def run(consumer: Consumer) -> None:
    """Run what is due, and record it."""
    store = consumer.webhooks.store
    quotas = {("h", kind): 1 for kind in DeliveryClass}
    (claimed,) = store.deliveries.claim(quotas, lease=timedelta(seconds=30), worker="w")
    handler = consumer.webhooks.registry.get("h")
    assert handler is not None
    attempt = RunningAttempt(claimed, handler)
    finished = consumer.webhooks.dispatcher.run(attempt)
    if finished is not None and not attempt.committed:
        store.deliveries.finish([finished])


def post(consumer: Consumer, **headers: str) -> Any:
    answer = consumer.post(body_of("whatsapp_message_created_incoming"), **headers)
    assert answer.status_code == 200, answer.data
    return answer.json


def stored(consumer: Consumer, answer: Any) -> dict[str, str]:
    summary = consumer.webhooks.store.listings.event(int(answer["event_id"]))
    assert summary is not None
    assert summary.event is not None
    return dict(summary.event.headers)


def test_one_trace_shows_the_request_its_commit_and_its_handler(make_consumer: Make) -> None:
    seen: list[Any] = []

    def handler(session: Any) -> None:
        seen.append(trace.get_current_span().get_span_context().span_id)

    consumer = consumer_of(make_consumer, handler)
    answer = post(consumer)
    run(consumer)
    found = spans()
    assert set(found) == {"commit", "receive close", "process h"}
    receive, process = found["receive close"], found["process h"]
    assert receive.parent is None
    for child in (found["commit"], process):
        assert child.parent is not None
        assert (ids(child)[0], f"{child.parent.span_id:016x}") == ids(receive)
    assert seen == [process.get_span_context().span_id]  # type: ignore[union-attr]
    attributes = dict(receive.attributes or {})
    assert attributes["http.route"] == "/webhooks/close"
    assert attributes["http.response.status_code"] == 200
    assert attributes["webhooks.receipt"] == "stored"
    assert attributes["messaging.message.id"] == answer["event_id"]
    assert dict(found["commit"].attributes or {}) == {"webhooks.batch.events": 1}
    assert trace_id_of(stored(consumer, answer)) == ids(receive)[0]
    assert (receive.kind, process.kind) == (trace.SpanKind.SERVER, trace.SpanKind.CONSUMER)


def test_an_async_handler_is_within_its_span(make_consumer: Make) -> None:
    seen: list[Any] = []

    async def handler() -> None:
        seen.append(trace.get_current_span().get_span_context().span_id)

    consumer = consumer_of(make_consumer, handler)
    post(consumer)
    run(consumer)
    assert seen == [spans()["process h"].get_span_context().span_id]  # type: ignore[union-attr]
    consumer.webhooks.dispatcher.loop.stop()


def test_a_retry_is_a_root_with_a_link(make_consumer: Make) -> None:
    errors: list[Exception] = [LookupError(SECRET)]

    def handler() -> None:
        if errors:
            raise errors.pop()

    consumer = consumer_of(make_consumer, handler, retry_base="0s")
    post(consumer)
    run(consumer)
    run(consumer)
    receive = spans()["receive close"]
    first, second = [span for span in EXPORTER.get_finished_spans() if span.name == "process h"]
    assert ids(first)[0] == ids(receive)[0]
    assert not first.status.is_ok
    assert (first.attributes or {})["error.type"] == "LookupError"
    assert SECRET not in first.to_json()
    assert second.parent is None
    assert ids(second)[0] != ids(receive)[0]
    (link,) = second.links
    assert f"{link.context.trace_id:032x}" == ids(receive)[0]
    assert second.status.is_ok or second.status.status_code is trace.StatusCode.UNSET


@pytest.mark.parametrize("error", [Retry("later"), Discard("spam")], ids=lambda error: type(error).__name__)
def test_what_a_handler_meant_is_no_error(make_consumer: Make, error: Exception) -> None:
    def handler() -> None:
        raise error

    consumer = consumer_of(make_consumer, handler)
    post(consumer)
    run(consumer)
    assert spans()["process h"].status.status_code is trace.StatusCode.UNSET


def test_the_senders_trace_is_a_link_and_makes_nothing_sampled(make_consumer: Make, sampled: Switch) -> None:
    consumer = consumer_of(make_consumer, lambda: None)
    sampled.is_on = False
    answer = post(consumer, traceparent=TRACEPARENT)
    run(consumer)
    assert spans() == {}
    assert STORED not in stored(consumer, answer)
    sampled.is_on = True
    consumer.post(body_of("lead_merged"), traceparent=TRACEPARENT)
    receive = spans()["receive close"]
    assert receive.parent is None
    assert ids(receive)[0] != THEIRS
    assert [f"{link.context.trace_id:032x}" for link in receive.links] == [THEIRS]


def test_a_request_with_a_wrong_signature_opens_no_span(make_consumer: Make) -> None:
    consumer = consumer_of(make_consumer, lambda: None, tracing_accept="parent")
    body = body_of("whatsapp_message_created_incoming")
    assert consumer.post(body, close_sig_hash="0" * 64, traceparent=TRACEPARENT).status_code == 401
    assert spans() == {}


@pytest.mark.parametrize(("accept", "links", "is_child"), [("parent", 0, True), ("ignore", 0, False)])
def test_the_setting_says_what_becomes_of_the_senders_trace(
    make_consumer: Make, accept: str, links: int, is_child: bool
) -> None:
    consumer = consumer_of(make_consumer, lambda: None, tracing_accept=accept)
    answer = post(consumer, traceparent=TRACEPARENT, tracestate="a=1", baggage="user=7")
    receive = spans()["receive close"]
    assert (len(receive.links), ids(receive)[0] == THEIRS) == (links, is_child)
    headers = stored(consumer, answer)
    assert headers[STORED].startswith(f"00-{'-'.join(ids(receive))}-")
    assert "baggage" not in headers
    assert headers.get(STORED_STATE) == ("a=1" if is_child else None)


def test_a_tracestate_that_is_long_is_left_out(make_consumer: Make) -> None:
    consumer = consumer_of(make_consumer, lambda: None, tracing_accept="parent")
    answer = post(consumer, traceparent=TRACEPARENT, tracestate=f"a={'x' * 250},b={'x' * 250},c={'x' * 20}")
    assert STORED_STATE not in stored(consumer, answer)


def test_a_span_never_fails_a_request_or_a_handler(
    make_consumer: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[int] = []
    consumer = consumer_of(make_consumer, lambda: ran.append(1))
    post(consumer)

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the exporter is broken")

    monkeypatch.setattr(trace, "get_tracer", broken)
    assert consumer.post(body_of("lead_merged")).status_code == 200
    run(consumer)
    assert ran == [1]
    assert "a span could not be recorded: RuntimeError" in caplog.text


def test_errors_of_the_body_pass_through_a_span() -> None:
    tracing = Tracing()

    def record(gather: Any, patience: Any) -> Any:
        raise LookupError

    with pytest.raises(LookupError):
        tracing.around_commit(record)(list, None)
    assert spans()["commit"].status.status_code is trace.StatusCode.ERROR
    assert tracing.errors == 0


def test_the_line_of_an_event_is_written_within_its_span(make_consumer: Make, caplog: pytest.LogCaptureFixture) -> None:
    within: list[int] = []

    def note(record: logging.LogRecord) -> bool:
        within.append(trace.get_current_span().get_span_context().span_id)
        return True

    consumer = consumer_of(make_consumer, lambda: None, log_events=True)
    caplog.set_level(logging.INFO, event_log.__name__)
    event_log.logger.addFilter(note)
    try:
        post(consumer)
    finally:
        event_log.logger.removeFilter(note)
        for signal, observer in event_log.OBSERVERS.items():
            signal.disconnect(observer)
    assert within == [spans()["receive close"].get_span_context().span_id]  # type: ignore[union-attr]


def test_a_request_whose_commit_another_led_has_an_event_with_the_batch() -> None:
    tracing = Tracing()
    request = InboundRequest(Headers({}), b"{}", id="r")
    with tracing.receive("close", request, 0):
        tracing.shared_commit(7)
    (event,) = spans()["receive close"].events
    assert (event.name, dict(event.attributes or {})) == ("commit", {"webhooks.batch.events": 7})
    tracing.shared_commit(7)  # without a span it is nothing
    assert tracing.errors == 0


def test_a_handler_carries_the_trace_on(make_consumer: Make) -> None:
    sent: list[dict[str, str]] = []
    consumer = consumer_of(make_consumer, lambda: sent.append(trace_headers()))
    post(consumer)
    run(consumer)
    process = spans()["process h"]
    (headers,) = sent
    assert set(headers) == {"traceparent"}
    assert headers["traceparent"].startswith(f"00-{'-'.join(ids(process))}-")
    assert trace_headers() == {}


OFF = """
import json, sys
from webhooks import Webhooks, trace_headers
from webhooks.app import load
registry = __import__("webhooks").Registry()
ran = []
registry.on("**", name="h")(lambda: ran.append(trace_headers()))
from flask import Flask
app = Flask("app")
w = Webhooks(registry=registry, environ={}, overrides=json.loads(sys.argv[1]))
w.init_app(app)
body = sys.stdin.buffer.read()
answer = app.test_client().post("/webhooks/close", data=body, headers={**dict(w.sources["close"].sign(body, w.clock())), "traceparent": sys.argv[2]})
assert answer.status_code == 200, answer.data
from datetime import timedelta
from webhooks.delivery import RunningAttempt
from webhooks.model import DeliveryClass
(claimed,) = w.store.deliveries.claim({("h", DeliveryClass.FRESH): 1}, lease=timedelta(seconds=30), worker="w")
w.dispatcher.run(RunningAttempt(claimed, registry.get("h")))
assert ran == [{}], ran
found = [name for name in sys.modules if name.split(".")[0] in ("opentelemetry", "sentry_sdk", "prometheus_client")]
assert found == [], found
w.close()
"""


def test_off_imports_nothing_of_it(database_url: str) -> None:
    settings = {"database_url": database_url, "sources": {"close": {"secret": "6b8f0c1e5a2d4973" * 4}}}
    done = subprocess.run(
        [sys.executable, "-c", OFF, json.dumps(settings), TRACEPARENT],
        input=body_of("whatsapp_message_created_incoming"),
        capture_output=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr.decode()
