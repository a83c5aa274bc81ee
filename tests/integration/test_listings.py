"""Pages, walks, groups and figures, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support import Clock
from webhooks.database import Database
from webhooks.database.connect import connect
from webhooks.model import AttemptOutcome, Content, DeliveryClass, DeliveryState, new_id
from webhooks.routing import SUCCEEDED, Verdict
from webhooks.selection import Expression, Selection
from webhooks.store import Store
from webhooks.store.deliveries import Finished
from webhooks.store.intake import Item, Routed
from webhooks.store.listings import Cursor, LaneWait, alike, limits, percentiles

NOW = datetime(2026, 3, 10, 14, 5, tzinfo=UTC)


def read(raw: bytes, type: str) -> Content:
    from webhooks.formats import json as jsonio

    return Content(data=jsonio.load(raw))


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database, {"close": read})


def put(store: Store, n: int = 1, *, seconds: int = 0, handler: str = "a", **fields: Any) -> list[int]:
    """Store n events received together, each with a delivery for `handler`; the ids of the events."""
    values: dict[str, Any] = {"source": "close", "revision": 1, "type": "lead.updated", "body": b'{"n": 1}'}
    items = [
        Item(
            **(values | fields),
            event_id=new_id(),
            dedup_key=f"ev_{new_id()}",
            occurred_at=NOW,
            received_at=NOW + timedelta(seconds=seconds),
            routes=(Routed(new_id(), handler),),
        )
        for _ in range(n)
    ]
    store.intake.record(items)
    return [one.event_id for one in items]


def run(store: Store, handler: str, verdict: Verdict, n: int = 100) -> None:
    claimed = store.deliveries.claim({(handler, DeliveryClass.FRESH): n}, lease=timedelta(seconds=30), worker="w")
    store.deliveries.finish([Finished(one.delivery, verdict) for one in claimed])


def dead(reason: str) -> Verdict:
    return Verdict(DeliveryState.DEAD, AttemptOutcome.FAILED, reason=reason, error="trace")


def test_events_come_in_order_of_arrival_either_way(store: Store) -> None:
    early, late = put(store, 3), put(store, 3, seconds=5)
    newest = [summary.id for summary in store.listings.events(Selection())]
    assert newest == [*late[::-1], *early[::-1]]
    assert [summary.id for summary in store.listings.events(Selection(), newest_first=False)] == newest[::-1]


@pytest.mark.parametrize("newest_first", [True, False])
def test_a_walk_meets_every_event_once_even_where_many_arrived_in_one_instant(store: Store, newest_first: bool) -> None:
    ids = [*put(store, 7), *put(store, 7, seconds=1)]
    met = [s.id for step in store.listings.walk(Selection(), newest_first=newest_first, step=3) for s in step]
    assert sorted(met) == sorted(ids)
    assert len(met) == len(ids)


def test_a_walk_goes_on_after_a_place(store: Store) -> None:
    ids = put(store, 5)
    met = [s.id for step in store.listings.walk(Selection(), after=Cursor(NOW, ids[2])) for s in step]
    assert met == ids[3:]


def test_content_is_judged_row_by_row_until_the_page_is_full(store: Store) -> None:
    put(store, 6)
    wanted = put(store, 3, body=b'{"n": 2}')
    put(store, 6)
    selection = Selection(where=Expression.parse("data.n == 2"))
    assert [summary.id for summary in store.listings.events(selection, limit=2)] == wanted[:0:-1]
    assert len(store.listings.events(selection, limit=50)) == 3
    assert [delivery.event_id for delivery in store.listings.deliveries(selection)] == wanted[::-1]


# -- looks that end ----------------------------------------------------------------------------------------

LONG = timedelta(minutes=1)
SELECTIONS = {
    "everything": Selection(),
    "type": Selection(type="push"),
    "source": Selection(source="github"),
    "unrouted": Selection(unrouted=True),
    "unrouted or dead": Selection(unrouted=True, states=(DeliveryState.DEAD,)),
    "dead": Selection(states=(DeliveryState.DEAD,)),
    "dead of one": Selection(states=(DeliveryState.DEAD,), handler="a"),
    "error": Selection(error="ValueError*"),
    "dead by error": Selection(error="ValueError*", states=(DeliveryState.DEAD,)),
    "no such error": Selection(error="nowhere"),
    "handler": Selection(handler="b"),
    "content": Selection(where=Expression.parse("data.n == 2")),
    "since": Selection(since=NOW + timedelta(seconds=2), handler="a"),
    "until": Selection(until=NOW + timedelta(seconds=2), source="close"),
}


def fill(store: Store) -> None:
    for second in range(4):
        put(store, 4, seconds=second)
        put(store, 1, seconds=second, handler="b", type="push", source="github", body=b'{"n": 2}')
        store.intake.record(
            [Item(new_id(), "close", f"ev_{new_id()}", 1, "lead.updated", NOW, NOW + timedelta(seconds=second), b"{}")]
        )
        run(store, "a", dead("ValueError: no"), 1)
    run(store, "b", Verdict(DeliveryState.PENDING, AttemptOutcome.FAILED, wait=LONG, reason="KeyError: 'x'"), 1)


@pytest.mark.parametrize("name", SELECTIONS)
@pytest.mark.parametrize("newest_first", [True, False])
def test_a_look_with_time_finds_what_a_listing_finds(
    store: Store, monkeypatch: pytest.MonkeyPatch, name: str, newest_first: bool
) -> None:
    fill(store)
    monkeypatch.setattr("webhooks.store.listings.limits.WINDOW", 3)
    monkeypatch.setattr("webhooks.store.listings.limits.JUDGED_WINDOW", 2)
    monkeypatch.setattr("webhooks.store.conditions.MOST_NAMED", 1)
    selection = SELECTIONS[name]
    listings = store.listings
    page = listings.look(selection, deadline=LONG, newest_first=newest_first)
    assert page.rows == listings.events(selection, newest_first=newest_first)
    assert page.is_complete
    assert page.at is None
    short = listings.look(selection, deadline=LONG, newest_first=newest_first, limit=2)
    assert short.rows == page.rows[:2]
    if newest_first:
        found = listings.look_at_deliveries(selection, deadline=LONG)
        assert found.rows == listings.deliveries(selection)
        assert found.is_complete


@pytest.mark.parametrize("name", SELECTIONS)
def test_looks_that_are_ended_at_once_go_on_to_the_end_and_miss_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fill(store)
    monkeypatch.setattr("webhooks.store.listings.limits.WINDOW", 3)
    monkeypatch.setattr("webhooks.store.listings.limits.JUDGED_WINDOW", 2)
    monkeypatch.setattr("webhooks.store.conditions.MOST_NAMED", 1)
    selection, listings = SELECTIONS[name], store.listings
    found: list[Any] = []
    place: Any = None
    looks = 0
    while looks == 0 or place is not None:
        page: Any = listings.look(selection, deadline=timedelta(0), after=place, limit=3)
        found, place, looks = found + list(page.rows), page.at, looks + 1
        assert page.is_complete or page.at is not None
    assert found == listings.events(selection)
    deliveries: list[Any] = []
    before: int | None = None
    looks = 0
    while looks == 0 or before is not None:
        page = listings.look_at_deliveries(selection, deadline=timedelta(0), before=before, limit=3)
        deliveries, before, looks = deliveries + list(page.rows), page.at, looks + 1
    assert deliveries == listings.deliveries(selection)


def test_a_look_that_is_over_says_how_far_it_came(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store)
    monkeypatch.setattr("webhooks.store.listings.limits.WINDOW", 5)
    page = store.listings.look(Selection(error="nowhere"), deadline=timedelta(0))
    assert (page.rows, page.looked_at, page.is_complete) == ([], 5, False)
    assert page.back_to == NOW + timedelta(seconds=3)
    deliveries = store.listings.look_at_deliveries(Selection(error="nowhere"), deadline=timedelta(0))
    assert (deliveries.rows, deliveries.looked_at, deliveries.is_complete) == ([], 5, False)
    assert deliveries.back_to is not None
    assert abs(deliveries.back_to - datetime.now(UTC)) < LONG


def test_a_look_goes_on_while_there_is_time(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(1_000))
    database = connect(database_url, monotonic=lambda: float(next(seconds)))
    try:
        store = Store(database, {"close": read})
        fill(store)
        monkeypatch.setattr("webhooks.store.listings.limits.WINDOW", 5)
        assert store.listings.look(Selection(error="nowhere"), deadline=timedelta(seconds=3)).looked_at == 15
    finally:
        database.dispose()


def test_deliveries_of_a_page_are_counted_by_state(store: Store) -> None:
    put(store, handler="a")
    run(store, "a", SUCCEEDED)
    (first,) = store.listings.events(Selection())
    assert first.deliveries == {"succeeded": 1}
    assert first.event is None
    assert first.body_bytes == 8


def test_deliveries_are_listed_latest_first_with_their_event(store: Store) -> None:
    put(store, 2, handler="a")
    put(store, 1, handler="b", type="push", source="github")
    listed = store.listings.deliveries(Selection())
    assert [(d.handler, d.type) for d in listed] == [("b", "push"), ("a", "lead.updated"), ("a", "lead.updated")]
    assert [d.handler for d in store.listings.deliveries(Selection(source="github"))] == ["b"]
    assert store.listings.deliveries(Selection(states=(DeliveryState.DEAD,))) == []
    assert store.listings.delivery(listed[1].id) == listed[1]
    assert store.listings.delivery(listed[1].id + 1) is None


def test_failures_that_are_alike_are_grouped(store: Store) -> None:
    for number in (1, 22):
        put(store, 2, handler="a")
        run(store, "a", dead(f"ValueError: lead_x{'y' * 20} at {number} (attempt 20 of 20)"))
    put(store, 1, handler="a")
    run(store, "a", dead("KeyError: 'x' (attempt 20 of 20)"))
    put(store, 1, handler="b")
    groups = store.listings.failures(Selection()).groups
    assert [(group.handler, group.count, group.error) for group in groups] == [
        ("a", 4, "ValueError: # at #"),
        ("a", 1, "KeyError: 'x'"),
    ]
    assert groups[0].first_at <= groups[0].last_at
    assert store.listings.delivery(groups[0].example_id) is not None
    assert store.listings.failures(Selection(error="*KeyError*")).groups[0].count == 1
    assert store.listings.failures(Selection(source="close")).groups[0].count == 4
    assert store.listings.failures(Selection(where=Expression.parse("data.n == 1"))).groups[0].count == 4
    assert store.listings.failures(Selection(where=Expression.parse("data.n == 5"))).groups == []
    for selection in (Selection(), Selection(source="close"), Selection(where=Expression.parse("data.n == 1"))):
        whole, part = store.listings.failures(selection), store.listings.failures(selection, look_at=2)
        assert (whole.is_complete, part.is_complete, part.looked_at) == (True, False, 2)
        assert sum(group.count for group in part.groups) == 2


def test_those_that_failed_and_are_tried_again_are_grouped_beside_the_dead(store: Store) -> None:
    put(store, 2, handler="a")
    run(store, "a", Verdict(DeliveryState.PENDING, AttemptOutcome.FAILED, wait=LONG, reason="KeyError: 'x'"))
    put(store, 1, handler="b")
    run(store, "b", dead("KeyError: 'x'"))
    put(store, 3, handler="c")  # never run
    for selection in (Selection(), Selection(where=Expression.parse("data.n >= 0"))):
        groups = store.listings.failures(selection, with_retrying=True).groups
        assert [(group.handler, group.state.label, group.count) for group in groups] == [
            ("a", "pending", 2), ("b", "dead", 1),
        ]  # fmt: skip
    assert [group.handler for group in store.listings.failures(Selection()).groups] == ["b"]


def test_ids_are_told_apart_by_as_many_of_their_last_digits_as_it_takes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = put(store, 3, handler="a")
    listings = store.listings
    length = listings.ending_length("event", ids)
    assert length is not None
    for id in ids:
        assert listings.ids_ending("event", str(id)[-length:]) == [id]
    assert listings.ending_length("event", []) is None
    assert sorted(listings.ids_ending("event", "", limit=9)) == sorted(ids)
    assert listings.ids_ending("delivery", str(ids[0])) == []
    monkeypatch.setattr("webhooks.store.listings.short_ids.MOST_ROWS", 2)
    assert listings.ending_length("event", ids) is None
    assert listings.has_many("event")


def lane(store: Store, *, handler: str = "a", lane: str = "l", at: int = 0, **fields: Any) -> int:
    """An event that a delivery in a lane is made for; the delivery's id. at: its place in the lane."""
    id = new_id()
    route = Routed(id, handler, lane)
    values: dict[str, Any] = {"source": "close", "revision": 1, "type": "lead.updated", "body": b'{"n": 1}'}
    item = Item(
        **(values | fields), event_id=new_id(), dedup_key=f"ev_{id}", occurred_at=NOW + timedelta(seconds=at),
        received_at=NOW, routes=(route,),
    )  # fmt: skip
    store.intake.record([item])
    return id


