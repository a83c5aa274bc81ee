"""Counts, durations, instants and likely words are said in one way on every screen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from webhooks.formats import ALMOST_THE_SAME, counted, did_you_mean, iso_text, nearest, read_iso, shown_instant, span

KNOWN = ("lead.created", "lead.updated", "contact.created")


@pytest.mark.parametrize(
    ("word", "near"), [("lead.crated", "lead.created"), ("Lead.Updated", "lead.updated"), ("zzz", None), ("", None)]
)
def test_the_nearest_known_word_is_offered_if_it_is_like_it(word: str, near: str | None) -> None:
    assert nearest(word, KNOWN) == near
    assert did_you_mean(word, iter(KNOWN)) == (f" (did you mean {near!r}?)" if near else "")


def test_more_likeness_may_be_asked_for() -> None:
    assert nearest("date", ["data"], ALMOST_THE_SAME) is None
    assert nearest("sesion", ["session"], ALMOST_THE_SAME) == "session"


@pytest.mark.parametrize(
    ("number", "noun", "is_more", "text"),
    [
        (0, "event", False, "0 events"),
        (1, "delivery", False, "1 delivery"),
        (2000, "delivery", False, "2,000 deliveries"),
        (1000, "event", True, "at least 1,000 events"),
    ],
)
def test_counts_in_words(number: int, noun: str, is_more: bool, text: str) -> None:
    assert counted(number, noun, is_more) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.85, "850 ms"),
        (1, "1 s"),
        (12.34, "12.3 s"),
        (60, "1 min"),
        (185, "3 min 5 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (86400, "1 d"),
        (86400 * 3 + 3600 * 4 + 59, "3 d 4 h"),
        (-185, "-3 min 5 s"),
    ],
)
def test_durations_in_words(seconds: float, text: str) -> None:
    assert span(timedelta(seconds=seconds)) == text


def test_instants_are_told_in_utc() -> None:
    at = datetime(2026, 3, 10, 15, 5, 12, 417000, tzinfo=timezone(timedelta(hours=1)))
    assert shown_instant(at) == "2026-03-10T14:05:12Z"
    assert iso_text(at) == "2026-03-10T14:05:12.417000Z"
    assert iso_text(datetime(2026, 3, 10, tzinfo=UTC)) == "2026-03-10T00:00:00Z"
    assert read_iso(iso_text(at)) == at
