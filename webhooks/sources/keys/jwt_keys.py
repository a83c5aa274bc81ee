"""JSON Web Tokens: which key may have made one, and which sets of keys are fetched.

The algorithms are the row's, and each key is for algorithms of one kind: what a token's header says can choose neither
another algorithm nor another kind of key, and its `kid` is looked up in a mapping and nowhere else. A set of keys is
fetched again for a `kid` that it does not have, at most once a minute, and at the latest after an hour; a set that cannot be fetched again stays.

Needs the extra `crypto` (PyJWT with cryptography). Source: https://www.rfc-editor.org/rfc/rfc7515, /rfc7517, /rfc8725.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from webhooks.errors import ConfigurationError, KeysUnavailable
from webhooks.formats import json as jsonio
from webhooks.sources.keys.public import LEAST_RSA_BITS, key_bytes, require_crypto
from webhooks.version import install

SHARED = ("HS256", "HS384", "HS512")
PUBLIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
#: Longer tokens are not looked at.
MOST_TOKEN_BYTES = 8192
#: Keys of a set that are tried for a token without `kid`.
MOST_TRIED = 5
REFRESH_SECONDS = 60.0
KEPT_SECONDS = 3600.0
_KINDS = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}


class JwtKey:
    """A key that a token may be signed with. value: bytes of a shared one, or a public key of PyJWT."""

    __slots__ = ("_algorithms", "_sign", "_value")

    def __init__(self, value: Any, algorithms: Sequence[str], sign: Any = None) -> None:
        self._value = value
        self._algorithms = tuple(algorithms)
        self._sign = sign

    def payload(self, token: str) -> bytes | None:
        """The payload of a token that this key signed, else None."""
        import jwt

        try:
            found: Any = _jws().decode_complete(token, self._value, list(self._algorithms))
        except (jwt.InvalidTokenError, jwt.PyJWKError, ValueError, TypeError):
            return None
        return bytes(found["payload"])

    def token(self, claims: Mapping[str, Any]) -> bytes:
        """A token of these claims, as the sender would make it. Raises ConfigurationError where only it can."""
        key = self._value if isinstance(self._value, bytes) else self._sign
        if key is None:
            raise ConfigurationError(
                "only the sender can sign for this source; set signing_key to a private key of your own for tests"
            )
        return str(_jws().encode(jsonio.dump(claims), key, self._algorithms[0])).encode("ascii")

    def matches(self, message: bytes, entries: Sequence[bytes]) -> bool:
        """Whether one of `entries` is a token of this key; its claims are not judged."""
        return any(self.payload(entry.decode("latin-1")) is not None for entry in entries)

    def sign(self, message: bytes) -> bytes:
        """A token whose payload is `message`."""
        return self.token(jsonio.load(message))


@cache
def _jws() -> Any:
    """PyJWT's reading of signed tokens, without its warning of short secrets: some senders choose them, and the start judges them."""
    import jwt
    from jwt.algorithms import HMACAlgorithm

    class _Hmac(HMACAlgorithm):
        def check_key_length(self, key: Any) -> str | None:
            return None

    made = jwt.PyJWS()
    for name in SHARED:
        made.unregister_algorithm(name)
        made.register_algorithm(name, _Hmac(getattr(HMACAlgorithm, f"SHA{name[2:]}")))
    return made


def require_jwt() -> None:
    """Raise ConfigurationError where the extra is not installed."""
    require_crypto()
    try:
        import jwt  # noqa: F401
    except ImportError:
        raise ConfigurationError(f"this scheme needs the extra 'crypto': {install('crypto')}") from None


def shared_key(raw: bytes, algorithms: Sequence[str]) -> JwtKey:
    """A key shared with the sender."""
    require_jwt()
    return JwtKey(raw, [each for each in algorithms if each in SHARED])


