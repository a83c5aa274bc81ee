"""Admit quarantined requests, once what was wrong with reading them is mended.

A retry verifies again, with the time at which the request came, and goes through `Ingest.record` with the original
`received_at`, so that the event becomes stored, duplicate, revision or stale like any other. The row keeps the receipts.
One item of a body was verified with that body, and is only read again.
An entry of a sender's log, which catch-up fetched from its API, has no signature to verify: it is only read again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from webhooks.errors import Malformed, NotFound, Rejected, RowRefused, UnknownSource
from webhooks.formats import one_line
from webhooks.intake.headers import stored_headers
from webhooks.intake.ingest import Ingest
from webhooks.intake.keys import require_storable
from webhooks.model import Headers, InboundRequest, Origin, ParsedEvent, Receipt
from webhooks.sources import Source, with_log
from webhooks.store import Store
from webhooks.store.quarantine import ITEM, Quarantined


@dataclass(frozen=True, slots=True)
class Admission:
    """What a retry led to. receipts: empty when it was not admitted; reason: why not."""

    id: int
    receipts: tuple[Receipt, ...] = ()
    reason: str | None = None


def retry(id: int, *, store: Store, ingest: Ingest, by: str) -> Admission:
    """Try to admit one quarantined request. Raises `NotFound` for an id that is none."""
    kept = store.quarantine.get(id)
    if kept is None:
        raise NotFound(f"nothing is quarantined under {id}; `webhooks quarantine list` shows what is")
    if not store.quarantine.begin(id, by):
        now = store.quarantine.get(id) or kept
        who = f" by {now.decided_by}" if now.decided_by else ""
        return Admission(id, reason=f"it is {now.state}{who}")
    try:
        receipts = _record(kept, ingest)
    except (Rejected, RowRefused) as error:
        reason = error.reason if isinstance(error, Rejected) else f"the database refused it: {one_line(str(error))}"
        store.quarantine.put_back(id, reason)
        return Admission(id, reason=reason)
    except BaseException:
        store.quarantine.put_back(id, kept.reason)
        raise
    store.quarantine.admit(
        id,
        [
            {"status": receipt.status.value, "event_id": None if receipt.event_id is None else str(receipt.event_id)}
            for receipt in receipts
        ],
    )
    return Admission(id, tuple(receipts))


def _record(kept: Quarantined, ingest: Ingest) -> list[Receipt]:
    try:
        source = ingest.source(kept.source)
    except UnknownSource as error:
        raise Malformed(f"source {kept.source!r} is not configured any more") from error
    parsed: Sequence[ParsedEvent]
    came_with: dict[str, str] = {}
    if kept.is_from_log:
        parsed = (_parse_entry(source, kept.body),)
    else:
        sent = {name: value.encode("latin-1", "replace") for name, value in kept.headers.items() if name != ITEM}
        headers = Headers(sent)
        url = source.settings.public_url
        request = InboundRequest(headers, kept.body, "POST", kept.query, url, kept.request_id or "")
        if kept.is_item:
            came_with["key_label"] = kept.key_label or ""
            parsed = (source.parse_item(request),)
        else:
            came_with["key_label"] = source.verify(request, kept.received_at).label
            parsed = source.parse(request)
        came_with["headers"] = stored_headers(headers, source)
        came_with["request_id"] = kept.request_id or ""
    for event in parsed:
        require_storable(event)
    return ingest.record(source, parsed, received_at=kept.received_at, origin=Origin.QUARANTINE, **came_with)


def _parse_entry(source: Source, body: bytes) -> ParsedEvent:
    log = with_log(source)
    if log is None:
        raise Malformed(f"it was read in an event log, and source {source.name!r} has none now")
    return log.parse_log_body(body)
