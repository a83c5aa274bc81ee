"""Keys made at random for the sources of one kit, each in the shape that its scheme wants; never one of yours."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from typing import Any

#: Who makes a key knows nothing of the row of a scheme that another distribution brings: it gets this many bytes in hex.
KEY_BYTES = 32


def make_key(scheme: str, section: Mapping[str, Any]) -> Mapping[str, Any]:
    """The keys of a section that let the kit sign as the sender would; none where only the sender can.

    section: of the source in `webhooks.toml`, which may describe a scheme of its own.
    """
    raw = secrets.token_bytes(KEY_BYTES)
    row = _row_of(scheme)
    if row is None:
        return {"secret": raw.hex()}
    algorithm = section.get("algorithm", row.algorithm)
    if algorithm == "basic":
        return {"secret": f"user:{raw.hex()}"}
    if algorithm in ("ed25519", "ecdsa-sha256"):
        return _key_pair(algorithm, raw)
    if algorithm.startswith("rsa") or algorithm == "jwt" or row.certificate:
        return {}
    encoding = section.get("secret_encoding", row.secret_encoding)
    if encoding != "base64":
        return {"secret": raw.hex()}
    return {"secret": section.get("secret_prefix", row.secret_prefix) + base64.b64encode(raw).decode()}


def _row_of(scheme: str) -> Any:
    from webhooks.sources.declared.schemes import SCHEMES

    return SCHEMES.get(scheme)


def _key_pair(algorithm: str, raw: bytes) -> Mapping[str, Any]:
    """A public key as these senders give it, and the private one as `signing_key`; none without the extra `crypto`."""
    try:
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
    except ImportError:
        return {}
    if algorithm == "ed25519":
        public = ed25519.Ed25519PrivateKey.from_private_bytes(raw).public_key()
        return {"secret": public.public_bytes(Encoding.Raw, PublicFormat.Raw).hex(), "signing_key": raw.hex()}
    private = ec.generate_private_key(ec.SECP256R1())
    spki = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return {"secret": base64.b64encode(spki).decode(), "signing_key": base64.b64encode(der).decode()}


__all__ = ["make_key"]
