"""What may be wrong with handlers, and with the processes that run them. Pure."""

from __future__ import annotations

from datetime import timedelta

from webhooks.formats import counted, shown_instant, span
from webhooks.operations.doctor.facts import Facts, HandlerFacts, MissedFacts, QueueFacts
from webhooks.operations.doctor.findings import Complaint, Level
from webhooks.operations.engine import engine_trouble
from webhooks.store.handlers import BreakerState

#: A pending delivery older than this, with no worker in sight, is waiting for one.
WAITS_FOR_WORKER = timedelta(minutes=1)
#: A handler that failed so often, and succeeded with nothing since, is reported although everything is retried.
LEAST_FAILURES = 3


def events_without_delivery(facts: MissedFacts) -> Complaint | None:
    """Events that older code accepted without a delivery for a handler."""
    handler, missed = facts.handler, facts.missed
    why = "it never ran here before" if handler.is_new else "older code accepted them, or the handler wants more now"
    first = shown_instant(missed.first_at)
    return Complaint(
        Level.NOTE if handler.is_new else Level.WARNING,
        handler.name,
        f"for handler {handler.name!r} there are {counted(missed.count, 'event')} of {facts.source} from {first} on without "
        f"a delivery: {why}",
        f"webhooks replay --handler {handler.name} --source {facts.source} --since {first} "
        f"--until {shown_instant(missed.last_at + timedelta(seconds=1))}",
    )


def orphaned_deliveries(handler: HandlerFacts) -> Complaint | None:
    """Deliveries of a handler that no process has."""
    backlog = handler.backlog
    unfinished = backlog.pending + backlog.running
    if not unfinished or handler.is_registered or handler.is_running:
        return None
    return Complaint(
        Level.WARNING,
        handler.name,
        f"handler {handler.name!r}, which neither this directory nor any running process has, has "
        f"{counted(unfinished, 'delivery', is_more=backlog.is_more)} waiting: bring it back under that name, or cancel them",
        f"webhooks deliveries cancel --handler {handler.name} --dry-run",
        held=unfinished,
    )


def lane_blocked(handler: HandlerFacts) -> Complaint | None:
    """A dead delivery holds those of its ordering key."""
    backlog = handler.backlog
    if not backlog.lanes:
        return None
    waiting = f"with {counted(backlog.held, 'delivery')} waiting there" if backlog.held else "none waits there yet"
    return Complaint(
        Level.ERROR,
        handler.name,
        f"handler {handler.name!r} has {counted(backlog.lanes, 'lane')} stuck behind a dead delivery, {waiting}",
        f"webhooks requeue --handler {handler.name} --state dead",
        held=backlog.held,
    )


def dead_deliveries(handler: HandlerFacts) -> Complaint | None:
    """Their attempts are used up; said of a handler of which `lane_blocked` says nothing."""
    backlog = handler.backlog
    if not backlog.dead or backlog.lanes:
        return None
    return Complaint(
        Level.WARNING,
        handler.name,
        f"handler {handler.name!r} has {counted(backlog.dead, 'dead delivery', is_more=backlog.is_more)}: their attempts are used up",
        f"webhooks deliveries list --handler {handler.name} --state dead --group",
        held=backlog.dead,
    )


def handler_failing(handler: HandlerFacts) -> Complaint | None:
    """It succeeds with nothing; said of a handler of which `breaker_open` says nothing."""
    backlog = handler.backlog
    if backlog.failing_since is None or backlog.failures < LEAST_FAILURES or _is_open(handler):
        return None
    return Complaint(
        Level.WARNING,
        handler.name,
        f"handler {handler.name!r} has succeeded with nothing since {shown_instant(backlog.failing_since)}: "
        f"{counted(backlog.retrying, 'delivery', is_more=backlog.is_more)} failed {counted(backlog.failures, 'time')} and "
        f"{'waits' if backlog.retrying == 1 else 'wait'} for a retry; once it is mended: webhooks requeue --handler "
        f"{handler.name} --state pending",
        f"webhooks deliveries list --handler {handler.name} --state pending --group",
        held=backlog.retrying,
    )


def handler_paused(handler: HandlerFacts) -> Complaint | None:
    """An operator paused it."""
    if handler.state is None or not handler.state.paused:
        return None
    return Complaint(
        Level.WARNING,
        handler.name,
        f"handler {handler.name!r} was paused by {handler.state.paused_by}, with "
        f"{counted(handler.backlog.pending, 'delivery', is_more=handler.backlog.is_more)} waiting",
        f"webhooks handlers resume {handler.name}",
        held=handler.backlog.pending,
    )


def breaker_open(handler: HandlerFacts) -> Complaint | None:
    """Its circuit breaker holds it; said of a handler that is not paused."""
    if handler.state is None or handler.state.paused or not _is_open(handler):
        return None
    return Complaint(
        Level.WARNING,
        handler.name,
        f"the circuit breaker of handler {handler.name!r} is open after {handler.state.breaker_failures} failures in a row, "
        f"with {counted(handler.backlog.pending, 'delivery', is_more=handler.backlog.is_more)} waiting",
        f"webhooks deliveries list --handler {handler.name} --group",
        held=handler.backlog.pending,
    )


def _is_open(handler: HandlerFacts) -> bool:
    return handler.state is not None and handler.state.breaker is BreakerState.OPEN


def engine_silent(facts: Facts) -> Complaint | None:
    """Celery, where it runs deliveries, runs none."""
    is_due = any(handler.backlog.due for handler in facts.handlers)
    trouble = engine_trouble(facts.processes, facts.now, is_due=is_due)
    return None if trouble is None else Complaint(Level.ERROR, "engine", trouble.text, "webhooks worker")


def queue_without_worker(queue: QueueFacts) -> Complaint | None:
    """Deliveries wait, workers run, and none of them runs this queue."""
    waiting = [backlog for backlog in queue.backlogs if backlog.due]
    since = min((backlog.due_since for backlog in waiting if backlog.due_since is not None), default=None)
    if since is None or queue.now - since < WAITS_FOR_WORKER:
        return None
    count = sum(backlog.due for backlog in waiting)
    return Complaint(
        Level.ERROR,
        queue.name,
        f"no worker runs the queue {queue.name!r}, with {counted(count, 'delivery', is_more=any(each.is_more for each in waiting))} "
        f"of {counted(len(waiting), 'handler')} due, the oldest for {span(queue.now - since)}",
        f"webhooks worker --queues {queue.name}",
        held=count,
    )


def no_worker(facts: Facts) -> Complaint | None:
    """Deliveries wait, and no worker runs."""
    waiting = [
        handler.backlog
        for handler in facts.handlers
        if handler.backlog.pending and (handler.state is None or not handler.state.paused)
    ]
    # what is scheduled for later does not wait for a worker
    since = [backlog.due_since if backlog.due or backlog.scheduled else backlog.eldest_at for backlog in waiting]
    oldest = min((at for at in since if at is not None), default=None)
    if oldest is None or facts.now - oldest < WAITS_FOR_WORKER:
        return None
    if any(process.is_worker for process in facts.processes):
        return None
    count = sum(backlog.pending for backlog in waiting)
    is_more = any(backlog.is_more for backlog in waiting)
    return Complaint(
        Level.ERROR,
        "worker",
        f"no worker runs, with {counted(count, 'delivery', is_more=is_more)} waiting, the oldest for {span(facts.now - oldest)}",
        "webhooks worker",
        held=count,
    )
