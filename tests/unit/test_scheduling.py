"""Who runs next: the shares of a claim, as a table and as properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhooks.delivery.scheduling import allocate, level, reserved, slots_for, slots_for_slow
from webhooks.model import DeliveryClass

F, R, P = DeliveryClass.FRESH, DeliveryClass.RETRY, DeliveryClass.REPLAY

Waiting = dict[tuple[str, DeliveryClass], int]


@pytest.mark.parametrize(
    ("waiting", "places", "capacity", "taken"),
    [
        pytest.param({("a", F): 9}, 8, {"a": 8}, {("a", F): 8}, id="fresh alone takes all"),
        pytest.param({("a", F): 9, ("a", R): 9}, 8, {"a": 8}, {("a", F): 6, ("a", R): 2}, id="a quarter to retries"),
        pytest.param({("a", F): 9, ("a", P): 9}, 8, {"a": 8}, {("a", F): 7, ("a", P): 1}, id="an eighth to replays"),
        pytest.param(
            {("a", F): 99, ("a", R): 99, ("a", P): 99}, 16, {"a": 16},
            {("a", F): 10, ("a", R): 4, ("a", P): 2}, id="both",
        ),
        pytest.param({("a", R): 99}, 8, {"a": 8}, {("a", R): 8}, id="retries alone take all"),
        pytest.param({("a", P): 99}, 8, {"a": 8}, {("a", P): 8}, id="replays alone take all"),
        pytest.param({("a", F): 2, ("a", R): 99}, 8, {"a": 8}, {("a", F): 2, ("a", R): 6}, id="unused places go on"),
        pytest.param({("a", F): 9, ("a", R): 1}, 8, {"a": 8}, {("a", F): 7, ("a", R): 1}, id="no more than waits"),
        pytest.param({("a", F): 9, ("b", F): 9}, 8, {"a": 8, "b": 8}, {("a", F): 4, ("b", F): 4}, id="handlers alike"),
        pytest.param({("a", F): 1, ("b", F): 9}, 8, {"a": 8, "b": 8}, {("a", F): 1, ("b", F): 7}, id="what a leaves"),
        pytest.param({("a", F): 9, ("b", F): 9}, 8, {"a": 2, "b": 8}, {("a", F): 2, ("b", F): 6}, id="capacity of one"),
        pytest.param({("a", F): 9, ("b", R): 9}, 8, {"a": 8, "b": 8}, {("a", F): 6, ("b", R): 2}, id="over handlers"),
        pytest.param({("a", F): 9}, 0, {"a": 8}, {}, id="no place"),
        pytest.param({}, 8, {"a": 8}, {}, id="nothing waits"),
        pytest.param({("a", F): 9}, 8, {}, {}, id="a handler without capacity"),
    ],
)  # fmt: skip
def test_who_gets_the_places_of_a_claim(
    waiting: Waiting, places: int, capacity: dict[str, int], taken: Waiting
) -> None:
    assert allocate(waiting, places, capacity) == taken


@pytest.mark.parametrize("places", [1, 2, 3, 4, 5, 8, 100])
def test_over_many_claims_however_small_retries_get_a_quarter_and_replays_an_eighth(places: int) -> None:
    waiting = {("a", F): 10**6, ("a", R): 10**6, ("a", P): 10**6}
    taken = {F: 0, R: 0, P: 0}
    for round in range(80):
        for (_, kind), n in allocate(waiting, places, {"a": places}, round).items():
            taken[kind] += n
    total = sum(taken.values())
    assert total == 80 * places
    assert taken[R] >= total // 4
    assert taken[P] >= total // 8
    assert taken[F] > taken[R]


def test_in_small_claims_the_reserved_place_comes_exactly_as_often_as_its_share() -> None:
    assert [reserved(1, 4, round) for round in range(8)] == [0, 0, 0, 1, 0, 0, 0, 1]
    assert sum(reserved(3, 8, round) for round in range(8)) == 3


queues = st.dictionaries(st.tuples(st.sampled_from("abcd"), st.sampled_from([F, R, P])), st.integers(0, 200))
capacities = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 120))


@given(queues, st.integers(0, 150), capacities, st.integers(0, 1000))
def test_no_claim_takes_more_than_waits_fits_or_was_asked_for(
    waiting: Waiting, places: int, capacity: dict[str, int], round: int
) -> None:
    taken = allocate(waiting, places, capacity, round)
    assert all(0 < n <= waiting[queue] for queue, n in taken.items())
    assert sum(taken.values()) <= places
    for handler in "abcd":
        assert sum(n for (name, _), n in taken.items() if name == handler) <= capacity.get(handler, 0)


@given(queues, st.integers(0, 150), capacities, st.integers(0, 1000))
def test_no_place_stays_empty_while_something_waits_that_has_room(
    waiting: Waiting, places: int, capacity: dict[str, int], round: int
) -> None:
    taken = allocate(waiting, places, capacity, round)
    could = sum(
        min(capacity.get(handler, 0), sum(n for (name, _), n in waiting.items() if name == handler))
        for handler in "abcd"
    )
    assert sum(taken.values()) == min(places, could)


@given(st.integers(8, 100), st.integers(0, 1000))
def test_of_every_full_claim_retries_and_replays_get_their_share_while_they_wait(places: int, round: int) -> None:
    capacity = {"a": places, "b": places, "c": places}
    taken = allocate({("a", F): 500, ("b", R): 500, ("c", P): 500}, places, capacity, round)
    assert taken["b", R] >= places // 4
    assert taken["c", P] >= places // 8


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 50)), st.integers(0, 100), st.integers(0, 9))
def test_sharing_evenly_gives_nobody_less_than_another_who_wanted_no_more(
    wants: dict[str, int], n: int, round: int
) -> None:
    shares = level(wants, n, round)
    assert sum(shares.values()) == min(n, sum(wants.values()))
    for one, share in shares.items():
        for other, others in shares.items():
            assert share >= others - 1 or share == wants[one], f"{one} got {share}, {other} got {others}"


def test_a_place_that_cannot_be_shared_goes_round() -> None:
    assert [next(name for name, n in level({"a": 5, "b": 5}, 1, round).items() if n) for round in range(4)] == list(
        "abab"
    )


def test_one_handler_leaves_threads_to_the_others() -> None:
    assert slots_for("a", 8, ["a"]) == 8
    assert slots_for("a", 8, ["a", "b"]) == 6
    assert slots_for("a", 1, ["a", "b"]) == 1
    assert slots_for_slow(8) == 6
