"""Which extra_filters the local Close takes for a subscription."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import each
from webhooks.sandbox.filters import MAX_DEPTH, check
from webhooks.sandbox.refusals import Invalid
from webhooks.sources.close import filters

NULL = {"type": "is_null"}
EQUALS = {"type": "equals", "value": None}


@pytest.mark.parametrize(
    "filter",
    [
        EQUALS,
        {"type": "not_equals", "value": 1},
        {"type": "contains", "value": "x"},
        NULL,
        {"type": "non_null"},
        {"type": "and", "filters": [NULL, EQUALS]},
        {"type": "or", "filters": [NULL]},
        {"type": "not", "filter": NULL},
        {"type": "field_accessor", "field": "data", "filter": NULL},
        {"type": "any_array_value", "filter": EQUALS},
    ],
)
def test_a_filter_of_each_kind_is_taken(filter: dict[str, Any]) -> None:
    check(filter)


@each(
    "filter",
    [
        None,
        [],
        "equals",
        {},
        {"type": "like", "value": "x"},
        {"type": "equals"},
        {"type": "contains"},
        {"type": "and", "filters": []},
        {"type": "or", "filters": {}},
        {"type": "and", "filters": [{"type": "x"}]},
        {"type": "not"},
        {"type": "not", "filter": None},
        {"type": "field_accessor", "filter": {"type": "is_null"}},
        {"type": "field_accessor", "field": 3, "filter": {"type": "is_null"}},
        {"type": "field_accessor", "field": "data"},
        {"type": ["equals"], "value": 1},
    ],
)
def test_what_is_no_filter_is_refused(filter: Any) -> None:
    with pytest.raises(Invalid) as caught:
        check(filter)
    assert set(caught.value.fields) == {"extra_filter"}


def test_a_filter_may_not_be_bottomless() -> None:
    filter: dict[str, Any] = NULL
    for _ in range(MAX_DEPTH):
        filter = {"type": "not", "filter": filter}
    check(filter)
    with pytest.raises(Invalid, match="deeper"):
        check({"type": "not", "filter": filter})


def test_no_filter_that_is_taken_is_too_deep_to_be_judged() -> None:
    assert MAX_DEPTH < filters.MAX_DEPTH


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner),
    max_leaves=8,
)


@given(filter=JSON)
def test_no_json_makes_the_check_do_anything_but_refuse(filter: Any) -> None:
    with pytest.raises(Invalid):
        check(filter)