def public_key(text: str, algorithms: Sequence[str], *, is_private: bool = False) -> JwtKey:
    """A public key as PEM, DER in base64, or a JWK. Raises ValueError, without the value."""
    require_jwt()
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    if text.strip().startswith("{"):
        try:
            value = jsonio.load(text.encode())
        except jsonio.NotJSON:
            raise ValueError("is no JSON, as a JWK is") from None
        found = of_jwk(value, algorithms)
        if found is None:
            raise ValueError(f"is no JWK for {', '.join(algorithms)}")
        return found
    raw = key_bytes(text)
    is_pem = raw.startswith(b"-----")
    try:
        if is_private:
            private: Any = (serialization.load_pem_private_key if is_pem else serialization.load_der_private_key)(
                raw, None
            )
            return JwtKey(private.public_key(), _of_kind(private.public_key(), algorithms), private)
        if b"BEGIN CERTIFICATE" in raw:
            key: Any = x509.load_pem_x509_certificate(raw).public_key()
        else:
            key = (serialization.load_pem_public_key if is_pem else serialization.load_der_public_key)(raw)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("is not a public key in PEM, DER or JWK; copy it as the sender shows it") from None
    return JwtKey(key, _of_kind(key, algorithms))


def _of_kind(key: Any, algorithms: Sequence[str]) -> list[str]:
    """The algorithms for which a key of this kind can be. Raises ValueError where there is none."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    kinds = {rsa.RSAPublicKey: "RSA", ec.EllipticCurvePublicKey: "EC", ed25519.Ed25519PublicKey: "OKP"}
    kind = next((name for each, name in kinds.items() if isinstance(key, each)), "")
    fit = [each for each in algorithms if _KINDS.get(each[:2]) == kind]
    if not fit:
        raise ValueError(f"is a key of another kind than {', '.join(algorithms)}")
    if kind == "RSA" and key.key_size < LEAST_RSA_BITS:
        raise ValueError(f"is too short: it has {key.key_size} bits, and {LEAST_RSA_BITS} are the least")
    return fit


def of_jwk(value: Any, algorithms: Sequence[str]) -> JwtKey | None:
    """The key of a JWK, bound to what it is for; None for one that is no public key for these algorithms."""
    import jwt

    if not isinstance(value, Mapping) or value.get("use", "sig") != "sig" or "d" in value or "k" in value:
        return None
    fit = [each for each in algorithms if value.get("kty") == _KINDS.get(each[:2]) and value.get("alg", each) == each]
    if not fit:
        return None
    try:
        key: Any = jwt.PyJWK(dict(value), fit[0]).key
        return JwtKey(key, _of_kind(key, fit))
    except (jwt.PyJWTError, ValueError, TypeError):
        return None


class KeySet:
    """The keys at one address. fetch: as `fetched.Fetcher`. monotonic: seconds, for tests."""

    def __init__(
        self,
        address: str,
        algorithms: Sequence[str],
        fetch: Callable[[str], bytes],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._algorithms = algorithms
        self._fetch = fetch
        self._monotonic = monotonic
        self._keys: list[tuple[str | None, JwtKey]] = []
        self._fetched = self._tried = float("-inf")

    def keys(self, kid: str | None) -> list[JwtKey]:
        """The keys that may have signed a token with this `kid`. Raises KeysUnavailable while none was ever fetched."""
        now = self._monotonic()
        is_old = now - self._fetched > KEPT_SECONDS
        if (is_old or not self._named(kid)) and now - self._tried >= REFRESH_SECONDS:
            self._refresh(now)
        if not self._keys:
            raise KeysUnavailable("the sender's keys have not been fetched yet")
        return self._named(kid)

    def _named(self, kid: str | None) -> list[JwtKey]:
        return [key for name, key in self._keys if kid is None or name == kid][:MOST_TRIED]

    def _refresh(self, now: float) -> None:
        self._tried = now
        try:
            found = jsonio.load(self._fetch(self._address))
        except jsonio.NotJSON:
            found = None
        except KeysUnavailable:
            if not self._keys:
                self._tried = float("-inf")  # the fetcher has its own bounds
                raise
            return
        listed = found.get("keys") if isinstance(found, Mapping) else None
        each_of = listed if isinstance(listed, list) else []
        keys = [(each.get("kid"), of_jwk(each, self._algorithms)) for each in each_of if isinstance(each, Mapping)]
        usable = [(kid, key) for kid, key in keys if key is not None]
        if usable:
            self._keys, self._fetched = usable, now
        elif not self._keys:
            raise KeysUnavailable("what is at the address of the keys holds none for the algorithms of this source")


__all__ = [
    "MOST_TOKEN_BYTES",
    "PUBLIC",
    "SHARED",
    "JwtKey",
    "KeySet",
    "of_jwk",
    "public_key",
    "require_jwt",
    "shared_key",
]
