"""Keep outcomes, where they apply, and who reached which: results of calls and meetings, counted per user.

Close publishes no `outcome.*` event, so an outcome is learned from the `outcome_id` of calls and meetings; should
`outcome.*` events come, they tell its name and type as well. `known` and `results` answer from both.

The techniques, for your own handlers:

* **Conditions on changed fields**: a call is updated while people type their notes. `where` lets only those updates through
  that touch a result; the others end as cancelled, with the reason, and never run. A created or deleted call always counts.
* **Derived fields**: where an outcome applies follows from its type (`applies_to`), and is computed when asked for. What was
  *seen* is stored: on a call, on a meeting. Such a fact only ever becomes true, so the order of events is no matter to it.
* **Counts are counted, not kept.** Adding one for each event would be wrong after a duplicate, an edit, a deletion or an
  event out of order. The rows are kept right one by one, and `results` counts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Boolean, Column, Index, MetaData, RowMapping, func, select
from sqlalchemy.orm import Session

from webhooks import Event, changed, field, on
from webhooks.sources.close.views import Call, Meeting, Outcome

from ._mirror import Words, bury, mirrored, note, put

#: {object type: what an outcome that is used there applies to}
KINDS = {"activity.call": "calls", "activity.meeting": "meetings"}
#: {type of an outcome: what it applies to}. Source: Close's changelog; shared facts of the outcome resource.
APPLIES_TO = {"custom": ("calls", "meetings"), "vm-dropped": ("calls",)}

metadata = MetaData()

outcomes = mirrored(
    "outcomes_outcomes",
    metadata,
    Column("name", Words),
    Column("description", Words),
    Column("type", Words),
    Column("seen_on_calls", Boolean),
    Column("seen_on_meetings", Boolean),
)

activities = mirrored(
    "outcomes_activities",
    metadata,
    Column("object_type", Words),
    Column("user_id", Words),
    Column("lead_id", Words),
    Column("outcome_id", Words),
    Index("ix_outcomes_activities_outcome_id", "outcome_id"),
)

#: What of a call or meeting is kept; only changes of these matter.
_KEPT = ("user_id", "lead_id", "outcome_id")


@on(
    "activity.call.*",
    "activity.meeting.*",
    source="close",
    name="outcomes.count",
    where=(field("action") != "updated") | changed("outcome_id") | changed("user_id") | changed("lead_id"),
    ordered_by="object_id",
    on_failure="skip",
    effects="session",
)
def count(event: Event, session: Session) -> None:
    """Keep the result of one call or meeting, and that its outcome is used there."""
    activity = (Call if event.object_type == "activity.call" else Meeting).from_event(event)
    if activity.id is None:
        return
    if event.action == "deleted":
        bury(session, activities, activity.id, event.occurred_at)
    elif event.data is not None:
        values = {"object_type": event.object_type, **{name: getattr(activity, name) for name in _KEPT}}
        put(session, activities, activity.id, event.occurred_at, values)
        if activity.outcome_id is not None:
            note(session, outcomes, activity.outcome_id, **{f"seen_on_{KINDS[event.object_type]}": True})


@on("outcome.*", source="close", name="outcomes.describe", ordered_by="object_id", on_failure="skip", effects="session")
def describe(event: Event, session: Session) -> None:
    """Keep what an outcome is called, should Close ever tell. A deleted one keeps its name: its results stay."""
    outcome = Outcome.from_event(event)
    if outcome.id is None:
        return
    if event.action == "deleted":
        bury(
            session,
            outcomes,
            outcome.id,
            event.occurred_at,
            name=outcome.name,
            type=outcome.type,
            seen_on_calls=None,
            seen_on_meetings=None,
        )
    elif event.data is not None:
        values = {"name": outcome.name, "description": outcome.description, "type": outcome.type}
        put(session, outcomes, outcome.id, event.occurred_at, values)


def applies_to(type: str | None, seen_on_calls: bool, seen_on_meetings: bool) -> tuple[str, ...]:
    """Where an outcome applies: by its type, or as far as it can be told from where it was seen.

    One that was seen on a meeting must be `custom`, and so applies to calls too. One that was seen on calls only may be
    either. A type that we do not know applies where it was seen.
    """
    if type in APPLIES_TO:
        return APPLIES_TO[type]
    if type is None and seen_on_meetings:
        return APPLIES_TO["custom"]
    return ("calls",) * seen_on_calls + ("meetings",) * seen_on_meetings


# -- what to ask -----------------------------------------------------------------------------------------------


def known(session: Session) -> list[dict[str, Any]]:
    """Every outcome that exists as far as we know: id, name and description (None until told), type, applies_to."""
    rows = session.execute(select(outcomes).where(outcomes.c.deleted_at.is_(None)).order_by(outcomes.c.id)).mappings()
    return [
        {
            "id": row["id"],
            "name": row["name"],
            "description": row["description"],
            "type": row["type"],
            "applies_to": applies_to(row["type"], bool(row["seen_on_calls"]), bool(row["seen_on_meetings"])),
        }
        for row in rows
    ]


def results(session: Session) -> list[RowMapping]:
    """How often each user reached each outcome: user_id, outcome_id, name, calls, meetings."""

    def number(object_type: str) -> Any:
        return func.count().filter(activities.c.object_type == object_type).label(KINDS[object_type])

    counted = (
        select(
            activities.c.user_id,
            activities.c.outcome_id,
            outcomes.c.name,
            number("activity.call"),
            number("activity.meeting"),
        )
        .join(outcomes, outcomes.c.id == activities.c.outcome_id, isouter=True)
        .where(activities.c.deleted_at.is_(None), activities.c.outcome_id.is_not(None))
        .group_by(activities.c.user_id, activities.c.outcome_id, outcomes.c.name)
        .order_by(activities.c.user_id, activities.c.outcome_id)
    )
    return list(session.execute(counted).mappings())


def mirrors(session: Session) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """What of our tables must equal Close, once every event has come: {object type: {id: {field: our value}}}.

    Outcomes are here only as far as events told of them, which Close does not publish.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in (*KINDS, "outcome")}
    for row in session.execute(select(activities).where(activities.c.deleted_at.is_(None))).mappings():
        found[row["object_type"]][row["id"]] = {name: row[name] for name in _KEPT}
    told = {id for (id,) in session.execute(select(outcomes.c.id).where(outcomes.c.shown_at.is_not(None)))}
    for each in known(session):
        if each["id"] in told:
            found["outcome"][each.pop("id")] = {**each, "applies_to": list(each["applies_to"])}
    return found
