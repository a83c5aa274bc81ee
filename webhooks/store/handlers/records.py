"""What is on record of a handler."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from webhooks.formats import DEFAULT_QUEUE

if TYPE_CHECKING:
    from webhooks.routing import Handler

#: A circuit breaker stays open for no longer than this; what says longer was written by a wrong clock.
BREAKER_LONGEST = timedelta(minutes=10)


class BreakerState(enum.IntEnum):
    """A handler's circuit breaker."""

    CLOSED = 0  #: runs as usual; put there by a success while half-open
    OPEN = 1  #: not claimed until `breaker_until`; put there by a run of failures
    HALF_OPEN = 2  #: one delivery at a time; put there when `breaker_until` has passed


@dataclass(frozen=True, slots=True)
class HandlerRow:
    """What a process tells about a handler at start.

    rate: (starts, period) or None.
    latest: only the newest delivery of a lane runs.
    debounce: with it, (quiet, at_most) of a burst; see `routing.Debounce`.
    """

    name: str
    patterns: Sequence[str]
    source: str | None = None
    concurrency: int | None = None
    rate: tuple[int, timedelta] | None = None
    queue: str = DEFAULT_QUEUE
    latest: bool = False
    debounce: tuple[timedelta, timedelta] | None = None

    @classmethod
    def of(cls, handler: Handler) -> HandlerRow:
        """The row of a registered handler."""
        return cls(
            handler.name,
            [str(pattern) for pattern in handler.patterns],
            handler.source,
            handler.concurrency,
            handler.rate,
            handler.queue,
            handler.latest is not None,
            None if handler.debounce is None else (handler.debounce.quiet, handler.debounce.at_most),
        )


@dataclass(frozen=True, slots=True)
class HandlerState:
    """What the database says of a handler now.

    run_seconds: of a run, the mean; None: none was seen.
    breaker_opened_at: when its circuit breaker opened last; it may be closed again.
    """

    name: str
    patterns: tuple[str, ...]
    source: str | None
    concurrency: int | None
    rate: tuple[int, timedelta] | None
    paused: bool
    paused_by: str | None
    breaker: BreakerState
    breaker_failures: int
    breaker_until: datetime | None
    seen_at: datetime
    queue: str = DEFAULT_QUEUE
    run_seconds: float | None = None
    breaker_opened_at: datetime | None = None
    #: The name that it has now, if it was given another one.
    renamed_to: str | None = None


__all__ = ["BREAKER_LONGEST", "BreakerState", "HandlerRow", "HandlerState"]
