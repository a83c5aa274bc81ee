"""What moves the instruments of a process: the life-cycle signals, and a few calls where there is no signal.

`Meter.connect` observes the signals. Requests are told by those who answer them (`accepted`, `counted`),
commits by `MeteredCommit`, claims by `time_claim`. All of that costs a process some 5 µs an event, since
numbers are moved where they stand (`cells`); where metrics are off none of it exists.

Label values are looked up in dictionaries made from the settings and the registry: what is in none of them is "" or
"other", so nothing that a client sends makes a series. What surprises: signals are the process's, not an
application's. So there is one `Meter` a process (`meter_of_process`), which learns the names of each application in it.
"""

from __future__ import annotations

import collections
import functools
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from webhooks import signals
from webhooks.delivery import Worker
from webhooks.http.metrics.cells import Cell
from webhooks.http.metrics.instruments import instruments
from webhooks.http.metrics.table import CLASSES, OTHER, OUTCOMES, RECEIPTS
from webhooks.intake import GroupCommit
from webhooks.model import AttemptOutcome, Delivery, Receipt
from webhooks.store.deliveries import Claimed

#: {outcome on record: value of the label}
_FAILURES = {
    AttemptOutcome.FAILED: "failed",
    AttemptOutcome.TIMED_OUT: "timed_out",
    AttemptOutcome.RETRY: "retry",
}


