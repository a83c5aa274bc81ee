"""Count in memory what a process does, and hand it over every ten seconds.

The numbers of one turn are told by their age: the database's clock says in which minute they belong, so neither this
machine's clock nor a jump of it matters. What cannot be written waits, an hour of it at most. A process that is
killed loses what it counted since the last turn: these are figures, and the rows stay the truth.

What surprises: these are calls, not observers of signals. Signals are the process's, and a process may have two instances
of ours with a database each; and sending one to an observer costs three times what counting does.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from webhooks.errors import StorageUnavailable
from webhooks.forks import PerProcess
from webhooks.model import AttemptOutcome, Delivery, DeliveryState, Disposition
from webhooks.store.tallies.points import OTHER, UNTIMED, Kind, bucket_of, ran_of

logger = logging.getLogger(__name__)

#: So long is counted before it is written.
FLUSH_SECONDS = 10.0
#: Numbers of one turn; beyond them names are counted together.
MOST_KEYS = 500
#: Turns that wait for a database that is away; the oldest are given up.
MOST_TURNS = 360

#: Numbers of one write.
MOST_WRITTEN = 2_000

#: (a `Kind`, name, what, bucket)
Key = tuple[int, str, int, int]
Counts = Mapping[Key, int]


class TallyCounter:
    """The numbers of one process that are not written yet.

    write: adds [(age in seconds, {key: n})] to what is on record. Raises StorageUnavailable.
    wake: has `turn` called soon, and again until it says that nothing waits.
    clock: aware UTC now.
    monotonic: seconds.
    """

    def __init__(
        self,
        write: Callable[[Sequence[tuple[float, Counts]]], object],
        *,
        wake: Callable[[], None] = lambda: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._wake = wake
        self._clock = clock
        self._monotonic = monotonic
        self._own = PerProcess(_Numbers)

    # -- counting ------------------------------------------------------------------------------------------

    def accepted(self, source: str, receipt: Disposition, seconds: float) -> None:
        """An event came and got its answer. seconds: from the request's last byte to the answer."""
        self._count((0, source, receipt.code, bucket_of(seconds)))

    def refused(self, source: str, status: int) -> None:
        """A request was refused. source: "" for none that is configured."""
        self._count((0, source, status, UNTIMED))

    def ran(self, delivery: Delivery, state: DeliveryState, outcome: AttemptOutcome) -> None:
        """A run ended, and that is on record. state: the delivery's from now on."""
        if state >= DeliveryState.SUCCEEDED:
            bucket = bucket_of((self._clock() - delivery.created_at).total_seconds())
        else:
            bucket = UNTIMED
        self._count((Kind.RUNS, delivery.handler, ran_of(outcome, is_dead=state == DeliveryState.DEAD), bucket))

    def _count(self, key: Key) -> None:
        own = self._own.get()
        begins = False
        with own.lock:
            counts = own.counts
            if key in counts:
                counts[key] += 1
            else:
                if len(counts) >= MOST_KEYS:
                    key = (key[0], OTHER, key[2], key[3])
                elif not counts:
                    begins, own.since = True, self._monotonic()
                counts[key] = counts.get(key, 0) + 1
        if begins:
            self._wake()

    # -- writing -------------------------------------------------------------------------------------------

    def turn(self) -> bool:
        """Write what was counted when it is time to; whether anything waits. Raises nothing."""
        own = self._own.get()
        now = self._monotonic()
        with own.lock:
            is_due = bool(own.counts) and now - own.since >= FLUSH_SECONDS
        if is_due or own.turns:
            self.flush(is_end=False)
        return bool(own.counts or own.turns)

    def flush(self, *, is_end: bool = True) -> None:
        """Write what waits. is_end: what was counted just now as well. Raises nothing."""
        own = self._own.get()
        with own.writing:  # a process that ends may do so while its thread writes
            now = self._monotonic()
            with own.lock:
                if own.counts and (is_end or now - own.since >= FLUSH_SECONDS):
                    own.turns.append(((own.since + now) / 2, own.counts))
                    own.counts = {}
            while own.turns:
                batch = _first(own.turns)
                try:
                    self._write([(now - at, counts) for at, counts in batch])
                except StorageUnavailable:
                    return  # the next turn tries again
                except Exception:
                    logger.exception("figures of %d turns could not be written, and are given up", len(batch))
                for _ in batch:
                    own.turns.popleft()


def _first(turns: Iterable[tuple[float, Counts]]) -> list[tuple[float, Counts]]:
    """The oldest turns, as many as one statement writes in time; at least one."""
    batch: list[tuple[float, Counts]] = []
    keys = 0
    for turn in turns:
        keys += len(turn[1])
        if batch and keys > MOST_WRITTEN:
            break
        batch.append(turn)
    return batch


class _Numbers:
    """What one process counted."""

    def __init__(self) -> None:
        self.lock, self.writing = threading.Lock(), threading.Lock()
        self.counts: dict[Key, int] = {}
        #: when the first of them was counted, by the monotonic clock
        self.since = 0.0
        #: [(middle of the turn, what was counted)] that could not be written yet
        self.turns: deque[tuple[float, Counts]] = deque(maxlen=MOST_TURNS)


__all__ = ["FLUSH_SECONDS", "MOST_KEYS", "MOST_TURNS", "Counts", "Key", "TallyCounter"]
