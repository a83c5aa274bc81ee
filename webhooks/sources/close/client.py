"""Ask Close: pages of its event log, and its webhook subscriptions.

A request that failed for a passing reason is made again (stamina): after what `RateLimit` or `Retry-After` ask for, else
with back-off. Waits longer than `LONGEST_WAIT` are not waited for but reported. What answers with `remaining=0` is
given its pause before the next request. Redirects are not followed: they would carry the key away.

The key is the Basic user name with an empty password; it is in no message, no log and no `repr`. Creating is never
repeated after an answer may have got lost: Close would make a second subscription.

Needs the extra `http`. Source: developer.close.com/api/resources/events, …/webhooks and /api/overview/rate-limits
(see docs/close.md).
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from webhooks.errors import ConfigurationError
from webhooks.formats import json as jsonio
from webhooks.formats import one_line
from webhooks.sources.close.answers import asked_wait, is_used_up, read_subscription, said, written_topic
from webhooks.sources.close.api import Api
from webhooks.sources.remote import (
    ApiError,
    ApiMalformed,
    ApiRefused,
    ApiUnavailable,
    LogPage,
    StaleCursor,
    Subscription,
    Topic,
)
from webhooks.version import install

if TYPE_CHECKING:
    import httpx2
    from stamina.instrumentation import RetryDetails

logger = logging.getLogger(__name__)

#: For one request, from its first byte to the last.
TIMEOUT = timedelta(seconds=30)
CONNECT_TIMEOUT = timedelta(seconds=5)
#: A pause that Close asks for is kept up to here; more is reported.
LONGEST_WAIT = timedelta(seconds=60)
#: How often, and for how long in all, a request is tried.
ATTEMPTS = 6
PATIENCE = timedelta(minutes=3)
#: Entries on a page of the log, and subscriptions on one of theirs.
PAGE = 50
SUBSCRIPTIONS_PAGE = 100
#: More subscriptions than any organization may have (500 for automation platforms).
MOST_SUBSCRIPTIONS = 1000
LONGEST_ANSWER_BYTES = 256 * 2**20


class _Page(msgspec.Struct):
    data: list[msgspec.Raw]
    cursor_next: str | None = None


_PAGES = msgspec.json.Decoder(_Page)


class _Passing(Exception):
    """A failure that may pass. wait: what the answer asks for, or None."""

    def __init__(self, error: ApiError, wait: timedelta | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait = wait


class CloseClient:
    """Close's API for one source; close it after use. Safe for one thread at a time.

    transport, sleep: handed in by tests. Raises ConfigurationError when there is no key or the extra is missing.
    """

    def __init__(
        self,
        api: Api,
        *,
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        attempts: int = ATTEMPTS,
        patience: timedelta = PATIENCE,
    ) -> None:
        key = api.require_key()
        try:
            import httpx2
            import stamina  # noqa: F401
        except ImportError:
            raise ConfigurationError(f"asking Close needs the extra 'http': {install('http')}") from None
        self.api = api
        #: How far our clock is ahead of Close's, by its last answer; None before, and when it does not say.
        self.clock_ahead: timedelta | None = None
        self._sleep = sleep
        self._attempts = attempts
        self._patience = patience
        self._pause_until = 0.0
        self._http = httpx2.Client(
            auth=httpx2.BasicAuth(key.reveal(), ""),
            headers={"Accept": "application/json", "User-Agent": "webhooks"},
            timeout=httpx2.Timeout(TIMEOUT.total_seconds(), connect=CONNECT_TIMEOUT.total_seconds()),
            follow_redirects=False,
            trust_env=not api.is_local,
            transport=transport,
        )

    def __repr__(self) -> str:
        return f"<CloseClient {self.api.url}>"

    def __enter__(self) -> CloseClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    # -- the event log -------------------------------------------------------------------------------------

    def page(self, since: datetime, until: datetime, cursor: str | None = None) -> LogPage:
        """One page of the entries changed from `since` to `until` (both included), newest first.

        cursor: `next` of the page before. Raises StaleCursor and the other ApiErrors.
        """
        # no filter but dates: object_type alone is not among those that Close allows, so types are chosen here
        parameters = {"date_updated__gte": _iso(since), "date_updated__lte": _iso(until), "_limit": str(PAGE)}
        if cursor is not None:
            parameters["_cursor"] = cursor
        try:
            raw = self._ask("GET", "event/", parameters)
        except ApiRefused as error:
            if cursor is not None and error.status == 400:
                raise StaleCursor(f"{error}; the cursor is taken for stale", 400) from error
            raise
        page = self._read_page(raw)
        if page.next is not None and page.next == cursor:
            raise ApiMalformed("Close's event log answered with the cursor it was asked with, so it would never end")
        return page

    def _read_page(self, raw: bytes) -> LogPage:
        try:
            page = _PAGES.decode(raw)
            return LogPage(tuple(bytes(entry) for entry in page.data), page.cursor_next or None)
        except jsonio.ERRORS:
            pass  # JSON that the fast way refuses, or no page at all
        try:
            found = jsonio.load(raw)
            cursor = found.get("cursor_next") if isinstance(found, dict) else 0
            if isinstance(cursor, str | None):
                return LogPage(tuple(jsonio.items(raw, "data")), cursor or None)
        except (LookupError, *jsonio.ERRORS):
            pass
        raise ApiMalformed(
            f"{self.api.url}/event/ answered {len(raw)} bytes that are no page of the event log; is api_url right, and "
            "does nothing stand between?"
        )

    # -- subscriptions -------------------------------------------------------------------------------------

    def subscriptions(self) -> list[Subscription]:
        """Every subscription that this key may see: all for an admin's, else its owner's own."""
        found: list[Subscription] = []
        while True:
            parameters = {"_skip": str(len(found)), "_limit": str(SUBSCRIPTIONS_PAGE)}
            answer = self._object("GET", "webhook/", parameters)
            data = answer.get("data")
            if not isinstance(data, list):
                raise ApiMalformed(
                    f"{self.api.url}/webhook/ answered without a list of subscriptions; is api_url right?"
                )
            page = [read_subscription(each) for each in data]
            known = {each.id for each in found}
            found += [each for each in page if each.id not in known]
            if answer.get("has_more") is not True or known.issuperset(each.id for each in page):
                return found
            if len(found) >= MOST_SUBSCRIPTIONS:
                raise ApiMalformed(f"Close listed more than {MOST_SUBSCRIPTIONS} subscriptions")

    def subscription(self, id: str) -> Subscription:
        """One subscription, with its key where Close shows it."""
        return read_subscription(self._object("GET", _path(id)))

    def create(self, url: str, topics: Sequence[Topic], *, verify_ssl: bool = True) -> Subscription:
        """Make a subscription; its `key` is None when the answer does not show it."""
        body = {"url": url, "events": [written_topic(topic) for topic in topics], "verify_ssl": verify_ssl}
        return read_subscription(self._object("POST", "webhook/", body=body))

    def update(
        self,
        id: str,
        *,
        status: str | None = None,
        topics: Sequence[Topic] | None = None,
        url: str | None = None,
    ) -> Subscription:
        """Change what is given and leave the rest."""
        body: dict[str, Any] = {"status": status, "url": url}
        body["events"] = None if topics is None else [written_topic(topic) for topic in topics]
        changes = {name: value for name, value in body.items() if value is not None}
        return read_subscription(self._object("PUT", _path(id), body=changes))

    def delete(self, id: str) -> None:
        """Remove a subscription; one that is gone already is fine."""
        try:
            self._ask("DELETE", _path(id))
        except ApiRefused as error:
            if error.status != 404:
                raise

    # -- HTTP ----------------------------------------------------------------------------------------------

    def _object(
        self, method: str, path: str, parameters: Mapping[str, str] | None = None, body: Any = None
    ) -> Mapping[str, Any]:
        raw = self._ask(method, path, parameters, body)
        with contextlib.suppress(*jsonio.ERRORS):
            found = jsonio.load(raw)
            if isinstance(found, Mapping):
                return found
        raise ApiMalformed(
            f"{self.api.url}/{path} answered {len(raw)} bytes that are no JSON object; is api_url right?"
        )

    def _ask(self, method: str, path: str, parameters: Mapping[str, str] | None = None, body: Any = None) -> bytes:
        """The body of a 2xx, after as many tries as it takes. Raises ApiError."""
        import stamina

        try:
            for attempt in stamina.retry_context(
                on=_wait_for, attempts=self._attempts, timeout=self._patience, wait_max=20.0
            ):
                with attempt:
                    return self._ask_once(method, path, parameters, body)
        except _Passing as passing:
            raise passing.error from None
        raise AssertionError("stamina ends with a return or an exception")

    def _ask_once(self, method: str, path: str, parameters: Mapping[str, str] | None, body: Any) -> bytes:
        import httpx2

        pause = self._pause_until - time.monotonic()
        if pause > 0:
            self._sleep(pause)
        self._pause_until = 0.0
        content = None if body is None else jsonio.dump(body)
        try:
            with self._http.stream(
                method,
                f"{self.api.url}/{path}",
                params=dict(parameters or {}),
                content=content,
                headers={} if content is None else {"Content-Type": "application/json"},
            ) as response:
                raw = b"".join(_bounded(response.iter_bytes()))
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise _Passing(self._unreachable(error)) from None
        except httpx2.HTTPError as error:
            if method == "POST":
                raise ApiUnavailable(
                    f"the answer of {self._where(path)} got lost ({type(error).__name__}), and whether it was done is not "
                    "known; look with: webhooks subscriptions list"
                ) from None
            raise _Passing(self._unreachable(error)) from None
        self._look_at(response)
        if response.is_success:
            return raw
        raise self._failure(method, path, response.status_code, response.headers, raw)

    def _look_at(self, response: httpx2.Response) -> None:
        """Learn from an answer's headers: the clock's difference, and whether the next request must wait."""
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            said = parsedate_to_datetime(response.headers["Date"]) if "Date" in response.headers else None
            if said is not None:
                self.clock_ahead = datetime.now(UTC) - said.astimezone(UTC)
        if response.is_success and is_used_up(response.headers):
            wait = min(asked_wait(response.headers) or timedelta(0), LONGEST_WAIT)
            self._pause_until = time.monotonic() + wait.total_seconds()

    def _failure(self, method: str, path: str, status: int, headers: Mapping[str, str], raw: bytes) -> Exception:
        """What an answer other than 2xx means."""
        where, why = self._where(path), said(raw)
        if status == 401:
            return ApiRefused(
                f"Close does not know the API key of source {self.api.source!r} (401); check api_key in "
                f"[sources.{self.api.source}]",
                status,
            )
        if status == 403:
            return ApiRefused(
                f"the API key of source {self.api.source!r} may not do this (403: {why}); use an admin's key", status
            )
        if status == 429:
            wait = asked_wait(headers)
            shown = "" if wait is None else f", and asks for {wait.total_seconds():g} s"
            return _Passing(
                ApiUnavailable(f"Close's rate limit is used up (429){shown}; try again later", status), wait
            )
        if status >= 500:
            unavailable = ApiUnavailable(f"{where} answered {status}; try again later", status)
            # whether a POST was done before the error is not known
            return unavailable if method == "POST" else _Passing(unavailable, asked_wait(headers))
        if 300 <= status < 400:
            return ApiMalformed(
                f"{where} answered with a redirect ({status}), which is not followed; is api_url right?", status
            )
        if status == 404:
            return ApiRefused(f"{where} does not exist (404: {why})", status)
        return ApiRefused(f"{where} refused it ({status}: {why})", status)

    def _unreachable(self, error: Exception) -> ApiUnavailable:
        why = one_line(str(error), 200) or type(error).__name__
        return ApiUnavailable(f"{self.api.url} cannot be reached ({why}); check the network, then try again")

    def _where(self, path: str) -> str:
        return f"{self.api.url}/{path}"


def log_retries() -> None:
    """Let retries be told by `logging` (stamina's default may write to standard output, where data goes), and the HTTP
    library tell of nothing less than a warning (it writes a line for each request).

    For processes that are ours alone, since it holds for all that is in them.
    """
    from stamina.instrumentation import set_on_retry_hooks

    logging.getLogger("httpx2").setLevel(logging.WARNING)
    set_on_retry_hooks((_tell,))


def _tell(details: RetryDetails) -> None:
    logger.info("asking Close again in %.1f s: %s", details.wait_for, details.caused_by)


# -- helpers ------------------------------------------------------------------------------------------------


def _wait_for(error: Exception) -> bool | timedelta:
    """stamina's question: whether to try again, and after how long."""
    if not isinstance(error, _Passing):
        return False
    if error.wait is None:
        return True
    # a little more than asked: `reset` is counted from when Close wrote it
    return error.wait <= LONGEST_WAIT and error.wait + timedelta(milliseconds=50)


def _bounded(chunks: Iterator[bytes]) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > LONGEST_ANSWER_BYTES:
            raise ApiMalformed(f"an answer of Close's API is longer than {LONGEST_ANSWER_BYTES} bytes")
        yield chunk


def _iso(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat()


def _path(id: str) -> str:
    return f"webhook/{quote(id, safe='')}/"


__all__ = ["CloseClient", "log_retries"]
