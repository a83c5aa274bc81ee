"""Tasks on a lead, of the kind people make by hand (`task.lead`).

Finishing one raises `completed`, `updated`, `activity.task_completed.created` and `lead.updated`. Shape as in
`payloads/task_lead_completed.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from webhooks.sandbox.accounts import Caller
from webhooks.sandbox.resources.resource import (
    ActivityResource,
    Field,
    Object,
    Objects,
    Resource,
    day_or_instant,
    flag,
    name,
    name_of_user,
    optional,
    place_on_lead,
    text,
    user,
)


class Tasks(Resource):
    object_type: ClassVar[str] = "task.lead"
    path: ClassVar[str] = "task"
    id_prefix: ClassVar[str] = "task"
    type_name: ClassVar[str | None] = "lead"
    filters: ClassVar[tuple[str, ...]] = ("lead_id", "assigned_to", "is_complete")
    constants: ClassVar[Mapping[str, Any]] = {"object_id": None, "object_type": None}
    fields: ClassVar[Mapping[str, Field]] = {
        "lead_id": Field(optional(name), is_fixed=True),
        "contact_id": Field(optional(name), is_fixed=True),
        "assigned_to": Field(optional(user)),
        "text": Field(text, ""),
        "date": Field(optional(day_or_instant)),
        "is_complete": Field(flag, False),
    }

    def derive(self, objects: Objects, made: Object) -> None:
        """What follows from other fields; see `Resource`."""
        made["assigned_to_name"] = name_of_user(made["assigned_to"])
        made["due_date"] = made["date"]
        made["is_dateless"] = made["date"] is None
        made["view"] = "archive" if made["is_complete"] else "inbox"

    def before_create(self, objects: Objects, made: Object, actor: Caller, params: Mapping[str, Any]) -> None:
        """What a new one needs; see `Resource`."""
        place_on_lead(objects, made)
        contact = objects.find("contact", made["contact_id"]) if made["contact_id"] else None
        made["lead_name"] = objects.stored("lead", made["lead_id"])["display_name"]
        made["contact_name"] = contact["display_name"] if contact else None
        made["assigned_to"] = made["assigned_to"] or (actor.user.id if actor.user else None)

    def after_update(self, objects: Objects, before: Object, after: Object, actor: Caller) -> None:
        """What else happens; see `Resource`."""
        if after["is_complete"] and not before["is_complete"]:
            objects.announce("task.lead", after["id"], "completed", actor)
            done = {"lead_id": after["lead_id"], "task_id": after["id"], "task_text": after["text"]}
            objects.create("activity.task_completed", done, by=actor)
            objects.change("lead", after["lead_id"], {}, actor, is_touch=True)


class TasksCompleted(ActivityResource):
    object_type: ClassVar[str] = "activity.task_completed"
    path: ClassVar[str] = "activity/task_completed"
    type_name: ClassVar[str | None] = "TaskCompleted"
    may_post: ClassVar[bool] = False
    fields: ClassVar[Mapping[str, Field]] = {
        "lead_id": Field(name, is_required=True, is_fixed=True),
        "contact_id": Field(optional(name), is_fixed=True),
        "task_id": Field(name, is_required=True, is_fixed=True),
        "task_text": Field(text, "", is_fixed=True),
    }
