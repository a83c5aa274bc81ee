"""Every peer verifies the signature in the same way, without judging the time: the least that one would do."""

from __future__ import annotations

import hmac
import os

KEY = bytes.fromhex(os.environ["BENCHMARK_SECRET"])


def is_signed(headers: object, body: bytes) -> bool:
    get = headers.get  # type: ignore[attr-defined]
    expected = hmac.new(KEY, get("close-sig-timestamp", "").encode() + body, "sha256").hexdigest()
    return hmac.compare_digest(expected, get("close-sig-hash", ""))
