"""What a source is: a configured sender, as pure functions of bytes, headers and time.

`verify` says whether a request is the sender's, `parse` what events are in it, `read` what a handler sees of
one, `challenge` answers a handshake, `sign` does what the sender does (for `trigger`, tests and the sandbox).
No source touches the network, the database or a clock; time is handed in.

Order is the promise: nothing of a body is decoded before `verify` returned, except what a scheme's own row declares.

Some senders can be asked: they keep a log of what they sent, and list the subscriptions to it. `SourceWithLog` is what
such a source offers besides, in one of two kinds (`LogKind`); `with_log` is the one question whether a source does.
Its `connect` gives a client, which is all of a source that touches the network.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from webhooks.errors import Malformed, Rejected
from webhooks.model import EMPTY, Challenge, Content, InboundRequest, ParsedEvent, Verified
from webhooks.settings import Secret, SourceSettings
from webhooks.sources.remote import Topic

if TYPE_CHECKING:
    from webhooks.formats.redaction import FixtureRules
    from webhooks.sources.samples import Sample


class LogKind(enum.StrEnum):
    """How what never reached us is fetched from a sender."""

    READ_LOG = "read_log"  #: events are read from its log; each entry holds the event
    ASK_AGAIN = "ask_again"  #: its log says what it sent, and it is asked to deliver that again: it comes as a webhook


@dataclass(frozen=True, slots=True)
class SenderWords:
    """What only the source can say of its sender, for messages of catch-up, subscriptions and doctor.

    sender: its name.
    no_connection: why it cannot be asked, and what to set.
    no_content: why entries of its log may come without their content.
    remedy: what ends that.
    no_test: what a rotation waits for, where the sender has no test delivery that could be ordered.
    no_subscriptions: why nothing is known of its subscriptions, though it was asked.
    """

    sender: str = "the sender"
    no_connection: str = "there is no API key; set one to have status, types and keys checked"
    no_content: str = "the API key may not see it"
    remedy: str = "set a key that may"
    no_test: str = "waiting for the next event"
    no_subscriptions: str = "its subscriptions cannot be seen with this API key"


#: Of a sender that says nothing of itself.
ANY_SENDER: SenderWords = SenderWords()


class Source(ABC):
    """One configured sender. Made once at start, shared by threads, holds no mutable state but decoded keys.

    The constructor raises `ConfigurationError`, with every mistake in the settings of this source, each naming the
    source and never a secret's value.
    """

    #: name of the scheme, as in `scheme = "close"`
    scheme: ClassVar[str] = ""
    #: all headers, lower case, that carry a signature or credential: never stored or logged
    sensitive_headers: frozenset[str] = frozenset()
    #: event types that the sender is known to send, for "did you mean"; empty when that is unknown
    known_types: Collection[str] = frozenset()
    #: what it calls the groups of its events (all of one customer, say), as `ordered_by` names them; "" without groups. `parse`
    #: gives the group in `ordering` under this name, `read` in `meta`
    group_name: ClassVar[str] = ""

    @property
    def fixture_rules(self) -> FixtureRules:
        """What stays of its events when they leave as fixtures; of a sender that says nothing, flags and small numbers."""
        from webhooks.formats.redaction import STRICT

        return STRICT

    #: bodies to try it with, for `trigger` and the testing kit; empty: those of its scheme
    samples: Sequence[Sample] = ()
    #: whether the signature covers the whole body
    signs_whole_body: bool = True
    #: after what time a key is forgotten, counted from the copy that was accepted; None: the setting `dedup_retention` decides
    dedup_for: timedelta | None = None
    #: how often an hour one body runs under different keys; 0: any number, since keys are signed
    equal_bodies: int = 0
    #: what a 2xx must carry, where the sender's protocol fixes it; None means our own JSON
    success: Challenge | None = None
    #: {event type: what a 2xx must carry for it}, before `success`
    success_for: Mapping[str, Challenge] = EMPTY
    #: methods by which it delivers
    methods: frozenset[str] = frozenset(("POST",))
    #: methods, besides those, by which it asks whether the address is ours
    handshake_methods: frozenset[str] = frozenset()
    #: whether its sender's first request brings the secret
    takes_secret: bool = False
    #: whether bodies compressed by gzip are taken, and inflated up to `max_body`
    inflates: bool = False
    #: the header with the instant of signing, ten digits of Unix time, by which clocks are compared; None without one
    timestamp_header: str | None = None
    #: whether the sender can be asked for what never reached us, and how; then this is a `SourceWithLog` as well
    log_kind: ClassVar[LogKind | None] = None

    @property
    def can_be_asked(self) -> bool:
        """Whether its settings may say how the sender is asked; without, it counts as one that cannot be."""
        return True

    def __init__(self, settings: SourceSettings) -> None:
        self.settings = settings
        self.name = settings.name

    @property
    def tolerance(self) -> timedelta | None:
        """How old a signature may be that `verify` takes; None where the scheme signs no time."""
        return None

    def labels(self) -> Sequence[str]:
        """The labels of the keys that are held now; empty for a scheme without keys."""
        return ()

    @property
    def key_problem(self) -> str:
        """Why the file of keys could not be read again, while those of before are tried; "" where nothing is wrong."""
        return ""

    @abstractmethod
    def verify(self, request: InboundRequest, now: datetime) -> Verified:
        """Say which secret made the signature. Raises `SignatureError` for anything else, and nothing else."""

    @abstractmethod
    def parse(self, request: InboundRequest) -> Sequence[ParsedEvent]:
        """Read the events of a *verified* request.

        Raises `Malformed`, and nothing else, when it cannot; its child `PartlyMalformed` has those that could be read.
        """

    def parse_item(self, request: InboundRequest) -> ParsedEvent:
        """Read one item that `PartlyMalformed` named, as the body of its request. Raises `Malformed`."""
        raise Malformed("this source does not cut bodies into items")

    def read(self, raw: bytes, type: str) -> Content:
        """Decode one stored event for handlers; `raw` is a `ParsedEvent.body` of this source."""
        raise NotImplementedError

    def challenge(self, request: InboundRequest, now: datetime) -> Challenge | None:
        """Answer a handshake; None when the request is none. Raises `Rejected` for a wrong token.

        Called for methods of `handshake_methods` before anything else, and for deliveries after `verify`.
        """
        return None

    def unsigned(self, request: InboundRequest) -> Challenge | None:
        """Answer a delivery that `verify` refused, where the sender's first words are not signed. Raises `Rejected`."""
        return None

    def brought_secret(self, request: InboundRequest) -> str | None:
        """The secret that a first request brings, which is not signed; it counts only while an operator listens."""
        return None

    def welcome(self, secret: str) -> Challenge:
        """What the request hears that brought `secret`."""
        return Challenge(b"")

    @property
    def has_get_challenge(self) -> bool:
        """Whether this source answers handshakes by GET; without, GET is 405."""
        return "GET" in self.handshake_methods

    def prepare(self, body: bytes, now: datetime) -> bytes:
        """`body` as the sender would send it: with the signature inside, for the few schemes that put it there."""
        return body

    @abstractmethod
    def sign(self, body: bytes, now: datetime) -> Mapping[str, str]:
        """The headers that the sender would add to `body` (after `prepare`) at `now`, made with the first secret."""

    def diagnose(self, request: InboundRequest, now: datetime, others: Sequence[Source] = ()) -> str:
        """Say for people why `request` was refused, or that it is right. Never holds a secret or a signature.

        others: the other configured sources, to see whether it was meant for one of them.
        """
        try:
            return f"the signature is right (secret {self.verify(request, now).label!r})"
        except Rejected as error:
            return error.reason


