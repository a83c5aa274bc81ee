"""What becomes of a delivery after an attempt, and error text that can always be stored."""

from __future__ import annotations

import email.message
import sys
import urllib.error
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import each
from webhooks.errors import AttemptTimeout, Discard, LeaseLost, Retry
from webhooks.formats import error_summary, error_text, one_line, printable
from webhooks.formats.text import ERROR_TEXT_LIMIT
from webhooks.model import AttemptOutcome, DeliveryState
from webhooks.routing import RetryPolicy, decide
from webhooks.routing.retry import LONGEST_RETRY, LONGEST_RETRY_AFTER, retry_after

NOW = datetime(2026, 3, 10, 14, 5, 12, tzinfo=UTC)
POLICY = RetryPolicy(max_attempts=3, base=timedelta(seconds=10), cap=timedelta(minutes=1))


def seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


# -- the policy --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failures", "bound"), [(1, 10), (2, 20), (3, 40), (4, 60), (5, 60), (1000, 60)], ids=lambda value: str(value)
)
def test_the_bound_doubles_with_each_failure_up_to_the_cap(failures: int, bound: int) -> None:
    assert POLICY.bound(failures) == seconds(bound)


def test_the_defaults_wait_out_a_night() -> None:
    """20 attempts from 10 s, at most 6 h: the expected waits add up to more than a day, the bounds to more than two."""
    policy = RetryPolicy()
    total = sum((policy.bound(n) for n in range(1, policy.max_attempts)), timedelta(0))
    assert total > timedelta(days=2)
    assert total / 2 > timedelta(days=1)


@given(failures=st.integers(1, 10**6), chance=st.floats(0, 1, exclude_max=True))
def test_a_wait_lies_anywhere_between_zero_and_its_bound(failures: int, chance: float) -> None:
    assert timedelta(0) <= POLICY.wait(failures, chance) <= POLICY.bound(failures)


@pytest.mark.parametrize(
    "wrong",
    [{"max_attempts": 0}, {"base": seconds(-1)}, {"base": seconds(9), "cap": seconds(8)}],
    ids=["no attempt", "negative base", "base above cap"],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"max_attempts is|base is"):
        RetryPolicy(**wrong)


# -- the decision ------------------------------------------------------------------------------------------

PENDING, SUCCEEDED, DEAD, CANCELLED = (
    DeliveryState.PENDING, DeliveryState.SUCCEEDED, DeliveryState.DEAD, DeliveryState.CANCELLED,
)  # fmt: skip


@each(
    ("error", "failures", "state", "outcome", "wait", "counts"),
    [
        (None, 0, SUCCEEDED, "succeeded", 0, True),
        (ValueError("no"), 0, PENDING, "failed", 5, True),
        (ValueError("no"), 1, PENDING, "failed", 10, True),
        (ValueError("no"), 2, DEAD, "failed", 0, True),
        (SystemExit(3), 0, PENDING, "failed", 5, True),
        (KeyboardInterrupt(), 0, PENDING, "failed", 5, True),
        (AttemptTimeout("30 s"), 0, PENDING, "timed-out", 5, True),
        (AttemptTimeout("30 s"), 2, DEAD, "timed-out", 0, True),
        (Retry("busy", after=60), 0, PENDING, "retry", 63, True),
        (Retry("busy"), 0, PENDING, "retry", 5, True),
        (Retry("busy", after=60), 2, DEAD, "retry", 0, True),
        (Retry("busy", after=-5), 0, PENDING, "retry", 0, True),
        (Discard("spam"), 0, CANCELLED, "cancelled", 0, False),
        (Discard("spam"), 2, CANCELLED, "cancelled", 0, False),
    ],
)
def test_what_becomes_of_a_delivery(
    error: BaseException | None, failures: int, state: DeliveryState, outcome: str, wait: float, counts: bool
) -> None:
    verdict = decide(error, failures, POLICY, 0.5, NOW)
    assert (verdict.state, verdict.outcome, verdict.counts) == (state, AttemptOutcome(outcome), counts)
    assert verdict.wait == seconds(wait)


def test_a_dead_delivery_says_how_many_attempts_it_had() -> None:
    assert decide(ValueError("no"), 2, POLICY, 0.5, NOW).reason == "ValueError: no (attempt 3 of 3)"


def test_a_discarded_delivery_says_why() -> None:
    assert decide(Discard("spam\0"), 0, POLICY, 0.5, NOW).reason == "discarded: spam\\x00"
    assert decide(Discard(), 0, POLICY, 0.5, NOW).reason == "discarded: by the handler"


def test_no_wait_is_longer_than_a_year_whatever_a_handler_asks_for() -> None:
    verdict = decide(Retry(after=timedelta.max), 0, POLICY, 0.99, NOW)
    assert verdict.wait <= LONGEST_RETRY * 1.1


# -- Retry-After -------------------------------------------------------------------------------------------


class Response:
    def __init__(self, headers: Any) -> None:
        self.headers = headers


class HTTPError(OSError):
    """As `requests.HTTPError`: an error with a response."""

    def __init__(self, headers: Any) -> None:
        super().__init__("503")
        self.response = Response(headers)


def of_urllib(value: str) -> urllib.error.HTTPError:
    headers = email.message.Message()
    headers["Retry-After"] = value
    return urllib.error.HTTPError("http://127.0.0.1", 503, "busy", headers, None)


