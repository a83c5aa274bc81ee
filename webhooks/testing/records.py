"""What a kit gives back, and how it fails a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from webhooks.model import Event


class StillBusy(AssertionError):
    """A drain ran as many deliveries as it may, and more are due."""


class NothingScheduled(AssertionError):
    """There is no due time ahead to which the clock could go."""


class Filtered(AssertionError):
    """A handler would not get this event. reason: why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Posted:
    """What a post got.

    http_status: such as 200, 401.
    status: of its event ("stored", "duplicate", "revision", "quarantined"), or the word by which it was refused.
    event_ids: of the events that are stored for it, one for each event in the body.
    body: of the answer, decoded where it is JSON.
    """

    http_status: int
    status: str
    event_ids: Sequence[int] = ()
    body: Any = field(default=None, repr=False)

    @property
    def event_id(self) -> int:
        """Of its only event. Raises ValueError where there is not exactly one."""
        if len(self.event_ids) != 1:
            raise ValueError(f"{len(self.event_ids)} events are stored for this post, which got {self.status!r}")
        return self.event_ids[0]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a delivery.

    handler: its name.
    event: the event that it got; None where its payload is gone.
    outcome: "succeeded", "failed", "retry" (it raised `Retry`), "cancelled" (`Discard`), "filtered" before it was called, or
        "lost".
    state: of the delivery now: "succeeded", "pending", "dead", "cancelled".
    reason: why it did not succeed, on one line.
    error: what it raised.
    attempt: the number of this run, from 1.
    due_in: when it is due again, where it is.
    took: how long it ran.
    """

    handler: str
    event: Event | None = field(repr=False)
    outcome: str
    state: str
    reason: str | None = None
    error: BaseException | None = field(default=None, repr=False)
    attempt: int = 1
    due_in: timedelta | None = None
    took: timedelta = timedelta(0)
    delivery_id: int = 0


#: What a body is made from: a sample type, a path, bytes, or JSON as a mapping.
What = Any
#: {path in the body: new value}.
Values = Mapping[str, Any]


__all__ = ["Filtered", "NothingScheduled", "Posted", "Run", "StillBusy", "Values", "What"]
