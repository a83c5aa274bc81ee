"""The local Close's event log: consolidation, pages, cursors, filters, and what those who are no administrators see."""

from __future__ import annotations

import base64
import itertools
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import Clock, each
from webhooks.formats.json import dump
from webhooks.sandbox import Rules, World
from webhooks.sandbox.accounts import ADMIN, MEMBER
from webhooks.sandbox.eventlog import COMBINATIONS
from webhooks.sandbox.histories import play_seed
from webhooks.sandbox.refusals import Invalid, Missing
from webhooks.sources.close import parse_log_entry

Object = dict[str, Any]


@pytest.fixture
def world(clock: Clock) -> World:
    return World(clock, seed=1)


def walk(world: World, params: dict[str, str], way: str = "cursor_next") -> list[Object]:
    """Every entry from the first page on."""
    found: list[Object] = []
    page = world.events(params)
    while True:
        found += page["data"]
        if page[way] is None:
            return found
        page = world.events({**params, "_cursor": page[way]})


def leads(world: World, number: int) -> list[str]:
    return [world.create("lead", {"name": f"Lead {n}"})["id"] for n in range(number)]


# -- consolidation ------------------------------------------------------------------------------------------


def test_changes_within_seconds_become_one_entry(world: World) -> None:
    lead = world.create("lead", {"name": "A"})
    world.advance(timedelta(minutes=1))
    world.update("lead", lead["id"], {"name": "B"})
    first = world.events()["data"][0]
    world.advance(timedelta(seconds=4))
    world.update("lead", lead["id"], {"name": "C", "description": "new"})
    second = world.events()["data"][0]
    assert len(world.log) == 2
    assert (second["id"], second["date_created"]) == (first["id"], first["date_created"])
    assert second["date_updated"] > first["date_updated"]
    assert second["data"]["name"] == "C"
    assert second["previous_data"]["name"] == "A"
    assert second["previous_data"]["description"] == ""
    assert second["previous_data"]["date_updated"] == lead["date_updated"]
    assert second["changed_fields"] == ["date_updated", "description", "display_name", "name"]


def test_the_window_begins_anew_with_every_change(world: World) -> None:
    lead = world.create("lead", {"name": "0"})
    for number in range(5):
        world.update("lead", lead["id"], {"name": f"{number + 1}"})
        world.advance(timedelta(seconds=4))
    assert [entry.type for entry in world.log] == ["lead.created", "lead.updated"]


@pytest.mark.parametrize("seconds", [5, 60])
def test_later_changes_are_entries_of_their_own(world: World, seconds: int) -> None:
    lead = world.create("lead", {"name": "A"})
    world.update("lead", lead["id"], {"name": "B"})
    world.advance(timedelta(seconds=seconds))
    world.update("lead", lead["id"], {"name": "C"})
    assert [entry.type for entry in world.log] == ["lead.created", "lead.updated", "lead.updated"]


def test_changes_of_two_people_stay_apart(world: World) -> None:
    lead = world.create("lead", {"name": "A"})
    world.update("lead", lead["id"], {"name": "B"}, by=ADMIN)
    world.update("lead", lead["id"], {"name": "C"}, by=MEMBER)
    assert len(world.log) == 3


def test_a_merge_does_not_vanish_in_an_edit_made_before_it(world: World) -> None:
    contact, other = world.create("contact", {"name": "A"}), world.create("lead", {"name": "B"})
    world.update("contact", contact["id"], {"title": "Owner"})
    world.merge_leads(contact["lead_id"], other["id"])
    events = [entry.as_json() for entry in world.log if entry.object_id == contact["id"]]
    assert ["merge_source_lead_id" in event["meta"] for event in events] == [False, False, True]


@pytest.mark.parametrize("absorbs", [False, True])
def test_created_takes_changes_in_only_when_told(clock: Clock, absorbs: bool) -> None:
    world = World(clock, rules=Rules(created_absorbs=absorbs))
    lead = world.create("lead", {"name": "A"})
    world.update("lead", lead["id"], {"name": "B"})
    entries = [entry.as_json() for entry in world.log]
    assert len(entries) == (1 if absorbs else 2)
    if absorbs:
        assert (entries[0]["action"], entries[0]["data"]["name"]) == ("created", "B")
        assert (entries[0]["changed_fields"], entries[0]["previous_data"]) == ([], {})
        assert entries[0]["date_updated"] > entries[0]["date_created"]


def test_what_the_log_shows_does_not_change_afterwards(world: World) -> None:
    lead = world.create("lead", {"name": "A"})
    shown = world.events()["data"][0]
    shown["data"]["name"] = "spoiled"
    world.update("lead", lead["id"], {"name": "B"})
    assert world.events()["data"][1]["data"]["name"] == "A"


# -- pages and cursors --------------------------------------------------------------------------------------


