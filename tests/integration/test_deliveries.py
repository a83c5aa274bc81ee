"""Claim, lease, finish, lanes: the store's half of the delivery promises, on both databases."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from tests.support import wait_until
from webhooks.database import Database
from webhooks.database import tables as schema
from webhooks.database.connect import connect
from webhooks.model import AttemptOutcome, Delivery, DeliveryCause, DeliveryClass, DeliveryState, new_id
from webhooks.routing import SUCCEEDED, Verdict
from webhooks.store import Store
from webhooks.store.deliveries import Claimed, Finished
from webhooks.store.handlers import BreakerState, HandlerRow
from webhooks.store.intake import Item, Routed

NOW = datetime(2026, 3, 10, 14, 5, tzinfo=UTC)
LEASE = timedelta(seconds=30)
FAILED = Verdict(
    DeliveryState.PENDING, AttemptOutcome.FAILED, wait=timedelta(0), reason="ValueError: no", error="trace"
)
DEAD = Verdict(DeliveryState.DEAD, AttemptOutcome.FAILED, reason="ValueError: no", error="trace")
LATER = replace(FAILED, wait=timedelta(hours=1))


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database, {})


def put(
    store: Store, n: int = 1, *, handler: str = "a", lane: str | None = None, at: int = 0, revision: int = 1
) -> list[int]:
    """Store n events `at` seconds after NOW, each with one delivery; the ids of the deliveries."""
    items = [
        Item(
            event_id=new_id(),
            source="close",
            dedup_key=f"ev_{new_id()}",
            revision=revision,
            type="lead.updated",
            occurred_at=NOW + timedelta(seconds=at),
            received_at=NOW,
            body=b"{}",
            routes=(Routed(new_id(), handler, lane),),
        )
        for _ in range(n)
    ]
    return [receipt.delivery_ids[0] for receipt in store.intake.record(items)]


def claim(store: Store, n: int = 100, handler: str = "a", worker: str = "w", lease: timedelta = LEASE) -> list[Claimed]:
    quotas = {(handler, kind): n for kind in DeliveryClass}
    return store.deliveries.claim(quotas, lease=lease, worker=worker)


def ids(claimed: list[Claimed]) -> list[int]:
    return [one.delivery.id for one in claimed]


def row(store: Store, id: int) -> Any:
    with store.database.read() as connection:
        return connection.execute(select(schema.deliveries).where(schema.deliveries.c.id == id)).one()


def finish(store: Store, claimed: Claimed | Delivery, verdict: Verdict = SUCCEEDED, **more: Any) -> bool:
    delivery = claimed.delivery if isinstance(claimed, Claimed) else claimed
    return bool(store.deliveries.finish([Finished(delivery, verdict, took=timedelta(milliseconds=5), **more)]))


# -- claim -------------------------------------------------------------------------------------------------


def test_a_claim_takes_the_eldest_counts_the_attempt_and_brings_the_event(store: Store) -> None:
    made = put(store, 3)
    first, second = claim(store, 2)
    assert ids([first, second]) == made[:2]
    assert (first.delivery.number, first.delivery.state, first.delivery.token) == (1, DeliveryState.RUNNING, 1)
    assert first.event is not None
    assert first.event.type == "lead.updated"
    assert first.event.raw == b"{}"
    assert ids(claim(store)) == made[2:]
    assert claim(store) == []


def test_two_workers_never_claim_the_same_delivery(database_url: str) -> None:
    database = connect(database_url, pool_size=8)
    store = Store(database, {})
    made = put(store, 200)
    taken: list[int] = []

    def work(name: str) -> None:
        while got := claim(store, 7, worker=name):
            taken.extend(ids(got))

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    database.dispose()
    assert sorted(taken) == sorted(made)


def test_what_waits_is_counted_up_to_the_limit_and_the_next_due_time_is_known(store: Store) -> None:
    put(store, 5)
    (one,) = claim(store, 1)
    finish(store, one, LATER)
    counts, ahead = store.deliveries.waiting(["a", "b"], 3)
    assert counts == {("a", DeliveryClass.FRESH): 3}
    assert ahead is not None
    assert timedelta(minutes=59) < ahead <= timedelta(hours=1)


def test_a_retry_is_not_claimed_before_it_is_due_and_then_as_a_retry(store: Store) -> None:
    put(store)
    (one,) = claim(store)
    assert finish(store, one, LATER)
    assert claim(store) == []
    assert row(store, one.delivery.id).failures == 1
    with store.database.write() as connection:
        connection.execute(schema.deliveries.update().values(due_at=NOW))
    (again,) = claim(store)
    assert (again.delivery.delivery_class, again.delivery.number) == (DeliveryClass.RETRY, 2)


# -- fencing -----------------------------------------------------------------------------------------------


def test_a_worker_that_lost_its_lease_cannot_finish(store: Store) -> None:
    put(store)
    (late,) = claim(store, lease=timedelta(seconds=-1))
    (lost,) = store.deliveries.expired(10)
    verdict = Verdict(DeliveryState.PENDING, AttemptOutcome.LOST, reason="lost", counts=False)
    assert store.deliveries.finish_expired([Finished(lost, verdict, alone=True)]) == {lost.id}
    (again,) = claim(store, worker="w2")
    assert again.delivery.alone
    assert not finish(store, late)
    assert finish(store, again)
    assert [attempt.outcome for attempt in store.deliveries.attempts([lost.id])] == ["lost", "succeeded"]
    assert row(store, lost.id).failures == 0


def test_rescue_leaves_a_lease_alone_that_was_extended_meanwhile(store: Store) -> None:
    put(store)
    (one,) = claim(store, lease=timedelta(seconds=-1))
    (lost,) = store.deliveries.expired(10)
    assert store.deliveries.extend([one.delivery], LEASE) == {one.delivery.id}
    verdict = Verdict(DeliveryState.PENDING, AttemptOutcome.LOST, reason="lost", counts=False)
    assert store.deliveries.finish_expired([Finished(lost, verdict)]) == set()
    assert finish(store, one)


def test_a_fenced_attempt_cannot_finish_and_its_new_holder_can(store: Store) -> None:
    put(store)
    (one,) = claim(store)
    fenced = store.deliveries.fence(one.delivery)
    assert fenced is not None
    assert not finish(store, one)
    assert store.deliveries.extend([one.delivery], LEASE) == set()
    assert finish(store, fenced, FAILED)
    assert store.deliveries.fence(fenced) is None


def test_why_a_delivery_was_fenced_is_on_its_row_until_the_next_claim(store: Store) -> None:
    put(store)
    (one,) = claim(store)
    fenced = store.deliveries.fence(one.delivery, "its time was up")
    assert fenced is not None
    assert row(store, fenced.id).reason == "its time was up"
    finish(store, fenced, replace(FAILED, reason=None))
    (again,) = claim(store)
    assert again.delivery.reason is None


def test_a_lost_attempt_is_on_record_from_its_claim_on(store: Store) -> None:
    put(store)
    claim(store, lease=timedelta(seconds=-1))
    (lost,) = store.deliveries.expired(10)
    claimed_at = row(store, lost.id).claimed_at
    verdict = Verdict(DeliveryState.PENDING, AttemptOutcome.LOST, reason="lost", counts=False)
    store.deliveries.finish_expired([Finished(lost, verdict)])
    (attempt,) = store.deliveries.attempts([lost.id])
    assert attempt.started_at == claimed_at


def test_a_finished_attempt_is_on_record_once(store: Store) -> None:
    put(store)
    (one,) = claim(store)
    assert finish(store, one, DEAD)
    assert not finish(store, one, DEAD)
    (attempt,) = store.deliveries.attempts([one.delivery.id])
    assert (attempt.number, attempt.outcome, attempt.error, attempt.worker) == (1, "failed", "trace", "w")
    assert attempt.finished_at is not None
    assert attempt.finished_at - attempt.started_at == timedelta(milliseconds=5)
    assert row(store, one.delivery.id).state == DeliveryState.DEAD


def rows_of_attempts(store: Store) -> list[tuple[int, int]]:
    """(delivery, number) of the attempts that have rows of their own."""
    table = schema.attempts.c
    with store.database.read() as connection:
        query = select(table.delivery_id, table.number).order_by(table.delivery_id, table.number)
        return [(row.delivery_id, row.number) for row in connection.execute(query)]


@pytest.mark.parametrize("n", [1, 3])
def test_a_success_is_an_attempt_on_its_deliverys_own_row(store: Store, n: int) -> None:
    made = put(store, n)
    claimed = claim(store)
    took = timedelta(milliseconds=5)
    done = store.deliveries.finish([Finished(one.delivery, SUCCEEDED, took=took) for one in claimed])
    assert done == set(made)
    assert rows_of_attempts(store) == []
    attempts = store.deliveries.attempts(made)
    assert [(attempt.delivery_id, attempt.number) for attempt in attempts] == [(id, 1) for id in made]
    for attempt in attempts:
        assert (attempt.outcome, attempt.worker, attempt.error, attempt.cause) == ("succeeded", "w", None, None)
        assert attempt.finished_at == row(store, attempt.delivery_id).finished_at
        assert attempt.finished_at is not None
        assert attempt.finished_at - attempt.started_at == took


def test_of_a_batch_only_what_did_not_succeed_has_rows_of_its_own(store: Store) -> None:
    one, two, three = made = put(store, 3)
    verdicts = {one: SUCCEEDED, two: FAILED, three: DEAD}
    claimed = claim(store)
    store.deliveries.finish([Finished(each.delivery, verdicts[each.delivery.id]) for each in claimed])
    assert rows_of_attempts(store) == [(two, 1), (three, 1)]
    (again,) = claim(store)
    assert finish(store, again)
    assert rows_of_attempts(store) == [(two, 1), (three, 1)]
    outcomes = [
        (attempt.delivery_id, attempt.number, str(attempt.outcome)) for attempt in store.deliveries.attempts(made)
    ]
    assert outcomes == [(one, 1, "succeeded"), (two, 1, "failed"), (two, 2, "succeeded"), (three, 1, "failed")]
    assert row(store, three).took is None


def test_a_success_that_an_older_process_recorded_is_shown_once(store: Store) -> None:
    """It writes a row of `webhooks_attempts`, and knows no column for the delivery's own."""
    (id,) = put(store)
    claim(store)
    with store.database.write() as connection:
        deliveries = schema.deliveries.update().values(state=2, finished_at=NOW, lease_until=None)
        connection.execute(deliveries)
        attempt = {"delivery_id": id, "number": 1, "outcome": 0, "started_at": NOW, "finished_at": NOW, "worker": "old"}
        connection.execute(schema.attempts.insert().values(attempt))
    assert [(attempt.number, attempt.worker) for attempt in store.deliveries.attempts([id])] == [(1, "old")]


