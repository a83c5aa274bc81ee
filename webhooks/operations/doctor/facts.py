"""What is known of an installation: plain records, from which `checks` concludes what is wrong.

Each check looks at one kind of record. `Facts` holds those that are collected; what concerns one subscription, one key,
one clock or one handler's missing events is cut out of them here.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from webhooks.database import Unmigrated
from webhooks.formats import DEFAULT_QUEUE
from webhooks.operations.subscriptions import Wanted
from webhooks.sources import ANY_SENDER, SenderWords, Subscription
from webhooks.store.durability import Doubt
from webhooks.store.handlers import HandlerState
from webhooks.store.health import Backlog, Missed, TypeActivity
from webhooks.store.positions import LogPosition
from webhooks.store.processes import Process
from webhooks.store.retention.partitions import Problem

if TYPE_CHECKING:
    from webhooks.store import TargetState

#: What is looked back at: types seen, events without a delivery.
LOOK_BACK = timedelta(days=30)
MISSED_LOOK_BACK = timedelta(days=1)


@dataclass(frozen=True)
class SourceFacts:
    """What is known of one source.

    now, database_now: when it was looked at, by this machine's clock and by the database's.
    subscriptions: those that post to us; None when the sender could not be asked, and why_not says why.
    every: all that the API key may see.
    is_refused: the sender was asked and refused, or did not answer; else it was never asked.
    lists_subscriptions: its subscriptions are asked for; else only whether the key is right.
    path: of our route.
    wanted: what handlers want that can be subscribed to.
    seen: {event type: how often and when last} of those that came lately; empty when the database was not looked at.
    labels: of the keys that are held.
    id_labels: of those, the ones with the form of a subscription's id.
    words: what messages say of the sender.
    key_uses: {label: when it last verified a delivery}.
    arrivals: when webhooks came, the oldest first.
    skews: how late each of the latest was by its signed timestamp.
    api_ahead: how far our clock is ahead of the API's.
    mark: how far the log was read; None without a log.
    quarantined: requests that could not be read.
    conflicts: about so many copies with another body under a known key came in a day.
    equal_bodies: bodies that came under more keys in an hour of the last day than the source lets run.
    expect_within: it sends at least this often, as the operator says; None: no silence is an alarm.
    verified_at: when it last sent something signed rightly.
    refused: requests refused for their signature lately, of the sample that is kept; the latest at `refused_at`.
    """

    name: str
    now: datetime
    database_now: datetime
    has_log: bool = False
    subscriptions: Sequence[Subscription] | None = None
    every: Sequence[Subscription] = ()
    why_not: str | None = None
    is_refused: bool = False
    lists_subscriptions: bool = True
    public_url: str = ""
    path: str = ""
    wanted: Wanted = field(default_factory=lambda: Wanted(frozenset()))
    seen: Mapping[str, TypeActivity] = field(default_factory=dict)
    labels: Collection[str] = ()
    id_labels: Collection[str] = ()
    words: SenderWords = ANY_SENDER
    key_uses: Mapping[str, datetime] = field(default_factory=dict)
    arrivals: Sequence[datetime] = ()
    skews: Sequence[timedelta] = ()
    api_ahead: timedelta | None = None
    mark: LogPosition | None = None
    quarantined: int = 0
    conflicts: int = 0
    equal_bodies: int = 0
    expect_within: timedelta | None = None
    verified_at: datetime | None = None
    refused: int = 0
    refused_at: datetime | None = None

    @property
    def last_at(self) -> datetime | None:
        """When it last sent something signed rightly, as far as is known."""
        known = [*self.arrivals[-1:], *([self.verified_at] if self.verified_at is not None else [])]
        return max(known, default=None)

    @property
    def topics(self) -> frozenset[str]:
        """The event types that our subscriptions ask for."""
        return frozenset().union(*(each.types for each in self.subscriptions or ()))

    @property
    def has_a_key_under_another_label(self) -> bool:
        """Whether a key that verifies deliveries has a label that is no subscription's id ("1", "live", …)."""
        ids = {each.id for each in self.every}
        return any(label not in ids for label in self.key_uses)


@dataclass(frozen=True)
class HandlerFacts:
    """What is known of one handler.

    is_registered: this process has it.
    is_running: another one has, that reported lately.
    missed: {source: events without a delivery for it}.
    is_new: it never got one by itself.
    queue: in which it is.
    is_queue_served: a worker that reported lately runs that queue.
    """

    name: str
    is_registered: bool
    is_running: bool
    backlog: Backlog
    state: HandlerState | None = None
    source: str | None = None
    patterns: Sequence[str] = ()
    missed: Mapping[str, Missed] = field(default_factory=dict)
    is_new: bool = False
    queue: str = DEFAULT_QUEUE
    is_queue_served: bool = True


