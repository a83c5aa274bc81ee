"""The records that listings give. Plain and frozen; what is counted or judged is said beside each field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from webhooks.model import DeliveryCause, DeliveryClass, DeliveryState, Disposition, Event

Row_ = TypeVar("Row_")
At = TypeVar("At")


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """Where an event stands in the order of arrival."""

    received_at: datetime
    id: int


@dataclass(frozen=True, slots=True)
class EventSummary:
    """One line of a listing.

    deliveries: {state's label: how many}.
    event: the event itself, where it was asked for.
    """

    id: int
    source: str
    type: str
    dedup_key: str
    revision: int
    receipt: Disposition
    previous_id: int | None
    object_id: str | None
    group_id: str | None
    occurred_at: datetime
    received_at: datetime
    origin: str
    key_label: str | None
    request_id: str | None
    body_bytes: int
    deliveries: Mapping[str, int] = field(default_factory=dict)
    event: Event | None = None

    @property
    def place(self) -> Cursor:
        """Where it stands in the order of arrival."""
        return Cursor(self.received_at, self.id)


@dataclass(frozen=True, slots=True)
class DeliverySummary:
    """One line of a listing of deliveries.

    source, type, dedup_key: of its event; None when that was pruned.
    action_id: what an operator did to it last.
    is_head: it has no lane, or is the one of its lane that may run.
    holds_lane: it is dead, and what comes after it in its lane waits.
    lease_until, token: of the claim that has it, or had it last.
    """

    id: int
    event_id: int
    handler: str
    state: DeliveryState
    delivery_class: DeliveryClass
    replay_id: int
    attempts: int
    failures: int
    lane: str | None
    due_at: datetime
    created_at: datetime
    finished_at: datetime | None
    worker: str | None
    reason: str | None
    source: str | None
    type: str | None
    dedup_key: str | None
    cause: DeliveryCause | None = None
    action_id: int | None = None
    is_head: bool = True
    holds_lane: bool = False
    lease_until: datetime | None = None
    token: int = 0


@dataclass(frozen=True, slots=True)
class Page(Generic[Row_, At]):
    """What was found within a time.

    at: where the next look continues (None: there is no more).
    looked_at: how many events, or deliveries, were judged.
    back_to: when the last of them came in, or was made.
    is_complete: False when the time was over before the page was full and all had been looked at.
    """

    rows: Sequence[Row_]
    at: At | None
    looked_at: int
    back_to: datetime | None
    is_complete: bool


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Deliveries of one handler that failed alike.

    error: with numbers and ids masked.
    example_id: the latest.
    lately: how many ended in each step of the last day, the oldest step first; empty where that was not asked for.
    """

    handler: str
    state: DeliveryState
    error: str
    count: int
    first_at: datetime
    last_at: datetime
    example_id: int
    lately: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class FailureGroups:
    """Groups, the most frequent first. looked_at: how many deliveries were counted. is_complete: False when there are more."""

    groups: Sequence[FailureGroup]
    looked_at: int
    is_complete: bool


@dataclass(frozen=True, slots=True)
class BlockedLane:
    """A lane that stands still. holder: the oldest dead delivery that holds it. waiting: pending ones behind that one."""

    holder: DeliverySummary
    waiting: int


@dataclass(frozen=True, slots=True)
class LaneNeighbours:
    """What stands before and after a delivery in its lane, the nearest first. ahead, behind: how many, as far as they were counted."""

    before: Sequence[DeliverySummary] = ()
    after: Sequence[DeliverySummary] = ()
    ahead: int = 0
    behind: int = 0


@dataclass(frozen=True, slots=True)
class LaneWait:
    """The delivery that another of its lane waits for. state: dead, where that one holds the lane."""

    id: int
    state: DeliveryState


@dataclass(frozen=True, slots=True)
class SourceStats:
    """What came from one source in the window. oldest_unhandled_at: of an event with an unfinished delivery."""

    source: str
    events: int
    per_minute: float
    last_received_at: datetime | None


@dataclass(frozen=True, slots=True)
class HandlerStats:
    """How one handler does. wait_ms: from the event's commit to the end of its delivery, {50: …, 95: …, 99: …}.

    oldest_unhandled_at, retrying, failing_since, is_more (of what waits): see `health.Backlog`.
    """

    handler: str
    succeeded: int
    dead: int
    cancelled: int
    pending: int
    running: int
    oldest_unhandled_at: datetime | None
    wait_ms: Mapping[int, float]
    retrying: int = 0
    failing_since: datetime | None = None
    is_more: bool = False


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures of the last `window`.

    is_complete: False when more deliveries were made in it than are looked at.
    is_tallied: they were counted as it happened (`store.tallies`): about right, and of what ended in that time, whenever
        it was made; else they are of the rows that were stored in it.
    """

    window: timedelta
    now: datetime
    sources: Sequence[SourceStats]
    handlers: Sequence[HandlerStats]
    is_complete: bool
    is_tallied: bool = False


__all__ = [
    "BlockedLane",
    "Cursor",
    "DeliverySummary",
    "EventSummary",
    "FailureGroup",
    "FailureGroups",
    "HandlerStats",
    "LaneNeighbours",
    "LaneWait",
    "Page",
    "SourceStats",
    "Stats",
]  # fmt: skip
