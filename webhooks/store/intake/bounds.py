"""What an item may ask beyond the dedup log: keys that are forgotten after a while, and equal bodies that run so often an hour.

Both are settled in the transaction that records the batch, before its upserts: a key whose accepted copy is older than
`Bound.expires_before` is forgotten, so that this copy is stored like one never seen; a body that was accepted `Bound.limit` times
within an hour is a duplicate of the last of these, under whatever key it comes. An hour begins with the first one that is counted.
Batches without such items pay nothing.

Counters come before keys, each in one order, so two batches cannot deadlock.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from webhooks.model import Disposition
from webhooks.store.intake.decide import Decision, Item

HOUR = timedelta(hours=1)


class BoundStatements(Protocol):
    """What each database says its own way, on the cursor of the batch."""

    def is_known(self, item: Item) -> bool:
        """Whether the log has the item's key, not expired."""

    def count(self, item: Item) -> tuple[int, int]:
        """Count one more of the item's body: (how many within the hour, the event that was last accepted)."""

    def forget(self, item: Item) -> None:
        """Forget the item's key if the copy that was accepted is older than its bound."""


def has_bounds(waves: Sequence[Sequence[Item]]) -> bool:
    """Whether an item of a batch has a bound."""
    return any(item.bound is not None for wave in waves for item in wave)


def settle(
    waves: Sequence[Sequence[Item]], decisions: dict[int, Decision], statements: BoundStatements
) -> list[list[Item]]:
    """Settle the bounds of a batch; the items that are left to be decided by the log, in their waves."""
    bounded = [item for wave in waves for item in wave if item.bound is not None]
    seen: set[tuple[str, str]] = set()
    for item in sorted(bounded, key=lambda item: (item.source, item.digest)):
        key = (item.source, item.dedup_key)
        if item.bound is None or not item.bound.limit or key in seen or statements.is_known(item):
            continue
        seen.add(key)
        number, event_id = statements.count(item)
        if number > item.bound.limit:
            decisions[item.event_id] = Decision(Disposition.DUPLICATE, event_id)
    for item in sorted(bounded, key=lambda item: (item.source.encode(), item.dedup_key.encode())):
        if item.bound is not None and item.bound.expires_before is not None and item.event_id not in decisions:
            statements.forget(item)
    left = [[item for item in wave if item.event_id not in decisions] for wave in waves]
    return [wave for wave in left if wave]


__all__ = ["HOUR", "BoundStatements", "has_bounds", "settle"]
