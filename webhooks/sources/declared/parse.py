"""Parse a verified request, and read a stored event, as a row says.

What is signed decides what dedups. An id that the signature does not cover could be changed by any client that saw one
request, so there the digest of the body is the key (option `dedup = "id"` trusts the header instead). Where the body
is not covered either, the source starts only with `accept_unsigned_body = true`, and the digest joins the id.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from webhooks.errors import Malformed
from webhooks.formats import json as jsonio
from webhooks.model import Content, Headers, InboundRequest, ParsedEvent
from webhooks.sources.declared.fields import at, form, instant, key_text, ordering_key, sorted_form, text_of
from webhooks.sources.declared.proof import BODY_HASH
from webhooks.sources.declared.scheme import Scheme, pieces

#: Events that one body may hold.
MAX_ITEMS = 10_000
#: Bytes of an id that is kept as it is where a digest joins it: a dedup key has 255.
_LONGEST_JOINED_ID = 180
_NO_HEADERS = Headers({})


class Parser:
    """How the bodies of one source are read. dedup: what the dedup key is made of, of `scheme.DEDUP_KEYS`."""

    def __init__(self, row: Scheme, dedup: str) -> None:
        self.row = row
        self._dedup = dedup

    def parse(self, request: InboundRequest) -> Sequence[ParsedEvent]:
        """The events of a verified request; none when the sender's list is empty (LINE tries an address that way)."""
        if not self.row.items:
            return (self._event(request, request.body, self._decode(request.body)),)
        try:
            whole = self._decode(request.body)
            if self.row.items != ".":
                at(whole, self.row.items)
            slices = jsonio.items(request.body, "" if self.row.items == "." else self.row.items)
            if len(slices) > MAX_ITEMS:
                raise Malformed(f"the body holds {len(slices)} events; at most {MAX_ITEMS} are accepted")
            if self.row.unwrap:
                slices = [jsonio.member(part, self.row.unwrap) for part in slices]
        except LookupError as error:
            raise Malformed(f"{error.args[0]} in the body") from None
        return [self._event(request, part, self._decode(part)) for part in slices]

    def _decode(self, raw: bytes) -> Any:
        """The body as JSON or form. Raises Malformed."""
        if self.row.body == "form" or (self.row.body == "json-or-form" and raw[:1] not in (b"{", b"[")):
            try:
                fields = form(raw)
            except ValueError:
                raise Malformed("the body is neither JSON nor a form", "unparseable") from None
            if list(fields) != ["payload"]:
                return fields
            raw = fields["payload"].encode("utf-8")  # Slack's interactions: one field that holds the JSON
        try:
            return jsonio.load_watching(raw)
        except jsonio.NotJSON as error:
            raise Malformed(str(error), "unparseable") from None

    def _event(self, request: InboundRequest, raw: bytes, value: Any) -> ParsedEvent:
        if not isinstance(value, Mapping):
            raise Malformed("the event is not a JSON object")
        kind = self._first(self.row.type, value, request)
        if kind is None:
            raise Malformed(f"the event's type is missing or not text: {' or '.join(self.row.type)}")
        for character in self.row.dotted:
            kind = kind.replace(character, ".")
        subject = self._first(self.row.object_id, value, request)
        return ParsedEvent(
            dedup_key=self._dedup_key(request, raw, value),
            type=key_text(kind, "the event's type"),
            body=raw,
            occurred_at=self._occurred_at(value),
            ordering={"object_id": ordering_key(subject)} if subject else {},
        )

    def _dedup_key(self, request: InboundRequest, raw: bytes, value: Any) -> str:
        identifier = self._first(self.row.id, value, request) if self._dedup != "body" else None
        if self._dedup == "body" or identifier == "" or not self.row.id:
            return "sha256:" + self._digest(request, raw)
        if identifier is None:
            raise Malformed(f"the event's id is missing or not text: {' or '.join(self.row.id)}")
        identifier = key_text(identifier, "the event's id")
        if self._dedup == "id":
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

    def _first(self, templates: Sequence[str], value: Any, request: InboundRequest) -> str | None:
        """The first template whose places are all there, filled in; None when none is."""
        for template in templates:
            filled = fill(template, value, request)
            if filled is not None:
                return filled
        return None

    def _occurred_at(self, value: Any) -> datetime | None:
        for template in self.row.occurred_at:
            found = instant(at(value, template[1:-1]))
            if found is not None:
                return found
        return None

    def read(self, raw: bytes, type: str) -> Content:
        """What a handler sees of a stored event of that type; `raw` is as `parse` gave it."""
        try:
            value = self._decode(raw)
        except Malformed:
            value = None
        object_type, _, action = type.rpartition(".")
        if not isinstance(value, Mapping):
            return Content(data=value, action=action, object_type=object_type)
        try:
            data = at(value, self.row.data) if self.row.data else value
            previous = at(value, self.row.previous) if self.row.previous else None
            subject = self._first(self.row.object_id, value, InboundRequest(_NO_HEADERS))
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


def fill(template: str, value: Any, request: InboundRequest) -> str | None:
    """A template filled with fields and headers; None when a place that must be there is not."""
    text = ""
    for literal, place, is_optional in pieces(template):
        text += literal
        if not place:
            continue
        if place.startswith("@"):
            raw = request.headers.one(place[1:])
            found = raw.decode("utf-8", "replace") if raw is not None else None
        else:
            found = text_of(at(value, place))
        if found is None and not is_optional:
            return None
        text += found or ""
    return text
