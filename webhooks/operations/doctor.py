"""Say what is wrong before users notice, and which command repairs it, or shows more.

`collect` gathers facts: from the settings, the database and, where there is an API key, from the sender. `diagnose`
turns facts into findings; it is pure, so every sentence has a table-like test. `repair` does what is safe: it
resumes what was not paused on purpose, subscribes to what handlers lack, fetches keys and starts a catch-up. What could
lose or repeat something is left to the command that the finding names.

Nothing stops the examination: what could not be looked at is a finding of its own.

Not here: how it is shown (`cli.doctor`).
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from webhooks.database import History, Unmigrated
from webhooks.database.migrations import run as migrate
from webhooks.errors import ConfigurationError, StorageUnavailable, hide_keys
from webhooks.formats import one_line
from webhooks.operations.subscriptions import Subscriptions, Wanted, ours, wanted_types
from webhooks.routing import Registry
from webhooks.sources import ANY_SENDER, ApiError, SenderWords, Source, SourceWithLog, Subscription, with_log
from webhooks.store import Store
from webhooks.store.durability import Doubt
from webhooks.store.handlers import BreakerState, HandlerState
from webhooks.store.health import Backlog, Missed, Seen
from webhooks.store.positions import Mark
from webhooks.store.processes import Process
from webhooks.store.retention.partitions import Problem, Trouble

#: What is looked back at: types seen, events without a delivery.
LOOK_BACK = timedelta(days=30)
MISSED_LOOK_BACK = timedelta(days=1)
#: Clocks that differ by more are reported.
SKEW = timedelta(seconds=60)
#: A source is silent after this much more than its longest silence so far, and never before `LEAST_SILENCE`.
SILENCE_FACTOR = 1.5
LEAST_SILENCE = timedelta(hours=1)
#: Gaps between arrivals that must be known before silence means anything.
LEAST_GAPS = 10
#: Arrivals this close together count as one.
BURST = timedelta(seconds=60)
#: The last catch-up by itself is older than this: it should have run hourly.
CATCH_UP_LATE = timedelta(hours=3)
#: A pending delivery older than this, with no worker in sight, is waiting for one.
WAITS_FOR_WORKER = timedelta(minutes=1)

#: A handler that failed so often, and succeeded with nothing since, is reported although everything is retried.
LEAST_FAILURES = 3


class Level(enum.StrEnum):
    """How bad a finding is. Notes leave the exit code at 0."""

    ERROR = "error"  #: events are being lost, refused or not run
    WARNING = "warning"  #: something needs a look soon
    NOTE = "note"  #: worth knowing; what could not be checked


class Fix(enum.StrEnum):
    """What `repair` can do."""

    RESUME = "resume"
    SUBSCRIBE = "subscribe"
    FETCH_KEY = "fetch-key"
    CATCH_UP = "catch-up"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. code: stable, for scripts. subject: the source, handler or subscription that it is about.
    command: what repairs it. fix: what `repair` would do."""

    level: Level
    code: str
    subject: str
    text: str
    command: str | None = None
    fix: Fix | None = None


# -- facts --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SourceFacts:
    """What is known of one source.

    subscriptions: those that post to us; None when the sender could not be asked, and why_not says why.
    every: all that the API key may see. labels: of the keys that are held. id_labels: of those, the ones with the form of
    a subscription's id. words: what messages say of the sender.
    key_uses: {label: when it last verified a delivery}. arrivals: when webhooks came, the eldest first.
    skews: how late each was by its signed timestamp. api_ahead: how far our clock is ahead of the API's.
    """

    name: str
    has_log: bool = False
    subscriptions: Sequence[Subscription] | None = None
    every: Sequence[Subscription] = ()
    why_not: str | None = None
    is_refused: bool = False
    public_url: str = ""
    path: str = ""
    wanted: Wanted = field(default_factory=lambda: Wanted(frozenset()))
    seen: Mapping[str, Seen] = field(default_factory=dict)
    labels: Collection[str] = ()
    id_labels: Collection[str] = ()
    words: SenderWords = ANY_SENDER
    key_uses: Mapping[str, datetime] = field(default_factory=dict)
    arrivals: Sequence[datetime] = ()
    skews: Sequence[timedelta] = ()
    api_ahead: timedelta | None = None
    mark: Mark | None = None
    quarantined: int = 0


