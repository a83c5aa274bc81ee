"""Webhook subscriptions, each with the queue of what is still to be delivered.

A subscription waits, tries, backs off, gives up after 72 hours, and pauses itself when too much waits or when every
delivery failed for three days. Pausing empties the queue: what was in it is only in the log afterwards.

`PostQueues` never posts anything: `take` hands out what is due, `settle` is told how it went. So the world's lock is
not held while a receiver thinks, and tests drive it with a clock of their own.
"""

from __future__ import annotations

import copy
import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from webhooks.formats import json as jsonio
from webhooks.sandbox import filters
from webhooks.sandbox.accounts import Caller
from webhooks.sandbox.eventlog import Entry
from webhooks.sandbox.ids import Ids
from webhooks.sandbox.refusals import Forbidden, Invalid, Missing
from webhooks.sandbox.rules import Rules
from webhooks.sources.close import signature
from webhooks.sources.close.catalogue import known_types
from webhooks.sources.close.filters import lets_through

#: What Close would publish if it published outcomes.
OUTCOME_TYPES = frozenset(("outcome.created", "outcome.updated", "outcome.deleted"))
#: Actions whose webhooks wait for more changes.
WAITING_ACTIONS = frozenset(("updated", "deleted"))
#: `recent_consecutive_fail_buckets_cnt` counts these (?)
FAIL_BUCKET = timedelta(hours=1)

#: Posts one delivery and returns the status of the answer; raises anything when there is none.
Post = Callable[[str, Mapping[str, str], bytes], int]


@dataclass
class Pending:
    """One entry on its way to one subscription.

    pauses: how often the subscription had been paused when this was queued. copy_of: the bytes of a deliberate
    duplicate.
    """

    subscription_id: str
    entry: Entry
    due: datetime
    since: datetime
    pauses: int
    tries: int = 0
    signed_at: datetime | None = None
    copy_of: bytes | None = None


@dataclass(frozen=True)
class Parcel:
    """What is to be posted now."""

    pending: Pending
    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class PostResult:
    """How one post went. status: None when there was no answer."""

    subscription_id: str
    event_id: str
    at: datetime
    status: int | None
    error: str | None = None

    @property
    def is_taken(self) -> bool:
        """Whether the answer was a 2xx."""
        return self.status is not None and 200 <= self.status < 300


@dataclass
class LocalSubscription:
    id: str
    url: str
    events: list[dict[str, Any]]
    verify_ssl: bool
    signature_key: str = field(repr=False)
    created_by: str | None
    updated_by: str | None
    date_created: str
    date_updated: str
    status: str = "active"
    pause_reason: str | None = None
    latest_error: str | None = None
    delivered: int = 0
    failed: int = 0
    dropped: int = 0
    pauses: int = 0
    failing_since: datetime | None = None
    #: (when due, turn, what)
    queue: list[tuple[datetime, float, int, Pending]] = field(default_factory=list, repr=False)
    #: {id of an entry: waiting for its first try}
    untried: dict[str, Pending] = field(default_factory=dict, repr=False)

    @property
    def is_active(self) -> bool:
        """Whether it is posted to."""
        return self.status == "active"

    def wants(self, event: Mapping[str, Any]) -> bool:
        """Whether this event, as JSON, is subscribed to."""
        return any(
            each["object_type"] == event["object_type"]
            and each["action"] == event["action"]
            and lets_through(each.get("extra_filter"), event)
            for each in self.events
        )

    def fail_buckets(self, now: datetime) -> int:
        """For how many hours in a row every post failed, the first one counted."""
        return 0 if self.failing_since is None else (now - self.failing_since) // FAIL_BUCKET + 1

    def pause(self, reason: str) -> None:
        """Stop, and empty the queue."""
        self.status = "paused"
        self.pauses += 1
        self.pause_reason = reason
        self.queue.clear()
        self.untried.clear()

    def resume(self) -> None:
        """Run again; what happened meanwhile is not queued."""
        self.status = "active"
        self.pause_reason = None
        self.failing_since = None
        self.latest_error = None

    def as_json(self, now: datetime, with_key: bool) -> dict[str, Any]:
        """As the API shows it. with_key: with its signature key."""
        made = {
            "id": self.id,
            "url": self.url,
            "status": self.status,
            "events": copy.deepcopy(self.events),
            "verify_ssl": self.verify_ssl,
            "health_status": "healthy" if self.failing_since is None else "failing",
            "latest_error": self.latest_error,
            "pause_reason": self.pause_reason,
            "recent_consecutive_fail_buckets_cnt": self.fail_buckets(now),
            "counters": {
                "delivered": self.delivered,
                "failed": self.failed,
                "dropped": self.dropped,
                "waiting": len(self.queue),
            },
            "date_created": self.date_created,
            "date_updated": self.date_updated,
            "created_by": self.created_by,
            "updated_by": self.updated_by,
        }
        return made | {"signature_key": self.signature_key} if with_key else made


