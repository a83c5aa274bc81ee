"""What a web process writes down beside the events: a sample of refused requests, and when each key was last used.

Never in ingest's way: `refused` and `key_used` only look at a clock and hand over; a thread of its own diagnoses and
writes, after the answer, and drops what it cannot keep up with. Nothing here may fail a request.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from webhooks.errors import Refusal, StorageUnavailable
from webhooks.forks import PerProcess
from webhooks.formats import one_line
from webhooks.intake.refusals import Refused
from webhooks.model import InboundRequest
from webhooks.sources import Source
from webhooks.store import Store
from webhooks.store.rejections import QUARANTINED, Rejection

logger = logging.getLogger(__name__)

#: The use of a key is written down this often.
KEY_SECONDS = 60.0
#: Bytes of a refused body that are kept, when any are.
CAPTURE_BYTES = 64_000
_WAITING = 64
#: Of refused requests no more are kept than this many in a second, whatever their sources and reasons.
MOST_A_SECOND = 20
#: Of these the sender's own words are worth a diagnosis: they were read whole.
_DIAGNOSED = frozenset((Refusal.SIGNATURE, Refusal.CHALLENGE, Refusal.UNREADABLE))
#: The writing thread ends when it has had nothing to do for this long; the next note starts another.
_IDLE_SECONDS = 5.0


class Notes:
    """The notes of one process.

    sample: of the requests of one source that are refused for one reason, one in this time is kept (setting
    `sample_rejected`); 0 keeps each. capture: their bodies, too (setting `capture_rejected`).

    run: how a write is called: under gevent in a native thread, when it would block the hub. write_soon: what is done
    with a write; tests hand in a function that does it at once.
    """

    def __init__(
        self,
        store: Store,
        sources: Mapping[str, Source],
        *,
        sample: timedelta = timedelta(seconds=1),
        capture: bool = False,
        run: Callable[[Callable[[], None]], None] = lambda write: write(),
        write_soon: Callable[[Callable[[], None]], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._sources = sources
        self._sample = sample
        self._capture = capture
        self._monotonic = monotonic
        self._write_soon = write_soon or self._enqueue
        #: called again and again while something is written, and until it says that nothing waits
        self.each_turn: Callable[[], bool] = lambda: False
        self._sampled: dict[tuple[str, str], float] = {}
        self._latest: collections.deque[float] = collections.deque(maxlen=MOST_A_SECOND)
        self._used: dict[tuple[str, str], float] = {}
        self._writer = PerProcess(lambda: _Writer(run, lambda: self.each_turn()))

    def refused(self, refused: Refused) -> None:
        """Keep this refused request, if the last of its source and reason that was kept is old enough."""
        if self._is_sampled((refused.source, refused.refusal)):
            self._write_soon(lambda: self._write_rejection(refused))

    def quarantined(self, source: str, request: InboundRequest, id: int, now: datetime) -> None:
        """Keep which request led to a row of the quarantine: the row knows the first of several alone."""
        if self._is_sampled((source, QUARANTINED)):
            self._write_soon(lambda: self._store.rejections.put(_of_quarantined(source, request, id, now)))

    def _is_sampled(self, kind: tuple[str, str]) -> bool:
        if not self._sample:
            return True
        at = self._monotonic()
        if at - self._sampled.get(kind, float("-inf")) < self._sample.total_seconds():
            return False
        if len(self._latest) == MOST_A_SECOND and at - self._latest[0] < 1:
            return False
        self._sampled[kind] = at
        self._latest.append(at)
        return True

    def wake(self) -> None:
        """Have `each_turn` called although nothing is written."""
        self._write_soon(lambda: None)

    def key_used(self, source: str, label: str, now: datetime) -> None:
        """Remember that a key verified a request, if that was not written down within the last minute."""
        key = (source, label)
        at = self._monotonic()
        if at - self._used.get(key, float("-inf")) < KEY_SECONDS:
            return
        if len(self._used) > 10_000:  # labels of secrets_from are not ours to bound
            self._used.clear()
        self._used[key] = at
        self._write_soon(lambda: self._store.key_uses.note(source, label, now))

    def _write_rejection(self, refused: Refused) -> None:
        source, request = self._sources.get(refused.source), refused.request
        diagnosis = None
        if source is not None and refused.refusal in _DIAGNOSED:
            others = [other for other in self._sources.values() if other is not source]
            diagnosis = one_line(source.diagnose(request, refused.received_at, others), 1000)
        self._store.rejections.put(
            Rejection(
                source=refused.source,
                received_at=refused.received_at,
                request_id=request.id,
                status=refused.status,
                reason=refused.text,
                diagnosis=diagnosis,
                body=request.body[:CAPTURE_BYTES] if self._capture else None,
                kind=refused.refusal,
                **_sizes(request),
            )
        )

    def close(self) -> None:
        """Write what waits, and end the thread."""
        writer = self._writer.made
        if writer is not None:
            writer.close()

    @property
    def _thread(self) -> threading.Thread | None:
        return self._writer.get()._thread

    def _enqueue(self, write: Callable[[], None]) -> None:
        self._writer.get().enqueue(write)


class _Writer:
    """The thread of one process that writes notes down."""

    def __init__(self, run: Callable[[Callable[[], None]], None], each_turn: Callable[[], bool]) -> None:
        self._run = run
        self._each_turn = each_turn
        self._lock = threading.Lock()
        self._waiting: queue.Queue[Callable[[], None] | None] = queue.Queue(_WAITING)
        self._closed = False
        self._thread: threading.Thread | None = None

    def close(self) -> None:
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None:
            with contextlib.suppress(queue.Full):
                self._waiting.put(None, timeout=1)
            thread.join(timeout=5)

    def enqueue(self, write: Callable[[], None]) -> None:
        with self._lock:
            if self._closed:
                return
            with contextlib.suppress(queue.Full):  # a flood: the sample is large enough
                self._waiting.put_nowait(write)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="webhooks-notes", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            try:
                write = self._waiting.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                is_waited_for = self._each_turn()
                with self._lock:
                    if self._waiting.empty() and not is_waited_for:
                        self._thread = None
                        return
                continue
            if write is None:
                return
            try:
                self._run(write)
            except StorageUnavailable:
                pass  # it is a sample
            except Exception:
                logger.exception("a note could not be written")
            self._each_turn()


def _sizes(request: InboundRequest) -> dict[str, Any]:
    """What is kept of a request besides its reason: names, and how much of it there was."""
    return {
        "header_names": tuple(one_line(name, 100) for name in request.headers.names()[:100]),
        "header_bytes": sum(len(name) + len(value) for name, value in request.headers.items()),
        "body_bytes": len(request.body),
    }


def _of_quarantined(source: str, request: InboundRequest, id: int, now: datetime) -> Rejection:
    reason = f"rightly signed, and cannot be read: it is quarantined; see webhooks quarantine show {id}"
    return Rejection(
        source=source,
        received_at=now,
        request_id=request.id,
        status=200,
        reason=reason,
        diagnosis=None,
        kind=QUARANTINED,
        **_sizes(request),
    )
