"""Webhook subscriptions and deliveries of the local Close: who gets what, when, how often, and when it stops."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from tests.support import Clock
from webhooks.errors import ConfigurationError
from webhooks.model import Headers, InboundRequest
from webhooks.sandbox import Rules, World
from webhooks.sandbox.accounts import ADMIN, MEMBER
from webhooks.sandbox.histories import play_seed
from webhooks.sandbox.refusals import Forbidden, Invalid, Missing
from webhooks.sandbox.server import subscribe_all
from webhooks.sandbox.subscriptions import LocalSubscription
from webhooks.sources import Secret, SourceSettings
from webhooks.sources.close import CloseSource, signature
from webhooks.sources.close.views import (
    Call,
    Contact,
    Email,
    Lead,
    Meeting,
    Note,
    Opportunity,
    Outcome,
    Task,
    View,
    WhatsAppMessage,
)
from webhooks.sources.keys.keyring import Key

URL = "http://127.0.0.1:9/webhooks/close"
CREATED = {"object_type": "lead", "action": "created"}
UPDATED = {"object_type": "lead", "action": "updated"}


class Receiver:
    """Takes deliveries, keeps them, and answers what it is told to."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.got: list[dict[str, Any]] = []
        self.requests: list[tuple[str, Mapping[str, str], bytes]] = []

    def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        self.requests.append((url, headers, body))
        if self.status == 0:
            raise ConnectionRefusedError("nobody there")
        if 200 <= self.status < 300:
            self.got.append(json.loads(body))
        return self.status

    @property
    def names(self) -> list[str]:
        return [each["event"]["data"]["name"] for each in self.got]


@pytest.fixture
def world(clock: Clock) -> World:
    return World(clock, seed=1)


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def subscription(world: World) -> LocalSubscription:
    return world.subscribe(URL, [CREATED, UPDATED])


def shown(world: World, subscription: LocalSubscription) -> dict[str, Any]:
    return subscription.as_json(world.now(), with_key=False)


# -- what is sent -------------------------------------------------------------------------------------------


def test_a_created_event_is_posted_at_once_and_rightly_signed(
    world: World, receiver: Receiver, subscription: LocalSubscription
) -> None:
    world.create("lead", {"name": "A 🏠"})
    (attempt,) = world.deliver(receiver)
    assert attempt.is_taken
    url, headers, body = receiver.requests[0]
    assert url == URL
    keys = [Key(subscription.id, signature.decode_key(subscription.signature_key))]
    assert signature.verify(Headers(headers), body, keys, world.now()) == subscription.id
    delivery = json.loads(body)
    assert set(delivery) == {"event", "subscription_id"}
    assert delivery["subscription_id"] == subscription.id
    assert delivery["event"] == world.events()["data"][0]
    assert world.deliver(receiver) == []


def test_updated_waits_until_nothing_more_comes(
    world: World, receiver: Receiver, subscription: LocalSubscription
) -> None:
    lead = world.create("lead", {"name": "A"})
    world.deliver(receiver)
    world.advance(timedelta(minutes=1))
    for name in ("B", "C", "D"):
        world.update("lead", lead["id"], {"name": name})
        world.advance(timedelta(seconds=4))
        assert world.deliver(receiver) == []
    world.advance(timedelta(seconds=2))
    world.deliver(receiver)
    assert receiver.names == ["A", "D"]
    assert receiver.got[1]["event"]["previous_data"]["name"] == "A"
    assert world.next_due() is None


def test_an_entry_that_grows_after_it_was_sent_is_sent_again(
    world: World, receiver: Receiver, subscription: LocalSubscription
) -> None:
    world.set_rules(delivery_delay=1)
    lead = world.create("lead", {"name": "A"})
    for name in ("B", "C"):
        world.update("lead", lead["id"], {"name": name})
        world.advance(timedelta(seconds=2))
        world.deliver(receiver)
    assert receiver.names == ["A", "B", "C"]
    first, second = (each["event"] for each in receiver.got[1:])
    assert first["id"] == second["id"]
    assert first["date_updated"] < second["date_updated"]


