"""RSA with pinned keys and with certificates that requests name: PayPal's and SNS's texts, and what attackers would like."""

from __future__ import annotations

import base64
import json
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from tests.support import each
from tests.unit.sources.keys import OTHER, RSA
from webhooks.errors import ConfigurationError, KeysUnavailable, SignatureError
from webhooks.model import Headers, InboundRequest
from webhooks.sources import Secret, Source, SourceSettings, make_source
from webhooks.sources.keys import fetched

AT = 1773151512
NOW = datetime.fromtimestamp(AT, UTC)
PAYPAL = "https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-1d93a270"
SNS = "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-9c6465fa7f48f5cacd23014631ec1136.pem"
TOPIC = "arn:aws:sns:eu-central-1:123456789012:orders"


def certificate(
    key: Any = RSA, begins: datetime = NOW - timedelta(days=1), ends: datetime = NOW + timedelta(days=9)
) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sender.example.org")])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begins)
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(Encoding.PEM)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """{address: what is there, or an error}; `asked` lists every fetch."""
    found: dict[str, Any] = {PAYPAL: certificate(), SNS: certificate(), "asked": []}

    def fetch(address: str) -> bytes:
        found["asked"].append(address)
        answer = found[address]
        if isinstance(answer, Exception):
            raise answer
        return bytes(answer)

    monkeypatch.setattr(fetched, "fetch", fetch)
    return found


def rsa_b64(text: bytes, key: Any = RSA, digest: Any = None) -> str:
    return base64.b64encode(key.sign(text, padding.PKCS1v15(), digest or hashes.SHA256())).decode()


def paypal(**options: Any) -> Source:
    options = {"webhook_id": "4JH86294D6297924G", **options}
    return make_source(SourceSettings("it", "paypal", [], accept_unsigned_body=True, options=options))


