"""Tokens as proof: what is demanded holds, and no token chooses its own algorithm, key or address.

Tokens are made here by hand, of base64 and the keys' own functions, so that no library of ours vouches for itself.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import each, examples
from tests.unit.sources.keys import OTHER, RSA
from webhooks.errors import ConfigurationError, KeysUnavailable, SignatureError
from webhooks.model import Headers, InboundRequest
from webhooks.sources import Secret, Source, SourceSettings, make_source
from webhooks.sources.keys import fetched

NOW = datetime.fromtimestamp(1773151512, UTC)
AT = 1773151512
SECRET = "tk-4f9d0c7be2a1483f0c7be2a1483f9d0c"
CURVE = ec.generate_private_key(ec.SECP256R1())
EDWARDS = ed25519.Ed25519PrivateKey.generate()
JWKS = "https://keys.example.org/certs"
BODY = b'{"type":"a","id":"1"}'
CLAIMS = {"iss": "https://issuer.example.org", "aud": "hooks", "exp": AT + 60, "iat": AT, "email": "push@example.org"}


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def pem(key: Any) -> str:
    raw: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return raw.decode()


def jwk(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    numbers = key.public_key().public_numbers()
    return {"kty": "RSA", "kid": kid, "n": b64(numbers.n.to_bytes(256, "big")), "e": b64(b"\x01\x00\x01"), **more}


def token(claims: Any, alg: str = "RS256", key: Any = RSA, **header: Any) -> str:
    head = b64(json.dumps({"alg": alg, "typ": "JWT", **header}).encode())
    text = f"{head}.{b64(claims if isinstance(claims, bytes) else json.dumps(claims).encode())}"
    return f"{text}.{b64(made(text.encode(), alg, key))}"


def made(text: bytes, alg: str, key: Any) -> bytes:
    if alg == "none":
        return b""
    if alg.startswith("HS"):
        return hmac.digest(key if isinstance(key, bytes) else SECRET.encode(), text, "sha" + alg[2:])
    if alg == "ES256":
        r, s = decode_dss_signature(key.sign(text, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
    if alg == "EdDSA":
        return bytes(key.sign(text))
    return bytes(key.sign(text, padding.PKCS1v15(), hashes.SHA256()))


def source(jwt: Any, *secrets: str, **options: Any) -> Source:
    options = {"algorithm": "jwt", "signature": "@authorization", "prefix": "Bearer ", "jwt": jwt, **options}
    settings = SourceSettings(
        "it", "custom", [Secret(text) for text in secrets], accept_unsigned_body=True, options=options
    )
    return make_source(settings)


def verify(made: Source, given: str, body: bytes = BODY, now: datetime = NOW) -> str:
    return made.verify(InboundRequest(Headers({"authorization": f"Bearer {given}"}), body), now).label


def refused(made: Source, given: str, body: bytes = BODY, now: datetime = NOW) -> str:
    with pytest.raises(SignatureError) as caught:
        verify(made, given, body, now)
    assert SECRET not in caught.value.reason
    return caught.value.reason


DEMANDS = {
    "algorithms": "RS256",
    "issuer": CLAIMS["iss"],
    "audience": ["other", "hooks"],
    "claims": {"email": CLAIMS["email"]},
}


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What is fetched: {address: document, or an error}; "made" counts."""
    served: dict[str, Any] = {JWKS: {"keys": [jwk(RSA, "k1"), jwk(OTHER, "k2", alg="RS256")]}, "made": 0}

    def fetch(address: str) -> bytes:
        served["made"] += 1
        found = served[address]
        if isinstance(found, Exception):
            raise found
        return json.dumps(found).encode()

    monkeypatch.setattr(fetched, "fetch", fetch)
    return served


# -- right ones --------------------------------------------------------------------------------------------


