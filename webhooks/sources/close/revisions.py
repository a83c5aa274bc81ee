"""Close's rule of revisions: which of two copies of one event is the later.

One event id comes back with a later `date_updated` when Close consolidated more changes into it; that is the
revision, in microseconds. In the log, entries older than an hour lack `data` and `previous_data` for callers who are
not admins: such a copy is stripped, and older than every other. What becomes of a copy by its revision is decided for all
sources alike, in `store.intake.decide`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from webhooks.model import Content

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

#: The revision of a copy without its content.
STRIPPED = -1


def revision_of(updated: datetime | None) -> int:
    """The revision of a copy: microseconds since 1970, never negative; 0 without `date_updated`."""
    return 0 if updated is None else max(0, (updated - _EPOCH) // _MICROSECOND)


def is_stripped(content: Content) -> bool:
    """Whether a copy lacks its content: every entry that Close shows in full has one of the two."""
    return content.data is None and not content.previous


__all__ = ["STRIPPED", "is_stripped", "revision_of"]
