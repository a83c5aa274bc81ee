"""How many deliveries may run together: a pure rule over what went well and what did not."""

from __future__ import annotations

from webhooks.delivery.sizes import LONGEST_PATIENCE, ONE_AT_A_TIME_SECONDS, PATIENCE, Sizes


class Now:
    at = 100.0

    def __call__(self) -> float:
        return self.at


def begin(sizes: Sizes, mean: float | None = 0.0001) -> int:
    """How many, of which none runs any more."""
    n = sizes.begin("h", mean)
    if n > 1:
        sizes.end("h")
    return n


def test_as_many_run_together_as_take_a_moment() -> None:
    sizes = Sizes({"h": 50})
    assert [begin(sizes, mean) for mean in (None, 1.0, 0.03, 0.025, 0.01, 0.0001)] == [1, 1, 1, 2, 5, 50]


def test_half_as_many_after_a_failure_and_more_again() -> None:
    sizes = Sizes({"h": 50})
    sizes.failed("h", 50)
    assert begin(sizes) == 25
    sizes.failed("h", 10)
    assert begin(sizes) == 5
    grown = [begin(sizes)]
    while grown[-1] < 50:
        sizes.went_well("h", grown[-1])
        grown.append(begin(sizes))
    assert sorted(set(grown)) == [5, 10, 20, 40, 50]


def test_what_fails_again_and_again_is_tried_ever_more_rarely() -> None:
    sizes = Sizes({"h": 50})
    waits = []
    sizes.failed("h", 2)
    for _ in range(12):
        singles = 0
        while begin(sizes) == 1:
            sizes.went_well("h", 1)
            singles += 1
        waits.append(singles)
        sizes.failed("h", 2)
    assert waits[0] == 2 * PATIENCE
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_PATIENCE


def test_after_a_deadlock_one_group_at_a_time_for_a_minute() -> None:
    now = Now()
    sizes = Sizes({"h": 50, "other": 50}, now)
    sizes.failed("h", 40, by_deadlock=True)
    assert sizes.begin("h", 0.0001) == 20
    assert sizes.begin("h", 0.0001) == 1
    assert sizes.begin("other", 0.0001) == 50
    now.at += ONE_AT_A_TIME_SECONDS
    assert sizes.begin("h", 0.0001) == 20
