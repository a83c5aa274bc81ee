"""Run one delivery: resolve, filter, run, decide, record, announce.

`Dispatcher.run` takes a claimed delivery through these steps in the calling thread and answers with a `Finished`: still
to be recorded, unless `attempt.recorded` says that the handler's own transaction did it; None when the lease was lost.
It knows no slots and no waiting; `worker` owns those, and ends an attempt that takes too long through `Attempt.expire`.

What a handler promises decides how it is recorded. With `session`, the done-mark is written in the handler's
transaction and both commit together; when the fencing token no longer matches, everything is rolled back. Without,
the mark is written afterwards, so the handler runs at least once.

What surprises: a database that goes away under a handler is nobody's failure. Such a run goes on record as lost, does
not count, and is tried again soon (`interrupted`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from webhooks import failpoints, signals
from webhooks.errors import AttemptTimeout, LeaseLost, NoConnection, StorageUnavailable
from webhooks.forks import PerProcess
from webhooks.formats import error_summary, one_line
from webhooks.model import AttemptOutcome, Delivery, DeliveryCause, DeliveryState, Event
from webhooks.routing import SUCCEEDED, Handler, Registry, RetryPolicy, Verdict, decide
from webhooks.session import HandlerSession, Sessions
from webhooks.store import Store
from webhooks.store.deliveries import Claimed, Finished

logger = logging.getLogger(__name__)

#: Runs of one delivery that may end because the database went away, before such an end counts as a failure: a handler
#: that breaks its connection by itself must end dead like any other.
SPARED_RUNS = 30

#: Worker deaths that a delivery may meet while it runs alone before they count as its own: mostly somebody killed or
#: lost the whole worker, but a handler that takes its worker with it each time must end dead like any other.
SPARED_DEATHS = 10

#: Written on the row of a running delivery that may not commit any more, while the thread that ran it may still be
#: running: its next run waits for that thread or its process, and whoever rescues it knows what happened.
TIME_WAS_UP = "its time was up; the next run waits until the thread that ran it, or its process, has ended"
WAS_STOPPED = "its worker stopped before it was done; the next run waits until that process has ended"


#: How the record of an attempt begins whose process died.
DIED = "its worker died or lost its lease"
DIED_ALONE = "its process died while it ran alone"


class Attempt:
    """One delivery being run by one thread, as its supervisor sees it.

    started: `time.monotonic()` at the start, None before. over: the thread is done with it. expired: somebody else
    ended it, and records what came of it; of the two, the first wins. recorded: its outcome is committed already.
    fenced: the delivery under the token that took it away from the thread. waits: the outcome is recorded when the
    thread has ended. leased_until: by `time.monotonic()`.
    """

    __slots__ = (
        "claimed", "expired", "fenced", "handler", "holder", "job", "kill", "leased_until", "lock", "over", "recorded",
        "single", "started", "thread", "waits",
    )  # fmt: skip

    def __init__(self, claimed: Claimed, handler: Handler, leased_until: float = float("inf")) -> None:
        self.claimed = claimed
        self.handler = handler
        self.leased_until = leased_until
        self.fenced: Delivery | None = None
        self.waits = False
        #: it died with its worker once: not beside another such that has just begun, but in an ordinary thread
        self.single = False
        self.started: float | None = None
        self.expired = False
        self.over = False
        self.recorded = False
        self.holder: HandlerSession | None = None
        self.job: Job | None = None
        #: ends the process that runs it, when that is another one
        self.kill: Callable[[], None] | None = None
        self.thread: threading.Thread | None = None
        self.lock = threading.Lock()

    @property
    def delivery(self) -> Delivery:
        return self.claimed.delivery

    @property
    def runs_alone(self) -> bool:
        """Whether it runs in a process of its own because it died with two of them."""
        return self.delivery.alone and not self.single

    @property
    def has_process(self) -> bool:
        return self.runs_alone or self.handler.isolation == "process"

    @property
    def current(self) -> Delivery:
        """The delivery under the token that we hold now."""
        return self.fenced or self.claimed.delivery

    def hold(
        self,
        *,
        holder: HandlerSession | None = None,
        job: Job | None = None,
        kill: Callable[[], None] | None = None,
    ) -> None:
        """Note what `abort` has to end; too late, and it is ended at once."""
        with self.lock:
            self.holder = holder or self.holder
            self.job = job or self.job
            self.kill = kill or self.kill
            expired = self.expired
        if expired:
            self.abort()

    def expire(self) -> bool:
        """Take the outcome out of the thread's hands, unless it was faster; any thread, any time."""
        with self.lock:
            if self.over:
                return False
            self.expired = True
            return True

    def end(self) -> bool:
        """The thread is done with it; whether the outcome is still its own to report."""
        with self.lock:
            self.over = True
            return not self.expired

    def abort(self, reason: BaseException | None = None) -> None:
        """Make this attempt unable to commit, and end it where that is possible. Any thread, any time."""
        with self.lock:
            holder, job, kill = self.holder, self.job, self.kill
        if kill is not None:
            kill()
        if holder is not None:
            holder.abort(reason)
        if job is not None:
            job.cancel()

    def took(self) -> timedelta:
        return timedelta(seconds=time.monotonic() - self.started) if self.started is not None else timedelta(0)


