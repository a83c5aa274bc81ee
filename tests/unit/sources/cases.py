"""What the contract tests need of each scheme: settings that start, and a signed request made from its sample."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from webhooks.model import Headers, InboundRequest
from webhooks.sources import Secret, Source, SourceSettings, make_source
from webhooks.sources.declared.schemes import SCHEMES
from webhooks.sources.samples import Sample, samples

NOW = datetime.fromtimestamp(1773151512, UTC)
URL = "https://hooks.example.com/webhooks/it"


@dataclass(frozen=True)
class Case:
    """One scheme. secrets: two that are right in shape, the first of which signs."""

    scheme: str
    secrets: tuple[str, str]
    settings: dict[str, Any] = field(default_factory=dict)

    def source(self, *secrets: Secret, **settings: Any) -> Source:
        given = secrets or (Secret(self.secrets[0], "first"),)
        return make_source(SourceSettings("it", self.scheme, given, **{**self.settings, **settings}))

    def sample(self) -> Sample:
        return samples(self.scheme)[0]

    def request(self, sample: Sample | None = None, now: datetime = NOW, body: bytes | None = None) -> InboundRequest:
        """A sample (or another body), signed at `now` as the sender would."""
        sample = sample or self.sample()
        source = self.source()
        body = source.prepare(sample.body if body is None else body, now)
        if self.scheme == "linear":  # the signed time stands in the body
            body = body.replace(b"1773151512000", str(int(now.timestamp() * 1000)).encode())
        return InboundRequest(Headers({**sample.headers, **source.sign(body, now)}), body)


def key(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def secret_for(scheme: str, number: int) -> tuple[str, dict[str, Any]]:
    """A secret in the shape that the scheme wants, and the settings that go with it."""
    raw = key(f"{scheme}-{number}")
    if scheme == "close" or scheme.startswith("adyen"):
        return raw.hex(), {}
    if scheme in ("standard", "svix"):
        return "whsec_" + base64.b64encode(raw).decode(), {}
    if scheme == "discord":
        private = ed25519.Ed25519PrivateKey.from_private_bytes(raw)
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return public.hex(), {"signing_key": raw.hex()}
    if scheme == "sendgrid":
        curve = ec.derive_private_key(int.from_bytes(raw, "big") >> 1, ec.SECP256R1())
        der = curve.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        spki = curve.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(spki).decode(), {"signing_key": base64.b64encode(der).decode()}
    return (f"user:{raw.hex()}" if scheme == "basic" else raw.hex()), {}


def make_case(scheme: str) -> Case:
    (first, options), (second, _) = secret_for(scheme, 1), secret_for(scheme, 2)
    settings: dict[str, Any] = {"options": options, "public_url": URL}
    if not SCHEMES.get(scheme, SCHEMES["custom"]).signs_whole_body:
        settings["accept_unsigned_body"] = True
    if scheme == "custom":
        options |= {"signature": "@x-acme-signature", "id": "{id}"}
    if scheme == "meta":
        options["verify_token"] = "a-token-of-ours"
    return Case(scheme, (first, second), settings)


#: Nobody but the sender signs for these; `test_certificates` and `test_tokens` have them.
PUBLISHED_KEYS = frozenset(name for name, row in SCHEMES.items() if row.certificate or row.jwt.jwks)
CASES = [make_case(scheme) for scheme in sorted({*SCHEMES, "close"} - {"hmac"} - PUBLISHED_KEYS)]


def without(request: InboundRequest, name: str) -> InboundRequest:
    return replace(request, headers=Headers([pair for pair in request.headers.items() if pair[0] != name]))


def with_header(request: InboundRequest, name: str, value: bytes) -> InboundRequest:
    return replace(request, headers=Headers([*without(request, name).headers.items(), (name, value)]))


def doubled(request: InboundRequest, name: str) -> InboundRequest:
    twice = [pair for pair in request.headers.items() if pair[0] == name]
    return replace(request, headers=Headers([*request.headers.items(), *twice]))
