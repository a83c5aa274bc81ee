"""The figures that say whether something is stuck: right, and bounded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.integration.rig import Rig, rig
from webhooks.model import AttemptOutcome, DeliveryClass, DeliveryState
from webhooks.routing import SUCCEEDED, Verdict
from webhooks.store.deliveries import Finished
from webhooks.store.handlers import HandlerRow
from webhooks.store.health import Backlog, Health, LatestRuns
from webhooks.store.listings import statistics

PENDING, DEAD = DeliveryState.PENDING, DeliveryState.DEAD
LATER = Verdict(PENDING, AttemptOutcome.FAILED, wait=timedelta(hours=1), reason="ValueError: no", error="no")
GONE = Verdict(DEAD, AttemptOutcome.FAILED, reason="ValueError: no", error="no")


@pytest.fixture
def made(database_url: str) -> Iterator[Rig]:
    with rig(database_url) as made:
        yield made


def run(made: Rig, n: int, verdict: Verdict, handler: str = "h", **more: Any) -> None:
    quotas = {(handler, DeliveryClass.FRESH): n}
    claimed = made.store.deliveries.claim(quotas, lease=timedelta(seconds=30), worker="w")
    assert len(claimed) == n
    made.store.deliveries.finish([Finished(one.delivery, verdict, **more) for one in claimed])


def test_every_delivery_that_is_not_over_is_counted_where_it_stands(made: Rig) -> None:
    assert made.store.health.gauges().handlers == {}
    made.put(9, "h")
    run(made, 2, LATER)
    run(made, 1, GONE)
    run(made, 1, SUCCEEDED)
    made.store.deliveries.claim({("h", DeliveryClass.FRESH): 1}, lease=timedelta(seconds=30), worker="w")
    made.put(1, "nobody knows me")

    gauges = made.store.health.gauges()
    h = gauges.handlers["h"]
    assert (h.pending, h.due, h.scheduled, h.running, h.dead, h.is_more) == (6, 4, 2, 1, 1, False)
    assert h.due_since is not None
    assert h.due_since <= gauges.at
    assert h.eldest_at is not None
    assert gauges.handlers["nobody knows me"].due == 1
    assert {queue: one.due for queue, one in gauges.queues.items()} == {
        ("h", DeliveryClass.FRESH): 4,
        ("nobody knows me", DeliveryClass.FRESH): 1,
    }
    assert gauges.queues["h", DeliveryClass.FRESH].oldest_at == h.due_since
    assert abs(gauges.at - made.database.now()) < timedelta(seconds=10)


def test_counts_stop_and_say_so(made: Rig) -> None:
    made.put(9, "h")
    run(made, 4, GONE)
    h = made.store.health.gauges(limit=3).handlers["h"]
    assert (h.due, h.dead, h.is_more) == (4, 4, True)
    assert not made.store.health.gauges(limit=5).handlers["h"].is_more


def test_where_many_handlers_wait_each_count_stops_earlier(made: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Together they come to about `in_all`; what stopped says so, and no count stops below the least."""
    monkeypatch.setattr("webhooks.store.health.gauges.COUNTED_AT_LEAST", 2)
    for name in "abcd":
        made.put(4, name)
    made.put(1, "e")
    gauges = made.store.health.gauges(in_all=15)  # three each
    assert {name: (one.due, one.is_more) for name, one in gauges.handlers.items()} == {
        **dict.fromkeys("abcd", (4, True)),
        "e": (1, False),
    }
    assert made.store.health.gauges(in_all=1).handlers["a"].due == 3, "two and one more"
    assert not made.store.health.gauges(limit=5, in_all=100).handlers["a"].is_more
    made.store.handlers.register([HandlerRow(f"idle_{n}", ["**"]) for n in range(20)])
    assert made.store.health.gauges(in_all=15).handlers["a"].due == 4, "only those count that have something there"


