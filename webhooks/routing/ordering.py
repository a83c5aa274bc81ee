"""The ordering key of an event for a handler: computed and checked in one place, for ingest, replay and requeue.

Deliveries of one key run one after another. What a database cannot hold is no key: more than 255 bytes, NUL, a lone
surrogate; PostgreSQL would refuse the row, and SQLite would store another order. A key that cannot be computed never
fails the caller: it stores the delivery dead, with `ordering_failed` as its reason, and a requeue computes it again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from webhooks.formats import error_summary, why_no_key
from webhooks.model import Event

#: The key that every source may give an event, by the name that `ordered_by` takes. A source may give one more, a group to
#: which the event belongs, under a name of its own (`Source.group_name`).
OBJECT_KEY = "object_id"


def ordering_key(
    ordered_by: str | Callable[[Event], Any] | None,
    named: Callable[[str], str | None],
    event: Callable[[], Event],
    handler: str,
) -> str | None:
    """The key under which an event waits its turn; None when it waits for no other.

    ordered_by: the handler's option, or its `latest`.
    named: gives a key by its name, `OBJECT_KEY` or a source's name of its groups; None where the event has none.
    event: gives the event, for a function of the author's; called only then.
    handler: its name, for the message.

    Raises what the author's function raises, TypeError when that gives something else than a key, and ValueError when the
    key cannot be stored.
    """
    if ordered_by is None:
        return None
    key = named(ordered_by) if isinstance(ordered_by, str) else ordered_by(event())
    if isinstance(key, int) and not isinstance(key, bool):
        key = str(key)
    if not key and (key is None or isinstance(key, str)):
        return None
    if not isinstance(key, str):
        raise TypeError(f"the key function of handler {handler!r} gave {type(key).__name__}; it must give text or None")
    return require_lane(key)


def require_lane(key: str | None) -> str | None:
    """An ordering key that both databases can hold, or None. Raises ValueError."""
    problem = None if key is None else why_no_key(key)
    if problem is not None:
        raise ValueError(f"an ordering key {problem}")
    return key


def ordering_failed(error: BaseException) -> str:
    """The reason of a delivery that is dead because its ordering key could not be computed."""
    return f"ordered_by failed: {error_summary(error)}"