def test_only_what_is_subscribed_to_is_sent(world: World, receiver: Receiver) -> None:
    won = {
        "type": "field_accessor",
        "field": "data",
        "filter": {"type": "field_accessor", "field": "status_type", "filter": {"type": "equals", "value": "won"}},
    }
    world.subscribe(URL, [{"object_type": "opportunity", "action": "updated", "extra_filter": won}])
    deal = world.create("opportunity", {"value": 1})
    world.update("opportunity", deal["id"], {"value": 2})
    world.drain(receiver)
    assert receiver.got == []
    world.update("opportunity", deal["id"], {"status": "Won"})
    world.drain(receiver)
    assert [each["event"]["data"]["status_type"] for each in receiver.got] == ["won"]


def test_an_entry_that_outgrew_its_filter_is_not_sent(world: World, receiver: Receiver) -> None:
    named_b = {
        "type": "field_accessor",
        "field": "data",
        "filter": {"type": "field_accessor", "field": "name", "filter": {"type": "equals", "value": "B"}},
    }
    world.subscribe(URL, [{**UPDATED, "extra_filter": named_b}])
    lead = world.create("lead", {"name": "A"})
    world.update("lead", lead["id"], {"name": "B"})
    world.update("lead", lead["id"], {"name": "C"})
    world.drain(receiver)
    assert receiver.requests == []


def test_two_subscriptions_get_the_same_event_under_two_ids_and_keys(
    world: World, receiver: Receiver, subscription: LocalSubscription
) -> None:
    other = world.subscribe(URL, [CREATED])
    world.create("lead", {"name": "A"})
    world.deliver(receiver)
    assert [each["subscription_id"] for each in receiver.got] == [subscription.id, other.id]
    assert receiver.got[0]["event"] == receiver.got[1]["event"]
    assert other.signature_key != subscription.signature_key


def test_outcomes_are_sent_only_when_unlisted_events_are(clock: Clock, receiver: Receiver) -> None:
    with pytest.raises(Invalid):
        World(clock).subscribe(URL, [{"object_type": "outcome", "action": "created"}])
    world = World(clock, rules=Rules(unlisted=True))
    subscribe_all(world, URL)
    world.create("outcome", {"name": "x"})
    world.deliver(receiver)
    assert [each["event"]["object_type"] for each in receiver.got] == ["outcome"]


# -- failures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 301, 400, 401, 404, 410, 429, 500, 503])
def test_whatever_is_not_2xx_is_tried_again(
    world: World, receiver: Receiver, subscription: LocalSubscription, status: int
) -> None:
    receiver.status = status
    world.create("lead", {"name": "A"})
    world.deliver(receiver)
    assert receiver.got == []
    assert world.waiting() == 1
    now = shown(world, subscription)
    assert (now["health_status"], now["recent_consecutive_fail_buckets_cnt"]) == ("failing", 1)
    assert now["latest_error"] == (f"HTTP {status}" if status else "ConnectionRefusedError: nobody there")
    receiver.status = 204
    world.drain(receiver)
    assert receiver.names == ["A"]
    now = shown(world, subscription)
    assert (now["health_status"], now["recent_consecutive_fail_buckets_cnt"]) == ("healthy", 0)
    assert (now["latest_error"], now["counters"]["delivered"], now["counters"]["failed"]) == (None, 1, 1)


def test_retries_back_off_and_are_never_more_than_twenty_minutes_apart(
    world: World, receiver: Receiver, subscription: LocalSubscription
) -> None:
    receiver.status = 503
    world.create("lead", {"name": "A"})
    attempts = world.drain(receiver, within=timedelta(hours=3))
    waits = [later.at - earlier.at for earlier, later in itertools.pairwise(attempts)]
    assert [wait.total_seconds() for wait in waits[:10]] == [5, 10, 20, 40, 80, 160, 320, 640, 1200, 1200]
    assert max(waits) == timedelta(minutes=20)


def test_a_delivery_is_given_up_after_72_hours(
    world: World, receiver: Receiver, subscription: LocalSubscription
) -> None:
    world.set_rules(failing_for=10**8)
    receiver.status = 503
    world.create("lead", {"name": "A"})
    attempts = world.drain(receiver, within=timedelta(days=10))
    assert timedelta(hours=71) < attempts[-1].at - attempts[0].at <= timedelta(hours=72)
    assert (world.waiting(), shown(world, subscription)["counters"]["dropped"]) == (0, 1)
    assert subscription.is_active


def test_a_receiver_that_is_down_is_not_asked_without_end(
    world: World, receiver: Receiver, subscription: LocalSubscription
) -> None:
    world.set_rules(retry_base=0, retry_cap=0)
    receiver.status = 503
    world.create("lead", {"name": "A"})
    assert len(world.drain(receiver, within=timedelta(minutes=1))) < 100


