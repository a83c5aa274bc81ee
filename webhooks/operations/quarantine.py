"""Release from quarantine, or give up: the decision on requests and log entries that could not be read.

Rows that are given up stay, for the record, until they are pruned. Nothing is changed when one of several ids is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from webhooks.errors import NotFound
from webhooks.formats import counted
from webhooks.operations.actions.journal import Journal
from webhooks.operations.actions.verbs import Verb
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


def retry(store: Store, ingest: Ingest, ids: Sequence[int], *, actor: Actor, **given: Any) -> list[Admission]:
    """Verify and read these again, with the time at which they came, and record what can be read now.

    ids: of the quarantine; none for all that are held, the oldest first.
    actor: kept with each row.
    given: what `Journal.doing` takes besides, of a page.

    Raises `NotFound`; nothing was changed then.
    """

    chosen = list(ids) or [row.id for row in reversed(store.quarantine.list(MOST_RELEASED))]
    _require_known(store, chosen)
    with Journal(store).doing(Verb.QUARANTINE_RETRY, actor, _subject(chosen), options=_named(chosen), **given) as entry:
        results = release(store, ingest, chosen, actor)
        released = sum(result.reason is None for result in results)
        entry.changed, entry.skipped = released, len(results) - released
    actor.tell("quarantine_retry", f"released {counted(released, 'row')} of {len(results)} from quarantine")
    return results


def release(store: Store, ingest: Ingest, ids: Sequence[int], actor: Actor) -> list[Admission]:
    """What `retry` does, without its entry in the activity: for what is on record already."""
    from webhooks.intake import retry as admit

    return [admit(id, store=store, ingest=ingest, by=actor.name) for id in ids]


def discard(store: Store, ids: Sequence[int], *, actor: Actor, why: str = "", **given: Any) -> list[Discarded]:
    """Give these rows up.

    actor: kept with each row.
    why: kept on record.
    given: what `Journal.doing` takes besides, of a page.

    Raises `NotFound`; nothing was changed then.
    """
    _require_known(store, ids)
    results = []
    with Journal(store).doing(
        Verb.QUARANTINE_DROP, actor, _subject(ids), why=why, options=_named(ids), **given
    ) as entry:
        for id in ids:
            changed = store.quarantine.drop(id, actor.name)
            kept = store.quarantine.get(id)
            results.append(Discarded(id, "" if kept is None else kept.state, changed))
            entry.changed += changed
            entry.skipped += not changed
    actor.tell("quarantine_drop", f"gave up {counted(sum(one.changed for one in results), 'row')} of the quarantine")
    return results


def hold(store: Store, ids: Sequence[int], *, actor: Actor, **given: Any) -> int:
    """Hold again what was given up; how many. For the rest see `discard`."""
    with Journal(store).doing(Verb.QUARANTINE_HOLD, actor, _subject(ids), options=_named(ids), **given) as entry:
        for id in ids:
            entry.changed += store.quarantine.hold_again(id)
        entry.skipped = len(ids) - entry.changed
    actor.tell("quarantine_hold", f"held {counted(entry.changed, 'row')} of the quarantine again")
    return entry.changed


def _subject(ids: Sequence[int]) -> str:
    return str(ids[0]) if len(ids) == 1 else ""


def _named(ids: Sequence[int]) -> dict[str, Any]:
    """The rows as an action names them."""
    return {"ids": [str(id) for id in ids]}


def _require_known(store: Store, ids: Sequence[int]) -> None:
    for id in ids:
        if store.quarantine.get(id) is None:
            raise NotFound(
                f"nothing is quarantined under {id}; `webhooks quarantine list` shows what is; nothing was changed"
            )


__all__ = ["Discarded", "discard", "hold", "release", "retry"]
