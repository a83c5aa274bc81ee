"""How Close signs: HMAC-SHA256 with the hex-decoded key over the timestamp header's bytes and the raw body.

Nothing stands between the two; the timestamp is exactly ten digits, so that no digit can move from one into the
other. The digest is lower-case hex; upper case is refused on purpose, because Close never sends it and one
signature should have one spelling.

Close publishes no age limit and its retries, which run for 72 hours, may carry their first timestamp. A tight limit
could refuse every retry and in the end get the subscription paused, so the limit is 30 days and dedup is the
defence against replays. Source: developer.close.com/api/resources/webhooks (see docs/sources.md).
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256

from webhooks.errors import SignatureError
from webhooks.model import Headers
from webhooks.sources.keys.keyring import Key
from webhooks.sources.keys.published import why_weak
from webhooks.sources.signing import NoSecretMatches, decode_hex_key, read_timestamp, require_fresh

HASH_HEADER = "close-sig-hash"
TIMESTAMP_HEADER = "close-sig-timestamp"
KEY_BYTES = 32
TIMESTAMP_DIGITS = 10
HASH_LENGTH = 2 * sha256().digest_size
TOLERANCE = timedelta(days=30)
TOLERANCE_AHEAD = timedelta(seconds=300)


def decode_key(text: str) -> bytes:
    """The bytes of a subscription's `signature_key`. Raises ValueError without the value."""
    text = text.strip()
    try:
        key = decode_hex_key(text, KEY_BYTES)
    except ValueError as error:
        raise ValueError(f"{error}; copy the subscription's signature_key as Close shows it") from None
    if len(set(key)) < 8:  # 32 random bytes hold fewer than 8 different ones about once in 10**40 keys
        raise ValueError("is a made-up key, not a random one; copy the subscription's signature_key")
    if (reason := why_weak(text)) is not None:
        raise ValueError(reason)
    return key


def verify(
    headers: Headers,
    body: bytes,
    keys: Sequence[Key[bytes]],
    now: datetime,
    past: timedelta = TOLERANCE,
    ahead: timedelta = TOLERANCE_AHEAD,
) -> str:
    """The label of the key that signed `body`. Raises SignatureError; the time is judged after the signature."""
    given = headers.one(HASH_HEADER)
    if given is None:
        raise SignatureError(f"the header {HASH_HEADER} is missing, empty or doubled")
    timestamp = headers.one(TIMESTAMP_HEADER)
    if timestamp is None:
        raise SignatureError(f"the header {TIMESTAMP_HEADER} is missing, empty or doubled")
    sent_at = read_timestamp(timestamp, TIMESTAMP_DIGITS)
    if len(given) != HASH_LENGTH:
        raise SignatureError(f"the header {HASH_HEADER} is not {HASH_LENGTH} characters")
    message = timestamp + body
    for key in keys:
        expected = hmac.digest(key.value, message, "sha256").hex().encode("ascii")
        if hmac.compare_digest(expected, given):
            require_fresh(sent_at, now, past, ahead)
            return key.label
    raise NoSecretMatches(f"none of {len(keys)} secrets made this signature")


def sign(key: bytes, body: bytes, now: datetime) -> dict[str, str]:
    """The headers that Close would send with `body` at `now`."""
    timestamp = f"{int(now.timestamp()):010d}"
    mac = hmac.digest(key, timestamp.encode("ascii") + body, "sha256").hex()
    return {HASH_HEADER: mac, TIMESTAMP_HEADER: timestamp}
