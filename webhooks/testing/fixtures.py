"""Events from files: what `webhooks events export --fixtures` wrote, as events of now.

Each gets an id of its own, so that it is no duplicate; everything else stays as it was written. It is stored as catch-up
stores what it read, without a signature: what a file holds is one event, which need not be a whole body.
"""

from __future__ import annotations

import base64
import contextlib
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webhooks.errors import Malformed, NotFound
from webhooks.formats import json as jsonio
from webhooks.model import Headers, InboundRequest, ParsedEvent

if TYPE_CHECKING:
    from webhooks.sources import Source


@dataclass(frozen=True, slots=True)
class Fixture:
    """One file. body: of one event."""

    source: str
    type: str
    body: bytes
    headers: Mapping[str, str]


def read_fixtures(place: Path) -> Iterator[Fixture]:
    """The fixtures in a directory, by their names, or in one file. Raises `NotFound` where there is none, ValueError."""
    paths = sorted(place.glob("*.json")) if place.is_dir() else [place]
    if not paths or not all(path.is_file() for path in paths):
        raise NotFound(
            f"there is no fixture at {str(place)!r}; `webhooks events export --fixtures {place}` writes some"
        )
    for path in paths:
        yield _read(path)


def _read(path: Path) -> Fixture:
    try:
        document: Any = jsonio.load(path.read_bytes())
        packed = document.get("body_base64")
        body = jsonio.dump(document["body"]) if packed is None else base64.b64decode(packed)
        return Fixture(str(document["source"]), str(document["type"]), body, dict(document.get("headers") or {}))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{str(path)!r} is no fixture ({type(error).__name__}: {error}); it needs source, type and body"
        ) from error


def parsed(fixture: Fixture, source: Source) -> ParsedEvent:
    """The event of a fixture, as its source reads it, with an id of its own."""
    request = InboundRequest(Headers(dict(fixture.headers)), fixture.body)
    key = f"fixture_{secrets.token_hex(12)}"
    for event in _ways_of_reading(source, request):
        if event.type == fixture.type:
            return replace(event, dedup_key=key)
    content = source.read(fixture.body, fixture.type)
    ordering = {"object_id": content.object_id} if content.object_id else {}
    return ParsedEvent(dedup_key=key, type=fixture.type, body=fixture.body, ordering=ordering)


def _ways_of_reading(source: Source, request: InboundRequest) -> Iterator[ParsedEvent]:
    """The event as a whole body, and as an item of one, where it can be read so."""
    with contextlib.suppress(Malformed):
        found = source.parse(request)
        if len(found) == 1:
            yield found[0]
    with contextlib.suppress(Malformed):
        yield source.parse_item(request)


__all__ = ["Fixture", "parsed", "read_fixtures"]
