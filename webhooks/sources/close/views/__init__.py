"""Typed views of Close's payloads, for handler authors: one for each type of object (`table`).

`WhatsAppMessage.from_event(event)` reads `event.data`, or the former object when the event is a deletion; `from_data`
reads any mapping shaped like the API's answers; `view_of(event)` takes the view that fits. `event.data` itself stays a plain mapping,
unless a handler asks for a view (`Event[WhatsAppMessage]`). A view is a convenience, never a gate. Nothing here raises for what Close sent: a field
that is missing, null or of another type is None (or an empty tuple), an unknown one is only in `raw`.

Instants are aware UTC datetimes, also where Close leaves the offset away. A deal's `date_won` and a task's `date` may
be bare days; those stay `date`. Amounts of money are in cents, as Close sends them.

Custom fields come flat (`custom.cf_…`) or, seen by one consumer, nested under `custom`: `view.custom` reads both.
Source: developer.close.com/api/resources (read 2026-11-23), this package's `payloads/`, and `table` where others are meant.
"""

from __future__ import annotations

from webhooks.sources.close.views.activities import (
    SMS,
    Attachment,
    Call,
    CustomActivity,
    Email,
    EmailThread,
    FormSubmission,
    LeadMerge,
    LeadStatusChange,
    Meeting,
    Note,
    OpportunityStatusChange,
    TaskCompleted,
    WhatsAppMessage,
)
from webhooks.sources.close.views.objects import (
    Address,
    Contact,
    ContactEmail,
    ContactPhone,
    ContactUrl,
    Group,
    Lead,
    Opportunity,
    Outcome,
    Task,
)
from webhooks.sources.close.views.organization import (
    BulkAction,
    CustomField,
    Export,
    Sequence,
    SequenceSubscription,
    SmartView,
    Status,
    Template,
)
from webhooks.sources.close.views.reading import Activity, View
from webhooks.sources.close.views.table import ROWS, view_class, view_of

__all__ = [
    "ROWS", "SMS", "Activity", "Address", "Attachment", "BulkAction", "Call", "Contact", "ContactEmail", "ContactPhone",
    "ContactUrl", "CustomActivity", "CustomField", "Email", "EmailThread", "Export", "FormSubmission", "Group", "Lead",
    "LeadMerge", "LeadStatusChange", "Meeting", "Note", "Opportunity", "OpportunityStatusChange", "Outcome", "Sequence",
    "SequenceSubscription", "SmartView", "Status", "Task", "TaskCompleted", "Template", "View", "WhatsAppMessage",
    "view_class", "view_of",
]  # fmt: skip
