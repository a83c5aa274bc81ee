"""A body as lines: whatever it holds, drawn as it was sent, in bounded time, and never as markup."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import examples
from webhooks.dashboard.payload.draw import Drawing, draw
from webhooks.dashboard.payload.paths import dotted
from webhooks.dashboard.payload.scan import MOST_LINES, scan
from webhooks.dashboard.payload.text import MOST_BYTES, shown

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def joined(raw: bytes) -> str:
    """The lines of a body as JSON again."""
    tree = scan(raw)
    assert tree is not None
    return "".join(
        (f"{line.key}:" if line.key else "") + line.text + ("," if line.has_comma and not line.opens else "")
        for line in tree.lines
    )


@given(values)
@settings(max_examples=examples(200))
def test_the_lines_together_are_the_body(value: Any) -> None:
    raw = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        raw = json.dumps(value, separators=(",", ":")).encode()
    assert joined(raw) == raw.decode()
    assert joined(json.dumps(value, indent=3).encode()) == json.dumps(value, separators=(",", ":"))


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
@settings(max_examples=examples(200))
def test_any_bytes_are_lines_or_none(raw: bytes) -> None:
    tree = scan(raw)
    assert tree is None or draw(tree, Drawing("/x?")) is not None


@given(values)
@settings(max_examples=examples(100))
def test_what_is_drawn_holds_no_markup_of_the_sender(value: Any) -> None:
    tree = scan(json.dumps({"<b>": value, "x": '"><script>alert(1)</script>'}).encode())
    assert tree is not None
    drawn = str(draw(tree, Drawing("/dashboard/events/1?")))
    assert set(re.findall(r"<(/?[a-z!][^ >]*)", drawn)) <= {
        "details", "/details", "summary", "/summary", "span", "/span", "a", "/a", "bdi", "/bdi",
    }  # fmt: skip
    assert drawn.count("<details") == drawn.count("</details>")
    assert not re.search("[\x00-\x08\u202a-\u202e\u2066-\u2069]", drawn)


def test_a_deep_body_is_drawn() -> None:
    tree = scan(b"[" * 99 + b"1" + b"]" * 99)
    assert tree is not None
    assert len(tree.lines) == 2 * 99 + 1


def test_a_large_body_is_cut() -> None:
    tree = scan(json.dumps({"list": [{"n": n} for n in range(50_000)]}).encode())
    assert tree is not None
    assert tree.is_cut
    assert len(tree.lines) == MOST_LINES
    drawn = str(draw(tree, Drawing("/x?")))
    assert drawn.count("<details") == drawn.count("</details>")


def test_a_long_string_is_cut_until_it_is_picked() -> None:
    tree = scan(json.dumps({"text": "x" * 10_000}).encode())
    assert tree is not None
    assert "x" * 5_000 not in str(draw(tree, Drawing("/x?")))
    assert "x" * 10_000 in str(draw(tree, Drawing("/x?", picked=1)))


def test_values_are_hidden() -> None:
    tree = scan(b'{"phone": "+15555550123", "n": 12345, "ok": true, "none": null}')
    assert tree is not None
    drawn = str(draw(tree, Drawing("/x?", hides_values=True, has_before=True, before={('"phone"',): '"+1444"'})))
    assert "phone" in drawn
    assert not re.search("5555|12345|1444", drawn)


def test_a_path_reads_as_a_selection_writes_it() -> None:
    assert dotted(('"event"', '"data"', '"a key"', 0, '"x"')) == 'event.data["a key"][0].x'


# -- what is no JSON ----------------------------------------------------------------------------------------


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"])), st.integers(1, 100))
@settings(max_examples=examples(200))
def test_text_is_shown_as_it_is_and_cut_between_characters(text: str, most: int) -> None:
    raw = text.encode()
    seen = shown(raw, most)
    assert text.startswith(seen.text)
    assert most - len(seen.text.encode()) < 4 or seen.text == text
    assert seen.is_cut == (len(raw) > most)


@given(st.binary(max_size=200), st.integers(1, 300))
@settings(max_examples=examples(200))
def test_what_is_no_text_is_shown_byte_by_byte(raw: bytes, most: int) -> None:
    raw = b"\x00" + raw
    seen = shown(raw, most)
    bytes_of = [bytes.fromhex(line[10:57]) for line in seen.text.split("\n")]
    assert b"".join(bytes_of) == raw[:most]
    assert all(" " <= character <= "~" for character in seen.text.replace("\n", ""))
    assert seen.is_cut == (len(raw) > most)


def test_bytes_are_shown_with_their_place_and_what_is_readable() -> None:
    assert shown(b"PK\x03\x04 a zip file, say", 100).text == (
        "00000000  50 4b 03 04 20 61 20 7a 69 70 20 66 69 6c 65 2c  PK.. a zip file,\n"
        "00000010  20 73 61 79                                       say"
    )
    assert shown(b"\xff" * (MOST_BYTES + 1), 10 * MOST_BYTES).is_cut


def test_what_json_may_hold_is_text() -> None:
    assert shown(b'{"a": "\x7f"}', 100).text == '{"a": "\x7f"}'


def test_a_body_that_breaks_off_within_a_character_is_no_text() -> None:
    assert shown("ä".encode()[:1], 100).text.startswith("00000000  c3")
