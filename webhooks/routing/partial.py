"""Which events of a batch a `Retry` or `Discard` names; the others of the batch succeed. Decides; does nothing.

A handler raises one of them, or an `ExceptionGroup` of several that each name their own. What names no events means all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from webhooks.errors import Discard, Retry
from webhooks.model import Event


def meant(error: BaseException, events: Sequence[Event]) -> Mapping[int, Retry | Discard] | None:
    """{event id: what the handler raised for it}, as far as it named any; None: that is no word of a handler's on its events.

    events: those that it got.

    Raises ValueError when it names one that it did not get.
    """
    each = list(_words(error))
    if not each or any(word is None for word in each):
        return None
    ids = {event.id for event in events}
    found: dict[int, Retry | Discard] = {}
    for word in each:
        assert word is not None
        named = ids if word.events is None else {event.id for event in word.events}
        if stranger := next((id for id in named if id not in ids), None):
            raise ValueError(
                f"{type(word).__name__} names event {stranger}, which is not in this batch; name some of `events`"
            ) from error
        found |= dict.fromkeys(named, word)
    return found


def _words(error: BaseException) -> Iterable[Retry | Discard | None]:
    """What was raised, out of groups; None for what is something else."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _words(inner)
    else:
        yield error if isinstance(error, Retry | Discard) else None


__all__ = ["meant"]
