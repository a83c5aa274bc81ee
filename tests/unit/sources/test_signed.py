"""The signed text: what stands in it, and the addresses and queries that are none of the sender's."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import pytest

from tests.support import each
from tests.unit.sources.cases import NOW
from webhooks.errors import ChallengeFailed, SignatureError
from webhooks.model import Headers, InboundRequest
from webhooks.sources import Secret, Source, SourceSettings, make_source
from webhooks.sources.declared.signed import ports

KEY = "tk-4f9d0c7be2a1483f0c7be2"
URL = "https://in.example.org/webhooks/it"


def source(scheme: str = "custom", url: str = URL, **options: Any) -> Source:
    options = options if scheme != "custom" else {"signature": "@x-sig", **options}
    return make_source(SourceSettings("it", scheme, [Secret(KEY)], public_url=url, options=options))


def twilio(text: str, body: bytes = b"CallSid=C1", query: str = "", url: str = URL, method: str = "POST") -> str:
    mac = base64.b64encode(hmac.digest(KEY.encode(), text.encode(), "sha1")).decode()
    request = InboundRequest(Headers({"x-twilio-signature": mac}), body, method, query.encode(), url)
    return source("twilio", url).verify(request, NOW).label


def test_the_configured_query_and_the_hash_of_the_body_are_all_that_may_stand_there() -> None:
    digest = hashlib.sha256(b'{"type":"a"}').hexdigest()
    assert twilio(f"{URL}CallSidC1") == "1"
    assert twilio(f"{URL}?t=1CallSidC1", query="t=1", url=f"{URL}?t=1") == "1"
    assert twilio(f"{URL}?bodySHA256={digest}", b'{"type":"a"}', f"bodySHA256={digest}") == "1"
    assert twilio(f"{URL}?t=1&bodySHA256={digest}", b'{"type":"a"}', f"t=1&bodySHA256={digest}", f"{URL}?t=1") == "1"


@each(
    ("text", "body", "query", "url"),
    [
        (f"{URL}?t=1CallSidC1", b"CallSid=C1", "t=1", URL),  # not configured
        (f"{URL}?t=1CallSidC1", b"", "t=1CallSidC1", f"{URL}?t=1"),  # a field moved into the query
        (f"{URL}?t=1Body&bodySHA256={'0' * 64}", b"{}", f"t=1Body&bodySHA256={'0' * 64}", f"{URL}?t=1"),
        (f"{URL}?bodySHA256={'0' * 64}", b"{}", f"bodySHA256={'0' * 64}", URL),  # of another body
        (f"{URL}?bodySHA256={'0' * 64}&x=1", b"{}", f"bodySHA256={'0' * 64}&x=1", URL),
        (URL, b"{}", "", URL),  # no form
    ],
)
def test_a_query_that_could_hold_fields_is_refused(text: str, body: bytes, query: str, url: str) -> None:
    with pytest.raises(SignatureError):
        twilio(text, body, query, url)


def test_an_address_has_its_forms_and_no_others() -> None:
    assert list(ports(b"https://h.example:8443/p?q")) == [b"https://h.example/p?q", b"https://h.example:443/p?q"]
    assert list(ports(b"http://h.example/p")) == [b"http://h.example/p", b"http://h.example:80/p"]
    assert list(ports(b"ftp://h.example/p")) == []


def verify(made: Source, text: bytes, body: bytes = b"{}", **headers: str) -> str:
    mac = hmac.new(KEY.encode(), text, "sha256").hexdigest()
    given = {"x-sig": mac, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return made.verify(InboundRequest(Headers(given), body, query=b"q=1"), NOW).label


def test_each_name_stands_for_its_part() -> None:
    made = source(signed="{method} {path}?{query} {@x-a} {sha256} {crc32}")
    text = b"POST /webhooks/it?q=1 v %s 2745614147" % hashlib.sha256(b"{}").hexdigest().encode()
    assert verify(made, text, x_a="v") == "1"
    with pytest.raises(SignatureError, match="which is signed, is missing"):
        verify(made, text)
    optional = source(signed="{@x-a?}{body}")
    assert verify(optional, b"{}") == "1"
    assert verify(optional, b"v{}", x_a="v") == "1"


def test_a_digest_holds_the_secret_where_it_stands() -> None:
    made = source(algorithm="sha256", signed="{body}|{secret}")
    right = hashlib.sha256(b"{}|" + KEY.encode()).hexdigest()
    assert made.verify(InboundRequest(Headers({"x-sig": right}), b"{}"), NOW).label == "1"
    for wrong in (hashlib.sha256(b"{}|").hexdigest(), hashlib.sha256(KEY.encode() + b"{}|").hexdigest()):
        with pytest.raises(SignatureError):
            made.verify(InboundRequest(Headers({"x-sig": wrong}), b"{}"), NOW)


def test_a_handshake_compares_our_token_and_refuses_without_one() -> None:
    greeting = {"method": "GET", "challenge": "query:c", "token": "query:t"}
    made = source(handshake=greeting, verify_token="of-ours")
    asked = made.challenge(InboundRequest(Headers({}), b"", "GET", b"c=1&t=of-ours"), NOW)
    assert asked is not None
    assert asked.body == b"1"
    for other, query in ((made, b"c=1&t=of-our"), (made, b"c=1"), (source(handshake=greeting), b"c=1&t=")):
        with pytest.raises(ChallengeFailed):
            other.challenge(InboundRequest(Headers({}), b"", "GET", query), NOW)


def test_a_ping_is_a_whole_body() -> None:
    made = source(pings=["id=[0-9]+"])
    assert made.unsigned(InboundRequest(Headers({}), b"id=12")) is not None
    for body in (b"id=12&x=1", b"xid=12", b"id=", b"", b"id=12\n"):
        assert made.unsigned(InboundRequest(Headers({}), body)) is None


def test_a_signed_form_may_come_by_get_only_where_the_address_has_no_query() -> None:
    """Else what was signed as a form could be moved into the query."""
    assert twilio(f"{URL}?CallSid=C1", b"", "CallSid=C1", URL, "GET") == "1"
    with pytest.raises(SignatureError, match="a GET could be made"):
        twilio(f"{URL}?t=1&CallSid=C1", b"", "t=1&CallSid=C1", f"{URL}?t=1", "GET")


def test_an_address_is_taken_with_its_port_and_without() -> None:
    url = URL.replace(".org/", ".org:8443/")
    assert twilio(f"{url}CallSidC1", url=url) == twilio(f"{URL}CallSidC1", url=url) == "1"
    with pytest.raises(SignatureError):
        twilio(f"{URL.replace('.org/', '.org:81/')}CallSidC1", url=url)


@each(
    ("header", "said"),
    [
        ("{mac},x,{time}", "1"),
        ("{mac},{mac},{time},x", "1"),
        ("{time},x,{mac}", "timestamp"),
        ("{mac},{time}", "none at 2"),
        ("{mac}", "none at 2"),
    ],
)
def test_a_time_stands_at_its_position_and_nowhere_else(header: str, said: str) -> None:
    made = source(split=",", timestamp="part:2", signed="{timestamp}.{body}")
    time = str(int(NOW.timestamp()))
    mac = hmac.new(KEY.encode(), f"{time}.{{}}".encode(), "sha256").hexdigest()
    request = InboundRequest(Headers({"x-sig": header.format(mac=mac, time=time)}), b"{}")
    if said == "1":
        assert made.verify(request, NOW).label == said
    else:
        with pytest.raises(SignatureError, match=said):
            made.verify(request, NOW)


def unsigned(scheme: str, **options: Any) -> Source:
    settings = SourceSettings("it", scheme, [Secret(KEY)], accept_unsigned_body=True, options=options)
    return make_source(settings)


def test_a_token_in_the_address_stands_there_once() -> None:
    made = unsigned("custom", algorithm="token", signature="query:token")

    def said(query: str) -> str:
        return made.verify(InboundRequest(Headers({}), b"{}", query=query.encode()), NOW).label

    assert said(f"a=1&token={KEY}") == said(f"tok%65n={KEY.replace('-', '%2D')}") == "1"
    for query in (
        f"token={KEY}&token={KEY}",
        f"token=x&token={KEY}",
        "token=",
        "",
        f"Token={KEY}",
        f"token={KEY[:-1]}",
        f"x=token={KEY}",
    ):
        with pytest.raises(SignatureError):
            said(query)


def test_a_body_that_carries_its_signature_is_read_up_to_a_bound_and_as_a_form_too() -> None:
    made, time = unsigned("mailgun"), str(int(NOW.timestamp()))
    mac = hmac.new(KEY.encode(), f"{time}abc".encode(), "sha256").hexdigest()

    def said(body: str) -> str:
        return made.verify(InboundRequest(Headers({}), body.encode()), NOW).label

    json = f'{{"signature":{{"timestamp":"{time}","token":"abc","signature":"{mac}"}}%s}}'
    assert said(json % "") == said(f"timestamp={time}&token=abc&signature={mac}") == "1"
    assert said(json % f',"x":"{"y" * 250_000}"') == "1"
    for body in (json % f',"x":"{"y" * 262_144}"', f"timestamp={time}&token=abd&signature={mac}", "a=1", ""):
        with pytest.raises(SignatureError):
            said(body)
