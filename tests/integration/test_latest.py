"""`@on(latest=…)`: of what waits with one key the newest runs, and what it superseded is cancelled; on both databases."""

from __future__ import annotations

import itertools
import random
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from tests.support import examples, wait_until
from webhooks.database import Database
from webhooks.database import tables as schema
from webhooks.database.connect import connect
from webhooks.model import AttemptOutcome, DeliveryCause, DeliveryClass, DeliveryState, new_id
from webhooks.routing import SUCCEEDED, Verdict
from webhooks.store import Store
from webhooks.store.deliveries import Claimed, Finished
from webhooks.store.handlers import HandlerRow
from webhooks.store.intake import Item, Routed
from webhooks.store.replays import Planned

NOW = datetime(2026, 3, 10, 14, 5, tzinfo=UTC)
LEASE = timedelta(seconds=30)
FAILED = Verdict(DeliveryState.PENDING, AttemptOutcome.FAILED, reason="ValueError: no", error="trace")
DEAD = replace(FAILED, state=DeliveryState.DEAD)
DISCARDED = Verdict(DeliveryState.CANCELLED, AttemptOutcome.CANCELLED, reason="not now")
FILTERED = replace(DISCARDED, cause=DeliveryCause.FILTERED, counts=False)
LOST = replace(FAILED, outcome=AttemptOutcome.LOST, counts=False)

_names = itertools.count()


class Lane:
    """One key of a handler of its own that wants the latest only, and what a worker does to it."""

    def __init__(self, store: Store, debounce: tuple[timedelta, timedelta] | None = None) -> None:
        self.store = store
        self.handler = f"latest{next(_names)}"
        store.handlers.register([HandlerRow(self.handler, ["**"], latest=True, debounce=debounce)])

    def put(self, at: int = 0, revision: int = 1, store: Store | None = None, delivery_id: int | None = None) -> int:
        """Store an event that occurred `at` seconds after NOW; the id of its delivery."""
        item = Item(
            event_id=new_id(),
            source="close",
            dedup_key=f"ev_{new_id()}",
            revision=revision,
            type="lead.updated",
            occurred_at=NOW + timedelta(seconds=at),
            received_at=NOW,
            body=b"{}",
            routes=(Routed(delivery_id or new_id(), self.handler, "k"),),
        )
        (receipt,) = (store or self.store).intake.record([item])
        return receipt.delivery_ids[0]

    def replay(self, id: int, replay_id: int, at: int) -> int:
        """Plan a replayed delivery of the event of delivery `id`; its own id."""
        row = self.row(id)
        due_at = self.store.database.now()
        with self.store.database.write() as connection:
            cursor = connection.connection.driver_connection.cursor()  # type: ignore[union-attr]
            micro = int((NOW + timedelta(seconds=at)).timestamp() * 1_000_000)
            self.store.replays._make(
                cursor, replay_id, [Planned(row.event_id, self.handler, due_at, "k", micro, 1)], due_at
            )
            lanes = self.store.deliveries.statements.lanes
            lanes.lock(cursor, {(self.handler, "k")})
            lanes.settle(cursor, {(self.handler, "k")})
        table = schema.deliveries.c
        with self.store.database.read() as connection:
            of_replay = (table.handler == self.handler, table.replay_id == replay_id)
            return int(connection.execute(select(func.max(table.id)).where(*of_replay)).scalar_one())

    def claim(self, worker: str = "w", store: Store | None = None) -> Claimed | None:
        """What a worker gets; never more than one."""
        quotas = {(self.handler, kind): 10 for kind in DeliveryClass}
        claimed = (store or self.store).deliveries.claim(quotas, lease=LEASE, worker=worker)
        assert len(claimed) <= 1, "two of one key"
        return claimed[0] if claimed else None

    def start(self) -> Claimed:
        claimed = self.claim()
        assert claimed is not None, "nothing is due"
        return claimed

    def finish(self, claimed: Claimed, verdict: Verdict = SUCCEEDED, ran: bool = True) -> None:
        assert self.store.deliveries.finish([Finished(claimed.delivery, verdict, ran=ran)])

    def finish_one(self, id: int) -> None:
        """Run the delivery of that id, which is the one that is due."""
        one = self.start()
        assert one.delivery.id == id
        self.finish(one)

    def row(self, id: int) -> Any:
        with self.store.database.read() as connection:
            return connection.execute(select(schema.deliveries).where(schema.deliveries.c.id == id)).one()

    def state(self, id: int) -> DeliveryState:
        return DeliveryState(self.row(id).state)

    def was_superseded_by(self, id: int) -> int | None:
        """The delivery that a cancelled one names; 0 for one that is said to have run before, None where it was not superseded."""
        row = self.row(id)
        if row.state != DeliveryState.CANCELLED or row.cause != DeliveryCause.SUPERSEDED:
            return None
        return int(row.reason.rpartition(" ")[2])


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database, {})


