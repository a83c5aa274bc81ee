"""Replay: new deliveries for stored events, planned first, recorded, resumable.

Promises: a plan changes nothing; what is started is recorded and can be continued by anyone after a crash, and nothing is
made twice. The deliveries are run by workers like any other, in the places that a claim keeps for replays, so fresh
events go first. A replay never feeds itself: events and deliveries newer than its start (`upper_id`) are not looked at.
Memory is constant.

Who gets a replayed event is decided by today's routing, or with `original` by that of the day it came in. Where the
selection speaks of a delivery's state or error, only handlers whose delivery matches get a new one. Copies that were
never delivered (stale, conflicting, stripped) are left out unless they are named by id.

A selection meets `options` (how it is replayed), `order` (its events one after another, resumable), `plan` (rows of
counts, folded into what would happen) and `replayer` (which makes the deliveries).

Not here: rehearsing a plan (`operations.rehearsal`), the same deliveries again (`operations.requeue`), SQL (`store`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.operations.replay.options import Options as Options
    from webhooks.operations.replay.options import Order as Order
    from webhooks.operations.replay.options import ReplayError as ReplayError
    from webhooks.operations.replay.options import parse_rate as parse_rate
    from webhooks.operations.replay.plan import HandlerPlan as HandlerPlan
    from webhooks.operations.replay.plan import Plan as Plan
    from webhooks.operations.replay.replayer import Progress as Progress
    from webhooks.operations.replay.replayer import Replayer as Replayer
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "options": ["Options", "Order", "ReplayError", "parse_rate"],
            "plan": ["HandlerPlan", "Plan"],
            "replayer": ["Progress", "Replayer"],
        },
    )