@dataclass(frozen=True)
class Facts:
    """All that was looked at.

    processes: those that reported lately.
    database_problem: why the database could not be looked at.
    database_ahead: how far its clock is ahead of ours.
    write_problem: why a trial write failed.
    wakeup_problem: why a notification did not arrive.
    doubts: what a 2xx rests on and may not hold.
    partitions: what is wrong with them.
    unmigrated: plugins' tables that no migration makes.
    alarm_targets: names of those that are told of alarms.
    told: how those, and the dead man's switch, took what they were sent last.
    has_heartbeat: there is a dead man's switch.
    """

    now: datetime
    sources: Sequence[SourceFacts] = ()
    handlers: Sequence[HandlerFacts] = ()
    processes: Sequence[Process] = ()
    database_problem: str | None = None
    schema_is_current: bool = True
    database_ahead: timedelta = timedelta(0)
    write_problem: str | None = None
    wakeup_problem: str | None = None
    doubts: Sequence[Doubt] = ()
    partitions: Sequence[Problem] = ()
    unmigrated: Sequence[Unmigrated] = ()
    alarm_targets: Sequence[str] = ()
    told: Sequence[TargetState] = ()
    has_heartbeat: bool = False


# -- what one check looks at ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SubscriptionFacts:
    """One subscription that posts to us."""

    source: SourceFacts
    subscription: Subscription


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """One key that is held but never verified a delivery, although others did."""

    source: SourceFacts
    label: str


class Against(enum.Enum):
    """What this machine's clock is compared with."""

    DATABASE = enum.auto()
    SIGNATURES = enum.auto()
    API = enum.auto()


@dataclass(frozen=True, slots=True)
class ClockFacts:
    """How far this machine's clock is ahead of another; negative where it is behind. subject: whose clock the other is."""

    against: Against
    subject: str
    ahead: timedelta


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """A queue that no worker runs, although some run others. backlogs: of its handlers, those that are paused left out."""

    name: str
    now: datetime
    backlogs: Sequence[Backlog]


@dataclass(frozen=True, slots=True)
class MissedFacts:
    """Events of one source without a delivery for one handler."""

    handler: HandlerFacts
    source: str
    missed: Missed


def installation(facts: Facts) -> Iterator[Facts]:
    """All of it, once."""
    yield facts


def sources(facts: Facts) -> Iterator[SourceFacts]:
    """Each source."""
    yield from facts.sources


def subscriptions(facts: Facts) -> Iterator[SubscriptionFacts]:
    """Each subscription that posts to us, of every source whose sender could be asked."""
    for source in facts.sources:
        for each in source.subscriptions or ():
            yield SubscriptionFacts(source, each)


def unused_keys(facts: Facts) -> Iterator[KeyFacts]:
    """Each key that never verified a delivery; none of a source to which nothing came yet that a key could have matched."""
    for source in facts.sources:
        if source.arrivals and source.key_uses:
            for label in sorted(set(source.labels) - source.key_uses.keys()):
                yield KeyFacts(source, label)


def clocks(facts: Facts) -> Iterator[ClockFacts]:
    """Each clock that ours can be compared with."""
    yield ClockFacts(Against.DATABASE, "database", -facts.database_ahead)
    for source in facts.sources:
        if source.skews:
            # a late delivery looks like a clock that is ahead, so the least late one tells
            yield ClockFacts(Against.SIGNATURES, source.name, min(source.skews))
        if source.api_ahead is not None:
            yield ClockFacts(Against.API, source.name, source.api_ahead)


def handlers(facts: Facts) -> Iterator[HandlerFacts]:
    """Each handler that is registered, or has deliveries."""
    yield from facts.handlers


def unserved_queues(facts: Facts) -> Iterator[QueueFacts]:
    """Each queue that no worker runs while some run others."""
    if not any(process.is_worker for process in facts.processes):
        return
    found: dict[str, list[Backlog]] = {}
    for handler in facts.handlers:
        is_paused = handler.state is not None and handler.state.paused
        if handler.is_registered and not handler.is_queue_served and not handler.is_running and not is_paused:
            found.setdefault(handler.queue, []).append(handler.backlog)
    for name in sorted(found):
        yield QueueFacts(name, facts.now, found[name])


def missed(facts: Facts) -> Iterator[MissedFacts]:
    """Each handler with each source whose events it lacks."""
    for handler in facts.handlers:
        for source, found in handler.missed.items():
            yield MissedFacts(handler, source, found)


def partitions(facts: Facts) -> Iterator[Problem]:
    """Each trouble with partitions."""
    yield from facts.partitions


def alarm_targets(facts: Facts) -> Iterator[TargetState]:
    """Each target of alarms, and the dead man's switch, that was ever sent anything and is still configured."""
    for state in facts.told:
        if state.name in facts.alarm_targets or (facts.has_heartbeat and state.name.startswith(":")):
            yield state


def unwatched(facts: Facts) -> Iterator[SourceFacts]:
    """Each source whose silence raises no alarm, where alarms are told at all."""
    for source in facts.sources if facts.alarm_targets else ():
        if source.expect_within is None:
            yield source


def unmigrated(facts: Facts) -> Iterator[Unmigrated]:
    """Each plugin's tables that no migration makes."""
    yield from facts.unmigrated


__all__ = [
    "LOOK_BACK", "MISSED_LOOK_BACK", "Against", "ClockFacts", "Facts", "HandlerFacts", "KeyFacts", "MissedFacts",
    "QueueFacts", "SourceFacts", "SubscriptionFacts",
]  # fmt: skip