@pytest.fixture
def lane(store: Store) -> Lane:
    return Lane(store)


# -- which one runs ----------------------------------------------------------------------------------------


def test_of_two_that_are_equally_new_the_one_that_is_stored_after_the_other_ran_runs_too(lane: Lane) -> None:
    """Whatever its id says: processes give ids before they write, so the order of ids is not always that of arrival."""
    earlier = new_id()
    lane.finish_one(lane.put(at=5))
    late = lane.put(at=5, delivery_id=earlier)
    one = lane.start()
    assert (one.delivery.id, one.delivery.stale) == (late, False)
    assert late == earlier


def test_of_what_waits_the_newest_runs_and_the_older_are_cancelled_with_its_id(lane: Lane) -> None:
    first, newest, late = lane.put(at=1), lane.put(at=9), lane.put(at=5)
    one = lane.start()
    assert one.delivery.id == newest
    assert lane.claim() is None, "the others wait for its end"
    lane.finish(one)
    assert [lane.was_superseded_by(id) for id in (first, late)] == [newest, newest]
    assert lane.row(first).reason == f"superseded by delivery {newest}"
    assert lane.row(first).attempts == 0
    assert lane.claim() is None
    listed = lane.store.listings.delivery(first)
    assert listed is not None
    assert listed.cause is DeliveryCause.SUPERSEDED


def test_among_equals_the_later_revision_and_then_the_later_arrival_is_newest(lane: Lane) -> None:
    revised, first, second = lane.put(revision=2), lane.put(revision=1), lane.put(revision=1)
    one = lane.start()
    assert one.delivery.id == revised
    lane.finish(one, FILTERED, ran=False)
    assert lane.start().delivery.id == second
    assert lane.state(first) is DeliveryState.PENDING


def test_one_that_comes_while_an_older_runs_waits_and_then_runs(lane: Lane) -> None:
    older = lane.put(at=1)
    running = lane.start()
    newer = lane.put(at=2)
    assert lane.claim() is None
    lane.finish(running)
    one = lane.start()
    assert one.delivery.id == newer
    lane.finish(one)
    assert [lane.state(id) for id in (older, newer)] == [DeliveryState.SUCCEEDED] * 2


def test_an_older_one_that_comes_while_the_newest_runs_is_superseded_by_its_end(lane: Lane) -> None:
    newest = lane.put(at=9)
    running = lane.start()
    late = lane.put(at=1)
    lane.finish(running)
    assert lane.was_superseded_by(late) == newest


def test_an_older_one_that_comes_when_the_newest_has_run_is_stale(lane: Lane) -> None:
    lane.put(at=9)
    lane.finish(lane.start())
    lane.put(at=1)
    assert lane.start().delivery.stale, "the dispatcher cancels it"


@pytest.mark.parametrize("verdict", [FAILED, DEAD, DISCARDED], ids=["failed", "dead", "discarded"])
def test_however_its_run_ended_the_newest_has_superseded_the_older(lane: Lane, verdict: Verdict) -> None:
    older, newest = lane.put(at=1), lane.put(at=2)
    lane.finish(lane.start(), verdict)
    assert lane.was_superseded_by(older) == newest
    again = lane.claim()
    assert (again is not None and again.delivery.id == newest) is (verdict is FAILED)


