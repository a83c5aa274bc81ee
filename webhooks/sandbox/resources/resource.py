"""What every kind of object has in common: fields with their checks, and the places where a kind has rules of its own.

A kind is one small module (`leads`, `emails`, …) with a subclass of `Resource`. `ObjectTables` creates, changes and
removes objects and writes the events; the subclass says which fields there are (`fields`), what follows from them (`derive`),
and what else happens (`before_create`, `after_update`, …).
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, ClassVar, Protocol

from webhooks.sandbox.accounts import USERS, Caller
from webhooks.sandbox.ids import Ids
from webhooks.sandbox.refusals import Invalid
from webhooks.sandbox.rules import Rules

#: An object as the API shows it.
Object = dict[str, Any]


class WrongValue(ValueError):
    """A value that a field cannot have; the text says what it can."""


#: Returns the value to store. Raises WrongValue.
Check = Callable[[Any], Any]


@dataclass(frozen=True)
class Field:
    """One field that may be written. default: of a new object; a callable is called for it."""

    check: Check
    default: Any = None
    is_required: bool = False
    is_fixed: bool = False  #: set when the object is made, never afterwards


REQUIRED = "This field is required."
NO_SUCH_OBJECT = "Object does not exist."


class Objects(Protocol):
    """What a kind of object may do with the others: look, make, change, remove."""

    ids: Ids
    rules: Rules
    #: ids of the messages sent to the inbox
    inbox: list[str]

    def now(self) -> datetime:
        """The time of the world."""

    def resource(self, kind: str) -> Resource:
        """The kind of that name. Raises Missing."""

    def table(self, kind: str) -> Mapping[str, Object]:
        """{id: object} of one kind."""

    def find(self, kind: str, id: Any) -> Object | None:
        """One object, to be read only; None when there is none."""

    def stored(self, kind: str, id: str) -> Object:
        """The same. Raises Missing."""

    def children(self, lead_id: str) -> Iterator[tuple[str, Object]]:
        """(kind, object) of all that belongs to a lead."""

    def create(self, kind: str, body: Mapping[str, Any], by: Caller) -> Object:
        """Make an object as a request does. Raises Invalid."""

    def insert(self, kind: str, body: Mapping[str, Any], actor: Caller, **presets: Any) -> Object:
        """Make an object. presets: fields that a request cannot write. Raises Invalid."""

    def change(
        self,
        kind: str,
        id: str,
        changes: Mapping[str, Any],
        actor: Caller,
        is_silent: bool = False,
        is_touch: bool = False,
    ) -> Object:
        """Change an object and write its `updated`. is_silent: without it. is_touch: also when only its dates change."""

    def remove(self, kind: str, id: str, actor: Caller, is_cascade: bool = False) -> None:
        """Remove an object and write its `deleted`. is_cascade: because its lead goes."""

    def announce(self, kind: str, id: str, action: str, actor: Caller) -> None:
        """Write an event of another action, with the object as it is."""


class Resource:
    """One kind of object."""

    #: as in events: activity.call
    object_type: ClassVar[str] = ""
    #: as in addresses: activity/call
    path: ClassVar[str] = ""
    id_prefix: ClassVar[str] = ""
    #: the `_type` that objects carry, if they do
    type_name: ClassVar[str | None] = None
    fields: ClassVar[Mapping[str, Field]] = {}
    #: what else an object has at first
    constants: ClassVar[Mapping[str, Any]] = {}
    #: fields that a list may be filtered by
    filters: ClassVar[tuple[str, ...]] = ("lead_id",)
    has_names: ClassVar[bool] = True  #: created_by_name and updated_by_name
    has_user: ClassVar[bool] = False  #: user_id and user_name
    has_custom_fields: ClassVar[bool] = False
    may_post: ClassVar[bool] = True

    def derive(self, objects: Objects, made: Object) -> None:
        """Set the fields that follow from others; called before an object is stored, new or changed."""

    def before_create(self, objects: Objects, made: Object, actor: Caller, params: Mapping[str, Any]) -> None:
        """Fill in what a new object needs; may make other objects. params: the request as sent. Raises Invalid."""

    def after_create(self, objects: Objects, made: Object, actor: Caller, params: Mapping[str, Any]) -> None:
        """What else happens once `created` is in the log."""

    def before_update(self, objects: Objects, before: Object, values: Object, actor: Caller) -> None:
        """Judge or complete a change; `values` are only what was sent. Raises Invalid."""

    def after_update(self, objects: Objects, before: Object, after: Object, actor: Caller) -> None:
        """What else happens once `updated` is in the log."""

    def before_delete(self, objects: Objects, gone: Object, actor: Caller) -> None:
        """What goes first."""

    def after_delete(self, objects: Objects, gone: Object, actor: Caller) -> None:
        """What follows."""

    def lead_of(self, made: Object) -> str | None:
        """The `lead_id` of its events."""
        return made.get("lead_id")

    # -- reading a request's body ---------------------------------------------------------------------------

    def read(self, body: Mapping[str, Any], is_new: bool) -> Object:
        """The fields of a request, checked. Unknown and read-only ones are left out, as Close does. Raises Invalid."""
        values: Object = {}
        wrong: dict[str, str] = {}
        for name, field in self.fields.items():
            if name in body and (is_new or not field.is_fixed):
                try:
                    values[name] = field.check(body[name])
                except WrongValue as error:
                    wrong[name] = str(error)
            elif is_new:
                if field.is_required:
                    wrong[name] = REQUIRED
                values[name] = field.default() if callable(field.default) else field.default
        if self.has_custom_fields:
            values |= {name: value for name, value in body.items() if name.startswith("custom.")}
        if wrong:
            raise Invalid(f"{self.object_type}: {', '.join(f'{name}: {why}' for name, why in wrong.items())}", wrong)
        return values


class ActivityResource(Resource):
    """What belongs to a lead's time line."""

    id_prefix: ClassVar[str] = "acti"
    has_user: ClassVar[bool] = True
    filters: ClassVar[tuple[str, ...]] = ("lead_id", "contact_id", "user_id")
    constants: ClassVar[Mapping[str, Any]] = {
        "sequence_id": None,
        "sequence_name": None,
        "sequence_subscription_id": None,
        "users": list,
    }

    def before_create(self, objects: Objects, made: Object, actor: Caller, params: Mapping[str, Any]) -> None:
        """Check on which lead and contact it is. Raises Invalid."""
        place_on_lead(objects, made)


