"""One grammar for everybody: what is read, what is refused, and where the mark stands."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import each
from tests.unit.selections import selections
from webhooks.errors import SelectionError
from webhooks.model import Content, DeliveryState, Event
from webhooks.selection import (
    CONDITIONS,
    Expression,
    Selection,
    glob_parts,
    is_exact_in_sql,
    parse_duration,
    parse_time,
)

NOW = datetime(2026, 3, 10, 14, 5, 12, tzinfo=UTC)


def refused(conditions: dict[str, Any]) -> SelectionError:
    with pytest.raises(SelectionError) as caught:
        Selection.parse(conditions, NOW)
    return caught.value


def error_of(act: Callable[[], object]) -> SelectionError | None:
    """What `act` was refused with, if it was."""
    try:
        act()
    except SelectionError as error:
        return error
    return None


def event(data: Any = None, **fields: Any) -> Event:
    content = Content(
        data=data,
        previous=fields.pop("previous", {}),
        changed_fields=fields.pop("changed_fields", ()),
        action="updated",
        object_type="lead",
        object_id="lead_1",
        meta=fields.pop("meta", {}),
    )
    return Event(
        id=7,
        source="close",
        type=fields.pop("type", "lead.updated"),
        dedup_key="ev_1",
        raw=b"{}",
        occurred_at=NOW,
        received_at=NOW,
        reader=lambda raw, type: content,
    )


def holds(expression: str, data: Any = None, **fields: Any) -> bool:
    return Expression.parse(expression).matches(event(data, **fields))


# -- conditions ------------------------------------------------------------------------------------------------


def test_every_condition_is_read() -> None:
    selection = Selection.parse(
        {
            "event": ["12", "13"],
            "source": "close",
            "type": "lead.**",
            "state": "dead,pending",
            "handler": "h",
            "key": "ev_1",
            "since": "6h",
            "until": "2026-03-10T14:00:00+01:00",
            "error": "*Timeout*",
            "where": "data.x == 1",
        },
        NOW,
    )
    assert selection.events == (12, 13)
    assert selection.states == (DeliveryState.PENDING, DeliveryState.DEAD)
    assert selection.since == NOW - timedelta(hours=6)
    assert selection.until == datetime(2026, 3, 10, 13, tzinfo=UTC)
    assert not selection.is_empty
    assert selection.asks_about_deliveries
    assert not selection.is_exact_in_sql


def test_nothing_asked_for_is_empty() -> None:
    assert Selection.parse(dict.fromkeys(CONDITIONS), NOW).is_empty
    assert str(Selection()) == "everything"


def test_a_selection_shows_as_it_would_be_typed() -> None:
    selection = Selection.parse({"type": "lead.*", "event": "5", "where": 'data.a == "b c"'}, NOW)
    assert str(selection) == "5 --type 'lead.*' --where 'data.a == \"b c\"'"


def test_unrouted_is_a_state_of_its_own() -> None:
    selection = Selection.parse({"state": "unrouted"}, NOW)
    assert selection.unrouted
    assert selection.states == ()
    assert selection.asks_about_deliveries


@each(
    ("conditions", "message", "position"),
    [
        ({"state": "dead,runing"}, "'runing' is not a state (did you mean 'running'?); states: ", 5),
        ({"state": ","}, "'' is not a state", 0),
        ({"typ": "x"}, "'typ' is not a condition (did you mean 'type'?); conditions: ", None),
        ({"type": "lead..updated"}, "empty segment", 5),
        ({"type": "lead.up*"}, "one whole segment", 5),
        ({"event": "12x"}, "'12x' is no event's id", None),
        ({"event": "-1"}, "is no event's id", None),
        ({"event": "٣"}, "is no event's id", None),
        ({"event": str(2**63)}, "is no event's id", None),
        ({"event": "0"}, "is no event's id", None),
        ({"since": "6x"}, "'x' is not a unit", 1),
        ({"since": "25:00"}, "cannot be read at character 1", 0),
        ({"since": "1h30"}, "cannot be read at character 3", 2),
        ({"since": "10"}, "a number without a unit", 0),
        ({"since": "tomorrow"}, "an instant such as 2026-03-10T14:05:12Z, or today, yesterday, monday 9:00", 0),
        ({"since": "999999999w"}, "too long a time", 0),
        ({"since": "99999w99999w99999w"}, "before the year 1", 0),
        ({"since": "2026-02-30"}, "cannot be read at character 1", 0),
        ({"since": "1h", "until": "2h"}, "is not before until", None),
        ({"source": "a\0b"}, "character 2 cannot be in a stored text", 1),
        ({"key": "\ud800"}, "character 1 cannot be in a stored text", 0),
        ({"error": "x" * 2001}, "2001 characters; at most 2000", None),
        ({"source": ["a", "b"]}, "given 2 times", None),
        ({"where": "x" * 3000}, "at most 2000", None),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(
    conditions: dict[str, Any], message: str, position: int | None
) -> None:
    error = refused(conditions)
    assert message in str(error)
    assert error.position == position


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("6h", timedelta(hours=6)),
        ("2d", timedelta(days=2)),
        ("1w", timedelta(weeks=1)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        (" 2D ", timedelta(days=2)),
        ("5min", timedelta(minutes=5)),
        ("500ms", timedelta(milliseconds=500)),
    ],
)
def test_durations_count_back_from_now(text: str, expected: timedelta) -> None:
    assert parse_duration(text) == expected
    assert parse_time(text, NOW) == NOW - expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-10", datetime(2026, 3, 10, tzinfo=UTC)),
        ("2026-03-10T14:05:12Z", NOW),
        ("2026-03-10T14:05:12", NOW),
        ("2026-03-10 15:05:12+01:00", NOW),
        ("now", NOW),
    ],
)
def test_instants_are_utc_unless_they_say(text: str, expected: datetime) -> None:
    assert parse_time(text, NOW) == expected


def test_an_instant_that_falls_out_of_the_calendar_is_refused() -> None:
    with pytest.raises(SelectionError):
        parse_time("0001-01-01T00:00:00+14:00", NOW)


@given(st.text(max_size=30))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    with contextlib.suppress(SelectionError):
        assert parse_time(text, NOW).tzinfo is not None


@given(selections)
def test_a_recorded_selection_means_the_same_later(conditions: dict[str, Any]) -> None:
    selection = Selection.parse(conditions, NOW)
    recorded = json.loads(json.dumps(selection.to_mapping()))
    assert Selection.parse(recorded, NOW + timedelta(days=300)) == selection


@given(st.dictionaries(st.sampled_from([*CONDITIONS, "x"]), st.text(max_size=40)))
def test_any_texts_are_a_selection_or_refused(conditions: dict[str, str]) -> None:
    error = error_of(lambda: Selection.parse(conditions, NOW))
    assert error is None or error.position is None or 0 <= error.position <= len(error.text)


@pytest.mark.parametrize(
    ("pattern", "exact"),
    [("lead.updated", True), ("**", True), ("lead.**", True), ("a.*.b", True), ("**.x.**", True), ("*.**", False)],
)
def test_only_mixed_wildcards_need_a_second_look(pattern: str, exact: bool) -> None:
    assert is_exact_in_sql(pattern) is exact


def test_a_glob_without_wildcards_is_found_anywhere() -> None:
    assert glob_parts("Timeout") == ["\0*", "Timeout", "\0*"]
    assert glob_parts("a*b?") == ["a", "\0*", "b", "\0?"]


# -- where -----------------------------------------------------------------------------------------------------

DATA = {
    "lead_id": "lead_x",
    "n": 5,
    "f": 2.5,
    "yes": True,
    "none": None,
    "text": "Bonjour, côté nord",
    "list": ["a", 1, None],
    "custom.cf_1": "flat",
    "custom": {"cf_2": "nested"},
    "attachments": [{"url": "u0"}, {"url": "u1"}],
    "a key": 1,
}


@each(
    "expression",
    [
        'data.lead_id == "lead_x"',
        "data.lead_id == 'lead_x'",
        "data.n == 5",
        "data.n == 5.0",
        "data.n != 6",
        "data.n > 4 and data.n >= 5 and data.n < 6 and data.n <= 5",
        "data.f == 2.5e0",
        "data.n in [1, 5]",
        'data.n not in ["5"]',
        'data.text contains "nord"',
        'not data.text contains "sud"',
        'data.text not contains "sud"',
        'data.list contains "a"',
        "data.list contains null",
        '"lead_id" in data',
        "data.none == null",
        "data.missing == null",
        "data.yes exists",
        "data.none not exists",
        "data.missing not exists",
        "not data.missing exists",
        'data.custom.cf_1 == "flat"',
        'data.custom.cf_2 == "nested"',
        'data["custom.cf_1"] == "flat"',
        'data["a key"] == 1',
        'data.attachments[1].url == "u1"',
        'data.attachments[-1].url == "u1"',
        "data.attachments[9] == null",
        "data.yes",
        "not data.none",
        "data.yes == true",
        "data.n != true",
        '(data.n == 1 or data.n == 5) and data.lead_id == "lead_x"',
        "data.n == 1 or data.n == 5 and true",
        'type == "lead.updated" and source == "close" and key == "ev_1" and id == "7"',
        '"status_id" in changed_fields',
        'previous.status == "old"',
        'meta.api_key_id == "api_1"',
        'data.text contains "c\\u00f4t\\u00e9"',
        "data.n - 5 exists or true",
    ][:-1],
)
def test_expressions_that_hold(expression: str) -> None:
    assert holds(
        expression, DATA, changed_fields=("status_id",), previous={"status": "old"}, meta={"api_key_id": "api_1"}
    )


@each(
    "expression",
    [
        "data.n == 6",
        "data.n == true",
        "data.yes == 1",
        'data.n < "6"',
        "data.lead_id < 5 or data.lead_id >= 5",
        "data.missing",
        "data.missing > 0",
        "data.missing < 0",
        "data.text contains 5",
        "data.n contains 5",
        "data.none contains null",
        "data.lead_id.deeper == 1",
        "data.list.a exists",
        "data.n and data.none",
        "null",
        "[]",
        '""',
    ],
)
def test_expressions_that_do_not_hold(expression: str) -> None:
    assert not holds(expression, DATA)


@pytest.mark.parametrize("data", [None, [], "text", 5, {"data": 1}])
def test_content_of_any_shape_is_judged(data: Any) -> None:
    assert not holds('data.lead_id == "lead_x"', data)
    assert holds("data.lead_id == null", data)


@each(
    ("text", "message", "position"),
    [
        ("", "the expression is empty", 0),
        ("   ", "the expression is empty", 0),
        ("data.x =", "write == to compare", 7),
        ("data.x = 1", "write == to compare", 7),
        ("data.x == 1 && true", "write and", 12),
        ("data.x == 'a", "this ' is never closed", 10),
        ('data.x == "\\q"', "this escape is unknown", 11),
        ("data.x == 1 adn data.y", "'adn' was not expected", 12),
        ("dta.x", "did you mean 'data'?", 0),
        ("lead_x == data.lead_id", "a text is written in quotes", 0),
        ("data.", "expected a field's name", 5),
        ("data[", "expected a text or a whole number", 5),
        ("data.-1", "expected a field's name", 5),
        ("data[1.5]", "expected a text or a whole number", 5),
        ("data[1", "expected ']' for the '[' at character 5", 6),
        ("(data.x", "expected ')' for the '(' at character 1", 7),
        ("data.x == ", "the expression ends here; expected a path", 10),
        ("[1, 2", "expected ']'", 5),
        ("data.x == 1 2", "'2' was not expected", 12),
        ("and", "expected a path", 0),
        ("not", "the expression ends here", 3),
        ("(" * 41 + "1" + ")" * 41, "nested deeper than 40 levels", 41),
        ("not " * 60 + "1", "nested deeper than 40 levels", 164),
        ("data.x == 1;", "';' is not part of an expression", 11),
        ("__import__('os')", "is not a part of an event", 0),
    ],
)
def test_expressions_that_cannot_be_read_are_refused_with_their_place(text: str, message: str, position: int) -> None:
    with pytest.raises(SelectionError) as caught:
        Expression.parse(text)
    assert message in str(caught.value)
    assert caught.value.position == position


@given(st.text(max_size=60))
def test_any_text_is_an_expression_or_refused_at_a_character_of_it(text: str) -> None:
    error = error_of(lambda: Expression.parse(text).matches(event(DATA)))
    assert error is None or (error.position is not None and 0 <= error.position <= len(text))


_words = st.sampled_from(
    ["data", ".", "x", "n", "==", "!=", "<", "in", "not", "and", "or", "contains", "exists", "(", ")", "[", "]", ",",
     "1", '"a"', "null", "true", "type", "custom", "changed_fields"]
)  # fmt: skip


@given(
    st.lists(_words, max_size=25).map(" ".join),
    st.recursive(
        st.none() | st.integers() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c), max_leaves=8
    ),
)
def test_what_looks_like_an_expression_is_read_or_refused_and_never_raises_on_content(text: str, data: Any) -> None:
    try:
        expression = Expression.parse(text)
    except SelectionError:
        return
    assert expression.matches(event(data)) in (True, False)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_any_text_can_be_written_as_a_literal(text: str) -> None:
    if "\0" in text:
        return
    assert holds(f"data.x == {json.dumps(text)}", {"x": text})
