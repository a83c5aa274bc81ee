"""Which keys an event may have, by one rule on both databases.

An id, a type or an ordering key that one of them could not hold as it is makes the event unreadable, so its request goes
to quarantine. Not here: how ordering keys are computed for a handler (`routing`).
"""

from __future__ import annotations

from webhooks.errors import Malformed
from webhooks.model import ParsedEvent

#: One rule on both databases: longer ids, types and keys are quarantined.
LONGEST_KEY_BYTES = 255
#: Revisions are at least -1 (a copy without content) and less than this.
_REVISION_LIMIT = 2**62


def require_storable(event: ParsedEvent) -> None:
    """Raise `Malformed` for keys that one of the databases could not hold as they are."""
    for what, value in (("id", event.dedup_key), ("type", event.type), *event.ordering.items()):
        try:
            size = len(value) if value.isascii() else len(value.encode())
        except UnicodeEncodeError:
            raise Malformed(f"its {what} holds a lone surrogate") from None
        if not 0 < size <= LONGEST_KEY_BYTES:
            raise Malformed(f"its {what} has {size} bytes; 1 to {LONGEST_KEY_BYTES} are taken")
        if "\0" in value:
            raise Malformed(f"its {what} holds a NUL")
    if not -1 <= event.revision < _REVISION_LIMIT:
        raise Malformed("its revision is out of range")