def test_a_success_under_a_token_that_moved_on_changes_nothing(store: Store) -> None:
    made = put(store, 2)
    first, second = claim(store)
    assert store.deliveries.fence(first.delivery) is not None
    batch = [Finished(one.delivery, SUCCEEDED, took=timedelta(seconds=1)) for one in (first, second)]
    assert store.deliveries.finish(batch) == {second.delivery.id}
    assert row(store, made[0]).took is None
    assert [attempt.delivery_id for attempt in store.deliveries.attempts(made)] == [made[1]]


def test_a_success_leaves_the_same_row_alone_among_successes_and_beside_a_failure(store: Store) -> None:
    """Each has a way of its own into the database; each delivery failed before, and is behind another in its lane."""
    lanes = ["x", "y", "z", None, None, None]
    for lane in lanes:
        put(store, lane=lane)
    for one in claim(store):
        finish(store, one, FAILED, alone=True)
    claimed = claim(store)
    assert len(claimed) == 6
    together = [Finished(one.delivery, SUCCEEDED, took=timedelta(milliseconds=5)) for one in claimed]
    of = {lane: [one for one in together if one.delivery.lane == lane] for lane in lanes}
    other = put(store)[0]
    (beside,) = [one for one in claim(store) if one.delivery.id == other]
    store.deliveries.finish([*of["x"], *of[None][:2]])
    store.deliveries.finish(of["y"])
    store.deliveries.finish([*of["z"], *of[None][2:], Finished(beside.delivery, FAILED)])
    others = {"id", "event_id", "lane", "lane_at", "lane_revision", "created_at", "due_at", "claimed_at", "finished_at"}
    rows = [{**row(store, one.delivery.id)._mapping} for one in together]
    seen = [{name: value for name, value in each.items() if name not in {*others, "ready"}} for each in rows]
    assert seen == [seen[0]] * 6
    assert seen[0]["took"] == 5000
    assert [each["ready"] for each in rows] == [each["lane"] is None for each in rows]


