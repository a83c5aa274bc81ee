"""What a web process writes down beside the events: a sample of refused requests, and when each key was last used.

Never in ingest's way: `RejectionSampler` and `KeyUseRecorder` only look at a clock and hand over; the thread of a
`BackgroundWriter` diagnoses and writes, after the answer, and drops what it cannot keep up with. Nothing here may fail
a request.
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
from webhooks.intake.refusals import RefusedRequest
from webhooks.model import InboundRequest
from webhooks.sources import Source
from webhooks.store import Store
from webhooks.store.rejections import DUPLICATE, QUARANTINED, Rejection

logger = logging.getLogger(__name__)

#: The use of a key is written down this often.
KEY_SECONDS = 60.0
#: Bytes of a refused body that are kept, when any are.
CAPTURE_BYTES = 64_000
#: Of refused requests no more are kept than this many in a second, whatever their sources and reasons.
MOST_A_SECOND = 20
#: Writes that wait for the thread; more are dropped.
_WAITING = 64
#: Labels of keys that are remembered; those of `secrets_from` are not ours to bound.
_MOST_KEYS = 10_000
#: Of these the sender's own words are worth a diagnosis: they were read whole.
_DIAGNOSED = frozenset((Refusal.SIGNATURE, Refusal.CHALLENGE, Refusal.UNREADABLE))
#: The writing thread ends when it has had nothing to do for this long; the next write starts another.
_IDLE_SECONDS = 5.0


class BackgroundWriter:
    """Writes what can wait, in a thread of its own, one after another.

    run: how a write is called: under gevent in a native thread, when it would block the hub.
    """

    def __init__(self, run: Callable[[Callable[[], None]], None] = lambda write: write()) -> None:
        #: called again and again while something is written, and until it says that nothing waits
        self.each_turn: Callable[[], bool] = lambda: False
        #: Have a write made soon, or dropped; never raises, never waits. Tests put a function here that writes at once.
        self.write_soon: Callable[[Callable[[], None]], None] = self._enqueue
        self._thread = PerProcess(lambda: _WritingThread(run, lambda: self.each_turn()))

    @property
    def thread(self) -> threading.Thread | None:
        """The thread of this process, while there is one."""
        return self._thread.get().thread

    def wake(self) -> None:
        """Have `each_turn` called although nothing is written."""
        self.write_soon(lambda: None)

    def close(self) -> None:
        """Write what waits, and end the thread."""
        thread = self._thread.made
        if thread is not None:
            thread.close()

    def _enqueue(self, write: Callable[[], None]) -> None:
        self._thread.get().enqueue(write)


class RejectionSampler:
    """Keeps a sample of the requests of one process of which no event tells: refused, quarantined, duplicates.

    sample: of the requests of one source and kind, one in this time is kept (setting `sample_rejected`); 0 keeps each.
    capture: the bodies of refused ones, too (setting `capture_rejected`).
    monotonic: seconds, for tests.
    """

    def __init__(
        self,
        store: Store,
        sources: Mapping[str, Source],
        writer: BackgroundWriter,
        *,
        sample: timedelta = timedelta(seconds=1),
        capture: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.monotonic = monotonic
        self._store = store
        self._sources = sources
        self._writer = writer
        self._sample = sample
        self._capture = capture
        self._sampled: dict[tuple[str, str], float] = {}
        self._latest: collections.deque[float] = collections.deque(maxlen=MOST_A_SECOND)

    def refused(self, refused: RefusedRequest) -> None:
        """Keep this refused request, if the last of its source and reason that was kept is old enough."""
        if self._is_sampled((refused.source, refused.refusal)):
            self._writer.write_soon(lambda: self._write_refused(refused))

    def quarantined(self, source: str, request: InboundRequest, id: int, now: datetime) -> None:
        """Keep which request led to a row of the quarantine: the row knows the first of several alone."""
        reason = f"rightly signed, and cannot be read: it is quarantined; see webhooks quarantine show {id}"
        self._accepted(QUARANTINED, source, request, reason, now)

    def duplicate(self, source: str, request: InboundRequest, id: int | None, now: datetime) -> None:
        """Keep which request brought event `id` once more: the event knows the first of them alone."""
        reason = f"it brought nothing new: a duplicate of event {id}; see webhooks explain {id}"
        self._accepted(DUPLICATE, source, request, reason, now)

    def wake(self) -> None:
        """Have lines that are held back said, once their minute is over; see `refusals`."""
        self._writer.wake()

    def _accepted(self, kind: str, source: str, request: InboundRequest, reason: str, now: datetime) -> None:
        if self._is_sampled((source, kind)):
            self._writer.write_soon(
                lambda: self._store.rejections.put(
                    Rejection(
                        source=source,
                        received_at=now,
                        request_id=request.id,
                        status=200,
                        reason=reason,
                        diagnosis=None,
                        kind=kind,
                        **_sizes(request),
                    )
                )
            )

    def _is_sampled(self, kind: tuple[str, str]) -> bool:
        if not self._sample:
            return True
        at = self.monotonic()
        if at - self._sampled.get(kind, float("-inf")) < self._sample.total_seconds():
            return False
        if len(self._latest) == MOST_A_SECOND and at - self._latest[0] < 1:
            return False
        self._sampled[kind] = at
        self._latest.append(at)
        return True

    def _write_refused(self, refused: RefusedRequest) -> None:
        request = refused.request
        self._store.rejections.put(
            Rejection(
                source=refused.source,
                received_at=refused.received_at,
                request_id=request.id,
                status=refused.status,
                reason=refused.text,
                diagnosis=self._diagnose(refused),
                body=request.body[:CAPTURE_BYTES] if self._capture else None,
                kind=refused.refusal,
                **_sizes(request),
            )
        )

    def _diagnose(self, refused: RefusedRequest) -> str | None:
        """What its source says of it, on one line; a diagnosis that fails loses itself, and not the record."""
        source = self._sources.get(refused.source)
        if source is None or refused.refusal not in _DIAGNOSED:
            return None
        others = [other for other in self._sources.values() if other is not source]
        try:
            return one_line(source.diagnose(refused.request, refused.received_at, others), 1000)
        except Exception:
            logger.exception("a refused request of source %r could not be diagnosed", refused.source)
            return None


class KeyUseRecorder:
    """Writes down when each key of each source last verified a request. monotonic: seconds, for tests."""

    def __init__(
        self, store: Store, writer: BackgroundWriter, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._writer = writer
        self._monotonic = monotonic
        self._used: dict[tuple[str, str], float] = {}

    def key_used(self, source: str, label: str, now: datetime) -> None:
        """Remember that a key verified a request, if that was not written down within the last minute."""
        key = (source, label)
        at = self._monotonic()
        if at - self._used.get(key, float("-inf")) < KEY_SECONDS:
            return
        if len(self._used) > _MOST_KEYS:
            self._used.clear()
        self._used[key] = at
        self._writer.write_soon(lambda: self._store.key_uses.note(source, label, now))


class _WritingThread:
    """The thread of one process that writes."""

    def __init__(self, run: Callable[[Callable[[], None]], None], each_turn: Callable[[], bool]) -> None:
        self.lock = threading.Lock()
        self.thread: threading.Thread | None = None
        self._run = run
        self._each_turn = each_turn
        self._waiting: queue.Queue[Callable[[], None] | None] = queue.Queue(_WAITING)
        self._closed = False

    def close(self) -> None:
        with self.lock:
            self._closed = True
            thread = self.thread
        if thread is not None:
            with contextlib.suppress(queue.Full):
                self._waiting.put(None, timeout=1)
            thread.join(timeout=5)

    def enqueue(self, write: Callable[[], None]) -> None:
        with self.lock:
            if self._closed:
                return
            with contextlib.suppress(queue.Full):  # a flood: the sample is large enough
                self._waiting.put_nowait(write)
            if self.thread is None or not self.thread.is_alive():
                self.thread = threading.Thread(target=self._work, name="webhooks-observations", daemon=True)
                self.thread.start()

    def _work(self) -> None:
        while True:
            try:
                write = self._waiting.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                is_waited_for = self._each_turn()
                with self.lock:
                    if self._waiting.empty() and not is_waited_for:
                        self.thread = None
                        return
                continue
            if write is None:
                return
            try:
                self._run(write)
            except StorageUnavailable:
                pass  # it is a sample
            except Exception:
                logger.exception("an observation could not be written")
            self._each_turn()


def _sizes(request: InboundRequest) -> dict[str, Any]:
    """What is kept of a request besides its reason: names, and how much of it there was."""
    return {
        "header_names": tuple(one_line(name, 100) for name in request.headers.names()[:100]),
        "header_bytes": sum(len(name) + len(value) for name, value in request.headers.items()),
        "body_bytes": len(request.body),
    }
