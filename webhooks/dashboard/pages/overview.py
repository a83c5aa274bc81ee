"""The first page."""

from __future__ import annotations

from flask import Response

from webhooks.dashboard.access import UserRole
from webhooks.dashboard.endpoints import Pages
from webhooks.dashboard.visit import Visit

PAGES = Pages()


@PAGES.get("/", needs=UserRole.VIEWER)
def overview(visit: Visit) -> Response:
    """What is broken, since when, and what to press."""
    return visit.page("overview.html")
