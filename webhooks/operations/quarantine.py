"""Release from quarantine, or give up: the decision on requests and log entries that could not be read.

Rows that are given up stay, for the record, until they are pruned. Nothing is changed when one of several ids is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from webhooks.errors import NotFound
from webhooks.formats import counted
from webhooks.operations.actor import Actor

if TYPE_CHECKING:
    from webhooks.intake import Ingest
    from webhooks.intake.quarantine import Admission
    from webhooks.store import Store

#: Rows that are released at once when none are named.
MOST_RELEASED = 10_000


@dataclass(frozen=True, slots=True)
class Discarded:
    """What became of one row. state: as it is now. changed: False when it was decided before."""

    id: int
    state: str
    changed: bool


def retry(store: Store, ingest: Ingest, ids: Sequence[int], *, actor: Actor) -> list[Admission]:
    """Verify and read these again, with the time at which they came, and record what can be read now.

    ids: of the quarantine; none for all that are held, the oldest first.
    actor: kept with each row.

    Raises `NotFound`; nothing was changed then.
    """
    from webhooks.intake import retry as release

    chosen = list(ids) or [row.id for row in reversed(store.quarantine.list(MOST_RELEASED))]
    _require_known(store, chosen)
    results = [release(id, store=store, ingest=ingest, by=actor.name) for id in chosen]
    released = sum(result.reason is None for result in results)
    actor.tell("quarantine_retry", f"released {counted(released, 'row')} of {len(results)} from quarantine")
    return results


def discard(store: Store, ids: Sequence[int], *, actor: Actor) -> list[Discarded]:
    """Give these rows up. actor: kept with each row. Raises `NotFound`; nothing was changed then."""
    _require_known(store, ids)
    results = []
    for id in ids:
        changed = store.quarantine.drop(id, actor.name)
        kept = store.quarantine.get(id)
        results.append(Discarded(id, "" if kept is None else kept.state, changed))
    actor.tell("quarantine_drop", f"gave up {counted(sum(one.changed for one in results), 'row')} of the quarantine")
    return results


def _require_known(store: Store, ids: Sequence[int]) -> None:
    for id in ids:
        if store.quarantine.get(id) is None:
            raise NotFound(
                f"nothing is quarantined under {id}; `webhooks quarantine list` shows what is; nothing was changed"
            )


__all__ = ["Discarded", "discard", "retry"]
