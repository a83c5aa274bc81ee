"""What stays of an event of Close's when it leaves as a fixture: words of its envelope and enumerations. All else is replaced.

Source: https://developer.close.com/api/resources/webhooks (the envelope) and /event-log, read on 2026-11-29.
"""

from __future__ import annotations

from webhooks.formats.redaction import FixtureRules

RULES = FixtureRules.of(
    words=[
        "event.object_type",
        "event.action",
        "event.changed_fields",
        "event.meta.request_method",
        "data.direction",
        "data.status",
        "data.status_type",
        "data.type",
        "data._type",
        "data.channel",
        "data.currency",
        "data.value_period",
    ],
    dates=["event.date_created", "event.date_updated", "data.date_created", "data.date_updated", "data.activity_at"],
)

__all__ = ["RULES"]
