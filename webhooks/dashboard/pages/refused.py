"""What was not accepted: refused requests with their diagnosis, and what is held in quarantine."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from flask import Response

from webhooks.dashboard import acting, exports, looks, redacting
from webhooks.dashboard.access import UserRole
from webhooks.dashboard.endpoints import Pages
from webhooks.dashboard.payload.text import shown
from webhooks.dashboard.visit import Visit
from webhooks.errors import NotFound, Refusal
from webhooks.operations import records
from webhooks.selection import parse_id
from webhooks.store.quarantine import STATES
from webhooks.store.rejections import Rejection
from webhooks.store.tallies import WINDOWS

PAGES = Pages()

#: Of the sample so many are looked at.
LOOKED_AT = 1_000
#: Rows of a page.
PER_PAGE = 100
#: Letters of a body that are shown.
SHOWN = 20_000
#: {why: what to do about it at the sender, or here}
ADVICE = {
    Refusal.SIGNATURE: "Compare the key: what the sender signs with must be one of the keys of this source. A new key goes into its secret_file; the sender tries again by itself.",
    Refusal.CHALLENGE: "The handshake names another token than this source has: set it the same on both sides.",
    Refusal.UNREADABLE: "It is rightly signed and of another shape: give the source on_unparseable = \"quarantine\" to keep such requests.",
    Refusal.NOT_FOUND: "Correct the address at the sender; the page of each source has it to copy.",
    Refusal.METHOD: "Senders post. A browser, a probe or a scanner asked; nothing need be done.",
    Refusal.MALFORMED: "It was no HTTP request as it has to be: look at the proxy between the sender and here.",
    Refusal.INCOMPLETE: "The connection ended before the body did: look at time-outs of the proxy in between.",
    Refusal.TOO_SLOW: "Head or body did not come in time: look at the network and the proxy in between.",
    Refusal.TOO_LARGE: "The body is larger than the setting max_body: raise it if such events are wanted.",
    Refusal.ENCODING: "The body is compressed: switch that off at the sender or the proxy, since signatures are over the bytes sent.",
    Refusal.KEYS: "The keys that the sender publishes could not be fetched: let this machine reach them; the sender tries again.",
    Refusal.STORAGE: "The database did not store it in time: the sender tries again, and nothing is lost if it does.",
    Refusal.OVERLOADED: "Too many requests waited at once: start more processes; the sender tries again.",
    Refusal.FAULT: "A fault of ours: the log has its traceback under the request id. Please report it.",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RefusedGroup:
    """Requests of one source that were refused alike. text: the diagnosis, or else the reason. example: the latest."""

    source: str
    kind: str
    status: int
    text: str
    has_diagnosis: bool
    count: int
    first_at: datetime
    last_at: datetime
    example: Rejection


def groups_of(rejections: Sequence[Rejection]) -> list[RefusedGroup]:
    """Those that were refused, alike ones together, the most frequent first. Pure."""
    found: dict[tuple[str, str, str], list[Rejection]] = {}
    for each in rejections:
        if each.status >= 400:
            found.setdefault((each.source, each.kind, each.diagnosis or each.reason), []).append(each)
    groups = [
        RefusedGroup(
            source,
            kind,
            alike[0].status,
            text,
            alike[0].diagnosis is not None,
            len(alike),
            min(each.received_at for each in alike),
            max(each.received_at for each in alike),
            max(alike, key=lambda each: each.received_at),
        )
        for (source, kind, text), alike in found.items()
    ]
    return sorted(groups, key=lambda group: (-group.count, group.source, group.text))


@PAGES.get("/refused", needs=UserRole.VIEWER, forms=("html", "json", "jsonl"))
def refused(visit: Visit) -> Response:
    """The sample of refused requests, grouped by what was wrong with them."""
    source = visit.text("source") or None
    sample = [each for each in visit.store.rejections.latest(LOOKED_AT, source) if each.status >= 400]
    if visit.form == "json":
        return visit.json({"refused": [records.rejection_json(each) for each in sample[:PER_PAGE]]})
    if visit.form == "jsonl":
        acting.note_export(visit, "refused")
        return visit.stream(
            exports.json_lines(map(records.rejection_json, sample)), "application/x-ndjson", "refused.jsonl"
        )
    measured = looks.summed(visit.services, WINDOWS["24h"])
    return visit.page(
        "refused.html",
        groups=groups_of(sample),
        sample=sample[:PER_PAGE],
        sampled=len(sample),
        is_more=len(sample) == LOOKED_AT,
        counted_=measured.sums(source).refused,
        counted_since=None if measured.is_whole else visit.now - timedelta(minutes=measured.minutes),
        source=source,
        sources=sorted(visit.services.sources),
    )


@PAGES.get("/refused/<request_id>", needs=UserRole.VIEWER, forms=("html", "json"))
def refused_request(visit: Visit, request_id: str) -> Response:
    """One refused request: what came, what was expected, what to change."""
    found = visit.store.rejections.find(request_id)
    if found is None:
        raise NotFound(
            f"no refused request {request_id!r} is kept: one a second of each source and reason is, the latest 500 of each"
        )
    if visit.form == "json":
        return visit.json(records.rejection_json(found))
    source = visit.services.sources.get(found.source)
    kind = Refusal(found.kind) if found.kind in set(Refusal) else None
    is_key = kind is Refusal.SIGNATURE and source is not None
    return visit.page(
        "refused_request.html",
        found=found,
        source=source,
        advice=ADVICE.get(kind) if kind else None,
        key_file=source.settings.secret_file if is_key and source is not None else "",
    )


@PAGES.get("/quarantine", needs=UserRole.VIEWER, forms=("html", "json", "jsonl"))
def quarantine(visit: Visit) -> Response:
    """Rightly signed requests that could not be read."""
    source, state = visit.text("source") or None, visit.text("state", "held")
    chosen = None if state == "all" else state if state in STATES else "held"
    if visit.form == "jsonl":
        acting.note_export(visit, "quarantine")
        every = visit.store.quarantine.list(LOOKED_AT, source=source, state=chosen)
        return visit.stream(
            exports.json_lines(map(records.quarantined_json, every)), "application/x-ndjson", "quarantine.jsonl"
        )
    rows = visit.store.quarantine.list(PER_PAGE, source=source, state=chosen)
    if visit.form == "json":
        return visit.json({"quarantine": [records.quarantined_json(row) for row in rows]})
    return visit.page(
        "quarantine.html", rows=rows, state=chosen or "all", states=[*STATES[:3], "all"], is_full=len(rows) == PER_PAGE
    )


@PAGES.get("/quarantine/<int:id>", needs=UserRole.VIEWER, forms=("html", "json"))
def quarantined(visit: Visit, id: int) -> Response:
    """One of them, with the names of its headers: their values hold the signature."""
    kept = visit.store.quarantine.get(parse_id(str(id), "row"))
    if kept is None:
        raise NotFound(f"nothing is quarantined under {id}")
    seen = redacting.body(visit, id, kept.body)
    is_hidden = seen != kept.body
    kept = dataclasses.replace(kept, body=seen)
    if visit.form == "json":
        return visit.json(records.quarantined_json(kept, with_body=visit.may_see_payloads))
    body, is_cut = shown(seen, SHOWN) if visit.may_see_payloads else (None, False)
    return visit.page(
        "quarantined.html",
        kept=kept,
        body=body,
        is_hidden=is_hidden,
        is_cut=is_cut,
        header_names=sorted(kept.headers),
    )


__all__ = ["ADVICE", "PAGES", "RefusedGroup", "groups_of"]
