"""Rehearse a replay: run handlers for its events, tell what they would write, and roll all of it back.

A handler is rehearsable when its author said so, `@on(rehearsable=True)`: it has no effect outside `session`. Each event
is rehearsed by itself: it does not see what the one before it would have written.

A run has the handler's time-out, and so a thread of its own, as in a worker. When its time is up, its session is made
unable to write, which also ends a statement or an `await` on which it hangs. A thread that goes on all the same cannot
be killed: it is left behind, and its handler is not run again while it lives, so at most one is left of each.

Not here: which events and handlers (`replay`), the place where nothing lasts (`store.scratch`).
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from webhooks.errors import AttemptTimeout
from webhooks.formats import error_summary
from webhooks.model import Delivery, DeliveryClass, DeliveryState, Event
from webhooks.operations.replay import Plan, Replayer
from webhooks.session import Sessions
from webhooks.store.scratch import Write, bound_waiting, recording, scratch

#: How long a thread whose time was up gets to notice, before it is left behind.
PATIENCE = timedelta(seconds=2)


class Runner(Protocol):
    """What a rehearsal needs of the dispatcher."""

    @property
    def loop(self) -> Any: ...
    @property
    def outcomes(self) -> Any: ...
    def filtered(self, handler: Any, event: Event, delivery: Delivery) -> str | None: ...
    def arguments(self, handler: Any, event: Event, delivery: Delivery, session: Any) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What one handler would have done with one event.

    outcome: "would succeed", "would fail", "filtered", or "not run" when its thread of an event before still runs.
    reason: why it would fail, was filtered or not run. writes: what it would have written until then.
    """

    event_id: int
    handler: str
    outcome: str
    reason: str | None = None
    writes: Sequence[Write] = ()


class Rehearser:
    """Runs rehearsable handlers for a plan's events and rolls back whatever they write."""

    def __init__(
        self,
        *,
        replayer: Replayer,
        runner: Runner,
        write_limit: timedelta = timedelta(minutes=1),
        patience: timedelta = PATIENCE,
    ) -> None:
        self.replayer = replayer
        self.runner = runner
        self.write_limit = write_limit
        self.patience = patience
        #: {handler: its thread that did not end in time}
        self._left: dict[str, _Run] = {}

    def not_rehearsable(self, plan: Plan) -> list[str]:
        """The handlers of the plan that are not run, because their author did not say that they may be."""
        rehearsable = {handler.name for handler in self.replayer.registry.handlers() if handler.rehearsable}
        return [handler.name for handler in plan.handlers if handler.deliveries and handler.name not in rehearsable]

    def run(self, plan: Plan) -> Iterator[Rehearsal]:
        """Rehearse the plan's deliveries, in its order; nothing lasts. Raises `StorageUnavailable`."""
        replayer, store = self.replayer, self.replayer.store
        selection = replayer.for_handler(plan.selection, plan.options)
        with scratch(store.database) as database:
            sessions = Sessions(database, self.write_limit)
            try:
                for chunk in replayer.chunks(selection, plan.options, plan.upper_id, None, bodies=True):
                    for summary, handler in replayer.pairs(chunk, selection, plan.options, plan.upper_id):
                        if handler.rehearsable and summary.event is not None:
                            yield self._one(summary.event, handler, sessions)
            finally:
                sessions.dispose()

    def _one(self, event: Event, handler: Any, sessions: Sessions) -> Rehearsal:
        left = self._left.get(handler.name)
        if left is not None and left.is_alive():
            reason = f"its run for event {left.event_id} did not end when its time was up"
            return Rehearsal(event.id, handler.name, "not run", reason)
        event = self.replayer.store.events.with_superseded(event)
        run = _Run(event.id, lambda run: self._perform(run, event, handler, sessions))
        limit = self.runner.outcomes.timeout_of(handler)
        try:
            run.start()
            run.join(limit.total_seconds())
        except BaseException as error:  # Ctrl-C
            run.abort(error)
            raise
        if not run.is_alive():
            assert run.result is not None
            return run.result
        writes = list(run.writes)
        late = AttemptTimeout(f"it ran longer than its timeout of {limit.total_seconds():g} s")
        run.abort(late)
        run.join(self.patience.total_seconds())
        if run.is_alive():
            self._left[handler.name] = run
            if run.job is not None and self.runner.loop.is_blocked(run.job.loop):
                self.runner.loop.abandon(run.job.loop)  # the next coroutine gets one that answers
        return Rehearsal(event.id, handler.name, "would fail", error_summary(late), writes)

    def _perform(self, run: _Run, event: Event, handler: Any, sessions: Sessions) -> Rehearsal:
        delivery = self._delivery(event, handler)
        try:
            if (reason := self.runner.filtered(handler, event, delivery)) is not None:
                return Rehearsal(event.id, handler.name, "filtered", reason)
            with sessions.open() as holder:
                run.hold(holder.abort)
                bound_waiting(holder.connection)
                with recording(holder.connection, run.writes):
                    result = handler.function(**self.runner.arguments(handler, event, delivery, holder.session))
                    if handler.is_async and inspect.iscoroutine(result):
                        run.job = self.runner.loop.submit(result)
                        run.hold(lambda error: run.job.cancel())
                        run.job.result()
                    holder.session.flush()
        except BaseException as error:  # a handler may raise anything
            return Rehearsal(event.id, handler.name, "would fail", error_summary(error), list(run.writes))
        return Rehearsal(event.id, handler.name, "would succeed", None, list(run.writes))

    def _delivery(self, event: Event, handler: Any) -> Delivery:
        now = self.replayer.store.database.clock()
        return Delivery(
            id=0,
            event_id=event.id,
            handler=handler.name,
            state=DeliveryState.RUNNING,
            due_at=now,
            created_at=now,
            number=1,
            delivery_class=DeliveryClass.REPLAY,
            idempotency_key=f"rehearsal:{event.id}:{handler.name}",
        )


class _Run(threading.Thread):
    """One run. result: how it ended. writes: those so far. job: its coroutine, where the handler is one."""

    def __init__(self, event_id: int, perform: Callable[[_Run], Rehearsal]) -> None:
        super().__init__(name="webhooks-rehearsal", daemon=True)
        self.event_id = event_id
        self.result: Rehearsal | None = None
        self.writes: list[Write] = []
        self.job: Any = None
        self._perform = perform
        self._ends: list[Callable[[BaseException], object]] = []
        self._aborted: BaseException | None = None
        self._guard = threading.Lock()

    def run(self) -> None:
        self.result = self._perform(self)

    def hold(self, end: Callable[[BaseException], object]) -> None:
        """Note what `abort` has to end; too late, and it is ended at once."""
        with self._guard:
            self._ends.append(end)
            aborted = self._aborted
        if aborted is not None:
            end(aborted)

    def abort(self, reason: BaseException) -> None:
        """Make it unable to write, and end it where that is possible."""
        with self._guard:
            self._aborted = reason
            ends = list(self._ends)
        for end in ends:
            end(reason)


__all__ = ["Rehearsal", "Rehearser", "Runner"]
