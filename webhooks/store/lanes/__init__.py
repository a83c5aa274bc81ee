"""Order per key: which delivery of a lane may run.

A lane is (handler, ordering key). At most one of its deliveries is `ready` (the head); only ready rows are
claimed, and a running one stays ready, so two of one lane never run at once: the unique index on ready lane rows
guards it. `settle` chooses the head anew; everything that changes a lane's rows calls it in the same transaction.

The rule: a running delivery stays the head. Else the oldest unfinished one made at ingest, by (occurred_at,
revision, arrival), unless a dead one that holds the lane is older. Else, when nothing fresh can run, the oldest of
the earliest replay.

Of a handler that wants the latest only (`webhooks_handlers.latest`) the newest waiting one is the head instead. Once it ran,
`supersede` cancels the older ones that wait, in the transaction that records the run: while the lane is locked no worker has
one of them, since only heads are claimed. Replayed ones supersede only those of the same replay. `postpone` waits a burst out.

Why the lane's row is locked first: an insert that sees an older unfinished delivery, while that one's finisher does not
see the uncommitted insert, would leave a lane without a head for good. Claims never touch the lane's row, so the
order of locks is always lanes (sorted), then deliveries. `settle` also waits for a claim that has a head in its
hands (PostgreSQL: `for update` on the head), and looks again with a new snapshot afterwards.

`rule` says it as SQL for both databases, `postgresql` and `sqlite` have the statements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.store.lanes.postgresql import PostgresqlLanes as PostgresqlLanes
    from webhooks.store.lanes.rule import Lane as Lane
    from webhooks.store.lanes.rule import Lanes as Lanes
    from webhooks.store.lanes.rule import Place as Place
    from webhooks.store.lanes.rule import columns as columns
    from webhooks.store.lanes.sqlite import SqliteLanes as SqliteLanes
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "postgresql": ["PostgresqlLanes"],
            "rule": ["Lane", "Lanes", "Place", "columns"],
            "sqlite": ["SqliteLanes"],
        },
    )
