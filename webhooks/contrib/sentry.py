"""Tell Sentry what handlers raise: one issue for each kind of failure, with the handler's own frame and no payload.

    import sentry_sdk
    from webhooks.contrib import sentry

    sentry_sdk.init(dsn="https://…", data_collection={…})  # docs/errors.md has what to write there
    sentry.connect()

It belongs where every process that runs handlers passes: a module in `handlers/`.

What is captured is the first failure of a delivery and its death, the death also when no exception led to it (a time-out,
`Retry` at the last attempt, a worker that died). `webhooks.delivery.announcements` logs each death as an error; Sentry's
logging integration would make a second event of that line, so it is told to ignore that logger.

Not here: what is captured outside handlers, which is Sentry's own integrations' affair.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from webhooks import signals
from webhooks.model import AttemptOutcome, Delivery, DeliveryState, Event
from webhooks.routing import Verdict

if TYPE_CHECKING:
    from sentry_sdk.scope import Scope
    from sentry_sdk.types import Event as SentryEvent
    from sentry_sdk.types import Hint

#: Writes "delivery … is dead" as an error.
_DEATHS_LOGGER = "webhooks.delivery.announcements"
#: Frames of these packages stand between the dispatcher and the handler.
_BETWEEN = ("webhooks", "asyncio", "concurrent", "threading", "contextvars")

_lock = threading.Lock()
#: Ends the connection there is; None without one.
_disconnect: Callable[[], None] | None = None


def connect(level_retried: str = "warning", every_attempt: bool = False) -> None:
    """Capture what handlers raise in this process; again replaces what was said before.

    level_retried: Sentry's level of a failure that is tried again; a death is an "error".
    every_attempt: capture each failure, not only the first of a delivery and its death.

    Raises ImportError without `sentry-sdk` (the extra `sentry`).
    """
    from sentry_sdk.integrations.logging import ignore_logger

    global _disconnect
    reporter = _Reporter(level_retried, every_attempt)
    ignore_logger(_DEATHS_LOGGER)
    with _lock:
        if _disconnect is not None:
            _disconnect()
        _disconnect = reporter.listen()


def disconnect() -> None:
    """Capture nothing any more."""
    global _disconnect
    with _lock:
        if _disconnect is not None:
            _disconnect()
            _disconnect = None


class _Reporter:
    """The observers, with what `connect` was told."""

    def __init__(self, level_retried: str, every_attempt: bool) -> None:
        self._level_retried = level_retried
        self._every_attempt = every_attempt
        #: Of the failure that this thread was told of last, which is what a death follows.
        self._last = threading.local()

    def listen(self) -> Callable[[], None]:
        """Observe; the answer ends that."""
        observed = (
            (signals.handler_raised, self.raised),
            (signals.delivery_failed, self.failed),
            (signals.delivery_dead, self.died),
        )
        kept = [(signal, signals.connect(signal, observer)) for signal, observer in observed]

        def end() -> None:
            for signal, observer in kept:
                signal.disconnect(observer)

        return end

    def raised(
        self, handler: str, *, delivery: Delivery, event: Event, exception: BaseException, verdict: Verdict, **_: Any
    ) -> None:
        """Capture what a handler raised, if it is its delivery's first failure or its last."""
        import sentry_sdk

        is_dead = verdict.state is DeliveryState.DEAD
        if not (is_dead or delivery.failures == 0 or self._every_attempt):
            return
        with sentry_sdk.new_scope() as scope:
            _describe(scope, delivery, "error" if is_dead else self._level_retried)
            scope.set_tag("source", event.source)
            scope.set_tag("event_type", event.type)
            kind = type(exception)
            scope.fingerprint = [handler, f"{kind.__module__}.{kind.__qualname__}", place(exception, handler)]
            scope.capture_exception(exception)

    def failed(self, handler: str, *, outcome: AttemptOutcome, **_: Any) -> None:
        """Remember how the attempt ended: `delivery_dead` follows in the same thread."""
        self._last.outcome = outcome

    def died(self, handler: str, *, delivery: Delivery, reason: str | None, **_: Any) -> None:
        """Capture a death that no exception was told for."""
        import sentry_sdk

        outcome = getattr(self._last, "outcome", None)
        if outcome is None or outcome is AttemptOutcome.FAILED:
            return
        with sentry_sdk.new_scope() as scope:
            _describe(scope, delivery, "error")
            scope.fingerprint = [handler, outcome.value]
            scope.capture_message(f"a delivery for handler {handler!r} is dead: {reason}")


def _describe(scope: Scope, delivery: Delivery, level: Any) -> None:
    """What every event has: ids, and nothing of the payload, whatever `init` was told."""
    scope.set_level(level)
    scope.set_tag("handler", delivery.handler)
    scope.set_tag("attempt", str(delivery.number))
    ids = {"event_id": str(delivery.event_id), "delivery_id": str(delivery.id), "replay_id": str(delivery.replay_id)}
    scope.set_context("webhooks", {**ids, "attempt": delivery.number})
    scope.add_event_processor(_without_variables)


def _without_variables(event: SentryEvent, hint: Hint) -> SentryEvent:
    """Take local variables out of every frame: they hold the payload."""
    found: list[Any] = [*_values(event, "exception"), *_values(event, "threads")]
    for each in found:
        for frame in (each.get("stacktrace") or {}).get("frames") or ():
            frame.pop("vars", None)
    return event


def _values(event: Any, name: str) -> list[Any]:
    return (event.get(name) or {}).get("values") or []


def place(exception: BaseException, handler: str) -> str:
    """Where in the handler's module it was raised or passed through last: `module.function`, or "?" when that is unknown.

    Line numbers are left out, so that an issue stays one over edits. The handler's module is the one that its name begins
    with, else that of the first frame that is not ours.
    """
    frames = list(_frames(exception.__traceback__))
    modules = [str(frame.f_globals.get("__name__", "?")) for frame in frames]
    theirs = [module for module in modules if module.partition(".")[0] not in _BETWEEN]
    named = [module for module in theirs if handler.startswith(f"{module}.")]
    module = next(iter(named or theirs), None)
    last = [frame for frame, its in zip(frames, modules, strict=True) if its == module]
    return f"{module}.{last[-1].f_code.co_qualname}" if last else "?"


def _frames(traceback: TracebackType | None) -> list[FrameType]:
    frames = []
    while traceback is not None:
        frames.append(traceback.tb_frame)
        traceback = traceback.tb_next
    return frames


__all__ = ["connect", "disconnect", "place"]
