"""Take verified events in, exactly once per dedup key and revision.

`Ingest.accept` turns a request into receipts; `Ingest.record` is its second half, used by catch-up and by quarantine.
When either returns, event, dedup entry and one delivery per matching handler are in the database, committed
together (`group_commit`). Waking the workers is the commit's own and may get lost without harm.

Not here: how a sender signs (`sources`), which handlers subscribe (`routing`), SQL (`store.intake`), running handlers
(`delivery`), traces of requests that are not accepted (`refusals`).
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from webhooks import signals
from webhooks.errors import (
    DatabaseRefused,
    Malformed,
    PartlyMalformed,
    RowRefused,
    SignatureError,
    StorageUnavailable,
    UnknownSource,
)
from webhooks.forks import PerProcess
from webhooks.formats import one_line
from webhooks.intake.aside import SetAside
from webhooks.intake.group_commit import GroupCommit
from webhooks.intake.headers import kept_headers, stored_headers
from webhooks.intake.keys import require_storable
from webhooks.intake.observations import KeyUseRecorder, RejectionSampler
from webhooks.intake.overload import DatabaseTrouble, InFlight
from webhooks.intake.refusals import Refusals
from webhooks.intake.replies import ReplyRunner
from webhooks.model import (
    Challenge,
    Disposition,
    Event,
    InboundRequest,
    OddItem,
    Origin,
    ParsedEvent,
    Receipt,
    Verified,
    new_id,
)
from webhooks.routing import Handler, Registry, ordering_failed, ordering_key
from webhooks.sources import Source
from webhooks.store import Store
from webhooks.store.intake import Bound, Item, Routed
from webhooks.tracing import Tracing

logger = logging.getLogger(__name__)

#: Seconds for which a trial write that succeeded is believed.
TRY_EVERY = 5.0
#: Seconds between two looks whether an operator listens for a source, in one process.
LISTEN_EVERY = 1.0
_DUPLICATE = Disposition.DUPLICATE


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of one request. quarantine_id: set when the body was kept unread. events: those that were read."""

    receipts: tuple[Receipt, ...] = ()
    quarantine_id: int | None = None
    challenge: Challenge | None = None
    events: Sequence[ParsedEvent] = ()


