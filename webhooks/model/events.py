"""The records that travel through the house: plain, frozen, without services.

`InboundRequest` is what came over HTTP, `ParsedEvent` what a source read from it, `Event` what is stored and
what handlers get, `Delivery` one event for one handler, `Attempt` one run of it.

Instants are aware UTC datetimes. Ids are 63-bit integers made by `new_id`: they grow with time, so their
order is the order of arrival, and they are written as decimal strings in JSON, because JavaScript and jq
round numbers above 2**53.
"""

from __future__ import annotations

import enum
import random
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from types import MappingProxyType
from typing import Any

from webhooks.forks import PerProcess

#: Ids count microseconds from here; 51 bits of them last until 2091.
_ID_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
_ID_EPOCH_MICROSECONDS = int(_ID_EPOCH.timestamp() * 1_000_000)
_ID_RANDOM_BITS = 12


class _Ids:
    """Makes ids that grow strictly within a process and hardly ever meet between two.

    Two processes collide when they draw the same 12 random bits in the same microsecond; the primary key
    then refuses the second and ingest tries again with a new id.
    """

    def __init__(self) -> None:
        self._last = 0
        self._lock = PerProcess(threading.Lock)
        # of our own: that of the module is others' to seed. A forked child would go on with its parent's numbers
        self._numbers = PerProcess(random.Random)

    @property
    def _random(self) -> random.Random:
        return self._numbers.get()

    def __call__(self) -> int:
        microseconds = time.time_ns() // 1000 - _ID_EPOCH_MICROSECONDS
        # no secret: anybody may guess it
        candidate = (microseconds << _ID_RANDOM_BITS) | self._random.getrandbits(_ID_RANDOM_BITS)
        with self._lock.get():
            self._last = candidate if candidate > self._last else self._last + 1
            return self._last


#: Make an id for an event, a delivery or a request.
new_id: Callable[[], int] = _Ids()


def id_at(instant: datetime) -> int:
    """The smallest id that could have been made at `instant`; ids of earlier rows are below it."""
    microseconds = int((instant - _ID_EPOCH) / timedelta(microseconds=1))
    return max(0, microseconds << _ID_RANDOM_BITS)


def instant_of(id: int) -> datetime:
    """When an id was made; the other way round of `id_at`."""
    return _ID_EPOCH + timedelta(microseconds=id >> _ID_RANDOM_BITS)


class ReceiptStatus(enum.StrEnum):
    """What ingest promises for one event of a request; the order is that of DESIGN section 5."""

    STORED = "stored"  #: never seen before: event and deliveries are in the database
    DUPLICATE = "duplicate"  #: seen before in this revision: counted, nothing else
    REVISION = "revision"  #: a later revision of a known event: a new event row, delivered
    STALE = "stale"  #: an older revision than the one known: kept, not delivered
    QUARANTINED = "quarantined"  #: rightly signed but unreadable: kept raw, never dispatched


class Origin(enum.StrEnum):
    """How an event reached us."""

    WEBHOOK = "webhook"  #: posted by the sender
    CATCH_UP = "catch-up"  #: read from the sender's own log
    QUARANTINE = "quarantine"  #: admitted from quarantine after a fix


class DeliveryState(enum.IntEnum):
    """The states of a delivery. A scheduled retry is PENDING with a later `due_at`."""

    PENDING = 0  #: put there by ingest, retry, requeue, release and rescue; taken out by claim
    RUNNING = 1  #: put there by claim; taken out by finish, retry, release and rescue
    SUCCEEDED = 2  #: put there by finish; final
    DEAD = 3  #: put there when the attempts are used up; taken out by requeue
    CANCELLED = 4  #: put there by a filter, `Discard` or an operator; taken out by requeue

    @property
    def label(self) -> str:
        return self.name.lower()


class DeliveryClass(enum.IntEnum):
    """What a delivery waits for; a claim shares its places between the classes."""

    FRESH = 0  #: the first run of an event taken in
    RETRY = 1  #: any later run
    REPLAY = 2  #: made by a replay


