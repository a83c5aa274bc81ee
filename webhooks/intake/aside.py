"""Set aside what is rightly signed and cannot be stored as an event: whole requests, and single items of a body.

What is kept, is told: a line in the log, a signal, and the request's id for `explain`. Not here: admitting it again (`quarantine`).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

import msgspec

from webhooks import signals
from webhooks.errors import Malformed, RowRefused
from webhooks.formats import one_line
from webhooks.intake.observations import RejectionSampler
from webhooks.intake.refusals import Refusals
from webhooks.model import Disposition, InboundRequest, OddItem, ParsedEvent, Receipt, Verified
from webhooks.sources import Source
from webhooks.store import Store
from webhooks.store.quarantine import ITEM

logger = logging.getLogger(__name__)
_encode_json = msgspec.json.Encoder().encode


class SetAside:
    """Keeps requests in quarantine.

    refusals: counts the lines.
    rejections: keeps a sample of requests.
    run: how a write beside the commit is called.
    """

    def __init__(
        self,
        store: Store,
        refusals: Refusals,
        rejections: RejectionSampler | None,
        run: Callable[[Callable[[], int]], int],
    ) -> None:
        self._store = store
        self._refusals = refusals
        self._rejections = rejections
        self._run = run

    def unreadable(
        self,
        source: Source,
        request: InboundRequest,
        verified: Verified,
        error: Malformed,
        now: datetime,
        *,
        keep: bool = False,
    ) -> int:
        """Quarantine a request that is rightly signed and cannot be read. keep: also where the source rejects such."""
        if source.settings.on_unparseable == "reject" and not keep:
            raise error
        id = self._run(functools.partial(self._quarantine, source.name, request, verified.label, error, now))
        self._tell_of_quarantine(source.name, request, error, id, now)
        return id

    def refused_by_database(
        self, source: Source, request: InboundRequest, verified: Verified, error: RowRefused, now: datetime
    ) -> int:
        """Quarantine a request whose very rows the database refuses; a 503 would bring them back for days."""
        logger.error(
            "the database refused an event of source %r, so its request is quarantined: %s",
            source.name,
            one_line(str(error)),
            extra={"source": source.name, "request_id": request.id},
        )
        refused = Malformed(f"the database refused it: {one_line(str(error))}")
        return self.unreadable(source, request, verified, refused, now, keep=True)

    def with_odd(
        self,
        source: Source,
        request: InboundRequest,
        verified: Verified,
        found: Sequence[ParsedEvent | OddItem],
        stored: Sequence[Receipt],
        now: datetime,
    ) -> tuple[Receipt, ...]:
        """Quarantine the items that cannot be read, once the others are stored; a receipt for each, in order."""
        receipts = iter(stored)
        both: list[Receipt] = []
        for each in found:
            if isinstance(each, OddItem):
                error = Malformed(each.reason, each.kind)
                item = replace(request, body=each.body, headers=request.headers.with_one(ITEM, b"1"))
                id = self._run(functools.partial(self._quarantine, source.name, item, verified.label, error, now))
                self._tell_of_quarantine(source.name, item, error, id, now)
                both.append(Receipt(Disposition.QUARANTINED, None, quarantine_id=id))
            else:
                both.append(next(receipts))
        return tuple(both)

    def _tell_of_quarantine(
        self, source: str, request: InboundRequest, error: Malformed, id: int, now: datetime
    ) -> None:
        """Log and announce what was kept unread under `id`."""
        self._refusals.lines.say(
            (source, "quarantined"),
            logging.WARNING,
            f"a signed request of source {source!r} cannot be read and is quarantined",
            one_line(error.reason),
            {"source": source, "request_id": request.id, "quarantine_id": id, "bytes": len(request.body)},
        )
        if self._rejections is not None:
            self._rejections.quarantined(source, request, id, now)
        signals.emit(
            signals.event_quarantined,
            source,
            quarantine_id=id,
            reason=error.reason,
            kind=error.kind,
            request_id=request.id,
        )

    def _quarantine(self, source: str, request: InboundRequest, label: str, error: Malformed, now: datetime) -> int:
        """Keep a request as it came; the id of its row."""
        return self._store.quarantine.put(
            source,
            request.body,
            reason=error.reason,
            kind=error.kind,
            received_at=now,
            headers=_encode_json(request.headers.as_text(without=())).decode(),
            query=request.query,
            key_label=label,
            request_id=request.id,
        )
