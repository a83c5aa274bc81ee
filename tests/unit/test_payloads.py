"""Data of the type that a handler asks for: where the type is said, what is read, and how a mismatch is told."""

from __future__ import annotations

import enum
import functools
import os
import re
import subprocess
import sys
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, assert_type

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import ROOT, each
from webhooks.errors import InvalidHandler, PayloadMismatch
from webhooks.formats import error_text
from webhooks.model import Content, Event
from webhooks.routing import Handler, Registry, field
from webhooks.sources.close.views import Lead

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from elsewhere import Unknown  # type: ignore[import-not-found]

NOW = datetime(2026, 3, 10, tzinfo=UTC)


class Kind(enum.Enum):
    CALL = "call"
    NOTE = "note"


class Place(msgspec.Struct):
    city: str


class Note(msgspec.Struct):
    note: str
    kind: Kind = Kind.NOTE
    places: list[Place] = []
    by_name: dict[str, int] = {}
    day: date | None = None
    id: uuid.UUID | None = None
    size: Literal[1, 2] = 1


@dataclass
class Person:
    name: str
    age: int | None = None


class Deal(TypedDict):
    value: int


def an_event(data: Any, **content: Any) -> Event:
    return Event(
        id=1,
        source="close",
        type="activity.note.updated",
        dedup_key="ev_1",
        raw=b"{}",
        occurred_at=NOW,
        received_at=NOW,
        reader=lambda raw, type: Content(data=data, **content),
    )


def register(function: Any, **options: Any) -> Handler:
    return Registry().add(function, "activity.note.*", name="h", **options)


def read(handler: Handler, data: Any) -> Any:
    assert handler.data is not None
    return handler.data.typed(an_event(data)).data


# -- where it is said ------------------------------------------------------------------------------------------


def by_event(event: Event[Note]) -> None:
    assert_type(event.data, Note)


def by_data(data: Note) -> None: ...
def by_both(event: Event[Note], data: Note) -> None: ...
def perhaps(event: Event[Note | None]) -> None: ...
def several(data: list[Person] | Note) -> None: ...
async def waits(event: Event[Note], session: Any) -> None: ...
def several_events(events: Sequence[Event[Note]]) -> None:
    assert_type(events[0].data, Note)


def receives(sender: str, event: Event[Note]) -> None: ...


class Object:
    def __call__(self, data: Note) -> None: ...


@functools.wraps(by_event)
def wrapped(*given: Any, **named: Any) -> None: ...


@each("function", [by_event, by_data, by_both, perhaps, several, waits, Object(), wrapped, functools.partial(by_event)])
def test_an_annotation_says_it(function: Any) -> None:
    assert read(register(function), {"note": "x"}) == Note("x")


def test_what_takes_several_events_says_it_of_each() -> None:
    handler = register(several_events, batch=10)
    assert read(handler, {"note": "x"}) == Note("x")
    assert register(lambda events: None, batch=10).data is None


def test_a_receiver_of_a_signal_says_it_too() -> None:
    registry = Registry()
    registry.event_signal("lead.created").connect(receives)
    [handler] = registry.handlers()
    assert read(handler, {"note": "x"}) == Note("x")


@each(
    ("wanted", "data", "value"),
    [
        (Note, {"note": "x", "kind": "call", "day": "2026-03-10"}, Note("x", Kind.CALL, day=date(2026, 3, 10))),
        (Person, {"name": "Ada"}, Person("Ada")),
        (Deal, {"value": 3, "more": "left out"}, {"value": 3}),
        (list[Deal], [{"value": 3}], [{"value": 3}]),
        (Person | None, None, None),
        (dict[str, int], {"a": 1}, {"a": 1}),
    ],
)
def test_an_option_says_it(wanted: Any, data: Any, value: Any) -> None:
    assert read(register(lambda event: None, data=wanted), data) == value


def untyped(event: Event, data: dict[str, Any]) -> None:
    assert_type(event.data, Any)


def mapping(event: Event[Any], data: Mapping[str, Any]) -> None: ...
def of_another(event: Unknown) -> None: ...
def bare(event, data): ...  # type: ignore[no-untyped-def]


@each("function", [untyped, mapping, of_another, bare])
def test_other_annotations_leave_the_data_as_it_is(function: Any) -> None:
    assert register(function).data is None


def unknown_data(data: Unknown) -> None: ...
def unknown_event(event: Event[Unknown]) -> None: ...
def two_types(event: Event[Note], data: Person) -> None: ...


class Cannot:
    """No record at all."""


@each(
    ("function", "options", "message"),
    [
        (
            unknown_data,
            {},
            "its annotation data: Unknown cannot be read (name 'Unknown' is not defined); import its names",
        ),
        (unknown_event, {}, "its annotation event: Event[Unknown] cannot be read"),
        (two_types, {}, "event is annotated with Note and data with Person; both are the same data: say one"),
        (bare, {"data": 3}, "data is 3, which cannot be read (Type '3' is not supported); give a dataclass"),
        (bare, {"data": Lead | None}, "a view reads whatever comes, so give the view alone"),
        (
            bare,
            {"data": Note | Person},
            "data is Note | Person, which cannot be read (Type unions may not contain more",
        ),
    ],
)
def test_what_cannot_be_read_is_said_where_it_is_registered(function: Any, options: Any, message: str) -> None:
    with pytest.raises(InvalidHandler) as caught:
        register(function, **options)
    assert message in str(caught.value)


# -- what is read ----------------------------------------------------------------------------------------------


