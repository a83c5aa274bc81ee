"""Rescue and prune: who acts, what goes, and what never does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from tests.integration.rig import Rig, rig
from webhooks.database import tables as schema
from webhooks.delivery import Maintenance, Pruned, Retention, prune
from webhooks.delivery.outcomes import SPARED_DEATHS
from webhooks.delivery.rescue import DUTY
from webhooks.model import AttemptOutcome, DeliveryState, new_id
from webhooks.routing import SUCCEEDED as DONE
from webhooks.routing import Verdict
from webhooks.store.deliveries import Finished
from webhooks.store.intake import Item, Routed
from webhooks.store.retention import may_go

PENDING, RUNNING, SUCCEEDED, DEAD, CANCELLED = DeliveryState
OLD = timedelta(days=31)
FAILED = Verdict(DEAD, AttemptOutcome.FAILED, reason="no", error="no")


@pytest.fixture
def made(database_url: str) -> Iterator[Rig]:
    with rig(database_url) as made:
        made.on(ordered_by="object_id")(lambda: None)
        made.on("g")(lambda: None)
        yield made


def age(made: Rig, by: timedelta = OLD) -> None:
    """Make everything stored so far older."""
    now = datetime.now(UTC)
    with made.database.write() as connection:
        connection.execute(update(schema.events).values(received_at=now - by))
        connection.execute(update(schema.dedup_log).values(last_seen_at=now - by, first_seen_at=now - by))
        connection.execute(update(schema.lanes).values(touched_at=now - by))


def finish(made: Rig, verdict: Verdict = DONE, handler: str = "h", **more: Any) -> None:
    claimed = made.claim(handler)
    assert made.store.deliveries.finish([Finished(claimed.delivery, verdict, **more)])


def go(made: Rig, states: tuple[DeliveryState, ...] = (), days: float = 30, dry_run: bool = False) -> Pruned:
    now = datetime.now(UTC)
    return prune(
        made.store,
        payloads_before=now - timedelta(days=days),
        dedup_before=now - timedelta(days=35),
        states=states,
        dry_run=dry_run,
    )


def count(made: Rig, table: Any) -> int:
    with made.database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


# -- what goes ---------------------------------------------------------------------------------------------


def test_old_finished_events_go_with_their_deliveries_and_attempts_and_young_ones_stay(made: Rig) -> None:
    made.put(2, "g")
    finish(made, handler="g")
    finish(made, handler="g")
    age(made)
    made.put(1, "g")
    done = go(made)
    assert (done.looked_at, done.events, done.deliveries, done.kept) == (2, 2, 2, 0)
    assert (count(made, schema.events), count(made, schema.deliveries), count(made, schema.attempts)) == (1, 1, 0)


def test_a_dry_run_counts_and_deletes_nothing(made: Rig) -> None:
    made.put(1, "g")
    finish(made, handler="g")
    age(made)
    assert go(made, dry_run=True).events == 1
    assert count(made, schema.events) == 1


@pytest.mark.parametrize(
    ("deliveries", "states", "goes"),
    [
        ([], (), True),
        ([(SUCCEEDED, False)], (), True),
        ([(CANCELLED, False)], (), True),
        ([(SUCCEEDED, False), (PENDING, False)], (), False),
        ([(RUNNING, False)], (), False),
        ([(DEAD, False)], (), False),
        ([(DEAD, False)], (DEAD,), True),
        ([(DEAD, False), (SUCCEEDED, False)], (DEAD,), True),
        ([(DEAD, False), (SUCCEEDED, False)], (SUCCEEDED,), False),
        ([(DEAD, True)], (DEAD,), False),
        ([(DEAD, False), (PENDING, False)], (DEAD,), False),
        ([(SUCCEEDED, False)], (DEAD,), False),
        ([(SUCCEEDED, False)], (SUCCEEDED,), True),
        ([(CANCELLED, False)], (SUCCEEDED,), False),
        ([], (SUCCEEDED,), False),
    ],
)
def test_an_event_goes_only_when_nothing_needs_it(
    deliveries: list[tuple[DeliveryState, bool]], states: tuple[DeliveryState, ...], goes: bool
) -> None:
    assert may_go(deliveries, states) is goes


def test_what_waits_or_runs_is_never_pruned(made: Rig) -> None:
    made.put(2, "g")
    made.claim("g")
    age(made)
    assert go(made, states=tuple(DeliveryState)).events == 0
    assert count(made, schema.events) == 2


def test_dead_ones_go_only_when_named_and_never_while_they_block_a_lane(made: Rig) -> None:
    made.put(1, "g")
    finish(made, FAILED, "g")
    made.put(1, "h", lane="l")
    finish(made, FAILED, "h", holds_lane=True)
    age(made)
    assert go(made).events == 0
    assert go(made, (DEAD,)).events == 1
    assert count(made, schema.events) == 1


def test_what_an_open_replay_names_stays_until_it_is_done(made: Rig) -> None:
    made.put(1, "g")
    finish(made, handler="g")
    age(made)
    upper = new_id()
    replay = made.store.replays.start(by="ines", why=None, selection={"source": "close"}, options={}, upper_id=upper)
    other = made.store.replays.start(by="ines", why=None, selection={"source": "stripe"}, options={}, upper_id=upper)
    assert go(made).events == 0
    made.store.replays.close(replay.id)
    assert go(made).events == 1, "the other replay is of another source"
    del other


def test_kept_events_do_not_stop_the_walk(made: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    made.put(5, "g")
    finish(made, FAILED, "g")
    finish(made, FAILED, "g")
    for _ in range(3):
        finish(made, handler="g")
    age(made)
    now = datetime.now(UTC)
    after, gone, rounds = None, 0, 0
    while rounds == 0 or after is not None:
        batch = made.store.pruning.events(now, after=after, limit=1)
        after, gone, rounds = batch.last, gone + batch.events, rounds + 1
    assert (gone, rounds) == (3, 6)


# -- what outlives it --------------------------------------------------------------------------------------


def item(key: str) -> Item:
    now = datetime.now(UTC)
    return Item(
        event_id=new_id(), source="close", dedup_key=key, revision=1, type="lead.updated", occurred_at=now,
        received_at=now, body=b"{}", routes=(Routed(new_id(), "g"),),
    )  # fmt: skip


def test_a_redelivery_of_something_pruned_is_a_duplicate(made: Rig) -> None:
    made.store.intake.record([item("ev_1")])
    finish(made, handler="g")
    age(made, OLD)
    assert go(made).events == 1
    (receipt,) = made.store.intake.record([item("ev_1")])
    assert receipt.status == "duplicate"
    assert count(made, schema.events) == 0


def test_a_dedup_key_goes_by_its_last_sight_and_never_before_its_event(made: Rig) -> None:
    made.store.intake.record([item("ev_gone")])
    finish(made, handler="g")
    made.store.intake.record([item("ev_dead")])
    finish(made, FAILED, "g")
    age(made, timedelta(days=36))
    made.store.intake.record([item("ev_seen")])
    assert go(made).dedup_keys == 1
    made.store.intake.record([item("ev_dead")])
    assert made.states().count(PENDING) == 1, "the dead one's key is known still"


def test_the_mark_of_a_lane_outlives_payloads(made: Rig) -> None:
    made.put(1, "h", lane="l", at=5)
    finish(made)
    age(made, OLD)
    done = go(made)
    assert (done.events, done.lanes) == (1, 0)
    made.put(1, "h", lane="l", at=1)
    assert made.claim().delivery.stale


def test_a_lane_in_which_something_waits_keeps_its_mark(made: Rig) -> None:
    made.put(2, "h", lane="l", at=5)
    finish(made)
    age(made, timedelta(days=36))
    assert go(made).lanes == 0
    finish(made)
    age(made, timedelta(days=36))
    assert go(made).lanes == 1


# -- who acts ----------------------------------------------------------------------------------------------


def keeper(made: Rig, **more: Any) -> Maintenance:
    return Maintenance(made.store, made.dispatcher, Retention(), **more)


def test_only_the_elected_process_acts_and_another_takes_over(made: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "webhooks.delivery.rescue.DUTY_LEASE", timedelta(hours=1)
    )  # for two seconds it would be over soon
    first, second = keeper(made), keeper(made)
    made.put(2, "g")
    made.claim("g", lease=timedelta(seconds=-1))
    assert first.tick("one")
    made.claim("g", lease=timedelta(seconds=-1))
    assert not second.tick("two"), "the duty is the other's"
    made.store.processes.resign(DUTY, "one")
    assert second.tick("two")


def test_keeping_the_duty_writes_only_when_half_of_it_is_over(made: Rig) -> None:
    processes = made.store.processes

    def until() -> Any:
        with made.database.read() as connection:
            return connection.execute(select(schema.leases.c.until)).scalar_one()

    assert processes.acquire("duty", "one", timedelta(seconds=60))
    before = until()
    assert processes.acquire("duty", "one", timedelta(seconds=60))
    assert until() == before
    assert processes.acquire("duty", "one", timedelta(seconds=200))
    assert until() > before


def test_pruning_runs_when_it_is_due_a_moment_at_a_time(made: Rig) -> None:
    now = [0.0]

    def monotonic() -> float:
        now[0] += 0.15
        return now[0]

    maintenance = keeper(made, prune_every=timedelta(seconds=5), monotonic=monotonic)
    made.put(1, "g")
    finish(made, handler="g")
    age(made)
    maintenance.tick("one")
    assert count(made, schema.events) == 1, "not due yet"
    now[0] += 5
    maintenance.tick("one")
    assert count(made, schema.events) == 0


def test_a_rescued_delivery_that_is_dead_is_announced_once(made: Rig, caplog: pytest.LogCaptureFixture) -> None:
    (id,) = made.put(1, "g")
    with made.database.write() as connection:
        # so many deaths with a parent that died, too, are no handler's fault; this one is counted
        died = 2 + SPARED_DEATHS
        connection.execute(update(schema.deliveries).values(alone=True, failures=2, attempts=died))
    made.claim("g", lease=timedelta(seconds=-1))
    assert keeper(made).rescue() == 1
    assert keeper(made).rescue() == 0
    assert made.row(id).state == DEAD
    assert sum("is dead" in record.message for record in caplog.records) == 1
