"""Why was it refused? Guesses tried out after the fact, for `webhooks explain`.

Each guess is something that people get wrong: it signs the request the wrong way on purpose, with our secrets, and
looks whether that gives what the request holds. Nothing in here decides anything, and no text holds a secret, a
signature or a part of one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote_to_bytes

from webhooks.errors import Rejected, StorageUnavailable
from webhooks.formats import json as jsonio
from webhooks.model import InboundRequest
from webhooks.sources.base import Secret, Source
from webhooks.sources.signing import ENCODERS, NoSecretMatches, StaleSignature, decode_key, is_equal

#: Bytes of a body up to which bodies are written anew and tried.
MAX_BODY_BYTES = 1024 * 1024


@dataclass(frozen=True)
class SignatureFacts:
    """What a guess needs to make the signature of a request again."""

    secrets: Sequence[Secret]
    #: how secrets are written: text, hex or base64
    secret_kind: str
    secret_prefix: str
    #: of the HMAC: sha256, sha1 or sha512
    digest: str
    #: how signatures are written: hex or base64
    encoding: str
    #: the given signatures without their prefix
    entries: Sequence[bytes]
    #: the signed text, with `{timestamp}`, `{id}`, `{body}` and so on
    template: str
    #: what stands for each of them
    values: Mapping[str, bytes]


def diagnose(
    source: Source, request: InboundRequest, now: datetime, others: Sequence[Source], facts: SignatureFacts | None
) -> str:
    """One or two sentences for people: why `source` refuses `request`, or that it does not.

    now: an aware UTC instant.
    others: the other configured sources, one of which may be meant.
    facts: None for schemes whose signatures cannot be made again.
    """
    try:
        return f"the signature is right (secret {source.verify(request, now).label!r})"
    except StaleSignature as error:
        return f"{error.reason}; the signature itself is right: set both clocks by NTP, or tolerance"
    except NoSecretMatches as error:
        reason, is_unmatched = error.reason, True
    except (Rejected, StorageUnavailable) as error:
        reason, is_unmatched = error.reason, False
    if facts is not None and is_unmatched:
        for guess in _guesses(facts):
            return f"{reason}; {guess}"
    for other in others:
        if other.name != source.name and _is_right(other, request, now):
            return f"{reason}; it is signed for source {other.name!r}: set the sender to the path of that one"
    foreign = [other for other in others if other.name != source.name and _has_headers(other, request)]
    if foreign and not _has_headers(source, request):
        return f"{reason}; it carries the headers of scheme {foreign[0].settings.scheme!r}, not of this source's: set scheme, or the sender to that source's path"
    tried = ", ".join(repr(secret.label) for secret in (facts.secrets if facts is not None else ()))
    if tried and is_unmatched:
        return f"{reason}; tried: {tried}; copy the secret of this very endpoint from the sender's page again"
    return f"{reason}{_repair(reason)}"


def _repair(reason: str) -> str:
    """What to change about a refusal before any key is tried; "" where the reason says so itself."""
    return next((f"; {what}" for words, what in _REPAIRS if words in reason), "")


#: (words of a reason, what to change)
_REPAIRS = (
    ("is missing", "turn signing on at the sender, let the proxy pass that header, or name the right one"),
    ("10 digits", "set timestamp_format to 'milliseconds' or 'iso', as the sender writes it"),
    ("13 digits", "set timestamp_format to 'seconds' or 'iso', as the sender writes it"),
)


def _is_right(source: Source, request: InboundRequest, now: datetime) -> bool:
    try:
        source.verify(request, now)
    except StaleSignature:
        return True
    except (Rejected, StorageUnavailable):  # its secrets may be unavailable (`secrets_from`): it is one guess of many
        return False
    return True


def _has_headers(source: Source, request: InboundRequest) -> bool:
    return any(name in request.headers for name in source.sensitive_headers)


def _guesses(facts: SignatureFacts) -> Iterator[str]:
    """What would make one of our secrets right, likeliest first."""
    for what, entries in _entries(facts):
        yield from _try(facts, what, entries=entries)
    for kind in ("text", "hex", "base64"):
        if kind != facts.secret_kind:
            yield from _try(
                facts,
                f"the sender used the key as {kind}, not as {facts.secret_kind}: secret_encoding = {kind!r}",
                kind=kind,
            )
    for what, url in _addresses(facts.values.get("url", b"")):
        yield from _try(facts, what, values={**facts.values, "url": url})
    for what, template in _templates(facts):
        yield from _try(facts, what, template=template)
    came = facts.values.get("body", b"")
    for what, body in ((what, other) for what, other in _bodies(came) if other != came):
        yield from _try(facts, what, values={**facts.values, "body": body})
    for digest in ("sha256", "sha1", "sha512"):
        if digest != facts.digest:
            yield from _try(
                facts, f"it was made with {digest}, not {facts.digest}: algorithm = 'hmac-{digest}'", digest=digest
            )
    for encoding in ("hex", "base64", "base64url"):
        if encoding != facts.encoding:
            yield from _try(
                facts, f"it is written as {encoding}, not {facts.encoding}: encoding = {encoding!r}", encoding=encoding
            )
    yield from _plain(facts)


def _entries(facts: SignatureFacts) -> Iterator[tuple[str, list[bytes]]]:
    """The given signatures, written otherwise."""
    given = list(facts.entries)
    bare = [entry.strip() for entry in given]
    forms = [
        ("it has blanks around it: have the sender, or what is between, leave them out", bare),
        ("it has quotes around it: take them off on the way", [entry.strip(b"\"'") for entry in bare]),
    ]
    if facts.encoding == "hex":
        what = "the digest is in upper case, and must be as the sender writes it: encoding = 'hex-upper'"
        forms.append((what, [entry.lower() for entry in bare]))
    if facts.encoding == "hex-upper":
        what = "the digest is in lower case, and must be as the sender writes it: encoding = 'hex'"
        forms.append((what, [entry.upper() for entry in bare]))
    joined = [part.strip() for entry in bare for part in entry.split(b",")]
    forms.append(("a proxy joined the header's values by commas: name split = ','", joined))
    for entry in bare[:3]:
        match = _PREFIX.match(entry)
        if match is not None:
            prefix = match[0].decode("ascii", "replace")
            forms.append(
                (f"it begins with {prefix!r}, which prefix does not name: prefix = {prefix!r}", [entry[match.end() :]])
            )
    parts = [part.partition(b"=")[2] for entry in bare for part in _SEPARATORS.split(entry)]
    what = "the header holds several parts, such as t=…,v1=…: name split, prefix, and timestamp = 'part:t='"
    forms.append((what, [part for part in parts if part]))
    for what, entries in forms:
        if entries and entries != given:
            yield what, entries


#: What some put before a signature, and between its parts.
_PREFIX = re.compile(rb"(?:sha1|sha256|sha512|hmac-sha256|hmac|v0|v1|v2|s1|h1|signature|bearer)[=, :]+", re.IGNORECASE)
_SEPARATORS = re.compile(rb"[,; ]+")


def _addresses(url: bytes) -> Iterator[tuple[str, bytes]]:
    """The address as it may stand in the sender's settings."""
    match = re.fullmatch(rb"(https?)://(www\.)?([^/?:]+)(:[0-9]+)?([^?]*)(\?.*)?", url)
    if match is None:
        return
    scheme, www, host, port, path, query = (each or b"" for each in match.groups())
    has_slash = path.endswith(b"/")
    slashed = path[:-1] if has_slash else path + b"/"
    other = b"http" if scheme == b"https" else b"https"
    standard = b":443" if scheme == b"https" else b":80"
    said = "make public_url the address that the sender calls: there it "
    yield (
        said + ("has no" if has_slash else "has a") + " slash at its end",
        scheme + b"://" + www + host + port + slashed + query,
    )
    yield said + f"begins with {other.decode()}://", other + b"://" + www + host + port + path + query
    yield (
        said + ("has no www." if www else "has www. before its host"),
        scheme + b"://" + (b"" if www else b"www.") + host + port + path + query,
    )
    if port:
        yield said + "has no port", scheme + b"://" + www + host + path + query
    else:
        yield said + f"has its port, {standard.decode()[1:]}", scheme + b"://" + www + host + standard + path + query
    if query:
        yield said + "has no query", scheme + b"://" + www + host + port + path
    lower = host.lower()
    if lower != host:
        yield said + "has its host in lower case", scheme + b"://" + www + lower + port + path + query


