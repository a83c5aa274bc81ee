"""The kit's clock. Over SQLite it stands still until it is moved; signatures, due times, leases and events see it.

A server has a clock of its own, which decides what is due. There time is moved by moving back what waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from webhooks.database import Database
    from webhooks.sandbox import World

#: Where it starts.
START = datetime(2026, 3, 10, 14, 5, tzinfo=UTC)


class KitClock(Protocol):
    """Call it for the time."""

    def __call__(self) -> datetime:
        """The time, aware UTC."""

    def move(self, by: timedelta) -> None:
        """Have so much time pass. Raises ValueError for a time that lies back."""

    def freeze(self, at: datetime) -> None:
        """Make it that instant. Raises ValueError where it cannot be held."""

    def base(self) -> datetime:
        """The time without what a sandbox adds to it."""

    def follow(self, world: World) -> None:
        """Never lie behind a sandbox, whose changes take time of their own. world: over `base`."""

    def serve(self, database: Database) -> None:
        """Be the clock of what is in this database."""


class StandingClock:
    """A clock that stands still. now: where it begins, aware."""

    def __init__(self, now: datetime = START) -> None:
        self.now = require_aware(now)
        self._time: Callable[[], datetime] = self.base

    def __call__(self) -> datetime:
        return self._time()

    def base(self) -> datetime:
        """See `KitClock.base`."""
        return self.now

    def move(self, by: timedelta) -> None:
        """See `KitClock.move`."""
        require_forward(by)
        self.now += by

    def freeze(self, at: datetime) -> None:
        """See `KitClock.freeze`."""
        self.now = require_aware(at)

    def follow(self, world: World) -> None:
        """See `KitClock.follow`."""
        self._time = world.now

    def serve(self, database: Database) -> None:
        """See `KitClock.serve`: it has this clock."""


class ServerClock:
    """The wall's clock, beside a server that has its own."""

    _database: Database

    def __call__(self) -> datetime:
        return self.base()

    def base(self) -> datetime:
        """See `KitClock.base`."""
        return datetime.now(UTC)

    def move(self, by: timedelta) -> None:
        """See `KitClock.move`: due times, leases and pauses of circuit breakers come that much nearer."""
        from sqlalchemy import literal, types, update

        from webhooks.database import tables

        require_forward(by)
        time = literal(by, types.Interval)
        deliveries, handlers = tables.deliveries, tables.handlers
        nearer = {name: deliveries.c[name] - time for name in ("due_at", "scheduled_at", "lease_until")}
        with self._database.write() as connection:
            connection.execute(update(deliveries).where(deliveries.c.state < 2).values(nearer))
            connection.execute(update(handlers).values(breaker_until=handlers.c.breaker_until - time))

    def freeze(self, at: datetime) -> None:
        """It cannot be held: raises ValueError."""
        raise ValueError(
            "on PostgreSQL the clock is the server's and cannot be held; use advance(), or a kit over SQLite"
        )

    def follow(self, world: World) -> None:
        """See `KitClock.follow`: its changes take no more time than they take."""

    def serve(self, database: Database) -> None:
        """See `KitClock.serve`: what waits there is moved."""
        self._database = database


def require_forward(by: timedelta) -> None:
    """Raise ValueError for a time that lies back."""
    if by < timedelta(0):
        raise ValueError(f"time goes forward only, and {by} lies back; freeze(at) sets an instant")


def require_aware(instant: datetime) -> datetime:
    """The instant in UTC. Raises ValueError for one without a time zone."""
    if instant.tzinfo is None:
        raise ValueError(f"{instant!r} has no time zone; write datetime(…, tzinfo=UTC)")
    return instant.astimezone(UTC)


__all__ = ["START", "KitClock", "ServerClock", "StandingClock", "require_aware"]
