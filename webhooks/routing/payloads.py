"""What type a handler wants `event.data` to have, and how data becomes it: typed payloads.

The type is the annotation of a parameter (`event: Event[Message]`, `data: Message`) or the option `data=Message`. It is
read once, when the handler is registered, where a type that cannot be read is refused; before each run the data is
checked against it, and `PayloadMismatch` says where the two differ.

What has `from_event` reads itself (the views that a source brings, which accept everything); pydantic's classes are read by pydantic,
which is imported only where one is used; the rest (Struct, dataclass, TypedDict, unions and lists of them) by msgspec.
Nothing is converted but what JSON has no type for: dates, UUIDs, enumerations.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import typing
from collections import abc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from webhooks.errors import PayloadMismatch
from webhooks.formats import json as jsonio
from webhooks.formats import one_line
from webhooks.model import Event

#: What the places in a mismatch begin with.
ROOT = "data"
#: So many places of a mismatch are told.
TOLD = 3

Check = Callable[[Any], Any]

#: How msgspec says where: " - at `$.a[0]`".
_PLACE = re.compile(r" - at (?:`key` in )?`\$([^`]*)`$")
_MISSING = re.compile(r"^Object missing required field `([^`]*)`$")
#: Its message that quotes the value itself.
_QUOTING = re.compile(r"^Invalid enum value .*$", re.DOTALL)
#: Names of the standard library that annotations use, and that a module may import for type checkers alone.
_KNOWN = {
    **{name: getattr(typing, name) for name in typing.__all__},
    **{name: getattr(abc, name) for name in abc.__all__},
    "Event": Event,
}


@dataclass(frozen=True, slots=True)
class PayloadType:
    """What a handler's data is read as. name: for people. read: an event's data as this type; raises `PayloadMismatch`."""

    name: str
    read: Callable[[Event], Any]

    def typed(self, event: Event) -> Event:
        """The event with its data as this type. Raises `PayloadMismatch`."""
        return event.with_data(self.read(event))


def payload_type(
    given: Any, parameters: Mapping[str, inspect.Parameter], function: Callable[..., Any]
) -> PayloadType | None:
    """The type of a handler's data; None where neither option nor annotation says one.

    given: the option `data=`, or None.
    parameters: of the function, by name.

    Raises ValueError for what cannot be read.
    """
    if given is not None:
        return _make(given)
    found = [each for each in _annotated(parameters, function) if any(map(_says_fields, _parts(each)))]
    if len(found) > 1 and found[0] != found[1]:
        raise ValueError(
            f"event is annotated with {_name(found[0])} and data with {_name(found[1])}; both are the same data: say one"
        )
    return _make(found[0]) if found else None


def _make(wanted: Any) -> PayloadType:
    name = _name(wanted)
    if _reads_itself(wanted):
        return PayloadType(name, wanted.from_event)
    parts = list(_parts(wanted))
    if any(map(_reads_itself, parts)):
        raise ValueError(f"data is {name}; a view reads whatever comes, so give the view alone")
    try:
        check = _by_pydantic(wanted) if any(map(_is_pydantic, parts)) else _by_msgspec(wanted)
    except Exception as error:  # each library has its own for what is no type
        raise ValueError(
            f"data is {one_line(name)}, which cannot be read ({one_line(str(error), 200)}); give a dataclass, a TypedDict, a "
            "msgspec.Struct or a pydantic model"
        ) from error
    return PayloadType(name, lambda event: check(event.content.data))


# -- reading ---------------------------------------------------------------------------------------------------


def _by_msgspec(wanted: Any) -> Check:
    msgspec.json.Decoder(wanted)  # raises for what it could not read

    def check(data: Any) -> Any:
        try:
            return msgspec.convert(data, wanted)
        except msgspec.ValidationError as error:
            raise PayloadMismatch(_in_our_words(str(error))) from None

    return check


def _in_our_words(text: str) -> str:
    """`data.notes.0: expected str, got int`, from how msgspec says it; without a value, which it may quote."""
    place = _PLACE.search(text)
    what = _QUOTING.sub("none of the values that it may have", _PLACE.sub("", text))
    steps = "" if place is None else place[1].replace("[...]", ".*").replace("[", ".").replace("]", "")
    if missing := _MISSING.match(what):
        steps, what = f"{steps}.{missing[1]}", "required, and missing"
    return f"{ROOT}{steps}: {_lower(what)}".replace("`", "")


def _by_pydantic(wanted: Any) -> Check:
    from pydantic import TypeAdapter, ValidationError

    adapter: TypeAdapter[Any] = TypeAdapter(wanted)

    def check(data: Any) -> Any:
        try:
            return adapter.validate_json(jsonio.dump(data))  # as JSON: a strict model reads dates from text there alone
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            places = [(".".join([ROOT, *map(str, each["loc"])]), _lower(each["msg"])) for each in found]
        told = "; ".join(f"{path}: {what}" for path, what in places[:TOLD])
        raise PayloadMismatch(told + (f"; and {len(places) - TOLD} more" if len(places) > TOLD else ""))

    return check


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


# -- types -----------------------------------------------------------------------------------------------------


def _says_fields(part: Any) -> bool:
    """Whether a part of an annotation says what the data looks like; others (`dict`, `Any`) leave it as it is."""
    is_record = isinstance(part, type) and (issubclass(part, msgspec.Struct) or dataclasses.is_dataclass(part))
    return is_record or typing.is_typeddict(part) or _is_pydantic(part) or _reads_itself(part)


def _is_pydantic(part: Any) -> bool:
    return isinstance(part, type) and hasattr(part, "__pydantic_validator__")


def _reads_itself(part: Any) -> bool:
    return isinstance(part, type) and hasattr(part, "from_event")


def _parts(annotation: Any) -> Iterator[Any]:
    """A type, or all that one is made of, such as each of a union."""
    yield typing.get_origin(annotation) or annotation
    for each in typing.get_args(annotation):
        if isinstance(each, type) or typing.get_origin(each) is not None:
            yield from _parts(each)


def _name(annotation: Any) -> str:
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__name__
    return re.sub(r"(?:\w+\.|<locals>\.)+(?=\w)", "", str(annotation))


def _annotated(parameters: Mapping[str, inspect.Parameter], function: Callable[..., Any]) -> Iterator[Any]:
    """What `event: Event[…]`, `events: list[Event[…]]` and `data: …` say."""
    if "event" in parameters:
        annotation = _evaluated(parameters["event"], function)
        if typing.get_origin(annotation) is Event:
            yield typing.get_args(annotation)[0]
    if "events" in parameters:
        for each in typing.get_args(_evaluated(parameters["events"], function)):
            if typing.get_origin(each) is Event:
                yield typing.get_args(each)[0]
    if "data" in parameters:
        yield _evaluated(parameters["data"], function)


def _evaluated(parameter: inspect.Parameter, function: Callable[..., Any]) -> Any:
    """An annotation as an object. Raises ValueError for a text whose names are not there, unless it says nothing of data."""
    annotation = parameter.annotation
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, {**_KNOWN, **_globals_of(function)})
    except Exception as error:  # whatever a text may raise
        if parameter.name in ("event", "events") and "Event[" not in annotation:
            return parameter.empty
        raise ValueError(
            f"its annotation {parameter.name}: {annotation} cannot be read ({one_line(str(error), 200)}); import its names "
            "where the module runs, not under TYPE_CHECKING alone, or say it with data="
        ) from None


def _globals_of(function: Any) -> Mapping[str, Any]:
    """The names of the module in which a function stands."""
    inner = inspect.unwrap(function)
    while isinstance(inner, functools.partial):
        inner = inspect.unwrap(inner.func)
    found: Mapping[str, Any] | None = getattr(inner, "__globals__", None)
    return getattr(type(inner).__call__, "__globals__", {}) if found is None else found


__all__ = ["PayloadType", "payload_type"]
