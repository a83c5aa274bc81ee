"""Replay: planned first, recorded, resumable, never doubled, never feeding itself; on both databases."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import select

from tests.support import Clock
from webhooks import signals
from webhooks.database import Database
from webhooks.database import tables as schema
from webhooks.database.connect import connect
from webhooks.errors import NotFound, SelectionError, StorageUnavailable
from webhooks.model import AttemptOutcome, Content, DeliveryClass, DeliveryState, Event, new_id
from webhooks.operations import Actor, Options, Order, Replayer, ReplayError, parse_rate
from webhooks.operations.replay import HandlerPlan
from webhooks.routing import SUCCEEDED, Registry, Verdict
from webhooks.selection import Expression, Selection
from webhooks.store import Store
from webhooks.store.deliveries import Finished
from webhooks.store.intake import Item, Routed
from webhooks.store.replays import Planned, Replay, ReplayState

NOW = datetime(2026, 3, 10, 14, 5, tzinfo=UTC)
EVERYTHING = Selection()


def read(raw: bytes, type: str) -> Content:
    from webhooks.formats import json as jsonio

    return Content(data=jsonio.load(raw))


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database, {"close": read})


def nothing(event: Event) -> None:
    """A handler."""


def registry(**patterns: str) -> Registry:
    """Handlers by name, each for one pattern."""
    made = Registry()
    for name, pattern in patterns.items():
        made.add(nothing, pattern, name=name)
    return made


def replayer(store: Store, handlers: Registry | None = None, chunk: int = 3) -> Replayer:
    return Replayer(store=store, registry=handlers or registry(a="lead.**"), chunk=chunk)


def put(
    store: Store,
    n: int = 1,
    *,
    handlers: tuple[str, ...] = ("a",),
    occurred: int = 0,
    received: int = 0,
    **fields: Any,
) -> list[int]:
    """Store n events with deliveries for `handlers`; the ids of the events."""
    values: dict[str, Any] = {"source": "close", "revision": 1, "type": "lead.updated", "body": b'{"n": 1}'}
    items = [
        Item(
            **({"dedup_key": f"ev_{new_id()}"} | values | fields),
            event_id=new_id(),
            occurred_at=NOW + timedelta(seconds=occurred),
            received_at=NOW + timedelta(seconds=received),
            routes=tuple(Routed(new_id(), name) for name in handlers),
        )
        for _ in range(n)
    ]
    store.intake.record(items)
    return [one.event_id for one in items]


def run(store: Store, handler: str = "a", verdict: Verdict = SUCCEEDED, n: int = 100) -> int:
    quotas = {(handler, kind): n for kind in DeliveryClass}
    claimed = store.deliveries.claim(quotas, lease=timedelta(seconds=30), worker="w")
    store.deliveries.finish([Finished(one.delivery, verdict) for one in claimed])
    return len(claimed)


DEAD = Verdict(DeliveryState.DEAD, AttemptOutcome.FAILED, reason="ValueError: no", error="trace")


def rows(store: Store, replay: Replay) -> list[Any]:
    """The deliveries of a replay in the order in which they become due."""
    table = schema.deliveries
    query = select(table).where(table.c.replay_id == replay.id).order_by(table.c.due_at, table.c.id)
    with store.database.read() as connection:
        return list(connection.execute(query))


def replay(
    store: Store, selection: Selection = EVERYTHING, options: Options | None = None, handlers: Registry | None = None
) -> Replay:
    made = replayer(store, handlers)
    return made.run(made.start(made.plan(selection, options), actor=Actor("ann"), why="test"))


# -- plan --------------------------------------------------------------------------------------------------------


def test_a_plan_counts_events_deliveries_and_what_routing_would_do_differently(store: Store) -> None:
    put(store, 4, handlers=("a", "gone"))
    put(store, 2, handlers=(), type="lead.created")
    put(store, 3, handlers=(), type="push", source="github")
    plan = replayer(store, registry(a="lead.**", new="lead.created")).plan(EVERYTHING)
    assert (plan.events, plan.deliveries, plan.without_delivery) == (9, 8, 3)
    assert list(plan.handlers) == [
        HandlerPlan("a", 6, added=2),
        HandlerPlan("gone", 0, left_out=4),
        HandlerPlan("new", 2, added=2),
    ]
    assert store.replays.all() == []


@pytest.mark.parametrize(
    "selection",
    [
        EVERYTHING,
        Selection(type="lead.**"),
        Selection(states=(DeliveryState.DEAD,)),
        Selection(error="*no*"),
        Selection(unrouted=True),
        Selection(source="github"),
    ],
)
@pytest.mark.parametrize("options", [Options(), Options(original=True), Options(handler="a")])
def test_counting_and_walking_come_to_the_same_plan(store: Store, selection: Selection, options: Options) -> None:
    """What needs a look at each event is planned by walking, the rest by SQL."""
    put(store, 4, handlers=("a", "gone"))
    run(store, "a", DEAD, 2)
    put(store, 2, handlers=("b",), type="lead.created")
    put(store, 3, handlers=(), type="push", source="github")
    made = replayer(store, registry(a="lead.**", b="lead.created", c="push"))
    counted = made.plan(selection, options)
    walked = made.plan(selection.only(where=Expression.parse("true")), options)
    assert counted.events == walked.events
    assert counted.deliveries == walked.deliveries
    assert list(counted.handlers) == list(walked.handlers)
    assert counted.gone == walked.gone


def test_a_plan_tells_what_is_made(store: Store) -> None:
    put(store, 5)
    made = replayer(store)
    plan = made.plan(EVERYTHING, Options(limit=4))
    assert (plan.events, plan.deliveries) == (4, 4)
    assert made.run(made.start(plan, actor=Actor("ann"))).deliveries == 4


def test_a_rate_tells_how_long_it_takes(store: Store) -> None:
    put(store, 6)
    assert replayer(store).plan(EVERYTHING, Options(rate=2.0)).eta == timedelta(seconds=3)


def test_the_speed_is_that_of_the_time_in_which_there_was_something_to_run(store: Store) -> None:
    table = schema.deliveries
    put(store, 40)
    run(store)
    with store.database.write() as connection:
        for number, id in enumerate(connection.execute(select(table.c.id)).scalars().all()):
            # four at once, each for 2 s; after half of them nothing came for a day
            start = NOW + timedelta(seconds=2) * (number // 4) + timedelta(days=number // 20)
            finished = {"due_at": start, "finished_at": start + timedelta(seconds=2)}
            connection.execute(table.update().where(table.c.id == id).values(**finished))
    assert store.replays.recent_rate() == pytest.approx(2.0)
    assert replayer(store).plan(EVERYTHING).eta == timedelta(seconds=20)


def test_of_what_never_ran_no_speed_is_told(store: Store) -> None:
    table = schema.deliveries
    put(store, 40)
    run(store)
    with store.database.write() as connection:
        connection.execute(table.update().values(due_at=NOW, finished_at=NOW - timedelta(seconds=1)))
    assert store.replays.recent_rate() is None


def test_pruned_events_are_counted(store: Store) -> None:
    put(store, 2)
    put(store, 1, received=100)
    with store.database.write() as connection:
        connection.execute(schema.events.delete().where(schema.events.c.received_at < NOW + timedelta(seconds=50)))
    made = replayer(store)
    assert made.plan(EVERYTHING).pruned == 2
    assert made.plan(Selection(since=NOW + timedelta(seconds=200))).pruned == 0
    assert made.plan(Selection(source="github")).pruned == 0
    plan = made.plan(EVERYTHING)
    started = made.start(plan, actor=Actor("ann"))
    put(store, 1, received=200)
    with store.database.write() as connection:
        connection.execute(schema.events.delete().where(schema.events.c.received_at > NOW + timedelta(seconds=150)))
    assert made.plan(EVERYTHING).pruned == 3
    assert made.get(started.id).pruned == 2, "on record is what was gone when it began"


def test_events_are_pruned_where_none_is_left(store: Store) -> None:
    put(store, 2)
    put(store, 1, received=100)
    with store.database.write() as connection:
        connection.execute(schema.events.delete())
    made = replayer(store)
    assert made.plan(EVERYTHING).pruned == 3
    assert made.plan(Selection(since=NOW + timedelta(seconds=50))).pruned == 1
    assert made.plan(Selection(until=NOW + timedelta(seconds=50))).pruned == 2


def test_an_old_event_that_is_kept_hides_none_of_those_that_are_gone(store: Store, monkeypatch: Any) -> None:
    (kept,) = put(store, 1, received=-100)
    put(store, 3)
    (named,) = put(store, 1, received=100, dedup_key="ev_named")
    with store.database.write() as connection:
        connection.execute(schema.events.delete().where(schema.events.c.id.not_in([kept, named])))
    made = replayer(store)
    assert made.plan(EVERYTHING).pruned == 3
    assert made.plan(Selection(key="ev_named")).pruned == 0
    assert made.plan(Selection(events=(named,))).pruned == 0
    with store.database.write() as connection:
        connection.execute(schema.events.delete().where(schema.events.c.id == named))
    assert made.plan(Selection(key="ev_named")).pruned == 1
    monkeypatch.setattr("webhooks.store.replays.counts.LOOKED_UP", 2)
    assert made.plan(EVERYTHING).pruned == 1, "at least: no more were looked up"


def test_an_event_that_came_again_is_of_the_time_at_which_it_came_first(store: Store) -> None:
    put(store, dedup_key="ev_1")
    put(store, dedup_key="ev_1", received=100)
    with store.database.write() as connection:
        connection.execute(schema.events.delete())
    made = replayer(store)
    assert made.plan(Selection(since=NOW + timedelta(seconds=50))).pruned == 0
    assert made.plan(Selection(since=NOW - timedelta(seconds=50))).pruned == 1


def test_more_than_were_looked_up_are_counted_by_age(store: Store, monkeypatch: Any) -> None:
    put(store, 5)
    put(store, 1, received=100)
    with store.database.write() as connection:
        connection.execute(schema.events.delete().where(schema.events.c.received_at < NOW + timedelta(seconds=50)))
    monkeypatch.setattr("webhooks.store.replays.counts.LOOKED_UP", 2)
    assert replayer(store).plan(EVERYTHING).pruned == 5


def test_copies_that_were_never_delivered_are_left_out_unless_named(store: Store) -> None:
    put(store, dedup_key="ev_1", revision=5)
    (stale,) = put(store, dedup_key="ev_1", revision=3)
    put(store, dedup_key="ev_2", revision=-1)
    made = replayer(store)
    plan = made.plan(EVERYTHING)
    assert (plan.events, plan.never_delivered) == (1, 2)
    assert made.run(made.start(plan, actor=Actor("ann"))).deliveries == 1
    named = made.plan(Selection(events=(stale,)))
    assert (named.events, named.deliveries) == (1, 1)
    assert made.run(made.start(named, actor=Actor("ann"))).deliveries == 1


def test_unknown_events_and_handlers_change_nothing(store: Store) -> None:
    put(store)
    with pytest.raises(NotFound, match="no event 5: it was never stored here, or has been pruned"):
        replayer(store).plan(Selection(events=(5,)))
    with pytest.raises(NotFound, match=r"no handler named 'aa' \(did you mean 'a'\?\); registered: "):
        replayer(store, registry(a="**")).plan(EVERYTHING, Options(handler="aa"))


# -- who gets it -------------------------------------------------------------------------------------------------


def test_todays_routing_decides(store: Store) -> None:
    put(store, handlers=("gone",))
    made = replay(store, handlers=registry(new="lead.*"))
    assert [row.handler for row in rows(store, made)] == ["new"]


def test_original_routing_is_that_of_then(store: Store) -> None:
    put(store, handlers=("a", "gone"))
    handlers = registry(a="push", new="lead.*")
    plan = replayer(store, handlers).plan(EVERYTHING, Options(original=True))
    assert plan.gone == {"gone": 1}
    made = replay(store, options=Options(original=True), handlers=handlers)
    assert [row.handler for row in rows(store, made)] == ["a"]


def test_one_handler_can_be_asked_for(store: Store) -> None:
    put(store, handlers=("a", "b"))
    made = replay(store, options=Options(handler="b"), handlers=registry(a="**", b="**"))
    assert [row.handler for row in rows(store, made)] == ["b"]


def test_a_state_selects_handlers_too(store: Store) -> None:
    """Replaying what is dead must not run again what succeeded."""
    put(store, 2, handlers=("a", "b"))
    run(store, "a", DEAD)
    run(store, "b", SUCCEEDED)
    made = replay(store, Selection(states=(DeliveryState.DEAD,)), handlers=registry(a="**", b="**"))
    assert [row.handler for row in rows(store, made)] == ["a", "a"]


# -- what is made ------------------------------------------------------------------------------------------------


def test_deliveries_are_of_the_class_replay_and_bear_its_id(store: Store) -> None:
    ids = put(store, 4)
    made = replay(store)
    found = rows(store, made)
    assert [row.event_id for row in found] == ids
    assert {(row.state, row._mapping[schema.deliveries.c.class_], row.ready) for row in found} == {(0, 2, True)}
    assert (made.state, made.events, made.deliveries) == (ReplayState.DONE, 4, 4)
    assert (made.created_by, made.why) == ("ann", "test")
    assert made.finished_at is not None


def test_an_event_that_succeeded_runs_again(store: Store) -> None:
    put(store, 2)
    assert run(store) == 2
    made = replay(store)
    assert run(store) == 2
    assert store.replays.progress(made.id) == {DeliveryState.SUCCEEDED: 2}


def test_nothing_selected_makes_a_replay_that_is_done(store: Store) -> None:
    made = replay(store)
    assert (made.state, made.events, made.deliveries) == (ReplayState.DONE, 0, 0)


def test_order_of_occurrence_is_not_that_of_arrival(store: Store) -> None:
    late = put(store, 2, occurred=50, received=0)
    early = put(store, 2, occurred=10, received=60)
    by_occurrence = replay(store, options=Options(order=Order.OCCURRED))
    assert [row.event_id for row in rows(store, by_occurrence)] == [*early, *late]
    by_arrival = replay(store, options=Options(order=Order.RECEIVED))
    assert [row.event_id for row in rows(store, by_arrival)] == [*late, *early]


def test_a_limit_takes_the_first_in_order(store: Store) -> None:
    put(store, 4, occurred=50)
    early = put(store, 4, occurred=10)
    made = replay(store, options=Options(limit=4))
    assert [row.event_id for row in rows(store, made)] == early


def test_a_rate_spreads_the_due_times(database_url: str, clock: Clock) -> None:
    database = connect(database_url, clock=clock)
    try:
        store = Store(database, {})
        put(store, 7)
        made = replay(store, options=Options(rate=2.0))
        due = sorted(row.due_at for row in rows(store, made))
        assert [later - sooner for sooner, later in pairwise(due)] == [timedelta(seconds=0.5)] * 6
    finally:
        database.dispose()


def test_a_rate_holds_between_the_steps_of_a_replay_that_began_late(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, 6)
    maker = replayer(store)
    started = maker.start(maker.plan(EVERYTHING, Options(rate=2.0)), actor=Actor("ann"), why="test")
    late = started.created_at + timedelta(seconds=0.6)
    monkeypatch.setattr(store.database, "now", lambda *at: late)
    due = sorted(row.due_at for row in rows(store, maker.run(started)))
    assert [later - sooner for sooner, later in pairwise(due)] == [timedelta(seconds=0.5)] * 5


def test_ordered_deliveries_wait_in_their_lane_behind_fresh_ones(store: Store) -> None:
    handlers = Registry()
    handlers.add(nothing, "lead.**", name="a", ordered_by="object_id")
    put(store, 3, handlers=(), object_id="lead_1")
    put(store, 1, handlers=(), object_id="lead_2")
    made = replay(store, handlers=handlers)
    assert [(row.lane, row.ready) for row in sorted(rows(store, made), key=lambda row: row.id)] == [
        ("lead_1", True),
        ("lead_1", False),
        ("lead_1", False),
        ("lead_2", True),
    ]
    assert [run(store) for _ in range(4)] == [2, 1, 1, 0]


@pytest.mark.parametrize(
    ("names", "lane"), [({"close": "lead_id"}, "lead_1"), ({"close": "deal_id"}, None), ({}, "lead_1")]
)
def test_deliveries_ordered_by_a_group_are_so_where_the_source_calls_it_so(
    store: Store, names: dict[str, str], lane: str | None
) -> None:
    handlers = Registry()
    handlers.add(nothing, "lead.**", name="a", ordered_by="lead_id")
    put(store, 1, handlers=(), object_id="acti_1", group_id="lead_1")
    planner = Replayer(store=store, registry=handlers, group_names=names)
    made = planner.run(planner.start(planner.plan(EVERYTHING), actor=Actor("ines")))
    assert [row.lane for row in rows(store, made)] == [lane]


def test_an_ordering_key_that_fails_makes_a_dead_delivery(store: Store) -> None:
    def broken(event: Event) -> str:
        raise ValueError("no key")

    handlers = Registry()
    handlers.add(nothing, "lead.**", name="a", ordered_by=broken)
    put(store, handlers=())
    (row,) = rows(store, replay(store, handlers=handlers))
    assert (row.state, row.reason) == (3, "ordered_by failed: ValueError: no key")


def test_an_ordering_function_reads_the_content(store: Store) -> None:
    handlers = Registry()
    handlers.add(nothing, "lead.**", name="a", ordered_by=lambda event: f"n{event.data['n']}")
    put(store, handlers=())
    assert [row.lane for row in rows(store, replay(store, handlers=handlers))] == ["n1"]


def test_fresh_keys_differ_and_others_do_not(store: Store) -> None:
    put(store)
    (first,) = store.deliveries.claim({("a", DeliveryClass.FRESH): 1}, lease=timedelta(seconds=30), worker="w")
    replay(store)
    replay(store, options=Options(fresh_keys=True))
    again = store.deliveries.claim({("a", DeliveryClass.REPLAY): 9}, lease=timedelta(seconds=30), worker="w")
    keys = [one.delivery.idempotency_key for one in again]
    assert keys[0] == first.delivery.idempotency_key
    assert keys[1] != keys[0]


# -- never twice -------------------------------------------------------------------------------------------------


class DiesAfter:
    """A replays store whose process dies after n chunks."""

    def __init__(self, store: Store, chunks: int) -> None:
        self.add_really: Callable[..., Any] = store.replays.add
        self.left = chunks

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.left == 0:
            raise StorageUnavailable("the process died here")
        self.left -= 1
        return self.add_really(*args, **kwargs)


@pytest.mark.parametrize("order", list(Order))
@pytest.mark.parametrize("chunks", [0, 1, 2])
def test_a_replay_is_resumed_after_a_crash_without_doubling(
    store: Store, order: Order, chunks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [*put(store, 4, occurred=50), *put(store, 4, occurred=10)]
    made = replayer(store)
    begun = made.start(made.plan(EVERYTHING, Options(order=order)), actor=Actor("ann"))
    with monkeypatch.context() as patch:
        patch.setattr(store.replays, "add", DiesAfter(store, chunks))
        with pytest.raises(StorageUnavailable):
            made.run(begun)
    assert made.get(begun.id).state is ReplayState.OPEN
    assert made.get(begun.id).deliveries == 3 * chunks
    done = made.resume(begun.id)
    assert (done.state, done.events, done.deliveries) == (ReplayState.DONE, 8, 8)
    assert sorted(row.event_id for row in rows(store, done)) == sorted(ids)
    with pytest.raises(ReplayError, match="is done; there is nothing to resume"):
        made.resume(begun.id)


def test_a_limit_holds_over_a_resumption(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, 8)
    made = replayer(store)
    begun = made.start(made.plan(EVERYTHING, Options(limit=5)), actor=Actor("ann"))
    with monkeypatch.context() as patch:
        patch.setattr(store.replays, "add", DiesAfter(store, 1))
        with pytest.raises(StorageUnavailable):
            made.run(begun)
    assert made.resume(begun.id).events == 5


def test_of_two_that_go_on_with_one_replay_one_stops(store: Store) -> None:
    put(store, 8)
    made = replayer(store)
    begun = made.start(made.plan(EVERYTHING), actor=Actor("ann"))
    made.run(begun)
    with pytest.raises(ReplayError, match="is done; this process stops"):
        made.run(begun)
    assert len(rows(store, begun)) == 8


def test_the_same_delivery_is_made_once_a_replay(store: Store) -> None:
    (id,) = put(store)
    made = replayer(store)
    begun = made.start(made.plan(EVERYTHING), actor=Actor("ann"))
    planned = [Planned(id, "a", NOW)] * 2
    moved = store.replays.add(begun, planned, events=1, cursor="x", is_last=False)
    assert moved is not None
    assert moved.deliveries == 1
    assert store.replays.add(begun, planned, events=1, cursor="y", is_last=True) is None


def test_a_second_press_of_the_button_is_refused_until_the_first_is_through(store: Store) -> None:
    put(store, 2)
    made = replayer(store)
    first = made.run(made.start(made.plan(Selection(since=NOW)), actor=Actor("ann")))
    with pytest.raises(ReplayError, match=rf"replay {first.id} of the same events \(by ann\) is still under way"):
        made.start(made.plan(Selection(since=NOW + timedelta(microseconds=-1))), actor=Actor("bob"))
    made.start(made.plan(Selection(source="close")), actor=Actor("bob"))
    run(store)
    made.start(made.plan(Selection(since=NOW)), actor=Actor("bob"))


def test_a_replay_never_feeds_itself(store: Store) -> None:
    put(store, 2)
    run(store, "a", DEAD)
    made = replayer(store)
    plan = made.plan(Selection(states=(DeliveryState.DEAD,)))
    begun = made.start(plan, actor=Actor("ann"))
    put(store, 2)
    run(store, "a", DEAD)
    done = made.run(begun)
    assert done.deliveries == 2
    run(store, "a", DEAD)
    assert len(rows(store, done)) == 2


@pytest.mark.parametrize("where", [None, Expression.parse("true")], ids=["in SQL", "row by row"])
def test_what_dies_after_its_start_is_none_of_its_business(store: Store, where: Expression | None) -> None:
    """An old event whose delivery of another replay dies meanwhile."""
    handlers = registry(a="**", b="**")
    put(store, 2, handlers=("a", "b"))
    run(store, "a", DEAD)
    put(store, 3)
    run(store, "a", SUCCEEDED)
    run(store, "b", SUCCEEDED)
    made = replayer(store, handlers)
    begun = made.start(made.plan(Selection(states=(DeliveryState.DEAD,), where=where)), actor=Actor("ann"))
    replay(store, Selection(states=(DeliveryState.SUCCEEDED,)), handlers=handlers)
    run(store, "a", DEAD)
    run(store, "b", DEAD)
    done = made.run(begun)
    assert (done.events, done.deliveries) == (2, 2)


# -- stopping ----------------------------------------------------------------------------------------------------


def test_cancelling_stops_what_has_not_run(store: Store) -> None:
    put(store, 4)
    run(store)
    made = replayer(store)
    done = made.run(made.start(made.plan(EVERYTHING), actor=Actor("ann")))
    assert run(store, n=1) == 1
    assert made.cancel(done.id, actor=Actor("bob")) == 3
    assert store.replays.progress(done.id) == {DeliveryState.SUCCEEDED: 1, DeliveryState.CANCELLED: 3}
    with pytest.raises(ReplayError, match="was cancelled already"):
        made.cancel(done.id, actor=Actor("bob"))
    with pytest.raises(ReplayError, match="is cancelled; there is nothing to resume"):
        made.resume(done.id)


def test_a_cancelled_replay_makes_nothing_more(store: Store) -> None:
    put(store, 4)
    made = replayer(store)
    begun = made.start(made.plan(EVERYTHING), actor=Actor("ann"))
    made.cancel(begun.id, actor=Actor("bob"))
    with pytest.raises(ReplayError, match="is cancelled; this process stops"):
        made.run(begun)
    assert rows(store, begun) == []


def test_what_is_through_cannot_be_cancelled(store: Store) -> None:
    put(store)
    made = replayer(store)
    done = made.run(made.start(made.plan(EVERYTHING), actor=Actor("ann")))
    run(store)
    with pytest.raises(ReplayError, match="nothing left to cancel"):
        made.cancel(done.id, actor=Actor("bob"))
    with pytest.raises(NotFound, match="no replay 5"):
        made.cancel(5, actor=Actor("bob"))


@pytest.mark.parametrize(
    ("text", "rate"), [("20/s", 20.0), ("20", 20.0), ("120/min", 2.0), ("0.5/s", 0.5), ("3600/h", 1.0), ("90/m", 1.5)]
)
def test_rates_are_read(text: str, rate: float) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "0/s", "-1/s", "fast", "20/fortnight", "1e9/s", "٣/s"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(SelectionError, match="is not a rate; write 20/s"):
        parse_rate(text)


def test_a_replay_tells_its_start_and_its_end(store: Store) -> None:
    told: list[tuple[str, Any, dict[str, Any]]] = []

    def started(sender: int, **given: Any) -> None:
        told.append(("started", sender, given))

    def finished(sender: int, **given: Any) -> None:
        told.append(("finished", sender, given))

    put(store, 4)
    service = replayer(store)
    with signals.replay_started.connected_to(started), signals.replay_finished.connected_to(finished):
        replay = service.start(service.plan(EVERYTHING), actor=Actor("ops"))
        service.run(replay)

    assert told == [
        ("started", replay.id, {"selection": EVERYTHING, "who": "ops"}),
        ("finished", replay.id, {"events": 4, "deliveries": 4}),
    ]


def test_a_walk_that_was_left_off_may_be_closed_by_another_thread(store: Store) -> None:
    put(store, 2)
    chunks = replayer(store).chunks(EVERYTHING, Options(), 2**62, None, bodies=False)
    assert next(chunks)
    failed: list[BaseException] = []

    def close() -> None:
        try:
            chunks.close()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=close)
    thread.start()
    thread.join()
    assert failed == []