def test_a_filtered_delivery_is_cancelled_without_an_attempt(store: Store) -> None:
    put(store)
    (one,) = claim(store)
    verdict = Verdict(DeliveryState.CANCELLED, AttemptOutcome.CANCELLED, reason="filtered: x", counts=False)
    assert finish(store, one, verdict, ran=False)
    assert store.deliveries.attempts([one.delivery.id]) == []
    now = row(store, one.delivery.id)
    assert (now.state, now.attempts, now.reason) == (DeliveryState.CANCELLED, 0, "filtered: x")


def test_a_released_delivery_is_due_at_once_with_its_attempt_uncounted(store: Store) -> None:
    put(store)
    (one,) = claim(store)
    assert store.deliveries.release([one.delivery]) == {one.delivery.id}
    assert not finish(store, one)
    (again,) = claim(store)
    assert (again.delivery.number, again.delivery.delivery_class) == (1, DeliveryClass.FRESH)


def test_requeue_puts_dead_and_cancelled_back_and_nothing_else(store: Store) -> None:
    made = put(store, 3)
    one, two, three = claim(store)
    finish(store, one, DEAD)
    finish(store, two, replace(DEAD, state=DeliveryState.CANCELLED))
    finish(store, three)
    assert store.deliveries.requeue(made) == set(made[:2])
    assert row(store, made[0]).failures == 0
    assert len(claim(store)) == 2


