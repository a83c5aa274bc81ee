"""`Clocks`: what is believable in one database, by its clock now."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

from webhooks.database import Database
from webhooks.store.clocks.postgresql import PostgresqlClocks
from webhooks.store.clocks.records import Repaired
from webhooks.store.clocks.sqlite import SqliteClocks
from webhooks.store.dialect import dialect_of


class ClockStatements(Protocol):
    """What each database does its own way."""

    def differing(self) -> dict[str, timedelta]:
        """See `Clocks`."""

    def pull_back(self, lease: timedelta) -> Repaired:
        """See `Clocks`."""


class Clocks:
    """What is believable in one database, by its clock now."""

    def __init__(self, database: Database) -> None:
        self._statements: ClockStatements = dialect_of(database).pick(PostgresqlClocks, SqliteClocks)

    def differing(self) -> dict[str, timedelta]:
        """{process: how far its clock is ahead of ours} of those that are alive and differ by more than a minute.

        Empty on PostgreSQL, where there is one clock.
        """
        return self._statements.differing()

    def pull_back(self, lease: timedelta) -> Repaired:
        """Move what lies further ahead than its reason. lease: of holders that did not write theirs."""
        return self._statements.pull_back(lease)


__all__ = ["Clocks"]
