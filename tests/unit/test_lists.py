"""Cutting JSON into the elements of its lists: nothing is lost, nothing is twice, and each is as it was written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import examples
from webhooks.formats import JsonPath, lists
from webhooks.formats import json as jsonio

NESTED = [[JsonPath("a"), JsonPath("b")], [JsonPath("a")]]
leaf = st.fixed_dictionaries({"n": st.integers(0, 10**6)}, optional={"s": st.text(max_size=8)})
outer = st.fixed_dictionaries(
    {}, optional={"b": st.lists(leaf, max_size=3), "x": st.text(max_size=5), "y": st.just([1, 2])}
)
texts = st.fixed_dictionaries({"a": st.lists(outer, max_size=4)}, optional={"o": st.text(max_size=5)})
spaced = st.sampled_from([None, 1])


def cut(value: Any, *, around: bool = False, indent: int | None = None) -> list[Any]:
    raw = json.dumps(value, indent=indent).encode()
    found = lists.slices(raw, NESTED, around=around, most=1000)
    assert around or all(part in raw for part in found)
    return [json.loads(part) for part in found]


@settings(max_examples=examples(300))
@given(value=texts, indent=spaced)
def test_an_element_gives_way_to_what_is_in_it_and_else_stands_for_itself(value: Any, indent: int | None) -> None:
    wanted = [inner for each in value["a"] for inner in (each.get("b") or [each])]
    assert cut(value, indent=indent) == wanted


@settings(max_examples=examples(300))
@given(value=texts, indent=spaced)
def test_around_an_element_stands_the_text_with_that_way_alone(value: Any, indent: int | None) -> None:
    wanted = []
    for each in value["a"]:
        for inner in each.get("b") or [None]:
            kept = {**each, "b": [] if inner is None else [inner]}
            wanted.append({**value, "a": [kept if "b" in each else each]})
    assert cut(value, around=True, indent=indent) == wanted


def test_lists_beside_the_way_are_left_empty() -> None:
    text = b'{"a": [1, 2], "b": [3]}'
    found = lists.slices(text, [[JsonPath("a")], [JsonPath("b")]], around=True, most=9)
    assert found == [b'{"a": [1], "b": []}', b'{"a": [2], "b": []}', b'{"a": [], "b": [3]}']


def test_the_text_may_be_the_list_and_so_may_its_elements() -> None:
    assert lists.slices(b" [1, [2]] ", [[None]], most=9) == [b"1", b"[2]"]
    assert lists.slices(b"[[1], [2, 3]]", [[None, None]], most=9) == [b"1", b"2", b"3"]
    assert lists.slices(b'[{"e":[]},{"e":[7]}]', [[None, JsonPath("e")]], most=9) == [b'{"e":[]}', b"7"]


def test_what_has_no_list_or_too_much_is_refused() -> None:
    with pytest.raises(LookupError):
        lists.slices(b'{"a": 1}', NESTED, most=9)
    with pytest.raises(jsonio.NotJSON, match="3 events; at most 2"):
        lists.slices(b'{"a": [1, 2, 3]}', NESTED, most=2)
    wide = b'{"o": "%s", "a": [%s]}' % (b"x" * 2**20, b",".join([b"1"] * 100))
    with pytest.raises(jsonio.NotJSON, match="what stands around each"):
        lists.slices(wide, NESTED, around=True, most=1000)
