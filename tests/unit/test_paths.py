"""One reading of paths and one comparison: filters, selections, sources and `--set` agree about every value."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import each
from webhooks.formats import MISSING, OPERATORS, ROOTS, JsonPath, equal, look_up
from webhooks.formats import json as jsonio
from webhooks.model import Content, Event, Origin
from webhooks.operations.trigger import apply_sets
from webhooks.routing import field
from webhooks.selection import Expression
from webhooks.sources.declared.fields import at

NOW = datetime(2026, 3, 10, 14, 5, 12, tzinfo=UTC)
#: Different from all that the rows below hold.
MARK = "the new value"


def event(data: Any) -> Event:
    content = Content(data=data, changed_fields=("status_id",))
    return Event(
        id=7,
        source="close",
        type="lead.updated",
        dedup_key="ev_1",
        raw=b"{}",
        occurred_at=NOW,
        received_at=NOW + timedelta(seconds=1),
        reader=lambda raw, type: content,
    )


PATHS: list[tuple[Any, str, Any]] = [
    # of several keys the longest wins
    ({"a": {"b": 1}, "a.b": 2}, "a.b", 2),
    ({"a": {"b": {"c": 1}}, "a.b": {"c": 2}, "a.b.c": 3}, "a.b.c", 3),
    ({"a": {"b": {"c": 1}}, "a.b": {"c": 2}}, "a.b.c", 2),
    ({"a": {"b.c": 1, "b": {"c": 2}}}, "a.b.c", 1),
    # and gives way to a shorter one when it leads nowhere
    ({"a.b": {"c": 1}, "a": {"b": {"d": 2}}}, "a.b.d", 2),
    ({"a.b": 5, "a": {"b": {"d": 2}}}, "a.b.d", 2),
    # null is a value
    ({"a.b": None, "a": {"b": 1}}, "a.b", None),
    ({"a.b": {"c": None}, "a": {"b": {"c": 1}}}, "a.b.c", None),
    # numbers step into lists, and are keys of objects
    ({"a": [{"b": 1}, {"b": 2}]}, "a.1.b", 2),
    ({"a": [[1, 2], [3, 4]]}, "a.1.0", 3),
    ({"a": {"1": 5}}, "a.1", 5),
    ({"a": {"1.0": 5}}, "a.1.0", 5),
    ({"a": [1]}, "a.1", MISSING),
    ({"a": [1]}, "a.b", MISSING),
    ({"a": 1}, "a.b", MISSING),
    ({"a": "text"}, "a.0", MISSING),
    ({}, "a", MISSING),
    (None, "a", MISSING),
    ([], "a", MISSING),
    ({"custom.cf_1": "flat"}, "custom.cf_1", "flat"),
]
paths = pytest.mark.parametrize(("value", "path", "expected"), PATHS)


@paths
def test_a_path_leads_to_one_value(value: Any, path: str, expected: Any) -> None:
    assert look_up(value, path) is expected or look_up(value, path) == expected


@paths
def test_a_filter_and_a_selection_read_a_path_alike(value: Any, path: str, expected: Any) -> None:
    found = None if expected is MISSING else expected
    one = event(value)
    assert field(f"data.{path}").value(one) == found
    assert (field(f"data.{path}") == found)(one)
    assert Expression.parse(f"data.{path} == {json.dumps(found)}").matches(one)
    assert Expression.parse(f"data.{path} exists").matches(one) is field(f"data.{path}").exists()(one)


@paths
def test_a_source_reads_a_path_alike_from_values_and_from_bytes(value: Any, path: str, expected: Any) -> None:
    assert at(value, path) == (None if expected is MISSING else expected)
    raw = json.dumps(value).encode()
    if expected is MISSING:
        with pytest.raises(LookupError, match="there is no"):
            jsonio.member(raw, path)
    else:
        assert json.loads(jsonio.member(raw, path)) == expected


@paths
def test_what_is_set_at_a_path_is_what_the_path_leads_to(value: Any, path: str, expected: Any) -> None:
    if expected is not MISSING:
        body = apply_sets(json.dumps(value).encode(), [f"{path}={MARK}"])
        assert look_up(json.loads(body), path) == MARK


def test_a_key_in_brackets_is_meant_whole() -> None:
    value = {"a": {"b": 1}, "a.b": 2}
    assert JsonPath(["a.b"]).look_up(value) == 2
    assert JsonPath(["a.b"]).look_up({"a": {"b": 1}}) is MISSING
    assert JsonPath(["a", -1]).look_up({"a": [1, 2]}) == 2
    assert JsonPath(["a", 0]).look_up({"a": {"0": 1}}) is MISSING


def test_the_holder_of_a_value_is_told_with_its_key_there() -> None:
    inner = {"c": 1}
    value = {"a.b": {"x": 1}, "a": {"b": [inner]}}
    assert JsonPath("a.b.0.c").place(value) == (inner, "c")
    assert JsonPath("a.b.0").place(value) == ([inner], 0)
    assert JsonPath("a.b.1").place(value) is None


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.text("ab.01", max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("ab.01", max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(_JSON, st.text("ab.01", min_size=1, max_size=8))
def test_values_and_bytes_are_read_alike_whatever_they_hold(value: Any, path: str) -> None:
    found = look_up(value, path)
    try:
        written = json.loads(jsonio.member(json.dumps(value).encode(), path))
    except LookupError:
        written = MISSING
    assert (found is MISSING) is (written is MISSING)
    assert found is MISSING or equal(found, written)


# -- comparing ------------------------------------------------------------------------------------------------

COMPARISONS: list[tuple[Any, str, Any, bool]] = [
    # JSON's equality
    (1, "==", 1.0, True),
    (True, "==", 1, False),
    (True, "!=", 1, True),
    (1, "==", True, False),
    ([True], "==", [1], False),
    ({"a": [1]}, "==", {"a": [1.0]}, True),
    ({"a": True}, "==", {"a": 1}, False),
    ("5", "==", 5, False),
    (None, "==", None, True),
    (None, "==", False, False),
    (0, "==", None, False),
    # unlike kinds are neither less nor more
    ("5", ">", 4, False),
    ("5", "<", 7, False),
    (5, "<", "6", False),
    (True, ">", 0, False),
    (None, "<=", 5, False),
    (None, ">=", None, False),
    ([1], "<", [2], False),
    (5, ">", 4.5, True),
    (5, "<=", 5, True),
    ("a", "<", "b", True),
    # contained
    (1, "in", [True], False),
    (1, "in", [1.0, "a"], True),
    (None, "in", [None], True),
    (5, "in", ["5"], False),
    ("abc", "contains", "b", True),
    ("abc", "contains", 5, False),
    (["a", True], "contains", 1, False),
    (["a", True], "contains", True, True),
    ({"a": 1}, "contains", "a", True),
    ({"a": 1}, "contains", 1, False),
    (None, "contains", None, False),
    (5, "contains", 5, False),
]
PYTHON: dict[str, Callable[[Any, Any], Any]] = {
    "==": lambda path, value: path == value,
    "!=": lambda path, value: path != value,
    "<": lambda path, value: path < value,
    "<=": lambda path, value: path <= value,
    ">": lambda path, value: path > value,
    ">=": lambda path, value: path >= value,
    "in": lambda path, value: path.in_(value),
    "contains": lambda path, value: path.contains(value),
}


@each(("value", "operator", "other", "holds"), COMPARISONS)
def test_a_filter_and_a_selection_compare_alike(value: Any, operator: str, other: Any, holds: bool) -> None:
    one = event({"x": value})
    if not isinstance(other, dict):
        assert Expression.parse(f"data.x {operator} {json.dumps(other)}").matches(one) is holds
    assert PYTHON[operator](field("data.x"), other)(one) is holds


@given(_JSON, st.sampled_from(sorted(OPERATORS)), _JSON)
def test_no_comparison_raises(left: Any, operator: str, right: Any) -> None:
    assert OPERATORS[operator](left, right) in (True, False)


@pytest.mark.parametrize(
    ("operator", "other", "holds"),
    [
        ("==", "2026-03-10T14:05:12Z", True),
        ("==", "2026-03-10T15:05:12+01:00", True),
        (">=", "2026-03-10", True),
        ("<", "2026-03-10", False),
        ("<", "soon", False),
        ("!=", "soon", True),
        (">", 5, False),
    ],
)
def test_an_instant_compares_with_what_json_writes_for_one(operator: str, other: Any, holds: bool) -> None:
    assert Expression.parse(f"occurred_at {operator} {json.dumps(other)}").matches(event({})) is holds
    assert PYTHON[operator](field("occurred_at"), other)(event({})) is holds


def test_an_instant_compares_with_python_s_own_whatever_its_zone() -> None:
    east = timezone(timedelta(hours=1))
    assert (field("occurred_at") == NOW.astimezone(east))(event({}))
    assert (field("occurred_at") == NOW.replace(tzinfo=None))(event({}))
    assert (field("occurred_at") < field("received_at").value(event({})))(event({}))


def test_numbers_of_python_compare_with_those_of_json() -> None:
    assert (field("data.x") < Decimal("5.5"))(event({"x": 5}))
    assert not (field("data.x") < 1j)(event({"x": 5}))


@each("root", sorted(ROOTS))
def test_every_root_is_one_of_filters_and_of_selections(root: str) -> None:
    one = event({"x": 1})
    assert Expression.parse(f"{root} exists").matches(one) is field(root).exists()(one)


def test_roots_are_what_the_event_has() -> None:
    one = event({})
    for expression in ('key == "ev_1"', 'dedup_key == "ev_1"', 'id == "7"', 'origin == "webhook"', "received_at > occurred_at"):  # fmt: skip
        assert Expression.parse(expression).matches(one), expression
    assert (field("origin") == Origin.WEBHOOK)(one)
    assert field("changed_fields").contains("status_id")(one)
