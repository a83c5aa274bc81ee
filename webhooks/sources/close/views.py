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
from typing import Any, Self, TypeVar

from webhooks.model import EMPTY, Event

T = TypeVar("T")

#: What a field's key in the payload is read with: never raises, None for what it cannot read.
Reader = Callable[[Any], Any]

_CUSTOM = "custom"
_CUSTOM_PREFIX = "custom."


# -- reading one value --------------------------------------------------------------------------------------


def text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def number(value: Any) -> int | None:
    """A whole number; true and false are none, 341.0 is one."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) else None


def flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def instant(value: Any) -> datetime | None:
    """An aware UTC instant; without an offset it is UTC, a bare day is its midnight."""
    day = moment(value)
    if day is None or isinstance(day, datetime):
        return day
    return datetime.combine(day, time(), tzinfo=UTC)


def moment(value: Any) -> datetime | date | None:
    """A bare day as `date`, anything longer as an aware UTC instant."""
    if not isinstance(value, str):
        return None
    try:
        if len(value) == len("2026-03-16"):
            return date.fromisoformat(value)
        at = datetime.fromisoformat(value)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):  # the latter for years 1 and 9999 with an offset
        return None


def texts(value: Any) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list | tuple) else ()


def mapping(value: Any) -> Mapping[str, Any] | None:
    return value if isinstance(value, Mapping) else None


def _read(reader: Callable[[Any], T], key: str | None = None) -> T:
    """A field of a view, read from the payload's `key` (by default its own name)."""
    made: T = field(default=reader(None), metadata={"reader": reader, "key": key})
    return made


# -- parts --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What every view has. raw: the mapping it was read from."""

    raw: Mapping[str, Any] = field(default=EMPTY, repr=False, compare=False)

    @classmethod
    def from_data(cls, data: Any) -> Self:
        """Read `data`; anything that is not a mapping is read as an empty one."""
        raw: Mapping[str, Any] = data if isinstance(data, Mapping) else EMPTY
        values = {
            each.name: each.metadata["reader"](raw.get(each.metadata["key"] or each.name))
            for each in fields(cls)
            if "reader" in each.metadata
        }
        return cls(raw=raw, **values)


def _parts(part: type[_PartT]) -> Callable[[Any], tuple[_PartT, ...]]:
    """A list of objects; what is no object in it is left out."""

    def read(value: Any) -> tuple[_PartT, ...]:
        if not isinstance(value, list | tuple):
            return ()
        return tuple(part.from_data(item) for item in value if isinstance(item, Mapping))

    return read


_PartT = TypeVar("_PartT", bound=_Part)


@dataclass(frozen=True, kw_only=True)
class Attachment(_Part):
    """A file of a message. size: bytes."""

    url: str | None = _read(text)
    filename: str | None = _read(text)
    content_type: str | None = _read(text)
    size: int | None = _read(number)
    thumbnail_url: str | None = _read(text)


@dataclass(frozen=True, kw_only=True)
class ContactEmail(_Part):
    email: str | None = _read(text)
    type: str | None = _read(text)
    is_unsubscribed: bool | None = _read(flag)


@dataclass(frozen=True, kw_only=True)
class ContactPhone(_Part):
    phone: str | None = _read(text)
    phone_formatted: str | None = _read(text)
    type: str | None = _read(text)
    country: str | None = _read(text)


@dataclass(frozen=True, kw_only=True)
class ContactUrl(_Part):
    url: str | None = _read(text)
    type: str | None = _read(text)


@dataclass(frozen=True, kw_only=True)
class Address(_Part):
    label: str | None = _read(text)
    address_1: str | None = _read(text)
    address_2: str | None = _read(text)
    city: str | None = _read(text)
    state: str | None = _read(text)
    zipcode: str | None = _read(text)
    country: str | None = _read(text)


# -- objects ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class View(_Part):
    """One object of Close. id: Close's own, opaque."""

    id: str | None = _read(text)
    organization_id: str | None = _read(text)
    date_created: datetime | None = _read(instant)
    date_updated: datetime | None = _read(instant)
    created_by: str | None = _read(text)
    updated_by: str | None = _read(text)

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
        found = {key: value for key, value in nested.items() if isinstance(key, str)} if _is(nested) else {}
        for key, value in self.raw.items():
            if isinstance(key, str) and key.startswith(_CUSTOM_PREFIX):
                found[key.removeprefix(_CUSTOM_PREFIX)] = value
        return found

    def custom_field(self, name: str, default: Any = None) -> Any:
        """The value of one custom field; name: `cf_…`, with or without `custom.` before it."""
        return self.custom.get(name.removeprefix(_CUSTOM_PREFIX), default)


