"""Take verified events in, exactly once per dedup key and revision.

`Ingest.accept` turns a request into receipts; `Ingest.record` is its second half, used by catch-up and by quarantine.
When either returns, event, dedup entry and one delivery per matching handler are in the database, committed
together. Waking the workers comes after and may get lost without harm.

`GroupCommit` lets requests that arrive together share one transaction, without a thread or a timer of its own: the
first to wait commits for all that wait, then hands over to the next. It never waits for company; but where a commit has
to wait for its turn, as SQLite's writers do, whoever comes meanwhile belongs to it.

Not here: how a sender signs (`sources`), who subscribes (`routing`), SQL (`store.intake`), running handlers (`delivery`).
"""

from __future__ import annotations

import collections
import contextlib
import functools
import hashlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec

from webhooks import signals
from webhooks.errors import (
    DatabaseRefused,
    Malformed,
    Overloaded,
    RowRefused,
    StorageUnavailable,
    UnknownSource,
)
from webhooks.forks import PerProcess, process
from webhooks.formats import one_line
from webhooks.intake.refusals import Refusals
from webhooks.model import (
    Challenge,
    Event,
    Headers,
    InboundRequest,
    Origin,
    ParsedEvent,
    Receipt,
    ReceiptStatus,
    Verified,
    new_id,
)
from webhooks.routing import Handler, Registry, ordering_failed, ordering_key
from webhooks.sources import Source
from webhooks.store import Store
from webhooks.store.intake import ORIGINS, Item, Routed, with_new_ids

logger = logging.getLogger(__name__)

#: No request waits longer than this for its commit; views answers within 2.5 s of its arrival.
DEADLINE = timedelta(seconds=2.2)
#: Seconds for which a trial write that succeeded is believed.
TRY_EVERY = 5.0
#: At most this many events share a transaction.
LARGEST_BATCH = 256
#: One rule on both databases: ids, types and keys longer than this are quarantined.
LONGEST_KEY_BYTES = 255

#: Request headers that are never stored: credentials, and what a server or proxy adds.
_NOT_STORED = frozenset(
    (
        *(
            "authorization",
            "proxy-authorization",
            "cookie",
            "host",
            "connection",
            "content-length",
            "transfer-encoding",
        ),
        *("accept", "accept-encoding", "forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"),
        *("x-forwarded-port", "x-real-ip"),
    )
)
_encode_json = msgspec.json.Encoder().encode


class Engine(Protocol):
    """Whoever runs committed deliveries besides our own workers; a hint, and losing it costs delay only."""

    def notify(self, delivery_ids: Sequence[int]) -> None: ...


class Notes(Protocol):
    """Whoever writes down what is worth knowing beside the events, after the answer; never raises, never waits."""

    def quarantined(self, source: str, request: InboundRequest, id: int, now: datetime) -> None: ...

    def key_used(self, source: str, label: str, now: datetime) -> None: ...


# -- group commit ------------------------------------------------------------------------------------------


class _Entry:
    """The items of one request on their way to a commit.

    Its request waits on a bare lock: an Event costs three of them, and under threads half of what group commit costs.
    """

    __slots__ = ("_latch", "error", "is_awake", "items", "leads", "receipts", "since", "taken")

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self.since = time.monotonic()
        self.receipts: list[Receipt] | None = None
        self.error: BaseException | None = None
        self.leads = False  # promoted: this request commits the next batch
        self.taken = False  # part of a batch: its outcome is decided by that batch's leader
        self.is_awake = False
        self._latch = threading.Lock()
        self._latch.acquire()

    def wake(self) -> None:
        """Let its request go on; once, by whoever decided what becomes of it."""
        self.is_awake = True
        self._latch.release()

    def wait(self, seconds: float) -> None:
        self._latch.acquire(timeout=seconds)


#: Gives the batch, and closes it.
Gather = Callable[[], Sequence[Item]]
#: Commits what `Gather` gives in one transaction, within the time given. It calls it once, when nothing is left to wait
#: for but the commit itself.
Record = Callable[[Gather, timedelta], list[Receipt]]


