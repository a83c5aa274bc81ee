"""Queues have plain names, and a worker runs those that it was told to."""

from __future__ import annotations

import re
from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import each
from webhooks.formats import choose_queues, queue_of, read_handler_pattern, read_queue

KNOWN = ("video", "mail")


@each(
    ("wanted", "without", "chosen"),
    [
        ((), (), None),
        (("video",), (), {"video"}),
        (("video", "default"), (), {"video", "default"}),
        ((), ("video",), {"default", "mail"}),
        (("video", "mail"), ("mail",), {"video"}),
    ],
)
def test_a_worker_runs_what_it_was_told_to(
    wanted: Collection[str], without: Collection[str], chosen: Collection[str] | None
) -> None:
    assert choose_queues(KNOWN, wanted, without) == chosen


@each(
    ("wanted", "without", "text"),
    [
        (("vidoe",), (), "no handler is in the queue 'vidoe' (did you mean 'video'?); queues: default, mail, video"),
        ((), ("vidoe", "gpu"), "no handler is in the queue 'vidoe' (did you mean 'video'?), 'gpu'; queues: "),
        (("mail",), ("mail",), "no queue is left to run; queues: default, mail, video"),
    ],
)
def test_an_unknown_queue_is_refused_with_what_was_meant(
    wanted: Collection[str], without: Collection[str], text: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}"):
        choose_queues(KNOWN, wanted, without)


def test_a_star_is_any_number_of_characters_dots_included() -> None:
    table = {"video.*": "video", "*.send": "mail"}
    names = ("video.a.b", "video", "x.send", "video.send", "x")
    assert [queue_of(name, "here", table) for name in names] == ["video", "here", "mail", "video", "here"]


@given(st.one_of(st.text(), st.integers(), st.none(), st.lists(st.text())))
def test_what_is_no_name_is_a_value_error_and_nothing_else(value: object) -> None:
    for read in (read_queue, read_handler_pattern):
        try:
            assert read(value) == value
        except ValueError as error:
            assert str(error).startswith("expected ")  # noqa: PT017
