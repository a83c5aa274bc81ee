"""Ends what holds SQLite's write lock longer than it may."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class LimitedTransaction(Protocol):
    """A transaction that may be held for a limited time."""

    def hold_too_long(self) -> None:
        """End it: its time is over. Called by the watchdog's thread."""


class Watchdog:
    """One thread that ends transactions whose write limit is over. The limit is the same for all, so they queue."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._watched: dict[LimitedTransaction, float] = {}
        self._thread: threading.Thread | None = None
        self._stopped = False

    def watch(self, writes: LimitedTransaction, until: float) -> None:
        with self._condition:
            self._watched[writes] = until
            if self._thread is None or not self._thread.is_alive():
                self._stopped = False
                self._thread = threading.Thread(target=self._run, name="webhooks-write-limit", daemon=True)
                self._thread.start()
            elif len(self._watched) == 1:
                self._condition.notify()

    def forget(self, writes: LimitedTransaction) -> None:
        # without the lock: popping is atomic, and the end of a transaction must not wait for the watchdog
        self._watched.pop(writes, None)

    def stop(self) -> None:
        with self._condition:
            self._stopped = True
            self._condition.notify()

    def _run(self) -> None:
        while True:
            with self._condition:
                if self._stopped:
                    return
                now = time.monotonic()
                late = [writes for writes, until in list(self._watched.items()) if until <= now]
                if not late:
                    # idle: until another transaction begins
                    next_at = min(list(self._watched.values()), default=None)
                    self._condition.wait(None if next_at is None else next_at - now)
                    continue
            for writes in late:
                self.forget(writes)
                writes.hold_too_long()
