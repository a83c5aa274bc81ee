"""How many workers a queue needs: a pure function of what `store.gauges` read. Changes nothing, remembers nothing.

A handler asks for as many places as its work fills in the target time: deliveries that are due or run, times the mean of
its runs, by the target. Never for more than it can use: one place a delivery, its `concurrency`, what its `rate` starts.
So a run of ten minutes asks for one place and not for twenty, and a lane of ten thousand for one.

Deliveries of a paused handler ask for nothing, and those of one whose circuit breaker is not closed for no place of
their own; but a worker has to be there to let one of them try.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from webhooks.formats import DEFAULT_QUEUE
from webhooks.store.gauges import HandlerStanding, Standing
from webhooks.store.health import Backlog

#: In this time what waits is to be started, unless the caller says another.
TARGET = timedelta(seconds=30)
#: The mean of a handler's runs until a worker has seen some.
UNKNOWN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """What waits and runs in one queue.

    due: deliveries that could run now, counted to 10,000 for each handler and class.
    running: those that run.
    oldest_due_seconds: for how long the first of those has been due.
    places: how many runs at once would start all of it within the target.
    due_seconds: the same as seconds of work: places × target.
    workers: live ones that run the queue.
    """

    queue: str
    due: int = 0
    running: int = 0
    oldest_due_seconds: float = 0.0
    places: float = 0.0
    due_seconds: float = 0.0
    workers: int = 0

    def wanted(self, concurrency: int) -> int:
        """How many workers it needs that run so many handlers at once; at least one while anything is due or runs."""
        least = 1 if self.due or self.running else 0
        return max(least, math.ceil(round(self.places / concurrency, 6)))


def loads(standing: Standing, queues: Iterable[str] = (), target: timedelta = TARGET) -> dict[str, QueueLoad]:
    """{queue: its load} of every queue that a handler is in, and of `queues`. target: what is due starts within it."""
    handlers: dict[str, list[str]] = {name: [] for name in queues}
    for name in sorted({*standing.handlers, *standing.deliveries.handlers}):
        known = standing.handlers.get(name)
        handlers.setdefault(DEFAULT_QUEUE if known is None else known.queue, []).append(name)
    return {queue: _load(queue, names, standing, target) for queue, names in sorted(handlers.items())}


def _load(queue: str, names: Iterable[str], standing: Standing, target: timedelta) -> QueueLoad:
    due = running = 0
    oldest = places = 0.0
    for name in names:
        backlog = standing.deliveries.handlers.get(name)
        if backlog is None:
            continue
        state = standing.handlers.get(name) or HandlerStanding(is_paused=False, is_held_back=False)
        running += backlog.running
        places += places_for(backlog, state, target)
        if not state.is_paused:
            due += backlog.due
            if backlog.due_since is not None:
                oldest = max(oldest, (standing.deliveries.at - backlog.due_since).total_seconds())
    return QueueLoad(
        queue,
        due,
        running,
        oldest,
        places,
        places * target.total_seconds(),
        sum(process.serves(queue) for process in standing.processes),
    )


def places_for(backlog: Backlog, state: HandlerStanding, target: timedelta) -> float:
    """How many runs of one handler at once would start what is due within the target."""
    is_stopped = state.is_paused or state.is_held_back
    number = backlog.running + (0 if is_stopped else backlog.due)
    mean = UNKNOWN_SECONDS if state.run_seconds is None else state.run_seconds
    useful: list[float] = [number]
    if state.concurrency is not None:
        useful.append(state.concurrency)
    if state.starts_per_second is not None:
        useful.append(max(state.starts_per_second * mean, backlog.running))
    return min(number * mean / target.total_seconds(), *useful)


def document(load: QueueLoad, concurrency: int) -> Mapping[str, object]:
    """What a scaler is answered."""
    return {
        "queue": load.queue,
        "due": load.due,
        "running": load.running,
        "oldest_due_seconds": round(load.oldest_due_seconds, 3),
        "due_seconds": round(load.due_seconds, 3),
        "workers": load.workers,
        "wanted": load.wanted(concurrency),
    }


__all__ = ["TARGET", "UNKNOWN_SECONDS", "QueueLoad", "document", "loads", "places_for"]
