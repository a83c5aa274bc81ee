"""Run one delivery: resolve, filter, run, decide, announce.

`Dispatcher.run` takes a claimed delivery through these steps in the calling thread and answers with a `Finished`: still
to be recorded, unless `attempt.committed` says that the handler's own transaction did it; None when the lease was lost.
It knows no slots and no waiting; `runner` owns those, and ends an attempt that takes too long by `RunningAttempt.revoke`.

What a handler promises decides how it is recorded. With `session`, the done-mark is written in the handler's
transaction and both commit together; when the fencing token no longer matches, everything is rolled back. Without,
the mark is written afterwards, so the handler runs at least once.

Not here: what an outcome means (`outcomes`), what is told about it (`announcements`).
"""

from __future__ import annotations

import asyncio
import copy
import logging
import os
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from typing import Any, Protocol

from webhooks import failpoints, forks
from webhooks.delivery.announcements import Announcements
from webhooks.delivery.async_loop import Loop
from webhooks.delivery.attempt import RunningAttempt
from webhooks.delivery.outcomes import Outcomes, cancelled, deaths_of
from webhooks.errors import LeaseLost, NoConnection, StorageUnavailable
from webhooks.formats import error_summary, one_line
from webhooks.model import Delivery, DeliveryCause, Event
from webhooks.routing import SUCCEEDED, Handler, Registry, RetryPolicy, Verdict, meant
from webhooks.session import DoneMark, SharedSession
from webhooks.store import Store
from webhooks.store.deliveries import Finished
from webhooks.tracing import Tracing

#: Stands where a span would; it keeps nothing, so one serves all.
_UNTRACED = nullcontext()


class OpenSession(Protocol):
    """A handler's session as the dispatcher ends it: `session.HandlerSession`, or a rehearsal's."""

    @property
    def session(self) -> Any:
        """What the handler gets."""

    def flush(self) -> None:
        """Write what the handler left in its session. Raises what made the attempt unable to commit."""

    def finish(self, mark: DoneMark) -> bool:
        """Mark the delivery as done and commit; False: the lease was lost, and nothing is committed."""

    def check(self) -> None:
        """Raise the reason if this attempt can no longer commit."""

    def abort(self, reason: BaseException | None = None) -> None:
        """Make this attempt unable to commit, from any thread."""

    def is_outage(self, error: BaseException) -> bool:
        """Whether the attempt failed because the database went away."""


class SessionSource(Protocol):
    """What gives a handler its session: `session.Sessions`, or a rehearsal's."""

    def open(self) -> AbstractContextManager[OpenSession]:
        """A session for one attempt; whatever was not committed is rolled back at the end. Raises `NoConnection`."""

    def open_shared(self) -> AbstractContextManager[SharedSession]:
        """The same for several runs of one handler, one after another in one transaction."""

    def prepare(self) -> None:
        """Import what sessions need; called before threads begin."""

    def make_room(self) -> None:
        """End every connection that is not in use."""

    def dispose(self) -> None:
        """End every connection that is not in use, for good."""


