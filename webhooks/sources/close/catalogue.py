"""The event types that Close publishes, and the few that it sends without publishing them.

For "did you mean" only: an event of an unknown type is stored and routed like any other, because Close adds types
without notice. `event_types.json` holds the published object types with their actions.
Source: developer.close.com/api/resources/webhooks/events/list-of-event-types.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from webhooks.formats import json as jsonio

_FILE = Path(__file__).with_name("event_types.json")

#: Object types that one list of Close's spells so and another like the value: {unpublished: published}.
_OTHER_SPELLINGS = {"lead_merge": "activity.lead_merge", "task.outgoing_call": "task.outbound_call"}
#: Met in logs and in Close's own scripts.
_UNPUBLISHED = frozenset(
    ("activity.created.created", "activity.created.deleted", "import.deleted", "saved_search.deleted")
)
#: In no list, and never met; but Close has outcomes, so handlers may wait for them without a warning. No
#: subscription can ask for them.
AWAITED = frozenset(("outcome.created", "outcome.updated", "outcome.deleted"))


@cache
def known_types() -> frozenset[str]:
    """Every event type that Close is known to send."""
    published: dict[str, list[str]] = jsonio.load(_FILE.read_bytes())
    actions = published | {other: published[name] for other, name in _OTHER_SPELLINGS.items()}
    return _UNPUBLISHED | {f"{object_type}.{action}" for object_type, each in actions.items() for action in each}


@cache
def published_types() -> frozenset[str]:
    """The event types that Close's list names, each in one spelling: what a subscription may ask for."""
    published: dict[str, list[str]] = jsonio.load(_FILE.read_bytes())
    return frozenset(f"{object_type}.{action}" for object_type, each in published.items() for action in each)
