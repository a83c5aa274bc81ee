"""Deliveries that an operator names by id: all of them can be changed, or none is. And how many a selection means.

A typing mistake among several ids must not change the others, so each is looked up first. What happens to a delivery
between this look and the change is the store's to decide; who changes them says which ids did.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from webhooks.errors import NotFound, WebhooksError

if TYPE_CHECKING:
    from webhooks.store import Store
    from webhooks.store.listings import DeliverySummary


class WrongState(WebhooksError):
    """A delivery whose state does not allow what was asked for; nothing was changed."""


def count_up_to(limit: int, steps: Iterable[Sequence[DeliverySummary]]) -> int:
    """How many deliveries there are in these steps of a walk; it ends with the step that reaches `limit`."""
    total = 0
    for step in steps:
        total += len(step)
        if total >= limit:
            break
    return total


def find_named(store: Store, ids: Collection[int], command: str) -> Iterator[DeliverySummary]:
    """The deliveries of these ids, one after another.

    command: what is typed for an event, named where an id is one.

    Raises `NotFound` at the first that is none.
    """
    for id in ids:
        found = store.listings.delivery(id)
        if found is None:
            near = f"; {id} is an event: {command} {id}" if store.events.get(id) is not None else ""
            raise NotFound(f"no delivery {id}{near}; nothing was changed")
        yield found


__all__ = ["WrongState", "count_up_to", "find_named"]