def _is(value: Any) -> bool:
    return isinstance(value, Mapping)


@dataclass(frozen=True, kw_only=True)
class Lead(View):
    """name: None for a lead that an opportunity made; Close shows it as "Untitled" (`display_name`)."""

    name: str | None = _read(text)
    display_name: str | None = _read(text)
    description: str | None = _read(text)
    status_id: str | None = _read(text)
    status_label: str | None = _read(text)
    contact_ids: tuple[str, ...] = _read(texts)
    addresses: tuple[Address, ...] = _read(_parts(Address))
    url: str | None = _read(text)
    html_url: str | None = _read(text)
    created_by_name: str | None = _read(text)
    updated_by_name: str | None = _read(text)

    @property
    def is_untitled(self) -> bool:
        """Whether nobody has named this lead yet."""
        return not self.name


@dataclass(frozen=True, kw_only=True)
class Contact(View):
    lead_id: str | None = _read(text)
    name: str | None = _read(text)
    display_name: str | None = _read(text)
    title: str | None = _read(text)
    emails: tuple[ContactEmail, ...] = _read(_parts(ContactEmail))
    phones: tuple[ContactPhone, ...] = _read(_parts(ContactPhone))
    urls: tuple[ContactUrl, ...] = _read(_parts(ContactUrl))


@dataclass(frozen=True, kw_only=True)
class Opportunity(View):
    """value, expected_value and their annualized forms: cents. date_won, date_lost: usually bare days."""

    lead_id: str | None = _read(text)
    lead_name: str | None = _read(text)
    contact_id: str | None = _read(text)
    contact_name: str | None = _read(text)
    user_id: str | None = _read(text)
    user_name: str | None = _read(text)
    status_id: str | None = _read(text)
    status_label: str | None = _read(text)
    status_display_name: str | None = _read(text)
    #: active, won or lost
    status_type: str | None = _read(text)
    pipeline_id: str | None = _read(text)
    pipeline_name: str | None = _read(text)
    confidence: int | None = _read(number)
    value: int | None = _read(number)
    value_currency: str | None = _read(text)
    value_formatted: str | None = _read(text)
    #: one_time, monthly or annual
    value_period: str | None = _read(text)
    expected_value: int | None = _read(number)
    annualized_value: int | None = _read(number)
    annualized_expected_value: int | None = _read(number)
    date_won: datetime | date | None = _read(moment)
    date_lost: datetime | date | None = _read(moment)
    note: str | None = _read(text)
    created_by_name: str | None = _read(text)
    updated_by_name: str | None = _read(text)


@dataclass(frozen=True, kw_only=True)
class Outcome(View):
    """applies_to: `calls`, `meetings`; follows from `type` (`custom` or `vm-dropped`)."""

    name: str | None = _read(text)
    description: str | None = _read(text)
    type: str | None = _read(text)
    applies_to: tuple[str, ...] = _read(texts)


@dataclass(frozen=True, kw_only=True)
class Task(View):
    """type: Close's `_type`, such as `lead`. date, due_date: usually bare days."""

    type: str | None = _read(text, "_type")
    lead_id: str | None = _read(text)
    lead_name: str | None = _read(text)
    contact_id: str | None = _read(text)
    contact_name: str | None = _read(text)
    assigned_to: str | None = _read(text)
    assigned_to_name: str | None = _read(text)
    text: str | None = _read(text)
    date: datetime | date | None = _read(moment)
    due_date: datetime | date | None = _read(moment)
    is_complete: bool | None = _read(flag)
    is_dateless: bool | None = _read(flag)
    object_id: str | None = _read(text)
    object_type: str | None = _read(text)
    view: str | None = _read(text)


@dataclass(frozen=True, kw_only=True)
class Activity(View):
    """What all activities share. type: Close's `_type`, such as `Call`."""

    type: str | None = _read(text, "_type")
    lead_id: str | None = _read(text)
    contact_id: str | None = _read(text)
    user_id: str | None = _read(text)
    user_name: str | None = _read(text)
    activity_at: datetime | None = _read(instant)
    created_by_name: str | None = _read(text)
    updated_by_name: str | None = _read(text)
    sequence_id: str | None = _read(text)
    sequence_name: str | None = _read(text)
    sequence_subscription_id: str | None = _read(text)


