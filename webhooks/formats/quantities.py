"""Durations, sizes, rates and instants as people write them: one grammar for settings, options of handlers and commands.

| what | as written |
|---|---|
| duration | `90s`, `500ms`, `5min`, `1.5h`, `2d`, several together (`1h30m`); a bare number where the caller says its unit |
| size | `1MiB`, `500kB`, a bare number of bytes |
| rate | `20/s`, `100/min`, `20/second`, `0.5/s`; a bare number is per second |
| instant | ISO 8601 (without an offset it is UTC), a duration ago (`6h`, `6h ago`), `now`, and by the clock on the wall: `today`, `yesterday 9:00`, `monday 9:00`, `14:30` |

Case and spaces around units do not count. Times by the clock on the wall are those of a zone, by default the system's,
and mean the latest such moment that is over (but for `today` and `yesterday`, which name their day). What comes out is
aware UTC.

`read_iso` alone is for what programs wrote. Not here: how these are shown (`text`), which bounds a setting has.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Any

_UNITS: dict[str, timedelta] = {
    "us": timedelta(microseconds=1),
    "ms": timedelta(milliseconds=1),
    **dict.fromkeys(("s", "sec", "second", "seconds"), timedelta(seconds=1)),
    **dict.fromkeys(("m", "min", "minute", "minutes"), timedelta(minutes=1)),
    **dict.fromkeys(("h", "hour", "hours"), timedelta(hours=1)),
    **dict.fromkeys(("d", "day", "days"), timedelta(days=1)),
    **dict.fromkeys(("w", "week", "weeks"), timedelta(weeks=1)),
}
_BYTES = {"": 1, "b": 1, "kb": 1000, "kib": 1024, "mb": 10**6, "mib": 2**20, "gb": 10**9, "gib": 2**30}
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

_FLAGS = re.ASCII | re.IGNORECASE
_PART = re.compile(r"\s*([0-9]{1,12}(?:\.[0-9]{1,9})?)\s*([a-z]*)", _FLAGS)
_SIZE = re.compile(r"\s*([0-9]{1,15})\s*([kmg]?i?b|)\s*", _FLAGS)
_RATE = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*(?:/\s*([a-z]+))?\s*", _FLAGS)
_ON_THE_WALL = re.compile(r"(?:([a-z]+)(?:\s+|$))?(?:([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?)?", _FLAGS)


class Unreadable(ValueError):
    """A text that is not such a quantity. position: 0-based index of the character from where it cannot be read."""

    def __init__(self, reason: str, position: int = 0) -> None:
        super().__init__(reason)
        self.position = position


# -- durations ------------------------------------------------------------------------------------------------


def read_duration(text: str, *, bare: timedelta | None = None) -> timedelta:
    """A duration, never negative. bare: what a number without a unit counts; None refuses it. Raises `Unreadable`."""
    total, position, end = timedelta(0), 0, len(text.rstrip())
    if not end:
        raise Unreadable("nothing given")
    while position < end:
        part = _PART.match(text, position)
        if part is None:
            raise Unreadable(f"cannot be read at character {position + 1}", position)
        is_bare = not part[2] and not position and part.end() >= end
        unit = bare if is_bare else _UNITS.get(part[2].lower())
        if unit is None and part[2]:
            raise Unreadable(f"{part[2][:40]!r} is not a unit", part.start(2))
        if unit is None:
            reason = "a number without a unit" if is_bare else f"cannot be read at character {part.start(1) + 1}"
            raise Unreadable(reason, part.start(1))
        try:
            total += unit * (float(part[1]) if "." in part[1] else int(part[1]))
        except OverflowError:
            raise Unreadable("too long a time", part.start(1)) from None
        position = part.end()
    return total


def show_duration(duration: timedelta) -> str:
    """A duration as `read_duration` reads it, in one unit: `timedelta(hours=6)` is "6h"."""
    for unit in ("d", "h", "m"):
        if duration and duration % _UNITS[unit] == timedelta(0):
            return f"{duration // _UNITS[unit]}{unit}"
    return f"{duration.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"


# -- sizes and rates ------------------------------------------------------------------------------------------


def read_size(text: str) -> int:
    """A number of bytes. Raises `Unreadable`."""
    found = _SIZE.fullmatch(text)
    unit = None if found is None else _BYTES.get(found[2].lower())
    if found is None or unit is None:
        raise Unreadable("not a size")
    return int(found[1]) * unit


def read_rate(text: str) -> tuple[int, timedelta]:
    """A rate above zero: (how many, in how long). Of `0.5/s` it is one in two seconds. Raises `Unreadable`."""
    found = _RATE.fullmatch(text)
    period = None if found is None else _UNITS.get((found[2] or "s").lower())
    if found is None or period is None or period < _UNITS["s"] or not float(found[1]):
        raise Unreadable("not a rate")
    number = float(found[1])
    return (int(number), period) if number.is_integer() else (1, period / number)


def per_second(rate: tuple[int, timedelta]) -> float:
    """What `read_rate` gave, as so many a second."""
    return rate[0] / rate[1].total_seconds()


# -- instants -------------------------------------------------------------------------------------------------


def read_iso(text: str) -> datetime | None:
    """An instant of ISO 8601 in UTC; without an offset it is UTC, a bare day its first moment.

    None for what is no such text, and for an instant whose offset leads out of the years 1 to 9999.
    """
    try:
        instant = datetime.fromisoformat(text)
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def read_instant(text: str, now: datetime, zone: tzinfo | None = None) -> datetime:
    """An instant in any of the forms above, in UTC.

    now: aware; what is relative counts from it.
    zone: of times by the clock on the wall; None is the zone of the system.

    Raises `Unreadable`.
    """
    text = text.rstrip()
    words = text.strip().lower()
    if words == "now":
        return now.astimezone(UTC)
    instant = read_iso(words.upper()) or _read_wall(words, now, zone)
    if instant is not None:
        return instant
    ago = read_duration(text[:-3] if words.endswith(" ago") else text)
    try:
        return now.astimezone(UTC) - ago
    except OverflowError:
        raise Unreadable("before the year 1") from None


def is_by_the_wall(text: str) -> bool:
    """Whether an instant is written as a time of a zone's day, so that people should be told how it was understood."""
    words = text.strip().lower()
    return words != "now" and read_iso(words.upper()) is None and _parts(words) is not None


