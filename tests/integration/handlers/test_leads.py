"""The plugin `leads`: who made a lead, which lack a name, and where merges and deletions lead."""

from __future__ import annotations

import itertools
import logging
from typing import Any

import pytest

from handlers import leads
from tests.integration.handlers.histories import Bench, handlers_of, made, sample
from webhooks.model import Event

pytestmark = pytest.mark.one_database

PLUGINS = ("leads",)


def run(bench: Bench, *events: Event) -> None:
    for event in events:
        bench.dispatch(handlers_of(leads), event)


def lead(action: str, id: str, at: int, name: str | None = "Quayside", **envelope: Any) -> Event:
    return made("lead", action, id, at, {"name": name}, **envelope)


def contact(action: str, id: str, at: int, lead_id: str, **envelope: Any) -> Event:
    return made("contact", action, id, at, {"lead_id": lead_id}, **envelope)


def merging(source: str, destination: str) -> dict[str, Any]:
    return {"meta": {"merge_source_lead_id": source, "merge_destination_lead_id": destination}}


def on_lead(bench: Bench, lead_id: str) -> list[str]:
    return [row["id"] for row in bench.ask(leads.members_of, lead_id)]


# -- who made a lead -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("contact", ("contact_created_without_lead", "lead_created_for_contact")),
        ("opportunity", ("opportunity_created_without_lead", "lead_created_untitled")),
    ],
)
def test_a_lead_is_linked_to_what_made_it_whichever_comes_first(
    bench: Bench, kind: str, names: tuple[str, str], order: tuple[int, int]
) -> None:
    events = [sample(name) for name in names]

    run(bench, *(events[place] for place in order))

    maker = bench.ask(leads.made_by, events[1].object_id)
    assert (maker["kind"], maker["id"]) == (kind, events[0].object_id)


def test_a_created_that_comes_after_an_update_still_tells_who_made_the_lead(bench: Bench) -> None:
    maker, made_lead = sample("contact_created_without_lead"), sample("lead_created_for_contact")
    moment: dict[str, Any] = {"date_updated": "2026-03-14T12:00:00.000000"}
    later = made("lead", "updated", str(made_lead.object_id), 0, {"name": "Renamed"}, **moment)

    run(bench, later, maker, made_lead)

    assert bench.ask(leads.made_by, made_lead.object_id)["id"] == maker.object_id
    assert bench.ask(leads.mirrors)["lead"][made_lead.object_id]["name"] == "Renamed"


def test_contacts_that_are_posted_inside_a_lead_did_not_make_it(bench: Bench) -> None:
    request: dict[str, Any] = {"request_id": "req_1", "meta": {"request_path": "/api/v1/lead/"}}

    run(bench, lead("created", "lead_1", 0, **request), contact("created", "cont_1", 1, "lead_1", **request))

    assert bench.ask(leads.made_by, "lead_1") is None


def test_without_a_path_the_request_alone_links_them(bench: Bench) -> None:
    run(
        bench,
        lead("created", "lead_1", 0, request_id="req_1"),
        contact("created", "cont_1", 1, "lead_1", request_id="req_1"),
        contact("created", "cont_2", 1, "lead_2", request_id="req_1"),
    )

    assert [row["member_id"] for row in bench.ask(leads.origins)] == ["cont_1"]


@pytest.mark.parametrize("request_id", [None, "", 5])
def test_changes_that_no_request_made_are_not_linked(bench: Bench, request_id: Any) -> None:
    run(
        bench,
        lead("created", "lead_1", 0, request_id=request_id),
        contact("created", "cont_1", 1, "lead_1", request_id=request_id),
    )

    assert bench.ask(leads.origins) == []


# -- leads without a name ------------------------------------------------------------------------------------