def _plain(facts: SignatureFacts) -> Iterator[str]:
    """Digests without an HMAC, and digests written twice over."""
    body = facts.values.get("body", b"")
    stamp = facts.values.get("timestamp", b"")
    for secret in facts.secrets:
        key = secret.reveal().strip().encode("utf-8")
        for digest in ("sha256", "sha1", "sha512", "md5"):
            for written, text in (
                ("{secret}{body}", key + body),
                ("{body}{secret}", body + key),
                ("{timestamp}{body}{secret}", stamp + body + key),
            ):
                made = hashlib.new(digest, text, usedforsecurity=False).digest()
                if any(is_equal(form, entry) for form in _forms(made) for entry in facts.entries):
                    yield (
                        f"it is no HMAC but a plain digest: algorithm = '{digest}' and signed = '{written}' (secret "
                        f"{secret.label!r})"
                    )
        for template in dict.fromkeys((facts.template, "{body}")):
            made = hmac.digest(_key_of(facts, secret), _message(template, facts.values), facts.digest)
            if any(is_equal(base64.b64encode(form), entry) for form in _forms(made)[:2] for entry in facts.entries):
                yield f"it is the base64 of the hex digest: sign once, and write that digest once (secret {secret.label!r})"


def _forms(made: bytes) -> list[bytes]:
    return [binascii.hexlify(made), binascii.hexlify(made).upper(), base64.b64encode(made)]


