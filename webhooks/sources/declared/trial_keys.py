"""Keys made to try a source whose sender alone has the private key, and the token that such a sender would make.

They verify nothing but the sample of one trial: no ring of keys ever holds one.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from functools import cache
from typing import Any

from webhooks.formats import json as jsonio
from webhooks.sources.declared.scheme import JWT, Scheme
from webhooks.sources.keys import public
from webhooks.sources.keys.jwt_keys import JwtKey
from webhooks.sources.keys.keys import VerifyingKey
from webhooks.sources.signing import ENCODERS

#: {how a token's algorithm begins: the kind of its key}
_KINDS = {"RS": "rsa", "PS": "rsa", "ES": "ec", "Ed": "ed25519"}
_CURVES = {"ES384": "SECP384R1"}


def trial_key(row: Scheme) -> VerifyingKey:
    """A key of the kind that a row wants, with its private half. Not for rows with shared keys."""
    prefix = row.prefix.encode()
    if row.algorithm == JWT:
        name = row.jwt.algorithms[0]
        private = _private(_KINDS[name[:2]], _CURVES.get(name, "SECP256R1"))
        return JwtKey(private.public_key(), [name], private)
    if row.algorithm == "ed25519":
        return public.ed25519_key(_raw(), row.encoding, prefix, is_private=True)
    if row.algorithm == "ecdsa-sha256":
        return public.ecdsa_key(_der(_private("ec", "SECP256R1")), row.encoding, prefix, is_private=True)
    return public.rsa_key(_der(_private("rsa", "")), row.algorithm, row.encoding, prefix, is_private=True)


def trial_token(row: Scheme, key: VerifyingKey, body: bytes, now: datetime) -> bytes:
    """The header's value with a token in it, with all that the row demands of one."""
    rule, at = row.jwt, int(now.timestamp())
    claims: dict[str, Any] = {"iat": at, "exp": at + 60}
    if rule.issuer:
        claims["iss"] = rule.issuer[0]
    if rule.audience:
        claims["aud"] = rule.audience[0]
    for path, wanted in rule.claims.items():
        _put(claims, path, wanted[0] if isinstance(wanted, list) and wanted else wanted)
    if rule.body_hash:
        digest = hashlib.new(rule.body_hash.get("digest", "sha256"), body).digest()
        _put(claims, rule.body_hash["claim"], ENCODERS[rule.body_hash.get("encoding", "hex")](digest).decode())
    return row.prefix.encode() + key.sign(jsonio.dump(claims))


@cache
def _private(kind: str, curve: str) -> Any:
    """A private key, made once in a process: an RSA key takes a tenth of a second."""
    public.require_crypto()
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if kind == "rsa":
        return rsa.generate_private_key(65537, public.LEAST_RSA_BITS)
    if kind == "ec":
        return ec.generate_private_key(getattr(ec, curve)())
    return ed25519.Ed25519PrivateKey.generate()


def _raw() -> bytes:
    return bytes(_private("ed25519", "").private_bytes_raw())


def _der(private: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return bytes(private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


def _put(claims: dict[str, Any], path: str, value: Any) -> None:
    *way, last = path.split(".")
    holder = claims
    for step in way:
        holder = holder.setdefault(step, {})
    holder[last] = value


__all__ = ["trial_key", "trial_token"]