def test_cancel_ends_what_waits_and_leaves_what_runs(store: Store) -> None:
    made = put(store, 2)
    (running,) = claim(store, 1)
    assert store.deliveries.cancel(made, "by hand") == {made[1]}
    assert finish(store, running)


# -- lanes -------------------------------------------------------------------------------------------------


def test_of_one_lane_only_the_eldest_is_claimed_and_the_next_after_it(store: Store) -> None:
    (third,) = put(store, lane="l", at=3)
    (first,) = put(store, lane="l", at=1)
    (second,) = put(store, lane="l", at=2)
    order = []
    while got := claim(store):
        assert len(got) == 1
        order.extend(ids(got))
        assert claim(store) == [], "never two of a lane at once"
        finish(store, got[0])
    assert order == [first, second, third]


def test_among_equals_revision_and_then_arrival_decide(store: Store) -> None:
    later = put(store, lane="l", revision=7)
    earlier = put(store, lane="l", revision=5)
    arrived_after = put(store, lane="l", revision=7)
    order = []
    while got := claim(store):
        order.extend(ids(got))
        finish(store, got[0])
    assert order == earlier + later + arrived_after


def test_lanes_of_two_handlers_or_keys_do_not_wait_for_each_other(store: Store) -> None:
    put(store, lane="l")
    put(store, lane="m")
    put(store, handler="b", lane="l")
    assert len(claim(store)) == 2
    assert len(claim(store, handler="b")) == 1


