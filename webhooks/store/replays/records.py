"""A replay as it is on record, and one delivery that it is to make."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


class ReplayState(enum.IntEnum):
    """How far a replay is."""

    OPEN = 0  #: deliveries are still being made (or its process died); put there by `start`
    DONE = 1  #: every delivery is made; put there by `add` with the last chunk
    CANCELLED = 2  #: stopped by an operator; what had not run was cancelled

    @property
    def label(self) -> str:
        """The word for it in listings and JSON."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay as recorded.

    selection, options: as written.
    cursor: place of the last event that was looked at.

    pruned: events of the time selected that were gone when it began, at least; None of replays that older code began.
    """

    id: int
    created_at: datetime
    created_by: str
    why: str | None
    selection: Mapping[str, Any]
    options: Mapping[str, Any]
    state: ReplayState
    upper_id: int
    cursor: str | None
    events: int
    deliveries: int
    finished_at: datetime | None
    pruned: int | None


@dataclass(frozen=True, slots=True)
class Planned:
    """One delivery to make. due_at: not before then. error: why its lane key could not be computed (born dead)."""

    event_id: int
    handler: str
    due_at: datetime
    lane: str | None = None
    lane_at: int | None = None
    lane_revision: int | None = None
    error: str | None = None


__all__ = ["Planned", "Replay", "ReplayState"]
