"""Run several deliveries of one handler in one transaction, one after another; all of them commit, or none.

For handlers of which nothing happens outside `session`. Optimistic: whatever goes wrong (a handler raises, a flush or the
COMMIT fails, the time is up, a lease is lost, one run did what shows to another) rolls everything back, and the deliveries
are given back to run alone. Nothing is announced or recorded here but by the commit: what is not committed did not happen.

A delivery that ends before it touches the transaction (its condition does not hold, `Retry` or `Discard` is raised at
once) ends by itself. Not here: who puts deliveries together and what becomes of those that are left (`groups`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from webhooks import failpoints
from webhooks.delivery.attempt import Phase, RunningAttempt
from webhooks.delivery.dispatcher import Dispatcher
from webhooks.errors import Discard, LeaseLost, NoConnection, Retry, StorageUnavailable
from webhooks.model import Event
from webhooks.routing import SUCCEEDED
from webhooks.session import SharedSession
from webhooks.store.deliveries import Finished

logger = logging.getLogger(__name__)


@dataclass
class GroupOutcome:
    """What came of deliveries that ran together.

    committed: {attempt: what is on record by now, together with what it wrote}.
    ended: {attempt: what is to be recorded} of those that ended by themselves.
    events: {attempt: its event as the handler got it}, of both.
    lost: those whose lease was gone before they began.
    unbegun: those for which no time was left in this transaction.
    alone: those that are to run alone, because a condition raised.
    left: those that nothing came of, in their order, for `error`.
    maybe: {attempt: what is on record, if the COMMIT took place} where it was not answered; the rows tell.
    """

    committed: dict[RunningAttempt, Finished] = field(default_factory=dict)
    ended: dict[RunningAttempt, Finished] = field(default_factory=dict)
    events: dict[RunningAttempt, Event] = field(default_factory=dict)
    lost: list[RunningAttempt] = field(default_factory=list)
    unbegun: list[RunningAttempt] = field(default_factory=list)
    alone: list[RunningAttempt] = field(default_factory=list)
    left: list[RunningAttempt] = field(default_factory=list)
    error: BaseException | None = None
    maybe: dict[RunningAttempt, Finished] = field(default_factory=dict)


def run_together(dispatcher: Dispatcher, attempts: Sequence[RunningAttempt]) -> GroupOutcome:
    """Run claimed deliveries of one handler in one transaction.

    attempts: the first is the clock of all: its `started` is when the run in hand began.

    Raises `NoConnection` when there was no connection to the database; then nothing ran.
    """
    ran = GroupOutcome()
    done: dict[RunningAttempt, Finished] = {}
    is_finishing = False
    try:
        with dispatcher.sessions.open_shared() as shared:
            try:
                for place, attempt in enumerate(attempts):
                    if done and not shared.has_room:
                        ran.unbegun.extend(attempts[place:])
                        break
                    attempts[0].started = time.monotonic()
                    _run_one(dispatcher, shared, attempt, attempts[0], done, ran)
                if done:
                    attempts[0].started = time.monotonic()
                    shared.flush()
                    is_finishing = True
                    _commit(dispatcher, shared, done, ran)
            except BaseException as error:
                shared.check()  # what ended them from outside explains it better than the error does
                if shared.is_outage(error):
                    raise StorageUnavailable(str(error)) from error
                raise
    except NoConnection:
        raise
    except BaseException as error:  # a handler may raise anything; each runs alone, and what it raises then counts
        if ran.committed:
            logger.exception("what deliveries ran in could not be closed; they are committed")
            return ran
        ran.error = error
        elsewhere = {*ran.ended, *ran.lost, *ran.unbegun, *ran.alone}
        ran.left = [attempt for attempt in attempts if attempt not in elsewhere]
        ran.maybe = done if is_finishing else {}
    return ran


def _run_one(
    dispatcher: Dispatcher,
    shared: SharedSession,
    attempt: RunningAttempt,
    first: RunningAttempt,
    done: dict[RunningAttempt, Finished],
    ran: GroupOutcome,
) -> None:
    """Run one delivery in the transaction. Raises what rolls all of them back."""
    if not begins(attempt):
        ran.lost.append(attempt)
        return
    attempt.hold(session=shared)
    event: Event | None = None
    try:
        prepared = dispatcher.prepare(attempt)
        if isinstance(prepared, Finished):
            ran.ended[attempt] = prepared
            return
        event = prepared
        failpoints.hit("run.before_handler")
        with shared.run() as session:
            try:
                with dispatcher.traced(attempt.delivery, event):
                    dispatcher.call(attempt, event, session, first)
            except (Discard, Retry) as raised:
                if shared.is_touched:
                    raise
                ran.ended[attempt] = dispatcher.ended_by(attempt, event, raised)
                ran.events[attempt] = event
                return
        failpoints.hit("run.after_handler")
    except Exception:
        if event is not None:
            raise
        ran.alone.append(attempt)  # its condition raised: it fails alone, loudly
        return
    done[attempt] = dispatcher.outcomes.finished(attempt, SUCCEEDED, ran=True)
    ran.events[attempt] = event


def begins(attempt: RunningAttempt) -> bool:
    """Have an attempt begin, the first of its group another time; False: it is not ours any more."""
    is_ours = attempt.begin() or attempt.phase is Phase.RUNNING
    return is_ours and time.monotonic() <= attempt.leased_until


def _commit(
    dispatcher: Dispatcher, shared: SharedSession, done: dict[RunningAttempt, Finished], ran: GroupOutcome
) -> None:
    if not shared.finish(dispatcher.store.deliveries.done_mark(list(done.values()))):
        raise LeaseLost("a delivery of those that ran together belongs to another worker now")
    ran.committed = done
    for attempt in done:
        attempt.committed = True
    failpoints.hit("run.after_commit")


__all__ = ["GroupOutcome", "begins", "run_together"]