@pytest.mark.parametrize(("verdict", "ran"), [(FILTERED, False), (FAILED, False), (LOST, True)])
def test_what_its_handler_was_not_to_have_or_may_not_have_had_supersedes_nothing(
    lane: Lane, verdict: Verdict, ran: bool
) -> None:
    older = lane.put(at=1)
    lane.put(at=2)
    lane.finish(lane.start(), verdict, ran=ran)
    assert lane.state(older) is DeliveryState.PENDING
    if verdict is FILTERED:
        assert lane.start().delivery.id == older


def test_a_newer_one_runs_instead_of_the_retry_of_an_older(lane: Lane) -> None:
    older = lane.put(at=1)
    lane.finish(lane.start(), replace(FAILED, wait=timedelta(hours=1)))
    newer = lane.put(at=2)
    one = lane.start()
    assert one.delivery.id == newer
    lane.finish(one)
    assert lane.was_superseded_by(older) == newer


def test_a_release_and_a_rescue_supersede_nothing_and_run_the_newest_then(lane: Lane) -> None:
    lane.put(at=1)
    lane.store.deliveries.release([lane.start().delivery])
    newer = lane.put(at=2)
    lost = lane.start()
    assert lost.delivery.id == newer
    newest = lane.put(at=3)
    lane.finish(lost, LOST)
    assert lane.start().delivery.id == newest


def test_keys_and_handlers_are_apart_and_ordered_lanes_are_as_they_were(store: Store) -> None:
    one, other = Lane(store), Lane(store)
    store.handlers.register([HandlerRow(other.handler, ["**"])])
    older, newer = other.put(at=1), other.put(at=2)
    one.put(at=9)
    one.finish(one.start())
    first = other.start()
    assert first.delivery.id == older
    other.finish(first)
    assert other.start().delivery.id == newer


def test_one_that_is_requeued_by_hand_after_a_newer_ran_is_stale(lane: Lane) -> None:
    older = lane.put(at=1)
    lane.put(at=2)
    lane.finish(lane.start())
    assert lane.store.deliveries.requeue([older]) == {older}
    assert lane.start().delivery.stale


