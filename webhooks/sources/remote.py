"""What a sender's API can give, and how it can fail; shared by every client of one.

A client (`close.client`) turns HTTP into these records and errors, so that catch-up, subscriptions and doctor know
neither HTTP nor a vendor. Errors are sorted by what to do: mend the key (`ApiRefused`), come back later
(`ApiUnavailable`), begin again (`StaleCursor`), look at who answers (`ApiMalformed`). No text holds a key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from webhooks.errors import WebhooksError
from webhooks.model import ParsedEvent
from webhooks.settings import Secret


class ApiError(WebhooksError):
    """A sender's API did not do what was asked. status: of its answer; None when there was none."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ApiRefused(ApiError):
    """The key is missing, unknown or may not do this (401, 403), or what was asked cannot be (other 4xx)."""


class ApiUnavailable(ApiError):
    """No answer, a server's error, or a rate limit that asks for more patience than there is: later it may work."""


class ApiMalformed(ApiError):
    """An answer that is not what this address should answer."""


class NotDeliveredAgain(ApiError):
    """One entry of the log is not delivered again: the sender refuses, or it was tried often enough. Others may be."""


class StaleCursor(ApiError):
    """The API no longer knows the place where a walk was: it begins again."""


@dataclass(frozen=True, slots=True)
class LogPage:
    """One page of a sender's event log, newest entry first.

    entries: their bytes, as written.
    next: cursor to older ones.
    passed_over: entries that were read besides, and that nothing has to be done about.
    """

    entries: tuple[bytes, ...]
    next: str | None = None
    passed_over: int = 0


@dataclass(frozen=True, slots=True)
class Topic:
    """One kind of event that a subscription asks for. filter: the sender's own, narrowing it; None for all."""

    type: str
    filter: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Subscription:
    """One webhook subscription as the sender has it.

    status: "active", or why not in the sender's word.
    paused_by_call: a person or program paused it on purpose.
    key: its signature key, where the sender shows it.
    """

    id: str
    url: str
    status: str
    topics: tuple[Topic, ...] = ()
    verify_ssl: bool = True
    health_status: str | None = None
    latest_error: str | None = None
    pause_reason: str | None = None
    paused_by_call: bool = False
    created_at: datetime | None = None
    updated_at: datetime | None = None
    key: Secret | None = None

    @property
    def is_active(self) -> bool:
        """Whether the sender posts to it."""
        return self.status == "active"

    @property
    def types(self) -> frozenset[str]:
        """The event types that it asks for."""
        return frozenset(topic.type for topic in self.topics)


class LogClient(Protocol):
    """What catch-up asks of an open client. clock_ahead: how far our clock is ahead of the sender's; None when unknown."""

    clock_ahead: timedelta | None

    def page(self, since: datetime, until: datetime, cursor: str | None = None) -> LogPage:
        """One page of the log's entries from `since` to `until`, both included. Raises `ApiError`, `StaleCursor` among them."""

    def subscriptions(self) -> list[Subscription]:
        """Every subscription that the key may see. Raises `ApiError`."""

    def check(self) -> None:
        """Ask for as little as shows that the key is right; for senders whose subscriptions are not listed. Raises `ApiError`."""


class AskAgainClient(LogClient, Protocol):
    """The same of a sender that is asked to deliver again."""

    def ask_again(self, entry: ParsedEvent) -> None:
        """Have an entry of the log delivered again. Raises `ApiError`, `NotDeliveredAgain` among them."""


class SubscriptionClient(Protocol):
    """What the management of subscriptions asks of an open client; every method raises `ApiError`."""

    def subscriptions(self) -> list[Subscription]:
        """Every subscription that the key may see."""

    def subscription(self, id: str) -> Subscription:
        """One of them, with its key where the sender shows it."""

    def create(self, url: str, topics: Sequence[Topic], *, verify_ssl: bool = True) -> Subscription:
        """Make one."""

    def update(
        self, id: str, *, status: str | None = None, topics: Sequence[Topic] | None = None, url: str | None = None
    ) -> Subscription:
        """Change what is given and leave the rest."""

    def delete(self, id: str) -> None:
        """Remove one; one that is gone already is fine."""
