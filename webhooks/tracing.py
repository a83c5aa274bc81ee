"""Traces: one from the request to its handlers, by the OpenTelemetry API, when the setting `tracing` asks for it.

`Tracing` opens the spans; without the setting there is none, and OpenTelemetry is not imported. The context of a request
lies in the stored headers of its events, under `STORED`, and only when it is sampled: without it a worker opens no span, so
that sampling is decided once, by the root that is ours. The `traceparent` of a sender is read only after its signature was
found right, and by default becomes a link, which makes no sampler of ours sample. Baggage is never read, stored or sent.

A span never fails a request or a delivery: what OpenTelemetry raises is counted, and logged once.

Not here: the provider, its sampler and its exporter, which are the application's (docs/traces.md).
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from webhooks.errors import Discard, Rejected, Retry
from webhooks.model import Delivery, DeliveryClass, Event, InboundRequest, Receipt

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanContext

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Stored headers that hold the context; no request can have a header whose name begins with a colon.
STORED = ":traceparent"
STORED_STATE = ":tracestate"
#: Bytes of a `tracestate` that are kept; a longer one is left out.
LONGEST_STATE = 512

#: {what: its attribute}: the conventions for messaging are in development, so they are named here only.
#: Source: https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
NAMES = {
    "method": "http.request.method",
    "route": "http.route",
    "status": "http.response.status_code",
    "system": "messaging.system",
    "operation": "messaging.operation.type",
    "event_id": "messaging.message.id",
    "body_size": "messaging.message.body.size",
    "source": "webhooks.source",
    "receipt": "webhooks.receipt",
    "batch": "webhooks.batch.events",
    "handler": "webhooks.handler",
    "delivery_id": "webhooks.delivery_id",
    "attempt": "webhooks.attempt",
    "replay_id": "webhooks.replay_id",
    "error": "error.type",
}
#: What a handler raises on purpose: no errors of its span.
_MEANT = (Retry, Discard)


class Tracing:
    """Opens the spans of one process; every method may be called by any thread.

    accept: what becomes of the sender's context: "link", "parent" (its sampling decides then) or "ignore".
    url_prefix: of the webhook routes.

    Raises ImportError without `opentelemetry-api` (the extra `tracing`).
    """

    def __init__(self, accept: str = "link", url_prefix: str = "") -> None:
        from opentelemetry import context, trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._context = context
        self._trace = trace
        self._propagator = TraceContextTextMapPropagator()
        self._accept = accept
        self._url_prefix = url_prefix
        #: How often OpenTelemetry raised something.
        self.errors = 0

    # -- the way in ----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def receive(self, source: str, request: InboundRequest, since: int) -> Iterator[Span]:
        """The span of a request whose signature is right. since: when it came, in nanoseconds of `time.time_ns`."""

        def start() -> Span:
            sent = self._sent(request)
            parent = self._context.Context()
            links = []
            if sent is not None and self._accept == "parent":
                parent = self._trace.set_span_in_context(self._trace.NonRecordingSpan(sent), parent)
            elif sent is not None:
                links.append(self._trace.Link(sent))
            attributes: dict[str, Any] = {
                NAMES["method"]: request.method,
                NAMES["route"]: f"{self._url_prefix}/{source}",
                NAMES["source"]: source,
                NAMES["body_size"]: len(request.body),
            }
            kind = self._trace.SpanKind.SERVER
            span: Span = self._tracer.start_span(f"receive {source}", parent, kind, attributes, links, since)
            return span

        with self._current(start, _mark_refusal) as span:
            yield span

    def accepted(self, span: Span, receipts: Sequence[Receipt]) -> None:
        """Note on a `receive` span what became of its request."""

        def note() -> None:
            span.set_attribute(NAMES["status"], 200)
            if receipts:
                span.set_attribute(NAMES["receipt"], receipts[0].status.value)
                span.set_attribute(NAMES["event_id"], str(receipts[0].event_id))

        self._quietly(note)

    def to_store(self, span: Span) -> dict[str, str]:
        """The headers that hold the context of a `receive` span; none when it is not sampled."""
        return self._quietly(lambda: self._to_store(span)) or {}

    def _to_store(self, span: Span) -> dict[str, str]:
        if not span.get_span_context().trace_flags.sampled:
            return {}
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, self._trace.set_span_in_context(span, self._context.Context()))
        found = {STORED: carrier["traceparent"]}
        state = carrier.get("tracestate", "")
        if state and len(state.encode()) <= LONGEST_STATE:
            found[STORED_STATE] = state
        return found

    def around_commit(self, record: Callable[[Callable[[], Sequence[T]], Any], Any]) -> Any:
        """`record` of a `GroupCommit`, in a span of the request that leads, with how many events share the commit."""

        def commit(gather: Callable[[], Sequence[T]], patience: Any) -> Any:
            counts: list[int] = []

            def counted() -> Sequence[T]:
                items = gather()
                counts.append(len(items))
                return items

            with self._current(lambda: self._tracer.start_span("commit"), _mark) as span:
                answer = record(counted, patience)
                self._quietly(lambda: span.set_attribute(NAMES["batch"], sum(counts)))
                return answer

        return commit

    def shared_commit(self, events: int) -> None:
        """Note on a request's span that another request's transaction stored it. events: how many it had."""
        self._quietly(lambda: self._trace.get_current_span().add_event("commit", {NAMES["batch"]: events}))

    # -- the way out ---------------------------------------------------------------------------------------

    def process(self, delivery: Delivery, event: Event) -> contextlib.AbstractContextManager[object]:
        """The span of an attempt, current while the handler runs; none for an event whose request was not sampled.

        The first attempt of a fresh delivery is a child of the request's span. What runs later has a root of its own with a
        link: hours afterwards the trace is closed.
        """
        if STORED not in event.headers:
            return contextlib.nullcontext()
        return self._current(lambda: self._start_process(delivery, event), _mark)

    def _start_process(self, delivery: Delivery, event: Event) -> Span:
        carrier = {"traceparent": event.headers[STORED], "tracestate": event.headers.get(STORED_STATE, "")}
        parent = self._context.Context()
        links = []
        stored = self._read(carrier)
        is_first = delivery.number == 1 and delivery.delivery_class is DeliveryClass.FRESH
        if stored is not None and is_first and not delivery.replay_id:
            parent = self._trace.set_span_in_context(self._trace.NonRecordingSpan(stored), parent)
        elif stored is not None:
            links.append(self._trace.Link(stored))
        attributes: dict[str, Any] = {
            NAMES["system"]: "webhooks",
            NAMES["operation"]: "process",
            NAMES["event_id"]: str(event.id),
            NAMES["handler"]: delivery.handler,
            NAMES["delivery_id"]: str(delivery.id),
            NAMES["attempt"]: delivery.number,
        }
        if delivery.replay_id:
            attributes[NAMES["replay_id"]] = str(delivery.replay_id)
        kind = self._trace.SpanKind.CONSUMER
        span: Span = self._tracer.start_span(f"process {delivery.handler}", parent, kind, attributes, links)
        return span

    # -- both ----------------------------------------------------------------------------------------------

    @property
    def _tracer(self) -> Any:
        """Asked for each span: a provider may be set after us."""
        return self._trace.get_tracer("webhooks")

    def _sent(self, request: InboundRequest) -> SpanContext | None:
        """The sender's context, if it is asked for and there is one."""
        if self._accept == "ignore":
            return None
        names = ("traceparent", "tracestate")
        sent = {name: (request.headers.one(name) or b"").decode("latin-1") for name in names}
        return self._read(sent)

    def _read(self, carrier: Mapping[str, str]) -> SpanContext | None:
        kept = {"traceparent": carrier["traceparent"]}
        if carrier["tracestate"] and len(carrier["tracestate"].encode()) <= LONGEST_STATE:
            kept["tracestate"] = carrier["tracestate"]
        found = self._trace.get_current_span(self._propagator.extract(kept, self._context.Context()))
        context: SpanContext = found.get_span_context()
        return context if context.is_valid else None

    @contextlib.contextmanager
    def _current(self, start: Callable[[], Span], mark: Callable[[Span, BaseException], None]) -> Iterator[Span]:
        """Run the body with a span that is current. mark: notes on it what the body raised, which passes."""
        span = self._quietly(start) or self._trace.INVALID_SPAN
        token = self._quietly(lambda: self._context.attach(self._trace.set_span_in_context(span)))
        try:
            yield span
        except BaseException as error:
            failure = error
            self._quietly(lambda: mark(span, failure))
            raise
        finally:
            if token is not None:
                self._quietly(lambda: self._context.detach(token))
            self._quietly(span.end)

    def _quietly(self, call: Callable[[], T]) -> T | None:
        try:
            return call()
        except Exception as error:
            self.errors += 1
            if self.errors == 1:
                logger.warning("a span could not be recorded: %s; told once", type(error).__name__)
            return None


