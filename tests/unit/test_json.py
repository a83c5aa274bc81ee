"""What is JSON here, and cutting texts into parts exactly."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhooks.formats import json as jsonio

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(values, st.booleans(), st.sampled_from([None, 1]))
def test_what_the_standard_library_writes_is_read_as_the_same(value: Any, is_ascii: bool, indent: int | None) -> None:
    raw = json.dumps(value, ensure_ascii=is_ascii, indent=indent).encode("utf-8", "surrogatepass")
    try:
        raw.decode()
    except UnicodeDecodeError:
        return
    assert jsonio.load(raw) == value
    assert jsonio.load_watching(raw) == value


@given(values)
def test_what_is_dumped_is_read_as_the_same(value: Any) -> None:
    assert jsonio.load(jsonio.dump(value)) == value


@given(st.binary())
def test_no_bytes_raise_anything_but_not_json(raw: bytes) -> None:
    for load in (jsonio.load, jsonio.load_watching):
        try:
            load(raw)
        except jsonio.NotJSON:
            continue


@given(st.binary() | st.text().map(str.encode))
def test_the_fast_and_the_slow_way_agree(raw: bytes) -> None:
    outcomes: list[Any] = []
    for load in (jsonio.load, jsonio.load_watching):
        try:
            outcomes.append(load(raw))
        except jsonio.NotJSON:
            outcomes.append(jsonio.NotJSON)
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(("raw", "is_json"), [(b"[" * 100 + b"]" * 100, True), (b"[" * 101 + b"]" * 101, False)])
def test_a_hundred_levels_are_the_most(raw: bytes, is_json: bool) -> None:
    wide = b'{"a":[[]],"b":"[[[{{{","c":' + b"[{}]" + b"}"
    for text in (raw, b'{"x":[' + b",".join([wide] * 60) + b"]}" if is_json else raw):
        if is_json:
            jsonio.load(text)
        else:
            with pytest.raises(jsonio.NotJSON, match="deeper than 100"):
                jsonio.load(text)


def test_doubled_keys_are_remembered_where_they_stand() -> None:
    value = jsonio.load_watching(b'{"a":1,"b":{"c":1,"\\u0063":2},"a":2}')
    assert (value["a"], value.doubled, value["b"].doubled) == (2, {"a"}, {"c"})


@given(st.lists(values, max_size=5), st.sampled_from(["", " ", "\n\t"]))
def test_elements_are_cut_out_exactly_as_written(elements: list[Any], space: str) -> None:
    texts = [json.dumps(element, ensure_ascii=False) for element in elements]
    raw = (space + "[" + ",".join(f"{space}{text}{space}" for text in texts) + "]" + space).encode(
        "utf-8", "surrogatepass"
    )
    try:
        raw.decode()
    except UnicodeDecodeError:
        return
    assert jsonio.items(raw) == [text.encode() for text in texts]
    wrapped = b'{"x":0,"a" : {"b":' + raw + b"}}"
    assert jsonio.items(wrapped, "a.b") == [text.encode() for text in texts]
    assert jsonio.member(wrapped, "a") == b'{"b":' + raw + b"}"


@pytest.mark.parametrize(
    ("raw", "path"), [(b"{}", ""), (b"{}", "a"), (b'{"a":1}', "a"), (b"[]", "a"), (b'{"a":[]}', "a.b")]
)
def test_a_list_that_is_not_there_is_a_lookup_error(raw: bytes, path: str) -> None:
    with pytest.raises(LookupError):
        jsonio.items(raw, path)


@given(
    st.recursive(
        st.none() | st.text(st.characters()), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_inert_json_holds_the_same_value_and_nothing_that_acts_on_a_terminal(value: Any) -> None:
    import json

    text = jsonio.inert(json.dumps(value, ensure_ascii=False, indent=1))
    assert json.loads(text) == json.loads(json.dumps(value))
    assert all(character.isprintable() or character == "\n" for character in text)
