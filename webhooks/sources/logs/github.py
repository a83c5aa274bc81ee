"""GitHub as a sender that can be asked: of the deliveries of three days, those that failed are delivered again.

GitHub does not repeat a delivery that failed; it keeps three days of them, and redelivers one on request, with its bytes, id
and a signature. Its list has no filter by time, so it is walked from the newest to the beginning of the window. Of one event
(its `guid`) the newest attempt counts; after `MOST_ATTEMPTS` that failed it is given up, for what we refuse once is refused again.

Sources: https://docs.github.com/en/webhooks/using-webhooks/handling-failed-webhook-deliveries,
https://docs.github.com/en/webhooks/testing-and-troubleshooting-webhooks/redelivering-webhooks and
https://docs.github.com/en/rest/repos/webhooks (read 2026-11-29).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from webhooks.errors import Malformed
from webhooks.formats import json as jsonio
from webhooks.formats import read_iso
from webhooks.model import ParsedEvent
from webhooks.settings import shown
from webhooks.sources.api import API_OPTIONS
from webhooks.sources.base import LogKind
from webhooks.sources.calling import ApiCaller, ApiManners, log_retries
from webhooks.sources.logs.base import LoggedSource, LogReader, SenderApi, is_spent, reset_after, said
from webhooks.sources.remote import ApiMalformed, ApiRefused, LogPage, NotDeliveredAgain

PAGE = 100
#: Of one event; GitHub's own and those that were asked for.
MOST_ATTEMPTS = 5
KEEPS = timedelta(days=3)
_HOOK = re.compile(
    r"(?:repos/[A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,100}|orgs/[A-Za-z0-9._-]{1,100})/hooks/[0-9]{1,18}"
)
_NEXT = re.compile(r'<([^<>]{1,2000})>\s*;\s*rel="next"')
MANNERS = ApiManners(
    sender="GitHub",
    remedy="the token needs the right to read and write webhooks of the repository or organization",
    after_lost_post="webhooks events list",
    asked_wait=reset_after,
    is_used_up=is_spent,
    said=said,
)


class GitHubSource(LoggedSource):
    """GitHub's row, whose sender delivers again what it is asked for."""

    log_kind = LogKind.ASK_AGAIN
    own_options = API_OPTIONS | {"hook"}
    sender = "GitHub"
    api_url = "https://api.github.com"
    key_from = "Developer settings, a fine-grained token that may read and write webhooks"
    log_keeps = KEEPS
    log_by_time = False
    log_is_ours = True

    def more_problems(self) -> list[str]:
        """See `DeclaredSource.more_problems`."""
        problems = super().more_problems()
        hook = self.settings.options.get("hook")
        if hook is None and self.api.key is not None:
            problems.append(
                f"source {self.settings.name!r}: api_key needs hook, whose deliveries are asked for: 'repos/OWNER/NAME/hooks/ID' "
                "or 'orgs/NAME/hooks/ID'; the header X-GitHub-Hook-ID of a delivery has the ID"
            )
        if hook is not None and (not isinstance(hook, str) or not _HOOK.fullmatch(hook)):
            problems.append(
                f"source {self.settings.name!r}: hook is {shown(hook)}; write 'repos/OWNER/NAME/hooks/ID' or 'orgs/NAME/hooks/ID'"
            )
        self.hook = str(hook or "")
        return problems

    def connect(self) -> GitHubLog:
        """A client of GitHub's API. Raises ConfigurationError when there is no key or the extra `http` is missing."""
        client = GitHubLog(self.api, self.hook)
        log_retries()
        return client

    def parse_log_body(self, body: bytes) -> ParsedEvent:
        """The event that a delivery was of. Raises Malformed."""
        return read_delivery(body)


def read_delivery(body: bytes) -> ParsedEvent:
    """The event of an entry of the list; its key is the id that the delivery has in X-GitHub-Delivery. Raises Malformed."""
    try:
        found = jsonio.load(body)
    except jsonio.ERRORS as error:
        raise Malformed("a delivery of GitHub's list is no JSON") from error
    if not isinstance(found, Mapping) or not isinstance(found.get("id"), int):
        raise Malformed("a delivery of GitHub's list has no id")
    guid, event, at = found.get("guid"), found.get("event"), found.get("delivered_at")
    if not isinstance(guid, str) or not guid or not isinstance(event, str) or not event:
        raise Malformed("a delivery of GitHub's list says no guid or no event")
    action = found.get("action")
    kind = f"{event}.{action}" if isinstance(action, str) and action else event
    return ParsedEvent(dedup_key=guid, type=kind, body=body, occurred_at=read_iso(at) if isinstance(at, str) else None)