def test_lanes_count_their_head_their_line_and_what_stands_still(made: Rig) -> None:
    made.on("h", ordered_by="object_id")(lambda: None)
    for lane in ("a", "b"):
        for at in range(3):
            made.put(1, "h", lane=lane, at=at)
    assert made.store.health.backlogs()["h"] == Backlog(
        "h",
        pending=6,
        due=2,
        eldest_at=made.store.health.backlogs()["h"].eldest_at,
        due_since=made.store.health.backlogs()["h"].due_since,
    )
    run(made, 1, GONE, holds_lane=True)
    h = made.store.health.backlogs()["h"]
    assert (h.pending, h.due, h.dead, h.lanes, h.held) == (5, 1, 1, 1, 2)


def test_a_handler_is_failing_while_it_succeeds_with_nothing(made: Rig) -> None:
    made.put(5, "h")
    made.put(2, "other")
    run(made, 3, LATER)
    run(made, 2, SUCCEEDED, "other")
    h = made.store.health.backlogs()["h"]
    assert (h.retrying, h.failures) == (3, 3)
    assert h.failing_since is not None
    (stats,) = [one for one in made.store.listings.stats().handlers if one.handler == "h"]
    assert (stats.retrying, stats.failing_since) == (3, h.failing_since)
    run(made, 1, SUCCEEDED)
    h = made.store.health.backlogs()["h"]
    assert (h.retrying, h.failing_since) == (3, None), "one poisonous event is not a handler that fails"


def test_what_ends_while_statistics_are_asked_for_is_in_them(made: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits at the first question and has ended at the second, or is in neither answer."""
    made.put(1, "h")

    def ends_after(thing: Any, name: str) -> None:
        ask = getattr(thing, name)

        def ask_and_end(*arguments: Any, **options: Any) -> Any:
            answer = ask(*arguments, **options)
            if made.states() == [PENDING]:
                run(made, 1, SUCCEEDED)
            return answer

        monkeypatch.setattr(thing, name, ask_and_end)

    ends_after(Health, "gauges")
    ends_after(statistics.Statistics, "_waits")
    (stats,) = made.store.listings.stats().handlers
    assert (stats.handler, stats.succeeded) == ("h", 1)


# -- latest runs ---------------------------------------------------------------------------------------------


def test_the_latest_runs_of_a_handler_are_told_each_with_its_own(made: Rig) -> None:
    made.store.handlers.register([HandlerRow(name, ["**"], None, None, None) for name in ("h", "other", "idle")])
    made.put(3, "h")
    made.put(1, "other")
    before = made.database.now()
    run(made, 1, SUCCEEDED)
    run(made, 1, GONE)
    run(made, 1, replace(LATER, reason="KeyError: later"))
    run(made, 1, SUCCEEDED, "other")
    runs = made.store.health.latest_runs()
    assert set(runs) == {"h", "other"}
    h, other = runs["h"], runs["other"]
    assert h.error == "KeyError: later"
    assert h.succeeded_at is not None
    assert h.failed_at is not None
    assert before <= h.succeeded_at <= h.failed_at <= made.database.now()
    assert other == LatestRuns(other.succeeded_at)
    assert other.succeeded_at is not None


def test_the_latest_of_several_dead_is_the_one_that_died_last(made: Rig) -> None:
    made.store.handlers.register([HandlerRow("h", ["**"], None, None, None)])
    (older,) = made.put(1, "h")
    claimed = made.claim()
    assert claimed.delivery.id == older
    made.put(1, "h")
    run(made, 1, replace(GONE, reason="ValueError: first"))
    made.store.deliveries.finish([Finished(claimed.delivery, replace(GONE, reason="ValueError: last"))])
    assert made.store.health.latest_runs()["h"].error == "ValueError: last"


def test_what_waits_for_its_first_run_is_no_failure(made: Rig) -> None:
    made.store.handlers.register([HandlerRow("h", ["**"], None, None, None)])
    made.put(2, "h")
    assert made.store.health.latest_runs() == {}
