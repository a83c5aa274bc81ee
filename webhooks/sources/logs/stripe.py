"""Stripe as a sender that can be asked: its events of thirty days, as they would have come.

Snapshot events come from `/v1/events`, thin ones from `/v2/core/events` where `thin_events` asks for them. What surprises: a
copy in the list is written otherwise than the one that is posted (blanks, `pending_webhooks`), so an event is the same
when its id is, which is signed; bodies are not compared.

Sources: https://docs.stripe.com/api/events/list, https://docs.stripe.com/api/v2/core/events/list and
https://docs.stripe.com/webhooks/process-undelivered-events (read 2026-11-29).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from webhooks.formats import json as jsonio
from webhooks.model import InboundRequest, ParsedEvent
from webhooks.sources.api import API_OPTIONS
from webhooks.sources.base import LogKind
from webhooks.sources.calling import ApiCaller, ApiManners, log_retries
from webhooks.sources.logs.base import LoggedSource, LogReader, SenderApi, retry_after, said
from webhooks.sources.remote import ApiMalformed, LogPage

#: Entries on a page; the most that Stripe gives.
PAGE = 100
#: Without it Stripe answers nothing below /v2.
VERSION = "2025-04-30.basil"
MANNERS = ApiManners(
    sender="Stripe",
    remedy="give a restricted key the right to read events",
    after_lost_post="webhooks events list",
    asked_wait=retry_after,
    is_used_up=lambda headers: False,
    said=said,
)


class StripeSource(LoggedSource):
    """Stripe's row, whose sender keeps the events of thirty days."""

    log_kind = LogKind.READ_LOG
    own_options = API_OPTIONS | {"thin_events"}
    sender = "Stripe"
    api_url = "https://api.stripe.com"
    key_from = "Developers, API keys: a restricted key that may read events"

    def more_problems(self) -> list[str]:
        """See `DeclaredSource.more_problems`."""
        problems = super().more_problems()
        if not isinstance(self.settings.options.get("thin_events", False), bool):
            problems.append(f"source {self.settings.name!r}: thin_events must be true or false")
        return problems

    def parse(self, request: InboundRequest) -> Sequence[ParsedEvent]:
        """See `Source.parse`. Equal ids are equal events, however they are written."""
        return [replace(event, compared=event.dedup_key.encode("utf-8")) for event in super().parse(request)]

    def connect(self) -> StripeLog:
        """A client of Stripe's API. Raises ConfigurationError when there is no key or the extra `http` is missing."""
        client = StripeLog(self.api, is_thin_too=bool(self.settings.options.get("thin_events")))
        log_retries()
        return client


class StripeLog(LogReader):
    """Stripe's lists of events. is_thin_too: reads thin events after the snapshots. options: as `ApiCaller` takes them."""

    def __init__(self, api: SenderApi, *, is_thin_too: bool = False, **options: Any) -> None:
        headers = {"Authorization": f"Bearer {api.require_key().reveal()}"}
        super().__init__(ApiCaller(api.source, api.url, MANNERS, is_local=api.is_local, headers=headers, **options))
        self._is_thin_too = is_thin_too

    def check(self) -> None:
        """Ask for one event. Raises ApiError."""
        self.caller.ask("GET", "v1/events", {"limit": "1"})

    def page(self, since: datetime, until: datetime, cursor: str | None = None) -> LogPage:
        """One page of the events from `since` to `until`, newest first; thin ones after all others. Raises ApiError."""
        if cursor is not None and cursor.startswith("v2/"):
            return self._thin(cursor)
        # `created` is in whole seconds: what is created in the second of `since` belongs to the slice before
        asked = {"created[gte]": str(math.ceil(since.timestamp())), "created[lte]": str(int(until.timestamp()))}
        asked["limit"] = str(PAGE)
        if cursor is not None:
            asked["starting_after"] = cursor
        raw = self.caller.ask("GET", "v1/events", asked).raw
        entries = self.entries(raw, "data", "v1/events")
        following: str | None = None
        if jsonio.load(raw).get("has_more") is True:
            following = self._id(entries)
            if following == cursor:
                raise ApiMalformed(
                    "Stripe's list of events answered the page that it was asked for after, and never ends"
                )
        elif self._is_thin_too:
            following = f"v2/core/events?created[gte]={_iso(since)}&created[lte]={_iso(until)}&limit={PAGE}"
        return LogPage(tuple(entries), following)

    def _thin(self, address: str) -> LogPage:
        path, _, query = address.partition("?")
        self.caller.headers["Stripe-Version"] = VERSION
        raw = self.caller.ask("GET", path, dict(parse_qsl(query))).raw
        del self.caller.headers["Stripe-Version"]
        entries = self.entries(raw, "data", path)
        following = jsonio.load(raw).get("next_page_url")
        if following is None:
            return LogPage(tuple(entries))
        parts = urlsplit(following if isinstance(following, str) else "")
        found = f"{parts.path.lstrip('/')}?{parts.query}"
        # never another address: the key goes along
        if not found.startswith("v2/core/events?") or found == address:
            raise ApiMalformed(f"{self.caller.url}/v2/core/events names a next page that is none of its own")
        return LogPage(tuple(entries), found)

    def _id(self, entries: Sequence[bytes]) -> str:
        if entries:
            last = jsonio.load(entries[-1])
            if isinstance(last, dict) and isinstance(last.get("id"), str) and last["id"]:
                return str(last["id"])
        raise ApiMalformed(f"{self.caller.url}/v1/events says that there is more, and not after which event")


def _iso(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


__all__ = ["StripeLog", "StripeSource"]
