"""Ask a sender's API over HTTP: one request and its answer's bytes, with patience for what passes.

A request that failed for a passing reason is made again (stamina): after what the answer asks for, else with back-off. Waits
longer than `LONGEST_WAIT` are not waited for but reported. An answer that says that nothing is left of a rate limit gives
the next request its pause. Redirects are not followed: they would carry the key away. The key is in no message, log or `repr`.

What surprises: a POST whose answer got lost is not made again unless the caller says that it may be done twice.

Needs the extra `http`. Not here: what an answer means (the clients of each sender).
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from webhooks.errors import ConfigurationError
from webhooks.formats import json as jsonio
from webhooks.formats import one_line
from webhooks.sources.remote import ApiError, ApiMalformed, ApiRefused, ApiUnavailable
from webhooks.version import install

if TYPE_CHECKING:
    import httpx2
    from stamina.instrumentation import RetryDetails

logger = logging.getLogger(__name__)

#: For one request, from its first byte to the last.
TIMEOUT = timedelta(seconds=30)
CONNECT_TIMEOUT = timedelta(seconds=5)
#: A pause that a sender asks for is kept up to here; more is reported.
LONGEST_WAIT = timedelta(seconds=60)
#: How often, and for how long in all, a request is tried.
ATTEMPTS = 6
PATIENCE = timedelta(minutes=3)
LONGEST_ANSWER_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Answer:
    """What a 2xx said. headers: by name, in any case."""

    raw: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class ApiManners:
    """How one sender's API behaves, and what messages say of it.

    sender: its name.
    remedy: what to do about a 403.
    after_lost_post: what tells whether a POST was done whose answer got lost.
    asked_wait: how long an answer's headers ask to wait; None when they do not say.
    is_used_up: whether they say that no further request may come at once.
    said: what an error's body says, on one line.
    """

    sender: str
    remedy: str
    after_lost_post: str
    asked_wait: Callable[[Mapping[str, str]], timedelta | None]
    is_used_up: Callable[[Mapping[str, str]], bool]
    said: Callable[[bytes], str]


class _Passing(Exception):
    """A failure that may pass. wait: what the answer asks for, or None."""

    def __init__(self, error: ApiError, wait: timedelta | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait = wait


class ApiCaller:
    """Makes requests to one address; close it after use. Safe for one thread at a time.

    source: the name of the source on whose behalf it asks.
    url: of the API, without a slash at its end.
    is_local: the address is on this machine, so no proxy of the environment is used.
    auth: as httpx2 takes it; None where the headers have the key.
    headers: of each request.
    transport, sleep: handed in by tests.

    Raises ConfigurationError when the extra is missing.
    """

    def __init__(
        self,
        source: str,
        url: str,
        manners: ApiManners,
        *,
        is_local: bool,
        auth: Any = None,
        headers: Mapping[str, str] | None = None,
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        attempts: int = ATTEMPTS,
        patience: timedelta = PATIENCE,
    ) -> None:
        try:
            import httpx2
            import stamina  # noqa: F401
        except ImportError:
            raise ConfigurationError(f"asking {manners.sender} needs the extra 'http': {install('http')}") from None
        self.source = source
        self.url = url
        self.manners = manners
        #: How far our clock is ahead of the sender's, by its last answer; None before, and when it does not say.
        self.clock_ahead: timedelta | None = None
        #: of each request
        self.headers = {"Accept": "application/json", "User-Agent": "webhooks", **(headers or {})}
        self._sleep = sleep
        self._attempts = attempts
        self._patience = patience
        self._pause_until = 0.0
        self._http = httpx2.Client(
            auth=auth,
            timeout=httpx2.Timeout(TIMEOUT.total_seconds(), connect=CONNECT_TIMEOUT.total_seconds()),
            follow_redirects=False,
            trust_env=not is_local,
            transport=transport,
        )

    def __repr__(self) -> str:
        return f"<ApiCaller {self.url}>"

    def close(self) -> None:
        """End its connections."""
        self._http.close()

    def object(
        self, method: str, path: str, parameters: Mapping[str, str] | None = None, body: Any = None
    ) -> Mapping[str, Any]:
        """The JSON object that a 2xx has. Raises ApiError."""
        raw = self.ask(method, path, parameters, body).raw
        with contextlib.suppress(*jsonio.ERRORS):
            found = jsonio.load(raw)
            if isinstance(found, Mapping):
                return found
        raise ApiMalformed(f"{self.url}/{path} answered {len(raw)} bytes that are no JSON object; is api_url right?")

    def ask(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str] | None = None,
        body: Any = None,
        *,
        form: Mapping[str, str] | None = None,
        may_repeat: bool = False,
        auth: Any = ...,
    ) -> Answer:
        """The answer of a 2xx, after as many tries as it takes.

        path: below the address, without a slash at its beginning.
        body: sent as JSON; form: sent as a form.
        may_repeat: a POST that may be done twice is tried again after its answer got lost.
        auth: in place of that of all requests.

        Raises ApiError.
        """
        import stamina

        content = None if body is None else jsonio.dump(body)
        request: dict[str, Any] = {"params": dict(parameters or {}), "content": content, "headers": dict(self.headers)}
        if content is not None:
            request["headers"]["Content-Type"] = "application/json"
        if form is not None:
            request["data"] = dict(form)
        if auth is not ...:
            request["auth"] = auth
        is_once = method == "POST" and not may_repeat
        try:
            for attempt in stamina.retry_context(
                on=_wait_for, attempts=self._attempts, timeout=self._patience, wait_max=20.0
            ):
                with attempt:
                    return self._ask_once(method, path, request, is_once)
        except _Passing as passing:
            raise passing.error from None
        raise AssertionError("stamina ends with a return or an exception")

    def _ask_once(self, method: str, path: str, request: dict[str, Any], is_once: bool) -> Answer:
        import httpx2

        pause = self._pause_until - time.monotonic()
        if pause > 0:
            self._sleep(pause)
        self._pause_until = 0.0
        try:
            with self._http.stream(method, f"{self.url}/{path}", **request) as response:
                raw = b"".join(_bounded(response.iter_bytes(), self.manners.sender))
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise _Passing(self._unreachable(error)) from None
        except httpx2.HTTPError as error:
            if is_once:
                raise ApiUnavailable(
                    f"the answer of {self._where(path)} got lost ({type(error).__name__}), and whether it was done is not "
                    f"known; look with: {self.manners.after_lost_post}"
                ) from None
            raise _Passing(self._unreachable(error)) from None
        self._look_at(response)
        if response.is_success:
            return Answer(raw, response.headers)
        raise self._failure(path, response.status_code, response.headers, raw, is_once)

    def _look_at(self, response: httpx2.Response) -> None:
        """Learn from an answer's headers: the clock's difference, and whether the next request must wait."""
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            said = parsedate_to_datetime(response.headers["Date"]) if "Date" in response.headers else None
            if said is not None:
                self.clock_ahead = datetime.now(UTC) - said.astimezone(UTC)
        if response.is_success and self.manners.is_used_up(response.headers):
            wait = min(self.manners.asked_wait(response.headers) or timedelta(0), LONGEST_WAIT)
            self._pause_until = time.monotonic() + wait.total_seconds()

    def _failure(self, path: str, status: int, headers: Mapping[str, str], raw: bytes, is_once: bool) -> Exception:
        """What an answer other than 2xx means."""
        where, sender, why = self._where(path), self.manners.sender, self.manners.said(raw)
        if status == 401:
            return ApiRefused(
                f"{sender} does not know the API key of source {self.source!r} (401); check api_key in "
                f"[sources.{self.source}]",
                status,
            )
        if status == 429 or (status == 403 and self.manners.is_used_up(headers)):
            wait = self.manners.asked_wait(headers)
            shown = "" if wait is None else f", and asks for {wait.total_seconds():g} s"
            return _Passing(
                ApiUnavailable(f"{sender}'s rate limit is used up ({status}){shown}; try again later", status), wait
            )
        if status == 403:
            return ApiRefused(
                f"the API key of source {self.source!r} may not do this (403: {why}); {self.manners.remedy}", status
            )
        if status >= 500:
            unavailable = ApiUnavailable(f"{where} answered {status}; try again later", status)
            # whether a POST was done before the error is not known
            return unavailable if is_once else _Passing(unavailable, self.manners.asked_wait(headers))
        if 300 <= status < 400:
            return ApiMalformed(
                f"{where} answered with a redirect ({status}), which is not followed; is api_url right?", status
            )
        if status == 404:
            return ApiRefused(f"{where} does not exist (404: {why})", status)
        return ApiRefused(f"{where} refused it ({status}: {why})", status)

    def _unreachable(self, error: Exception) -> ApiUnavailable:
        why = one_line(str(error), 200) or type(error).__name__
        return ApiUnavailable(f"{self.url} cannot be reached ({why}); check the network, then try again")

    def _where(self, path: str) -> str:
        return f"{self.url}/{path}"


def log_retries() -> None:
    """Let retries be told by `logging` (stamina's default may write to standard output, where data goes), and the HTTP
    library tell of nothing less than a warning (it writes a line for each request).

    For processes that are ours alone, since it holds for all that is in them.
    """
    from stamina.instrumentation import set_on_retry_hooks

    logging.getLogger("httpx2").setLevel(logging.WARNING)
    set_on_retry_hooks((_tell,))


def _tell(details: RetryDetails) -> None:
    logger.info("asking again in %.1f s: %s", details.wait_for, details.caused_by)


def _wait_for(error: Exception) -> bool | timedelta:
    """stamina's question: whether to try again, and after how long."""
    if not isinstance(error, _Passing):
        return False
    if error.wait is None:
        return True
    # a little more than asked: it is counted from when the sender wrote it
    return error.wait <= LONGEST_WAIT and error.wait + timedelta(milliseconds=50)


def _bounded(chunks: Iterator[bytes], sender: str) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > LONGEST_ANSWER_BYTES:
            raise ApiMalformed(f"an answer of {sender}'s API is longer than {LONGEST_ANSWER_BYTES} bytes")
        yield chunk


__all__ = ["Answer", "ApiCaller", "ApiManners", "log_retries"]
