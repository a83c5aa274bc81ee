"""What is asked for once in a while and kept in between, in one process: suggestions, closed points of charts, counts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

#: Values at once; the one that was made first gives way.
MOST = 200


class Remembered:
    """Values by name, each made anew when it is too old. monotonic: seconds."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._values: dict[str, tuple[float, Any]] = {}

    def get(self, name: str, make: Callable[[], Any], seconds: float) -> Any:
        """The value of that name, at most so old. Raises what `make` raises; nothing is kept then."""
        now = self._monotonic()
        with self._lock:
            kept = self._values.get(name)
        if kept is not None and now - kept[0] < seconds:
            return kept[1]
        made = make()
        with self._lock:
            self._values.pop(name, None)
            self._values[name] = (now, made)
            while len(self._values) > MOST:
                del self._values[next(iter(self._values))]
        return made

    def clear(self) -> None:
        """Forget every value: something was changed, and the next page is to show it."""
        with self._lock:
            self._values.clear()

    def peek(self, name: str) -> Any:
        """The value of that name, however old; None where there is none."""
        with self._lock:
            kept = self._values.get(name)
        return None if kept is None else kept[1]


__all__ = ["Remembered"]