def test_pages_are_newest_first_and_hold_fifty(world: World) -> None:
    ids = leads(world, 120)
    page = world.events()
    assert [each["object_id"] for each in page["data"]] == ids[:-51:-1]
    assert page["cursor_previous"] is None
    assert [each["object_id"] for each in walk(world, {})] == ids[::-1]
    assert [each["object_id"] for each in walk(world, {"_limit": "7"})] == ids[::-1]


def test_a_walk_neither_repeats_nor_misses_when_entries_are_added(world: World) -> None:
    ids = leads(world, 60)
    page = world.events({"_limit": "10"})
    found = list(page["data"])
    while page["cursor_next"]:
        leads(world, 3)
        page = world.events({"_limit": "10", "_cursor": page["cursor_next"]})
        found += page["data"]
    assert [each["object_id"] for each in found] == ids[::-1]


def test_an_entry_that_grows_during_a_walk_moves_to_the_front(world: World) -> None:
    old, *_ = leads(world, 20)
    world.update("lead", old, {"name": "B"})
    leads(world, 5)
    page = world.events({"_limit": "5"})
    world.update("lead", old, {"name": "C"})
    rest = walk(world, {"_limit": "5", "_cursor": page["cursor_next"]})
    assert "updated" not in [each["action"] for each in rest]
    assert world.events()["data"][0]["data"]["name"] == "C"


def test_a_walk_back_to_newer_entries_sees_the_same(world: World) -> None:
    leads(world, 23)
    oldest = walk(world, {"_limit": "5"})[-3:]
    pages = [world.events({"_limit": "5"})]
    while pages[-1]["cursor_next"]:
        pages.append(world.events({"_limit": "5", "_cursor": pages[-1]["cursor_next"]}))
    assert pages[-1]["data"] == oldest
    back = [pages[-1]]
    while back[-1]["cursor_previous"]:
        back.append(world.events({"_limit": "5", "_cursor": back[-1]["cursor_previous"]}))
    forth = list(itertools.chain.from_iterable(page["data"] for page in pages))
    assert list(itertools.chain.from_iterable(page["data"] for page in reversed(back))) == forth


def test_a_cursor_carries_the_dates(world: World) -> None:
    ids = leads(world, 10)
    limit = [each["date_updated"] for each in walk(world, {})][4]
    page = world.events({"date_updated__lte": limit, "_limit": "2"})
    rest = walk(world, {"_limit": "2", "_cursor": page["cursor_next"]})
    assert [each["object_id"] for each in [*page["data"], *rest]] == ids[5::-1]


def test_a_stale_cursor_is_refused(world: World) -> None:
    leads(world, 60)
    cursor = world.events()["cursor_next"]
    world.advance(Rules().cursor_lifetime + timedelta(seconds=1))
    with pytest.raises(Invalid, match="stale"):
        world.events({"_cursor": cursor})


def test_a_cursor_of_other_filters_is_refused(world: World) -> None:
    leads(world, 60)
    cursor = world.events()["cursor_next"]
    with pytest.raises(Invalid, match="other filters"):
        world.events({"_cursor": cursor, "request_id": "req_1"})


