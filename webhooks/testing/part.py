"""What the parts of a `Kit` have in common: the consumer, its clock, what posts and what runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.delivery import handler_rows
from webhooks.testing.clock import KitClock
from webhooks.testing.draining import Drainer
from webhooks.testing.posting import Poster

if TYPE_CHECKING:
    from webhooks.app import Webhooks


class KitPart:
    """Of one consumer. webhooks: the consumer itself. clock: which all of it sees."""

    def __init__(self, webhooks: Webhooks, clock: KitClock) -> None:
        self.webhooks = webhooks
        self._clock = clock
        self.poster = Poster(webhooks)
        webhooks.store.handlers.register(handler_rows(webhooks.registry))
        self._drainer = Drainer(webhooks)


__all__ = ["KitPart"]