class Meter:
    """The numbers of one process. made: its instruments, by their names in `table.PROCESS`."""

    def __init__(self, made: Any, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._made = made
        self._clock = clock
        self._sources: set[str] = set()
        self._handlers: set[str] = set()
        #: {(name of a metric's part, values of its labels): its cell}, since `labels` costs as much as counting
        self._cells: dict[tuple[str, ...], Cell] = {}
        #: {(source, status): what an accepted request moves}
        self._answers: dict[tuple[str, int], tuple[Cell, Cell, Cell]] = {}
        self.waiting = Cell(made["waiting"])
        self.commit_seconds, self.commit_events = Cell(made["commit_seconds"]), Cell(made["commit_events"])
        self.slots, self.slots_busy, self.abandoned = made["slots"], made["slots_busy"], made["abandoned"]
        self.claim_seconds, self.claimed = Cell(made["claim_seconds"]), Cell(made["claimed"])

    # -- names ---------------------------------------------------------------------------------------------

    def learn(self, sources: Iterable[str], handlers: Iterable[str], *, limit: int) -> None:
        """Know the sources and handlers of an application; each gets its series, at zero.

        limit: handlers beyond it share the label "other" (setting `metrics_handlers`).
        """
        for source in sources:
            self._sources.add(source)
            for receipt in RECEIPTS:
                self._cell("events", source, receipt)
        for handler in handlers:
            if len(self._handlers) >= limit:
                break
            self._handlers.add(handler)
            for outcome in OUTCOMES:
                self._cell("attempts", handler, outcome)

    def say_what_runs(self, kind: str, version: str) -> None:
        """Set `webhooks_info`. kind: "web" or "worker"."""
        self._made["info"].labels(kind, version).set(1)

    def _cell(self, part: str, *values: str) -> Cell:
        key = (part, *values)
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = Cell(self._made[part].labels(*values))
        return cell

    def _source(self, name: str) -> str:
        return name if name in self._sources else ""

    def _handler(self, name: str) -> str:
        return name if name in self._handlers else OTHER

    # -- requests ------------------------------------------------------------------------------------------

    def accepted(self, source: str, status: int, size: int, seconds: float) -> None:
        """A body was accepted and answered.

        source: as it was asked for.
        status: of the answer.
        size: of the body, in bytes.
        seconds: since the body was read.
        """
        moved = self._answers.get((source, status))
        if moved is None:
            name = self._source(source)
            moved = (
                self._cell("requests", name, str(status)),
                self._cell("request_seconds", name),
                self._cell("body_bytes", name),
            )
            if name == source:  # else any name would be remembered
                self._answers[source, status] = moved
        moved[0].inc()
        moved[1].observe(seconds)
        moved[2].observe(size)

    def counted(self, source: str, status: int) -> None:
        """A request got another answer, a refusal mostly. source: as it was asked for."""
        self._cell("requests", self._source(source), str(status)).inc()

    # -- claims --------------------------------------------------------------------------------------------

    def time_claim(self, claim: Callable[[], Sequence[Claimed]]) -> Sequence[Claimed]:
        """Run a worker's claim, timed and counted (`Worker.claim_observer`)."""
        began = time.perf_counter()
        claimed = claim()
        self.claim_seconds.observe(time.perf_counter() - began)
        self.claimed.inc(len(claimed))
        return claimed

    # -- signals -------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Observe the signals; again and again has the effect of once."""
        for signal, observer in self._observers():
            signals.connect(signal, observer)

    def disconnect(self) -> None:
        """Observe nothing any more."""
        for signal, observer in self._observers():
            signal.disconnect(observer)

    def count_starts_only(self) -> None:
        """Be what a process for single attempts needs: the worker that it works for announces, and counts, how they end."""
        self.disconnect()
        signals.connect(signals.delivery_started, self._started)

    def _observers(self) -> Sequence[tuple[Any, Callable[..., None]]]:
        return (
            (signals.event_stored, self._stored),
            (signals.event_duplicate, self._duplicate),
            (signals.event_revision, self._revision),
            (signals.event_stale, self._stale),
            (signals.event_quarantined, self._quarantined),
            (signals.delivery_started, self._started),
            (signals.delivery_succeeded, self._succeeded),
            (signals.delivery_failed, self._failed),
            (signals.delivery_cancelled, self._cancelled),
            (signals.delivery_lost, self._lost),
            (signals.delivery_released, self._released),
        )

    def _event(self, source: str, receipt: str, conflict: bool) -> None:
        key = ("events", source, "conflict" if conflict else receipt)
        cell = self._cells.get(key)
        (cell if cell is not None else self._cell("events", self._source(source), key[2])).inc()

    def _stored(self, source: str, *, conflict: bool, **_: Any) -> None:
        self._event(source, "stored", conflict)

    def _duplicate(self, source: str, *, conflict: bool, **_: Any) -> None:
        self._event(source, "duplicate", conflict)

    def _revision(self, source: str, *, conflict: bool, **_: Any) -> None:
        self._event(source, "revision", conflict)

    def _stale(self, source: str, *, conflict: bool, **_: Any) -> None:
        self._event(source, "stale", conflict)

    def _quarantined(self, source: str, **_: Any) -> None:
        self._event(source, "quarantined", False)

    def _started(self, handler: str, *, delivery: Delivery, **_: Any) -> None:
        waited = max(0.0, (self._clock() - delivery.due_at).total_seconds())
        self._cell("wait_seconds", self._handler(handler), CLASSES[delivery.delivery_class]).observe(waited)

    def _attempt(self, handler: str, outcome: str, took: Any = None) -> None:
        handler = self._handler(handler)
        self._cell("attempts", handler, outcome).inc()
        if took is not None:
            self._cell("attempt_seconds", handler).observe(took.total_seconds())

    def _succeeded(self, handler: str, *, took: Any, **_: Any) -> None:
        self._attempt(handler, "succeeded", took)

    def _failed(self, handler: str, *, outcome: AttemptOutcome, took: Any, **_: Any) -> None:
        self._attempt(handler, _FAILURES.get(outcome, "failed"), took)

    def _cancelled(self, handler: str, *, ran: bool, took: Any, **_: Any) -> None:
        self._attempt(handler, "discarded" if ran else "filtered", took if ran else None)

    def _lost(self, handler: str, **_: Any) -> None:
        self._attempt(handler, "lost")

    def _released(self, handler: str, **_: Any) -> None:
        self._attempt(handler, "released")


@functools.cache
def meter_of_process() -> Meter:
    """The one meter of this process, connected by its caller. Raises ImportError without the extra `metrics`."""
    return Meter(instruments())


class MeteredCommit(GroupCommit):
    """A group commit that counts: how many wait, how long a transaction takes, and how many events share it.

    How many wait is told when a transaction begins, which it does within the deadline of those that wait, and when the last
    has left: that costs less than counting each up and down. A deque counts, since it is exact under threads without a lock.

    record: as `GroupCommit`'s.
    meter: is told.
    """

    def __init__(self, record: Callable[..., list[Receipt]], *, meter: Meter, **options: Any) -> None:
        inside = self._inside = collections.deque[None]()

        def timed(gather: Any, patience: Any) -> list[Receipt]:
            meter.waiting.set(len(inside))
            began = time.perf_counter()
            receipts = record(gather, patience)
            meter.commit_seconds.observe(time.perf_counter() - began)
            meter.commit_events.observe(len(receipts))
            return receipts

        super().__init__(timed, **options)
        self._waiting = meter.waiting

    def append(self, items: Any) -> list[Receipt]:
        """As `GroupCommit.append`."""
        inside = self._inside
        inside.append(None)
        try:
            return super().append(items)
        finally:
            inside.pop()
            if not inside:
                self._waiting.set(0)


def worker_gauges(meter: Meter, worker: Worker) -> Callable[[], None]:
    """What sets the gauges of a worker, before they are read."""

    def set_gauges() -> None:
        meter.slots.set(worker.settings.slots)
        meter.slots_busy.set(len(worker.runner.buffer.running()))
        meter.abandoned.set(worker.abandoned_threads)

    return set_gauges


__all__ = ["Meter", "MeteredCommit", "meter_of_process", "worker_gauges"]
