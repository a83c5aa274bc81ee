"""What `webhooks dev --demo` runs where no handler of the directory takes its event.

One handler that says hello to a message, and one that follows the rest of the local Close's story.
"""

from __future__ import annotations

from logging import LoggerAdapter
from typing import Any

from webhooks.model import Event
from webhooks.routing import on


@on("activity.whatsapp_message.created", name="demo.hello")
def hello(event: Event, log: LoggerAdapter[Any]) -> None:
    log.info("a WhatsApp message came in: %s", (event.data or {}).get("text"))


@on(
    "activity.whatsapp_message.updated",
    "activity.call.*",
    "activity.email.*",
    "contact.*",
    "lead.*",
    "opportunity.*",
    name="demo.follow",
    ordered_by="object_id",
)
def follow(event: Event, log: LoggerAdapter[Any]) -> None:
    log.info("%s of %s", event.type, event.object_id)
