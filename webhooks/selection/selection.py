"""Which events or deliveries are meant: one grammar for the command line, pages and Python.

`Selection.parse` turns texts (`{"type": "lead.**", "since": "6h"}`) into a frozen `Selection`, or raises a
`SelectionError` that says what was expected and points at the character. `to_mapping` is the way back, with times
made absolute, so that a recorded selection means the same tomorrow. `parse_line` and `to_line` do the same with one line.

All conditions hold together. `since` and `until` speak of the time of arrival: from `since` on, before `until`.
`state`, `handler`, `error` and `action` speak of an event's deliveries, and of one delivery at a time: `state=dead,
handler=h` finds events whose delivery *for h* is dead. `where` is an expression on the event's content (`Expression`).

Not here: the SQL (`store.conditions`). `where`, and a pattern that mixes `*` with an inner `**`, cannot be said in SQL;
`matches` judges them, row by row.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from webhooks.errors import InvalidPattern, SelectionError
from webhooks.formats import Unreadable, did_you_mean, iso_text, one_line, read_duration, read_instant
from webhooks.model import DeliveryState, Event
from webhooks.routing import Pattern
from webhooks.selection.expression import Expression

#: Longest text of any one condition.
LONGEST_TEXT = 2_000
#: Ids are 63-bit integers.
LARGEST_ID = 2**63 - 1
#: In place of a state: events that no handler asked for.
UNROUTED = "unrouted"

STATES: Mapping[str, DeliveryState] = {state.label: state for state in DeliveryState}


@dataclass(frozen=True, slots=True)
class Selection:
    """What is selected; None (or empty) means that a condition is not asked for.

    events: ids.
    type: a pattern.
    states: any of these.
    unrouted: events without any delivery; with states, those too.
    key: the sender's own id.
    since, until: aware UTC.
    error: a glob over the reason of a delivery.
    action: id of the action that changed a delivery last.
    where: an expression on the content.
    """

    events: tuple[int, ...] = ()
    source: str | None = None
    type: str | None = None
    states: tuple[DeliveryState, ...] = ()
    unrouted: bool = False
    handler: str | None = None
    key: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    error: str | None = None
    where: Expression | None = None
    action: int | None = None

    @classmethod
    def parse(cls, conditions: Mapping[str, Any], now: datetime) -> Selection:
        """Read conditions: texts by the names of `CONDITIONS`; None and "" mean "not asked for".

        `event` and `state` may be one text (states also comma-separated) or a sequence of texts. now: aware; relative
        times count back from it. Raises `SelectionError` at the first condition that cannot be read.
        """
        values: dict[str, Any] = {}
        for name, value in conditions.items():
            if value is None or value == "" or value == ():
                continue
            reader = _READERS.get(name)
            if reader is None:
                raise SelectionError(
                    f"{name!r} is not a condition{did_you_mean(name, CONDITIONS)}; conditions: {', '.join(CONDITIONS)}",
                    name,
                )
            texts = [value] if isinstance(value, (str, datetime, int)) else list(value)
            if len(texts) > 1 and name not in ("event", "state"):
                raise SelectionError(f"{name}: given {len(texts)} times; it takes one value", str(texts[1]))
            for text in texts:
                values.update(reader(name, text if isinstance(text, datetime) else str(text), now, values))
        selection = cls(**values)
        if selection.since is not None and selection.until is not None and selection.since >= selection.until:
            raise SelectionError(
                f"since ({iso_text(selection.since)}) is not before until ({iso_text(selection.until)}), "
                "so nothing is selected; swap them",
                iso_text(selection.since),
            )
        return selection

    @classmethod
    def parse_line(cls, text: str, now: datetime) -> Selection:
        """Read one line, as people type it into a box: `type:lead.** state:dead since:2d where: data.x == "y"` (see `line`).

        now: aware; relative times count back from it. Raises `SelectionError` with the line and a position in it.
        """
        from webhooks.selection import line

        return line.read(text, now)

    def to_line(self) -> str:
        """The same as a line that `parse_line` reads, with times made absolute."""
        from webhooks.selection import line

        return line.write(self)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked for, so that everything is selected."""
        return self == Selection()

    @property
    def asks_about_deliveries(self) -> bool:
        """Whether an event is judged by its deliveries."""
        asked = (self.handler, self.error, self.action)
        return bool(self.states or self.unrouted or any(each is not None for each in asked))

    @property
    def is_exact_in_sql(self) -> bool:
        """Whether the database alone can decide; else `matches` has to look at each row as well."""
        return self.where is None and (self.type is None or is_exact_in_sql(self.type))

    def matches(self, event: Event) -> bool:
        """Judge what the database cannot: the type pattern and `where`. Raises nothing."""
        return self.matches_type(event.type) and (self.where is None or self.where.matches(event))

    def matches_type(self, type: str) -> bool:
        """Whether the type pattern is not asked for, or matches."""
        return self.type is None or Pattern(self.type).matches(type)

    def only(self, **conditions: Any) -> Selection:
        """The same with some fields replaced."""
        return replace(self, **conditions)

    def to_mapping(self) -> dict[str, Any]:
        """The conditions as texts that `parse` reads, with times made absolute; what is not asked for is missing."""
        mapping: dict[str, Any] = {}
        if self.events:
            mapping["event"] = [str(id) for id in self.events]
        for name in ("source", "type"):
            mapping[name] = getattr(self, name)
        states = [state.label for state in self.states] + [UNROUTED] * self.unrouted
        mapping["state"] = ",".join(states) or None
        for name in ("handler", "key"):
            mapping[name] = getattr(self, name)
        mapping["since"] = self.since and iso_text(self.since)
        mapping["until"] = self.until and iso_text(self.until)
        mapping["error"] = self.error
        mapping["action"] = None if self.action is None else str(self.action)
        mapping["where"] = self.where and self.where.text
        return {name: value for name, value in mapping.items() if value is not None}

    def __str__(self) -> str:
        """As on a command line, for people."""
        words = list(self.to_mapping().get("event", []))
        for name, value in self.to_mapping().items():
            if name != "event":
                words.append(f"--{name} {shlex.quote(value)}")
        return one_line(" ".join(words)) or "everything"


