"""The event log: entries that grow for a few seconds, pages, cursors, and the few filters that may be combined.

Changes to one object by one hand within `rules.consolidation` become one entry: its id and date_created stay,
date_updated, data and changed_fields move on, previous_data still shows the state before the first of them. An entry
that grows moves to the front, because the log is sorted by date_updated.

No two entries share a date_updated: the world's clock moves on with every change (`World.tick`). So a position in
the log is an instant, and a walk neither repeats nor misses an entry when others are added in front.
Source: developer.close.com/api/resources/events (read 2026-11-23).
"""

from __future__ import annotations

import base64
import binascii
import copy
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from webhooks.sandbox.accounts import ORGANIZATION, Caller
from webhooks.sandbox.refusals import Invalid, Missing
from webhooks.sandbox.rules import Rules

_DATES = ("date_updated__gt", "date_updated__gte", "date_updated__lt", "date_updated__lte")
_FIELDS = ("object_type", "object_id", "action", "lead_id", "user_id", "request_id")
_MERGE = ("merge_source_lead_id", "merge_destination_lead_id")

#: The filters that may stand together; dates go with each of them.
COMBINATIONS = frozenset(
    frozenset(names.split())
    for names in (
        "",
        "object_type object_id",
        "object_type action",
        "object_id action",
        "lead_id",
        "lead_id object_type",
        "lead_id object_type action",
        "lead_id user_id",
        "lead_id user_id object_type",
        "lead_id user_id object_type action",
        "user_id",
        "user_id object_id",
        "user_id object_type",
        "user_id object_type action",
        "request_id",
    )
)


