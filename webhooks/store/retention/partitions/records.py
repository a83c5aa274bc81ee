"""What partitions are called and are, what is done to them, and what may be wrong with them."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from webhooks.errors import WebhooksError
from webhooks.model import DeliveryState, instant_of

TABLE = "webhooks_events"
FIRST = f"{TABLE}_first"
DEFAULT = f"{TABLE}_default"


class Period(enum.StrEnum):
    """How long the events of one partition are."""

    WEEK = "week"  #: Monday to Sunday, UTC
    MONTH = "month"  #: of the calendar, UTC


class PartitionError(WebhooksError):
    """The table cannot be partitioned, or not now; its text says what to do. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One table of events. lower (included), upper: of its ids; None is no bound. Without both it is the default.

    rows: estimated, by the last vacuum.
    size_bytes: with indexes and what is stored out of line.
    """

    name: str
    lower: int | None
    upper: int | None
    rows: int = 0
    size_bytes: int = 0

    @property
    def is_default(self) -> bool:
        """Whether it takes what no other partition has."""
        return self.lower is None and self.upper is None

    @property
    def since(self) -> datetime | None:
        """When its oldest event could have been made; None: no bound."""
        return None if self.lower is None else instant_of(self.lower)

    @property
    def until(self) -> datetime | None:
        """Before when its newest event was made; None: no bound."""
        return None if self.upper is None else instant_of(self.upper)


@dataclass(frozen=True, slots=True)
class Changes:
    """What `convert` or `extend` did, or would do. first: the partition that the existing table became."""

    made: tuple[Partition, ...] = ()
    first: Partition | None = None
    skipped: tuple[Partition, ...] = ()


@dataclass(frozen=True, slots=True)
class Holders:
    """What an old partition is still needed for; false when for nothing.

    deliveries: {state: how many}.
    first_event: the oldest that they are of.
    replays: open ones that name events of it.
    """

    deliveries: Mapping[DeliveryState, int]
    first_event: int | None
    replays: Sequence[int]

    def __bool__(self) -> bool:
        return bool(self.deliveries or self.replays)

    def __str__(self) -> str:
        reasons = [f"replay {id}, which is open and names events of it" for id in self.replays]
        if self.deliveries:
            counts = ", ".join(f"{count} {state.label}" for state, count in self.deliveries.items())
            reasons.insert(0, f"deliveries ({counts}; event {self.first_event} is the first)")
        return " and ".join(reasons)


class Trouble(enum.Enum):
    """What may be wrong with partitions."""

    HELD = enum.auto()  #: an old one cannot be dropped
    ENDING = enum.auto()  #: those ahead of now were not made
    STRAYS = enum.auto()  #: events are in the default partition


@dataclass(frozen=True, slots=True)
class Problem:
    """What an operator should know of the partitions. command: what repairs it, or shows more."""

    trouble: Trouble
    text: str
    command: str


@dataclass(slots=True)
class Kept:
    """What one round of retention did.

    rows_before: events received earlier are to be pruned row by row.
    held: {partition: why it could not be dropped}.
    problem: why partitions could not be made ahead.
    """

    rows_before: datetime
    made: list[str] = field(default_factory=list)
    dropped: list[Partition] = field(default_factory=list)
    held: dict[str, str] = field(default_factory=dict)
    problem: str | None = None


__all__ = [
    "DEFAULT", "FIRST", "TABLE", "Changes", "Holders", "Kept", "Partition", "PartitionError", "Period", "Problem", "Trouble",
]  # fmt: skip
