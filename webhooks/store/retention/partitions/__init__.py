"""`webhooks_events` in pieces by time, on PostgreSQL: retention then drops a table instead of deleting its rows.

Ids grow with time, so partitions are ranges of ids, and the primary key stays as it is. `convert` makes the table that
is there the first partition, without rewriting it and without a scan under an exclusive lock: a CHECK on its ids is
validated beside ingest, and ATTACH takes that for proof. Then the names change hands in one transaction. `extend` makes
partitions ahead of time, `retire` drops old ones; a default partition takes what has no other, so no insert ever fails
for want of one.

What is still needed is decided by `pruning`, as for single rows: a partition that holds one needed event stays, and
`what_holds` says for which; `pruning` then deletes the others of its rows. Deliveries are not partitioned: those of a
dropped partition are forgotten afterwards, a batch at a time.

Every lock on the table is waited for at most `WAIT_FOR_TABLE`, less than an insert waits for us: what comes later
queues behind what waits. Nothing here does anything on SQLite but `convert`, which refuses.

An optional part: only `Pruning.partitions` leads here from the rest of the store, and nothing of it is loaded before.
`records` are the words, `periods` the times (pure), `postgresql` the statements; `making`, `dropping` and `partitions`
are the object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.store.retention.partitions.partitions import Partitions as Partitions
    from webhooks.store.retention.partitions.periods import AHEAD as AHEAD
    from webhooks.store.retention.partitions.periods import boundary_after as boundary_after
    from webhooks.store.retention.partitions.periods import gaps as gaps
    from webhooks.store.retention.partitions.periods import period_of as period_of
    from webhooks.store.retention.partitions.periods import ranges as ranges
    from webhooks.store.retention.partitions.postgresql import HOLDING as HOLDING
    from webhooks.store.retention.partitions.postgresql import PROOF as PROOF
    from webhooks.store.retention.partitions.records import DEFAULT as DEFAULT
    from webhooks.store.retention.partitions.records import FIRST as FIRST
    from webhooks.store.retention.partitions.records import Changes as Changes
    from webhooks.store.retention.partitions.records import Holders as Holders
    from webhooks.store.retention.partitions.records import Kept as Kept
    from webhooks.store.retention.partitions.records import Partition as Partition
    from webhooks.store.retention.partitions.records import PartitionError as PartitionError
    from webhooks.store.retention.partitions.records import Period as Period
    from webhooks.store.retention.partitions.records import Problem as Problem
    from webhooks.store.retention.partitions.records import Trouble as Trouble
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "partitions": ["Partitions"],
            "periods": ["AHEAD", "boundary_after", "gaps", "period_of", "ranges"],
            "postgresql": ["HOLDING", "PROOF"],
            "records": [
                "Changes",
                "DEFAULT",
                "FIRST",
                "Holders",
                "Kept",
                "Partition",
                "PartitionError",
                "Period",
                "Problem",
                "Trouble",
            ],
        },
    )
