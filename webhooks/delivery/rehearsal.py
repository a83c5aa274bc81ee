"""Rehearse: run handlers for events, tell what they would write, and roll all of it back.

A handler is rehearsable when its author said so, `@on(effects="session")`: it has no effect outside `session`. Each event
is rehearsed by itself: it does not see what the one before it would have written. It runs through the dispatcher, as in a
worker; only its session rolls back instead of committing, and nothing is announced.

A run has the handler's time-out, and so a thread of its own; waiting for a connection does not count. When its time is up
it is revoked, which also ends a statement or an `await` on which it hangs. A thread that continues all the same cannot be
killed: it is left behind, and its handler is not run again while it lives, so at most one is left of each.

Not here: which events and handlers (`operations`), the place where nothing lasts (`store.scratch`).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

from webhooks.delivery import witness
from webhooks.delivery.announcements import Silent
from webhooks.delivery.attempt import Cause, RunningAttempt
from webhooks.delivery.dispatcher import Dispatcher, OpenSession
from webhooks.errors import AttemptTimeout
from webhooks.formats import error_summary
from webhooks.model import AttemptOutcome, Delivery, DeliveryClass, DeliveryState, Event
from webhooks.routing import Handler, Verdict
from webhooks.session import DoneMark, HandlerSession, Sessions
from webhooks.store.deliveries import Claimed, Finished
from webhooks.store.scratch import Write, bound_waiting, recording, scratch

#: How long a thread whose time was up gets to notice, before it is left behind.
PATIENCE = timedelta(seconds=2)
#: While a run waits for a connection, its time is looked at so often.
LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What one handler would have done with one event.

    outcome: "would succeed", "would fail", "filtered", or "not run" when its thread of an event before still runs.
    reason: why it would fail, was filtered or not run.
    writes: what it would have written until then.
    outside: what it did outside its session, against its author's word, as far as that was watched.
    """

    event_id: int
    handler: str
    outcome: str
    reason: str | None = None
    writes: Sequence[Write] = ()
    outside: Sequence[str] = ()


