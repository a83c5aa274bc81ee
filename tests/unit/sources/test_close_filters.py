"""What a subscription's extra_filter lets through."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.support import each
from webhooks.sources.close.filters import lets_through

EVENT: dict[str, Any] = {
    "object_type": "opportunity",
    "changed_fields": ["status_id", "value"],
    "api_key_id": None,
    "data": {"status_type": "won", "value": 1, "note": "Signed on site.", "emails": [{"email": "a@example.com"}]},
}


def field(name: str, filter: dict[str, Any]) -> dict[str, Any]:
    return {"type": "field_accessor", "field": name, "filter": filter}


def equals(value: Any) -> dict[str, Any]:
    return {"type": "equals", "value": value}


def contains(value: Any) -> dict[str, Any]:
    return {"type": "contains", "value": value}


NULL, NOT_NULL = {"type": "is_null"}, {"type": "non_null"}
YES, NO = field("object_type", equals("opportunity")), field("object_type", equals("lead"))


@each(
    ("filter", "verdict"),
    [
        (YES, True),
        (NO, False),
        (field("object_type", {"type": "not_equals", "value": "lead"}), True),
        (field("object_type", {"type": "not_equals", "value": "opportunity"}), False),
        (field("changed_fields", contains("value")), True),
        (field("changed_fields", contains("val")), False),
        (field("data", field("note", contains("on site"))), True),
        (field("data", field("note", contains("on Site"))), False),
        (field("data", contains("note")), False),
        (field("api_key_id", NULL), True),
        (field("api_key_id", NOT_NULL), False),
        (field("nothing", NULL), True),
        (field("nothing", field("deeper", NULL)), True),
        (field("data", field("note", field("deeper", NOT_NULL))), False),
        (field("data", NOT_NULL), True),
        ({"type": "and", "filters": [YES, YES]}, True),
        ({"type": "and", "filters": [YES, NO]}, False),
        ({"type": "or", "filters": [NO, YES]}, True),
        ({"type": "or", "filters": [NO, NO]}, False),
        ({"type": "not", "filter": NO}, True),
        ({"type": "not", "filter": YES}, False),
        (field("changed_fields", {"type": "any_array_value", "filter": equals("value")}), True),
        (field("changed_fields", {"type": "any_array_value", "filter": equals("note")}), False),
        (field("data", {"type": "any_array_value", "filter": NOT_NULL}), False),
        (
            field("data", field("emails", {"type": "any_array_value", "filter": field("email", contains("@example"))})),
            True,
        ),
        (field("data", field("value", equals(1))), True),
        (field("data", field("value", equals(True))), False),
        (field("data", field("value", contains(1))), False),
    ],
)
def test_a_filter_lets_through_what_it_says(filter: dict[str, Any], verdict: bool) -> None:
    assert lets_through(filter, EVENT) is verdict


@each(
    ("filter", "verdict"),
    [
        (None, True),
        ({}, True),
        ({"type": "regex", "value": "."}, True),
        ({"type": "not", "filter": {"type": "regex"}}, True),
        ({"type": "not", "filter": {"type": "not", "filter": {"type": "regex"}}}, True),
        ({"type": "and", "filters": [{"type": "regex"}, NO]}, False),
        ({"type": "and", "filters": [{"type": "regex"}, YES]}, True),
        ({"type": "or", "filters": [{"type": "regex"}, NO]}, True),
        ({"type": "not", "filter": {"type": "or", "filters": [{"type": "regex"}, YES]}}, False),
        ({"type": "and", "filters": "x"}, True),
        ({"type": ["x"]}, True),
        ({"type": "not"}, True),
        (field("changed_fields", {"type": "any_array_value", "filter": {"type": "regex"}}), True),
    ],
)
def test_what_is_not_known_lets_through_unless_the_rest_says_no(filter: dict[str, Any] | None, verdict: bool) -> None:
    assert lets_through(filter, EVENT) is verdict


def test_a_filter_nested_without_end_lets_through() -> None:
    filter: dict[str, Any] = NULL
    for _ in range(5000):
        filter = {"type": "not", "filter": filter}
    assert lets_through(filter, EVENT)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner),
    max_leaves=8,
)
FILTERS = st.recursive(
    st.sampled_from([NULL, NOT_NULL])
    | st.builds(lambda kind, value: {"type": kind, "value": value}, st.sampled_from(["equals", "contains"]), JSON),
    lambda inner: (
        st.builds(
            lambda kind, each: {"type": kind, "filters": each},
            st.sampled_from(["and", "or"]),
            st.lists(inner, min_size=1, max_size=3),
        )
        | st.builds(
            lambda kind, each: {"type": kind, "filter": each}, st.sampled_from(["not", "any_array_value"]), inner
        )
        | st.builds(field, st.sampled_from(["a", "b"]), inner)
    ),
    max_leaves=8,
)


@given(filter=FILTERS, value=JSON)
def test_every_known_filter_says_yes_or_no_to_any_event(filter: dict[str, Any], value: Any) -> None:
    assert lets_through(filter, value) is not lets_through({"type": "not", "filter": filter}, value)
