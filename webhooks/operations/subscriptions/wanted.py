"""What subscriptions must ask for, and what each of them lacks. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from webhooks.routing import Pattern, expand
from webhooks.sources import Subscription, Topic


class Wants(Protocol):
    """What is asked of a handler."""

    @property
    def source(self) -> str | None:
        """The source that it is for; None for every one."""

    @property
    def patterns(self) -> Sequence[Pattern]:
        """The event types that it wants."""


def subscriptions_of_this_endpoint(
    subscriptions: Iterable[Subscription], labels: Collection[str], public_url: str = "", path: str = ""
) -> list[Subscription]:
    """Those that post to us: a key is held under their id, or their address is `public_url`.

    labels: of the keys that are held.
    path: of our route; when neither tells, those with an address that ends with it. Only for looking: never change one of
        these.
    """
    every = list(subscriptions)
    found = [each for each in every if each.id in labels or (public_url and is_same_url(each.url, public_url))]
    if found or not path:
        return found
    return [each for each in every if urlsplit(each.url).path.rstrip("/").endswith(path.rstrip("/"))]


def is_same_url(one: str, other: str) -> bool:
    """Whether two addresses are the same but for a slash at the end."""
    return one.rstrip("/") == other.rstrip("/")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What handlers want of one source.

    types: event types that can be subscribed to.
    unknown: patterns that match no type which the sender publishes, and so cannot be turned into a subscription.
    """

    types: frozenset[str]
    unknown: tuple[str, ...] = ()


def wanted_types(
    handlers: Iterable[Wants], source: str, published: Collection[str], known: Collection[str] = ()
) -> Wanted:
    """The types that the handlers of `source` ask for.

    published: what the sender's list names; wildcards mean these.
    known: further spellings, accepted when asked for exactly.
    """
    types: set[str] = set()
    unknown: set[str] = set()
    for handler in handlers:
        if handler.source not in (None, source):
            continue
        for pattern in handler.patterns:
            found = expand(pattern, published) or ([pattern.text] if pattern.is_exact and pattern.text in known else [])
            types.update(found)
            if not found:
                unknown.add(pattern.text)
    return Wanted(frozenset(types), tuple(sorted(unknown)))


@dataclass(frozen=True, slots=True)
class SubscriptionChange:
    """What makes one subscription what it must be.

    subscription: None to make one.
    add, remove: event types.
    url: where it must post, when it does not.
    needs_key: its key is not held.
    """

    subscription: Subscription | None
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    url: str | None = None
    needs_key: bool = False

    @property
    def is_needed(self) -> bool:
        """Whether anything is to be done."""
        return self.subscription is None or bool(self.add or self.remove or self.url or self.needs_key)

    def topics(self) -> list[Topic]:
        """The topics afterwards; those that stay keep their filters."""
        before = self.subscription.topics if self.subscription is not None else ()
        kept = [topic for topic in before if topic.type not in self.remove]
        return [*kept, *(Topic(type) for type in self.add)]


def difference(
    found: Sequence[Subscription],
    wanted: Wanted,
    *,
    url: str = "",
    labels: Collection[str] = (),
    keep: bool = False,
) -> list[SubscriptionChange]:
    """What has to be done so that each of our subscriptions asks for exactly what is wanted.

    url: where they must post; "" leaves them where they are.
    labels: of the keys that are held.
    keep: take nothing away.
    """
    if not found:
        return [SubscriptionChange(None, tuple(sorted(wanted.types)), url=url or None)]
    return [
        SubscriptionChange(
            each,
            add=tuple(sorted(wanted.types - each.types)),
            remove=() if keep else tuple(sorted(each.types - wanted.types)),
            url=url if url and not is_same_url(each.url, url) else None,
            needs_key=each.id not in labels,
        )
        for each in found
    ]


__all__ = [
    "SubscriptionChange",
    "Wanted",
    "difference",
    "is_same_url",
    "subscriptions_of_this_endpoint",
    "wanted_types",
]