def _key_of(facts: SignatureFacts, secret: Secret) -> bytes:
    try:
        return decode_key(secret.reveal(), facts.secret_kind, facts.secret_prefix)
    except ValueError:
        return b"?"


def _message(template: str, values: Mapping[str, bytes]) -> bytes:
    message = template.encode("utf-8")
    for name, value in values.items():
        if name != "body":
            message = message.replace(b"{%s}" % name.encode(), value)
    return message.replace(b"{body}", values.get("body", b""))


def _templates(facts: SignatureFacts) -> Iterator[tuple[str, str]]:
    plain = "{timestamp}{body}"
    if facts.template != "{body}":
        yield "the sender signed the body alone: signed = '{body}'", "{body}"
    if "timestamp" in facts.values:
        if facts.template != plain:
            yield f"the sender joined timestamp and body with nothing between: signed = {plain!r}", plain
        for mark, name in ((".", "a dot"), (":", "a colon"), ("\n", "a line break"), (" ", "a space")):
            template = f"{{timestamp}}{mark}{{body}}"
            if facts.template != template:
                yield f"the sender joined timestamp and body with {name}: signed = {template!r}", template
    if "url" in facts.values:
        without = facts.template.replace("{url}", "")
        yield f"the sender left the address out: signed = {without!r}", without


