"""Which alarms stand, by figures alone: a pure function of `Facts` and `AlarmBounds`. Asks nothing, remembers nothing.

A condition stands or does not; how long it has to stand, who hears of it and how often is `telling`'s. Figures are
sampled and bounded (`store.alarms` says how), so a count is "at least so many".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from webhooks.formats import counted, one_line, span
from webhooks.operations.alarms.table import ALARMS, Severity
from webhooks.operations.engine import EngineTrouble

#: So many refusals make an alarm.
REFUSALS = 20
#: This share of a handler's latest runs, failed, makes one.
FAILING_SHARE = 0.2
#: Partitions are made a week ahead; this close to the end of the last something holds them up.
PARTITIONS_AHEAD = timedelta(days=3)

#: Retention drops partitions every ten minutes; one that stays for longer is held.
PARTITIONS_STAY = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class HandlerFigures:
    """How a handler's deliveries stand.

    due: deliveries that could run now, of which the oldest fresh one waits since `fresh_since`.
    has_worker: a live worker knows the handler.
    died: deliveries that died lately, example one of them, error its reason.
    runs, failed: of its latest runs.
    failing_since: when the oldest retry was made, where nothing has succeeded since.
    lanes: how many are held by dead deliveries.
    unserved_queue: its queue, where workers live and none of them runs that.
    """

    due: int = 0
    fresh_since: datetime | None = None
    has_worker: bool = True
    died: int = 0
    example: int | None = None
    error: str | None = None
    runs: int = 0
    failed: int = 0
    retrying: int = 0
    failing_since: datetime | None = None
    lanes: int = 0
    is_paused: bool = False
    is_held_back: bool = False
    unserved_queue: str | None = None


@dataclass(frozen=True, slots=True)
class ArrivalFigures:
    """What came from a source.

    received_at: when it last sent something signed rightly; a minute late at most.
    refused: requests refused for their signature, within 15 minutes.
    unavailable: requests answered 503, within 3 minutes.
    quarantined: requests that are held.
    paused: subscriptions that the sender has paused.
    """

    received_at: datetime | None = None
    refused: int = 0
    unavailable: int = 0
    quarantined: int = 0
    paused: int = 0


@dataclass(frozen=True, slots=True)
class AlarmFacts:
    """How the installation stands at `at`, by the database's clock.

    partitions_end_at, oldest_partition_at: when the last and the oldest partition of events end; None where there are none.
    engine: what keeps Celery from running deliveries; None where nothing does.
    """

    at: datetime
    handlers: Mapping[str, HandlerFigures] = field(default_factory=dict)
    sources: Mapping[str, ArrivalFigures] = field(default_factory=dict)
    partitions_end_at: datetime | None = None
    oldest_partition_at: datetime | None = None
    engine: EngineTrouble | None = None


@dataclass(frozen=True, slots=True)
class AlarmBounds:
    """What the operator and the handlers' authors say.

    expect_within: {source: it sends at least this often}.
    max_wait: for how long a fresh delivery may wait.
    max_waits: {handler: its own}, of those that this process knows.
    retention: for how long events are kept.
    sources: those that are configured; of another nothing is said that its sender said once. None: any.
    """

    expect_within: Mapping[str, timedelta] = field(default_factory=dict)
    max_wait: timedelta = timedelta(minutes=5)
    max_waits: Mapping[str, timedelta] = field(default_factory=dict)
    retention: timedelta = timedelta(days=30)
    sources: Collection[str] | None = None


@dataclass(frozen=True, slots=True)
class StandingAlarm:
    """One condition that holds.

    count: how many rows say so; 0 where that is no number of rows.
    began_at: since when it holds, where the figures say; None: since it was first seen.
    text: what is the matter, without payload, address, key or error.
    example: an id to look at.
    error: what the example said; only for targets that ask for it.
    """

    name: str
    subject: str
    text: str
    count: int = 0
    began_at: datetime | None = None
    example: int | None = None
    error: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What tells one alarm from another."""
        return self.name, self.subject

    @property
    def severity(self) -> Severity:
        """Its row's."""
        return ALARMS[self.name].severity

    @property
    def command(self) -> str:
        """What to type."""
        return ALARMS[self.name].command.format(subject=self.subject)


def standing(facts: AlarmFacts, bounds: AlarmBounds) -> list[StandingAlarm]:
    """The conditions that hold, in the order of the table."""
    found = [
        *_of_sources(facts, bounds),
        *_of_handlers(facts, bounds),
        *_of_queues(facts),
        *_of_installation(facts, bounds),
    ]
    order = list(ALARMS)
    return sorted(found, key=lambda each: (order.index(each.name), each.subject))


