"""When a delivery runs again: the policy, and the pure decision after each attempt.

`decide` is the only place that turns what a handler did into the next state of its delivery. It knows no
clock and no database: waits are relative, the random number is handed in, and the caller stores the verdict.

The surprising fact: `Retry` counts as an attempt, so a handler that asks for ever ends dead like any other.
"""

from __future__ import annotations

import contextlib
import email.utils
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from webhooks import sqlstates
from webhooks.errors import AttemptTimeout, Discard, LeaseLost, Retry
from webhooks.model import AttemptOutcome, DeliveryState

#: Stored error text is cut at this many characters (checklist section 6).
ERROR_TEXT_LIMIT = 10_000

#: A `Retry-After` longer than this is somebody's mistake; we look again sooner.
LONGEST_RETRY_AFTER = timedelta(days=1)
#: The longest wait that a handler can ask for by `Retry(after=)`.
LONGEST_RETRY = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how soon a failed delivery runs again.

    max_attempts: runs in all, the first included. base: the bound of the first wait; it doubles with each
    failure up to cap. The wait itself is drawn evenly between zero and that bound ("full jitter"), so that
    deliveries which failed together do not come back together.

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

    def wait(self, failures: int, chance: float) -> timedelta:
        """The wait itself; chance: 0 ≤ chance < 1, drawn by the caller."""
        return self.bound(failures) * chance


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a delivery after one attempt.

    wait: until it is due again, when it is pending. reason: one line for `deliveries list`. error: the
    attempt's text, at most `ERROR_TEXT_LIMIT`. counts: whether the attempt counts towards `max_attempts`.
    """

    state: DeliveryState
    outcome: AttemptOutcome
    wait: timedelta = timedelta(0)
    reason: str | None = None
    error: str | None = None
    counts: bool = True


SUCCEEDED = Verdict(DeliveryState.SUCCEEDED, AttemptOutcome.SUCCEEDED)


def decide(error: BaseException | None, failures: int, policy: RetryPolicy, chance: float, now: datetime) -> Verdict:
    """Decide what becomes of a delivery whose attempt ended with `error` (None: it succeeded).

    failures: counted attempts that failed before this one. chance: see `RetryPolicy.wait`. now: only to read
    a `Retry-After` that names a date.
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
    wait = policy.wait(failures, chance)
    asked = error.after if isinstance(error, Retry) else retry_after(error, now)
    if isinstance(asked, timedelta):
        asked = min(asked, LONGEST_RETRY)
        # at least as long as asked; a tenth of jitter on top, so that all who were told "60 s" do not come at once
        wait = max(asked, timedelta(0)) * (1 + chance / 10)
    return Verdict(DeliveryState.PENDING, outcome, wait=wait, reason=summary, error=text)


def retry_after(error: BaseException, now: datetime) -> timedelta | None:
    """The wait that an HTTP error asks for by `Retry-After`, from requests, httpx, httpx2 or urllib.

    Looks at `error.response.headers` and `error.headers`; understands seconds and HTTP dates. None when there
    is none or it cannot be read. Raises nothing: the error is a stranger's object.
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


# -- error text that can always be stored ------------------------------------------------------------------


def printable(text: str, limit: int = ERROR_TEXT_LIMIT) -> str:
    """`text` cut at `limit`, with NUL, controls (but newline and tab), bidirectional marks and surrogates as escapes."""
    cut = text[:limit]
    if not cut.isascii() or not cut.isprintable():
        cut = "".join(_escape(character) for character in cut)
    return cut[:limit] + ("… (cut)" if len(text) > limit or len(cut) > limit else "")


def _escape(character: str) -> str:
    if character in "\n\t":
        return character
    if character.isprintable() or (
        ord(character) > 0x7F and character.isspace() and character not in "\u2028\u2029\x85"
    ):
        return character
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def one_line(text: str, limit: int = 300) -> str:
    """The same on one line, for reasons and tables."""
    return printable(" ".join(text[: 4 * limit].split()), limit)


def text_of(error: BaseException, limit: int = 2000) -> str:
    """The beginning of what an error says, a database's without values; cannot fail, whatever its `__str__` does."""
    try:
        text = sqlstates.text_without_values(error)
        return str.__getitem__(str(error) if text is None else text, slice(0, limit))
    except BaseException as broken:
        return f"(its text cannot be had: {type(broken).__name__})"


def error_summary(error: BaseException) -> str:
    """`ValueError: what it says`, on one line; cannot fail."""
    text = text_of(error)
    name = type.__getattribute__(type(error), "__name__")
    return one_line(f"{name}: {text}" if text else name)


def error_text(error: BaseException) -> str:
    """The traceback as text that can be stored: the last `ERROR_TEXT_LIMIT` characters; cannot fail.

    Our own control-flow errors (`Retry`, a lost lease, a time-out) have no traceback worth keeping.
    """
    if isinstance(error, (Retry, LeaseLost, AttemptTimeout)):
        return error_summary(error)
    try:
        frames = traceback.extract_tb(error.__traceback__, limit=-30)
        trace = "Traceback (most recent call last):\n" + "".join(frames.format()[-30:])
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        tail = error_summary(error) + (f"\ncaused by {error_summary(cause)}" if cause is not None else "")
        room = ERROR_TEXT_LIMIT - len(tail) - 20
        return printable(trace[-room:] + tail, ERROR_TEXT_LIMIT)
    except BaseException:
        return error_summary(error)


def exception_text(error: BaseException) -> str:
    """An exception for the log: frames, what it says on one line each, and what led to it; cannot fail.

    As Python prints it, but without values that a database quotes, and with nothing that could forge a line.
    """
    try:
        chain: list[BaseException] = []
        at: BaseException | None = error
        while at is not None and at not in chain and len(chain) < 5:
            chain.append(at)
            at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
        parts = [f"{_frames(each)}{error_summary(each)}" for each in reversed(chain)]
        return "\n\nwhich led to:\n\n".join(parts)
    except BaseException:
        return error_summary(error)


def _frames(error: BaseException) -> str:
    if error.__traceback__ is None:
        return ""
    frames = traceback.extract_tb(error.__traceback__, limit=-30).format()
    return printable("Traceback (most recent call last):\n" + "".join(frames), 4 * ERROR_TEXT_LIMIT)
