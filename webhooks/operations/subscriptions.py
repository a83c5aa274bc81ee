"""The sender's subscriptions to us: what they must ask for, whether they run, and which keys we hold.

`Subscriptions` lists, makes, compares, pauses, resumes and rotates them through the sender's API. What must be asked for
follows from the registered handlers: `wanted_types` expands their patterns by the catalogue, `difference` says what a
subscription lacks and has too much. Keys go from the API's answer into the SECRET_FILE and nowhere else.

Rotation promises that no delivery is refused for good: the new key is in the file before the old subscription goes,
the old one goes only when a delivery under the new key was seen, and its key stays a little longer. Interrupted at any
point, the same command continues it.

What surprises: a subscription is ours if we hold a key under its id, or if it posts to the source's `public_url`. One
that merely has a similar address may be another installation's, and is never touched.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol
from urllib.parse import urlsplit

from webhooks.errors import NotFound, WebhooksError
from webhooks.routing import Pattern, expand
from webhooks.sources import ANY_SENDER, ApiMalformed, KeyFile, SenderWords, Subscription, SubscriptionClient, Topic
from webhooks.store import Store

logger = logging.getLogger(__name__)

#: How long a rotation waits for a delivery under the new key: there is no test delivery, so for real traffic.
WAIT = timedelta(minutes=15)
#: How long the old key is still accepted after its subscription is gone: for what was under way.
GRACE = timedelta(seconds=30)
LOOK_EVERY_SECONDS = 0.5


class SubscriptionError(WebhooksError):
    """Subscriptions that are not as a command needs them; the text says what to do."""


class Wants(Protocol):
    """What is asked of a handler."""

    @property
    def source(self) -> str | None:
        """The source that it is for; None for every one."""

    @property
    def patterns(self) -> Sequence[Pattern]:
        """The event types that it wants."""


# -- rules --------------------------------------------------------------------------------------------------------


def ours(
    subscriptions: Iterable[Subscription], labels: Collection[str], public_url: str = "", path: str = ""
) -> list[Subscription]:
    """Those that post to us: a key is held under their id, or their address is `public_url`.

    path: of our route; when neither tells, those whose address ends with it. Only for looking: never change one of these.
    """
    every = list(subscriptions)
    found = [each for each in every if each.id in labels or (public_url and _same_url(each.url, public_url))]
    if found or not path:
        return found
    return [each for each in every if urlsplit(each.url).path.rstrip("/").endswith(path.rstrip("/"))]


def _same_url(one: str, other: str) -> bool:
    return one.rstrip("/") == other.rstrip("/")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What handlers want of one source. types: event types that can be subscribed to. unknown: patterns that match
    no type which the sender publishes, and so cannot be turned into a subscription."""

    types: frozenset[str]
    unknown: tuple[str, ...] = ()


def wanted_types(
    handlers: Iterable[Wants], source: str, published: Collection[str], known: Collection[str] = ()
) -> Wanted:
    """The types that the handlers of `source` ask for.

    published: what the sender's list names; wildcards mean these. known: further spellings, taken when asked for exactly.
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
    """What makes one subscription what it must be. subscription: None to make one. url: where it shall post, when it
    does not. needs_key: we do not hold its key."""

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

    url: where they shall post ("" leaves them where they are). labels: of the keys that we hold. keep: take nothing away.
    """
    if not found:
        return [SubscriptionChange(None, tuple(sorted(wanted.types)), url=url or None)]
    return [
        SubscriptionChange(
            each,
            add=tuple(sorted(wanted.types - each.types)),
            remove=() if keep else tuple(sorted(each.types - wanted.types)),
            url=url if url and not _same_url(each.url, url) else None,
            needs_key=each.id not in labels,
        )
        for each in found
    ]


# -- doing it -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation did. old_key: "removed", or why it is still there."""

    old: str
    new: str
    seen_at: datetime
    old_key: str


