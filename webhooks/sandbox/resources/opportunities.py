"""Opportunities: money that a lead may bring, in cents. One posted without `lead_id` gets a lead without a name.

With a `contact_id` but no `lead_id` it goes to the contact's lead. Winning sets `date_won` to today, a bare day, and
the confidence to 100. Shapes as in `payloads/opportunity_*.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from webhooks.sandbox.accounts import Caller
from webhooks.sandbox.resources.resource import (
    ActivityResource,
    Field,
    Object,
    Objects,
    Resource,
    WrongValue,
    amount,
    choice,
    day,
    name,
    optional,
    percent,
    place_on_lead,
    text,
    user,
)

PIPELINE = ("pipe_gnQzceyrXDTGvCGSlxQNN9", "Sales")
#: {id: (label, type)}
STATUSES = {
    "stat_1u1lYQwkzvL6mPJSTx8Li9zqqMq4erssdUIhhFHOHwf": ("Active", "active"),
    "stat_hs1w7cyzc6YHsII3Vzbiw3USWutKP6WFdOYKG8EG10b": ("Won", "won"),
    "stat_7GcEwPzQ5xKdR2sNnVbYtH8uLmJoA1fXi4WqTrUyZ3C": ("Lost", "lost"),
}
ACTIVE = next(iter(STATUSES))
_SYMBOLS = {"EUR": "€", "USD": "$", "GBP": "£"}
_YEARLY = {"one_time": 1, "monthly": 12, "annual": 1}


def status(value: Any) -> str:
    """The id of a status; its label is understood too."""
    for id, (label, _) in STATUSES.items():
        if value in (id, label):
            return id
    raise WrongValue(f"No such status; there are {', '.join(label for label, _ in STATUSES.values())}.")


def money(cents: int, currency: str) -> str:
    """€18,500 or €18,500.50."""
    whole, rest = divmod(cents, 100)
    return f"{_SYMBOLS.get(currency, currency + ' ')}{whole:,}" + (f".{rest:02d}" if rest else "")


class Opportunities(Resource):
    object_type: ClassVar[str] = "opportunity"
    path: ClassVar[str] = "opportunity"
    id_prefix: ClassVar[str] = "oppo"
    has_user: ClassVar[bool] = True
    has_custom_fields: ClassVar[bool] = True
    filters: ClassVar[tuple[str, ...]] = ("lead_id", "user_id", "status_id")
    constants: ClassVar[Mapping[str, Any]] = {"attachments": list, "integration_links": list}
    fields: ClassVar[Mapping[str, Field]] = {
        "lead_id": Field(optional(name), is_fixed=True),
        "contact_id": Field(optional(name), is_fixed=True),
        "user_id": Field(optional(user)),
        "status_id": Field(status, ACTIVE),
        "confidence": Field(percent, 50),
        "value": Field(optional(amount)),
        "value_currency": Field(choice(*_SYMBOLS), "EUR"),
        "value_period": Field(choice(*_YEARLY), "one_time"),
        "note": Field(text, ""),
        "date_won": Field(optional(day)),
        "date_lost": Field(optional(day)),
    }

    def derive(self, objects: Objects, made: Object) -> None:
        """What follows from other fields; see `Resource`."""
        label, kind = STATUSES[made["status_id"]]
        made |= {"status_label": label, "status_display_name": label, "status_type": kind}
        made["pipeline_id"], made["pipeline_name"] = PIPELINE
        value, times = made["value"], _YEARLY[made["value_period"]]
        expected = None if value is None else value * made["confidence"] // 100
        made |= {
            "expected_value": expected,
            "annualized_value": None if value is None else value * times,
            "annualized_expected_value": None if expected is None else expected * times,
            "value_formatted": None if value is None else money(value, made["value_currency"]),
        }

    def read(self, body: Mapping[str, Any], is_new: bool) -> Object:
        """The fields of a request, checked; see `Resource`."""
        if "status" in body and "status_id" not in body:
            body = {**body, "status_id": body["status"]}
        return super().read(body, is_new)

    def before_create(self, objects: Objects, made: Object, actor: Caller, params: Mapping[str, Any]) -> None:
        """What a new one needs; see `Resource`."""
        if made["lead_id"] is None and made["contact_id"] is None:
            made["lead_id"] = objects.insert("lead", {"name": None}, actor)["id"]
        place_on_lead(objects, made)
        contact = objects.find("contact", made["contact_id"]) if made["contact_id"] else None
        made["lead_name"] = objects.stored("lead", made["lead_id"])["display_name"]
        made["contact_name"] = contact["display_name"] if contact else None
        self._date(objects, made, made)

    def before_update(self, objects: Objects, before: Object, values: Object, actor: Caller) -> None:
        """Judge or complete a change; see `Resource`."""
        if values.get("status_id", before["status_id"]) != before["status_id"]:
            self._date(objects, {**before, **values}, values)

    def after_update(self, objects: Objects, before: Object, after: Object, actor: Caller) -> None:
        """What else happens; see `Resource`."""
        if before["status_id"] != after["status_id"]:
            change = {
                "lead_id": after["lead_id"],
                "opportunity_id": after["id"],
                "old_status_id": before["status_id"],
                "new_status_id": after["status_id"],
            }
            objects.create("activity.opportunity_status_change", change, by=actor)

    def _date(self, objects: Objects, made: Object, values: Object) -> None:
        """Set what a deal's end sets, into `values`."""
        today = objects.now().date().isoformat()
        kind = STATUSES[made["status_id"]][1]
        if kind == "won":
            values["date_won"] = values.get("date_won") or made.get("date_won") or today
            values["confidence"] = 100
        elif kind == "lost":
            values["date_lost"] = values.get("date_lost") or made.get("date_lost") or today


class OpportunityStatusChanges(ActivityResource):
    """Made by the change of a deal's status."""

    object_type: ClassVar[str] = "activity.opportunity_status_change"
    path: ClassVar[str] = "activity/status_change/opportunity"
    type_name: ClassVar[str | None] = "OpportunityStatusChange"
    fields: ClassVar[Mapping[str, Field]] = {
        "lead_id": Field(name, is_required=True, is_fixed=True),
        "contact_id": Field(optional(name), is_fixed=True),
        "opportunity_id": Field(name, is_required=True, is_fixed=True),
        "old_status_id": Field(status, is_required=True, is_fixed=True),
        "new_status_id": Field(status, is_required=True, is_fixed=True),
    }

    def derive(self, objects: Objects, made: Object) -> None:
        """What follows from other fields; see `Resource`."""
        for age in ("old", "new"):
            made[f"{age}_status_label"], made[f"{age}_status_type"] = STATUSES[made[f"{age}_status_id"]]
