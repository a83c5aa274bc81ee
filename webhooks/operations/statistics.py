"""Rates, waits and backlog of a time: from what was counted as it happened where that covers the time, else from the rows.

Rows tell it exactly, and cost what was stored in the time (`Listings.stats` looks at 100,000 deliveries); what was counted
costs the same however much happened. Both say what waits now.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from webhooks.model import DeliveryState
from webhooks.store.listings import SourceStats, Stats
from webhooks.store.tallies import Kind, Ran, quantile_ms, receipt_of

if TYPE_CHECKING:
    from webhooks.store import Store

MINUTE = timedelta(minutes=1)
#: A shorter time is read from the rows: whole points of a minute would be too coarse for it.
SHORTEST = timedelta(minutes=15)
_ENDED = {
    Ran.SUCCEEDED: DeliveryState.SUCCEEDED,
    Ran.DEAD: DeliveryState.DEAD,
    Ran.CANCELLED: DeliveryState.CANCELLED,
}


def stats(store: Store, window: timedelta) -> Stats:
    """Figures of the last `window`. Raises StorageUnavailable."""
    return _tallied(store, window) or store.listings.stats(window)


def _tallied(store: Store, window: timedelta) -> Stats | None:
    """From what was counted; None where that does not cover the time."""
    minutes = round(window / MINUTE)
    step = store.tallies.covers(minutes) if window >= SHORTEST else None
    if step is None:
        return None
    backlogs = store.health.gauges().handlers
    events: dict[str, int] = {}
    ended: dict[str, dict[int, int]] = {}
    took: dict[str, dict[int, int]] = {}
    for (kind, name, what, bucket), n in store.tallies.totals(0, minutes, step).items():
        if kind == Kind.REQUESTS:
            receipt = receipt_of(what)
            if receipt is not None and receipt.is_kept:
                events[name] = events.get(name, 0) + n
        elif what in _ENDED:
            state, states = _ENDED[Ran(what)], ended.setdefault(name, {})
            states[state] = states.get(state, 0) + n
            if what == Ran.SUCCEEDED:
                buckets = took.setdefault(name, {})
                buckets[bucket] = buckets.get(bucket, 0) + n
    last = store.listings.last_received(window)
    sources = [SourceStats(name, n, n / minutes, last.get(name)) for name, n in sorted(events.items())]
    waits = {
        name: {percent: ms for percent in (50, 95, 99) if (ms := quantile_ms(buckets, percent / 100)) is not None}
        for name, buckets in took.items()
    }
    now = store.database.now()
    return Stats(
        window, now, sources, store.listings.handler_stats(backlogs, ended, waits), is_complete=True, is_tallied=True
    )


__all__ = ["stats"]
