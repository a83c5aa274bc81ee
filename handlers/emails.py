"""Track the state of emails, tell which really left, and raise an alarm for one that lacks its sender.

A sender is required in `inbox`, `scheduled`, `outbox` and `error`, optional in a `draft`, and for `sent` Close puts in
the address of the user. An email that lacks a required one is on the list of `flagged`, and is reported once, in the
log and in `emails_alerts`. `has_left` is told by the event `activity.email.sent` alone: the status `sent` also stands
on mail that a person only logged.

The techniques, for your own handlers:

* **`where`** keeps the alarm from running for the many events that are fine; their deliveries end as cancelled, and the
  reason says which clause failed and what it met.
* **`Discard`** ends a delivery that has become pointless: when the alarm's turn comes, after a retry or a night's outage,
  the email may have got its sender.
* **A fact beside a state**: the state is replaced as a whole by a later one; that a mail left is never taken back, and has a
  column of its own (`left_at`) that the state does not touch.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Column, Index, MetaData, RowMapping, Table, func, or_, select
from sqlalchemy.orm import Session

from webhooks import Discard, Event, field, on
from webhooks.sources.close.views import Email

from ._mirror import Instant, Words, add, bury, mirrored, note, put

OBJECT_TYPE = "activity.email"


class Sender(enum.StrEnum):
    """What there is to say of an email's sender."""

    GIVEN = "given"
    MISSING = "missing"  #: and required
    OPTIONAL = "optional"  #: a draft: there is time until it is scheduled or sent
    DEFAULT = "default"  #: Close puts in the address of the user, or of the API key's owner
    UNKNOWN = "unknown"  #: a status that we do not know


#: Statuses that require a sender. Source: Close's changelog.
NEEDS_SENDER = ("inbox", "scheduled", "outbox", "error")


def judge(status: str | None, sender: str | None) -> Sender:
    """What there is to say of the sender of an email in this status; blank text is none."""
    if sender is not None and sender.strip():
        return Sender.GIVEN
    if status in NEEDS_SENDER:
        return Sender.MISSING
    return {"draft": Sender.OPTIONAL, "sent": Sender.DEFAULT}.get(status or "", Sender.UNKNOWN)


metadata = MetaData()

messages = mirrored(
    "emails_messages",
    metadata,
    Column("lead_id", Words),
    Column("contact_id", Words),
    Column("user_id", Words),
    Column("status", Words),
    Column("direction", Words),
    Column("sender", Words),
    Column("subject", Words),
    Column("date_scheduled", Instant),
    Column("date_sent", Instant),
    Column("left_at", Instant),
    Index("ix_emails_messages_status", "status"),
)

alerts = Table(
    "emails_alerts",
    metadata,
    Column("email_id", Words, primary_key=True),
    Column("status", Words, primary_key=True),
    Column("raised_at", Instant, nullable=False),
)


@on(
    f"{OBJECT_TYPE}.*",
    source="close",
    name="emails.track",
    ordered_by="object_id",
    on_failure="skip",
    effects="session",
)
def track(event: Event, session: Session) -> None:
    """Keep one event of an email, whatever its action: all but `deleted` carry the email as it is."""
    email = Email.from_event(event)
    if email.id is None:
        return
    if event.action == "deleted":
        bury(session, messages, email.id, event.occurred_at, left_at=None)
        return
    if event.data is not None:
        put(session, messages, email.id, event.occurred_at, {name: getattr(email, name) for name in _COLUMNS})
    if event.action == "sent":
        note(session, messages, email.id, left_at=email.date_sent or event.occurred_at)


def _lacks_sender(event: Event) -> bool:
    email = Email.from_event(event)
    return judge(email.status, email.sender) is Sender.MISSING


@on(
    f"{OBJECT_TYPE}.created",
    f"{OBJECT_TYPE}.updated",
    source="close",
    name="emails.alert",
    where=field("data.status").in_(NEEDS_SENDER) & _lacks_sender,
)
def alert(event: Event, session: Session, log: logging.LoggerAdapter[logging.Logger]) -> None:
    """Report an email without its sender, once for each status in which it lacks it.

    Raises `Discard` when `track` has seen a later state of the email that is right, or that it was deleted.
    """
    email = Email.from_event(event)
    if email.id is None or email.status is None:
        raise Discard("the event shows no email")
    row = session.execute(select(messages).where(messages.c.id == email.id)).mappings().first()
    if row is not None and row["shown_at"] is not None and row["shown_at"] > event.occurred_at:
        if row["deleted_at"] is not None:
            raise Discard("the email was deleted since")
        if judge(row["status"], row["sender"]) is not Sender.MISSING:
            raise Discard(
                f"the email is {row['status']} since, and its sender is {judge(row['status'], row['sender'])}"
            )
    if add(session, alerts, email_id=email.id, status=email.status, raised_at=datetime.now(UTC)):
        log.error("email %s has the status %s and no sender; Close will not send it", email.id, email.status)


_COLUMNS = tuple(
    column.name for column in messages.columns if column.name not in ("id", "shown_at", "deleted_at", "left_at")
)


# -- what to ask -----------------------------------------------------------------------------------------------


def flagged(session: Session) -> list[RowMapping]:
    """The emails that lack a required sender now."""
    blank = or_(messages.c.sender.is_(None), func.trim(messages.c.sender) == "")
    found = select(messages).where(messages.c.deleted_at.is_(None), messages.c.status.in_(NEEDS_SENDER), blank)
    return list(session.execute(found.order_by(messages.c.id)).mappings())


def has_left(session: Session, email_id: str) -> datetime | None:
    """When the email really left; None as far as we know it did not."""
    return session.execute(select(messages.c.left_at).where(messages.c.id == email_id)).scalar()


def mirrors(session: Session) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """What of our tables must equal Close, once every event has come: {object type: {id: {field: our value}}}."""
    shown = select(messages).where(messages.c.deleted_at.is_(None), messages.c.shown_at.is_not(None))
    rows = session.execute(shown).mappings()
    return {OBJECT_TYPE: {row["id"]: {name: row[name] for name in _COLUMNS} for row in rows}}
