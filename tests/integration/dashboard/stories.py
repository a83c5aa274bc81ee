"""Events that are stored and handled before a page is looked at."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from webhooks.errors import Retry
from webhooks.routing import Registry, RetryPolicy
from webhooks.selection import Selection

if TYPE_CHECKING:
    from tests.integration.dashboard.conftest import Site


def body(
    key: str = "ev_1", type: str = "lead", action: str = "updated", updated: str = "2026-03-10T14:05:12", **data: Any
) -> bytes:
    """A body as Close sends it."""
    event = {
        "id": key,
        "date_created": "2026-03-10T14:05:11",
        "date_updated": updated,
        "object_type": type,
        "object_id": "lead_1",
        "lead_id": "lead_1",
        "action": action,
        "data": data or {"id": "lead_1"},
        "previous_data": {},
        "changed_fields": [],
        "meta": {},
        "request_id": "req_1",
    }
    return json.dumps({"event": event, "subscription_id": "whsub_1"}).encode()


def q(line: str) -> str:
    """A line as the query of an address."""
    return f"?q={quote(line)}"


def make_registry() -> Registry:
    """One handler that works, one that always fails, one that asks for a retry."""
    made = Registry()

    @made.on("lead.**", name="leads.link")
    def link(event: Any) -> None:
        pass

    @made.on("lead.updated", name="leads.mirror", retry=RetryPolicy(max_attempts=1))
    def mirror(event: Any) -> None:
        raise ConnectionError("crm-mirror.internal:5432, <b>refused</b>")

    @made.on("contact.**", name="contacts.count")
    def count(event: Any) -> None:
        raise Retry("later")

    @made.on("opportunity.**", name="deals.ordered", ordered_by="object_id", retry=RetryPolicy(max_attempts=1))
    def ordered(event: Any) -> None:
        raise ValueError("no such deal")

    return made


def fill(site: Site) -> None:
    """Three events, handled as far as they could be: one whose handler failed for good, and two revisions of another."""
    site.send(body("ev_1", name="<script>alert(1)</script>\u202e", amount=12345678901234567890.5))
    site.send(body("ev_2", action="created", name="Ada"))
    site.send(body("ev_2", action="created", name="Grace", updated="2026-03-10T15:00:00"))
    site.work()


def make_lane(site: Site, count: int = 6) -> list[int]:
    """Of `leads.ordered` a lane whose first delivery is dead and holds it; ids of the deliveries, in its order."""
    for number in range(count):
        site.send(body(f"ev_lane{number}", type="opportunity", updated=f"2026-03-10T14:05:{10 + number}"))
    site.work()
    found = site.store.listings.deliveries(Selection(handler="deals.ordered"))
    return sorted(one.id for one in found)


def try_often(site: Site, delivery: int, times: int) -> None:
    """Have a delivery tried so many times, as if its waits were over."""
    for _ in range(times):
        site.store.deliveries.requeue([delivery])
        site.work()
