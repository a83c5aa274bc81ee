"""Tell what happened to a delivery: life-cycle signals and lines in the log.

Nothing here raises: what is recorded is recorded, whatever an observer does. `Silent` tells nothing, for rehearsals.
Not here: the signals themselves (`webhooks.signals`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from webhooks import signals
from webhooks.delivery.attempt import RunningAttempt
from webhooks.formats import frames_of, own_frames
from webhooks.model import AttemptOutcome, Delivery, DeliveryState, Event
from webhooks.routing import Verdict
from webhooks.store.deliveries import Finished
from webhooks.store.tallies import TallyCounter

logger = logging.getLogger(__name__)

#: An attempt that has run for so long is slow to those who develop its handler.
SLOW_AFTER = timedelta(seconds=1)
#: Outcomes that a handler meant: what it raised is no error.
_MEANT = (AttemptOutcome.RETRY, AttemptOutcome.CANCELLED)


class Announcements:
    """Tells observers and the log.

    tally: counts for charts, where tallies are on.
    slow: told once of each attempt that has run for `SLOW_AFTER`: the delivery, how long it has run, how long it may, and
        where its handler stands, as `traceback` writes it; None where nothing wants to know.
    """

    tally: TallyCounter | None = None
    slow: Callable[[Delivery, timedelta, timedelta, str], None] | None = None

    def started(self, delivery: Delivery, event: Event) -> None:
        """The handler is about to be called."""
        if signals.delivery_started.receivers:
            signals.emit(signals.delivery_started, delivery.handler, delivery=delivery, event=event)

    def raised(self, attempt: RunningAttempt, event: Event, exception: BaseException, verdict: Verdict) -> None:
        """The handler raised, and `verdict` was decided; nothing is recorded yet."""
        if not signals.handler_raised.receivers or verdict.outcome in _MEANT:
            return
        delivery = attempt.delivery
        try:
            signals.emit(
                signals.handler_raised,
                delivery.handler,
                delivery=delivery,
                event=event,
                exception=exception,
                verdict=verdict,
            )
        except BaseException:
            logger.exception("an observer of delivery %d failed", delivery.id)

    def lease_lost(self, delivery: Delivery) -> None:
        """An attempt came too late; told once."""
        logger.warning(
            "the lease of delivery %d for handler %r was lost while it ran; what this attempt did is not recorded, "
            "and what it wrote through its session is rolled back",
            delivery.id,
            delivery.handler,
            extra={"delivery_id": delivery.id, "handler": delivery.handler, "attempt": delivery.number},
        )
        signals.emit(signals.delivery_lost, delivery.handler, delivery=delivery)

    def recorded(self, finished: Finished) -> None:
        """What came of an attempt is committed."""
        try:
            if self.tally is not None:
                self.tally.ran(finished.delivery, finished.verdict.state, finished.verdict.outcome)
            if signals.delivery_succeeded.receivers or finished.verdict.state is not DeliveryState.SUCCEEDED:
                _tell(finished)
        except BaseException:
            logger.exception("an observer of delivery %d failed", finished.delivery.id)

    def timed_out(self, attempt: RunningAttempt, seconds: float) -> None:
        """An attempt ran longer than `seconds`, and can no longer commit."""
        logger.warning(
            "delivery %d for handler %r ran longer than its timeout of %g s; this run can no longer commit",
            attempt.delivery.id,
            attempt.handler.name,
            seconds,
            extra={
                "action": "fail",
                "delivery_id": attempt.delivery.id,
                "handler": attempt.handler.name,
                **_stood(attempt),
            },
        )

    def outlived_grace(self, delivery: Delivery) -> None:
        """A stopping worker ended an attempt and gave its delivery back."""
        if self.tally is not None:
            self.tally.ran(delivery, DeliveryState.PENDING, AttemptOutcome.RELEASED)
        signals.emit(signals.delivery_released, delivery.handler, delivery=delivery)
        logger.warning(
            "delivery %d for handler %r did not end within the grace period and was given back",
            delivery.id,
            delivery.handler,
            extra={"delivery_id": delivery.id, "handler": delivery.handler},
        )


class Silent(Announcements):
    """Tells nothing: what is rehearsed did not happen."""

    def started(self, delivery: Delivery, event: Event) -> None:
        """Tell nothing."""

    def raised(self, attempt: RunningAttempt, event: Event, exception: BaseException, verdict: Verdict) -> None:
        """Tell nothing."""

    def lease_lost(self, delivery: Delivery) -> None:
        """Tell nothing."""

    def recorded(self, finished: Finished) -> None:
        """Tell nothing."""


def _stood(attempt: RunningAttempt) -> dict[str, str]:
    """The author's last line, where it is known."""
    own = own_frames(frames_of(attempt.stood_at), Path.cwd())
    return {"stood_at": own[-1].said(Path.cwd())} if own else {}


def _tell(finished: Finished) -> None:
    delivery, verdict = finished.delivery, finished.verdict
    if verdict.state is DeliveryState.SUCCEEDED:
        signals.emit(signals.delivery_succeeded, delivery.handler, delivery=delivery, took=finished.took)
        return
    if verdict.state is DeliveryState.CANCELLED:
        logger.debug("delivery cancelled: %s", verdict.reason, extra=_ids(delivery))
        signals.emit(
            signals.delivery_cancelled,
            delivery.handler,
            delivery=delivery,
            reason=verdict.reason,
            ran=finished.ran,
            took=finished.took,
        )
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
        _tell_of_death(finished)
        return
    logger.info(
        "attempt failed, next in %s: %s", verdict.wait, verdict.reason, extra={**_ids(delivery), "action": "fail"}
    )
    signals.emit(
        signals.delivery_retried, delivery.handler, delivery=delivery, wait=verdict.wait, reason=verdict.reason
    )


def _tell_of_death(finished: Finished) -> None:
    delivery, reason = finished.delivery, finished.verdict.reason
    logger.error(
        "delivery %d for handler %r is dead: %s; `webhooks requeue` runs it again",
        delivery.id,
        delivery.handler,
        reason,
        extra={**_ids(delivery), "action": "fail"},
    )
    signals.emit(signals.delivery_dead, delivery.handler, delivery=delivery, reason=reason)
    if finished.holds_lane:
        logger.error(
            "lane %r of handler %r is blocked by delivery %d; requeue or cancel it to free the lane",
            delivery.lane,
            delivery.handler,
            delivery.id,
            extra=_ids(delivery),
        )
        signals.emit(signals.lane_blocked, delivery.handler, delivery=delivery, lane=delivery.lane)


def _ids(delivery: Delivery) -> dict[str, object]:
    return {
        "delivery_id": delivery.id,
        "event_id": delivery.event_id,
        "handler": delivery.handler,
        "attempt": delivery.number,
    }
