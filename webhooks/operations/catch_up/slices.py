"""What is read of a log between two instants, and which of it a webhook should have brought. Pure.

A log is read newest first, so a window is cut into slices, oldest first, each read whole before any of it is handed
over. `Slice.add` folds page after page into the entries; `Choice` says which of them are for us.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from webhooks.errors import Malformed
from webhooks.model import ParsedEvent
from webhooks.routing import Registry
from webhooks.sources import SourceWithLog, Subscription, Topic

SHORTEST = timedelta(seconds=1)
#: A slice with more entries or bytes is cut in two.
MOST_ENTRIES = 2_000
MOST_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry as it was read. body: what is kept of it. event: the event, or why it cannot be read."""

    body: bytes
    event: ParsedEvent | Malformed


@dataclass
class Slice:
    """The entries from `since` to `until`, as far as they were read.

    most_entries: of more it is too large.
    fetched: entries read, those that do not count included.
    unreadable: those that could not be read.
    is_complete: nothing older belongs to it.
    """

    since: datetime
    until: datetime
    most_entries: int = MOST_ENTRIES
    fetched: int = 0
    unreadable: list[tuple[bytes, Malformed]] = field(default_factory=list)
    is_complete: bool = False
    _newest: dict[str, ParsedEvent] = field(default_factory=dict)
    _bytes: int = 0

    def add(self, page: Iterable[LogEntry]) -> None:
        """Fold one more page, newest entry first. Of an entry that grew between two pages its latest revision counts."""
        oldest: datetime | None = None
        for entry in page:
            self.fetched += 1
            event = entry.event
            if isinstance(event, Malformed):
                self.unreadable.append((entry.body, event))
                continue
            oldest = event.occurred_at or oldest
            if event.occurred_at is not None and not self.since <= event.occurred_at <= self.until:
                continue  # more than was asked for
            known = self._newest.get(event.dedup_key)
            if known is None or known.revision < event.revision:
                self._newest[event.dedup_key] = event
                self._bytes += len(entry.body)
        if oldest is not None and oldest < self.since:
            self.is_complete = True

    @property
    def is_too_large(self) -> bool:
        """Whether it is to be cut in two; the shortest never is."""
        is_much = len(self._newest) > self.most_entries or self._bytes > MOST_BYTES
        return is_much and self.until - self.since > SHORTEST

    def entries(self) -> list[ParsedEvent]:
        """What can be read of it, oldest first."""
        return sorted(self._newest.values(), key=_place)


def _place(entry: ParsedEvent) -> tuple[datetime, str]:
    return entry.occurred_at or datetime.min.replace(tzinfo=UTC), entry.dedup_key


class Choice:
    """Which entries are for us: those that a subscription asks for, or a handler.

    subscriptions: those that post to us; empty leaves the choice to the handlers. With neither, everything is for us,
    as a webhook would be; so it is where the log holds nothing else.
    """

    def __init__(self, source: SourceWithLog, registry: Registry, subscriptions: Sequence[Subscription]) -> None:
        self._source = source
        self._registry = registry
        topics: dict[str, list[Topic]] = {}
        for subscription in subscriptions:
            for topic in subscription.topics:
                topics.setdefault(topic.type, []).append(topic)
        self._topics: Mapping[str, list[Topic]] = topics
        self._takes_all = source.log_is_ours or (not topics and not registry.handlers())

    def wants(self, entry: ParsedEvent) -> bool:
        """Whether a webhook should have brought this entry."""
        if self._takes_all:
            return True
        topics = self._topics.get(entry.type)
        if topics is not None:
            return any(self._source.would_send(entry, topic) for topic in topics)
        return bool(self._registry.route(self._source.name, entry.type))


__all__ = ["Choice", "LogEntry", "Slice"]
