"""The kit's clock: it stands still until it is moved. Signatures, due times, leases and events see it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

#: Where it starts.
START = datetime(2026, 3, 10, 14, 5, tzinfo=UTC)


class StandingClock:
    """Call it for the time."""

    def __init__(self, now: datetime = START) -> None:
        self.now = require_aware(now)

    def __call__(self) -> datetime:
        return self.now

    def move(self, by: timedelta) -> None:
        """Go forward. Raises ValueError for a time that lies back."""
        if by < timedelta(0):
            raise ValueError(f"time goes forward only, and {by} lies back; freeze(at) sets an instant")
        self.now += by


def require_aware(instant: datetime) -> datetime:
    """The instant in UTC. Raises ValueError for one without a time zone."""
    if instant.tzinfo is None:
        raise ValueError(f"{instant!r} has no time zone; write datetime(…, tzinfo=UTC)")
    return instant.astimezone(UTC)


__all__ = ["START", "StandingClock", "require_aware"]