@dataclass(frozen=True)
class HandlerFacts:
    """What is known of one handler. missed: events without a delivery for it. is_new: it never got one by itself."""

    name: str
    is_registered: bool
    is_running: bool
    backlog: Backlog
    state: HandlerState | None = None
    source: str | None = None
    patterns: Sequence[str] = ()
    missed: Mapping[str, Missed] = field(default_factory=dict)
    is_new: bool = False


@dataclass(frozen=True)
class Facts:
    """All that was looked at. database_problem: why the database could not be. database_ahead: how far its clock is ahead
    of ours. write_problem: why a trial write failed. doubts: what a 2xx rests on and may not hold. processes: those that
    reported lately. partitions: what is wrong with them. unmigrated: plugins' tables that no migration makes."""

    now: datetime
    sources: Sequence[SourceFacts] = ()
    handlers: Sequence[HandlerFacts] = ()
    processes: Sequence[Process] = ()
    database_problem: str | None = None
    schema_is_current: bool = True
    database_ahead: timedelta = timedelta(0)
    write_problem: str | None = None
    doubts: Sequence[Doubt] = ()
    partitions: Sequence[Problem] = ()
    unmigrated: Sequence[Unmigrated] = ()


# -- findings -----------------------------------------------------------------------------------------------------


def diagnose(facts: Facts) -> list[Finding]:
    """Everything that the facts say is wrong, the worst first."""
    findings = [*_database(facts), *_writes(facts), *_unmigrated(facts), *_partitions(facts)]
    for source in facts.sources:
        findings += _asking(source)
        findings += _subscriptions(source)
        findings += _keys(source, facts.now)
        findings += _silence(source, facts.now)
        findings += _clock(source)
        # runs are timed by the database's clock
        findings += _catch_up(source, facts.now + facts.database_ahead)
        findings += _quarantine(source)
    findings += _workers(facts)
    for handler in facts.handlers:
        findings += _handler(handler)
    order = list(Level)
    return sorted(findings, key=lambda finding: order.index(finding.level))


def _database(facts: Facts) -> list[Finding]:
    if facts.database_problem is not None:
        return [
            Finding(
                Level.ERROR,
                "database-away",
                "database",
                f"the database cannot be used, so events are answered 503: {facts.database_problem}",
            )
        ]
    if not facts.schema_is_current:
        return [
            Finding(
                Level.ERROR,
                "schema-behind",
                "database",
                "the database schema is not at head, so events are answered 503; nothing else in it was looked at",
                "webhooks db upgrade",
            )
        ]
    if abs(facts.database_ahead) > SKEW:
        return [
            Finding(
                Level.WARNING,
                "clock-skew",
                "database",
                f"the database's clock is {_span(facts.database_ahead)} "
                f"{'ahead of' if facts.database_ahead > timedelta(0) else 'behind'} this machine's; set both by NTP",
                "timedatectl set-ntp true",
            )
        ]
    return []


def _writes(facts: Facts) -> list[Finding]:
    findings = []
    if facts.write_problem is not None:
        findings.append(
            Finding(
                Level.ERROR,
                "writes-refused",
                "database",
                f"a trial write is refused, so events are answered 503: {facts.write_problem}",
            )
        )
    return findings + [
        Finding(Level.ERROR if doubt.is_loss else Level.WARNING, doubt.code, "database", doubt.text, doubt.command)
        for doubt in facts.doubts
    ]


_PARTITIONS = {
    Trouble.HELD: (Level.WARNING, "partition-held"),
    Trouble.ENDING: (Level.WARNING, "partitions-ending"),
    Trouble.STRAYS: (Level.NOTE, "partition-strays"),
}


def _partitions(facts: Facts) -> list[Finding]:
    return [
        Finding(*_PARTITIONS[problem.trouble], "database", problem.text, problem.command)
        for problem in facts.partitions
    ]


def _unmigrated(facts: Facts) -> list[Finding]:
    return [
        Finding(
            Level.ERROR,
            "table-without-migration",
            each.history.name,
            f"{each.text}: handlers that use it fail",
            each.command,
        )
        for each in facts.unmigrated
    ]


def _asking(source: SourceFacts) -> list[Finding]:
    if not source.has_log or source.why_not is None:
        return []
    level = Level.ERROR if source.is_refused else Level.NOTE
    return [
        Finding(
            level,
            "api-refused" if source.is_refused else "not-checked",
            source.name,
            f"the subscriptions of {source.name} were not checked: {source.why_not}",
            f"webhooks subscriptions list --source {source.name}",
        )
    ]


