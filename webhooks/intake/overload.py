"""What a process can bear: how many requests are under way, and whether its database refuses what is written."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from webhooks.errors import DatabaseRefused, Overloaded, StorageUnavailable


class DatabaseTrouble:
    """Why the database refuses what is written, for `/readyz`. monotonic: seconds, for tests."""

    #: Seconds after which a refusal, nothing stored since, is not news any more.
    LASTS = 30.0

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._refused: tuple[str, float] | None = None

    def note(self, error: StorageUnavailable) -> None:
        """Remember `error` when it is the database's refusal; it is logged with the request (`refusals`)."""
        if isinstance(error, DatabaseRefused):
            self._refused = (error.reason, self._monotonic())

    def clear(self) -> None:
        """Something was stored."""
        if self._refused is not None:
            self._refused = None

    @property
    def refused(self) -> str | None:
        """Why the database refused the latest event, if that is not long ago and none was stored since."""
        refused = self._refused
        return refused[0] if refused is not None and self._monotonic() - refused[1] < self.LASTS else None


class InFlight:
    """How many requests of each source are under way in this process."""

    def __init__(self, sources: Iterable[str]) -> None:
        self._counts = dict.fromkeys(sources, 0)
        self._lock = threading.Lock()

    def enter(self, name: str, limit: int) -> None:
        """Count one more of the source `name`. Raises Overloaded when there are `limit` already."""
        with self._lock:
            if self._counts[name] >= limit:
                raise Overloaded(f"{limit} requests of source {name!r} are under way already")
            self._counts[name] += 1

    def leave(self, name: str) -> None:
        """Count one less."""
        with self._lock:
            self._counts[name] -= 1


__all__ = ["DatabaseTrouble", "InFlight"]
