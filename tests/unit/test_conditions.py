"""Conditions decide and say why."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support import each
from webhooks.model import Content, Event
from webhooks.routing import changed, field
from webhooks.routing.conditions import Condition, as_condition

NOW = datetime(2026, 3, 10, tzinfo=UTC)


def event(
    data: Any = None,
    previous: Any = None,
    changed_fields: tuple[str, ...] = (),
    superseded: Event | None = None,
    **attributes: Any,
) -> Event:
    content = Content(data=data, previous=previous or {}, changed_fields=changed_fields, action="updated")
    return Event(
        **{"id": 1, "source": "close", "type": "lead.updated", "dedup_key": "ev_1", "raw": b"{}", **attributes},
        occurred_at=NOW,
        received_at=NOW,
        reader=lambda raw, type: content,
        superseded=superseded,
    )


CALL = {
    "direction": "outgoing",
    "duration": 30,
    "note": None,
    "tags": ["a", "b"],
    "custom.cf_1": "flat",
    "custom": {"cf_1": "nested", "cf_2": "only nested"},
    "custom.cf_3.x": 1,
    "attachments": [{"url": "u0"}, {"url": "u1"}],
}


@each(
    ("condition", "expected"),
    [
        (field("data.direction") == "outgoing", True),
        (field("data.direction") == "incoming", False),
        (field("data.direction") != "incoming", True),
        (field("data.missing") == None, True),  # noqa: E711
        (field("data.missing") != "x", True),
        (field("data.duration") < 31, True),
        (field("data.duration") < 30, False),
        (field("data.duration") <= 30, True),
        (field("data.duration") > 30, False),
        (field("data.duration") >= 30, True),
        (field("data.missing") < 5, False),
        (field("data.missing") >= 5, False),
        (field("data.direction").in_(["incoming", "outgoing"]), True),
        (field("data.direction").in_(["incoming"]), False),
        (field("data.tags").in_([["a", "b"]]), True),
        (field("data.tags").contains("a"), True),
        (field("data.tags").contains("c"), False),
        (field("data.missing").contains("c"), False),
        (field("data.direction").contains("going"), True),
        (field("data.direction").exists(), True),
        (field("data.note").exists(), False),
        (field("data.missing").exists(), False),
        (field("data.custom.cf_1") == "flat", True),
        (field("data.custom.cf_2") == "only nested", True),
        (field("data.custom.cf_3.x") == 1, True),
        (field("data.attachments.1.url") == "u1", True),
        (field("data.attachments.2.url").exists(), False),
        (field("data.attachments.x.url").exists(), False),
        (field("type") == "lead.updated", True),
        (field("action") == "updated", True),
        (field("changed_fields").contains("status_id"), False),
        (field("data") == CALL, True),
        (~(field("data.direction") == "incoming"), True),
        ((field("data.duration") > 1) & (field("data.duration") < 99), True),
        ((field("data.duration") > 1) & (field("data.duration") < 9), False),
        ((field("data.duration") > 99) | (field("data.duration") < 99), True),
        ((field("data.duration") > 99) | (field("data.duration") < 9), False),
    ],
)
def test_a_comparison_holds(condition: Condition, expected: bool) -> None:
    assert condition(event(CALL)) is expected
    assert (~condition)(event(CALL)) is not expected


@pytest.mark.parametrize(
    ("condition", "clause", "value"),
    [
        (field("data.direction") == "incoming", 'field("data.direction") == "incoming"', "'outgoing'"),
        (field("data.note").exists(), 'field("data.note").exists()', "None"),
        (field("data.direction").in_(["a", 1]), 'field("data.direction").in_(["a", 1])', "'outgoing'"),
        (field("data.tags").contains("c"), 'field("data.tags").contains("c")', "['a', 'b']"),
        (~(field("data.duration") == 30), '~(field("data.duration") == 30)', "30"),
        # of two, the one that decided
        (
            (field("data.duration") == 30) & (field("data.direction") == "incoming"),
            'field("data.direction") == "incoming"',
            "'outgoing'",
        ),
        (
            (field("data.direction") == "incoming") & (field("data.duration") == 30),
            'field("data.direction") == "incoming"',
            "'outgoing'",
        ),
        (
            (field("data.direction") == "incoming") | (field("data.duration") == 31),
            '(field("data.direction") == "incoming") | (field("data.duration") == 31)',
            "'outgoing' | 30",
        ),
        (
            ~((field("data.duration") == 31) | (field("data.duration") == 30)),
            '~(field("data.duration") == 30)',
            "30",
        ),
        (field("data.direction") == 'a"b', 'field("data.direction") == \'a"b\'', "'outgoing'"),
    ],
    ids=repr,
)
def test_a_condition_that_fails_says_which_clause_and_which_value(
    condition: Condition, clause: str, value: str
) -> None:
    assert condition.explain(event(CALL)) == (False, clause, value)


def test_a_long_value_is_cut() -> None:
    _, _, value = (field("data.note") == "x").explain(event({"note": "y" * 5000}))

    assert len(value) == 201


CHANGE: dict[str, Any] = {
    "data": {"status_id": "won", "custom.cf_1": 2},
    "previous": {"status_id": "open", "custom.cf_1": 1},
    "changed_fields": ("status_id", "custom.cf_1"),
}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (changed("status_id"), True),
        (changed("status_id", to="won"), True),
        (changed("status_id", to="lost"), False),
        (changed("status_id", was="open"), True),
        (changed("status_id", was=None), False),
        (changed("status_id", to="won", was="open"), True),
        (changed("custom.cf_1", to=2), True),
        (changed("name"), False),
        (changed("name", to=None), False),
        (changed("custom.cf_1", to=2.0), True),
        (changed("custom.cf_1", was=True), False),
    ],
    ids=repr,
)
def test_a_change_is_told_by_its_values(condition: Condition, expected: bool) -> None:
    assert condition(event(**CHANGE)) is expected


def test_on_a_revision_only_what_it_adds_counts_unless_asked_since_the_first() -> None:
    before = event({"status_id": "won", "name": "a"}, {"status_id": "open"}, ("status_id",))
    revision = event(
        {"status_id": "won", "name": "b"},
        {"status_id": "open", "name": "a"},
        ("status_id", "name"),
        superseded=before,
    )

    assert not changed("status_id")(revision)
    assert changed("status_id", since="first")(revision)
    assert changed("name")(revision)


@pytest.mark.parametrize(
    ("condition", "clause", "value"),
    [
        (changed("name"), 'changed("name")', "unchanged"),
        (changed("status_id", to="lost"), 'changed("status_id", to="lost")', "'won', before 'open'"),
        (
            changed("status_id", was=None, since="first"),
            'changed("status_id", was=None, since="first")',
            "'won', before 'open'",
        ),
    ],
    ids=repr,
)
def test_a_change_that_was_none_says_what_it_met(condition: Condition, clause: str, value: str) -> None:
    assert condition.explain(event(**CHANGE)) == (False, clause, value)


def is_long(event: Event) -> Any:
    return event.data["duration"] > 60


def test_a_function_of_the_event_is_a_condition() -> None:
    assert as_condition(is_long).explain(event(CALL)) == (False, "is_long(event)", "False")
    assert (as_condition(is_long) | (field("data.duration") == 30))(event(CALL))
    assert ((field("data.duration") == 30) | is_long)(event(CALL))
    assert (is_long | (field("data.duration") == 30))(event(CALL))
    assert not (is_long & (field("data.duration") == 30))(event(CALL))


def test_a_function_that_returns_nothing_shows_that() -> None:
    assert as_condition(lambda event: None).explain(event())[2] == "None"


def test_a_condition_that_raises_raises() -> None:
    with pytest.raises(KeyError):
        as_condition(is_long)(event({}))


def test_a_comparison_of_unlike_kinds_does_not_hold_and_does_not_raise() -> None:
    assert (field("data.direction") < 5).explain(event(CALL)) == (False, 'field("data.direction") < 5', "'outgoing'")


def test_the_second_condition_is_not_asked_when_the_first_decides() -> None:
    assert not ((field("data.duration") == 0) & is_long)(event({}))
    assert ((field("data.duration") == None) | is_long)(event({}))  # noqa: E711


@pytest.mark.parametrize("make", [lambda p: p and p, lambda p: p or p, lambda p: not p], ids=["and", "or", "not"])
def test_a_condition_used_with_and_or_not_says_to_use_operators(make: Any) -> None:
    with pytest.raises(TypeError, match=r"combine conditions with & \| ~"):
        make(changed("name"))


def test_a_field_alone_is_no_condition() -> None:
    with pytest.raises(TypeError, match=r'compare it, or write field\("data.x"\).exists\(\)'):
        bool(field("data.x"))
    with pytest.raises(TypeError, match="alone says nothing; compare it"):
        as_condition(field("data.x"))


async def is_async(event: Event) -> bool:
    return True


@pytest.mark.parametrize(
    ("condition", "complaint"),
    [
        (True, "True is no condition; use changed"),
        ("data.x", "'data.x' is no condition"),
        (dict, "is no condition"),
        (is_async, "is_async is async"),
        (lambda: True, "cannot be called with the event alone: too many positional arguments"),
        (lambda event, data: True, "cannot be called with the event alone: missing a required argument: 'data'"),
    ],
    ids=["bool", "text", "class", "async", "none", "two"],
)
def test_what_is_no_condition_is_refused(condition: Any, complaint: str) -> None:
    with pytest.raises(TypeError) as caught:
        as_condition(condition)

    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("", "is no path"),
        (".x", "is no path"),
        ("data.", "is no path"),
        ("direction", "did you mean field('data.direction')?"),
        ("dta.direction", "did you mean field('data.direction')?"),
        ("custom.cf_1", "did you mean field('data.custom.cf_1')?"),
    ],
)
def test_a_wrong_path_is_refused_where_it_is_written(path: str, complaint: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at below
        field(path)

    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: changed(""), "give the name of a field"),
        (lambda: changed("data.status_id"), "write changed('status_id')"),
        (lambda: changed("x", since="last"), "it can be 'previous' or 'first'"),
    ],
    ids=["empty", "data", "since"],
)
def test_a_wrong_change_is_refused_where_it_is_written(make: Any, complaint: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        make()

    assert complaint in str(caught.value)


def test_in_takes_no_text() -> None:
    with pytest.raises(TypeError, match="give a list of whole values"):
        field("data.x").in_("abc")
