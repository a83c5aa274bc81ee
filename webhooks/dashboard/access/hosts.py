"""Which Host headers are ours, and what shows that a request came through a tunnel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))
#: What proxies and tunnels add; people put a tunnel in front of the server that `webhooks dev` runs.
_OF_TUNNELS = ("forwarded", "via")
_OF_TUNNELS_BEGIN = ("x-forwarded-", "cf-")


def hostname(host: str) -> str:
    """The name in a Host header, in small letters, without its port and the brackets of IPv6; "" for what is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Whether a Host header names this machine to itself."""
    return hostname(host) in LOOPBACK


def is_ours(host: str, public_url: str) -> bool:
    """Whether a Host header is that of `public_url`, or loopback."""
    return is_loopback(host) or (bool(public_url) and host.lower() == urlsplit(public_url).netloc.lower())


def came_by_tunnel(headers: Mapping[str, str] | Iterable[str]) -> bool:
    """Whether a request has a field that a proxy or a tunnel adds. headers: the names are looked at."""
    names = [name.lower() for name in headers]
    return any(name in _OF_TUNNELS or name.startswith(_OF_TUNNELS_BEGIN) for name in names)


__all__ = ["LOOPBACK", "came_by_tunnel", "hostname", "is_loopback", "is_ours"]
