"""One run: read a window of a sender's log, and hand what is missing to `Ingest.record`, the path that webhooks take.

`CatchUp.run` plans a `CatchUpRun`, reads its slices, oldest first, and closes its window. After each slice the place is
remembered, so an interrupted run continues there.

Of a sender that is asked again (`LogKind.ASK_AGAIN`) nothing is stored here: what is missing is delivered again at our
request, with the sender's bytes and signature, through the front door.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import cast

from webhooks import signals
from webhooks.errors import Malformed, RowRefused, StorageUnavailable
from webhooks.formats import one_line, shown_instant
from webhooks.intake import Ingest, require_storable
from webhooks.model import Disposition, Origin, ParsedEvent
from webhooks.operations.catch_up.exclusive import Exclusive
from webhooks.operations.catch_up.report import Report, likely_cause
from webhooks.operations.catch_up.slices import MOST_ENTRIES, SHORTEST, Choice, LogEntry, Slice
from webhooks.operations.catch_up.window import (
    NEGLIGIBLE,
    Window,
    believable,
    earlier,
    moved_mark,
    plan,
    since_by_itself,
)
from webhooks.routing import Registry
from webhooks.sources import (
    ApiError,
    ApiMalformed,
    ApiRefused,
    ApiUnavailable,
    AskAgainClient,
    LogClient,
    LogKind,
    NotDeliveredAgain,
    SourceWithLog,
    StaleCursor,
    Subscription,
)
from webhooks.store import Store
from webhooks.store.positions import KnownRevision, LogPosition

logger = logging.getLogger(__name__)

#: The first slice of a window; later ones are longer while few entries are in them.
FIRST_SLICE = timedelta(hours=1)
#: Entries committed together.
BATCH = 100
#: How often a slice is begun again because its cursor went stale.
RESTARTS = 3
#: Pages without an entry that are followed before the log is taken for broken.
EMPTY_PAGES = 20


@dataclass
class CatchUpRun:
    """One run under way: what was decided at its beginning, and what it has come to so far.

    now: by our clock, at its beginning.
    asked_at: the same by the database's; a request made since then stays open.
    mark: as it was.
    window: what is read.
    report: what is told in the end.
    choice: which entries are for us.
    growing_at, stripped_at: the first entry that may still grow, or came without content; the mark stays before it.
    counted: (dedup key, revision) of what a dry run has counted; an entry may stand on the border of two slices.
    """

    now: datetime
    asked_at: datetime
    mark: LogPosition
    window: Window
    report: Report
    choice: Choice
    growing_at: datetime | None = None
    stripped_at: datetime | None = None
    counted: set[tuple[str, int]] = field(default_factory=set)

    def hold_growing(
        self, entries: Sequence[ParsedEvent], still_grows: Callable[[ParsedEvent], bool]
    ) -> list[ParsedEvent]:
        """Those that a webhook should have brought, without those that may still grow, which are held for the next run."""
        wanted = [entry for entry in entries if self.choice.wants(entry)]
        self.report.chosen += len(wanted)
        ready = []
        for entry in wanted:
            if still_grows(entry):
                self.report.held += 1
                self.growing_at = earlier(self.growing_at, entry.occurred_at)
            else:
                ready.append(entry)
        return ready

    def is_known(self, entry: ParsedEvent, seen: KnownRevision | None) -> bool:
        """Whether there is nothing to store: the same revision is there, or a full copy of what came stripped."""
        if entry.is_stripped and (seen is None or seen.revision < 0):
            self.report.stripped += 1
            self.stripped_at = earlier(self.stripped_at, entry.occurred_at)
            return seen is not None
        if seen is None or not (entry.is_stripped or seen.has(entry.revision)):
            return False
        self.report.duplicates += 1
        return True

    def count(self, entry: ParsedEvent, seen: KnownRevision | None) -> None:
        """Count what storing this entry would come to; once."""
        if entry.is_stripped or (entry.dedup_key, entry.revision) in self.counted:
            return
        self.counted.add((entry.dedup_key, entry.revision))
        if seen is not None and seen.revision > entry.revision:
            self.report.stale += 1
        else:
            self.report.note_added(entry)

    def note_stored(self, entry: ParsedEvent, status: Disposition) -> None:
        """Count what storing this entry has come to."""
        if entry.is_stripped:
            return
        if status in (Disposition.STORED, Disposition.REVISION):
            self.report.note_added(entry)
        elif status is Disposition.STALE:
            self.report.stale += 1
        else:
            self.report.duplicates += 1  # its webhook came while we read


class CatchUp:
    """Catches up with one source. Made for each run.

    source: of which the log is read.
    log: an open client of its sender.
    holder: a name of this process: one process at a time reads a log.
    pick: of the subscriptions that the key may see, those that post to us.
    progress: called with the instant up to which the window is read.
    most_entries: a slice with more is cut in two.
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
        pick: Callable[[list[Subscription]], list[Subscription]] = lambda every: every,
        progress: Callable[[datetime], None] = lambda at: None,
        most_entries: int = MOST_ENTRIES,
    ) -> None:
        self.most_entries = most_entries
        self._source = source
        self._log = log
        self._ingest = ingest
        self._store = store
        self._registry = registry
        self._clock = clock
        self._pick = pick
        self._progress = progress
        self._exclusive = Exclusive(store, source.name, holder)

    @property
    def name(self) -> str:
        """Of the source."""
        return self._source.name

    def run(self, since: datetime | None = None, until: datetime | None = None, *, dry_run: bool = False) -> Report:
        """Read the log from `since` (default: before the mark) to `until` (default: now) and accept what is missing.

        dry_run: only count. Raises ApiError and StorageUnavailable, with the mark not moved and the place remembered;
        Busy when another process reads this log.
        """
        if dry_run:
            return self._run(since, until, dry_run=True)
        with self._exclusive.held():
            try:
                return self._run(since, until, dry_run=False)
            except (ApiError, StorageUnavailable) as error:
                with suppress(StorageUnavailable):
                    self._store.marks.fail(self.name, one_line(str(error)))
                raise

    def _run(self, since: datetime | None, until: datetime | None, *, dry_run: bool) -> Report:
        run = self._begin(since, until, dry_run=dry_run)
        for piece in self._slices(run):
            self._hand_over(run, piece)
            if not dry_run and piece.until > piece.since:
                self._store.marks.advance(self.name, piece.until)
            self._progress(piece.until)
        report = run.report
        if report.repaired:
            quiet = report.first_at is not None and self._store.marks.quiet_between(
                self.name, report.first_at, report.last_at or report.until
            )
            report.cause = likely_cause(report, quiet)
        if not dry_run:
            self._complete(run)
        return report

    # -- beginning and end -----------------------------------------------------------------------------------

    def _begin(self, since: datetime | None, until: datetime | None, *, dry_run: bool) -> CatchUpRun:
        """Decide what is read, and, unless it is a dry run, open the window."""
        now = self._clock()
        asked_at = self._store.database.now()
        mark = believable(self._store.marks.get(self.name), now)
        until = min(until or now, now)
        if since is None:
            since = since_by_itself(mark, self._store.marks.first_webhook_at(self.name), now, self._source.log_keeps)
        oldest = now - self._source.log_keeps
        since = min(max(since, oldest), until)
        window = Window(since, until, since) if dry_run else plan(mark, since, until)
        subscriptions = self._subscriptions()
        report = Report(
            self.name,
            window.start,
            until,
            self._source.words,
            is_dry=dry_run,
            is_asked_again=self._source.log_kind is LogKind.ASK_AGAIN,
            is_resumed=window.is_resumed,
            lost_before=mark.mark_at if mark.mark_at is not None and mark.mark_at < oldest else None,
            mark_at=mark.mark_at,
            subscriptions=subscriptions,
        )
        if not dry_run:
            self._store.marks.begin(self.name, window.covers_from, until, window.start)
        return CatchUpRun(
            now, asked_at, mark, window, report, Choice(self._source, self._registry, subscriptions or ())
        )

    def _subscriptions(self) -> list[Subscription] | None:
        """Those that post to us; None when they cannot be seen, which leaves the choice to the handlers."""
        if not self._source.lists_subscriptions:
            return None
        try:
            return self._pick(self._log.subscriptions())
        except ApiRefused as error:
            if error.status == 401:
                raise
            return None

    def _complete(self, run: CatchUpRun) -> None:
        """End the window, and move the mark."""
        mark, window, report = run.mark, run.window, run.report
        if report.lost_before is not None and window.covers_from == run.now - self._source.log_keeps:
            # nothing older is in the log any more, so the mark need not wait for it
            window = replace(window, covers_from=report.lost_before)
        moved = moved_mark(mark, window, run.growing_at, run.stripped_at, self._senders_now())
        if mark.mark_at is not None and window.covers_from > mark.mark_at:
            report.gap_from = mark.mark_at
        self._store.marks.complete(
            self.name,
            moved,
            asked_at=run.asked_at,
            repaired=report.repaired,
            stripped_at=run.stripped_at,
            latest=run.now + NEGLIGIBLE,
        )
        report.mark_at = moved or mark.mark_at
        signals.emit(signals.caught_up, self.name, since=window.start, fetched=report.fetched, stored=report.repaired)

    def _senders_now(self) -> datetime:
        """Now by the sender's clock, where ours is ahead of it: the mark must not be in their future."""
        ahead = self._log.clock_ahead
        return self._clock() - ahead if ahead is not None and ahead > NEGLIGIBLE else self._clock()

    # -- reading ---------------------------------------------------------------------------------------------

    def _slices(self, run: CatchUpRun) -> Iterator[Slice]:
        """The window in slices, oldest first, each read whole."""
        at = run.window.start
        # a log that has to be walked from its newest entry is walked once
        length = FIRST_SLICE if self._source.log_by_time else max(run.window.until - at, SHORTEST)
        while True:
            piece = self._slice(at, min(at + length, run.window.until))
            if piece.is_too_large:
                length = max((piece.until - at) / 2, SHORTEST)
                continue
            run.report.fetched += piece.fetched
            yield piece
            if piece.until >= run.window.until:
                return
            at = piece.until
            if len(piece.entries()) < self.most_entries / 4:
                length *= 2

    def _slice(self, since: datetime, until: datetime) -> Slice:
        """The entries from `since` to `until`; not all of them when it is too large."""
        for restart in range(RESTARTS + 1):
            piece = Slice(since, until, self.most_entries)
            try:
                for passed_over, page in self._walk(since, until):
                    piece.fetched += passed_over
                    piece.add(page)
                    if piece.is_too_large or piece.is_complete:
                        break
                return piece
            except StaleCursor as error:
                if restart == RESTARTS:
                    raise ApiUnavailable(
                        f"the cursor of {self.name}'s event log went stale {restart + 1} times in the window from "
                        f"{shown_instant(since)} to {shown_instant(until)} ({error}); run the same again later"
                    ) from error
                logger.info("the cursor of %s's event log went stale; the window begins again", self.name)
        raise AssertionError("the loop returns or raises")

    def _walk(self, since: datetime, until: datetime) -> Iterator[tuple[int, list[LogEntry]]]:
        """(how many entries were passed over, the others, newest first) of each page from `until` back to `since`."""
        cursor: str | None = None
        empty = 0
        while True:
            self._exclusive.keep()
            page = self._log.page(since, until, cursor)
            empty = 0 if page.entries or page.passed_over else empty + 1
            if empty > EMPTY_PAGES:
                raise ApiMalformed(f"the event log of {self.name} answered {empty} pages without an entry in a row")
            yield page.passed_over, [self._parse(raw) for raw in page.entries]
            if page.next is None:
                return
            cursor = page.next

    def _parse(self, raw: bytes) -> LogEntry:
        body = self._source.log_body(raw)
        try:
            event = self._source.parse_log_body(body)
            require_storable(event)
        except Malformed as error:
            return LogEntry(body, error)
        return LogEntry(body, event)

    # -- handing over ----------------------------------------------------------------------------------------

    def _hand_over(self, run: CatchUpRun, piece: Slice) -> None:
        """Store what of a slice is missing, or count it."""
        for body, error in piece.unreadable:
            self._set_aside(run, body, error)
        ready = run.hold_growing(piece.entries(), lambda entry: self._source.still_grows(entry, self._clock()))
        for start in range(0, len(ready), BATCH):
            batch = ready[start : start + BATCH]
            seen = self._seen([entry.dedup_key for entry in batch])
            missing = [entry for entry in batch if not run.is_known(entry, seen.get(entry.dedup_key))]
            if run.report.is_dry:
                for entry in missing:
                    run.count(entry, seen.get(entry.dedup_key))
            elif missing:
                self._exclusive.keep()
                if self._source.log_kind is LogKind.ASK_AGAIN:
                    self._ask_again(run, missing)
                else:
                    self._record(run, missing)

    def _seen(self, keys: Sequence[str]) -> Mapping[str, KnownRevision]:
        """What is stored of these. A log that holds no bodies tells the sender's id alone, and not the rest of a key."""
        if self._source.log_kind is LogKind.ASK_AGAIN:
            return self._store.marks.seen_ids(self.name, keys)
        return self._store.marks.seen(self.name, keys)

    def _ask_again(self, run: CatchUpRun, missing: Sequence[ParsedEvent]) -> None:
        """Have the sender deliver these again; they arrive as webhooks do."""
        client = cast(AskAgainClient, self._log)
        for entry in missing:
            self._exclusive.keep()
            try:
                client.ask_again(entry)
            except NotDeliveredAgain as error:
                run.report.refused += 1
                logger.warning(
                    "event %s (%s) of %s is not delivered again: %s",
                    one_line(entry.dedup_key),
                    one_line(entry.type),
                    self.name,
                    one_line(str(error)),
                    extra={"source": self.name, "action": "catch-up"},
                )
                continue
            run.count(entry, None)

    def _record(self, run: CatchUpRun, batch: Sequence[ParsedEvent]) -> None:
        try:
            receipts = self._ingest.record(
                self._ingest.source(self.name), batch, received_at=self._clock(), origin=Origin.CATCH_UP
            )
        except RowRefused as error:
            if len(batch) > 1:
                for entry in batch:
                    self._record(run, [entry])
                return
            logger.error("the database refused an entry of %s's event log: %s", self.name, one_line(str(error)))
            self._set_aside(run, batch[0].body, Malformed(f"the database refused it: {one_line(str(error))}"))
            return
        for entry, receipt in zip(batch, receipts, strict=True):
            run.note_stored(entry, receipt.status)

    def _set_aside(self, run: CatchUpRun, body: bytes, error: Malformed) -> None:
        """Count an entry that cannot be read or stored, and quarantine it as a webhook would be.

        One of a sender that is asked again is no event, and there is nothing to be kept of it.
        """
        run.report.unreadable += 1
        if run.report.is_dry:
            return
        if self._source.log_kind is LogKind.ASK_AGAIN:
            logger.warning("an entry of %s's log of deliveries cannot be read: %s", self.name, error.reason)
            return
        logger.warning("an entry of %s's event log cannot be read and is quarantined: %s", self.name, error.reason)
        self._store.quarantine.put(
            self.name, body, reason=error.reason, kind=error.kind, received_at=self._clock(), headers=None
        )


__all__ = ["CatchUp", "CatchUpRun"]
