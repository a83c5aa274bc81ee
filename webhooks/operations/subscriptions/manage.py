"""Do something about subscriptions: make, change, pause, resume and rotate them through the sender's API."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from webhooks.errors import NotFound, WebhooksError
from webhooks.formats import span
from webhooks.operations.actions.journal import Journal, JournalEntry
from webhooks.operations.actions.verbs import Verb
from webhooks.operations.actor import Actor
from webhooks.operations.subscriptions.wanted import (
    SubscriptionChange,
    Wanted,
    difference,
    is_same_url,
    subscriptions_of_this_endpoint,
)
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
        self._journal = Journal(store)
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

    def of_this_endpoint(self) -> list[Subscription]:
        """Those that post to us."""
        return subscriptions_of_this_endpoint(self.all(), self.labels(), self.public_url)

    def key_uses(self) -> Mapping[str, datetime]:
        """{label: when the key was last seen to verify a delivery}."""
        return self._store.key_uses.of(self.source)

    def create(self, url: str, topics: Sequence[Topic], *, actor: Actor, verify_ssl: bool = True) -> Subscription:
        """Make a subscription and write its key into the file; when that fails, the subscription is removed again.

        url: where the sender posts; topics: what it posts.
        actor: on whose behalf.
        verify_ssl: whether the sender checks our certificate.
        """
        self._keys.require_writable()
        if not topics:
            raise SubscriptionError(
                f"nothing to subscribe to: no handler wants events of source {self.source!r}; write one, or name types "
                "with --type"
            )
        with self._journal.doing(Verb.SUBSCRIPTION_CREATE, actor, self.source, options={"url": url}) as entry:
            made = self._create(url, topics, verify_ssl)
            entry.changed, entry.result = 1, {"subscription": made.id}
        return made

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
        found = subscriptions_of_this_endpoint(self.all(), labels, self.public_url)
        changes = difference(found, wanted, url=url if move or not found else "", labels=labels, keep=keep)
        if changes[0].subscription is None and not url:
            raise SubscriptionError(
                f"no subscription posts to source {self.source!r}; to make one, say where {self._words.sender} reaches it: --url "
                f"https://…/webhooks/{self.source}, or public_url in [sources.{self.source}]"
            )
        return changes

    def apply(self, changes: Sequence[SubscriptionChange], *, actor: Actor, **given: Any) -> list[Subscription]:
        """Do what `plan_sync` said; the subscriptions afterwards.

        actor: on whose behalf.
        given: what `Journal.doing` takes besides, of a page.
        """
        if not any(change.is_needed for change in changes):
            return [change.subscription for change in changes if change.subscription is not None]
        options = {"changes": [_in_words(change) for change in changes if change.is_needed]}
        with self._journal.doing(Verb.SUBSCRIPTION_SYNC, actor, self.source, options=options, **given) as entry:
            done = self._apply(changes)
            entry.changed = sum(change.is_needed for change in changes)
        return done

    def _apply(self, changes: Sequence[SubscriptionChange]) -> list[Subscription]:
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
        found = self.of_this_endpoint()
        if len(found) == 1:
            return found[0]
        if not found:
            raise NotFound("none of the subscriptions is known to be ours; name one (webhooks subscriptions list)")
        raise SubscriptionError(f"several subscriptions are ours; name one of {', '.join(each.id for each in found)}")

    def pause(self, id: str | None, *, actor: Actor, why: str = "", **given: Any) -> Subscription:
        """Stop a subscription; the sender empties its queue. given: what `Journal.doing` takes besides."""
        one = self.the_one(id)
        with self._doing(Verb.SUBSCRIPTION_PAUSE, actor, one, why=why, **given) as entry:
            paused = self._api.update(one.id, status="paused")
            entry.changed = 1
        return paused

    def resume(self, id: str | None, *, actor: Actor, why: str = "", **given: Any) -> Subscription:
        """Let a subscription run again, and have what it missed fetched soon by the elected worker.

        given: what `Journal.doing` takes besides.
        """
        one = self.the_one(id)
        with self._doing(Verb.SUBSCRIPTION_RESUME, actor, one, why=why, **given) as entry:
            resumed = self._api.update(one.id, status="active")
            self._store.marks.request(self.source)
            entry.changed = 1
        return resumed

    def _doing(self, verb: Verb, actor: Actor, one: Subscription, **given: Any) -> AbstractContextManager[JournalEntry]:
        return self._journal.doing(verb, actor, one.id, options={"source": self.source}, **given)

    # -- rotation ------------------------------------------------------------------------------------------

    def rotate(
        self,
        id: str | None = None,
        *,
        actor: Actor,
        wait: timedelta = WAIT,
        grace: timedelta = GRACE,
        tell: Callable[[str], None] = lambda sentence: None,
    ) -> Rotation:
        """Replace a subscription by a second one of the same address and topics, and so its key.

        id: of the one to replace; None: the only one of ours.
        actor: on whose behalf.
        wait: for a delivery under the new key; grace: how long the old key is accepted afterwards.
        tell: called with a sentence for each step.

        Raises SubscriptionError when no delivery under the new key was seen within `wait`; both subscriptions then stay,
        and calling again continues it.
        """
        with self._journal.doing(Verb.SUBSCRIPTION_ROTATE, actor, id or self.source) as entry:
            done = self._rotate(id, wait, grace, tell)
            entry.changed, entry.result = 1, {"old": done.old, "new": done.new}
        return done

    def _rotate(self, id: str | None, wait: timedelta, grace: timedelta, tell: Callable[[str], None]) -> Rotation:
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
                f"no delivery under the new key was seen within {span(wait)}; both subscriptions stay, and nothing is "
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
        candidates = sorted(subscriptions_of_this_endpoint(every, labels, self.public_url), key=_age)
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


def _in_words(change: SubscriptionChange) -> dict[str, Any]:
    """A change as an action keeps it."""
    subscription = None if change.subscription is None else change.subscription.id
    return {"subscription": subscription, "add": list(change.add), "remove": list(change.remove), "url": change.url}


def _are_alike(one: Subscription, other: Subscription) -> bool:
    return is_same_url(one.url, other.url) and one.types == other.types


def _age(subscription: Subscription) -> Any:
    return (subscription.created_at is not None, subscription.created_at, subscription.id)


__all__ = ["Rotation", "SubscriptionError", "Subscriptions"]
