"""The keys of a declared source: what a secret's text means under its row, and whether it is strong enough."""

from __future__ import annotations

from webhooks.sources.declared.scheme import DIGESTS, JWT, MACS, PUBLIC_KEY_ALGORITHMS, Scheme
from webhooks.sources.keys import jwt_keys, keys, public
from webhooks.sources.keys.keys import VerifyingKey
from webhooks.sources.keys.published import why_weak
from webhooks.sources.signing import decode_key

_PUBLIC_KEY = "whpk_"
_PRIVATE_KEY = "whsk_"


class KeyDecoder:
    """Decodes the secrets of one source. checks_strength: refuse secrets that stand in documents or are short."""

    def __init__(self, row: Scheme, *, checks_strength: bool = True) -> None:
        self.row = row
        self._checks_strength = checks_strength

    def decode(self, text: str) -> VerifyingKey:
        """A key from a secret's text. Raises ValueError, without the value."""
        row = self.row
        prefix = row.prefix.encode()
        if row.public_key_prefix and text.strip().startswith((_PUBLIC_KEY, _PRIVATE_KEY)):
            return self._public_key(text.strip(), row.public_key_prefix.encode())
        if row.algorithm in PUBLIC_KEY_ALGORITHMS:
            return self._public_key(text.strip(), prefix)
        if row.algorithm == JWT and not row.jwt.is_shared:
            return jwt_keys.public_key(text, row.jwt.algorithms)
        if row.algorithm == "basic":
            token = keys.basic_token(text)
            if self._checks_strength and len(text.strip().partition(":")[2]) < row.min_secret_bytes:
                raise ValueError(f"is too short: the password must have at least {row.min_secret_bytes} characters")
            if self._checks_strength:
                self._require_strong(text.strip(), text.strip().partition(":")[2])
            return keys.TokenKey(token)
        raw = decode_key(text, row.secret_encoding, row.secret_prefix)
        if self._checks_strength and len(raw) < row.min_secret_bytes:
            raise ValueError(f"is too short: it has {len(raw)} bytes, and {row.min_secret_bytes} are the least")
        if self._checks_strength:
            self._require_strong(text)
        if not raw:
            raise ValueError("is empty once decoded")
        if row.algorithm == JWT:
            return jwt_keys.shared_key(raw, row.jwt.algorithms)
        if row.algorithm == "token":
            return keys.TokenKey(prefix + raw)
        if row.algorithm in DIGESTS:
            return keys.DigestKey(raw, DIGESTS[row.algorithm], row.encoding, prefix)
        return keys.MacKey(raw, MACS[row.algorithm], row.encoding, prefix)

    def _require_strong(self, *texts: str) -> None:
        for text in texts:
            if (reason := why_weak(text, self.row.secret_prefix)) is not None:
                raise ValueError(reason)

    def _public_key(self, text: str, prefix: bytes, *, is_private: bool = False) -> VerifyingKey:
        row = self.row
        is_private = is_private or text.startswith(_PRIVATE_KEY)
        if row.public_key_prefix and text.startswith((_PUBLIC_KEY, _PRIVATE_KEY)):
            raw = decode_key(text.removeprefix(_PUBLIC_KEY).removeprefix(_PRIVATE_KEY), "base64")
            return public.ed25519_key(raw, row.encoding, prefix, is_private=is_private)
        if row.algorithm in public.RSA:
            return public.rsa_key(public.key_bytes(text), row.algorithm, row.encoding, prefix, is_private=is_private)
        if row.algorithm == "ecdsa-sha256" and text.startswith("-----BEGIN"):
            return public.ecdsa_key(public.key_bytes(text), row.encoding, prefix, is_private=is_private)
        raw = decode_key(text, row.secret_encoding, row.secret_prefix)
        make = public.ed25519_key if row.algorithm == "ed25519" else public.ecdsa_key
        return make(raw, row.encoding, prefix, is_private=is_private)

    def decode_signing_key(self, text: str) -> VerifyingKey:
        """The private key of a scheme with public keys. Raises ValueError, without the value."""
        if self.row.algorithm == JWT:
            return jwt_keys.public_key(text, self.row.jwt.algorithms, is_private=True)
        return self._public_key(text.strip(), self.row.prefix.encode(), is_private=True)