def _of_sources(facts: AlarmFacts, bounds: AlarmBounds) -> Iterator[StandingAlarm]:
    for name, source in facts.sources.items():
        expected = bounds.expect_within.get(name)
        silence = facts.at - source.received_at if source.received_at is not None else timedelta(0)
        if expected is not None and silence > expected:
            text = f"source {name} has sent nothing for {span(silence)}; expected within {span(expected)}"
            yield StandingAlarm("source-silent", name, text, began_at=source.received_at)
        if source.unavailable >= REFUSALS:
            text = f"source {name}: at least {source.unavailable} requests were answered 503 within 3 minutes"
            yield StandingAlarm("not-accepting", name, text, source.unavailable)
        is_stored = source.received_at is not None and facts.at - source.received_at < timedelta(minutes=15)
        if source.refused >= REFUSALS and not is_stored:
            text = (
                f"source {name}: at least {source.refused} requests were refused for their signature within 15 minutes, "
                "none was stored; probably a wrong key"
            )
            yield StandingAlarm("refusing", name, text, source.refused)
        if source.paused and (bounds.sources is None or name in bounds.sources):
            text = f"source {name}: its sender has paused {source.paused} of the subscriptions to us"
            yield StandingAlarm("subscription-unhealthy", name, text, source.paused)
        if source.quarantined:
            text = (
                f"source {name}: {source.quarantined} rightly signed requests could not be read and wait in quarantine"
            )
            yield StandingAlarm("quarantine", name, text, source.quarantined)


def _of_handlers(facts: AlarmFacts, bounds: AlarmBounds) -> Iterator[StandingAlarm]:
    for name, handler in facts.handlers.items():
        if handler.is_paused:
            yield StandingAlarm(
                "paused-long", name, f"handler {name} is paused; {handler.due} of its deliveries are due"
            )
        elif handler.due and not handler.has_worker and handler.unserved_queue is None:
            text = f"handler {name}: {handler.due} deliveries are due, and no live worker runs it"
            yield StandingAlarm("no-worker", name, text, handler.due)
        longest = bounds.max_waits.get(name, bounds.max_wait)
        if handler.fresh_since is not None and not handler.is_paused and facts.at - handler.fresh_since > longest:
            text = f"handler {name}: a fresh delivery has waited for {span(facts.at - handler.fresh_since)}"
            yield StandingAlarm("backlog-old", name, text, handler.due, handler.fresh_since + longest)
        if handler.died:
            text = f"handler {name}: {counted(handler.died, 'delivery')} died within 15 minutes"
            yield StandingAlarm("dead", name, text, handler.died, example=handler.example, error=handler.error)
        yield from _failing(name, handler)
        if handler.is_held_back:
            yield StandingAlarm(
                "circuit-open", name, f"handler {name}: its circuit breaker is open, {handler.due} are due"
            )
        if handler.lanes:
            text = f"handler {name}: dead deliveries hold {counted(handler.lanes, 'lane')}"
            yield StandingAlarm("lane-blocked", name, text, handler.lanes)


def _of_queues(facts: AlarmFacts) -> Iterator[StandingAlarm]:
    due: Counter[str] = Counter()
    for handler in facts.handlers.values():
        if handler.unserved_queue is not None and handler.due and not handler.has_worker and not handler.is_paused:
            due[handler.unserved_queue] += handler.due
    for queue, count in due.items():
        yield StandingAlarm(
            "queue-without-worker",
            queue,
            f"queue {queue}: {count} deliveries are due, and no live worker runs it",
            count,
        )


def _failing(name: str, handler: HandlerFigures) -> Iterator[StandingAlarm]:
    if handler.failing_since is not None and handler.retrying:
        text = f"handler {name}: all {handler.retrying} deliveries that were tried failed and wait for a retry"
        yield StandingAlarm("failing", name, text, handler.retrying, handler.failing_since)
    elif handler.runs and handler.failed / handler.runs >= FAILING_SHARE:
        text = f"handler {name}: {handler.failed} of its latest {handler.runs} runs failed"
        yield StandingAlarm("failing", name, text, handler.failed)


def _of_installation(facts: AlarmFacts, bounds: AlarmBounds) -> Iterator[StandingAlarm]:
    if facts.engine is not None:
        yield StandingAlarm("engine-silent", "", facts.engine.text, began_at=facts.engine.since)
    ends = facts.partitions_end_at
    if ends is not None and ends - facts.at < PARTITIONS_AHEAD:
        yield StandingAlarm("partition-ending", "", f"the last partition of events ends in {span(ends - facts.at)}")
    held = held_for(facts.oldest_partition_at, facts.at, bounds.retention)
    if held is not None and held > PARTITIONS_STAY:
        text = f"the oldest partition of events could have been dropped {span(held)} ago, and something needs it still"
        yield StandingAlarm("partition-held", "", text)


def held_for(ends_at: datetime | None, at: datetime, retention: timedelta) -> timedelta | None:
    """For how long the oldest partition could have been dropped; negative: it cannot yet; None: there is none.

    ends_at: when that partition ends.
    at: now.
    retention: for how long events are kept.
    """
    return None if ends_at is None else at - retention - ends_at


def cut(text: str) -> str:
    """An error as one line that fits into a message."""
    return one_line(text, 200)


__all__ = [
    "AlarmBounds",
    "AlarmFacts",
    "ArrivalFigures",
    "HandlerFigures",
    "StandingAlarm",
    "cut",
    "held_for",
    "standing",
]