def place_on_lead(objects: Objects, made: Object) -> None:
    """Check `lead_id` and `contact_id`; the lead of the contact is taken when none is given. Raises Invalid."""
    contact = None
    if made.get("contact_id") is not None:
        contact = objects.find("contact", made["contact_id"])
        if contact is None:
            raise Invalid.field("contact_id", NO_SUCH_OBJECT)
    if made.get("lead_id") is None:
        if contact is None:
            raise Invalid.field("lead_id", REQUIRED)
        made["lead_id"] = contact["lead_id"]
    elif objects.find("lead", made["lead_id"]) is None:
        raise Invalid.field("lead_id", NO_SUCH_OBJECT)
    if contact is not None and contact["lead_id"] != made["lead_id"]:
        raise Invalid.field("contact_id", "This contact belongs to another lead.")


def name_of_user(id: str | None) -> str | None:
    """The name of a user; None for none."""
    user = USERS.get(id or "")
    return user.name if user else None


# -- checks -------------------------------------------------------------------------------------------------

#: Characters that a text may have; mails can be large.
MAX_TEXT = 1_000_000


def text(value: Any) -> str:
    """Check: a text."""
    if not isinstance(value, str):
        raise WrongValue("Not a text.")
    if len(value) > MAX_TEXT:
        raise WrongValue(f"Longer than {MAX_TEXT} characters.")
    return value


