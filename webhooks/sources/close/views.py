"""Typed views of Close's payloads, for handler authors.

`WhatsAppMessage.from_event(event)` reads `event.data`, or the former object when the event is a deletion; `from_data`
reads any mapping shaped like the API's answers. `event.data` itself stays a plain mapping: a view is a convenience,
never a gate. Nothing here raises for what Close sent: a field that is missing, null or of another type is None (or
an empty tuple), an unknown one is only in `raw`.

Instants are aware UTC datetimes, also where Close leaves the offset away. A deal's `date_won` and a task's `date` may
be bare days; those stay `date`. Amounts of money are in cents, as Close sends them.

Custom fields come flat (`custom.cf_…`) or, seen by one consumer, nested under `custom`: `view.custom` reads both.
Source: developer.close.com/api/resources (read 2026-11-23) and this package's `payloads/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, time
from email.utils import parseaddr
from functools import cache
from typing import Annotated, Any, Self, TypeVar, get_type_hints

from webhooks.formats import read_iso
from webhooks.model import EMPTY, Event

#: Reads one value of a payload: never raises, None for what it cannot read.
Reader = Callable[[Any], Any]

_CUSTOM = "custom"
_CUSTOM_PREFIX = "custom."


# -- reading one value --------------------------------------------------------------------------------------


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Any) -> int | None:
    """A whole number; true and false are none, 341.0 is one."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) else None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _instant(value: Any) -> datetime | None:
    """An aware UTC instant; without an offset it is UTC, a bare day is its midnight."""
    day = _moment(value)
    if day is None or isinstance(day, datetime):
        return day
    return datetime.combine(day, time(), tzinfo=UTC)


def _moment(value: Any) -> datetime | date | None:
    """A bare day as `date`, anything longer as an aware UTC instant."""
    if not isinstance(value, str):
        return None
    at = read_iso(value)
    return at.date() if at is not None and len(value) == len("2026-03-16") else at


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list | tuple) else ()


def _mapping(value: Any) -> Mapping[str, Any] | None:
    return value if isinstance(value, Mapping) else None


#: What the fields of a view are: a type, and how its value is read from the payload.
Text = Annotated[str | None, _text]
Texts = Annotated[tuple[str, ...], _texts]
Number = Annotated[int | None, _number]
Flag = Annotated[bool | None, _flag]
Instant = Annotated[datetime | None, _instant]
Moment = Annotated[datetime | date | None, _moment]
Object = Annotated[Mapping[str, Any] | None, _mapping]

#: {field of a view: its key in the payload}, where the two differ
_KEYS = {"type_name": "_type"}


# -- parts --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What every view has. raw: the mapping it was read from."""

    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_data(cls, data: Any) -> Self:
        """Read `data`; anything that is not a mapping is read as an empty one."""
        raw: Mapping[str, Any] = data if isinstance(data, Mapping) else EMPTY
        readers = _readers(cls)  # type: ignore[arg-type]  # classes are hashable
        return cls(raw=raw, **{name: read(raw.get(_KEYS.get(name, name))) for name, read in readers.items()})


@cache
def _readers(cls: type[_Part]) -> dict[str, Reader]:
    """{field: what reads its value}, from the annotations of the class."""
    hints = get_type_hints(cls, include_extras=True)
    return {each.name: hints[each.name].__metadata__[0] for each in fields(cls) if each.name != "raw"}


_PartT = TypeVar("_PartT", bound=_Part)


def _parts(part: type[_PartT]) -> Callable[[Any], tuple[_PartT, ...]]:
    """A list of objects; what is no object in it is left out."""

    def read(value: Any) -> tuple[_PartT, ...]:
        if not isinstance(value, list | tuple):
            return ()
        return tuple(part.from_data(item) for item in value if isinstance(item, Mapping))

    return read


@dataclass(frozen=True, kw_only=True)
class Attachment(_Part):
    """A file of a message. size: bytes."""

    url: Text = None
    filename: Text = None
    content_type: Text = None
    size: Number = None
    thumbnail_url: Text = None


@dataclass(frozen=True, kw_only=True)
class ContactEmail(_Part):
    email: Text = None
    type: Text = None
    is_unsubscribed: Flag = None


@dataclass(frozen=True, kw_only=True)
class ContactPhone(_Part):
    phone: Text = None
    phone_formatted: Text = None
    type: Text = None
    country: Text = None


@dataclass(frozen=True, kw_only=True)
class ContactUrl(_Part):
    url: Text = None
    type: Text = None


@dataclass(frozen=True, kw_only=True)
class Address(_Part):
    label: Text = None
    address_1: Text = None
    address_2: Text = None
    city: Text = None
    state: Text = None
    zipcode: Text = None
    country: Text = None


