"""Ask Close: pages of its event log, and its webhook subscriptions.

`sources.calling` makes the requests, with the pauses that `RateLimit` or `Retry-After` ask for. The key is the Basic user
name with an empty password. Creating is never repeated after an answer may have got lost: Close would make a second
subscription.

Needs the extra `http`. Source: developer.close.com/api/resources/events, …/webhooks and /api/overview/rate-limits
(see docs/close.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from webhooks.formats import json as jsonio
from webhooks.sources.calling import ATTEMPTS, PATIENCE, ApiCaller, ApiManners
from webhooks.sources.close.answers import asked_wait, is_used_up, read_subscription, said, written_topic
from webhooks.sources.close.api import Api
from webhooks.sources.remote import ApiMalformed, ApiRefused, LogPage, StaleCursor, Subscription, Topic

if TYPE_CHECKING:
    import httpx2

#: Entries on a page of the log, and subscriptions on one of theirs.
PAGE = 50
SUBSCRIPTIONS_PAGE = 100
#: More subscriptions than any organization may have (500 for automation platforms).
MOST_SUBSCRIPTIONS = 1000


class _Page(msgspec.Struct):
    data: list[msgspec.Raw]
    cursor_next: str | None = None


_PAGES = msgspec.json.Decoder(_Page)


MANNERS = ApiManners(
    sender="Close",
    remedy="use an admin's key",
    after_lost_post="webhooks subscriptions list",
    asked_wait=asked_wait,
    is_used_up=is_used_up,
    said=said,
)


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
        self.api = api
        self._caller = ApiCaller(
            api.source,
            api.url,
            MANNERS,
            is_local=api.is_local,
            auth=(key.reveal(), ""),
            transport=transport,
            sleep=sleep,
            attempts=attempts,
            patience=patience,
        )

    @property
    def clock_ahead(self) -> timedelta | None:
        """How far our clock is ahead of Close's, by its last answer; None before, and when it does not say."""
        return self._caller.clock_ahead

    def __repr__(self) -> str:
        return f"<CloseClient {self.api.url}>"

    def __enter__(self) -> CloseClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._caller.close()

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
            raw = self._caller.ask("GET", "event/", parameters).raw
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

    def check(self) -> None:
        """Ask whose the key is. Raises ApiError."""
        self._caller.ask("GET", "me/")

    # -- subscriptions -------------------------------------------------------------------------------------

    def subscriptions(self) -> list[Subscription]:
        """Every subscription that this key may see: all for an admin's, else its owner's own."""
        found: list[Subscription] = []
        while True:
            parameters = {"_skip": str(len(found)), "_limit": str(SUBSCRIPTIONS_PAGE)}
            answer = self._caller.object("GET", "webhook/", parameters)
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
        return read_subscription(self._caller.object("GET", _path(id)))

    def create(self, url: str, topics: Sequence[Topic], *, verify_ssl: bool = True) -> Subscription:
        """Make a subscription; its `key` is None when the answer does not show it."""
        body = {"url": url, "events": [written_topic(topic) for topic in topics], "verify_ssl": verify_ssl}
        return read_subscription(self._caller.object("POST", "webhook/", body=body))

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
        return read_subscription(self._caller.object("PUT", _path(id), body=changes))

    def delete(self, id: str) -> None:
        """Remove a subscription; one that is gone already is fine."""
        try:
            self._caller.ask("DELETE", _path(id))
        except ApiRefused as error:
            if error.status != 404:
                raise


def _iso(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat()


def _path(id: str) -> str:
    return f"webhook/{quote(id, safe='')}/"


__all__ = ["CloseClient"]