def test_all_but_the_data_stays_the_sender_s() -> None:
    handler = register(by_event)
    event = an_event({"note": "new"}, previous={"note": "old"}, changed_fields=("note",))
    assert handler.data is not None
    typed = handler.data.typed(event)
    assert typed.data == Note("new")
    assert (typed.previous, typed.changed_fields, typed.id) == ({"note": "old"}, ("note",), event.id)
    assert typed.did_change("note", to="new", was="old")
    assert event.data == {"note": "new"}, "other handlers get it as it is"
    assert typed == event


def test_a_condition_meets_the_data_as_it_came() -> None:
    handler = register(by_event, where=field("data.note") == "x")
    assert handler.where is not None
    assert handler.where.explain(an_event({"note": "x"}))[0]


def test_a_view_of_close_reads_itself_and_accepts_everything() -> None:
    handler = register(lambda event: None, data=Lead)
    assert read(handler, {"name": "Quayside"}).name == "Quayside"
    assert read(handler, {"name": 3}).name is None
    assert handler.data is not None
    gone = an_event(None, previous={"name": "Quay"}, action="deleted", object_id="lead_1")
    assert (handler.data.typed(gone).data.name, handler.data.typed(gone).data.id) == ("Quay", "lead_1")


# -- a mismatch ------------------------------------------------------------------------------------------------


@each(
    ("data", "message"),
    [
        ({"note": 3}, "data.note: expected str, got int"),
        ({}, "data.note: required, and missing"),
        (None, "data: expected object, got null"),
        ({"note": "x", "places": [{"city": "a"}, {"city": 3}]}, "data.places.1.city: expected str, got int"),
        ({"note": "x", "places": [{}]}, "data.places.0.city: required, and missing"),
        ({"note": "x", "by_name": {"a": "b"}}, "data.by_name.*: expected int, got str"),
        ({"note": "x", "kind": "a secret"}, "data.kind: none of the values that it may have"),
        ({"note": "x", "size": 3}, "data.size: none of the values that it may have"),
        ({"note": "x", "day": "a secret"}, "data.day: invalid RFC3339 encoded date"),
        ({"note": "x", "id": "a secret"}, "data.id: invalid UUID"),
    ],
)
def test_a_mismatch_names_the_place_and_no_value(data: Any, message: str) -> None:
    with pytest.raises(PayloadMismatch) as caught:
        read(register(by_event), data)
    assert str(caught.value) == message
    assert error_text(caught.value) == f"PayloadMismatch: {message}", "no traceback: the handler was not called"


TEXTS = st.text(alphabet="☃☄★☎", min_size=1)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(TEXTS, inner)
        | st.fixed_dictionaries({}, optional=dict.fromkeys(Note.__struct_fields__, inner))
    ),
)


@given(data=VALUES)
def test_whatever_comes_is_read_or_is_a_mismatch_without_a_value(data: Any) -> None:
    for wanted in (Note, Person, Deal, list[Note]):
        said = ""
        try:
            read(register(lambda event: None, data=wanted), data)
        except PayloadMismatch as error:
            said = str(error)
        assert said == "" or said.startswith("data")
        assert not set(said) & set("☃☄★☎")


# -- type checkers ---------------------------------------------------------------------------------------------

#: As an author writes it, who has asked mypy for nothing in particular.
TYPED = """
import msgspec

from webhooks import Event, on
from webhooks.sources.close.views import WhatsAppMessage


class Note(msgspec.Struct):
    note: str


@on("activity.note.*", source="close")
def keep(event: Event[Note]) -> None:
    reveal_type(event.data.note)
    reveal_type(event.previous)
    event.data.text


@on("activity.whatsapp_message.*", source="close", data=WhatsAppMessage)
async def greet(event: Event[WhatsAppMessage], data: WhatsAppMessage) -> None:
    reveal_type(event.data.direction)


@on("lead.*")
def any(event: Event) -> None:
    reveal_type(event.data)
"""


@pytest.mark.release
@pytest.mark.timeout(600)
def test_mypy_sees_the_types_in_a_handler(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "handlers.py").write_text(TYPED)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--cache-dir",
            tmp_path / "cache",
            "--follow-imports=silent",
            "--strict",
            "handlers.py",
        ],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    found = re.findall(r"^handlers.py:\d+: (?:note|error): (.*)$", done.stdout, re.MULTILINE)
    assert found == [
        'Revealed type is "str"',
        'Revealed type is "Any"',
        '"Note" has no attribute "text"  [attr-defined]',
        'Revealed type is "str | None"',
        'Revealed type is "Any"',
    ], done.stdout


# -- pydantic --------------------------------------------------------------------------------------------------


def test_models_of_pydantic_are_read_by_it() -> None:
    pydantic = pytest.importorskip("pydantic")

    class Message(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        model_config = pydantic.ConfigDict(strict=True)
        note: str
        at: datetime | None = None

    handler = register(lambda event: None, data=Message | None)
    assert read(handler, {"note": "x", "at": "2026-03-10T00:00:00Z"}) == Message(note="x", at=NOW)
    assert read(handler, None) is None
    with pytest.raises(PayloadMismatch) as caught:
        read(register(lambda event: None, data=list[Message]), [{"note": 3}, {"at": "a secret"}, {}, {}])
    text = str(caught.value)
    assert text.startswith("data.0.note: input should be a valid string; data.1.note: field required; data.1.at: ")
    assert text.endswith("; and 2 more")
    assert "a secret" not in text
    with pytest.raises(InvalidHandler, match="which cannot be read"):
        register(lambda event: None, data=Message | Note)