def _subscriptions(source: SourceFacts) -> list[Finding]:
    if source.subscriptions is None:
        return []
    if not source.subscriptions:
        return [
            Finding(
                Level.ERROR,
                "no-subscription",
                source.name,
                f"no subscription is known to post to {source.name}, so no webhook comes",
                "webhooks subscriptions sync" + ("" if source.public_url else f" --url https://YOUR-HOST{source.path}"),
            )
        ]
    findings = []
    for each in source.subscriptions:
        findings += _subscription(source, each)
    topics = frozenset().union(*(each.types for each in source.subscriptions))
    missing = sorted(source.wanted.types - topics)
    if missing:
        findings.append(
            Finding(
                Level.ERROR,
                "types-not-subscribed",
                source.name,
                f"handlers want {_some(missing)} of {source.name}, which no subscription asks for",
                "webhooks subscriptions sync",
                Fix.SUBSCRIBE,
            )
        )
    idle = sorted(topics - source.wanted.types)
    if idle and source.wanted.types:
        findings.append(
            Finding(
                Level.NOTE,
                "types-not-handled",
                source.name,
                f"subscriptions bring {_some(idle)} of {source.name}, which no handler wants",
                "webhooks subscriptions sync --dry-run",
            )
        )
    if source.wanted.unknown:
        findings.append(
            Finding(
                Level.NOTE,
                "types-unknown",
                source.name,
                f"handlers want {_some(source.wanted.unknown)}, which {source.name} does not publish: no webhook brings it",
                "webhooks handlers",
            )
        )
    unseen = sorted((source.wanted.types & topics) - source.seen.keys())
    if unseen and source.seen:
        findings.append(
            Finding(
                Level.NOTE,
                "types-never-seen",
                source.name,
                f"of {source.name}, {_some(unseen)} never came in the last {LOOK_BACK.days} days",
                f"webhooks catch-up {source.name} --since {LOOK_BACK.days}d --dry-run",
            )
        )
    return findings


def _subscription(source: SourceFacts, each: Subscription) -> list[Finding]:
    findings = []
    if not each.is_active:
        by_hand = each.paused_by_call
        reason = f" ({each.pause_reason})" if each.pause_reason else ""
        findings.append(
            Finding(
                Level.ERROR,
                "subscription-paused",
                each.id,
                f"subscription {each.id} is {each.status}{reason}: nothing is sent, and what happens is in the log only"
                + ("; somebody paused it by a call" if by_hand else ""),
                f"webhooks subscriptions resume {each.id}",
                None if by_hand else Fix.RESUME,
            )
        )
    if source.public_url and each.url.rstrip("/") != source.public_url.rstrip("/"):
        findings.append(
            Finding(
                Level.ERROR,
                "subscription-url",
                each.id,
                f"subscription {each.id} posts to {hide_keys(one_line(each.url))}, not to the public_url "
                f"{hide_keys(source.public_url)}",
                "webhooks subscriptions sync",
            )
        )
    if each.health_status not in (None, "healthy") or each.latest_error:
        health = f"its health is {one_line(each.health_status, 60)!r}" if each.health_status else ""
        error = f"its latest error is {each.latest_error!r}" if each.latest_error else ""
        findings.append(
            Finding(
                Level.WARNING,
                "subscription-failing",
                each.id,
                f"subscription {each.id} has trouble reaching us: {'; '.join(part for part in (health, error) if part)}",
                "webhooks sources",
            )
        )
    return findings


def _keys(source: SourceFacts, now: datetime) -> list[Finding]:
    findings = []
    known = {each.id: each for each in source.every}
    for each in source.subscriptions or ():
        if each.id not in source.labels and not _may_hold_under_another_label(source):
            findings.append(
                Finding(
                    Level.ERROR,
                    "key-missing",
                    each.id,
                    f"the key of subscription {each.id} is not held, so its deliveries are refused with 401",
                    "webhooks subscriptions sync",
                    Fix.FETCH_KEY,
                )
            )
    if not source.arrivals or not source.key_uses:
        return findings  # nothing came yet that any key could have matched
    for label in sorted(set(source.labels) - source.key_uses.keys()):
        subscription = known.get(label)
        if subscription is not None and subscription.is_active:
            text = f"the key {label!r} of {source.name} never matched a delivery, although its subscription is active"
            findings.append(
                Finding(Level.WARNING, "key-never-matched", label, text, f"webhooks subscriptions rotate {label}")
            )
        elif subscription is None:
            why = "; no subscription has this id any more" if label in source.id_labels and source.every else ""
            findings.append(
                Finding(
                    Level.WARNING,
                    "key-never-matched",
                    label,
                    f"the key {label!r} of {source.name} never matched a delivery{why}; take it out of the settings",
                    "webhooks subscriptions list",
                )
            )
    return findings