class GroupCommit:
    """One transaction for all requests that wait; correct under sync, threads and gevent.

    record: commits the batch that it is given to gather, raising `StorageUnavailable` when the outcome is a "no" or unknown.
    capacity: requests that may wait in this process; more are `Overloaded`. run: how `record` is called: under gevent
    in a native thread when it would block the hub. judge: asked about one request's items that were refused alone; raises
    when the database, and not the row, is at fault.
    """

    def __init__(
        self,
        record: Record,
        *,
        capacity: int = 512,
        deadline: timedelta = DEADLINE,
        largest_batch: int = LARGEST_BATCH,
        run: Callable[[Record, Gather, timedelta], list[Receipt]] | None = None,
        judge: Callable[[Sequence[Item], timedelta], None] = lambda items, patience: None,
    ) -> None:
        self._record = record
        self._judge = judge
        self._capacity = capacity
        self._deadline = deadline.total_seconds()
        self._largest = largest_batch
        self._run = run or (lambda record, gather, patience: record(gather, patience))
        self._door = PerProcess(_native_lock)
        self.after_fork()

    def after_fork(self) -> None:
        """Begin with an empty queue: whoever waited in the parent of this process waits there."""
        self._lock = _native_lock()
        self._queue: collections.deque[_Entry] = collections.deque()
        self._has_leader = False
        self._process = process()

    def append(self, items: Sequence[Item]) -> list[Receipt]:
        """Commit `items` together (they are one request's), perhaps with others'; one receipt each.

        Raises `Overloaded` when too many wait, `StorageUnavailable` when nothing is known to be committed, and what the
        database says when it refuses one of these very items.
        """
        entry = _Entry(items)
        if self._process != process():
            with self._door.get():
                if self._process != process():
                    self.after_fork()
        with self._lock:
            if len(self._queue) >= self._capacity:
                raise Overloaded(f"{self._capacity} requests wait for a commit already")
            self._queue.append(entry)
            if not self._has_leader:
                self._has_leader = entry.leads = True
        if not entry.leads:
            self._follow(entry)
        if entry.leads:
            self._lead(entry)
        if entry.error is not None:
            raise entry.error
        assert entry.receipts is not None
        return entry.receipts

    def _follow(self, entry: _Entry) -> None:
        try:
            entry.wait(self._deadline)
        except BaseException:  # our request was ended from outside: do not take the lead away with it
            self._leave(entry)
            raise
        if entry.is_awake:
            return
        self._leave(entry)
        if entry.receipts is None and entry.error is None:
            entry.error = StorageUnavailable("the commit took too long; its outcome is unknown")

    def _leave(self, entry: _Entry) -> None:
        """Stop waiting: out of the queue, and the lead, if it came at the last moment, to the next."""
        with self._lock:
            if entry.leads and not entry.taken:
                entry.leads = False
                with contextlib.suppress(ValueError):
                    self._queue.remove(entry)
                self._promote()
            elif not entry.taken:
                with contextlib.suppress(ValueError):
                    self._queue.remove(entry)

    def _promote(self) -> None:
        """Hand the lead to the eldest who waits; the lock is held."""
        if self._queue:
            successor = self._queue[0]
            successor.leads = True
            successor.wake()
        else:
            self._has_leader = False

    def _lead(self, own: _Entry) -> None:
        batch: list[_Entry] = []
        is_over = False

        def gather() -> list[Item]:
            with self._lock:
                if is_over:
                    return []  # its leader was ended while it waited for its turn; the next one takes them
                self._take(batch)
            return [item for entry in batch for item in entry.items]

        try:
            time.sleep(0)  # whoever is about to join gets the chance, once
            self._commit(own, batch, gather)
        finally:
            # also when this request is ended from outside: nobody may wait for a leader that is gone
            with self._lock:
                is_over = True
            for entry in batch:
                if entry.receipts is None and entry.error is None:
                    entry.error = StorageUnavailable("the commit was interrupted; its outcome is unknown")
                if entry is not own:
                    entry.wake()
            with self._lock:
                if not own.taken:
                    with contextlib.suppress(ValueError):
                        self._queue.remove(own)
                self._promote()

    def _take(self, batch: list[_Entry]) -> None:
        """Move who waits into `batch`, as many as a transaction holds; the lock is held."""
        rows = 0
        while self._queue and (not batch or rows + len(self._queue[0].items) <= self._largest):
            entry = self._queue.popleft()
            entry.taken = True
            rows += len(entry.items)
            batch.append(entry)

    def _left(self, since: float) -> timedelta:
        """What is left for a commit to a request that waits since then; a promoted follower has less."""
        return timedelta(seconds=max(0.1, since + self._deadline - 0.2 - time.monotonic()))

    def _commit(self, own: _Entry, batch: Sequence[_Entry], gather: Gather) -> None:
        """Commit what `gather` moves into `batch`, and give everybody in it receipts or an error."""
        try:
            receipts = self._run(self._record, gather, self._left(own.since))
        except RowRefused as error:
            # and with the row the whole transaction: one bad event must not fail its neighbours
            if len(batch) > 1:
                logger.warning(
                    "%d events are committed one by one, because together they were refused: %s",
                    sum(len(entry.items) for entry in batch),
                    error,
                )
            refused: DatabaseRefused | None = None
            for entry in batch:
                if refused is None:
                    self._commit_alone(entry, own.since)
                    refused = entry.error if isinstance(entry.error, DatabaseRefused) else None
                else:
                    entry.error = refused
            return
        except StorageUnavailable as error:
            # whoever has gathered meanwhile would wait as long for the same answer
            with self._lock:
                waiting = list(self._queue)
                self._queue.clear()
            for entry in (*batch, *waiting):
                entry.error = error
            for entry in waiting:
                if entry is not own:
                    entry.wake()
            return
        except Exception as error:
            for entry in batch or (own,):
                entry.error = error
            return
        start = 0
        for entry in batch:
            entry.receipts = receipts[start : start + len(entry.items)]
            start += len(entry.items)

    def _commit_alone(self, entry: _Entry, since: float) -> None:
        # new ids: two processes may have drawn the same one
        items = [with_new_ids(item) for item in entry.items]
        try:
            try:
                entry.receipts = self._run(self._record, lambda: items, self._left(since))
            except RowRefused:
                self._run(self._judged, lambda: items, self._left(since))
                raise
        except Exception as error:
            entry.error = error

    def _judged(self, gather: Gather, patience: timedelta) -> list[Receipt]:
        self._judge(gather(), patience)
        return []


