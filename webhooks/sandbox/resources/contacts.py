"""Contacts: people on a lead. One posted without `lead_id` gets a lead of its own, named after it.

That lead has its own `lead.created` with the same request_id, written just before the contact's. Shapes as in
`payloads/contact_*.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from webhooks.sandbox.accounts import Caller
from webhooks.sandbox.refusals import Invalid
from webhooks.sandbox.resources.resource import (
    NO_SUCH_OBJECT,
    Check,
    Field,
    Object,
    Objects,
    Resource,
    WrongValue,
    country_of,
    flag,
    formatted,
    list_of,
    name,
    optional,
    record,
    text,
    url,
)


def email_address(value: Any) -> str:
    """Check: an email address."""
    local, at, domain = text(value).partition("@")
    if not (local and at and domain) or "@" in domain or any(each.isspace() for each in value):
        raise WrongValue("Not an email address.")
    return str(value)


def phone_number(value: Any) -> str:
    """Check: a phone number."""
    digits = text(value).removeprefix("+")
    if not (digits.isascii() and digits.isdigit() and 3 <= len(digits) <= 20):
        raise WrongValue("Invalid phone number; write it like +33639980177.")
    return str(value)


_email: Check = record({"email": email_address}, {"type": text, "is_unsubscribed": flag})
_phone: Check = record({"phone": phone_number}, {"type": text})
_url: Check = record({"url": url}, {"type": text})


class Contacts(Resource):
    object_type: ClassVar[str] = "contact"
    path: ClassVar[str] = "contact"
    id_prefix: ClassVar[str] = "cont"
    has_names: ClassVar[bool] = False
    has_custom_fields: ClassVar[bool] = True
    fields: ClassVar[Mapping[str, Field]] = {
        "lead_id": Field(optional(name), is_fixed=True),
        "name": Field(optional(text)),
        "title": Field(optional(text)),
        "emails": Field(list_of(_email), list),
        "phones": Field(list_of(_phone), list),
        "urls": Field(list_of(_url), list),
    }

    def derive(self, objects: Objects, made: Object) -> None:
        """What follows from other fields; see `Resource`."""
        first = [each["email"] for each in made["emails"]] + [each["phone"] for each in made["phones"]]
        made["display_name"] = made["name"] or next(iter(first), "")
        for each in made["emails"]:
            each["type"] = each.get("type") or "office"
            each["is_unsubscribed"] = bool(each.get("is_unsubscribed"))
        for each in made["phones"]:
            each["type"] = each.get("type") or "office"
            each |= {"phone_formatted": formatted(each["phone"]), "country": country_of(each["phone"])}
        for each in made["urls"]:
            each["type"] = each.get("type") or "url"

    def before_create(self, objects: Objects, made: Object, actor: Caller, params: Mapping[str, Any]) -> None:
        """What a new one needs; see `Resource`."""
        if made["lead_id"] is None:
            self.derive(objects, made)
            lead = objects.insert(
                "lead", {"name": made["display_name"].strip() or None}, actor, contact_ids=[made["id"]]
            )
            made["lead_id"] = lead["id"]
        elif objects.find("lead", made["lead_id"]) is None:
            raise Invalid.field("lead_id", NO_SUCH_OBJECT)

    def after_create(self, objects: Objects, made: Object, actor: Caller, params: Mapping[str, Any]) -> None:
        """What else happens; see `Resource`."""
        lead = objects.stored("lead", made["lead_id"])
        if made["id"] not in lead["contact_ids"]:
            objects.change("lead", lead["id"], {"contact_ids": [*lead["contact_ids"], made["id"]]}, actor)

    def after_delete(self, objects: Objects, gone: Object, actor: Caller) -> None:
        """What follows; see `Resource`."""
        lead = objects.stored("lead", gone["lead_id"])
        rest = [id for id in lead["contact_ids"] if id != gone["id"]]
        objects.change("lead", lead["id"], {"contact_ids": rest}, actor)