class Job:
    """One coroutine on a loop. Over only when the coroutine is, however it was cancelled."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._coroutine = coroutine
        self._task: asyncio.Task[None] | None = None
        self._cancelled = False
        self._error: BaseException | None = None
        self._done = threading.Event()

    def start(self) -> None:
        """Called on the loop."""
        if self._cancelled:
            self._coroutine.close()
            self._error = asyncio.CancelledError()
            self._done.set()
            return
        self._task = self.loop.create_task(self._run())
        self._task.add_done_callback(self._ended)

    async def _run(self) -> None:
        try:
            await self._coroutine
        except (SystemExit, KeyboardInterrupt) as error:
            self._error = error  # asyncio would end the loop with it, and every other handler on it

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._coroutine.close()  # cancelled before its first step
        if task.cancelled():
            self._error = asyncio.CancelledError()
        elif self._error is None:
            self._error = task.exception()
        self._done.set()

    def result(self) -> None:
        """Wait until the coroutine is over; raises what it raised."""
        self._done.wait()
        if self._error is not None:
            raise self._error

    def cancel(self) -> None:
        """Ask the coroutine to end; any thread."""
        self._cancelled = True

        def cancel() -> None:
            if self._task is not None:
                self._task.cancel()

        try:
            self.loop.call_soon_threadsafe(cancel)
        except RuntimeError:  # the loop is closed, and everything on it over
            self._done.set()

    def wait(self, seconds: float) -> bool:
        """Whether it is over within `seconds`."""
        return self._done.wait(seconds)

    def has_the_loop(self) -> bool:
        """Whether this coroutine is the one that runs right now, in its loop's thread."""
        return self._task is not None and asyncio.current_task(self.loop) is self._task


