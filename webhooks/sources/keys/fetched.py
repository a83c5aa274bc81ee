"""Keys that a sender publishes under an address: fetched under strict rules, and kept.

The address is the row's (a set of keys), or the request's where the row fixes its scheme, host and path (a certificate). No
redirect is followed, an answer has `MOST_BYTES` at most and `SECONDS` in all; one fetch of a source is under way at a time,
and six a minute are made. What cannot be had is `KeysUnavailable`, a 503: the sender tries again.

With `keyring` the only I/O below `store`. Not here: what a certificate or a set of keys means (`public`, `jwt_keys`).
"""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from webhooks.errors import KeysUnavailable
from webhooks.forks import PerProcess

#: For one fetch, from the connection to the last byte.
SECONDS = 2.0
MOST_BYTES = 64 * 1024
MOST_A_MINUTE = 6
#: Addresses that failed are not asked again for so long.
FAILED_FOR_SECONDS = 30.0
_MOST_REMEMBERED = 100
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def why_no_address(address: str) -> str | None:
    """Why no keys are fetched from an address, for people; None when they may be."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return "it is no address"
    if not address.isascii() or not address.isprintable() or " " in address or "\\" in address:
        return "it holds characters that no address has"
    if parts.username is not None or parts.password is not None or parts.fragment or port == 0:
        return "it must have neither a user, a password nor a fragment"
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        return "it must begin with https://"
    return None if parts.hostname else "it names no host"


def fetch(address: str) -> bytes:
    """What is at an address. Raises OSError, http.client.HTTPException or ValueError for all that is no short, prompt 200."""
    problem = why_no_address(address)
    if problem is not None:
        raise ValueError(problem)
    until = time.monotonic() + SECONDS
    parts = urlsplit(address)
    kind: Any = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    more = {"context": ssl.create_default_context()} if parts.scheme == "https" else {}
    connection = kind(parts.hostname, parts.port, timeout=SECONDS, **more)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", target, headers={"Accept-Encoding": "identity", "User-Agent": "webhooks"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise ValueError(f"it answered {answer.status}")
        return _read(connection, answer, until)
    finally:
        connection.close()


def _read(connection: Any, answer: http.client.HTTPResponse, until: float) -> bytes:
    content = b""
    while True:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"it took longer than {SECONDS:g} s")
        if connection.sock is not None:
            connection.sock.settimeout(left)
        piece = answer.read1(MOST_BYTES + 1 - len(content))
        if not piece:
            return content
        content += piece
        if len(content) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES} bytes")


class Fetcher:
    """Fetches for one source. get: as `fetch`, for tests. monotonic: seconds, for tests."""

    def __init__(
        self,
        source: str,
        *,
        get: Callable[[str], bytes] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._get = get
        self._monotonic = monotonic
        self._lock = PerProcess(threading.Lock)
        self._made: deque[float] = deque(maxlen=MOST_A_MINUTE)
        self._failed: dict[str, float] = {}

    def __call__(self, address: str) -> bytes:
        """What is at `address`. Raises KeysUnavailable."""
        lock = self._lock.get()
        if not lock.acquire(timeout=SECONDS):
            raise KeysUnavailable(f"another request of source {self._source!r} waits for the sender's keys")
        try:
            self._require_room(address)
            self._made.append(self._monotonic())
            try:
                return (self._get or fetch)(address)
            except (OSError, http.client.HTTPException, ValueError) as error:
                if len(self._failed) >= _MOST_REMEMBERED:
                    self._failed.clear()
                self._failed[address] = self._monotonic()
                host = urlsplit(address).hostname
                why = str(error) if isinstance(error, (TimeoutError, ValueError)) else type(error).__name__
                raise KeysUnavailable(f"the keys at {host} cannot be fetched: {why}") from None
        finally:
            lock.release()

    def _require_room(self, address: str) -> None:
        now = self._monotonic()
        failed = self._failed.get(address)
        if failed is not None and now - failed < FAILED_FOR_SECONDS:
            raise KeysUnavailable("the sender's keys could not be fetched a moment ago")
        if len(self._made) == MOST_A_MINUTE and now - self._made[0] < 60:
            raise KeysUnavailable(
                f"keys of source {self._source!r} were fetched {MOST_A_MINUTE} times in the last minute"
            )


__all__ = ["MOST_A_MINUTE", "MOST_BYTES", "SECONDS", "Fetcher", "fetch", "why_no_address"]