class AttemptOutcome(enum.StrEnum):
    """What one run of a delivery led to."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"  #: the handler raised; retried or dead
    TIMED_OUT = "timed-out"  #: it ran longer than its time-out; retried or dead
    RETRY = "retry"  #: the handler asked for it with `Retry`
    CANCELLED = "cancelled"  #: filtered before the handler, or `Discard`
    LOST = "lost"  #: its worker died or lost its lease
    RELEASED = "released"  #: given back unrun or interrupted by a stopping worker


#: {key of a WSGI environment: name of the header, or "" for what is none}; senders choose names, so it is bounded
_WSGI_NAMES = {"CONTENT_TYPE": "content-type", "CONTENT_LENGTH": "content-length"}


def _wsgi_name(key: str) -> str:
    """The name of the header that WSGI keeps under `key`, in lower case; "" for what is none."""
    name = key[5:].replace("_", "-").lower() if key.startswith("HTTP_") else ""
    if len(_WSGI_NAMES) < 200:
        _WSGI_NAMES[key] = name
    return name


class Headers:
    """The headers of one request: names in any case, every occurrence kept.

    Values are `bytes`: comparing text from outside in constant time raises on non-ASCII.
    """

    __slots__ = ("_values",)

    def __init__(self, pairs: Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]] = ()) -> None:
        items = pairs.items() if isinstance(pairs, Mapping) else pairs
        values: dict[str, list[bytes]] = {}
        for name, value in items:
            raw = value if isinstance(value, bytes) else value.encode("latin-1", "replace")
            values.setdefault(name.lower(), []).append(raw)
        self._values = values

    @classmethod
    def of_wsgi(cls, environ: Mapping[str, Any]) -> Headers:
        """The headers of a WSGI request, where each name stands once and text is bytes read as latin-1.

        Names with `_` never get there: servers drop them, and WSGI could not tell them from those with `-`.
        """
        headers = cls.__new__(cls)
        headers._values = {
            name: [value.encode("latin-1", "replace")]
            for key, value in environ.items()
            if (name := _WSGI_NAMES[key] if key in _WSGI_NAMES else _wsgi_name(key)) and (value or key[:5] == "HTTP_")
        }
        return headers

    @classmethod
    def of_values(cls, values: dict[str, list[bytes]]) -> Headers:
        """Headers that have been read already; takes `values` ({name in lower case: values}) as its own."""
        headers = cls.__new__(cls)
        headers._values = values
        return headers

    def all(self, name: str) -> list[bytes]:
        """Every value sent under `name`, in order; empty when there is none."""
        return self._values.get(name.lower(), [])

    def one(self, name: str) -> bytes | None:
        """The value of `name`, or None when it is missing, empty or present more than once."""
        values = self._values.get(name.lower())
        return values[0] if values is not None and len(values) == 1 and values[0] else None

    def names(self) -> list[str]:
        return list(self._values)

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._values

    def items(self) -> Iterator[tuple[str, bytes]]:
        for name, values in self._values.items():
            for value in values:
                yield name, value

    def as_text(self, without: Collection[str]) -> dict[str, str]:
        """{name: value} but for the names in `without`; of a name that came twice, the last value."""
        return {name: values[-1].decode("latin-1") for name, values in self._values.items() if name not in without}

    def __repr__(self) -> str:  # values may be signatures
        return f"<Headers {', '.join(self._values)}>"


@dataclass(frozen=True, slots=True)
class InboundRequest:
    """One HTTP request to a source, as received.

    body: the raw bytes, already limited in size. query: raw query string. url: the source's *configured*
    public URL (never made from Host or Forwarded), or "" when none is configured.
    """

    headers: Headers
    body: bytes = b""
    method: str = "POST"
    query: bytes = b""
    url: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class Verified:
    """A signature that was right. label: which of the source's secrets matched."""

    label: str


