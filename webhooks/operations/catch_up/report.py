"""What a run came to, and why webhooks had not brought it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from webhooks.formats import shown_instant
from webhooks.model import ParsedEvent
from webhooks.sources import ANY_SENDER, SenderWords, Subscription

logger = logging.getLogger(__name__)


@dataclass
class Report:
    """What one run did, or would do (`is_dry`).

    words: what messages say of the sender.
    is_asked_again: nothing is stored by the run; what is missing is delivered again at our request.
    is_resumed: it continued an interrupted run.
    fetched: entries read.
    chosen: those that a webhook should have brought.
    added: {type: how many of them had not reached us}, later revisions included; of a sender that is asked again: that
        were asked for.
    duplicates: known already.
    stale: older than what is known.
    held: may still grow, for the next run.
    stripped: shown without content and not known in full; the mark stays before them.
    unreadable: could not be read; quarantined.
    refused: the sender does not deliver these again.
    first_at, last_at: of what was added.
    mark_at: where the mark is now.
    gap_from: the mark stayed here, because the window began after it.
    lost_before: the log no longer reaches back to the mark.
    cause: why webhooks had not brought what was added, in a sentence.
    subscriptions: those that post to us; None when they cannot be seen.
    """

    source: str
    since: datetime
    until: datetime
    words: SenderWords = ANY_SENDER
    is_dry: bool = False
    is_asked_again: bool = False
    is_resumed: bool = False
    fetched: int = 0
    chosen: int = 0
    added: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    stale: int = 0
    held: int = 0
    stripped: int = 0
    unreadable: int = 0
    refused: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None
    mark_at: datetime | None = None
    gap_from: datetime | None = None
    lost_before: datetime | None = None
    cause: str | None = None
    subscriptions: Sequence[Subscription] | None = None

    @property
    def repaired(self) -> int:
        """How many events were added, of all types."""
        return self.added.total()

    def note_added(self, entry: ParsedEvent) -> None:
        """Count one more event that had not reached us."""
        self.added[entry.type] += 1
        if entry.occurred_at is not None:
            self.first_at = min(self.first_at or entry.occurred_at, entry.occurred_at)
            self.last_at = max(self.last_at or entry.occurred_at, entry.occurred_at)


def likely_cause(report: Report, was_quiet: bool) -> str:
    """Why webhooks did not bring what the log did, in a sentence with its command.

    was_quiet: no webhook came between the first and the last of what was added.
    """
    told = _told_by_subscriptions(report)
    if told is not None:
        return told
    if was_quiet and report.first_at is not None and report.last_at is not None:
        return (
            f"nothing arrived from {shown_instant(report.first_at)} to {shown_instant(report.last_at)}: the server was down, could "
            "not be reached, or the subscription was paused"
        )
    known = report.words.no_subscriptions if report.subscriptions is None else "its subscriptions look well"
    return f"unknown: {known}; see webhooks doctor"


def _told_by_subscriptions(report: Report) -> str | None:
    """The cause, where our subscriptions show one."""
    subscriptions = report.subscriptions
    if subscriptions is None:
        return None
    if not subscriptions:
        return "no subscription posts to us; make one with: webhooks subscriptions sync"
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
        names = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        return f"no subscription asks for {names}; see webhooks subscriptions sync --dry-run"
    for each in subscriptions:
        if each.latest_error:
            return f"{report.words.sender} reports for subscription {each.id}: {each.latest_error}"
    return None


def log_report(report: Report) -> None:
    """Log what a run came to; silent when there was nothing."""
    extra = {"source": report.source, "action": "catch-up", "repaired": report.repaired}
    if report.repaired:
        types = ", ".join(f"{count} {type}" for type, count in report.added.most_common(5))
    if report.repaired and report.is_asked_again:
        logger.warning(
            "catch-up had %s deliver %d events of %s again (%s); likely cause: %s",
            report.words.sender,
            report.repaired,
            report.source,
            types,
            report.cause,
            extra=extra,
        )
    elif report.repaired:
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
            shown_instant(report.lost_before),
            extra=extra,
        )


__all__ = ["Report", "likely_cause", "log_report"]
