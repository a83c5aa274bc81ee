"""What an organization sets up, and what runs over many leads: fields, templates, sequences, bulk actions, exports."""

from __future__ import annotations

from dataclasses import dataclass, field

from webhooks.sources.close.views.reading import Flag, Number, Object, Objects, Text, Texts, View


@dataclass(frozen=True, kw_only=True)
class BulkAction(View):
    """What one of them does beside that (edit, delete, e-mail, subscribe) is in `raw`."""

    #: of an edit: set_lead_status, set_custom_field or clear_custom_field
    type: Text = None
    #: of sequence subscriptions: subscribe, resume, resume_finished or pause
    action_type: Text = None
    status: Text = None
    query: Text = None
    s_query: Object = field(default=None, hash=False)
    results_limit: Number = None
    n_leads: Number = None
    n_leads_processed: Number = None
    n_objects: Number = None
    n_objects_processed: Number = None
    send_done_email: Flag = None
    lead_status_id: Text = None
    custom_field_name: Text = None
    sequence_id: Text = None
    sender_account_id: Text = None
    sender_name: Text = None
    sender_email: Text = None
    contact_preference: Text = None


@dataclass(frozen=True, kw_only=True)
class Export(View):
    """status: created, started, in_progress, done or error. download_url: once it is done."""

    status: Text = None
    download_url: Text = None


@dataclass(frozen=True, kw_only=True)
class CustomField(View):
    """The definition of a custom field; its values are in the objects that have it."""

    name: Text = None
    description: Text = None
    type: Text = None
    choices: Texts = ()
    accepts_multiple_values: Flag = None
    editable_with_roles: Texts = ()
    is_shared: Flag = None
    referenced_custom_type_id: Text = None


@dataclass(frozen=True, kw_only=True)
class Status(View):
    """A status that leads or opportunities may have. type: of an opportunity's: active, won or lost."""

    label: Text = None
    type: Text = None
    pipeline_id: Text = None


@dataclass(frozen=True, kw_only=True)
class SmartView(View):
    """A search that is kept; `saved_search` in events."""

    name: Text = None
    type: Text = None
    query: Text = None
    s_query: Object = field(default=None, hash=False)
    user_id: Text = None
    is_shared: Flag = None
    is_user_dependent: Flag = None


@dataclass(frozen=True, kw_only=True)
class Template(View):
    """Of an e-mail or an SMS. body, subject: of an e-mail's."""

    name: Text = None
    subject: Text = None
    body: Text = None
    attachments: Objects = field(default=(), hash=False)
    is_shared: Flag = None
    is_archived: Flag = None


@dataclass(frozen=True, kw_only=True)
class Sequence(View):
    """steps: as Close sends them."""

    name: Text = None
    status: Text = None
    schedule_id: Text = None
    timezone: Text = None
    steps: Objects = field(default=(), hash=False)
    created_by_id: Text = None
    updated_by_id: Text = None
    allow_manual_enrollment: Flag = None
    trigger_query: Text = None


@dataclass(frozen=True, kw_only=True)
class SequenceSubscription(View):
    """One contact in one sequence."""

    sequence_id: Text = None
    lead_id: Text = None
    contact_id: Text = None
    contact_email: Text = None
    calls_assigned_to: Texts = ()
    created_by_id: Text = None