def test_more_than_one_statement_cancels_are_superseded_all_the_same(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    from webhooks.store.lanes import postgresql, sqlite

    for module in (postgresql, sqlite):
        monkeypatch.setattr(module, "SUPERSEDE", module.SUPERSEDE.replace("limit 1000", "limit 2"))
    made = [lane.put(at=n) for n in range(6)]
    lane.finish(lane.start())
    superseded = replace(FILTERED, cause=DeliveryCause.SUPERSEDED)
    while (one := lane.claim()) is not None:
        assert one.delivery.stale
        lane.finish(one, superseded, ran=False)
    assert [lane.row(id).cause for id in made[:-1]] == [DeliveryCause.SUPERSEDED] * 5


# -- replays -----------------------------------------------------------------------------------------------


def test_a_replay_supersedes_nothing_fresh_and_runs_after_it(lane: Lane) -> None:
    old = lane.put(at=1)
    lane.finish(lane.start())
    replayed = lane.replay(old, 2, at=50)
    fresh = lane.put(at=5)
    one = lane.start()
    assert one.delivery.id == fresh
    lane.finish(one)
    two = lane.start()
    assert two.delivery.id == replayed, "it is newer than what ran"
    lane.finish(two)
    assert lane.state(fresh) is DeliveryState.SUCCEEDED


def test_of_one_replay_the_newest_runs_and_of_another_nothing_is_touched(lane: Lane) -> None:
    made = [lane.put(at=n) for n in (1, 2)]
    lane.finish(lane.start())
    older, newer = lane.replay(made[0], 2, at=1), lane.replay(made[1], 2, at=2)
    other = lane.replay(made[0], 4, at=1)
    one = lane.start()
    assert one.delivery.id == newer
    lane.finish(one)
    assert lane.was_superseded_by(older) == newer
    assert lane.start().delivery.id == other


def test_a_newer_fresh_one_supersedes_what_waits_of_a_replay(lane: Lane) -> None:
    old = lane.put(at=1)
    lane.finish(lane.start())
    replayed = lane.replay(old, 2, at=1)
    fresh = lane.put(at=2)
    lane.finish(lane.start())
    assert lane.was_superseded_by(replayed) == fresh


# -- debounce ----------------------------------------------------------------------------------------------

QUIET, AT_MOST = timedelta(minutes=5), timedelta(minutes=7)


def _age(lane: Lane, by: timedelta) -> None:
    """As if all that is there had come earlier."""
    table = schema.deliveries
    with lane.store.database.write() as connection:
        for row in connection.execute(select(table).where(table.c.handler == lane.handler)).all():
            change = {
                "created_at": row.created_at - by,
                "due_at": row.due_at - by,
                "scheduled_at": row.scheduled_at and row.scheduled_at - by,
            }
            connection.execute(table.update().where(table.c.id == row.id).values(change))


def test_a_burst_is_waited_out_and_its_newest_runs_once(store: Store) -> None:
    lane = Lane(store, (QUIET, AT_MOST))
    first = lane.put(at=1)
    assert lane.row(first).due_at - lane.row(first).scheduled_at == QUIET
    assert lane.claim() is None
    _age(lane, timedelta(minutes=1))
    second = lane.put(at=2)
    assert lane.row(second).due_at - lane.row(second).scheduled_at == QUIET
    _age(lane, QUIET)
    one = lane.start()
    assert one.delivery.id == second
    lane.finish(one)
    assert lane.was_superseded_by(first) == second
    assert lane.claim() is None


def test_a_burst_without_end_runs_after_its_bound(store: Store) -> None:
    lane = Lane(store, (QUIET, AT_MOST))
    first = lane.put(at=1)
    for n in range(2):
        _age(lane, timedelta(minutes=3))
        newest = lane.put(at=2 + n)
    assert lane.row(newest).due_at - lane.row(first).created_at == AT_MOST
    late = lane.put(at=0)
    assert lane.row(newest).due_at - lane.row(first).created_at == AT_MOST, "an older one belongs to the burst too"
    assert lane.row(late).ready is False
    _age(lane, timedelta(minutes=1))
    assert lane.start().delivery.id == newest


def test_a_burst_that_comes_during_a_run_waits_by_itself(store: Store) -> None:
    lane = Lane(store, (QUIET, AT_MOST))
    lane.put(at=1)
    _age(lane, QUIET)
    running = lane.start()
    later = lane.put(at=2)
    lane.finish(running)
    assert lane.claim() is None
    assert lane.row(later).due_at - lane.row(later).scheduled_at == QUIET
    _age(lane, QUIET)
    assert lane.start().delivery.id == later


def test_neither_a_retry_nor_what_is_made_due_by_hand_is_put_off(store: Store) -> None:
    lane = Lane(store, (QUIET, AT_MOST))
    newest = lane.put(at=9)
    assert lane.store.deliveries.make_due([newest]) == {newest}
    lane.finish(lane.start(), FAILED)
    lane.put(at=1)
    assert lane.start().delivery.id == newest


# -- several workers ---------------------------------------------------------------------------------------


@pytest.fixture
def other(database_url: str) -> Any:
    """The store of another worker, over connections of its own."""
    database = connect(database_url, pool_size=4)
    yield Store(database, {})
    database.dispose()


def test_a_claim_under_way_and_a_newer_one_that_comes_wait_for_each_other(lane: Lane, other: Store) -> None:
    """One worker has the head in its hands, uncommitted, while intake stores a newer one over another connection."""
    older = lane.put(at=1)
    newer: list[int] = []
    store = lane.store
    thread = threading.Thread(target=lambda: newer.append(lane.put(at=2, store=other)))
    with store.deliveries.statements.transaction(laned=True) as cursor:
        claimed = store.deliveries._claim(cursor, [(lane.handler, 0, 10)], LEASE, "w1")
        thread.start()
        thread.join(0.2)
        assert thread.is_alive(), "the newer one may not pass a claim that is not decided"
    thread.join(30)
    assert [one.delivery.id for one in claimed] == [older]
    assert lane.claim(store=other) is None
    lane.finish(claimed[0])
    two = lane.claim(store=other)
    assert two is not None
    assert two.delivery.id == newer[0]


def test_an_end_under_way_and_one_that_comes_leave_nothing_behind(lane: Lane, other: Store) -> None:
    """One worker records its run, uncommitted, while intake stores an older and a newer one over another connection."""
    lane.put(at=5)
    one = lane.start()
    made: list[int] = []
    store = lane.store
    thread = threading.Thread(target=lambda: made.extend([lane.put(at=1, store=other), lane.put(at=9, store=other)]))
    with store.deliveries.statements.transaction(laned=True) as cursor:
        assert store.deliveries.record(cursor, [Finished(one.delivery, SUCCEEDED)])
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
    thread.join(30)
    late, newest = made
    two = lane.claim(store=other)
    assert two is not None
    assert two.delivery.id == newest
    lane.finish(two)
    assert lane.was_superseded_by(late) == newest


def test_many_writers_and_workers_run_the_newest_of_each_key_last(database_url: str) -> None:
    """Three writers, four workers, failures, releases: never two of a key at once, never an older one after a newer."""
    database = connect(database_url, pool_size=12)
    store = Store(database, {})
    lanes = [Lane(store) for _ in range(4)]
    made: dict[int, tuple[int, int, int]] = {}
    running: set[str] = set()
    ran: dict[str, list[int]] = {lane.handler: [] for lane in lanes}
    guard = threading.Lock()
    broken: list[str] = []
    writing = threading.Event()

    def write(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(20):
            lane, at, revision = chance.choice(lanes), chance.randrange(9), chance.randrange(1, 3)
            id = lane.put(at=at, revision=revision)
            with guard:
                made[id] = (at, revision, id)

    def run(lane: Lane, one: Claimed, chance: random.Random) -> None:
        with guard:
            if lane.handler in running:
                broken.append(f"two of {lane.handler} at once")
            running.add(lane.handler)
            ran[lane.handler].append(one.delivery.id)
        fate = chance.random()
        with guard:
            running.discard(lane.handler)
        if fate < 0.2:
            lane.finish(one, FAILED)
        elif fate < 0.3:
            store.deliveries.release([one.delivery])
        else:
            lane.finish(one)

    def work(seed: int) -> None:
        chance = random.Random(seed)
        while True:
            is_last = writing.is_set()
            found = 0
            for lane in lanes:
                if (one := lane.claim(worker=f"w{seed}")) is None:
                    continue
                found += 1
                if one.delivery.stale:
                    lane.finish(one, replace(FILTERED, cause=DeliveryCause.SUPERSEDED), ran=False)
                else:
                    run(lane, one, chance)
            if is_last and not found and not running:
                return

    writers = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    workers = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(4)]
    for thread in [*writers, *workers]:
        thread.start()
    for thread in writers:
        thread.join()
    writing.set()
    for thread in workers:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in workers)
    with guard:
        assert broken == []
    with database.read() as connection:
        unfinished = (
            connection.execute(select(schema.deliveries.c.id).where(schema.deliveries.c.state < 2)).scalars().all()
        )
    database.dispose()
    assert unfinished == []
    for lane in lanes:
        places = [made[id][:2] for id in ran[lane.handler]]  # of two that are equally new the one that is stored last
        assert places == sorted(places), "an older one ran after a newer"