class Rehearser:
    """Runs handlers and rolls back whatever they write.

    dispatcher: whose handlers, policies and event loop are used.
    write_limit: how long a handler may hold SQLite's write lock, of a copy.
    patience: see `PATIENCE`.
    is_watched: also see what a run does outside its session (`witness`); only for a process that ends with the rehearsal.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        write_limit: timedelta = timedelta(minutes=1),
        patience: timedelta = PATIENCE,
        is_watched: bool = False,
    ) -> None:
        self.dispatcher = dispatcher
        self.write_limit = write_limit
        self.patience = patience
        self.is_watched = is_watched
        #: {handler: its run that did not end in time}
        self._left: dict[str, _Run] = {}

    def run(self, pairs: Iterable[tuple[Event, Handler]]) -> Iterator[Rehearsal]:
        """Rehearse each handler with its event, in this order; nothing lasts. Raises `StorageUnavailable`."""
        with scratch(self.dispatcher.store.database) as database:
            sessions = Sessions(database, self.write_limit)
            try:
                for event, handler in pairs:
                    yield self._one(event, handler, sessions)
            finally:
                sessions.dispose()

    def _one(self, event: Event, handler: Handler, sessions: Sessions) -> Rehearsal:
        left = self._left.get(handler.name)
        if left is not None and not left.attempt.is_over:
            reason = f"its run for event {left.event.id} did not end when its time was up"
            return Rehearsal(event.id, handler.name, "not run", reason)
        run = _Run(self.dispatcher, event, handler, sessions, self.is_watched)
        limit = self.dispatcher.outcomes.timeout_of(handler)
        try:
            run.wait(limit.total_seconds())
        except BaseException:  # Ctrl-C
            run.attempt.revoke(Cause.STOPPED)
            raise
        writes = list(run.writes)
        if run.attempt.is_over or not run.attempt.revoke(Cause.TIME_UP):
            return run.result()
        run.thread.join(self.patience.total_seconds())
        if run.thread.is_alive():
            self._leave(run)
        late = AttemptTimeout(f"it ran longer than its timeout of {limit.total_seconds():g} s")
        return Rehearsal(event.id, handler.name, "would fail", error_summary(late), writes)

    def _leave(self, run: _Run) -> None:
        self._left[run.handler.name] = run
        job, loop = run.attempt.job, self.dispatcher.loop
        if job is not None and loop.is_blocked(job.loop):
            loop.abandon(job.loop)  # the next coroutine gets one that answers


class _Run:
    """One run in a thread of its own, which it starts."""

    def __init__(
        self, dispatcher: Dispatcher, event: Event, handler: Handler, sessions: Sessions, is_watched: bool
    ) -> None:
        self.event = event
        self.handler = handler
        self.writes: list[Write] = []
        self.attempt = RunningAttempt(Claimed(_delivery(event, handler, dispatcher), event), handler)
        self.attempt.begin()
        self._told = _LastError()
        self.outside: list[str] = []
        source = _RolledBack(sessions, self.attempt, self.writes, self.outside if is_watched else None)
        self._dispatcher = dispatcher.with_sessions(source, self._told)
        self._finished: Finished | None = None
        self._error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name="webhooks-rehearsal", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._finished = self._dispatcher.run(self.attempt)
        except BaseException as error:  # there is no connection
            self._error = error
        finally:
            self.attempt.end()

    def wait(self, seconds: float) -> None:
        """Wait until it has ended, or has run for so long."""
        while self.thread.is_alive():
            started = self.attempt.started
            left = LOOK_SECONDS if started is None else started + seconds - time.monotonic()
            if left <= 0:
                return
            self.thread.join(left)

    def result(self) -> Rehearsal:
        """How it ended. Raises `StorageUnavailable` when it could not begin."""
        if self._error is not None:
            raise self._error
        event_id, name, writes = self.event.id, self.handler.name, list(self.writes)
        outside = list(dict.fromkeys(self.outside))
        if self._finished is None:
            return Rehearsal(event_id, name, "would fail", "LeaseLost", writes)
        verdict = self._finished.verdict
        if verdict.outcome is AttemptOutcome.SUCCEEDED:
            return Rehearsal(event_id, name, "would succeed", None, writes, outside)
        if not self._finished.ran and verdict.outcome is AttemptOutcome.CANCELLED:
            return Rehearsal(event_id, name, "filtered", verdict.reason)
        return Rehearsal(event_id, name, "would fail", self._told.error or verdict.reason, writes, outside)


class _LastError(Silent):
    """Tells nothing, and keeps what the handler raised, on one line."""

    def __init__(self) -> None:
        self.error: str | None = None

    def raised(self, attempt: RunningAttempt, event: Event, exception: BaseException, verdict: Verdict) -> None:
        """Keep it."""
        self.error = error_summary(exception)


class _RolledBack:
    """Sessions whose writes are noted and never committed, for one attempt.

    outside: gets what the run does outside its session; None: that is not watched.
    """

    def __init__(
        self, sessions: Sessions, attempt: RunningAttempt, writes: list[Write], outside: list[str] | None
    ) -> None:
        self._sessions = sessions
        self._attempt = attempt
        self._writes = writes
        self._outside = outside

    @contextlib.contextmanager
    def open(self) -> Iterator[OpenSession]:
        """As `Sessions.open`. The time of the attempt begins when there is a connection."""
        self._attempt.started = None
        with self._sessions.open() as session:
            bound_waiting(session.connection)
            self._attempt.started = time.monotonic()
            with recording(session.connection, self._writes), self._watching(session):
                yield _RolledBackSession(session)

    @contextlib.contextmanager
    def _watching(self, session: HandlerSession) -> Iterator[None]:
        if self._outside is None:
            yield
            return
        path = session.connection.engine.url.database if session.connection.dialect.name == "sqlite" else None
        try:
            with witness.watching(
                but=None if path is None else Path(path), in_loop=self._attempt.handler.is_async
            ) as seen:
                yield
        finally:
            self._outside += seen

    def open_shared(self) -> NoReturn:
        """Refused: each event is rehearsed by itself."""
        raise NotImplementedError

    def prepare(self) -> None:
        """As `Sessions.prepare`."""
        self._sessions.prepare()

    def make_room(self) -> None:
        """As `Sessions.make_room`."""
        self._sessions.make_room()

    def dispose(self) -> None:
        """As `Sessions.dispose`."""
        self._sessions.dispose()


class _RolledBackSession:
    """A handler's session that finishes without committing."""

    def __init__(self, inner: HandlerSession) -> None:
        self.session = inner.session
        self.flush = inner.flush
        self.check = inner.check
        self.abort = inner.abort
        self.is_outage = inner.is_outage

    def finish(self, mark: DoneMark) -> bool:
        """Leave the transaction to be rolled back."""
        self.check()
        return True


def _delivery(event: Event, handler: Handler, dispatcher: Dispatcher) -> Delivery:
    now = dispatcher.store.database.clock()
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
