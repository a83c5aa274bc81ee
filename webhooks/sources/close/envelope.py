"""What Close puts around an event: `{"event": {…}, "subscription_id": …}`, everything else inside `event`.

`parse_delivery` reads a webhook's body, `parse_log_entry` an entry of the event log, `read` what a handler sees. Keys
may be missing and new ones appear at any time; absent, null and empty are read alike; ids are opaque text. Dates are
UTC without an offset. Needed are `id`, `object_type` and `action`, and they must be unambiguous: an object that
names one of them twice is quarantined, because two readers could see two different events.

Which of two copies of one event is the later: `revisions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec

from webhooks.errors import Malformed
from webhooks.formats import json as jsonio
from webhooks.formats import read_iso
from webhooks.model import Content, ParsedEvent
from webhooks.sources.close.revisions import STRIPPED, is_stripped, revision_of
from webhooks.sources.declared.fields import key_text, ordering_key

_NULL = msgspec.Raw(b"null")
#: Keys of `event` whose doubling makes the event ambiguous; with the quotes, as they are searched for.
_WATCHED = ("id", "object_type", "action", "date_updated")
_WATCHED_QUOTED = tuple(f'"{name}"'.encode() for name in (*_WATCHED, "event"))
#: A value of so few bytes has no room for one of these names: null, {}, [].
_NAMELESS = min(map(len, _WATCHED_QUOTED))
_NOT_IN_META = frozenset(("data", "previous_data", "changed_fields"))


class _EventFields(msgspec.Struct):
    """The fields of `event` that ingest needs; what can be large is left as bytes."""

    id: str = ""
    object_type: str = ""
    action: str = ""
    object_id: str | None = None
    lead_id: str | None = None
    date_created: str | None = None
    date_updated: str | None = None
    data: msgspec.Raw = _NULL
    previous_data: msgspec.Raw = _NULL
    changed_fields: msgspec.Raw = _NULL


class _Delivery(msgspec.Struct):
    event: _EventFields
    subscription_id: Any = None


_DECODER = msgspec.json.Decoder(_Delivery)


def parse_delivery(raw: bytes) -> ParsedEvent:
    """Read the one event of a webhook's body. Raises Malformed, and nothing else."""
    try:
        delivery = _DECODER.decode(raw)
    except jsonio.ERRORS:
        return _parse_slowly(raw)
    entry = delivery.event
    if _may_be_ambiguous(raw, entry):
        return _parse_slowly(raw)
    try:
        jsonio.require_limits(raw)
    except jsonio.NotJSON as error:
        raise Malformed(str(error), "unparseable") from None
    return _parsed(entry, raw, delivery.subscription_id)


def parse_log_entry(raw: bytes) -> ParsedEvent:
    """Read one entry of the event log. Raises Malformed."""
    return parse_log_body(log_body(raw))


def log_body(raw: bytes) -> bytes:
    """The body that a webhook of an entry of the log would have had."""
    return b'{"event":' + raw + b"}"


def parse_log_body(body: bytes) -> ParsedEvent:
    """Read what `log_body` made.

    A copy without `data` and `previous_data` is marked stripped. Raises Malformed.
    """
    parsed = parse_delivery(body)
    content = read(body, parsed.type)
    return replace(parsed, revision=STRIPPED) if is_stripped(content) else parsed


def read(raw: bytes, type: str) -> Content:
    """Decode a stored body for handlers. Raises nothing for bytes that once parsed, and hardly for others."""
    try:
        delivery = jsonio.load(raw)
    except jsonio.NotJSON:
        delivery = None
    event = delivery.get("event") if isinstance(delivery, Mapping) else None
    if not isinstance(event, Mapping):
        event = {}
    changed = event.get("changed_fields")
    object_type, _, action = type.rpartition(".")
    return Content(
        data=event.get("data") or None,
        previous=event.get("previous_data") or {},
        changed_fields=tuple(f for f in changed if isinstance(f, str)) if isinstance(changed, list) else (),
        action=_text(event, "action") or action,
        object_type=_text(event, "object_type") or object_type,
        object_id=_text(event, "object_id") or None,
        meta={key: value for key, value in event.items() if key not in _NOT_IN_META},
    )


def _may_be_ambiguous(raw: bytes, entry: _EventFields) -> bool:
    """Whether a key that matters may be written twice; wrongly yes at times, never wrongly no.

    A key is doubled only if its quoted name stands twice outside the values that we know, or hides behind an escape.
    """
    flat = raw
    for known in (entry.data, entry.previous_data, entry.changed_fields):
        size = len(memoryview(known))
        if size <= _NAMELESS:
            continue
        text = bytes(known)
        if text[:1] in b"{[":
            # looked for by its beginning: searching for all of a long text costs four times as much
            start = flat.find(text[:32])
            end = start + size
            if flat[start:end] != text:
                return True
            flat = flat[:start] + flat[end:]
    if b"\\" in flat:
        return True
    for name in _WATCHED_QUOTED:  # noqa: SIM110  (a generator costs as much as what it asks)
        if flat.count(name) > 1:
            return True
    return False


def _parse_slowly(raw: bytes) -> ParsedEvent:
    """The same as the fast way, for bodies that it cannot read or that may be ambiguous, and with exact reasons."""
    try:
        delivery = jsonio.load_watching(raw)
    except jsonio.NotJSON as error:
        raise Malformed(str(error), "unparseable") from None
    if not isinstance(delivery, jsonio.Watched):
        raise Malformed("the body is not a JSON object")
    event = delivery.get("event")
    if not isinstance(event, jsonio.Watched):
        raise Malformed("the body has no object under 'event'")
    doubled = event.doubled.intersection(_WATCHED) | delivery.doubled.intersection(("event",))
    if doubled:
        raise Malformed(f"the key {min(doubled)!r} stands twice, so the event is ambiguous")
    fields: dict[str, Any] = {}
    for name in ("id", "object_type", "action"):
        if not isinstance(event.get(name), str):
            raise Malformed(f"'event.{name}' is missing or not text")
        fields[name] = event[name]
    for name in ("object_id", "lead_id", "date_created", "date_updated"):
        if not isinstance(event.get(name), str | None):
            raise Malformed(f"'event.{name}' is not text")
        fields[name] = event.get(name)
    return _parsed(_EventFields(**fields), raw, delivery.get("subscription_id"))


def _parsed(entry: _EventFields, raw: bytes, subscription: Any) -> ParsedEvent:
    if not entry.id or not entry.object_type or not entry.action:
        raise Malformed("'event.id', 'event.object_type' or 'event.action' is missing or empty")
    updated = _instant(entry.date_updated, "date_updated")
    ordering = {}
    if entry.object_id:
        ordering["object_id"] = ordering_key(entry.object_id)
    if entry.lead_id:
        ordering["lead_id"] = ordering_key(entry.lead_id)
    return ParsedEvent(
        dedup_key=key_text(entry.id, "'event.id'"),
        type=key_text(f"{entry.object_type}.{entry.action}", "'event.object_type.action'"),
        body=raw,
        revision=revision_of(updated),
        occurred_at=updated or _instant(entry.date_created, "date_created"),
        ordering=ordering,
        subscription=subscription if isinstance(subscription, str) and subscription else None,
    )


def _instant(text: str | None, what: str) -> datetime | None:
    """An aware UTC instant; text without an offset is UTC. Absent, null and empty are None."""
    if not text:
        return None
    instant = read_iso(text)
    if instant is None:
        raise Malformed(f"'event.{what}' is not a date")
    return instant


def _text(event: Mapping[str, Any], name: str) -> str:
    value = event.get(name)
    return value if isinstance(value, str) else ""
