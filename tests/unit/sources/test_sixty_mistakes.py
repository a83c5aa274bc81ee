"""Sixty ways in which people get a sender wrong: each is named by `explain` in one sentence that says what to change.

A sender signs in its way; a source is configured otherwise, or something on the way changed what was signed. Signatures are made
here by the standard library.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest

from tests.support import each
from tests.unit.sources.cases import CASES, NOW
from webhooks.errors import ConfigurationError
from webhooks.model import Headers, InboundRequest
from webhooks.sources import Secret, Source, SourceSettings, make_source

KEY = "tk-4f9d0c7be2a1483f0c7be2"
AT = 1773151512
URL = "https://in.example.org/webhooks/it"
BODY = b'{"b": 1.0, "a": "caf\\u00e9", "type": "x"}'


def source(url: str = URL, secret: str = KEY, **options: Any) -> Source:
    options = {"signature": "@x-sig", **options}
    settings = SourceSettings(
        "it", "custom", [Secret(secret)], public_url=url, options=options, accept_unsigned_body=True
    )
    return make_source(settings)


def mac(text: bytes, digest: str = "sha256", key: bytes = KEY.encode()) -> bytes:
    return hmac.new(key, text, digest).digest()


def said(made: Source, signature: str | bytes, body: bytes = BODY, query: str = "", **headers: str) -> str:
    given = {"x-sig": signature, **{name.replace("_", "-"): value for name, value in headers.items()}}
    text = made.diagnose(InboundRequest(Headers(given), body, query=query.encode()), NOW)
    assert KEY not in text
    assert mac(body).hex() not in text
    return text


def signed_body(text: bytes, came: bytes = BODY, **options: Any) -> str:
    """The sender signed `text`; `came` came."""
    return said(source(**options), mac(text).hex(), came)


def timed(text: str, template: str = "{timestamp}.{body}", header: str = str(AT)) -> str:
    made = source(signed=template, timestamp="@x-at")
    return said(made, mac(text.replace("T", str(AT)).encode().replace(b"B", BODY)).hex(), x_at=header)


def address(theirs: str, ours: str = URL, query: str = "") -> str:
    return said(source(ours, signed="{url}{body}"), mac(theirs.encode() + BODY).hex(), query=query)


HEX = mac(BODY).hex()
B64 = base64.b64encode(mac(BODY)).decode()
VALUE = json.loads(BODY)
FORM = b"payload=%7B%22a%22%3A1%7D"
RAW_KEY = bytes.fromhex("4f9d0c7be2a1483f0c7be24f9d0c7be2")


def keyed(kind: str, used: bytes) -> str:
    made = source(secret=RAW_KEY.hex(), secret_encoding=kind)
    return said(made, mac(BODY, key=used).hex())


MISTAKES: list[tuple[Any, str]] = [
    # -- how the signature is written
    (lambda: said(source(), f"sha256={HEX}"), "begins with 'sha256=', which prefix does not name"),
    (lambda: said(source(), f"SHA256={HEX}"), "begins with 'SHA256=', which prefix does not name"),
    (lambda: said(source(), f"v1={HEX}"), "begins with 'v1='"),
    (lambda: said(source(), f"v0={HEX}"), "begins with 'v0='"),
    (lambda: said(source(), f"HMAC {HEX}"), "begins with 'HMAC '"),
    (lambda: said(source(), f"Bearer {HEX}"), "begins with 'Bearer '"),
    (lambda: said(source(encoding="base64"), f"sha256={B64}"), "begins with 'sha256='"),
    (lambda: said(source(), f"t={AT},v1={HEX}"), "name split, prefix, and timestamp = 'part:t='"),
    (lambda: said(source(), f"t={AT};s={HEX}"), "name split, prefix, and timestamp = 'part:t='"),
    (lambda: said(source(), f"{HEX}, {HEX}"), "a proxy joined the header's values by commas"),
    (lambda: said(source(), f'"{HEX}"'), "has quotes around it"),
    (lambda: said(source(), HEX.upper()), "encoding = 'hex-upper'"),
    (lambda: said(source(encoding="hex-upper"), HEX), "encoding = 'hex'"),
    (lambda: said(source(), B64), "written as base64, not hex"),
    (lambda: said(source(encoding="base64"), HEX), "written as hex, not base64"),
    (lambda: said(source(encoding="base64"), B64.replace("+", "-").replace("/", "_")), "base64url, not base64")
    if set(B64) & set("+/")
    else (lambda: said(source(encoding="base64"), HEX), "written as hex, not base64"),
    (lambda: said(source(), base64.b64encode(HEX.encode())), "the base64 of the hex digest"),
    (lambda: said(source(), f" {HEX}"), "has blanks around it"),
    (lambda: said(source(), ""), "have it sent once"),
    (
        lambda: source().diagnose(InboundRequest(Headers([("x-sig", HEX), ("x-sig", HEX)]), BODY), NOW),
        "have it sent once",
    ),
    (lambda: source().diagnose(InboundRequest(Headers({}), BODY), NOW), "the header x-sig is missing"),
    # -- what made it
    (lambda: said(source(), mac(BODY, "sha1").hex()), "made with sha1, not sha256"),
    (lambda: said(source(), mac(BODY, "sha512").hex()), "made with sha512, not sha256"),
    (lambda: said(source(), hashlib.sha256(KEY.encode() + BODY).hexdigest()), "signed = '{secret}{body}'"),
    (lambda: said(source(), hashlib.sha256(BODY + KEY.encode()).hexdigest()), "signed = '{body}{secret}'"),
    (lambda: said(source(), hashlib.md5(KEY.encode() + BODY).hexdigest()), "algorithm = 'md5'"),
    (lambda: said(source(), hashlib.sha1(BODY + KEY.encode()).hexdigest()), "algorithm = 'sha1'"),
    (
        lambda: said(source(), base64.b64encode(hashlib.sha256(KEY.encode() + BODY).digest())),
        "no HMAC but a plain digest",
    ),
    (lambda: keyed("hex", RAW_KEY.hex().encode()), "used the key as text, not as hex"),
    (lambda: keyed("text", RAW_KEY), "used the key as hex, not as text"),
    (lambda: keyed("text", base64.b64decode(RAW_KEY.hex())), "used the key as base64, not as text"),
    (lambda: said(source(), mac(BODY, key=b"another key").hex()), "tried: '1'"),
    # -- what was signed
    (lambda: timed("B"), "the sender signed the body alone"),
    (lambda: timed("TB"), "joined timestamp and body with nothing between"),
    (lambda: timed("T.B", "{timestamp}{body}"), "joined timestamp and body with a dot"),
    (lambda: timed("T:B"), "joined timestamp and body with a colon"),
    (lambda: timed("T\nB"), "joined timestamp and body with a line break"),
    (lambda: timed("T B"), "joined timestamp and body with a space"),
    (lambda: timed("T.B", header=f"{AT}000"), "not exactly 10 digits"),
    (lambda: timed("T.B", header="2026-03-10T14:05:12Z"), "not exactly 10 digits"),
    (lambda: timed(f"{AT - 3600}.B", header=str(AT - 3600)), "3600 s old"),
    (lambda: timed(f"{AT + 3600}.B", header=str(AT + 3600)), "ahead of our clock"),
    (lambda: address(""), "the sender signed the body alone"),
    (lambda: address(URL + "/"), "has a slash at its end"),
    (lambda: address(URL, URL + "/"), "has no slash at its end"),
    (lambda: address(URL.replace("https", "http")), "begins with http://"),
    (lambda: address(URL, URL.replace("https", "http")), "begins with https://"),
    (lambda: address(URL.replace("in.", "www.in.")), "has www. before its host"),
    (lambda: address(URL, URL.replace("in.", "www.in.")), "has no www."),
    (lambda: address(URL.replace("org", "org:443")), "has its port, 443"),
    (lambda: address(URL, URL.replace("org", "org:8443")), "has no port"),
    (lambda: address(URL, query="a=1"), "has no query"),
    (lambda: address(URL, URL.replace("in.example", "In.Example")), "has its host in lower case"),
    # -- what became of the body
    (lambda: signed_body(json.dumps(VALUE, separators=(",", ":")).encode()), "re-encoded"),
    (lambda: signed_body(json.dumps(VALUE, indent=2, ensure_ascii=False).encode()), "re-encoded"),
    (
        lambda: signed_body(json.dumps(VALUE, sort_keys=True, ensure_ascii=False).encode()),
        "the keys of the body were sorted",
    ),
    (lambda: signed_body('{"b":1,"a":"café","type":"x"}'.encode()), "numbers such as 1.0 became 1"),
    (lambda: signed_body(b'{"b":1.0}', b'{"b":1}'), "numbers such as 1 became 1.0"),
    (lambda: signed_body(BODY.replace(b"00e9", b"00E9")), "escapes such as"),
    (lambda: signed_body(BODY + b"\n"), "a line break at the end of the body was lost"),
    (lambda: signed_body(BODY, BODY + b"\n"), "at the end of the body was added"),
    (lambda: signed_body(b'{\r\n"a":1}', b'{\n"a":1}'), "line breaks of the body were changed"),
    (lambda: signed_body(b'{"a":1}', FORM, body="form"), "signed the decoded field 'payload' alone"),
    (lambda: signed_body(b'payload={"a":1}', FORM, body="form"), "signed the form decoded"),
    (lambda: signed_body(quote(BODY).encode(), BODY), "tried: '1'"),
]


#: How a sentence names what to change: an option with its value, or what is to be done at the sender or on the way.
REPAIR = re.compile(
    r"(?:prefix|encoding|algorithm|signed|secret_encoding|split) = '|name split, prefix, and timestamp|set timestamp_format|"
    r"make public_url the address|set both clocks by NTP|forward (?:its|the) bytes as they came|have (?:it|the sender)|"
    r"take them off|sign once|turn signing on|copy the secret of this very endpoint"
)


def test_there_are_sixty_and_each_names_its_repair() -> None:
    said = [mistake() for mistake, _ in MISTAKES]
    assert len(set(said)) >= 50, "some are the same mistake by other software"
    assert len(said) >= 60
    assert [text for text in said if REPAIR.search(text) is None] == []


@each(("mistake", "says"), MISTAKES)
def test_a_mistake_is_named_in_one_sentence(mistake: Any, says: str) -> None:
    text = mistake()
    assert says in text
    assert len(text) < 300
    assert "\n" not in text


@each(
    ("options", "says"),
    [
        ({"signature": "@x_sig"}, "servers drop headers whose name holds '_'"),
        ({"signature": "x sig"}, "it must be '@' and a header, or a path"),
        ({"timestamp": "@x-at"}, "put {timestamp} into signed"),
        ({"signed": "{timestamp}.{body}"}, "timestamp does not say where that stands"),
        ({"algorithm": "hmac"}, "must be one of hmac-sha256"),
        ({"algorithm": "sha256"}, "algorithm = 'hmac-sha256'"),
        ({"dedup": "never"}, "must be one of id, body, both, none"),
    ],
)
def test_a_mistake_that_is_found_at_start_names_its_repair(options: Any, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        source(**options)
    assert says in str(caught.value)


def test_a_post_to_the_address_of_another_source_is_named() -> None:
    github = next(case for case in CASES if case.scheme == "github")
    stripe = next(case for case in CASES if case.scheme == "stripe")
    others = [github.source(), replace(stripe, scheme="stripe").source()]
    text = source().diagnose(github.request(), NOW, others)
    assert "x-sig is missing" in text
