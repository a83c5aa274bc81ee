"""`diagnose` names what people get wrong, and never a secret or a signature."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

from tests.support import each
from tests.unit.sources.cases import CASES, NOW, with_header, without
from webhooks.model import Headers, InboundRequest
from webhooks.sources import Secret, make_source

CLOSE = next(case for case in CASES if case.scheme == "close")
STRIPE = next(case for case in CASES if case.scheme == "stripe")
GITHUB = next(case for case in CASES if case.scheme == "github")
SQUARE = next(case for case in CASES if case.scheme == "square")
BODY = b'{"event": {"id": "ev_1", "name": "Caf\xc3\xa9 /x"}}'
STAMP = b"1773151512"


def close_request(key: bytes, message: bytes, body: bytes = BODY, digest: str = "sha256", change: Any = str) -> str:
    given = change(hmac.new(key, message, digest).hexdigest())
    request = InboundRequest(Headers({"close-sig-hash": given, "close-sig-timestamp": STAMP}), body)
    said = CLOSE.source().diagnose(request, NOW)
    assert given not in said
    assert CLOSE.secrets[0] not in said
    return said


RAW = bytes.fromhex(CLOSE.secrets[0])


@each(
    ("said", "says"),
    [
        (lambda: close_request(RAW, STAMP + BODY), "the signature is right (secret 'first')"),
        (lambda: close_request(CLOSE.secrets[0].encode(), STAMP + BODY), "the key as text, not as hex"),
        (lambda: close_request(RAW, STAMP + b"." + BODY), "joined timestamp and body with a dot"),
        (lambda: close_request(RAW, STAMP + b":" + BODY), "joined timestamp and body with a colon"),
        (lambda: close_request(RAW, BODY), "signed the body alone"),
        (
            lambda: close_request(RAW, STAMP + json.dumps(json.loads(BODY)).encode()),
            "the body was parsed and re-encoded",
        ),
        (
            lambda: close_request(RAW, STAMP + json.dumps(json.loads(BODY), separators=(",", ":")).encode()),
            "the body was parsed and re-encoded",
        ),
        (lambda: close_request(RAW, STAMP + json.dumps(json.loads(BODY), indent=2).encode()), "re-encoded"),
        (lambda: close_request(RAW, STAMP + BODY, BODY + b"\n"), "at the end of the body was added"),
        (lambda: close_request(RAW, STAMP + BODY + b"\n"), "at the end of the body was lost"),
        (lambda: close_request(RAW, STAMP + BODY, change=str.upper), "upper case"),
        (lambda: close_request(RAW, STAMP + b"something else"), "tried: 'first'"),
    ],
)
def test_common_mistakes_with_close_are_named(said: Any, says: str) -> None:
    assert says in said()


def test_a_clock_that_is_off_is_told_in_seconds() -> None:
    request = STRIPE.request()
    said = STRIPE.source().diagnose(request, NOW + timedelta(seconds=412))
    assert "412 s old" in said
    assert "the signature itself is right" in said
    assert "412 s ahead of our clock" in STRIPE.source().diagnose(request, NOW - timedelta(seconds=412))


def test_another_source_whose_secrets_are_unavailable_loses_no_diagnosis() -> None:
    def fail(request: InboundRequest) -> list[Secret]:
        raise OSError("the tenants' service is down")

    settings = STRIPE.source().settings
    other = make_source(replace(settings, name="tenants", options={**settings.options, "secrets_from": fail}))
    request = STRIPE.request()
    wrong = replace(request, body=b'{"id": "evt_2"}')
    said = STRIPE.source().diagnose(wrong, NOW, [other])
    assert said == STRIPE.source().diagnose(wrong, NOW)


def test_a_source_whose_own_secrets_are_unavailable_is_diagnosed_as_that() -> None:
    def fail(request: InboundRequest) -> list[Secret]:
        raise OSError("the tenants' service is down")

    settings = STRIPE.source().settings
    source = make_source(replace(settings, options={**settings.options, "secrets_from": fail}))
    assert source.diagnose(STRIPE.request(), NOW) == "secrets_from failed with OSError"


def test_a_request_for_another_source_is_told() -> None:
    other = GITHUB.source(Secret("another-secret-of-24-chars", "1"))
    object.__setattr__(other, "name", "github-enterprise")
    request = GITHUB.request()
    signed = replace(request, headers=Headers({**GITHUB.sample().headers, **other.sign(request.body, NOW)}))
    said = GITHUB.source().diagnose(signed, NOW, [GITHUB.source(), other])
    assert "signed for source 'github-enterprise'" in said


def test_headers_of_another_scheme_are_told() -> None:
    other = STRIPE.source(Secret("another-secret-of-24-chars", "1"))
    object.__setattr__(other, "name", "stripe")
    said = GITHUB.source().diagnose(STRIPE.request(), NOW, [other])
    assert "x-hub-signature-256 is missing" in said
    assert "headers of scheme 'stripe'" in said


def test_a_missing_header_is_named() -> None:
    assert "close-sig-timestamp is missing" in CLOSE.source().diagnose(
        without(CLOSE.request(), "close-sig-timestamp"), NOW
    )


def test_other_digests_and_encodings_are_told() -> None:
    request = GITHUB.request()
    key = GITHUB.secrets[0].encode()
    sha1 = b"sha256=" + hmac.new(key, request.body, hashlib.sha1).hexdigest().encode()
    assert "made with sha1" in GITHUB.source().diagnose(with_header(request, "x-hub-signature-256", sha1), NOW)
    b64 = b"sha256=" + base64.b64encode(hmac.new(key, request.body, hashlib.sha256).digest())
    assert "written as base64" in GITHUB.source().diagnose(with_header(request, "x-hub-signature-256", b64), NOW)


def test_an_address_left_out_is_told() -> None:
    request = SQUARE.request()
    mac = base64.b64encode(hmac.new(SQUARE.secrets[0].encode(), request.body, hashlib.sha256).digest())
    said = SQUARE.source().diagnose(with_header(request, "x-square-hmacsha256-signature", mac), NOW)
    assert "signed the body alone" in said


@each("case", CASES)
def test_no_diagnosis_holds_a_secret_or_a_signature(case: Any) -> None:
    request = case.request()
    source = case.source(Secret(case.secrets[1], "other"))
    said = source.diagnose(request, NOW, [case.source()])
    assert "other" in said or "signature" in said
    for secret in case.secrets:
        assert secret not in said
    for name, raw in request.headers.items():
        if name in source.sensitive_headers:
            assert raw.decode() not in said
