"""Proof that a request is the sender's: the signed text, and a key that made one of the signatures beside it.

Order of verifying: headers are there, once, in shape → the signed text → every key against every part of the header,
in constant time → the time. The body is decoded afterwards, except where the row puts the signature into the body
itself; then at most 256 KiB of strict JSON are decoded for that alone.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from webhooks.errors import Malformed, SignatureError
from webhooks.formats import json as jsonio
from webhooks.model import InboundRequest
from webhooks.sources.base import Secret
from webhooks.sources.declared.bodies import Reader, looks_like_json
from webhooks.sources.declared.claims import JwtProof
from webhooks.sources.declared.fields import at, text_of
from webhooks.sources.declared.places import parameter
from webhooks.sources.declared.scheme import MACS, TOKENS, Scheme
from webhooks.sources.declared.signed import SignedText, WithSecret
from webhooks.sources.diagnosis import SignatureFacts
from webhooks.sources.keys import keys
from webhooks.sources.keys.keyring import Key
from webhooks.sources.keys.keys import VerifyingKey
from webhooks.sources.signing import NoSecretMatches, is_equal, read_instant, require_fresh

#: Parts of a signature header that are looked at.
MAX_ENTRIES = 20
#: Bytes of a body that are decoded before it is verified, in schemes whose signature stands in the body.
MAX_UNVERIFIED_BYTES = 256 * 1024
_POSITION = re.compile(r"part:([0-9])")


class Proof:
    """How the requests of one source are proved. row: with the source's own tolerances. public_url: "" for none."""

    def __init__(self, row: Scheme, public_url: str) -> None:
        self.row = row
        self.text = SignedText(row, public_url)
        #: for tokens; set by the source
        self.jwt: JwtProof | None = None
        self._reader = Reader(row)
        self._form = Proof(replace(row, **row.as_form, as_form={}), public_url) if row.as_form else None  # type: ignore[arg-type]
        position = _POSITION.fullmatch(row.timestamp)
        self._position = int(position.group(1)) if position is not None else None

    def verify(self, request: InboundRequest, now: datetime, ring: Sequence[Key[VerifyingKey]]) -> str:
        """The label of the key of `ring` that signed `request`. Raises SignatureError. now: an aware instant."""
        for header, wanted in self.row.require.items():
            given = request.headers.one(header)
            if given is not None and header == "authorization":
                given = keys.as_in(given, wanted.encode())
            if given is None or not is_equal(given, wanted.encode()):
                raise SignatureError(f"the header {header} is not {wanted!r}")
        if self._form is not None and not looks_like_json(request.body):
            return self._form.verify(request, now, ring)
        if self.row.is_in_body:
            return self._verify_in_body(request, now, ring)
        entries = self.entries(request)
        if self.jwt is not None:
            prefix = self.row.prefix.encode()
            tokens = [entry[len(prefix) :] for entry in entries if entry.startswith(prefix)]
            return self.jwt.verify(tokens, request.body, now, ring)
        stamp, sent_at = self.timestamp(request, entries)
        label = self._match(request, stamp, entries, ring)
        if sent_at is None and self.row.timestamp:
            sent_at = self._body_timestamp(request)
        if self.row.expect:
            self._require_expected(request)
        if sent_at is not None:
            require_fresh(sent_at, now, self.row.tolerance, self.row.tolerance_ahead)
        return label

    def _require_expected(self, request: InboundRequest) -> None:
        """Raise SignatureError where a field of a body that is rightly signed is not what is configured."""
        try:
            body = self._reader.load(self._reader.as_utf8(request))
            found = {path: text_of(at(body, path)) for path in self.row.expect}
        except Malformed:
            raise SignatureError("the body cannot be read, and something is expected in it") from None
        for path, texts in self.row.expect.items():
            if found[path] not in texts:
                raise SignatureError(f"the body's field {path} is none that is configured")

    def _match(
        self, request: InboundRequest, stamp: bytes, entries: Sequence[bytes], ring: Sequence[Key[VerifyingKey]]
    ) -> str:
        """The label of the key that signed one of the forms of the text."""
        text = self.text.of(request, stamp) if self.row.algorithm not in TOKENS else b""
        try:
            return match(ring, text, entries)
        except NoSecretMatches:
            for other in self.text.others(request, stamp):
                with contextlib.suppress(NoSecretMatches):
                    return match(ring, other, entries)
            raise

    def entries(self, request: InboundRequest) -> list[bytes]:
        """The parts of what carries the signature, at most 20."""
        entries: list[bytes] = []
        for place in self.row.signature:
            value = self._carried(place, request)
            if value is not None:
                entries += value.split(self.row.split.encode(), MAX_ENTRIES) if self.row.split else [value]
        if not entries:
            missing = " or ".join(place.removeprefix("@") for place in self.row.signature)
            kind = "header" if self.row.signature_headers else "parameter of the address"
            raise SignatureError(f"the {kind} {missing.removeprefix('query:')} is missing")
        return entries[:MAX_ENTRIES]

    def _carried(self, place: str, request: InboundRequest) -> bytes | None:
        """The value of a header or parameter that carries signatures; None where it is missing."""
        if place.startswith("query:"):
            return parameter(request.query, place[6:])
        header = place[1:]
        if header not in request.headers:
            return None
        value = request.headers.one(header)
        if value is None:
            raise SignatureError(f"the header {header} is empty or doubled: have it sent once")
        if header == "authorization":
            value = keys.as_in(value, b"Basic " if self.row.algorithm == "basic" else self.row.prefix.encode())
        return value

    def timestamp(self, request: InboundRequest, entries: Sequence[bytes]) -> tuple[bytes, float | None]:
        """The signed time as written and as seconds since 1970; nothing when it stands in the body or there is none."""
        place = self.row.timestamp
        if place.startswith("@"):
            stamp = request.headers.one(place[1:])
            if stamp is None:
                raise SignatureError(f"the header {place[1:]} is missing, empty or doubled")
        elif self._position is not None:
            if len(entries) <= self._position:
                raise SignatureError(f"the signature header has {len(entries)} parts, and none at {self._position}")
            stamp = entries[self._position]
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
        return self.text.of(request, stamp)

    def _verify_in_body(self, request: InboundRequest, now: datetime, ring: Sequence[Key[VerifyingKey]]) -> str:
        """Schemes whose signature is a field: of the body, or of each item, which then must all be right."""
        if len(request.body) > MAX_UNVERIFIED_BYTES and not self.row.body.endswith(
            "multipart"
        ):  # whose files are skipped over
            raise SignatureError(f"the body is larger than the {MAX_UNVERIFIED_BYTES} bytes read before verifying")
        try:
            body = self._reader.load_closed(self._reader.as_utf8(request))
            items = self.row.items[0] if self.row.items else ""
            parts = [body] if not items else body if items == "." else at(body, items)
            if not isinstance(parts, list) or not parts:
                raise SignatureError(f"the body has no list under {items!r}")
            if len(parts) > MAX_ENTRIES * MAX_ENTRIES:
                raise SignatureError(f"the body holds {len(parts)} items; too many to verify")
            found = [self._verify_part(part, now, ring) for part in parts]
        except Malformed as error:
            if error.kind == "unparseable":
                kind = {
                    "json": "JSON",
                    "form": "a form",
                    "multipart": "a multipart form",
                    "form-or-multipart": "a form",
                }.get(self.row.body, "JSON or a form")
                raise SignatureError(f"the body, which carries the signature, is not {kind}") from None
            raise SignatureError(error.reason) from None
        return found[0]

    def _verify_part(self, part: Any, now: datetime, ring: Sequence[Key[VerifyingKey]]) -> str:
        if self.row.items and self.row.unwrap:
            part = at(part, self.row.unwrap)
        entries = [entry for place in self.row.signature for entry in self._entries_of(part, place)]
        stamp = field_of(part, self.row.timestamp, is_optional=False) if self.row.timestamp else b""
        sent_at = read_instant(stamp, self.row.timestamp_format) if self.row.timestamp else None
        label = match(ring, self.part_text(part, stamp), entries)
        for path, texts in self.row.expect.items():
            if text_of(at(part, path)) not in texts:
                raise SignatureError(f"the body's field {path} is none that is configured")
        if sent_at is not None:
            require_fresh(sent_at, now, self.row.tolerance, self.row.tolerance_ahead)
        return label

    def _entries_of(self, part: Any, place: str) -> list[bytes]:
        value = field_of(part, place, is_optional=False)
        return value.split(self.row.split.encode(), MAX_ENTRIES)[:MAX_ENTRIES] if self.row.split else [value]

    def part_text(self, part: Any, stamp: bytes) -> bytes:
        """What is signed of a body, or of an item, that carries its signature; nothing where a token is carried."""
        if self.row.algorithm in TOKENS:
            return b""
        text: list[bytes] = []
        holes: list[int] = []
        for literal, name, is_optional in self.text.pieces:
            text.append(literal.encode())
            if name == "timestamp":
                text.append(stamp)
            elif name == "secret":
                holes.append(sum(map(len, text)))
            elif name == "sns":
                text.append(sns_text(part))
            elif name:
                text.append(field_of(part, name, is_optional))
        whole = WithSecret(b"".join(text))
        whole.at = tuple(holes)
        return whole

    def facts(self, request: InboundRequest, secrets: Sequence[Secret]) -> SignatureFacts | None:
        """What `diagnose` needs to guess why it was refused; None for schemes whose signatures cannot be made again."""
        row = self.row
        if row.algorithm not in MACS or row.is_in_body:
            return None
        try:
            entries = self.entries(request)
            stamp, _ = self.timestamp(request, entries)
            values = {"body": request.body, "method": request.method.encode(), "url": self.text.url(request)}
            if stamp:
                values["timestamp"] = stamp
            if "{id}" in row.signed:
                values["id"] = self.text.signed_id(request)
            if "{form}" in row.signed:
                values["form"] = self.text.form(request)
        except SignatureError:
            return None
        prefix = row.prefix.encode()
        # blanks around an entry are a mistake of their own, which a prefix must not hide
        bare = [b" " * (len(entry) > len(entry.strip())) + entry.strip().removeprefix(prefix) for entry in entries]
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


def sns_text(part: Any) -> bytes:
    """The lines that Amazon SNS signs: names and values of some fields, in order, each on a line.

    Source: https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message-verify-message-signature.html (2026-11)
    """
    names = _SNS_NOTIFICATION if text_of(at(part, "Type")) == "Notification" else _SNS_CONFIRMATION
    text = b""
    for name in names:
        if name != "Subject" or at(part, name) is not None:
            text += name.encode() + b"\n" + field_of(part, name, is_optional=name == "Message") + b"\n"
    return text


_SNS_NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_SNS_CONFIRMATION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")


def field_of(part: Any, path: str, is_optional: bool) -> bytes:
    """A field of a body that is about to be verified; b"" where an optional one is missing. Raises SignatureError."""
    value = text_of(at(part, path))
    if value is None and not is_optional:
        raise SignatureError(f"the body's field {path} is missing or not text")
    try:
        return (value or "").encode("utf-8")
    except UnicodeEncodeError:
        raise SignatureError(f"the body's field {path} holds a lone surrogate") from None
