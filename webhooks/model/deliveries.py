"""One event for one handler, its states, and each run of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime

from webhooks.model.disposition import DeliveryCause


class DeliveryState(enum.IntEnum):
    """The states of a delivery. A scheduled retry is PENDING with a later `due_at`."""

    PENDING = 0  #: put there by ingest, retry, requeue, release and rescue; taken out by claim
    RUNNING = 1  #: put there by claim; taken out by finish, retry, release and rescue
    SUCCEEDED = 2  #: put there by finish; final
    DEAD = 3  #: put there when the attempts are used up; taken out by requeue
    CANCELLED = 4  #: put there by a filter, `Discard` or an operator; taken out by requeue

    @property
    def label(self) -> str:
        """As people write it: `pending`."""
        return self.name.lower()


class DeliveryClass(enum.IntEnum):
    """What a delivery waits for; a claim shares its places between the classes."""

    FRESH = 0  #: the first run of an event that was accepted
    RETRY = 1  #: any later run
    REPLAY = 2  #: made by a replay


class AttemptOutcome(enum.StrEnum):
    """What one run of a delivery led to."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"  #: the handler raised; retried or dead
    TIMED_OUT = "timed-out"  #: it ran longer than its time-out; retried or dead
    RETRY = "retry"  #: the handler asked for it with `Retry`
    CANCELLED = "cancelled"  #: filtered before the handler, or `Discard`
    LOST = "lost"  #: its worker died or lost its lease
    RELEASED = "released"  #: given back unrun or interrupted by a stopping worker


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one handler.

    number: how many times it was claimed, this time included.
    failures: how many of those count towards `max_attempts`.
    token: the fencing token of this claim.
    lane: its ordering key; None when it waits for no other.
    stale: a newer one of its lane has succeeded.
    alone: it runs apart from others, because its worker died.
    replay_id: of the replay that made it; 0 for ingest.
    reason: one line on why it is in its state.
    cause: of the reason, where code has to know it.
    idempotency_key: the same over all attempts of one revision of an event for one handler, and over replays unless a new
    one was asked for.
    """

    id: int
    event_id: int
    handler: str
    state: DeliveryState
    due_at: datetime
    created_at: datetime
    number: int = 0
    failures: int = 0
    token: int = 0
    lane: str | None = None
    stale: bool = False
    alone: bool = False
    replay_id: int = 0
    delivery_class: DeliveryClass = DeliveryClass.FRESH
    lease_until: datetime | None = None
    worker: str | None = None
    reason: str | None = None
    finished_at: datetime | None = None
    idempotency_key: str = ""
    cause: DeliveryCause | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a delivery.

    error: at most 10 kB of text, controls escaped.
    cause: of the error, where code has to know it.
    """

    delivery_id: int
    number: int
    outcome: AttemptOutcome
    started_at: datetime
    finished_at: datetime | None
    worker: str
    error: str | None = None
    cause: DeliveryCause | None = None
