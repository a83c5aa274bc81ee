"""Stored events: those that a line selects, and each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from flask import Response

from webhooks.dashboard import acting, exports, redacting, search
from webhooks.dashboard.access import Refused, UserRole
from webhooks.dashboard.endpoints import Pages
from webhooks.dashboard.search import COUNTED, LONGEST_EXPORT, PATIENCE, PER_PAGE, Search
from webhooks.dashboard.visit import Visit
from webhooks.operations import events as looking
from webhooks.operations import records
from webhooks.operations.words import states
from webhooks.selection import Selection
from webhooks.selection.line import narrowed
from webhooks.store.listings import Cursor, EventSummary, Page

PAGES = Pages()

#: Columns of the CSV.
COLUMNS = ("id", "received_at", "occurred_at", "source", "type", "key", "receipt", "bytes", "deliveries")


class Shown(NamedTuple):
    """A page of events. older, newer: places, where there are such."""

    page: Page[EventSummary, Cursor]
    older: str | None
    newer: str | None


@PAGES.get("/events", needs=UserRole.VIEWER, forms=("html", "json", "jsonl", "csv"))
def events(visit: Visit) -> Response:
    """The selected events, the newest first."""
    found = search.of(visit)
    if found.mistake is not None:
        if visit.form != "html":
            raise found.mistake
        return visit.page(
            "events.html", 400, search=found, shown=None, rows=(), total=None, elsewhere=None, is_folded=False
        )
    if visit.form in ("jsonl", "csv"):
        return _export(visit, found.selection)
    shown = _shown(visit, found.selection)
    if visit.form == "json":
        return visit.json(looking.page_json(shown.page))
    total = visit.store.listings.count(found.selection, at_most=COUNTED)
    is_folded = bool(visit.text("fold"))
    return visit.page(
        "events.html",
        search=found,
        shown=shown,
        rows=folded(shown.page.rows) if is_folded else [(one, ()) for one in shown.page.rows],
        is_folded=is_folded,
        total=total,
        elsewhere=_elsewhere(found) if not shown.page.rows else None,
    )


def _shown(visit: Visit, selection: Selection) -> Shown:
    """The page that the request's place asks for."""
    newer_than = search.place_of(visit, "newer")
    after = search.place_of(visit, "after")
    look = visit.store.listings.look
    if newer_than is None:
        page = look(selection, deadline=PATIENCE, limit=PER_PAGE, after=after)
        first = page.rows[0].place if page.rows else after
        return Shown(
            page,
            looking.place_text(page.at) if page.at is not None else None,
            looking.place_text(first) if after is not None and first is not None else None,
        )
    page = look(selection, deadline=PATIENCE, limit=PER_PAGE, newest_first=False, after=newer_than)
    rows = page.rows[::-1]
    older = looking.place_text(rows[-1].place if rows else newer_than)
    newer = looking.place_text(page.at) if page.at is not None else None
    return Shown(Page(rows, page.at, page.looked_at, page.back_to, page.is_complete), older, newer)


def folded(rows: Sequence[EventSummary]) -> list[tuple[EventSummary, Sequence[EventSummary]]]:
    """The newest copy of each key of a page, with the older ones of the same page. Pure. rows: the newest first."""
    keys: dict[tuple[str, str], list[EventSummary]] = {}
    for one in rows:
        keys.setdefault((one.source, one.dedup_key), []).append(one)
    return [(newest, older) for newest, *older in keys.values()]


def _elsewhere(found: Search) -> str | None:
    """For a word that names no event: the line that looks for it in errors."""
    keys = [part for part in found.parts if part.name == "key"]
    return narrowed("", "error", keys[0].value) if len(found.parts) == 1 and keys else None


def _export(visit: Visit, selection: Selection) -> Response:
    """A file of the selected events, the oldest first."""
    place = search.place_of(visit, "after")
    limit = min(int(visit.text("limit")), LONGEST_EXPORT) if visit.text("limit").isdecimal() else LONGEST_EXPORT
    if visit.form == "csv":
        acting.note_export(visit, "events", selection, limit=limit)
        rows = exports.bounded(_rows(visit, selection, place), limit, lambda at: (f"continue with after={at}",))
        return visit.stream(exports.csv_rows(COLUMNS, rows), "text/csv; charset=utf-8", "events.csv")
    if not visit.may_see_payloads:
        raise Refused(403, "an export has payloads, which your role does not see; .csv has none")
    acting.note_export(visit, "events", selection, limit=limit)
    redaction = redacting.redaction_of(visit)
    found = looking.export(visit.store, selection, place, see=lambda one: redacting.event(redaction, one))
    lines = ((looking.place_text(at), line) for at, line in found)
    documents = exports.bounded(lines, limit, lambda at: {"continue_after": at})
    return visit.stream(exports.json_lines(documents), "application/x-ndjson", "events.jsonl")


def _rows(visit: Visit, selection: Selection, after: Cursor | None) -> Iterator[tuple[str, tuple[Any, ...]]]:
    listings = visit.store.listings
    for step in listings.walk(selection, after=after, step=exports.STEP):
        for one in listings.with_deliveries(step):
            json = records.event_json(one)
            yield (
                looking.place_text(one.place),
                (
                    json["id"], json["received_at"], json["occurred_at"], one.source, one.type, one.dedup_key,
                    str(one.receipt), one.body_bytes, states(one.deliveries),
                ),
            )  # fmt: skip
