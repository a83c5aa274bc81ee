"""The rules of Close's objects, and the events that each change writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import PAYLOADS, START, Clock, examples
from webhooks.sandbox import Rules, World
from webhooks.sandbox.accounts import ADMIN, APPLICATION, INES, MEMBER, NOBODY, TOMASZ
from webhooks.sandbox.eventlog import Entry
from webhooks.sandbox.histories import by_seed, play, play_seed
from webhooks.sandbox.refusals import Invalid, Missing
from webhooks.sandbox.resources.whatsapp import FILES, MAX_ATTACHMENT_BYTES, to_html, to_text
from webhooks.sandbox.story import STORY
from webhooks.sandbox.subscriptions import OUTCOME_TYPES
from webhooks.sources.close.catalogue import known_types

Object = dict[str, Any]


@pytest.fixture
def world(clock: Clock) -> World:
    return World(clock, seed=1, rules=Rules(unlisted=True))


@pytest.fixture
def contact(world: World) -> Object:
    return world.create("contact", {"name": "Rosa Lindqvist", "phones": [{"phone": "+33639980177"}]})


def types_of(world: World, since: int = 0) -> list[str]:
    return [entry.type for entry in list(world.log)[since:]]


def last(world: World, type: str) -> Entry:
    return next(entry for entry in reversed(list(world.log)) if entry.type == type)


def fields_of(error: Invalid) -> set[str]:
    return set(error.fields)


# -- shapes -------------------------------------------------------------------------------------------------

SHAPES: dict[str, Callable[[World, Object], str]] = {
    "whatsapp_message_created_incoming": lambda world, contact: world.create(
        "activity.whatsapp_message",
        {"contact_id": contact["id"], "direction": "incoming", "external_whatsapp_message_id": "w"},
    )["id"],
    "email_created_draft_without_sender": lambda world, contact: world.create(
        "activity.email", {"contact_id": contact["id"], "status": "draft"}
    )["id"],
    "call_updated_outcome_set": lambda world, contact: world.create(
        "activity.call", {"contact_id": contact["id"], "duration": 3}
    )["id"],
    "contact_created_without_lead": lambda world, contact: contact["id"],
    "lead_created_for_contact": lambda world, contact: contact["lead_id"],
    "lead_created_untitled": lambda world, contact: world.create("opportunity", {})["lead_id"],
    "opportunity_created_without_lead": lambda world, contact: world.create("opportunity", {})["id"],
    "opportunity_updated_won": lambda world, contact: world.update(
        "opportunity", world.create("opportunity", {})["id"], {"status": "Won"}
    )["id"],
    "outcome_created_custom": lambda world, contact: world.create("outcome", {"name": "Survey booked"})["id"],
    "outcome_created_vm_dropped": lambda world, contact: world.create("outcome", {"name": "x", "type": "vm-dropped"})[
        "id"
    ],
    "task_lead_completed": lambda world, contact: world.update(
        "task.lead", world.create("task.lead", {"lead_id": contact["lead_id"]})["id"], {"is_complete": True}
    )["id"],
}


def kind_of(value: Any) -> str:
    return "number" if isinstance(value, int | float) else type(value).__name__


@pytest.mark.parametrize("name", SHAPES)
def test_events_have_the_shape_of_closes_own(name: str, world: World, contact: Object) -> None:
    """The same keys as the sample payload, envelope and data, and the same types where neither is null."""
    sample = json.loads((PAYLOADS / f"{name}.json").read_text())["event"]
    id = SHAPES[name](world, contact)
    wanted = f"{sample['object_type']}.{sample['action']}"
    event = next(e for e in reversed(list(world.log)) if e.object_id == id and e.type == wanted).as_json()
    assert set(event) == set(sample)
    assert {key for key in sample["data"] if not key.startswith("custom.")} == set(event["data"])
    for mine, theirs in ((event, sample), (event["data"], sample["data"])):
        for key, value in mine.items():
            if value is not None and theirs[key] is not None:
                assert kind_of(value) == kind_of(theirs[key]), key
                if key.startswith("date_") and isinstance(value, str):
                    assert len(value) == len(theirs[key]), key


@pytest.mark.parametrize(
    ("phone", "shown", "country"),
    [("+33639980177", "+33 6 39 98 01 77", "FR"), ("+14155550100", "+1 415-555-0100", "US"), ("3555", "3555", None)],
)
def test_phone_numbers_are_formatted_by_country(world: World, phone: str, shown: str, country: str | None) -> None:
    made = world.create("contact", {"name": "x", "phones": [{"phone": phone}]})["phones"][0]
    assert (made["phone_formatted"], made["country"]) == (shown, country)


# -- leads made on the way ----------------------------------------------------------------------------------


def test_a_contact_without_lead_gets_one_named_after_it(world: World, contact: Object) -> None:
    created, made = list(world.log)
    assert (created.type, made.type) == ("lead.created", "contact.created")
    assert created.data is not None
    assert (created.data["name"], created.data["contact_ids"]) == ("Rosa Lindqvist", [contact["id"]])
    assert created.actor.request_id == made.actor.request_id is not None
    assert created.actor.meta["request_path"] == "/api/v1/contact/"
    assert made.lead_id == created.object_id == contact["lead_id"]


def test_an_opportunity_without_lead_gets_a_nameless_one(world: World) -> None:
    deal = world.create("opportunity", {})
    lead = world.get("lead", deal["lead_id"])
    assert (lead["name"], lead["display_name"], deal["lead_name"]) == (None, "Untitled", "Untitled")
    assert types_of(world) == ["lead.created", "opportunity.created"]
    assert len({entry.actor.request_id for entry in world.log}) == 1


def test_an_opportunity_of_a_contact_goes_to_its_lead(world: World, contact: Object) -> None:
    deal = world.create("opportunity", {"contact_id": contact["id"]})
    assert (deal["lead_id"], deal["contact_name"]) == (contact["lead_id"], "Rosa Lindqvist")


def test_a_contact_on_a_lead_makes_no_other(world: World, contact: Object) -> None:
    second = world.create("contact", {"name": "Amara", "lead_id": contact["lead_id"]})
    assert world.get("lead", contact["lead_id"])["contact_ids"] == [contact["id"], second["id"]]
    assert types_of(world, 2) == ["contact.created", "lead.updated"]


def test_a_wrong_contact_makes_no_lead(world: World) -> None:
    with pytest.raises(Invalid) as caught:
        world.create("contact", {"name": "x", "emails": [{"email": "no address"}]})
    assert fields_of(caught.value) == {"emails"}
    assert len(world.log) == 0
    assert world.state()["lead"] == {}


# -- outcomes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("type", "applies_to"), [("custom", ["calls", "meetings"]), ("vm-dropped", ["calls"])])
@pytest.mark.parametrize("written", [["calls"], ["meetings"], [], "nonsense", None])
def test_where_an_outcome_applies_follows_from_its_type(
    world: World, type: str, applies_to: list[str], written: Any
) -> None:
    made = world.create("outcome", {"name": "x", "type": type, "applies_to": written})
    assert made["applies_to"] == applies_to
    world.update("outcome", made["id"], {"applies_to": written, "name": "y"})
    assert world.get("outcome", made["id"])["applies_to"] == applies_to
    assert world.search("outcome")["data"][0]["applies_to"] == applies_to


def test_writing_only_where_an_outcome_applies_changes_nothing(world: World) -> None:
    made = world.create("outcome", {"name": "x"})
    assert world.update("outcome", made["id"], {"applies_to": ["calls"]}) == made
    assert types_of(world) == ["outcome.created"]


@pytest.mark.parametrize(
    ("type", "kind", "is_fine"),
    [
        ("custom", "activity.call", True),
        ("custom", "activity.meeting", True),
        ("vm-dropped", "activity.call", True),
        ("vm-dropped", "activity.meeting", False),
    ],
)
def test_an_outcome_is_taken_only_where_it_applies(
    world: World, contact: Object, type: str, kind: str, is_fine: bool
) -> None:
    outcome = world.create("outcome", {"name": "x", "type": type})
    activity = world.create(kind, {"contact_id": contact["id"]})
    if is_fine:
        assert world.update(kind, activity["id"], {"outcome_id": outcome["id"]})["outcome_id"] == outcome["id"]
    else:
        with pytest.raises(Invalid) as caught:
            world.update(kind, activity["id"], {"outcome_id": outcome["id"]})
        assert fields_of(caught.value) == {"outcome_id"}
        assert world.get(kind, activity["id"]) == activity


def test_outcomes_raise_events_only_when_asked_for(clock: Clock) -> None:
    world = World(clock)
    outcome = world.create("outcome", {"name": "x"})
    world.delete("outcome", outcome["id"])
    assert len(world.log) == 0


# -- emails -------------------------------------------------------------------------------------------------

SENDER = '"Tomasz Brandt" <tomasz@harbourline.example>'
LATER = "2026-03-10T18:00:00+00:00"


@pytest.mark.parametrize(
    ("status", "sender", "stored"),
    [
        ("inbox", None, Invalid),
        ("scheduled", None, Invalid),
        ("outbox", None, Invalid),
        ("error", None, Invalid),
        ("draft", None, None),
        ("sent", None, INES.sender),
        *((status, SENDER, SENDER) for status in ("inbox", "draft", "scheduled", "outbox", "sent", "error")),
        ("draft", "rosa@quayside.example", "rosa@quayside.example"),
        ("draft", "no address", Invalid),
        ("draft", '"Name" <no address>', Invalid),
        ("outbox", "", Invalid),
    ],
)
def test_the_sender_of_a_new_email(world: World, contact: Object, status: str, sender: Any, stored: Any) -> None:
    body = {"contact_id": contact["id"], "status": status, "sender": sender, "date_scheduled": LATER}
    if stored is Invalid:
        with pytest.raises(Invalid) as caught:
            world.create("activity.email", body)
        assert fields_of(caught.value) == {"sender"}
    else:
        assert world.create("activity.email", body)["sender"] == stored


@pytest.mark.parametrize(
    ("had", "status", "sender", "stored"),
    [
        (None, "scheduled", ..., Invalid),
        (None, "outbox", ..., Invalid),
        (None, "outbox", SENDER, SENDER),
        (SENDER, "outbox", ..., SENDER),
        (SENDER, "scheduled", ..., SENDER),
        (SENDER, "outbox", None, Invalid),
        (SENDER, "draft", None, None),
        (None, "sent", ..., INES.sender),
    ],
)
def test_the_sender_of_a_draft_that_moves(
    world: World, contact: Object, had: Any, status: str, sender: Any, stored: Any
) -> None:
    draft = world.create("activity.email", {"contact_id": contact["id"], "status": "draft", "sender": had})
    body = {"status": status, "date_scheduled": LATER} | ({} if sender is ... else {"sender": sender})
    if stored is Invalid:
        with pytest.raises(Invalid) as caught:
            world.update("activity.email", draft["id"], body)
        assert fields_of(caught.value) == {"sender"}
        assert world.get("activity.email", draft["id"]) == draft
    else:
        assert world.update("activity.email", draft["id"], body)["sender"] == stored


def test_mail_leaves_the_outbox_by_itself(world: World, contact: Object) -> None:
    mail = world.create(
        "activity.email", {"contact_id": contact["id"], "status": "outbox", "sender": SENDER}, by=MEMBER
    )
    before = len(world.log)
    world.deliver(post=lambda url, headers, body: 200)
    assert world.get("activity.email", mail["id"])["status"] == "outbox"
    world.advance(timedelta(seconds=3))
    world.deliver(post=lambda url, headers, body: 200)
    sent = world.get("activity.email", mail["id"])
    assert (sent["status"], sent["envelope"]["from"][0]["name"]) == ("sent", "Tomasz Brandt")
    assert types_of(world, before) == ["activity.email.updated", "activity.email.sent"]
    event = last(world, "activity.email.sent").as_json()
    assert (event["request_id"], event["meta"], event["api_key_id"]) == (None, {}, None)
    assert event["user_id"] == TOMASZ.id


def test_scheduled_mail_leaves_at_its_time(world: World, contact: Object) -> None:
    body = {"contact_id": contact["id"], "status": "scheduled", "sender": SENDER, "date_scheduled": LATER}
    mail = world.create("activity.email", body)
    assert world.next_due() == datetime.fromisoformat(LATER)
    world.drain(post=lambda url, headers, body: 200)
    assert world.get("activity.email", mail["id"])["date_sent"].startswith("2026-03-10T18:00:00")


def test_synced_mail_is_nobodys_doing(world: World, contact: Object) -> None:
    body = {"contact_id": contact["id"], "status": "inbox", "sender": "rosa@quayside.example"}
    mail = world.create("activity.email", body, by=NOBODY)
    event = last(world, "activity.email.created").as_json()
    assert (event["user_id"], event["request_id"], event["meta"]) == (None, None, {})
    assert (mail["direction"], mail["created_by"]) == ("incoming", None)


def test_an_answer_stays_in_the_thread(world: World, contact: Object) -> None:
    first = world.create("activity.email", {"contact_id": contact["id"], "status": "draft"})
    body = {"contact_id": contact["id"], "status": "draft", "in_reply_to_id": first["id"]}
    assert world.create("activity.email", body)["thread_id"] == first["thread_id"]
    with pytest.raises(Invalid):
        world.create("activity.email", {**body, "in_reply_to_id": "acti_none"})


# -- WhatsApp -----------------------------------------------------------------------------------------------


def message(world: World, contact: Object, **fields: Any) -> Object:
    body = {"contact_id": contact["id"], "direction": "incoming", "external_whatsapp_message_id": "wamid.1"}
    return world.create("activity.whatsapp_message", {**body, **fields})


def attachment(size: int) -> Object:
    return {"url": f"{FILES}persisted/x.jpg", "filename": "x.jpg", "content_type": "image/jpeg", "size": size}


@pytest.mark.parametrize(
    ("markdown", "html", "text"),
    [
        ("Voici *côté nord* 🏠", "<p>Voici <strong>côté nord</strong> 🏠</p>", "Voici côté nord 🏠"),
        ("_a_ ~b~ ```c```", "<p><em>a</em> <s>b</s> <code>c</code></p>", "a b c"),
        ("2 * 3 * 4 and snake_case_name", "<p>2 * 3 * 4 and snake_case_name</p>", "2 * 3 * 4 and snake_case_name"),
        ("<script>&", "<p>&lt;script&gt;&amp;</p>", "<script>&"),
        ("one\ntwo", "<p>one</p><p>two</p>", "one\ntwo"),
        ("", "", ""),
    ],
)
def test_markdown_becomes_html_and_text(markdown: str, html: str, text: str) -> None:
    assert (to_html(markdown), to_text(markdown)) == (html, text)


@given(st.text(alphabet="*_~`a <\n", max_size=200))
def test_no_markdown_makes_html_of_its_own(markdown: str) -> None:
    made = to_html(markdown)
    for tag in ("p", "strong", "em", "s", "code"):
        made = made.replace(f"<{tag}>", "").replace(f"</{tag}>", "")
    assert "<" not in made


@pytest.mark.parametrize(
    ("sizes", "is_fine"),
    [
        ([], True),
        ([MAX_ATTACHMENT_BYTES], True),
        ([MAX_ATTACHMENT_BYTES + 1], False),
        ([MAX_ATTACHMENT_BYTES // 2] * 2, True),
        ([MAX_ATTACHMENT_BYTES // 2] * 2 + [1], False),
    ],
)
def test_attachments_have_25_megabytes_in_all(world: World, contact: Object, sizes: list[int], is_fine: bool) -> None:
    files = [attachment(size) for size in sizes]
    if is_fine:
        assert [each["size"] for each in message(world, contact, attachments=files)["attachments"]] == sizes
    else:
        with pytest.raises(Invalid, match="25 MB"):
            message(world, contact, attachments=files)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("direction", "inbound"),
        ("direction", None),
        ("external_whatsapp_message_id", ""),
        ("attachments", [{**attachment(1), "url": "https://example.com/x.jpg"}]),
        ("attachments", [{"url": f"{FILES}x"}]),
        ("attachments", "x.jpg"),
        ("integration_link", "javascript:alert(1)"),
        ("response_to_id", "acti_none"),
        ("message_markdown", 3),
        ("contact_id", "cont_none"),
        ("lead_id", "lead_none"),
    ],
)
def test_what_a_message_cannot_be(world: World, contact: Object, field: str, value: Any) -> None:
    before = len(world.log)
    with pytest.raises(Invalid) as caught:
        message(world, contact, **{field: value})
    assert fields_of(caught.value) == {field}
    assert len(world.log) == before


def test_messages_are_threaded_by_their_close_id(world: World, contact: Object) -> None:
    first = message(world, contact)
    assert message(world, contact, response_to_id=first["id"])["response_to_id"] == first["id"]
    with pytest.raises(Invalid) as caught:
        message(world, contact, response_to_id=first["external_whatsapp_message_id"])
    assert fields_of(caught.value) == {"response_to_id"}


def test_messages_are_found_by_whatsapps_own_id(world: World, contact: Object) -> None:
    message(world, contact, external_whatsapp_message_id="wamid.other")
    wanted = message(world, contact, external_whatsapp_message_id="wamid.wanted")
    found = world.search("activity.whatsapp_message", {"external_whatsapp_message_id": "wamid.wanted"})
    assert [each["id"] for each in found["data"]] == [wanted["id"]]


def test_send_to_inbox_puts_a_message_there_until_it_is_deleted(world: World, contact: Object) -> None:
    body = {"contact_id": contact["id"], "direction": "incoming", "external_whatsapp_message_id": "w"}
    made = world.create("activity.whatsapp_message", body, params={"send_to_inbox": "true"})
    message(world, contact)
    assert world.inbox == [made["id"]]
    world.delete("lead", contact["lead_id"])
    assert world.inbox == []


def test_the_name_of_the_integration_is_that_of_the_caller(world: World, contact: Object) -> None:
    body = {"contact_id": contact["id"], "direction": "incoming", "external_whatsapp_message_id": "w"}
    by_app = world.create("activity.whatsapp_message", body, by=APPLICATION)
    by_key = world.create("activity.whatsapp_message", body, by=MEMBER)
    assert (by_app["integration_name"], by_key["integration_name"]) == ("Parley Inbox", "API")
    events = [entry.as_json() for entry in list(world.log)[-2:]]
    assert [(each["oauth_client_id"], each["api_key_id"]) for each in events] == [
        (APPLICATION.oauth_client_id, None),
        (None, MEMBER.api_key_id),
    ]


# -- calls, tasks, status changes ---------------------------------------------------------------------------


def test_a_call_logged_by_hand_gets_its_duration_by_an_update(world: World, contact: Object) -> None:
    call = world.create("activity.call", {"contact_id": contact["id"], "duration": 341})
    assert call["duration"] == 341
    created, updated = list(world.log)[-2:]
    assert created.data is not None
    assert created.data["duration"] == 0
    assert (updated.type, updated.previous_data["duration"]) == ("activity.call.updated", 0)
    assert updated.changed_fields == ["date_updated", "duration"]


def test_a_status_change_makes_an_activity_and_an_update(world: World, contact: Object) -> None:
    world.update("lead", contact["lead_id"], {"status": "Qualified"})
    assert set(types_of(world, 2)) == {"activity.lead_status_change.created", "lead.updated"}
    event = last(world, "lead.updated")
    assert event.changed_fields == ["date_updated", "status_id", "status_label"]
    change = world.search("activity.lead_status_change", {"lead_id": contact["lead_id"]})["data"][0]
    assert (change["old_status_label"], change["new_status_label"]) == ("Potential", "Qualified")


def test_finishing_a_task_raises_all_four(world: World, contact: Object) -> None:
    task = world.create("task.lead", {"lead_id": contact["lead_id"], "date": "2026-03-22"})
    before = len(world.log)
    world.update("task.lead", task["id"], {"is_complete": True})
    assert sorted(types_of(world, before)) == [
        "activity.task_completed.created",
        "lead.updated",
        "task.lead.completed",
        "task.lead.updated",
    ]


def test_winning_a_deal_sets_a_bare_day(world: World) -> None:
    deal = world.create("opportunity", {"value": 1850000, "confidence": 75})
    assert (deal["expected_value"], deal["value_formatted"]) == (1387500, "€18,500")
    won = world.update("opportunity", deal["id"], {"status": "Won"})
    assert (won["date_won"], won["confidence"], won["status_type"]) == ("2026-03-10", 100, "won")


# -- events of changes --------------------------------------------------------------------------------------


def test_an_update_without_a_change_writes_nothing(world: World, contact: Object) -> None:
    before = len(world.log)
    assert world.update("contact", contact["id"], {"name": contact["name"]}) == contact
    assert len(world.log) == before


def test_an_update_names_the_old_values_of_changed_fields_alone(world: World, contact: Object) -> None:
    world.update("contact", contact["id"], {"title": "Owner"}, by=MEMBER)
    event = last(world, "contact.updated").as_json()
    assert event["changed_fields"] == ["date_updated", "title", "updated_by"]
    assert event["previous_data"] == {
        "title": None,
        "updated_by": INES.id,
        "date_updated": contact["date_updated"],
    }
    assert event["meta"] == {"request_method": "PUT", "request_path": f"/api/v1/contact/{contact['id']}/"}


def test_custom_fields_come_and_go(world: World, contact: Object) -> None:
    world.update("lead", contact["lead_id"], {"custom.cf_1": "Flat roof"})
    assert last(world, "lead.updated").changed_fields == ["custom.cf_1", "date_updated"]
    world.advance(timedelta(minutes=1))
    world.update("lead", contact["lead_id"], {"custom.cf_1": None})
    assert "custom.cf_1" not in world.get("lead", contact["lead_id"])
    assert last(world, "lead.updated").previous_data["custom.cf_1"] == "Flat roof"


def test_read_only_fields_cannot_be_written(world: World, contact: Object) -> None:
    written = {"id": "cont_x", "organization_id": "x", "date_created": "x", "display_name": "x", "lead_id": "lead_x"}
    assert world.update("contact", contact["id"], written) == contact


def test_deleting_a_lead_deletes_all_that_is_on_it(world: World, contact: Object) -> None:
    kept = world.create("contact", {"name": "Somebody else"})
    lead_id = contact["lead_id"]
    world.create("opportunity", {"lead_id": lead_id})
    world.create("task.lead", {"lead_id": lead_id})
    message(world, contact)
    before = len(world.log)
    world.delete("lead", lead_id)
    gone = list(world.log)[before:]
    assert [entry.type for entry in gone] == [
        "contact.deleted",
        "opportunity.deleted",
        "task.lead.deleted",
        "activity.whatsapp_message.deleted",
        "lead.deleted",
    ]
    assert len({entry.actor.request_id for entry in gone}) == 1
    assert gone[-1].data is None
    assert gone[-1].previous_data["contact_ids"] == [contact["id"]]
    assert [table for table in world.state().values() if table] == [
        {kept["lead_id"]: world.get("lead", kept["lead_id"])},
        {kept["id"]: kept},
    ]


def test_merging_moves_everything_and_every_event_names_both_leads(world: World, contact: Object) -> None:
    other = world.create("contact", {"name": "Rosa (old)"})
    deal = world.create("opportunity", {"lead_id": other["lead_id"]})
    before = len(world.log)
    world.merge_leads(other["lead_id"], contact["lead_id"])
    events = list(world.log)[before:]
    assert [entry.type for entry in events] == [
        "contact.updated",
        "opportunity.updated",
        "lead.merged",
        "lead.deleted",
    ]
    for entry in events:
        assert entry.actor.meta["merge_source_lead_id"] == other["lead_id"]
        assert entry.actor.meta["merge_destination_lead_id"] == contact["lead_id"]
    merged, deleted = events[2], events[3]
    assert merged.data == world.get("lead", contact["lead_id"])
    assert merged.data["contact_ids"] == [contact["id"], other["id"]]
    assert deleted.previous_data["contact_ids"] == []
    assert world.get("opportunity", deal["id"])["lead_name"] == "Rosa Lindqvist"
    with pytest.raises(Missing):
        world.get("lead", other["lead_id"])


@pytest.mark.parametrize("which", ["same", "no source", "no destination"])
def test_leads_that_cannot_be_merged(world: World, contact: Object, which: str) -> None:
    source = "lead_none" if which == "no source" else contact["lead_id"]
    destination = "lead_none" if which == "no destination" else contact["lead_id"]
    with pytest.raises(Invalid) as caught:
        world.merge_leads(source, destination)
    assert fields_of(caught.value) == {"source" if which == "no source" else "destination"}


# -- histories ----------------------------------------------------------------------------------------------


def mirror(world: World) -> dict[str, dict[str, Any]]:
    """What somebody has who keeps the newest event of every object."""
    made: dict[str, dict[str, Any]] = {kind: {} for kind in world.state()}
    newest: dict[str, Entry] = {}
    for entry in sorted(world.log, key=lambda entry: entry.id):  # in no order that means anything
        if entry.object_id not in newest or newest[entry.object_id].date_updated < entry.date_updated:
            newest[entry.object_id] = entry
    for entry in newest.values():
        if entry.data is not None:
            made[entry.object_type][entry.object_id] = entry.data
    return made


@settings(max_examples=examples(60))
@given(data=st.data(), steps=st.integers(0, 60), absorbs=st.booleans())
def test_the_newest_events_are_the_state_whatever_happened(data: st.DataObject, steps: int, absorbs: bool) -> None:
    world = World(Clock(), rules=Rules(unlisted=True, created_absorbs=absorbs))
    play(world, lambda n: data.draw(st.integers(0, n - 1)), steps)
    assert mirror(world) == world.state()


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32))
def test_long_histories_end_in_the_same_state_too(seed: int) -> None:
    world = World(Clock(), rules=Rules(unlisted=True))
    play_seed(world, seed, 200)
    assert mirror(world) == world.state()
    instants = [entry.date_updated for entry in world.log]
    assert len(set(instants)) == len(instants)
    assert instants == sorted(instants)


def test_the_same_seed_gives_the_same_history() -> None:
    worlds = []
    for _ in range(2):
        world = World(Clock(), seed=7)
        assert play(world, by_seed(8), 150) == play(World(Clock(), seed=7), by_seed(8), 150)
        worlds.append(world)
    assert [entry.as_json() for entry in worlds[0].log] == [entry.as_json() for entry in worlds[1].log]
    assert worlds[0].state() == worlds[1].state()
    other = World(Clock(), seed=8)
    play(other, by_seed(8), 150)
    assert other.state() != worlds[0].state()


def test_every_kind_of_step_comes_up_in_histories_and_only_known_events() -> None:
    world = World(Clock(), rules=Rules(unlisted=True))
    done = set(play_seed(world, 1, 1500))
    types = {entry.type for entry in world.log}
    assert len(done) == 31
    assert types <= known_types() | OUTCOME_TYPES
    assert {"lead.merged", "activity.email.sent", "activity.whatsapp_message.deleted", "outcome.updated"} <= types


# -- the story ----------------------------------------------------------------------------------------------


def test_the_story_ends_with_one_lead_that_has_everything(world: World) -> None:
    sentences = STORY.tell(world)
    world.drain(post=lambda url, headers, body: 200)
    state = world.state()
    assert len(sentences) == len(STORY.steps)
    assert [lead["name"] for lead in state["lead"].values()] == ["Rosa Lindqvist"]
    lead_id = next(iter(state["lead"]))
    assert all(
        each["lead_id"] == lead_id
        for kind, table in state.items()
        if kind not in ("lead", "outcome")
        for each in table.values()
    )
    assert [email["status"] for email in state["activity.email"].values()] == ["sent"]
    assert [deal["status_type"] for deal in state["opportunity"].values()] == ["won"]
    assert next(iter(state["activity.call"].values()))["outcome_id"] in state["outcome"]
    first, second = state["activity.whatsapp_message"].values()
    assert second["response_to_id"] == first["id"]
    assert second["text"].endswith("10h30.")


# -- whatever is sent ---------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=examples(300))
@given(data=st.data())
def test_no_body_does_anything_but_be_taken_or_refused(data: st.DataObject) -> None:
    world = World(Clock(), rules=Rules(unlisted=True))
    contact = world.create("contact", {"name": "Rosa"})
    kind = data.draw(st.sampled_from(sorted(world.state())))
    names = [*world.resource(kind).fields, "status", "custom.cf_1", "contacts", "send_to_inbox", "x"]
    body = data.draw(st.dictionaries(st.sampled_from(names), JSON, max_size=6))
    if "lead_id" in world.resource(kind).fields and data.draw(st.booleans()):
        body["lead_id"] = contact["lead_id"]
    before = world.state()
    try:
        made = world.create(kind, body)
    except Invalid:
        assert world.state() == before
        return
    made = world.get(kind, made["id"])
    changes = data.draw(st.dictionaries(st.sampled_from(names), JSON, max_size=6))
    with suppress(Invalid):
        world.update(kind, made["id"], changes)
        made = world.get(kind, made["id"])
    assert world.get(kind, made["id"]) == made
    assert mirror(world) == world.state()


def test_time_moves_on_with_every_change_though_the_clock_stands_still(world: World) -> None:
    made: list[Mapping[str, Any]] = [world.create("contact", {"name": str(n)}) for n in range(3)]
    instants = [datetime.fromisoformat(each["date_updated"]) for each in made]
    assert START <= instants[0] < instants[1] < instants[2] < START + timedelta(seconds=1)
    assert instants[0].tzinfo == UTC
    with pytest.raises(Invalid):
        world.advance(timedelta(seconds=-1))


def test_changing_what_comes_back_changes_nothing_in_the_world(world: World, contact: Object) -> None:
    contact["phones"].clear()
    world.state()["contact"].clear()
    world.search("contact")["data"][0]["phones"].clear()
    assert world.get("contact", contact["id"])["phones"][0]["phone"] == "+33639980177"
    assert world.create("contact", {"name": "x"}, by=ADMIN)["phones"] == []
