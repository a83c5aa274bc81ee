"""Requeue: the very deliveries run again; those that wait, now."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.integration.rig import Rig, rig
from webhooks.delivery import handler_rows
from webhooks.errors import NotFound, SelectionError
from webhooks.model import AttemptOutcome, DeliveryClass, DeliveryState
from webhooks.operations import Actor, Options, Replayer, Requeuer, Via, WrongState
from webhooks.routing import Verdict
from webhooks.selection import Selection
from webhooks.store.deliveries import Finished
from webhooks.store.handlers import BreakerState

INES = Actor("ines")
PENDING, RUNNING, SUCCEEDED, DEAD, CANCELLED = DeliveryState
WAITING = Selection(states=(PENDING,))
LATER = Verdict(PENDING, AttemptOutcome.FAILED, wait=timedelta(hours=6), reason="ValueError: no", error="no")
GONE = Verdict(DEAD, AttemptOutcome.FAILED, reason="ValueError: no", error="no")


@pytest.fixture
def made(database_url: str) -> Iterator[Rig]:
    with rig(database_url) as made:
        made.on("h")(lambda: None)
        made.store.handlers.register(handler_rows(made.registry))
        yield made


@pytest.fixture
def requeuer(made: Rig) -> Requeuer:
    return Requeuer(store=made.store, registry=made.registry)


def fail(made: Rig, n: int = 1, verdict: Verdict = LATER, lane: str | None = None) -> list[int]:
    """n deliveries that failed once."""
    ids = [made.put(1, lane=lane, at=number)[0] for number in range(n)]
    for _ in range(n if lane is None else 1):
        claimed = made.claim()
        assert made.store.deliveries.finish([Finished(claimed.delivery, verdict)])
    return ids


def test_waiting_retries_are_due_now_and_keep_their_counts(made: Rig, requeuer: Requeuer) -> None:
    ids = fail(made, 3)
    (fresh,) = made.put(1)
    assert requeuer.count(WAITING, 10) == 3
    done = requeuer.requeue(WAITING, actor=INES)
    assert done.ids == set(ids), "the fresh one is due anyway"
    for id in ids:
        row = made.row(id)
        assert (row.attempts, row.failures, row.reason) == (1, 1, "ValueError: no")
        assert row.due_at <= made.database.now()
        assert made.outcomes(id) == ["failed"]
    assert len(made.states()) == 4, "no second delivery"
    quotas = {("h", kind): 9 for kind in DeliveryClass}
    claimed = made.store.deliveries.claim(quotas, lease=timedelta(seconds=30), worker="w")
    assert {each.delivery.id for each in claimed} == {*ids, fresh}
    assert requeuer.requeue(WAITING, actor=INES).ids == set()


def test_a_lane_keeps_its_order_and_its_one_head(made: Rig, requeuer: Requeuer) -> None:
    ids = fail(made, 3, lane="l")
    assert [made.row(id).ready for id in ids] == [True, False, False]
    assert requeuer.requeue(WAITING, actor=INES).ids == {ids[0]}
    assert [made.row(id).ready for id in ids] == [True, False, False]
    order = []
    for _ in ids:
        claimed = made.claim()
        order.append(claimed.delivery.id)
        made.store.deliveries.finish([Finished(claimed.delivery, Verdict(SUCCEEDED, AttemptOutcome.SUCCEEDED))])
    assert order == ids


def test_an_open_breaker_still_holds_them_back(made: Rig, requeuer: Requeuer) -> None:
    fail(made, 2)
    made.store.handlers.open_breaker("h", 10, timedelta(minutes=5))
    assert len(requeuer.requeue(WAITING, actor=INES).ids) == 2
    assert made.store.handlers.states()["h"].breaker is BreakerState.OPEN
    with made.running():
        made.store.handlers.pause("other", "nobody")
        assert made.states() == [PENDING, PENDING]


@pytest.mark.parametrize("verdict", [LATER, GONE])
def test_a_rate_spreads_them_the_oldest_first(made: Rig, requeuer: Requeuer, verdict: Verdict) -> None:
    ids = fail(made, 5, verdict)
    done = requeuer.requeue(Selection(states=(PENDING, DEAD)), actor=INES, rate=0.5)
    assert done.ids == set(ids)
    due = [made.row(id).due_at for id in ids]
    assert [round((at - due[0]).total_seconds()) for at in due] == [0, 2, 4, 6, 8]
    assert due[0] <= datetime.now(UTC)
    assert not made.store.clocks.pull_back(timedelta(seconds=30)), "they wait for a reason"


def test_the_pace_of_a_replay_is_left_to_it_until_it_was_tried(made: Rig, requeuer: Requeuer) -> None:
    fail(made, 3, GONE)
    replayer = Replayer(store=made.store, registry=made.registry)
    replayer.run(replayer.start(replayer.plan(Selection(), Options(rate=0.001)), actor=INES))
    assert requeuer.requeue(WAITING, actor=INES).ids == set()
    claimed = made.claim()
    assert claimed.delivery.delivery_class is DeliveryClass.REPLAY
    made.store.deliveries.finish([Finished(claimed.delivery, LATER)])
    assert requeuer.requeue(WAITING, actor=INES).ids == {claimed.delivery.id}


def test_the_dead_and_the_waiting_go_together_when_both_are_named(made: Rig, requeuer: Requeuer) -> None:
    dead, waiting = fail(made, 2, GONE), fail(made, 2)
    assert requeuer.requeue(Selection(states=(PENDING, DEAD)), actor=INES).ids == {*dead, *waiting}
    assert [made.row(id).failures for id in (*dead, *waiting)] == [0, 0, 1, 1]


def test_without_a_state_only_the_dead_are_meant(made: Rig, requeuer: Requeuer) -> None:
    dead, _ = fail(made, 1, GONE), fail(made, 1)
    assert requeuer.requeue(Selection(handler="h"), actor=INES).ids == set(dead)


@pytest.mark.parametrize("state", [SUCCEEDED, RUNNING])
def test_what_ran_or_runs_is_not_requeued(requeuer: Requeuer, state: DeliveryState) -> None:
    with pytest.raises(SelectionError, match="--state pending makes those that wait for a retry due now"):
        requeuer.requeue(Selection(states=(state,)), actor=INES)


def test_one_that_changed_meanwhile_stays_as_it_is(made: Rig, requeuer: Requeuer) -> None:
    (id,) = fail(made, 1)
    seen = made.store.listings.delivery(id)
    assert seen is not None
    made.store.deliveries.cancel([id], "by hand")
    assert requeuer.these([seen], actor=INES).ids == set()
    assert made.row(id).state == CANCELLED


def test_ids_are_named_all_or_none(made: Rig, requeuer: Requeuer) -> None:
    (waiting,) = fail(made)
    (dead,) = fail(made, verdict=GONE)
    (due,) = made.put(1)
    assert [delivery.id for delivery in requeuer.named([dead, waiting])] == [dead, waiting]
    with pytest.raises(WrongState, match=f"delivery {due} is pending and due already; nothing was changed"):
        requeuer.named([dead, due])
    event = made.row(dead).event_id
    with pytest.raises(NotFound, match=f"no delivery {event}; {event} is an event: webhooks replay {event}"):
        requeuer.named([dead, event])


def test_who_asked_is_said_in_the_log(made: Rig, requeuer: Requeuer, caplog: pytest.LogCaptureFixture) -> None:
    fail(made, 2, GONE)
    with caplog.at_level(logging.INFO, "webhooks.operations"):
        requeuer.requeue(Selection(), actor=Actor("ines", Via.DASHBOARD))
    (record,) = caplog.records
    assert record.getMessage() == "ines (dashboard) requeued 2 deliveries"
    assert (record.action, record.via) == ("requeue", "dashboard")  # type: ignore[attr-defined]
