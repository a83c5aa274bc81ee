"""Leads: a name or none, a status, addresses; the contacts, deals, tasks and activities of a lead go where it goes.

Changing the status makes an activity beside the change. Merging moves what the source has to the destination and
deletes the source; deleting deletes everything on the lead first. Names, ids and shapes as in
`payloads/lead_*.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from webhooks.sandbox.accounts import Caller
from webhooks.sandbox.refusals import Invalid
from webhooks.sandbox.resources.resource import (
    NO_SUCH_OBJECT,
    REQUIRED,
    ActivityResource,
    Check,
    Field,
    Object,
    Objects,
    Resource,
    WrongValue,
    list_of,
    name,
    optional,
    record,
    text,
    url,
)
from webhooks.sources.close.catalogue import known_types

#: {id: label}
STATUSES = {
    "stat_owbYYwH8R57SCGFjtOxfotgx2Yx76tcjUP4yEIwbvXk": "Potential",
    "stat_KwFiF7f4l2erepRanG9Z7s7C9Y4LGUgtYLNsS3JF7nD": "Qualified",
    "stat_v0ZbQ1mCk7RzLw2TnXyPdE5sGhUjA8oFi3WtMqVrN4B": "Bad fit",
}
POTENTIAL = next(iter(STATUSES))

_LINES = ("address_1", "address_2", "city", "state", "zipcode", "country", "label")
address: Check = record({}, dict.fromkeys(_LINES, text))


def status(value: Any) -> str:
    """The id of a status; its label is understood too."""
    for id, label in STATUSES.items():
        if value in (id, label):
            return id
    raise WrongValue(f"No such status; there are {', '.join(STATUSES.values())}.")


def nested(value: Any) -> list[Object]:
    """Contacts that are posted inside a lead; each is checked when it is made."""
    if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
        raise WrongValue("Not a list of contacts.")
    return [dict(each) for each in value]


class Leads(Resource):
    object_type: ClassVar[str] = "lead"
    path: ClassVar[str] = "lead"
    id_prefix: ClassVar[str] = "lead"
    has_custom_fields: ClassVar[bool] = True
    filters: ClassVar[tuple[str, ...]] = ("status_id",)
    constants: ClassVar[Mapping[str, Any]] = {"contact_ids": list}
    fields: ClassVar[Mapping[str, Field]] = {
        "name": Field(optional(name)),
        "description": Field(text, ""),
        "url": Field(optional(url)),
        "status_id": Field(status, POTENTIAL),
        "addresses": Field(list_of(address), list),
    }

    def derive(self, objects: Objects, made: Object) -> None:
        """What follows from other fields; see `Resource`."""
        made["display_name"] = made["name"] or "Untitled"
        made["status_label"] = STATUSES[made["status_id"]]
        made["html_url"] = f"https://app.close.com/lead/{made['id']}/"

    def read(self, body: Mapping[str, Any], is_new: bool) -> Object:
        """The fields of a request, checked; see `Resource`."""
        if "status" in body and "status_id" not in body:
            body = {**body, "status_id": body["status"]}
        return super().read(body, is_new)

    def before_create(self, objects: Objects, made: Object, actor: Caller, params: Mapping[str, Any]) -> None:
        """What a new one needs; see `Resource`."""
        try:
            contacts = nested(params.get("contacts") or [])
        except WrongValue as error:
            raise Invalid.field("contacts", str(error)) from None
        for each in contacts:  # all are judged before anything is made
            objects.resource("contact").read(each, is_new=True)

    def after_create(self, objects: Objects, made: Object, actor: Caller, params: Mapping[str, Any]) -> None:
        """What else happens; see `Resource`."""
        for each in params.get("contacts") or []:
            objects.create("contact", {**each, "lead_id": made["id"]}, by=actor)

    def after_update(self, objects: Objects, before: Object, after: Object, actor: Caller) -> None:
        """What else happens; see `Resource`."""
        if before["status_id"] != after["status_id"]:
            change = {
                "lead_id": after["id"],
                "old_status_id": before["status_id"],
                "new_status_id": after["status_id"],
            }
            objects.create("activity.lead_status_change", change, by=actor)

    def before_delete(self, objects: Objects, gone: Object, actor: Caller) -> None:
        """What goes first; see `Resource`."""
        for kind, child in objects.children(gone["id"]):
            objects.remove(kind, child["id"], actor, is_cascade=True)

    def lead_of(self, made: Object) -> str | None:
        """The `lead_id` of its events; see `Resource`."""
        return str(made["id"])


def merge(objects: Objects, body: Mapping[str, Any], actor: Caller) -> None:
    """Merge `source` into `destination`. All events carry both ids, those of the children too. Raises Invalid."""
    wrong = {}
    for key in ("source", "destination"):
        if body.get(key) is None:
            wrong[key] = REQUIRED
        elif objects.find("lead", body[key]) is None:
            wrong[key] = NO_SUCH_OBJECT
    if not wrong and body["source"] == body["destination"]:
        wrong["destination"] = "A lead cannot be merged into itself."
    if wrong:
        raise Invalid("the leads cannot be merged", wrong)
    source, destination = objects.stored("lead", body["source"]), objects.stored("lead", body["destination"])
    actor = actor.with_meta(merge_source_lead_id=source["id"], merge_destination_lead_id=destination["id"])
    contact_ids = [*destination["contact_ids"], *source["contact_ids"]]
    for kind, child in objects.children(source["id"]):
        if f"{kind}.updated" not in known_types():  # a finished task's activity; no event could tell that it moved
            objects.remove(kind, child["id"], actor)
            continue
        changes = {"lead_id": destination["id"]}
        if "lead_name" in child:
            changes["lead_name"] = destination["display_name"]
        objects.change(kind, child["id"], changes, actor)
    objects.change("lead", source["id"], {"contact_ids": []}, actor, is_silent=True)
    objects.change("lead", destination["id"], {"contact_ids": contact_ids}, actor, is_silent=True)
    objects.announce("lead", destination["id"], "merged", actor)
    objects.remove("lead", source["id"], actor)


class LeadStatusChanges(ActivityResource):
    """Made by the change of a lead's status, or by hand for the past."""

    object_type: ClassVar[str] = "activity.lead_status_change"
    path: ClassVar[str] = "activity/status_change/lead"
    type_name: ClassVar[str | None] = "LeadStatusChange"
    fields: ClassVar[Mapping[str, Field]] = {
        "lead_id": Field(name, is_required=True, is_fixed=True),
        "contact_id": Field(optional(name), is_fixed=True),
        "old_status_id": Field(status, is_required=True, is_fixed=True),
        "new_status_id": Field(status, is_required=True, is_fixed=True),
    }

    def derive(self, objects: Objects, made: Object) -> None:
        """What follows from other fields; see `Resource`."""
        made["old_status_label"] = STATUSES[made["old_status_id"]]
        made["new_status_label"] = STATUSES[made["new_status_id"]]
