"""What is decided about an item, and the records around it.

One upsert on `webhooks_dedup_log` decides, with `older` remembering every revision (or, without revisions, body digest)
that is kept but not the newest, so that a second copy of one of those is a duplicate too:

    unknown key                                 -> stored      event, deliveries
    newest revision again, or an older kept one -> duplicate   counted
    later revision                              -> revision    event linked to the one before, deliveries
    earlier revision, unknown                   -> stale       event, no deliveries
    no revisions, another body                  -> conflict    event (flagged), no deliveries; the receipt says duplicate

`older` is the sender's to grow, so it holds `OLDER_LIMIT` entries; beyond, stale and conflicting copies are counted
and not kept. A revision of -1 (a stripped copy) is stored without deliveries and loses to any other.

Keys are sorted and copies of one key go in waves (n-th copy, n-th statement), so two batches cannot deadlock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from webhooks.model import Disposition, Origin, Receipt, new_id
from webhooks.store.lanes import Lane

OLDER_LIMIT = 32

#: webhooks_events.origin -> how it came
ORIGINS = (Origin.WEBHOOK, Origin.CATCH_UP, Origin.QUARANTINE)
#: how it came -> webhooks_events.origin
ORIGIN_CODES = {origin: code for code, origin in enumerate(ORIGINS)}


class Routed(NamedTuple):
    """One delivery to make.

    handler: its name.
    lane: the ordering key; None without order.
    error: why its ordering key could not be computed; such a delivery is dead from the start.
    """

    delivery_id: int
    handler: str
    lane: str | None = None
    error: str | None = None


class Bound(NamedTuple):
    """What is asked beyond the log's key; see `bounds`.

    expires_before: a key whose accepted copy came earlier is forgotten; None for never.
    limit: equal bodies that run an hour under whatever key; 0 for any number.
    """

    expires_before: datetime | None = None
    limit: int = 0


class Item(NamedTuple):
    """One event to record; the order of the fields, but for the last two, is that of the statements' parameters.

    revision: see `ParsedEvent`.
    digest: of the body, for events without revisions; b"" otherwise.
    headers: JSON, without credentials and signatures; "" as any other text for what is not known.
    """

    event_id: int
    source: str
    dedup_key: str
    revision: int
    type: str
    occurred_at: datetime
    received_at: datetime
    body: bytes
    digest: bytes = b""
    object_id: str = ""
    group_id: str = ""
    origin: Origin = Origin.WEBHOOK
    key_label: str = ""
    request_id: str = ""
    headers: str = ""
    routes: tuple[Routed, ...] = ()
    bound: Bound | None = None


#: How many fields of an `Item` are parameters of its statement.
COLUMNS_OF_ITEM = len(Item._fields) - 2


class Decision(NamedTuple):
    """What the upsert said of one item. event_id: of the receipt, which is another's for a duplicate."""

    disposition: Disposition
    event_id: int


#: {offered event id: what was decided}
Decisions = Mapping[int, Decision]


def decision_of(item: Item, code: int, event_id: int) -> Decision:
    """What was decided about an item. code: as the dedup log has it, which does not tell stripped copies from others."""
    disposition = Disposition.of_code(code)
    if disposition.is_delivered and item.revision < 0:
        disposition = Disposition.STRIPPED
    return Decision(disposition, event_id)


def waves_of(items: Sequence[Item]) -> list[list[Item]]:
    """`items` sorted by key, the n-th copy of a key in the n-th list."""
    ordered = sorted(items, key=lambda item: (item.source.encode(), item.dedup_key.encode()))
    waves: list[list[Item]] = []
    last: tuple[str, str] | None = None
    depth = 0
    for item in ordered:
        key = (item.source, item.dedup_key)
        depth = depth + 1 if key == last else 0
        last = key
        if depth == len(waves):
            waves.append([])
        waves[depth].append(item)
    return waves


def lanes_of(waves: Sequence[Sequence[Item]], decisions: Decisions) -> set[Lane]:
    """The lanes into which deliveries were made."""
    return {
        (route.handler, route.lane)
        for wave in waves
        for item in wave
        if decisions[item.event_id].disposition.is_delivered
        for route in item.routes
        if route.lane
    }


def receipt_of(item: Item, decision: Decision) -> Receipt:
    """What ingest promises for `item`."""
    disposition, event_id = decision
    return Receipt(
        status=disposition.answer,
        event_id=event_id,
        delivery_ids=tuple(route.delivery_id for route in item.routes if route.error is None)
        if disposition.is_delivered
        else (),
        conflict=disposition.is_conflict,
    )


def trial_of(like: Item | None, now: datetime) -> Item:
    """A harmless event of the kind of `like` (None: of a kind of its own), for a write that is rolled back."""
    source, kind = (like.source, like.type) if like is not None else ("webhooks", "webhooks.trial")
    handlers = [route.handler for route in like.routes] if like is not None else ["webhooks.trial"]
    id = new_id()
    return Item(
        event_id=id,
        source=source,
        dedup_key=f"webhooks.trial.{id}",
        revision=1,
        type=kind,
        occurred_at=now,
        received_at=now,
        body=b"{}",
        routes=tuple(Routed(new_id(), handler) for handler in handlers),
    )


def with_new_ids(item: Item) -> Item:
    """The same item under ids that were never drawn before; for a second try after a refused row."""
    return item._replace(
        event_id=new_id(),
        routes=tuple(route._replace(delivery_id=new_id()) for route in item.routes),
    )


__all__ = [
    "COLUMNS_OF_ITEM",
    "OLDER_LIMIT",
    "ORIGINS",
    "ORIGIN_CODES",
    "Bound",
    "Decision",
    "Decisions",
    "Item",
    "Routed",
    "decision_of",
    "lanes_of",
    "receipt_of",
    "trial_of",
    "waves_of",
    "with_new_ids",
]  # fmt: skip
