"""The deliveries: claim, extend, finish, release, rescue, requeue, cancel.

Every statement that ends a run is guarded by the delivery's fencing token and `state = 1`; a row that it does not
touch means that the lease was lost, and its id is missing from the answer. Due times and leases are compared with
the database's clock only. Every change of a delivery that has a lane locks the lane first and settles it before
the commit (see `lanes`).

On PostgreSQL another client may hold a lock on one of our rows (a `select … for update` in a psql session that was left
open). Leases are extended and expired ones found with `skip locked`, and what ends a run can be told to pass over what
is locked (`passed_over`), so that one row never holds up the others.

An attempt is on record before its handler runs: the claim counts it in `attempts` and notes worker and time on the
row. The end of one that succeeded is kept there too (`finished_at`, `took`); any other gets a row in `webhooks_attempts`
when the run ends, or when `rescue` finds that it never did. `Deliveries.attempts` reads both.

A delivery meets `claim`, `leases` while it runs, and `finish`; `by_hand` is what an operator does to it. Each is written
once over `statements.DeliveryStatements`, which `postgresql` and `sqlite` implement; `records` are what they hand over, and
`deliveries.Deliveries` is all of it under one name. `by_id` is for an engine that is told ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.store.deliveries.deliveries import Deliveries as Deliveries
    from webhooks.store.deliveries.leases import SLOW as SLOW
    from webhooks.store.deliveries.records import OUTCOMES as OUTCOMES
    from webhooks.store.deliveries.records import Claimed as Claimed
    from webhooks.store.deliveries.records import Finished as Finished
    from webhooks.store.deliveries.records import FinishRow as FinishRow
    from webhooks.store.deliveries.records import Offered as Offered
    from webhooks.store.deliveries.records import Queue as Queue
    from webhooks.store.deliveries.records import idempotency_key as idempotency_key
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "deliveries": ["Deliveries"],
            "leases": ["SLOW"],
            "records": ["Claimed", "FinishRow", "Finished", "OUTCOMES", "Offered", "Queue", "idempotency_key"],
        },
    )