@pytest.mark.parametrize("resign", [True, False])
def test_a_retry_is_signed_anew_or_as_at_first(
    world: World, receiver: Receiver, subscription: LocalSubscription, resign: bool
) -> None:
    world.set_rules(resign_retries=resign)
    receiver.status = 503
    world.create("lead", {"name": "A"})
    world.drain(receiver, within=timedelta(seconds=20))
    stamps = [headers[signature.TIMESTAMP_HEADER] for _, headers, _ in receiver.requests]
    assert len(stamps) == 3
    assert len(set(stamps)) == (3 if resign else 1)


def test_three_bad_days_pause_a_subscription_and_empty_its_queue(
    world: World, receiver: Receiver, subscription: LocalSubscription
) -> None:
    receiver.status = 503
    for name in ("A", "B"):
        world.create("lead", {"name": name})
        world.drain(receiver, within=timedelta(days=1))
    world.create("lead", {"name": "C"})
    world.drain(receiver, within=timedelta(days=2))
    now = shown(world, subscription)
    assert (now["status"], now["pause_reason"], now["counters"]["waiting"]) == ("paused", "failing", 0)
    assert now["recent_consecutive_fail_buckets_cnt"] >= 71
    receiver.status = 200
    world.create("lead", {"name": "D"})
    assert world.drain(receiver) == []
    world.subscriptions.update(subscription.id, {"status": "active"}, ADMIN, "", world.rules)
    world.create("lead", {"name": "E"})
    world.drain(receiver)
    assert receiver.names == ["E"]
    assert len(world.events()["data"]) == 5


def test_one_success_in_three_days_keeps_a_subscription_going(
    world: World, receiver: Receiver, subscription: LocalSubscription
) -> None:
    for _ in range(4):
        receiver.status = 503
        world.create("lead", {"name": "A"})
        world.drain(receiver, within=timedelta(days=1))
        receiver.status = 200
        world.drain(receiver)
    assert subscription.is_active


def test_too_much_waiting_pauses_a_subscription_and_empties_its_queue(
    world: World, receiver: Receiver, subscription: LocalSubscription
) -> None:
    world.set_rules(backlog=10)
    for number in range(9):
        world.create("lead", {"name": str(number)})
    assert (world.waiting(), subscription.is_active) == (9, True)
    world.create("lead", {"name": "the tenth"})
    now = shown(world, subscription)
    assert (now["status"], now["pause_reason"], now["counters"]["waiting"]) == ("paused", "backlog", 0)
    assert world.deliver(receiver) == []


def test_pausing_by_hand_empties_the_queue_and_resuming_does_not_fill_it(
    world: World, receiver: Receiver, subscription: LocalSubscription
) -> None:
    world.create("lead", {"name": "lost"})
    world.subscriptions.update(subscription.id, {"status": "paused"}, ADMIN, "", world.rules)
    assert (shown(world, subscription)["pause_reason"], world.waiting()) == ("api", 0)
    world.create("lead", {"name": "lost too"})
    world.subscriptions.update(subscription.id, {"status": "active"}, ADMIN, "", world.rules)
    assert shown(world, subscription)["pause_reason"] is None
    world.create("lead", {"name": "sent"})
    world.drain(receiver)
    assert receiver.names == ["sent"]


def test_a_subscription_removed_during_a_post_is_not_revived(world: World, subscription: LocalSubscription) -> None:
    def removes_it(url: str, headers: Mapping[str, str], body: bytes) -> int:
        world.subscriptions.delete(subscription.id, ADMIN)
        return 503

    world.create("lead", {"name": "A"})
    world.deliver(removes_it)
    assert world.waiting() == 0


@pytest.mark.parametrize("is_resumed", [False, True])
@pytest.mark.parametrize("status", [200, 503])
def test_a_pause_during_a_post_leaves_nothing_behind(
    world: World, subscription: LocalSubscription, status: int, is_resumed: bool
) -> None:
    world.set_rules(duplicates=1.0)

    def pauses_it(url: str, headers: Mapping[str, str], body: bytes) -> int:
        world.subscriptions.update(subscription.id, {"status": "paused"}, ADMIN, "", world.rules)
        if is_resumed:
            world.subscriptions.update(subscription.id, {"status": "active"}, ADMIN, "", world.rules)
        return status

    world.create("lead", {"name": "A"})
    world.deliver(pauses_it)
    assert world.waiting() == 0
    assert shown(world, subscription)["health_status"] == "healthy"


