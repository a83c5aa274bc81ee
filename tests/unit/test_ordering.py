"""The ordering key is computed and checked by one rule, for ingest, replay and requeue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from webhooks.errors import Malformed
from webhooks.formats import why_no_key
from webhooks.model import Event
from webhooks.routing import ordering_failed, ordering_key
from webhooks.sources.declared.fields import key_text
from webhooks.sources.declared.fields import ordering_key as key_of_source

KEPT = {"object_id": "o", "lead_id": ""}


def no_event() -> Event:
    raise AssertionError("the event is not needed")


@pytest.mark.parametrize(
    ("ordered_by", "expected"),
    [
        (None, None),
        ("object_id", "o"),
        ("lead_id", None),
        (lambda event: "k", "k"),
        (lambda event: 7, "7"),
        (lambda event: 0, "0"),
        (lambda event: "", None),
        (lambda event: None, None),
        (lambda event: "x" * 255, "x" * 255),
    ],
    ids=["not asked", "named", "named, empty", "text", "number", "zero", "empty", "none", "longest"],
)
def test_a_key_is_text_or_there_is_none(ordered_by: str | Callable[[Event], Any] | None, expected: str | None) -> None:
    one: Any = object()
    event = (lambda: one) if callable(ordered_by) else no_event
    assert ordering_key(ordered_by, KEPT.get, event, "h") == expected


@pytest.mark.parametrize("key", [{}, [], True, False, 1.5, b"x"], ids=repr)
def test_what_is_no_text_is_refused(key: Any) -> None:
    one: Any = object()
    with pytest.raises(TypeError, match=r"the key function of handler 'h' gave .*; it must give text or None"):
        ordering_key(lambda event: key, KEPT.get, lambda: one, "h")


UNFIT = [
    ("x" * 256, "has 256 bytes; at most 255 can be kept"),
    ("é" * 128, "has 256 bytes; at most 255 can be kept"),
    ("a\0b", "holds a NUL"),
    ("a\ud800", "holds a lone surrogate"),
]


@pytest.mark.parametrize(("text", "problem"), UNFIT, ids=["long", "long in bytes", "NUL", "surrogate"])
def test_what_a_database_cannot_hold_is_no_key_of_any_kind(text: str, problem: str) -> None:
    one: Any = object()
    assert why_no_key(text) == problem
    for ordered_by in ("object_id", lambda event: text):
        with pytest.raises(ValueError, match=f"^an ordering key {problem}$") as caught:
            ordering_key(ordered_by, {"object_id": text}.get, lambda: one, "h")
        assert ordering_failed(caught.value) == f"ordered_by failed: ValueError: an ordering key {problem}"
    with pytest.raises(Malformed, match=f"^the id {problem}$"):
        key_text(text, "the id")
    assert key_of_source(text).startswith("sha256:")


def test_what_both_databases_hold_is_a_key() -> None:
    for text in ("x" * 255, "é" * 127, "", " ", "a\nb"):
        assert why_no_key(text) is None
        assert key_text(text, "the id") == key_of_source(text) == text
