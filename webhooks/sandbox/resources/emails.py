"""Email activities and the rules about their sender.

| status | sender |
|---|---|
| inbox, scheduled, outbox, error | required |
| draft | optional; required when it moves to scheduled or outbox |
| sent | defaults to the address of the user |

Mail in the outbox leaves after `rules.sending`, scheduled mail at its time; then come `updated` and `sent`, outside any
request. No mail is sent anywhere. Shapes as in `payloads/email_*.json`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from email import errors
from email.headerregistry import HeaderRegistry
from email.utils import format_datetime, parseaddr
from typing import Any, ClassVar

from webhooks.sandbox.accounts import USERS, Caller
from webhooks.sandbox.refusals import Invalid
from webhooks.sandbox.resources.resource import (
    NO_SUCH_OBJECT,
    REQUIRED,
    ActivityResource,
    Field,
    Object,
    Objects,
    WrongValue,
    choice,
    instant,
    list_of,
    name,
    optional,
    paragraph,
    stamp,
    text,
    user,
)

STATUSES = ("inbox", "draft", "scheduled", "outbox", "sent", "error")
NEEDS_SENDER = frozenset(("inbox", "scheduled", "outbox", "error"))

_read_header = HeaderRegistry()
#: What Python's parser says of a legal mailbox: a period in an unquoted name, and letters beyond ASCII.
_LEGAL = (errors.ObsoleteHeaderDefect, errors.NonASCIILocalPartDefect)


def sender(value: Any) -> str:
    """One mailbox of RFC 5322: an address, or a name, quoted or not, and an address in angle brackets."""
    if not _is_mailbox(text(value)):
        raise WrongValue("Neither an address nor Name <address>; quote a name that holds more than words.")
    return str(value)


def _is_mailbox(value: str) -> bool:
    try:
        header: Any = _read_header("from", value)
        (group,) = header.groups
        (mailbox,) = group.addresses
    except Exception:  # of several kinds: the parser was made for what arrives, not for what is judged
        return False
    is_whole = group.display_name is None and bool(mailbox.username and mailbox.domain)
    return is_whole and all(isinstance(defect, _LEGAL) for defect in header.defects)


class Emails(ActivityResource):
    object_type: ClassVar[str] = "activity.email"
    path: ClassVar[str] = "activity/email"
    type_name: ClassVar[str | None] = "Email"
    filters: ClassVar[tuple[str, ...]] = ("lead_id", "contact_id", "user_id", "status", "thread_id")
    constants: ClassVar[Mapping[str, Any]] = {
        **ActivityResource.constants,
        "attachments": list,
        "bulk_email_action_id": None,
        "email_account_id": None,
        "envelope": None,
        "followup_sequence_add_cc_bcc": False,
        "followup_sequence_delay": None,
        "followup_sequence_id": None,
        "has_reply": False,
        "message_ids": list,
        "need_smtp_credentials": False,
        "opens": list,
        "opens_summary": None,
        "references": list,
        "send_as_id": None,
        "send_attempts": list,
        "template_id": None,
        "template_name": None,
    }
    fields: ClassVar[Mapping[str, Field]] = {
        "lead_id": Field(optional(name), is_fixed=True),
        "contact_id": Field(optional(name), is_fixed=True),
        "user_id": Field(optional(user)),
        "activity_at": Field(optional(instant)),
        "status": Field(choice(*STATUSES), is_required=True),
        "sender": Field(optional(sender)),
        "to": Field(list_of(text), list),
        "cc": Field(list_of(text), list),
        "bcc": Field(list_of(text), list),
        "subject": Field(text, ""),
        "body_text": Field(text, ""),
        "body_html": Field(text, ""),
        "in_reply_to_id": Field(optional(name), is_fixed=True),
        "date_scheduled": Field(optional(instant)),
        "date_sent": Field(optional(instant)),
    }

    def derive(self, objects: Objects, made: Object) -> None:
        """What follows from other fields; see `Resource`."""
        made["direction"] = "incoming" if made["status"] == "inbox" else "outgoing"
        if made["body_text"] and not made["body_html"]:
            made["body_html"] = paragraph(made["body_text"].strip())
        words = made["body_text"] or re.sub(r"<[^<>]*>", " ", made["body_html"])
        made["body_preview"] = " ".join(words.split())[:200]

    def before_create(self, objects: Objects, made: Object, actor: Caller, params: Mapping[str, Any]) -> None:
        """What a new one needs; see `Resource`."""
        super().before_create(objects, made, actor, params)
        made["thread_id"] = objects.ids.make("acti")
        if made["in_reply_to_id"] is not None:
            answered = objects.find("activity.email", made["in_reply_to_id"])
            if answered is None:
                raise Invalid.field("in_reply_to_id", NO_SUCH_OBJECT)
            made["thread_id"] = answered["thread_id"]
        self._judge(objects, made, made)

    def before_update(self, objects: Objects, before: Object, values: Object, actor: Caller) -> None:
        """Judge or complete a change; see `Resource`."""
        self._judge(objects, {**before, **values}, values)

    def _judge(self, objects: Objects, made: Object, values: Object) -> None:
        """Apply the table above to `made`; what is filled in goes into `values`. Raises Invalid."""
        if made["status"] in NEEDS_SENDER and made["sender"] is None:
            raise Invalid.field("sender", f"{REQUIRED} An email with the status {made['status']} has a sender.")
        if made["status"] == "scheduled" and made["date_scheduled"] is None:
            raise Invalid.field("date_scheduled", REQUIRED)
        if made["status"] == "sent":
            owner = USERS.get(made.get("user_id") or "")
            if made["sender"] is None and owner is not None:
                values["sender"] = owner.sender
            if made["date_sent"] is None:
                values["date_sent"] = stamp(objects.now())
        if made["status"] == "inbox" and made["date_sent"] is None:
            values["date_sent"] = stamp(objects.now())

    def due(self, made: Object, objects: Objects) -> datetime | None:
        """When this mail leaves by itself; None when it does not."""
        if made["status"] == "outbox":
            return datetime.fromisoformat(made["date_updated"]) + objects.rules.sending
        if made["status"] == "scheduled":
            return datetime.fromisoformat(made["date_scheduled"])
        return None


def send_due(objects: Objects) -> None:
    """Let go what is due in the outbox."""
    kind = objects.resource("activity.email")
    assert isinstance(kind, Emails)
    for made in list(objects.table("activity.email").values()):
        due = kind.due(made, objects)
        if due is not None and due <= objects.now():
            actor = Caller(USERS.get(made["user_id"] or ""))
            at = objects.now()
            number = objects.ids.random.randrange(10**5)
            message_id = f"<{at:%Y%m%d%H%M%S}.{number:05d}@mail.harbourline.example>"
            changes = {
                "status": "sent",
                "date_sent": stamp(at),
                "activity_at": stamp(at),
                "message_ids": [message_id],
                "envelope": _envelope(made, at, message_id),
            }
            objects.change("activity.email", made["id"], changes, actor)
            objects.announce("activity.email", made["id"], "sent", actor)


def next_due(objects: Objects) -> datetime | None:
    """When the next mail leaves the outbox; None when none waits."""
    kind = objects.resource("activity.email")
    assert isinstance(kind, Emails)
    dues = (kind.due(made, objects) for made in objects.table("activity.email").values())
    return min((due for due in dues if due is not None), default=None)


def _envelope(made: Object, at: datetime, message_id: str) -> Object:
    def people(*addresses: str) -> list[Object]:
        return [{"email": parseaddr(each)[1], "name": parseaddr(each)[0]} for each in addresses]

    return {
        "from": people(made["sender"]),
        "sender": people(made["sender"]),
        "to": people(*made["to"]),
        "cc": people(*made["cc"]),
        "bcc": people(*made["bcc"]),
        "reply_to": [],
        "date": format_datetime(at),
        "in_reply_to": None,
        "message_id": message_id,
        "subject": made["subject"],
    }
