"""The only SQL: what is kept, a module per noun.

`Store` holds the parts; it is made once, in `app`. A method is one transaction unless its docstring says otherwise, is
safe to run twice, and raises `StorageUnavailable` when the database cannot be reached.

An event meets `intake` (with `lanes`), then its deliveries meet `deliveries`, and its age `retention`. Beside the
road: `events` reads back, `listings` shows, `conditions` makes SQL of a selection, `replays`, `quarantine`,
`rejections`, `handlers`, `processes`, `positions` keep what their names say, `health` and `gauges` ask for figures,
`tallies` count over time, `snapshots` keep what was found last, `alarms` what was told to whom, `actions` what people did,
`scratch` is where nothing lasts.

Both databases: a statement that is said alike takes its words from `dialect`; where it is not, a package has a module
`postgresql` and a module `sqlite` beside the one that calls them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.store.actions import Action as Action
    from webhooks.store.actions import ActionState as ActionState
    from webhooks.store.actions import ActionStep as ActionStep
    from webhooks.store.actions import AlreadyConfirmed as AlreadyConfirmed
    from webhooks.store.actions import Overtaken as Overtaken
    from webhooks.store.actions import draft as draft
    from webhooks.store.alarms import EVERY as EVERY
    from webhooks.store.alarms import AlarmFigures as AlarmFigures
    from webhooks.store.alarms import AlarmRow as AlarmRow
    from webhooks.store.alarms import TargetState as TargetState
    from webhooks.store.alarms import Told as Told
    from webhooks.store.deliveries import OUTCOMES as OUTCOMES
    from webhooks.store.deliveries import SLOW as SLOW
    from webhooks.store.deliveries import Claimed as Claimed
    from webhooks.store.deliveries import Finished as Finished
    from webhooks.store.deliveries import FinishRow as FinishRow
    from webhooks.store.deliveries import Queue as Queue
    from webhooks.store.deliveries import idempotency_key as idempotency_key
    from webhooks.store.durability import Doubt as Doubt
    from webhooks.store.handlers import BREAKER_LONGEST as BREAKER_LONGEST
    from webhooks.store.handlers import BreakerState as BreakerState
    from webhooks.store.handlers import HandlerRow as HandlerRow
    from webhooks.store.handlers import HandlerState as HandlerState
    from webhooks.store.health import Backlog as Backlog
    from webhooks.store.health import Missed as Missed
    from webhooks.store.health import TypeActivity as TypeActivity
    from webhooks.store.intake import ORIGINS as ORIGINS
    from webhooks.store.intake import Item as Item
    from webhooks.store.intake import Routed as Routed
    from webhooks.store.intake import with_new_ids as with_new_ids
    from webhooks.store.listings import BlockedLane as BlockedLane
    from webhooks.store.listings import Cursor as Cursor
    from webhooks.store.listings import DeliverySummary as DeliverySummary
    from webhooks.store.listings import EventSummary as EventSummary
    from webhooks.store.listings import FailureGroup as FailureGroup
    from webhooks.store.listings import HandlerStats as HandlerStats
    from webhooks.store.listings import Page as Page
    from webhooks.store.listings import SourceStats as SourceStats
    from webhooks.store.listings import Stats as Stats
    from webhooks.store.positions import KnownRevision as KnownRevision
    from webhooks.store.positions import LogPosition as LogPosition
    from webhooks.store.processes import ENGINE as ENGINE
    from webhooks.store.processes import JUMP as JUMP
    from webhooks.store.processes import MAINTENANCE as MAINTENANCE
    from webhooks.store.processes import Process as Process
    from webhooks.store.quarantine import Quarantined as Quarantined
    from webhooks.store.rejections import QUARANTINED as QUARANTINED
    from webhooks.store.rejections import ROWS_PER_KIND as ROWS_PER_KIND
    from webhooks.store.rejections import Rejection as Rejection
    from webhooks.store.replays import Planned as Planned
    from webhooks.store.replays import Replay as Replay
    from webhooks.store.replays import ReplayState as ReplayState
    from webhooks.store.retention.partitions import Changes as Changes
    from webhooks.store.retention.partitions import Partition as Partition
    from webhooks.store.retention.partitions import PartitionError as PartitionError
    from webhooks.store.retention.partitions import Partitions as Partitions
    from webhooks.store.retention.partitions import Period as Period
    from webhooks.store.retention.partitions import Problem as Problem
    from webhooks.store.retention.partitions import Trouble as Trouble
    from webhooks.store.store import Store as Store
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "actions": ["Action", "ActionState", "ActionStep", "AlreadyConfirmed", "Overtaken", "draft"],
            "alarms": ["EVERY", "AlarmFigures", "AlarmRow", "TargetState", "Told"],
            "deliveries": ["Claimed", "FinishRow", "Finished", "OUTCOMES", "Queue", "SLOW", "idempotency_key"],
            "durability": ["Doubt"],
            "handlers": ["BREAKER_LONGEST", "BreakerState", "HandlerRow", "HandlerState"],
            "health": ["Backlog", "Missed", "TypeActivity"],
            "intake": ["Item", "ORIGINS", "Routed", "with_new_ids"],
            "listings": [
                "BlockedLane",
                "DeliverySummary",
                "EventSummary",
                "FailureGroup",
                "HandlerStats",
                "Page",
                "Cursor",
                "SourceStats",
                "Stats",
            ],
            "positions": ["KnownRevision", "LogPosition"],
            "processes": ["ENGINE", "JUMP", "MAINTENANCE", "Process"],
            "quarantine": ["Quarantined"],
            "rejections": ["QUARANTINED", "ROWS_PER_KIND", "Rejection"],
            "replays": ["Planned", "Replay", "ReplayState"],
            "retention.partitions": [
                "Changes",
                "Partition",
                "PartitionError",
                "Partitions",
                "Period",
                "Problem",
                "Trouble",
            ],
            "store": ["Store"],
        },
    )
