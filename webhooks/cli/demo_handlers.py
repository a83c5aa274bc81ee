"""What `webhooks dev --demo` runs where no handler of the directory takes its event: one handler that says hello."""

from __future__ import annotations

from logging import LoggerAdapter
from typing import Any

from webhooks.model import Event
from webhooks.registry import on


@on("activity.whatsapp_message.created", name="demo.hello")
def hello(event: Event, log: LoggerAdapter[Any]) -> None:
    log.info("a WhatsApp message came in: %s", (event.data or {}).get("text"))
