"""Fixtures: what is replaced keeps its kind and shape, is the same throughout a run, and is left nowhere."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import PAYLOADS, each
from webhooks.formats import json as jsonio
from webhooks.formats.redaction import STRICT, FixtureRules, Leak, Replacer
from webhooks.sources.close.redaction import RULES

KEY = b"of this test"


@each(
    ("text", "shape"),
    [
        ("lead_Ab3dE5gH9kLmN0pQ", r"lead_[A-Za-z0-9]{16}"),
        ("rosa@firma.de", r"person1@example\.com"),
        ("+49 (170) 123-4567", r"\+1 555 01\d\d"),
        ("https://firma.de/x?y=1", r"https://example\.com/1"),
        ("Rosa LUCHS von Berg", r"[A-Z][a-z]{3} [A-Z]{5} [a-z]{3} [A-Z][a-z]{3}"),
        ("1973-04-05", r"2020-\d\d-\d\d"),
        ("1973-04-05T12:13:14+02:00", r"2020-\d\d-\d\dT00:00:00\+00:00"),
        ("0b51c3a0-1111-4222-8333-944444444444", r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
        ("mail rosa@firma.de now", r"[a-z]{4} person1@example\.com [a-z]{3}"),
        ("two\n lines", r"[a-z]{3}\n [a-z]{5}"),
    ],
)
def test_a_text_becomes_another_of_its_kind(text: str, shape: str) -> None:
    new = Replacer(STRICT, KEY).text(text)
    assert re.fullmatch(shape, new), new
    assert new != text


def test_numbers_keep_their_length_and_small_ones_stay() -> None:
    replacer = Replacer(STRICT, KEY)
    new = replacer.replace(
        {"value": 120000, "count": 3, "part": 0.5, "minus": -4711, "yes": True, "none": None, "empty": ""}
    )
    assert (new["count"], new["yes"], new["none"], new["empty"]) == (3, True, None, "")
    assert len(str(new["value"])) == 6
    assert -10_000 < new["minus"] < -1_000
    assert new["value"] != 120000


def test_what_belongs_together_still_does_and_not_beyond_the_run() -> None:
    event = {
        "object_id": "lead_Ab3dE5gH9kLmN0pQ",
        "data": {"id": "lead_Ab3dE5gH9kLmN0pQ", "custom.cf_Zz9Yy8Xx7": "gold"},
    }
    first = Replacer(STRICT)
    new, again = first.replace(event), first.replace(event)
    assert new == again
    assert new["object_id"] == new["data"]["id"]
    assert list(new["data"])[1].startswith("custom.cf_")
    assert "cf_Zz9Yy8Xx7" not in str(new)
    assert Replacer(STRICT).replace(event)["object_id"] != new["object_id"]


def test_close_keeps_words_of_its_envelope_and_nothing_else() -> None:
    event = {
        "event": {
            "id": "ev_2Gk0pEMM7xAbCdEfGh", "object_type": "lead", "action": "updated", "date_created": "2026-03-10T14:05:11",
            "changed_fields": ["status_id", "custom.cf_Zz9Yy8Xx7"], "lead_id": "lead_Ab3dE5gH9kLmN0pQ",
            "data": {
                "status": "active", "direction": "incoming", "name": "Rosa Luchs", "status_label": "Very Important Person",
                "type": {"name": "Rosa Luchs"}, "channel": "mit freundlichen Grüßen, Ihre Rosa",
            },
        }
    }  # fmt: skip
    replacer = Replacer(RULES, KEY)
    new = replacer.replace(event)["event"]
    assert (new["object_type"], new["action"], new["date_created"]) == ("lead", "updated", "2026-03-10T14:05:11")
    assert (new["data"]["status"], new["data"]["direction"]) == ("active", "incoming")
    assert new["changed_fields"][0] == "status_id"
    written = replacer.checked(new).decode()
    for secret in ("Rosa", "Luchs", "Important", "cf_Zz9Yy8Xx7", "lead_Ab3dE5gH9kLmN0pQ", "freundlichen"):
        assert secret not in written


@pytest.mark.parametrize("path", sorted(PAYLOADS.glob("*.json"))[:6], ids=lambda path: path.stem)
def test_no_value_of_a_sample_is_left(path: Any) -> None:
    body = json.loads(path.read_bytes())
    replacer = Replacer(RULES)
    written = replacer.checked(
        {"body": replacer.replace(body), "headers": replacer.headers({"User-Agent": "Close/1.0"})}
    )
    assert b"Close/1.0" not in written


def test_a_value_that_has_another_by_chance_is_no_leak() -> None:
    """Of the ids that `lead_Ab3…` may become, one in 62 begins with `lead_1`."""
    values = {"object_id": "lead_1", "lead_id": "lead_Ab3dE5gH9kLmN0pQ"}
    seen = 0
    for number in range(300):
        replacer = Replacer(key=b"%d" % number)
        new = replacer.replace(values)
        if "lead_1" in new["lead_id"]:
            seen += 1
            assert jsonio.load(replacer.checked(new)) == new
            with pytest.raises(Leak, match="object_id"):
                replacer.checked({**new, "note": "about lead_1"})
    assert seen


def test_what_is_left_is_named_and_nothing_is_written() -> None:
    replacer = Replacer(STRICT, KEY)
    new = replacer.replace({"data": {"name": "Rosa Luchs"}})
    new["note"] = "as Rosa Luchs said"
    with pytest.raises(Leak, match=r"what stands at data\.name is left elsewhere"):
        replacer.checked(new)
    new["note"] = "as Rosa\u0020Luchs said"
    with pytest.raises(Leak):
        replacer.checked(new)


TEXTS = st.text(max_size=12) | st.sampled_from(
    [
        "lead_Ab3dE5gH9kLmN0pQ",
        "rosa@firma.de",
        "+49 170 1234567",
        "https://a.de/b",
        "1973-04-05",
        "Rosa",
        "name",
        "ÄÖÜß äöü",
        "\u202eabcd",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=15,
)


@given(VALUES)
def test_whatever_it_holds_nothing_replaced_is_left_or_it_is_said(value: Any) -> None:
    replacer = Replacer(FixtureRules.of(["name"]))
    new = replacer.replace(value)
    assert _shape(new) == _shape(value)
    with contextlib.suppress(Leak):
        assert _shape(jsonio.load(replacer.checked(new))) == _shape(value)


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return [_shape(each) for each in value.values()]
    if isinstance(value, list):
        return [_shape(each) for each in value]
    return type(value).__name__
