"""What to claim next: one pure decision between what waits and what this process can run.

`plan` is given what a look at the database found (`ClaimBacklog`), how much fits (`buffer.Capacity`), what is known of each
handler (`HandlerTerms`) and the number of the round; its `ClaimPlan` says how much of which handler and class one statement
claims, and which need the statement that also asks for limits. `Worker` looks, plans and executes both.

Not here: the shares of classes and handlers (`scheduling`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from webhooks.delivery.buffer import LARGEST_CLAIM, Capacity
from webhooks.delivery.scheduling import allocate
from webhooks.model import DeliveryClass
from webhooks.store.deliveries import Queue
from webhooks.store.handlers import BreakerState

#: Nothing is due that is known of: look again after this many seconds, or when called.
LONG = 3600.0
#: What was due and could not be claimed is locked by another client, or was claimed by another worker.
LOCKED_PAUSE = 0.05
#: A limited handler whose limit is used up is asked for again after this many seconds, or when its rate allows one more.
LIMITED_PAUSE = 0.2
SHORTEST_PAUSE = 0.01


@dataclass(frozen=True, slots=True)
class HandlerTerms:
    """On which terms deliveries of one handler are claimed.

    is_limited: by its concurrency or rate, over all workers.
    seconds_per_run: what its rate allows; None without a rate.
    """

    wants_session: bool = False
    is_limited: bool = False
    seconds_per_run: float | None = None
    breaker: BreakerState = BreakerState.CLOSED

    @property
    def needs_permission(self) -> bool:
        """Whether a claim has to ask for its limits, or its circuit breaker, under a lock."""
        return self.is_limited or self.breaker is not BreakerState.CLOSED


@dataclass(frozen=True, slots=True)
class ClaimBacklog:
    """What a look found. due: {(handler, class): how many}. next_due: until more is due (None: nothing waits)."""

    due: Mapping[Queue, int]
    next_due: timedelta | None = None


@dataclass(frozen=True, slots=True)
class ClaimPlan:
    """What to claim.

    free: {(handler, class): how many} by one statement.
    limited: the same, by the statement that asks for limits.
    probes: {handler: 1} of those whose circuit breaker lets one delivery try.
    next_look: seconds until it is worth to look again, should nothing of it be claimed.
    """

    free: Mapping[Queue, int] = field(default_factory=dict)
    limited: Mapping[Queue, int] = field(default_factory=dict)
    probes: Mapping[str, int] = field(default_factory=dict)
    next_look: float = LONG


def plan(backlog: ClaimBacklog, capacity: Capacity, terms: Mapping[str, HandlerTerms], round: int) -> ClaimPlan:
    """Decide what to claim of the backlog.

    capacity: how much may be claimed; handlers that it does not name get nothing.
    terms: {handler: its terms} for each handler of the backlog.
    round: counts claims; it moves odd places from one handler and class to the next.
    """
    quotas = _shares(backlog.due, capacity, round)
    quotas = _with_connections(quotas, capacity.session_places, terms, round)
    quotas = _probing(quotas, backlog.due, terms)
    limited = {queue: n for queue, n in quotas.items() if terms[queue[0]].needs_permission}
    free = {queue: n for queue, n in quotas.items() if queue not in limited}
    probes = {name: 1 for name, _ in limited if terms[name].breaker is not BreakerState.CLOSED}
    return ClaimPlan(free, limited, probes, _next_look(backlog, free, limited, terms))


def fresh_of_all(capacity: Capacity, terms: Mapping[str, HandlerTerms]) -> ClaimBacklog:
    """What a call after a quiet time is most likely about: fresh deliveries of any handler that needs no permission."""
    places = {**capacity.slow, **capacity.fast}
    return ClaimBacklog(
        {(name, DeliveryClass.FRESH): n for name, n in places.items() if n > 0 and not terms[name].needs_permission}
    )


def _shares(due: Mapping[Queue, int], capacity: Capacity, round: int) -> dict[Queue, int]:
    quotas: dict[Queue, int] = {}
    for each, places in ((capacity.slow, capacity.slow_places), (capacity.fast, sum(capacity.fast.values()))):
        theirs = {queue: n for queue, n in due.items() if queue[0] in each}
        quotas.update(allocate(theirs, min(LARGEST_CLAIM, places), each, round))
    return quotas


def _with_connections(
    quotas: dict[Queue, int], places: int | None, terms: Mapping[str, HandlerTerms], round: int
) -> dict[Queue, int]:
    """No more with a session than have a connection; another of their queues is first in each round."""
    if places is None:
        return quotas
    queues = sorted(queue for queue in quotas if terms[queue[0]].wants_session)
    first = (round + 1) % max(1, len(queues))
    for queue in queues[first:] + queues[:first]:
        quotas[queue] = min(quotas[queue], places)
        places -= quotas[queue]
    return quotas


def _probing(quotas: dict[Queue, int], due: Mapping[Queue, int], terms: Mapping[str, HandlerTerms]) -> dict[Queue, int]:
    """Of a handler whose circuit breaker is half open, one delivery tries.

    A fresh one tells more than the retry of what may be poisoned.
    """
    for name in {name for name, _ in quotas if terms[name].breaker is BreakerState.HALF_OPEN}:
        quotas = {queue: n for queue, n in quotas.items() if queue[0] != name}
        quotas[name, min(kind for other, kind in due if other == name)] = 1
    return quotas


def _next_look(
    backlog: ClaimBacklog, free: Mapping[Queue, int], limited: Mapping[Queue, int], terms: Mapping[str, HandlerTerms]
) -> float:
    pauses = [LONG if backlog.next_due is None else max(SHORTEST_PAUSE, backlog.next_due.total_seconds())]
    if limited:
        rates = [terms[name].seconds_per_run for name, _ in limited]
        pauses.append(max(SHORTEST_PAUSE, min([LIMITED_PAUSE, *(rate for rate in rates if rate is not None)])))
    if free:
        pauses.append(LOCKED_PAUSE)
    return min(pauses)
