"""Ask the store for the facts that alarms are judged by: a few bounded statements, none of which walks a table."""

from __future__ import annotations

from collections.abc import Sequence

from webhooks.model import DeliveryClass
from webhooks.operations.alarms.conditions import AlarmFacts, ArrivalFigures, HandlerFigures
from webhooks.operations.engine import engine_trouble
from webhooks.store import AlarmFigures, Store
from webhooks.store.gauges import Standing
from webhooks.store.processes import Process


def collect(store: Store) -> AlarmFacts:
    """How the installation stands now: what is exported as well (`store.gauges`), and what only alarms ask for.

    Raises StorageUnavailable.
    """
    gauges, figures = store.gauges.read(), store.alarms.figures()
    sources = {*gauges.received, *gauges.quarantined, *figures.refused, *figures.unavailable, *gauges.paused}
    at, handlers = store.database.now(), _handlers(gauges, figures)
    return AlarmFacts(
        at=at,
        handlers=handlers,
        sources={
            name: ArrivalFigures(
                gauges.received.get(name),
                figures.refused.get(name, 0),
                figures.unavailable.get(name, 0),
                gauges.quarantined.get(name, 0),
                gauges.paused.get(name, 0),
            )
            for name in sorted(sources)
        },
        partitions_end_at=gauges.partitions_end_at,
        oldest_partition_at=gauges.oldest_partition_at,
        engine=engine_trouble(gauges.processes, at, is_due=any(each.due for each in handlers.values())),
    )


def _handlers(gauges: Standing, figures: AlarmFigures) -> dict[str, HandlerFigures]:
    workers = [process for process in gauges.processes if process.is_worker]
    served = {name for process in workers for name in process.handlers}
    found: dict[str, HandlerFigures] = {}
    for name in sorted({*gauges.deliveries.handlers, *gauges.handlers, *figures.died, *figures.runs}):
        backlog, state = gauges.deliveries.handlers.get(name), gauges.handlers.get(name)
        fresh = gauges.deliveries.queues.get((name, DeliveryClass.FRESH))
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
            is_paused=state is not None and state.is_paused,
            is_held_back=state is not None and state.is_held_back,
            unserved_queue=None if state is None else _unserved(state.queue, workers),
        )
    return found


def _unserved(queue: str, workers: Sequence[Process]) -> str | None:
    """The queue, where workers live and none of them runs it."""
    return queue if workers and not any(worker.serves(queue) for worker in workers) else None


__all__ = ["collect"]
