"""`Store`: the parts of the store over one database. It is made once, in `app`.

A part is imported and made when it is first asked for: a web process writes events, and needs few of the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from webhooks.database import Database
from webhooks.model import ContentReader
from webhooks.store.events import EventReader
from webhooks.store.handlers import Handlers
from webhooks.store.intake import Intake
from webhooks.store.positions import KeyUses, LogPositions, PausedSubscriptions
from webhooks.store.processes import Processes
from webhooks.store.quarantine import Quarantine
from webhooks.store.registrations import Registrations
from webhooks.store.rejections import Rejections

if TYPE_CHECKING:
    from webhooks.store.actions import Actions
    from webhooks.store.alarms import Alarms
    from webhooks.store.clocks import Clocks
    from webhooks.store.deliveries import Deliveries
    from webhooks.store.durability import Durability
    from webhooks.store.gauges import InstallationGauges
    from webhooks.store.handlers import HandlerNames
    from webhooks.store.health import Health
    from webhooks.store.listings import Listings
    from webhooks.store.replays import Replays
    from webhooks.store.retention import Pruning
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
        self.handlers = Handlers(database)
        self.processes = Processes(database)
        self.quarantine = Quarantine(database)
        self.registrations = Registrations(database)
        self.rejections = Rejections(database)
        self.marks = LogPositions(database)
        self.key_uses = KeyUses(database)
        self.paused_subscriptions = PausedSubscriptions(database)

    @cached_property
    def deliveries(self) -> Deliveries:
        """What runs them: claims, leases, ends."""
        from webhooks.store.deliveries import Deliveries

        return Deliveries(self.database, self.events)

    @cached_property
    def clocks(self) -> Clocks:
        """Instants that cannot be."""
        from webhooks.store.clocks import Clocks

        return Clocks(self.database)

    @cached_property
    def pruning(self) -> Pruning:
        """What is old."""
        from webhooks.store.retention import Pruning

        return Pruning(self.database)

    @cached_property
    def handler_names(self) -> HandlerNames:
        """What is stored of a handler, under another name."""
        from webhooks.store.handlers import HandlerNames

        return HandlerNames(self.database)

    @cached_property
    def partitions(self) -> Partitions:
        """See `Pruning.partitions`."""
        return self.pruning.partitions()

    @cached_property
    def listings(self) -> Listings:
        """Pages of what is stored."""
        from webhooks.store.listings import Listings

        return Listings(self.database, self.events)

    @cached_property
    def replays(self) -> Replays:
        """Recorded replays."""
        from webhooks.store.replays import Replays

        return Replays(self.database)

    @cached_property
    def health(self) -> Health:
        """How things stand."""
        from webhooks.store.health import Health

        return Health(self.database)

    @cached_property
    def gauges(self) -> InstallationGauges:
        """What a scraper is told of the installation."""
        from webhooks.store.gauges import InstallationGauges

        return InstallationGauges(self.database)

    @cached_property
    def durability(self) -> Durability:
        """Whether a commit lasts."""
        from webhooks.store.durability import Durability

        return Durability(self.database)

    @cached_property
    def actions(self) -> Actions:
        """What people did."""
        from webhooks.store.actions import Actions

        return Actions(self.database)

    @cached_property
    def alarms(self) -> Alarms:
        """What is known of alarms."""
        from webhooks.store.alarms import Alarms

        return Alarms(self.database)

    @cached_property
    def tallies(self) -> Tallies:
        """Figures over time."""
        from webhooks.store.tallies import Tallies

        return Tallies(self.database)

    @cached_property
    def snapshots(self) -> Snapshots:
        """What was found when it was looked for last."""
        from webhooks.store.snapshots import Snapshots

        return Snapshots(self.database)


__all__ = ["Store"]
