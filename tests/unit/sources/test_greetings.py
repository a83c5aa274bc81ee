"""Described handshakes: what cannot be configured, and what no stranger can make us say."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import each, examples
from webhooks.errors import ChallengeFailed, ConfigurationError
from webhooks.model import Headers, InboundRequest
from webhooks.sources import Secret, Source, SourceSettings, make_source


def source(**options: Any) -> Source:
    options = {"signature": "@x-sig", **options}
    return make_source(SourceSettings("it", "custom", [Secret("tk-4f9d0c7be2a1483f0c7be2")], options=options))


GET = {"method": "GET", "challenge": "query:c"}


@each(
    ("options", "says"),
    [
        ({"handshake": "now"}, "handshake must be a table"),
        ({"handshake": {"methd": "GET"}}, "unknown option 'methd'"),
        ({"handshake": {"method": "FETCH"}}, "must be one of GET"),
        ({"handshake": {"method": "GET"}}, "challenge does not say where"),
        ({"handshake": {**GET, "challenge": "query:"}}, "a parameter's name must follow"),
        ({"handshake": {**GET, "status": 301}}, "must be one of 200"),
        ({"handshake": {**GET, "status": True}}, "must be a number"),
        ({"handshake": {**GET, "headers": {"a b": "x"}}}, "no header with a plain value"),
        ({"handshake": {**GET, "headers": {"a": "x\r\ny: z"}}}, "no header with a plain value"),
        ({"handshake": {**GET, "characters": "all"}}, "must be one of plain, text"),
        ({"handshake": {**GET, "characters": "text", "type": "text/html"}}, "for answers of type text/plain"),
        ({"handshake": {**GET, "characters": "text", "headers": {"a": "{challenge}"}}}, "without headers"),
        ({"handshake": {**GET, "signed": True}}, "which has no body"),
        ({"handshake": {**GET, "answer": "{hmac}"}, "body": "raw", "type": "x"}, "could then be a request's signature"),
        ({"handshake": {**GET, "answer": "{hmac}", "characters": "text"}}, "could then be a request's signature"),
        ({"handshake": {**GET, "answer": "{secret}"}}, "for a first request that brings one"),
        ({"handshake": {**GET, "secret": "@x-secret"}}, "is brought by a POST"),
        ({"handshake": {"when": {"@": "1"}, "answer": ""}}, "a header's name in lower case must follow"),
        ({"handshake": {"when": {"a": 1}}}, "table of texts"),
        ({"pings": [".*"]}, "a shape that any body has"),
        ({"pings": ["("]}, "no regular expression"),
        ({"pings": [r"\{.*\}"]}, "a shape that any body has"),
        ({"pings": 5}, "pings must be a list"),
        ({"methods": ["DELETE"]}, "must be a list of POST"),
        ({"methods": []}, "must be a list of POST"),
        ({"methods": ["GET"]}, "whose event is the query"),
        ({"gzip": "yes"}, "gzip must be true or false"),
        ({"success": {"status": 404}}, "success.status must be from 200 to 299"),
        ({"success": {"status": 204, "body": "x"}}, "has no body"),
        ({"success": {"headers": {"Content-Length": "5"}}}, "without those that frame"),
        ({"success": {"headers": {"A": "x\r\ny"}}}, "plain values"),
        ({"success": {"stats": 200}}, "success must be a table"),
        ({"success_for": {"a": 5}}, "success must be a table"),
    ],
)
def test_what_would_tell_too_much_does_not_start(options: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        source(**options)


def test_a_mac_needs_a_key_that_makes_one() -> None:
    with pytest.raises(ConfigurationError, match="which only an hmac-… algorithm makes"):
        make_source(
            SourceSettings(
                "it",
                "custom",
                [Secret("tk-4f9d0c7be2a1483f0c7be2")],
                accept_unsigned_body=True,
                options={"signature": "@t", "algorithm": "token", "handshake": {**GET, "answer": "{hmac}"}},
            )
        )


MADE = source(
    handshake=[
        {**GET, "answer": '{"t":"{hmac}"}', "type": "application/json", "headers": {"X-C": "{challenge}"}},
        {"challenge": "query:t", "signed": False, "characters": "text"},
        {
            "challenge": "challenge",
            "signed": False,
            "answer": '{"challenge":"{challenge}"}',
            "type": "application/json",
        },
    ],
    pings=["id=[0-9]+"],
)


@settings(max_examples=examples(400))
@given(text=st.text(max_size=80), method=st.sampled_from(["GET", "POST"]))
def test_nothing_is_echoed_that_could_be_more_than_text(text: str, method: str) -> None:
    from urllib.parse import quote

    query = ("c=" if method == "GET" else "t=") + quote(text, errors="replace")
    request = InboundRequest(Headers({}), b"", method, query.encode())
    try:
        answer = MADE.challenge(request, None) if method == "GET" else MADE.unsigned(request)  # type: ignore[arg-type]
    except ChallengeFailed:
        return
    if answer is None:
        return
    assert not set(answer.body.decode()) & set("<>&\\\r\n\0") or text == ""
    assert all(value.isprintable() and "\r" not in value for _, value in answer.headers)
    assert answer.content_type == "application/json" or '"' not in answer.body.decode()


@settings(max_examples=examples(300))
@given(body=st.binary(max_size=60) | st.builds(lambda text: b'{"challenge":"%s"}' % text.encode(), st.text(max_size=9)))
def test_any_unsigned_body_is_answered_refused_or_none(body: bytes) -> None:
    try:
        answer = MADE.unsigned(InboundRequest(Headers({}), body))
    except ChallengeFailed:
        return
    assert answer is None or re.fullmatch(rb'|\{"challenge":"[0-9A-Za-z_.~-]{1,256}"\}', answer.body)


BRINGING = {"handshake": {"secret": "@x-secret", "answer": "", "headers": {"X-Secret": "{secret}"}}}


@each(
    ("headers", "method", "body", "brought"),
    [
        ({"x-secret": "0c4f1e8a77d25b93"}, "POST", b"", "0c4f1e8a77d25b93"),
        ({"x-secret": "0c4f1e8a77d25b9"}, "POST", b"", None),  # shorter than any secret may be
        ({"x-secret": "0c4f1e8a77d25b93 "}, "POST", b"", None),
        ({"x-secret": "<script>aaaaaaaaaa"}, "POST", b"", None),
        ({"x-secret": "a" * 257}, "POST", b"", None),
        ({"x-secret": "0c4f1e8a77d25b93"}, "GET", b"", None),
        ({"x-secret": "0c4f1e8a77d25b93"}, "POST", b" " * 4097, None),
        ({}, "POST", b"", None),
    ],
)
def test_a_secret_is_brought_by_a_small_post_in_harmless_characters(
    headers: dict[str, str], method: str, body: bytes, brought: str | None
) -> None:
    request = InboundRequest(Headers(headers), body, method)
    assert source(**BRINGING).brought_secret(request) == brought
    assert source().brought_secret(request) is None


def test_what_brought_a_secret_hears_it_in_the_header_alone() -> None:
    answer = source(**BRINGING).welcome("0c4f1e8a77d25b93")
    assert (answer.status, answer.body, dict(answer.headers)) == (200, b"", {"X-Secret": "0c4f1e8a77d25b93"})
