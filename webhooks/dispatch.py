"""Run one delivery: resolve, filter, run, decide, record, announce.

`Dispatcher.run` takes a claimed delivery through these steps in the calling thread and answers with a `Finished`
that is still to be recorded, or None when the handler's own transaction recorded it. It knows no slots, leases or
time-outs of waiting; `worker` owns those, and ends an attempt that takes too long through `Attempt.expire`.

What a handler promises decides how it is recorded. With `session`, the done-mark is written in the handler's
transaction and both commit together; when the fencing token no longer matches, everything is rolled back. Without,
the mark is written afterwards, so the handler runs at least once.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import inspect
import logging
import random
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from webhooks import signals
from webhooks.errors import AttemptTimeout, LeaseLost
from webhooks.model import AttemptOutcome, Delivery, DeliveryState, Event
from webhooks.registry import Handler, Registry
from webhooks.retry import SUCCEEDED, RetryPolicy, Verdict, decide, one_line
from webhooks.session import HandlerSession, Sessions
from webhooks.store import Store
from webhooks.store.deliveries import Claimed, Finished

logger = logging.getLogger(__name__)


class Attempt:
    """One delivery being run by one thread, as its supervisor sees it.

    started: `time.monotonic()` at the start, None before. over: set when the thread is done with it, whatever came
    out. `expire` is called by another thread when time is up.
    """

    __slots__ = ("claimed", "expired", "future", "handler", "holder", "lock", "over", "started", "thread")

    def __init__(self, claimed: Claimed, handler: Handler) -> None:
        self.claimed = claimed
        self.handler = handler
        self.started: float | None = None
        self.expired = False
        self.over = False
        self.holder: HandlerSession | None = None
        self.future: concurrent.futures.Future[Any] | None = None
        self.thread: threading.Thread | None = None
        self.lock = threading.Lock()

    @property
    def delivery(self) -> Delivery:
        return self.claimed.delivery

    def hold(self, holder: HandlerSession) -> None:
        """Note the session in use, so that `expire` can end it; too late, and it is ended at once."""
        with self.lock:
            self.holder = holder
            expired = self.expired
        if expired:
            holder.abort()

    def expire(self) -> None:
        """Make this attempt unable to commit, and cancel it where that is possible. Any thread, any time."""
        with self.lock:
            self.expired = True
            holder, future = self.holder, self.future
        if holder is not None:
            holder.abort()
        if future is not None:
            future.cancel()

    def took(self) -> timedelta:
        return timedelta(seconds=time.monotonic() - self.started) if self.started is not None else timedelta(0)


class Loop:
    """The event loop on which `async def` handlers run, in a thread of its own, made when first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, coroutine: Coroutine[Any, Any, Any]) -> concurrent.futures.Future[Any]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._running())

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                loop = self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._serve, args=(loop,), name="webhooks-async", daemon=True).start()
            return self._loop

    @staticmethod
    def _serve(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.close()

    def is_blocked(self, patience: float = 0.5) -> bool:
        """Whether the loop does not answer within `patience` seconds: some handler blocks it."""
        loop = self._loop
        if loop is None:
            return False
        answered = threading.Event()
        loop.call_soon_threadsafe(answered.set)
        return not answered.wait(patience)

    def abandon(self) -> None:
        """Leave a blocked loop to itself; the next coroutine gets a new one."""
        with self._lock:
            self._loop = None

    def stop(self) -> None:
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)


