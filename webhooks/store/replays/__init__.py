"""Replays: what was asked for, how far it got, and the deliveries it made.

A replay proceeds in chunks. Each is one transaction that moves the cursor and inserts deliveries, and the cursor moves
only from where this process found it: of two that continue one replay, one stops. A chunk that is made twice makes
nothing twice, because a delivery is unique by (event, handler, replay).

A replay that asks for fresh idempotency keys has an odd id, others an even one: the key is computed from the
delivery's own columns, and rows need no column for it.

`counts` answers what a plan asks, `replays` begins, continues and ends, `postgresql` and `sqlite` make the deliveries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.store.replays.records import Planned as Planned
    from webhooks.store.replays.records import Replay as Replay
    from webhooks.store.replays.records import ReplayState as ReplayState
    from webhooks.store.replays.replays import Replays as Replays
else:
    __getattr__, __dir__ = lazily(__name__, {"records": ["Planned", "Replay", "ReplayState"], "replays": ["Replays"]})
