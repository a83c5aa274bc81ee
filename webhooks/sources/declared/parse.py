"""Parse a verified request, and read a stored event, as a row says.

What is signed decides what dedups. An id that the signature does not cover could be changed by any client that saw one
request, so there the digest of the body is the key (option `dedup = "id"` trusts the header instead). Where the body
is not covered either, the source starts only with `accept_unsigned_body = true`, and the digest joins the id.

An item that cannot be read does not take the others of its body along: `PartlyMalformed` has both.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from webhooks.errors import Malformed, PartlyMalformed
from webhooks.formats import JsonPath, lists
from webhooks.formats import json as jsonio
from webhooks.model import Content, Headers, InboundRequest, OddItem, ParsedEvent
from webhooks.sources.declared import places
from webhooks.sources.declared.bodies import Reader, field_bytes, looks_like_json, opened
from webhooks.sources.declared.fields import at, drop, instant, json_path, key_text, ordering_key, sorted_form
from webhooks.sources.declared.scheme import Scheme
from webhooks.sources.declared.signed import BODY_HASH

#: Events that one body may hold.
MAX_ITEMS = 10_000
#: Bytes of an id that is kept as it is where a digest joins it: a dedup key has 255.
_LONGEST_JOINED_ID = 180
_NO_REQUEST = InboundRequest(Headers({}))


class Parser:
    """How the bodies of one source are read. dedup: what the dedup key is made of, of `scheme.DEDUP_KEYS`."""

    def __init__(self, row: Scheme, dedup: str) -> None:
        self.row = row
        self._dedup = dedup
        self._reader = Reader(row)
        self._type = places.templates(row.type)
        self._id = places.templates(row.id)
        self._object_id = places.templates(row.object_id)
        self._occurred_at = tuple(place for template in places.templates(row.occurred_at) if (place := template.place))
        self._field, self._patterns = _item_patterns(row)
        self._form = Parser(replace(row, **row.as_form, as_form={}), dedup) if row.as_form else None  # type: ignore[arg-type]

    # -- a request -----------------------------------------------------------------------------------------

    def parse(self, request: InboundRequest) -> Sequence[ParsedEvent]:
        """The events of a verified request; none when the sender's list is empty (LINE tries an address that way).

        Raises Malformed; PartlyMalformed where some of several items can be read.
        """
        raw = self._reader.as_utf8(request) if request.method != "GET" else self._query(request)
        if self._form is not None and not looks_like_json(raw):
            return self._form.parse(request)
        if not self._patterns:
            return (self._event(request, raw, self._reader.load(raw)),)
        found: list[ParsedEvent | OddItem] = []
        for number, part in enumerate(self._slices(raw)):
            try:
                found.append(self._item(request, part, number))
            except Malformed as error:
                found.append(OddItem(part, error.reason, error.kind))
        odd = [each for each in found if isinstance(each, OddItem)]
        if not odd:
            return [each for each in found if not isinstance(each, OddItem)]
        if len(odd) == len(found):
            raise Malformed(odd[0].reason, odd[0].kind)
        raise PartlyMalformed(found)

    def _query(self, request: InboundRequest) -> bytes:
        """The event of a GET: its query, without what carries a token."""
        carried = [place[6:] for place in self.row.signature if place.startswith("query:")]
        return b"&".join(
            part for part in request.query.split(b"&") if part.partition(b"=")[0].decode("latin-1") not in carried
        )

    def parse_item(self, request: InboundRequest) -> ParsedEvent:
        """One item that was kept aside, as the body of a request. Raises Malformed."""
        return self._item(request, request.body, 0)

    def _slices(self, raw: bytes) -> list[bytes]:
        """The items of a body, each as it was written. Raises Malformed."""
        value = self._reader.load_closed(raw)
        if self._field:  # the list stands in a field that holds a text of its own
            path, encoding = self._field
            text = at(value, path)
            if text is None:
                raise Malformed(f"there is no {path!r} in the body")
            raw = field_bytes(text, path, encoding)
            opened(text, path, encoding)
        elif not isinstance(value, (Mapping, list)) or not (looks_like_json(raw)):
            raise Malformed("the body is no JSON, and only JSON can be cut into events", "unparseable")
        else:
            for items in self.row.items:
                at(value, items.partition("*")[0].strip("."))  # a doubled key on the way makes the list ambiguous
        try:
            return lists.slices(raw, self._patterns, around=self.row.around, most=MAX_ITEMS)
        except LookupError:
            raise Malformed(f"there is no list under {' or '.join(self.row.items)} in the body") from None
        except jsonio.NotJSON as error:
            raise Malformed(f"the body cannot be cut into events: {error}") from None

    def _item(self, request: InboundRequest, part: bytes, number: int) -> ParsedEvent:
        if self.row.unwrap:
            try:
                part = jsonio.member(part, self.row.unwrap)
            except LookupError as error:
                raise Malformed(f"{error.args[0]} in the item") from None
        return self._event(request, part, self._reader.load_slice(part), number)

    def _event(self, request: InboundRequest, raw: bytes, value: Any, number: int = 0) -> ParsedEvent:
        if not isinstance(value, Mapping):
            if self.row.body != "raw":
                raise Malformed("the event is not a JSON object")
            value = {}
        kind = places.first(self._type, value, request)
        if not kind:
            raise Malformed(f"the event's type is missing or not text: {' or '.join(self.row.type)}")
        for character in self.row.dotted:
            kind = kind.replace(character, ".")
        subject = places.first(self._object_id, value, request)
        compared = self._compared(value) if self.row.leave_out else b""
        return ParsedEvent(
            dedup_key=self._dedup_key(request, compared or raw, value, number),
            type=key_text(kind, "the event's type"),
            body=raw,
            occurred_at=self._instant(value, request),
            ordering={"object_id": ordering_key(subject)} if subject else {},
            compared=compared,
        )

    def _compared(self, value: Any) -> bytes:
        """The event without the fields that say nothing of it. `value` is ours alone, and decoded again for handlers."""
        for path in self.row.leave_out:
            drop(value, path)
        return jsonio.dump(value)

    def _dedup_key(self, request: InboundRequest, raw: bytes, value: Any, number: int) -> str:
        rule = self._dedup
        if rule == "none":
            return f"once:{request.id or hashlib.sha256(raw).hexdigest()}:{number}"
        identifier = places.first(self._id, value, request) if rule != "body" else None
        if rule == "body" or identifier == "" or not self._id:
            return "sha256:" + self._digest(request, raw)
        if identifier is None:
            raise Malformed(f"the event's id is missing or not text: {' or '.join(self.row.id)}")
        identifier = key_text(identifier, "the event's id")
        if rule == "id":
            return identifier
        if len(identifier.encode("utf-8")) > _LONGEST_JOINED_ID:
            identifier = hashlib.sha256(identifier.encode("utf-8")).hexdigest()
        return f"{identifier}:{self._digest(request, raw)}"

    def _digest(self, request: InboundRequest, raw: bytes) -> str:
        """Of what the signature fixes: for a form its sorted fields, since their order in the body is free."""
        if "{form}" in self.row.signed and not BODY_HASH.search(request.query):
            with contextlib.suppress(ValueError):
                raw = sorted_form(raw)
        return hashlib.sha256(raw).hexdigest()

    def _instant(self, value: Any, request: InboundRequest) -> datetime | None:
        for place in self._occurred_at:
            is_field = not place.startswith(("@", "query:", "key:"))
            found = instant(at(value, place) if is_field else places.value_at(place, value, request))
            if found is not None:
                return found
        return None

    # -- a stored event ------------------------------------------------------------------------------------

    def read(self, raw: bytes, type: str) -> Content:
        """What a handler sees of a stored event of that type; `raw` is as `parse` gave it."""
        if self._form is not None and not looks_like_json(raw):
            return self._form.read(raw, type)
        try:
            value = self._reader.load_slice(raw) if self._patterns else self._reader.load(raw)
        except Malformed:
            value = None
        object_type, _, action = type.rpartition(".")
        if not isinstance(value, Mapping):
            return Content(data=value, action=action, object_type=object_type)
        try:
            data = at(value, self.row.data) if self.row.data else value
            previous = at(value, self.row.previous) if self.row.previous else None
            subject = places.first(self._object_id, value, _NO_REQUEST)
        except Malformed:
            data, previous, subject = value, None, None
        return Content(
            data=value if data is None else data,
            previous=previous or {},
            changed_fields=tuple(previous) if isinstance(previous, Mapping) else (),
            action=action,
            object_type=object_type,
            object_id=subject,
            meta={name: each for name, each in value.items() if name != self.row.data.partition(".")[0]},
        )


def _item_patterns(row: Scheme) -> tuple[tuple[str, str] | None, list[list[JsonPath | None]]]:
    """(the decoded field in which the lists stand, with its encoding, or None; the lists' paths for `lists.slices`)."""
    for path, encoding in row.decode.items():
        if encoding.endswith("json") and row.items and all(_is_below(items, path) for items in row.items):
            return (path, encoding), [_pattern(items[len(path) :].removeprefix(".")) for items in row.items]
    return None, [_pattern(items) for items in row.items]


def _is_below(items: str, path: str) -> bool:
    return items == path or items.startswith(path + ".")


def _pattern(items: str) -> list[JsonPath | None]:
    if items in (".", ""):
        return [None]
    return [json_path(part) if (part := each.strip(".")) else None for each in items.split("*")]
