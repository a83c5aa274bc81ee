"""Deliveries: those that a line selects, and each of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from flask import Response

from webhooks.dashboard import acting, exports, folding, redacting, search
from webhooks.dashboard.access import UserRole
from webhooks.dashboard.endpoints import Pages
from webhooks.dashboard.search import LONGEST_EXPORT, PATIENCE, PER_PAGE
from webhooks.dashboard.visit import Visit
from webhooks.errors import NotFound
from webhooks.model import Attempt
from webhooks.operations import explain, records
from webhooks.selection import Selection, parse_id

PAGES = Pages()

#: Columns of the CSV.
COLUMNS = ("id", "event_id", "handler", "state", "attempts", "due_at", "finished_at", "type", "key", "reason")


class Bar(NamedTuple):
    """An attempt on the axis of time. x, width: of 1,000."""

    attempt: Attempt
    x: int
    width: int


@PAGES.get("/deliveries", needs=UserRole.VIEWER, forms=("html", "json", "csv"))
def deliveries(visit: Visit) -> Response:
    """The selected deliveries, the latest first."""
    found = search.of(visit)
    if found.mistake is not None:
        if visit.form != "html":
            raise found.mistake
        return visit.page("deliveries.html", 400, search=found, page=None, replay=None)
    if visit.form == "csv":
        acting.note_export(visit, "deliveries", found.selection)
        rows = exports.bounded(
            _rows(visit, found.selection), LONGEST_EXPORT, lambda at: (f"continue with before={at}",)
        )
        return visit.stream(exports.csv_rows(COLUMNS, rows), "text/csv; charset=utf-8", "deliveries.csv")
    replay = parse_id(visit.text("replay"), "replay") if visit.text("replay") else None
    page = visit.store.listings.look_at_deliveries(
        found.selection, deadline=PATIENCE, limit=PER_PAGE, before=_before(visit), replay_id=replay
    )
    page = dataclasses.replace(page, rows=redacting.deliveries(visit, page.rows))
    if visit.form == "json":
        return visit.json({"deliveries": [records.delivery_json(one) for one in page.rows]} | records.look_json(page))
    return visit.page("deliveries.html", search=found, page=page, replay=replay)


def _before(visit: Visit) -> int | None:
    return parse_id(visit.text("before"), "delivery") if visit.text("before") else None


def _rows(visit: Visit, selection: Selection) -> Iterator[tuple[str, tuple[Any, ...]]]:
    for step in visit.store.listings.walk_deliveries(selection, step=exports.STEP, before=_before(visit)):
        for one in redacting.deliveries(visit, step):
            json = records.delivery_json(one)
            yield str(one.id), tuple(json[name] for name in COLUMNS)


@PAGES.get("/deliveries/<id>", needs=UserRole.VIEWER, forms=("html", "json"))
def delivery(visit: Visit, id: str) -> Response:
    """One delivery with its attempts."""
    found = visit.store.listings.delivery(parse_id(id, "delivery"))
    if found is None:
        raise NotFound(f"no delivery {id[:20]}: it was never made here, or has been pruned")
    (found,) = redacting.deliveries(visit, [found])
    attempts = redacting.attempts(visit, found, visit.store.deliveries.attempts([found.id]))
    if visit.form == "json":
        document = records.delivery_json(found)
        return visit.json(document | {"attempt_list": [records.attempt_json(one) for one in attempts]})
    handler = visit.services.registry.get(found.handler)
    most = handler.retry.max_attempts if handler is not None and handler.retry is not None else None
    folded, shown = folding.split(attempts)
    return visit.page(
        "delivery.html",
        delivery=found,
        attempts=attempts,
        folded=folded[-folding.MOST :],
        left_out=max(0, len(folded) - folding.MOST),
        shown=shown,
        same_error=folding.same_errors({found.id: attempts}),
        longest_error=folding.LONGEST_ERROR,
        bars=bars(attempts, visit.now),
        most=most or visit.services.settings.max_attempts,
        neighbours=_neighbours(visit, found.handler, found.event_id),
        wants_latest=handler is not None and handler.latest is not None,
        lane=visit.store.listings.lane_neighbours(found.id) if found.lane is not None else None,
        waits_for=visit.store.listings.lane_waits([found.id]).get(found.id) if explain.is_behind(found) else None,
    )


def _neighbours(visit: Visit, handler: str, event_id: int) -> Sequence[Any]:
    """Other deliveries of the same event."""
    return [one for one in visit.store.listings.of_event(event_id) if one.handler != handler]


def bars(attempts: Sequence[Attempt], now: datetime) -> list[Bar]:
    """Attempts on an axis from the first start to the last end, each at least visible."""
    if not attempts:
        return []
    first = min(one.started_at for one in attempts)
    last = max(one.finished_at or now for one in attempts)
    whole = max((last - first) / timedelta(microseconds=1), 1)
    found = []
    for one in attempts:
        x = round((one.started_at - first) / timedelta(microseconds=1) / whole * 1000)
        width = round(((one.finished_at or now) - one.started_at) / timedelta(microseconds=1) / whole * 1000)
        width = max(width, 8)
        found.append(Bar(one, min(max(x, 0), 1000 - width) if width < 1000 else 0, min(width, 1000)))
    return found