def _mark(span: Span, error: BaseException) -> None:
    """Note that an attempt or a commit failed: by the error's type, since its text may hold the payload."""
    from opentelemetry.trace import Status, StatusCode

    if not isinstance(error, _MEANT):
        span.set_attribute(NAMES["error"], type(error).__qualname__)
        span.set_status(Status(StatusCode.ERROR))


def _mark_refusal(span: Span, error: BaseException) -> None:
    """Note what a request got: a refusal is the sender's error, and none of this span's."""
    if isinstance(error, Rejected):
        span.set_attribute(NAMES["status"], error.status)
        span.set_attribute(NAMES["error"], type(error).__qualname__)
        return
    span.set_attribute(NAMES["status"], 503)
    _mark(span, error)


def trace_headers() -> dict[str, str]:
    """Headers that carry the current trace on, for a request that a handler makes; none when nothing is traced."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or not trace.get_current_span().get_span_context().is_valid:
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier


def trace_id_of(headers: Mapping[str, str]) -> str | None:
    """The id of the trace in which an event came, from its stored headers; None when it was not sampled."""
    parts = headers.get(STORED, "").split("-")
    return parts[1] if len(parts) == 4 else None


__all__ = ["LONGEST_STATE", "NAMES", "STORED", "STORED_STATE", "Tracing", "trace_headers", "trace_id_of"]