def stamp(at: datetime) -> str:
    """An instant as it stands in the log: UTC without an offset."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")


@dataclass
class Entry:
    """One event. data and previous_data are copies of its own. shows_at: when the log begins to show it."""

    id: str
    date_created: datetime
    date_updated: datetime
    actor: Caller
    object_type: str
    object_id: str
    lead_id: str | None
    action: str
    data: dict[str, Any] | None
    previous_data: dict[str, Any] = field(default_factory=dict)
    changed_fields: list[str] = field(default_factory=list)
    shows_at: datetime | None = None

    @property
    def type(self) -> str:
        """The event type, as in a subscription."""
        return f"{self.object_type}.{self.action}"

    def as_json(self, is_stripped: bool = False) -> dict[str, Any]:
        """As the log and the webhooks show it; a stripped one lacks data and previous_data."""
        actor = self.actor
        made = {
            "id": self.id,
            "date_created": stamp(self.date_created),
            "date_updated": stamp(self.date_updated),
            "organization_id": ORGANIZATION,
            "user_id": actor.user.id if actor.user else None,
            "request_id": actor.request_id,
            "api_key_id": actor.api_key_id,
            "oauth_client_id": actor.oauth_client_id,
            "oauth_scope": actor.oauth_scope,
            "object_type": self.object_type,
            "object_id": self.object_id,
            "lead_id": self.lead_id,
            "action": self.action,
            "changed_fields": list(self.changed_fields),
            "meta": dict(actor.meta),
        }
        if not is_stripped:
            made |= {"data": copy.deepcopy(self.data), "previous_data": copy.deepcopy(self.previous_data)}
        return made

    def grow(self, later: Entry) -> None:
        """Merge a change that was made right after."""
        self.date_updated = later.date_updated
        self.lead_id = later.lead_id
        self.data = later.data
        if self.action == "created":
            return
        self.changed_fields = sorted({*self.changed_fields, *later.changed_fields})
        self.previous_data = {**later.previous_data, **self.previous_data}


class EventLog:
    def __init__(self) -> None:
        #: {id: entry}, oldest date_updated first
        self._entries: dict[str, Entry] = {}
        #: {(object_type, object_id): id of its latest entry}
        self._latest: dict[tuple[str, str], str] = {}

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry, rules: Rules) -> Entry:
        """Put an event in; returns the entry that it became, which may be an older one that grew."""
        what = (entry.object_type, entry.object_id)
        before = self._entries.get(self._latest.get(what, ""))
        if before is not None and _absorbs(before, entry, rules):
            before.grow(entry)
            self._entries[before.id] = self._entries.pop(before.id)
            return before
        self._entries[entry.id] = entry
        self._latest[what] = entry.id
        return entry

    def forget(self, now: datetime, rules: Rules) -> None:
        """Drop what is older than the log keeps."""
        limit = now - rules.log_keeps
        for entry in list(self._entries.values()):
            if entry.date_updated >= limit:
                break
            del self._entries[entry.id]
            if self._latest.get((entry.object_type, entry.object_id)) == entry.id:
                del self._latest[entry.object_type, entry.object_id]

    def get(self, id: str, actor: Caller, now: datetime, rules: Rules) -> dict[str, Any]:
        """One entry as `actor` may see it. Raises Missing."""
        self.forget(now, rules)
        if id not in self._entries:
            raise Missing(f"no event {id!r}; the log keeps {rules.log_keeps.days} days")
        return self._shown(self._entries[id], actor, now, rules)

    def page(self, params: Mapping[str, str], actor: Caller, now: datetime, rules: Rules) -> dict[str, Any]:
        """One page, newest first, with cursors to older and newer ones. Raises Invalid."""
        self.forget(now, rules)
        query = _Query.read(params, now, rules)
        matching = [
            entry
            for entry in reversed(self._entries.values())
            if query.fits(entry) and (entry.shows_at is None or entry.shows_at <= now)
        ]
        found = [entry for entry in matching if query.is_beyond_cursor(entry)]
        page = found[-query.limit :] if query.is_newer else found[: query.limit]
        older = bool(page) and matching[-1].date_updated < page[-1].date_updated
        newer = bool(page) and matching[0].date_updated > page[0].date_updated
        return {
            "data": [self._shown(entry, actor, now, rules) for entry in page],
            "cursor_next": query.cursor("older", page[-1].date_updated, now) if older else None,
            "cursor_previous": query.cursor("newer", page[0].date_updated, now) if newer else None,
        }

    def _shown(self, entry: Entry, actor: Caller, now: datetime, rules: Rules) -> dict[str, Any]:
        return entry.as_json(is_stripped=not actor.is_admin and now - entry.date_updated >= rules.full_for_all)


def _absorbs(before: Entry, entry: Entry, rules: Rules) -> bool:
    """Whether `entry` becomes part of the entry before it."""
    if entry.action != "updated" or before.action not in (
        ("updated", "created") if rules.created_absorbs else ("updated",)
    ):
        return False
    if entry.date_updated - before.date_updated >= rules.consolidation:
        return False
    old, new = before.actor, entry.actor
    return (old.user, old.key, [old.meta.get(name) for name in _MERGE], old.request_id is None) == (
        new.user,
        new.key,
        [new.meta.get(name) for name in _MERGE],
        new.request_id is None,
    )


@dataclass(frozen=True)
class _Query:
    """A request for a page. dates: as given, or as the cursor carries them. at: where the cursor stands."""

    fields: Mapping[str, str]
    dates: Mapping[str, str]
    bounds: Mapping[str, datetime]
    limit: int
    at: datetime | None = None
    is_newer: bool = False

    @classmethod
    def read(cls, params: Mapping[str, str], now: datetime, rules: Rules) -> _Query:
        known = {*_DATES, *_FIELDS, "_cursor", "_limit", "_fields"}
        for name in params:
            if name not in known:
                raise Invalid.field(name, f"the log has no such filter; there are {', '.join(sorted(known))}")
        fields = {name: params[name] for name in _FIELDS if name in params}
        if frozenset(fields) not in COMBINATIONS:
            raise Invalid(
                f"the log cannot be filtered by {' and '.join(sorted(fields))} {'together' if len(fields) > 1 else 'alone'}"
            )
        dates = {name: params[name] for name in _DATES if name in params}
        at, is_newer = None, False
        if "_cursor" in params:
            way, at, carried = _read_cursor(params["_cursor"], _digest(fields), now, rules)
            is_newer = way == "newer"
            dates = dates or carried
        bounds = {name: _instant(name, value) for name, value in dates.items()}
        return cls(fields, dates, bounds, _limit(params.get("_limit"), rules), at, is_newer)

    def fits(self, entry: Entry) -> bool:
        """Whether the filters let the entry through."""
        at = entry.date_updated
        for name, bound in self.bounds.items():
            how = name.removeprefix("date_updated__")
            if not (
                (how == "gt" and at > bound)
                or (how == "gte" and at >= bound)
                or (how == "lt" and at < bound)
                or (how == "lte" and at <= bound)
            ):
                return False
        user = entry.actor.user.id if entry.actor.user else None
        shown = {"user_id": user, "request_id": entry.actor.request_id}
        return all(
            value == (shown[name] if name in shown else getattr(entry, name)) for name, value in self.fields.items()
        )

    def is_beyond_cursor(self, entry: Entry) -> bool:
        """Whether the entry lies on the side of the cursor that was asked for."""
        if self.at is None:
            return True
        return entry.date_updated > self.at if self.is_newer else entry.date_updated < self.at

    def cursor(self, way: str, at: datetime, now: datetime) -> str:
        text = json.dumps([way, stamp(at), stamp(now), _digest(self.fields), dict(self.dates)])
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(text: str, digest: str, now: datetime, rules: Rules) -> tuple[str, datetime, dict[str, str]]:
    """Which way, from where, with which dates. Raises Invalid for a stale, foreign or made-up one."""
    try:
        raw = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        way, at, made, of, dates = json.loads(raw)
        place, made_at = datetime.fromisoformat(at), datetime.fromisoformat(made)
        if way not in ("older", "newer") or place.tzinfo or made_at.tzinfo or not isinstance(dates, dict):
            raise ValueError
        if not all(name in _DATES and isinstance(value, str) for name, value in dates.items()):
            raise ValueError
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise Invalid.field("_cursor", "is not a cursor of this log; start without one") from None
    if of != digest:
        raise Invalid.field("_cursor", "belongs to other filters; send the same ones again")
    if now - made_at.replace(tzinfo=UTC) > rules.cursor_lifetime:
        raise Invalid.field("_cursor", "is stale; start again without one")
    return way, place.replace(tzinfo=UTC), dates


def _digest(fields: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(sorted(fields.items())).encode()).hexdigest()[:16]


def _limit(text: str | None, rules: Rules) -> int:
    if text is None:
        return max(1, rules.page)
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not 1 <= int(text) <= rules.page:
        raise Invalid.field("_limit", f"is a number from 1 to {rules.page}")
    return int(text)


def _instant(name: str, text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Invalid.field(name, "is not a date; write it like 2026-03-10T14:05:12") from None