def test_an_elder_that_comes_after_a_younger_ran_is_run_and_stale(store: Store) -> None:
    put(store, lane="l", at=5)
    (newer,) = claim(store)
    (older,) = put(store, lane="l", at=1)
    assert claim(store) == [], "the newer one runs"
    finish(store, newer)
    (late,) = claim(store)
    assert late.delivery.id == older
    assert late.delivery.stale
    finish(store, late)
    put(store, lane="l", at=9)
    (young,) = claim(store)
    assert not young.delivery.stale


def test_an_elder_that_comes_while_the_head_waits_goes_first(store: Store) -> None:
    (newer,) = put(store, lane="l", at=5)
    (older,) = put(store, lane="l", at=1)
    (first,) = claim(store)
    assert first.delivery.id == older
    assert not first.delivery.stale
    finish(store, first)
    assert ids(claim(store)) == [newer]


def test_a_lane_waits_while_its_eldest_waits_for_a_retry(store: Store) -> None:
    put(store, lane="l", at=1)
    put(store, lane="l", at=2)
    (one,) = claim(store)
    finish(store, one, LATER)
    assert claim(store) == []


def test_the_waiting_head_of_a_lane_has_the_class_of_the_freshest_behind_it(store: Store) -> None:
    put(store, lane="l", at=1)
    (one,) = claim(store)
    finish(store, one, FAILED)
    assert row(store, one.delivery.id).__getattr__("class") == DeliveryClass.RETRY
    put(store, lane="l", at=2)
    assert row(store, one.delivery.id).__getattr__("class") == DeliveryClass.FRESH


@pytest.mark.parametrize("holds", [True, False])
def test_a_dead_elder_holds_its_lane_only_when_the_handler_says_so(store: Store, holds: bool) -> None:
    put(store, lane="l", at=1)
    (second,) = put(store, lane="l", at=2)
    (one,) = claim(store)
    finish(store, one, DEAD, holds_lane=holds)
    assert ids(claim(store)) == ([] if holds else [second])


@pytest.mark.parametrize("how", ["requeue", "cancel"])
def test_requeue_or_cancel_frees_a_blocked_lane(store: Store, how: str) -> None:
    (first,) = put(store, lane="l", at=1)
    (second,) = put(store, lane="l", at=2)
    (one,) = claim(store)
    finish(store, one, DEAD, holds_lane=True)
    put(store, lane="l", at=3)
    assert claim(store) == []
    if how == "requeue":
        assert store.deliveries.requeue([first]) == {first}
        assert ids(claim(store)) == [first]
    else:
        assert store.deliveries.cancel([first], "given up") == {first}
        assert ids(claim(store)) == [second]


def test_an_elder_that_comes_after_a_failed_run_of_a_younger_is_not_stale(store: Store) -> None:
    """What failed will run again, after the older; skipping the older would lose it."""
    (newer,) = put(store, lane="l", at=5)
    (one,) = claim(store)
    (older,) = put(store, lane="l", at=1)
    finish(store, one, FAILED)
    (first,) = claim(store)
    assert (first.delivery.id, first.delivery.stale) == (older, False)
    finish(store, first)
    assert ids(claim(store)) == [newer]


def test_a_rescued_head_goes_behind_an_elder_that_came_meanwhile(store: Store) -> None:
    put(store, lane="l", at=5)
    claim(store, lease=timedelta(seconds=-1))
    (older,) = put(store, lane="l", at=1)
    lost = store.deliveries.expired(10)
    verdict = Verdict(DeliveryState.PENDING, AttemptOutcome.LOST, reason="lost", counts=False)
    store.deliveries.finish_expired([Finished(one, verdict) for one in lost])
    assert ids(claim(store)) == [older]


def test_a_released_head_keeps_its_lane_in_order(store: Store) -> None:
    (first,) = put(store, lane="l", at=1)
    put(store, lane="l", at=2)
    (one,) = claim(store)
    store.deliveries.release([one.delivery])
    assert ids(claim(store)) == [first]


def test_the_mark_of_a_lane_outlives_its_deliveries(store: Store) -> None:
    put(store, lane="l", at=5)
    (one,) = claim(store)
    finish(store, one)
    with store.database.write() as connection:
        connection.execute(schema.deliveries.delete())
    put(store, lane="l", at=1)
    (late,) = claim(store)
    assert late.delivery.stale


