"""Operations as a page or a program calls them: what is known, why it is so, and changes on somebody's behalf."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.integration.rig import Rig, rig
from webhooks.delivery import handler_rows
from webhooks.errors import NotFound, SelectionError
from webhooks.model import AttemptOutcome, DeliveryState
from webhooks.operations import Actor, Canceller, WrongState, records
from webhooks.operations import events as events_of
from webhooks.operations import explain as explaining
from webhooks.operations import handlers as handlers_of
from webhooks.operations import quarantine as quarantine_of
from webhooks.operations.explain import Fate
from webhooks.routing import Verdict
from webhooks.selection import Selection
from webhooks.store.deliveries import Finished

pytestmark = pytest.mark.one_database

INES = Actor("ines")
PENDING, RUNNING, SUCCEEDED, DEAD, CANCELLED = DeliveryState
GONE = Verdict(DEAD, AttemptOutcome.FAILED, reason="ValueError: no", error="no")


@pytest.fixture
def made(database_url: str) -> Iterator[Rig]:
    with rig(database_url) as made:
        made.on("h")(lambda: None)
        made.store.handlers.register(handler_rows(made.registry))
        yield made


def end(made: Rig, verdict: Verdict, *, holds_lane: bool = False) -> int:
    """Claim one delivery, and record its end; its id."""
    claimed = made.claim()
    assert made.store.deliveries.finish([Finished(claimed.delivery, verdict, holds_lane=holds_lane)])
    return claimed.delivery.id


# -- cancel --------------------------------------------------------------------------------------------------


def test_what_waits_is_cancelled_in_the_name_of_who_asked(made: Rig) -> None:
    ids = made.put(3)
    canceller = Canceller(made.store)
    told: list[int] = []
    assert canceller.count(Selection(), 10) == 3
    assert canceller.cancel(Selection(), actor=INES, why="sent twice", progress=told.append) == 3
    assert told == [3]
    assert {made.row(id).reason for id in ids} == {"cancelled by ines: sent twice"}
    assert canceller.count(Selection(), 10) == 0


def test_a_dead_one_is_cancelled_where_it_holds_a_lane_and_the_lane_goes_on(made: Rig) -> None:
    first, second = made.put(1, lane="l")[0], made.put(1, lane="l", at=1)[0]
    end(made, GONE, holds_lane=True)
    canceller = Canceller(made.store)
    assert canceller.these(canceller.named([first]), actor=INES) == {first}
    assert (made.row(first).state, made.row(second).ready) == (CANCELLED, True)


def test_several_named_are_cancelled_all_or_none(made: Rig) -> None:
    (waits,) = made.put(1)
    running = made.claim().delivery.id
    assert running == waits
    (other,) = made.put(1)
    canceller = Canceller(made.store)
    with pytest.raises(WrongState, match=f"delivery {running} is running; only pending ones can be cancelled"):
        canceller.named([other, running])
    with pytest.raises(NotFound, match="no delivery 7; nothing was changed"):
        canceller.named([other, 7])
    with pytest.raises(SelectionError, match="succeeded deliveries cannot be cancelled"):
        canceller.count(Selection(states=(SUCCEEDED,)), 10)
    assert made.row(other).state == PENDING


# -- looking -------------------------------------------------------------------------------------------------


def test_an_event_is_seen_whole_and_in_order(made: Rig) -> None:
    made.put(1)
    id = end(made, GONE)
    event_id = made.row(id).event_id
    view = events_of.view(made.store, event_id)
    assert [delivery.id for delivery in view.deliveries] == [id]
    assert [attempt.outcome for attempt in view.attempts[id]] == [AttemptOutcome.FAILED]
    words = [moment.what for moment in events_of.timeline(view)]
    assert words[0] == "occurred, by the sender's word"
    assert words[1] == "received (stored) from source close"
    assert words[2].startswith("h: attempt 1 failed after ")
    assert words[3] == "h: dead: ValueError: no"
    assert events_of.difference(view) == []
    with pytest.raises(NotFound, match="no event 7: it was never stored here, or has been pruned"):
        events_of.view(made.store, 7)


def test_each_handler_has_its_reason_and_a_fate_that_is_no_text(made: Rig) -> None:
    made.registry.on("contact.**", name="others")(lambda: None)
    made.registry.on("**", name="elsewhere", source="stripe")(lambda: None)
    made.registry.on("**", name="late")(lambda: None)
    made.put(1)
    id = end(made, GONE)
    event = made.store.events.get(made.row(id).event_id)
    assert event is not None
    found = {one.handler: one for one in explaining.of_event(made.store, made.registry, event)}
    assert {name: one.outcome for name, one in found.items()} == {
        "h": Fate.DEAD,
        "others": Fate.NOT_SUBSCRIBED,
        "elsewhere": Fate.NOT_SUBSCRIBED,
        "late": Fate.NO_DELIVERY,
    }
    assert (found["h"].why, found["h"].delivery_id) == ("ValueError: no", id)
    assert found["late"].delivery_id is None
    document = records.explained_json(event, list(found.values()))
    assert {one["handler"]: one["outcome"] for one in document["handlers"]}["h"] == "failed for good"


def test_what_waits_in_a_lane_is_told_with_what_it_waits_for(made: Rig) -> None:
    first, second = made.put(2, lane="l")

    def why(id: int) -> tuple[str, int | None]:
        event = made.store.events.get(made.row(id).event_id)
        assert event is not None
        (one,) = [each for each in explaining.of_event(made.store, made.registry, event) if each.delivery_id == id]
        return one.why, one.waits_for

    assert why(first) == ("", None)
    assert why(second) == (f"delivery {first} comes before it in its lane, and is pending", first)
    assert end(made, GONE, holds_lane=True) == first
    said = (
        f"delivery {first} is dead and holds its lane; webhooks requeue {first}, or webhooks deliveries cancel {first}"
    )
    assert why(second) == (said, first)


def test_an_id_a_key_and_a_request_are_found_and_anything_else_is_not(made: Rig) -> None:
    made.put(1)
    event = made.store.events.get(made.row(made.claim().delivery.id).event_id)
    assert event is not None
    for text in (str(event.id), event.dedup_key):
        assert [one.id for one in explaining.find(made.store, text).events] == [event.id]
    for text in ("7", "ev_none", "0" * 15 + "f"):
        with pytest.raises(NotFound):
            explaining.find(made.store, text)


# -- handlers ------------------------------------------------------------------------------------------------


def test_a_pause_is_on_record_with_its_name_and_said_once(made: Rig) -> None:
    first = handlers_of.pause(made.store, made.registry, "h", actor=INES)
    again = handlers_of.pause(made.store, made.registry, "h", actor=Actor("paul"))
    assert (first.changed, again.changed, again.paused_by) == (True, False, "ines")
    (view,) = handlers_of.view(made.registry.handlers(), handlers_of.on_record(made.store))
    assert (view.state, view.paused_by) == ("paused", "ines")
    assert handlers_of.resume(made.store, made.registry, "h", actor=INES).changed
    assert not handlers_of.resume(made.store, made.registry, "h", actor=INES).changed


def test_a_handler_that_no_process_has_registered_yet_can_be_paused(made: Rig) -> None:
    made.registry.on("lead.*", name="new", concurrency=2, rate="5/s")(lambda: None)
    assert handlers_of.pause(made.store, made.registry, "new", actor=INES).changed
    row = made.store.handlers.states()["new"]
    assert (row.paused, row.patterns, row.concurrency) == (True, ("lead.*",), 2)
    assert row.rate == (5, timedelta(seconds=1))


def test_a_handler_that_is_not_known_is_named_with_what_was_meant(made: Rig) -> None:
    made.registry.on("lead.*", name="mirror")(lambda: None)
    with pytest.raises(NotFound, match=r"no handler named 'miror'.*'mirror'.*; known: h, mirror"):
        handlers_of.pause(made.store, made.registry, "miror", actor=INES)


def test_what_the_database_cannot_be_asked_is_unknown(made: Rig) -> None:
    (view,) = handlers_of.view(made.registry.handlers(), None)
    assert (view.state, view.seen_at) == ("unknown", None)


# -- quarantine ----------------------------------------------------------------------------------------------


def test_a_row_that_is_given_up_says_whose_word_it_was(made: Rig) -> None:
    now: Any = made.database.now()
    id = made.store.quarantine.put("close", b"{", reason="no JSON", kind="unreadable", received_at=now, headers="{}")
    with pytest.raises(NotFound, match=r"nothing is quarantined under 7; .*; nothing was changed"):
        quarantine_of.discard(made.store, [id, 7], actor=INES)
    first, again = (quarantine_of.discard(made.store, [id], actor=INES)[0] for _ in range(2))
    assert (first.state, first.changed, again.changed) == ("dropped", True, False)
    kept = made.store.quarantine.get(id)
    assert kept is not None
    assert kept.decided_by == "ines"