class SourceWithLog(Protocol):
    """A source whose sender keeps a log of what it sent, and subscriptions. What catch-up, subscriptions and doctor ask.

    log_kind: how what is missing is fetched.
    log_keeps: how long the sender keeps an entry.
    log_by_time: it can be asked for what lies between two instants; else it is walked from its newest entry.
    log_is_ours: it holds what was sent to us and nothing else, so that all of it is for us.
    lists_subscriptions: the sender is asked for its subscriptions, and they are managed here.
    published_types: the event types that a subscription may ask for.
    known_types: those, and other spellings that are taken when named exactly.
    """

    name: str
    settings: SourceSettings
    words: SenderWords
    log_keeps: timedelta
    log_by_time: bool
    log_is_ours: bool
    lists_subscriptions: bool
    published_types: Collection[str]
    known_types: Collection[str]

    @property
    def log_kind(self) -> LogKind | None:
        """Never None for one of these."""

    @property
    def can_connect(self) -> bool:
        """Whether there is what `connect` needs, such as an API key."""

    def connect(self) -> AbstractContextManager[Any]:
        """A client of the sender's API: a `remote.SenderClient`. Raises `ConfigurationError` where `can_connect` is False."""

    def check_key(self, text: str) -> object:
        """Raises ValueError, without the value, for what cannot be the key of a subscription."""

    def is_subscription_id(self, label: str) -> bool:
        """Whether a key's label has the form of a subscription's id."""

    def log_body(self, raw: bytes) -> bytes:
        """The body to keep for an entry of the log: what `parse_log_body` reads."""

    def parse_log_body(self, body: bytes) -> ParsedEvent:
        """The event that an entry holds, or names (`ASK_AGAIN`: its dedup key, type and instant count). Raises `Malformed`."""

    def still_grows(self, entry: ParsedEvent, now: datetime) -> bool:
        """Whether the sender may still add to this entry, and has not sent it yet."""

    def would_send(self, entry: ParsedEvent, topic: Topic) -> bool:
        """Whether a subscription to `topic` brings this event."""


def with_log(source: Source) -> SourceWithLog | None:
    """`source` as one whose sender can be asked; None when it cannot be."""
    return cast(SourceWithLog, source) if source.log_kind is not None and source.can_be_asked else None


__all__ = ["ANY_SENDER", "LogKind", "Secret", "SenderWords", "Source", "SourceSettings", "SourceWithLog", "with_log"]
