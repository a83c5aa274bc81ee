"""Handshakes: only for the sender, only harmless text."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest

from tests.support import each
from tests.unit.sources.cases import CASES, NOW, Case
from webhooks.errors import ChallengeFailed, ConfigurationError, SignatureError
from webhooks.model import Headers, InboundRequest
from webhooks.sources import Secret

TOKEN = b"a-token-of-ours"


def case_of(scheme: str) -> Case:
    return next(case for case in CASES if case.scheme == scheme)


def get(query: bytes) -> InboundRequest:
    return InboundRequest(Headers({}), method="GET", query=query)


def post(case: Case, value: Any) -> InboundRequest:
    body = json.dumps(value).encode()
    return InboundRequest(Headers(case.source().sign(body, NOW)), body)


def test_meta_hears_its_challenge_as_plain_text() -> None:
    source = case_of("meta").source()
    assert source.has_get_challenge
    answer = source.challenge(get(b"hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=" + TOKEN), NOW)
    assert answer is not None
    assert (answer.body, answer.content_type) == (b"1158201444", "text/plain; charset=utf-8")


@each(
    "query",
    [
        b"",
        b"hub.mode=subscribe&hub.challenge=1",
        b"hub.mode=subscribe&hub.challenge=1&hub.verify_token=",
        b"hub.mode=subscribe&hub.challenge=1&hub.verify_token=wrong",
        b"hub.mode=subscribe&hub.challenge=1&hub.verify_token=%FF%FE",
        b"hub.mode=unsubscribe&hub.challenge=1&hub.verify_token=" + TOKEN,
        b"hub.challenge=1&hub.verify_token=" + TOKEN,
        b"hub.mode=subscribe&hub.verify_token=" + TOKEN,
        b"hub.mode=subscribe&hub.challenge=&hub.verify_token=" + TOKEN,
        b"hub.mode=subscribe&hub.challenge=%3Cscript%3E&hub.verify_token=" + TOKEN,
        b"hub.mode=subscribe&hub.challenge=a%0D%0Ab&hub.verify_token=" + TOKEN,
        b"hub.mode=subscribe&hub.challenge=%C3%A9&hub.verify_token=" + TOKEN,
        b"hub.mode=subscribe&hub.challenge=" + b"1" * 257 + b"&hub.verify_token=" + TOKEN,
        b"hub.mode=subscribe&hub.challenge=1&hub.verify_token=wrong&hub.verify_token=" + TOKEN,
        b"hub.mode=subscribe&hub.challenge=1&hub.challenge=2&hub.verify_token=" + TOKEN,
        b"\xff\xfe=&&&",
    ],
)
def test_meta_hears_nothing_without_our_token_or_with_odd_text(query: bytes) -> None:
    with pytest.raises(ChallengeFailed):
        case_of("meta").source().challenge(get(query), NOW)


def test_an_unset_token_refuses() -> None:
    source = case_of("meta").source(options={})
    with pytest.raises(ChallengeFailed, match="no verify_token is set"):
        source.challenge(get(b"hub.mode=subscribe&hub.challenge=1&hub.verify_token="), NOW)


def test_a_blank_token_does_not_start() -> None:
    with pytest.raises(ConfigurationError, match="verify_token must be text"):
        case_of("meta").source(options={"verify_token": " "})


def test_several_tokens_may_be_set() -> None:
    source = case_of("meta").source(options={"verify_token": ["old-token", "new-token"]})
    for token in (b"old-token", b"new-token"):
        query = b"hub.mode=subscribe&hub.challenge=7&hub.verify_token=" + token
        answer = source.challenge(get(query), NOW)
        assert answer is not None
        assert answer.body == b"7"


ASKED_BY_GET = ("meta", "dropbox", "okta")


@each("case", [case for case in CASES if case.scheme not in ASKED_BY_GET])
def test_no_other_scheme_answers_get(case: Case) -> None:
    assert not case.source().has_get_challenge
    assert case.source().challenge(get(b"hub.mode=subscribe&hub.challenge=1&hub.verify_token=x"), NOW) is None


def test_dropbox_and_okta_hear_what_they_ask_by_get_and_nothing_else_does() -> None:
    dropbox, okta = case_of("dropbox").source(), case_of("okta").source()
    answer = dropbox.challenge(get(b"challenge=abc-1"), NOW)
    assert answer is not None
    assert answer.body == b"abc-1"
    assert dropbox.challenge(get(b"challenge="), NOW) is None
    with pytest.raises(ChallengeFailed):
        dropbox.challenge(get(b"challenge=%3Cb%3E"), NOW)
    asked = InboundRequest(Headers({"x-okta-verification-challenge": "a-1"}), method="GET")
    answer = okta.challenge(asked, NOW)
    assert answer is not None
    assert (answer.body, answer.content_type) == (b'{"verification":"a-1"}', "application/json")
    assert okta.challenge(get(b"challenge=abc"), NOW) is None


def test_twitch_is_answered_only_where_the_message_is_its_verification() -> None:
    case = case_of("twitch")
    source, body = case.source(), b'{"challenge":"pogchamp-1","subscription":{"type":"channel.follow"}}'
    signed = dict(source.sign(body, NOW))
    for kind, wanted in (("webhook_callback_verification", b"pogchamp-1"), ("notification", None)):
        answer = source.challenge(InboundRequest(Headers({**signed, "twitch-eventsub-message-type": kind}), body), NOW)
        assert (answer.body if answer is not None else None) == wanted


def test_graphs_validation_token_is_text_and_woocommerces_ping_is_no_event() -> None:
    asked = InboundRequest(Headers({}), query=b"validationToken=Validation%3A+Testing+client")
    answer = case_of("microsoft-graph").source().unsigned(asked)
    assert answer is not None
    assert (answer.body, answer.content_type) == (b"Validation: Testing client", "text/plain; charset=utf-8")
    shop = case_of("woocommerce").source()
    assert shop.unsigned(InboundRequest(Headers({}), b"webhook_id=12")) is not None
    for body in (b"webhook_id=", b"webhook_id=12&a=b", b"webhook_id=1234567890123", b" webhook_id=12", b""):
        assert shop.unsigned(InboundRequest(Headers({}), body)) is None


def test_slack_hears_its_challenge() -> None:
    case = case_of("slack")
    request = post(case, {"token": "x", "type": "url_verification", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALW"})
    assert case.source().verify(request, NOW).label == "first"
    answer = case.source().challenge(request, NOW)
    assert answer is not None
    assert (answer.body, answer.content_type) == (b"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALW", "text/plain; charset=utf-8")


@pytest.mark.parametrize("challenge", [None, "", 5, "<b>", "a b", "é", "x" * 257, ["a"]], ids=repr)
def test_slack_hears_no_odd_text(challenge: Any) -> None:
    case = case_of("slack")
    with pytest.raises(ChallengeFailed):
        case.source().challenge(post(case, {"type": "url_verification", "challenge": challenge}), NOW)


def test_zoom_hears_its_token_with_the_mac_of_the_secret_that_signed() -> None:
    case = case_of("zoom")
    request = post(case, {"event": "endpoint.url_validation", "payload": {"plainToken": "qgg8vlvZRS6UYooatFL8Aw"}})
    source = case.source(Secret(case.secrets[1], "old"), Secret(case.secrets[0], "new"))
    assert source.verify(request, NOW).label == "new"
    answer = source.challenge(request, NOW)
    assert answer is not None
    assert answer.content_type == "application/json"
    expected = hmac.new(case.secrets[0].encode(), b"qgg8vlvZRS6UYooatFL8Aw", hashlib.sha256).hexdigest()
    assert json.loads(answer.body) == {"plainToken": "qgg8vlvZRS6UYooatFL8Aw", "encryptedToken": expected}


def test_zoom_gets_no_mac_of_a_text_that_looks_like_a_request() -> None:
    case = case_of("zoom")
    for token in ("v0:1773151512:{}", "", None, "a\nb", "x" * 257):
        with pytest.raises(ChallengeFailed):
            case.source().challenge(
                post(case, {"event": "endpoint.url_validation", "payload": {"plainToken": token}}), NOW
            )


def test_an_unsigned_handshake_of_zoom_gets_no_mac() -> None:
    case = case_of("zoom")
    body = json.dumps({"event": "endpoint.url_validation", "payload": {"plainToken": "abc"}}).encode()
    with pytest.raises(SignatureError):
        case.source().challenge(InboundRequest(Headers({}), body), NOW)


def test_discord_hears_its_ping_in_kind() -> None:
    case = case_of("discord")
    answer = case.source().challenge(post(case, {"id": "1", "type": 1, "token": "x"}), NOW)
    assert answer is not None
    assert (json.loads(answer.body), answer.content_type) == ({"type": 1}, "application/json")
    empty = case.source().challenge(post(case, {"version": 1, "application_id": "1", "type": 0}), NOW)
    assert empty is not None
    assert empty.body == b""


@each("case", CASES)
def test_an_event_is_no_handshake(case: Case) -> None:
    assert case.source().challenge(case.request(), NOW) is None
