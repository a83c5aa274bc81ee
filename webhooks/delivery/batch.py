"""Run several deliveries of one handler by one call: it takes `events`, and with `session` all of it is one transaction.

The handler's word counts for each event: it returns, and all have succeeded; it raises `Retry` or `Discard` with `events`, and
these have ended so while the others have succeeded. Without `events` such a word counts for all. Whatever else it raises is
no outcome yet: nothing of it is recorded, and the deliveries are given back to run in halves (`groups`), so that in the end
one bad event fails alone. A handler without `session` therefore may see an event several times for one attempt on record.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from webhooks import failpoints
from webhooks.delivery.attempt import RunningAttempt
from webhooks.delivery.dispatcher import Dispatcher
from webhooks.delivery.together import GroupOutcome, begins
from webhooks.errors import Discard, LeaseLost, NoConnection, Retry, StorageUnavailable
from webhooks.model import Event
from webhooks.routing import SUCCEEDED, meant
from webhooks.store.deliveries import Finished

logger = logging.getLogger(__name__)

Words = Mapping[int, Retry | Discard]


def run_batch(dispatcher: Dispatcher, attempts: Sequence[RunningAttempt]) -> GroupOutcome:
    """Run claimed deliveries of one handler with `batch=` by one call. attempts: the first is the clock of all.

    Raises `NoConnection` when there was no connection to the database; then nothing ran.
    """
    ran = GroupOutcome()
    try:
        for attempt in attempts:
            _prepare(dispatcher, attempt, ran)
        attempts[0].started = time.monotonic()
        if ran.events:
            failpoints.hit("run.before_handler")
            if attempts[0].handler.wants_session:
                _run_with_session(dispatcher, attempts[0], ran)
            else:
                words = _call(dispatcher, attempts[0], ran, None)
                failpoints.hit("run.after_handler")
                ran.ended |= _outcomes(dispatcher, ran.events, words)
    except NoConnection:
        raise
    except BaseException as error:  # a handler may raise anything
        if ran.committed:
            logger.exception("what deliveries ran in could not be closed; they are committed")
            return ran
        ran.error = error
        ran.left += ran.events
    return ran


def _prepare(dispatcher: Dispatcher, attempt: RunningAttempt, ran: GroupOutcome) -> None:
    """Sort out what the handler is not to get; the others are in `ran.events`."""
    if not begins(attempt):
        ran.lost.append(attempt)
        return
    try:
        prepared = dispatcher.prepare(attempt)
    except Exception:
        ran.alone.append(attempt)  # its condition raised: it fails alone, loudly
        return
    if isinstance(prepared, Finished):
        ran.ended[attempt] = prepared
    else:
        ran.events[attempt] = prepared


def _call(dispatcher: Dispatcher, first: RunningAttempt, ran: GroupOutcome, session: Any) -> Words:
    """{event id: what the handler raised for it}. Raises what is no word on its events."""
    events = list(ran.events.values())
    deliveries = [attempt.delivery for attempt in ran.events]
    arguments = dispatcher.batch_arguments(first.handler, events, deliveries, session)
    try:
        dispatcher.enter(first, arguments)
    except Exception as error:
        words = meant(error, events)
        if words is None:
            raise
        return words
    return {}


def _outcomes(
    dispatcher: Dispatcher, events: Mapping[RunningAttempt, Event], words: Words
) -> dict[RunningAttempt, Finished]:
    return {
        attempt: dispatcher.ended_by(attempt, event, words[event.id])
        if event.id in words
        else dispatcher.outcomes.finished(attempt, SUCCEEDED, ran=True)
        for attempt, event in events.items()
    }


def _run_with_session(dispatcher: Dispatcher, first: RunningAttempt, ran: GroupOutcome) -> None:
    with dispatcher.sessions.open() as opened:
        for attempt in ran.events:
            attempt.hold(session=opened)
        first.hold(session=opened)
        try:
            words = _call(dispatcher, first, ran, opened.session)
            failpoints.hit("run.after_handler")
            outcomes = _outcomes(dispatcher, ran.events, words)
            done = {attempt: outcomes[attempt] for attempt, event in ran.events.items() if event.id not in words}
            if done:
                opened.flush()
                ran.maybe = done
                if not opened.finish(dispatcher.store.deliveries.done_mark(list(done.values()))):
                    raise LeaseLost("a delivery of a batch belongs to another worker now")
        except BaseException as error:
            opened.check()  # what ended it from outside explains the error better than the error does
            if opened.is_outage(error):
                raise StorageUnavailable(str(error)) from error
            raise
        ran.committed, ran.maybe = done, {}
        ran.ended |= {attempt: finished for attempt, finished in outcomes.items() if attempt not in done}
        for attempt in done:
            attempt.committed = True
        failpoints.hit("run.after_commit")


__all__ = ["run_batch"]
