"""Close as a source: keys, signature and envelope put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar

from webhooks.errors import ConfigurationError, SignatureError
from webhooks.formats import json as jsonio
from webhooks.model import Content, InboundRequest, ParsedEvent, Verified
from webhooks.sources import diagnosis
from webhooks.sources.base import LogKind, SenderWords, Source, SourceSettings
from webhooks.sources.close import envelope, filters, signature
from webhooks.sources.close.api import API_OPTIONS, Api, read_api
from webhooks.sources.close.catalogue import AWAITED, known_types, published_types
from webhooks.sources.keys.keyring import KeyRing, load_provider
from webhooks.sources.remote import Topic

if TYPE_CHECKING:
    from webhooks.formats.redaction import FixtureRules
    from webhooks.sources.close.client import CloseClient

#: Options of `[sources.<name>]`: a look-up of secrets, and what only those need who ask Close's API.
OPTIONS = API_OPTIONS | {"secrets_from"}

#: Webhooks for these wait until no more is consolidated into them; how long is unpublished (a few seconds are seen).
_GROWING = frozenset(("updated", "deleted"))
SETTLING = timedelta(seconds=60)


def words(source: str) -> SenderWords:
    """What messages say of Close. source: the name of the source that they are about."""
    return SenderWords(
        sender="Close",
        no_connection=f"there is no API key; set WEBHOOKS_SOURCES__{source}__API_KEY to have status, types and keys checked",
        no_content="the API key is not an admin's",
        remedy="set an admin's key as api_key",
        no_test="Close sends no test, so for the next event",
    )


class CloseSource(Source):
    """One or more Close subscriptions that post to one URL; each subscription's key under its own label."""

    scheme: ClassVar[str] = "close"
    sensitive_headers: frozenset[str] = frozenset((signature.HASH_HEADER,))
    timestamp_header = signature.TIMESTAMP_HEADER
    log_kind = LogKind.READ_LOG
    #: all that belongs to one lead
    group_name = "lead_id"

    def __init__(self, settings: SourceSettings) -> None:
        super().__init__(settings)
        problems = [
            f"source {settings.name!r}: unknown option {name!r}; scheme 'close' knows {', '.join(sorted(OPTIONS))}"
            for name in sorted(set(settings.options) - OPTIONS)
        ]
        #: where Close's API is, and the key for it, which only `catch-up`, `subscriptions` and `doctor` need
        self.api: Api
        self.api, wrong = read_api(settings.name, settings.options)
        problems += wrong
        self._past = settings.tolerance if settings.tolerance is not None else signature.TOLERANCE
        self._ahead = settings.tolerance_ahead if settings.tolerance_ahead is not None else signature.TOLERANCE_AHEAD
        if self._past <= timedelta(0) or self._ahead < timedelta(0):
            problems.append(
                f"source {settings.name!r}: tolerance must be more than 0 s and tolerance_ahead at least 0 s"
            )
        try:
            self.keys: KeyRing[bytes] = KeyRing(
                settings.name,
                settings.secrets,
                signature.decode_key,
                settings.secret_file,
                load_provider(settings.name, settings.options.get("secrets_from")),
            )
        except ConfigurationError as error:
            problems += error.problems
        if problems:
            raise ConfigurationError(problems)
        self.known_types = known_types() | AWAITED
        #: what a subscription may ask for
        self.published_types = published_types()
        self.words = words(settings.name)

    @property
    def fixture_rules(self) -> FixtureRules:
        """Words of Close's envelope, enumerations and dates."""
        from webhooks.sources.close.redaction import RULES

        return RULES

    @property
    def tolerance(self) -> timedelta:
        """How old a signature may be."""
        return self._past

    def labels(self) -> Sequence[str]:
        """Of the keys that are held now: ids of subscriptions, or what the settings call them."""
        return [key.label for key in self.keys.current()]

    @property
    def key_problem(self) -> str:
        """Why the file of keys could not be read again; "" where nothing is wrong."""
        return self.keys.problem

    def verify(self, request: InboundRequest, now: datetime) -> Verified:
        """Which key made the signature; a file of keys that has changed is read again first. Raises SignatureError."""
        try:
            label = signature.verify(
                request.headers, request.body, self.keys.current(request), now, self._past, self._ahead
            )
        except SignatureError:
            if not self.keys.refresh():
                raise
            label = signature.verify(
                request.headers, request.body, self.keys.current(request), now, self._past, self._ahead
            )
        return Verified(label)

    def parse(self, request: InboundRequest) -> Sequence[ParsedEvent]:
        """The one event of a body. Raises Malformed."""
        return (envelope.parse_delivery(request.body),)

    def read(self, raw: bytes, type: str) -> Content:
        """What a handler sees of a stored body."""
        return envelope.read(raw, type)

    def diagnose(self, request: InboundRequest, now: datetime, others: Sequence[Source] = ()) -> str:
        """Why a request was refused, for people; see `Source.diagnose`."""
        given = request.headers.one(signature.HASH_HEADER)
        timestamp = request.headers.one(signature.TIMESTAMP_HEADER)
        facts = None
        if given is not None and timestamp is not None:
            values = {"timestamp": timestamp, "body": request.body}
            facts = diagnosis.SignatureFacts(
                self.keys.secrets, "hex", "", "sha256", "hex", [given], "{timestamp}{body}", values
            )
        return diagnosis.diagnose(self, request, now, others, facts)

    def sign(self, body: bytes, now: datetime) -> Mapping[str, str]:
        """The headers that Close would add, made with the first key. Raises ConfigurationError when only secrets_from has keys."""
        keys = self.keys.current()
        if not keys:
            raise ConfigurationError(f"source {self.name!r} has only the secrets of secrets_from, and cannot sign")
        return signature.sign(keys[0].value, body, now)

    # -- the event log -------------------------------------------------------------------------------------

    #: how long Close keeps entries
    log_keeps: ClassVar[timedelta] = timedelta(days=30)
    log_by_time: ClassVar[bool] = True
    log_is_ours: ClassVar[bool] = False
    lists_subscriptions: ClassVar[bool] = True

    @property
    def can_connect(self) -> bool:
        """Whether there is an API key, so that catch-up can run by itself."""
        return self.api.key is not None

    def connect(self) -> CloseClient:
        """A client of Close's API. Raises ConfigurationError when there is no key or the extra `http` is missing."""
        from webhooks.sources.calling import log_retries
        from webhooks.sources.close.client import CloseClient

        client = CloseClient(self.api)
        log_retries()
        return client

    def check_key(self, text: str) -> bytes:
        """The bytes of a subscription's key. Raises ValueError, without the value, for what cannot be one."""
        return signature.decode_key(text)

    def is_subscription_id(self, label: str) -> bool:
        """Whether a key's label has the form of a subscription's id."""
        return label.startswith("whsub_")

    def log_body(self, raw: bytes) -> bytes:
        """The body that a webhook of this entry of the event log would have had."""
        return envelope.log_body(raw)

    def parse_log_body(self, body: bytes) -> ParsedEvent:
        """The event of such a body; one that was shown without its content is stripped. Raises Malformed."""
        return envelope.parse_log_body(body)

    def still_grows(self, entry: ParsedEvent, now: datetime) -> bool:
        """Whether Close may still consolidate changes into an entry of its log, and has not sent it yet."""
        return (
            entry.type.rpartition(".")[2] in _GROWING
            and entry.occurred_at is not None
            and now - entry.occurred_at < SETTLING
        )

    def would_send(self, entry: ParsedEvent, topic: Topic) -> bool:
        """Whether a subscription to `topic` brings this event."""
        if topic.type != entry.type:
            return False
        return not topic.filter or filters.lets_through(topic.filter, jsonio.load(entry.body)["event"])