@each(
    ("alg", "key", "secret"),
    [
        ("HS256", None, SECRET),
        ("HS512", None, SECRET),
        ("RS256", RSA, pem(RSA)),
        ("RS256", RSA, json.dumps(jwk(RSA, "k1"))),
        ("ES256", CURVE, pem(CURVE)),
        ("EdDSA", EDWARDS, pem(EDWARDS)),
    ],
)
def test_a_token_that_a_key_of_ours_made_passes(alg: str, key: Any, secret: str) -> None:
    made = source({**DEMANDS, "algorithms": alg}, secret)
    assert verify(made, token(CLAIMS, alg, key)) == "1"
    assert "none of 1 keys" in refused(made, token(CLAIMS, alg, key)[:-6] + "AAAAAA")


def test_each_demand_is_held(keys: Any) -> None:
    made = source({**DEMANDS, "jwks": JWKS})
    assert verify(made, token(CLAIMS, kid="k1")) == "jwks"
    assert verify(made, token({**CLAIMS, "aud": ["x", "hooks"]}, kid="k1")) == "jwks"
    for changes, says in (
        ({"iss": "https://other.example.org"}, "issuer"),
        ({"iss": None}, "issuer"),
        ({"aud": "elsewhere"}, "audience"),
        ({"aud": None}, "audience"),
        ({"email": "else@example.org"}, "claim 'email'"),
        ({"exp": None}, "has no exp"),
        ({"exp": "tomorrow"}, "exp is no time"),
        ({"exp": True}, "exp is no time"),
        ({"exp": AT - 61}, "ended 61 s ago"),
        ({"nbf": AT + 61}, "begins in the future"),
        ({"iat": AT + 61}, "begins in the future"),
    ):
        assert says in refused(made, token({**CLAIMS, **changes}, kid="k1")), changes
    assert verify(made, token({**CLAIMS, "exp": AT - 60}, kid="k1")) == "jwks"
    assert verify(made, token({**CLAIMS, "nbf": AT + 60}, kid="k1")) == "jwks"


def test_true_is_not_one_and_a_doubled_claim_is_none(keys: Any) -> None:
    made = source({**DEMANDS, "claims": {"email_verified": True}, "jwks": JWKS})
    assert "claim 'email_verified'" in refused(made, token({**CLAIMS, "email_verified": 1}, kid="k1"))
    twice = json.dumps(CLAIMS)[:-1] + ',"email_verified":true,"aud":"hooks"}'
    assert "stands twice" in refused(made, token(twice.encode(), kid="k1"))
    for payload in (b"[]", b"{", b"\xff", b""):
        assert "payload" in refused(made, token(payload, kid="k1"))


def test_the_hash_of_the_body_ties_a_token_to_it() -> None:
    rule = {"algorithms": "HS256", "time": "iat", "body_hash": {"claim": "request_body_sha256"}}
    made = source(rule, SECRET)
    assert made.signs_whole_body
    claims = {"iat": AT, "request_body_sha256": hashlib.sha256(BODY).hexdigest()}
    assert verify(made, token(claims, "HS256")) == "1"
    assert "not the hash" in refused(made, token(claims, "HS256"), BODY + b" ")
    assert "not the hash" in refused(made, token({"iat": AT}, "HS256"))
    assert "has no iat" in refused(made, token({**claims, "iat": None}, "HS256"))
    assert "300 s" in refused(made, token(claims, "HS256"), now=NOW + timedelta(seconds=301))
    assert verify(made, token(claims, "HS256"), now=NOW + timedelta(seconds=300)) == "1"
    other = source(
        {**rule, "time": "none", "body_hash": {"claim": "h", "encoding": "base64", "digest": "sha512"}}, SECRET
    )
    whole = base64.b64encode(hashlib.sha512(BODY).digest()).decode()
    assert verify(other, token({"h": whole}, "HS256"), now=NOW + timedelta(days=9)) == "1"


# -- attacks -----------------------------------------------------------------------------------------------


