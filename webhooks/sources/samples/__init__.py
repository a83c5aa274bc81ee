"""Sample events of every scheme, for `trigger`, the tests and the documents.

Bodies are unsigned; `Source.prepare` and `Source.sign` make a request of one. Files are read when asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from webhooks.formats import json as jsonio

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


def find(scheme: str, type: str) -> Sample | None:
    """The first sample of an event type."""
    return next((each for each in samples(scheme) if each.type == type), None)


def _sample(each: Mapping[str, Any]) -> Sample:
    body = each["text"].encode() if "text" in each else jsonio.dump(each["body"])
    return Sample(each["type"], body, each["headers"], each["shows"])


def _close_samples() -> tuple[Sample, ...]:
    manifest = jsonio.load((_CLOSE / "manifest.json").read_bytes())
    return tuple(
        Sample(each["event_type"], (_CLOSE / each["file"]).read_bytes(), {}, each["shows"])
        for each in manifest["payloads"]
    )
