"""The records of a delivery's way through the store, and the columns in which each is written and read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from webhooks.database import tables as schema
from webhooks.model import AttemptOutcome, Delivery, DeliveryCause, DeliveryClass, DeliveryState, Event
from webhooks.model.making import unfrozen
from webhooks.routing import SUCCEEDED, Verdict
from webhooks.store.events import EVENT_COLUMNS

#: webhooks_attempts.outcome -> what one run led to
OUTCOMES = tuple(AttemptOutcome)
_OUTCOME_NUMBER = {outcome: number for number, outcome in enumerate(OUTCOMES)}

#: (handler, class)
Queue = tuple[str, DeliveryClass]
#: (handler, class, how many): a queue of which something is claimed
Wanted = tuple[str, int, int]

DELIVERY_COLUMNS = (
    "id", "event_id", "handler", "replay_id", "state", "class", "lane", "due_at", "attempts", "failures", "token",
    "lease_until", "worker", "alone", "stale", "reason", "created_at", "finished_at", "cause",
)  # fmt: skip
#: The columns of `delivery_from` and of `EventReader.from_row`, of tables under the names `d` and `e`.
D = ", ".join(f"d.{name}" for name in DELIVERY_COLUMNS)
E = ", ".join(f"e.{name}" for name in EVENT_COLUMNS)


class Offered(NamedTuple):
    """A delivery that may be claimed by its id. Each claim moves the token, so that the two name one wait of it."""

    id: int
    token: int
    handler: str
    kind: DeliveryClass
    alone: bool

    @property
    def queue(self) -> Queue:
        """Where it waits."""
        return self.handler, self.kind


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that this worker has to run, with its event; the event is None when it was pruned."""

    delivery: Delivery
    event: Event | None


@dataclass(frozen=True, slots=True)
class Finished:
    """One attempt that ended.

    took: how long it ran.
    ran: whether the handler itself was called.
    holds_lane: a dead delivery that keeps its lane waiting (`on_failure="block"`).
    alone: its next run is in a process of its own, or apart from others that died.
    """

    delivery: Delivery
    verdict: Verdict
    took: timedelta = timedelta(0)
    ran: bool = True
    holds_lane: bool = False
    alone: bool = False

    @property
    def is_attempt(self) -> bool:
        """Whether this run goes on record; a delivery that was filtered before its handler was none."""
        return self.ran or self.verdict.state is not DeliveryState.CANCELLED

    @property
    def supersedes(self) -> bool:
        """Whether older ones of its key need not run any more, where a handler wants the newest only.

        Not when its handler was not to have it, and not when nothing is known of the run and another follows.
        """
        if not self.ran:
            return self.verdict.cause is DeliveryCause.SUPERSEDED
        said_nothing = self.verdict.outcome in (AttemptOutcome.LOST, AttemptOutcome.RELEASED)
        return not said_nothing or self.verdict.state is DeliveryState.DEAD

    @property
    def is_failure(self) -> bool:
        """Whether it counts towards `max_attempts`."""
        return self.verdict.counts and self.verdict.state in (DeliveryState.PENDING, DeliveryState.DEAD)


