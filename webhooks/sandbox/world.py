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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from webhooks.sandbox.accounts import ADMIN, NOBODY, ORGANIZATION, Actor, RateLimits
from webhooks.sandbox.eventlog import Entry, EventLog
from webhooks.sandbox.ids import Ids
from webhooks.sandbox.refusals import Invalid, Missing
from webhooks.sandbox.resources import emails, leads
from webhooks.sandbox.resources.calls import Calls
from webhooks.sandbox.resources.contacts import Contacts
from webhooks.sandbox.resources.emails import Emails
from webhooks.sandbox.resources.leads import Leads, LeadStatusChanges
from webhooks.sandbox.resources.meetings import Meetings
from webhooks.sandbox.resources.notes import Notes
from webhooks.sandbox.resources.opportunities import Opportunities, OpportunityStatusChanges
from webhooks.sandbox.resources.outcomes import Outcomes
from webhooks.sandbox.resources.resource import Object, Resource, name_of_user, stamp
from webhooks.sandbox.resources.tasks import Tasks, TasksCompleted
from webhooks.sandbox.resources.whatsapp import WhatsAppMessages
from webhooks.sandbox.rules import Rules
from webhooks.sandbox.subscriptions import Attempt, Deliveries, Post, Subscription, Subscriptions

#: Every kind of object, those below a lead in the order in which they go with it.
RESOURCES: tuple[Resource, ...] = (
    Leads(),
    Contacts(),
    Opportunities(),
    Tasks(),
    Calls(),
    Meetings(),
    Notes(),
    Emails(),
    WhatsAppMessages(),
    LeadStatusChanges(),
    OpportunityStatusChanges(),
    TasksCompleted(),
    Outcomes(),
)
#: Objects in one list, at most.
MAX_LIST = 100

_MILLISECOND = timedelta(milliseconds=1)
_NOTHING: Mapping[str, Any] = {}


