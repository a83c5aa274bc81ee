"""A worker's duty whose work may take long: looked at with every tick, done in a thread of its own, one at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta


class BackgroundDuty:
    """What duties with a thread have in common; a child has `tick`, which begins what is due.

    name: of the thread.
    look_every: `may_look` is true no more often.
    monotonic: seconds by a clock that never jumps.
    first_after: it is not true before; a worker that has just begun has other things to do.
    """

    def __init__(
        self,
        name: str,
        look_every: timedelta,
        monotonic: Callable[[], float] = time.monotonic,
        first_after: timedelta = timedelta(0),
    ) -> None:
        self._name = name
        self._look_every = look_every
        self._monotonic = monotonic
        self._next_look = monotonic() + first_after.total_seconds()
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        """Whether its work is under way."""
        return self._thread is not None and self._thread.is_alive()

    def wait(self, timeout: timedelta) -> None:
        """Wait for the work under way, if there is any."""
        if self._thread is not None:
            self._thread.join(timeout.total_seconds())

    def may_look(self) -> bool:
        """Whether it is time to look at what is due, and nothing is under way; what asks is taken to look."""
        now = self._monotonic()
        if now < self._next_look or self.is_running:
            return False
        self._next_look = now + self._look_every.total_seconds()
        return True

    def begin(self, work: Callable[[], None]) -> None:
        """Do it in a thread, which does not keep the process alive."""
        self._thread = threading.Thread(target=work, name=self._name, daemon=True)
        self._thread.start()


__all__ = ["BackgroundDuty"]
