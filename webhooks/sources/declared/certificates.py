"""Keys in certificates that a request names: fetched only from addresses that its row allows.

A row fixes scheme, host and path by a pattern that the whole address must match; `keys.fetched` says how it is fetched. A key is
kept for as long as its certificate counts. What an unverified request can cause is a fetch from the sender's own host, six times a minute.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from webhooks.errors import KeysUnavailable, Malformed, SignatureError
from webhooks.model import InboundRequest
from webhooks.sources.declared.bodies import Reader
from webhooks.sources.declared.fields import at, text_of
from webhooks.sources.declared.scheme import Scheme
from webhooks.sources.keys.keyring import Key
from webhooks.sources.keys.public import PublicKey, rsa_key

#: Certificates of one source that are kept.
_MOST_KEPT = 20
#: Bytes of a body that are decoded to find the address.
_MOST_BODY_BYTES = 1024 * 1024
LABEL = "certificate"


class Certificates:
    """The certificates of one source. fetch: as `keys.fetched.Fetcher`."""

    def __init__(self, row: Scheme, fetch: Callable[[str], bytes]) -> None:
        self._row = row
        self._pattern = re.compile(row.certificate_pattern)
        self._fetch = fetch
        self._reader = Reader(row)
        self._kept: dict[tuple[str, str], PublicKey] = {}

    def keys(self, request: InboundRequest, now: datetime) -> tuple[Key[Any], ...]:
        """The key of the certificate that a request names. Raises SignatureError, and KeysUnavailable."""
        body = self._body(request) if not self._row.certificate.startswith("@") else {}
        address = self._address(request, body)
        algorithm = self._algorithm(body)
        key = self._kept.get((address, algorithm))
        if key is None:
            key = self._read(address, algorithm)
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[address, algorithm] = key
        key.require_valid(now)
        return (Key(LABEL, key),)

    def _read(self, address: str, algorithm: str) -> PublicKey:
        raw = self._fetch(address)
        try:
            return rsa_key(raw, algorithm, self._row.encoding, self._row.prefix.encode())
        except ValueError as error:
            raise KeysUnavailable(f"what is at the certificate's address {error}") from None

    def _body(self, request: InboundRequest) -> Any:
        if len(request.body) > _MOST_BODY_BYTES:
            raise SignatureError(f"the body is larger than the {_MOST_BODY_BYTES} bytes read before verifying")
        try:
            return self._reader.load_closed(request.body)
        except Malformed:
            raise SignatureError("the body, which names the certificate, is not JSON") from None

    def _address(self, request: InboundRequest, body: Any) -> str:
        place = self._row.certificate
        if place.startswith("@"):
            raw = request.headers.one(place[1:])
            address = raw.decode("latin-1") if raw is not None else None
        else:
            address = _field(body, place)
        if address is None:
            raise SignatureError(f"{place.removeprefix('@')}, which names the certificate, is missing or doubled")
        if len(address) > 500 or self._pattern.fullmatch(address) is None:
            raise SignatureError("the certificate's address is none of this sender's")
        return address

    def _algorithm(self, body: Any) -> str:
        """The row's, or where it knows several, the one that a field of the body names."""
        place, known = self._row.algorithm_at
        if not place:
            return self._row.algorithm
        given = _field(body, place)
        if given is None or given not in known:
            raise SignatureError(f"the body's field {place} is none of {', '.join(known)}")
        return known[given]


def within_dates(ring: Sequence[Key[Any]], now: datetime) -> Sequence[Key[Any]]:
    """The keys whose certificate counts now, or that have none. Raises SignatureError where none is left."""
    found = [key for key in ring if key.value.valid is None or key.value.valid[0] <= now <= key.value.valid[1]]
    if ring and not found:
        ring[0].value.require_valid(now)
    return found


def _field(body: Any, path: str) -> str | None:
    try:
        return text_of(at(body, path)) if isinstance(body, Mapping) else None
    except Malformed:
        return None


__all__ = ["LABEL", "Certificates", "within_dates"]