# -- disorder and duplicates --------------------------------------------------------------------------------


def test_without_disorder_deliveries_come_in_order(
    world: World, receiver: Receiver, subscription: LocalSubscription
) -> None:
    for number in range(30):
        world.create("lead", {"name": str(number)})
    world.drain(receiver)
    assert receiver.names == [str(number) for number in range(30)]


def test_disorder_changes_the_order_and_loses_nothing(
    world: World, receiver: Receiver, subscription: LocalSubscription
) -> None:
    world.set_rules(disorder=60)
    for number in range(30):
        world.create("lead", {"name": str(number)})
    world.drain(receiver)
    assert receiver.names != [str(number) for number in range(30)]
    assert sorted(receiver.names, key=int) == [str(number) for number in range(30)]


def test_duplicates_come_a_second_time_with_the_same_bytes(
    world: World, receiver: Receiver, subscription: LocalSubscription
) -> None:
    world.set_rules(duplicates=1.0)
    for number in range(5):
        world.create("lead", {"name": str(number)})
    world.drain(receiver)
    assert Counter(receiver.names) == {str(number): 2 for number in range(5)}
    assert set(Counter(body for _, _, body in receiver.requests).values()) == {2}


def test_a_share_of_duplicates_is_about_that_share(
    world: World, receiver: Receiver, subscription: LocalSubscription
) -> None:
    world.set_rules(duplicates=0.3)
    for number in range(200):
        world.create("lead", {"name": str(number)})
    world.drain(receiver)
    assert 230 <= len(receiver.got) <= 290


def test_the_same_seed_gives_the_same_deliveries_to_the_byte() -> None:
    receivers = []
    for _ in range(2):
        world, receiver = (
            World(Clock(), seed=3, rules=Rules(disorder=timedelta(seconds=30), duplicates=0.2)),
            Receiver(),
        )
        subscribe_all(world, URL)
        play_seed(world, 4, 80)
        world.drain(receiver)
        receivers.append(receiver)
    assert len(receivers[0].requests) > 80
    assert receivers[0].requests == receivers[1].requests


@pytest.mark.parametrize("seed", range(5))
def test_deliveries_bring_the_state_of_the_world_whatever_their_order(seed: int) -> None:
    """What a consumer keeps who goes by date_updated, not by arrival."""
    rules = Rules(unlisted=True, disorder=timedelta(minutes=10), duplicates=0.2)
    world, receiver = World(Clock(), seed=seed, rules=rules), Receiver()
    subscribe_all(world, URL)
    play_seed(world, seed, 150)
    world.drain(receiver)
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for each in receiver.got:
        event = each["event"]
        what = (event["object_type"], event["object_id"])
        if what not in newest or newest[what]["date_updated"] < event["date_updated"]:
            newest[what] = event
    mirrored: dict[str, dict[str, Any]] = {kind: {} for kind in world.state()}
    for (kind, id), event in newest.items():
        if event["data"] is not None:
            mirrored[kind][id] = event["data"]
    assert mirrored == world.state()


VIEWS: dict[str, type[View]] = {
    "lead": Lead,
    "contact": Contact,
    "opportunity": Opportunity,
    "outcome": Outcome,
    "task.lead": Task,
    "activity.call": Call,
    "activity.meeting": Meeting,
    "activity.note": Note,
    "activity.email": Email,
    "activity.whatsapp_message": WhatsAppMessage,
}


def test_our_source_and_our_views_read_every_delivery(clock: Clock) -> None:
    """The two ends were written from the same facts, and meet here."""
    world, receiver = World(clock, seed=2, rules=Rules(unlisted=True)), Receiver()
    subscription = subscribe_all(world, URL)
    settings = SourceSettings("close", "close", [Secret(subscription.signature_key, subscription.id)])
    source = CloseSource(settings)
    play_seed(world, 2, 400)
    world.drain(receiver)
    viewed = set()
    for _, headers, body in receiver.requests:
        request = InboundRequest(Headers(headers), body)
        assert source.verify(request, world.now()).label == subscription.id
        (parsed,) = source.parse(request)
        assert parsed.subscription == subscription.id
        content = source.read(parsed.body, parsed.type)
        if content.object_type in VIEWS:
            viewed.add(content.object_type)
            view = VIEWS[content.object_type].from_data(content.data or content.previous)
            assert view.id == content.object_id
            assert None not in (view.organization_id, view.date_created, view.date_updated)
            assert getattr(view, "lead_id", "") is not None
    assert viewed == set(VIEWS)


