"""What Stripe, PayPal and GitHub say of their logs is read, and settings that cannot work do not start."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import each
from webhooks.errors import ConfigurationError, Malformed
from webhooks.model import Headers, InboundRequest
from webhooks.sources import Secret, SourceSettings, make_source, with_log
from webhooks.sources.logs.base import is_spent, reset_after, retry_after, said
from webhooks.sources.logs.github import read_delivery

SECRET = "made-up-secret-4f9d0c7be2a1"
FITTING: dict[str, dict[str, Any]] = {
    "stripe": {"api_key": "rk_test_4f9d0c7be2"},
    "paypal": {"api_key": "client:secret", "webhook_id": "4JH86294D6297924G"},
    "github": {"api_key": "github_pat_4f9d0c", "hook": "repos/octo/hello/hooks/42"},
}


def make(scheme: str, **options: Any) -> Any:
    secrets = [] if scheme == "paypal" else [Secret(SECRET)]
    section = {"webhook_id": "4JH86294D6297924G"} if scheme == "paypal" else {}
    return make_source(
        SourceSettings(scheme, scheme, secrets, accept_unsigned_body=True, options={**section, **options})
    )


@pytest.mark.parametrize("scheme", FITTING)
def test_a_key_makes_a_source_that_can_be_asked(scheme: str, tmp_path: Path) -> None:
    assert with_log(make(scheme)) is None
    assert with_log(make(scheme, **FITTING[scheme])) is not None
    file = tmp_path / "key"
    options = dict(FITTING[scheme])
    file.write_text(options.pop("api_key") + "\n")
    source = make(scheme, api_key_file=str(file), **options)
    assert source.can_connect
    assert file.read_text().strip() not in repr(source.api)


@each(
    ("scheme", "options", "text"),
    [
        ("stripe", {"api_key": " "}, "api_key is blank"),
        ("stripe", {"api_key": "a:b"}, "holds a character that no API key has; copy it as Stripe shows it"),
        ("stripe", {"api_url": "http://api.example.com"}, "api_url is http, which would show the key on its way"),
        ("stripe", {"thin_events": "yes"}, "thin_events must be true or false"),
        ("stripe", {**FITTING["stripe"], "dedup": "none"}, "take dedup out, or api_key"),
        ("stripe", {"hook": "repos/a/b/hooks/1"}, "unknown option 'hook'"),
        (
            "paypal",
            {"api_key": "client"},
            "api_key must be the client id and the secret of your application, joined by a colon",
        ),
        ("paypal", {"api_key": "client:"}, "joined by a colon"),
        ("paypal", {**FITTING["paypal"], "dedup": "body"}, "take dedup out, or api_key"),
        ("github", {"api_key": "token"}, "api_key needs hook, whose deliveries are asked for"),
        ("github", {"hook": "octo/hello"}, "write 'repos/OWNER/NAME/hooks/ID'"),
        ("github", {"hook": "repos/octo/../hooks/1/../../x"}, "write 'repos/OWNER/NAME/hooks/ID'"),
    ],
)
def test_settings_that_cannot_work_do_not_start(scheme: str, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        make(scheme, **options)
    assert text in str(raised.value)
    assert f"source '{scheme}'" in str(raised.value)


@pytest.mark.parametrize("scheme", FITTING)
def test_without_a_key_it_says_how_to_get_one(scheme: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"has no API key.*and set WEBHOOKS_SOURCES__{scheme}__API_KEY"):
        make(scheme).connect()


def test_equal_ids_of_stripe_are_equal_events_however_they_are_written() -> None:
    bodies = (
        b'{"id":"evt_1","type":"a.b","pending_webhooks":1}',
        b'{"type": "a.b", "id": "evt_1"}',
        b'{"id":"evt_2","type":"a.b"}',
    )
    compared = [make("stripe").parse(InboundRequest(Headers(), body))[0].compared for body in bodies]
    assert compared[0] == compared[1] != compared[2]


DELIVERY = (
    b'{"id": 7, "guid": "g-1", "event": "issues", "action": "opened", "delivered_at": "2026-03-10T14:05:12.417Z"}'
)


def test_a_delivery_of_github_names_its_event() -> None:
    event = read_delivery(DELIVERY)
    assert (event.dedup_key, event.type) == ("g-1", "issues.opened")
    assert event.occurred_at == datetime(2026, 3, 10, 14, 5, 12, 417000, UTC)
    assert read_delivery(DELIVERY.replace(b'"opened"', b"null")).type == "issues"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"5", b'{"id": "7"}', DELIVERY.replace(b'"g-1"', b"5"), DELIVERY.replace(b'"issues"', b'""')]
)
def test_what_is_no_delivery_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed, match="a delivery of GitHub's list"):
        read_delivery(body)


@given(st.binary())
def test_no_bytes_make_a_reader_fail_otherwise(body: bytes) -> None:
    for read in (read_delivery, make("paypal").parse_log_body, make("stripe").parse_log_body):
        try:
            read(body)
        except Malformed:
            continue
    assert isinstance(said(body), str)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error": {"message": "No such event"}}', "No such event"),
        (b'{"message": "Bad\\u001b[31m credentials"}', "Bad\\x1b[31m credentials"),
        (
            b'{"error": "invalid_client", "error_description": "Client Authentication failed"}',
            "Client Authentication failed",
        ),
        (b'{"error": "invalid_token"}', "invalid_token"),
        (b"{}", "no reason given"),
        (b"<html>", "no reason given"),
        (b'{"message": 5}', "no reason given"),
    ],
)
def test_an_error_is_said_in_the_senders_words(body: bytes, text: str) -> None:
    assert said(body) == text


def test_a_rate_limit_says_how_long_to_wait() -> None:
    assert retry_after({"Retry-After": "7"}) == timedelta(seconds=7)
    assert retry_after({"Retry-After": "soon"}) is None
    assert reset_after({"Retry-After": "7", "X-RateLimit-Remaining": "0"}) == timedelta(seconds=7)
    spent = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.time()) - 5)}
    assert (is_spent(spent), reset_after(spent)) == (True, timedelta(0))
    assert reset_after({"X-RateLimit-Remaining": "3", "X-RateLimit-Reset": "99"}) is None