def _may_hold_under_another_label(source: SourceFacts) -> bool:
    """Whether a key that verifies deliveries has a label that is no subscription's id ("1", "live", …)."""
    ids = {each.id for each in source.every}
    return any(label not in ids for label in source.key_uses)


def expected_silence(arrivals: Sequence[datetime]) -> timedelta | None:
    """After how long without a webhook a source is silent: learned from its longest gap; None when too little is known."""
    gaps = [later - earlier for earlier, later in itertools.pairwise(arrivals) if later - earlier > BURST]
    if len(gaps) < LEAST_GAPS:
        return None
    return max(LEAST_SILENCE, max(gaps) * SILENCE_FACTOR)


def _silence(source: SourceFacts, now: datetime) -> list[Finding]:
    expected = expected_silence(source.arrivals)
    if expected is None:
        return []
    silent = now - source.arrivals[-1]
    if silent <= expected:
        return []
    return [
        Finding(
            Level.WARNING,
            "source-silent",
            source.name,
            f"nothing came from {source.name} for {_span(silent)}; after what came before, {_span(expected)} would be long",
            f"webhooks catch-up {source.name}" if source.has_log else "webhooks sources",
            Fix.CATCH_UP if source.has_log and source.subscriptions is not None else None,
        )
    ]


def _clock(source: SourceFacts) -> list[Finding]:
    findings = []
    if source.skews:
        # a late delivery looks like a clock that is ahead, so the least late one tells
        least = min(source.skews)
        if least > SKEW:
            findings.append(
                Finding(
                    Level.WARNING,
                    "clock-skew",
                    source.name,
                    f"every delivery of {source.name} was signed at least {_span(least)} before it came: this machine's "
                    "clock is ahead, or all of them come late",
                    "timedatectl set-ntp true",
                )
            )
        elif least < -SKEW:
            findings.append(
                Finding(
                    Level.WARNING,
                    "clock-skew",
                    source.name,
                    f"deliveries of {source.name} were signed {_span(least)} after they came: this machine's clock is "
                    "behind; at 5 min they are refused",
                    "timedatectl set-ntp true",
                )
            )
    if source.api_ahead is not None and abs(source.api_ahead) > SKEW:
        way = "ahead of" if source.api_ahead > timedelta(0) else "behind"
        findings.append(
            Finding(
                Level.WARNING,
                "clock-skew",
                source.name,
                f"this machine's clock is {_span(source.api_ahead)} {way} that of {source.name}'s API",
                "timedatectl set-ntp true",
            )
        )
    return findings


def _catch_up(source: SourceFacts, now: datetime) -> list[Finding]:
    mark = source.mark
    if not source.has_log or mark is None or (mark.ran_at is None and source.subscriptions is None):
        return []
    command = f"webhooks catch-up {source.name}"
    findings = []
    if mark.error is not None:
        findings.append(
            Finding(
                Level.ERROR,
                "catch-up-failed",
                source.name,
                f"the last catch-up of {source.name} failed: {mark.error}",
                command,
                Fix.CATCH_UP,
            )
        )
    elif mark.ran_at is not None and now - mark.ran_at > CATCH_UP_LATE:
        findings.append(
            Finding(
                Level.WARNING,
                "catch-up-late",
                source.name,
                f"the last catch-up of {source.name} was {_span(now - mark.ran_at)} ago, and workers do it hourly: does a "
                "worker with the API key run?",
                command,
                Fix.CATCH_UP,
            )
        )
    if mark.stripped_at is not None:
        findings.append(
            Finding(
                Level.ERROR,
                "events-without-content",
                source.name,
                f"since {_at(mark.stripped_at)} there are events of {source.name} that catch-up could only see without "
                f"their content, because {source.words.no_content}; {source.words.remedy}, then",
                command,
            )
        )
    return findings


def _quarantine(source: SourceFacts) -> list[Finding]:
    if not source.quarantined:
        return []
    return [
        Finding(
            Level.WARNING,
            "quarantine",
            source.name,
            f"of {source.name}, {_count(source.quarantined, 'request')} could not be read and stay in quarantine",
            f"webhooks quarantine list --source {source.name}",
        )
    ]