# -- managing subscriptions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"events": [CREATED]}, "url"),
        ({"url": URL}, "events"),
        ({"url": "ftp://example.com/", "events": [CREATED]}, "url"),
        ({"url": "http://[::1", "events": [CREATED]}, "url"),
        ({"url": "http://x:99999/", "events": [CREATED]}, "url"),
        ({"url": 3, "events": [CREATED]}, "url"),
        ({"url": URL, "events": []}, "events"),
        ({"url": URL, "events": "lead.created"}, "events"),
        ({"url": URL, "events": ["lead.created"]}, "events"),
        ({"url": URL, "events": [{"object_type": "lead", "action": "*"}]}, "events"),
        ({"url": URL, "events": [{"object_type": "led", "action": "created"}]}, "events"),
        ({"url": URL, "events": [{"object_type": "lead"}]}, "events"),
        ({"url": URL, "events": [{**CREATED, "extra_filter": {"type": "x"}}]}, "extra_filter"),
        ({"url": URL, "events": [CREATED], "verify_ssl": "yes"}, "verify_ssl"),
    ],
)
def test_what_is_no_subscription_is_refused(world: World, body: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        world.subscriptions.create(body, ADMIN, "", world.rules)
    assert set(caught.value.fields) == {field}
    assert list(world.subscriptions) == []


def test_there_are_forty_subscriptions_at_most(world: World) -> None:
    for _ in range(40):
        world.subscribe(URL, [CREATED])
    with pytest.raises(Invalid, match="40"):
        world.subscribe(URL, [CREATED])


def test_administrators_manage_all_others_their_own(world: World) -> None:
    of_admin, of_member = world.subscribe(URL, [CREATED], by=ADMIN), world.subscribe(URL, [CREATED], by=MEMBER)
    assert world.subscriptions.visible_to(ADMIN) == [of_admin, of_member]
    assert world.subscriptions.visible_to(MEMBER) == [of_member]
    assert world.subscriptions.get(of_member.id, ADMIN) is of_member
    for forbidden in (
        lambda: world.subscriptions.get(of_admin.id, MEMBER),
        lambda: world.subscriptions.delete(of_admin.id, MEMBER),
        lambda: world.subscriptions.update(of_admin.id, {"status": "paused"}, MEMBER, "", world.rules),
    ):
        with pytest.raises(Forbidden):
            forbidden()
    assert of_admin.is_active
    with pytest.raises(Missing):
        world.subscriptions.get("whsub_none", ADMIN)


def test_a_subscription_can_be_given_a_key(world: World) -> None:
    key = "6b8f0c1e7a2d4f5b9c3e8d7a6f5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f8a7b"
    assert subscribe_all(world, URL, ["lead.created"], key).signature_key == key
    for wrong in ("", "key", key[:-1], key + "00"):
        with pytest.raises(ConfigurationError, match="signature_key") as caught:
            subscribe_all(world, URL, ["lead.created"], wrong)
        assert key[:8] not in str(caught.value)
    assert len(list(world.subscriptions)) == 1


def test_a_key_is_not_shown_by_accident(subscription: LocalSubscription) -> None:
    assert subscription.signature_key not in repr(subscription)


def test_a_wrong_update_changes_nothing(world: World, subscription: LocalSubscription) -> None:
    before = shown(world, subscription)
    for body in ({"url": "http://other.example/", "status": "asleep"}, {"status": "paused", "events": []}):
        with pytest.raises(Invalid):
            world.subscriptions.update(subscription.id, body, ADMIN, "later", world.rules)
    assert shown(world, subscription) == before


# -- rules --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("disorderly", 1),
        ("disorder", -1),
        ("disorder", "1"),
        ("disorder", float("nan")),
        ("disorder", True),
        ("duplicates", 2),
        ("duplicates", -0.1),
        ("backlog", 1.5),
        ("backlog", -1),
        ("unlisted", 1),
    ],
)
def test_rules_that_make_no_sense_are_refused(world: World, name: str, value: Any) -> None:
    before = world.rules
    with pytest.raises(Invalid) as caught:
        world.set_rules(**{name: value})
    assert set(caught.value.fields) == {name}
    assert world.rules == before