class Loop:
    """The event loop on which `async def` handlers run, in a thread of its own, made when first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, coroutine: Coroutine[Any, Any, Any]) -> Job:
        with self._lock:
            if self._loop is None:
                loop = self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._serve, args=(loop,), name="webhooks-async", daemon=True).start()
            job = Job(coroutine, self._loop)
            self._loop.call_soon_threadsafe(job.start)
            return job

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            while True:
                try:
                    loop.run_forever()
                    break
                except (SystemExit, KeyboardInterrupt):
                    # out of a task that a handler made itself; its own attempt fails or times out, others go on
                    logger.warning("a task of an async handler raised SystemExit; the loop goes on")
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
        finally:
            loop.close()

    def is_blocked(self, loop: asyncio.AbstractEventLoop, patience: float = 0.5) -> bool:
        """Whether `loop` does not answer within `patience` seconds: some handler blocks it."""
        answered = threading.Event()
        try:
            loop.call_soon_threadsafe(answered.set)
        except RuntimeError:
            return False
        return not answered.wait(patience)

    def abandon(self, loop: asyncio.AbstractEventLoop) -> None:
        """Leave a blocked loop to itself; the next coroutine gets a new one."""
        with self._lock:
            if self._loop is loop:
                self._loop = None

    def stop(self) -> None:
        """Cancel what runs and end the loop's thread."""
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
        self._loops = PerProcess(Loop)

    @property
    def loop(self) -> Loop:
        """The event loop of this process."""
        return self._loops.get()

    def timeout_of(self, handler: Handler) -> timedelta:
        return handler.timeout or self.default_timeout

    def retry_of(self, handler: Handler | None) -> RetryPolicy:
        return (handler.retry if handler is not None else None) or self.default_retry

    # -- one attempt ---------------------------------------------------------------------------------------

    def run(self, attempt: Attempt) -> Finished | None:
        """Take one attempt through its steps; see the module's docstring for the answer.

        Raises `NoConnection` when the database could not be had before the handler began.
        """
        attempt.started = time.monotonic()
        delivery, handler, event = attempt.delivery, attempt.handler, attempt.claimed.event
        ran = False
        try:
            if event is None:
                return self.finished(attempt, cancelled("the event's payload was pruned"), ran=False)
            if event.previous_id is not None:
                event = self.store.events.with_superseded(event)
            why_not = self.why_not(handler, event, delivery)
            if why_not is not None:
                return self.finished(attempt, cancelled(*why_not), ran=False)
            signals.emit(signals.delivery_started, handler.name, delivery=delivery, event=event)
            ran = True
            failpoints.hit("run.before_handler")
            if handler.wants_session:
                finished = self._run_with_session(attempt, event)
                self.announce(finished)
                return finished
            self._call(attempt, event, None)
            failpoints.hit("run.after_handler")
            verdict = SUCCEEDED
        except LeaseLost:
            if not attempt.expired:
                self.lease_lost(delivery)
            return None
        except NoConnection:
            raise
        except StorageUnavailable as away:
            if not ran:
                raise NoConnection(away.reason) from away
            verdict = self.interrupted(handler, delivery, away.reason)
        except BaseException as raised:  # a handler may raise anything, SystemExit too; none of it is ours
            verdict = self.decide(handler, delivery, raised)
        return self.finished(attempt, verdict, ran=ran)

    def decide(self, handler: Handler | None, delivery: Delivery, error: BaseException) -> Verdict:
        """The verdict for an attempt that ended with `error`, by the handler's policy. Cannot fail."""
        chance, now = self.chance(), self.clock()
        try:
            return decide(error, delivery.failures, self.retry_of(handler), chance, now)
        except Exception as broken:
            # the error is a stranger's object, and so are the `Retry` and `Discard` that it may be a child of
            return decide(RuntimeError(error_summary(broken)), delivery.failures, self.retry_of(handler), chance, now)

    def interrupted(self, handler: Handler | None, delivery: Delivery, reason: str) -> Verdict:
        """The verdict for an attempt that ended because the database went away: not counted, tried again soon."""
        text = one_line(f"the database went away while it ran: {reason}")
        spared = max(0, delivery.number - delivery.failures - 1)
        if spared >= SPARED_RUNS:
            return self.decide(handler, delivery, StorageUnavailable(text))
        wait = timedelta(seconds=min(5.0, 0.25 * 2 ** min(spared, 10)) * (0.5 + self.chance() / 2))
        return Verdict(DeliveryState.PENDING, AttemptOutcome.LOST, wait, text, text, counts=False)

    def filtered(self, handler: Handler, event: Event, delivery: Delivery) -> str | None:
        """Why the handler is not to run for this event, in words; None when it is. See `why_not`."""
        why_not = self.why_not(handler, event, delivery)
        return None if why_not is None else why_not[0]

    def why_not(self, handler: Handler, event: Event, delivery: Delivery) -> tuple[str, DeliveryCause] | None:
        """Why the handler is not to run for this event; None when it is.

        A predicate that raises lets it raise: the delivery fails loudly and is tried again.
        """
        if delivery.stale and handler.stale == "skip":
            return "stale: a younger event of its lane ran before", DeliveryCause.STALE
        if handler.ignore_own:
            whose = own_change(event, self.own.get(event.source, frozenset()))
            if whose is not None:
                return f"own change: made with {whose}", DeliveryCause.OWN_CHANGE
        if handler.where is not None:
            holds, clause, value = handler.where.explain(event)
            if not holds:
                return one_line(f"filtered: {clause}, value {value}"), DeliveryCause.FILTERED
        return None

    def _run_with_session(self, attempt: Attempt, event: Event) -> Finished:
        with self.sessions.open() as holder:
            attempt.hold(holder=holder)
            try:
                self._call(attempt, event, holder.session)
                failpoints.hit("run.after_handler")
                holder.flush()
                finished = self.finished(attempt, SUCCEEDED, ran=True)
                if not holder.finish(self.store.deliveries.done_mark(finished)):
                    raise LeaseLost(f"delivery {attempt.delivery.id} belongs to another worker now")
            except BaseException as error:
                holder.check()  # what ended the attempt from outside explains the error better than the error does
                if holder.is_outage(error):
                    raise StorageUnavailable(error_summary(error)) from error
                raise
            attempt.recorded = True
            failpoints.hit("run.after_commit")
        return finished

    def _call(self, attempt: Attempt, event: Event, session: Any) -> None:
        handler = attempt.handler
        arguments = self.arguments(handler, event, attempt.delivery, session)
        process = os.getpid()
        try:
            result = handler.function(**arguments)
            if handler.is_async and asyncio.iscoroutine(result):
                job = self.loop.submit(result)
                attempt.hold(job=job)
                job.result()
        finally:
            if os.getpid() != process:
                os._exit(70)  # the handler forked, and its child came back here: it may not go on in our name

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

    def finished(self, attempt: Attempt, verdict: Verdict, *, ran: bool) -> Finished:
        """What to record for an attempt under the token that it was claimed with."""
        delivery = attempt.delivery
        return Finished(
            delivery,
            verdict,
            took=attempt.took(),
            ran=ran,
            holds_lane=holds_lane(attempt.handler, delivery, verdict),
            # a suspect stays alone until a run of it says something
            alone=delivery.alone and verdict.outcome is AttemptOutcome.LOST,
        )

    def expired(self, attempt: Attempt, delivery: Delivery, *, innocent: bool = False) -> Finished:
        """What to record for an attempt whose time was up; delivery: under the token that took it over.

        innocent: another handler blocked the loop that it ran on, so this does not count.
        """
        handler = attempt.handler
        if innocent:
            reason = "another async handler blocked the event loop, so its time was up"
            verdict = Verdict(
                DeliveryState.PENDING, AttemptOutcome.TIMED_OUT, reason=reason, error=reason, counts=False
            )
        else:
            verdict = self.timed_out(handler, delivery)
        return Finished(
            delivery, verdict, took=attempt.took(), ran=True, holds_lane=holds_lane(handler, delivery, verdict)
        )

    def timed_out(self, handler: Handler, delivery: Delivery) -> Verdict:
        seconds = self.timeout_of(handler).total_seconds()
        return self.decide(handler, delivery, AttemptTimeout(f"it ran longer than its timeout of {seconds:g} s"))

    def lease_lost(self, delivery: Delivery) -> None:
        """Say, once, that an attempt came too late."""
        logger.warning(
            "the lease of delivery %d for handler %r was lost while it ran; what this attempt did is not recorded, "
            "and what it wrote through its session is rolled back",
            delivery.id,
            delivery.handler,
            extra={"delivery_id": delivery.id, "handler": delivery.handler, "attempt": delivery.number},
        )
        signals.emit(signals.delivery_lost, delivery.handler, delivery=delivery)

    def announce(self, finished: Finished) -> None:
        """Log and signal what was recorded. Raises nothing: what is recorded is recorded."""
        try:
            self._announce(finished)
        except BaseException:
            logger.exception("an observer of delivery %d failed", finished.delivery.id)

    def _announce(self, finished: Finished) -> None:
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

        Most died in a crowd, of which at most one was guilty: it runs once more in an ordinary thread, though it begins
        only when others of its kind have ended or run on. When it dies again, it runs in a process of its own. Only a death of that process counts towards `max_attempts`: its
        parent sees it (`died_alone`). When the parent is gone too, nobody can tell whose fault it was.
        """
        handler = self.registry.get(delivery.handler)
        if delivery.cause is DeliveryCause.TIME_WAS_UP and handler is not None:
            verdict = self.timed_out(handler, delivery)
            return Finished(delivery, verdict, holds_lane=holds_lane(handler, delivery, verdict))
        if delivery.cause is DeliveryCause.WAS_STOPPED:
            return Finished(delivery, released())
        spared = delivery.number - delivery.failures - 1
        if not delivery.alone or spared < SPARED_DEATHS:
            how = "alone, in a process of its own" if self.deaths([delivery.id]) else "apart from others that died so"
            reason = f"{DIED}; the next run is {how}"
            return Finished(delivery, _lost(reason, cause=DeliveryCause.DIED), alone=True)
        return self.died_alone(delivery)

    def deaths(self, ids: Sequence[int]) -> dict[int, int]:
        """{delivery id: how often it is on record to have died with its worker, or with a process of its own}."""
        found: dict[int, int] = {}
        for attempt in self.store.deliveries.attempts(ids):
            if attempt.cause in (DeliveryCause.DIED, DeliveryCause.DIED_ALONE):
                found[attempt.delivery_id] = found.get(attempt.delivery_id, 0) + 1
        return found

    def died_alone(self, delivery: Delivery) -> Finished:
        """What becomes of a delivery whose process died while it ran nothing else."""
        handler = self.registry.get(delivery.handler)
        policy = self.retry_of(handler)
        failures = delivery.failures + 1
        reason, cause = f"{DIED_ALONE} (attempt {failures} of {policy.max_attempts})", DeliveryCause.DIED_ALONE
        if handler is not None and failures >= policy.max_attempts:
            verdict = Verdict(DeliveryState.DEAD, AttemptOutcome.LOST, reason=reason, error=reason, cause=cause)
            return Finished(delivery, verdict, holds_lane=holds_lane(handler, delivery, verdict), alone=True)
        wait = policy.wait(failures, self.chance())
        verdict = Verdict(DeliveryState.PENDING, AttemptOutcome.LOST, wait, reason, reason, cause=cause)
        return Finished(delivery, verdict, alone=True)

    def not_started(self, delivery: Delivery, why: str) -> Finished:
        """What becomes of a delivery whose own process could not be had: not counted, tried again soon."""
        reason = one_line(f"its process could not be started: {why}")
        wait = timedelta(seconds=5 * (0.5 + self.chance()))
        return Finished(delivery, _lost(reason, wait), ran=False, alone=True)


def _lost(reason: str, wait: timedelta = timedelta(0), cause: DeliveryCause | None = None) -> Verdict:
    return Verdict(DeliveryState.PENDING, AttemptOutcome.LOST, wait, reason, reason, counts=False, cause=cause)


def released() -> Verdict:
    """The verdict for an attempt that a stopping worker ended: on record, not counted, due at once."""
    reason = "its worker stopped before it was done"
    return Verdict(DeliveryState.PENDING, AttemptOutcome.RELEASED, reason=reason, error=reason, counts=False)


def cancelled(reason: str, cause: DeliveryCause | None = None) -> Verdict:
    """The verdict for a delivery that is not to run; no attempt is counted towards its limit."""
    return Verdict(DeliveryState.CANCELLED, AttemptOutcome.CANCELLED, reason=reason, counts=False, cause=cause)


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
