"""The local Close as plain Python: objects, events, subscriptions and a clock, without HTTP.

`create`, `update`, `delete` and `merge_leads` do what the API does, with its rules and its errors (`Refused`); every
change writes its events into the log and queues them for the subscriptions. `deliver` posts what is due through a
function that is handed in. `state` is what a mirror of this Close should have in the end.

The same clock, seed and calls give the same ids, dates and bytes. The clock that is handed in may stand still:
`tick` moves the world's own on by a millisecond with every change, so that no two events share an instant.

Everything is in memory and gone with the process. One lock guards it all; it is not held while something is posted.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from webhooks.sandbox.accounts import ADMIN, Caller, RateLimits
from webhooks.sandbox.eventlog import Entry, EventLog
from webhooks.sandbox.ids import Ids
from webhooks.sandbox.objects import ObjectTables
from webhooks.sandbox.refusals import Invalid
from webhooks.sandbox.resources import emails, leads
from webhooks.sandbox.resources.resource import Object, Resource, stamp
from webhooks.sandbox.rules import Rules
from webhooks.sandbox.subscriptions import LocalSubscription, LocalSubscriptions, Post, PostQueues, PostResult
from webhooks.sandbox.world_time import WorldTime

#: Objects in one list, at most.
MAX_LIST = 100

_NOTHING: Mapping[str, Any] = {}


def utc_now() -> datetime:
    """The time, as an aware UTC instant."""
    return datetime.now(UTC)


@dataclass
class FaultOrder:
    """The next `times` requests below `path` get this answer. text: sent as it stands."""

    status: int
    times: int = 1
    text: str | None = None
    path: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class World:
    """One organization of a local Close.

    clock: aware UTC, called for the time. seed: decides all ids, keys and chances.
    """

    def __init__(self, clock: Callable[[], datetime] = utc_now, seed: int = 0, rules: Rules | None = None) -> None:
        self.lock = threading.RLock()
        self.ids = Ids(seed)
        self.log = EventLog()
        self.subscriptions = LocalSubscriptions(self.ids)
        self.limits = RateLimits()
        self.faults: list[FaultOrder] = []
        self._time = WorldTime(clock)
        self._deliveries = PostQueues(self.subscriptions, self.ids)
        self.objects = ObjectTables(self.ids, self._time, rules or Rules(), self._emit)

    @property
    def rules(self) -> Rules:
        """How this world behaves."""
        return self.objects.rules

    @rules.setter
    def rules(self, rules: Rules) -> None:
        """From now on."""
        self.objects.rules = rules

    @property
    def inbox(self) -> list[str]:
        """Ids of the messages sent to the inbox."""
        return self.objects.inbox

    def _emit(self, entry: Entry) -> None:
        """Write an entry into the log, and queue it for the subscriptions."""
        self._deliveries.offer(self.log.add(entry, self.rules), self.now(), self.rules)

    # -- time -----------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """The time of this world; never before its last change."""
        return self._time.now()

    def tick(self) -> datetime:
        """The instant of one more change: whole milliseconds, later than every one before."""
        return self._time.tick()

    def advance(self, by: timedelta) -> datetime:
        """Move the world's time on, whatever its clock says; the new time. Raises Invalid for a step back."""
        with self.lock:
            return self._time.advance(by)

    def move_to(self, instant: datetime) -> None:
        """Move the world's time on to `instant`; nothing happens when it is there already."""
        with self.lock:
            self.advance(max(instant - self.now(), timedelta(0)))

    # -- kinds and objects ----------------------------------------------------------------------------------

    def resource(self, kind: str) -> Resource:
        """The kind of that name (activity.call). Raises Missing."""
        return self.objects.resource(kind)

    def table(self, kind: str) -> Mapping[str, Object]:
        """{id: object} of one kind, the oldest first: to be read only, with the lock held."""
        return self.objects.table(kind)

    def request(self, by: Caller, method: str, path: str) -> Caller:
        """`by` in a new request of the API."""
        return self.objects.request(by, method, path)

    # -- what the API does ----------------------------------------------------------------------------------

    def create(
        self, kind: str, body: Mapping[str, Any], by: Caller = ADMIN, params: Mapping[str, str] | None = None
    ) -> Object:
        """Make an object of `kind` (activity.call). params: of the address. Raises Invalid.

        by: an actor without a request gets one, as if it had called the API; NOBODY does not.
        """
        with self.lock:
            return copy.deepcopy(self.objects.create(kind, body, by, params or {}))

    def update(self, kind: str, id: str, body: Mapping[str, Any], by: Caller = ADMIN) -> Object:
        """Change what is in `body` and leave the rest. Raises Missing and Invalid; then nothing has changed."""
        with self.lock:
            return copy.deepcopy(self.objects.update(kind, id, body, by))

    def delete(self, kind: str, id: str, by: Caller = ADMIN) -> None:
        """Remove an object, and what hangs on it. Raises Missing."""
        with self.lock:
            self.objects.delete(kind, id, by)

    def merge_leads(self, source: str, destination: str, by: Caller = ADMIN) -> None:
        """Move all that `source` has to `destination`, and delete `source`. Raises Invalid."""
        with self.lock:
            by = self.objects.as_request(by, "POST", "lead/merge/")
            leads.merge(self.objects, {"source": source, "destination": destination}, by)

    def get(self, kind: str, id: str) -> Object:
        """One object. Raises Missing."""
        with self.lock:
            return copy.deepcopy(self.objects.stored(kind, id))

    def search(self, kind: str, params: Mapping[str, str] = _NOTHING) -> dict[str, Any]:
        """Objects, newest first: `{"data": […], "has_more": …}`. Raises Invalid."""
        with self.lock:
            resource = self.resource(kind)
            limit, skip = _number(params, "_limit", MAX_LIST, MAX_LIST), _number(params, "_skip", 0, 10**9)
            for name in params:
                if name not in (*resource.filters, "_limit", "_skip", "_fields"):
                    raise Invalid.field(name, f"is no filter here; there are {', '.join(resource.filters)}")
            wanted = [(name, params[name]) for name in resource.filters if name in params]
            found = [
                each
                for each in reversed(self.objects.tables[kind].values())
                if all(_written(each.get(name)) == value for name, value in wanted)
            ]
            page = found[skip : skip + limit]
            return {"data": copy.deepcopy(page), "has_more": skip + limit < len(found), "total_results": len(found)}

    def subscribe(
        self, url: str, events: list[dict[str, Any]], by: Caller = ADMIN, verify_ssl: bool = True
    ) -> LocalSubscription:
        """Make a webhook subscription. Raises Invalid."""
        with self.lock:
            body = {"url": url, "events": events, "verify_ssl": verify_ssl}
            return self.subscriptions.create(body, by, stamp(self.tick()), self.rules)

    def events(self, params: Mapping[str, str] = _NOTHING, by: Caller = ADMIN) -> dict[str, Any]:
        """One page of the event log. Raises Invalid."""
        with self.lock:
            return self.log.page(params, by, self.now(), self.rules)

    def state(self) -> dict[str, dict[str, Object]]:
        """{kind: {id: object}}: what a mirror should have in the end; a copy."""
        with self.lock:
            return copy.deepcopy(self.objects.tables)

    # -- webhooks -------------------------------------------------------------------------------------------

    def deliver(self, post: Post, now: datetime | None = None) -> list[PostResult]:
        """Let go the mail that is due and post the webhooks that are; returns how each went.

        post: called with address, headers and body; returns the status; raises anything when there was no answer.
        now: move the world's time on to this first.
        """
        with self.lock:
            if now is not None:
                self.move_to(now)
            emails.send_due(self.objects)
            parcels = self._deliveries.take(self.now(), self.rules)
        attempts = []
        for parcel in parcels:
            status, error = None, None
            try:
                status = post(parcel.url, parcel.headers, parcel.body)
            except Exception as raised:  # a receiver may fail in any way, and the next one must be served
                error = f"{type(raised).__name__}: {raised}"[:200]
            attempt = PostResult(parcel.pending.subscription_id, parcel.pending.entry.id, self.now(), status, error)
            attempts.append(attempt)
            with self.lock:
                self._deliveries.settle(parcel, attempt, self.rules)
        return attempts

    def drain(self, post: Post, within: timedelta = timedelta(days=4)) -> list[PostResult]:
        """Deliver and move the time on until nothing waits, or `within` has passed; returns every attempt."""
        attempts: list[PostResult] = []
        end = self.now() + within
        while True:
            attempts += self.deliver(post)
            due = self.next_due()
            if due is None or due > end:
                return attempts
            self.move_to(due)

    def next_due(self) -> datetime | None:
        """When `deliver` will have something to do; None when nothing waits."""
        with self.lock:
            dues = [due for due in (self._deliveries.next_due(), emails.next_due(self.objects)) if due is not None]
            return min(dues, default=None)

    def waiting(self) -> int:
        """How many deliveries wait, in all queues."""
        with self.lock:
            return self._deliveries.waiting()

    # -- for tests ------------------------------------------------------------------------------------------

    def set_rules(self, **values: Any) -> Rules:
        """Change some rules; durations as `timedelta` or seconds. Raises Invalid."""
        with self.lock:
            self.rules = self.rules.changed(values)
            return self.rules

    def fail_next(
        self,
        status: int,
        times: int = 1,
        text: str | None = None,
        path: str = "",
        headers: Mapping[str, str] = _NOTHING,
    ) -> FaultOrder:
        """Answer the next requests below `path` (as in `event/`) with this instead; text: a body sent as it stands."""
        with self.lock:
            order = FaultOrder(status, times, text, path, headers)
            self.faults.append(order)
            return order


def _number(params: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= most):
        raise Invalid.field(name, f"is a whole number, {most} at most")
    return int(text)


def _written(value: Any) -> str | None:
    """A value as it is written in an address."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else None
