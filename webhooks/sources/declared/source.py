"""A source made from a row of the scheme table: verify, parse, read, answer handshakes and sign as the row says.

`DeclaredSource` checks the settings and joins the steps: `decode` its keys, `proof` of a request, `parse` what
is in it, `handshakes` and `sign`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, ClassVar

from webhooks.errors import ChallengeFailed, ConfigurationError, SignatureError
from webhooks.formats import read_duration
from webhooks.model import Challenge, Content, InboundRequest, ParsedEvent, Verified
from webhooks.settings import shown
from webhooks.sources import diagnosis
from webhooks.sources.base import Secret, Source, SourceSettings
from webhooks.sources.declared import handshakes, manners
from webhooks.sources.declared.certificates import Certificates, within_dates
from webhooks.sources.declared.claims import JwtProof
from webhooks.sources.declared.decode import KeyDecoder
from webhooks.sources.declared.greetings import Greeter
from webhooks.sources.declared.options import READING_OPTIONS, ROW_OPTIONS, with_options
from webhooks.sources.declared.parse import Parser
from webhooks.sources.declared.proof import Proof
from webhooks.sources.declared.sample import made_sample
from webhooks.sources.declared.scheme import DEDUP_KEYS, JWT, PUBLIC_KEY_ALGORITHMS, Scheme
from webhooks.sources.declared.selfcheck import why_never_verifies
from webhooks.sources.declared.sign import Signer
from webhooks.sources.declared.trial_keys import trial_token
from webhooks.sources.keys import keys
from webhooks.sources.keys.fetched import Fetcher
from webhooks.sources.keys.jwt_keys import KeySet, require_jwt
from webhooks.sources.keys.keyring import Key, KeyRing, load_provider
from webhooks.sources.keys.keys import VerifyingKey
from webhooks.sources.keys.public import RSA
from webhooks.sources.samples import Sample

#: What a 2xx carries where only some types have an answer of their own.
OUR_OWN = Challenge(b'{"status":"accepted"}', "application/json")
#: Options that every declared source knows.
COMMON_OPTIONS = frozenset(("dedup", "dedup_for", "equal_bodies", "signing_key", "secrets_from"))
#: How often an hour a body runs under different keys that are not signed.
EQUAL_BODIES = 20


class DeclaredSource(Source):
    """A sender described by a row.

    row: of the table; for `scheme = "custom"` an empty one that the options fill.
    allow_published_secrets: accept secrets that stand in documents or are short; for tests with vendors' vectors.
    """

    #: options that only a subclass knows, and reads in `more_problems`
    own_options: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, settings: SourceSettings, row: Scheme, *, allow_published_secrets: bool = False) -> None:
        super().__init__(settings)
        self.row, found = self._own_row(row)
        conduct, more = manners.read_manners(self.row, settings.options)
        found += more
        self._decoder = KeyDecoder(self.row, checks_strength=not allow_published_secrets)
        problems = [f"source {settings.name!r}: {text}" for text in found + self._setting_problems()]
        problems += self.more_problems()
        if not found:
            try:
                provider = load_provider(settings.name, settings.options.get("secrets_from"))
                if provider is None and self._publishes_keys:
                    provider = _no_secrets
                self.takes_secret = any(greeting.secret for greeting in conduct.greetings)
                self.keys: KeyRing[VerifyingKey] = KeyRing(
                    settings.name,
                    settings.secrets,
                    self._decoder.decode,
                    settings.secret_file,
                    provider,
                    may_wait=self.takes_secret,
                )
                self._signing_key = self._decode_signing_key()
            except ConfigurationError as error:
                problems += error.problems
        if problems:
            raise ConfigurationError(problems)
        self.scheme_title = self.row.title
        self.signs_whole_body = self.row.signs_whole_body
        self.sensitive_headers = frozenset(self.row.signature_headers)
        self._take_manners(conduct)
        self._proof = Proof(self.row, settings.public_url)
        self._ring: Callable[[InboundRequest, datetime], Sequence[Key[VerifyingKey]]] = self._make_ring()
        rule = self._dedup_rule()
        self._parser = Parser(self.row, rule)
        self._take_bounds(rule)
        self._signer = Signer(self._proof, settings.public_url)
        problem = why_never_verifies(self)
        if problem is not None:
            raise ConfigurationError(f"source {self.name!r}: {problem}")

    def _take_manners(self, conduct: manners.Manners) -> None:
        """Be to the sender as row and options say."""
        self._tokens = tuple(token.encode("utf-8") for token in _texts(self.settings.options.get("verify_token")))
        self.methods, self.inflates = conduct.methods, conduct.gzip
        self.success = conduct.success
        if conduct.success_for:
            self.success_for = conduct.success_for
            self.success = conduct.success or OUR_OWN
        self._greeter = Greeter(conduct.greetings, conduct.pings, self._tokens, self._first_mac, self.row.encoding)
        self.handshake_methods = self._greeter.methods
        if self.row.handshake in handshakes.BY_GET:
            self.handshake_methods |= {"GET"}
        if self._greeter.bringing is not None and self._greeter.bringing.secret.startswith("@"):
            self.sensitive_headers |= {self._greeter.bringing.secret[1:]}

    def _first_mac(self, text: bytes) -> bytes:
        key = self.signing_key
        if not isinstance(key, keys.MacKey):
            raise ChallengeFailed(f"scheme {self.row.name!r} has no shared key to answer with")
        return key.mac(text)

    @property
    def _publishes_keys(self) -> bool:
        """Whether the sender publishes its keys, so that no secret is needed."""
        return bool(self.row.certificate or (self.row.algorithm == JWT and self.row.jwt.jwks))

    def _make_ring(self) -> Callable[[InboundRequest, datetime], Sequence[Key[VerifyingKey]]]:
        """What gives the keys to try for a request; sources whose keys are not fetched pay nothing for those that are."""
        row = self.row
        if row.algorithm == JWT:
            require_jwt()
            fetched = KeySet(row.jwt.jwks, row.jwt.algorithms, Fetcher(self.name)) if row.jwt.jwks else None
            self._proof.jwt = JwtProof(row.jwt, fetched.keys if fetched is not None else None, row.tolerance)
        if row.certificate:
            return Certificates(row, Fetcher(self.name)).keys
        if row.algorithm in RSA:
            return lambda request, now: within_dates(self.keys.current(request), now)
        return lambda request, now: self.keys.current(request)

    @property
    def samples(self) -> Sequence[Sample]:  # type: ignore[override]
        """One that is made of its row, where that is the source's own; the others are kept by scheme."""
        if self.row.name not in ("custom", "hmac"):
            return ()
        made = made_sample(self)
        return () if made is None else (made,)

    def labels(self) -> Sequence[str]:
        """Of the keys that are held now."""
        return [key.label for key in self.keys.current()]

    @property
    def key_problem(self) -> str:
        """Why the file of keys could not be read again; "" where nothing is wrong."""
        return self.keys.problem

    def more_problems(self) -> list[str]:
        """Read what only a subclass knows; what is wrong with it, each naming the source. Called within the constructor."""
        return []

    # -- at start --------------------------------------------------------------------------------------

    def _own_row(self, row: Scheme) -> tuple[Scheme, list[str]]:
        """The row with this source's options in it, and what is wrong with them."""
        settings = self.settings
        asks_for_token = row.handshake in handshakes.BY_GET or "handshake" in settings.options or row.greetings
        own = (
            COMMON_OPTIONS | self.own_options | manners.OPTIONS | ({"verify_token"} if asks_for_token else frozenset())
        )
        settable = READING_OPTIONS | (ROW_OPTIONS if row.name in ("custom", "hmac") else frozenset())
        row, found = with_options(row, {k: v for k, v in settings.options.items() if k not in own}, settable)
        row = replace(
            row,
            tolerance=row.tolerance if settings.tolerance is None else settings.tolerance,
            tolerance_ahead=row.tolerance_ahead if settings.tolerance_ahead is None else settings.tolerance_ahead,
        )
        return row, found

    def _setting_problems(self) -> list[str]:
        row, options = self.row, self.settings.options
        found = []
        if row.tolerance <= timedelta(0) or row.tolerance_ahead < timedelta(0):
            found.append("tolerance must be more than 0 s and tolerance_ahead at least 0 s")
        if options.get("dedup", "id") not in DEDUP_KEYS:
            found.append(f"dedup is {shown(options['dedup'])}; it must be one of {', '.join(DEDUP_KEYS)}")
        found += _bound_problems(options)
        if "verify_token" in options and not _texts(options["verify_token"]):
            found.append("verify_token must be text (or a list of texts) that is not blank")
        if row.needs_url and not self.settings.public_url:
            found.append(f"scheme {row.name!r} signs the URL; set public_url to the address that the sender calls")
        if not row.signs_whole_body and not self.settings.accept_unsigned_body:
            found.append(
                f"scheme {row.name!r} does not sign the whole body, so a client that sees one request can make others; "
                "set accept_unsigned_body = true if you accept that"
            )
        return found

    def _decode_signing_key(self) -> VerifyingKey | None:
        text = self.settings.options.get("signing_key")
        if text is None:
            return None
        if not isinstance(text, str) or self.row.algorithm not in (*PUBLIC_KEY_ALGORITHMS, JWT):
            raise ConfigurationError(
                f"source {self.name!r}: signing_key is for schemes with public keys, and is text; leave it out"
            )
        try:
            return self._decoder.decode_signing_key(text)
        except ValueError as error:
            raise ConfigurationError(f"source {self.name!r}: signing_key {error}") from None

    def _dedup_rule(self) -> str:
        rule = self.settings.options.get("dedup")
        if isinstance(rule, str):
            return rule
        if self.row.dedup:
            return self.row.dedup
        if not self.row.signs_whole_body:
            return "both"
        if not self.row.id:
            return "body"
        return "id" if self.row.signs_id else "both"

    def _take_bounds(self, rule: str) -> None:
        """Forget keys, and bound equal bodies under keys that are not signed, as options and row say."""
        options = self.settings.options
        self.dedup_for = read_duration(options["dedup_for"]) if "dedup_for" in options else None
        is_open = rule == "none" or (rule != "body" and self.row.signs_whole_body and not self.row.signs_id)
        self.equal_bodies = options.get("equal_bodies", EQUAL_BODIES) if is_open else 0

    # -- verify, parse, read ---------------------------------------------------------------------------

    @property
    def tolerance(self) -> timedelta | None:
        """How old a signature may be; None where the row signs no time."""
        return self.row.tolerance if "{timestamp}" in self.row.signed else None

    def verify(self, request: InboundRequest, now: datetime) -> Verified:
        """See `Source.verify`. A file of secrets that changed is read again before a request is refused."""
        try:
            return Verified(self._proof.verify(request, now, self._ring(request, now)))
        except SignatureError:
            if not self.keys.refresh():
                raise
            return Verified(self._proof.verify(request, now, self._ring(request, now)))

    def prove(self, request: InboundRequest, now: datetime, key: VerifyingKey) -> None:
        """Verify with one key, whatever the source holds, and fetch none. Raises SignatureError."""
        proof = self._proof
        if self.row.algorithm == JWT:
            proof = Proof(self.row, self.settings.public_url)
            proof.jwt = JwtProof(self.row.jwt, None, self.row.tolerance)
        proof.verify(request, now, [Key("own", key)])

    def signed_with(self, body: bytes, now: datetime, key: VerifyingKey) -> tuple[bytes, Mapping[str, str]]:
        """(`body`, its headers) as a sender with this key would send them."""
        if self.row.algorithm == JWT:
            token = trial_token(self.row, key, body, now).decode("ascii")
            return body, {**self.row.require, self.row.signature_headers[0]: token}
        if self.row.is_in_body:
            return self._signer.prepare(body, now, key), dict(self.row.require)
        return body, self._signer.sign(body, now, key)

    def signed_text(self, request: InboundRequest, stamp: bytes) -> bytes:
        """What the sender signed. stamp: the time as it was written. Raises SignatureError when a part is missing."""
        return self._proof.signed_text(request, stamp)

    def parse(self, request: InboundRequest) -> Sequence[ParsedEvent]:
        """See `Source.parse`."""
        return self._parser.parse(request)

    def parse_item(self, request: InboundRequest) -> ParsedEvent:
        """See `Source.parse_item`."""
        return self._parser.parse_item(request)

    def read(self, raw: bytes, type: str) -> Content:
        """See `Source.read`."""
        return self._parser.read(raw, type)

    # -- handshakes, sign ------------------------------------------------------------------------------

    def challenge(self, request: InboundRequest, now: datetime) -> Challenge | None:
        """See `Source.challenge`."""
        name = self.row.handshake
        if request.method in self.handshake_methods:
            if request.method == "GET" and name in handshakes.BY_GET:
                return handshakes.BY_GET[name](request.query, self._tokens)
            return self._greeter.unsigned(request)
        if self._greeter.has_signed:
            return self._greeter.signed(request)
        if name not in handshakes.BY_POST:
            return None

        def mac(text: bytes) -> bytes:
            # verified again, to use the very secret that signed: during a rotation the sender knows only that one
            label = self.verify(request, now).label
            key = next(key.value for key in self.keys.current(request) if key.label == label)
            if not isinstance(key, keys.MacKey):
                raise ChallengeFailed(f"scheme {self.row.name!r} has no shared key to answer with")
            return key.mac(text)

        return handshakes.answer_post(name, request.body, mac)

    def unsigned(self, request: InboundRequest) -> Challenge | None:
        """See `Source.unsigned`."""
        return self._greeter.unsigned(request)

    def brought_secret(self, request: InboundRequest) -> str | None:
        """See `Source.brought_secret`."""
        return self._greeter.brought(request)

    def welcome(self, secret: str) -> Challenge:
        """See `Source.welcome`."""
        return self._greeter.welcome(secret)

    def prepare(self, body: bytes, now: datetime) -> bytes:
        """See `Source.prepare`."""
        return self._signer.prepare(body, now, self.signing_key) if self.row.is_in_body else body

    def sign(self, body: bytes, now: datetime) -> Mapping[str, str]:
        """See `Source.sign`. Raises ConfigurationError where there is no key of ours."""
        if any(place.startswith("query:") for place in self.row.signature):
            return dict(self.row.require)
        if self.row.is_in_body:
            return dict(self.row.require)
        return self._signer.sign(body, now, self.signing_key)

    @property
    def signing_key(self) -> VerifyingKey:
        """The key that signs for the sender: the option `signing_key`, else the first. Raises ConfigurationError."""
        if self._signing_key is not None:
            return self._signing_key
        current = self.keys.current()
        if not current:
            raise ConfigurationError(f"source {self.name!r} has only the secrets of secrets_from, and cannot sign")
        return current[0].value

    def diagnose(self, request: InboundRequest, now: datetime, others: Sequence[Source] = ()) -> str:
        """See `Source.diagnose`."""
        return diagnosis.diagnose(self, request, now, others, self._proof.facts(request, self.keys.secrets))


def _bound_problems(options: Mapping[str, Any]) -> list[str]:
    """What is wrong with `dedup_for` and `equal_bodies`."""
    found = []
    if "dedup_for" in options:
        try:
            if read_duration(options["dedup_for"]) <= timedelta(0):
                found.append("dedup_for must be more than 0 s; dedup = 'none' takes every request for a new event")
        except ValueError as error:
            found.append(f"dedup_for is {shown(options['dedup_for'])}: {error}")
    limit = options.get("equal_bodies", 1)
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= 100_000:
        found.append("equal_bodies must be a whole number from 1 to 100000; dedup = 'body' takes no equal body twice")
    return found


def _no_secrets(_request: InboundRequest) -> Sequence[Secret]:
    return ()


def _texts(value: Any) -> tuple[str, ...]:
    """One text or several that are not blank; empty for anything else."""
    texts = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else ()
    return texts if all(isinstance(text, str) and text.strip() for text in texts) else ()
