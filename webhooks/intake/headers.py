"""Which headers of a request are kept: all but credentials, signatures, and what servers and proxies add."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import msgspec

from webhooks.model import Headers
from webhooks.sources import Source
from webhooks.tracing import STORED, STORED_STATE

#: Request headers that are never stored: credentials, what servers and proxies add, and what others say of a user.
_NOT_STORED = frozenset(
    (
        *(
            "authorization",
            "proxy-authorization",
            "cookie",
            "host",
            "connection",
            "content-length",
            "transfer-encoding",
        ),
        *("accept", "accept-encoding", "forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"),
        *("x-forwarded-port", "x-real-ip", "baggage", STORED, STORED_STATE),
    )
)
_encode_json = msgspec.json.Encoder().encode


def kept_headers(headers: Headers, source: Source) -> dict[str, str]:
    """The headers that may be kept and shown, as text."""
    return headers.as_text(without=_unstored(source.sensitive_headers))


def stored_headers(headers: Headers, source: Source, context: Mapping[str, str] | None = None) -> str:
    """The request's headers as JSON, without credentials, signatures and what servers add. context: of its trace."""
    kept = kept_headers(headers, source)
    if context:
        kept |= context
    return _encode_json(kept).decode() if kept else ""


@functools.lru_cache(maxsize=256)
def _unstored(sensitive: frozenset[str]) -> frozenset[str]:
    return _NOT_STORED | sensitive


__all__ = ["kept_headers", "stored_headers"]
