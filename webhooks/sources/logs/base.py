"""What the sources of this package share: an API key in their settings, and the little that a log without subscriptions says."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from webhooks.errors import ConfigurationError
from webhooks.formats import json as jsonio
from webhooks.formats import one_line
from webhooks.model import Headers, InboundRequest, ParsedEvent
from webhooks.settings import Secret
from webhooks.sources.api import API_OPTIONS, is_local, read_key, read_url
from webhooks.sources.base import SenderWords
from webhooks.sources.calling import ApiCaller
from webhooks.sources.declared.source import DeclaredSource
from webhooks.sources.remote import ApiMalformed, Subscription, Topic

if TYPE_CHECKING:
    from typing import Self

_LONGEST_SECONDS = 10


@dataclass(frozen=True, slots=True)
class SenderApi:
    """Where a sender's API is, and the key for it.

    source: the name of the source that it belongs to.
    sender: its name.
    key_from: where the key is made, for messages.
    """

    source: str
    sender: str
    key_from: str
    url: str
    key: Secret | None = None

    @property
    def is_local(self) -> bool:
        """Whether the address is on this machine."""
        return is_local(self.url)

    def require_key(self) -> Secret:
        """The key. Raises ConfigurationError with what to set."""
        if self.key is None:
            raise ConfigurationError(
                f"source {self.source!r} has no API key, without which {self.sender} cannot be asked; make one ({self.key_from}) "
                f"and set WEBHOOKS_SOURCES__{self.source}__API_KEY, or api_key_file in [sources.{self.source}]"
            )
        return self.key


class LoggedSource(DeclaredSource):
    """A source of a row whose sender can be asked; see `sources.SourceWithLog`.

    sender, api_url, key_from: see `SenderApi`.
    joined_key: what a key must be that has two parts; "" for keys of one.
    """

    own_options = API_OPTIONS
    sender: ClassVar[str]
    api_url: ClassVar[str]
    key_from: ClassVar[str]
    joined_key: ClassVar[str] = ""
    log_keeps: ClassVar[timedelta] = timedelta(days=30)
    log_by_time: ClassVar[bool] = True
    log_is_ours: ClassVar[bool] = False
    lists_subscriptions: ClassVar[bool] = False
    published_types: ClassVar[Collection[str]] = ()

    def more_problems(self) -> list[str]:
        """See `DeclaredSource.more_problems`."""
        problems: list[str] = []
        options, name = self.settings.options, self.settings.name
        key = read_key(name, options, self.sender, problems, joined=self.joined_key)
        if key is not None and options.get("dedup") in ("body", "none"):
            problems.append(
                f"source {name!r}: with dedup = {options['dedup']!r} nothing tells what of {self.sender}'s log came already; take "
                "dedup out, or api_key"
            )
        self.api = SenderApi(name, self.sender, self.key_from, read_url(name, options, self.api_url, problems), key)
        self.words = SenderWords(
            sender=self.sender,
            no_connection=f"there is no API key; set WEBHOOKS_SOURCES__{name}__API_KEY",
            no_subscriptions=f"{self.sender}'s log does not say why",
        )
        return problems

    @property
    def can_be_asked(self) -> bool:
        """See `Source.can_be_asked`: without a key it is as any other row."""
        return self.can_connect

    @property
    def can_connect(self) -> bool:
        """Whether there is an API key, so that catch-up can run by itself."""
        return self.api.key is not None

    def check_key(self, text: str) -> object:
        """Subscriptions of this sender are not managed here. Raises ValueError."""
        raise ValueError(f"subscriptions of {self.sender} are not managed here")

    def is_subscription_id(self, label: str) -> bool:
        """Whether a key's label is a subscription's id; keys of this sender have any label."""
        return False

    def log_body(self, raw: bytes) -> bytes:
        """The body to keep for an entry of the log: as it was written."""
        return raw

    def parse_log_body(self, body: bytes) -> ParsedEvent:
        """The event that an entry holds. Raises Malformed."""
        (event,) = self.parse(InboundRequest(Headers(), body))
        return event

    def still_grows(self, entry: ParsedEvent, now: datetime) -> bool:
        """Whether the sender may still add to an entry; an event of these never changes."""
        return False

    def would_send(self, entry: ParsedEvent, topic: Topic) -> bool:
        """Whether a subscription to `topic` brings this event; subscriptions are not seen."""
        return True


class LogReader:
    """The common part of a client. caller: makes its requests."""

    def __init__(self, caller: ApiCaller) -> None:
        self.caller = caller

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.caller.url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.caller.close()

    @property
    def clock_ahead(self) -> timedelta | None:
        """How far our clock is ahead of the sender's; None when unknown."""
        return self.caller.clock_ahead

    def subscriptions(self) -> list[Subscription]:
        """Those that the key may see: none, since this sender's are not asked for."""
        return []

    def entries(self, raw: bytes, path: str, where: str) -> list[bytes]:
        """The elements of a list in an answer, each as it was written. Raises ApiMalformed."""
        with contextlib.suppress(LookupError, *jsonio.ERRORS):
            jsonio.load(raw)
            return jsonio.items(raw, path)
        raise ApiMalformed(
            f"{self.caller.url}/{where} answered {len(raw)} bytes that hold no list of its log; is api_url right, and does "
            "nothing stand between?"
        )


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """How long an answer asks to wait by Retry-After in seconds; None when it does not say."""
    text = headers.get("Retry-After", "").strip()
    return timedelta(seconds=int(text)) if text.isascii() and text.isdigit() and len(text) < _LONGEST_SECONDS else None


def reset_after(headers: Mapping[str, str]) -> timedelta | None:
    """The same, or else until the instant of X-RateLimit-Reset, in seconds of Unix time, where nothing is left."""
    asked = retry_after(headers)
    text = headers.get("X-RateLimit-Reset", "")
    if asked is not None or not is_spent(headers) or not (text.isascii() and text.isdigit() and len(text) <= 11):
        return asked
    return timedelta(seconds=max(0.0, int(text) - time.time()))


def is_spent(headers: Mapping[str, str]) -> bool:
    """Whether X-RateLimit-Remaining says that nothing is left."""
    return headers.get("X-RateLimit-Remaining", "").strip() == "0"


def said(raw: bytes) -> str:
    """What an error's body says, on one line; never more than a few words of it."""
    text: Any = ""
    with contextlib.suppress(*jsonio.ERRORS):
        found = jsonio.load(raw)
        if isinstance(found, Mapping):
            error = found.get("error")
            text = error.get("message") if isinstance(error, Mapping) else None
            text = text or found.get("message") or found.get("error_description") or (error if text is None else "")
    return one_line(text) if isinstance(text, str) and text else "no reason given"


__all__ = ["LogReader", "LoggedSource", "SenderApi", "is_spent", "reset_after", "retry_after", "said"]
