"""The client of Close's API against answers made up here; test_catchup talks to the local Close over HTTP."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
import stamina
from hypothesis import given
from hypothesis import strategies as st
from stamina.instrumentation import RetryDetails, get_on_retry_hooks, set_on_retry_hooks

from webhooks.errors import ConfigurationError
from webhooks.settings import Secret, SourceSettings
from webhooks.sources import ApiError, ApiMalformed, ApiRefused, ApiUnavailable, StaleCursor, Topic, make_source
from webhooks.sources.calling import log_retries
from webhooks.sources.close import envelope
from webhooks.sources.close.answers import asked_wait
from webhooks.sources.close.api import Api, read_api
from webhooks.sources.close.client import CloseClient

KEY = "api_4pMT9x.SecretOfTheseTests"
SINCE = datetime(2026, 3, 10, 8, 0, tzinfo=UTC)
UNTIL = datetime(2026, 3, 10, 14, 0, tzinfo=UTC)
PAGE: dict[str, Any] = {"data": [], "cursor_next": None, "cursor_previous": None}

Answer = Callable[[httpx2.Request], httpx2.Response]


@pytest.fixture
def waits() -> Iterator[list[float]]:
    """The pauses that were made before another try; none is really waited for."""
    found: list[float] = []

    def note(details: RetryDetails) -> None:
        found.append(details.wait_for)

    before = get_on_retry_hooks()
    set_on_retry_hooks((note,))
    with stamina.set_testing(True, attempts=3, cap=True):
        yield found
    set_on_retry_hooks(before)


def client(answer: Answer, **options: Any) -> CloseClient:
    return CloseClient(Api("close", key=Secret(KEY)), transport=httpx2.MockTransport(answer), **options)


def answers(*given: httpx2.Response | Exception) -> tuple[Answer, list[httpx2.Request]]:
    """Each in turn, the last again and again; and the requests that came."""
    requests: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        found = given[min(len(requests), len(given) - 1)]
        requests.append(request)
        if isinstance(found, Exception):
            raise found
        return httpx2.Response(found.status_code, headers=found.headers, content=found.content)

    return answer, requests


def page_of(*entries: Any, cursor: str | None = None) -> httpx2.Response:
    return httpx2.Response(200, json={"data": list(entries), "cursor_next": cursor})


# -- pages --------------------------------------------------------------------------------------------------


def test_a_page_is_asked_for_by_its_dates_alone_with_the_key_as_basic_user_name() -> None:
    answer, requests = answers(page_of({"id": "ev_1"}, cursor="older"), page_of())
    with client(answer) as close:
        page = close.page(SINCE, UNTIL)
        close.page(SINCE, UNTIL, page.next)
    assert (page.entries, page.next) == ((b'{"id":"ev_1"}',), "older")
    first, second = requests
    assert first.method == "GET"
    assert first.url.path == "/api/v1/event/"
    assert dict(first.url.params) == {
        "date_updated__gte": "2026-03-10T08:00:00+00:00",
        "date_updated__lte": "2026-03-10T14:00:00+00:00",
        "_limit": "50",
    }
    assert dict(second.url.params) == {**first.url.params, "_cursor": "older"}
    assert base64.b64decode(first.headers["Authorization"].removeprefix("Basic ")) == f"{KEY}:".encode()


def test_entries_are_handed_on_byte_for_byte_also_where_the_fast_way_cannot_read() -> None:
    entry = b'{"id" : "ev_1",  "data":{"n": 1e400, "half": "\\ud83d"}, "n":123456789012345678901234567890}'
    raw = b'{ "data" : [ ' + entry + b" , " + entry + b'] ,"cursor_next":null}'
    with client(answers(httpx2.Response(200, content=raw))[0]) as close:
        assert close.page(SINCE, UNTIL).entries == (entry, entry)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>hello</html>",
        b"[]",
        b"null",
        b'{"data": {}}',
        b'{"data": null}',
        b'{"cursor_next": "x"}',
        b'{"data": [], "cursor_next": 3}',
        b'{"data": [',
        b"\xff\xfe",
        b"[" * 5000,
    ],
)
def test_what_is_no_page_is_said_to_be_none(content: bytes) -> None:
    with (
        client(answers(httpx2.Response(200, content=content))[0]) as close,
        pytest.raises(ApiMalformed, match=r"api\.close\.com/api/v1/event/ answered \d+ bytes that are no page"),
    ):
        close.page(SINCE, UNTIL)


@given(st.binary(max_size=200) | st.recursive(st.none() | st.text(), st.lists).map(lambda v: json.dumps(v).encode()))
def test_no_answer_raises_anything_but_an_error_of_the_api(content: bytes) -> None:
    with client(answers(httpx2.Response(200, content=content))[0]) as close:
        for ask in (lambda: close.page(SINCE, UNTIL), close.subscriptions, lambda: close.subscription("whsub_1")):
            with contextlib.suppress(ApiError):
                ask()


def test_a_page_that_leads_to_itself_is_refused() -> None:
    with client(answers(page_of(cursor="same"))[0]) as close, pytest.raises(ApiMalformed, match="would never end"):
        close.page(SINCE, UNTIL, "same")


def test_400_with_a_cursor_means_that_it_is_stale_and_without_one_that_it_was_refused() -> None:
    bad = httpx2.Response(400, json={"error": "", "field-errors": {"_cursor": "is stale"}})
    with client(answers(bad)[0]) as close:
        with pytest.raises(StaleCursor, match="_cursor: is stale"):
            close.page(SINCE, UNTIL, "old")
        with pytest.raises(ApiRefused, match=r"refused it \(400: _cursor: is stale\)"):
            close.page(SINCE, UNTIL)


# -- failures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error", "text"),
    [
        (401, ApiRefused, r"does not know the API key of source 'close' \(401\); check api_key in \[sources\.close\]"),
        (403, ApiRefused, r"may not do this \(403: no\); use an admin's key"),
        (404, ApiRefused, r"does not exist \(404: no\)"),
        (302, ApiMalformed, r"redirect \(302\), which is not followed; is api_url right\?"),
    ],
)
def test_what_trying_again_cannot_mend_is_tried_once(
    status: int, error: type[ApiError], text: str, waits: list[float]
) -> None:
    answer, requests = answers(httpx2.Response(status, json={"error": "no"}, headers={"Location": "https://elsewhere"}))
    with client(answer) as close, pytest.raises(error, match=text) as raised:
        close.page(SINCE, UNTIL)
    assert raised.value.status == status
    assert len(requests) == 1
    assert waits == []


@pytest.mark.parametrize("headers", [{"RateLimit": "limit=100, remaining=0, reset=0.02"}, {"Retry-After": "0.02"}])
def test_a_rate_limit_is_waited_out_as_long_as_it_asks(headers: dict[str, str], waits: list[float]) -> None:
    stamina.set_testing(False)
    answer, requests = answers(httpx2.Response(429, headers=headers), page_of({"id": "ev_1"}))
    with client(answer) as close:
        assert len(close.page(SINCE, UNTIL).entries) == 1
    assert len(requests) == 2
    assert waits == [pytest.approx(0.07)]


def test_a_rate_limit_beyond_patience_is_reported_instead(waits: list[float]) -> None:
    answer, requests = answers(httpx2.Response(429, headers={"RateLimit": "limit=1, remaining=0, reset=3600"}))
    with (
        client(answer) as close,
        pytest.raises(ApiUnavailable, match=r"used up \(429\), and asks for 3600 s; try again later"),
    ):
        close.page(SINCE, UNTIL)
    assert len(requests) == 1


def test_an_answer_that_leaves_nothing_makes_the_next_request_wait() -> None:
    slept: list[float] = []
    full = httpx2.Response(200, json=PAGE, headers={"RateLimit": "limit=100, remaining=0, reset=3"})
    with client(answers(full, page_of())[0], sleep=slept.append) as close:
        close.page(SINCE, UNTIL)
        assert slept == []
        close.page(SINCE, UNTIL)
    assert slept == [pytest.approx(3, abs=0.5)]


@pytest.mark.parametrize("failure", [httpx2.ConnectError("no route"), httpx2.ReadTimeout("slow"), 500, 503])
def test_what_may_pass_is_tried_again_and_then_said_to_be_unavailable(
    failure: Exception | int, waits: list[float]
) -> None:
    given = httpx2.Response(failure) if isinstance(failure, int) else failure
    answer, requests = answers(given)
    with client(answer) as close, pytest.raises(ApiUnavailable, match="try again"):
        close.page(SINCE, UNTIL)
    assert len(requests) == 3


@pytest.mark.parametrize("failure", [httpx2.ReadTimeout("slow"), httpx2.RemoteProtocolError("cut"), 500, 502])
def test_a_create_whose_outcome_is_unknown_is_not_repeated(failure: Exception | int, waits: list[float]) -> None:
    given = httpx2.Response(failure) if isinstance(failure, int) else failure
    answer, requests = answers(given)
    with client(answer) as close, pytest.raises(ApiUnavailable):
        close.create("https://example.com/webhooks/close", [Topic("lead.created")])
    assert len(requests) == 1


@pytest.mark.parametrize("failure", [httpx2.ConnectError("no route"), 429])
def test_a_create_that_certainly_did_not_happen_is_repeated(failure: Exception | int, waits: list[float]) -> None:
    given = httpx2.Response(failure) if isinstance(failure, int) else failure
    made = httpx2.Response(201, json={"id": "whsub_1", "url": "https://x.example/", "signature_key": "ab"})
    answer, requests = answers(given, made)
    with client(answer) as close:
        assert close.create("https://x.example/", [Topic("lead.created")]).id == "whsub_1"
    assert len(requests) == 2


def test_no_error_holds_the_key_or_what_a_hostile_answer_would_do_to_a_terminal(waits: list[float]) -> None:
    hostile = httpx2.Response(400, json={"error": "\x1b[31mred\u202e\nnext line" + "x" * 5000})
    with client(answers(hostile)[0]) as close, pytest.raises(ApiRefused) as raised:
        close.page(SINCE, UNTIL)
    text = str(raised.value)
    assert "\x1b" not in text
    assert "\n" not in text
    assert len(text) < 600
    assert KEY not in text + repr(close) + repr(close.api)


def test_retries_are_told_to_logging_and_not_to_standard_output(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = get_on_retry_hooks()
    try:
        log_retries()
        with (
            caplog.at_level(logging.INFO),
            stamina.set_testing(True, attempts=2, cap=True),
            client(answers(httpx2.Response(500), page_of())[0]) as close,
        ):
            close.page(SINCE, UNTIL)
    finally:
        set_on_retry_hooks(before)
    assert capsys.readouterr().out == ""
    assert "asking again in 0.0 s: " in caplog.text
    assert "HTTP Request" not in caplog.text
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"RateLimit": "limit=100, remaining=50, reset=5"}, 5),
        ({"RateLimit": "limit=100, remaining=50, reset=0.25", "Retry-After": "1"}, 0.25),
        ({"Retry-After": "12"}, 12),
        ({}, None),
        ({"RateLimit": "reset=-5"}, None),
        ({"RateLimit": "reset=1e9999"}, None),
        ({"RateLimit": "reset=nan, reset=inf"}, None),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"Retry-After": "9" * 5000}, None),
    ],
)
def test_the_wait_is_read_from_either_header(headers: dict[str, str], wait: float | None) -> None:
    found = asked_wait(httpx2.Headers(headers))
    assert (None if found is None else found.total_seconds()) == wait


def test_our_clock_is_compared_with_that_of_the_answer() -> None:
    old = (datetime.now(UTC) - timedelta(minutes=3)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    with client(answers(httpx2.Response(200, json=PAGE, headers={"Date": old}))[0]) as close:
        assert close.clock_ahead is None
        close.page(SINCE, UNTIL)
        assert close.clock_ahead is not None
        assert abs(close.clock_ahead - timedelta(minutes=3)) < timedelta(seconds=5)


# -- subscriptions ------------------------------------------------------------------------------------------


def test_a_subscription_is_read_with_what_is_there_and_its_key_is_hidden() -> None:
    raw = {
        "id": "whsub_1",
        "url": "https://x.example/webhooks/close",
        "status": "paused",
        "pause_reason": "backlog",
        "events": [
            {"object_type": "activity.note", "action": "created", "extra_filter": {"type": "non_null"}},
            {"object_type": 3},
            "junk",
        ],
        "signature_key": "ab" * 32,
        "latest_error": {"status": 500},
        "date_created": "2026-03-10T14:05:12.417000",
    }
    with client(answers(httpx2.Response(200, json=raw))[0]) as close:
        found = close.subscription("whsub_1")
    assert found.topics == (Topic("activity.note.created", {"type": "non_null"}),)
    assert not found.is_active
    assert found.latest_error == '{"status":500}'
    assert found.created_at == datetime(2026, 3, 10, 14, 5, 12, 417000, UTC)
    assert found.key is not None
    assert found.key.reveal() == "ab" * 32
    assert "abab" not in repr(found)


def test_all_pages_of_subscriptions_are_read() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        skip = int(request.url.params["_skip"])
        data = [{"id": f"whsub_{n}", "url": "https://x.example/"} for n in range(skip, min(skip + 100, 250))]
        return httpx2.Response(200, json={"data": data, "has_more": skip + 100 < 250})

    with client(answer) as close:
        assert len(close.subscriptions()) == 250


def test_subscriptions_that_never_end_are_ended() -> None:
    same = httpx2.Response(200, json={"data": [{"id": "whsub_1", "url": "https://x.example/"}], "has_more": True})
    with client(answers(same)[0]) as close:
        assert len(close.subscriptions()) == 1


def test_a_topic_keeps_its_filter_on_the_way_back_and_ids_are_quoted() -> None:
    answer, requests = answers(httpx2.Response(200, json={"id": "a", "url": "https://x.example/"}))
    with client(answer) as close:
        close.update("../me", topics=[Topic("lead.created", {"type": "is_null"}), Topic("a.b.c")])
    assert requests[0].url.raw_path == b"/api/v1/webhook/..%2Fme/"
    assert json.loads(requests[0].content) == {
        "events": [
            {"object_type": "lead", "action": "created", "extra_filter": {"type": "is_null"}},
            {"object_type": "a.b", "action": "c"},
        ]
    }


def test_removing_what_is_gone_is_fine() -> None:
    with client(answers(httpx2.Response(404))[0]) as close:
        close.delete("whsub_1")


# -- settings -----------------------------------------------------------------------------------------------


def test_the_key_may_come_from_a_file(tmp_path: Any) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    api, problems = read_api(
        "close", {"api_key_file": str(tmp_path / "key"), "api_url": "http://127.0.0.1:8765/api/v1/"}
    )
    assert problems == []
    assert api.require_key().reveal() == KEY
    assert api.url == "http://127.0.0.1:8765/api/v1"
    assert api.is_local


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"api_key": "  "}, "api_key is blank"),
        ({"api_key": 7}, "api_key is blank"),
        ({"api_key": "api_a b"}, "holds a character that no API key has"),
        ({"api_key": "api_a\nb"}, "holds a character that no API key has"),
        ({"api_key": "api_a", "api_key_file": "x"}, "are the same setting; keep one"),
        ({"api_key_file": "/nowhere/key"}, "cannot be read: No such file"),
        ({"api_url": "ftp://x"}, "api_url is not usable; expected an address such as 'https://api.close.com/api/v1'"),
        ({"api_url": "https://user@x/"}, "api_url is not usable"),
        ({"api_url": "https://[x"}, "api_url is not usable"),
        ({"api_url": 3}, "api_url is not usable"),
        ({"api_url": "http://api.close.com/api/v1"}, "would show the key on its way; use https"),
    ],
)
def test_a_wrong_setting_of_the_api_names_itself_and_not_the_key(options: dict[str, Any], problem: str) -> None:
    _, problems = read_api("close", options)
    assert len(problems) == 1
    assert problem in problems[0]
    assert "api_a" not in problems[0]


def test_without_a_key_close_is_not_asked_and_the_setting_is_named() -> None:
    with pytest.raises(ConfigurationError, match="set WEBHOOKS_SOURCES__close__API_KEY"):
        CloseClient(Api("close"))


def test_a_source_hides_its_api_key_and_reports_a_wrong_one_with_its_other_mistakes() -> None:
    def settings(**options: Any) -> SourceSettings:
        return SourceSettings(
            name="close", scheme="close", secrets=[Secret("ab" * 16 + "0123456789abcdef" * 2)], options=options
        )

    source: Any = make_source(settings(api_key=KEY))
    assert source.can_connect
    assert KEY not in repr(source.settings) + repr(source.api) + repr(vars(source))
    with pytest.raises(ConfigurationError) as raised:
        make_source(settings(api_key="", api_kye=KEY))
    assert [problem.split("; ")[0] for problem in raised.value.problems] == [
        "source 'close': unknown option 'api_kye'",
        "source 'close': api_key is blank",
    ]


def test_a_log_entry_without_content_is_a_stripped_copy() -> None:
    entry = {"id": "ev_1", "object_type": "lead", "action": "updated", "date_updated": "2026-03-10T14:05:12"}
    assert envelope.parse_log_entry(json.dumps(entry).encode()).is_stripped
    full = json.dumps({**entry, "data": {"id": "lead_1"}}).encode()
    assert not envelope.parse_log_entry(full).is_stripped