class LocalSubscriptions:
    """Make, read, change and remove them; each call says who asks."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._all: dict[str, LocalSubscription] = {}

    def __iter__(self) -> Iterator[LocalSubscription]:
        return iter(list(self._all.values()))

    def find(self, id: str) -> LocalSubscription | None:
        """One of them, for any caller; None when there is none."""
        return self._all.get(id)

    def create(self, body: Mapping[str, Any], actor: Caller, at: str, rules: Rules) -> LocalSubscription:
        """Raises Invalid, also when there are 40 already."""
        if len(self._all) >= rules.subscriptions:
            raise Invalid(f"an organization may have {rules.subscriptions} webhook subscriptions; remove one first")
        missing = {name: "This field is required." for name in ("url", "events") if name not in body}
        if missing:
            raise Invalid("the subscription is incomplete", missing)
        user = actor.user.id if actor.user else None
        made = LocalSubscription(
            id=self._ids.make("whsub"),
            url=_url(body["url"]),
            events=_events(body["events"], rules),
            verify_ssl=_flag(body.get("verify_ssl", True)),
            signature_key=self._ids.key(),
            created_by=user,
            updated_by=user,
            date_created=at,
            date_updated=at,
        )
        self._all[made.id] = made
        return made

    def get(self, id: str, actor: Caller) -> LocalSubscription:
        """Raises Missing, and Forbidden for another user's unless an administrator asks."""
        if id not in self._all:
            raise Missing(f"no webhook subscription {id!r}")
        found = self._all[id]
        if not actor.is_admin and (actor.user is None or found.created_by != actor.user.id):
            raise Forbidden("only administrators may manage the subscriptions of others")
        return found

    def visible_to(self, actor: Caller) -> list[LocalSubscription]:
        """Those that the actor may see: all for an administrator, else its own."""
        return [each for each in self if actor.is_admin or (actor.user and each.created_by == actor.user.id)]

    def update(self, id: str, body: Mapping[str, Any], actor: Caller, at: str, rules: Rules) -> LocalSubscription:
        """Nothing is changed when anything is wrong. Raises as `get` does, and Invalid."""
        found = self.get(id, actor)
        url = _url(body["url"]) if "url" in body else found.url
        events = _events(body["events"], rules) if "events" in body else found.events
        verify_ssl = _flag(body["verify_ssl"]) if "verify_ssl" in body else found.verify_ssl
        status = body.get("status", found.status)
        if status not in ("active", "paused"):
            raise Invalid.field("status", f"is active or paused, not {status!r}")
        found.url, found.events, found.verify_ssl = url, events, verify_ssl
        if status != found.status:
            if status == "paused":
                found.pause("api")
            else:
                found.resume()
        found.updated_by, found.date_updated = actor.user.id if actor.user else None, at
        return found

    def delete(self, id: str, actor: Caller) -> None:
        """Remove one. Raises as `get` does."""
        del self._all[self.get(id, actor).id]


def _url(value: Any) -> str:
    if isinstance(value, str):
        try:
            parts = urlsplit(value)
            if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
                return value
        except ValueError:
            pass
    raise Invalid.field("url", "is an http or https address, such as https://example.com/webhooks/close")


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise Invalid.field("verify_ssl", "is true or false")


def _events(value: Any, rules: Rules) -> list[dict[str, Any]]:
    """Check each pair against the catalogue: Close publishes no wildcard."""
    if not isinstance(value, list) or not value:
        raise Invalid.field("events", "is a list of objects with object_type and action")
    known = known_types() | OUTCOME_TYPES if rules.unlisted else known_types()
    made = []
    for each in value:
        if not isinstance(each, Mapping):
            raise Invalid.field("events", "is a list of objects with object_type and action")
        object_type, action = each.get("object_type"), each.get("action")
        if not isinstance(object_type, str) or not isinstance(action, str) or f"{object_type}.{action}" not in known:
            raise Invalid.field("events", f"no event has object_type {object_type!r} and action {action!r}")
        if each.get("extra_filter") is not None:
            filters.check(each["extra_filter"])
        pair = {"object_type": object_type, "action": action}
        made.append(pair | {"extra_filter": copy.deepcopy(each["extra_filter"])} if each.get("extra_filter") else pair)
    return made


