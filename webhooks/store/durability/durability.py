"""`Durability`: looks at what one database rests on."""

from __future__ import annotations

from typing import Protocol

from webhooks.database import Database
from webhooks.store.dialect import dialect_of
from webhooks.store.durability.postgresql import ServerDurability
from webhooks.store.durability.records import Doubt
from webhooks.store.durability.sqlite import FileDurability


class DurabilityLook(Protocol):
    """What each database does its own way."""

    def doubts(self) -> list[Doubt]:
        """See `Durability`."""


class Durability:
    """Looks at what one database rests on. Changes nothing."""

    def __init__(self, database: Database) -> None:
        self._look: DurabilityLook = dialect_of(database).pick(ServerDurability, FileDurability)

    def doubts(self) -> list[Doubt]:
        """Everything that may lose an event that was answered 2xx. Raises `StorageUnavailable`."""
        return self._look.doubts()


__all__ = ["Durability"]
