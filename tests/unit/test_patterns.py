"""Patterns match segment by segment, and a wrong one says how to write it."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support import each
from webhooks.errors import InvalidPattern
from webhooks.routing import Pattern, expand, suggest

KNOWN = frozenset(
    (
        "lead.created",
        "lead.updated",
        "activity.call.created",
        "activity.whatsapp_message.created",
        "activity.whatsapp_message.updated",
    )
)


@each(
    ("pattern", "type", "expected"),
    [
        ("lead.created", "lead.created", True),
        ("lead.created", "lead.updated", False),
        ("lead.created", "Lead.created", False),
        ("lead.created", "lead.created.twice", False),
        ("lead.*", "lead.created", True),
        ("lead.*", "lead", False),
        ("lead.*", "lead.a.b", False),
        ("*", "lead", True),
        ("*", "lead.created", False),
        ("*.created", "lead.created", True),
        ("*.created", "activity.call.created", False),
        ("**", "lead", True),
        ("**", "a.b.c.d", True),
        ("activity.**", "activity.call.created", True),
        ("activity.**", "activity", True),
        ("activity.**", "activities.x", False),
        ("**.created", "created", True),
        ("**.created", "activity.call.created", True),
        ("a.**.z", "a.z", True),
        ("a.**.z", "a.b.c.z", True),
        ("a.**.z", "a.b.c", False),
        ("a.**.**.z", "a.z", True),
        ("**.a.*.b", "a.a.x.b", True),
        ("lead.created", "", False),
        ("lead.*", "lead.", True),  # a sender may send an empty segment; it is one all the same
        ("lead.created", "lead.created\n", False),
        ("lead.*", "lead.line\nbreak", True),
        ("Größe.*", "Größe.neu", True),
        ("a[b].(c+)?", "a[b].(c+)?", True),
        ("a.c", "abc", False),
    ],
)
def test_a_pattern_matches(pattern: str, type: str, expected: bool) -> None:
    assert Pattern(pattern).matches(type) is expected


def naive(pattern: list[str], segments: list[str]) -> bool:
    """The definition, word for word."""
    if not pattern:
        return not segments
    if pattern[0] == "**":
        return any(naive(pattern[1:], segments[taken:]) for taken in range(len(segments) + 1))
    return bool(segments) and pattern[0] in ("*", segments[0]) and naive(pattern[1:], segments[1:])


_SEGMENTS = st.sampled_from(["a", "b", "ab"])


@given(
    st.lists(st.one_of(_SEGMENTS, st.sampled_from(["*", "**"])), min_size=1, max_size=7),
    st.lists(st.one_of(_SEGMENTS, st.just("")), min_size=1, max_size=7),
)
@example(["**", "a", "*", "b", "**"], ["a", "a", "b", "a", "b"])
def test_matching_is_what_the_definition_says(pattern: list[str], segments: list[str]) -> None:
    assert Pattern(".".join(pattern)).matches(".".join(segments)) is naive(pattern, segments)


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_is_a_pattern_or_refused_with_a_reason(text: str, type: str) -> None:
    try:
        pattern = Pattern(text)
    except InvalidPattern:
        return
    pattern.matches(type)
    assert pattern.matches(text)  # every pattern matches itself, read as a type


def test_a_pattern_full_of_wildcards_takes_no_time() -> None:
    pattern = Pattern(".".join(["**", "a"] * 40 + ["b"]))

    started = time.perf_counter()
    assert not pattern.matches(".".join(["a"] * 128))
    assert time.perf_counter() - started < 1


@each(
    ("text", "complaint"),
    [
        ("", "a pattern is empty; write a type such as 'lead.created', or '**'"),
        (".", "has an empty segment; did you mean '**'?"),
        ("lead..created", "has an empty segment; did you mean 'lead.created'?"),
        ("lead.", "did you mean 'lead'?"),
        ("lead created", "holds a space"),
        (" lead.created", "holds a space"),
        ("lead.created,lead.updated\n", "several patterns as several arguments"),
        ("lead.\x00", "cannot be printed"),
        ("lead.\ud800", "cannot be printed"),
        ("lead.creat*", "'creat*' mixes a wildcard with other characters"),
        ("lead.creat*", "did you mean 'lead.*'?"),
        ("lead.***", "did you mean 'lead.**'?"),
        ("a" * 256, "has 256 bytes"),
        ("ä" * 128, "has 256 bytes"),
    ],
)
def test_a_malformed_pattern_is_refused_with_its_fix(text: str, complaint: str) -> None:
    with pytest.raises(InvalidPattern) as caught:
        Pattern(text)

    assert complaint in str(caught.value)


def test_something_else_than_text_is_no_pattern() -> None:
    with pytest.raises(InvalidPattern, match=r"text such as 'lead\.created', not int"):
        Pattern(5)  # type: ignore[arg-type]


def test_a_pattern_as_long_as_the_longest_type_is_taken() -> None:
    assert Pattern("a" * 255).matches("a" * 255)


def test_a_pattern_expands_to_the_known_types_in_order() -> None:
    assert expand(Pattern("activity.*.created"), KNOWN) == [
        "activity.call.created",
        "activity.whatsapp_message.created",
    ]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("lead.crated", "lead.created"),
        ("activity.whatsap.*", "activity.whatsapp_message.*"),
        ("activity.whatsapp_mesage.**", "activity.whatsapp_message.**"),
        ("leads.**", "lead.**"),
        ("activity.*", "activity.**"),  # one segment too few
        ("invoice.*", None),
        ("qqqq", None),
    ],
)
def test_a_pattern_that_matches_nothing_has_a_suggestion(pattern: str, expected: str | None) -> None:
    assert suggest(Pattern(pattern), KNOWN) == expected


@given(st.lists(st.sampled_from(["lead", "leed", "*", "**", "created", "call"]), min_size=1, max_size=4))
def test_a_suggestion_matches_something(segments: list[str]) -> None:
    suggestion = suggest(Pattern(".".join(segments)), KNOWN)

    assert suggestion is None or expand(Pattern(suggestion), KNOWN)