class GitHubLog(LogReader):
    """The deliveries of one webhook. hook: its path in the API. options: as `ApiCaller` takes them."""

    def __init__(self, api: SenderApi, hook: str, **options: Any) -> None:
        headers = {
            "Authorization": f"Bearer {api.require_key().reveal()}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        super().__init__(ApiCaller(api.source, api.url, MANNERS, is_local=api.is_local, headers=headers, **options))
        self._deliveries = f"{hook}/deliveries"
        #: events of the walk under way whose newest attempt was seen
        self._settled: set[str] = set()
        #: {guid: how many attempts failed in the last days}; None before it was asked for
        self._failed: Counter[str] | None = None

    def check(self) -> None:
        """Ask for one delivery. Raises ApiError."""
        self.caller.ask("GET", self._deliveries, {"per_page": "1"})

    def page(self, since: datetime, until: datetime, cursor: str | None = None) -> LogPage:
        """Those of one page of the list whose newest attempt failed and lies from `since` to `until`. Raises ApiError."""
        if cursor is None:
            self._settled.clear()
        entries, following = self._list(cursor)
        failed: list[bytes] = []
        for entry in entries:
            try:
                event = read_delivery(entry)
            except Malformed:
                failed.append(entry)  # to be counted and named
                continue
            if event.occurred_at is not None and event.occurred_at < since:
                following = None  # what follows is older
                continue
            is_newest = event.dedup_key not in self._settled
            self._settled.add(event.dedup_key)
            is_later = event.occurred_at is not None and event.occurred_at > until  # for the next window
            if is_newest and not is_later and not _succeeded(entry):
                failed.append(entry)
        return LogPage(tuple(failed), following, passed_over=len(entries) - len(failed))

    def ask_again(self, entry: ParsedEvent) -> None:
        """Have a delivery made again. Raises `NotDeliveredAgain` where it was tried often enough, and ApiError."""
        found = jsonio.load(entry.body)
        if found.get("redelivery") is True and self._attempts()[entry.dedup_key] >= MOST_ATTEMPTS:
            raise NotDeliveredAgain(f"{MOST_ATTEMPTS} attempts failed, the last with {found.get('status_code')}")
        try:
            # twice is harmless: the second copy is a duplicate
            self.caller.ask("POST", f"{self._deliveries}/{int(found['id'])}/attempts", may_repeat=True)
        except ApiRefused as error:
            if error.status in (401, 403):
                raise
            raise NotDeliveredAgain(str(error), error.status) from error

    def _attempts(self) -> Counter[str]:
        """How often each event of the last days failed; the list is walked once for it."""
        if self._failed is None:
            self._failed = Counter(guid for guid, succeeded in self._walk() if not succeeded)
        return self._failed

    def _walk(self) -> Iterator[tuple[str, bool]]:
        cursor: str | None = None
        while True:
            entries, cursor = self._list(cursor)
            for entry in entries:
                try:
                    yield read_delivery(entry).dedup_key, _succeeded(entry)
                except Malformed:
                    continue
            if cursor is None:
                return

    def _list(self, cursor: str | None) -> tuple[list[bytes], str | None]:
        """(the deliveries of one page, newest first; the cursor of the next)."""
        asked = {"per_page": str(PAGE)} if cursor is None else {"per_page": str(PAGE), "cursor": cursor}
        answer = self.caller.ask("GET", self._deliveries, asked)
        entries = self.entries(answer.raw, "", self._deliveries)
        link = _NEXT.search(answer.headers.get("Link", ""))
        following = parse_qs(urlsplit(link[1]).query).get("cursor", [None])[0] if link is not None else None
        if following is not None and following == cursor:
            raise ApiMalformed("GitHub's list of deliveries names itself as its next page, and never ends")
        return entries, following if entries else None


def _succeeded(entry: bytes) -> bool:
    code = jsonio.load(entry).get("status_code")
    return isinstance(code, int) and 200 <= code <= 299


__all__ = ["KEEPS", "MOST_ATTEMPTS", "GitHubLog", "GitHubSource", "read_delivery"]