def test_many_writers_and_workers_keep_every_lane_in_order_and_finish_all(database_url: str) -> None:
    """Late older ones, retries and lost leases, four workers, three writers: nothing stuck, never two at once."""
    database = connect(database_url, pool_size=12)
    store = Store(database, {})
    running: dict[str, int] = {}
    guard = threading.Lock()
    broken: list[str] = []
    done: list[int] = []
    made: list[int] = []
    writing = threading.Event()

    def write(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(12):
            made.extend(put(store, chance.randrange(1, 4), lane=f"l{chance.randrange(5)}", at=chance.randrange(20)))

    def work(seed: int) -> None:
        chance = random.Random(seed)
        while not (writing.is_set() and len(done) >= len(made)):
            for one in claim(store, 3, worker=f"w{seed}"):
                lane = one.delivery.lane or ""
                with guard:
                    running[lane] = running.get(lane, 0) + 1
                    if running[lane] > 1:
                        broken.append(f"two of {lane} at once")
                fate = chance.random()
                with guard:
                    running[lane] -= 1
                if fate < 0.2:
                    finish(store, one, FAILED)
                elif fate < 0.3:
                    store.deliveries.release([one.delivery])
                elif finish(store, one):
                    done.append(one.delivery.id)

    writers = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    workers = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(4)]
    for thread in [*writers, *workers]:
        thread.start()
    for thread in writers:
        thread.join()
    writing.set()
    for thread in workers:
        thread.join(timeout=60)
    stuck = [thread for thread in workers if thread.is_alive()]
    database.dispose()
    assert not stuck, f"{len(made) - len(done)} deliveries are stuck"
    assert broken == []
    assert sorted(done) == sorted(made)


# -- causes beside reasons ---------------------------------------------------------------------------------


def test_a_cause_goes_on_record_with_the_reason_and_the_run(store: Store) -> None:
    (id,) = put(store)
    (one,) = claim(store)
    assert one.delivery.cause is None
    died = replace(FAILED, outcome=AttemptOutcome.LOST, cause=DeliveryCause.DIED)
    assert finish(store, one, died)
    found = store.deliveries.load(id)
    assert found is not None
    assert found.delivery.cause is DeliveryCause.DIED
    assert [attempt.cause for attempt in store.deliveries.attempts([id])] == [DeliveryCause.DIED]
    listed = store.listings.delivery(id)
    assert listed is not None
    assert listed.cause is DeliveryCause.DIED
    (one,) = claim(store)
    assert (one.delivery.reason, one.delivery.cause) == (None, None), "both are of the last run"


def test_a_fence_says_why_to_the_process_that_rescues(store: Store) -> None:
    put(store)
    (one,) = claim(store, lease=timedelta(seconds=-1))
    fenced = store.deliveries.fence(one.delivery, "it took too long", DeliveryCause.TIME_WAS_UP)
    assert fenced is not None
    (found,) = store.deliveries.expired(10)
    assert (found.reason, found.cause) == ("it took too long", DeliveryCause.TIME_WAS_UP)
    assert (fenced.reason, fenced.cause) == (found.reason, found.cause)


def test_what_is_dead_from_the_start_says_why_until_it_is_requeued(store: Store) -> None:
    item = Item(
        new_id(), "close", "ev", 1, "t", NOW, NOW, b"{}", routes=(Routed(new_id(), "a", None, "ordered_by failed"),)
    )
    store.intake.record([item])
    id = item.routes[0].delivery_id
    listed = store.listings.delivery(id)
    assert listed is not None
    assert (listed.state, listed.cause) == (DeliveryState.DEAD, DeliveryCause.ORDERING_FAILED)
    assert store.deliveries.requeue([id], lanes={id: "l"}) == {id}
    (one,) = claim(store)
    assert (one.delivery.lane, one.delivery.cause) == ("l", None)


# -- limits across workers ---------------------------------------------------------------------------------