#: Each `**` of a pattern doubles the SQL; with more of them than this, only the text before the first is looked at.
MOST_DOUBLE_WILDCARDS = 4


def is_exact_in_sql(pattern: str) -> bool:
    """Whether the database's LIKE can say a type pattern; it cannot where `*` stands beside `**`."""
    segments = pattern.split(".")
    doubles = segments.count("**")
    return doubles == len(segments) or (doubles <= MOST_DOUBLE_WILDCARDS and not (doubles and "*" in segments))


# -- reading one condition ---------------------------------------------------------------------------------

_Reader = Callable[[str, Any, datetime, Mapping[str, Any]], Mapping[str, Any]]


def _plain(name: str, text: str) -> str:
    if len(text) > LONGEST_TEXT:
        raise SelectionError(f"{name}: {len(text)} characters; at most {LONGEST_TEXT} are taken", text[:80])
    for position, character in enumerate(text):
        # no stored key holds a NUL or a lone surrogate, and PostgreSQL refuses both
        if character == "\0" or "\ud800" <= character <= "\udfff":
            raise SelectionError(f"{name}: character {position + 1} cannot be in a stored text", text, position)
    return text


def _read_text(name: str, text: Any, now: datetime, before: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: _plain(name, text)}


def _read_event(name: str, text: Any, now: datetime, before: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"events": (*before.get("events", ()), parse_id(text, "event"))}


def _read_action(name: str, text: Any, now: datetime, before: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"action": parse_id(text, "action")}


def parse_id(text: str, what: str = "event") -> int:
    """An id as people write it: decimal digits. Raises `SelectionError`."""
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and 0 < int(text) <= LARGEST_ID):
        raise SelectionError(
            f"{one_line(text, 80)!r} is no {what}'s id: ids are decimal numbers, such as 889211340439552", text
        )
    return int(text)


def _read_type(name: str, text: Any, now: datetime, before: Mapping[str, Any]) -> Mapping[str, Any]:
    _plain(name, text)
    try:
        Pattern(text)
    except InvalidPattern as error:
        raise SelectionError(f"type: {error}", text, _where_broken(text)) from error
    return {"type": text}


