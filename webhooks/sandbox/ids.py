"""Ids that look like Close's and are the same for the same seed.

`lead_` and 43 letters and digits for what belongs to a customer, 22 for the rest. Code should not look at the length.
"""

from __future__ import annotations

import random
import string

_ALPHABET = string.ascii_letters + string.digits
_SHORT = 22
_LONG = 43
#: Prefixes of the longer kind.
_LONG_PREFIXES = frozenset(("lead", "cont", "oppo", "acti", "task", "user", "orga", "stat"))


class Ids:
    """A source of ids; also of every other chance in a world, so that one seed decides all."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def make(self, prefix: str) -> str:
        """A new id with this prefix, as long as Close's are."""
        length = _LONG if prefix in _LONG_PREFIXES else _SHORT
        return f"{prefix}_{''.join(self.random.choices(_ALPHABET, k=length))}"

    def key(self) -> str:
        """A signature key: 32 bytes in hex."""
        return self.random.randbytes(32).hex()
