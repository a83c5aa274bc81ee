"""Out: from a due delivery to a recorded attempt.

Promises: an attempt is on record before it runs; its outcome is recorded once, by whoever holds its token; a handler
that hangs or dies harms its own attempt alone. Not here: which handler is meant (`routing`), its transaction
(`session`), SQL (`store.deliveries`).

A delivery meets `worker` (claims, time-outs, leases, draining), `scheduling` (who runs next), then `dispatcher`
(resolve, filter, run, decide, record, announce), in a process of its own by `isolation`. `rescue` finds deliveries
whose worker is gone, and prunes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.delivery.dispatcher import Dispatcher as Dispatcher
    from webhooks.delivery.isolation import IsolatedPool as IsolatedPool
    from webhooks.delivery.rescue import Maintenance as Maintenance
    from webhooks.delivery.rescue import Retention as Retention
    from webhooks.delivery.rescue import prune as prune
    from webhooks.delivery.worker import REPLACE as REPLACE
    from webhooks.delivery.worker import Worker as Worker
    from webhooks.delivery.worker import WorkerSettings as WorkerSettings
    from webhooks.delivery.worker import handler_rows as handler_rows
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "dispatcher": ["Dispatcher"],
            "isolation": ["IsolatedPool"],
            "rescue": ["Maintenance", "Retention", "prune"],
            "worker": ["REPLACE", "Worker", "WorkerSettings", "handler_rows"],
        },
    )