def _where_broken(pattern: str) -> int:
    """The position of the first segment that alone is no pattern."""
    position = 0
    for segment in pattern.split("."):
        try:
            Pattern(segment)
        except InvalidPattern:
            return position
        position += len(segment) + 1
    return 0


def _read_state(name: str, text: Any, now: datetime, before: Mapping[str, Any]) -> Mapping[str, Any]:
    states: dict[DeliveryState, None] = dict.fromkeys(before.get("states", ()))
    unrouted = bool(before.get("unrouted", False))
    position = 0
    for word in text.split(","):
        label = word.strip().lower()
        if label == UNROUTED:
            unrouted = True
        elif label in STATES:
            states[STATES[label]] = None
        else:
            known = [*STATES, UNROUTED]
            raise SelectionError(
                f"state: {one_line(word, 40)!r} is not a state{did_you_mean(label, known)}; states: {', '.join(known)}",
                text,
                position,
            )
        position += len(word) + 1
    return {"states": tuple(sorted(states)), "unrouted": unrouted}


def _read_time(name: str, text: Any, now: datetime, before: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: parse_time(text, now, name)}


_READERS: Mapping[str, _Reader] = {
    "event": _read_event,
    "source": _read_text,
    "type": _read_type,
    "state": _read_state,
    "handler": _read_text,
    "key": _read_text,
    "since": _read_time,
    "until": _read_time,
    "error": _read_text,
    "action": _read_action,
    "where": lambda name, text, now, before: {"where": Expression.parse(_plain(name, text))},
}
#: The names that `Selection.parse` knows.
CONDITIONS: Sequence[str] = tuple(_READERS)
assert len(CONDITIONS) == len(fields(Selection)) - 1  # states and unrouted are one condition


# -- times -------------------------------------------------------------------------------------------------

_EXPECTED_DURATION = "use a number and a unit such as 90s, 15m, 6h, 2d, 1w"
_EXPECTED_TIME = "use a time ago such as 90s, 15m, 6h, 2d, 1w, an instant such as 2026-03-10T14:05:12Z, or today, yesterday, monday 9:00"


def parse_duration(text: str, name: str = "duration") -> timedelta:
    """`90s`, `15m`, `6h`, `2d`, `1w`, or several together (`1h30m`). name: of what, for the message.

    Raises `SelectionError`.
    """
    try:
        return read_duration(text)
    except Unreadable as error:
        raise _unreadable(name, text, error, _EXPECTED_DURATION) from None


def parse_time(value: str | datetime, now: datetime, name: str = "time", zone: tzinfo | None = None) -> datetime:
    """An instant in UTC: a duration before `now`, ISO 8601 (without an offset it is UTC), or a time of a day in `zone`.

    zone: of `today`, `yesterday 9:00`, `monday 9:00` and the like; None is the system's.
    name: of what, for the message.

    Raises `SelectionError`.
    """
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo is not None else value.replace(tzinfo=UTC)
    text = _plain(name, value)
    try:
        return read_instant(text, now, zone)
    except Unreadable as error:
        raise _unreadable(name, text, error, _EXPECTED_TIME) from None


def _unreadable(name: str, text: str, error: Unreadable, expected: str) -> SelectionError:
    return SelectionError(f"{name}: {one_line(text, 60)!r}: {error}; {expected}", text, error.position)


# -- globs -------------------------------------------------------------------------------------------------


#: Wildcards among literals; no literal holds a NUL.
ANY_TEXT = "\0*"
ANY_CHARACTER = "\0?"


def glob_parts(glob: str) -> list[str]:
    """A glob cut into literals, `ANY_TEXT` for `*` and `ANY_CHARACTER` for `?`; without either it is found anywhere."""
    if "*" not in glob and "?" not in glob:
        return [ANY_TEXT, glob, ANY_TEXT]
    wild = {"*": ANY_TEXT, "?": ANY_CHARACTER}
    return [wild.get(part, part) for part in re.split(r"([*?])", glob) if part]
