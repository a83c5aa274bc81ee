"""Public keys: Ed25519, ECDSA and RSA, pinned in the settings or in a certificate that the sender publishes.

A key is bound to one algorithm when it is made; nothing that a request says chooses another. A certificate counts within
its dates. Needs the extra `crypto`, which is imported when such a key is made.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from webhooks.errors import ConfigurationError, SignatureError
from webhooks.sources.signing import ENCODERS, decode_signature
from webhooks.version import install

#: Entries that a public key looks at: each costs some 100 µs, and any client can send them.
MAX_PUBLIC_KEY_ENTRIES = 5
#: Bits of an RSA key, at least.
LEAST_RSA_BITS = 2048
#: {algorithm: (padding, digest)}
RSA = {
    "rsa-sha256": ("pkcs1", "SHA256"),
    "rsa-sha512": ("pkcs1", "SHA512"),
    "rsa-sha1": ("pkcs1", "SHA1"),
    "rsa-pss-sha256": ("pss", "SHA256"),
}
_PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----")


class PublicKey:
    """The sender's public key. With a private key (tests, `trigger`) it signs, too.

    arguments: what `verify` and `sign` of the key want beside signature and message.
    """

    __slots__ = ("_arguments", "_encoding", "_prefix", "_private", "_public", "valid")

    def __init__(
        self, public: Any, encoding: str, prefix: bytes, private: Any = None, arguments: tuple[Any, ...] = ()
    ) -> None:
        self._public = public
        self._private = private
        self._encoding = encoding
        self._prefix = prefix
        self._arguments = arguments
        #: from when to when its certificate counts; None for a key without one
        self.valid: tuple[datetime, datetime] | None = None

    def require_valid(self, now: datetime) -> None:
        """Raise SignatureError outside of the certificate's dates."""
        if self.valid is not None and not self.valid[0] <= now <= self.valid[1]:
            raise SignatureError(
                f"the certificate counts from {self.valid[0]:%Y-%m-%d} to {self.valid[1]:%Y-%m-%d} only"
            )

    def matches(self, message: bytes, entries: Sequence[bytes]) -> bool:
        """Whether one of `entries` is a signature of `message` by this key."""
        from cryptography.exceptions import InvalidSignature

        mine = [entry[len(self._prefix) :] for entry in entries if entry.startswith(self._prefix)]
        for entry in mine[:MAX_PUBLIC_KEY_ENTRIES]:
            signature = decode_signature(entry, self._encoding)
            if signature is None:
                continue
            try:
                self._public.verify(signature, bytes(message), *self._arguments)
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
        return self._prefix + ENCODERS[self._encoding](self._private.sign(bytes(message), *self._arguments))


def ed25519_key(raw: bytes, encoding: str, prefix: bytes, *, is_private: bool = False) -> PublicKey:
    """A key from its 32 raw bytes (a private one may have its public half behind it). Raises ValueError."""
    require_crypto()
    from cryptography.hazmat.primitives.asymmetric import ed25519

    if len(raw) != 32 and not (is_private and len(raw) == 64):
        raise ValueError(f"must be 32 bytes, but has {len(raw)}")
    if is_private:
        private = ed25519.Ed25519PrivateKey.from_private_bytes(raw[:32])
        return PublicKey(private.public_key(), encoding, prefix, private)
    return PublicKey(ed25519.Ed25519PublicKey.from_public_bytes(raw), encoding, prefix)


def ecdsa_key(der: bytes, encoding: str, prefix: bytes, *, is_private: bool = False) -> PublicKey:
    """A P-256 key from DER (SubjectPublicKeyInfo, or PKCS 8). Raises ValueError."""
    require_crypto()
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    public, private, _ = _load(der, is_private=is_private)
    if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name != "secp256r1":
        raise ValueError("is not a P-256 key")
    return PublicKey(public, encoding, prefix, private, (ec.ECDSA(hashes.SHA256()),))


def rsa_key(raw: bytes, algorithm: str, encoding: str, prefix: bytes, *, is_private: bool = False) -> PublicKey:
    """An RSA key for one algorithm of `RSA`, from DER or PEM: a key, or the certificate that holds it. Raises ValueError."""
    require_crypto()
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    public, private, valid = _load(raw, is_private=is_private)
    if not isinstance(public, rsa.RSAPublicKey):
        raise ValueError("is not an RSA key")
    if public.key_size < LEAST_RSA_BITS:
        raise ValueError(f"is too short: it has {public.key_size} bits, and {LEAST_RSA_BITS} are the least")
    kind, name = RSA[algorithm]
    digest: Any = getattr(hashes, name)()
    if kind == "pss":
        padded: Any = padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH if is_private else padding.PSS.AUTO)
    else:
        padded = padding.PKCS1v15()
    key = PublicKey(public, encoding, prefix, private, (padded, digest))
    key.valid = valid
    return key


def key_bytes(text: str) -> bytes:
    """The bytes of a key that is written as PEM, or as DER in base64. Raises ValueError, without the value."""
    text = text.strip()
    if text.startswith("-----BEGIN"):
        return text.replace("\\n", "\n").encode("ascii", "replace")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        raise ValueError("is neither PEM nor DER in base64; copy the whole key with its BEGIN and END lines") from None


def _load(raw: bytes, *, is_private: bool) -> tuple[Any, Any, tuple[datetime, datetime] | None]:
    """(public key, private key or None, dates of the certificate or None). Raises ValueError."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    is_pem = _PEM.match(raw.decode("latin-1").lstrip())
    try:
        if is_private:
            private: Any = (serialization.load_pem_private_key if is_pem else serialization.load_der_private_key)(
                raw, None
            )
            return private.public_key(), private, None
        if is_pem and is_pem.group(1) == "CERTIFICATE":
            return _of_certificate(x509.load_pem_x509_certificate(raw))
        load: Any = serialization.load_pem_public_key if is_pem else serialization.load_der_public_key
        return load(raw), None, None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("is not a key in DER or PEM; copy the verification key as the sender shows it") from None


def _of_certificate(certificate: Any) -> tuple[Any, None, tuple[datetime, datetime]]:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return certificate.public_key(), None, (begins.astimezone(UTC), ends.astimezone(UTC))


def require_crypto() -> None:
    """Raise ConfigurationError where the extra is not installed."""
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise ConfigurationError(f"this scheme needs the extra 'crypto': {install('crypto')}") from None
