"""The files that browsers get: which there are, what they are, and a digest of all, which is in their addresses.

With another version of any file every address changes, so they may be kept for ever.
"""

from __future__ import annotations

import functools
import hashlib
from importlib import resources
from types import MappingProxyType
from typing import NamedTuple

#: {name of a file: its media type}
KINDS = MappingProxyType(
    {
        "dashboard.css": "text/css; charset=utf-8",
        "dashboard.js": "text/javascript; charset=utf-8",
        "completion.js": "text/javascript; charset=utf-8",
        "zone.js": "text/javascript; charset=utf-8",
        "icons.svg": "image/svg+xml",
        "vendor/htmx-4.0.1.min.js": "text/javascript; charset=utf-8",
        "vendor/LICENSES": "text/plain; charset=utf-8",
    }
)


class Asset(NamedTuple):
    """One file."""

    body: bytes
    media_type: str


@functools.cache
def every_asset() -> dict[str, Asset]:
    """{name: file}, read once."""
    root = resources.files("webhooks.dashboard") / "static"
    return {name: Asset(root.joinpath(*name.split("/")).read_bytes(), kind) for name, kind in KINDS.items()}


@functools.cache
def digest() -> str:
    """Of all files together."""
    summed = hashlib.sha256()
    for name, asset in sorted(every_asset().items()):
        summed.update(name.encode() + b"\0" + asset.body)
    return summed.hexdigest()[:12]


__all__ = ["KINDS", "Asset", "digest", "every_asset"]
