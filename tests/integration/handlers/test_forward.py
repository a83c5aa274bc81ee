"""The plugin `forward` over HTTP, to a server on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry import trace
from standardwebhooks import Webhook

from handlers import forward
from tests.integration.handlers.histories import sample
from webhooks import Delivery, Discard
from webhooks.model import DeliveryState
from webhooks.routing import RetryPolicy, decide
from webhooks.routing.retry import retry_after

pytestmark = pytest.mark.one_database

SECRET = "whsec_Zm9yd2FyZCB0ZXN0czogbm90IGEgc2VjcmV0IDAxMjM="
NOW = datetime(2026, 3, 10, 14, 5, 12, tzinfo=UTC)


@dataclass
class Receiver:
    """A server that keeps what it gets. answers: statuses with their headers, one a request; then 200."""

    url: str
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            found.connections.add(self.client_address)
            status, headers, text = found.answers.pop(0) if found.answers else (200, {}, b"{}")
            self.send_response(status)
            for name, value in {"content-length": str(len(text)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *arguments: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.daemon_threads = True
    found = Receiver(f"http://127.0.0.1:{server.server_port}/hooks/token-1234")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def target(receiver: Receiver) -> Iterator[forward.Target]:
    settings = {"warehouse": {"url": receiver.url, "secret": SECRET, "types": ["lead.*"], "timeout_seconds": 2}}
    (target,) = forward.read_targets({"FORWARD_TARGETS": json.dumps(settings)})
    yield target
    target.client.close()


def delivery(key: str = "12:forward.warehouse") -> Delivery:
    return Delivery(1, 12, "forward.warehouse", DeliveryState.RUNNING, NOW, NOW, idempotency_key=key)


def test_a_receiver_can_verify_what_it_gets_with_the_reference_library(
    target: forward.Target, receiver: Receiver
) -> None:
    event = sample("lead_merged")

    target.forward(event, delivery())

    ((path, headers, body),) = receiver.requests
    verified = Webhook(SECRET).verify(body.decode(), headers)
    assert verified == {
        "type": "lead.merged",
        "timestamp": event.occurred_at.isoformat(),
        "source": "close",
        "data": json.loads(event.raw),
    }
    assert path == "/hooks/token-1234"
    assert headers["content-type"] == "application/json"


def test_the_key_is_the_same_in_every_attempt_and_another_for_another_delivery(
    target: forward.Target, receiver: Receiver
) -> None:
    event = sample("lead_merged")
    for key in ("12:forward.warehouse", "12:forward.warehouse", "13:forward.warehouse"):
        target.forward(event, delivery(key))

    keys = [headers["idempotency-key"] for _, headers, _ in receiver.requests]
    assert keys == [headers["webhook-id"] for _, headers, _ in receiver.requests]
    assert keys[0] == keys[1] != keys[2]
    assert "." not in keys[0]


def test_the_trace_goes_on_to_the_target(target: forward.Target, receiver: Receiver) -> None:
    here = trace.SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, True, trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(here)):
        target.forward(sample("lead_merged"), delivery())
    target.forward(sample("lead_merged"), delivery())

    (traced, untraced) = [headers for _, headers, _ in receiver.requests]
    assert traced["traceparent"] == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert "traceparent" not in untraced


@pytest.mark.parametrize(("header", "wait"), [("7", 7), ("Tue, 10 Mar 2026 14:06:12 GMT", 60)])
def test_the_wait_that_the_target_asks_for_is_obeyed(
    target: forward.Target, receiver: Receiver, header: str, wait: int
) -> None:
    receiver.answers.append((503, {"retry-after": header}, b"later"))

    with pytest.raises(forward.NotTaken, match="target 'warehouse' answered 503") as caught:
        target.forward(sample("lead_merged"), delivery())

    assert retry_after(caught.value, NOW) == timedelta(seconds=wait)
    verdict = decide(caught.value, 0, RetryPolicy(), 0.0, NOW)
    assert verdict.state is DeliveryState.PENDING
    assert verdict.wait is not None
    assert verdict.wait >= timedelta(seconds=wait)


@pytest.mark.parametrize("status", [400, 401, 404, 408, 429, 500, 502])
def test_every_refusal_is_tried_again(target: forward.Target, receiver: Receiver, status: int) -> None:
    receiver.answers.append((status, {}, b"no"))

    with pytest.raises(forward.NotTaken, match=f"answered {status}"):
        target.forward(sample("lead_merged"), delivery())


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_every_success_is_one(target: forward.Target, receiver: Receiver, status: int) -> None:
    receiver.answers.append((status, {}, b""))

    target.forward(sample("lead_merged"), delivery())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(target: forward.Target, receiver: Receiver, status: int) -> None:
    receiver.answers.append((status, {"location": receiver.url + "/elsewhere"}, b""))

    with pytest.raises(forward.NotTaken, match=f"answered {status}; redirects are not followed: put its new URL into"):
        target.forward(sample("lead_merged"), delivery())

    assert len(receiver.requests) == 1


def test_a_target_that_is_gone_is_not_asked_again(target: forward.Target, receiver: Receiver) -> None:
    receiver.answers.append((410, {}, b""))

    with pytest.raises(Discard, match=r"target 'warehouse' is gone \(410\); take it out of FORWARD_TARGETS"):
        target.forward(sample("lead_merged"), delivery())


def test_a_target_that_does_not_answer_is_tried_again_and_its_address_is_not_told() -> None:
    settings = {"warehouse": {"url": "http://127.0.0.1:1/token-1234", "secret": SECRET, "types": ["lead.*"]}}
    (target,) = forward.read_targets({"FORWARD_TARGETS": json.dumps(settings)})

    with pytest.raises(forward.NotTaken) as caught:
        target.forward(sample("lead_merged"), delivery())

    assert str(caught.value) == "target 'warehouse' gave no answer (ConnectError)"
    assert caught.value.__suppress_context__
    target.client.close()


def test_a_long_answer_is_cut_off_and_a_short_one_keeps_the_connection(
    target: forward.Target, receiver: Receiver
) -> None:
    for _ in range(3):
        target.forward(sample("lead_merged"), delivery())
    assert len(receiver.connections) == 1

    receiver.answers.append((200, {"content-length": "999999999"}, b"and so on"))
    target.forward(sample("lead_merged"), delivery())  # does not wait for the rest


def test_settings_of_the_environment_do_not_divert_it(
    target: forward.Target, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")

    target.forward(sample("lead_merged"), delivery())

    assert len(receiver.requests) == 1


def test_another_instance_of_this_service_understands_it(target: forward.Target, receiver: Receiver) -> None:
    from webhooks.model import Headers, InboundRequest
    from webhooks.settings import Secret, SourceSettings
    from webhooks.sources import make_source

    target.forward(sample("lead_merged"), delivery())

    ((_, headers, body),) = receiver.requests
    source = make_source(SourceSettings("standard", "standard", secrets=(Secret(SECRET, "one"),)))
    request = InboundRequest(Headers(headers), body)
    assert source.verify(request, datetime.now(UTC)).label == "one"
    (parsed,) = source.parse(request)
    assert parsed.type == "lead.merged"
    assert parsed.dedup_key == headers["webhook-id"]