# -- any order of arrival ------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 3), st.integers(1, 2)),
        st.sampled_from(
            [("run", SUCCEEDED, True), ("run", FAILED, True), ("run", DISCARDED, True), ("run", LOST, True)]
        ),
        st.sampled_from([("run", FILTERED, False), ("run", DEAD, True), ("begin", None, None), ("end", None, None)]),
    ),
    max_size=14,
)


@given(steps=STEPS)
@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_in_whatever_order_they_come_the_newest_runs_last_or_alone(store: Store, steps: list[Any]) -> None:
    lane = Lane(store)
    places: dict[int, tuple[int, int, int]] = {}
    ran: list[int] = []
    spared: set[int] = set()  # ended without superseding anything
    running: Claimed | None = None

    def run(one: Claimed, verdict: Verdict, ran_it: bool) -> None:
        if one.delivery.stale:
            verdict, ran_it = replace(FILTERED, cause=DeliveryCause.SUPERSEDED), False
        elif ran_it and verdict is not LOST:
            ran.append(one.delivery.id)
        elif verdict is FILTERED and one.delivery.id not in ran:  # a filter does not change its mind
            spared.add(one.delivery.id)
        lane.finish(one, verdict, ran=ran_it)

    for what, first, second in [*steps, ("end", None, None), *[("run", SUCCEEDED, True)] * (len(steps) + 1)]:
        if what == "put":
            id = lane.put(at=first, revision=second)
            places[id] = (first, second, id)
        elif what == "end" or running is not None:
            if running is not None:
                run(running, SUCCEEDED, True)
            running = None
        elif (one := lane.claim()) is not None:
            if what == "begin":
                running = one
            else:
                run(one, first, second)
    order = [places[id] for id in ran]
    assert order == sorted(order), "an older one ran after a newer"
    wanted = {id: place for id, place in places.items() if id not in spared}
    if wanted:
        assert ran, "none ran"
        assert ran[-1] == max(wanted, key=lambda id: wanted[id])
    for id in wanted:
        if id not in ran:
            assert lane.row(id).cause == DeliveryCause.SUPERSEDED


