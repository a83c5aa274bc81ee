"""`Store`: the parts of the store over one database. It is made once, in `app`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from webhooks.database import Database
from webhooks.model import ContentReader
from webhooks.store.clocks import Clocks
from webhooks.store.deliveries import Deliveries
from webhooks.store.durability import Durability
from webhooks.store.events import EventReader
from webhooks.store.gauges import InstallationGauges
from webhooks.store.handlers import Handlers
from webhooks.store.health import Health
from webhooks.store.intake import Intake
from webhooks.store.listings import Listings
from webhooks.store.positions import KeyUses, LogPositions, PausedSubscriptions
from webhooks.store.processes import Processes
from webhooks.store.quarantine import Quarantine
from webhooks.store.registrations import Registrations
from webhooks.store.rejections import Rejections
from webhooks.store.replays import Replays
from webhooks.store.retention import Pruning

if TYPE_CHECKING:
    from webhooks.store.actions import Actions
    from webhooks.store.alarms import Alarms
    from webhooks.store.retention.partitions import Partitions
    from webhooks.store.snapshots import Snapshots
    from webhooks.store.tallies import Tallies


class Store:
    """Everything that is kept in one database.

    database: where it is kept.
    readers: {source name: how its bodies are read}.
    """

    def __init__(self, database: Database, readers: Mapping[str, ContentReader]) -> None:
        self.database = database
        self.events = EventReader(database, readers)
        self.intake = Intake(database)
        self.deliveries = Deliveries(database, self.events)
        self.handlers = Handlers(database)
        self.processes = Processes(database)
        self.clocks = Clocks(database)
        self.quarantine = Quarantine(database)
        self.registrations = Registrations(database)
        self.pruning = Pruning(database)
        self.listings = Listings(database, self.events)
        self.rejections = Rejections(database)
        self.replays = Replays(database)
        self.marks = LogPositions(database)
        self.key_uses = KeyUses(database)
        self.paused_subscriptions = PausedSubscriptions(database)
        self.health = Health(database)
        self.gauges = InstallationGauges(database)
        self.durability = Durability(database)

    @cached_property
    def partitions(self) -> Partitions:
        """See `Pruning.partitions`; loaded when it is asked for."""
        return self.pruning.partitions()

    @cached_property
    def actions(self) -> Actions:
        """What people did; loaded when it is asked for."""
        from webhooks.store.actions import Actions

        return Actions(self.database)

    @cached_property
    def alarms(self) -> Alarms:
        """What is known of alarms; loaded when it is asked for."""
        from webhooks.store.alarms import Alarms

        return Alarms(self.database)

    @cached_property
    def tallies(self) -> Tallies:
        """Figures over time; loaded when they are asked for."""
        from webhooks.store.tallies import Tallies

        return Tallies(self.database)

    @cached_property
    def snapshots(self) -> Snapshots:
        """What was found when it was looked for last; loaded when it is asked for."""
        from webhooks.store.snapshots import Snapshots

        return Snapshots(self.database)


__all__ = ["Store"]
