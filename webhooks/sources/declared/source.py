"""A source made from a row of the scheme table: verify, parse, read, answer handshakes and sign as the row says.

Order of verifying: headers are there, once, in shape → the signed text → every key against every part of the header,
in constant time → the time. The body is decoded afterwards, except where the row puts the signature into the body
itself; then at most 256 KiB of strict JSON are decoded for that alone.

What is signed decides what dedups. An id that the signature does not cover could be changed by anyone who saw one
request, so there the digest of the body is the key (option `dedup = "id"` trusts the header instead). Where the body
is not covered either, the source starts only with `accept_unsigned_body = true`, and the digest joins the id.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from webhooks.errors import ChallengeFailed, ConfigurationError, Malformed, SignatureError
from webhooks.formats import json as jsonio
from webhooks.model import Challenge, Content, Headers, InboundRequest, ParsedEvent, Verified
from webhooks.settings import shown
from webhooks.sources import diagnosis
from webhooks.sources.base import Source, SourceSettings
from webhooks.sources.declared import handshakes
from webhooks.sources.declared.fields import at, form, instant, key_text, ordering_key, sorted_form, text_of
from webhooks.sources.declared.scheme import (
    DEDUP_KEYS,
    MACS,
    READING_OPTIONS,
    ROW_OPTIONS,
    Scheme,
    pieces,
    with_options,
)
from webhooks.sources.keys import keys
from webhooks.sources.keys.keyring import Key, KeyRing, load_provider
from webhooks.sources.keys.keys import VerifyingKey
from webhooks.sources.keys.published import why_weak
from webhooks.sources.signing import decode_key, is_equal, read_instant, require_fresh, write_instant

#: Parts of a signature header that are looked at.
MAX_ENTRIES = 20
#: Bytes of a body that are decoded before it is verified, in schemes whose signature stands in the body.
MAX_UNVERIFIED_BYTES = 256 * 1024
#: Events that one body may hold.
MAX_ITEMS = 10_000
#: What an id in a header may look like: no dot, which would let it run into what is signed behind it.
_SIGNED_ID = re.compile(rb"[!-\-/-~]{1,256}")
_BODY_HASH = re.compile(rb"(?:^|&)bodySHA256=([0-9a-f]{64})(?:&|$)")
_PUBLIC_KEY = "whpk_"
_PRIVATE_KEY = "whsk_"

#: Options that every declared source knows.
COMMON_OPTIONS = frozenset(("dedup", "signing_key", "secrets_from"))


class DeclaredSource(Source):
    """A sender described by a row. row: of the table; for `scheme = "custom"` an empty one that the options fill.

    allow_published_secrets: take secrets that stand in documents or are short; for tests with vendors' vectors.
    """

    def __init__(self, settings: SourceSettings, row: Scheme, *, allow_published_secrets: bool = False) -> None:
        super().__init__(settings)
        self._check_strength = not allow_published_secrets
        own = COMMON_OPTIONS | ({"verify_token"} if row.handshake in handshakes.BY_GET else frozenset())
        settable = READING_OPTIONS | (ROW_OPTIONS if row.name in ("custom", "hmac") else frozenset())
        row, found = with_options(row, {k: v for k, v in settings.options.items() if k not in own}, settable)
        self.row = replace(
            row,
            tolerance=row.tolerance if settings.tolerance is None else settings.tolerance,
            tolerance_ahead=row.tolerance_ahead if settings.tolerance_ahead is None else settings.tolerance_ahead,
        )
        problems = [f"source {settings.name!r}: {text}" for text in found + self._setting_problems()]
        if not found:
            try:
                self.keys: KeyRing[VerifyingKey] = KeyRing(
                    settings.name,
                    settings.secrets,
                    self._decode_key,
                    settings.secret_file,
                    load_provider(settings.name, settings.options.get("secrets_from")),
                )
                self._signing_key = self._decode_signing_key()
            except ConfigurationError as error:
                problems += error.problems
        if problems:
            raise ConfigurationError(problems)
        self.scheme_title = self.row.title
        self.signs_whole_body = self.row.signs_whole_body
        self.sensitive_headers = frozenset(self.row.signature_headers)
        self.success = (
            None if self.row.success is None else Challenge(self.row.success[1].encode(), self.row.success[0])
        )
        self._tokens = tuple(token.encode("utf-8") for token in _texts(settings.options.get("verify_token")))
        self._signed = pieces(self.row.signed)
        self._dedup = self._dedup_rule()

    # -- at start --------------------------------------------------------------------------------------

    def _setting_problems(self) -> list[str]:
        row, options = self.row, self.settings.options
        found = []
        if row.tolerance <= timedelta(0) or row.tolerance_ahead < timedelta(0):
            found.append("tolerance must be more than 0 s and tolerance_ahead at least 0 s")
        if options.get("dedup", "id") not in DEDUP_KEYS:
            found.append(f"dedup is {shown(options['dedup'])}; it must be one of {', '.join(DEDUP_KEYS)}")
        if "verify_token" in options and not _texts(options["verify_token"]):
            found.append("verify_token must be text (or a list of texts) that is not blank")
        if row.needs_url and not self.settings.public_url:
            found.append(f"scheme {row.name!r} signs the URL; set public_url to the address that the sender calls")
        if (not row.signs_whole_body or row.algorithm in ("token", "basic")) and not self.settings.accept_unsigned_body:
            found.append(
                f"scheme {row.name!r} does not sign the whole body, so anyone who sees one request can make others; "
                "set accept_unsigned_body = true if you accept that"
            )
        return found

    def _decode_key(self, text: str) -> VerifyingKey:
        """A key from a secret's text. Raises ValueError, without the value."""
        row = self.row
        prefix = row.prefix.encode()
        if row.public_key_prefix and text.strip().startswith((_PUBLIC_KEY, _PRIVATE_KEY)):
            return self._decode_public_key(text.strip(), row.public_key_prefix.encode())
        if row.algorithm in ("ed25519", "ecdsa-sha256"):
            return self._decode_public_key(text.strip(), prefix)
        if row.algorithm == "basic":
            token = keys.basic_token(text)
            if self._check_strength and len(text.strip().partition(":")[2]) < row.min_secret_bytes:
                raise ValueError(f"is too short: the password must have at least {row.min_secret_bytes} characters")
            if self._check_strength:
                self._require_strong(text.strip(), text.strip().partition(":")[2])
            return keys.TokenKey(token)
        raw = decode_key(text, row.secret_encoding, row.secret_prefix)
        if self._check_strength and len(raw) < row.min_secret_bytes:
            raise ValueError(f"is too short: it has {len(raw)} bytes, and {row.min_secret_bytes} are the least")
        if self._check_strength:
            self._require_strong(text)
        if not raw:
            raise ValueError("is empty once decoded")
        if row.algorithm == "token":
            return keys.TokenKey(prefix + raw)
        return keys.MacKey(raw, MACS[row.algorithm], row.encoding, prefix)

    def _require_strong(self, *texts: str) -> None:
        for text in texts:
            if (reason := why_weak(text, self.row.secret_prefix)) is not None:
                raise ValueError(reason)

    def _decode_public_key(self, text: str, prefix: bytes, *, is_private: bool = False) -> VerifyingKey:
        row = self.row
        is_private = is_private or text.startswith(_PRIVATE_KEY)
        if row.public_key_prefix and text.startswith((_PUBLIC_KEY, _PRIVATE_KEY)):
            raw = decode_key(text.removeprefix(_PUBLIC_KEY).removeprefix(_PRIVATE_KEY), "base64")
            return keys.ed25519_key(raw, row.encoding, prefix, is_private=is_private)
        raw = decode_key(text, row.secret_encoding, row.secret_prefix)
        make = keys.ed25519_key if row.algorithm == "ed25519" else keys.ecdsa_key
        return make(raw, row.encoding, prefix, is_private=is_private)

    def _decode_signing_key(self) -> VerifyingKey | None:
        text = self.settings.options.get("signing_key")
        if text is None:
            return None
        if not isinstance(text, str) or self.row.algorithm not in ("ed25519", "ecdsa-sha256"):
            raise ConfigurationError(
                f"source {self.name!r}: signing_key is for schemes with public keys, and is text; leave it out"
            )
        try:
            return self._decode_public_key(text.strip(), self.row.prefix.encode(), is_private=True)
        except ValueError as error:
            raise ConfigurationError(f"source {self.name!r}: signing_key {error}") from None

    def _dedup_rule(self) -> str:
        rule = self.settings.options.get("dedup")
        if isinstance(rule, str):
            return rule
        if not self.row.signs_whole_body or self.row.algorithm in ("token", "basic"):
            return "both"
        return "id" if self.row.signs_id else "body"

    # -- verify ----------------------------------------------------------------------------------------

    @property
    def tolerance(self) -> timedelta | None:
        return self.row.tolerance if "{timestamp}" in self.row.signed else None

    def verify(self, request: InboundRequest, now: datetime) -> Verified:
        try:
            return Verified(self._verify(request, now, self.keys.current(request)))
        except SignatureError:
            if not self.keys.refresh():
                raise
            return Verified(self._verify(request, now, self.keys.current(request)))

    def _verify(self, request: InboundRequest, now: datetime, ring: Sequence[Key[VerifyingKey]]) -> str:
        for header, wanted in self.row.require.items():
            given = request.headers.one(header)
            if given is not None and header == "authorization":
                given = keys.as_in(given, wanted.encode())
            if given is None or not is_equal(given, wanted.encode()):
                raise SignatureError(f"the header {header} is not {wanted!r}")
        if self.row.is_in_body:
            return self._verify_in_body(request, now, ring)
        entries = self._entries(request)
        stamp, sent_at = self._timestamp(request, entries)
        label = match(ring, self.signed_text(request, stamp), entries)
        if sent_at is None and self.row.timestamp:
            sent_at = self._body_timestamp(request)
        if sent_at is not None:
            require_fresh(sent_at, now, self.row.tolerance, self.row.tolerance_ahead)
        return label

    def _entries(self, request: InboundRequest) -> list[bytes]:
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

    def _timestamp(self, request: InboundRequest, entries: Sequence[bytes]) -> tuple[bytes, float | None]:
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
        for literal, name, _ in self._signed:
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
        url = (request.url or self.settings.public_url).partition("?")[0].encode("utf-8")
        return url + b"?" + request.query if request.query else url

    def _form_text(self, request: InboundRequest) -> bytes:
        """Every field of the form, sorted. A body that is no form must be covered by a hash in the signed URL."""
        given = _BODY_HASH.findall(request.query)
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
        entries = [_field(part, place, is_optional=False) for place in self.row.signature]
        stamp = _field(part, self.row.timestamp, is_optional=False) if self.row.timestamp else b""
        sent_at = read_instant(stamp, self.row.timestamp_format) if self.row.timestamp else None
        text: list[bytes] = []
        for literal, name, is_optional in self._signed:
            text.append(literal.encode())
            if name == "timestamp":
                text.append(stamp)
            elif name:
                text.append(_field(part, name, is_optional))
        label = match(ring, b"".join(text), entries)
        if sent_at is not None:
            require_fresh(sent_at, now, self.row.tolerance, self.row.tolerance_ahead)
        return label

    # -- parse -----------------------------------------------------------------------------------------

    def parse(self, request: InboundRequest) -> Sequence[ParsedEvent]:
        """The events of a verified request; none when the sender's list is empty (LINE tries an address that way)."""
        if not self.row.items:
            return (self._event(request, request.body, self._decode(request.body)),)
        try:
            whole = self._decode(request.body)
            if self.row.items != ".":
                at(whole, self.row.items)
            slices = jsonio.items(request.body, "" if self.row.items == "." else self.row.items)
            if len(slices) > MAX_ITEMS:
                raise Malformed(f"the body holds {len(slices)} events; at most {MAX_ITEMS} are taken")
            if self.row.unwrap:
                slices = [jsonio.member(part, self.row.unwrap) for part in slices]
        except LookupError as error:
            raise Malformed(f"{error.args[0]} in the body") from None
        return [self._event(request, part, self._decode(part)) for part in slices]

    def _decode(self, raw: bytes) -> Any:
        """The body as JSON or form. Raises Malformed."""
        if self.row.body == "form" or (self.row.body == "json-or-form" and raw[:1] not in (b"{", b"[")):
            try:
                fields = form(raw)
            except ValueError:
                raise Malformed("the body is neither JSON nor a form", "unparseable") from None
            if list(fields) != ["payload"]:
                return fields
            raw = fields["payload"].encode("utf-8")  # Slack's interactions: one field that holds the JSON
        try:
            return jsonio.load_watching(raw)
        except jsonio.NotJSON as error:
            raise Malformed(str(error), "unparseable") from None

    def _event(self, request: InboundRequest, raw: bytes, value: Any) -> ParsedEvent:
        if not isinstance(value, Mapping):
            raise Malformed("the event is not a JSON object")
        kind = self._first(self.row.type, value, request)
        if kind is None:
            raise Malformed(f"the event's type is missing or not text: {' or '.join(self.row.type)}")
        for character in self.row.dotted:
            kind = kind.replace(character, ".")
        subject = self._first(self.row.object_id, value, request)
        return ParsedEvent(
            dedup_key=self._dedup_key(request, raw, value),
            type=key_text(kind, "the event's type"),
            body=raw,
            occurred_at=self._occurred_at(value),
            ordering={"object_id": ordering_key(subject)} if subject else {},
        )

    def _dedup_key(self, request: InboundRequest, raw: bytes, value: Any) -> str:
        identifier = self._first(self.row.id, value, request) if self._dedup != "body" else None
        if self._dedup == "body" or identifier == "" or not self.row.id:
            return "sha256:" + self._digest(request, raw)
        if identifier is None:
            raise Malformed(f"the event's id is missing or not text: {' or '.join(self.row.id)}")
        identifier = key_text(identifier, "the event's id")
        if self._dedup == "id":
            return identifier
        if len(identifier.encode("utf-8")) > 180:  # with the digest it would not fit
            identifier = hashlib.sha256(identifier.encode("utf-8")).hexdigest()
        return f"{identifier}:{self._digest(request, raw)}"

    def _digest(self, request: InboundRequest, raw: bytes) -> str:
        """Of what the signature fixes: for a form its sorted fields, since their order in the body is free."""
        if "{form}" in self.row.signed and not _BODY_HASH.search(request.query):
            with contextlib.suppress(ValueError):
                raw = sorted_form(raw)
        return hashlib.sha256(raw).hexdigest()

    def _first(self, templates: Sequence[str], value: Any, request: InboundRequest) -> str | None:
        """The first template whose places are all there, filled in; None when none is."""
        for template in templates:
            filled = fill(template, value, request)
            if filled is not None:
                return filled
        return None

    def _occurred_at(self, value: Any) -> datetime | None:
        for template in self.row.occurred_at:
            found = instant(at(value, template[1:-1]))
            if found is not None:
                return found
        return None

    # -- read, handshakes, sign ------------------------------------------------------------------------

    def read(self, raw: bytes, type: str) -> Content:
        try:
            value = self._decode(raw)
        except Malformed:
            value = None
        object_type, _, action = type.rpartition(".")
        if not isinstance(value, Mapping):
            return Content(data=value, action=action, object_type=object_type)
        try:
            data = at(value, self.row.data) if self.row.data else value
            previous = at(value, self.row.previous) if self.row.previous else None
            subject = self._first(self.row.object_id, value, InboundRequest(_NO_HEADERS))
        except Malformed:
            data, previous, subject = value, None, None
        return Content(
            data=value if data is None else data,
            previous=previous or {},
            changed_fields=tuple(previous) if isinstance(previous, Mapping) else (),
            action=action,
            object_type=object_type,
            object_id=subject,
            meta={name: each for name, each in value.items() if name != self.row.data.partition(".")[0]},
        )

    @property
    def has_get_challenge(self) -> bool:
        return self.row.handshake in handshakes.BY_GET

    def challenge(self, request: InboundRequest, now: datetime) -> Challenge | None:
        name = self.row.handshake
        if request.method == "GET":
            return handshakes.BY_GET[name](request.query, self._tokens) if name in handshakes.BY_GET else None
        if name not in handshakes.BY_POST:
            return None

        def mac(text: bytes) -> bytes:
            # verified again, to use the very secret that signed: during a rotation the sender knows only that one
            label = self.verify(request, now).label
            key = next(key.value for key in self.keys.current(request) if key.label == label)
            if not isinstance(key, keys.MacKey):
                raise ChallengeFailed(f"scheme {self.row.name!r} has no shared key to answer with")
            return key.mac(text)

        return handshakes.answer_post(name, request.body, mac)

    def prepare(self, body: bytes, now: datetime) -> bytes:
        if not self.row.is_in_body:
            return body
        try:
            value = jsonio.load(body)
        except jsonio.NotJSON:
            raise ConfigurationError(
                f"scheme {self.row.name!r} signs inside the body, so the body must be JSON"
            ) from None
        for part in [value] if not self.row.items else at(value, self.row.items) or []:
            self._sign_part(at(part, self.row.unwrap) if self.row.items and self.row.unwrap else part, now)
        return jsonio.dump(value)

    def _sign_part(self, part: Any, now: datetime) -> None:
        stamp = write_instant(now, self.row.timestamp_format)
        if self.row.timestamp:
            _put(part, self.row.timestamp, stamp)
        text = b""
        for literal, name, is_optional in self._signed:
            text += literal.encode()
            if name:
                if not is_optional and name != "timestamp" and text_of(at(part, name)) is None:
                    _put(part, name, hashlib.sha256(jsonio.dump(part)).hexdigest())
                text += stamp.encode() if name == "timestamp" else _field(part, name, is_optional)
        _put(part, self.row.signature[0], self._signer().sign(text).decode("ascii"))

    def sign(self, body: bytes, now: datetime) -> Mapping[str, str]:
        headers = dict(self.row.require)
        if self.row.is_in_body:
            return headers
        stamp = write_instant(now, self.row.timestamp_format)
        if self.row.timestamp.startswith("@"):
            headers[self.row.timestamp[1:]] = stamp
        if "{id}" in self.row.signed:
            headers[self.row.id[0][2:-1]] = "msg_" + hashlib.sha256(body).hexdigest()[:24]
        request = InboundRequest(Headers(headers), body, url=self.settings.public_url)
        entry = self._signer().sign(self.signed_text(request, stamp.encode())).decode("ascii")
        if self.row.timestamp.startswith("part:"):
            entry = f"{self.row.timestamp.removeprefix('part:')}{stamp}{self.row.split}{entry}"
        headers[self.row.signature_headers[0]] = entry
        return headers

    def diagnose(self, request: InboundRequest, now: datetime, others: Sequence[Source] = ()) -> str:
        return diagnosis.diagnose(self, request, now, others, self._facts(request))

    def _facts(self, request: InboundRequest) -> diagnosis.Facts | None:
        row = self.row
        if row.algorithm not in MACS or row.is_in_body:
            return None
        try:
            entries = self._entries(request)
            stamp, _ = self._timestamp(request, entries)
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
        return diagnosis.Facts(
            self.keys.secrets,
            row.secret_encoding,
            row.secret_prefix,
            MACS[row.algorithm],
            row.encoding,
            bare,
            row.signed,
            {name: value for name, value in values.items() if name != "url" or row.needs_url},
        )

    def _signer(self) -> VerifyingKey:
        if self._signing_key is None and not self.keys.current():
            raise ConfigurationError(f"source {self.name!r} has only the secrets of secrets_from, and cannot sign")
        return self._signing_key or self.keys.current()[0].value


