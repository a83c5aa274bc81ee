"""When a delivery runs again: the policy, and the pure decision after each attempt.

`decide` is the only place that turns what a handler did into the next state of its delivery. It knows no
clock and no database: waits are relative, the random number is handed in, and the caller stores the verdict.

The surprising fact: `Retry` counts as an attempt, so a handler that asks without end ends dead like any other.
"""

from __future__ import annotations

import contextlib
import email.utils
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from webhooks.errors import AttemptTimeout, Discard, Retry
from webhooks.formats import error_summary, error_text, one_line, text_of
from webhooks.model import AttemptOutcome, DeliveryCause, DeliveryState

#: A `Retry-After` longer than this is a mistake; we look again sooner.
LONGEST_RETRY_AFTER = timedelta(days=1)
#: The longest wait that a handler can ask for by `Retry(after=)`.
LONGEST_RETRY = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how soon a failed delivery runs again.

    max_attempts: runs in all, the first included.
    base: the bound of the first wait; it doubles with each failure.
    cap: the bound never grows beyond it.

    The wait itself is drawn evenly between zero and its bound ("full jitter"), so that deliveries which failed together do
    not come back together.

    Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ ("Full Jitter")
    """

    max_attempts: int = 20
    base: timedelta = timedelta(seconds=10)
    cap: timedelta = timedelta(hours=6)

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts is {self.max_attempts!r}; it must be at least 1")
        if not timedelta(0) <= self.base <= self.cap:
            raise ValueError(f"base is {self.base} and cap is {self.cap}; use 0 <= base <= cap")

    def bound(self, failures: int) -> timedelta:
        """The longest wait after `failures` (≥ 1) failed attempts."""
        doublings = min(failures - 1, 62)  # beyond that timedelta overflows, and cap has long been reached
        if self.base > self.cap / 2**doublings:
            return self.cap
        bound: timedelta = self.base * 2**doublings
        return bound

    def wait(self, failures: int, jitter: float) -> timedelta:
        """The wait itself; jitter: 0 ≤ jitter < 1, drawn by the caller."""
        return self.bound(failures) * jitter


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a delivery after one attempt.

    wait: until it is due again, when it is pending.
    reason: one line for `deliveries list`.
    error: the attempt's text, at most `ERROR_TEXT_LIMIT`.
    counts: whether the attempt counts towards `max_attempts`.
    cause: of both texts, where code has to know it.
    """

    state: DeliveryState
    outcome: AttemptOutcome
    wait: timedelta = timedelta(0)
    reason: str | None = None
    error: str | None = None
    counts: bool = True
    cause: DeliveryCause | None = None


SUCCEEDED = Verdict(DeliveryState.SUCCEEDED, AttemptOutcome.SUCCEEDED)


def decide(error: BaseException | None, failures: int, policy: RetryPolicy, jitter: float, now: datetime) -> Verdict:
    """Decide what becomes of a delivery whose attempt ended with `error` (None: it succeeded).

    failures: counted attempts that failed before this one.
    policy: the handler's, or that of the settings.
    jitter: see `RetryPolicy.wait`.
    now: only to read a `Retry-After` that names a date.
    """
    if error is None:
        return SUCCEEDED
    if isinstance(error, Discard):
        reason = one_line(text_of(error)) or "by the handler"
        return Verdict(DeliveryState.CANCELLED, AttemptOutcome.CANCELLED, reason=f"discarded: {reason}", counts=False)
    failures += 1
    text = error_text(error)
    summary = error_summary(error)
    outcome = AttemptOutcome.FAILED
    if isinstance(error, AttemptTimeout):
        outcome = AttemptOutcome.TIMED_OUT
    elif isinstance(error, Retry):
        outcome = AttemptOutcome.RETRY
    if failures >= policy.max_attempts:
        return Verdict(DeliveryState.DEAD, outcome, reason=f"{summary} (attempt {failures} of {failures})", error=text)
    wait = policy.wait(failures, jitter)
    asked = error.after if isinstance(error, Retry) else retry_after(error, now)
    if isinstance(asked, timedelta):
        asked = min(asked, LONGEST_RETRY)
        # at least as long as asked; a tenth of jitter on top, so that all who were told "60 s" do not come at once
        wait = max(asked, timedelta(0)) * (1 + jitter / 10)
    return Verdict(DeliveryState.PENDING, outcome, wait=wait, reason=summary, error=text)


def retry_after(error: BaseException, now: datetime) -> timedelta | None:
    """The wait that an HTTP error asks for by `Retry-After`, from requests, httpx, httpx2 or urllib.

    Looks at `error.response.headers` and `error.headers`; understands seconds and HTTP dates. None when there
    is none or it cannot be read. Raises nothing, whatever object the error is.
    """
    with contextlib.suppress(Exception):
        response = getattr(error, "response", None)
        headers = getattr(response, "headers", None) or getattr(error, "headers", None)
        if headers is None:
            return None
        value = _header(headers, "retry-after")
        if value is None:
            return None
        value = value.strip()
        if value.isascii() and value.replace(".", "", 1).isdigit() and len(value) <= 12:
            return min(timedelta(seconds=float(value)), LONGEST_RETRY_AFTER)
        moment = email.utils.parsedate_to_datetime(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return min(max(moment - now, timedelta(0)), LONGEST_RETRY_AFTER)
    return None


def _header(headers: Any, name: str) -> str | None:
    get: Callable[[str], Any] | None = getattr(headers, "get", None)
    if get is None:
        return None
    value = get(name)
    if value is None:
        value = get(name.title())
    if value is None and isinstance(headers, Mapping):
        value = next((v for k, v in headers.items() if str(k).lower() == name), None)
    return None if value is None else str(value)
