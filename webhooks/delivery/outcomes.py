"""What becomes of a delivery: from how an attempt ended to the `Finished` that is recorded. Decides; does nothing.

`Outcomes` knows the handlers' policies, a clock and the jitter of waits. No database, no thread, no signal.

A database that goes away under a handler is not the handler's failure: such a run goes on record as lost, does not
count, and is tried again soon (`interrupted`). Nor is the death of a worker, which takes a crowd along, of which at most
one was guilty (`lost`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from webhooks.delivery.attempt import Cause, RunningAttempt
from webhooks.errors import AttemptTimeout, StorageUnavailable
from webhooks.formats import error_summary, one_line
from webhooks.model import Attempt, AttemptOutcome, Delivery, DeliveryCause, DeliveryState
from webhooks.routing import Handler, Registry, RetryPolicy, Verdict, decide
from webhooks.store.deliveries import Finished

#: Runs of one delivery that may end because the database went away, before such an end counts as a failure: a handler
#: that breaks its connection by itself must end dead like any other.
SPARED_RUNS = 30

#: Worker deaths that a delivery may meet while it runs isolated before they count as its own: mostly the whole worker
#: was killed or lost, but a handler that takes its worker with it each time must end dead like any other.
SPARED_DEATHS = 10


#: How the record of an attempt begins whose process died.
DIED = "its worker died or lost its lease"
DIED_ALONE = "its process died while it ran alone"


def deaths_of(attempts: Iterable[Attempt]) -> dict[int, int]:
    """{delivery id: how often it is on record to have died with its worker, or with a process of its own}."""
    found: dict[int, int] = {}
    for attempt in attempts:
        if attempt.cause in (DeliveryCause.DIED, DeliveryCause.DIED_ALONE):
            found[attempt.delivery_id] = found.get(attempt.delivery_id, 0) + 1
    return found


class Outcomes:
    """Decides by the handlers' policies.

    registry: of the handlers that this process knows.
    clock: aware UTC now.
    default_retry, default_timeout: for handlers that name none.
    jitter: a number between 0 and 1 for each wait.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        clock: Callable[[], datetime],
        default_retry: RetryPolicy,
        default_timeout: timedelta,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.registry = registry
        self.clock = clock
        self.default_retry = default_retry
        self.default_timeout = default_timeout
        self.jitter = jitter

    def timeout_of(self, handler: Handler) -> timedelta:
        """How long an attempt of the handler may run."""
        return handler.timeout or self.default_timeout

    def retry_of(self, handler: Handler | None) -> RetryPolicy:
        """The handler's policy; the default one for a handler that is not known here."""
        return (handler.retry if handler is not None else None) or self.default_retry

    # -- a run that ended ------------------------------------------------------------------------------------

    def decide(self, handler: Handler | None, delivery: Delivery, error: BaseException) -> Verdict:
        """The verdict for an attempt that ended with `error`, by the handler's policy. Raises nothing."""
        jitter, now = self.jitter(), self.clock()
        try:
            return decide(error, delivery.failures, self.retry_of(handler), jitter, now)
        except Exception as broken:
            # the error is a stranger's object, and so are the `Retry` and `Discard` that it may be a child of
            return decide(RuntimeError(error_summary(broken)), delivery.failures, self.retry_of(handler), jitter, now)

    def interrupted(self, handler: Handler | None, delivery: Delivery, reason: str) -> Verdict:
        """The verdict for an attempt that ended because the database went away: not counted, tried again soon."""
        text = one_line(f"the database went away while it ran: {reason}")
        spared = max(0, delivery.number - delivery.failures - 1)
        if spared >= SPARED_RUNS:
            return self.decide(handler, delivery, StorageUnavailable(text))
        wait = timedelta(seconds=min(5.0, 0.25 * 2 ** min(spared, 10)) * (0.5 + self.jitter() / 2))
        return _lost(text, wait)

    def finished(self, attempt: RunningAttempt, verdict: Verdict, *, ran: bool) -> Finished:
        """What to record for an attempt under the token that it was claimed with. ran: the handler was called."""
        delivery = attempt.delivery
        return Finished(
            delivery,
            verdict,
            took=attempt.took(),
            ran=ran,
            holds_lane=holds_lane(attempt.handler, delivery, verdict),
            # a suspect stays isolated until a run of it says something
            alone=delivery.alone and verdict.outcome is AttemptOutcome.LOST,
        )

    # -- a run that was revoked ------------------------------------------------------------------------------

    def revoked(self, attempt: RunningAttempt, delivery: Delivery, *, innocent: bool = False) -> Finished:
        """What to record for a revoked attempt, by its cause.

        delivery: under the token that took it over.
        innocent: another handler blocked the loop that it ran on, so that its time-out does not count.
        """
        if attempt.cause is Cause.STOPPED:
            return Finished(delivery, released(), took=attempt.took())
        if attempt.cause is Cause.DIED:
            return self.died_isolated(delivery, took=attempt.took())
        handler = attempt.handler
        verdict = _blocked() if innocent else self.timed_out(handler, delivery, attempt.stood_at)
        return Finished(
            delivery, verdict, took=attempt.took(), ran=True, holds_lane=holds_lane(handler, delivery, verdict)
        )

    def timed_out(self, handler: Handler, delivery: Delivery, stood_at: str = "") -> Verdict:
        """The verdict for an attempt that ran too long. stood_at: frames, see `RunningAttempt.stands_at`."""
        seconds = self.timeout_of(handler).total_seconds()
        error = AttemptTimeout(f"it ran longer than its timeout of {seconds:g} s", stood_at)
        return self.decide(handler, delivery, error)

    # -- a run whose process is gone -------------------------------------------------------------------------

    def lost(self, delivery: Delivery, deaths: int) -> Finished:
        """What becomes of a delivery whose worker died or lost its lease. deaths: see `deaths_of`.

        Most died in a crowd, of which at most one was guilty: it runs once more in an ordinary thread, though it begins
        only when others of its kind have ended or run on. When it dies again, it runs in a process of its own. Only a
        death of that process counts towards `max_attempts`: its parent sees it (`died_isolated`). When the parent is
        gone too, nothing tells whose fault it was.
        """
        handler = self.registry.get(delivery.handler)
        if delivery.cause is DeliveryCause.TIME_WAS_UP and handler is not None:
            verdict = self.timed_out(handler, delivery)
            return Finished(delivery, verdict, holds_lane=holds_lane(handler, delivery, verdict))
        if delivery.cause is DeliveryCause.WAS_STOPPED:
            return Finished(delivery, released())
        spared = delivery.number - delivery.failures - 1
        if delivery.alone and spared >= SPARED_DEATHS:
            return self.died_isolated(delivery)
        how = "alone, in a process of its own" if deaths else "apart from others that died so"
        return Finished(delivery, _lost(f"{DIED}; the next run is {how}", cause=DeliveryCause.DIED), alone=True)

    def died_isolated(self, delivery: Delivery, took: timedelta = timedelta(0)) -> Finished:
        """What becomes of a delivery whose process died while it ran nothing else. took: how long it had run."""
        handler = self.registry.get(delivery.handler)
        policy = self.retry_of(handler)
        failures = delivery.failures + 1
        reason, cause = f"{DIED_ALONE} (attempt {failures} of {policy.max_attempts})", DeliveryCause.DIED_ALONE
        if handler is not None and failures >= policy.max_attempts:
            verdict = Verdict(DeliveryState.DEAD, AttemptOutcome.LOST, reason=reason, error=reason, cause=cause)
            holds = holds_lane(handler, delivery, verdict)
            return Finished(delivery, verdict, took=took, holds_lane=holds, alone=True)
        wait = policy.wait(failures, self.jitter())
        verdict = Verdict(DeliveryState.PENDING, AttemptOutcome.LOST, wait, reason, reason, cause=cause)
        return Finished(delivery, verdict, took=took, alone=True)

    def not_started(self, delivery: Delivery, why: str) -> Finished:
        """What becomes of a delivery whose own process could not be started: not counted, tried again soon."""
        reason = one_line(f"its process could not be started: {why}")
        wait = timedelta(seconds=5 * (0.5 + self.jitter()))
        return Finished(delivery, _lost(reason, wait), ran=False, alone=True)


def _lost(reason: str, wait: timedelta = timedelta(0), cause: DeliveryCause | None = None) -> Verdict:
    return Verdict(DeliveryState.PENDING, AttemptOutcome.LOST, wait, reason, reason, counts=False, cause=cause)


def _blocked() -> Verdict:
    reason = "another async handler blocked the event loop, so its time was up"
    return Verdict(DeliveryState.PENDING, AttemptOutcome.TIMED_OUT, reason=reason, error=reason, counts=False)


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
