"""What a source is: a configured sender, as pure functions of bytes, headers and time.

`verify` says whether a request is the sender's, `parse` what events are in it, `read` what a handler sees of
one, `challenge` answers a handshake, `sign` does what the sender does (for `trigger`, tests and the sandbox).
No source touches the network, the database or a clock; time is handed in.

Order is the promise (checklist section 1.3): nothing of a body is decoded before `verify` returned, except what a
scheme's own row declares.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import ClassVar

from webhooks.errors import Rejected
from webhooks.model import Challenge, Content, InboundRequest, ParsedEvent, Verified
from webhooks.settings import Secret, SourceSettings


class Source(ABC):
    """One configured sender. Made once at start, shared by threads, holds no mutable state but decoded keys.

    The constructor raises `ConfigurationError`, with every mistake in the settings of this source, each naming the
    source and never a secret's value.
    """

    #: name of the scheme, as in `scheme = "close"`
    scheme: ClassVar[str] = ""
    #: all headers, lower case, that carry a signature or credential: never stored or logged
    sensitive_headers: frozenset[str] = frozenset()
    #: event types that the sender is known to send, for "did you mean"; empty when nobody knows
    known_types: Collection[str] = frozenset()
    #: whether the signature covers the whole body
    signs_whole_body: bool = True
    #: what a 2xx must carry, where the sender's protocol fixes it; None means our own JSON
    success: Challenge | None = None

    def __init__(self, settings: SourceSettings) -> None:
        self.settings = settings
        self.name = settings.name

    @property
    def tolerance(self) -> timedelta | None:
        """How old a signature may be that `verify` takes; None where the scheme signs no time."""
        return None

    @abstractmethod
    def verify(self, request: InboundRequest, now: datetime) -> Verified:
        """Say which secret made the signature. Raises `SignatureError` for anything else, and nothing else."""

    @abstractmethod
    def parse(self, request: InboundRequest) -> Sequence[ParsedEvent]:
        """Read the events of a *verified* request. Raises `Malformed`, and nothing else, when it cannot."""

    def read(self, raw: bytes, type: str) -> Content:
        """Decode one stored event for handlers; `raw` is a `ParsedEvent.body` of this source."""
        raise NotImplementedError

    def challenge(self, request: InboundRequest, now: datetime) -> Challenge | None:
        """Answer a handshake; None when the request is none. Raises `Rejected` for a wrong token.

        Called for GET before anything else, and for POST after `verify` (a handshake by POST is signed).
        """
        return None

    @property
    def has_get_challenge(self) -> bool:
        """Whether this source answers handshakes by GET; without, GET is 405."""
        return False

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


__all__ = ["Secret", "Source", "SourceSettings"]