def test_a_public_key_is_no_shared_secret(keys: Any) -> None:
    """The classic confusion: HS256 with the text of the public key, which everybody has."""
    for made, text in ((source(DEMANDS, pem(RSA)), pem(RSA)), (source({**DEMANDS, "jwks": JWKS}), pem(RSA))):
        forged = token(CLAIMS, "HS256", text.encode(), kid="k1")
        assert "algorithm is none of RS256" in refused(made, forged)
    assert "keys" in refused(
        source({**DEMANDS, "algorithms": "HS256"}, SECRET), token(CLAIMS, "HS256", pem(RSA).encode())
    )
    with pytest.raises(ConfigurationError, match="mixes shared and public keys"):
        source({**DEMANDS, "algorithms": ["HS256", "RS256"]}, SECRET)


@each("alg", ["none", "None", "NONE", "", "RS512", "PS256", "HS512", None, 5, ["RS256"], {"a": 1}])
def test_no_other_algorithm_is_taken(keys: Any, alg: Any) -> None:
    made = source({**DEMANDS, "jwks": JWKS})
    head = b64(json.dumps({"alg": alg, "kid": "k1"}).encode())
    body = b64(json.dumps(CLAIMS).encode())
    right = token(CLAIMS, kid="k1").rpartition(".")[2]
    for signature in ("", right):
        refused(made, f"{head}.{body}.{signature}")


@functools.cache
def strangers_key() -> Any:
    """One that no source knows."""
    return rsa.generate_private_key(65537, 2048)


@each(
    "kid",
    ["../../dev/null", "k1' or '1'='1", "https://evil.example.org/keys", "k1\0", "", "K1", "x" * 4000, 1, None, ["k1"]],
)
def test_a_kid_is_looked_up_and_nothing_else(keys: Any, kid: Any) -> None:
    made = source({**DEMANDS, "jwks": JWKS})
    forged = token(CLAIMS, key=strangers_key(), kid=kid)
    refused(made, forged)  # `served` has no other address than the set's own


def test_headers_that_bring_a_key_or_an_address_are_not_heeded(keys: Any) -> None:
    mine = strangers_key()
    made = source({**DEMANDS, "jwks": JWKS})
    for header in ({"jwk": jwk(mine, "k1")}, {"jku": "https://evil.example.org"}, {"x5u": "https://evil.example.org"}):
        refused(made, token(CLAIMS, key=mine, kid="k1", **header))
    refused(made, token(CLAIMS, kid="k1", crit=["exp"], exp=1))
    refused(made, token(CLAIMS, kid="k1", b64=False, crit=["b64"]))


def test_the_key_of_another_kid_or_another_source_does_not_do(keys: Any) -> None:
    made = source({**DEMANDS, "jwks": JWKS})
    assert verify(made, token(CLAIMS, key=OTHER, kid="k2")) == "jwks"
    refused(made, token(CLAIMS, key=OTHER, kid="k1"))
    refused(source(DEMANDS, pem(RSA)), token(CLAIMS, key=OTHER))


def test_a_token_without_kid_may_be_of_any_key_of_the_set(keys: Any) -> None:
    assert verify(source({**DEMANDS, "jwks": JWKS}), token(CLAIMS, key=OTHER)) == "jwks"


def test_keys_of_a_set_that_are_for_something_else_are_left_out(keys: Any) -> None:
    small = rsa.generate_private_key(65537, 1024)
    bad = [
        {**jwk(RSA, "enc"), "use": "enc"},
        {**jwk(RSA, "alg"), "alg": "PS256"},
        {"kty": "oct", "kid": "oct", "k": b64(SECRET.encode())},
        {**jwk(RSA, "n"), "n": "!"},
        {**jwk(small, "small"), "n": b64(small.public_key().public_numbers().n.to_bytes(128, "big"))},
        "text",
    ]
    keys[JWKS] = {"keys": [*bad, jwk(OTHER, "k2")]}
    made = source({**DEMANDS, "jwks": JWKS})
    for kid in ("enc", "alg", "n"):
        refused(made, token(CLAIMS, kid=kid))
    refused(made, token(CLAIMS, key=small, kid="small"))
    refused(made, token(CLAIMS, "HS256", kid="oct"))
    assert verify(made, token(CLAIMS, key=OTHER, kid="k2")) == "jwks"