def _workers(facts: Facts) -> list[Finding]:
    waiting = [
        handler.backlog
        for handler in facts.handlers
        if handler.backlog.pending and (handler.state is None or not handler.state.paused)
    ]
    # what is scheduled for later waits for nobody
    since = [backlog.due_since if backlog.due or backlog.scheduled else backlog.eldest_at for backlog in waiting]
    eldest = min((at for at in since if at is not None), default=None)
    if eldest is None or facts.now - eldest < WAITS_FOR_WORKER:
        return []
    if any(process.kind == "worker" for process in facts.processes):
        return []
    count = sum(backlog.pending for backlog in waiting)
    is_more = any(backlog.is_more for backlog in waiting)
    return [
        Finding(
            Level.ERROR,
            "no-worker",
            "worker",
            f"no worker runs, with {_count(count, 'delivery', is_more)} waiting, the eldest for {_span(facts.now - eldest)}",
            "webhooks worker",
        )
    ]


def _handler(handler: HandlerFacts) -> list[Finding]:
    findings = []
    name, backlog = handler.name, handler.backlog
    unfinished = backlog.pending + backlog.running
    if unfinished and not handler.is_registered and not handler.is_running:
        findings.append(
            Finding(
                Level.WARNING,
                "orphaned-deliveries",
                name,
                f"handler {name!r}, which neither this directory nor any running process has, has "
                f"{_count(unfinished, 'delivery', backlog.is_more)} waiting: bring it back under that name, or cancel them",
                f"webhooks deliveries cancel --handler {name} --dry-run",
            )
        )
    if backlog.lanes:
        findings.append(
            Finding(
                Level.ERROR,
                "lane-blocked",
                name,
                f"handler {name!r} has {_count(backlog.lanes, 'lane')} stuck behind a dead delivery, with "
                f"{_count(backlog.held, 'delivery')} waiting there",
                f"webhooks requeue --handler {name} --state dead",
            )
        )
    elif backlog.dead:
        findings.append(
            Finding(
                Level.WARNING,
                "dead-deliveries",
                name,
                f"handler {name!r} has {_count(backlog.dead, 'dead delivery', backlog.is_more)}: their attempts are used up",
                f"webhooks deliveries list --handler {name} --state dead --group",
            )
        )
    is_open = handler.state is not None and handler.state.breaker is BreakerState.OPEN
    if backlog.failing_since is not None and backlog.failures >= LEAST_FAILURES and not is_open:
        findings.append(
            Finding(
                Level.WARNING,
                "handler-failing",
                name,
                f"handler {name!r} has succeeded with nothing since {_at(backlog.failing_since)}: "
                f"{_count(backlog.retrying, 'delivery', backlog.is_more)} failed {_count(backlog.failures, 'time')} and "
                f"{'waits' if backlog.retrying == 1 else 'wait'} for a retry; once it is mended: webhooks requeue --handler "
                f"{name} --state pending",
                f"webhooks deliveries list --handler {name} --state pending --group",
            )
        )
    if handler.state is not None and handler.state.paused:
        findings.append(
            Finding(
                Level.WARNING,
                "handler-paused",
                name,
                f"handler {name!r} was paused by {handler.state.paused_by}, with "
                f"{_count(backlog.pending, 'delivery', backlog.is_more)} waiting",
                f"webhooks handlers resume {name}",
            )
        )
    elif handler.state is not None and handler.state.breaker is BreakerState.OPEN:
        findings.append(
            Finding(
                Level.WARNING,
                "breaker-open",
                name,
                f"the circuit breaker of handler {name!r} is open after {handler.state.breaker_failures} failures in a row",
                f"webhooks deliveries list --handler {name} --group",
            )
        )
    for source, missed in handler.missed.items():
        cause = (
            "it never ran here before" if handler.is_new else "older code took them in, or the handler wants more now"
        )
        findings.append(
            Finding(
                Level.NOTE if handler.is_new else Level.WARNING,
                "events-without-delivery",
                name,
                f"for handler {name!r} there are {_count(missed.count, 'event')} of {source} from {_at(missed.first_at)} on "
                f"without a delivery: {cause}",
                f"webhooks replay --handler {name} --source {source} --since {_at(missed.first_at)} "
                f"--until {_at(missed.last_at + timedelta(seconds=1))}",
            )
        )
    return findings


