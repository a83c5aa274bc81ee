"""What is hidden by its path is nowhere to be seen, and nothing else is changed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import each
from webhooks.formats import json as jsonio
from webhooks.formats.redaction import HIDDEN, Redaction, scrub

BODY = {
    "event": {
        "data": {
            "id": "acti_1",
            "remote_phone": "+49 170 1234567",
            "custom.cf_1": "secret word",
            "contacts": [{"email": "rosa@example.org", "name": "Rosa"}, {"email": None}],
        },
        "previous_data": {"remote_phone": "+49 30 7654321"},
        "meta": {"email": {"of": "who did it"}},
    }
}


@each(
    ("pattern", "path"),
    [
        ("data.remote_phone", ["event", "data", "remote_phone"]),
        ("data.remote_phone", ["event", "previous_data", "remote_phone"]),
        ("**.email", ["event", "meta", "email", "of"]),
        ("email", ["event", "data", "contacts", 0, "email"]),
        ("data.contacts.email", ["event", "data", "contacts", 1, "email"]),
        ("data.contacts.*.email", ["event", "data", "contacts", 1, "email"]),
        ("data.contacts.1.email", ["event", "data", "contacts", 1, "email"]),
        ("data.custom.cf_1", ["event", "data", "custom.cf_1"]),
        ("data.custom.*", ["event", "data", "custom.cf_1"]),
        ("data.**.name", ["event", "data", "contacts", 0, "name"]),
        ("meta", ["event", "meta", "email"]),
    ],
)
def test_a_pattern_hides_what_it_names(pattern: str, path: list[Any]) -> None:
    assert Redaction([pattern]).hides(path)


@each(
    ("pattern", "path"),
    [
        ("data.remote_phone", ["event", "data", "id"]),
        ("data.remote_phone", ["event", "remote_phone"]),
        ("data.remote_phone", ["event", "data", "x", "remote_phone"]),
        ("data.contacts.1.email", ["event", "data", "contacts", 0, "email"]),
        ("data.*.email", ["event", "data", "email"]),
        ("email", ["event", "data", "Email"]),
        ("data.remote_phone", []),
    ],
)
def test_it_hides_nothing_else(pattern: str, path: list[Any]) -> None:
    assert not Redaction([pattern]).hides(path)


def test_a_body_keeps_all_that_is_not_hidden_as_it_was_written() -> None:
    raw = b'{"data": {"n": 1.10, "phone":"+49 170",\n "big": 12345678901234567890, "phone ": [1], "list":[{"phone":{"x":[1,2]}}, 2]}}'
    hidden = Redaction(["data.phone", "**.list.phone"]).hide_body(raw)
    assert hidden == (
        b'{"data": {"n": 1.10, "phone":"[hidden]",\n "big": 12345678901234567890, "phone ": [1], "list":[{"phone":"[hidden]"}, 2]}}'
    )
    assert Redaction().hide_body(raw) is raw
    assert Redaction(["x"]).hide_body(b"no json") == HIDDEN.encode()
    assert Redaction(["x"]).hide_body(b'{"\\u0078": 1}') == b'{"\\u0078": "[hidden]"}'


def test_other_texts_are_scrubbed_of_the_same_values() -> None:
    redaction = Redaction(["data.remote_phone", "**.email"])
    texts = redaction.texts(BODY)
    assert texts == {"+49 170 1234567", "+49 30 7654321", "rosa@example.org", "who did it"}
    assert scrub("no answer from +49 170 1234567 (rosa@example.org)", texts) == f"no answer from {HIDDEN} ({HIDDEN})"


@each("pattern", ["", ".", "a..b", "*", "**", "**.*", ".".join("a" * 30)])
def test_what_is_no_pattern_is_refused_with_an_example(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"data\.remote_phone|name what is to be hidden"):
        Redaction([pattern])


KEYS = st.sampled_from(["data", "previous_data", "email", "a.email", "x", "", "0"]) | st.text(max_size=3)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)
PATTERNS = st.lists(
    st.sampled_from(["email", "data.email", "**.email", "data.*", "x", "data.**.x", "a.email", "0", "*.x"]), max_size=4
)


@given(VALUES, PATTERNS, st.booleans())
def test_bytes_and_values_are_hidden_alike(value: Any, patterns: list[str], indented: bool) -> None:
    redaction = Redaction(patterns)
    raw = json.dumps(value, indent=1 if indented else None, ensure_ascii=not indented).encode("utf-8", "surrogatepass")
    try:
        decoded = jsonio.load(raw)
    except ValueError:
        return
    before = json.dumps(decoded)
    hidden = redaction.hide(decoded)
    assert jsonio.load(redaction.hide_body(raw)) == hidden
    assert json.dumps(decoded) == before, "the value itself stays"
    assert redaction.hide(hidden) == hidden


@given(VALUES, PATTERNS)
def test_what_is_hidden_is_what_its_path_says(value: Any, patterns: list[str]) -> None:
    redaction = Redaction(patterns)

    def check(one: Any, shown: Any, path: tuple[Any, ...]) -> None:
        if redaction.hides(path):
            assert shown == HIDDEN
        elif isinstance(one, dict):
            assert list(one) == list(shown)
            for key in one:
                check(one[key], shown[key], (*path, key))
        elif isinstance(one, list):
            assert len(one) == len(shown)
            for place, inner in enumerate(one):
                check(inner, shown[place], (*path, place))
        else:
            assert one == shown

    check(value, redaction.hide(value), ())
