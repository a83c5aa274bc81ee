"""Leads, and what stands beside them: contacts, opportunities, tasks, outcomes, groups."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from webhooks.sources.close.views.reading import Flag, Moment, Number, Objects, Text, Texts, View, ViewPart, parts


@dataclass(frozen=True, kw_only=True)
class ContactEmail(ViewPart):
    email: Text = None
    type: Text = None
    is_unsubscribed: Flag = None


@dataclass(frozen=True, kw_only=True)
class ContactPhone(ViewPart):
    phone: Text = None
    phone_formatted: Text = None
    type: Text = None
    country: Text = None


@dataclass(frozen=True, kw_only=True)
class ContactUrl(ViewPart):
    url: Text = None
    type: Text = None


@dataclass(frozen=True, kw_only=True)
class Address(ViewPart):
    label: Text = None
    address_1: Text = None
    address_2: Text = None
    city: Text = None
    state: Text = None
    zipcode: Text = None
    country: Text = None


@dataclass(frozen=True, kw_only=True)
class Lead(View):
    """name: None for a lead that an opportunity made; Close shows it as "Untitled" (`display_name`)."""

    name: Text = None
    display_name: Text = None
    description: Text = None
    status_id: Text = None
    status_label: Text = None
    contact_ids: Texts = ()
    addresses: Annotated[tuple[Address, ...], parts(Address)] = ()
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
    emails: Annotated[tuple[ContactEmail, ...], parts(ContactEmail)] = ()
    phones: Annotated[tuple[ContactPhone, ...], parts(ContactPhone)] = ()
    urls: Annotated[tuple[ContactUrl, ...], parts(ContactUrl)] = ()


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
class Group(View):
    """members: as Close sends them, each with `user_id`."""

    name: Text = None
    members: Objects = field(default=(), hash=False)
