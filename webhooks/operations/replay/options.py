"""How a selection is replayed. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from webhooks.errors import SelectionError, WebhooksError
from webhooks.formats import Unreadable, per_second, read_rate
from webhooks.model import Event
from webhooks.selection import Selection


class ReplayError(WebhooksError):
    """A replay that cannot be started, continued or cancelled as things stand; nothing was changed."""


class Order(enum.StrEnum):
    """In which order the deliveries become due."""

    OCCURRED = "occurred"  #: as the events happened, by the sender's word
    RECEIVED = "received"  #: as they arrived here


class ReplayedHandler(Protocol):
    """What replay needs of a handler."""

    @property
    def name(self) -> str:
        """By which deliveries know it."""

    @property
    def lane_by(self) -> Any:
        """The name of an ordering key, a function of the event, or None."""

    def lane_key(self, event: Event) -> str | None:
        """The ordering key of an event. Raises what the author's function raises."""


class ReplayedRegistry(Protocol):
    """What replay needs of the registry."""

    def route(self, source: str, type: str) -> Sequence[Any]:
        """The handlers that get an event of this source and type today."""

    def handlers(self) -> Sequence[Any]:
        """All of them."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a selection is replayed.

    handler: for this one only.
    original: for those that got the events then, rather than those that would get them today.
    order: in which the deliveries become due.
    rate: deliveries per second, by their due times.
    limit: only so many events, the first in order.
    fresh_keys: with idempotency keys of their own, so that a receiver that remembers keys takes them for new.
    """

    handler: str | None = None
    original: bool = False
    order: Order = Order.OCCURRED
    rate: float | None = None
    limit: int | None = None
    fresh_keys: bool = False

    def to_mapping(self) -> dict[str, Any]:
        """{option: value} of those that are set, as they are recorded with a replay."""
        return {name: value for name, value in asdict(self).items() if value not in (None, False)} | {
            "order": str(self.order)
        }

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Options:
        """The options of a recorded replay; what this version does not know is passed over."""
        known = {name: value for name, value in mapping.items() if name in cls.__dataclass_fields__}
        return cls(**{**known, "order": Order(mapping.get("order", Order.OCCURRED))})


def for_handler(selection: Selection, options: Options) -> Selection:
    """The selection of the events: `options.handler` narrows it only beside a state, an error or an action."""
    return selection.only(handler=options.handler if restricts(selection) else None)


def restricts(selection: Selection) -> bool:
    """Whether only handlers whose delivery matches get a new one: it speaks of a state, an error or an action."""
    return bool(selection.states or selection.error is not None or selection.action is not None)


def parse_rate(text: str) -> float:
    """`20/s`, `100/min` or a bare number (per second), as deliveries per second. Raises `SelectionError`."""
    try:
        return per_second(read_rate(text))
    except Unreadable:
        raise SelectionError(f"rate: {text[:40]!r} is not a rate; write 20/s, 100/min or 500/h", text, 0) from None


__all__ = [
    "Options", "Order", "ReplayError", "ReplayedHandler", "ReplayedRegistry", "for_handler", "parse_rate", "restricts",
]  # fmt: skip