def of_httpx2(value: str) -> httpx2.HTTPStatusError:
    request = httpx2.Request("GET", "http://127.0.0.1")
    response = httpx2.Response(429, headers=[(b"retry-after", value.encode())], request=request)
    with pytest.raises(httpx2.HTTPStatusError) as caught:
        response.raise_for_status()
    return caught.value


@each(
    "make",
    [
        of_urllib,
        of_httpx2,
        lambda value: HTTPError({"Retry-After": value}),
        lambda value: HTTPError({"RETRY-AFTER": value}),
    ],
)
@each(
    ("value", "wait"),
    [
        ("120", 120),
        ("0", 0),
        (" 7 ", 7),
        ("Tue, 10 Mar 2026 14:06:12 GMT", 60),
        ("Tue, 10 Mar 2026 14:00:00 GMT", 0),
        ("999999999", LONGEST_RETRY_AFTER.total_seconds()),
        ("Tue, 10 Mar 2099 14:00:00 GMT", LONGEST_RETRY_AFTER.total_seconds()),
        ("soon", None),
        ("", None),
        ("-5", None),
        ("1e9", None),
        ("nan", None),
        ("9" * 5000, None),
        ("١٢", None),
    ],
)
def test_retry_after_is_understood(make: Any, value: str, wait: float | None) -> None:
    error = make(value)
    assert retry_after(error, NOW) == (None if wait is None else seconds(wait))
    if isinstance(error, urllib.error.HTTPError):
        error.close()


def test_a_failure_with_retry_after_waits_as_long_as_asked_and_a_little_longer() -> None:
    verdict = decide(HTTPError({"Retry-After": "100"}), 0, POLICY, 0.5, NOW)
    assert (verdict.state, verdict.outcome) == (PENDING, AttemptOutcome.FAILED)
    assert verdict.wait == seconds(105)


class Hostile(Exception):
    @property
    def response(self) -> Any:
        raise SystemError

    @property
    def headers(self) -> Any:
        raise SystemError


@pytest.mark.parametrize(
    "error",
    [Hostile(), HTTPError(7), HTTPError(None), ValueError()],
    ids=["properties that fail", "headers are a number", "no headers", "no response"],
)
def test_strange_errors_ask_for_nothing(error: BaseException) -> None:
    assert retry_after(error, NOW) is None


# -- text that can be stored -------------------------------------------------------------------------------


class NoText(Exception):
    def __str__(self) -> str:
        raise SystemExit


class WrongText(Exception):
    def __str__(self) -> str:
        return 7  # type: ignore[return-value]


class SlyText(str):
    __slots__ = ()

    def __getitem__(self, key: Any) -> str:
        raise RuntimeError

    def __len__(self) -> int:
        raise RuntimeError


class SlyError(Exception):
    def __str__(self) -> str:
        return SlyText("sly")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no"), "ValueError: no"),
        (ValueError(), "ValueError"),
        (ValueError("a\0b\ud800c"), "ValueError: a\\x00b\\ud800c"),
        (ValueError("two\nlines"), "ValueError: two lines"),
        (ValueError("\u202egnp"), "ValueError: \\u202egnp"),
        (NoText(), "NoText: (its text cannot be had: SystemExit)"),
        (WrongText(), "WrongText: (its text cannot be had: TypeError)"),
        (SlyError(), "SlyError: sly"),
    ],
    ids=["plain", "empty", "unstorable", "lines", "bidirectional", "str exits", "str gives a number", "sly str"],
)
def test_an_error_is_summed_up_on_one_line_that_can_be_stored(error: BaseException, text: str) -> None:
    assert error_summary(error) == text
    assert error_text(error).endswith(text)


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_the_traceback_is_kept_with_its_cause() -> None:
    try:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise ValueError("outer") from inner
    except ValueError as error:
        text = error_text(error)
    assert text.startswith("Traceback (most recent call last):")
    assert "test_the_traceback_is_kept_with_its_cause" in text
    assert text.endswith("ValueError: outer\ncaused by KeyError: 'inner'")


@pytest.mark.parametrize("error", [Retry("busy"), LeaseLost("gone"), AttemptTimeout("30 s")], ids=repr)
def test_what_is_raised_on_purpose_has_no_traceback(error: BaseException) -> None:
    assert error_text(raised(error)) == error_summary(error)


def test_a_text_of_fifty_megabytes_is_cut() -> None:
    error = raised(ValueError("x" * 50_000_000))
    assert len(error_text(error)) <= ERROR_TEXT_LIMIT + 10
    assert len(error_summary(error)) <= 310


def test_a_deep_recursion_can_be_told() -> None:
    def fall() -> None:
        fall()

    try:
        fall()
    except RecursionError as error:
        text = error_text(error)
    assert "RecursionError" in text
    assert len(text) <= ERROR_TEXT_LIMIT + 10


@given(st.text(st.characters(codec=None), max_size=200))
def test_any_text_becomes_storable(text: str) -> None:
    shown = printable(text)
    shown.encode("utf-8")
    assert "\0" not in shown
    line = one_line(text)
    line.encode("utf-8")
    assert "\n" not in line
    assert line.isprintable() or line.isspace() or all(c.isprintable() or c.isspace() for c in line)


def test_no_limit_of_python_on_integers_gets_in_the_way() -> None:
    assert sys.get_int_max_str_digits() > 0
    number = 10**5000

    class Big(Exception):
        def __str__(self) -> str:
            return str(number)

    assert error_summary(Big()) == "Big: (its text cannot be had: ValueError)"