def utc_now() -> datetime:
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
        self.rules = rules or Rules()
        self.ids = Ids(seed)
        self.log = EventLog()
        self.subscriptions = Subscriptions(self.ids)
        self.limits = RateLimits()
        self.faults: list[FaultOrder] = []
        #: ids of the messages sent to the inbox
        self.inbox: list[str] = []
        self._clock = clock
        self._offset = timedelta(0)
        self._last = datetime.min.replace(tzinfo=UTC)
        self._deliveries = Deliveries(self.subscriptions, self.ids)
        self._resources = {resource.object_type: resource for resource in RESOURCES}
        self._tables: dict[str, dict[str, Object]] = {kind: {} for kind in self._resources}

    # -- time -----------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        return max(self._clock() + self._offset, self._last)

    def tick(self) -> datetime:
        """The instant of one more change: whole milliseconds, later than every one before."""
        now = self._clock() + self._offset
        now -= timedelta(microseconds=now.microsecond % 1000)
        self._last = max(now, self._last + _MILLISECOND)
        return self._last

    def advance(self, by: timedelta) -> datetime:
        """Move the world's time on, whatever its clock says. Raises Invalid for a step back."""
        if by < timedelta(0):
            raise Invalid.field("seconds", "time only moves on")
        with self.lock:
            self._offset = self.now() + by - self._clock()
            return self.now()

    def move_to(self, instant: datetime) -> None:
        """Move the world's time on to `instant`; nothing happens when it is there already."""
        with self.lock:
            self.advance(max(instant - self.now(), timedelta(0)))

    # -- what the API does ----------------------------------------------------------------------------------

    def create(
        self, kind: str, body: Mapping[str, Any], by: Actor = ADMIN, params: Mapping[str, str] | None = None
    ) -> Object:
        """Make an object of `kind` (activity.call). params: of the address. Raises Invalid.

        by: an actor without a request gets one, as if it had called the API; NOBODY does not.
        """
        with self.lock:
            by = self._as_request(by, "POST", f"/api/v1/{self.resource(kind).path}/")
            made = self.insert(kind, body, by, params=params or {})
            return copy.deepcopy(self.stored(kind, made["id"]))

    def update(self, kind: str, id: str, body: Mapping[str, Any], by: Actor = ADMIN) -> Object:
        """Change what is in `body` and leave the rest. Raises Missing and Invalid; then nothing has changed."""
        with self.lock:
            resource, before = self.resource(kind), self.stored(kind, id)
            by = self._as_request(by, "PUT", f"/api/v1/{resource.path}/{id}/")
            values = resource.read(body, is_new=False)
            resource.before_update(self, before, values, by)
            after = self.change(kind, id, values, by)
            if after is not before:
                resource.after_update(self, before, after, by)
            return copy.deepcopy(self.stored(kind, id))

    def delete(self, kind: str, id: str, by: Actor = ADMIN) -> None:
        """Remove an object, and what hangs on it. Raises Missing."""
        with self.lock:
            path = f"/api/v1/{self.resource(kind).path}/{id}/"
            self.remove(kind, id, self._as_request(by, "DELETE", path))

    def merge_leads(self, source: str, destination: str, by: Actor = ADMIN) -> None:
        """Move all that `source` has to `destination`, and delete `source`. Raises Invalid."""
        with self.lock:
            by = self._as_request(by, "POST", "/api/v1/lead/merge/")
            leads.merge(self, {"source": source, "destination": destination}, by)

    def get(self, kind: str, id: str) -> Object:
        """One object. Raises Missing."""
        with self.lock:
            return copy.deepcopy(self.stored(kind, id))

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
                for each in reversed(self._tables[kind].values())
                if all(_written(each.get(name)) == value for name, value in wanted)
            ]
            page = found[skip : skip + limit]
            return {"data": copy.deepcopy(page), "has_more": skip + limit < len(found), "total_results": len(found)}

    def subscribe(
        self, url: str, events: list[dict[str, Any]], by: Actor = ADMIN, verify_ssl: bool = True
    ) -> Subscription:
        """Make a webhook subscription. Raises Invalid."""
        with self.lock:
            body = {"url": url, "events": events, "verify_ssl": verify_ssl}
            return self.subscriptions.create(body, by, stamp(self.tick()), self.rules)

    def events(self, params: Mapping[str, str] = _NOTHING, by: Actor = ADMIN) -> dict[str, Any]:
        """One page of the event log. Raises Invalid."""
        with self.lock:
            return self.log.page(params, by, self.now(), self.rules)

    def state(self) -> dict[str, dict[str, Object]]:
        """{kind: {id: object}}: what a mirror should have in the end; a copy."""
        with self.lock:
            return copy.deepcopy(self._tables)

    # -- webhooks -------------------------------------------------------------------------------------------

    def deliver(self, post: Post, now: datetime | None = None) -> list[Attempt]:
        """Let go the mail that is due and post the webhooks that are; returns how each went.

        post: called with address, headers and body; returns the status; raises anything when there was no answer.
        now: move the world's time on to this first.
        """
        with self.lock:
            if now is not None:
                self.move_to(now)
            emails.send_due(self)
            parcels = self._deliveries.take(self.now(), self.rules)
        attempts = []
        for parcel in parcels:
            status, error = None, None
            try:
                status = post(parcel.url, parcel.headers, parcel.body)
            except Exception as raised:  # a receiver may fail in any way, and the next one must be served
                error = f"{type(raised).__name__}: {raised}"[:200]
            attempt = Attempt(parcel.pending.subscription_id, parcel.pending.entry.id, self.now(), status, error)
            attempts.append(attempt)
            with self.lock:
                self._deliveries.settle(parcel, attempt, self.rules)
        return attempts

    def drain(self, post: Post, within: timedelta = timedelta(days=4)) -> list[Attempt]:
        """Deliver and move the time on until nothing waits, or `within` has passed; returns every attempt."""
        attempts: list[Attempt] = []
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
            dues = [due for due in (self._deliveries.next_due(), emails.next_due(self)) if due is not None]
            return min(dues, default=None)

    def waiting(self) -> int:
        """Deliveries in all queues."""
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

    # -- for the kinds of objects; called with the lock held ------------------------------------------------

    def resource(self, kind: str) -> Resource:
        """Raises Missing."""
        if kind not in self._resources:
            raise Missing(f"no kind of object {kind!r}; there are {', '.join(self._resources)}")
        return self._resources[kind]

    def table(self, kind: str) -> Mapping[str, Object]:
        return self._tables[kind]

    def find(self, kind: str, id: Any) -> Object | None:
        return self._tables[kind].get(id) if isinstance(id, str) else None

    def stored(self, kind: str, id: str) -> Object:
        """The object itself, not a copy: to be read only. Raises Missing."""
        found = self.find(self.resource(kind).object_type, id)
        if found is None:
            raise Missing(f"no {kind} {id!r}")
        return found

    def children(self, lead_id: str) -> Iterator[tuple[str, Object]]:
        """What belongs to a lead."""
        for kind, table in self._tables.items():
            if kind != "lead":
                yield from [(kind, each) for each in table.values() if each.get("lead_id") == lead_id]

    def insert(
        self, kind: str, body: Mapping[str, Any], actor: Actor, params: Mapping[str, Any] = _NOTHING, **presets: Any
    ) -> Object:
        """Make one object and its `created`. presets: fields that nobody may write. Raises Invalid."""
        resource = self.resource(kind)
        values = resource.read(body, is_new=True)
        params = {**params, **body}
        made: Object = {
            **({"_type": resource.type_name} if resource.type_name else {}),
            **{name: value() if callable(value) else value for name, value in resource.constants.items()},
            **values,
            **presets,
            "id": self.ids.make(resource.id_prefix),
            "organization_id": ORGANIZATION,
        }
        user = actor.user
        if resource.has_user:
            made["user_id"] = made.get("user_id") or (user.id if user else None)
            made["user_name"] = name_of_user(made["user_id"])
        resource.before_create(self, made, actor, params)
        resource.derive(self, made)
        at = stamp(self.tick())
        made |= {"date_created": at, "date_updated": at}
        made |= {"created_by": user.id if user else None, "updated_by": user.id if user else None}
        if resource.has_names:
            made |= {"created_by_name": user.name if user else None, "updated_by_name": user.name if user else None}
        if resource.id_prefix == "acti":
            made["activity_at"] = made.get("activity_at") or at
        self._tables[kind][made["id"]] = made = dict(sorted(made.items()))
        self._emit(resource, made, "created", actor, data=made)
        resource.after_create(self, made, actor, params)
        return made

    def change(
        self,
        kind: str,
        id: str,
        changes: Mapping[str, Any],
        actor: Actor,
        is_silent: bool = False,
        is_touch: bool = False,
    ) -> Object:
        """Change one object and write its `updated`; returns it as it was when nothing changed.

        is_silent: without an event. is_touch: also when nothing but its dates changes.
        """
        resource, before = self.resource(kind), self.stored(kind, id)
        after = copy.deepcopy({**before, **changes})
        for name in [name for name in after if name.startswith("custom.") and after[name] is None]:
            del after[name]
        resource.derive(self, after)
        if resource.has_user:
            after["user_name"] = name_of_user(after["user_id"])
        if after == before and not is_touch:
            return before
        after["date_updated"] = stamp(self.tick())
        if actor.user is not None:
            after["updated_by"] = actor.user.id
            if resource.has_names:
                after["updated_by_name"] = actor.user.name
        self._tables[kind][id] = after = dict(sorted(after.items()))
        if not is_silent:
            changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
            previous = {name: before.get(name) for name in changed}
            self._emit(resource, after, "updated", actor, data=after, previous=previous, changed=changed)
        return after

    def remove(self, kind: str, id: str, actor: Actor, is_cascade: bool = False) -> None:
        """Remove one object and write its `deleted`. is_cascade: because its lead goes."""
        resource, gone = self.resource(kind), self.stored(kind, id)
        resource.before_delete(self, gone, actor)
        del self._tables[kind][id]
        self._emit(resource, gone, "deleted", actor, data=None, previous=gone)
        if not is_cascade:
            resource.after_delete(self, gone, actor)

    def announce(self, kind: str, id: str, action: str, actor: Actor) -> None:
        """Write an event of another action, with the object as it is."""
        made = self.stored(kind, id)
        self._emit(self.resource(kind), made, action, actor, data=made)

    def _emit(
        self,
        resource: Resource,
        made: Object,
        action: str,
        actor: Actor,
        data: Object | None,
        previous: Mapping[str, Any] = _NOTHING,
        changed: list[str] | None = None,
    ) -> None:
        if resource.object_type == "outcome" and not self.rules.unlisted:
            return
        at = self.tick()
        entry = Entry(
            id=self.ids.make("ev"),
            date_created=at,
            date_updated=at,
            actor=actor,
            object_type=resource.object_type,
            object_id=made["id"],
            lead_id=resource.lead_of(made),
            action=action,
            data=copy.deepcopy(data),
            previous_data=copy.deepcopy(dict(previous)),
            changed_fields=changed or [],
            shows_at=at + self.ids.random.random() * self.rules.log_delay if self.rules.log_delay else None,
        )
        self._deliveries.offer(self.log.add(entry, self.rules), self.now(), self.rules)

    def request(self, by: Actor, method: str, path: str) -> Actor:
        """`by` in a new request of the API."""
        return by.in_request(self.ids.make("req"), method, path)

    def _as_request(self, by: Actor, method: str, path: str) -> Actor:
        return by if by == NOBODY or by.request_id is not None or not by.key else self.request(by, method, path)


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