class Dispatcher:
    """Runs deliveries.

    default_retry, default_timeout: for handlers that name none.
    own: {source: our ids there}.
    jitter: a number between 0 and 1 for each wait.
    tracing: opens the spans of attempts; None opens none.
    around: opened around each run of a handler's function, as the context of an application is.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        store: Store,
        sessions: SessionSource,
        clock: Callable[[], datetime],
        default_retry: RetryPolicy,
        default_timeout: timedelta,
        own: Mapping[str, Sequence[str]] | None = None,
        jitter: Callable[[], float] = random.random,
        tracing: Tracing | None = None,
        around: Callable[[], AbstractContextManager[Any]] | None = None,
    ) -> None:
        self.registry = registry
        self.store = store
        self.sessions = sessions
        self.own = {source: frozenset(ids) for source, ids in (own or {}).items()}
        self.outcomes = Outcomes(
            registry=registry,
            clock=clock,
            default_retry=default_retry,
            default_timeout=default_timeout,
            jitter=jitter,
        )
        self.announcements = Announcements()
        self._tracing = tracing
        self._around = around
        self._loops = forks.PerProcess(Loop)

    @property
    def loop(self) -> Loop:
        """The event loop of this process."""
        return self._loops.get()

    def with_sessions(self, sessions: SessionSource, announcements: Announcements) -> Dispatcher:
        """One like this that takes its sessions, and tells what happens, elsewhere; the event loop is shared."""
        other = copy.copy(self)
        other.sessions = sessions
        other.announcements = announcements
        return other

    # -- one attempt ---------------------------------------------------------------------------------------

    def run(self, attempt: RunningAttempt) -> Finished | None:
        """Take one attempt through its steps; see the module's docstring for the answer.

        Raises `NoConnection` when there was no connection to the database before the handler began.
        """
        if attempt.started is None:
            attempt.begin()
        delivery, handler = attempt.delivery, attempt.handler
        event: Event | None = None
        ran = False
        try:
            prepared = self.prepare(attempt)
            if isinstance(prepared, Finished):
                return prepared
            event = prepared
            self.announcements.started(delivery, event)
            ran = True
            failpoints.hit("run.before_handler")
            with self.traced(delivery, event):
                if handler.wants_session:
                    finished = self._run_with_session(attempt, event)
                else:
                    self.call(attempt, event, None)
            if handler.wants_session:
                self.announcements.recorded(finished)
                return finished
            failpoints.hit("run.after_handler")
            verdict = SUCCEEDED
        except LeaseLost:
            if attempt.has_thread:
                self.announcements.lease_lost(delivery)
            return None
        except NoConnection:
            raise
        except StorageUnavailable as away:
            if not ran:
                raise NoConnection(away.reason) from away
            verdict = self.outcomes.interrupted(handler, delivery, away.reason)
        except BaseException as raised:  # a handler may raise anything, SystemExit too; none of it is ours
            verdict = self._failed(attempt, event if ran else None, raised)
        return self.outcomes.finished(attempt, verdict, ran=ran)

    def prepare(self, attempt: RunningAttempt) -> Event | Finished:
        """The event as the handler gets it; or, where it is not to run, what is to be recorded.

        Raises `StorageUnavailable`, and what a condition of the handler's raises.
        """
        event = attempt.claimed.event
        if event is None:
            return self.outcomes.finished(attempt, cancelled("the event's payload was pruned"), ran=False)
        if event.previous_id is not None:
            event = self.store.events.with_superseded(event)
        why_not = self.why_not(attempt.handler, event, attempt.delivery)
        return event if why_not is None else self.outcomes.finished(attempt, cancelled(*why_not), ran=False)

    def traced(self, delivery: Delivery, event: Event) -> AbstractContextManager[object]:
        """The span of a run."""
        return _UNTRACED if self._tracing is None else self._tracing.process(delivery, event)

    def ended_by(self, attempt: RunningAttempt, event: Event, error: BaseException) -> Finished:
        """What to record for an attempt that ended with what its handler raised, once that is told."""
        return self.outcomes.finished(attempt, self._failed(attempt, event, error), ran=True)

    def _failed(self, attempt: RunningAttempt, event: Event | None, error: BaseException) -> Verdict:
        """The verdict for what a handler raised, once that is told. event: None when it was its condition that raised."""
        verdict = self.outcomes.decide(attempt.handler, attempt.delivery, error)
        if event is not None and attempt.cause is None:
            self.announcements.raised(attempt, event, error, verdict)
        return verdict

    def why_not(self, handler: Handler, event: Event, delivery: Delivery) -> tuple[str, DeliveryCause] | None:
        """Why the handler is not to run for this event; None when it is.

        A predicate that raises lets it raise: the delivery fails loudly and is tried again.
        """
        if delivery.stale and handler.stale == "skip":
            if handler.latest is not None:
                return "superseded: a newer event of its key ran before", DeliveryCause.SUPERSEDED
            return "stale: a newer event of its lane ran before", DeliveryCause.STALE
        if handler.ignore_own:
            whose = own_change(event, self.own.get(event.source, frozenset()))
            if whose is not None:
                return f"own change: made with {whose}", DeliveryCause.OWN_CHANGE
        if handler.where is not None:
            holds, clause, value = handler.where.explain(event)
            if not holds:
                return one_line(f"filtered: {clause}, value {value}"), DeliveryCause.FILTERED
        return None

    def _run_with_session(self, attempt: RunningAttempt, event: Event) -> Finished:
        with self.sessions.open() as opened:
            attempt.hold(session=opened)
            try:
                self.call(attempt, event, opened.session)
                failpoints.hit("run.after_handler")
                opened.flush()
                finished = self.outcomes.finished(attempt, SUCCEEDED, ran=True)
                if not opened.finish(self.store.deliveries.done_mark([finished])):
                    raise LeaseLost(f"delivery {attempt.delivery.id} belongs to another worker now")
            except BaseException as error:
                opened.check()  # what ended the attempt from outside explains the error better than the error does
                if opened.is_outage(error):
                    raise StorageUnavailable(error_summary(error)) from error
                raise
            attempt.committed = True
            failpoints.hit("run.after_commit")
        return finished

    def call(self, attempt: RunningAttempt, event: Event, session: Any, holder: RunningAttempt | None = None) -> None:
        """Call the handler; returns when it does, with a coroutine when that has ended. Raises what it raises.

        holder: whose revocation ends the coroutine; None: the attempt's own.
        """
        arguments = self.arguments(attempt.handler, event, attempt.delivery, session)
        try:
            self.enter(holder or attempt, arguments)
        except Exception as error:
            words = None if attempt.handler.batch is None else meant(error, [event])
            if words is None:
                raise
            for word in words.values():  # none where it named no event
                raise word from None

    def enter(self, holder: RunningAttempt, arguments: dict[str, Any]) -> None:
        """Call the handler of an attempt with these arguments. holder: see `call`."""
        process = forks.process()
        try:
            if self._around is None:
                self._call_function(holder, arguments)
            else:
                with self._around():
                    self._call_function(holder, arguments)
        finally:
            if forks.process() != process:
                os._exit(70)  # the handler forked, and its child came back here: it may not continue in our name

    def _call_function(self, holder: RunningAttempt, arguments: dict[str, Any]) -> None:
        result = holder.handler.function(**arguments)
        if holder.handler.is_async and asyncio.iscoroutine(result):
            job = self.loop.submit(result)
            holder.hold(job=job)
            job.result()

    def arguments(self, handler: Handler, event: Event, delivery: Delivery, session: Any) -> dict[str, Any]:
        """What the handler asked for, by name. Raises `PayloadMismatch` for data of another type than it asks for."""
        if handler.batch is not None:
            return self.batch_arguments(handler, [event], [delivery], session)
        if handler.data is not None:
            event = handler.data.typed(event)
        arguments: dict[str, Any] = {}
        for name in handler.arguments:
            if name == "event":
                arguments[name] = event
            elif name == "session":
                arguments[name] = session
            elif name == "delivery":
                arguments[name] = delivery
            elif name == "data":
                arguments[name] = event.data
            elif name == "previous":
                arguments[name] = event.previous
            elif name == "changed":
                arguments[name] = event.changed_fields
            elif name == "raw":
                arguments[name] = event.raw
            elif name == "headers":
                arguments[name] = event.headers
            elif name == "log":
                arguments[name] = logging.LoggerAdapter(
                    logging.getLogger(handler.function.__module__),
                    {"event_id": event.id, "delivery_id": delivery.id, "handler": handler.name},
                )
        return arguments

    def batch_arguments(
        self, handler: Handler, events: Sequence[Event], deliveries: Sequence[Delivery], session: Any
    ) -> dict[str, Any]:
        """What a handler asked for that takes several deliveries at once. Raises `PayloadMismatch`."""
        data = handler.data
        given = {
            "events": list(events) if data is None else [data.typed(event) for event in events],
            "deliveries": list(deliveries),
            "session": session,
            "log": logging.LoggerAdapter(
                logging.getLogger(handler.function.__module__), {"handler": handler.name, "events": len(events)}
            ),
        }
        return {name: given[name] for name in handler.arguments}

    # -- leases that ran out -------------------------------------------------------------------------------

    def lost(self, delivery: Delivery) -> Finished:
        """What becomes of a delivery whose worker died or lost its lease; see `Outcomes.lost`."""
        return self.outcomes.lost(delivery, self.deaths([delivery.id]).get(delivery.id, 0))

    def deaths(self, ids: Sequence[int]) -> dict[int, int]:
        """{delivery id: how often it is on record to have died with its worker, or with a process of its own}."""
        return deaths_of(self.store.deliveries.attempts(ids))


def own_change(event: Event, own: frozenset[str]) -> str | None:
    """Which of our own ids made this change, as the envelope says; None when it was another client."""
    for field in ("api_key_id", "oauth_client_id"):
        value = event.meta.get(field)
        if isinstance(value, str) and value in own:
            return f"{field} {value}"
    return None