def _read_wall(words: str, now: datetime, zone: tzinfo | None) -> datetime | None:
    parts = _parts(words)
    if parts is None:
        return None
    day, at = parts
    here = now.astimezone(zone)
    date = here.date()
    try:
        if day == "yesterday":
            date -= timedelta(days=1)
        elif day in _WEEKDAYS:
            date -= timedelta(days=(date.weekday() - _WEEKDAYS.index(day)) % 7)
        found = _in_zone(datetime.combine(date, at), zone)
        if found > now and day != "today":
            found = _in_zone(datetime.combine(date - timedelta(days=7 if day else 1), at), zone)
        return found
    except OverflowError:
        return None


def _parts(words: str) -> tuple[str, time] | None:
    """(the day's name in full or "", the time of day) of a time by the clock on the wall; None for other text."""
    found = _ON_THE_WALL.fullmatch(words)
    if found is None or not words:
        return None
    day = found[1] or ""
    if len(day) >= 3 and day not in ("today", "yesterday"):
        day = next((name for name in _WEEKDAYS if name.startswith(day)), day)
    if day not in ("", "today", "yesterday", *_WEEKDAYS):
        return None
    try:
        hour, minute, second = (int(part or 0) for part in found.groups()[1:])
        return day, time(hour, minute, second)
    except ValueError:  # 25:00
        return None


def _in_zone(local: datetime, zone: tzinfo | None) -> datetime:
    """A time of day without a zone as an instant; None is the system's zone, with what it had on that day."""
    return (local.astimezone() if zone is None else local.replace(tzinfo=zone)).astimezone(UTC)


def as_instant(value: Any) -> datetime | None:
    """An aware UTC instant of a `datetime` or of ISO 8601 text; None of anything else."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return read_iso(value) if isinstance(value, str) else None
