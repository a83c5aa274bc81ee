"""What failed, put together by what is alike; and lanes that stand still."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from flask import Response

from webhooks.dashboard import acting
from webhooks.dashboard.access import UserRole
from webhooks.dashboard.endpoints import Pages
from webhooks.dashboard.visit import Visit
from webhooks.model import DeliveryState
from webhooks.operations import records
from webhooks.selection import Selection

PAGES = Pages()

#: Groups, and lanes, of a page.
PER_PAGE = 50


@PAGES.get("/failures", needs=UserRole.VIEWER, forms=("html", "json", "csv"))
def failures(visit: Visit) -> Response:
    """Groups of dead deliveries, most frequent first; `q` narrows them, or names another state."""
    line = visit.text("q").strip()
    selection = Selection.parse_line(line, visit.now)
    groups = visit.store.listings.failures(selection, limit=PER_PAGE)
    documents = [records.failure_json(one) for one in groups]
    if visit.form == "json":
        return visit.json({"failures": documents})
    if visit.form == "csv":
        return _csv(documents)
    paused = {name for name, state in visit.store.handlers.states().items() if state.paused}
    return visit.page(
        "failures.html",
        groups=[(group, acting.group_line(group)) for group in groups],
        line=line,
        paused=paused,
        is_dead=selection.states in ((), (DeliveryState.DEAD,)),
        blocked=len(visit.store.listings.blocked_lanes(Selection(), limit=PER_PAGE)),
    )


def _csv(documents: Sequence[dict[str, Any]]) -> Response:
    """Rows for a spreadsheet, in which no text of a handler is a formula."""
    text = io.StringIO()
    writer = csv.writer(text)
    names = ["handler", "state", "error", "count", "first_at", "last_at", "example_id"]
    writer.writerow(names)
    writer.writerows([[_defused(one[name]) for name in names] for one in documents])
    headers = {"Content-Disposition": 'attachment; filename="failures.csv"', "Content-Security-Policy": "sandbox"}
    return Response(text.getvalue(), 200, headers, content_type="text/csv; charset=utf-8")


def _defused(value: Any) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


@PAGES.get("/failures/blocked", needs=UserRole.VIEWER, forms=("html", "json"))
def blocked(visit: Visit) -> Response:
    """Ordered lanes that a dead delivery holds, those with most waiting first; two ways out."""
    found = visit.store.listings.blocked_lanes(Selection.parse_line(visit.text("q"), visit.now), limit=PER_PAGE)
    if visit.form == "json":
        return visit.json({"lanes": [records.blocked_json(one) for one in found]})
    return visit.page("blocked.html", lanes=found)
