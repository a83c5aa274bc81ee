"""Figures over time, for charts: how many requests and runs there were each minute, how long they took, what waited.

Promises: nothing of it is in the transaction of an event or a delivery; a number is written within some ten seconds, and
what a process that is killed has counted since then is lost. So figures are about right, and the rows are the truth. The
table is bounded whatever the number of events: by names, outcomes and buckets a point, by age, and by rows of a span.

`points` says what is counted, in which buckets and spans. A `counter` in each process counts; `tallies` adds that up,
folds fine points into coarse ones, and reads windows. Not here: when a process folds (`operations.figures`), charts
(`dashboard`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.store.tallies.counter import FLUSH_SECONDS as FLUSH_SECONDS
    from webhooks.store.tallies.counter import MOST_KEYS as MOST_KEYS
    from webhooks.store.tallies.counter import Counts as Counts
    from webhooks.store.tallies.counter import TallyCounter as TallyCounter
    from webhooks.store.tallies.points import BOUNDS_MS as BOUNDS_MS
    from webhooks.store.tallies.points import DAY as DAY
    from webhooks.store.tallies.points import OTHER as OTHER
    from webhooks.store.tallies.points import SPANS as SPANS
    from webhooks.store.tallies.points import UNTIMED as UNTIMED
    from webhooks.store.tallies.points import WINDOWS as WINDOWS
    from webhooks.store.tallies.points import ChartWindow as ChartWindow
    from webhooks.store.tallies.points import Kind as Kind
    from webhooks.store.tallies.points import LevelSample as LevelSample
    from webhooks.store.tallies.points import Ran as Ran
    from webhooks.store.tallies.points import bucket_of as bucket_of
    from webhooks.store.tallies.points import quantile_ms as quantile_ms
    from webhooks.store.tallies.points import receipt_of as receipt_of
    from webhooks.store.tallies.tallies import Points as Points
    from webhooks.store.tallies.tallies import Tallies as Tallies
    from webhooks.store.tallies.tallies import instant_of_minute as instant_of_minute
    from webhooks.store.tallies.tallies import minute_of as minute_of
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "counter": ["Counts", "FLUSH_SECONDS", "MOST_KEYS", "TallyCounter"],
            "points": [
                "BOUNDS_MS",
                "DAY",
                "Kind",
                "LevelSample",
                "OTHER",
                "Ran",
                "SPANS",
                "UNTIMED",
                "WINDOWS",
                "ChartWindow",
                "bucket_of",
                "quantile_ms",
                "receipt_of",
            ],
            "tallies": ["Points", "Tallies", "instant_of_minute", "minute_of"],
        },
    )
