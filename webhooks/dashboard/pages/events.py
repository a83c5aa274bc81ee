"""Stored events and their deliveries."""

from __future__ import annotations

from flask import Response

from webhooks.dashboard.access import UserRole
from webhooks.dashboard.endpoints import Pages
from webhooks.dashboard.visit import Visit
from webhooks.operations import records
from webhooks.selection import Selection

PAGES = Pages()


@PAGES.get("/events", needs=UserRole.VIEWER, forms=("html", "json"))
def events(visit: Visit) -> Response:
    """The latest events that are selected."""
    found = visit.store.listings.events(Selection(), limit=50)
    if visit.form == "json":
        return visit.json([records.event_json(one) for one in found])
    return visit.page("events.html", events=found)
