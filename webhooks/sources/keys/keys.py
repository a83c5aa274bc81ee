"""The kinds of keys: each makes from a message what the header must hold, or checks what it holds.

`MacKey` and `TokenKey` say what they expect, byte for byte with its prefix, and compare in constant time. `PublicKey`
checks a signature that only the sender can make; it needs the extra `crypto`, which is imported when such a key is
made.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import Any, Protocol

from webhooks.errors import ConfigurationError
from webhooks.sources.signing import ENCODERS, decode_signature, is_equal
from webhooks.version import install


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


#: Entries that a public key looks at: each costs some 100 µs, and any client can send them.
MAX_PUBLIC_KEY_ENTRIES = 5


class PublicKey:
    """The sender's public key: Ed25519, or ECDSA with SHA-256. With a private key (tests, `trigger`) it signs, too."""

    __slots__ = ("_encoding", "_prefix", "_private", "_public")

    def __init__(self, public: Any, encoding: str, prefix: bytes, private: Any = None) -> None:
        self._public = public
        self._private = private
        self._encoding = encoding
        self._prefix = prefix

    def matches(self, message: bytes, entries: Sequence[bytes]) -> bool:
        """Whether one of `entries` is a signature of `message` by this key."""
        from cryptography.exceptions import InvalidSignature

        mine = [entry[len(self._prefix) :] for entry in entries if entry.startswith(self._prefix)]
        for entry in mine[:MAX_PUBLIC_KEY_ENTRIES]:
            signature = decode_signature(entry, self._encoding)
            if signature is None:
                continue
            try:
                self._public.verify(signature, message, *self._parameters())
            except InvalidSignature:
                continue
            return True
        return False

    def sign(self, message: bytes) -> bytes:
        """An entry as the sender would write it."""
        if self._private is None:
            raise ConfigurationError(
                "only the sender can sign for this source; set signing_key to a private key of your own for tests"
            )
        return self._prefix + ENCODERS[self._encoding](self._private.sign(message, *self._parameters()))

    def _parameters(self) -> tuple[Any, ...]:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        return (ec.ECDSA(hashes.SHA256()),) if isinstance(self._public, ec.EllipticCurvePublicKey) else ()


def ed25519_key(raw: bytes, encoding: str, prefix: bytes, *, is_private: bool = False) -> PublicKey:
    """A key from its 32 raw bytes (a private one may have its public half behind it). Raises ValueError."""
    _require_crypto()
    from cryptography.hazmat.primitives.asymmetric import ed25519

    if len(raw) != 32 and not (is_private and len(raw) == 64):
        raise ValueError(f"must be 32 bytes, but has {len(raw)}")
    if is_private:
        private = ed25519.Ed25519PrivateKey.from_private_bytes(raw[:32])
        return PublicKey(private.public_key(), encoding, prefix, private)
    return PublicKey(ed25519.Ed25519PublicKey.from_public_bytes(raw), encoding, prefix)


def ecdsa_key(der: bytes, encoding: str, prefix: bytes, *, is_private: bool = False) -> PublicKey:
    """A P-256 key from DER (SubjectPublicKeyInfo, or PKCS 8). Raises ValueError."""
    _require_crypto()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key

    try:
        private = load_der_private_key(der, None) if is_private else None
        public = load_der_public_key(der) if private is None else private.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("is not a key in DER; copy the verification key as the sender shows it") from None
    if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name != "secp256r1":
        raise ValueError("is not a P-256 key")
    return PublicKey(public, encoding, prefix, private)


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


def _require_crypto() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise ConfigurationError(f"this scheme needs the extra 'crypto': {install('crypto')}") from None