def test_a_lead_without_a_name_is_followed_up_with_the_one_who_made_it(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    maker, made_lead = sample("opportunity_created_without_lead"), sample("lead_created_untitled")

    with caplog.at_level(logging.WARNING, "handlers"):
        run(bench, made_lead, made_lead, maker)

    (row,) = bench.ask(leads.untitled)
    assert (row["lead_id"], row["opened_at"]) == (made_lead.object_id, made_lead.occurred_at)
    assert (row["kind"], row["member_id"], row["user_id"]) == ("opportunity", maker.object_id, maker.data["user_id"])
    assert len(caplog.records) == 1


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize(
    ("last", "open_"),
    [
        (lead("updated", "lead_1", 2, "Quayside"), []),
        (lead("updated", "lead_1", 2, None), ["lead_1"]),
        (lead("deleted", "lead_1", 2, None), []),
        (lead("deleted", "lead_1", 2, None, **merging("lead_1", "lead_2")), []),
    ],
    ids=["named", "named and unnamed again", "deleted", "merged away"],
)
def test_it_is_followed_up_until_it_is_named_or_gone_in_every_order(
    bench: Bench, last: Event, open_: list[str], order: tuple[int, ...]
) -> None:
    events = [lead("created", "lead_1", 0, None), lead("updated", "lead_1", 1, "Meanwhile"), last]

    run(bench, *(events[place] for place in order))

    assert [row["lead_id"] for row in bench.ask(leads.untitled)] == open_


# -- merges and deletions ------------------------------------------------------------------------------------

MERGE = ("lead_merged", "lead_deleted_by_merge", "contact_updated_by_merge")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_merge_ends_the_same_in_every_order(bench: Bench, order: tuple[int, ...]) -> None:
    events = [sample(name) for name in MERGE]
    source, destination = events[1].object_id, events[0].object_id
    assert source is not None

    run(bench, contact("created", "cont_left", 0, source), *(events[place] for place in order))

    assert bench.ask(leads.current_lead, source) == destination
    assert on_lead(bench, str(destination)) == sorted([str(events[2].object_id), "cont_left"])
    assert on_lead(bench, source) == []


def test_a_chain_of_merges_is_followed_to_its_end(bench: Bench) -> None:
    run(
        bench,
        contact("created", "cont_1", 0, "lead_1"),
        lead("merged", "lead_3", 2, **merging("lead_2", "lead_3")),
        lead("merged", "lead_2", 1, **merging("lead_1", "lead_2")),
    )

    assert bench.ask(leads.current_lead, "lead_1") == "lead_3"
    assert on_lead(bench, "lead_3") == ["cont_1"]


def test_a_plain_deletion_does_not_hide_the_merge_that_comes_after_it(bench: Bench) -> None:
    """Close may leave the ids of a merge out of the deletion."""
    run(bench, lead("deleted", "lead_1", 1), lead("merged", "lead_2", 1, **merging("lead_1", "lead_2")))

    assert bench.ask(leads.current_lead, "lead_1") == "lead_2"


def test_what_is_on_a_deleted_lead_is_not_shown_before_its_own_deletion_comes(bench: Bench) -> None:
    run(bench, lead("created", "lead_1", 0), contact("created", "cont_1", 0, "lead_1"), lead("deleted", "lead_1", 1))

    assert on_lead(bench, "lead_1") == []
    assert bench.ask(leads.current_lead, "lead_1") is None


def test_a_contact_that_moved_away_survives_the_deletion_of_its_former_lead(bench: Bench) -> None:
    run(
        bench,
        lead("created", "lead_2", 0),
        contact("created", "cont_1", 0, "lead_1"),
        lead("deleted", "lead_1", 2),
        contact("updated", "cont_1", 1, "lead_2"),  # late
    )

    assert on_lead(bench, "lead_2") == ["cont_1"]


def test_the_samples_of_a_cascade_leave_nothing(bench: Bench) -> None:
    deleted, child = sample("lead_deleted"), sample("contact_deleted_cascade")

    run(bench, child, deleted)

    mirrored = bench.ask(leads.mirrors)
    assert mirrored == {"lead": {}, "contact": {}, "opportunity": {}}


def test_leads_that_were_merged_into_each_other_end_the_search(bench: Bench) -> None:
    run(
        bench,
        lead("deleted", "lead_1", 1, **merging("lead_1", "lead_2")),
        lead("deleted", "lead_2", 1, **merging("lead_2", "lead_1")),
    )

    assert bench.ask(leads.current_lead, "lead_1") is None
    assert on_lead(bench, "lead_1") == []


def test_a_lead_that_we_never_heard_of_is_taken_to_be_there(bench: Bench) -> None:
    assert bench.ask(leads.current_lead, "lead_1") == "lead_1"
