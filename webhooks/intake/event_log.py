"""One line in the log for each event that comes in, when the setting `log_events` asks for it.

An observer of the signals, so without the setting nothing of it is loaded. A line holds ids, source, type and what became of
the event; never its key, its headers or its body. A request that is quarantined has a line anyway.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from webhooks import signals

logger = logging.getLogger(__name__)


def _line(receipt: str) -> Callable[..., None]:
    def write(source: str, *, event_id: int, type: str, conflict: bool, request_id: str, **_: Any) -> None:
        logger.info(
            "%s %s of %s",
            "conflict" if conflict else receipt,
            type,
            source,
            extra={
                "action": "event",
                "event_id": event_id,
                "source": source,
                "event_type": type,
                "receipt": "conflict" if conflict else receipt,
                "request_id": request_id,
            },
        )

    return write


#: {signal: its observer}
OBSERVERS = {
    signals.event_stored: _line("stored"),
    signals.event_duplicate: _line("duplicate"),
    signals.event_revision: _line("revision"),
    signals.event_stale: _line("stale"),
}


def log_events() -> None:
    """Have every event of this process logged from now on; again and again has the effect of once."""
    for signal, observer in OBSERVERS.items():
        signals.connect(signal, observer)


__all__ = ["OBSERVERS", "log_events"]
