"""Tokens as proof: what a source's `jwt` table demands of a JSON Web Token, and the check of one.

Order: the token is there, short, and says one of the row's algorithms → a key that is bound to it made the signature →
times, issuer, audience, demanded claims → the hash of the body, where the sender puts one in. Without it a token says who calls and nothing
of what is called, so such a source needs `accept_unsigned_body`.

Source of what is demanded: https://www.rfc-editor.org/rfc/rfc8725 (best current practices).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from webhooks.errors import Malformed, SignatureError
from webhooks.formats import json as jsonio
from webhooks.model import same_json
from webhooks.settings import shown
from webhooks.sources.declared.fields import at
from webhooks.sources.keys.fetched import why_no_address
from webhooks.sources.keys.jwt_keys import MOST_TOKEN_BYTES, PUBLIC, SHARED, JwtKey
from webhooks.sources.keys.keyring import Key
from webhooks.sources.signing import ENCODERS, NoSecretMatches, StaleSignature, is_equal

#: What must bound a token's life: its `exp`; its `iat` within the tolerance; or nothing, where the body's hash is in it.
TIMES = ("exp", "iat", "none")
#: Clocks may differ by so much.
LEEWAY = timedelta(seconds=60)
#: Tokens of one request that are looked at.
_MOST_TOKENS = 3
_OPTIONS = ("algorithms", "jwks", "issuer", "audience", "claims", "time", "body_hash")


@dataclass(frozen=True)
class JwtRule:
    """What a token must be.

    algorithms: of `SHARED`, or of `PUBLIC`; never both. jwks: the address of the sender's keys; "" where secrets are the keys.
    issuer, audience: any of these; empty asks for none. claims: {path: what it must be}. time: of `TIMES`.
    body_hash: {"claim": path, "digest": "sha256", "encoding": "hex"}; empty where the token says nothing of the body.
    """

    algorithms: tuple[str, ...] = ()
    jwks: str = ""
    issuer: tuple[str, ...] = ()
    audience: tuple[str, ...] = ()
    claims: Mapping[str, Any] = field(default_factory=dict)
    time: str = "exp"
    body_hash: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_shared(self) -> bool:
        """Whether the keys are shared secrets."""
        return all(each in SHARED for each in self.algorithms)


def read_rule(given: Any, start: JwtRule) -> JwtRule:
    """The table `jwt` of a source, over what its row has. Raises ValueError, without values that may be secret."""
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise ValueError("jwt must be a table, such as { algorithms = 'RS256', jwks = 'https://…', audience = '…' }")
    unknown = [name for name in given if name not in _OPTIONS]
    if unknown:
        raise ValueError(f"jwt has the unknown option {unknown[0]!r}; it knows {', '.join(_OPTIONS)}")
    found = {name: getattr(start, name) for name in _OPTIONS}
    for name in ("algorithms", "issuer", "audience"):
        if name in given:
            found[name] = _texts(name, given[name])
    for name in ("jwks", "time"):
        if name in given:
            if not isinstance(given[name], str):
                raise ValueError(f"jwt.{name} must be text")
            found[name] = given[name]
    for name in ("claims", "body_hash"):
        if name in given:
            if not isinstance(given[name], Mapping):
                raise ValueError(f"jwt.{name} must be a table")
            found[name] = dict(given[name])
    return JwtRule(**found)


def rule_problems(rule: JwtRule) -> list[str]:
    """What is wrong with a rule, one sentence each."""
    found = []
    known = (*SHARED, *PUBLIC)
    if not rule.algorithms or any(each not in known for each in rule.algorithms):
        found.append(
            f"jwt.algorithms is {shown(list(rule.algorithms))}; it must be of {', '.join(known)}, and never 'none'"
        )
    elif not rule.is_shared and any(each in SHARED for each in rule.algorithms):
        found.append(
            "jwt.algorithms mixes shared and public keys, so a public key could be used as a secret; name one kind"
        )
    if rule.jwks and rule.is_shared:
        found.append("jwt.jwks is for public keys; leave it out, or name algorithms such as 'RS256'")
    if rule.jwks and (problem := why_no_address(rule.jwks)) is not None:
        found.append(f"jwt.jwks is no address from which keys are fetched: {problem}")
    if rule.time not in TIMES:
        found.append(f"jwt.time is {shown(rule.time)}; it must be one of {', '.join(TIMES)}")
    if rule.time == "none" and not rule.body_hash:
        found.append(
            "jwt.time = 'none' lets one token through for ever, with any body; name what bounds it, or body_hash"
        )
    hash = rule.body_hash
    if hash and (
        set(hash) - {"claim", "digest", "encoding"}
        or not isinstance(hash.get("claim"), str)
        or hash.get("digest", "sha256") not in ("sha256", "sha512")
        or hash.get("encoding", "hex") not in ENCODERS
    ):
        found.append(
            "jwt.body_hash must be a table such as { claim = 'payload_hash', digest = 'sha256', encoding = 'hex' }"
        )
    if rule.jwks and not rule.audience and not rule.claims and not rule.body_hash:
        found.append(
            "jwt.jwks without audience or claims takes a token that its issuer made for any audience; name the audience that yours has"
        )
    return found


class JwtProof:
    """The check of tokens. keys_of: the keys that a token with a `kid` may have been signed with. tolerance: for `iat`."""

    def __init__(
        self, rule: JwtRule, keys_of: Callable[[str | None], Sequence[JwtKey]] | None, tolerance: timedelta
    ) -> None:
        self._rule = rule
        self._keys_of = keys_of
        self._tolerance = tolerance

    def verify(self, tokens: Sequence[bytes], body: bytes, now: datetime, ring: Sequence[Key[Any]]) -> str:
        """The label of the key that made one of the tokens, and whose claims hold. Raises SignatureError."""
        reason: SignatureError = SignatureError("the header holds no token")
        for token in tokens[:_MOST_TOKENS]:
            try:
                label, claims = self._signed(token, ring)
                self._judge(claims, body, now)
                return label
            except SignatureError as error:
                reason = error
        raise reason

    def _signed(self, token: bytes, ring: Sequence[Key[Any]]) -> tuple[str, Any]:
        """(label, claims) of a token that one of the keys made."""
        if len(token) > MOST_TOKEN_BYTES or not token.isascii():
            raise SignatureError(f"the token is longer than {MOST_TOKEN_BYTES} bytes, or no text")
        text = token.decode("ascii")
        kid = self._kid(text)
        tried = [(key.label, key.value) for key in ring]
        if self._keys_of is not None:
            tried += [("jwks", key) for key in self._keys_of(kid)]
        for label, key in tried:
            payload = key.payload(text)
            if payload is not None:
                return label, _claims(payload)
        raise NoSecretMatches(f"none of {len(tried)} keys made this token")

    def _kid(self, token: str) -> str | None:
        """The name of the key that a token says. Raises SignatureError for what is no token of the row's algorithms."""
        import jwt

        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise SignatureError("what should be a JSON Web Token is none") from None
        if header.get("alg") not in self._rule.algorithms:
            raise SignatureError(f"the token's algorithm is none of {', '.join(self._rule.algorithms)}")
        kid = header.get("kid")
        return kid if isinstance(kid, str) else None

    def _judge(self, claims: Any, body: bytes, now: datetime) -> None:
        """Raise SignatureError for claims that do not hold."""
        rule = self._rule
        seconds = now.timestamp()
        until, since, made = (_instant(claims, name) for name in ("exp", "nbf", "iat"))
        if (rule.time == "exp" and until is None) or (rule.time == "iat" and made is None):
            raise SignatureError(f"the token has no {rule.time}, which bounds its life")
        leeway = LEEWAY.total_seconds()
        if until is not None and seconds > until + leeway:
            raise StaleSignature(f"the token ended {seconds - until:.0f} s ago")
        if max(since or 0, made or 0) > seconds + leeway:
            raise StaleSignature("the token begins in the future")
        if rule.time == "iat" and made is not None and seconds - made > self._tolerance.total_seconds():
            raise StaleSignature(
                f"the token is {seconds - made:.0f} s old; allowed are {self._tolerance.total_seconds():.0f} s"
            )
        if rule.issuer and at(claims, "iss") not in rule.issuer:
            raise SignatureError("the token's issuer (iss) is not the one that is configured")
        audience = at(claims, "aud")
        if rule.audience and not any(
            each in rule.audience for each in (audience if isinstance(audience, list) else [audience])
        ):
            raise SignatureError("the token's audience (aud) is not the one that is configured")
        for path, wanted in rule.claims.items():
            found = at(claims, path)
            if not any(same_json(found, each) for each in (wanted if isinstance(wanted, list) else [wanted])):
                raise SignatureError(f"the token's claim {path!r} is not what is configured")
        if rule.body_hash:
            self._judge_body(claims, body)

    def _judge_body(self, claims: Any, body: bytes) -> None:
        said = self._rule.body_hash
        digest = hashlib.new(said.get("digest", "sha256"), body).digest()
        found = at(claims, said["claim"])
        wanted = ENCODERS[said.get("encoding", "hex")](digest)
        if not isinstance(found, str) or not is_equal(found.encode("utf-8", "replace"), wanted):
            raise SignatureError(f"the token's claim {said['claim']!r} is not the hash of the body")


def _claims(payload: bytes) -> Any:
    try:
        found = jsonio.load_watching(payload)
    except jsonio.NotJSON:
        raise SignatureError("the token's payload is not JSON") from None
    if not isinstance(found, Mapping):
        raise SignatureError("the token's payload is no object")
    if isinstance(found, jsonio.Watched) and found.doubled:
        raise SignatureError("a claim stands twice in the token")
    return found


def _instant(claims: Any, name: str) -> float | None:
    try:
        found = at(claims, name)
    except Malformed as error:
        raise SignatureError(error.reason) from None
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float) or not abs(found) < 1e12:
        raise SignatureError(f"the token's {name} is no time")
    return float(found)


def _texts(name: str, value: Any) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise ValueError(f"jwt.{name} must be text or a list of texts")
    return tuple(texts)


__all__ = ["JwtProof", "JwtRule", "read_rule", "rule_problems"]
