"""How many deliveries of a handler may run together: as many as take a moment, half as many when that failed, and more again.

`Sizes` is told how it went and asked before each time. It knows neither threads nor a database; the clock is handed in.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

#: Together they take so long, by the mean of their handler.
TOGETHER_SECONDS = 0.05
#: After a deadlock a handler has one transaction for several runs at a time, for so many seconds.
ONE_AT_A_TIME_SECONDS = 60.0
#: Single runs that go well before two are tried again; twice as many each time that fails, up to the second number.
PATIENCE, LONGEST_PATIENCE = 4, 1024


@dataclass
class _Size:
    """What is known of one handler. limit: how many at most. wells: runs that went well since it was last changed."""

    limit: int
    wells: int = 0
    patience: int = PATIENCE
    running: int = 0
    one_until: float = 0.0


class Sizes:
    """Of the handlers of one process.

    most: {handler: how many of its deliveries may run together at all}.
    """

    def __init__(self, most: dict[str, int], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._monotonic = monotonic
        self._sizes = {name: _Size(n) for name, n in most.items()}
        self._lock = threading.Lock()

    def begin(self, name: str, mean: float | None) -> int:
        """How many may run together now, one at least; `end` must follow where that is more than one.

        mean: seconds of a run; None: not known yet.
        """
        size = self._sizes[name]
        n = 1 if mean is None else max(1, min(size.limit, int(TOGETHER_SECONDS / max(mean, 1e-6))))
        with self._lock:
            if n > 1 and size.running and self._monotonic() < size.one_until:
                n = 1
            size.running += n > 1
        return n

    def end(self, name: str) -> None:
        """Those that ran together have ended."""
        with self._lock:
            self._sizes[name].running -= 1

    def went_well(self, name: str, n: int) -> None:
        """n deliveries ran in one transaction, and it committed."""
        size = self._sizes[name]
        if size.limit >= self._most[name]:
            return
        with self._lock:
            size.wells += n
            if n > 1:
                size.patience = PATIENCE
            if size.wells >= (size.patience if size.limit == 1 else 2 * size.limit):
                size.limit, size.wells = min(2 * size.limit, self._most[name]), 0

    def failed(self, name: str, n: int, *, by_deadlock: bool = False) -> None:
        """n deliveries ran in one transaction, which was rolled back."""
        size = self._sizes[name]
        with self._lock:
            size.limit, size.wells = max(1, min(size.limit, n) // 2), 0
            if size.limit == 1:
                size.patience = min(2 * size.patience, LONGEST_PATIENCE)
            if by_deadlock:
                size.one_until = self._monotonic() + ONE_AT_A_TIME_SECONDS

    def names(self) -> Collection[str]:
        """The handlers of which several may run together."""
        return [name for name, n in self._most.items() if n > 1]


__all__ = ["LONGEST_PATIENCE", "ONE_AT_A_TIME_SECONDS", "PATIENCE", "TOGETHER_SECONDS", "Sizes"]