class Ingest:
    """Verifies, reads, routes and records. Shared by all requests of a process.

    sources: {name: source}.
    clock: aware UTC now.
    refusals: what leaves a trace of requests that are not accepted; told by the code that answers them.
    rejections, key_uses: what keeps a sample of requests, and when a key was last used; both never raise and never wait.
    in_flight: requests of one source that may be under way at once in this process.
    run: how a write beside the commit is called: under gevent in a native thread when it would block the hub.
    tracing: opens the spans of requests; None opens none.
    replies: calls what the user's `@reply` functions are.
    """

    def __init__(
        self,
        *,
        sources: Mapping[str, Source],
        registry: Registry,
        store: Store,
        clock: Callable[[], datetime],
        commit: GroupCommit,
        refusals: Refusals | None = None,
        rejections: RejectionSampler | None = None,
        key_uses: KeyUseRecorder | None = None,
        in_flight: int = 256,
        run: Callable[[Callable[[], int]], int] = lambda write: write(),
        tracing: Tracing | None = None,
        replies: ReplyRunner | None = None,
    ) -> None:
        self.sources = sources
        self.registry = registry
        self.store = store
        self.clock = clock
        self.commit = commit
        self.refusals = refusals if refusals is not None else Refusals(sources.keys(), clock=clock)
        self._rejections = rejections
        self._key_uses = key_uses
        self._run = run
        self._listened: dict[str, float] = {}
        self._aside = SetAside(store, self.refusals, rejections, run)
        self._tracing = tracing
        self.replies = replies if replies is not None else ReplyRunner()
        self.trouble = DatabaseTrouble()
        self._tried = float("-inf")
        self._in_flight_limit = in_flight
        self._foreign_keys: set[tuple[str, str]] = set()
        self._in_flight = PerProcess(lambda: InFlight(sources))

    def source(self, name: str) -> Source:
        """The source of that name. Raises `UnknownSource`."""
        try:
            return self.sources[name]
        except KeyError:
            configured = ", ".join(self.sources) or "none"
            raise UnknownSource(f"no source is named {one_line(name, 64)!r}; configured: {configured}") from None

    def challenge(self, source: Source, request: InboundRequest) -> Challenge | None:
        """Answer a handshake that is no delivery; None when the request is none. Raises `Rejected`."""
        return source.challenge(request, self.clock())

    def accept(self, source: Source, request: InboundRequest) -> Accepted:
        """Accept one request to `source`: verify, parse, route, commit.

        Raises `Rejected` (with its status) for what is the sender's fault and `StorageUnavailable` when it could not be
        stored, or its outcome is unknown. Leaves no trace of either: that is for the code that answers (`refusals`).
        """
        in_flight = self._in_flight.get()
        in_flight.enter(source.name, self._in_flight_limit)
        try:
            since = time.time_ns() if self._tracing is not None else 0
            now = self.clock()
            try:
                verified = source.verify(request, now)
            except SignatureError as error:
                return self._unsigned(source, request, error)
            if self._tracing is None:
                return self._accept_verified(source, request, verified, now, {})
            with self._tracing.receive(source.name, request, since) as span:
                context = self._tracing.to_store(span)
                accepted = self._accept_verified(source, request, verified, now, context)
                self._tracing.accepted(span, accepted.receipts)
                return accepted
        except StorageUnavailable as error:
            self.trouble.note(error)
            raise
        finally:
            in_flight.leave(source.name)

    def _unsigned(self, source: Source, request: InboundRequest, error: SignatureError) -> Accepted:
        """Answer first words that their sender does not sign. Raises `error` for every other request."""
        challenge = source.unsigned(request)
        if challenge is not None:
            return Accepted(challenge=challenge)
        if source.takes_secret:
            secret = source.brought_secret(request)
            if secret is not None and self._takes(source.name, secret, request):
                return Accepted(challenge=source.welcome(secret))
        raise error

    def _takes(self, source: str, secret: str, request: InboundRequest) -> bool:
        """Whether an operator listens for this source and this is the first that came. Asks at most once a second."""
        now = time.monotonic()
        if now - self._listened.get(source, float("-inf")) < LISTEN_EVERY:
            return False
        self._listened[source] = now
        agent = (request.headers.one("user-agent") or b"").decode("latin-1")
        forwarded = (request.headers.one("x-forwarded-for") or b"").decode("latin-1")
        sender = one_line(f"{agent or 'no user agent'}{f', forwarded for {forwarded}' if forwarded else ''}", 200)
        return bool(self._run(lambda: int(self.store.registrations.offer(source, secret, sender))))

    def _accept_verified(
        self, source: Source, request: InboundRequest, verified: Verified, now: datetime, context: Mapping[str, str]
    ) -> Accepted:
        """Accept a request whose signature is right. context: of its trace, stored beside the headers of its events."""
        challenge = source.challenge(request, now)
        if self._key_uses is not None:
            self._key_uses.key_used(source.name, verified.label, now)
        if challenge is not None:
            return Accepted(challenge=challenge)
        odd: Sequence[ParsedEvent | OddItem] = ()
        try:
            parsed = self._parse(source, request, verified)
        except PartlyMalformed as error:
            if source.settings.on_unparseable == "reject":
                raise
            odd = error.found
            parsed = [each for each in odd if isinstance(each, ParsedEvent)]
        except Malformed as error:
            return Accepted(quarantine_id=self._aside.unreadable(source, request, verified, error, now))
        try:
            receipts = self.record(
                source,
                parsed,
                received_at=now,
                key_label=verified.label,
                request_id=request.id,
                headers=stored_headers(request.headers, source, context),
            )
        except RowRefused as error:
            return Accepted(quarantine_id=self._aside.refused_by_database(source, request, verified, error, now))
        if odd:
            return Accepted(self._aside.with_odd(source, request, verified, odd, receipts, now), events=parsed)
        if receipts and receipts[0].status is _DUPLICATE:
            self._sample_duplicate(source, request, receipts, now)
        return Accepted(tuple(receipts), events=parsed)

    def reply(self, source: Source, request: InboundRequest, accepted: Accepted) -> Challenge | None:
        """What a reply of the user's says of an accepted request; None is the default answer. Raises nothing, and waits a bounded time."""
        reply = self.registry.replies.find(source.name, accepted.events[0].type) if accepted.events else None
        if reply is None:
            return None
        return self.replies.answer(reply, _first_event(source, request, accepted, self.clock()), request.id)

    def require_writable(self) -> None:
        """Raise `StorageUnavailable` when events cannot be stored: a trial write fails, or the latest event was refused."""
        if (refused := self.trouble.refused) is not None:
            raise DatabaseRefused(refused)
        now = time.monotonic()
        if now - self._tried < TRY_EVERY:
            return
        self.store.intake.try_write()
        self._tried = now

    def record(
        self,
        source: Source,
        parsed: Sequence[ParsedEvent],
        *,
        received_at: datetime,
        origin: Origin = Origin.WEBHOOK,
        key_label: str = "",
        request_id: str = "",
        headers: str = "",
    ) -> list[Receipt]:
        """Route and commit events that are known to be the sender's; one receipt each, in one transaction.

        received_at: an aware UTC instant.
        key_label: which of the source's keys verified them.
        request_id: of the request that brought them; "" for events that no request brought.
        headers: as `stored_headers` writes them.

        Raises `StorageUnavailable`, or what the database says when it refuses a row.
        """
        if not parsed:
            return []
        items = [self._item(source, event, received_at, origin, key_label, request_id, headers) for event in parsed]
        receipts = self.commit.append(items)
        self.trouble.clear()
        _announce(source, items, receipts)
        return receipts

    # -- the steps -----------------------------------------------------------------------------------------

    def _item(
        self,
        source: Source,
        parsed: ParsedEvent,
        received_at: datetime,
        origin: Origin,
        key_label: str,
        request_id: str,
        headers: str,
    ) -> Item:
        event_id = new_id()
        handlers = self.registry.route(source.name, parsed.type)
        ordering = parsed.ordering
        return Item(
            event_id=event_id,
            source=source.name,
            dedup_key=parsed.dedup_key,
            revision=parsed.revision,
            type=parsed.type,
            occurred_at=parsed.occurred_at or received_at,
            received_at=received_at,
            body=parsed.body,
            digest=hashlib.blake2b(parsed.compared or parsed.body, digest_size=16).digest()
            if parsed.revision == 0
            else b"",
            object_id=ordering.get("object_id", ""),
            group_id=ordering.get(source.group_name, ""),
            origin=origin,
            key_label=key_label,
            request_id=request_id,
            headers=headers,
            routes=tuple([self._route(handler, source, parsed, event_id, received_at) for handler in handlers])
            if handlers
            else (),
            bound=_bound(source, received_at) if source.equal_bodies or source.dedup_for else None,
        )

    def _route(
        self, handler: Handler, source: Source, parsed: ParsedEvent, event_id: int, received_at: datetime
    ) -> Routed:
        if handler.lane_by is None:
            return Routed(new_id(), handler.name)
        try:
            lane = ordering_key(
                handler.lane_by,
                parsed.ordering.get,
                lambda: event_of(source, parsed, event_id, received_at),
                handler.name,
            )
        except Exception as error:
            # it never fails ingest: the delivery is dead from the start, and requeue computes the key again
            return Routed(new_id(), handler.name, error=ordering_failed(error))
        return Routed(new_id(), handler.name, lane)

    def _parse(self, source: Source, request: InboundRequest, verified: Verified) -> Sequence[ParsedEvent]:
        """The events of a verified request. Raises `Malformed`, also for what could not be stored."""
        parsed = source.parse(request)
        for event in parsed:
            try:
                require_storable(event)
            except Malformed as error:
                if len(parsed) == 1:
                    raise
                odd = [_storable_or_odd(each) for each in parsed]
                if all(isinstance(each, OddItem) for each in odd):
                    raise
                raise PartlyMalformed(odd) from error
            if event.subscription is not None and event.subscription != verified.label:
                self._warn_of_foreign_key(source.name, verified.label, event.subscription)
        return parsed

    def _sample_duplicate(
        self, source: Source, request: InboundRequest, receipts: Sequence[Receipt], now: datetime
    ) -> None:
        """Keep the id of a request that brought nothing new: no event has it, and the sender may ask for it."""
        if self._rejections is not None and all(receipt.status is _DUPLICATE for receipt in receipts):
            self._rejections.duplicate(source.name, request, receipts[0].event_id, now)

    def _warn_of_foreign_key(self, source: str, label: str, subscription: str) -> None:
        """Warn, once a process, of a key that is labelled with another subscription than the one that sent."""
        pair = (label, subscription)
        if label.isdigit() or pair in self._foreign_keys:  # numbered secrets have no label of their own
            return
        if len(self._foreign_keys) < 1000:
            self._foreign_keys.add(pair)
        logger.warning(
            "source %r: the key labelled %r verified an event of subscription %r; correct the label, or `webhooks doctor`",
            source,
            one_line(label),
            one_line(subscription),
            extra={"source": source},
        )