def hold(store: Store, handler: str = "a", reason: str = "ValueError: no") -> None:
    """Let the heads of all lanes die, and hold their lanes."""
    claimed = store.deliveries.claim({(handler, DeliveryClass.FRESH): 100}, lease=timedelta(seconds=30), worker="w")
    assert claimed
    store.deliveries.finish([Finished(one.delivery, dead(reason), holds_lane=True) for one in claimed])


def blocked(store: Store, selection: Selection = Selection(), **options: Any) -> list[tuple[int, str | None, int]]:  # noqa: B008 - frozen
    return [(one.holder.id, one.holder.lane, one.waiting) for one in store.listings.blocked_lanes(selection, **options)]


def test_a_blocked_lane_is_told_with_what_holds_it_and_how_many_wait(store: Store) -> None:
    first = lane(store)
    hold(store)
    assert blocked(store) == [(first, "l", 0)]
    for at in (1, 2, 3):
        lane(store, at=at)
    lane(store, lane="free", at=1)
    assert blocked(store) == [(first, "l", 3)]
    assert store.health.backlogs()["a"].held == 3
    store.deliveries.requeue([first])
    assert blocked(store) == []


def test_the_lanes_with_most_waiting_come_first(store: Store) -> None:
    few, many = lane(store, lane="few"), lane(store, lane="many")
    hold(store)
    lane(store, lane="few", at=1)
    for at in (1, 2):
        lane(store, lane="many", at=at)
    assert blocked(store) == [(many, "many", 2), (few, "few", 1)]
    assert blocked(store, limit=1) == [(many, "many", 2)]


