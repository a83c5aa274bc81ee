"""Stored events and deliveries as people look at them: pages, walks, groups of failures, figures. Nothing changes.

A page or a step of a walk is one statement in autocommit, whatever is selected, so no long read transaction is held.
What SQL cannot judge (`Selection.is_exact_in_sql`) is judged row by row, in bounded batches.

`events` and `deliveries` are pages of each, `in_lane` says where a delivery stands in its lane, `failures` and `statistics` what their names say, `short_ids` knows ids by their last digits; `records` is what they give,
`limits` how much one statement looks at, and `listings.Listings` all of it under one name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.store.listings.failures import alike as alike
    from webhooks.store.listings.listings import Listings as Listings
    from webhooks.store.listings.records import BlockedLane as BlockedLane
    from webhooks.store.listings.records import Cursor as Cursor
    from webhooks.store.listings.records import DeliverySummary as DeliverySummary
    from webhooks.store.listings.records import EventSummary as EventSummary
    from webhooks.store.listings.records import FailureGroup as FailureGroup
    from webhooks.store.listings.records import FailureGroups as FailureGroups
    from webhooks.store.listings.records import HandlerStats as HandlerStats
    from webhooks.store.listings.records import LaneNeighbours as LaneNeighbours
    from webhooks.store.listings.records import LaneWait as LaneWait
    from webhooks.store.listings.records import Page as Page
    from webhooks.store.listings.records import SourceStats as SourceStats
    from webhooks.store.listings.records import Stats as Stats
    from webhooks.store.listings.statistics import percentiles as percentiles
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "failures": ["alike"],
            "listings": ["Listings"],
            "records": [
                "BlockedLane",
                "DeliverySummary",
                "EventSummary",
                "FailureGroup",
                "FailureGroups",
                "HandlerStats",
                "LaneNeighbours",
                "LaneWait",
                "Page",
                "Cursor",
                "SourceStats",
                "Stats",
            ],
            "statistics": ["percentiles"],
        },
    )
