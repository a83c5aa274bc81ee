"""What `webhooks dev --demo` runs where no handler of the directory takes the story's end: a deal that is won.

A handler of a condition, which is the other half of what one writes: only for the change that matters.
"""

from __future__ import annotations

from logging import LoggerAdapter
from typing import Any

from webhooks.model import Event
from webhooks.routing import on


@on("activity.opportunity_status_change.created", name="demo.won", ordered_by="object_id")
def won(event: Event, log: LoggerAdapter[Any]) -> None:
    log.info("a deal changed its status: %s", (event.data or {}).get("new_status_label"))
