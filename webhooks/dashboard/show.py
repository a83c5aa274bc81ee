"""How values look: instants and durations in words, and for each state a word, an icon and a colour.

Pure functions; the same words as the command line prints. What templates draw with them is in `pieces.html`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from webhooks import formats
from webhooks.model import DeliveryState, Disposition
from webhooks.operations.explain import Fate


class Tag(NamedTuple):
    """A word with its colour and icon. kind: ok, warn, bad, info, accent or ""."""

    word: str
    kind: str = ""
    icon: str = ""


#: {state of a delivery: how it is shown}
STATES: Mapping[DeliveryState, Tag] = {
    DeliveryState.PENDING: Tag("pending", "warn", "clock"),
    DeliveryState.RUNNING: Tag("running", "info", "play"),
    DeliveryState.SUCCEEDED: Tag("succeeded", "ok", "check"),
    DeliveryState.DEAD: Tag("dead", "bad", "cross"),
    DeliveryState.CANCELLED: Tag("cancelled", "", "cross"),
}

#: {what became of a copy: how it is shown}
RECEIPTS: Mapping[Disposition, Tag] = {
    Disposition.STORED: Tag("stored", "info", "source"),
    Disposition.REVISION: Tag("revision", "accent", "source"),
    Disposition.DUPLICATE: Tag("duplicate", "", "copy"),
    Disposition.STALE: Tag("stale", "", "clock"),
    Disposition.CONFLICT: Tag("conflict", "bad", "warning"),
    Disposition.STRIPPED: Tag("stripped", "", "copy"),
    Disposition.STALE_UNKEPT: Tag("stale", "", "clock"),
    Disposition.CONFLICT_UNKEPT: Tag("conflict", "bad", "warning"),
    Disposition.QUARANTINED: Tag("quarantined", "warn", "quarantine"),
}

#: {what became of a copy: what that means}
RECEIPTS_SAY: Mapping[Disposition, str] = {
    Disposition.STORED: "Never seen before: stored, and delivered to every handler that asks for it.",
    Disposition.REVISION: "A later state of a known event: stored and delivered as well.",
    Disposition.STALE: "An older state than the one known: kept, not delivered.",
    Disposition.CONFLICT: "Another content under a known key: kept and flagged, not delivered.",
    Disposition.STRIPPED: "A copy without content, from the sender's log: kept, not delivered.",
}

#: {what became of an event for a handler: how it is shown}
FATES: Mapping[Fate, Tag] = {
    Fate.PENDING: Tag("pending", "warn", "clock"),
    Fate.RUNNING: Tag("running", "info", "play"),
    Fate.RAN: Tag("ran", "ok", "check"),
    Fate.DEAD: Tag("failed for good", "bad", "cross"),
    Fate.CANCELLED: Tag("cancelled", "", "cross"),
    Fate.NOT_SUBSCRIBED: Tag("not subscribed", "", "filter"),
    Fate.NO_DELIVERY: Tag("no delivery", "", "filter"),
}


def state_tag(label: str) -> Tag:
    """The tag of a state by its label, as counts of deliveries name it."""
    return _BY_LABEL.get(label, Tag(label))


_BY_LABEL = {state.label: tag for state, tag in STATES.items()}


def ago(at: datetime, now: datetime) -> str:
    """How long ago, or in how long: `26 min ago`, `in 5 s`; clocks of two machines may differ by a second: `just now`."""
    apart = now - at
    if abs(apart) < timedelta(seconds=1):
        return "just now"
    text = rough(abs(apart))
    return f"{text} ago" if apart > timedelta(0) else f"in {text}"


def rough(duration: timedelta) -> str:
    """A duration in its largest unit: `26 min`, `3 h`, `2 d`; below a minute as `formats.span` has it."""
    seconds = duration.total_seconds()
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {name}"
    return f"{int(seconds)} s" if seconds >= 1 else span(duration)


def span(duration: timedelta | None) -> str:
    """A duration for people, never below nothing: clocks of two machines differ."""
    return "" if duration is None else "≈ 0" if duration < timedelta(0) else formats.span(duration)


def clock_time(at: datetime, now: datetime) -> str:
    """The time of day in UTC, `14:05:12.417`; with its date where that is another day."""
    at = at.astimezone(UTC)
    text = at.strftime("%H:%M:%S.%f")[:-3]
    return text if at.date() == now.astimezone(UTC).date() else f"{at:%Y-%m-%d} {text}"


def full_time(at: datetime) -> str:
    """An instant in UTC to the millisecond: `2026-03-10 14:05:12.417 UTC`."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3] + " UTC"


def iso(at: datetime) -> str:
    """An instant for programs."""
    return formats.iso_text(at)


def size(number: int) -> str:
    """A number of bytes for people: `1,204 bytes`, `38 kB`, `1.2 MB`."""
    if number < 10_000:
        return formats.counted(number, "byte")
    return f"{number / 1000:,.0f} kB" if number < 1_000_000 else f"{number / 1_000_000:,.1f} MB"


__all__ = [
    "FATES",
    "RECEIPTS",
    "RECEIPTS_SAY",
    "STATES",
    "Tag",
    "ago",
    "clock_time",
    "full_time",
    "iso",
    "rough",
    "size",
    "span",
    "state_tag",
]
