"""Notes on a lead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from webhooks.sandbox.resources.resource import (
    ActivityResource,
    Field,
    Object,
    Objects,
    instant,
    name,
    optional,
    paragraph,
    text,
    user,
)


class Notes(ActivityResource):
    object_type: ClassVar[str] = "activity.note"
    path: ClassVar[str] = "activity/note"
    type_name: ClassVar[str | None] = "Note"
    constants: ClassVar[Mapping[str, Any]] = {**ActivityResource.constants, "attachments": list}
    fields: ClassVar[Mapping[str, Field]] = {
        "lead_id": Field(optional(name), is_fixed=True),
        "contact_id": Field(optional(name), is_fixed=True),
        "user_id": Field(optional(user)),
        "activity_at": Field(optional(instant)),
        "title": Field(optional(text)),
        "note": Field(text, ""),
    }

    def derive(self, objects: Objects, made: Object) -> None:
        """What follows from other fields; see `Resource`."""
        made["note_html"] = paragraph(made["note"])
