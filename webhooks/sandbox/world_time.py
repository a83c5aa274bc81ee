"""The time of a world: that of the clock under it, with what the world's own changes and waits added."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from webhooks.sandbox.refusals import Invalid

_MILLISECOND = timedelta(milliseconds=1)


class WorldTime:
    """clock: aware UTC, called for the time; it may stand still."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._offset = timedelta(0)
        self._last = datetime.min.replace(tzinfo=UTC)

    def now(self) -> datetime:
        """The time; never before the last change."""
        return max(self._clock() + self._offset, self._last)

    def tick(self) -> datetime:
        """The instant of one more change: whole milliseconds, later than every one before."""
        now = self._clock() + self._offset
        now -= timedelta(microseconds=now.microsecond % 1000)
        self._last = max(now, self._last + _MILLISECOND)
        return self._last

    def advance(self, by: timedelta) -> datetime:
        """Move on, whatever the clock says; the new time. Raises Invalid for a step back."""
        if by < timedelta(0):
            raise Invalid.field("seconds", "time only moves on")
        self._offset = self.now() + by - self._clock()
        return self.now()