class Dispatcher:
    """Runs deliveries. default_retry, default_timeout: for handlers that name none. own: {source: our ids there}."""

    def __init__(
        self,
        *,
        registry: Registry,
        store: Store,
        sessions: Sessions,
        clock: Callable[[], datetime],
        default_retry: RetryPolicy,
        default_timeout: timedelta,
        own: Mapping[str, Sequence[str]] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.registry = registry
        self.store = store
        self.sessions = sessions
        self.clock = clock
        self.default_retry = default_retry
        self.default_timeout = default_timeout
        self.own = {source: frozenset(ids) for source, ids in (own or {}).items()}
        self.chance = chance
        self.loop = Loop()

    def timeout_of(self, handler: Handler) -> timedelta:
        return handler.timeout or self.default_timeout

    def retry_of(self, handler: Handler | None) -> RetryPolicy:
        return (handler.retry if handler is not None else None) or self.default_retry

    # -- one attempt ---------------------------------------------------------------------------------------

    def run(self, attempt: Attempt) -> Finished | None:
        """Take one attempt through its steps; what is still to be recorded, or None when that is done."""
        attempt.started = time.monotonic()
        delivery, handler, event = attempt.delivery, attempt.handler, attempt.claimed.event
        ran = False
        error: BaseException | None = None
        try:
            if event is None:
                return self._end(attempt, cancelled("the event's payload was pruned"), ran=False)
            if event.previous_id is not None:
                event = self.store.events.with_superseded(event)
            reason = self.filtered(handler, event, delivery)
            if reason is not None:
                return self._end(attempt, cancelled(reason), ran=False)
            signals.emit(signals.delivery_started, handler.name, delivery=delivery, event=event)
            ran = True
            if handler.wants_session:
                return self._run_with_session(attempt, event)
            self._call(attempt, event, None)
        except LeaseLost:
            self._lost(attempt)
            return None
        except BaseException as raised:  # a handler may raise anything, SystemExit too; none of it is ours
            error = raised
        return self._end(attempt, self.decide(handler, delivery, error), ran=ran)

    def decide(self, handler: Handler | None, delivery: Delivery, error: BaseException | None) -> Verdict:
        """The verdict for an attempt that ended with `error`, by the handler's policy."""
        return decide(error, delivery.failures, self.retry_of(handler), self.chance(), self.clock())

    def filtered(self, handler: Handler, event: Event, delivery: Delivery) -> str | None:
        """Why the handler is not to run for this event; None when it is.

        A predicate that raises lets it raise: the delivery fails loudly and is tried again.
        """
        if delivery.stale and handler.stale == "skip":
            return "stale: a younger event of its lane ran before"
        if handler.ignore_own:
            whose = own_change(event, self.own.get(event.source, frozenset()))
            if whose is not None:
                return f"own change: made with {whose}"
        if handler.where is not None:
            holds, clause, value = handler.where.explain(event)
            if not holds:
                return one_line(f"filtered: {clause}, value {value}")
        return None

    def _run_with_session(self, attempt: Attempt, event: Event) -> None:
        with self.sessions.open() as holder:
            attempt.hold(holder)
            try:
                self._call(attempt, event, holder.session)
                holder.before_finish()
                finished = self._finished(attempt, SUCCEEDED, ran=True)
                if not self.store.deliveries.finish_on(holder.connection, finished):
                    raise LeaseLost(f"delivery {attempt.delivery.id} belongs to another worker now")
                holder.commit()
            except BaseException:
                # what ended the attempt from outside explains the error better than the error does
                with contextlib.suppress(LeaseLost):
                    holder.check()
                raise
        self.announce(finished)

    def _call(self, attempt: Attempt, event: Event, session: Any) -> None:
        handler = attempt.handler
        arguments = self.arguments(handler, event, attempt.delivery, session)
        if not handler.is_async:
            handler.function(**arguments)
            return
        coroutine = handler.function(**arguments)
        if not inspect.iscoroutine(coroutine):
            return
        with attempt.lock:
            if attempt.expired:
                coroutine.close()
                raise AttemptTimeout("time was up before it started")
            future = attempt.future = self.loop.submit(coroutine)
        try:
            future.result()
        except concurrent.futures.CancelledError:
            raise AttemptTimeout("it was cancelled") from None

    def arguments(self, handler: Handler, event: Event, delivery: Delivery, session: Any) -> dict[str, Any]:
        """What the handler asked for, by name."""
        arguments: dict[str, Any] = {}
        for name in handler.arguments:
            if name == "event":
                arguments[name] = event
            elif name == "session":
                arguments[name] = session
            elif name == "delivery":
                arguments[name] = delivery
            elif name == "data":
                arguments[name] = event.data
            elif name == "previous":
                arguments[name] = event.previous
            elif name == "changed":
                arguments[name] = event.changed_fields
            elif name == "raw":
                arguments[name] = event.raw
            elif name == "headers":
                arguments[name] = event.headers
            elif name == "log":
                arguments[name] = logging.LoggerAdapter(
                    logging.getLogger(handler.function.__module__),
                    {"event_id": event.id, "delivery_id": delivery.id, "handler": handler.name},
                )
        return arguments

    # -- the end of an attempt -----------------------------------------------------------------------------

    def _end(self, attempt: Attempt, verdict: Verdict, *, ran: bool) -> Finished | None:
        if attempt.expired:
            return None  # its supervisor has recorded the time-out
        return self._finished(attempt, verdict, ran=ran)

    def _finished(self, attempt: Attempt, verdict: Verdict, *, ran: bool) -> Finished:
        delivery = attempt.delivery
        return Finished(
            delivery,
            verdict,
            took=attempt.took(),
            ran=ran,
            holds_lane=holds_lane(attempt.handler, delivery, verdict),
        )

    def expired(self, attempt: Attempt, delivery: Delivery) -> Finished:
        """What to record for an attempt whose time was up; delivery: under the token that took it over."""
        timeout = self.timeout_of(attempt.handler)
        error = AttemptTimeout(f"it ran longer than its timeout of {timeout.total_seconds():g} s")
        verdict = self.decide(attempt.handler, delivery, error)
        return Finished(
            delivery,
            verdict,
            took=attempt.took(),
            ran=True,
            holds_lane=holds_lane(attempt.handler, delivery, verdict),
        )

    def _lost(self, attempt: Attempt) -> None:
        if attempt.expired:
            return
        delivery = attempt.delivery
        logger.warning(
            "the lease of delivery %d for handler %r was lost while it ran; what it wrote is rolled back",
            delivery.id,
            delivery.handler,
            extra={"delivery_id": delivery.id, "handler": delivery.handler, "attempt": delivery.number},
        )
        signals.emit(signals.delivery_lost, delivery.handler, delivery=delivery)

    def announce(self, finished: Finished) -> None:
        """Log and signal what was recorded."""
        delivery, verdict = finished.delivery, finished.verdict
        extra = {
            "delivery_id": delivery.id,
            "event_id": delivery.event_id,
            "handler": delivery.handler,
            "attempt": delivery.number,
        }
        if verdict.state is DeliveryState.SUCCEEDED:
            if signals.delivery_succeeded.receivers:
                signals.emit(signals.delivery_succeeded, delivery.handler, delivery=delivery, took=finished.took)
            return
        if verdict.state is DeliveryState.CANCELLED:
            logger.debug("delivery cancelled: %s", verdict.reason, extra=extra)
            signals.emit(signals.delivery_cancelled, delivery.handler, delivery=delivery, reason=verdict.reason)
            return
        signals.emit(
            signals.delivery_failed,
            delivery.handler,
            delivery=delivery,
            outcome=verdict.outcome,
            error=verdict.error,
            took=finished.took,
        )
        if verdict.state is DeliveryState.DEAD:
            logger.error(
                "delivery %d for handler %r is dead: %s; `webhooks requeue` runs it again",
                delivery.id,
                delivery.handler,
                verdict.reason,
                extra=extra,
            )
            signals.emit(signals.delivery_dead, delivery.handler, delivery=delivery, reason=verdict.reason)
            if finished.holds_lane:
                logger.error(
                    "lane %r of handler %r is blocked by delivery %d; requeue or cancel it to free the lane",
                    delivery.lane,
                    delivery.handler,
                    delivery.id,
                    extra=extra,
                )
                signals.emit(signals.lane_blocked, delivery.handler, delivery=delivery, lane=delivery.lane)
        else:
            logger.info("attempt failed, next in %s: %s", verdict.wait, verdict.reason, extra=extra)
            signals.emit(
                signals.delivery_retried, delivery.handler, delivery=delivery, wait=verdict.wait, reason=verdict.reason
            )

    # -- leases that ran out -------------------------------------------------------------------------------

    def lost(self, delivery: Delivery) -> Finished:
        """What becomes of a delivery whose worker died or lost its lease.

        Its next run is alone, in a process of its own. Only a death while alone counts towards `max_attempts`.
        """
        handler = self.registry.get(delivery.handler)
        holds = handler is not None and delivery.lane is not None and handler.on_failure == "block"
        if not delivery.alone:
            reason = "its worker died or lost its lease; the next run is alone, in a process of its own"
            verdict = Verdict(
                DeliveryState.PENDING, AttemptOutcome.LOST, reason=reason, error=reason, counts=False
            )
            return Finished(delivery, verdict, alone=True)
        policy = self.retry_of(handler)
        failures = delivery.failures + 1
        reason = f"its process died while it ran alone (attempt {failures} of {policy.max_attempts})"
        if failures >= policy.max_attempts:
            verdict = Verdict(DeliveryState.DEAD, AttemptOutcome.LOST, reason=reason, error=reason)
            return Finished(delivery, verdict, holds_lane=holds and delivery.replay_id == 0, alone=True)
        wait = policy.wait(failures, self.chance())
        verdict = Verdict(DeliveryState.PENDING, AttemptOutcome.LOST, wait=wait, reason=reason, error=reason)
        return Finished(delivery, verdict, alone=True)


def cancelled(reason: str) -> Verdict:
    """The verdict for a delivery that is not to run; no attempt is counted towards its limit."""
    return Verdict(DeliveryState.CANCELLED, AttemptOutcome.CANCELLED, reason=reason, counts=False)


def holds_lane(handler: Handler, delivery: Delivery, verdict: Verdict) -> bool:
    """Whether a dead delivery keeps its lane waiting. Replayed ones never do."""
    return (
        verdict.state is DeliveryState.DEAD
        and delivery.lane is not None
        and delivery.replay_id == 0
        and handler.on_failure == "block"
    )


def own_change(event: Event, own: frozenset[str]) -> str | None:
    """Which of our own ids made this change, as the envelope says; None when it was somebody else."""
    for field in ("api_key_id", "oauth_client_id"):
        value = event.meta.get(field)
        if isinstance(value, str) and value in own:
            return f"{field} {value}"
    return None

