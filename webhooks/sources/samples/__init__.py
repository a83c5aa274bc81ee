"""Sample events of every scheme, for `trigger`, the tests and the documents.

Bodies are unsigned; `Source.prepare` and `Source.sign` make a request of one. Files are read when asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webhooks.formats import json as jsonio
from webhooks.model import Headers, InboundRequest

if TYPE_CHECKING:
    from webhooks.sources.base import Source

_HERE = Path(__file__).parent
_CLOSE = _HERE.parent / "close"


@dataclass(frozen=True)
class Sample:
    """One body. type: of its first event. headers: those beside the signature. shows: what it is an example of."""

    type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    shows: str = ""


@cache
def samples(scheme: str) -> tuple[Sample, ...]:
    """The samples of a scheme, the most telling first; empty when it has none (those of other distributions)."""
    if scheme == "close":
        return _close_samples()
    path = _HERE / f"{'custom' if scheme == 'hmac' else scheme}.json"
    if "/" in scheme or not path.is_file():
        return ()
    return tuple(_sample(each) for each in jsonio.load(path.read_bytes()))


def samples_of(source: Source) -> Sequence[Sample]:
    """The samples of a source: its own, or those of its scheme."""
    return tuple(source.samples) or samples(source.settings.scheme)


def signed_sample(source: Source, now: datetime) -> InboundRequest:
    """The first sample of a source's scheme, signed as its sender would. Raises ConfigurationError where only the sender can."""
    own = samples_of(source)
    sample = own[0] if own else Sample("event", b'{"type":"event","id":"1"}')
    body = source.prepare(sample.body, now)
    query = source.settings.public_url.partition("?")[2].encode("utf-8")
    headers = Headers({**sample.headers, **source.sign(body, now)})
    return InboundRequest(headers, body, "POST", query, source.settings.public_url, "sample")


def find(source: Source, type: str) -> Sample | None:
    """The first sample of an event type."""
    return next((each for each in samples_of(source) if each.type == type), None)


def _sample(each: Mapping[str, Any]) -> Sample:
    body = each["text"].encode() if "text" in each else jsonio.dump(each["body"])
    return Sample(each["type"], body, each["headers"], each["shows"])


def _close_samples() -> tuple[Sample, ...]:
    manifest = jsonio.load((_CLOSE / "manifest.json").read_bytes())
    return tuple(
        Sample(each["event_type"], (_CLOSE / each["file"]).read_bytes(), {}, each["shows"])
        for each in manifest["payloads"]
    )