def match(ring: Sequence[Key[VerifyingKey]], message: bytes, entries: Sequence[bytes]) -> str:
    """The label of the key that made one of the entries. Raises SignatureError."""
    for key in ring:
        if key.value.matches(message, entries):
            return key.label
    raise SignatureError(f"none of {len(ring)} secrets made this signature")


def fill(template: str, value: Any, request: InboundRequest) -> str | None:
    """A template filled with fields and headers; None when a place that must be there is not."""
    text = ""
    for literal, place, is_optional in pieces(template):
        text += literal
        if not place:
            continue
        if place.startswith("@"):
            raw = request.headers.one(place[1:])
            found = raw.decode("utf-8", "replace") if raw is not None else None
        else:
            found = text_of(at(value, place))
        if found is None and not is_optional:
            return None
        text += found or ""
    return text


def _field(part: Any, path: str, is_optional: bool) -> bytes:
    """A field of a body that is about to be verified. Raises SignatureError."""
    value = text_of(at(part, path))
    if value is None and not is_optional:
        raise SignatureError(f"the body's field {path} is missing or not text")
    try:
        return (value or "").encode("utf-8")
    except UnicodeEncodeError:
        raise SignatureError(f"the body's field {path} holds a lone surrogate") from None


def _put(part: Any, path: str, value: str) -> None:
    *way, last = path.split(".")
    for step in way:
        part = part.setdefault(step, {})
    part[last] = value


def _texts(value: Any) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else ()
    return texts if all(isinstance(text, str) and text.strip() for text in texts) else ()


_NO_HEADERS = Headers({})