@settings(max_examples=examples(200))
@given(text=st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: f"{b64(raw)}.{b64(raw)}.{b64(raw)}"))
def test_any_text_is_refused(text: str) -> None:
    made = source({**DEMANDS, "algorithms": "HS256"}, SECRET)
    request = InboundRequest(Headers({"authorization": b"Bearer " + text.encode("utf-8", "surrogatepass")}), BODY)
    with pytest.raises(SignatureError):
        made.verify(request, NOW)


# -- a set that is away ------------------------------------------------------------------------------------


def test_a_set_that_cannot_be_fetched_is_503_and_one_that_was_stays(keys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    right, keys[JWKS] = keys[JWKS], TimeoutError("it took longer")
    made = source({**DEMANDS, "jwks": JWKS})
    with pytest.raises(KeysUnavailable, match="cannot be fetched"):
        verify(made, token(CLAIMS, kid="k1"))
    keys[JWKS] = right
    other = source({**DEMANDS, "jwks": JWKS})
    assert verify(other, token(CLAIMS, kid="k1")) == "jwks"
    keys[JWKS] = OSError("away")
    assert verify(other, token(CLAIMS, kid="k1")) == "jwks"
    before = keys["made"]
    for _ in range(10):
        refused(other, token(CLAIMS, kid="unknown"))
    assert keys["made"] == before  # once a minute


@each("document", [[], {}, {"keys": []}, {"keys": 5}, {"keys": [5]}, "text"])
def test_a_document_without_keys_is_503(keys: Any, document: Any) -> None:
    keys[JWKS] = document
    with pytest.raises(KeysUnavailable):
        verify(source({**DEMANDS, "jwks": JWKS}), token(CLAIMS, kid="k1"))


# -- what cannot be configured -----------------------------------------------------------------------------


@each(
    ("jwt", "says"),
    [
        ({}, "never 'none'"),
        ({"algorithms": "none"}, "never 'none'"),
        ({"algorithms": "HS256", "jwks": JWKS}, "is for public keys"),
        ({"algorithms": "RS256", "jwks": JWKS}, "for any audience"),
        ({"algorithms": "RS256", "audience": "x", "jwks": "http://keys.example.org"}, "https://"),
        ({"algorithms": "RS256", "audience": "x", "jwks": "https://user:pw@keys.example.org"}, "neither a user"),
        ({"algorithms": "RS256", "audience": "x", "jwks": "file:///etc/passwd"}, "https://"),
        ({"algorithms": "HS256", "time": "none"}, "for ever"),
        ({"algorithms": "HS256", "time": "later"}, "jwt.time is 'later'"),
        ({"algorithms": "HS256", "body_hash": {"digest": "md5"}}, "jwt.body_hash must be"),
        ({"algorithms": "HS256", "audience": 5}, "jwt.audience must be text"),
        ({"algorithms": "HS256", "isuer": "x"}, "unknown option 'isuer'"),
        ({"algorithms": "HS256", "claims": 5}, "jwt.claims must be a table"),
        ("RS256", "jwt must be a table"),
    ],
)
def test_a_rule_that_would_take_too_much_does_not_start(jwt: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        source(jwt, SECRET)


@each(
    ("algorithms", "secret"),
    [
        ("RS256", pem(CURVE)),
        ("ES256", pem(RSA)),
        ("RS256", "-----BEGIN PUBLIC KEY-----\nxx"),
        ("RS256", "{"),
        ("HS256", "x"),
    ],
)
def test_a_key_of_another_kind_does_not_start(algorithms: str, secret: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        source({**DEMANDS, "algorithms": algorithms}, secret)
    assert "BEGIN" not in str(caught.value) or "copy" in str(caught.value)
