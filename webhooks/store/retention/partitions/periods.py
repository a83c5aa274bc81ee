"""When partitions begin and end. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from webhooks.model import id_at, instant_of
from webhooks.store.retention.partitions.records import TABLE, Partition, Period

#: Partitions made ahead of now.
AHEAD = 4


def boundary_after(at: datetime, period: Period) -> datetime:
    """The first boundary between two partitions after `at`."""
    day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period is Period.WEEK:
        return day + timedelta(days=7 - day.weekday())
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def ranges(start: datetime, now: datetime, period: Period) -> list[tuple[datetime, datetime]]:
    """The partitions from `start` on, until `AHEAD` whole ones lie ahead of now."""
    goal = now
    for _ in range(AHEAD + 1):
        goal = boundary_after(goal, period)
    found = []
    while start < goal:
        end = boundary_after(start, period)
        found.append((start, end))
        start = end
    return found


def partition_of(since: datetime, until: datetime) -> Partition:
    """The partition of a time, by its name and its bounds."""
    return Partition(f"{TABLE}_p{since:%Y%m%d}", id_at(since), id_at(until))


def period_of(partitions: Sequence[Partition]) -> Period:
    """How the table is partitioned, by the length of the last partition."""
    last = partitions[-1]
    if last.lower is None or last.upper is None:
        return Period.WEEK
    return Period.MONTH if instant_of(last.upper) - instant_of(last.lower) > timedelta(days=7) else Period.WEEK


def gaps(partitions: Sequence[Partition], until: int) -> list[tuple[int, int]]:
    """The ranges of ids below `until` that no partition but the default has. partitions: by their bounds."""
    found: list[tuple[int, int]] = []
    at = 0
    for each in partitions:
        lower, upper = each.lower or 0, until if each.upper is None else each.upper
        if at < min(lower, until):
            found.append((at, min(lower, until)))
        at = max(at, upper)
    if at < until:
        found.append((at, until))
    return found


def overlap(one: Partition, other: Partition) -> bool:
    """Whether an id could be in both; the default takes what has no other."""
    if other.is_default:
        return False
    starts_before = other.lower is None or one.upper is None or other.lower < one.upper
    ends_after = other.upper is None or one.lower is None or other.upper > one.lower
    return starts_before and ends_after


__all__ = ["AHEAD", "boundary_after", "gaps", "overlap", "partition_of", "period_of", "ranges"]