def test_a_concurrency_limit_holds_across_workers(store: Store) -> None:
    store.handlers.register([HandlerRow("a", ["lead.*"], concurrency=3)])
    put(store, 10)
    quotas = {("a", DeliveryClass.FRESH): 10}
    limited = {"lease": LEASE, "handlers": store.handlers}
    first = store.deliveries.claim_limited(quotas, worker="w1", **limited)  # type: ignore[arg-type]
    assert len(first) == 3
    assert store.deliveries.claim_limited(quotas, worker="w2", **limited) == []  # type: ignore[arg-type]
    finish(store, first[0])
    assert len(store.deliveries.claim_limited(quotas, worker="w2", **limited)) == 1  # type: ignore[arg-type]


def test_a_rate_limit_leaves_a_tenth_at_once_and_then_its_pace(store: Store) -> None:
    store.handlers.register([HandlerRow("a", ["lead.*"], rate=(20, timedelta(hours=1)))])
    put(store, 10)
    quotas = {("a", DeliveryClass.FRESH): 10}
    limited = {"lease": LEASE, "handlers": store.handlers}
    assert len(store.deliveries.claim_limited(quotas, worker="w1", **limited)) == 2  # type: ignore[arg-type]
    assert store.deliveries.claim_limited(quotas, worker="w2", **limited) == []  # type: ignore[arg-type]
    with store.database.write() as connection:  # three minutes later, one more has become free
        earlier = schema.handlers.c.rate_window_at - 180_000_000
        connection.execute(schema.handlers.update().values(rate_window_at=earlier))
    assert len(store.deliveries.claim_limited(quotas, worker="w2", **limited)) == 1  # type: ignore[arg-type]


def test_pausing_and_the_breaker_are_remembered_and_resumed(store: Store) -> None:
    store.handlers.register([HandlerRow("a", ["lead.*"])])
    assert store.handlers.pause("a", "ines")
    assert not store.handlers.pause("nobody", "ines")
    store.handlers.open_breaker("a", 10, timedelta(seconds=-1))
    store.handlers.register([HandlerRow("a", ["lead.*"])])
    state = store.handlers.states()["a"]
    assert (state.paused, state.paused_by, state.breaker) == (True, "ines", BreakerState.OPEN)
    assert store.handlers.half_open_breaker("a")
    assert not store.handlers.half_open_breaker("a"), "only one worker lets the first delivery try"
    assert store.handlers.resume("a")
    state = store.handlers.states()["a"]
    assert (state.paused, state.breaker) == (False, BreakerState.CLOSED)


def test_a_duty_belongs_to_one_process_until_its_lease_ends(store: Store) -> None:
    duty = store.processes
    assert duty.acquire("maintenance", "w1", LEASE)
    assert duty.acquire("maintenance", "w1", LEASE)
    assert not duty.acquire("maintenance", "w2", LEASE)
    duty.acquire("maintenance", "w1", timedelta(seconds=-1))
    assert duty.acquire("maintenance", "w2", LEASE)
    duty.forget("w2")
    assert duty.acquire("maintenance", "w1", LEASE)


def test_a_delivery_that_is_locked_for_a_moment_is_released_all_the_same(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker that settles its lane has it for so long; to pass it over would cost a lease."""
    monkeypatch.setattr("webhooks.store.deliveries.finish.LOCK_PATIENCE", timedelta(seconds=30))
    database = connect(postgresql_url)
    store = Store(database, {})
    (id,) = put(store, 1, lane="l")
    (one,) = claim(store, 1)
    released: list[set[int]] = []
    thread = threading.Thread(target=lambda: released.append(store.deliveries.release([one.delivery])))
    with database.write() as other, database.read() as watcher:
        other.exec_driver_sql("select 1 from webhooks_deliveries where id = %s for update", (id,))
        thread.start()
        waiting = (
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        )
        wait_until(lambda: watcher.exec_driver_sql(waiting).scalar_one() == 1)
    thread.join()
    assert released == [{id}]
    database.dispose()
