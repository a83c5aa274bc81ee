"""What an examination says: findings, how bad each is, and what `repair` could do about it."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

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
    """

    level: Level
    code: str
    subject: str
    text: str
    command: str | None = None
    fix: Fix | None = None


@dataclass(frozen=True, slots=True)
class Complaint:
    """What one check says; a `Finding` but for its code, which is the name of the check."""

    level: Level
    subject: str
    text: str
    command: str | None = None
    fix: Fix | None = None


# -- words --------------------------------------------------------------------------------------------------------


def some(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    shown = ", ".join(one_line(name, 80) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def counted(number: int, noun: str, is_more: bool = False) -> str:
    """`2,000 deliveries`. is_more: counting stopped there."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{'at least ' if is_more else ''}{number:,} {noun if number == 1 else plural}"


def shown_instant(instant: datetime) -> str:
    """An instant in a sentence and in a command, in UTC to the second."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rough(duration: timedelta) -> str:
    """A duration in its largest unit of which there are two: `90 s`, `60 min`, `5 h`, `3 days`; without its sign."""
    seconds = abs(duration.total_seconds())
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


__all__ = ["Complaint", "Finding", "Fix", "Level", "counted", "rough", "shown_instant", "some"]