@dataclass(frozen=True, kw_only=True)
class WhatsAppMessage(Activity):
    """response_to_id: the Close activity id of the message answered, not WhatsApp's."""

    #: incoming or outgoing; calls and SMS say inbound and outbound
    direction: str | None = _read(text)
    message_markdown: str | None = _read(text)
    message_html: str | None = _read(text)
    text: str | None = _read(text)
    external_whatsapp_message_id: str | None = _read(text)
    response_to_id: str | None = _read(text)
    attachments: tuple[Attachment, ...] = _read(_parts(Attachment))
    integration_link: str | None = _read(text)
    integration_name: str | None = _read(text)
    local_phone: str | None = _read(text)
    local_phone_formatted: str | None = _read(text)
    remote_phone: str | None = _read(text)
    remote_phone_formatted: str | None = _read(text)
    source: str | None = _read(text)

    @property
    def is_incoming(self) -> bool:
        return self.direction == "incoming"


@dataclass(frozen=True, kw_only=True)
class Email(Activity):
    """sender: an address or `"Name" <address>`; None is legal for drafts."""

    #: inbox, draft, scheduled, outbox, sent or error
    status: str | None = _read(text)
    #: incoming or outgoing
    direction: str | None = _read(text)
    sender: str | None = _read(text)
    to: tuple[str, ...] = _read(texts)
    cc: tuple[str, ...] = _read(texts)
    bcc: tuple[str, ...] = _read(texts)
    subject: str | None = _read(text)
    body_text: str | None = _read(text)
    body_html: str | None = _read(text)
    body_preview: str | None = _read(text)
    date_sent: datetime | None = _read(instant)
    date_scheduled: datetime | None = _read(instant)
    attachments: tuple[Attachment, ...] = _read(_parts(Attachment))
    thread_id: str | None = _read(text)
    in_reply_to_id: str | None = _read(text)
    message_ids: tuple[str, ...] = _read(texts)
    references: tuple[str, ...] = _read(texts)
    has_reply: bool | None = _read(flag)
    email_account_id: str | None = _read(text)
    template_id: str | None = _read(text)
    template_name: str | None = _read(text)
    bulk_email_action_id: str | None = _read(text)
    envelope: Mapping[str, Any] | None = _read(mapping)

    @property
    def sender_address(self) -> str | None:
        """The bare address in `sender`; None when there is none."""
        return parseaddr(self.sender)[1] or None if self.sender else None


@dataclass(frozen=True, kw_only=True)
class Call(Activity):
    """duration: seconds. One logged by hand gets its duration only by a later `updated`."""

    #: inbound or outbound; messages say incoming and outgoing
    direction: str | None = _read(text)
    status: str | None = _read(text)
    disposition: str | None = _read(text)
    duration: int | None = _read(number)
    outcome_id: str | None = _read(text)
    note: str | None = _read(text)
    note_html: str | None = _read(text)
    phone: str | None = _read(text)
    local_phone: str | None = _read(text)
    local_phone_formatted: str | None = _read(text)
    remote_phone: str | None = _read(text)
    remote_phone_formatted: str | None = _read(text)
    date_answered: datetime | None = _read(instant)
    recording_url: str | None = _read(text)
    voicemail_url: str | None = _read(text)
    source: str | None = _read(text)
    cost: str | None = _read(text)
    dialer_id: str | None = _read(text)


@dataclass(frozen=True, kw_only=True)
class Meeting(Activity):
    """duration: seconds. attendees: as Close sends them."""

    title: str | None = _read(text)
    status: str | None = _read(text)
    location: str | None = _read(text)
    note: str | None = _read(text)
    outcome_id: str | None = _read(text)
    starts_at: datetime | date | None = _read(moment)
    ends_at: datetime | date | None = _read(moment)
    duration: int | None = _read(number)
    is_recurring: bool | None = _read(flag)
    source: str | None = _read(text)


@dataclass(frozen=True, kw_only=True)
class Note(Activity):
    note: str | None = _read(text)
    note_html: str | None = _read(text)
    title: str | None = _read(text)
    attachments: tuple[Attachment, ...] = _read(_parts(Attachment))
