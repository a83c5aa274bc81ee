"""Know where leads come from, follow up those without a name, and follow merges and deletions.

A contact or opportunity that is posted without a lead makes one: `lead.created` has its `request_id`, and comes before or
after. `made_by` and `origins` link the two. A lead made by an opportunity has no name; it is on the list of `untitled`
until a user names it, merges it or deletes it. `current_lead` and `members` follow merges.

The techniques, for your own handlers:

* **Joins over several events** are made when they are asked for, by SQL: each event stores what it alone knows, under the id
  of its own object. No event waits for another, so it does not matter which is first, or whether one is ever lost.
* **The stale guard** is `_mirror.put`: the state with the latest `date_updated` wins. What only `created` tells (the request
  that made the object) is noted beside the state, so that a `created` that comes late still tells it.
* **A cascade is not carried out twice.** Deleting a lead deletes what is on it, and Close sends an event for each of those.
  Deleting our rows at once would be wrong: a contact that a merge has moved away, told by an event that is still to
  come, would be gone for good. Until its own event is here, `members` leaves out what is on a lead that is gone.
* **Locks in one order**: a merge writes two rows, the lower id first; two merges that cross do not deadlock.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Column, Index, MetaData, RowMapping, Table, and_, or_, select, update
from sqlalchemy.orm import Session

from webhooks import Event, on
from webhooks.sources.close.views import Contact, Lead, Opportunity

from ._mirror import Instant, Words, add, bury, mirrored, note, put

metadata = MetaData()

leads = mirrored(
    "leads_leads",
    metadata,
    Column("name", Words),
    Column("status_id", Words),
    Column("request_id", Words),  # the request that made it
    Column("request_path", Words),
    Column("merged_into", Words),  # the lead that it was merged into
    Index("ix_leads_leads_request_id", "request_id"),
    Index("ix_leads_leads_merged_into", "merged_into"),
)

members = mirrored(
    "leads_members",
    metadata,
    Column("kind", Words),  # contact or opportunity
    Column("lead_id", Words),
    Column("user_id", Words),  # of an opportunity; a contact's is its author
    Column("request_id", Words),
    Column("first_lead_id", Words),  # the lead that it was made with
    Index("ix_leads_members_lead_id", "lead_id"),
    Index("ix_leads_members_request_id", "request_id"),
)

follow_ups = Table(
    "leads_follow_ups",
    metadata,
    Column("lead_id", Words, primary_key=True),
    Column("opened_at", Instant, nullable=False),
    Column("closed_at", Instant),
)


# -- leads -----------------------------------------------------------------------------------------------------


@on("lead.*", source="close", name="leads.mirror", ordered_by="object_id", on_failure="skip", effects="session")
def mirror_lead(event: Event, session: Session, log: logging.LoggerAdapter[logging.Logger]) -> None:
    """Keep one event of a lead: `created`, `updated`, `deleted` or `merged`."""
    lead = Lead.from_event(event)
    if lead.id is None:
        return
    source, destination = _merge(event)
    if event.action == "deleted":
        _bury_lead(session, event, lead.id, destination if source == lead.id else None)
        return
    for id in sorted({lead.id, source or lead.id}):
        if id != lead.id:
            _bury_lead(session, event, id, destination)
        elif event.data is not None:
            _put_lead(session, event, lead, log)
    if event.action == "created":
        request_id, path = _request(event)
        if request_id is not None:
            note(session, leads, lead.id, request_id=request_id, request_path=path)


def _put_lead(session: Session, event: Event, lead: Lead, log: logging.LoggerAdapter[logging.Logger]) -> None:
    assert lead.id is not None
    if not put(session, leads, lead.id, event.occurred_at, {"name": lead.name, "status_id": lead.status_id}):
        return
    # this is the latest state, and the lead's row is locked: what follows from the state can be written too
    if not lead.is_untitled:
        _close_follow_up(session, event, lead.id)
    elif add(session, follow_ups, lead_id=lead.id, opened_at=event.occurred_at):
        log.warning("lead %s has no name; `untitled` in handlers/leads.py says who made it", lead.id)
    else:
        session.execute(update(follow_ups).where(follow_ups.c.lead_id == lead.id).values(closed_at=None))


def _bury_lead(session: Session, event: Event, id: str, merged_into: str | None) -> None:
    bury(session, leads, id, event.occurred_at, merged_into=merged_into, request_id=None, request_path=None)
    if merged_into is not None:
        note(session, leads, id, merged_into=merged_into)  # the plain deletion may have come first
    _close_follow_up(session, event, id)


def _close_follow_up(session: Session, event: Event, lead_id: str) -> None:
    session.execute(
        update(follow_ups)
        .where(follow_ups.c.lead_id == lead_id, follow_ups.c.closed_at.is_(None))
        .values(closed_at=event.occurred_at)
    )


# -- what is on them -------------------------------------------------------------------------------------------


@on(
    "contact.*",
    "opportunity.*",
    source="close",
    name="leads.mirror_members",
    ordered_by="object_id",
    on_failure="skip",
    effects="session",
)
def mirror_member(event: Event, session: Session) -> None:
    """Keep one event of a contact or an opportunity: on which lead it is, and which request made it."""
    member = (Contact if event.object_type == "contact" else Opportunity).from_event(event)
    if member.id is None:
        return
    if event.action == "deleted":
        # who made a lead is still of interest when it is gone
        bury(
            session, members, member.id, event.occurred_at, kind=event.object_type, request_id=None, first_lead_id=None
        )
    elif event.data is not None:
        user_id = member.user_id if isinstance(member, Opportunity) else member.created_by
        values = {"kind": event.object_type, "lead_id": member.lead_id, "user_id": user_id}
        put(session, members, member.id, event.occurred_at, values)
    request_id, _ = _request(event)
    if event.action == "created" and request_id is not None and member.lead_id is not None:
        note(session, members, member.id, request_id=request_id, first_lead_id=member.lead_id)


# -- reading the envelope --------------------------------------------------------------------------------------


def _meta(event: Event) -> Mapping[str, Any]:
    found = event.meta.get("meta")
    return found if isinstance(found, Mapping) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _request(event: Event) -> tuple[str | None, str | None]:
    """The request that made the change, and its path."""
    return _text(event.meta.get("request_id")), _text(_meta(event).get("request_path"))


def _merge(event: Event) -> tuple[str | None, str | None]:
    """The leads that are merged with this event: source and destination."""
    meta = _meta(event)
    source, destination = _text(meta.get("merge_source_lead_id")), _text(meta.get("merge_destination_lead_id"))
    if event.action not in ("merged", "deleted") or source is None or destination is None:
        return None, None
    return source, destination


# -- what to ask -----------------------------------------------------------------------------------------------

#: A lead and the object that was posted without one. Both come from one request, whose path says what was posted: a lead
#: that is posted with contacts in it shares its request with them, too.
_MADE_BY = and_(
    members.c.request_id == leads.c.request_id,
    members.c.first_lead_id == leads.c.id,
    or_(leads.c.request_path.is_(None), leads.c.request_path.like("%/" + members.c.kind + "/")),
)


def origins(session: Session) -> list[RowMapping]:
    """Every lead that a contact or opportunity made, gone or not: lead_id, kind, member_id."""
    found = select(leads.c.id.label("lead_id"), members.c.kind, members.c.id.label("member_id"))
    return list(session.execute(found.join(members, _MADE_BY).order_by(leads.c.id, members.c.id)).mappings())


def made_by(session: Session, lead_id: str) -> RowMapping | None:
    """The contact or opportunity that made this lead."""
    return session.execute(select(members).join(leads, _MADE_BY).where(leads.c.id == lead_id)).mappings().first()


def untitled(session: Session) -> list[RowMapping]:
    """The leads that a user should name, oldest first: lead_id, opened_at, and kind, member_id, user_id of its maker."""
    found = (
        select(
            follow_ups.c.lead_id,
            follow_ups.c.opened_at,
            members.c.kind,
            members.c.id.label("member_id"),
            members.c.user_id,
        )
        .join(leads, leads.c.id == follow_ups.c.lead_id)
        .join(members, _MADE_BY, isouter=True)
        .where(follow_ups.c.closed_at.is_(None))
        .order_by(follow_ups.c.opened_at, follow_ups.c.lead_id)
    )
    return list(session.execute(found).mappings())


def current_lead(session: Session, lead_id: str) -> str | None:
    """Where a lead is now: itself, or what it was merged into, and that into; None when it was deleted."""
    seen: set[str] = set()
    while lead_id not in seen:
        seen.add(lead_id)
        row = session.execute(select(leads.c.merged_into, leads.c.deleted_at).where(leads.c.id == lead_id)).first()
        if row is None or row.deleted_at is None:
            return lead_id  # one that we have not heard of is taken to be there
        if row.merged_into is None:
            return None
        lead_id = row.merged_into
    return None


def members_of(session: Session, lead_id: str) -> list[RowMapping]:
    """The contacts and opportunities on a lead, with those on leads that were merged into it."""
    merged = select(leads.c.id).where(leads.c.id == lead_id, leads.c.deleted_at.is_(None)).cte(recursive=True)
    merged = merged.union(select(leads.c.id).where(leads.c.merged_into == merged.c.id))
    found = select(members).where(members.c.lead_id.in_(select(merged.c.id)), members.c.deleted_at.is_(None))
    return list(session.execute(found.order_by(members.c.kind, members.c.id)).mappings())


def mirrors(session: Session) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """What of our tables must equal Close, once every event has come: {object type: {id: {field: our value}}}."""
    found: dict[str, dict[str, dict[str, Any]]] = {"lead": {}, "contact": {}, "opportunity": {}}
    for row in session.execute(_shown(leads)).mappings():
        found["lead"][row["id"]] = {"name": row["name"], "status_id": row["status_id"]}
    for row in session.execute(_shown(members)).mappings():
        owner = "user_id" if row["kind"] == "opportunity" else "created_by"
        found[row["kind"]][row["id"]] = {"lead_id": row["lead_id"], owner: row["user_id"]}
    return found


def _shown(table: Table) -> Any:
    return select(table).where(table.c.deleted_at.is_(None), table.c.shown_at.is_not(None))
