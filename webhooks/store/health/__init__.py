"""What `doctor` looks at: figures over rows that say whether something is stuck, missing or silent. Changes nothing.

`health.Health` asks; `gauges` is the one statement that says how all handlers stand, with its words for each database in
`postgresql` and `sqlite`; `latest` says when each handler last succeeded and failed; `records` are the figures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.store.health.gauges import COUNTED as COUNTED
    from webhooks.store.health.health import Health as Health
    from webhooks.store.health.records import Backlog as Backlog
    from webhooks.store.health.records import DueQueue as DueQueue
    from webhooks.store.health.records import Gauges as Gauges
    from webhooks.store.health.records import LatestRuns as LatestRuns
    from webhooks.store.health.records import Missed as Missed
    from webhooks.store.health.records import ReceivedWebhook as ReceivedWebhook
    from webhooks.store.health.records import TypeActivity as TypeActivity
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "gauges": ["COUNTED"],
            "health": ["Health"],
            "records": [
                "ReceivedWebhook",
                "Backlog",
                "DueQueue",
                "Gauges",
                "LatestRuns",
                "Missed",
                "TypeActivity",
            ],
        },
    )