def test_blocked_lanes_are_counted_and_looked_at_up_to_a_bound(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HELD_STEP", 2)
    ids = [lane(store, lane=name) for name in "abcde"]
    assert store.listings.count_blocked_lanes(10) == 0
    hold(store)
    assert store.listings.count_blocked_lanes(10) == 5
    assert store.listings.count_blocked_lanes(3) == 3
    assert {one[0] for one in blocked(store)} == set(ids), "in steps"
    assert {one[0] for one in blocked(store, look_at=2)} == set(ids[-2:]), "the latest"


def test_of_several_dead_ones_in_a_lane_the_eldest_holds_it(store: Store) -> None:
    newer = lane(store, at=5)
    hold(store)
    older = lane(store, at=1)
    hold(store)
    lane(store, at=6)
    assert blocked(store) == [(older, "l", 1)]
    store.deliveries.cancel([older], "given up")
    assert blocked(store) == [(newer, "l", 1)]


def test_an_elder_that_came_late_and_a_replayed_one_do_not_wait(store: Store) -> None:
    """They run while the dead one holds the others."""
    holder = lane(store, at=5)
    hold(store)
    lane(store, at=1)
    replayed = lane(store, at=6)
    with store.database.write() as connection:
        connection.exec_driver_sql(f"update webhooks_deliveries set replay_id = 2 where id = {replayed}")
    assert blocked(store) == [(holder, "l", 0)]
    assert store.health.backlogs()["a"].held == 1  # the older's turn is next, and over soon


def test_a_dead_delivery_that_lets_its_lane_go_on_blocks_nothing(store: Store) -> None:
    lane(store)
    lane(store, at=1)
    run(store, "a", dead("no"))
    assert blocked(store) == []


def test_blocked_lanes_are_selected_by_the_delivery_that_holds_them(store: Store) -> None:
    ours = lane(store, body=b'{"n": 2}')
    hold(store, reason="KeyError: 'x'")
    other = lane(store, handler="b", type="push", source="github")
    hold(store, "b")
    for selection, wanted in (
        (Selection(), [ours, other]),
        (Selection(handler="b"), [other]),
        (Selection(source="close"), [ours]),
        (Selection(error="KeyError*"), [ours]),
        (Selection(where=Expression.parse("data.n == 2")), [ours]),
        (Selection(type="push"), [other]),
    ):
        assert [id for id, _, _ in blocked(store, selection)] == wanted


def around(found: Any) -> tuple[list[int], list[int], int, int]:
    return [one.id for one in found.before], [one.id for one in found.after], found.ahead, found.behind


def test_a_delivery_knows_what_stands_before_and_after_it_in_its_lane(store: Store) -> None:
    one, two, three, four = (lane(store, at=at) for at in (1, 2, 3, 4))
    lane(store, lane="other", at=2)
    lane(store, handler="b", at=2)
    listings = store.listings
    assert around(listings.lane_neighbours(three)) == ([two, one], [four], 2, 1)
    assert around(listings.lane_neighbours(three, shown=1)) == ([two], [four], 2, 1)
    assert around(listings.lane_neighbours(one, shown=1, counted=2)) == ([], [two], 0, 3), "one more than was counted"
    assert listings.lane_waits([one, two, three]) == {
        two: LaneWait(one, DeliveryState.PENDING),
        three: LaneWait(one, DeliveryState.PENDING),
    }
    run(store, "a", SUCCEEDED)  # the head; it leaves the lane
    assert around(listings.lane_neighbours(three)) == ([two], [four], 1, 1)
    (free,) = put(store, 1, handler="c")
    (without,) = listings.of_event(free)
    assert around(listings.lane_neighbours(without.id)) == ([], [], 0, 0)
    assert listings.lane_waits([without.id, two]) == {}


def test_what_is_behind_a_dead_delivery_waits_for_it_and_what_a_replay_made_does_not(store: Store) -> None:
    holder = lane(store, at=1)
    hold(store)
    behind, replayed, late = lane(store, at=3), lane(store, at=2), lane(store, at=0)
    with store.database.write() as connection:
        connection.exec_driver_sql(f"update webhooks_deliveries set replay_id = 2 where id = {replayed}")
    listings = store.listings
    assert around(listings.lane_neighbours(behind))[0] == [holder, late]
    assert around(listings.lane_neighbours(replayed))[0] == [behind, late], "it passes by what holds the lane"
    assert listings.lane_waits([behind]) == {behind: LaneWait(holder, DeliveryState.DEAD)}, "the head ends by itself"
    run(store, "a", SUCCEEDED)
    store.deliveries.cancel([holder], "given up")
    assert around(listings.lane_neighbours(behind))[0] == []
    assert listings.lane_waits([replayed, behind]) == {replayed: LaneWait(behind, DeliveryState.PENDING)}


def test_figures_tell_rates_waits_and_backlog(database_url: str, clock: Clock) -> None:
    database = connect(database_url, clock=clock)
    try:
        store = Store(database, {})
        now = database.now()
        put(store, 4, handler="a", seconds=int((now - NOW).total_seconds()))
        run(store, "a", SUCCEEDED, 2)
        run(store, "a", dead("no"), 1)
        store.intake.record(
            [
                Item(
                    new_id(), "close", "ev_x", 1, "lead.updated", NOW, now, b"{}",
                    routes=(Routed(new_id(), "b", "lane"), Routed(new_id(), "c", "lane")),
                ),
                Item(
                    new_id(), "close", "ev_y", 1, "lead.updated", NOW, now, b"{}", routes=(Routed(new_id(), "b", "lane"),)
                ),
            ]
        )  # fmt: skip
        stats = store.listings.stats(timedelta(hours=1))
        (source,) = stats.sources
        assert (source.source, source.events, source.per_minute) == ("close", 6, 0.1)
        by_name = {handler.handler: handler for handler in stats.handlers}
        assert (by_name["a"].succeeded, by_name["a"].dead, by_name["a"].pending) == (2, 1, 1)
        assert set(by_name["a"].wait_ms) == {50, 95, 99}
        assert (by_name["b"].pending, by_name["b"].running) == (2, 0)
        assert by_name["b"].oldest_unhandled_at is not None
        assert stats.is_complete
    finally:
        database.dispose()


def test_known_values_are_suggested(store: Store) -> None:
    put(store, handler="a")
    assert store.listings.suggestions("source") == ["close"]
    assert store.listings.suggestions("type") == ["lead.updated"]
    assert store.listings.suggestions("handler") == ["a"]


@pytest.mark.parametrize(
    ("reason", "masked"),
    [
        ("ValueError: 12 of 13 (attempt 20 of 20)", "ValueError: # of #"),
        ("at 0x7fAB00", "at #"),
        ("lead_QyNaWw4fdSwxl5Mc5daMFf is gone", "# is gone"),
        ("no 123e4567-e89b-12d3-a456-426614174000", "no #"),
        ("KeyError: 'x'", "KeyError: 'x'"),
    ],
)
def test_what_varies_between_equal_failures_is_masked(reason: str, masked: str) -> None:
    assert alike(reason) == masked


def test_percentiles_are_values_that_were_seen() -> None:
    assert percentiles([]) == {}
    assert percentiles([5.0]) == {50: 5.0, 95: 5.0, 99: 5.0}
    assert percentiles([float(n) for n in range(1, 101)]) == {50: 50.0, 95: 95.0, 99: 99.0}
