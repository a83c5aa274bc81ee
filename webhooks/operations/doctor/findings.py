"""What an examination says: findings, how bad each is, and what `repair` could do about it."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from webhooks.formats import one_line


class Level(enum.StrEnum):
    """How bad a finding is. Notes leave the exit code at 0."""

    ERROR = "error"  #: events are being lost, refused or not run
    WARNING = "warning"  #: something needs a look soon
    NOTE = "note"  #: worth knowing; what could not be checked


class Fix(enum.StrEnum):
    """What `repair` can do."""

    RESUME = "resume"
    SUBSCRIBE = "subscribe"
    FETCH_KEY = "fetch-key"
    CATCH_UP = "catch-up"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    code: stable, for scripts.
    subject: the source, handler or subscription that it is about.
    command: what repairs it, or shows more.
    fix: what `repair` would do.
    held: so many deliveries wait because of it; of one level, what holds most comes first.
    """

    level: Level
    code: str
    subject: str
    text: str
    command: str | None = None
    fix: Fix | None = None
    held: int = 0


@dataclass(frozen=True, slots=True)
class Complaint:
    """What one check says; a `Finding` but for its code, which is the name of the check."""

    level: Level
    subject: str
    text: str
    command: str | None = None
    fix: Fix | None = None
    held: int = 0


# -- words --------------------------------------------------------------------------------------------------------


def some(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    shown = ", ".join(one_line(name, 80) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


__all__ = ["Complaint", "Finding", "Fix", "Level", "some"]
