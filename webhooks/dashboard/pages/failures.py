"""What failed, put together by what is alike; and lanes that stand still."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from flask import Response
from markupsafe import Markup

from webhooks.dashboard import acting, exports, looks, redacting, search
from webhooks.dashboard.access import UserRole
from webhooks.dashboard.charts import sparkline
from webhooks.dashboard.endpoints import Pages
from webhooks.dashboard.visit import Visit
from webhooks.model import DeliveryState
from webhooks.operations import records
from webhooks.selection import Selection
from webhooks.store.listings import FailureGroup, FailureGroups
from webhooks.store.processes import Process

PAGES = Pages()

#: Groups, and lanes, of a page.
PER_PAGE = 50
#: So many of the newest are put into groups.
LOOKED_AT = 20_000
#: Blocked lanes are counted so far, and so many are looked at for those with most behind them.
LANES_COUNTED, LANES_LOOKED_AT = 1_000, 2_000
#: A start of a version is news for so long.
NEW_FOR = timedelta(days=1)
COLUMNS = ("handler", "state", "error", "count", "first_at", "last_at", "example_id")


class FailureLine(NamedTuple):
    """One group as a page shows it.

    line: that selects it.
    spark: the last day, drawn.
    new_since: the version before whose start nothing failed so; None where something did, or that is long ago.
    """

    group: FailureGroup
    line: str
    spark: Markup
    new_since: str | None = None
    is_paused: bool = False
    can_cancel: bool = False


def lines_of(visit: Visit, found: FailureGroups) -> list[FailureLine]:
    """Groups with what to do about them. found: with what is hidden taken out."""
    record = looks.on_record(visit.services)
    paused = {name for name, state in record.states.items() if state.paused}
    ordered = {one.name for one in visit.services.registry.handlers() if one.ordered_by is not None}
    version, started_at = _latest_start(record.processes) or ("", None)
    is_recent = found.is_complete and started_at is not None and visit.now - started_at < NEW_FOR
    return [
        FailureLine(
            group,
            acting.group_line(group),
            _spark(group),
            version if is_recent and started_at is not None and group.first_at >= started_at else None,
            group.handler in paused,
            group.handler in ordered or group.state is DeliveryState.PENDING,
        )
        for group in found.groups
    ]


def _latest_start(processes: Sequence[Process]) -> tuple[str, datetime] | None:
    """(the version that began to run last, when its first process did)."""
    first: dict[str, datetime] = {}
    for process in processes:
        first[process.version] = min(process.started_at, first.get(process.version, process.started_at))
    return max(first.items(), key=lambda each: each[1], default=None)


def _spark(group: FailureGroup) -> Markup:
    numbers = ", ".join(str(number) for number in group.lately)
    return sparkline(group.lately, f"{sum(group.lately):,} in 24 hours, each two hours: {numbers}")


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
            is_dead=True,
            blocked=0,
            blocked_counted=LANES_COUNTED,
        )
    selection = found.selection
    looked = visit.store.listings.failures(selection, limit=PER_PAGE, look_at=LOOKED_AT, until=visit.now)
    seen = redacting.listed(visit, looked)
    documents = [records.failure_json(one) for one in seen.groups]
    if visit.form == "json":
        return visit.json({"failures": documents})
    if visit.form == "csv":
        acting.note_export(visit, "failures", selection)
        rows = ([one[name] for name in COLUMNS] for one in documents)
        return visit.stream(exports.csv_rows(COLUMNS, rows), "text/csv; charset=utf-8", "failures.csv")
    return visit.page(
        "failures.html",
        groups=lines_of(visit, seen),
        looked=looked,
        search=found,
        is_dead=selection.states in ((), (DeliveryState.DEAD,)),
        blocked=visit.store.listings.count_blocked_lanes(LANES_COUNTED + 1),
        blocked_counted=LANES_COUNTED,
    )


@PAGES.get("/failures/blocked", needs=UserRole.VIEWER, forms=("html", "json"))
def blocked(visit: Visit) -> Response:
    """Ordered lanes that a dead delivery holds, those with most waiting first; two ways out."""
    listings, selection = visit.store.listings, Selection.parse_line(visit.text("q"), visit.now)
    lanes = listings.blocked_lanes(selection, limit=PER_PAGE, look_at=LANES_LOOKED_AT)
    holders = redacting.deliveries(visit, [one.holder for one in lanes])
    found = [dataclasses.replace(one, holder=holder) for one, holder in zip(lanes, holders, strict=True)]
    if visit.form == "json":
        return visit.json({"lanes": [records.blocked_json(one) for one in found]})
    is_more = len(lanes) == PER_PAGE and listings.count_blocked_lanes(LANES_LOOKED_AT + 1) > LANES_LOOKED_AT
    return visit.page(
        "blocked.html",
        lanes=found,
        handlers=sorted({one.holder.handler for one in found}),
        looked_at=LANES_LOOKED_AT if is_more else None,
    )


__all__ = ["PAGES", "FailureLine", "lines_of"]