class Subscriptions:
    """The subscriptions of one source.

    keys: where its keys are written.
    labels: of all keys that are configured, in the file or not.
    public_url: where the sender reaches us.
    check_key: raises ValueError for what the source would not take as a key.
    words: what messages say of the sender.
    """

    def __init__(
        self,
        source: str,
        api: SubscriptionClient,
        keys: KeyFile,
        *,
        store: Store,
        labels: Collection[str] = (),
        public_url: str = "",
        check_key: Callable[[str], object] = lambda text: None,
        words: SenderWords = ANY_SENDER,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source = source
        self.public_url = public_url
        self._api = api
        self._keys = keys
        self._store = store
        self._configured = frozenset(labels)
        self._check_key = check_key
        self._words = words
        self._sleep = sleep
        self._monotonic = monotonic

    def labels(self) -> frozenset[str]:
        """Of the keys that we hold now."""
        return self._configured | frozenset(self._keys.labels())

    def all(self) -> list[Subscription]:
        """Every subscription that the API key may see."""
        return self._api.subscriptions()

    def ours(self) -> list[Subscription]:
        """Those that post to us."""
        return ours(self.all(), self.labels(), self.public_url)

    def key_uses(self) -> Mapping[str, datetime]:
        """{label: when the key was last seen to verify a delivery}."""
        return self._store.key_uses.of(self.source)

    def create(self, url: str, topics: Sequence[Topic], *, verify_ssl: bool = True) -> Subscription:
        """Make a subscription and write its key into the file; when that fails, the subscription is removed again."""
        self._keys.require_writable()
        if not topics:
            raise SubscriptionError(
                f"nothing to subscribe to: no handler wants events of source {self.source!r}; write one, or name types "
                "with --type"
            )
        return self._create(url, topics, verify_ssl)

    def _create(self, url: str, topics: Sequence[Topic], verify_ssl: bool) -> Subscription:
        made = self._api.create(url, topics, verify_ssl=verify_ssl)
        try:
            self._take_key(made)
        except BaseException:
            # without its key its deliveries would only be answered 401
            self._api.delete(made.id)
            raise
        logger.info("made subscription %s for source %s", made.id, self.source, extra={"action": "subscribe"})
        return made

    def _take_key(self, subscription: Subscription) -> None:
        """Write a subscription's key into the file. Raises ApiMalformed when the sender does not show a usable one."""
        key = subscription.key or self._api.subscription(subscription.id).key
        try:
            if key is None:
                raise ValueError("is not shown")
            self._check_key(key.reveal())
        except ValueError as error:
            reason = "shows none" if key is None else f"shows one that {error}"
            raise ApiMalformed(
                f"the signature key of subscription {subscription.id} cannot be had: the API {reason}; replace it with: "
                f"webhooks subscriptions rotate {subscription.id}"
            ) from None
        self._keys.put(subscription.id, key)

    # -- sync ----------------------------------------------------------------------------------------------

    def plan_sync(
        self, wanted: Wanted, *, url: str = "", keep: bool = False, move: bool = True
    ) -> list[SubscriptionChange]:
        """What `sync` would do; a change for each of our subscriptions, needed or not. move: also to `public_url`."""
        self._keys.require_writable()
        if not wanted.types:
            raise SubscriptionError(
                f"no handler wants events of source {self.source!r} that can be subscribed to, and a subscription needs "
                "at least one type; is this the directory with the handlers?"
            )
        labels = self.labels()
        url = url or self.public_url
        found = ours(self.all(), labels, self.public_url)
        changes = difference(found, wanted, url=url if move or not found else "", labels=labels, keep=keep)
        if changes[0].subscription is None and not url:
            raise SubscriptionError(
                f"no subscription posts to source {self.source!r}; to make one, say where {self._words.sender} reaches it: --url "
                f"https://…/webhooks/{self.source}, or public_url in [sources.{self.source}]"
            )
        return changes

    def apply(self, changes: Sequence[SubscriptionChange]) -> list[Subscription]:
        """Do what `plan_sync` said; the subscriptions afterwards."""
        done = []
        for change in changes:
            if change.subscription is None:
                done.append(self._create(change.url or self.public_url, change.topics(), True))
                continue
            if change.needs_key:
                self._take_key(change.subscription)
            if not (change.add or change.remove or change.url):
                done.append(change.subscription)
                continue
            topics = change.topics() if change.add or change.remove else None
            done.append(self._api.update(change.subscription.id, topics=topics, url=change.url))
        return done

    # -- pause and resume ----------------------------------------------------------------------------------

    def find(self, id: str) -> Subscription:
        """A subscription by its id. Raises NotFound."""
        for each in (found := self.all()):
            if each.id == id:
                return each
        known = ", ".join(each.id for each in found) or "none"
        raise NotFound(f"no subscription {id!r} that this API key may see; there are: {known}")

    def the_one(self, id: str | None) -> Subscription:
        """The subscription of that id, or the only one of ours."""
        if id is not None:
            return self.find(id)
        found = self.ours()
        if len(found) == 1:
            return found[0]
        if not found:
            raise NotFound("none of the subscriptions is known to be ours; name one (webhooks subscriptions list)")
        raise SubscriptionError(f"several subscriptions are ours; name one of {', '.join(each.id for each in found)}")

    def pause(self, id: str | None) -> Subscription:
        """Stop a subscription; the sender empties its queue."""
        return self._api.update(self.the_one(id).id, status="paused")

    def resume(self, id: str | None) -> Subscription:
        """Let a subscription run again, and have what it missed fetched soon by the elected worker."""
        resumed = self._api.update(self.the_one(id).id, status="active")
        self._store.marks.request(self.source)
        return resumed

    # -- rotation ------------------------------------------------------------------------------------------

    def rotate(
        self,
        id: str | None = None,
        *,
        wait: timedelta = WAIT,
        grace: timedelta = GRACE,
        tell: Callable[[str], None] = lambda sentence: None,
    ) -> Rotation:
        """Replace a subscription by a second one of the same address and topics, and so its key.

        Raises SubscriptionError when no delivery under the new key was seen within `wait`; both subscriptions then stay,
        and calling again continues it.
        """
        self._keys.require_writable()
        old, new = self._pair(self.all(), id)
        if new is None:
            new = self._create(old.url, old.topics, old.verify_ssl)
            tell(f"made subscription {new.id} beside {old.id}; its key is in {self._keys.path}")
        else:
            tell(f"continuing the rotation from {old.id} to {new.id}")
        tell(f"waiting for a delivery under the new key; {self._words.no_test}")
        seen_at = self._wait_for_use(new.id, wait)
        if seen_at is None:
            raise SubscriptionError(
                f"no delivery under the new key was seen within {_shown(wait)}; both subscriptions stay, and nothing is "
                f"lost: once events came, continue with: webhooks subscriptions rotate {old.id}"
            )
        tell(f"a delivery under the new key was seen at {seen_at:%Y-%m-%d %H:%M:%S} UTC; removing {old.id}")
        self._api.delete(old.id)
        self._sleep(grace.total_seconds())
        if self._keys.remove(old.id):
            self._store.key_uses.forget(self.source, [old.id])
            old_key = "removed"
        else:
            old_key = f"not under the label {old.id} in {self._keys.path}; take it out of the settings by hand"
        # what waited for another try under the old subscription went with it
        self._store.marks.request(self.source)
        logger.info("rotated subscription %s to %s", old.id, new.id, extra={"action": "rotate"})
        return Rotation(old.id, new.id, seen_at, old_key)

    def _pair(self, every: Sequence[Subscription], id: str | None) -> tuple[Subscription, Subscription | None]:
        """The subscription to replace, and the one that an interrupted rotation made already."""
        labels = self.labels()
        candidates = sorted(ours(every, labels, self.public_url), key=_age)
        if id is not None:
            chosen = [each for each in every if each.id == id]
            if not chosen:
                known = ", ".join(each.id for each in every) or "none"
                raise NotFound(f"no subscription {id!r} that this API key may see; there are: {known}")
            old = chosen[0]
        else:
            alike = [each for each in candidates if _are_alike(each, candidates[0])]
            if not candidates:
                raise NotFound(
                    "none of the subscriptions is known to be ours; name the one to rotate (webhooks subscriptions list)"
                )
            if len(alike) != len(candidates) or len(candidates) > 2:
                raise SubscriptionError(
                    f"several subscriptions are ours; name one of {', '.join(each.id for each in candidates)}"
                )
            old = candidates[0]
        later = [
            each
            for each in candidates
            if each.id != old.id and each.id in labels and _are_alike(each, old) and _age(each) > _age(old)
        ]
        return old, later[-1] if later else None

    def _wait_for_use(self, label: str, wait: timedelta) -> datetime | None:
        deadline = self._monotonic() + wait.total_seconds()
        while True:
            seen = self._store.key_uses.of(self.source).get(label)
            if seen is not None or self._monotonic() >= deadline:
                return seen
            self._sleep(LOOK_EVERY_SECONDS)


def _are_alike(one: Subscription, other: Subscription) -> bool:
    return _same_url(one.url, other.url) and one.types == other.types


def _age(subscription: Subscription) -> Any:
    return (subscription.created_at is not None, subscription.created_at, subscription.id)


def _shown(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"


__all__ = [
    "Rotation",
    "SubscriptionChange",
    "SubscriptionError",
    "Subscriptions",
    "Wanted",
    "difference",
    "ours",
    "wanted_types",
]
