"""What is counted, by which buckets of time, and for how long: the one place for the numbers in `webhooks_tallies`.

Pure. Times fall into buckets of 1, 2 and 5 times a power of ten, so a percentile read from them is about right: it lies
within the bucket in which it lies. A point is a span of minutes; coarser spans are made of finer ones and kept for longer.
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

from webhooks.model import AttemptOutcome, Disposition


class Kind(enum.IntEnum):
    """What a number is of. Codes are in rows: members are added at the end."""

    REQUESTS = 0  #: name: source; what: code of a receipt, or the status of a refusal; bucket: time to answer
    RUNS = 1  #: name: handler; what: a `Ran`; bucket: arrival to end, of the last run
    LEVELS = 2  #: name: handler; what: a `LevelSample`; the number is a sample, and the largest is kept


class Ran(enum.IntEnum):
    """How one run ended. Codes are in rows: members are added at the end."""

    SUCCEEDED = 0  #: and with it the delivery
    RETRIED = 1  #: it failed, and the delivery runs again
    DEAD = 2  #: it failed, and the delivery ended
    CANCELLED = 3  #: filtered or discarded; the delivery ended
    RELEASED = 4  #: given back unrun


class LevelSample(enum.IntEnum):
    """How the deliveries of one handler stand. Codes are in rows: members are added at the end."""

    DUE = 0  #: they wait for a worker
    SCHEDULED = 1  #: they wait for their time
    RUNNING = 2
    DEAD = 3
    OLDEST_SECONDS = 4  #: for so long the oldest that is due has been due
    SAMPLED = 5  #: of no handler: a sample was taken; what has no row then was 0


#: Upper bounds of the buckets in milliseconds: 1 ms to a day.
BOUNDS_MS = (*(step * 10**power for power in range(8) for step in (1, 2, 5)), 86_400_000)
_BOUNDS = tuple(bound / 1000 for bound in BOUNDS_MS)
#: The bucket of what took longer than the last bound, and that of what was not timed.
LONGER, UNTIMED = len(BOUNDS_MS), -1
#: A name that stands for all beyond the bound of `counter.MOST_KEYS`. No source or handler can be called so.
OTHER = "*"


def bucket_of(seconds: float) -> int:
    """The bucket of a time."""
    return bisect_left(_BOUNDS, seconds)


def quantile_ms(buckets: Mapping[int, int], share: float) -> float | None:
    """About how many milliseconds this share of the times in {bucket: how many} does not exceed; None where there are none.

    Interpolated within the bucket by its logarithm. Of what was not timed nothing is known, so it does not count.
    """
    timed = sorted((bucket, n) for bucket, n in buckets.items() if bucket != UNTIMED and n > 0)
    wanted = share * sum(n for _, n in timed)
    seen = 0
    for bucket, n in timed:
        if seen + n >= wanted:
            if bucket >= LONGER:
                return float(BOUNDS_MS[-1])
            high = BOUNDS_MS[bucket]
            low = BOUNDS_MS[bucket - 1] if bucket else high / 2
            return float(low * (high / low) ** ((wanted - seen) / n))
        seen += n
    return None


@dataclass(frozen=True, slots=True)
class Span:
    """One length of points. minutes: each covers so many. keep: they are kept for so many minutes. rows: and no more than so many."""

    minutes: int
    keep: int
    rows: int


HOUR, DAY = 60, 24 * 60
#: The finest first; each is made of the one before it.
SPANS = (
    Span(1, 3 * HOUR, 100_000),
    Span(5, 12 * HOUR, 100_000),
    Span(30, 3 * DAY, 100_000),
    Span(180, 15 * DAY, 100_000),
    Span(720, 400 * DAY, 200_000),
)


@dataclass(frozen=True, slots=True)
class ChartWindow:
    """A time to look back over. words: its name for people. minutes: its length. span: of its points, in minutes. before: so many minutes earlier it is compared."""

    name: str
    words: str
    minutes: int
    span: int
    before: int


#: {name: window}; none has more than 72 points.
WINDOWS = {
    window.name: window
    for window in (
        ChartWindow("15m", "15 minutes", 15, 1, DAY),
        ChartWindow("1h", "hour", HOUR, 1, DAY),
        ChartWindow("6h", "6 hours", 6 * HOUR, 5, DAY),
        ChartWindow("24h", "24 hours", DAY, 30, DAY),
        ChartWindow("7d", "7 days", 7 * DAY, 180, 7 * DAY),
        ChartWindow("30d", "30 days", 30 * DAY, 720, 30 * DAY),
    )
}

_RAN = {
    AttemptOutcome.SUCCEEDED: Ran.SUCCEEDED,
    AttemptOutcome.CANCELLED: Ran.CANCELLED,
    AttemptOutcome.RELEASED: Ran.RELEASED,
}


def ran_of(outcome: AttemptOutcome, *, is_dead: bool) -> Ran:
    """How a run is counted that led to `outcome`."""
    return Ran.DEAD if is_dead else _RAN.get(outcome, Ran.RETRIED)


def receipt_of(what: int) -> Disposition | None:
    """The receipt that a number of `Kind.REQUESTS` counts; None for the status of a refusal."""
    return Disposition.of_code(what) if what < 100 else None


__all__ = [
    "BOUNDS_MS",
    "DAY",
    "HOUR",
    "LONGER",
    "OTHER",
    "SPANS",
    "UNTIMED",
    "WINDOWS",
    "ChartWindow",
    "Kind",
    "LevelSample",
    "Ran",
    "Span",
    "bucket_of",
    "quantile_ms",
    "ran_of",
    "receipt_of",
]  # fmt: skip
