"""What the database says of our handlers, and the circuit breaker that its failures open.

Failures are counted in the order in which runs end: what a batch records together would look like a row. The count is
shared by all workers and outlives them. `Retry`, `Discard` and what was filtered say nothing about a handler; retries of
what is poisoned say nothing new, unless they hang.

What surprises: only changes go to the database at once; a handler without failures costs no statement. A success counts
though this process has not heard of the failures of others that came before it, or a busy handler that fails now and then
would be held back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from webhooks.delivery.claiming import HandlerTerms
from webhooks.errors import Locked, StorageUnavailable
from webhooks.model import AttemptOutcome, Delivery
from webhooks.routing import Handler
from webhooks.store import Store
from webhooks.store.deliveries import Finished
from webhooks.store.handlers import BREAKER_LONGEST, BreakerState, HandlerState

logger = logging.getLogger(__name__)

#: What the database says of handlers (paused, breaker) is read again after this long; a change is felt within 2 s.
STATES_SECONDS = 0.7
#: It may be so old when an event waits for the claim; a look follows at once.
STATES_OLDEST_SECONDS = 1.5

#: A process that ends waits so long for rows that are locked.
LAST_SECONDS = 1.0

#: First attempts that failed in a row that open a handler's circuit breaker, or threads of it that were abandoned and
#: still run; and for how long it stays open.
BREAKER_FAILURES = 10
BREAKER_COOLDOWN = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class FailureRow:
    """Failures in a row that are not in the database yet. afresh: a success came before them."""

    count: int = 0
    afresh: bool = False

    def after(self, earlier: int) -> int:
        """How many these are with those that came before, as far as no success came between."""
        return self.count if self.afresh else earlier + self.count


#: Nothing failed since a success.
SUCCEEDED = FailureRow(afresh=True)


class CircuitBreaker:
    """Knows what state the handlers of this process are in, and changes it by how their runs end. Any thread.

    handlers: {handler name: Handler}, those of this process.
    """

    def __init__(self, store: Store, handlers: Mapping[str, Handler]) -> None:
        self.store = store
        self.handlers = handlers
        self._states: dict[str, HandlerState] = {}
        self._read_at = 0.0
        #: counts what this process has changed in the database
        self._changes = 0
        self._observing = threading.Lock()
        self._failures: dict[str, FailureRow] = {}

    # -- what is known -------------------------------------------------------------------------------------

    @property
    def is_known(self) -> bool:
        """Whether the states were read at all."""
        return bool(self._states)

    def state_of(self, name: str) -> BreakerState:
        """The handler's circuit breaker, as far as is known."""
        state = self._states.get(name)
        return BreakerState.CLOSED if state is None else state.breaker

    def is_closed_to(self, name: str) -> bool:
        """Whether nothing of the handler is to be claimed: it is paused, or its breaker is open."""
        state = self._states.get(name)
        return state is not None and (state.paused or state.breaker is BreakerState.OPEN)

    def terms(self, names: Collection[str]) -> dict[str, HandlerTerms]:
        """{handler: on which terms it is claimed}."""
        return {name: self._terms_of(self.handlers[name]) for name in names}

    def _terms_of(self, handler: Handler) -> HandlerTerms:
        rate = handler.rate
        return HandlerTerms(
            wants_session=handler.wants_session,
            is_limited=handler.concurrency is not None or rate is not None,
            seconds_per_run=None if rate is None else rate[1].total_seconds() / rate[0],
            breaker=self.state_of(handler.name),
        )

    def run_seconds(self) -> dict[str, float]:
        """{handler: mean of its runs}, where a worker has seen any."""
        return {name: seconds for name, state in self._states.items() if (seconds := state.run_seconds) is not None}

    def read(self, oldest: float = STATES_SECONDS) -> None:
        """Know what the database says of our handlers, as it was at most `oldest` seconds ago."""
        now = time.monotonic()
        if now - self._read_at < oldest and self._states:
            return
        while True:
            seen = self._changes
            states = self._read_states()
            with self._observing:
                if seen == self._changes:  # else a run ended meanwhile, and what was read is older than what is known
                    self._states = states
                    self._read_at = now
                    break
        try:
            self.count_failures()
        except StorageUnavailable:
            self._read_at = 0.0
            raise

    def _read_states(self) -> dict[str, HandlerState]:
        states = self.store.handlers.states(list(self.handlers))
        if any(state.breaker is BreakerState.OPEN for state in states.values()):
            here = self.store.database.now()
            for name, state in states.items():
                # the worker that first sees that the time has passed lets one delivery try
                over = state.breaker is BreakerState.OPEN and (state.breaker_until or here) <= here
                if over and self.store.handlers.half_open_breaker(name):
                    states[name] = replace(state, breaker=BreakerState.HALF_OPEN)
        return dict(states)

    # -- how runs end --------------------------------------------------------------------------------------

    def observe(self, finished: Finished, *, hanging: int = 0) -> None:
        """Count how a run ended. hanging: how many abandoned threads of the handler run, if this run left one."""
        outcome, name = finished.verdict.outcome, finished.delivery.handler
        failed = outcome in (AttemptOutcome.FAILED, AttemptOutcome.TIMED_OUT) and finished.verdict.counts
        if not failed and outcome is not AttemptOutcome.SUCCEEDED:
            return
        if not failed and self._failures.get(name) is SUCCEEDED and self.state_of(name) is BreakerState.CLOSED:
            return
        try:
            with self._observing:
                if failed:
                    self._failed(name, finished.delivery, hanging)
                else:
                    self._succeeded(name)
        except StorageUnavailable:
            self._read_at = 0.0  # the next outcome tells it again

    def _failed(self, name: str, delivery: Delivery, hanging: int) -> None:
        state = self._states.get(name)
        if state is not None and state.breaker is BreakerState.OPEN:
            return
        if state is not None and state.breaker is BreakerState.HALF_OPEN:
            failures = state.breaker_failures + 1
        else:
            if delivery.failures and not hanging:
                return
            row = self._failures.get(name, FailureRow())
            row = self._failures[name] = replace(row, count=row.count + 1)
            if max(row.count, hanging) < BREAKER_FAILURES:
                if state is not None and row.after(state.breaker_failures) >= BREAKER_FAILURES:
                    self._ask(name, row)
                return
            failures = BREAKER_FAILURES
        self._open(name, failures)

    def _ask(self, name: str, row: FailureRow) -> None:
        """Count these at once: with those of others they would be enough, unless a run elsewhere succeeded meanwhile."""
        count = self.store.handlers.count_failures(name, row.count, afresh=False)
        del self._failures[name]
        self._counted(name, count)

    def _open(self, name: str, failures: int) -> None:
        cooldown = cooldown_of(failures)
        self.store.handlers.open_breaker(name, failures, cooldown)
        self._failures.pop(name, None)
        if name in self._states:
            self._states[name] = replace(self._states[name], breaker=BreakerState.OPEN, breaker_failures=failures)
        self._changes += 1
        self._read_at = 0.0
        logger.warning(
            "the circuit breaker of handler %r opened after %d failures in a row; it is tried again in %s",
            name,
            failures,
            cooldown,
            extra={"handler": name},
        )

    def _succeeded(self, name: str) -> None:
        if self.state_of(name) is BreakerState.CLOSED:
            self._failures[name] = SUCCEEDED
            return
        if self.store.handlers.close_breaker(name):
            logger.info("the circuit breaker of handler %r closed", name, extra={"handler": name})
        self._failures.pop(name, None)
        self._changes += 1
        self._read_at = 0.0

    def count_failures(self) -> None:
        """Add ours to the count that all workers share, and open the breakers of those that reach it.

        Raises `StorageUnavailable` with nothing lost.
        """
        with self._observing:
            counted, self._failures = self._failures, {}
            for name in [name for name, row in counted.items() if row == SUCCEEDED and self._is_faultless(name)]:
                del counted[name]
        for name in list(counted):
            row = counted[name]
            try:
                count = self.store.handlers.count_failures(name, row.count, afresh=row.afresh)
                counted[name] = FailureRow()  # they are in the database, if what follows fails
                with self._observing:
                    self._counted(name, count)
            except StorageUnavailable as error:
                self._keep(counted)
                if isinstance(error, Locked):
                    return
                raise
            del counted[name]

    def _is_faultless(self, name: str) -> bool:
        """Whether nothing failed since a success, of all workers, as far as is known."""
        state = self._states.get(name)
        return state is None or (state.breaker is BreakerState.CLOSED and not state.breaker_failures)

    def _counted(self, name: str, count: int) -> None:
        """The failures of all workers are so many now.

        Neither those on their way to the database nor those that ended meanwhile, here or elsewhere, may have been enough;
        together they can be, and the next failure may be a long time away.
        """
        state = self._states.get(name)
        if state is not None:
            if state.breaker is not BreakerState.CLOSED:
                return
            self._states[name] = replace(state, breaker_failures=count)
        if self._failures.get(name, FailureRow()).after(count) >= BREAKER_FAILURES:
            self._open(name, BREAKER_FAILURES)

    def count_last(self) -> None:
        """The same when the process ends, after which nothing would count them: a row that is locked is waited for a while."""
        until = time.monotonic() + LAST_SECONDS
        self.count_failures()
        while self._failures and time.monotonic() < until:
            time.sleep(LAST_SECONDS / 20)
            self.count_failures()

    def _keep(self, uncounted: Mapping[str, FailureRow]) -> None:
        """Count these the next time, with those that came meanwhile."""
        with self._observing:
            for name, earlier in uncounted.items():
                later = self._failures.get(name, FailureRow())
                self._failures[name] = later if later.afresh else replace(earlier, count=earlier.count + later.count)


def cooldown_of(failures: int) -> timedelta:
    """How long a circuit breaker stays open: longer with each failure of the one that was let try."""
    doublings = min(max(0, failures - BREAKER_FAILURES), 10)
    return min(BREAKER_COOLDOWN * int(2**doublings), BREAKER_LONGEST)
