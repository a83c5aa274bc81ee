"""Pure functions of signatures: decode keys, make MACs, compare in constant time, judge times.

Everything works on bytes: `compare_digest` on text raises when somebody sends a byte above 127, and text that
was decoded and encoded again is not what was signed. Functions that judge what a sender sent raise `SignatureError`;
those that judge what an operator configured raise `ValueError` with a text that never holds the value.
"""

from __future__ import annotations

import hmac
import re
from datetime import datetime, timedelta

from webhooks.errors import SignatureError

#: How many secrets a source may hold; each is tried on a wrong signature.
MAX_SECRETS = 40

_HEX = re.compile(r"(?:[0-9a-fA-F]{2})*")


def decode_hex_key(text: str, size: int) -> bytes:
    """Decode a key written as exactly `2 * size` hex characters. Raises ValueError without the value."""
    if len(text) != 2 * size:
        raise ValueError(f"must be {2 * size} hex characters, but has {len(text)} characters")
    if _HEX.fullmatch(text) is None:
        raise ValueError(f"must be {2 * size} hex characters, but holds others than 0-9 and a-f")
    return bytes.fromhex(text)


def hex_mac(key: bytes, message: bytes, digest: str = "sha256") -> bytes:
    """The HMAC of `message`, as lower-case hex."""
    return hmac.digest(key, message, digest).hex().encode("ascii")


def is_equal(one: bytes, other: bytes) -> bool:
    """Compare in a time that does not tell where they differ."""
    return hmac.compare_digest(one, other)


def read_timestamp(value: bytes | None, digits: int) -> int:
    """Read a number of exactly `digits` ASCII digits. Raises SignatureError for anything else.

    `bytes.isdigit` is true for 0-9 only; `int` alone would take signs, spaces, `_` and other scripts' digits.
    """
    if value is None or len(value) != digits or not value.isdigit():
        raise SignatureError(f"the timestamp is not exactly {digits} digits")
    return int(value)


def require_fresh(sent_at: float, now: datetime, past: timedelta, ahead: timedelta) -> None:
    """Reject a signature made longer ago than `past` or further ahead of our clock than `ahead`.

    sent_at: seconds since 1970. Both limits are inclusive. Raises SignatureError.
    """
    age = now.timestamp() - sent_at
    if age > past.total_seconds():
        raise SignatureError(f"the signature is {age:.0f} s old; allowed are {past.total_seconds():.0f} s")
    if -age > ahead.total_seconds():
        raise SignatureError(
            f"the signature is {-age:.0f} s ahead of our clock; allowed are {ahead.total_seconds():.0f} s"
        )
