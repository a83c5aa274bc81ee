"""Activities: messages, calls, meetings, notes, forms, and what Close notes by itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from email.utils import parseaddr
from typing import Annotated

from webhooks.sources.close.views.reading import (
    Activity,
    Flag,
    Instant,
    Moment,
    Number,
    Object,
    Objects,
    Text,
    Texts,
    ViewPart,
    parts,
)


@dataclass(frozen=True, kw_only=True)
class Attachment(ViewPart):
    """A file of a message. size: bytes."""

    url: Text = None
    filename: Text = None
    content_type: Text = None
    size: Number = None
    thumbnail_url: Text = None


@dataclass(frozen=True, kw_only=True)
class WhatsAppMessage(Activity):
    """response_to_id: the Close activity id of the message answered, not WhatsApp's."""

    #: incoming or outgoing; calls and SMS say inbound and outbound
    direction: Text = None
    message_markdown: Text = None
    message_html: Text = None
    text: Text = None
    external_whatsapp_message_id: Text = None
    response_to_id: Text = None
    attachments: Annotated[tuple[Attachment, ...], parts(Attachment)] = ()
    integration_link: Text = None
    integration_name: Text = None
    local_phone: Text = None
    local_phone_formatted: Text = None
    remote_phone: Text = None
    remote_phone_formatted: Text = None
    source: Text = None

    @property
    def is_incoming(self) -> bool:
        """Whether a customer wrote it."""
        return self.direction == "incoming"


@dataclass(frozen=True, kw_only=True)
class Email(Activity):
    """sender: an address or `"Name" <address>`; None is legal for drafts."""

    #: inbox, draft, scheduled, outbox, sent or error
    status: Text = None
    #: incoming or outgoing
    direction: Text = None
    sender: Text = None
    to: Texts = ()
    cc: Texts = ()
    bcc: Texts = ()
    subject: Text = None
    body_text: Text = None
    body_html: Text = None
    body_preview: Text = None
    date_sent: Instant = None
    date_scheduled: Instant = None
    attachments: Annotated[tuple[Attachment, ...], parts(Attachment)] = ()
    thread_id: Text = None
    in_reply_to_id: Text = None
    message_ids: Texts = ()
    references: Texts = ()
    has_reply: Flag = None
    email_account_id: Text = None
    template_id: Text = None
    template_name: Text = None
    bulk_email_action_id: Text = None
    envelope: Object = field(default=None, hash=False)

    @property
    def sender_address(self) -> str | None:
        """The bare address in `sender`; None when there is none."""
        return parseaddr(self.sender)[1] or None if self.sender else None


@dataclass(frozen=True, kw_only=True)
class Call(Activity):
    """duration: seconds. One logged by hand gets its duration only by a later `updated`."""

    #: inbound or outbound; messages say incoming and outgoing
    direction: Text = None
    status: Text = None
    disposition: Text = None
    duration: Number = None
    outcome_id: Text = None
    note: Text = None
    note_html: Text = None
    phone: Text = None
    local_phone: Text = None
    local_phone_formatted: Text = None
    remote_phone: Text = None
    remote_phone_formatted: Text = None
    date_answered: Instant = None
    recording_url: Text = None
    voicemail_url: Text = None
    source: Text = None
    cost: Text = None
    dialer_id: Text = None


@dataclass(frozen=True, kw_only=True)
class Meeting(Activity):
    """duration: seconds. attendees: as Close sends them."""

    title: Text = None
    status: Text = None
    location: Text = None
    note: Text = None
    outcome_id: Text = None
    starts_at: Moment = None
    ends_at: Moment = None
    duration: Number = None
    is_recurring: Flag = None
    source: Text = None


@dataclass(frozen=True, kw_only=True)
class Note(Activity):
    note: Text = None
    note_html: Text = None
    title: Text = None
    attachments: Annotated[tuple[Attachment, ...], parts(Attachment)] = ()


@dataclass(frozen=True, kw_only=True)
class SMS(Activity):
    """A message with attachments is an MMS."""

    #: inbox, draft, scheduled, outbox, sent or error
    status: Text = None
    #: inbound or outbound
    direction: Text = None
    text: Text = None
    local_phone: Text = None
    local_phone_formatted: Text = None
    local_country_iso: Text = None
    remote_phone: Text = None
    remote_phone_formatted: Text = None
    remote_country_iso: Text = None
    date_sent: Instant = None
    date_scheduled: Instant = None
    attachments: Annotated[tuple[Attachment, ...], parts(Attachment)] = ()
    error_message: Text = None
    template_id: Text = None
    source: Text = None
    cost: Text = None


@dataclass(frozen=True, kw_only=True)
class EmailThread(Activity):
    """latest_emails, participants: as Close sends them."""

    latest_normalized_subject: Text = None
    n_emails: Number = None
    participants: Objects = field(default=(), hash=False)
    latest_emails: Objects = field(default=(), hash=False)


@dataclass(frozen=True, kw_only=True)
class FormSubmission(Activity):
    """values: {id of a field: what was entered}; values_by_name: the same by names."""

    form_id: Text = None
    form_name: Text = None
    form_configuration_id: Text = None
    ip_address: Text = None
    origin: Text = None
    source_url: Text = None
    source_url_normalized: Text = None
    values: Object = field(default=None, hash=False)
    values_by_name: Object = field(default=None, hash=False)


@dataclass(frozen=True, kw_only=True)
class CustomActivity(Activity):
    """Its fields are custom fields. status: draft or published."""

    custom_activity_type_id: Text = None
    status: Text = None
    last_published_at: Instant = None
    mentions: Texts = ()
    pinned: Flag = None
    pinned_at: Instant = None
    source: Text = None


@dataclass(frozen=True, kw_only=True)
class LeadStatusChange(Activity):
    """A lead that was given another status."""

    old_status_id: Text = None
    old_status_label: Text = None
    new_status_id: Text = None
    new_status_label: Text = None


@dataclass(frozen=True, kw_only=True)
class OpportunityStatusChange(Activity):
    """opportunity_value: cents. opportunity_date_won: usually a bare day."""

    opportunity_id: Text = None
    opportunity_value: Number = None
    opportunity_value_currency: Text = None
    opportunity_value_formatted: Text = None
    opportunity_date_won: Moment = None
    old_status_id: Text = None
    old_status_label: Text = None
    old_status_type: Text = None
    old_pipeline_id: Text = None
    new_status_id: Text = None
    new_status_label: Text = None
    new_status_type: Text = None
    new_pipeline_id: Text = None


@dataclass(frozen=True, kw_only=True)
class TaskCompleted(Activity):
    """A task that was ticked off."""

    task_id: Text = None
    task_text: Text = None
    task_assigned_to: Text = None
    task_assigned_to_name: Text = None


@dataclass(frozen=True, kw_only=True)
class LeadMerge(Activity):
    """Which leads they were stands in the event's `meta` (`merge_source_lead_id`, `merge_destination_lead_id`)."""

    merge_status: Text = None
