"""Ask the store for the facts that alarms are judged by: a few bounded statements, none of which walks a table."""

from __future__ import annotations

from collections.abc import Mapping

from webhooks.model import DeliveryClass, instant_of
from webhooks.operations.alarms.conditions import AlarmFacts, HandlerFigures, SourceFigures
from webhooks.store import AlarmFigures, Store


def collect(store: Store, paused: Mapping[str, int] | None = None) -> AlarmFacts:
    """How the installation stands now.

    paused: {source: subscriptions that its sender has paused}, as last asked.
    Raises StorageUnavailable.
    """
    figures = store.alarms.figures()
    sources = {*figures.received, *figures.refused, *figures.unavailable, *figures.quarantined, *(paused or {})}
    ends = [each.upper for each in store.partitions.all() or () if each.upper is not None]
    return AlarmFacts(
        at=store.database.now(),
        handlers=_handlers(store, figures),
        sources={
            name: SourceFigures(
                figures.received.get(name),
                figures.refused.get(name, 0),
                figures.unavailable.get(name, 0),
                figures.quarantined.get(name, 0),
                (paused or {}).get(name, 0),
            )
            for name in sorted(sources)
        },
        partitions_end_at=instant_of(max(ends)) if ends else None,
    )


def _handlers(store: Store, figures: AlarmFigures) -> dict[str, HandlerFigures]:
    gauges = store.health.gauges()
    states = store.handlers.states()
    served = {name for process in store.processes.running() if process.kind == "worker" for name in process.handlers}
    found: dict[str, HandlerFigures] = {}
    for name in sorted({*gauges.handlers, *states, *figures.died, *figures.runs}):
        backlog, state = gauges.handlers.get(name), states.get(name)
        fresh = gauges.queues.get((name, DeliveryClass.FRESH))
        died = figures.died.get(name)
        runs, failed = figures.runs.get(name, (0, 0))
        found[name] = HandlerFigures(
            due=backlog.due if backlog is not None else 0,
            fresh_since=fresh.oldest_at if fresh is not None else None,
            has_worker=name in served,
            died=died.count if died is not None else 0,
            example=died.example if died is not None else None,
            error=died.reason if died is not None else None,
            runs=runs,
            failed=failed,
            retrying=backlog.retrying if backlog is not None else 0,
            failing_since=backlog.failing_since if backlog is not None else None,
            lanes=backlog.lanes if backlog is not None else 0,
            is_paused=state is not None and state.paused,
            is_held_back=state is not None and bool(state.breaker),
        )
    return found


__all__ = ["collect"]
