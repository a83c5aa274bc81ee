"""The figures that `Health` gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from webhooks.model import DeliveryClass


@dataclass(frozen=True, slots=True)
class Backlog:
    """Deliveries of one handler; counts stop at a limit, and is_more says that one did.

    lanes: how many stand still because a dead delivery holds them.
    held: pending ones behind such a dead one.
    eldest_at: when the first of those that are due next, or run, was made.
    due: ready and due, since due_since.
    scheduled: due later.
    retrying: those of the latest that failed and wait, with so many failures in all.
    failing_since: when the oldest of those was made, if nothing has succeeded since.
    """

    handler: str
    pending: int = 0
    running: int = 0
    dead: int = 0
    lanes: int = 0
    held: int = 0
    eldest_at: datetime | None = None
    due: int = 0
    due_since: datetime | None = None
    scheduled: int = 0
    retrying: int = 0
    failures: int = 0
    failing_since: datetime | None = None
    is_more: bool = False


@dataclass(frozen=True, slots=True)
class DueQueue:
    """Deliveries of one handler and class that are due; oldest_at: the first due time of any that waits."""

    due: int
    oldest_at: datetime | None


@dataclass(frozen=True, slots=True)
class Gauges:
    """How the installation stands at `at`, by the database's clock. queues: those in which anything is due."""

    at: datetime
    queues: Mapping[tuple[str, DeliveryClass], DueQueue]
    handlers: Mapping[str, Backlog]


@dataclass(frozen=True, slots=True)
class LatestRuns:
    """When a handler last succeeded and failed, as far as that was looked for.

    failed_at: when the attempt ended; error: on one line.
    """

    succeeded_at: datetime | None = None
    failed_at: datetime | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class TypeActivity:
    """Events of one type that were stored in the time looked at."""

    count: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class ReceivedWebhook:
    """A webhook as it came. headers: of the request, lower case, without signatures."""

    received_at: datetime
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Missed:
    """Events without a delivery for a handler that wants them."""

    count: int
    first_at: datetime
    last_at: datetime


__all__ = ["Backlog", "DueQueue", "Gauges", "Missed", "ReceivedWebhook", "TypeActivity"]
