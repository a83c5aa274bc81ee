"""Events: what a source read (`ParsedEvent`), what is stored and handlers get (`Event`), what ingest promises (`Receipt`).

Instants are aware UTC datetimes. An event's content is decoded when it is first asked for, by the source's reader.
"""

from __future__ import annotations

import copy
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic

from webhooks.model.disposition import Disposition

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    D = TypeVar("D")
    DataT = TypeVar("DataT", covariant=True, default=Any)
else:
    from typing import TypeVar

    DataT = TypeVar("DataT", covariant=True)


class Origin(enum.StrEnum):
    """How an event reached us."""

    WEBHOOK = "webhook"  #: posted by the sender
    CATCH_UP = "catch-up"  #: read from the sender's own log
    QUARANTINE = "quarantine"  #: admitted from quarantine after a fix


@dataclass(frozen=True, slots=True)
class ParsedEvent:
    """One event as a source read it from a verified body; everything in it is the sender's word.

    dedup_key: unique within the source, 1 to 255 bytes.
    type: dotted name, 1 to 255 bytes.
    body: the bytes of this event alone.
    revision: microseconds since 1970 (UTC) of the state shown; 0 when the sender has no revisions, -1 for a copy stripped
    of its content.
    occurred_at: None when the sender does not say.
    ordering: the keys by which handlers may ask for order, by name: "object_id", and what the source calls its groups.
    subscription: the sender's id of the subscription that sent it, if any.
    compared: what tells two bodies under one key apart, where that is not the body itself.
    """

    dedup_key: str
    type: str
    body: bytes
    revision: int = 0
    occurred_at: datetime | None = None
    ordering: Mapping[str, str] = field(default_factory=dict)
    subscription: str | None = None
    compared: bytes = b""

    @property
    def is_stripped(self) -> bool:
        """Whether the sender left the content out."""
        return self.revision < 0


@dataclass(frozen=True, slots=True)
class OddItem:
    """One item of a verified body that cannot be read. body: its bytes. reason, kind: see `Malformed`."""

    body: bytes
    reason: str
    kind: str


@dataclass(frozen=True, slots=True)
class Content:
    """What a handler reads of an event, decoded from its body by its source.

    data: the object after the change; None when it was deleted.
    previous: old values (of the changed fields, or of the whole object when deleted).
    changed_fields: names.
    action: what happened to the object, such as "created".
    object_type, object_id: which object it was.
    meta: the rest of the envelope.
    """

    data: Any = None
    previous: Any = field(default_factory=dict)
    changed_fields: tuple[str, ...] = ()
    action: str = ""
    object_type: str = ""
    object_id: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


#: Turns an event's bytes into its content; pure, and it raises nothing for bytes that once parsed.
ContentReader = Callable[[bytes, str], Content]


def read_nothing(raw: bytes, type: str) -> Content:
    """Of a source that is not there any more: what its type says."""
    object_type, _, action = type.rpartition(".")
    return Content(action=action, object_type=object_type)


#: `Event.typed` of one that no handler asked to be typed.
_UNTYPED: Any = object()


@dataclass(frozen=True)
class Event(Generic[DataT]):
    """One thing that happened, as stored; what a handler gets. Read-only.

    `Event[Message]`, as a handler's annotation, has `data` read as that type (`routing.payloads`).

    id: ours.
    dedup_key: the sender's own id of it.
    raw: the sender's bytes.
    occurred_at: by the sender's word; received_at where it says none.
    revision: see `ParsedEvent`.
    headers: of the request, without credentials and signatures.
    previous_id: the event that this one is a revision of.
    conflict: it has the id of another event and other content.
    key_label: which of the source's secrets signed it.
    request_id: of the request that brought it.
    """

    id: int
    source: str
    type: str
    dedup_key: str
    raw: bytes
    occurred_at: datetime
    received_at: datetime
    revision: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    receipt: Disposition = Disposition.STORED
    previous_id: int | None = None
    conflict: bool = False
    origin: Origin = Origin.WEBHOOK
    key_label: str | None = None
    request_id: str | None = None
    reader: ContentReader = field(default=read_nothing, repr=False, compare=False)
    #: the revision before this one, loaded by the dispatcher for `changed()`; None when there is none
    superseded: Event | None = field(default=None, repr=False, compare=False)
    #: the data as the type that its handler asks for
    typed: Any = field(default=_UNTYPED, repr=False, compare=False)

    @cached_property
    def content(self) -> Content:
        """What the source reads from `raw`: decoded at first use, and once."""
        return self.reader(self.raw, self.type)

    @property
    def data(self) -> DataT:
        """The object after the change, as the sender's JSON has it: mostly a dict; None when it was deleted.

        Where its handler asks for a type, it is of that type.
        """
        data: DataT = self.content.data if self.typed is _UNTYPED else self.typed
        return data

    def with_data(self, data: D) -> Event[D]:
        """The same event whose `data` is this; `previous`, `did_change` and `raw` stay the sender's."""
        other: Any = copy.copy(self)
        object.__setattr__(other, "typed", data)
        typed: Event[D] = other
        return typed

    @property
    def previous(self) -> Any:
        """Old values {field: value} of what changed, or the whole object when it was deleted; {} if the sender tells none."""
        return self.content.previous

    @property
    def changed_fields(self) -> tuple[str, ...]:
        """Names of the fields that changed; empty for what was created, and for senders that do not tell."""
        return self.content.changed_fields

    @property
    def action(self) -> str:
        """What happened to the object, such as "created"; the last segment of `type` where the sender says no other."""
        return self.content.action

    @property
    def object_type(self) -> str:
        """What kind of object it happened to, such as "lead"; "" where nothing says."""
        return self.content.object_type

    @property
    def object_id(self) -> str | None:
        """The sender's id of that object; None where there is none."""
        return self.content.object_id

    @property
    def meta(self) -> Mapping[str, Any]:
        """What the sender tells beside the data, such as the request that made the change; empty where nothing."""
        return self.content.meta

    def did_change(self, name: str, *, to: Any = ..., was: Any = ..., since: str = "previous") -> bool:
        """Whether field `name` changed with this event.

        name: a key of `data`, whole.
        to, was: the new and the old value, when they matter; compared as JSON.
        since: on a revision, "previous" asks only for what it adds over the revision before; "first" for all that the event
        has gathered.
        """
        if name not in self.changed_fields:
            return False
        now = _value(self.content.data, name)
        before = _value(self.previous, name)
        if since == "previous" and self.superseded is not None and name in self.superseded.changed_fields:
            before = _value(self.superseded.content.data, name)
            if same_json(before, now):
                return False
        return (to is ... or same_json(now, to)) and (was is ... or same_json(before, was))


def _value(data: Any, name: str) -> Any:
    return data.get(name) if isinstance(data, Mapping) else None


def same_json(left: Any, right: Any) -> bool:
    """Whether two decoded values are the same JSON: `true` is not 1, 5 is 5.0, a tuple is a list; at any depth."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, (str, int, float)):
        return bool(left == right)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(same_json, left, right))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same_json(value, right[key]) for key, value in left.items())
    return bool(left == right)


EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Receipt:
    """What ingest promises for one event.

    status: what the sender is told (`Disposition.answer`).
    event_id: the stored event, or the one that it duplicates.
    conflict: the key belonged to another body.
    """

    status: Disposition
    event_id: int | None
    quarantine_id: int | None = None
    delivery_ids: tuple[int, ...] = ()
    conflict: bool = False
