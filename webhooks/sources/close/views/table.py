"""Which view an object of Close has: one row for each type of the catalogue, with where its fields are from.

What Close publishes nothing of has the view that all objects have (`View`, `Activity`), and the rest in `raw`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from webhooks.model import Event
from webhooks.sources.close.views import activities, objects, organization
from webhooks.sources.close.views.reading import Activity, View


@dataclass(frozen=True, slots=True)
class ViewRow:
    """One type of object. source: where its fields are from; "" where none are published."""

    view: type[View]
    source: str = ""


#: Complete bodies, as Close sends them.
_PAYLOADS = "webhooks/sources/close/payloads"
#: What others read from Close's API, field by field (read 2026-11-29).
_READ = "github.com/airbytehq/airbyte, source-close-com/schemas"
#: Close's own pages (read 2026-11-23).
_EARLIER = "developer.close.com/api/resources"
#: The same (read 2026-11-29).
_PAGES = "developer.close.com/api/resources"

_TASKS = (
    *("lead", "incoming_email", "email_followup", "missed_call", "answered_detached_call", "voicemail"),
    *("opportunity_due", "incoming_sms", "outbound_call"),
)
_WITH_FIELDS = ("lead", "contact", "opportunity", "activity", "custom_object", "shared")

#: {object type: its row}
ROWS: Mapping[str, ViewRow] = {
    "lead": ViewRow(objects.Lead, _PAYLOADS),
    "contact": ViewRow(objects.Contact, _PAYLOADS),
    "opportunity": ViewRow(objects.Opportunity, _PAYLOADS),
    **{f"task.{kind}": ViewRow(objects.Task, _PAYLOADS) for kind in _TASKS},
    "outcome": ViewRow(objects.Outcome, _PAYLOADS),
    "group": ViewRow(objects.Group, _PAYLOADS),
    "activity.email": ViewRow(activities.Email, _PAYLOADS),
    "activity.email_thread": ViewRow(activities.EmailThread, _READ),
    "activity.call": ViewRow(activities.Call, _PAYLOADS),
    "activity.sms": ViewRow(activities.SMS, f"{_PAGES}/activities/sms/get; {_READ}"),
    "activity.whatsapp_message": ViewRow(activities.WhatsAppMessage, _PAYLOADS),
    "activity.note": ViewRow(activities.Note, _EARLIER),
    "activity.meeting": ViewRow(activities.Meeting, _EARLIER),
    "activity.form_submission": ViewRow(activities.FormSubmission, _PAYLOADS),
    "activity.custom_activity": ViewRow(activities.CustomActivity, _PAYLOADS),
    "activity.lead_status_change": ViewRow(activities.LeadStatusChange, _READ),
    "activity.opportunity_status_change": ViewRow(activities.OpportunityStatusChange, _READ),
    "activity.task_completed": ViewRow(activities.TaskCompleted, _READ),
    "activity.lead_merge": ViewRow(activities.LeadMerge, f"{_PAGES}/activities/lead-merges"),
    "import": ViewRow(View),
    "export.lead": ViewRow(organization.Export, f"{_PAGES}/exports/get-lead"),
    "export.opportunity": ViewRow(organization.Export, f"{_PAGES}/exports/get"),
    "bulk_action.delete": ViewRow(organization.BulkAction, f"{_PAGES}/bulk-actions; {_PAYLOADS}"),
    "bulk_action.edit": ViewRow(organization.BulkAction, f"{_PAGES}/bulk-actions/edit/create; {_PAYLOADS}"),
    "bulk_action.email": ViewRow(organization.BulkAction, f"{_PAGES}/bulk-actions; {_PAYLOADS}"),
    "bulk_action.sequence_subscription": ViewRow(
        organization.BulkAction, f"{_PAGES}/bulk-actions/sequence-subscriptions/create; {_READ}"
    ),
    **{f"custom_fields.{kind}": ViewRow(organization.CustomField, _READ) for kind in _WITH_FIELDS},
    "custom_activity_type": ViewRow(View),
    "custom_object_type": ViewRow(View),
    "custom_object": ViewRow(View),
    "status.lead": ViewRow(organization.Status, _READ),
    "status.opportunity": ViewRow(organization.Status, _READ),
    "membership": ViewRow(View),
    "saved_search": ViewRow(organization.SmartView, _READ),
    "phone_number": ViewRow(View),
    "email_template": ViewRow(organization.Template, _READ),
    "sms_template": ViewRow(organization.Template),
    "sequence": ViewRow(organization.Sequence, _READ),
    "sequence_subscription": ViewRow(organization.SequenceSubscription, f"{_PAGES}/sequences/list-subscriptions"),
    "comment": ViewRow(View),
    "comment_thread": ViewRow(View),
    "unsubscribed_email": ViewRow(View),
}


def view_class(object_type: str) -> type[View]:
    """The view of a type of object; of one that is in no list, the one that all have."""
    row = ROWS.get(object_type)
    if row is not None:
        return row.view
    return Activity if object_type.startswith("activity.") else View


def view_of(event: Event) -> View:
    """The view of an event's object, of whatever type it is."""
    return view_class(event.object_type).from_event(event)


__all__ = ["ROWS", "ViewRow", "view_class", "view_of"]
