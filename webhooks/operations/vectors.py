"""Try a source with requests whose answer is known: files of vectors, or what it signs itself.

A file is JSON as `docs/sources.md` shows it: `{"vectors": [{name, headers, body, now, valid, …}]}`. Each vector is verified and read by the
source as it is configured, with the vector's own `secrets` where it has some. Nothing is stored.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webhooks.errors import ConfigurationError, Rejected, StorageUnavailable
from webhooks.formats import json as jsonio
from webhooks.model import Headers, InboundRequest

if TYPE_CHECKING:
    from webhooks.model import ParsedEvent
    from webhooks.sources import Source
    from webhooks.sources.declared.source import DeclaredSource


@dataclass(frozen=True, slots=True)
class Tried:
    """What a source made of one request.

    name: of the vector.
    is_as_said: whether it is verified, or refused, as the vector says.
    label: of the key that made the signature; "" where it is refused.
    reason: why it is refused, or cannot be read; "" for neither.
    events: what it read.
    """

    name: str
    is_as_said: bool
    label: str = ""
    reason: str = ""
    events: Sequence[ParsedEvent] = ()


def read_vectors(path: Path) -> list[Mapping[str, Any]]:
    """The vectors of a file. Raises ConfigurationError."""
    try:
        found = jsonio.load(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"the file {str(path)!r} cannot be read ({error.strerror})") from None
    except jsonio.NotJSON as error:
        raise ConfigurationError(f"the file {str(path)!r} is {error}") from None
    vectors = found.get("vectors") if isinstance(found, Mapping) else None
    if not isinstance(vectors, list) or not vectors or not all(isinstance(each, Mapping) for each in vectors):
        raise ConfigurationError(f"the file {str(path)!r} holds no list of vectors; docs/sources.md shows one")
    return vectors


def try_vector(source: Source, vector: Mapping[str, Any], now: datetime) -> Tried:
    """Verify and read one vector. now: for one that says none. Raises ConfigurationError for a vector of another shape."""
    from webhooks.sources import Secret, make_source

    name = str(vector.get("name", "vector"))
    try:
        if "secrets" in vector:
            secrets = [Secret(text, label) for label, text in vector["secrets"].items()]
            source = make_source(replace(source.settings, secrets=secrets, secret_file=None))
        body = (
            base64.b64decode(vector["body_base64"])
            if "body_base64" in vector
            else vector.get("body", "").encode("utf-8")
        )
        at = datetime.fromtimestamp(vector["now"], UTC) if "now" in vector else now
        request = InboundRequest(
            Headers(vector.get("headers", {})),
            body,
            vector.get("method", "POST"),
            vector.get("query", "").encode("utf-8"),
            source.settings.public_url,
            "vector",
        )
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise ConfigurationError(
            f"the vector {name!r} has another shape than docs/sources.md shows: headers is a table, body text, now seconds"
        ) from None
    return try_request(source, name, request, at, is_valid=vector.get("valid", True) is not False)


def try_request(source: Source, name: str, request: InboundRequest, now: datetime, *, is_valid: bool = True) -> Tried:
    """Verify and read one request. is_valid: whether it should pass."""
    try:
        label = source.verify(request, now).label
    except (Rejected, StorageUnavailable):
        return Tried(name, not is_valid, reason=source.diagnose(request, now))
    challenge = source.challenge(request, now)
    if challenge is not None:
        return Tried(name, is_valid, label, "a handshake, which is answered and stored nowhere")
    try:
        return Tried(name, is_valid, label, events=source.parse(request))
    except Rejected as error:
        return Tried(name, False, label, f"cannot be read: {error.reason}")


def try_itself(source: Source, now: datetime) -> Tried:
    """What a source makes of a sample that it signs itself, or that a key signs which is made for it.

    Raises ConfigurationError, which says why in one line, where neither can be.
    """
    from webhooks.sources import samples
    from webhooks.sources.declared import selfcheck
    from webhooks.sources.declared.scheme import JWT
    from webhooks.sources.declared.source import DeclaredSource

    if isinstance(source, DeclaredSource) and (source.row.algorithm == JWT or not selfcheck.signs_itself(source)):
        return _try_with_made_key(source, now)
    return try_request(source, "signed by itself", samples.signed_sample(source, now), now)


def _try_with_made_key(source: DeclaredSource, now: datetime) -> Tried:
    from webhooks.sources.declared import selfcheck
    from webhooks.sources.samples import samples_of

    why_not = selfcheck.why_not_tried(source)
    if why_not is not None:
        raise ConfigurationError(f"source {source.name!r} cannot be tried without a FILE of vectors: {why_not}")
    name, key = "signed by a key that is made for it", selfcheck.key_for_trial(source)
    own = samples_of(source)
    body, headers = source.signed_with(own[0].body if own else selfcheck.sample_body(source), now, key)
    shown = {**(own[0].headers if own else {}), **headers}
    query = source.settings.public_url.partition("?")[2].encode("utf-8")
    request = InboundRequest(Headers(shown), body, "POST", query, source.settings.public_url, "sample")
    try:
        source.prove(request, now, key)
    except Rejected as error:
        return Tried(name, False, reason=error.reason)
    try:
        return Tried(name, True, "a made key", events=source.parse(request))
    except Rejected as error:
        reason = f"its sample cannot be read ({error.reason}); try it with a FILE of what the sender posts"
        return Tried(name, True, "a made key", reason)


def tried_json(result: Tried) -> dict[str, Any]:
    """What a source made of one request."""
    return {
        "name": result.name,
        "ok": result.is_as_said,
        "secret": result.label or None,
        "reason": result.reason or None,
        "events": [
            {
                "type": event.type,
                "dedup_key": event.dedup_key,
                "occurred_at": event.occurred_at.isoformat() if event.occurred_at is not None else None,
                "ordering": dict(event.ordering),
            }
            for event in result.events
        ],
    }


__all__ = ["Tried", "read_vectors", "tried_json", "try_itself", "try_request", "try_vector"]
