"""How a view reads a payload: a reader for each kind of value, which never raises, and the classes that views are made of.

A field of a view is an annotated type that names its reader (`Text`, `Instant`); `ViewPart.from_data` does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, time
from functools import cache
from typing import Annotated, Any, Self, TypeVar, get_type_hints

from webhooks.formats import read_iso
from webhooks.model import EMPTY, Event

#: Reads one value of a payload: never raises, None for what it cannot read.
Reader = Callable[[Any], Any]

_CUSTOM = "custom"
_CUSTOM_PREFIX = "custom."


# -- reading one value --------------------------------------------------------------------------------------


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Any) -> int | None:
    """A whole number; true and false are none, 341.0 is one."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) else None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _instant(value: Any) -> datetime | None:
    """An aware UTC instant; without an offset it is UTC, a bare day is its midnight."""
    day = _moment(value)
    if day is None or isinstance(day, datetime):
        return day
    return datetime.combine(day, time(), tzinfo=UTC)


def _moment(value: Any) -> datetime | date | None:
    """A bare day as `date`, anything longer as an aware UTC instant."""
    if not isinstance(value, str):
        return None
    at = read_iso(value)
    return at.date() if at is not None and len(value) == len("2026-03-16") else at


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list | tuple) else ()


def _mapping(value: Any) -> Mapping[str, Any] | None:
    return value if isinstance(value, Mapping) else None


def _mappings(value: Any) -> tuple[Mapping[str, Any], ...]:
    return tuple(item for item in value if isinstance(item, Mapping)) if isinstance(value, list | tuple) else ()


#: What the fields of a view are: a type, and how its value is read from the payload.
Text = Annotated[str | None, _text]
Texts = Annotated[tuple[str, ...], _texts]
Number = Annotated[int | None, _number]
Flag = Annotated[bool | None, _flag]
Instant = Annotated[datetime | None, _instant]
Moment = Annotated[datetime | date | None, _moment]
Object = Annotated[Mapping[str, Any] | None, _mapping]
Objects = Annotated[tuple[Mapping[str, Any], ...], _mappings]

#: {field of a view: its key in the payload}, where the two differ
KEYS = {"type_name": "_type"}


# -- what views are made of ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ViewPart:
    """What every view has. raw: the mapping it was read from."""

    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_data(cls, data: Any) -> Self:
        """Read `data`; anything that is not a mapping is read as an empty one."""
        raw: Mapping[str, Any] = data if isinstance(data, Mapping) else EMPTY
        readers = readers_of(cls)  # type: ignore[arg-type]  # classes are hashable
        return cls(raw=raw, **{name: read(raw.get(KEYS.get(name, name))) for name, read in readers.items()})


@cache
def readers_of(cls: type[ViewPart]) -> dict[str, Reader]:
    """{field: what reads its value}, from the annotations of the class."""
    hints = get_type_hints(cls, include_extras=True)
    return {each.name: hints[each.name].__metadata__[0] for each in fields(cls) if each.name != "raw"}


PartT = TypeVar("PartT", bound=ViewPart)


def parts(part: type[PartT]) -> Callable[[Any], tuple[PartT, ...]]:
    """A list of objects; what is no object in it is left out."""

    def read(value: Any) -> tuple[PartT, ...]:
        if not isinstance(value, list | tuple):
            return ()
        return tuple(part.from_data(item) for item in value if isinstance(item, Mapping))

    return read


@dataclass(frozen=True, kw_only=True)
class View(ViewPart):
    """One object of Close. id: Close's own, opaque."""

    id: Text = None
    organization_id: Text = None
    date_created: Instant = None
    date_updated: Instant = None
    created_by: Text = None
    updated_by: Text = None

    @classmethod
    def from_event(cls, event: Event) -> Self:
        """The object after the event; for a deletion, the object that was deleted.

        An event that carries neither (a stripped copy from the log) gives a view with nothing but its id.
        """
        data = event.data
        if not isinstance(data, Mapping) and event.action == "deleted":
            data = event.previous
        view = cls.from_data(data)
        if view.id is None and event.object_id is not None:
            object.__setattr__(view, "id", event.object_id)  # not published yet, so still ours to complete
        return view

    @property
    def custom(self) -> Mapping[str, Any]:
        """{custom field id: value}, from both spellings; the flat one counts where both are there."""
        nested = self.raw.get(_CUSTOM)
        found = dict(nested) if isinstance(nested, Mapping) else {}
        for key, value in self.raw.items():
            if key.startswith(_CUSTOM_PREFIX):
                found[key.removeprefix(_CUSTOM_PREFIX)] = value
        return found

    def custom_field(self, name: str, default: Any = None) -> Any:
        """The value of one custom field; name: `cf_…`, with or without `custom.` before it."""
        return self.custom.get(name.removeprefix(_CUSTOM_PREFIX), default)


@dataclass(frozen=True, kw_only=True)
class Activity(View):
    """What all activities share. type_name: Close's `_type`, such as `Call`."""

    type_name: Text = None
    lead_id: Text = None
    contact_id: Text = None
    user_id: Text = None
    user_name: Text = None
    activity_at: Instant = None
    created_by_name: Text = None
    updated_by_name: Text = None
    sequence_id: Text = None
    sequence_name: Text = None
    sequence_subscription_id: Text = None