def _bodies(body: bytes) -> Iterator[tuple[str, bytes]]:
    """The body as other software would have written it."""
    if not body or len(body) > MAX_BODY_BYTES:
        return
    trimmed = body.strip()
    for what, other in (
        ("space or a line break at the end of the body was added on the way: forward its bytes as they came", trimmed),
        ("a line break at the end of the body was lost on the way: forward its bytes as they came", body + b"\n"),
        ("a line break at the end of the body was lost on the way: forward its bytes as they came", body + b"\r\n"),
        (
            "line breaks of the body were changed on the way: forward its bytes as they came",
            body.replace(b"\r\n", b"\n"),
        ),
        (
            "line breaks of the body were changed on the way: forward its bytes as they came",
            body.replace(b"\n", b"\r\n"),
        ),
    ):
        if other != body:
            yield what, other
    yield from _of_form(body)
    yield from _escapes(body)
    try:
        value = jsonio.load(body)
        for separators in ((",", ":"), (", ", ": ")):
            for is_ascii in (False, True):
                text = json.dumps(value, separators=separators, ensure_ascii=is_ascii)
                yield _REENCODED, text.encode("utf-8", "surrogatepass")
                yield _REENCODED, text.replace("/", "\\/").encode("utf-8", "surrogatepass")
        for indent in (2, 4):
            yield _REENCODED, json.dumps(value, indent=indent).encode("ascii")
            yield _REENCODED, json.dumps(value, indent=indent, ensure_ascii=False).encode("utf-8", "surrogatepass")
        yield from _rewritten(value)
    except (ValueError, RecursionError):
        return


def _of_form(body: bytes) -> Iterator[tuple[str, bytes]]:
    """What a form holds, signed in its place."""
    if b"=" not in body or body[:1] in (b"{", b"["):
        return
    decoded = unquote_to_bytes(body.replace(b"+", b" "))
    yield "the sender signed the form decoded: have it sign the bytes that it sends", decoded
    name, _, value = decoded.partition(b"=")
    yield (
        f"the sender signed the decoded field {name[:40].decode('ascii', 'replace')!r} alone: have it sign the whole body",
        value,
    )


def _escapes(body: bytes) -> Iterator[tuple[str, bytes]]:
    """Escapes of JSON text in the other case."""
    for change in (bytes.lower, bytes.upper):
        other = re.sub(rb"(?<=\\u)[0-9a-fA-F]{4}", lambda match, change=change: change(match[0]), body)  # type: ignore[misc]
        if other != body:
            yield (
                "escapes such as \\u001B were written in the other case on the way: forward the bytes as they came",
                other,
            )


def _rewritten(value: Any) -> Iterator[tuple[str, bytes]]:
    """JSON as software writes it that knows no order of keys, or no 1.0."""
    for separators in ((",", ":"), (", ", ": ")):
        text = json.dumps(value, separators=separators, sort_keys=True, ensure_ascii=False)
        yield (
            "the keys of the body were sorted on the way: forward its bytes as they came",
            text.encode("utf-8", "surrogatepass"),
        )
        whole = json.dumps(_whole(value), separators=separators, ensure_ascii=False)
        yield (
            "numbers such as 1.0 became 1 on the way: forward its bytes as they came",
            whole.encode("utf-8", "surrogatepass"),
        )
        real = json.dumps(_real(value), separators=separators, ensure_ascii=False)
        yield (
            "numbers such as 1 became 1.0 on the way: forward its bytes as they came",
            real.encode("utf-8", "surrogatepass"),
        )


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _whole(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _real(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _real(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_real(each) for each in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53 else value


_REENCODED = "the body was parsed and re-encoded between the sender and us: forward its bytes as they came"


def _try(
    facts: SignatureFacts,
    what: str,
    *,
    entries: Sequence[bytes] | None = None,
    kind: str = "",
    template: str = "",
    values: Mapping[str, bytes] | None = None,
    digest: str = "",
    encoding: str = "",
) -> Iterator[str]:
    message = _message(template or facts.template, values or facts.values)
    for secret in facts.secrets:
        try:
            prefix = "" if kind == "text" else facts.secret_prefix
            key = decode_key(secret.reveal(), kind or facts.secret_kind, prefix)
        except ValueError:
            continue
        mac = hmac.digest(key, message, digest or facts.digest)
        written = ENCODERS[encoding or facts.encoding](mac)
        if any(is_equal(written, entry) for entry in (facts.entries if entries is None else entries)):
            yield f"{what} (secret {secret.label!r})"
            return
