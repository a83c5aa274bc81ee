"""What a feeder offers and remembers: pure rules."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import each, examples
from webhooks.contrib.celery.offers import (
    AGAIN_SECONDS,
    LARGEST_MESSAGE,
    SILENT_SECONDS,
    Offers,
    again_after,
    message_size,
    messages,
    shares,
)
from webhooks.model import DeliveryClass
from webhooks.store.deliveries import Offered, Queue

FRESH, RETRY, REPLAY = DeliveryClass
A, B = ("a", FRESH), ("b", FRESH)


def one(id: int, handler: str = "a", *, token: int = 0, alone: bool = False) -> Offered:
    return Offered(id, token, handler, FRESH, alone)


# -- how many ----------------------------------------------------------------------------------------------


@each(
    ("due", "offered", "most", "expected"),
    [
        ({A: 1000}, {}, {}, {A: 10}),  # the window
        ({A: 1000}, {A: 10}, {}, {}),  # is full
        ({A: 1000}, {A: 4}, {}, {A: 6}),
        ({A: 4}, {A: 4}, {}, {}),  # all of it is offered
        ({A: 1000, B: 1000}, {}, {}, {A: 5, B: 5}),
        ({A: 1000, B: 1}, {}, {}, {A: 7, B: 1}),  # no handler has more than three quarters beside another
        ({A: 1000, B: 1000}, {A: 7}, {}, {B: 3}),
        ({A: 1000}, {}, {"a": 2}, {A: 2}),  # two may start
        ({A: 1000}, {A: 2}, {"a": 2}, {}),  # and are offered already
        ({A: 1000}, {}, {"a": 0}, {}),
        ({}, {}, {}, {}),
    ],
)
def test_at_most_a_window_is_offered_in_shares(
    due: dict[Queue, int], offered: dict[Queue, int], most: dict[str, int], expected: dict[Queue, int]
) -> None:
    assert shares(due, offered, 10, most) == expected


def test_retries_and_replays_have_their_shares() -> None:
    due = {("a", FRESH): 1000, ("a", RETRY): 1000, ("a", REPLAY): 1000}
    assert shares(due, {}, 200, {}) == {("a", FRESH): 125, ("a", RETRY): 50, ("a", REPLAY): 25}


@settings(max_examples=examples(200))
@given(
    st.dictionaries(st.tuples(st.sampled_from("abc"), st.sampled_from(DeliveryClass)), st.integers(1, 50)),
    st.dictionaries(st.tuples(st.sampled_from("abc"), st.sampled_from(DeliveryClass)), st.integers(1, 50)),
    st.integers(1, 40),
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 5)),
    st.integers(0, 9),
)
def test_no_share_goes_past_the_window_what_is_due_or_a_limit(
    due: dict[Queue, int], offered: dict[Queue, int], window: int, most: dict[str, int], round: int
) -> None:
    given = shares(due, offered, window, most, round)
    assert sum(given.values()) + sum(offered.values()) <= max(window, sum(offered.values()))
    assert all(n <= due[queue] - offered.get(queue, 0) for queue, n in given.items())
    for name, limit in most.items():
        assert sum(n for (other, _), n in given.items() if other == name) <= limit


# -- messages ----------------------------------------------------------------------------------------------


@each(
    ("seconds", "size"),
    [(None, 1), (60.0, 1), (0.2, 1), (0.1, 2), (0.01, 20), (0.005, LARGEST_MESSAGE), (0.0, LARGEST_MESSAGE)],
)
def test_a_message_holds_what_runs_in_a_fifth_of_a_second(seconds: float | None, size: int) -> None:
    assert message_size(seconds) == size


def test_messages_are_of_one_handler_in_their_order_and_what_is_alone_is_alone() -> None:
    found = [one(1), one(2, "b"), one(3), one(4, alone=True), one(5), one(6), one(7, "c"), one(8, "b")]
    packed = messages(found, {"a": 0.06, "b": 0.01, "c": 0.01}, ["c"])
    assert [[each.id for each in message] for message in packed] == [[1, 3, 5], [2, 8], [4], [6], [7]]


# -- memory ------------------------------------------------------------------------------------------------


def test_what_was_claimed_is_forgotten_and_a_new_wait_is_a_new_offer() -> None:
    offers = Offers()
    for id in (1, 2, 3):
        offers.offered(one(id), 0.0)
    assert offers.counts() == Counter({A: 3})
    assert offers.new([one(1), one(4)]) == [one(4)]
    # 2 was claimed; 3 was claimed, failed, and waits under another token
    assert offers.settle([one(1), one(3, token=2)], 1.0) == 2
    assert offers.ids == [1]
    assert offers.new([one(3, token=2)]) == [one(3, token=2)]


def test_what_is_not_claimed_is_offered_again_later_each_time() -> None:
    assert [again_after(times) for times in range(1, 7)] == [60, 120, 240, 480, 600, 600]
    assert [again_after(times, 2.0) for times in range(1, 4)] == [2, 4, 8]
    offers = Offers()
    offers.offered(one(1), 0.0)
    assert offers.due_again(AGAIN_SECONDS - 1) == []
    assert offers.due_again(AGAIN_SECONDS) == [one(1)]
    offers.offered(one(1), AGAIN_SECONDS)
    assert offers.due_again(AGAIN_SECONDS + 119) == []
    assert offers.due_again(AGAIN_SECONDS + 120) == [one(1)]
    assert len(offers) == 1
    offers.offered(one(2), 0.0, is_limited=True)
    assert offers.due_again(5.0) == [one(2)], "its ids are passed over where another process was quicker"
    for _ in range(20):
        offers.offered(one(2), 10.0, is_limited=True)
    assert offers.due_again(70.0) == [one(2)]


def test_it_is_silent_once_offers_wait_and_none_is_claimed() -> None:
    offers = Offers()
    assert offers.silent_since(100.0) is None
    offers.settle([], 100.0)
    offers.offered(one(1), 100.0)
    offers.offered(one(2), 100.0)
    late = 100.0 + SILENT_SECONDS
    assert offers.silent_since(late - 0.1) is None
    assert offers.silent_since(late) == 100.0
    offers.settle([one(2)], late)  # the first was claimed
    assert offers.silent_since(late + 1) is None
    assert offers.silent_since(late + SILENT_SECONDS) == late
    offers.is_alive(late + SILENT_SECONDS)
    assert offers.silent_since(late + SILENT_SECONDS) is None
    offers.settle([], 200.0)
    assert offers.silent_since(1000.0) is None, "nothing waits"
