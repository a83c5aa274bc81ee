"""Typed views: what Close's own payloads show, and that nothing Close could send makes one raise."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import PAYLOADS, START, each
from webhooks.errors import Malformed
from webhooks.formats import json as jsonio
from webhooks.model import Event
from webhooks.sources.close import catalogue, envelope
from webhooks.sources.close.views import (
    ROWS,
    SMS,
    Activity,
    BulkAction,
    Call,
    Contact,
    CustomActivity,
    Email,
    FormSubmission,
    Group,
    Lead,
    Opportunity,
    Outcome,
    Task,
    View,
    WhatsAppMessage,
    reading,
    view_class,
    view_of,
)

VIEWS: list[type[View]] = list(dict.fromkeys(row.view for row in ROWS.values()))

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def event_of(raw: bytes) -> Event:
    parsed = envelope.parse_delivery(raw)
    return Event(
        id=1,
        source="close",
        type=parsed.type,
        dedup_key=parsed.dedup_key,
        raw=raw,
        occurred_at=START,
        received_at=START,
        reader=envelope.read,
    )


@pytest.fixture
def event(payload: Callable[[str], bytes]) -> Callable[[str], Event]:
    return lambda name: event_of(payload(name))


def test_a_whatsapp_message_is_read_with_its_attachments(event: Callable[[str], Event]) -> None:
    message = WhatsAppMessage.from_event(event("whatsapp_message_created_incoming"))
    assert message.id == "acti_UeKPVIqd4hcVmcQEdCG0ycXXGV4Px3JMZVXIs1M1xPI"
    assert message.is_incoming
    assert message.text == "Bonjour ! Voici les photos du toit côté nord 🏠"
    assert message.date_created == datetime(2026, 3, 10, 14, 5, 12, 381000, tzinfo=UTC)
    assert [(file.filename, file.size, file.thumbnail_url is None) for file in message.attachments] == [
        ("toit-nord-1.jpg", 1843201, False),
        ("devis-signé.pdf", 412960, True),
    ]
    assert message.response_to_id is None


def test_a_deleted_object_is_read_from_what_it_was(event: Callable[[str], Event]) -> None:
    message = WhatsAppMessage.from_event(event("whatsapp_message_deleted"))
    assert message.external_whatsapp_message_id == "wamid.HBgLMzMxOTk1NTUwMTQ2FQIAEhggN0Q5"
    assert len(message.attachments) == 2


def test_an_update_is_read_from_the_state_after_it(event: Callable[[str], Event]) -> None:
    before, after = event("whatsapp_message_updated"), event("whatsapp_message_updated_revision")
    assert WhatsAppMessage.from_event(before).text == "Merci Rosa, je vous rappelle demain à 10h."
    assert WhatsAppMessage.from_event(after).text == "Merci Rosa, je vous rappelle demain à 10h30."


def test_a_stripped_update_gives_a_view_with_its_id_alone() -> None:
    raw = b'{"event":{"id":"ev_1","object_type":"lead","object_id":"lead_1","action":"updated"}}'
    lead = Lead.from_event(event_of(raw))
    assert (lead.id, lead.name, lead.contact_ids) == ("lead_1", None, ())


def test_the_old_values_of_an_update_are_not_taken_for_the_object() -> None:
    raw = (
        b'{"event":{"id":"ev_1","object_type":"lead","object_id":"lead_1","action":"updated","data":null,'
        b'"previous_data":{"name":"Old"}}}'
    )
    assert Lead.from_event(event_of(raw)).name is None


def test_a_call_an_email_and_an_outcome_are_read(event: Callable[[str], Event]) -> None:
    call = Call.from_event(event("call_updated_outcome_set"))
    assert (call.duration, call.outcome_id, call.direction) == (341, "outcome_MgNE50ge2PvbzInTfRgW6V", "outbound")
    draft = Email.from_event(event("email_created_draft_without_sender"))
    assert (draft.status, draft.sender, draft.sender_address) == ("draft", None, None)
    inbox = Email.from_event(event("email_created_inbox"))
    assert inbox.sender_address == "rosa.lindqvist@quayside.example"
    assert inbox.cc == ("office@quayside.example",)
    outcome = Outcome.from_event(event("outcome_created_vm_dropped"))
    assert (outcome.type, outcome.applies_to, outcome.description) == ("vm-dropped", ("calls",), None)


def test_bare_days_stay_days_and_money_stays_cents(event: Callable[[str], Event]) -> None:
    won = Opportunity.from_event(event("opportunity_updated_won"))
    assert (won.date_won, won.value, won.status_type) == (date(2026, 3, 16), 1850000, "won")
    assert not isinstance(won.date_won, datetime)
    task = Task.from_event(event("task_lead_completed"))
    assert (task.date, task.is_complete, task.type_name) == (date(2026, 3, 22), True, "lead")


def test_an_untitled_lead_is_told_from_a_named_one(event: Callable[[str], Event]) -> None:
    assert Lead.from_event(event("lead_created_untitled")).is_untitled
    assert not Lead.from_event(event("lead_created_for_contact")).is_untitled


def test_custom_fields_are_read_in_both_spellings(event: Callable[[str], Event]) -> None:
    name = "cf_M7smkB26rNOtopXnQgA8jvAvz3t1ZvwE6A54BXZOVBA"
    contact = Contact.from_event(event("contact_created_without_lead"))
    assert contact.custom == {name: "Flat roof"}
    nested = Contact.from_data({"custom": {name: "Flat roof", "lcf_1": 2}})
    assert nested.custom == {name: "Flat roof", "lcf_1": 2}
    for one in (contact, nested):
        assert one.custom_field(name) == one.custom_field(f"custom.{name}") == "Flat roof"
    assert contact.custom_field("cf_none", default="?") == "?"
    assert Contact.from_data({"custom": {"cf_1": "nested"}, "custom.cf_1": "flat"}).custom == {"cf_1": "flat"}
    assert Contact.from_data({"custom": ["no object"]}).custom == {}


@each(
    ("written", "read"),
    [
        ("2026-03-10T14:05:12.417000+00:00", datetime(2026, 3, 10, 14, 5, 12, 417000, UTC)),
        ("2026-03-10T14:05:12.417000", datetime(2026, 3, 10, 14, 5, 12, 417000, UTC)),
        ("2026-03-10T16:05:12+02:00", datetime(2026, 3, 10, 14, 5, 12, tzinfo=UTC)),
        ("2026-03-10T14:05:12Z", datetime(2026, 3, 10, 14, 5, 12, tzinfo=UTC)),
        ("2026-03-10", date(2026, 3, 10)),
        ("", None),
        ("yesterday", None),
        ("2026-02-30", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31T23:59:59-14:00", None),
        (1773151512, None),
        (None, None),
        ([], None),
    ],
)
def test_dates_with_and_without_offset_are_read(written: Any, read: date | datetime | None) -> None:
    assert Opportunity.from_data({"date_won": written}).date_won == read
    as_instant = Opportunity.from_data({"date_created": written}).date_created
    if isinstance(read, datetime) or read is None:
        assert as_instant == read
    else:
        assert as_instant == datetime(read.year, read.month, read.day, tzinfo=UTC)
    assert as_instant is None or as_instant.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("written", "read"), [(341, 341), (341.0, 341), (341.5, None), ("341", None), (True, None), (None, None)]
)
def test_only_whole_numbers_are_numbers(written: Any, read: int | None) -> None:
    assert Call.from_data({"duration": written}).duration == read


def test_parts_of_the_wrong_type_are_left_out() -> None:
    email = Email.from_data({"to": ["a@example.com", None, 3, ["b"]], "attachments": [None, {"size": "big"}, "x"]})
    assert email.to == ("a@example.com",)
    assert [(file.size, file.url) for file in email.attachments] == [(None, None)]


@each("view", VIEWS)
def test_the_mapping_is_kept_with_what_nobody_knows(view: type[View]) -> None:
    data = {"id": "x_1", "field_of_next_year": {"a": 1}}
    assert view.from_data(data).raw is data


@given(view=st.sampled_from(VIEWS), data=JSON)
def test_no_json_makes_a_view_raise(view: type[View], data: Any) -> None:
    made = view.from_data(data)
    assert isinstance(made.custom, dict)
    assert isinstance(repr(made), str)
    assert isinstance(hash(made), int)


@given(view=st.sampled_from(VIEWS), data=st.data())
def test_known_fields_with_any_value_do_not_make_a_view_raise(view: type[View], data: st.DataObject) -> None:
    names = [reading.KEYS.get(name, name) for name in view.__dataclass_fields__ if name != "raw"]
    fields = data.draw(st.dictionaries(st.sampled_from([*names, "custom", "custom.cf_1"]), JSON))
    made = view.from_data(fields)
    assert made.custom is not None
    hash(made)


@given(
    view=st.sampled_from(VIEWS),
    data=JSON,
    previous=JSON,
    action=st.sampled_from(["created", "updated", "deleted", "sent"]),
)
def test_no_event_makes_a_view_raise(view: type[View], data: Any, previous: Any, action: str) -> None:
    body = {"event": {"id": "ev_1", "object_type": "x", "object_id": "x_1", "action": action}}
    body["event"] |= {"data": data, "previous_data": previous}
    try:
        event = event_of(jsonio.dump(body))
    except Malformed:  # NaN and the like, which never become events
        return
    assert view.from_event(event).id is not None


# -- the table -------------------------------------------------------------------------------------------------


def test_every_type_of_the_catalogue_has_a_view() -> None:
    published = {type.rpartition(".")[0] for type in catalogue.published_types()}
    assert published <= set(ROWS)
    assert set(ROWS) - published == {"outcome"}, "which is in no list, and sent"
    without = {kind for kind, row in ROWS.items() if not row.source and row.view is not View}
    assert without == {"sms_template"}, "which has what e-mail templates have, and no source says more"


def test_every_payload_of_a_published_type_has_a_view_of_its_own() -> None:
    for path in sorted(PAYLOADS.glob("*.json")):
        event = event_of(path.read_bytes())
        made = view_of(event)
        assert type(made) is view_class(event.object_type)
        assert made.id == event.object_id
        if path.name != "unlisted_type_with_new_fields.json":
            assert type(made) not in (View, Activity), path.name


def test_what_is_in_no_list_has_what_all_have() -> None:
    assert view_class("activity.voice_agent_call") is Activity
    assert view_class("hologram") is View
    assert view_class("activity.sms") is SMS


def test_forms_custom_activities_bulk_actions_and_groups_are_read() -> None:
    def read(name: str) -> View:
        return view_of(event_of((PAYLOADS / f"{name}.json").read_bytes()))

    form, custom = read("form_submission_created"), read("custom_activity_created_draft")
    bulk, group = read("bulk_action_edit_completed"), read("group_created_without_lead")
    assert isinstance(form, FormSubmission)
    assert form.form_id
    assert form.values
    assert isinstance(custom, CustomActivity)
    assert custom.status == "draft"
    assert isinstance(bulk, BulkAction)
    assert bulk.n_leads == bulk.n_leads_processed
    assert isinstance(group, Group)
    assert group.name
    assert group.members
