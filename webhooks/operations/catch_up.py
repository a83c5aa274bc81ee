"""Catch up: read a sender's event log, and take in what never reached us.

`CatchUp.run` reads a window of the log and hands its entries, oldest first, to `Ingest.record`, the path that webhooks
take, so dedup and revisions make every run repeatable. `CatchUpDuty` does so by itself in one elected worker: after a
start, when somebody asked (a resumed subscription), and every hour.

The log is read newest first, so a window is cut into slices, eldest first, each read whole before any of it is handed
over. After each slice the place is remembered: an interrupted run goes on there. The mark, up to where the log was read
without a gap, moves only when a window is complete, and never past an entry that was held back: one that may still
grow, or one that was shown without its content (a key that is not an admin's). The next run begins five minutes
before the mark, because entries can surface late.

What surprises: an entry is not taken in for being in the log, but if a webhook should have brought it: a subscription
of ours asks for its type, or a handler does. A log holds everything that happens in an organization.

Not here: a vendor's HTTP and filters (`sources`), SQL (`store.positions`), subscriptions (`subscriptions`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from webhooks import signals
from webhooks.errors import Malformed, RowRefused, StorageUnavailable, WebhooksError
from webhooks.formats import one_line
from webhooks.intake import Ingest, require_storable
from webhooks.model import Origin, ParsedEvent, Receipt, ReceiptStatus
from webhooks.routing import Registry
from webhooks.sources import (
    ANY_SENDER,
    ApiError,
    ApiMalformed,
    ApiRefused,
    ApiUnavailable,
    LogClient,
    SenderWords,
    SourceWithLog,
    StaleCursor,
    Subscription,
    Topic,
)
from webhooks.store import Store
from webhooks.store.positions import Mark, Seen

logger = logging.getLogger(__name__)

#: Read again before the mark: entries surface late and out of order.
OVERLAP = timedelta(minutes=5)
#: Runs by themselves end so long before now: what is younger is still on its way as a webhook.
FRESH = timedelta(seconds=60)
#: A difference between the clocks that does not count: their headers say whole seconds, and the overlap covers it.
NEGLIGIBLE = timedelta(seconds=5)
#: How often one runs by itself, and again after it failed.
INTERVAL = timedelta(hours=1)
AFTER_FAILURE = timedelta(minutes=5)
#: A start makes a run due, unless one ended this shortly before.
AFTER_START = timedelta(minutes=1)
#: How long the elected process keeps the duty after its last page. Longer than any pause between two.
LEASE = timedelta(minutes=5)
#: The first slice of a window; later ones are longer while few entries are in them.
SLICE = timedelta(hours=1)
SHORTEST_SLICE = timedelta(seconds=1)
#: A slice with more entries or bytes is cut in two.
LARGEST_SLICE = 2_000
LARGEST_SLICE_BYTES = 64 * 2**20
#: Entries committed together.
BATCH = 100
#: How often a slice is begun again because its cursor went stale.
RESTARTS = 3
#: Pages without an entry that are followed before the log is taken for broken.
EMPTY_PAGES = 20


class Busy(WebhooksError):
    """Another process is catching up with the same source."""


# -- the window -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Window:
    """What one run reads. covers_from: the log is known from here on once the window is complete (start and what an
    interrupted run had read before). is_resumed: an interrupted run is gone on with."""

    start: datetime
    until: datetime
    covers_from: datetime
    is_resumed: bool = False


def plan(mark: Mark, since: datetime, until: datetime) -> Window:
    """The window from `since` to `until`, less what an interrupted run has read of it."""
    if mark.window_since is not None and mark.window_at is not None and mark.window_since <= since < mark.window_at:
        start = min(max(since, mark.window_at - OVERLAP), until)
        return Window(start, until, mark.window_since, is_resumed=True)
    return Window(since, until, since)


def believable(mark: Mark, now: datetime) -> Mark:
    """The mark without instants that lie in the future: a wrong clock wrote them, and nobody has read up to there."""
    latest = now + NEGLIGIBLE
    if mark.mark_at is not None and mark.mark_at > latest:
        mark = replace(mark, mark_at=None)
    if mark.window_at is not None and mark.window_at > latest:
        mark = replace(mark, window_since=None, window_until=None, window_at=None)
    return mark


def since_by_itself(mark: Mark, first_webhook_at: datetime | None, now: datetime, keeps: timedelta) -> datetime:
    """Where a run that nobody gave a beginning begins: before the mark, or where we began to receive.

    An installation that never received anything begins now: it does not want a month of the past.
    """
    begin = mark.mark_at or first_webhook_at or now
    return max(begin - OVERLAP, now - keeps)


def moved_mark(mark: Mark, window: Window, *limits: datetime | None) -> datetime | None:
    """Where the mark goes once the window is complete: up to the first of `limits`; None when it stays.

    A window that begins after the mark leaves a gap, so the mark stays before the gap.
    """
    if mark.mark_at is not None and window.covers_from > mark.mark_at:
        return None
    moved = min([window.until, *(limit for limit in limits if limit is not None)])
    return None if mark.mark_at is not None and moved <= mark.mark_at else moved


def is_due(mark: Mark, started_at: datetime, now: datetime) -> bool:
    """Whether a run by itself is due in a process that started at `started_at`.

    A run that ended later than now was timed by a wrong clock: it says nothing of when the next is due.
    """
    if mark.ran_at is None or mark.ran_at > now + NEGLIGIBLE:
        return True
    if mark.requested_at is not None and (mark.error is None or mark.requested_at > mark.ran_at):
        return True
    since_last = now - mark.ran_at
    if mark.error is not None:
        return since_last >= AFTER_FAILURE
    return since_last >= INTERVAL or (mark.ran_at < started_at and since_last >= AFTER_START)


# -- the report -------------------------------------------------------------------------------------------------


@dataclass
class Report:
    """What one run did, or would do (`is_dry`).

    fetched: entries read. chosen: those that a webhook should have brought. added: {type: how many of them had not
    reached us}, later revisions included. duplicates: known already. stale: older than what is known. held: may still
    grow, for the next run. stripped: shown without content and not known in full; the mark stays before them.
    unreadable: quarantined. first_at, last_at: of what was added. mark_at: where the mark is now. gap_from: the mark
    stayed here, because the window began after it. lost_before: the log no longer reaches back to the mark.
    """

    source: str
    since: datetime
    until: datetime
    words: SenderWords = ANY_SENDER
    is_dry: bool = False
    is_resumed: bool = False
    fetched: int = 0
    chosen: int = 0
    added: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    stale: int = 0
    held: int = 0
    stripped: int = 0
    unreadable: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None
    mark_at: datetime | None = None
    gap_from: datetime | None = None
    lost_before: datetime | None = None
    cause: str | None = None
    subscriptions: Sequence[Subscription] | None = None

    @property
    def repaired(self) -> int:
        return self.added.total()

    def note_added(self, entry: ParsedEvent) -> None:
        self.added[entry.type] += 1
        if entry.occurred_at is not None:
            self.first_at = min(self.first_at or entry.occurred_at, entry.occurred_at)
            self.last_at = max(self.last_at or entry.occurred_at, entry.occurred_at)


def likely_cause(report: Report, was_quiet: bool) -> str:
    """Why webhooks did not bring what the log did, in a sentence with its command.

    was_quiet: no webhook came between the first and the last of what was added.
    """
    subscriptions = report.subscriptions
    if subscriptions is None:
        known = "its subscriptions cannot be seen with this API key"
    elif not subscriptions:
        return "no subscription posts to us; make one with: webhooks subscriptions sync"
    else:
        known = "its subscriptions look well"
        for each in subscriptions:
            if not each.is_active:
                reason = f" ({each.pause_reason})" if each.pause_reason else ""
                return (
                    f"subscription {each.id} is {each.status}{reason}, and its queue was emptied; when what stopped it "
                    f"is mended: webhooks subscriptions resume {each.id}"
                )
        topics = frozenset().union(*(each.types for each in subscriptions))
        missing = sorted(set(report.added) - topics)
        if len(missing) == len(report.added):
            shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
            return f"no subscription asks for {shown}; see webhooks subscriptions sync --dry-run"
        for each in subscriptions:
            if each.latest_error:
                return f"{report.words.sender} reports for subscription {each.id}: {each.latest_error}"
    if was_quiet and report.first_at is not None and report.last_at is not None:
        return (
            f"nothing arrived from {_shown(report.first_at)} to {_shown(report.last_at)}: the server was down, could "
            "not be reached, or the subscription was paused"
        )
    return f"unknown: {known}; see webhooks doctor"


# -- one run ----------------------------------------------------------------------------------------------------


class CatchUp:
    """Catches up with one source. Made for each run.

    log: the sender's log. holder: who runs it, for the duty that only one process has. ours: picks the subscriptions
    that post to us. progress: called with the instant up to which the window is read.
    """

    def __init__(
        self,
        source: SourceWithLog,
        log: LogClient,
        *,
        ingest: Ingest,
        store: Store,
        registry: Registry,
        clock: Callable[[], datetime],
        holder: str,
        ours: Callable[[list[Subscription]], list[Subscription]] = lambda every: every,
        progress: Callable[[datetime], None] = lambda at: None,
        largest_slice: int = LARGEST_SLICE,
    ) -> None:
        self._source = source
        self._log = log
        self._ingest = ingest
        self._store = store
        self._registry = registry
        self._clock = clock
        self._holder = holder
        self._ours = ours
        self._progress = progress
        self._largest = largest_slice
        self._topics: Mapping[str, list[Topic]] = {}
        self._takes_all = False
        self._limit_at: datetime | None = None
        self._stripped_at: datetime | None = None
        self._counted: set[tuple[str, int]] = set()

    @property
    def name(self) -> str:
        return self._source.name

    def run(self, since: datetime | None = None, until: datetime | None = None, *, dry_run: bool = False) -> Report:
        """Read the log from `since` (default: before the mark) to `until` (default: now) and take in what is missing.

        dry_run: only count. Raises ApiError and StorageUnavailable, with the mark not moved and the place remembered;
        Busy when another process is at it.
        """
        if dry_run:
            return self._run(since, until, dry_run=True)
        with self._duty():
            try:
                return self._run(since, until, dry_run=False)
            except (ApiError, StorageUnavailable) as error:
                with suppress(StorageUnavailable):
                    self._store.marks.fail(self.name, one_line(str(error)))
                raise

    def _run(self, since: datetime | None, until: datetime | None, *, dry_run: bool) -> Report:
        now = self._clock()
        asked_at = self._store.database.now()
        mark = believable(self._store.marks.get(self.name), now)
        until = min(until or now, now)
        if since is None:
            since = since_by_itself(mark, self._store.marks.first_webhook_at(self.name), now, self._source.log_keeps)
        eldest = now - self._source.log_keeps
        lost = mark.mark_at if mark.mark_at is not None and mark.mark_at < eldest else None
        since = min(max(since, eldest), until)
        window = Window(since, until, since) if dry_run else plan(mark, since, until)
        report = Report(
            self.name,
            window.start,
            until,
            self._source.words,
            is_dry=dry_run,
            is_resumed=window.is_resumed,
            lost_before=lost,
        )
        report.mark_at = mark.mark_at
        self._choose(report)
        if not dry_run:
            self._store.marks.begin(self.name, window.covers_from, until, window.start)
        self._read(window, report, dry_run)
        if report.repaired:
            quiet = report.first_at is not None and self._store.marks.quiet_between(
                self.name, report.first_at, report.last_at or until
            )
            report.cause = likely_cause(report, quiet)
        if dry_run:
            return report
        if lost is not None and window.covers_from == eldest:
            window = replace(window, covers_from=lost)  # nothing older is to be had, so the mark need not wait for it
        moved = moved_mark(mark, window, self._limit_at, self._stripped_at, self._their_now())
        if mark.mark_at is not None and window.covers_from > mark.mark_at:
            report.gap_from = mark.mark_at
        self._store.marks.complete(
            self.name,
            moved,
            asked_at=asked_at,
            repaired=report.repaired,
            stripped_at=self._stripped_at,
            latest=now + NEGLIGIBLE,
        )
        report.mark_at = moved or mark.mark_at
        signals.emit(signals.caught_up, self.name, since=window.start, fetched=report.fetched, stored=report.repaired)
        return report

    def _their_now(self) -> datetime:
        """Now by the sender's clock, where ours is ahead of it: the mark must not be in their future."""
        ahead = self._log.clock_ahead
        return self._clock() - ahead if ahead is not None and ahead > NEGLIGIBLE else self._clock()

    # -- which entries -----------------------------------------------------------------------------------------

    def _choose(self, report: Report) -> None:
        """Learn what our subscriptions ask for. A key that may not see them leaves the choice to the handlers."""
        try:
            found: list[Subscription] | None = self._ours(self._log.subscriptions())
        except ApiRefused as error:
            if error.status == 401:
                raise
            found = None
        report.subscriptions = found
        topics: dict[str, list[Topic]] = {}
        for subscription in found or ():
            for topic in subscription.topics:
                topics.setdefault(topic.type, []).append(topic)
        self._topics = topics
        # neither subscriptions nor handlers to choose by: all of it, as a webhook to us would be
        self._takes_all = not topics and not self._registry.handlers()

    def _is_wanted(self, entry: ParsedEvent) -> bool:
        if self._takes_all:
            return True
        topics = self._topics.get(entry.type)
        if topics is not None:
            return any(self._source.would_send(entry, topic) for topic in topics)
        return bool(self._registry.route(self.name, entry.type))

    # -- reading -----------------------------------------------------------------------------------------------

    def _read(self, window: Window, report: Report, dry_run: bool) -> None:
        at, length = window.start, SLICE
        while True:
            end = min(at + length, window.until)
            entries = self._slice(at, end, report)
            if entries is None:
                length = max((end - at) / 2, SHORTEST_SLICE)
                continue
            self._hand_over(entries, report, dry_run)
            if not dry_run and end > at:
                self._store.marks.reach(self.name, end)
            self._progress(end)
            if end >= window.until:
                return
            at = end
            if len(entries) < self._largest / 4:
                length *= 2

    def _slice(self, since: datetime, until: datetime, report: Report) -> list[ParsedEvent] | None:
        """The entries from `since` to `until`, oldest first; None when there are too many to hold."""
        for restart in range(RESTARTS + 1):
            fetched, unreadable = report.fetched, report.unreadable
            try:
                return self._walk(since, until, report)
            except StaleCursor as error:
                report.fetched, report.unreadable = fetched, unreadable
                if restart == RESTARTS:
                    raise ApiUnavailable(
                        f"the cursor of {self.name}'s event log went stale {restart + 1} times in the window from "
                        f"{_shown(since)} to {_shown(until)} ({error}); run the same again later"
                    ) from error
                logger.info("the cursor of %s's event log went stale; the window begins again", self.name)
        raise AssertionError("the loop returns or raises")

    def _walk(self, since: datetime, until: datetime, report: Report) -> list[ParsedEvent] | None:
        entries: dict[str, ParsedEvent] = {}
        size = empty = 0
        cursor: str | None = None
        fetched, unreadable = report.fetched, report.unreadable
        while True:
            self._keep_duty()
            page = self._log.page(since, until, cursor)
            eldest: datetime | None = None
            for raw in page.entries:
                report.fetched += 1
                entry = self._parse(raw, report)
                if entry is None:
                    continue
                eldest = entry.occurred_at or eldest
                if entry.occurred_at is not None and not since <= entry.occurred_at <= until:
                    continue  # more than was asked for
                known = entries.get(entry.dedup_key)
                if known is None or known.revision < entry.revision:
                    # an entry that grew while we walked stands on two pages
                    entries[entry.dedup_key] = entry
                    size += len(raw)
            empty = 0 if page.entries else empty + 1
            if empty > EMPTY_PAGES:
                raise ApiMalformed(f"the event log of {self.name} answered {empty} pages without an entry in a row")
            if (len(entries) > self._largest or size > LARGEST_SLICE_BYTES) and until - since > SHORTEST_SLICE:
                report.fetched, report.unreadable = fetched, unreadable
                return None
            cursor = page.next
            if cursor is None or (eldest is not None and eldest < since):
                return sorted(entries.values(), key=_place)

    def _parse(self, raw: bytes, report: Report) -> ParsedEvent | None:
        """An entry as an event; None when it cannot be read and is quarantined, as a webhook would be."""
        body = self._source.log_body(raw)
        try:
            entry = self._source.parse_log_body(body)
            require_storable(entry)
            return entry
        except Malformed as error:
            report.unreadable += 1
            if not report.is_dry:
                self._quarantine(body, error)
            return None

    def _quarantine(self, body: bytes, error: Malformed) -> None:
        logger.warning("an entry of %s's event log cannot be read and is quarantined: %s", self.name, error.reason)
        self._store.quarantine.put(
            self.name, body, reason=error.reason, kind=error.kind, received_at=self._clock(), headers=None
        )

    # -- handing over --------------------------------------------------------------------------------------------

    def _hand_over(self, entries: Sequence[ParsedEvent], report: Report, dry_run: bool) -> None:
        wanted = [entry for entry in entries if self._is_wanted(entry)]
        report.chosen += len(wanted)
        ready = []
        for entry in wanted:
            if self._source.still_grows(entry, self._clock()):
                report.held += 1
                self._limit_at = _earlier(self._limit_at, entry.occurred_at)
            else:
                ready.append(entry)
        for start in range(0, len(ready), BATCH):
            batch = ready[start : start + BATCH]
            seen = self._store.marks.seen(self.name, [entry.dedup_key for entry in batch])
            missing = [entry for entry in batch if not self._is_known(entry, seen.get(entry.dedup_key), report)]
            if dry_run:
                for entry in missing:
                    if entry.revision >= 0:
                        self._count(entry, seen.get(entry.dedup_key), report)
            elif missing:
                self._keep_duty()
                self._record(missing, report)

    def _is_known(self, entry: ParsedEvent, seen: Seen | None, report: Report) -> bool:
        """Whether there is nothing to store: the same revision is there, or a full copy of what came stripped."""
        if entry.is_stripped and (seen is None or seen.revision < 0):
            report.stripped += 1
            self._stripped_at = _earlier(self._stripped_at, entry.occurred_at)
            return seen is not None
        if seen is None or not (entry.is_stripped or seen.has(entry.revision)):
            return False
        report.duplicates += 1
        return True

    def _count(self, entry: ParsedEvent, seen: Seen | None, report: Report) -> None:
        """What `_record` would come to."""
        if (entry.dedup_key, entry.revision) in self._counted:
            return  # on the border of two slices
        self._counted.add((entry.dedup_key, entry.revision))
        if seen is not None and seen.revision > entry.revision:
            report.stale += 1
        else:
            report.note_added(entry)

    def _record(self, batch: Sequence[ParsedEvent], report: Report) -> None:
        try:
            receipts = self._store_all(batch)
        except RowRefused as error:
            if len(batch) > 1:
                for entry in batch:
                    self._record([entry], report)
                return
            logger.error("the database refused an entry of %s's event log: %s", self.name, one_line(str(error)))
            report.unreadable += 1
            self._quarantine(batch[0].body, Malformed(f"the database refused it: {one_line(str(error))}"))
            return
        for entry, receipt in zip(batch, receipts, strict=True):
            if entry.is_stripped:
                continue
            if receipt.status in (ReceiptStatus.STORED, ReceiptStatus.REVISION):
                report.note_added(entry)
            elif receipt.status is ReceiptStatus.STALE:
                report.stale += 1
            else:
                report.duplicates += 1  # its webhook came while we read

    def _store_all(self, batch: Sequence[ParsedEvent]) -> list[Receipt]:
        return self._ingest.record(
            self._ingest.source(self.name), batch, received_at=self._clock(), origin=Origin.CATCH_UP
        )

    # -- one at a time -------------------------------------------------------------------------------------------

    @property
    def _duty_name(self) -> str:
        return f"catch-up:{self.name}"

    @contextmanager
    def _duty(self) -> Iterator[None]:
        self._kept_at = 0.0
        self._has_duty = True
        try:
            self._keep_duty()
            yield
        finally:
            self._has_duty = False
            with suppress(StorageUnavailable):
                self._store.processes.resign(self._duty_name, self._holder)

    _has_duty = False
    _kept_at = 0.0

    def _keep_duty(self) -> None:
        if not self._has_duty or (self._kept_at and time.monotonic() - self._kept_at < LEASE.total_seconds() / 5):
            return
        if not self._store.processes.acquire(self._duty_name, self._holder, LEASE):
            raise Busy(
                f"another process is catching up with {self.name!r}; let it finish, or, if it was killed, try again in "
                f"{LEASE.total_seconds() / 60:g} minutes"
            )
        self._kept_at = time.monotonic()


