"""The only SQL: what is kept, a module per noun.

`Store` holds the parts; it is made once, in `app`. A method is one transaction unless its docstring says otherwise, is
safe to run twice, and raises `StorageUnavailable` when the database cannot be reached.

An event meets `intake` (with `lanes`), then its deliveries meet `deliveries`, and its age `retention`. Beside the
road: `events` reads back, `listings` shows, `conditions` makes SQL of a selection, `replays`, `quarantine`,
`rejections`, `handlers`, `processes`, `positions` keep what their names say, `health` asks for figures, `scratch` is
where nothing lasts.
"""

from __future__ import annotations

from collections.abc import Mapping

from webhooks.database import Database
from webhooks.model import ContentReader
from webhooks.store.clocks import Clocks
from webhooks.store.deliveries import Deliveries
from webhooks.store.durability import Durability
from webhooks.store.events import EventReader
from webhooks.store.handlers import Handlers
from webhooks.store.health import Health
from webhooks.store.intake import Intake
from webhooks.store.listings import Listings
from webhooks.store.positions import KeyUses, Marks
from webhooks.store.processes import Processes
from webhooks.store.quarantine import Quarantine
from webhooks.store.rejections import Rejections
from webhooks.store.replays import Replays
from webhooks.store.retention.partitions import Partitions
from webhooks.store.retention.pruning import Pruning


class Store:
    """Everything that is kept in one database. readers: {source name: how its bodies are read}."""

    def __init__(self, database: Database, readers: Mapping[str, ContentReader]) -> None:
        self.database = database
        self.events = EventReader(database, readers)
        self.intake = Intake(database)
        self.deliveries = Deliveries(database, self.events)
        self.handlers = Handlers(database)
        self.processes = Processes(database)
        self.clocks = Clocks(database)
        self.quarantine = Quarantine(database)
        self.pruning = Pruning(database)
        self.partitions = Partitions(database)
        self.listings = Listings(database, self.events)
        self.rejections = Rejections(database)
        self.replays = Replays(database)
        self.marks = Marks(database)
        self.key_uses = KeyUses(database)
        self.health = Health(database)
        self.durability = Durability(database)


__all__ = ["Store"]
