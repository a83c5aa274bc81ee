"""Out: from a due delivery to a recorded attempt.

Promises: an attempt is on record before it runs; its outcome is recorded once, by the process that holds its token; a
handler that hangs or dies harms its own attempt alone. Not here: which handler is meant (`routing`), its transaction
(`session`), SQL (`store.deliveries`).

A delivery is claimed by `worker`: `claiming` plans how much, with the shares of `scheduling` and what `breaker` knows. It is
in hand as an `attempt`, waits in `buffer`, and a thread of `runner` gives it to `dispatcher` (resolve, filter, run, decide,
announce), or to a process of its own by `isolation`. Of a handler without effects outside its session a thread takes what waits
(`groups`, as many as `sizes` says) and runs it in one transaction (`together`); one with `batch=` takes it by one call (`batch`).
Meanwhile `leases` keeps it, and `supervisor` ends it when its time is
up. `outcomes` says what becomes of it, `recording` writes that down, `announcements` tells it. `draining` is the stop.
`rescue` finds deliveries whose worker is gone, and `pruning` deletes what is old. `rehearsal` runs handlers without trace, and `witness` sees whether they keep to their session.

`Runner` is all of it but the claims: what another engine gives deliveries that it claimed itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.delivery.attempt import RunningAttempt as RunningAttempt
    from webhooks.delivery.batch import run_batch as run_batch
    from webhooks.delivery.breaker import CircuitBreaker as CircuitBreaker
    from webhooks.delivery.claiming import HandlerTerms as HandlerTerms
    from webhooks.delivery.dispatcher import Dispatcher as Dispatcher
    from webhooks.delivery.isolation import IsolatedPool as IsolatedPool
    from webhooks.delivery.pruning import Pruned as Pruned
    from webhooks.delivery.pruning import Retention as Retention
    from webhooks.delivery.pruning import prune as prune
    from webhooks.delivery.rehearsal import Rehearsal as Rehearsal
    from webhooks.delivery.rehearsal import Rehearser as Rehearser
    from webhooks.delivery.rescue import Maintenance as Maintenance
    from webhooks.delivery.runner import Runner as Runner
    from webhooks.delivery.runner import RunnerSettings as RunnerSettings
    from webhooks.delivery.together import GroupOutcome as GroupOutcome
    from webhooks.delivery.together import run_together as run_together
    from webhooks.delivery.worker import REPLACE as REPLACE
    from webhooks.delivery.worker import STOPPED as STOPPED
    from webhooks.delivery.worker import Worker as Worker
    from webhooks.delivery.worker import WorkerSettings as WorkerSettings
    from webhooks.delivery.worker import handler_rows as handler_rows
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "attempt": ["RunningAttempt"],
            "batch": ["run_batch"],
            "breaker": ["CircuitBreaker"],
            "claiming": ["HandlerTerms"],
            "dispatcher": ["Dispatcher"],
            "isolation": ["IsolatedPool"],
            "pruning": ["Pruned", "Retention", "prune"],
            "rehearsal": ["Rehearsal", "Rehearser"],
            "rescue": ["Maintenance"],
            "runner": ["Runner", "RunnerSettings"],
            "together": ["GroupOutcome", "run_together"],
            "worker": ["REPLACE", "STOPPED", "Worker", "WorkerSettings", "handler_rows"],
        },
    )
