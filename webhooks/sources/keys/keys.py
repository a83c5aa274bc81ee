"""The kinds of keys: each makes from a message what the header must hold, or checks what it holds.

`MacKey`, `DigestKey` and `TokenKey` say what they expect, byte for byte with its prefix, and compare in constant time. Public keys,
which check what only the sender can make, are in `public`, those of tokens in `jwt_keys`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import Protocol

from webhooks.sources.signing import ENCODERS, is_equal


class VerifyingKey(Protocol):
    """What a source holds for each secret."""

    def matches(self, message: bytes, entries: Sequence[bytes]) -> bool:
        """Whether one of the header's entries is this key's signature of `message`."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The header's entry for `message`. Raises ConfigurationError when this key can only verify."""
        ...


class MacKey:
    """A key shared with the sender: HMAC."""

    __slots__ = ("_digest", "_encode", "_key", "_prefix")

    def __init__(self, key: bytes, digest: str, encoding: str, prefix: bytes) -> None:
        self._key = key
        self._digest = digest
        self._encode = ENCODERS[encoding]
        self._prefix = prefix

    def sign(self, message: bytes) -> bytes:
        """An entry as the sender would write it."""
        return self._prefix + self._encode(hmac.digest(self._key, message, self._digest))

    def mac(self, message: bytes) -> bytes:
        """The bare HMAC-SHA256, for handshakes that ask for one."""
        return hmac.digest(self._key, message, "sha256")

    def matches(self, message: bytes, entries: Sequence[bytes]) -> bool:
        """Whether one of `entries` is a signature of `message` by this key."""
        expected = self.sign(message)
        return any(is_equal(expected, entry) for entry in entries)


class DigestKey:
    """A secret that stands in a text of which a plain digest is made."""

    __slots__ = ("_digest", "_encode", "_key", "_prefix")

    def __init__(self, key: bytes, digest: str, encoding: str, prefix: bytes) -> None:
        self._key = key
        self._digest = digest
        self._encode = ENCODERS[encoding]
        self._prefix = prefix

    def sign(self, message: bytes) -> bytes:
        """An entry as the sender would write it. message: with the places of the key in `at`."""
        text, end = b"", 0
        for place in getattr(message, "at", (0,)):
            text += message[end:place] + self._key
            end = place
        return self._prefix + self._encode(
            hashlib.new(self._digest, text + message[end:], usedforsecurity=False).digest()
        )

    def matches(self, message: bytes, entries: Sequence[bytes]) -> bool:
        """Whether one of `entries` is a digest of `message` with this key in it."""
        expected = self.sign(message)
        return any(is_equal(expected, entry) for entry in entries)


class TokenKey:
    """A password or token that the request carries as it is. Compared by digest, so that its length does not show."""

    __slots__ = ("_digest", "_value")

    def __init__(self, value: bytes) -> None:
        self._value = value
        self._digest = hashlib.sha256(value).digest()

    def sign(self, message: bytes) -> bytes:
        """An entry as the sender would write it."""
        return self._value

    def matches(self, message: bytes, entries: Sequence[bytes]) -> bool:
        """Whether one of `entries` is a signature of `message` by this key."""
        return any(is_equal(self._digest, hashlib.sha256(entry).digest()) for entry in entries)


def as_in(credentials: bytes, wanted: bytes) -> bytes:
    """The value of an Authorization header with its scheme's name and the blank behind it written as in `wanted`.

    `basic` and `BEARER` are the schemes Basic and Bearer: such names have no case, and one blank or more follows them.
    What follows is left as it is, and so is a value of another scheme, or of none.
    Source: https://www.rfc-editor.org/rfc/rfc9110#section-11.1 and #section-11.4
    """
    name, blank, rest = credentials.partition(b" ")
    scheme, has_scheme, _ = wanted.partition(b" ")
    return scheme + b" " + rest.lstrip(b" ") if blank and has_scheme and name.lower() == scheme.lower() else credentials


def basic_token(secret: str) -> bytes:
    """The header's value for `user:password`. Raises ValueError."""
    user, colon, password = secret.strip().partition(":")
    if not user or not colon or not password:
        raise ValueError("must be 'user:password'")
    return b"Basic " + base64.b64encode(secret.strip().encode("utf-8"))