# -- objects ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class View(_Part):
    """One object of Close. id: Close's own, opaque."""

    id: Text = None
    organization_id: Text = None
    date_created: Instant = None
    date_updated: Instant = None
    created_by: Text = None
    updated_by: Text = None

    @classmethod
    def from_event(cls, event: Event) -> Self:
        """The object after the event; for a deletion, the object that was deleted.

        An event that carries neither (a stripped copy from the log) gives a view with nothing but its id.
        """
        data = event.data
        if not isinstance(data, Mapping) and event.action == "deleted":
            data = event.previous
        view = cls.from_data(data)
        if view.id is None and event.object_id is not None:
            object.__setattr__(view, "id", event.object_id)  # not published yet, so still ours to complete
        return view

    @property
    def custom(self) -> Mapping[str, Any]:
        """{custom field id: value}, from both spellings; the flat one counts where both are there."""
        nested = self.raw.get(_CUSTOM)
        found = dict(nested) if isinstance(nested, Mapping) else {}
        for key, value in self.raw.items():
            if key.startswith(_CUSTOM_PREFIX):
                found[key.removeprefix(_CUSTOM_PREFIX)] = value
        return found

    def custom_field(self, name: str, default: Any = None) -> Any:
        """The value of one custom field; name: `cf_…`, with or without `custom.` before it."""
        return self.custom.get(name.removeprefix(_CUSTOM_PREFIX), default)


@dataclass(frozen=True, kw_only=True)
class Lead(View):
    """name: None for a lead that an opportunity made; Close shows it as "Untitled" (`display_name`)."""

    name: Text = None
    display_name: Text = None
    description: Text = None
    status_id: Text = None
    status_label: Text = None
    contact_ids: Texts = ()
    addresses: Annotated[tuple[Address, ...], _parts(Address)] = ()
    url: Text = None
    html_url: Text = None
    created_by_name: Text = None
    updated_by_name: Text = None

    @property
    def is_untitled(self) -> bool:
        """Whether this lead has no name yet."""
        return not self.name


@dataclass(frozen=True, kw_only=True)
class Contact(View):
    lead_id: Text = None
    name: Text = None
    display_name: Text = None
    title: Text = None
    emails: Annotated[tuple[ContactEmail, ...], _parts(ContactEmail)] = ()
    phones: Annotated[tuple[ContactPhone, ...], _parts(ContactPhone)] = ()
    urls: Annotated[tuple[ContactUrl, ...], _parts(ContactUrl)] = ()


@dataclass(frozen=True, kw_only=True)
class Opportunity(View):
    """value, expected_value and their annualized forms: cents. date_won, date_lost: usually bare days."""

    lead_id: Text = None
    lead_name: Text = None
    contact_id: Text = None
    contact_name: Text = None
    user_id: Text = None
    user_name: Text = None
    status_id: Text = None
    status_label: Text = None
    status_display_name: Text = None
    #: active, won or lost
    status_type: Text = None
    pipeline_id: Text = None
    pipeline_name: Text = None
    confidence: Number = None
    value: Number = None
    value_currency: Text = None
    value_formatted: Text = None
    #: one_time, monthly or annual
    value_period: Text = None
    expected_value: Number = None
    annualized_value: Number = None
    annualized_expected_value: Number = None
    date_won: Moment = None
    date_lost: Moment = None
    note: Text = None
    created_by_name: Text = None
    updated_by_name: Text = None


@dataclass(frozen=True, kw_only=True)
class Outcome(View):
    """applies_to: `calls`, `meetings`; follows from `type` (`custom` or `vm-dropped`)."""

    name: Text = None
    description: Text = None
    type: Text = None
    applies_to: Texts = ()


@dataclass(frozen=True, kw_only=True)
class Task(View):
    """type_name: Close's `_type`, such as `lead`. date, due_date: usually bare days."""

    type_name: Text = None
    lead_id: Text = None
    lead_name: Text = None
    contact_id: Text = None
    contact_name: Text = None
    assigned_to: Text = None
    assigned_to_name: Text = None
    text: Text = None
    date: Moment = None
    due_date: Moment = None
    is_complete: Flag = None
    is_dateless: Flag = None
    object_id: Text = None
    object_type: Text = None
    view: Text = None


@dataclass(frozen=True, kw_only=True)
class Activity(View):
    """What all activities share. type_name: Close's `_type`, such as `Call`."""

    type_name: Text = None
    lead_id: Text = None
    contact_id: Text = None
    user_id: Text = None
    user_name: Text = None
    activity_at: Instant = None
    created_by_name: Text = None
    updated_by_name: Text = None
    sequence_id: Text = None
    sequence_name: Text = None
    sequence_subscription_id: Text = None


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
    attachments: Annotated[tuple[Attachment, ...], _parts(Attachment)] = ()
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
    attachments: Annotated[tuple[Attachment, ...], _parts(Attachment)] = ()
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
    attachments: Annotated[tuple[Attachment, ...], _parts(Attachment)] = ()
