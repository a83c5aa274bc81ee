"""Which part of a log a run reads, where its mark goes afterwards, and when the next run is due. Pure.

A window is what one run reads; the mark says up to where the log was read without a gap. Both are rows of
`store.positions`. An instant that lies in the future was written by a wrong clock and is not believed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from webhooks.store.positions import LogPosition

#: Read again before the mark: entries surface late and out of order.
OVERLAP = timedelta(minutes=5)
#: Runs by themselves end so long before now: what is newer is still on its way as a webhook.
FRESH = timedelta(seconds=60)
#: A difference between the clocks that does not count: their headers say whole seconds, and the overlap covers it.
NEGLIGIBLE = timedelta(seconds=5)
#: How often one runs by itself, and again after it failed.
INTERVAL = timedelta(hours=1)
AFTER_FAILURE = timedelta(minutes=5)
#: A start makes a run due, unless one ended this shortly before.
AFTER_START = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Window:
    """What one run reads.

    start, until: from where to where, both included.
    covers_from: the log is known from here on once the window is complete: `start`, and what an interrupted run had read.
    is_resumed: it continues an interrupted run.
    """

    start: datetime
    until: datetime
    covers_from: datetime
    is_resumed: bool = False


def plan(mark: LogPosition, since: datetime, until: datetime) -> Window:
    """The window from `since` to `until`, less what an interrupted run has read of it."""
    if mark.window_since is not None and mark.window_at is not None and mark.window_since <= since < mark.window_at:
        start = min(max(since, mark.window_at - OVERLAP), until)
        return Window(start, until, mark.window_since, is_resumed=True)
    return Window(since, until, since)


def believable(mark: LogPosition, now: datetime) -> LogPosition:
    """The mark without instants that lie in the future: a wrong clock wrote them, and no run has read up to there."""
    latest = now + NEGLIGIBLE
    if mark.mark_at is not None and mark.mark_at > latest:
        mark = replace(mark, mark_at=None)
    if mark.window_at is not None and mark.window_at > latest:
        mark = replace(mark, window_since=None, window_until=None, window_at=None)
    return mark


def since_by_itself(mark: LogPosition, first_webhook_at: datetime | None, now: datetime, keeps: timedelta) -> datetime:
    """Where a run begins that was given no beginning: before the mark, or where we began to receive.

    An installation that never received anything begins now: it does not want a month of the past.

    mark: as believed.
    first_webhook_at: of this source; None when none came yet.
    keeps: how long the sender keeps its log.
    """
    begin = mark.mark_at or first_webhook_at or now
    return max(begin - OVERLAP, now - keeps)


def moved_mark(mark: LogPosition, window: Window, *limits: datetime | None) -> datetime | None:
    """Where the mark goes once the window is complete: up to the first of `limits`; None when it stays.

    A window that begins after the mark leaves a gap, so the mark stays before the gap.
    """
    if mark.mark_at is not None and window.covers_from > mark.mark_at:
        return None
    moved = min([window.until, *(limit for limit in limits if limit is not None)])
    return None if mark.mark_at is not None and moved <= mark.mark_at else moved


def is_due(mark: LogPosition, started_at: datetime, now: datetime) -> bool:
    """Whether a run by itself is due in a process that started at `started_at`.

    A run that ended later than now was timed by a wrong clock: it says nothing of when the next is due.
    """
    if mark.ran_at is None or mark.ran_at > now + NEGLIGIBLE:
        return True
    if mark.requested_at is not None and (mark.error is None or mark.requested_at > mark.ran_at):
        return True
    since_last = now - mark.ran_at
    if mark.error is not None:
        return since_last >= AFTER_FAILURE
    return since_last >= INTERVAL or (mark.ran_at < started_at and since_last >= AFTER_START)


def earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    """The earlier of two instants; None counts as never."""
    return other if one is None else one if other is None else min(one, other)


__all__ = ["Window", "believable", "earlier", "is_due", "moved_mark", "plan", "since_by_itself"]