@dataclass(frozen=True, slots=True)
class Challenge:
    """An answer that the sender's protocol fixes, sent as it stands."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200


@dataclass(frozen=True, slots=True)
class ParsedEvent:
    """One event as a source read it from a verified body; everything in it is the sender's word.

    dedup_key: unique within the source, 1 to 255 bytes. type: dotted name, 1 to 255 bytes.
    revision: microseconds since 1970 (UTC) of the state shown; 0 when the sender has no revisions, -1 for a
    copy stripped of its content. occurred_at: None when the sender does not say. ordering: the keys by which
    handlers may ask for order, `{"object_id": …, "lead_id": …}`. body: the bytes of this event alone.
    subscription: the sender's id of the subscription that sent it, if any.
    """

    dedup_key: str
    type: str
    body: bytes
    revision: int = 0
    occurred_at: datetime | None = None
    ordering: Mapping[str, str] = field(default_factory=dict)
    subscription: str | None = None

    @property
    def is_stripped(self) -> bool:
        return self.revision < 0


@dataclass(frozen=True, slots=True)
class Content:
    """What a handler reads of an event, decoded from its body by its source.

    data: the object after the change; None when it was deleted. previous: old values (of the changed
    fields, or of the whole object when deleted). meta: the rest of the envelope.
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


def _read_nothing(raw: bytes, type: str) -> Content:
    object_type, _, action = type.rpartition(".")
    return Content(action=action, object_type=object_type)


@dataclass(frozen=True)
class Event:
    """One thing that happened, as stored; what a handler gets. Read-only.

    id: ours. dedup_key: the sender's own id of it. revision: see `ParsedEvent`. changed_before: fields that the
    revision before this one had already shown as changed, with the values it showed. raw: the sender's bytes.
    headers: of the request, without credentials and signatures.
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
    receipt: ReceiptStatus = ReceiptStatus.STORED
    previous_id: int | None = None
    conflict: bool = False
    origin: Origin = Origin.WEBHOOK
    key_label: str | None = None
    request_id: str | None = None
    reader: ContentReader = field(default=_read_nothing, repr=False, compare=False)
    #: the revision before this one, loaded by the dispatcher for `changed()`; None when there is none
    superseded: Event | None = field(default=None, repr=False, compare=False)

    @cached_property
    def content(self) -> Content:
        """What the source reads from `raw`: decoded at first use, and once."""
        return self.reader(self.raw, self.type)

    @property
    def data(self) -> Any:
        """The object after the change, as the sender's JSON has it: mostly a dict; None when it was deleted."""
        return self.content.data

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
        """What the sender tells beside the data: in Close the request that made the change; empty where nothing."""
        return self.content.meta

    def did_change(self, name: str, *, to: Any = ..., was: Any = ..., since: str = "previous") -> bool:
        """Whether field `name` changed with this event.

        to, was: the new and the old value, when they matter. since: on a revision, "previous" asks only for
        what it adds over the revision before; "first" for all that the event has gathered.
        """
        if name not in self.changed_fields:
            return False
        now = _value(self.data, name)
        before = _value(self.previous, name)
        if since == "previous" and self.superseded is not None and name in self.superseded.changed_fields:
            before = _value(self.superseded.data, name)
            if before == now:
                return False
        return (to is ... or now == to) and (was is ... or before == was)


def _value(data: Any, name: str) -> Any:
    return data.get(name) if isinstance(data, Mapping) else None


EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Receipt:
    """What ingest promises for one event. event_id: the stored event, or the one that it duplicates."""

    status: ReceiptStatus
    event_id: int | None
    quarantine_id: int | None = None
    delivery_ids: tuple[int, ...] = ()
    conflict: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one handler.

    number: how many times it was claimed, this time included. failures: how many of those count towards
    `max_attempts`. token: the fencing token of this claim. idempotency_key: the same over all attempts of one
    revision of an event for one handler, and over replays unless a new one was asked for.
    """

    id: int
    event_id: int
    handler: str
    state: DeliveryState
    due_at: datetime
    created_at: datetime
    number: int = 0
    failures: int = 0
    token: int = 0
    lane: str | None = None
    stale: bool = False
    alone: bool = False
    replay_id: int = 0
    delivery_class: DeliveryClass = DeliveryClass.FRESH
    lease_until: datetime | None = None
    worker: str | None = None
    reason: str | None = None
    finished_at: datetime | None = None
    idempotency_key: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a delivery. error: at most 10 kB of text, controls escaped."""

    delivery_id: int
    number: int
    outcome: AttemptOutcome
    started_at: datetime
    finished_at: datetime | None
    worker: str
    error: str | None = None


def new_request_id() -> str:
    """An id for one HTTP request: 16 lower-case hex characters."""
    return f"{new_id():016x}"
