"""A source that could never verify a request does not start; one that is tried with vectors says what it read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import each
from tests.unit.sources.cases import CASES, NOW, Case
from webhooks.errors import ConfigurationError
from webhooks.operations import vectors
from webhooks.sources import Secret, Source, SourceSettings, make_source
from webhooks.sources.declared.selfcheck import why_not_tried
from webhooks.sources.declared.source import DeclaredSource

KEY = "tk-4f9d0c7be2a1483f0c7be2"


def source(**options: Any) -> Source:
    settings = SourceSettings(
        "it", "custom", [Secret(KEY)], options={"signature": "@x-sig", **options}, accept_unsigned_body=True
    )
    return make_source(settings)


@each(
    "options",
    [
        {"prefix": "v1,", "split": ","},
        {"prefix": "sha256=", "split": "="},
        {"encoding": "base64", "split": "="},
        {"split": ".", "timestamp": "part:t=", "prefix": "v.", "signed": "{timestamp}{body}"},
    ],
)
def test_what_contradicts_itself_does_not_start(options: Any) -> None:
    with pytest.raises(ConfigurationError, match="would refuse every request"):
        source(**options)


@each(
    "options",
    [
        {"signature": "sig.value", "signed": "{token}", "items": "events", "unwrap": "inner"},
        {"signature": "sig", "algorithm": "token", "items": "."},
        {"signature": "query:token", "algorithm": "token"},
        {"expect": {"a.b": ["c"]}},
        {"timestamp": "sent.at", "timestamp_format": "iso"},
        {"split": ",", "timestamp": "part:0", "signed": "{timestamp}.{body}"},
        {"split": ",", "timestamp": "part:1", "signed": "{timestamp}.{body}"},
        {"split": ",", "timestamp": "part:5", "signed": "{timestamp}.{body}"},
    ],
)
def test_what_fits_starts(options: Any) -> None:
    source(**options)


@each("case", CASES)
def test_every_scheme_is_tried_or_says_why_not(case: Case) -> None:
    made = case.source()
    if isinstance(made, DeclaredSource):
        assert why_not_tried(made) is None
    if case.scheme != "linear":  # its sample holds the time at which it was made
        assert vectors.try_itself(made, NOW).is_as_said


def test_a_file_of_vectors_says_what_was_read(tmp_path: Path) -> None:
    made = source(id="{id}")
    body = '{"type":"lamp.lit","id":"7"}'
    right = dict(made.sign(body.encode(), NOW))
    path = tmp_path / "vectors.json"
    path.write_text(
        json.dumps(
            {
                "vectors": [
                    {"name": "right", "headers": right, "body": body},
                    {"name": "wrong", "headers": right, "body": body + " ", "valid": False},
                    {"name": "odd", "headers": right, "body": body + " "},
                    {"name": "unread", "headers": dict(made.sign(b"{}", NOW)), "body": "{}"},
                ]
            }
        )
    )
    right_one, wrong, odd, unread = [vectors.try_vector(made, each, NOW) for each in vectors.read_vectors(path)]
    assert (right_one.is_as_said, right_one.label, right_one.events[0].type) == (True, "1", "lamp.lit")
    assert (wrong.is_as_said, odd.is_as_said, unread.is_as_said) == (True, False, False)
    assert "at the end of the body was added" in odd.reason
    assert "type is missing" in unread.reason
    assert vectors.tried_json(right_one)["events"][0]["dedup_key"] == "7"


@each("text", ["", "{}", '{"vectors": []}', '{"vectors": [5]}'])
def test_a_file_of_another_shape_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "vectors.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError):
        vectors.read_vectors(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        vectors.read_vectors(tmp_path / "none.json")


@each("vector", [{"body": 5}, {"headers": 5}, {"now": "x"}, {"secrets": []}])
def test_a_vector_of_another_shape_is_refused(vector: Any) -> None:
    with pytest.raises(ConfigurationError, match="another shape"):
        vectors.try_vector(source(), vector, NOW)


JWKS = "https://payments.example.org/keys"
KEYLESS: list[dict[str, Any]] = [
    {
        "algorithms": name,
        "jwks": JWKS,
        "issuer": "https://payments.example.org",
        "audience": "us",
        "claims": {"email": ["a", "b"], "x.y": True},
    }
    for name in ("RS256", "PS256", "ES256", "ES384", "EdDSA")
]


def token_source(prefix: str = "Bearer ", **rule: Any) -> Source:
    options = {"algorithm": "jwt", "signature": "@authorization", "prefix": prefix, "jwt": rule}
    secrets = [] if "jwks" in rule else [Secret(KEY)]
    return make_source(SourceSettings("it", "custom", secrets, options=options, accept_unsigned_body=True))


@each(
    "rule",
    [
        *KEYLESS,
        {"algorithms": "HS256", "time": "iat"},
        {"algorithms": "HS512", "time": "none", "body_hash": {"claim": "a.b"}},
    ],
)
def test_tokens_are_tried_with_a_key_that_is_made_for_it_and_none_is_fetched(rule: Any) -> None:
    made = token_source(**rule)
    assert isinstance(made, DeclaredSource)
    assert why_not_tried(made) is None


@each("rule", [KEYLESS[0], {"algorithms": "HS256", "time": "iat"}])
def test_a_token_that_split_cuts_does_not_start(rule: Any) -> None:
    options = {"algorithm": "jwt", "signature": "@authorization", "prefix": "Bearer ", "split": ".", "jwt": rule}
    secrets = [] if "jwks" in rule else [Secret(KEY)]
    with pytest.raises(ConfigurationError, match="would refuse every request"):
        make_source(SourceSettings("it", "custom", secrets, options=options, accept_unsigned_body=True))


@pytest.mark.parametrize("algorithm", ["rsa-sha256", "rsa-pss-sha256", "rsa-sha512", "ecdsa-sha256", "ed25519"])
def test_public_keys_are_tried_with_a_pair_that_is_made_for_it(algorithm: str) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    made: Any = {
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
        "ecd": lambda: ec.generate_private_key(ec.SECP256R1()),
        "ed2": ed25519.Ed25519PrivateKey.generate,
    }[algorithm[:3]]()
    public = made.public_key()
    if algorithm == "ed25519":
        text = public.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
    else:
        text = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def start(**options: Any) -> Source:
        encoding = {"secret_encoding": "hex"} if algorithm == "ed25519" else {}
        given = {"algorithm": algorithm, "signature": "@x-sig", "encoding": "base64", **encoding, **options}
        return make_source(SourceSettings("it", "custom", [Secret(text)], options=given))

    source = start()
    assert isinstance(source, DeclaredSource)
    assert why_not_tried(source) is None
    with pytest.raises(ConfigurationError, match="would refuse every request"):
        start(split="=", prefix="v1=")


def test_a_source_that_cannot_be_tried_says_why_in_one_line() -> None:
    sns = make_source(
        SourceSettings("ses", "sns", options={"topic": "arn:aws:sns:eu-central-1:1:mail"}, accept_unsigned_body=True)
    )
    assert isinstance(sns, DeclaredSource)
    assert why_not_tried(sns) == "its signature is over fields that only the sender fills"
    paypal = make_source(SourceSettings("paypal", "paypal", options={"webhook_id": "4JH"}, accept_unsigned_body=True))
    assert isinstance(paypal, DeclaredSource)
    assert why_not_tried(paypal) is None


def test_a_source_whose_sender_alone_can_sign_is_tried_with_a_made_key() -> None:
    tried = vectors.try_itself(token_source(**KEYLESS[2]), NOW)
    assert (tried.is_as_said, tried.name, tried.label) == (True, "signed by a key that is made for it", "a made key")
    assert [event.type for event in tried.events] == ["sample"]
    paypal = make_source(SourceSettings("paypal", "paypal", options={"webhook_id": "4JH"}, accept_unsigned_body=True))
    assert vectors.try_itself(paypal, NOW).is_as_said
    sns = make_source(
        SourceSettings("ses", "sns", options={"topic": "arn:aws:sns:eu-central-1:1:mail"}, accept_unsigned_body=True)
    )
    with pytest.raises(
        ConfigurationError, match="'ses' cannot be tried without a FILE of vectors: its signature is over fields"
    ):
        vectors.try_itself(sns, NOW)
