"""What became of an event, and why a delivery is as it is: closed sets with a text beside each member.

`Disposition` is intake's decision about one copy of an event. The database keeps its code, listings and JSON show its
text, and the properties say what follows from it; no other module has a code for it. `DeliveryCause` stands beside a reason:
a reason is a sentence for people and may be worded better tomorrow, and code that has to know asks for the cause.

Codes are in rows of databases that are in use: members are added at the end, and never change their number.
"""

from __future__ import annotations

import enum


class Disposition(enum.StrEnum):
    """What became of one copy of an event. Its text is what listings and JSON show; `code` is what the database keeps."""

    STORED = "stored"  #: never seen before: event and deliveries are in the database
    DUPLICATE = "duplicate"  #: seen before in this revision: counted, nothing else
    REVISION = "revision"  #: a later revision of a known event: a new event row, delivered
    STALE = "stale"  #: an older revision than the one known: kept, not delivered
    CONFLICT = "conflict"  #: another body under a known key, without revisions: kept and flagged, not delivered
    STRIPPED = "stripped"  #: a copy without content, of an event never seen before: kept, not delivered
    STALE_UNKEPT = "stale-unkept"  #: STALE, beyond the number of copies that are kept of one key: counted
    CONFLICT_UNKEPT = "conflict-unkept"  #: CONFLICT, beyond that number: counted
    QUARANTINED = "quarantined"  #: rightly signed but unreadable: kept raw, never dispatched; no event has it

    @property
    def code(self) -> int:
        """`webhooks_events.receipt` and `webhooks_dedup_log.outcome`: the member's place in this class, from 0."""
        return _CODES[self]

    @classmethod
    def of_code(cls, code: int) -> Disposition:
        """The member that the database keeps as `code`. Raises IndexError for a number that no member has."""
        return _MEMBERS[code]

    @property
    def answer(self) -> Disposition:
        """What the sender is told, and handlers see as `event.receipt`: one of the five that the docs name."""
        return _ANSWERS.get(self, self)

    @property
    def is_kept(self) -> bool:
        """Whether this copy has a row in `webhooks_events`."""
        return self in _KEPT

    @property
    def is_delivered(self) -> bool:
        """Whether deliveries are made for it. Without, only an event that is named by its id is replayed."""
        return self in (Disposition.STORED, Disposition.REVISION)

    @property
    def is_conflict(self) -> bool:
        """Whether the sender gave one key to two bodies."""
        return self in (Disposition.CONFLICT, Disposition.CONFLICT_UNKEPT)


class DeliveryCause(enum.IntEnum):
    """Why a delivery, or one run of it, is as it is, as far as code has to know; beside it stands a text for people."""

    FILTERED = 1  #: cancelled: its handler's `where` did not hold
    STALE = 2  #: cancelled: a newer event of its lane ran before
    OWN_CHANGE = 3  #: cancelled: the change was made with a key of ours
    ORDERING_FAILED = 4  #: dead from the start: its ordering key could not be computed
    TIME_WAS_UP = 5  #: running, and may not commit any more: it took too long
    WAS_STOPPED = 6  #: running, and may not commit any more: its worker stopped
    DIED = 7  #: of a run: its worker died or lost its lease
    DIED_ALONE = 8  #: of a run: its process died while it ran nothing else
    SUPERSEDED = 9  #: cancelled: a newer event of its key ran, and its handler wants the newest only

    @property
    def is_not_for_it(self) -> bool:
        """Whether the handler was not to have this event, rather than that something went wrong."""
        return self in _NOT_FOR_IT


_NOT_FOR_IT = frozenset(
    (DeliveryCause.FILTERED, DeliveryCause.STALE, DeliveryCause.OWN_CHANGE, DeliveryCause.SUPERSEDED)
)
_MEMBERS = tuple(Disposition)
_CODES = {member: code for code, member in enumerate(_MEMBERS)}
_ANSWERS = {
    Disposition.CONFLICT: Disposition.DUPLICATE,
    Disposition.STRIPPED: Disposition.STORED,
    Disposition.STALE_UNKEPT: Disposition.STALE,
    Disposition.CONFLICT_UNKEPT: Disposition.DUPLICATE,
}
_KEPT = frozenset(
    (Disposition.STORED, Disposition.REVISION, Disposition.STALE, Disposition.CONFLICT, Disposition.STRIPPED)
)
#: Events that were kept and never delivered.
UNDELIVERED = tuple(member for member in _MEMBERS if member.is_kept and not member.is_delivered)

__all__ = ["UNDELIVERED", "DeliveryCause", "Disposition"]
