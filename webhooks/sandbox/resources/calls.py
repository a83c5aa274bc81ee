"""Calls. One logged by hand is made without its duration, which comes in an `updated` right after.

Shape as in `payloads/call_updated_outcome_set.json`.
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
    formatted,
    instant,
    name,
    optional,
    paragraph,
    text,
    url,
    user,
)


class Calls(ActivityResource):
    object_type: ClassVar[str] = "activity.call"
    path: ClassVar[str] = "activity/call"
    type_name: ClassVar[str | None] = "Call"
    constants: ClassVar[Mapping[str, Any]] = {
        **ActivityResource.constants,
        "cost": None,
        "dialer_id": None,
        "source": "External",
        "voicemail_url": None,
    }
    fields: ClassVar[Mapping[str, Field]] = {
        "lead_id": Field(optional(name), is_fixed=True),
        "contact_id": Field(optional(name), is_fixed=True),
        "user_id": Field(optional(user)),
        "activity_at": Field(optional(instant)),
        "direction": Field(choice("inbound", "outbound"), "outbound"),
        "status": Field(choice("created", "in-progress", "completed", "no-answer", "busy", "failed"), "completed"),
        "disposition": Field(optional(text)),
        "duration": Field(amount, 0),
        "outcome_id": Field(optional(name)),
        "note": Field(text, ""),
        "phone": Field(optional(text)),
        "local_phone": Field(optional(text)),
        "recording_url": Field(optional(url)),
        "date_answered": Field(optional(instant)),
    }

    def derive(self, objects: Objects, made: Object) -> None:
        """What follows from other fields; see `Resource`."""
        made["note_html"] = paragraph(made["note"])
        made["remote_phone"] = made["phone"]
        for side in ("local", "remote"):
            made[f"{side}_phone_formatted"] = formatted(made[f"{side}_phone"])

    def before_create(self, objects: Objects, made: Object, actor: Caller, params: Mapping[str, Any]) -> None:
        """What a new one needs; see `Resource`."""
        outcomes.require(objects, made["outcome_id"], "calls")
        super().before_create(objects, made, actor, params)
        made["duration"] = 0

    def after_create(self, objects: Objects, made: Object, actor: Caller, params: Mapping[str, Any]) -> None:
        """What else happens; see `Resource`."""
        if params.get("duration"):
            objects.change("activity.call", made["id"], {"duration": params["duration"]}, actor)

    def before_update(self, objects: Objects, before: Object, values: Object, actor: Caller) -> None:
        """Judge or complete a change; see `Resource`."""
        if values.get("outcome_id") != before["outcome_id"]:
            outcomes.require(objects, values.get("outcome_id"), "calls")
