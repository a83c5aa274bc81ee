"""One line as a selection, and back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import each, examples
from tests.unit.selections import selections
from webhooks.errors import SelectionError
from webhooks.selection import CONDITIONS, Selection
from webhooks.selection import line as lines

NOW = datetime(2026, 3, 10, 14, 5, tzinfo=UTC)


@given(selections)
@settings(max_examples=examples(300))
def test_what_was_written_is_read_again(conditions: dict[str, Any]) -> None:
    selection = Selection.parse(conditions, NOW)
    assert Selection.parse_line(selection.to_line(), NOW) == selection


@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from([*CONDITIONS, ":", "--", '"', "'", "\\", " ", "a", "6h"])).map("".join)
)
@settings(max_examples=examples(500))
def test_any_line_is_a_selection_or_refused_at_a_character_of_it(line: str) -> None:
    error = None
    try:
        Selection.parse_line(line, NOW)
    except SelectionError as raised:
        error = raised
    assert error is None or error.position is None or 0 <= error.position <= len(line)


@each(
    ("line", "conditions"),
    [
        ("", {}),
        ("type:lead.** state:dead since:2d", {"type": "lead.**", "state": "dead", "since": "2d"}),
        ("state:dead state:pending", {"state": "dead,pending"}),
        ("889211340439552", {"event": "889211340439552"}),
        ("1 2", {"event": ["1", "2"]}),
        ("ev_7Qm2xB0dPZ", {"key": "ev_7Qm2xB0dPZ"}),
        ("'type:x'", {"key": "type:x"}),
        ('since:"monday 9:00"', {"since": "monday 9:00"}),
        ("--type 'lead.**' --state=dead", {"type": "lead.**", "state": "dead"}),
        ("webhooks events list --type 'lead.**' --since 2d", {"type": "lead.**", "since": "2d"}),
        ("$ flask webhooks replay --handler h", {"handler": "h"}),
        ("webhooks events show ev_1", {"key": "ev_1"}),
        ("type: lead.** state: dead", {"type": "lead.**", "state": "dead"}),
        ('state:dead where: data.x == "a b" and "y" in z', None),
        ('where:data.x == "a b"', {"where": 'data.x == "a b"'}),
        ("--where 'data.x == \"a b\"' --state dead", {"where": 'data.x == "a b"', "state": "dead"}),
        ("key:evt:1:2", {"key": "evt:1:2"}),
        ('error:"say \\"no\\" \\\\ twice"', {"error": 'say "no" \\ twice'}),
    ],
)
def test_a_line_is_read(line: str, conditions: dict[str, Any] | None) -> None:
    if conditions is None:
        with pytest.raises(SelectionError):
            Selection.parse_line(line, NOW)
    else:
        assert Selection.parse_line(line, NOW) == Selection.parse(conditions, NOW)


@each(
    ("line", "said", "position"),
    [
        ("type:lead.** stat:dead", "'stat' is not a condition (did you mean 'state'?)", 13),
        ("evt:123", "a sender's key with a colon is written key:evt:123", 0),
        ("type:lead.** state:ded", "'ded' is not a state", 19),
        ("since:6hh", "since", 7),
        ("type:", "type: nothing given", 0),
        ("where:", "where: nothing given", 0),
        ("state:dead where: data.x = 1", "write == to compare", 25),
        ('key:"abc', 'this " is never closed', 4),
        ("source:a source:b", "given twice", 9),
        ("since:1h until:2h", "swap them", 9),
        ("x" * 5000, "at most 4000", None),
        ("--limit 5", "'limit' is not a condition", 0),
    ],
)
def test_a_mistake_is_told_with_its_place(line: str, said: str, position: int | None) -> None:
    with pytest.raises(SelectionError) as caught:
        Selection.parse_line(line, NOW)
    assert said in str(caught.value)
    assert caught.value.position == position


@each(
    ("line", "number", "left"),
    [
        ("type:a state:dead since:2d", 1, "type:a since:2d"),
        ("type:a", 0, ""),
        ('state:dead where: x == "a  b"', 0, 'where: x == "a  b"'),
        ('state:dead where: x == "a  b"', 1, "state:dead"),
    ],
)
def test_a_condition_is_taken_out(line: str, number: int, left: str) -> None:
    if "where: x" in line:
        line = line.replace("where: x", "where: data.x")
        left = left.replace("where: x", "where: data.x")
    assert lines.without(line, lines.parts_of(line)[number]) == left


@each(
    ("line", "name", "value", "now"),
    [
        ("", "type", "lead.**", "type:lead.**"),
        ("state:dead since:2d", "state", "pending", "since:2d state:pending"),
        ("state:dead where: data.x", "handler", "a b", 'state:dead handler:"a b" where: data.x'),
        ("state:dead where: data.x", "where", 'data.y == "1"', 'state:dead where: data.y == "1"'),
        ("type:a", "event", "12", "type:a 12"),
        ('broken "', "type", "a", "type:a"),
    ],
)
def test_a_condition_is_put_in(line: str, name: str, value: str, now: str) -> None:
    assert lines.narrowed(line, name, value) == now
