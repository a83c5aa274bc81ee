"""Meetings. Close makes them from calendars; here they can be posted, which stands for that sync.

A change of `status` to completed or canceled also raises the action of that name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from webhooks.sandbox.accounts import Caller
from webhooks.sandbox.resources import outcomes
from webhooks.sandbox.resources.resource import (
    ActivityResource,
    Field,
    Object,
    Objects,
    amount,
    choice,
    day_or_instant,
    instant,
    name,
    optional,
    paragraph,
    text,
    user,
)

#: {status: the action that reaching it raises}
_ACTIONS = {"completed": "completed", "canceled": "canceled", "in-progress": "started"}


class Meetings(ActivityResource):
    object_type: ClassVar[str] = "activity.meeting"
    path: ClassVar[str] = "activity/meeting"
    type_name: ClassVar[str | None] = "Meeting"
    constants: ClassVar[Mapping[str, Any]] = {
        **ActivityResource.constants,
        "attendees": list,
        "connected_account_id": None,
        "is_recurring": False,
        "source": "calendar",
    }
    fields: ClassVar[Mapping[str, Field]] = {
        "lead_id": Field(optional(name), is_fixed=True),
        "contact_id": Field(optional(name), is_fixed=True),
        "user_id": Field(optional(user)),
        "activity_at": Field(optional(instant)),
        "title": Field(text, ""),
        "location": Field(optional(text)),
        "note": Field(text, ""),
        "status": Field(choice("upcoming", "in-progress", "completed", "canceled"), "upcoming"),
        "starts_at": Field(optional(day_or_instant)),
        "ends_at": Field(optional(day_or_instant)),
        "duration": Field(optional(amount)),
        "outcome_id": Field(optional(name)),
    }

    def derive(self, objects: Objects, made: Object) -> None:
        """What follows from other fields; see `Resource`."""
        made["note_html"] = paragraph(made["note"])

    def before_create(self, objects: Objects, made: Object, actor: Caller, params: Mapping[str, Any]) -> None:
        """What a new one needs; see `Resource`."""
        outcomes.require(objects, made["outcome_id"], "meetings")
        super().before_create(objects, made, actor, params)

    def before_update(self, objects: Objects, before: Object, values: Object, actor: Caller) -> None:
        """Judge or complete a change; see `Resource`."""
        if values.get("outcome_id") != before["outcome_id"]:
            outcomes.require(objects, values.get("outcome_id"), "meetings")

    def after_update(self, objects: Objects, before: Object, after: Object, actor: Caller) -> None:
        """What else happens; see `Resource`."""
        action = _ACTIONS.get(after["status"])
        if before["status"] != after["status"] and action is not None:
            objects.announce("activity.meeting", after["id"], action, actor)