class FinishRow(NamedTuple):
    """How one attempt ended, as the statements of both databases take it.

    The fields are the parameters: by their order on PostgreSQL, by their names on SQLite. All
    are numbers but `reason` and `error`, for which "" says that there is none.

    wait, took: microseconds.
    failed, blocks, alone: truths, as 0 and 1.
    cause: a `DeliveryCause`; 0: none.
    outcome: a place in `OUTCOMES`; -1: no attempt, so it is not on record and was not counted.
    """

    id: int
    token: int
    state: int
    wait: int
    reason: str
    failed: int
    outcome: int
    took: int
    error: str
    blocks: int
    alone: int
    cause: int

    @classmethod
    def of(cls, finished: Finished) -> FinishRow:
        """What is recorded of an attempt."""
        delivery, verdict = finished.delivery, finished.verdict
        if verdict is SUCCEEDED:  # nearly all, and they differ in `VARYING` only
            took = finished.took // schema.MICROSECOND
            return cls._make((delivery.id, delivery.token, *_BEFORE_TOOK, took, *_AFTER_TOOK))
        return cls(
            delivery.id,
            delivery.token,
            int(verdict.state),
            verdict.wait // schema.MICROSECOND,
            verdict.reason or "",
            int(finished.is_failure),
            _OUTCOME_NUMBER[verdict.outcome] if finished.is_attempt else -1,
            finished.took // schema.MICROSECOND,
            verdict.error or "",
            int(finished.holds_lane),
            int(finished.alone),
            verdict.cause or 0,
        )

    @property
    def is_success(self) -> bool:
        """Whether it is `SUCCESS` but for `VARYING`; such an attempt is kept on the delivery's own row."""
        return self.outcome == SUCCESS.outcome


#: What every success says.
SUCCESS = FinishRow(
    id=0,
    token=0,
    state=int(DeliveryState.SUCCEEDED),
    wait=0,
    reason="",
    failed=0,
    outcome=_OUTCOME_NUMBER[AttemptOutcome.SUCCEEDED],
    took=0,
    error="",
    blocks=0,
    alone=0,
    cause=0,
)
_PLACE = FinishRow._fields.index("took")
_BEFORE_TOOK: tuple[Any, ...] = SUCCESS[2:_PLACE]
_AFTER_TOOK: tuple[Any, ...] = SUCCESS[_PLACE + 1 :]
#: The fields in which one success differs from another.
VARYING = ("id", "token", "took")


def varying(finished: Finished) -> tuple[int, int, int]:
    """What a success has in `VARYING`."""
    return finished.delivery.id, finished.delivery.token, finished.took // schema.MICROSECOND


_NewDelivery = unfrozen(Delivery)
#: {number in a row: member}; looking them up costs a quarter of calling the enum
_STATES = {int(state): state for state in DeliveryState}
_CLASSES = {int(kind): kind for kind in DeliveryClass}


def delivery_from(row: Sequence[Any], instant: Callable[[Any], datetime]) -> Delivery:
    """A delivery from a row of `DELIVERY_COLUMNS`. instant: see `Dialect.instant`."""
    (
        id, event_id, handler, replay_id, state, kind, lane, due_at, attempts, failures, token,
        lease_until, worker, alone, stale, reason, created_at, finished_at, cause,
    ) = row  # fmt: skip
    made = _NewDelivery(
        id=id,
        event_id=event_id,
        handler=handler,
        state=_STATES[state],
        due_at=instant(due_at),
        created_at=instant(created_at),
        number=attempts,
        failures=failures,
        token=token,
        lane=lane,
        stale=bool(stale),
        alone=bool(alone),
        replay_id=replay_id,
        delivery_class=_CLASSES[kind],
        lease_until=None if lease_until is None else instant(lease_until),
        worker=worker,
        reason=reason,
        finished_at=None if finished_at is None else instant(finished_at),
        idempotency_key=idempotency_key(event_id, handler, replay_id),
        cause=None if cause is None else DeliveryCause(cause),
    )
    made.__class__ = Delivery
    delivery: Delivery = made
    return delivery


def idempotency_key(event_id: int, handler: str, replay_id: int = 0) -> str:
    """The key that stays the same over all attempts and replays of one event (one revision) for one handler.

    Replays that asked for fresh keys have an odd id (see `replays`).
    """
    return f"{event_id}:{handler}:{replay_id}" if replay_id & 1 else f"{event_id}:{handler}"


__all__ = [
    "DELIVERY_COLUMNS", "OUTCOMES", "SUCCESS", "VARYING", "Claimed", "FinishRow", "Finished", "Offered", "Queue", "Wanted",
    "delivery_from", "idempotency_key",
]  # fmt: skip
