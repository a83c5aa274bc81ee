"""What happened, told to those that listen: metrics, alerts, tests, an application of your own.

Every signal of the house is in this module, with its sender and its keyword arguments. They are sent after the fact:
when `event_stored` is sent the event is committed. Only `delivery_started` and `handler_raised` come while a delivery
runs, and of deliveries that share a transaction after its commit. Observers run in the thread that sends (of the web process for requests and events, of the worker for deliveries),
one after another, so they should be quick; what they raise is logged and changes nothing. An observer sees what its own
process does.

    from webhooks import signals

    @signals.observe(signals.delivery_dead)
    def alert(handler, *, delivery, reason, **_): ...

Signals may gain keyword arguments, so an observer takes `**_`. Losing a signal loses no event: the row is the truth.

Not here: signals that stand for event types (`registry.event_signal`), whose receivers are stored and retried.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from blinker import ANY, NamedSignal, Namespace

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

_namespace = Namespace()


@dataclass(frozen=True, slots=True)
class SignalDoc:
    """One row of the table of signals. sender: what its sender is. arguments: {keyword argument: what it is}."""

    name: str
    text: str
    sender: str
    arguments: dict[str, str]


#: {name: row}, in the order in which an event meets them.
TABLE: dict[str, SignalDoc] = {}


def _signal(name: str, sender: str, text: str, **arguments: str) -> NamedSignal:
    TABLE[name] = SignalDoc(name, text, sender, arguments)
    lines = "".join(f"\n{argument}: {meaning}" for argument, meaning in arguments.items())
    return _namespace.signal(name, f"{text}\n\nsender: {sender}{lines}")


def all_signals() -> Iterator[NamedSignal]:
    """Every life-cycle signal, in the order of the table."""
    yield from (_namespace[name] for name in TABLE)


_SOURCE = "the source's name"
_HANDLER = "the handler's name"
_WORKER = "the worker's id"
_DELIVERY = "the `Delivery`, as it was claimed"
_REQUEST_ID = "the id that the answer and the log carry"

# -- taking events in --------------------------------------------------------------------------------------

request_rejected = _signal(
    "request_rejected",
    _SOURCE,
    "A request to a configured source was refused; nothing of it is kept but a bounded note.",
    error="the `Rejected`: its `slug`, `status` and `reason`",
    request="the `InboundRequest`; its headers may hold credentials",
    received_at="when it came",
    request_id=_REQUEST_ID,
)

_EVENT = {
    "event_id": "our id of the event",
    "type": "its type",
    "dedup_key": "the sender's own id of it",
    "conflict": "whether the same key came with another body before",
    "delivery_ids": "of the deliveries made with it",
    "request_id": _REQUEST_ID,
}
event_stored = _signal(
    "event_stored",
    _SOURCE,
    "An event never seen before is committed, with one delivery for every handler that asked for it.",
    **_EVENT,
)
event_revision = _signal(
    "event_revision",
    _SOURCE,
    "A later revision of a known event is committed, with deliveries of its own.",
    **_EVENT,
)
event_duplicate = _signal(
    "event_duplicate",
    _SOURCE,
    "An event came again and was counted; `event_id` is that of the first.",
    **_EVENT,
)
event_stale = _signal(
    "event_stale",
    _SOURCE,
    "An older revision than the known one came; it is kept and not delivered.",
    **_EVENT,
)
event_quarantined = _signal(
    "event_quarantined",
    _SOURCE,
    "A rightly signed request could not be read; it is kept raw and never dispatched.",
    quarantine_id="our id of it",
    reason="what could not be read",
    kind="`unparseable` or `unrecognised`",
    request_id=_REQUEST_ID,
)

# -- running handlers --------------------------------------------------------------------------------------

delivery_started = _signal(
    "delivery_started",
    _HANDLER,
    "A handler is about to be called; filters have passed. Of deliveries that share a transaction it is sent after the commit.",
    delivery=_DELIVERY,
    event="the `Event`",
)
handler_raised = _signal(
    "handler_raised",
    _HANDLER,
    "A handler raised, and nothing of that is recorded yet; not for `Retry`, `Discard`, a time-out, or a database that went "
    "away. Sent by the thread, or the isolated process, that ran it. Observers must not keep `exception`: its frames hold "
    "the payload.",
    delivery=_DELIVERY,
    event="the `Event`",
    exception="what it raised",
    verdict="the `Verdict`: the delivery's next `state`, `outcome`, `wait`, `reason`",
)
delivery_succeeded = _signal(
    "delivery_succeeded",
    _HANDLER,
    "A handler returned, and that is committed.",
    delivery=_DELIVERY,
    took="how long the attempt ran, as `timedelta`",
)
delivery_failed = _signal(
    "delivery_failed",
    _HANDLER,
    "An attempt failed; `delivery_retried` or `delivery_dead` follows.",
    delivery=_DELIVERY,
    outcome="the `AttemptOutcome`: failed, timed-out or retry",
    error="the traceback as text, at most 10 kB",
    took="how long the attempt ran, as `timedelta`",
)
delivery_retried = _signal(
    "delivery_retried",
    _HANDLER,
    "A failed delivery was scheduled to run again.",
    delivery=_DELIVERY,
    wait="until it is due, as `timedelta`",
    reason="the error on one line",
)
delivery_dead = _signal(
    "delivery_dead",
    _HANDLER,
    "A delivery used up its attempts; it runs again only when it is requeued.",
    delivery=_DELIVERY,
    reason="the error on one line",
)
delivery_cancelled = _signal(
    "delivery_cancelled",
    _HANDLER,
    "A delivery ended without success and will not run: filtered, discarded, or cancelled by an operator.",
    delivery=_DELIVERY,
    reason="which filter, or what `Discard` said",
    ran="whether the handler was called; a filter comes before it",
    took="how long the attempt ran, as `timedelta`",
)
delivery_lost = _signal(
    "delivery_lost",
    _HANDLER,
    "The lease of a delivery ran out while it ran: its worker died, or came too late to finish.",
    delivery=_DELIVERY,
)
delivery_released = _signal(
    "delivery_released",
    _HANDLER,
    "A stopping worker gave a delivery back; another runs it.",
    delivery=_DELIVERY,
)
lane_blocked = _signal(
    "lane_blocked",
    _HANDLER,
    "A dead delivery holds its lane: the newer ones of the same ordering key wait.",
    delivery=_DELIVERY,
    lane="the ordering key",
)

# -- processes ---------------------------------------------------------------------------------------------

worker_started = _signal(
    "worker_started",
    _WORKER,
    "A worker begins to claim.",
    handlers="names of the handlers that it knows",
)
worker_stopping = _signal(
    "worker_stopping",
    _WORKER,
    "A worker claims no more and finishes what runs.",
)

# -- operations --------------------------------------------------------------------------------------------

replay_started = _signal(
    "replay_started",
    "the replay's id",
    "A replay begins to make deliveries.",
    selection="the `Selection`",
    who="who asked for it",
)
replay_finished = _signal(
    "replay_finished",
    "the replay's id",
    "A replay made all its deliveries; they may still be waiting to run.",
    events="how many it looked at",
    deliveries="how many it made",
)
caught_up = _signal(
    "caught_up",
    _SOURCE,
    "The sender's log was read to its end.",
    since="from when on it was read",
    fetched="events read",
    stored="those that had not reached us",
)


# -- observing and sending ---------------------------------------------------------------------------------


def observe(*signals: NamedSignal, sender: Any = ANY) -> Callable[[F], F]:
    """Decorate a function to be called with each of `signals`; it is held strongly, local functions too.

    sender: only when this is the sender: a source's or a handler's name, see the table.
    """

    def decorate(function: F) -> F:
        for signal in signals:
            connect(signal, function, sender=sender)
        return function

    return decorate


def connect(signal: NamedSignal, function: F, *, sender: Any = ANY) -> F:
    """Call `function` with `signal`. Held strongly: plain `signal.connect` forgets local functions and closures."""
    return signal.connect(function, sender=sender, weak=False)


def emit(signal: NamedSignal, sender: Any, **arguments: Any) -> None:
    """Call every observer of `signal`; log what they raise and continue with the next.

    Only what ends a thread or a process (SystemExit, a killed greenlet) passes through.
    """
    if signal.is_muted:
        return
    for observer in list(signal.receivers_for(sender)):
        try:
            answer = observer(sender, **arguments)
            if hasattr(answer, "close") and hasattr(answer, "__await__"):
                answer.close()  # never awaited: there is no loop here, and a warning would say less than this line
                raise TypeError("an observer is an ordinary function; 'async def' is never awaited here")
        except Exception:
            logger.exception("an observer of %s failed: %r", signal.name, observer, extra={"signal": signal.name})