def name(value: Any) -> str:
    """Check: a text that is not blank."""
    if not text(value).strip():
        raise WrongValue("May not be empty.")
    return str(value)


def flag(value: Any) -> bool:
    """Check: true or false."""
    if not isinstance(value, bool):
        raise WrongValue("Neither true nor false.")
    return value


def amount(value: Any) -> int:
    """Check: a whole number of 0 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise WrongValue("Not a whole number of 0 or more.")
    return value


def percent(value: Any) -> int:
    """Check: a whole number from 0 to 100."""
    if amount(value) > 100:
        raise WrongValue("More than 100.")
    return int(value)


def instant(value: Any) -> str:
    """As Close writes it: with an offset and microseconds."""
    try:
        at = datetime.fromisoformat(text(value))
        return stamp(at.replace(tzinfo=UTC) if at.tzinfo is None else at)
    except (ValueError, OverflowError):
        raise WrongValue("Not a date; write it like 2026-03-10T14:05:12+00:00.") from None


def day(value: Any) -> str:
    """Check: a day, such as 2026-03-10."""
    try:
        return date.fromisoformat(text(value)).isoformat()
    except ValueError:
        raise WrongValue("Not a day; write it like 2026-03-10.") from None


def day_or_instant(value: Any) -> str:
    """Check: a day or an instant."""
    return day(value) if isinstance(value, str) and len(value) == len("2026-03-10") else instant(value)


def user(value: Any) -> str:
    """Check: the id of a user."""
    if not isinstance(value, str) or value not in USERS:
        raise WrongValue("Given user does not exist in your organization.")
    return value


def url(value: Any) -> str:
    """Check: an http or https address."""
    if not re.match(r"https?://[^\s]+\Z", text(value)):
        raise WrongValue("Not an http or https address.")
    return str(value)


def optional(check: Check) -> Check:
    """Also null."""
    return lambda value: None if value is None else check(value)


def choice(*choices: str) -> Check:
    """Check: one of these."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise WrongValue(f"Not one of {', '.join(choices)}.")
        return value

    return read


def list_of(check: Check) -> Check:
    """Check: a list whose members pass `check`."""

    def read(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise WrongValue("Not a list.")
        return [check(each) for each in value]

    return read


def record(required: Mapping[str, Check], others: Mapping[str, Check]) -> Check:
    """An object with these keys and no others; what is left out becomes null."""

    def read(value: Any) -> Object:
        if not isinstance(value, Mapping):
            raise WrongValue("Not an object.")
        for key in required:
            if value.get(key) is None:
                raise WrongValue(f"Without {key!r}.")
        made = {key: check(value[key]) for key, check in required.items()}
        return made | {key: optional(check)(value.get(key)) for key, check in others.items()}

    return read


# -- writing ------------------------------------------------------------------------------------------------


def stamp(at: datetime) -> str:
    """An instant as it stands in objects: with an offset and microseconds."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def paragraph(plain: str) -> str:
    """Plain text as Close's HTML."""
    return "".join(f"<p>{html.escape(line, quote=False)}</p>" for line in plain.split("\n")) if plain else ""


_COUNTRIES = {"+33": ("FR", 1), "+1": ("US", 3), "+44": ("GB", 4), "+49": ("DE", 3)}


def country_of(phone: str | None) -> str | None:
    """The country of a phone number; None when it is not known."""
    return next((country for code, (country, _) in _COUNTRIES.items() if (phone or "").startswith(code)), None)


def formatted(phone: str | None) -> str | None:
    """A number as Close shows it: +33639980177 is +33 6 39 98 01 77."""
    if phone is None:
        return None
    for code, (country, first) in _COUNTRIES.items():
        if phone.startswith(code):
            rest = phone.removeprefix(code)
            if country == "US":
                return f"{code} {rest[:3]}-{rest[3:6]}-{rest[6:]}"
            groups = [rest[:first], *(rest[at : at + 2] for at in range(first, len(rest), 2))]
            return " ".join([code, *groups])
    return phone
