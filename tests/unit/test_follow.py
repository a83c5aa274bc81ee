"""The screen of `webhooks dev --demo`: each event once, in its order, with its receipt and who handled it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support import each
from webhooks.cli import follow
from webhooks.cli.follow import WIDTH, Follower, PostedEvent, Posts, Tally, describe
from webhooks.model import DeliveryCause, DeliveryClass, DeliveryState
from webhooks.operations.trigger import PostAnswer
from webhooks.sandbox.rules import Rules
from webhooks.sandbox.server import subscribe_all
from webhooks.sandbox.story import STORY
from webhooks.sandbox.world import World
from webhooks.sources.close.catalogue import known_types
from webhooks.store.listings import DeliverySummary

T0 = datetime(2026, 11, 20, 12, tzinfo=UTC)
SUCCEEDED = DeliverySummary(
    id=1, event_id=7, handler="whatsapp.mirror", state=DeliveryState.SUCCEEDED, delivery_class=DeliveryClass.FRESH,
    replay_id=0, attempts=1, failures=0, lane=None, due_at=T0, created_at=T0, finished_at=T0 + timedelta(milliseconds=12),
    worker="w", reason=None, source="close", type="lead.created", dedup_key="ev_1",
)  # fmt: skip
FILTERED = replace(
    SUCCEEDED, state=DeliveryState.CANCELLED, reason="filtered: field('x'), value None", cause=DeliveryCause.FILTERED
)
DEAD = replace(SUCCEEDED, state=DeliveryState.DEAD, reason="ValueError: \x1b[31mno\nat all")
PENDING = replace(SUCCEEDED, state=DeliveryState.PENDING, finished_at=None, reason=None)
STORED = PostedEvent("lead.created", "stored", 7)


def test_an_event_is_one_line_with_who_handled_it_in_how_many_ms() -> None:
    (line,) = describe(STORED, [SUCCEEDED])
    assert line.split() == ["stored", "lead.created", "whatsapp.mirror", "12", "ms"]


def test_an_event_without_deliveries_says_so() -> None:
    assert "no handler asks for it" in describe(STORED, [])[0]


def test_what_a_filter_left_out_is_no_failure() -> None:
    for cause in (DeliveryCause.FILTERED, DeliveryCause.STALE, DeliveryCause.OWN_CHANGE):
        assert "whatsapp.mirror not for it" in describe(STORED, [replace(FILTERED, cause=cause)])[0]
    assert "whatsapp.mirror cancelled" in describe(STORED, [replace(FILTERED, reason="by ines", cause=None)])[0]


def test_a_failure_is_shown_with_its_reason_on_one_line_without_control_characters() -> None:
    shown = "\n".join(describe(STORED, [DEAD]))
    assert "dead: ValueError" in shown
    assert "\x1b" not in shown
    assert all(line.isprintable() for line in shown.splitlines())


@each("type", sorted(known_types()))
@each("count", [0, 1, 2, 5])
def test_no_line_is_wider_than_a_small_terminal(type: str, count: int) -> None:
    names = ["outcomes.count", "leads.mirror_members", "whatsapp.mirror", "emails.alert", "forward.warehouse"]
    deliveries = [replace(SUCCEEDED, handler=name) for name in names[:count]]
    lines = describe(PostedEvent(type, "stored", 7), deliveries)
    assert all(len(line) <= WIDTH for line in lines)
    text = " ".join(lines)
    assert [name for name in names if name in text] == names[:count]


def test_long_names_and_reasons_are_cut_to_the_screen() -> None:
    deliveries = [replace(each, handler="h" * 300, reason="r" * 300) for each in (SUCCEEDED, FILTERED, DEAD, PENDING)]
    assert all(len(line) <= WIDTH for line in describe(STORED, deliveries))


def test_nothing_is_coloured_outside_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in "".join(describe(STORED, [FILTERED]))
    monkeypatch.setattr("webhooks.cli.output.is_terminal", lambda: True)
    assert "\x1b" in "".join(describe(STORED, [FILTERED]))
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in "".join(describe(STORED, [FILTERED]))


# -- what is posted ----------------------------------------------------------------------------------------------

BODY = b'{"event":{"id":"ev_1","date_updated":"D","object_type":"lead","action":"created"}}'


def post(answer: PostAnswer) -> tuple[Posts, PostedEvent]:
    posts = Posts(lambda url, body, headers: answer)
    assert posts("http://x/", {}, BODY) == answer.status
    return posts, posts.arrivals.get()


@pytest.mark.parametrize("event_id", [7, "7"], ids=repr)
def test_the_receipt_and_the_id_of_an_answer_are_read(event_id: object) -> None:
    posts, arrival = post(PostAnswer(200, {"status": "stored", "event_id": event_id}, ""))
    assert arrival == STORED
    assert posts.taken == {("ev_1", "D")}


@pytest.mark.parametrize("body", [None, [], {}, {"event_id": None}, {"event_id": "x"}, {"event_id": "²"}])
def test_an_answer_of_another_shape_is_shown_without_an_id(body: Any) -> None:
    _, arrival = post(PostAnswer(200, body, ""))
    assert (arrival.receipt, arrival.event_id) == ("taken", None)


def test_what_was_refused_is_not_taken() -> None:
    posts, arrival = post(PostAnswer(503, {"status": "stored", "event_id": "7"}, ""))
    assert (arrival.receipt, arrival.event_id, posts.taken) == ("refused 503", None, set())


def test_no_answer_is_shown_and_passed_on() -> None:
    def refuse(url: str, body: bytes, headers: object) -> PostAnswer:
        raise ConnectionRefusedError

    posts = Posts(refuse)
    with pytest.raises(ConnectionRefusedError):
        posts("http://x/", {}, BODY)
    assert posts.arrivals.get().receipt == "no answer"


# -- following ---------------------------------------------------------------------------------------------------


class Rig:
    """A follower on a clock that moves when it sleeps. deliveries: {event id: what is found at each look}."""

    def __init__(self, deliveries: dict[int, list[Sequence[DeliverySummary]]], code: int | None = None) -> None:
        self.now = 0.0
        self.told: list[str] = []
        self.looks = deliveries
        self.posts = Posts(lambda url, body, headers: PostAnswer(200, None, ""))
        self.follower = Follower(
            self.posts, self.find, self.told.append, lambda: code, lambda: self.now, lambda seconds: self.sleep(seconds)
        )

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def find(self, event_id: int) -> Sequence[DeliverySummary]:
        looks = self.looks[event_id]
        return looks.pop(0) if len(looks) > 1 else looks[0]


def test_an_event_is_told_when_its_deliveries_ended_and_later_ones_wait_for_it() -> None:
    rig = Rig({7: [[PENDING], [PENDING], [SUCCEEDED]], 8: [[FILTERED]]})
    rig.posts.arrivals.put(STORED)
    rig.posts.arrivals.put(PostedEvent("contact.created", "stored", 8))
    assert rig.follower.follow(lambda: True) is None
    assert [line.split()[1] for line in rig.told] == ["lead.created", "contact.created"]
    assert rig.now == pytest.approx(0.04)
    assert str(rig.follower.tally) == "2 events, every one handled"


def test_what_is_not_handled_in_time_is_told_as_it_stands() -> None:
    rig = Rig({7: [[PENDING]]})
    rig.posts.arrivals.put(STORED)
    assert rig.follower.follow(lambda: True, timedelta(seconds=20)) is None
    assert "whatsapp.mirror pending" in rig.told[0]
    assert rig.now == pytest.approx(20, abs=0.1)
    assert "1 not handled" in str(rig.follower.tally)


def test_a_reason_to_end_ends_it() -> None:
    rig = Rig({7: [[PENDING]]}, code=3)
    rig.posts.arrivals.put(STORED)
    assert rig.follower.follow(lambda: False) == 3
    assert rig.follower.pause(timedelta(hours=1)) == 3


def test_the_tally_counts_what_nobody_asks_for_and_nothing_that_was_refused() -> None:
    tally = Tally()
    tally.add(PostedEvent("lead.created", "refused 503", None), [])
    assert str(tally) == "0 events, none handled"
    tally.add(STORED, [])
    tally.add(STORED, [SUCCEEDED, DEAD])
    assert str(tally) == "2 events, 1 that no handler asks for, 1 not handled: see webhooks deliveries list"


# -- the story ---------------------------------------------------------------------------------------------------


def test_a_world_is_quiet_once_all_that_happened_was_taken() -> None:
    world = World(lambda: T0, rules=Rules(delivery_delay=timedelta(0), consolidation=timedelta(0)))
    subscribe_all(world, "http://127.0.0.1:1/")
    posts = Posts(lambda url, body, headers: PostAnswer(200, None, ""))
    assert follow.is_quiet(world, posts)
    world.create("contact", {"name": "Rosa"})
    assert not follow.is_quiet(world, posts)
    world.deliver(lambda *post: 503)  # tried, and to be tried again
    assert not follow.is_quiet(world, posts)
    world.drain(posts)
    assert follow.is_quiet(world, posts)


def test_a_world_with_mail_in_the_outbox_is_not_quiet() -> None:
    world = World(lambda: T0, rules=Rules(delivery_delay=timedelta(0), consolidation=timedelta(0)))
    subscribe_all(world, "http://127.0.0.1:1/")
    posts = Posts(lambda url, body, headers: PostAnswer(200, None, ""))
    contact = world.create("contact", {"name": "Rosa"})
    mail = {
        "contact_id": contact["id"],
        "status": "outbox",
        "sender": "ines@harbourline.example",
        "to": ["r@x.example"],
    }
    world.create("activity.email", mail)
    world.deliver(posts)
    assert len(posts.taken) == len(world.log)
    assert not follow.is_quiet(world, posts)
    world.drain(posts)
    assert follow.is_quiet(world, posts)


def test_every_step_of_the_story_is_told_with_its_events() -> None:
    world = World(lambda: T0, rules=Rules(delivery_delay=follow.SOON, consolidation=follow.SOON, sending=follow.SOON))
    subscribe_all(world, "http://127.0.0.1:1/")
    rig = Rig({7: [[SUCCEEDED]]})
    rig.posts._send = lambda url, body, headers: PostAnswer(200, {"status": "stored", "event_id": 7}, "")

    def sleep(seconds: float) -> None:
        rig.now += seconds
        world.deliver(rig.posts, world.now() + timedelta(seconds=seconds))

    rig.follower.sleep = sleep
    assert follow.play(SimpleNamespace(world=world), rig.follower, pace=0) is None  # type: ignore[arg-type]
    told = "\n".join(rig.told)
    assert [step.sentence for step in STORY.steps if step.sentence not in told] == []
    assert told.count("Close sends no event for this") == 1  # the outcome
    assert told.count("whatsapp.mirror 12 ms") == rig.follower.tally.events == len(world.log)
    assert "every one handled" in rig.told[-2]
    assert "the slowest 12 ms" in rig.told[-1]
    assert all(len(line) <= WIDTH for line in rig.told)


def test_another_start_makes_other_events() -> None:
    key = "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"
    ids = []
    for _ in range(2):
        world, subscription = follow.make_world("http://127.0.0.1:1/", key)
        world.create("contact", {"name": "Rosa"})
        ids.append([subscription, *(entry.id for entry in world.log)])
    assert not set(ids[0]) & set(ids[1])