def _place(entry: ParsedEvent) -> tuple[datetime, str]:
    return entry.occurred_at or datetime.min.replace(tzinfo=UTC), entry.dedup_key


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    return other if one is None else one if other is None else min(one, other)


def _shown(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# -- by itself --------------------------------------------------------------------------------------------------


def say(report: Report) -> None:
    """Log what a run came to; silent when there was nothing."""
    extra = {"source": report.source, "action": "catch-up", "repaired": report.repaired}
    if report.repaired:
        types = ", ".join(f"{count} {type}" for type, count in report.added.most_common(5))
        logger.warning("catch-up repaired %d events of %s (%s); likely cause: %s", report.repaired, report.source, types, report.cause, extra=extra)  # fmt: skip
    if report.stripped:
        logger.warning(
            "%d entries of %s's event log came without their content, because %s: they are not delivered, and the mark "
            "waits for them; %s",
            report.stripped,
            report.source,
            report.words.no_content,
            report.words.remedy,
            extra=extra,
        )
    if report.lost_before is not None:
        logger.error(
            "the event log of %s no longer reaches back to the last catch-up at %s: what happened between is lost",
            report.source,
            _shown(report.lost_before),
            extra=extra,
        )


class CatchUpDuty:
    """Runs catch-up by itself in a worker. make: the `CatchUp` of a source and an open client of it.

    `tick` costs a look at the clock, and now and then one at the mark; the run itself has a thread of its own,
    because it may take minutes. Whoever runs holds a duty in the database, so that one process does.
    """

    #: How often the mark is looked at.
    LOOK_EVERY = timedelta(seconds=5)

    def __init__(
        self,
        sources: Sequence[SourceWithLog],
        make: Callable[[SourceWithLog, Any, str], CatchUp],
        store: Store,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sources = list(sources)
        self._make = make
        self._store = store
        self._clock = clock
        self._monotonic = monotonic
        self._started_at: datetime | None = None
        self._looked_at = float("-inf")
        self._thread: threading.Thread | None = None

    def tick(self, holder: str) -> None:
        """Start what is due; called every second or so. Raises StorageUnavailable."""
        now = self._monotonic()
        if now - self._looked_at < self.LOOK_EVERY.total_seconds() or self.is_running:
            return
        self._looked_at = now
        at = self._store.database.now()
        self._started_at = self._started_at or at
        due = [source for source in self._sources if is_due(self._store.marks.get(source.name), self._started_at, at)]
        if due:
            self._thread = threading.Thread(target=self._run, args=(due, holder), name="webhooks-catch-up", daemon=True)
            self._thread.start()

    @property
    def is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def wait(self, timeout: timedelta) -> None:
        """Wait for the run under way, if there is one."""
        if self._thread is not None:
            self._thread.join(timeout.total_seconds())

    def _run(self, sources: Sequence[SourceWithLog], holder: str) -> None:
        for source in sources:
            try:
                with source.connect() as client:
                    say(self._make(source, client, holder).run(until=self._clock() - FRESH))
            except Busy:
                continue
            except (ApiError, StorageUnavailable) as error:
                logger.warning(
                    "catch-up of %s failed and is tried again: %s",
                    source.name,
                    one_line(str(error)),
                    extra={"source": source.name, "action": "catch-up"},
                )
            except Exception:
                logger.exception("catch-up of %s failed", source.name, extra={"source": source.name})
                with suppress(StorageUnavailable):
                    self._store.marks.fail(source.name, "a fault of ours; the log has the traceback")


__all__ = ["Busy", "CatchUp", "CatchUpDuty", "Report", "is_due", "likely_cause", "moved_mark", "plan", "say"]