def _native_lock() -> threading.Lock:
    """A lock between threads of the system also where gevent has patched them; held for moments only.

    Under gevent a batch is gathered in a native thread, which must not touch the locks of greenlets.
    """
    monkey: Any = sys.modules.get("gevent.monkey")
    make: Callable[[], threading.Lock] = monkey.get_original("threading", "Lock") if monkey else threading.Lock
    return make()


# -- trouble -----------------------------------------------------------------------------------------------


class Trouble:
    """Why the database refuses what is written, for `/readyz`. monotonic: seconds, for tests."""

    #: Seconds after which a refusal, nothing stored since, is not news any more.
    LASTS = 30.0

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._refused: tuple[str, float] | None = None

    def note(self, error: StorageUnavailable) -> None:
        """Remember `error` when it is the database's refusal; whoever answers the request logs it (`refusals`)."""
        if isinstance(error, DatabaseRefused):
            self._refused = (error.reason, self._monotonic())

    def clear(self) -> None:
        """Something was stored."""
        if self._refused is not None:
            self._refused = None

    @property
    def refused(self) -> str | None:
        """Why the database refused the latest event, if that is not long ago and none was stored since."""
        refused = self._refused
        return refused[0] if refused is not None and self._monotonic() - refused[1] < self.LASTS else None


# -- ingest ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of one request. quarantine_id: set when the body was kept unread."""

    receipts: tuple[Receipt, ...] = ()
    quarantine_id: int | None = None
    challenge: Challenge | None = None


