"""Pure functions of signatures: decode keys, make MACs, compare in constant time, judge times.

Everything works on bytes: `compare_digest` on text raises where a byte above 127 was sent, and text that
was decoded and encoded again is not what was signed. Functions that judge what a sender sent raise `SignatureError`;
those that judge what an operator configured raise `ValueError` with a text that never holds the value.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from webhooks.errors import SignatureError


class StaleSignature(SignatureError):
    """A signature that was made too long ago, or too far ahead of our clock; a key of ours has made it."""


class NoSecretMatches(SignatureError):
    """A signature in the right form that none of the source's keys made."""


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

    sent_at: seconds since 1970.
    now: an aware instant.
    past, ahead: both limits are inclusive.

    Raises StaleSignature.
    """
    age = now.timestamp() - sent_at
    if age > past.total_seconds():
        raise StaleSignature(f"the signature is {age:.0f} s old; allowed are {past.total_seconds():.0f} s")
    if -age > ahead.total_seconds():
        raise StaleSignature(
            f"the signature is {-age:.0f} s ahead of our clock; allowed are {ahead.total_seconds():.0f} s"
        )


# -- encodings of keys and signatures ----------------------------------------------------------------------

#: How a MAC is written: {name: function of the MAC's bytes}.
ENCODERS: Mapping[str, Callable[[bytes], bytes]] = {
    "hex": binascii.hexlify,
    "hex-upper": lambda raw: binascii.hexlify(raw).upper(),
    "base64": base64.b64encode,
    "base64url": base64.urlsafe_b64encode,
}


def decode_signature(text: bytes, encoding: str) -> bytes | None:
    """The bytes of a signature that cannot be computed again (public keys); None unless written the one right way."""
    try:
        raw = (
            binascii.unhexlify(text)
            if encoding.startswith("hex")
            else base64.b64decode(text, _URL_SAFE.get(encoding), True)
        )
    except ValueError:
        return None
    return raw if ENCODERS[encoding](raw) == text else None


_URL_SAFE = {"base64url": b"-_"}


def decode_key(text: str, kind: str, prefix: str = "") -> bytes:
    """The bytes of a secret as configured.

    kind: "text" (its UTF-8 bytes), "hex", "base64" (padding may be missing), or "sha1" and "sha256" for the digest of the
    text, which some senders sign with. prefix: dropped where it is there, such
    as `whsec_`. Raises ValueError, without the value.
    """
    text = text.strip().removeprefix(prefix)
    if kind == "text":
        return text.encode("utf-8")
    if kind in ("sha1", "sha256"):
        return hashlib.new(kind, text.encode("utf-8")).digest()
    if kind == "hex":
        if len(text) % 2 or _HEX.fullmatch(text) is None:
            raise ValueError("is not hex: it must be pairs of 0-9 and a-f")
        return bytes.fromhex(text)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise ValueError("is not base64; copy it whole, with its prefix if it has one") from None


# -- times -------------------------------------------------------------------------------------------------

#: An instant as senders sign it. No part may vary in length unnoticed: some sign time and body with nothing between.
_ISO_INSTANT = re.compile(
    rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:[0-9]{2})"
)


def read_instant(value: bytes | None, format: str) -> float:
    """Seconds since 1970 of a signed time written as "seconds", "milliseconds" or "iso". Raises SignatureError."""
    if format == "seconds":
        return read_timestamp(value, 10)
    if format == "milliseconds":
        return read_timestamp(value, 13) / 1000
    if value is None or _ISO_INSTANT.fullmatch(value) is None:
        raise SignatureError("the timestamp is not an ISO 8601 instant with an offset")
    try:
        return datetime.fromisoformat(value.decode("ascii")).timestamp()
    except (ValueError, OverflowError):
        raise SignatureError("the timestamp is not an instant that exists") from None


def write_instant(now: datetime, format: str) -> str:
    """`now` as `read_instant` reads it."""
    if format == "seconds":
        return f"{int(now.timestamp()):010d}"
    if format == "milliseconds":
        return f"{int(now.timestamp() * 1000):013d}"
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