@given(cursor=st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_no_made_up_cursor_does_anything_but_be_refused(cursor: str) -> None:
    world = World(Clock())
    world.create("lead", {})
    with pytest.raises(Invalid):
        world.events({"_cursor": cursor})


@given(
    parts=st.lists(
        st.none() | st.text() | st.integers() | st.sampled_from(["older", "2026-03-10T14:05:12"]) | st.lists(st.text()),
        min_size=4,
        max_size=6,
    )
)
def test_no_cursor_of_odd_parts_does_anything_but_be_refused(parts: list[Any]) -> None:
    world = World(Clock())
    with pytest.raises(Invalid):
        world.events({"_cursor": base64.urlsafe_b64encode(dump(parts)).decode()})


@pytest.mark.parametrize("limit", ["0", "51", "-1", "x", "", "1.5", "٣", "9" * 5000])
def test_a_limit_is_one_to_fifty(world: World, limit: str) -> None:
    with pytest.raises(Invalid):
        world.events({"_limit": limit})


def test_entries_can_show_up_late_and_out_of_order(world: World) -> None:
    world.set_rules(log_delay=60)
    ids = leads(world, 40)
    seen = {each["object_id"] for each in walk(world, {})}
    world.advance(timedelta(seconds=30))
    half = [each["object_id"] for each in walk(world, {})]
    world.advance(timedelta(seconds=31))
    assert len(seen) < len(half) < 40
    assert half != ids[: len(half)][::-1]
    assert [each["object_id"] for each in walk(world, {})] == ids[::-1]


# -- filters ------------------------------------------------------------------------------------------------

ALLOWED = [
    [],
    ["object_type", "object_id"],
    ["object_type", "action"],
    ["object_id", "action"],
    ["lead_id"],
    ["lead_id", "object_type"],
    ["lead_id", "object_type", "action"],
    ["lead_id", "user_id"],
    ["lead_id", "object_type", "user_id"],
    ["lead_id", "object_type", "action", "user_id"],
    ["user_id"],
    ["user_id", "object_id"],
    ["user_id", "object_type"],
    ["user_id", "object_type", "action"],
    ["request_id"],
]
NAMES = ["object_type", "object_id", "action", "lead_id", "user_id", "request_id"]


@each("names", [list(each) for size in range(7) for each in itertools.combinations(NAMES, size)])
def test_only_some_filters_may_be_combined(world: World, names: list[str]) -> None:
    """Written out once more, so that the table in the code is not its own witness."""
    is_allowed = set(names) in [set(each) for each in ALLOWED]
    assert is_allowed == (frozenset(names) in COMBINATIONS)
    params = dict.fromkeys(names, "x") | {"date_updated__gte": "2026-03-01"}
    if is_allowed:
        assert world.events(params)["data"] == []
    else:
        with pytest.raises(Invalid, match="together" if len(names) > 1 else "alone"):
            world.events(params)


@pytest.mark.parametrize("name", ["date_created__gte", "_skip", "date_updated", "type", "x"])
def test_the_log_has_no_other_filters(world: World, name: str) -> None:
    with pytest.raises(Invalid) as caught:
        world.events({name: "x"})
    assert set(caught.value.fields) == {name}


@settings(max_examples=20)
@given(seed=st.integers(0, 999), names=st.sampled_from(ALLOWED), data=st.data())
def test_filters_find_what_fits_and_nothing_else(seed: int, names: list[str], data: st.DataObject) -> None:
    world = World(Clock(), seed=seed)
    play_seed(world, seed, 60)
    everything = walk(world, {})
    model = data.draw(st.sampled_from(everything))
    params = {name: model[name] for name in names if model[name] is not None}
    if set(params) != set(names):
        return
    wanted = [each for each in everything if all(each[name] == value for name, value in params.items())]
    assert walk(world, params) == wanted
    assert model in wanted


@pytest.mark.parametrize(("how", "fits"), [("gt", ">"), ("gte", ">="), ("lt", "<"), ("lte", "<=")])
def test_dates_bound_the_window(world: World, how: str, fits: str) -> None:
    leads(world, 5)
    everything = [each["date_updated"] for each in walk(world, {})]
    found = [each["date_updated"] for each in walk(world, {f"date_updated__{how}": everything[2]})]
    bounds = {">": everything[:2], ">=": everything[:3], "<": everything[3:], "<=": everything[2:]}
    assert found == bounds[fits]
    with_offset = f"{everything[2]}+00:00"
    assert [each["date_updated"] for each in walk(world, {f"date_updated__{how}": with_offset})] == found


@pytest.mark.parametrize("date", ["", "yesterday", "2026-13-01", "0001-01-01T00:00:00+14:00"])
def test_a_date_that_is_none_is_refused(world: World, date: str) -> None:
    with pytest.raises(Invalid):
        world.events({"date_updated__gte": date})


# -- what the log forgets and hides -------------------------------------------------------------------------


def test_the_log_keeps_thirty_days(world: World) -> None:
    (old,) = leads(world, 1)
    event = world.events()["data"][0]
    world.advance(timedelta(days=29, hours=23))
    assert len(world.events()["data"]) == 1
    world.advance(timedelta(hours=2))
    leads(world, 1)
    assert len(world.events()["data"]) == 1
    with pytest.raises(Missing):
        world.log.get(event["id"], ADMIN, world.now(), world.rules)
    world.update("lead", old, {"name": "still there"})
    assert world.events()["data"][0]["object_id"] == old


def test_after_an_hour_only_administrators_see_everything(world: World) -> None:
    leads(world, 1)
    world.advance(timedelta(minutes=59))
    assert "data" in world.events(by=MEMBER)["data"][0]
    world.advance(timedelta(minutes=2))
    leads(world, 1)
    young, old = world.events(by=MEMBER)["data"]
    assert "data" in young
    assert "data" not in old
    assert "previous_data" not in old
    assert all("data" in each for each in world.events(by=ADMIN)["data"])
    assert "data" not in world.log.get(old["id"], MEMBER, world.now(), world.rules)
    assert parse_log_entry(dump(old)).is_stripped
    assert not parse_log_entry(dump(young)).is_stripped


@settings(max_examples=10)
@given(seed=st.integers(0, 999))
def test_every_entry_is_one_that_our_parser_takes(seed: int) -> None:
    world = World(Clock(), seed=seed, rules=Rules(unlisted=True))
    play_seed(world, seed, 60)
    for entry in walk(world, {}):
        parsed = parse_log_entry(dump(entry))
        assert parsed.dedup_key == entry["id"]
        assert parsed.occurred_at is not None
        assert parsed.occurred_at.replace(tzinfo=None) == datetime.fromisoformat(entry["date_updated"])
