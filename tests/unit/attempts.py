"""Attempts that need no database."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

from webhooks.delivery import RunningAttempt
from webhooks.model import Delivery, DeliveryState
from webhooks.routing import Registry
from webhooks.store.deliveries import Claimed

NOW = datetime(2026, 3, 10, 14, 5, tzinfo=UTC)
_ids = itertools.count(1)


def attempt_of(name: str = "h", *, died: bool = False, single: bool = False, **options: Any) -> RunningAttempt:
    """A claimed delivery for a handler of this name. died: its worker died. options: of the handler."""
    registry = Registry()
    registry.on("**", name=name, **options)(lambda: None)
    (handler,) = registry.handlers()
    delivery = Delivery(
        id=next(_ids),
        event_id=1,
        handler=name,
        state=DeliveryState.RUNNING,
        due_at=NOW,
        created_at=NOW,
        number=1,
        token=1,
        alone=died,
    )
    attempt = RunningAttempt(Claimed(delivery, None), handler)
    if single:
        attempt.run_singly()
    return attempt
