"""What failed, put together by what is alike; and lanes that stand still."""

from __future__ import annotations

import dataclasses

from flask import Response

from webhooks.dashboard import acting, exports, redacting, search
from webhooks.dashboard.access import UserRole
from webhooks.dashboard.endpoints import Pages
from webhooks.dashboard.visit import Visit
from webhooks.model import DeliveryState
from webhooks.operations import records
from webhooks.selection import Selection

PAGES = Pages()

#: Groups, and lanes, of a page.
PER_PAGE = 50
#: So many of the newest are put into groups.
LOOKED_AT = 20_000
COLUMNS = ("handler", "state", "error", "count", "first_at", "last_at", "example_id")


@PAGES.get("/failures", needs=UserRole.VIEWER, forms=("html", "json", "csv"))
def failures(visit: Visit) -> Response:
    """Groups of dead deliveries, most frequent first; `q` narrows them, or names another state."""
    found = search.of(visit)
    if found.mistake is not None:
        if visit.form != "html":
            raise found.mistake
        return visit.page(
            "failures.html",
            400,
            search=found,
            groups=[],
            looked=None,
            cancellable=set(),
            paused=set(),
            is_dead=True,
            blocked=0,
        )
    selection = found.selection
    looked = visit.store.listings.failures(selection, limit=PER_PAGE, look_at=LOOKED_AT)
    groups = redacting.groups(visit, looked.groups)
    documents = [records.failure_json(one) for one in groups]
    if visit.form == "json":
        return visit.json({"failures": documents})
    if visit.form == "csv":
        rows = ([one[name] for name in COLUMNS] for one in documents)
        return visit.stream(exports.csv_rows(COLUMNS, rows), "text/csv; charset=utf-8", "failures.csv")
    paused = {name for name, state in visit.store.handlers.states().items() if state.paused}
    return visit.page(
        "failures.html",
        groups=[(group, acting.group_line(group)) for group in groups],
        looked=looked,
        search=found,
        paused=paused,
        cancellable={one.name for one in visit.services.registry.handlers() if one.ordered_by is not None},
        is_dead=selection.states in ((), (DeliveryState.DEAD,)),
        blocked=len(visit.store.listings.blocked_lanes(Selection(), limit=PER_PAGE)),
    )


@PAGES.get("/failures/blocked", needs=UserRole.VIEWER, forms=("html", "json"))
def blocked(visit: Visit) -> Response:
    """Ordered lanes that a dead delivery holds, those with most waiting first; two ways out."""
    lanes = visit.store.listings.blocked_lanes(Selection.parse_line(visit.text("q"), visit.now), limit=PER_PAGE)
    holders = redacting.deliveries(visit, [one.holder for one in lanes])
    found = [dataclasses.replace(one, holder=holder) for one, holder in zip(lanes, holders, strict=True)]
    if visit.form == "json":
        return visit.json({"lanes": [records.blocked_json(one) for one in found]})
    return visit.page("blocked.html", lanes=found)
