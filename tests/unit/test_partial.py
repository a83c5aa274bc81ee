"""Which events of a batch a word of its handler's names."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from webhooks.errors import Discard, Retry
from webhooks.routing import meant

A, B, C = (SimpleNamespace(id=n) for n in (1, 2, 3))
EVENTS: Any = [A, B, C]


def test_a_word_names_some_events_or_means_all() -> None:
    some, all_of_them, none = Retry(events=[A, C]), Discard(), Discard(events=[])
    assert meant(some, EVENTS) == {1: some, 3: some}
    assert meant(all_of_them, EVENTS) == {1: all_of_them, 2: all_of_them, 3: all_of_them}
    assert meant(none, EVENTS) == {}


def test_several_words_are_a_group_each_with_its_own() -> None:
    later, never = Retry(events=[A]), Discard(events=[B])
    assert meant(ExceptionGroup("some", [later, ExceptionGroup("more", [never])]), EVENTS) == {1: later, 2: never}


def test_anything_else_is_no_word() -> None:
    assert meant(LookupError(), EVENTS) is None
    assert meant(ExceptionGroup("some", [Retry(events=[A]), LookupError()]), EVENTS) is None


def test_a_stranger_is_named_in_the_complaint() -> None:
    stranger = SimpleNamespace(id=9)
    with pytest.raises(ValueError, match="Discard names event 9, which is not in this batch; name some of `events`"):
        meant(Discard(events=[A, stranger]), EVENTS)
