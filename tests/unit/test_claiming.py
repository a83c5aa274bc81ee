"""What to claim: a table of plans."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from webhooks.delivery.buffer import LARGEST_CLAIM, Capacity
from webhooks.delivery.claiming import (
    LIMITED_PAUSE,
    LOCKED_PAUSE,
    LONG,
    SHORTEST_PAUSE,
    ClaimBacklog,
    ClaimPlan,
    HandlerTerms,
    fresh_of_all,
    plan,
)
from webhooks.model import DeliveryClass
from webhooks.store.handlers import BreakerState

F, R, P = DeliveryClass.FRESH, DeliveryClass.RETRY, DeliveryClass.REPLAY
PLAIN = HandlerTerms()
SESSION = HandlerTerms(wants_session=True)
LIMITED = HandlerTerms(is_limited=True)
RATED = HandlerTerms(is_limited=True, seconds_per_run=0.05)
HALF_OPEN = HandlerTerms(breaker=BreakerState.HALF_OPEN)


def fast(session_places: int | None = None, **places: int) -> Capacity:
    return Capacity({}, 0, places, session_places)


@pytest.mark.parametrize(
    ("backlog", "capacity", "terms", "expected"),
    [
        pytest.param(ClaimBacklog({}), fast(a=9), {"a": PLAIN}, ClaimPlan(), id="nothing waits"),
        pytest.param(
            ClaimBacklog({}, timedelta(seconds=5)),
            fast(a=9),
            {"a": PLAIN},
            ClaimPlan(next_look=5.0),
            id="something is due later",
        ),
        pytest.param(
            ClaimBacklog({}, timedelta(seconds=-5)),
            fast(a=9),
            {"a": PLAIN},
            ClaimPlan(next_look=SHORTEST_PAUSE),
            id="overdue",
        ),
        pytest.param(
            ClaimBacklog({("a", F): 3}),
            fast(a=9),
            {"a": PLAIN},
            ClaimPlan({("a", F): 3}, next_look=LOCKED_PAUSE),
            id="all of it",
        ),
        pytest.param(
            ClaimBacklog({("a", F): 30}),
            fast(a=9),
            {"a": PLAIN},
            ClaimPlan({("a", F): 9}, next_look=LOCKED_PAUSE),
            id="what fits",
        ),
        pytest.param(
            ClaimBacklog({("a", F): 900}),
            fast(a=900),
            {"a": PLAIN},
            ClaimPlan({("a", F): LARGEST_CLAIM}, next_look=LOCKED_PAUSE),
            id="no more than one claim may be",
        ),
        pytest.param(
            ClaimBacklog({("a", F): 3}), fast(b=9), {"a": PLAIN, "b": PLAIN}, ClaimPlan(), id="of one without capacity"
        ),
        pytest.param(
            ClaimBacklog({("slow", F): 9, ("slower", F): 9, ("quick", F): 9}),
            Capacity({"slow": 4, "slower": 4}, 2, {"quick": 8}),
            dict.fromkeys(["slow", "slower", "quick"], PLAIN),
            ClaimPlan({("slow", F): 1, ("slower", F): 1, ("quick", F): 8}, next_look=LOCKED_PAUSE),
            id="slow ones share their places",
        ),
        pytest.param(
            ClaimBacklog({("a", F): 9, ("b", F): 9}),
            fast(a=4, b=4),
            {"a": PLAIN, "b": LIMITED},
            ClaimPlan({("a", F): 4}, {("b", F): 4}, next_look=LOCKED_PAUSE),
            id="a limited one needs the other statement",
        ),
        pytest.param(
            ClaimBacklog({("a", F): 9}),
            fast(a=4),
            {"a": LIMITED},
            ClaimPlan({}, {("a", F): 4}, next_look=LIMITED_PAUSE),
            id="limited",
        ),
        pytest.param(
            ClaimBacklog({("a", F): 9}),
            fast(a=4),
            {"a": RATED},
            ClaimPlan({}, {("a", F): 4}, next_look=0.05),
            id="by a rate",
        ),
        pytest.param(
            ClaimBacklog({("a", F): 9, ("a", R): 9}),
            fast(a=8),
            {"a": HALF_OPEN},
            ClaimPlan({}, {("a", F): 1}, {"a": 1}, next_look=LIMITED_PAUSE),
            id="half open: one fresh delivery tries",
        ),
        pytest.param(
            ClaimBacklog({("a", P): 9, ("a", R): 9}),
            fast(a=8),
            {"a": HALF_OPEN},
            ClaimPlan({}, {("a", R): 1}, {"a": 1}, next_look=LIMITED_PAUSE),
            id="half open: else a retry",
        ),
        pytest.param(
            ClaimBacklog({("a", F): 9, ("b", F): 9, ("c", F): 9}),
            fast(session_places=5, a=4, b=4, c=4),
            {"a": SESSION, "b": SESSION, "c": PLAIN},
            ClaimPlan({("a", F): 1, ("b", F): 4, ("c", F): 4}, next_look=LOCKED_PAUSE),
            id="no more with a session than have a connection",
        ),
    ],
)
def test_what_is_claimed(backlog: ClaimBacklog, capacity: Capacity, terms: Any, expected: ClaimPlan) -> None:
    assert plan(backlog, capacity, terms, 0) == expected


def test_the_connections_that_are_short_go_to_another_queue_first_in_each_round() -> None:
    backlog, capacity = ClaimBacklog({("a", F): 9, ("b", F): 9}), fast(session_places=1, a=4, b=4)
    first = [
        next(queue[0] for queue, n in plan(backlog, capacity, {"a": SESSION, "b": SESSION}, round).free.items() if n)
        for round in range(4)
    ]
    assert first == ["b", "a", "b", "a"]


def test_a_call_is_supposed_to_be_about_fresh_ones_of_those_that_need_no_permission() -> None:
    capacity = Capacity({"slow": 2}, 2, {"quick": 8, "full": 0, "limited": 8, "tries": 8})
    terms = {"slow": PLAIN, "quick": SESSION, "full": PLAIN, "limited": LIMITED, "tries": HALF_OPEN}
    assert fresh_of_all(capacity, terms) == ClaimBacklog({("slow", F): 2, ("quick", F): 8})


def test_nothing_is_known_to_be_due_for_long() -> None:
    assert ClaimPlan().next_look == LONG
