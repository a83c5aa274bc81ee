"""Proof that a request is the sender's: the signed text, and a key that made one of the signatures beside it.

Order of verifying: headers are there, once, in shape → the signed text → every key against every part of the header,
in constant time → the time. The body is decoded afterwards, except where the row puts the signature into the body
itself; then at most 256 KiB of strict JSON are decoded for that alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from webhooks.errors import Malformed, SignatureError
from webhooks.formats import json as jsonio
from webhooks.model import InboundRequest
from webhooks.sources.base import Secret
from webhooks.sources.declared.fields import at, sorted_form, text_of
from webhooks.sources.declared.scheme import MACS, Scheme, pieces
from webhooks.sources.diagnosis import SignatureFacts
from webhooks.sources.keys import keys
from webhooks.sources.keys.keyring import Key
from webhooks.sources.keys.keys import VerifyingKey
from webhooks.sources.signing import NoSecretMatches, is_equal, read_instant, require_fresh

#: Parts of a signature header that are looked at.
MAX_ENTRIES = 20
#: Bytes of a body that are decoded before it is verified, in schemes whose signature stands in the body.
MAX_UNVERIFIED_BYTES = 256 * 1024
#: What an id in a header may look like: no dot, which would let it run into what is signed behind it.
_SIGNED_ID = re.compile(rb"[!-\-/-~]{1,256}")
#: A hash of the body in a signed URL.
BODY_HASH = re.compile(rb"(?:^|&)bodySHA256=([0-9a-f]{64})(?:&|$)")


class Proof:
    """How the requests of one source are proved. row: with the source's own tolerances. public_url: "" for none."""

    def __init__(self, row: Scheme, public_url: str) -> None:
        self.row = row
        self._public_url = public_url
        #: of the signed text: [(literal, name of what follows it, whether that may be missing)]
        self.pieces = pieces(row.signed)

    def verify(self, request: InboundRequest, now: datetime, ring: Sequence[Key[VerifyingKey]]) -> str:
        """The label of the key of `ring` that signed `request`. Raises SignatureError. now: an aware instant."""
        for header, wanted in self.row.require.items():
            given = request.headers.one(header)
            if given is not None and header == "authorization":
                given = keys.as_in(given, wanted.encode())
            if given is None or not is_equal(given, wanted.encode()):
                raise SignatureError(f"the header {header} is not {wanted!r}")
        if self.row.is_in_body:
            return self._verify_in_body(request, now, ring)
        entries = self.entries(request)
        stamp, sent_at = self.timestamp(request, entries)
        label = match(ring, self.signed_text(request, stamp), entries)
        if sent_at is None and self.row.timestamp:
            sent_at = self._body_timestamp(request)
        if sent_at is not None:
            require_fresh(sent_at, now, self.row.tolerance, self.row.tolerance_ahead)
        return label

    def entries(self, request: InboundRequest) -> list[bytes]:
        """The parts of the signature headers, at most 20."""
        entries: list[bytes] = []
        for header in self.row.signature_headers:
            if header in request.headers:
                value = request.headers.one(header)
                if value is None:
                    raise SignatureError(f"the header {header} is empty or doubled")
                if header == "authorization":
                    value = keys.as_in(value, b"Basic " if self.row.algorithm == "basic" else self.row.prefix.encode())
                entries += value.split(self.row.split.encode(), MAX_ENTRIES) if self.row.split else [value]
        if not entries:
            raise SignatureError(f"the header {' or '.join(self.row.signature_headers)} is missing")
        return entries[:MAX_ENTRIES]

    def timestamp(self, request: InboundRequest, entries: Sequence[bytes]) -> tuple[bytes, float | None]:
        """The signed time as written and as seconds since 1970; nothing when it stands in the body or there is none."""
        place = self.row.timestamp
        if place.startswith("@"):
            stamp = request.headers.one(place[1:])
            if stamp is None:
                raise SignatureError(f"the header {place[1:]} is missing, empty or doubled")
        elif place.startswith("part:"):
            beginning = place.removeprefix("part:").encode()
            stamps = [entry.removeprefix(beginning) for entry in entries if entry.startswith(beginning)]
            if len(stamps) != 1:
                raise SignatureError(f"the signature header holds {len(stamps)} parts {beginning.decode()!r}, not one")
            stamp = stamps[0]
        else:
            return b"", None
        return stamp, read_instant(stamp, self.row.timestamp_format)

    def _body_timestamp(self, request: InboundRequest) -> float:
        try:
            value = text_of(at(jsonio.load_watching(request.body), self.row.timestamp))
        except (jsonio.NotJSON, Malformed):
            value = None
        return read_instant((value or "").encode("utf-8", "replace"), self.row.timestamp_format)

    def signed_text(self, request: InboundRequest, stamp: bytes) -> bytes:
        """What the sender signed. Raises SignatureError when the request lacks a part of it."""
        text: list[bytes] = []
        for literal, name, _ in self.pieces:
            text.append(literal.encode())
            if name == "body":
                text.append(request.body)
            elif name == "timestamp":
                text.append(stamp)
            elif name == "id":
                text.append(self._signed_id(request))
            elif name == "url":
                text.append(self._url(request))
            elif name == "method":
                text.append(request.method.encode())
            elif name == "form":
                text.append(self._form_text(request))
        return b"".join(text)

    def _signed_id(self, request: InboundRequest) -> bytes:
        header = self.row.id[0][2:-1]
        given = request.headers.one(header)
        if given is None or _SIGNED_ID.fullmatch(given) is None:
            raise SignatureError(f"the header {header} is missing, doubled, or not 1 to 256 characters without a dot")
        return given

    def _url(self, request: InboundRequest) -> bytes:
        """The configured address with the query as it was sent; Host and Forwarded have no say."""
        url = (request.url or self._public_url).partition("?")[0].encode("utf-8")
        return url + b"?" + request.query if request.query else url

    def _form_text(self, request: InboundRequest) -> bytes:
        """Every field of the form, sorted. A body that is no form must be covered by a hash in the signed URL."""
        given = BODY_HASH.findall(request.query)
        if given:
            if len(given) != 1 or not is_equal(given[0], hashlib.sha256(request.body).hexdigest().encode()):
                raise SignatureError("bodySHA256 in the URL is not the hash of the body")
            return b""
        try:
            return sorted_form(request.body)
        except ValueError as error:
            raise SignatureError(f"{error}, so the signature does not cover it") from None

    def _verify_in_body(self, request: InboundRequest, now: datetime, ring: Sequence[Key[VerifyingKey]]) -> str:
        """Schemes whose signature is a field: of the body, or of each item, which then must all be right."""
        if len(request.body) > MAX_UNVERIFIED_BYTES:
            raise SignatureError(f"the body is larger than the {MAX_UNVERIFIED_BYTES} bytes read before verifying")
        try:
            body = jsonio.load_watching(request.body)
            parts = [body] if not self.row.items else at(body, self.row.items)
            if not isinstance(parts, list) or not parts:
                raise SignatureError(f"the body has no list under {self.row.items!r}")
            if len(parts) > MAX_ENTRIES * MAX_ENTRIES:
                raise SignatureError(f"the body holds {len(parts)} items; too many to verify")
            found = [self._verify_part(part, now, ring) for part in parts]
        except jsonio.NotJSON:
            raise SignatureError("the body, which carries the signature, is not JSON") from None
        except Malformed as error:
            raise SignatureError(error.reason) from None
        return found[0]

    def _verify_part(self, part: Any, now: datetime, ring: Sequence[Key[VerifyingKey]]) -> str:
        if self.row.items and self.row.unwrap:
            part = at(part, self.row.unwrap)
        entries = [field_of(part, place, is_optional=False) for place in self.row.signature]
        stamp = field_of(part, self.row.timestamp, is_optional=False) if self.row.timestamp else b""
        sent_at = read_instant(stamp, self.row.timestamp_format) if self.row.timestamp else None
        text: list[bytes] = []
        for literal, name, is_optional in self.pieces:
            text.append(literal.encode())
            if name == "timestamp":
                text.append(stamp)
            elif name:
                text.append(field_of(part, name, is_optional))
        label = match(ring, b"".join(text), entries)
        if sent_at is not None:
            require_fresh(sent_at, now, self.row.tolerance, self.row.tolerance_ahead)
        return label

    def facts(self, request: InboundRequest, secrets: Sequence[Secret]) -> SignatureFacts | None:
        """What `diagnose` needs to guess why it was refused; None for schemes whose signatures cannot be made again."""
        row = self.row
        if row.algorithm not in MACS or row.is_in_body:
            return None
        try:
            entries = self.entries(request)
            stamp, _ = self.timestamp(request, entries)
            values = {"body": request.body, "method": request.method.encode(), "url": self._url(request)}
            if stamp:
                values["timestamp"] = stamp
            if "{id}" in row.signed:
                values["id"] = self._signed_id(request)
            if "{form}" in row.signed:
                values["form"] = self._form_text(request)
        except SignatureError:
            return None
        prefix = row.prefix.encode()
        bare = [entry.strip().removeprefix(prefix) for entry in entries]
        return SignatureFacts(
            secrets,
            row.secret_encoding,
            row.secret_prefix,
            MACS[row.algorithm],
            row.encoding,
            bare,
            row.signed,
            {name: value for name, value in values.items() if name != "url" or row.needs_url},
        )


def match(ring: Sequence[Key[VerifyingKey]], message: bytes, entries: Sequence[bytes]) -> str:
    """The label of the key that made one of the entries. Raises NoSecretMatches."""
    for key in ring:
        if key.value.matches(message, entries):
            return key.label
    raise NoSecretMatches(f"none of {len(ring)} secrets made this signature")


def field_of(part: Any, path: str, is_optional: bool) -> bytes:
    """A field of a body that is about to be verified; b"" where an optional one is missing. Raises SignatureError."""
    value = text_of(at(part, path))
    if value is None and not is_optional:
        raise SignatureError(f"the body's field {path} is missing or not text")
    try:
        return (value or "").encode("utf-8")
    except UnicodeEncodeError:
        raise SignatureError(f"the body's field {path} holds a lone surrogate") from None