class PostQueues:
    """Queues, retries, pauses. Everything here is called with the world's lock held."""

    def __init__(self, subscriptions: LocalSubscriptions, ids: Ids) -> None:
        self._subscriptions = subscriptions
        self._random = ids.random
        self._turn = itertools.count()

    def offer(self, entry: Entry, now: datetime, rules: Rules) -> None:
        """Queue an entry, new or grown, for every subscription that wants it."""
        event = entry.as_json()
        for each in self._subscriptions:
            if not each.is_active or entry.id in each.untried or not each.wants(event):
                continue
            due = now + self._wait_for(entry, rules) + self._random.random() * rules.disorder
            pending = Pending(each.id, entry, due, now, each.pauses)
            each.untried[entry.id] = pending
            self._push(each, pending, rules)
            if len(each.queue) >= rules.backlog:
                each.pause("backlog")

    def take(self, now: datetime, rules: Rules) -> list[Parcel]:
        """What is to be posted now, taken out of the queues."""
        parcels = []
        for each in self._subscriptions:
            while each.queue and each.queue[0][0] <= now:
                pending = heapq.heappop(each.queue)[-1]
                if not pending.tries and pending.copy_of is None:
                    grown_until = pending.entry.date_updated + self._wait_for(pending.entry, rules)
                    if grown_until > now:  # it grew while it waited
                        pending.due = grown_until
                        self._push(each, pending, rules)
                        continue
                    each.untried.pop(pending.entry.id, None)
                if parcel := self._parcel(each, pending, now, rules):
                    parcels.append(parcel)
        return parcels

    def settle(self, parcel: Parcel, attempt: PostResult, rules: Rules) -> None:
        """Record how a post went, and what comes next."""
        pending, now = parcel.pending, attempt.at
        found = self._subscriptions.find(pending.subscription_id)
        if found is None or found.pauses != pending.pauses:  # the queue that this was in is gone
            return
        if attempt.is_taken:
            found.delivered += 1
            found.failing_since = None
            found.latest_error = None
            if pending.copy_of is None and self._random.random() < rules.duplicates:
                due = now + timedelta(seconds=1) + self._random.random() * rules.disorder
                self._push(found, Pending(found.id, pending.entry, due, now, found.pauses, copy_of=parcel.body), rules)
            return
        found.failed += 1
        found.latest_error = attempt.error or f"HTTP {attempt.status}"
        found.failing_since = found.failing_since or now
        if now - found.failing_since >= rules.failing_for:
            found.pause("failing")
            return
        # never nothing: a receiver that is down would be asked without end
        base, cap = max(rules.retry_base, timedelta(milliseconds=1)), max(rules.retry_cap, timedelta(seconds=1))
        wait = min(base * 2 ** min(pending.tries, 16), cap)
        pending.tries += 1
        pending.due = now + wait
        if pending.due - pending.since > rules.retry_for:
            found.dropped += 1
            return
        self._push(found, pending, rules)

    def next_due(self) -> datetime | None:
        """When there is something to post; None when nothing waits."""
        return min((each.queue[0][0] for each in self._subscriptions if each.queue), default=None)

    def waiting(self) -> int:
        """How many deliveries wait."""
        return sum(len(each.queue) for each in self._subscriptions)

    def _wait_for(self, entry: Entry, rules: Rules) -> timedelta:
        return rules.delivery_delay if entry.action in WAITING_ACTIONS else timedelta(0)

    def _push(self, subscription: LocalSubscription, pending: Pending, rules: Rules) -> None:
        number = next(self._turn)
        turn = self._random.random() if rules.disorder else float(number)
        heapq.heappush(subscription.queue, (pending.due, turn, number, pending))

    def _parcel(self, subscription: LocalSubscription, pending: Pending, now: datetime, rules: Rules) -> Parcel | None:
        """The signed request; None when the entry outgrew the subscription's filter."""
        body = pending.copy_of
        if body is None:
            event = pending.entry.as_json()
            if not subscription.wants(event):
                return None
            body = jsonio.dump({"event": event, "subscription_id": subscription.id})
        if pending.signed_at is None or rules.resign_retries:
            pending.signed_at = now
        key = signature.decode_key(subscription.signature_key)
        headers = {"Content-Type": "application/json", **signature.sign(key, body, pending.signed_at)}
        return Parcel(pending, subscription.url, headers, body)