# -- words --------------------------------------------------------------------------------------------------------


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(one_line(name, 80) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _count(number: int, noun: str, is_more: bool = False) -> str:
    """`2,000 deliveries`. is_more: counting stopped there."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{'at least ' if is_more else ''}{number:,} {noun if number == 1 else plural}"


def _at(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _span(duration: timedelta) -> str:
    seconds = abs(duration.total_seconds())
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


# -- collecting ---------------------------------------------------------------------------------------------------


class Doctor:
    """Collects facts of one installation, and repairs.

    sources: {name: source}. retention: how long payloads are kept. labels: the labels of the keys that a source holds
    now. plugins: histories besides the core's. histories: those of every handler module, also without a
    revision. subscriptions: makes the `Subscriptions` over an open client of a source. catch_up: runs it for a source.
    """

    def __init__(
        self,
        *,
        sources: Mapping[str, Source],
        store: Store,
        registry: Registry,
        clock: Callable[[], datetime],
        retention: timedelta,
        url_prefix: str = "/webhooks",
        labels: Callable[[str], Collection[str]] = lambda name: (),
        plugins: Sequence[History] = (),
        histories: Sequence[History] = (),
        subscriptions: Callable[[SourceWithLog, Any], Subscriptions] | None = None,
        catch_up: Callable[[SourceWithLog], object] | None = None,
    ) -> None:
        self._sources = sources
        self._store = store
        self._registry = registry
        self._clock = clock
        self._retention = retention
        self._url_prefix = url_prefix
        self._labels = labels
        self._plugins = plugins
        self._histories = histories
        self._subscriptions = subscriptions
        self._catch_up = catch_up

    def collect(self) -> Facts:
        """Look at everything that can be looked at. Raises nothing but what is a fault of ours."""
        now = self._clock()
        try:
            if not migrate.is_current(self._store.database, self._plugins):
                return Facts(now, [self._source(name, None) for name in sorted(self._sources)], schema_is_current=False)
            seen = self._store.health.types_seen(now - LOOK_BACK)
            quarantined = self._store.health.quarantined()
            database_now = self._store.database.now()
            processes = self._store.processes.running()
            return Facts(
                now,
                [self._source(name, seen.get(name, {}), quarantined.get(name, 0)) for name in sorted(self._sources)],
                self._handlers(processes, seen, now),
                processes,
                database_ahead=database_now - now,
                write_problem=self._try_write(),
                doubts=self._store.durability.doubts(),
                partitions=self._store.partitions.problems(database_now - self._retention),
                unmigrated=migrate.unmigrated(self._store.database, self._histories),
            )
        except StorageUnavailable as error:
            return Facts(
                now,
                [self._source(name, None) for name in sorted(self._sources)],
                database_problem=one_line(error.reason),
            )

    def _try_write(self) -> str | None:
        """Why an event could not be stored now; None when it could. Leaves no row."""
        try:
            self._store.intake.try_write()
        except StorageUnavailable as error:
            return one_line(error.reason, 600)
        return None

    def _source(self, name: str, seen: Mapping[str, Seen] | None, quarantined: int = 0) -> SourceFacts:
        """Facts of one source. seen: None when the database is not looked at."""
        source = self._sources[name]
        log = with_log(source)
        labels = frozenset(self._labels(name))
        path = f"{self._url_prefix.rstrip('/')}/{name}"
        every, why_not, is_refused, ahead = self._ask(log) if log is not None else (None, None, False, None)
        facts: dict[str, Any] = {}
        if seen is not None:
            arrivals = self._store.health.arrivals(name)
            facts = {
                "seen": seen,
                "key_uses": self._store.key_uses.of(name),
                "arrivals": [arrival.received_at for arrival in arrivals],
                "skews": _skews(arrivals, source.timestamp_header),
                "mark": self._store.marks.get(name) if log is not None else None,
                "quarantined": quarantined,
            }
        if log is not None:
            facts |= {
                "wanted": wanted_types(self._registry.handlers(), name, log.published_types, log.known_types),
                "id_labels": frozenset(label for label in labels if log.is_subscription_id(label)),
                "words": log.words,
            }
        return SourceFacts(
            name,
            has_log=log is not None,
            subscriptions=None if every is None else ours(every, labels, source.settings.public_url, path),
            every=every or (),
            why_not=why_not,
            is_refused=is_refused,
            public_url=source.settings.public_url,
            path=path,
            labels=labels,
            api_ahead=ahead,
            **facts,
        )

    def _ask(self, source: SourceWithLog) -> tuple[Sequence[Subscription] | None, str | None, bool, timedelta | None]:
        """The sender's subscriptions; or why they could not be had, and whether that is wrong (not merely unset)."""
        if not source.can_connect:
            return None, source.words.no_connection, False, None
        try:
            with source.connect() as client:
                return client.subscriptions(), None, False, client.clock_ahead
        except (ApiError, ConfigurationError) as error:
            return None, one_line(str(error)), isinstance(error, ApiError), None

    def _handlers(
        self, processes: Sequence[Process], seen: Mapping[str, Mapping[str, Seen]], now: datetime
    ) -> list[HandlerFacts]:
        backlogs = self._store.health.backlogs()
        states = self._store.handlers.states()
        registered = {handler.name: handler for handler in self._registry.handlers()}
        running = {name for process in processes for name in process.handlers}
        facts = []
        for name in sorted({*backlogs, *registered}):
            handler = registered.get(name)
            first_at = self._store.health.first_delivery_at(name) if handler is not None else None
            since = max(now - MISSED_LOOK_BACK, first_at) if first_at is not None else now - MISSED_LOOK_BACK
            missed = {}
            for source, types in seen.items() if handler is not None else ():
                wanted = [
                    type for type in types if any(each.name == name for each in self._registry.route(source, type))
                ]
                found = self._store.health.missed(name, source, wanted, since)
                if found is not None:
                    missed[source] = found
            facts.append(
                HandlerFacts(
                    name,
                    is_registered=handler is not None,
                    is_running=name in running,
                    backlog=backlogs.get(name, Backlog(name)),
                    state=states.get(name),
                    source=handler.source if handler is not None else None,
                    patterns=[str(pattern) for pattern in handler.patterns] if handler is not None else (),
                    missed=missed,
                    is_new=first_at is None,
                )
            )
        return facts

    # -- repairing -----------------------------------------------------------------------------------------

    def repair(self, facts: Facts, findings: Sequence[Finding]) -> list[str]:
        """Do what is safe about `findings`; a sentence for each thing done. Raises ApiError and StorageUnavailable."""
        done: list[str] = []
        for source in facts.sources:
            if source.subscriptions is None:
                continue
            mine = {source.name, *(each.id for each in source.subscriptions)}
            fixes = [(finding.fix, finding.subject) for finding in findings if finding.fix and finding.subject in mine]
            if fixes:
                done += self._repair(source, fixes)
        return done

    def _repair(self, source: SourceFacts, fixes: Sequence[tuple[Fix, str]]) -> list[str]:
        done = []
        kinds = {fix for fix, _ in fixes}
        log = with_log(self._sources[source.name])
        assert log is not None  # nothing else has subscriptions
        with log.connect() as client:
            if self._subscriptions is not None and kinds - {Fix.CATCH_UP}:
                subscriptions = self._subscriptions(log, client)
                if kinds & {Fix.SUBSCRIBE, Fix.FETCH_KEY}:
                    for change in subscriptions.plan_sync(source.wanted, keep=True, move=False):
                        if change.subscription is not None and change.is_needed:
                            subscriptions.apply([change])
                            added = f" asks for {_some(change.add)} as well" if change.add else ""
                            key = " has its key held" if change.needs_key else ""
                            done.append(f"{change.subscription.id}{' and'.join(part for part in (added, key) if part)}")
                for fix, id in fixes:
                    if fix is Fix.RESUME:
                        subscriptions.resume(id)
                        done.append(f"{id} is resumed")
        if self._catch_up is not None and kinds & {Fix.CATCH_UP, Fix.RESUME}:
            self._catch_up(log)
            done.append(f"caught up with {source.name}")
        return done


def _skews(arrivals: Sequence[Any], header: str | None) -> list[timedelta]:
    """How long after its signed timestamp each of the latest webhooks came."""
    found = []
    for arrival in arrivals[-50:]:
        text = arrival.headers.get(header or "", "")
        if text.isascii() and text.isdigit() and len(text) == 10:
            found.append(arrival.received_at - datetime.fromtimestamp(int(text), UTC))
    return found


__all__ = ["Doctor", "Facts", "Finding", "Fix", "HandlerFacts", "Level", "SourceFacts", "diagnose", "expected_silence"]
