"""Drain: claim what is due as a worker does, run it in this thread, record it, until nothing is due.

One delivery a claim (of a handler with `batch=` as many as are due and fit), by the worker's own statements: lanes hold, paused handlers wait, and fresh deliveries, retries and
replays share as `scheduling` says. Time-outs, limits of concurrency and rate, and circuit breakers belong to a worker's
threads, and have no say here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from webhooks.delivery import CircuitBreaker, Dispatcher, RunningAttempt, run_batch
from webhooks.delivery.announcements import Announcements, Silent
from webhooks.delivery.scheduling import allocate
from webhooks.delivery.together import GroupOutcome, run_together
from webhooks.errors import NotFound
from webhooks.formats import did_you_mean, show_duration
from webhooks.model import AttemptOutcome, DeliveryState, Event
from webhooks.routing import Handler, Verdict
from webhooks.store.deliveries import Claimed, Finished
from webhooks.testing.records import Run, StillBusy

if TYPE_CHECKING:
    from webhooks.app import Webhooks

#: By which the database knows who runs deliveries here.
WORKER = "webhooks.testing"
#: Of each queue so many are counted: whether there is one is all that matters.
COUNTED = 1


class Drainer:
    """Runs the due deliveries of one consumer. sessions: where handlers get theirs."""

    def __init__(self, webhooks: Webhooks) -> None:
        self._webhooks = webhooks
        self._told = _Told()
        self._told.tally = webhooks.tally
        dispatcher = webhooks.dispatcher
        self._dispatcher: Dispatcher = dispatcher.with_sessions(dispatcher.sessions, self._told)
        self._handlers: dict[str, Handler] = {handler.name: handler for handler in webhooks.registry.handlers()}
        self._paused = CircuitBreaker(webhooks.store, self._handlers)
        self._round = 0

    def drain(
        self,
        handlers: Collection[str] | None,
        limit: int,
        *,
        raises: bool,
        twice: bool = False,
        together: bool = False,
    ) -> list[Run]:
        """Run what is due, and what becomes due by it.

        handlers: names; only theirs. None: all.
        limit: of runs.
        raises: raise what a handler raised, once that is recorded; what was not run stays due.
        twice: what succeeded without a session runs a second time, as after a worker that died before it recorded it.
        together: deliveries of a handler without effects outside its session run in one transaction, as many as a worker puts
            together at most.

        Raises `StillBusy` over the limit, and `NotFound` for a handler that there is not.
        """
        names = self.require(handlers)
        runs: list[Run] = []
        while (claimed := self._claim(names)) is not None:
            if len(runs) >= limit:
                self._webhooks.store.deliveries.release([claimed.delivery])
                raise StillBusy(_busy(runs, limit))
            now = self._run_with_those_due(claimed, limit - len(runs), twice=twice, together=together)
            runs += now
            for run in now:
                if raises and run.error is not None and run.outcome == AttemptOutcome.FAILED:
                    raise _noted(run)
        return runs

    def require(self, handlers: Collection[str] | None) -> list[str]:
        """The names, or all. Raises `NotFound` for one that there is not."""
        for name in handlers or ():
            if name not in self._handlers:
                known = ", ".join(self._handlers) or "none"
                raise NotFound(f"no handler named {name!r}{did_you_mean(name, self._handlers)}; there are: {known}")
        return list(self._handlers if handlers is None else handlers)

    def _claim(self, names: Collection[str]) -> Claimed | None:
        """The delivery that a worker with one free thread would claim next."""
        self._paused.read(0)
        open_to_claims = [name for name in names if not self._paused.is_closed_to(name)]
        deliveries = self._webhooks.store.deliveries
        backlog, _ = deliveries.waiting(open_to_claims, COUNTED)
        quotas = allocate(backlog, 1, dict.fromkeys(open_to_claims, 1), self._round)
        self._round += 1
        claimed = deliveries.claim(quotas, lease=self._webhooks.settings.lease, worker=WORKER)
        return claimed[0] if claimed else None

    def _run_with_those_due(self, claimed: Claimed, most: int, *, twice: bool, together: bool) -> list[Run]:
        """Run one claimed delivery; with what else is due of its handler, up to `most`, where those may run as one.

        By one call with `batch=`; in one transaction where `together` asks for it and the handler has no other effects.
        """
        handler = self._handlers[claimed.delivery.handler]
        size = handler.batch or (handler.together if together else 1)
        more: Sequence[Claimed] = ()
        if (room := min(size, most) - 1) > 0 and not claimed.delivery.alone:
            quotas = allocate(
                self._webhooks.store.deliveries.waiting([handler.name], room)[0], room, {handler.name: room}
            )
            more = self._webhooks.store.deliveries.claim(quotas, lease=self._webhooks.settings.lease, worker=WORKER)
        if not more:
            return [self.run(claimed, twice=twice)]
        return self._run_batch([claimed, *more]) if handler.batch is not None else self._run_group([claimed, *more])

    def _run_batch(self, claimed: Sequence[Claimed]) -> list[Run]:
        """Run several by one call, and in halves what nothing came of, as a worker does."""
        if len(claimed) == 1:
            return [self.run(claimed[0])]
        attempts = {RunningAttempt(one, self._handlers[one.delivery.handler]): one for one in claimed}
        self._told.begin()
        ran = run_batch(self._dispatcher, list(attempts))
        self._told.begin()
        runs: list[Run] = []
        for attempt, finished in [*ran.committed.items(), *ran.ended.items()]:
            attempt.end()
            if attempt.committed or self._webhooks.store.deliveries.finish([finished]):
                self._told.recorded(finished)
            runs.append(self._run_of(attempts[attempt], finished))
        runs += [self.run(attempts[attempt]) for attempt in ran.alone]
        left = [attempts[attempt] for attempt in ran.left]
        halves = left[: len(left) // 2], left[len(left) // 2 :]
        return runs + [run for half in halves if half for run in self._run_batch(half)]

    def run(self, claimed: Claimed, *, twice: bool = False) -> Run:
        """Run one claimed delivery and record what came of it. twice: see `drain`."""
        attempt, finished = self._attempt(claimed)
        succeeded = finished is not None and finished.verdict.state is DeliveryState.SUCCEEDED
        if twice and succeeded and not attempt.committed:
            attempt, finished = self._attempt(claimed)
        if finished is not None and not attempt.committed:
            if self._webhooks.store.deliveries.finish([finished]):
                self._told.recorded(finished)
            else:
                finished = None
        return self._run_of(claimed, finished)

    def _run_group(self, group: Sequence[Claimed]) -> list[Run]:
        """Run deliveries of one handler in one transaction; alone, one after the other, where they do not commit together."""
        attempts = [RunningAttempt(claimed, self._handlers[claimed.delivery.handler]) for claimed in group]
        attempts[0].begin()
        try:
            ran = run_together(self._dispatcher, attempts)
        finally:
            for attempt in attempts:
                attempt.end()
        return [self._run_of_group(claimed, attempt, ran) for claimed, attempt in zip(group, attempts, strict=True)]

    def _run_of_group(self, claimed: Claimed, attempt: RunningAttempt, ran: GroupOutcome) -> Run:
        """What became of one, which is told and recorded where its transaction did not; or its run alone."""
        finished = ran.committed.get(attempt) or ran.ended.get(attempt)
        if finished is None and attempt not in ran.lost:
            return self.run(claimed)
        self._told.begin()
        if finished is not None:
            if (event := ran.events.get(attempt)) is not None:
                self._told.started(claimed.delivery, event)
            if attempt in ran.committed or self._webhooks.store.deliveries.finish([finished]):
                self._told.recorded(finished)
            else:
                finished = None
        return self._run_of(claimed, finished)

    def _attempt(self, claimed: Claimed) -> tuple[RunningAttempt, Finished | None]:
        attempt = RunningAttempt(claimed, self._handlers[claimed.delivery.handler])
        self._told.begin()
        try:
            return attempt, self._dispatcher.run(attempt)
        finally:
            attempt.end()

    def run_and_die(self, name: str) -> Run:
        """Run the next due delivery of a handler and record nothing. Raises LookupError where none is due."""
        claimed = self._claim([name])
        if claimed is None:
            raise LookupError(f"no delivery of handler {name!r} is due")
        silent = self._dispatcher.with_sessions(self._dispatcher.sessions, Silent())
        attempt = RunningAttempt(claimed, self._handlers[name])
        try:
            silent.run(attempt)
        finally:
            attempt.end()
        delivery = claimed.delivery
        return Run(
            name, claimed.event, "lost", "running", "its worker died", None, delivery.number, delivery_id=delivery.id
        )

    def _run_of(self, claimed: Claimed, finished: Finished | None) -> Run:
        delivery, event, error = claimed.delivery, self._told.event or claimed.event, self._told.error
        if finished is None:
            return Run(delivery.handler, event, "lost", "running", "its lease was lost while it ran", error)
        verdict = finished.verdict
        was_filtered = verdict.outcome is AttemptOutcome.CANCELLED and not finished.ran
        return Run(
            delivery.handler,
            event,
            "filtered" if was_filtered else verdict.outcome.value,
            verdict.state.label,
            verdict.reason,
            error,
            delivery.number,
            verdict.wait if verdict.state is DeliveryState.PENDING else None,
            finished.took,
            delivery.id,
        )


class _Told(Announcements):
    """Tells what a worker tells, and keeps what the last handler got and raised."""

    error: BaseException | None = None
    event: Event | None = None

    def begin(self) -> None:
        """Another run begins."""
        self.error = self.event = None

    def started(self, delivery: Any, event: Event) -> None:
        """Keep the event."""
        self.event = event
        super().started(delivery, event)

    def raised(self, attempt: RunningAttempt, event: Event, exception: BaseException, verdict: Verdict) -> None:
        """Keep what it raised."""
        self.error = exception
        super().raised(attempt, event, exception, verdict)


def _noted(run: Run) -> BaseException:
    """What a handler raised, with a line on whose it was and what becomes of it."""
    assert run.error is not None
    if run.state == DeliveryState.DEAD.label:
        then = "the delivery is dead"
    else:
        then = f"it is due again in {show_duration(run.due_in)}" if run.due_in is not None else run.state
    run.error.add_note(
        f"raised by handler {run.handler!r} in attempt {run.attempt}, which is recorded; {then}; "
        "drain(raises=False) gives the run back instead"
    )
    return run.error


def _busy(runs: Collection[Run], limit: int) -> str:
    counts = Counter((run.handler, run.event.type if run.event is not None else "?") for run in runs)
    lines = [f"  {number} × {handler} for {type}" for (handler, type), number in counts.most_common(5)]
    return "\n".join(
        [
            f"{limit} deliveries were run and more are due; a handler makes events that it gets itself, or one that is due "
            "again at once. What ran:",
            *lines,
            "drain(limit=…) runs more.",
        ]
    )


__all__ = ["WORKER", "Drainer"]
