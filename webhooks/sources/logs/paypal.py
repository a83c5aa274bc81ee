"""PayPal as a sender that can be asked: its list of events says what happened, and what never came is sent again.

An event of the list is compared with what is stored by its id; what is missing is resent to our webhook by PayPal, with its own
bytes and signature. What still waits for one of PayPal's own attempts is not resent.

Sources: https://developer.paypal.com/api/webhooks/v1/schema.yaml and
https://developer.paypal.com/api/rest/webhooks/events-dashboard.md (thirty days) (read 2026-11-29).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from webhooks.formats import json as jsonio
from webhooks.formats import one_line
from webhooks.model import ParsedEvent
from webhooks.sources.base import LogKind
from webhooks.sources.calling import ApiCaller, ApiManners, log_retries
from webhooks.sources.logs.base import LoggedSource, LogReader, SenderApi, retry_after, said
from webhooks.sources.remote import ApiMalformed, ApiRefused, LogPage, NotDeliveredAgain

PAGE = 100
EVENTS = "v1/notifications/webhooks-events"
#: A token is renewed so long before it ends.
_EARLY_SECONDS = 60
MANNERS = ApiManners(
    sender="PayPal",
    remedy="take the client of the application that has the webhook",
    after_lost_post="webhooks events list",
    asked_wait=retry_after,
    is_used_up=lambda headers: False,
    said=said,
)


class PayPalSource(LoggedSource):
    """PayPal's row, whose sender sends again what it is asked for."""

    log_kind = LogKind.ASK_AGAIN
    sender = "PayPal"
    api_url = "https://api-m.paypal.com"
    key_from = "Apps & Credentials, your application: client id and secret, joined by a colon"
    joined_key = "the client id and the secret of your application, joined by a colon"

    def parse_log_body(self, body: bytes) -> ParsedEvent:
        """The event that an entry says of, under its id alone: its bytes are not those that were sent. Raises Malformed."""
        event = super().parse_log_body(body)
        return replace(event, dedup_key=str(jsonio.load(body)["id"]))

    def connect(self) -> PayPalLog:
        """A client of PayPal's API. Raises ConfigurationError when there is no key or the extra `http` is missing."""
        client = PayPalLog(self.api, str(self.settings.options["webhook_id"]))
        log_retries()
        return client


class PayPalLog(LogReader):
    """PayPal's list of events. webhook: the id of ours. options: as `ApiCaller` takes them."""

    def __init__(
        self, api: SenderApi, webhook: str, *, monotonic: Callable[[], float] = time.monotonic, **options: Any
    ) -> None:
        client, _, secret = api.require_key().reveal().partition(":")
        self._client = (client, secret)
        super().__init__(ApiCaller(api.source, api.url, MANNERS, is_local=api.is_local, **options))
        self._webhook = webhook
        self._monotonic = monotonic
        self._good_until = float("-inf")

    def check(self) -> None:
        """Ask for one event. Raises ApiError."""
        self._sign_in()
        self.caller.ask("GET", EVENTS, {"page_size": "1"})

    def page(self, since: datetime, until: datetime, cursor: str | None = None) -> LogPage:
        """One page of the events from `since` to `until`, newest first. Raises ApiError."""
        self._sign_in()
        first = {"page_size": str(PAGE), "start_time": _iso(since), "end_time": _iso(until)}
        raw = self.caller.ask("GET", EVENTS, first if cursor is None else dict(parse_qsl(cursor))).raw
        entries = self.entries(raw, "events", EVENTS)
        following = _next(jsonio.load(raw))
        if following is not None and following == cursor:
            raise ApiMalformed("PayPal's list of events names itself as its next page, and never ends")
        return LogPage(tuple(entries), following if entries else None)

    def ask_again(self, entry: ParsedEvent) -> None:
        """Have an event resent to our webhook. Raises ApiError."""
        self._sign_in()
        id = str(jsonio.load(entry.body)["id"])
        try:
            # twice is harmless: the second copy is a duplicate
            self.caller.ask(
                "POST", f"{EVENTS}/{quote(id, safe='')}/resend", body={"webhook_ids": [self._webhook]}, may_repeat=True
            )
        except ApiRefused as error:
            if error.status in (401, 403):
                raise
            raise NotDeliveredAgain(str(error), error.status) from error

    def _sign_in(self) -> None:
        """Have a token that is good for the next request. Raises ApiError."""
        if self._monotonic() < self._good_until:
            return
        self.caller.headers.pop("Authorization", None)
        asked = self._monotonic()
        form = {"grant_type": "client_credentials"}
        raw = self.caller.ask("POST", "v1/oauth2/token", form=form, may_repeat=True, auth=self._client).raw
        found: Any = None
        try:
            found = jsonio.load(raw)
            token, seconds = found["access_token"], float(found["expires_in"])
        except (*jsonio.ERRORS, LookupError, TypeError, ValueError):
            raise ApiMalformed(f"{self.caller.url}/v1/oauth2/token answered no token; is api_url right?") from None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise ApiMalformed(f"{self.caller.url}/v1/oauth2/token answered no token; is api_url right?")
        self.caller.headers["Authorization"] = f"Bearer {token}"
        self._good_until = asked + seconds - _EARLY_SECONDS


def _next(found: Any) -> str | None:
    """The query of the next page's address; its host is not believed."""
    links = found.get("links") if isinstance(found, Mapping) else None
    for link in links if isinstance(links, list) else ():
        if isinstance(link, Mapping) and link.get("rel") == "next" and isinstance(link.get("href"), str):
            query = urlsplit(link["href"]).query
            if not query:
                raise ApiMalformed(f"PayPal names {one_line(link['href'], 100)!r} as the next page, which is none")
            return query
    return None


def _iso(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


__all__ = ["PayPalLog", "PayPalSource"]
