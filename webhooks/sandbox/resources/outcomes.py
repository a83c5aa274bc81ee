"""Outcomes of calls and meetings. `applies_to` follows from `type`; written, it is ignored, and reads always have it.

Close publishes no `outcome.*` event, so there is none unless `rules.unlisted` is set. Shapes as in
`payloads/outcome_*.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from webhooks.sandbox.refusals import Invalid
from webhooks.sandbox.resources.resource import (
    NO_SUCH_OBJECT,
    Field,
    Object,
    Objects,
    Resource,
    choice,
    name,
    optional,
    text,
)

#: {type: what it applies to}
APPLIES_TO = {"custom": ("calls", "meetings"), "vm-dropped": ("calls",)}


class ActivityOutcomes(Resource):
    object_type: ClassVar[str] = "outcome"
    path: ClassVar[str] = "outcome"
    id_prefix: ClassVar[str] = "outcome"
    has_names: ClassVar[bool] = False
    filters: ClassVar[tuple[str, ...]] = ("type",)
    fields: ClassVar[Mapping[str, Field]] = {
        "name": Field(name, is_required=True),
        "description": Field(optional(text)),
        "type": Field(choice(*APPLIES_TO), "custom"),
    }

    def derive(self, objects: Objects, made: Object) -> None:
        """What follows from other fields; see `Resource`."""
        made["applies_to"] = list(APPLIES_TO[made["type"]])


def require(objects: Objects, id: str | None, what: str) -> None:
    """Refuse an outcome that is not there or does not apply to `what` (calls, meetings). Raises Invalid."""
    if id is None:
        return
    outcome = objects.find("outcome", id)
    if outcome is None:
        raise Invalid.field("outcome_id", NO_SUCH_OBJECT)
    if what not in outcome["applies_to"]:
        raise Invalid.field("outcome_id", f"This outcome applies to {' and '.join(outcome['applies_to'])} only.")
