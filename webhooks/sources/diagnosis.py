"""Why was it refused? Guesses tried out after the fact, for `webhooks explain`.

Each guess is something that people get wrong: it signs the request the wrong way on purpose, with our secrets, and
looks whether that gives what the request holds. Nothing in here decides anything, and no text holds a secret, a
signature or a part of one.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from webhooks.errors import Rejected, StorageUnavailable
from webhooks.formats import json as jsonio
from webhooks.model import InboundRequest
from webhooks.sources.base import Secret, Source
from webhooks.sources.signing import NoSecretMatches, StaleSignature, decode_key, is_equal

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
        return f"{error.reason}; the signature itself is right: see whether both clocks are"
    except NoSecretMatches as error:
        reason, is_unmatched = error.reason, True
    except (Rejected, StorageUnavailable) as error:
        reason, is_unmatched = error.reason, False
    if facts is not None and is_unmatched:
        for guess in _guesses(facts):
            return f"{reason}; {guess}"
    for other in others:
        if other.name != source.name and _is_right(other, request, now):
            return f"{reason}; it is signed for source {other.name!r}: the sender calls the wrong address"
    foreign = [other for other in others if other.name != source.name and _has_headers(other, request)]
    if foreign and not _has_headers(source, request):
        return f"{reason}; it carries the headers of scheme {foreign[0].settings.scheme!r}, not of this source's"
    tried = ", ".join(repr(secret.label) for secret in (facts.secrets if facts is not None else ()))
    return f"{reason}; tried: {tried}" if tried and is_unmatched else reason


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
    bare = [entry.strip() for entry in facts.entries]
    for what, entries in (
        ("it is cut or has something around it", bare),
        ("the digest is in upper case, and must be as the sender writes it", [entry.lower() for entry in bare]),
    ):
        if facts.encoding == "hex" and entries != list(facts.entries):
            yield from _try(facts, what, entries=entries)
    for kind in ("text", "hex", "base64"):
        if kind != facts.secret_kind:
            yield from _try(facts, f"the sender used the key as {kind}, not as {facts.secret_kind}", kind=kind)
    for what, template in _templates(facts):
        yield from _try(facts, what, template=template)
    for what, body in _bodies(facts.values.get("body", b"")):
        yield from _try(facts, what, values={**facts.values, "body": body})
    for digest in ("sha256", "sha1", "sha512"):
        if digest != facts.digest:
            yield from _try(facts, f"it was made with {digest}, not {facts.digest}", digest=digest)
    for encoding in ("hex", "base64"):
        if encoding != facts.encoding:
            yield from _try(facts, f"it is written as {encoding}, not {facts.encoding}", encoding=encoding)


def _templates(facts: SignatureFacts) -> Iterator[tuple[str, str]]:
    plain = "{timestamp}{body}"
    if facts.template != "{body}":
        yield "the sender signed the body alone", "{body}"
    if "timestamp" in facts.values:
        if facts.template != plain:
            yield "the sender joined timestamp and body with nothing between", plain
        for mark, name in ((".", "a dot"), (":", "a colon"), ("\n", "a line break"), (" ", "a space")):
            template = f"{{timestamp}}{mark}{{body}}"
            if facts.template != template:
                yield f"the sender joined timestamp and body with {name}", template
    if "url" in facts.values:
        yield "the sender left the address out", facts.template.replace("{url}", "")


def _bodies(body: bytes) -> Iterator[tuple[str, bytes]]:
    """The body as other software would have written it."""
    if not body or len(body) > MAX_BODY_BYTES:
        return
    trimmed = body.strip()
    for what, other in (
        ("space or a line break at the end of the body was added on the way", trimmed),
        ("a line break at the end of the body was lost on the way", body + b"\n"),
        ("a line break at the end of the body was lost on the way", body + b"\r\n"),
        ("line breaks of the body were changed on the way", body.replace(b"\r\n", b"\n")),
        ("line breaks of the body were changed on the way", body.replace(b"\n", b"\r\n")),
    ):
        if other != body:
            yield what, other
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
    except (ValueError, RecursionError):
        return


_REENCODED = "the body looks re-encoded: something between the sender and us parsed it and wrote it anew"


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
    message = (template or facts.template).encode("utf-8")
    for name, value in (values or facts.values).items():
        if name != "body":
            message = message.replace(b"{%s}" % name.encode(), value)
    message = message.replace(b"{body}", (values or facts.values).get("body", b""))
    for secret in facts.secrets:
        try:
            prefix = "" if kind == "text" else facts.secret_prefix
            key = decode_key(secret.reveal(), kind or facts.secret_kind, prefix)
        except ValueError:
            continue
        mac = hmac.digest(key, message, digest or facts.digest)
        written = base64.b64encode(mac) if (encoding or facts.encoding) == "base64" else binascii.hexlify(mac)
        if any(is_equal(written, entry) for entry in (facts.entries if entries is None else entries)):
            yield f"{what} (secret {secret.label!r})"
            return
