"""The figures of the installation as samples of `table.DATABASE`.

A pure function of what `store.gauges` read. Label values have closed sets here, too: sources are the configured ones,
and handlers beyond the limit are "other", with the sum of theirs, or the largest where a sum says nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from webhooks.http.metrics.table import CLASSES, OTHER
from webhooks.operations import engine, scaling
from webhooks.operations.alarms import AlarmBounds, held_for

if TYPE_CHECKING:
    from webhooks.http.metrics.exposition import Figure
    from webhooks.store.gauges import Standing

#: Where handlers share a label, these are the largest of theirs; all else is their sum.
_LARGEST = frozenset(("oldest_due", "failing", "paused", "circuit_open", "max_wait", "handler_workers"))


def as_samples(
    standing: Standing,
    sources: Collection[str],
    *,
    limit: int,
    bounds: AlarmBounds | None = None,
) -> Iterator[Figure]:
    """The samples of one look at the database.

    standing: what was read.
    sources: names of the configured ones; others are left out.
    limit: handlers with series of their own, by name (setting `metrics_handlers`).
    bounds: what the settings and handlers say of silence, waits and retention.
    """
    bounds = bounds or AlarmBounds()
    names = sorted({*standing.handlers, *standing.deliveries.handlers})
    yield from _merged(_of_handlers(standing, names, bounds), set(names[:limit]))
    for version, number in sorted(Counter(each.version for each in standing.processes if each.is_worker).items()):
        yield "workers", (version,), float(number)
    for load in scaling.loads(standing).values():
        yield "due_seconds", (load.queue,), load.due_seconds
        yield "queue_workers", (load.queue,), float(load.workers)
    if (silence := engine.silence_of(standing.processes, standing.deliveries.at)) is not None:
        yield "engine_age", (), silence.total_seconds()
    for source in sorted(sources):
        if (received := standing.received.get(source)) is not None:
            yield "last_received", (source,), received.timestamp()
        if (mark := standing.marks.get(source)) is not None:
            yield "catch_up_mark", (source,), mark.timestamp()
        yield "quarantine", (source,), float(standing.quarantined.get(source, 0))
        yield "unexplained", (source,), float(standing.unexplained.get(source, 0))
        if (expected := bounds.expect_within.get(source)) is not None:
            yield "expect_within", (source,), expected.total_seconds()
        if (paused := standing.paused.get(source)) is not None:
            yield "subscriptions_unhealthy", (source,), float(paused)
    held = held_for(standing.oldest_partition_at, standing.deliveries.at, bounds.retention)
    if held is not None:
        yield "partition_held", (), max(0.0, held.total_seconds())
    if standing.partitions_end_at is not None:
        yield "partition_ahead", (), (standing.partitions_end_at - standing.deliveries.at).total_seconds()
    for table, size in sorted(standing.table_bytes.items()):
        yield "table_bytes", (table,), float(size)


def _of_handlers(standing: Standing, names: Collection[str], bounds: AlarmBounds) -> Iterator[Figure]:
    at = standing.deliveries.at
    for (name, kind), queue in standing.deliveries.queues.items():
        yield "due", (name, CLASSES[kind]), float(queue.due)
        since = timedelta(0) if queue.oldest_at is None else at - queue.oldest_at
        yield "oldest_due", (name, CLASSES[kind]), max(0.0, since.total_seconds())
    workers = Counter(name for each in standing.processes if each.is_worker for name in each.handlers)
    for name in names:
        backlog = standing.deliveries.handlers.get(name)
        known = standing.handlers.get(name)
        failing_since = None if backlog is None else backlog.failing_since
        yield "scheduled", (name,), float(0 if backlog is None else backlog.scheduled)
        yield "running", (name,), float(0 if backlog is None else backlog.running)
        yield "dead", (name,), float(0 if backlog is None else backlog.dead)
        yield "failing", (name,), 0.0 if failing_since is None else max(0.0, (at - failing_since).total_seconds())
        yield "lanes_blocked", (name,), float(0 if backlog is None else backlog.lanes)
        yield "paused", (name,), float(known is not None and known.is_paused)
        yield "circuit_open", (name,), float(known is not None and known.is_held_back)
        if (longest := bounds.max_waits.get(name)) is not None:
            yield "max_wait", (name,), longest.total_seconds()
        yield "handler_workers", (name,), float(workers[name])


def _merged(samples: Iterator[Figure], own: Collection[str]) -> Iterator[Figure]:
    """The samples, those of handlers that are not in `own` put together."""
    found: dict[tuple[str, tuple[str, ...]], float] = {}
    for part, (name, *rest), value in samples:
        key = part, (name if name in own else OTHER, *rest)
        before = found.get(key)
        if before is None:
            found[key] = value
        else:
            found[key] = max(before, value) if part in _LARGEST else before + value
    for (part, values), value in found.items():
        yield part, values, value


__all__ = ["as_samples"]