def paypal_request(
    body: bytes = b'{"id":"WH-1","event_type":"PAYMENT.SALE.COMPLETED"}', key: Any = RSA, **headers: str
) -> Any:
    stamp = "2026-03-10T14:05:12Z"
    text = f"69cd13f0-d67a|{stamp}|4JH86294D6297924G|{zlib.crc32(body)}".encode()
    given = {
        "paypal-transmission-id": "69cd13f0-d67a",
        "paypal-transmission-time": stamp,
        "paypal-auth-algo": "SHA256withRSA",
        "paypal-cert-url": PAYPAL,
        "paypal-transmission-sig": rsa_b64(text, key),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return InboundRequest(Headers(given), body)


def refused(source: Source, request: Any, now: datetime = NOW) -> str:
    with pytest.raises(SignatureError) as caught:
        source.verify(request, now)
    return caught.value.reason


def test_paypal_signs_ids_time_and_checksum(served: Any) -> None:
    source = paypal()
    for _ in range(3):
        assert source.verify(paypal_request(), NOW).label == "certificate"
    assert served["asked"] == [PAYPAL]  # once
    (event,) = source.parse(paypal_request())
    assert event.type == "PAYMENT.SALE.COMPLETED"
    assert "none of 1 secrets" in refused(source, paypal_request(key=OTHER))
    assert "none of 1 secrets" in refused(paypal(webhook_id="OTHER"), paypal_request())
    assert "none of 1 secrets" in refused(source, paypal_request(paypal_transmission_id="69cd13f0-d67b"))
    assert "is missing" in refused(source, paypal_request(paypal_transmission_id=""))
    assert "paypal-auth-algo is not" in refused(source, paypal_request(paypal_auth_algo="MD5withRSA"))
    assert "allowed are 345600 s" in refused(source, paypal_request(), NOW + timedelta(days=4, seconds=1))


@each(
    "address",
    [
        "http://api.paypal.com/v1/notifications/certs/CERT-1",
        "https://api.paypal.com.evil.example/v1/notifications/certs/CERT-1",
        "https://evil.example/v1/notifications/certs/CERT-1",
        "https://api.paypal.com@evil.example/v1/notifications/certs/CERT-1",
        "https://api.paypal.com:8443/v1/notifications/certs/CERT-1",
        "https://api.paypal.com/v1/notifications/certs/../../x",
        "https://api.paypal.com/v1/notifications/certs/CERT-1?x=1",
        "https://api.paypal.com/v1/notifications/certs/CERT-1#x",
        "https://api.paypal.com/v1/notifications/certs/CERT-1\n",
        "https://api.paypal.com/v1/notifications/certs/",
        "file:///etc/passwd",
        "//api.paypal.com/v1/notifications/certs/CERT-1",
        "",
    ],
)
def test_no_other_address_is_asked(served: Any, address: str) -> None:
    assert "certificate" in refused(paypal(), paypal_request(paypal_cert_url=address))
    assert served["asked"] == []


def test_a_certificate_counts_within_its_dates(served: Any) -> None:
    source = paypal()
    served[PAYPAL] = certificate(begins=NOW - timedelta(days=9), ends=NOW - timedelta(seconds=1))
    assert "counts from" in refused(source, paypal_request())
    later = paypal()
    served[PAYPAL] = certificate(ends=NOW + timedelta(hours=1))
    assert later.verify(paypal_request(), NOW).label == "certificate"
    assert "counts from" in refused(later, paypal_request(), NOW + timedelta(hours=2))  # also one that is kept


@each(
    "found",
    [
        b"",
        b"<html>",
        b"-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----",
        OSError("away"),
        ValueError("it answered 302"),
    ],
)
def test_what_is_no_certificate_is_503(served: Any, found: Any) -> None:
    served[PAYPAL] = found
    with pytest.raises(KeysUnavailable):
        paypal().verify(paypal_request(), NOW)


def test_a_flood_of_addresses_makes_six_fetches_a_minute_and_harms_no_kept_key(served: Any) -> None:
    source = paypal()
    assert source.verify(paypal_request(), NOW).label == "certificate"
    for number in range(40):
        address = PAYPAL[:-1] + f"x{number}"
        served[address] = OSError("away")
        with pytest.raises(KeysUnavailable):
            source.verify(paypal_request(paypal_cert_url=address), NOW)
    assert len(served["asked"]) == 6
    assert source.verify(paypal_request(), NOW).label == "certificate"


def test_paypal_needs_its_webhook_id() -> None:
    for options in ({}, {"webhook_id": ""}, {"webhook_id": "{body}"}, {"webhook_id": 5}):
        with pytest.raises(ConfigurationError, match="needs webhook_id"):
            make_source(SourceSettings("it", "paypal", [], accept_unsigned_body=True, options=options))


# -- SNS ---------------------------------------------------------------------------------------------------


def sns(topic: Any = TOPIC) -> Source:
    return make_source(SourceSettings("it", "sns", [], accept_unsigned_body=True, options={"topic": topic}))


def sns_message(
    version: str = "2", key: Any = RSA, digest: Any = None, drop: tuple[str, ...] = (), **changes: Any
) -> Any:
    message = {
        "Type": "Notification",
        "MessageId": "m-1",
        "TopicArn": TOPIC,
        "Subject": "hello",
        "Message": '{"a":"b"}\nline two',
        "Timestamp": "2026-03-10T14:05:12.000Z",
        "SignatureVersion": version,
        "SigningCertURL": SNS,
        **changes,
    }
    for name in drop:
        del message[name]
    names = (
        ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
        if message["Type"] == "Notification"
        else ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
    )
    text = "".join(f"{name}\n{message[name]}\n" for name in names if name in message)
    digest = digest or (hashes.SHA256() if version == "2" else hashes.SHA1())
    message["Signature"] = rsa_b64(text.encode(), key, digest)
    return InboundRequest(Headers({"content-type": "text/plain; charset=UTF-8"}), json.dumps(message).encode())


def test_sns_signs_named_lines_with_either_digest(served: Any) -> None:
    source = sns()
    confirmation: Any = {
        "Type": "SubscriptionConfirmation",
        "Token": "t",
        "SubscribeURL": "https://sns.eu-central-1.amazonaws.com/?x",
    }
    for request, kind in (
        (sns_message(), "sns.Notification"),
        (sns_message("1"), "sns.Notification"),
        (sns_message(drop=("Subject",)), "sns.Notification"),
        (sns_message(**confirmation), "sns.SubscriptionConfirmation"),
    ):
        assert source.verify(request, NOW).label == "certificate"
        assert source.parse(request)[0].type == kind
    assert "none of 1 secrets" in refused(source, sns_message(key=OTHER))
    assert "none of 1 secrets" in refused(source, sns_message("2", digest=hashes.SHA1()))
    assert "is none of 1, 2" in refused(source, sns_message("3"))
    changed = sns_message().body.replace(b"line two", b"line 2")
    assert "none of 1 secrets" in refused(source, InboundRequest(Headers({}), changed))


def test_sns_messages_of_another_topic_are_refused(served: Any) -> None:
    """Any customer can have a topic post to any address, and the signature is Amazon's."""
    other = TOPIC.replace("123456789012", "999999999999")
    assert "TopicArn is none that is configured" in refused(sns(), sns_message(TopicArn=other))
    assert sns([TOPIC, other]).verify(sns_message(TopicArn=other), NOW).label == "certificate"


@each(
    "address",
    [
        "https://sns.eu-central-1.amazonaws.com.evil.example/SimpleNotificationService-9c6465fa7f48f5ca.pem",
        "https://evil.s3.amazonaws.com/SimpleNotificationService-9c6465fa7f48f5ca.pem",
        "https://sns.eu-central-1.amazonaws.com/evil.pem",
        "http://sns.eu-central-1.amazonaws.com/SimpleNotificationService-9c6465fa7f48f5ca.pem",
        None,
        7,
    ],
)
def test_sns_certificates_come_from_sns(served: Any, address: Any) -> None:
    refused(sns(), sns_message(SigningCertURL=address))
    assert served["asked"] == []


# -- pinned keys -------------------------------------------------------------------------------------------


def pinned(secret: str, **options: Any) -> Source:
    options = {"algorithm": "rsa-sha256", "signature": "@x-signature-sha256", "encoding": "base64", **options}
    return make_source(SourceSettings("it", "custom", [Secret(secret)], options=options))


def spki(key: Any = RSA, encoding: Encoding = Encoding.PEM) -> bytes:
    raw: bytes = key.public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
    return raw


@each("text", [spki().decode(), base64.b64encode(spki(encoding=Encoding.DER)).decode(), certificate().decode()])
def test_a_pinned_key_may_be_pem_der_or_a_certificate(text: str) -> None:
    source = pinned(text)
    request = InboundRequest(Headers({"x-signature-sha256": rsa_b64(b"{}")}), b"{}")
    assert source.verify(request, NOW).label == "1"
    assert "none of 1 secrets" in refused(source, InboundRequest(request.headers, b"{ }"))
    assert "none of 1 secrets" in refused(pinned(spki(OTHER).decode()), request)


def test_pss_and_pkcs1_are_two_proofs() -> None:
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    given = base64.b64encode(RSA.sign(b"{}", pss, hashes.SHA256())).decode()
    request = InboundRequest(Headers({"x-signature-sha256": given}), b"{}")
    assert pinned(spki().decode(), algorithm="rsa-pss-sha256").verify(request, NOW).label == "1"
    refused(pinned(spki().decode()), request)
    refused(
        pinned(spki().decode(), algorithm="rsa-pss-sha256"),
        InboundRequest(Headers({"x-signature-sha256": rsa_b64(b"{}")}), b"{}"),
    )


def test_a_pinned_certificate_that_ended_does_not_verify() -> None:
    source = pinned(certificate(begins=NOW - timedelta(days=2), ends=NOW - timedelta(days=1)).decode())
    assert "counts from" in refused(source, InboundRequest(Headers({"x-signature-sha256": rsa_b64(b"{}")}), b"{}"))


def test_short_and_other_keys_do_not_start() -> None:
    small = rsa.generate_private_key(65537, 1024)
    for text, says in (
        (spki(small).decode(), "1024 bits"),
        ("AAAA", "copy"),
        ("-----BEGIN X-----", "copy"),
        ("!", "PEM"),
    ):
        with pytest.raises(ConfigurationError, match=says):
            pinned(text)
