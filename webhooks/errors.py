"""What can go wrong, sorted by who has to act on it.

The sender acts on `Rejected` and its children (each carries its HTTP status and slug); the operator on
`ConfigurationError`, `StorageUnavailable` and `SelectionError`; the handler's author on
`RegistrationError`. `Retry` and `Discard` are raised by handlers on purpose.

Exceptions carry data as attributes; their text is for people and names the fix. No text holds a secret, a
signature, a header's value or a body.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any


class WebhooksError(Exception):
    """Base of every error that this package raises itself."""


class Refusal(enum.StrEnum):
    """Why a request was not accepted: the closed set by which refusals are counted, sampled and kept."""

    SIGNATURE = "signature"  #: 401: none of the source's secrets made its signature, or a header that it needs is wrong
    CHALLENGE = "challenge"  #: 401: a handshake without our token
    MALFORMED = "malformed"  #: 400: no HTTP request as it has to be
    INCOMPLETE = "incomplete"  #: 400: the connection ended before the body did
    UNREADABLE = "unreadable"  #: 400: rightly signed, of another shape, and its source rejects those
    NOT_FOUND = "not_found"  #: 404: no such source, or its path in another spelling
    METHOD = "method"  #: 405: not a method of this path
    TOO_SLOW = "too_slow"  #: 408: head or body did not come in time
    TOO_LARGE = "too_large"  #: 413: the body is larger than `max_body`
    ENCODING = "encoding"  #: 415: the body is compressed
    KEYS = "keys"  #: 503: the keys that its sender publishes could not be fetched
    STORAGE = "storage"  #: 503: the database did not store it in time, or it is not known whether it did
    OVERLOADED = "overloaded"  #: 503: too many requests, or too many bytes of them, wait
    FAULT = "fault"  #: 503: a fault of ours


# -- the sender acts ---------------------------------------------------------------------------------------


class Rejected(WebhooksError):
    """A request that is not accepted.

    status: the HTTP status of the answer.
    slug: the `error` member of its JSON body.
    refusal: what it is counted as.
    reason: for the log and `explain`; never sent to the caller.
    """

    status: int = 400
    slug: str = "bad_request"
    refusal: Refusal = Refusal.MALFORMED
    #: The `InboundRequest` that is refused, once it has been read
    request: Any = None

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class SignatureError(Rejected):
    """The signature, or a header that it needs, is missing or wrong: 401, one text for every reason."""

    status = 401
    slug = "signature_verification_failed"
    refusal = Refusal.SIGNATURE


class ChallengeFailed(Rejected):
    """A handshake whose token is wrong, unset or of a shape that we do not echo: 401."""

    status = 401
    slug = "challenge_failed"
    refusal = Refusal.CHALLENGE


class UnknownSource(Rejected):
    """No source of that name is configured, or the path is not spelled as it has to be: 404."""

    status = 404
    slug = "not_found"
    refusal = Refusal.NOT_FOUND


class MethodNotAllowed(Rejected):
    """Not a method of this path: 405. allowed: for the header `Allow`."""

    status = 405
    slug = "method_not_allowed"
    refusal = Refusal.METHOD

    def __init__(self, reason: str, allowed: str) -> None:
        super().__init__(reason)
        self.allowed = allowed


class PayloadTooLarge(Rejected):
    """The body is larger than `max_body`, declared or as read: 413."""

    status = 413
    slug = "payload_too_large"
    refusal = Refusal.TOO_LARGE


class UnsupportedEncoding(Rejected):
    """A Content-Encoding other than identity: 415, nothing is inflated."""

    status = 415
    slug = "unsupported_content_encoding"
    refusal = Refusal.ENCODING


class IncompleteBody(Rejected):
    """Fewer bytes came than Content-Length said, or the connection broke: 400."""

    status = 400
    slug = "incomplete_body"
    refusal = Refusal.INCOMPLETE


class BadHost(Rejected):
    """The Host field is missing, or names no host: 400."""


class RequestTimeout(Rejected):
    """The rest of the request did not come in time: 408."""

    status = 408
    slug = "request_timeout"
    refusal = Refusal.TOO_SLOW


class Malformed(Rejected):
    """A rightly signed body that is not the envelope of its source.

    kind: `unparseable` (not JSON at all) or `unrecognised` (JSON of another shape). Quarantined by default,
    400 `invalid_json` where the source says `on_unparseable = "reject"`.
    """

    status = 400
    slug = "invalid_json"
    refusal = Refusal.UNREADABLE

    def __init__(self, reason: str, kind: str = "unrecognised") -> None:
        super().__init__(reason)
        self.kind = kind


class PartlyMalformed(Malformed):
    """A rightly signed body of several events, some of which cannot be read. found: each, as it was read or as it is."""

    def __init__(self, found: Sequence[Any]) -> None:
        super().__init__("some of its events cannot be read")
        self.found = found


class StorageUnavailable(WebhooksError):
    """The database did not take the event in time, or the outcome of its commit is unknown: 503.

    The sender tries again, and dedup makes the second try harmless.
    """

    status = 503
    slug = "storage_unavailable"
    refusal: Refusal = Refusal.STORAGE

    def __init__(self, reason: str, retry_after: timedelta = timedelta(seconds=5)) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class KeysUnavailable(StorageUnavailable):
    """The keys that a sender publishes could not be fetched: 503, and the sender tries again."""

    slug = "keys_unavailable"
    refusal = Refusal.KEYS


class DatabaseRefused(StorageUnavailable):
    """The database refuses what we write, whatever it says: a grant is missing, a trigger raises, the schema is behind.

    Never the event's fault: 503, and it is accepted once an operator has mended it.
    """


class Locked(StorageUnavailable):
    """Another client holds a lock on what a statement needs, for longer than we wait; the database itself is well."""


class NoConnection(StorageUnavailable):
    """There was no connection for an attempt before its handler began: it was none, and is made again."""


class RowRefused(WebhooksError):
    """The database refuses an event for what it says; trying again would not help."""


class Overloaded(StorageUnavailable):
    """More requests wait than the process (or the source's share of it) may hold: 503."""

    slug = "overloaded"
    refusal = Refusal.OVERLOADED


# -- the operator acts -------------------------------------------------------------------------------------


class ConfigurationError(WebhooksError):
    """The settings cannot be used. `problems` holds every mistake found, one sentence each."""

    def __init__(self, problems: Sequence[str] | str) -> None:
        found = (problems,) if isinstance(problems, str) else tuple(problems)
        self.problems: tuple[str, ...] = tuple(hide_keys(problem) for problem in found)
        super().__init__("\n".join(self.problems))


#: A run of characters that keys are made of.
_RUN = re.compile(r"[A-Za-z0-9+=_-]{24,}")
_PASSWORD = re.compile(r"(://[^:/@\s]*):(?!password@)[^\s]*@")


def looks_like_key(text: str) -> bool:
    """Whether a text is, by its looks, a key rather than a name: long hex, or letters and digits in a muddle."""
    if _RUN.fullmatch(text) is None or text.startswith("whsub_"):  # a subscription's id
        return False
    if re.fullmatch(r"(?:[0-9a-f]{2})+|(?:[0-9A-F]{2})+", text) or re.match(r"(?:whsec|whsk|sk|api|key|pdl)[_-]", text):
        return True
    changes = len(re.findall(r"(?<=[a-z])[0-9]|(?<=[0-9])[a-z]", text.lower()))
    return changes >= 6 or all(re.search(kind, text) for kind in ("[a-z]", "[A-Z]", "[0-9]"))


def hide_keys(text: str) -> str:
    """A sentence without what looks like a key, and without passwords of addresses: people give them in a name's place."""
    text = _PASSWORD.sub(r"\1:***@", text)
    return _RUN.sub(lambda run: f"(text of {len(run[0])} characters)" if looks_like_key(run[0]) else run[0], text)


class SelectionError(WebhooksError):
    """A selection (of events or deliveries) that cannot be read.

    text: what was written. position: 0-based index of the offending character, where one is known.
    """

    def __init__(self, message: str, text: str = "", position: int | None = None) -> None:
        super().__init__(message)
        self.text = text
        self.position = position


class NotFound(WebhooksError):
    """Nothing is stored under the id that was given."""


# -- the handler's author acts -----------------------------------------------------------------------------


class RegistrationError(WebhooksError):
    """A handler that cannot be registered; raised where it is registered, or at start."""


class InvalidPattern(RegistrationError):
    """A pattern that is not dotted segments, `*` and `**`."""


class InvalidHandler(RegistrationError):
    """A function that cannot be called by name with what we offer, or an option that makes no sense."""


class HandlerAlreadyRegistered(RegistrationError):
    """Two handlers of one name; names are stable ids in the database."""


class HandlerImportError(RegistrationError):
    """A handler module that does not import; the text names file and line."""


# -- a handler raises on purpose ---------------------------------------------------------------------------


class Retry(WebhooksError):
    """Raise in a handler to be run again; counts as an attempt.

    after: at least this long from now, as `timedelta` or seconds; None leaves it to the retry policy.
    events: of those that a handler with `batch=` got, the ones that are meant, while the others succeed; None: all of them.
    """

    def __init__(
        self, reason: str = "", *, after: timedelta | float | None = None, events: Iterable[Any] | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after if after is None or isinstance(after, timedelta) else timedelta(seconds=after)
        self.events = None if events is None else tuple(events)


class Discard(WebhooksError):
    """Raise in a handler to end its delivery as cancelled, with this reason, and never run it again.

    events: as for `Retry`.
    """

    def __init__(self, reason: str = "", *, events: Iterable[Any] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.events = None if events is None else tuple(events)


class PayloadMismatch(WebhooksError):
    """The data of an event is not of the type that its handler asks for; the attempt failed before the handler was called.

    The text names places and types, never a value.
    """


# -- inside the dispatcher ---------------------------------------------------------------------------------


class LeaseLost(WebhooksError):
    """The delivery was taken over by another worker; what this attempt wrote is rolled back."""


class AttemptOver(WebhooksError):
    """A session, or something that came from it, was used after the handler that got it had returned."""


class AttemptTimeout(WebhooksError):
    """An attempt ran longer than its handler's `timeout`. stack: where its thread stood then, as `traceback` writes it."""

    def __init__(self, message: str = "", stack: str = "") -> None:
        super().__init__(message)
        self.stack = stack


class WriteLockHeldTooLong(WebhooksError):
    """A handler on SQLite held the write lock longer than `sqlite_write_limit`."""
