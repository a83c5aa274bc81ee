"""What is old goes: row by row in bounded batches (`pruning`), or a table at a time where PostgreSQL has partitions (`partitions`).

`needed` says what may go, for both.

Promises: nothing that a pending delivery needs is deleted. Not here: how long anything is kept (`settings`), when it is asked for
(`delivery.pruning`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.store.retention.needed import may_go as may_go
    from webhooks.store.retention.pruning import STEADY as STEADY
    from webhooks.store.retention.pruning import ClockDoubt as ClockDoubt
    from webhooks.store.retention.pruning import PrunedBatch as PrunedBatch
    from webhooks.store.retention.pruning import Pruning as Pruning
else:
    __getattr__, __dir__ = lazily(
        __name__, {"needed": ["may_go"], "pruning": ["ClockDoubt", "PrunedBatch", "Pruning", "STEADY"]}
    )