def test_a_worker_cancels_what_is_stale_as_superseded(database_url: str) -> None:
    """The whole way: options, intake's routes as the rig makes them, a worker, the reason."""
    from tests.integration.rig import rig

    with rig(database_url) as made:
        seen: list[int] = []
        gate = threading.Event()

        @made.on(latest="object_id")
        def h(delivery: Any) -> None:
            seen.append(delivery.id)
            gate.wait(30)

        with made.running():
            (first,) = made.put(lane="k", at=5)
            wait_until(lambda: seen == [first], timedelta(seconds=20), "the first runs")
            (late,) = made.put(lane="k", at=1)
            (newest,) = made.put(lane="k", at=9)
            gate.set()
            made.wait_for(DeliveryState.SUCCEEDED, 2)
            (older,) = made.put(lane="k", at=2)
            made.wait_for(DeliveryState.CANCELLED, 2)
        assert seen == [first, newest]
        assert made.row(late).reason == f"superseded by delivery {first}"
        assert made.row(older).reason == "superseded: a newer event of its key ran before"
        assert made.row(older).cause == DeliveryCause.SUPERSEDED


def test_the_newest_of_many_keys_share_transactions(database_url: str) -> None:
    """Deliveries that wait together run in one transaction: of each key the newest, and the older end with it."""
    from sqlalchemy import insert

    from tests.integration.rig import effects, rig

    with rig(database_url) as made:
        seen: list[int] = []

        @made.on(latest="object_id", effects="session")
        def h(delivery: Any, session: Any) -> None:
            session.execute(insert(effects).values(what=str(delivery.id)))
            seen.append(delivery.id)

        made.store.handlers.register([HandlerRow("h", ["**"], latest=True)])
        newest = [[made.put(lane=f"k{n}", at=at)[0] for at in (1, 3, 2)][1] for n in range(12)]
        with made.running():
            made.wait_for(DeliveryState.SUCCEEDED, 12)
            made.wait_for(DeliveryState.CANCELLED, 24)
        assert made.count_effects() == 12
        assert sorted(set(seen)) == sorted(newest)
