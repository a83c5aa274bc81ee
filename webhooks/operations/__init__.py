"""What an operator asks for, as functions: the command line prints what they answer, a page or Python can call them.

Promises: whatever changes rows is planned first, counted, and safe to run twice. Not here: words and tables for a
terminal (`cli`), SQL (`store`), running handlers in production (`delivery`, which knows nothing of this package).

To look: `events`, `handlers`, `sources` gather what is known, `vectors` tries a source, `registrations` lets a sender register, `explain` says why a handler ran or not, `records` makes
JSON of it all and `words` sentences. To change: `replay` makes new deliveries (`detached` in a worker), `rehearsal` lists what would run in
a replay, `requeue` runs the same ones again, `cancel` ends them unrun, `quarantine` releases what could not
be read, `handlers` pauses and resumes, each for an `Actor` and each on record (`actions`, where what many deliveries need is
carried out in steps, shown before and taken back). `catch_up` reads a sender's log, `subscriptions` keeps what a
sender sends, `histories` upgrades tables, `doctor` says what is wrong, `examinations` keep
that for pages, `not_loaded` is what a save of `webhooks dev` left undone, `figures` keeps charts in order, `quiesce` makes a copy harmless, `worker_health` is asked by whatever watches containers. Modules whose functions have short names (`events`,
`explain`, `handlers`, `histories`, `quarantine`, `records`, `registrations`, `sources`, `trigger`, `vectors`, `words`) are imported as modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.operations.actions import ActivityLog as ActivityLog
    from webhooks.operations.actions import Journal as Journal
    from webhooks.operations.actions import Preview as Preview
    from webhooks.operations.actions import Verb as Verb
    from webhooks.operations.actor import Actor as Actor
    from webhooks.operations.actor import Via as Via
    from webhooks.operations.by_hand import WrongState as WrongState
    from webhooks.operations.cancel import Canceller as Canceller
    from webhooks.operations.catch_up import CatchUp as CatchUp
    from webhooks.operations.catch_up import CatchUpDuty as CatchUpDuty
    from webhooks.operations.catch_up import Report as Report
    from webhooks.operations.catch_up import caught_up as caught_up
    from webhooks.operations.detached import DetachedReplays as DetachedReplays
    from webhooks.operations.doctor import Doctor as Doctor
    from webhooks.operations.doctor import Finding as Finding
    from webhooks.operations.doctor import Level as Level
    from webhooks.operations.doctor import diagnose as diagnose
    from webhooks.operations.examinations import DoctorDuty as DoctorDuty
    from webhooks.operations.figures import FigureKeeper as FigureKeeper
    from webhooks.operations.figures import FiguresDuty as FiguresDuty
    from webhooks.operations.handler_names import FormerNames as FormerNames
    from webhooks.operations.handler_names import former_names as former_names
    from webhooks.operations.handler_names import take_over as take_over
    from webhooks.operations.rehearsal import ReplayRehearsal as ReplayRehearsal
    from webhooks.operations.replay import Options as Options
    from webhooks.operations.replay import Order as Order
    from webhooks.operations.replay import Plan as Plan
    from webhooks.operations.replay import Progress as Progress
    from webhooks.operations.replay import Replayer as Replayer
    from webhooks.operations.replay import ReplayError as ReplayError
    from webhooks.operations.replay import parse_rate as parse_rate
    from webhooks.operations.requeue import REQUEUEABLE as REQUEUEABLE
    from webhooks.operations.requeue import Requeued as Requeued
    from webhooks.operations.requeue import Requeuer as Requeuer
    from webhooks.operations.requeue import waits as waits
    from webhooks.operations.subscriptions import SubscriptionChange as SubscriptionChange
    from webhooks.operations.subscriptions import Subscriptions as Subscriptions
    from webhooks.operations.subscriptions import Wanted as Wanted
    from webhooks.operations.subscriptions import subscriptions_of_this_endpoint as subscriptions_of_this_endpoint
    from webhooks.operations.subscriptions import wanted_types as wanted_types
    from webhooks.operations.worker_health import examine_worker as examine_worker
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "actions": ["ActivityLog", "Journal", "Preview", "Verb"],
            "actor": ["Actor", "Via"],
            "by_hand": ["WrongState"],
            "cancel": ["Canceller"],
            "catch_up": ["CatchUp", "CatchUpDuty", "Report", "caught_up"],
            "detached": ["DetachedReplays"],
            "handler_names": ["FormerNames", "former_names", "take_over"],
            "doctor": ["Doctor", "Finding", "Level", "diagnose"],
            "examinations": ["DoctorDuty"],
            "figures": ["FigureKeeper", "FiguresDuty"],
            "rehearsal": ["ReplayRehearsal"],
            "replay": ["Options", "Order", "Plan", "Progress", "ReplayError", "Replayer", "parse_rate"],
            "requeue": ["REQUEUEABLE", "Requeued", "Requeuer", "waits"],
            "subscriptions": [
                "SubscriptionChange",
                "Subscriptions",
                "Wanted",
                "subscriptions_of_this_endpoint",
                "wanted_types",
            ],
            "worker_health": ["examine_worker"],
        },
    )