class Ingest:
    """Verifies, reads, routes and records. Shared by all requests of a process.

    clock: aware UTC now. in_flight: requests of one source that may be under way at once in this process. run: how a
    write beside the commit is called: under gevent in a native thread when it would block the hub.
    """

    def __init__(
        self,
        *,
        sources: Mapping[str, Source],
        registry: Registry,
        store: Store,
        clock: Callable[[], datetime],
        commit: GroupCommit,
        engine: Engine | None = None,
        notes: Notes | None = None,
        refusals: Refusals | None = None,
        in_flight: int = 256,
        run: Callable[[Callable[[], int]], int] = lambda write: write(),
    ) -> None:
        self.sources = sources
        self.registry = registry
        self.store = store
        self.clock = clock
        self.commit = commit
        self.engine = engine
        self.notes = notes
        #: what leaves a trace of requests that are not accepted; told by whoever answers them
        self.refusals = refusals if refusals is not None else Refusals(sources.keys(), clock=clock)
        self._run = run
        self.trouble = Trouble()
        self._tried = float("-inf")
        self._in_flight_limit = in_flight
        self._foreign_keys: set[tuple[str, str]] = set()
        self._in_flight = PerProcess(lambda: _InFlight(sources))

    def source(self, name: str) -> Source:
        """The source of that name. Raises `UnknownSource`."""
        try:
            return self.sources[name]
        except KeyError:
            configured = ", ".join(self.sources) or "none"
            raise UnknownSource(f"no source is named {one_line(name, 64)!r}; configured: {configured}") from None

    def challenge(self, name: str, request: InboundRequest) -> Challenge | None:
        """Answer a handshake by GET; None when this source has none."""
        source = self.source(name)
        return source.challenge(request, self.clock()) if source.has_get_challenge else None

    def accept(self, name: str, request: InboundRequest) -> Accepted:
        """Take one request in: verify, parse, route, commit.

        Raises `Rejected` (with its status) for what is the sender's fault and `StorageUnavailable` when it could not be
        stored, or nobody knows whether it was. Leaves no trace of either: that is for whoever answers (`refusals`).
        """
        source = self.source(name)
        in_flight = self._in_flight.get()
        in_flight.enter(name, self._in_flight_limit)
        try:
            now = self.clock()
            verified = source.verify(request, now)
            challenge = source.challenge(request, now)
            if self.notes is not None:
                self.notes.key_used(name, verified.label, now)
            if challenge is not None:
                return Accepted(challenge=challenge)
            try:
                parsed = source.parse(request)
                for event in parsed:
                    require_storable(event)
                    if event.subscription is not None and event.subscription != verified.label:
                        self._foreign_key(name, verified.label, event.subscription)
            except Malformed as error:
                return self._unreadable(source, request, verified, error, now)
            try:
                receipts = self.record(
                    source,
                    parsed,
                    received_at=now,
                    key_label=verified.label,
                    request_id=request.id,
                    headers=stored_headers(request.headers, source),
                )
            except RowRefused as error:
                # the database refuses these very rows; a 503 would bring them back for days
                logger.error(
                    "the database refused an event of source %r, so its request is quarantined: %s",
                    name,
                    one_line(str(error)),
                    extra={"source": name, "request_id": request.id},
                )
                refused = Malformed(f"the database refused it: {one_line(str(error))}")
                return self._unreadable(source, request, verified, refused, now, keep=True)
            return Accepted(receipts=tuple(receipts))
        except StorageUnavailable as error:
            self.trouble.note(error)
            raise
        finally:
            in_flight.leave(name)

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

        Raises `StorageUnavailable`, or what the database says when it refuses a row.
        """
        if not parsed:
            return []
        items = [
            self._item(source, event, received_at, ORIGINS.index(origin), key_label, request_id, headers)
            for event in parsed
        ]
        receipts = self.commit.append(items)
        self.trouble.clear()
        self._announce(source, items, receipts)
        return receipts

    # -- the steps -----------------------------------------------------------------------------------------

    def _item(
        self,
        source: Source,
        parsed: ParsedEvent,
        received_at: datetime,
        origin: int,
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
            digest=hashlib.blake2b(parsed.body, digest_size=16).digest() if parsed.revision == 0 else b"",
            object_id=ordering.get("object_id", ""),
            lead_id=ordering.get("lead_id", ""),
            origin=origin,
            key_label=key_label,
            request_id=request_id,
            headers=headers,
            routes=tuple([self._route(handler, source, parsed, event_id, received_at) for handler in handlers])
            if handlers
            else (),
        )

    def _route(
        self, handler: Handler, source: Source, parsed: ParsedEvent, event_id: int, received_at: datetime
    ) -> Routed:
        if handler.ordered_by is None:
            return Routed(new_id(), handler.name)
        try:
            lane = ordering_key(
                handler.ordered_by,
                parsed.ordering.get,
                lambda: event_of(source, parsed, event_id, received_at),
                handler.name,
            )
        except Exception as error:
            # it never fails ingest: the delivery is dead from the start, and requeue computes the key again
            return Routed(new_id(), handler.name, error=ordering_failed(error))
        return Routed(new_id(), handler.name, lane)

    def _unreadable(
        self,
        source: Source,
        request: InboundRequest,
        verified: Verified,
        error: Malformed,
        now: datetime,
        keep: bool = False,
    ) -> Accepted:
        if source.settings.on_unparseable == "reject" and not keep:
            raise error
        kept = request.headers.as_text(without=())
        id = self._run(
            lambda: self.store.quarantine.put(
                source.name,
                request.body,
                reason=error.reason,
                kind=error.kind,
                received_at=now,
                headers=_encode_json(kept).decode(),
                query=request.query,
                key_label=verified.label,
                request_id=request.id,
            )
        )
        self.refusals.lines.say(
            (source.name, "quarantined"),
            logging.WARNING,
            f"a signed request of source {source.name!r} cannot be read and is quarantined",
            one_line(error.reason),
            {"source": source.name, "request_id": request.id, "quarantine_id": id, "bytes": len(request.body)},
        )
        if self.notes is not None:
            self.notes.quarantined(source.name, request, id, now)
        signals.emit(
            signals.event_quarantined,
            source.name,
            quarantine_id=id,
            reason=error.reason,
            kind=error.kind,
            request_id=request.id,
        )
        return Accepted(quarantine_id=id)

    def _foreign_key(self, source: str, label: str, subscription: str) -> None:
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

    def _announce(self, source: Source, items: Sequence[Item], receipts: Sequence[Receipt]) -> None:
        ids = [id for receipt in receipts for id in receipt.delivery_ids]
        if ids and self.engine is not None:
            try:
                self.engine.notify(ids)
            except Exception:
                logger.warning("the engine was not notified; workers find the deliveries by themselves", exc_info=True)
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


class _InFlight:
    """How many requests of each source are under way in this process."""

    def __init__(self, sources: Iterable[str]) -> None:
        self._counts = dict.fromkeys(sources, 0)
        self._lock = threading.Lock()

    def enter(self, name: str, limit: int) -> None:
        with self._lock:
            if self._counts[name] >= limit:
                raise Overloaded(f"{limit} requests of source {name!r} are under way already")
            self._counts[name] += 1

    def leave(self, name: str) -> None:
        with self._lock:
            self._counts[name] -= 1


_SIGNALS = {
    ReceiptStatus.STORED: signals.event_stored,
    ReceiptStatus.DUPLICATE: signals.event_duplicate,
    ReceiptStatus.REVISION: signals.event_revision,
    ReceiptStatus.STALE: signals.event_stale,
}


def require_storable(event: ParsedEvent) -> None:
    """Raise `Malformed` for keys that one of the databases could not hold as they are."""
    for what, value in (("id", event.dedup_key), ("type", event.type), *event.ordering.items()):
        try:
            size = len(value) if value.isascii() else len(value.encode())
        except UnicodeEncodeError:
            raise Malformed(f"its {what} holds a lone surrogate") from None
        if not 0 < size <= LONGEST_KEY_BYTES:
            raise Malformed(f"its {what} has {size} bytes; 1 to {LONGEST_KEY_BYTES} are taken")
        if "\0" in value:
            raise Malformed(f"its {what} holds a NUL")
    if not -1 <= event.revision < 2**62:
        raise Malformed("its revision is out of range")


def stored_headers(headers: Headers, source: Source) -> str:
    """The request's headers as JSON, without credentials, signatures and what servers add."""
    kept = headers.as_text(without=_unstored(source.sensitive_headers))
    return _encode_json(kept).decode() if kept else ""


@functools.lru_cache(maxsize=256)
def _unstored(sensitive: frozenset[str]) -> frozenset[str]:
    return _NOT_STORED | sensitive


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
