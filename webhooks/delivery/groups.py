"""Deliveries of one handler that a thread runs in one transaction, or by one call: who is in a group, and what becomes of its members.

`Groups.gather` takes what waits already, and waits for no more. The first of a group stands for it: it has the thread's
place and the clock. What nothing came of is put back as it was claimed, in its order, to run alone (by one call: in
halves), as if the group had never been. When another thread takes a group from its thread (`release`), that thread's word does not count.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from webhooks.delivery.attempt import Ledger, RunningAttempt
from webhooks.delivery.batch import run_batch
from webhooks.delivery.breaker import CircuitBreaker
from webhooks.delivery.buffer import Buffer
from webhooks.delivery.dispatcher import Dispatcher
from webhooks.delivery.recording import Recorder
from webhooks.delivery.sizes import Sizes
from webhooks.delivery.together import GroupOutcome, run_together
from webhooks.errors import NoConnection
from webhooks.formats import error_summary
from webhooks.formats.sqlstates import sqlstate
from webhooks.routing import SUCCEEDED, Handler

logger = logging.getLogger(__name__)

#: PostgreSQL's deadlock_detected.
_DEADLOCK = "40P01"


class Groups:
    """Runs groups for the threads of one process.

    put_back: has an attempt wait on that could not begin because there was no connection; whether it was still ours.
    """

    def __init__(
        self,
        *,
        dispatcher: Dispatcher,
        ledger: Ledger,
        buffer: Buffer,
        breaker: CircuitBreaker,
        recorder: Recorder,
        sizes: Sizes,
        put_back: Callable[[RunningAttempt, NoConnection], bool],
    ) -> None:
        self.dispatcher = dispatcher
        self.ledger = ledger
        self.buffer = buffer
        self.breaker = breaker
        self.recorder = recorder
        self.sizes = sizes
        self.put_back = put_back

    def gather(self, first: RunningAttempt) -> bool:
        """Take what waits and may run together with `first`, which has begun; whether there is any. `run` must follow."""
        name = first.handler.name
        if first.together == 1:
            return False
        most = first.handler.batch or self.sizes.begin(name, self.buffer.mean_alone(name))
        if most == 1:
            return False
        first.mates = self.buffer.gather(first, most)
        if len(first.mates) == 1:
            first.mates = ()
            self._end_together(first)
            return False
        return True

    def _end_together(self, first: RunningAttempt) -> None:
        if first.handler.batch is None:
            self.sizes.end(first.handler.name)

    def run(self, first: RunningAttempt) -> bool:
        """Run a group, and see to what came of it. False: another thread took it, and the calling one has to end."""
        mates, name = first.mates, first.handler.name
        began = time.monotonic()
        ran = GroupOutcome()
        try:
            ran = (run_together if first.handler.batch is None else run_batch)(self.dispatcher, mates)
        except NoConnection as refused:
            return self._put_back(first, refused)
        except BaseException as error:  # ours, not the handler's
            logger.exception("%d deliveries for handler %r could not be run together", len(mates), name)
            ran.error, ran.left = error, list(mates)
        finally:
            self._end_together(first)
        if not first.end():
            self.buffer.finished(first)
            self.ledger.look_at(first)
            return False
        self._report(ran, _fewer(first.handler, len(mates)))
        self._note(first.handler, ran)
        if self.buffer.finished(first, (time.monotonic() - began) / len(mates)):
            self.recorder.wake()
        return True

    # -- what became of it ---------------------------------------------------------------------------------

    def _report(self, ran: GroupOutcome, fewer: int) -> None:
        """fewer: with how many each may run that nothing came of."""
        for attempt, finished in ran.committed.items():
            attempt.end()
            self.breaker.observe(finished)
            self.ledger.settle(attempt)
            self._tell_start(attempt, ran)
            self.dispatcher.announcements.recorded(finished)
        for attempt, finished in ran.ended.items():
            attempt.end()
            self._tell_start(attempt, ran)
            self.breaker.observe(finished)
            self.recorder.put(attempt, finished)
        for attempt in ran.left:
            attempt.doubt = ran.maybe.get(attempt)
        self._wait_again(ran.unbegun, None)
        self._wait_again(ran.lost + ran.alone, 1)
        self._wait_again(ran.left, fewer)

    def _tell_start(self, attempt: RunningAttempt, ran: GroupOutcome) -> None:
        if (event := ran.events.get(attempt)) is not None:
            self.dispatcher.announcements.started(attempt.delivery, event)

    def _note(self, handler: Handler, ran: GroupOutcome) -> None:
        if ran.error is None:
            if handler.batch is None:
                self.sizes.went_well(handler.name, len(ran.committed))
            return
        if handler.batch is None:
            self.sizes.failed(handler.name, len(ran.left), by_deadlock=sqlstate(ran.error) == _DEADLOCK)
        logger.debug(
            "%d deliveries for handler %r run apart, since they could not together: %s",
            len(ran.left),
            handler.name,
            error_summary(ran.error),
        )

    def _put_back(self, first: RunningAttempt, refused: NoConnection) -> bool:
        rest = first.mates[1:]
        first.mates = ()
        self._wait_again(rest, None)
        if self.put_back(first, refused):
            return True
        self.buffer.finished(first)
        self.ledger.look_at(first)
        return False

    def _wait_again(self, attempts: Sequence[RunningAttempt], together: int | None) -> None:
        """Let those wait that are still ours. together: with how many each may run now; None: as before."""
        again: list[RunningAttempt] = []
        for attempt in attempts:
            if not attempt.is_held:
                self.ledger.settle(attempt)
                if attempt.started is not None:
                    self.dispatcher.announcements.lease_lost(attempt.delivery)
                continue
            one = attempt.anew()
            one.together = one.together if together is None else together
            self.ledger.replace(attempt, one)
            attempt.end()
            again.append(one)
        self.buffer.add_first(again)

    # -- another thread takes it ---------------------------------------------------------------------------

    def time_is_up(self, first: RunningAttempt) -> None:
        """Let every member of a group wait again, whose first was taken from its thread because a run took too long."""
        again = self._in_doubt(first, len(first.mates))
        self.ledger.add([again])
        first.settle()  # kept, as long as its thread is left behind
        if first.handler.batch is None:
            self.sizes.failed(first.handler.name, len(first.mates))
        self.let_go(first)
        self.buffer.add_first([again])

    def let_go(self, first: RunningAttempt) -> None:
        """The same for the others of a group, whose first was taken from its thread. Their COMMIT may have come before."""
        mates, first.mates = first.mates, ()
        again = []
        for attempt in mates[1:]:
            one = self._in_doubt(attempt, len(mates))
            self.ledger.replace(attempt, one)
            again.append(one)
        self.buffer.add_first(again)

    def _in_doubt(self, attempt: RunningAttempt, n: int) -> RunningAttempt:
        """The same anew, as one of n that ran together and perhaps committed."""
        one = attempt.anew()
        one.together = _fewer(attempt.handler, n)
        if attempt.handler.wants_session:
            one.doubt = self.dispatcher.outcomes.finished(attempt, SUCCEEDED, ran=True)
        return one


def _fewer(handler: Handler, n: int) -> int:
    """With how many a delivery may run after n of them failed: a half by one call, none in one transaction."""
    return 1 if handler.batch is None else max(1, n // 2)


__all__ = ["Groups"]
