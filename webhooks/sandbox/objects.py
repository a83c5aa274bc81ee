"""The objects of a local Close, and what becomes of each change: dates, names, what follows by a kind's rules, an event.

Nothing here locks, copies what it returns or knows subscriptions: `World` does that around it. `emit` is called with each
entry of the log as it is made.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from webhooks.sandbox.accounts import ADMIN, NOBODY, ORGANIZATION, Caller
from webhooks.sandbox.eventlog import Entry
from webhooks.sandbox.ids import Ids
from webhooks.sandbox.refusals import Missing
from webhooks.sandbox.resources.calls import Calls
from webhooks.sandbox.resources.contacts import Contacts
from webhooks.sandbox.resources.emails import Emails
from webhooks.sandbox.resources.leads import Leads, LeadStatusChanges
from webhooks.sandbox.resources.meetings import Meetings
from webhooks.sandbox.resources.notes import Notes
from webhooks.sandbox.resources.opportunities import Opportunities, OpportunityStatusChanges
from webhooks.sandbox.resources.outcomes import ActivityOutcomes
from webhooks.sandbox.resources.resource import Object, Resource, name_of_user, stamp
from webhooks.sandbox.resources.tasks import Tasks, TasksCompleted
from webhooks.sandbox.resources.whatsapp import WhatsAppMessages
from webhooks.sandbox.rules import Rules
from webhooks.sandbox.world_time import WorldTime

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
    ActivityOutcomes(),
)

_NOTHING: Mapping[str, Any] = {}


class ObjectTables:
    """Every object by kind and id: the `Objects` that kinds of objects work with.

    ids: makes ids and chances.
    time: says the instant of each change.
    rules: of this world; replaced as a whole when one changes.
    emit: called with each new entry of the log.
    """

    def __init__(self, ids: Ids, time: WorldTime, rules: Rules, emit: Callable[[Entry], None]) -> None:
        self.ids = ids
        self.rules = rules
        #: ids of the messages sent to the inbox
        self.inbox: list[str] = []
        #: {kind: {id: object}}
        self.tables: dict[str, dict[str, Object]] = {resource.object_type: {} for resource in RESOURCES}
        self._time = time
        self._write = emit
        self._resources = {resource.object_type: resource for resource in RESOURCES}

    def now(self) -> datetime:
        """The time of the world."""
        return self._time.now()

    # -- reading ----------------------------------------------------------------------------------------------

    def resource(self, kind: str) -> Resource:
        """The kind of that name. Raises Missing."""
        if kind not in self._resources:
            raise Missing(f"no kind of object {kind!r}; there are {', '.join(self._resources)}")
        return self._resources[kind]

    def table(self, kind: str) -> Mapping[str, Object]:
        """{id: object} of one kind, the oldest first."""
        return self.tables[kind]

    def find(self, kind: str, id: Any) -> Object | None:
        """The object itself; None when there is none."""
        return self.tables[kind].get(id) if isinstance(id, str) else None

    def stored(self, kind: str, id: str) -> Object:
        """The object itself, not a copy: to be read only. Raises Missing."""
        found = self.find(self.resource(kind).object_type, id)
        if found is None:
            raise Missing(f"no {kind} {id!r}")
        return found

    def children(self, lead_id: str) -> Iterator[tuple[str, Object]]:
        """(kind, object) of all that belongs to a lead."""
        for kind, table in self.tables.items():
            if kind != "lead":
                yield from [(kind, each) for each in table.values() if each.get("lead_id") == lead_id]

    # -- as the API does ----------------------------------------------------------------------------------------

    def create(
        self, kind: str, body: Mapping[str, Any], by: Caller = ADMIN, params: Mapping[str, Any] = _NOTHING
    ) -> Object:
        """Make an object by a request. params: of the address. Raises Invalid."""
        by = self.as_request(by, "POST", f"{self.resource(kind).path}/")
        made = self.insert(kind, body, by, params=params)
        return self.stored(kind, made["id"])  # what follows by its kind's rules may have changed it

    def update(self, kind: str, id: str, body: Mapping[str, Any], by: Caller = ADMIN) -> Object:
        """Change by a request what is in `body`, and leave the rest. Raises Missing and Invalid; then nothing has changed."""
        resource, before = self.resource(kind), self.stored(kind, id)
        by = self.as_request(by, "PUT", f"{resource.path}/{id}/")
        values = resource.read(body, is_new=False)
        resource.before_update(self, before, values, by)
        after = self.change(kind, id, values, by)
        if after is not before:
            resource.after_update(self, before, after, by)
        return self.stored(kind, id)

    def delete(self, kind: str, id: str, by: Caller = ADMIN) -> None:
        """Remove an object by a request, and what hangs on it. Raises Missing."""
        self.remove(kind, id, self.as_request(by, "DELETE", f"{self.resource(kind).path}/{id}/"))

    def as_request(self, by: Caller, method: str, path: str) -> Caller:
        """`by` in a request, unless it is in one already or is no client of the API. path: below /api/v1/."""
        if by == NOBODY or by.request_id is not None or not by.key:
            return by
        return self.request(by, method, f"/api/v1/{path}")

    def request(self, by: Caller, method: str, path: str) -> Caller:
        """`by` in a new request of the API."""
        return by.in_request(self.ids.make("req"), method, path)

    # -- each change --------------------------------------------------------------------------------------------

    def insert(
        self, kind: str, body: Mapping[str, Any], actor: Caller, params: Mapping[str, Any] = _NOTHING, **presets: Any
    ) -> Object:
        """Make one object and its `created`. presets: fields that a request cannot write. Raises Invalid."""
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
        at = stamp(self._time.tick())
        made |= {"date_created": at, "date_updated": at}
        made |= {"created_by": user.id if user else None, "updated_by": user.id if user else None}
        if resource.has_names:
            made |= {"created_by_name": user.name if user else None, "updated_by_name": user.name if user else None}
        if resource.id_prefix == "acti":
            made["activity_at"] = made.get("activity_at") or at
        self.tables[kind][made["id"]] = made = dict(sorted(made.items()))
        self._emit(resource, made, "created", actor, data=made)
        resource.after_create(self, made, actor, params)
        return made

    def change(
        self,
        kind: str,
        id: str,
        changes: Mapping[str, Any],
        actor: Caller,
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
        after["date_updated"] = stamp(self._time.tick())
        if actor.user is not None:
            after["updated_by"] = actor.user.id
            if resource.has_names:
                after["updated_by_name"] = actor.user.name
        self.tables[kind][id] = after = dict(sorted(after.items()))
        if not is_silent:
            changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
            previous = {name: before.get(name) for name in changed}
            self._emit(resource, after, "updated", actor, data=after, previous=previous, changed=changed)
        return after

    def remove(self, kind: str, id: str, actor: Caller, is_cascade: bool = False) -> None:
        """Remove one object and write its `deleted`. is_cascade: because its lead goes."""
        resource, gone = self.resource(kind), self.stored(kind, id)
        resource.before_delete(self, gone, actor)
        del self.tables[kind][id]
        self._emit(resource, gone, "deleted", actor, data=None, previous=gone)
        if not is_cascade:
            resource.after_delete(self, gone, actor)

    def announce(self, kind: str, id: str, action: str, actor: Caller) -> None:
        """Write an event of another action, with the object as it is."""
        made = self.stored(kind, id)
        self._emit(self.resource(kind), made, action, actor, data=made)

    def _emit(
        self,
        resource: Resource,
        made: Object,
        action: str,
        actor: Caller,
        *,
        data: Object | None,
        previous: Mapping[str, Any] = _NOTHING,
        changed: list[str] | None = None,
    ) -> None:
        if resource.object_type == "outcome" and not self.rules.unlisted:
            return
        at = self._time.tick()
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
        self._write(entry)
