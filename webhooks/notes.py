"""What a web process writes down beside the events: a sample of refused requests, and when each key was last used.

Never in ingest's way: `rejected` and `key_used` only look at a clock and hand over; a thread of its own diagnoses and
writes, after the answer, and drops what it cannot keep up with. Nothing here may fail a request.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from webhooks.errors import Rejected, StorageUnavailable
from webhooks.forks import PerProcess
from webhooks.model import InboundRequest
from webhooks.retry import one_line
from webhooks.sources.base import Source
from webhooks.store import Store
from webhooks.store.rejections import Rejection

logger = logging.getLogger(__name__)

#: The use of a key is written down this often.
KEY_SECONDS = 60.0
#: Bytes of a refused body that are kept, when any are.
CAPTURE_BYTES = 64_000
_WAITING = 64
#: The writing thread ends when it has had nothing to do for this long; the next note starts another.
_IDLE_SECONDS = 5.0


class Notes:
    """The notes of one process.

    sample: of the refused requests of a source, one in this time is kept (setting `sample_rejected`). capture: their
    bodies, too (setting `capture_rejected`).

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
        self._sampled: dict[str, float] = {}
        self._used: dict[tuple[str, str], float] = {}
        self._writer = PerProcess(lambda: _Writer(run))

    def rejected(self, source: Source, request: InboundRequest, error: Rejected, now: datetime) -> None:
        """Keep this refused request, if the last of its source that was kept is old enough."""
        at = self._monotonic()
        if at - self._sampled.get(source.name, float("-inf")) < self._sample.total_seconds():
            return
        self._sampled[source.name] = at
        self._write_soon(lambda: self._write_rejection(source, request, error, now))

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

    def _write_rejection(self, source: Source, request: InboundRequest, error: Rejected, now: datetime) -> None:
        others = [other for other in self._sources.values() if other is not source]
        self._store.rejections.put(
            Rejection(
                source=source.name,
                received_at=now,
                request_id=request.id,
                status=error.status,
                reason=one_line(error.reason),
                diagnosis=one_line(source.diagnose(request, now, others), 1000),
                header_names=tuple(one_line(name, 100) for name in request.headers.names()[:100]),
                header_bytes=sum(len(name) + len(value) for name, value in request.headers.items()),
                body_bytes=len(request.body),
                body=request.body[:CAPTURE_BYTES] if self._capture else None,
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

    def __init__(self, run: Callable[[Callable[[], None]], None]) -> None:
        self._run = run
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
                with self._lock:
                    if self._waiting.empty():
                        self._thread = None
                        return
                continue
            if write is None:
                return
            try:
                self._run(write)
            except StorageUnavailable:
                continue  # it is a sample; the log has the line
            except Exception:
                logger.exception("a note could not be written")
