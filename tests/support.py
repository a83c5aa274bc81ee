"""What tests of every floor share and cannot be a fixture: where things are, and a clock that stands still."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

#: The checkout.
ROOT = Path(__file__).resolve().parent.parent

#: Close's sample payloads, as they travel in the wheel.
PAYLOADS = ROOT / "webhooks" / "sources" / "close" / "payloads"

#: Whether the long tests were asked for; `make crash` sets it.
LONG = os.environ.get("WEBHOOKS_TEST_LONG") == "1"

#: How many examples Hypothesis tries: `full`, as .ci/run asks, or a third of them.
PROFILE = os.environ.get("WEBHOOKS_TEST_PROFILE", "quick")

#: A little after the timestamps of the sample payloads.
START = datetime(2026, 3, 10, 14, 5, 12, tzinfo=UTC)


def examples(full: int) -> int:
    """For `@settings(max_examples=…)`: `full` where the profile says so, else a third of it."""
    return full if PROFILE == "full" else max(1, full // 3)


class Clock:
    """A clock that shows the same instant until it is moved. Call it for the time."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def move(self, by: timedelta) -> datetime:
        """Go forward, or back with a negative `by`; returns the new time."""
        self.now += by
        return self.now


def wait_until(
    condition: Callable[[], object], timeout: timedelta = timedelta(seconds=10), what: str = "the condition"
) -> None:
    """Return as soon as `condition()` is true. Raises AssertionError when it is not within `timeout`."""
    deadline = time.monotonic() + timeout.total_seconds()
    pause = 0.001
    while not condition():
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {timeout.total_seconds():g} s in vain for {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