_SIGNALS = {
    Disposition.STORED: signals.event_stored,
    Disposition.DUPLICATE: signals.event_duplicate,
    Disposition.REVISION: signals.event_revision,
    Disposition.STALE: signals.event_stale,
}


def _announce(source: Source, items: Sequence[Item], receipts: Sequence[Receipt]) -> None:
    for item, receipt in zip(items, receipts, strict=True):
        signal = _SIGNALS[receipt.status]
        if signal.receivers:
            signals.emit(
                signal,
                source.name,
                event_id=receipt.event_id,
                type=item.type,
                dedup_key=item.dedup_key,
                conflict=receipt.conflict,
                delivery_ids=receipt.delivery_ids,
                request_id=item.request_id,
            )


def _bound(source: Source, received_at: datetime) -> Bound:
    """What a source asks of the log beyond its key."""
    return Bound(received_at - source.dedup_for if source.dedup_for is not None else None, source.equal_bodies)


def _storable_or_odd(event: ParsedEvent) -> ParsedEvent | OddItem:
    try:
        require_storable(event)
    except Malformed as error:
        return OddItem(event.body, error.reason, error.kind)
    return event


def _first_event(source: Source, request: InboundRequest, accepted: Accepted, received_at: datetime) -> Event:
    """The first event of an accepted request, as it is stored."""
    id = next((receipt.event_id for receipt in accepted.receipts if receipt.event_id is not None), 0)
    event = event_of(source, accepted.events[0], id, received_at)
    kept = kept_headers(request.headers, source)
    return replace(event, headers=kept, request_id=request.id)


def event_of(source: Source, parsed: ParsedEvent, event_id: int, received_at: datetime) -> Event:
    """The event as handlers would see it, before it is stored."""
    return Event(
        id=event_id,
        source=source.name,
        type=parsed.type,
        dedup_key=parsed.dedup_key,
        raw=parsed.body,
        occurred_at=parsed.occurred_at or received_at,
        received_at=received_at,
        revision=parsed.revision,
        reader=source.read,
    )
