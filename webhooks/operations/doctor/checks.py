"""What the facts say is wrong: a list of small checks, one for each code, in the order of docs/close.md. Pure.

A check looks at one record of facts and says what is wrong with it, or None. Its code is its own name, with dashes.
What the database says of itself (`store.durability`) comes with codes and sentences of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from webhooks.database import Unmigrated
from webhooks.errors import hide_keys
from webhooks.formats import one_line
from webhooks.operations.doctor import facts as each
from webhooks.operations.doctor.facts import (
    LOOK_BACK,
    Against,
    ClockFacts,
    Facts,
    HandlerFacts,
    KeyFacts,
    MissedFacts,
    SourceFacts,
    SubscriptionFacts,
)
from webhooks.operations.doctor.findings import Finding, Fix, Level, Wrong, counted, rough, shown_instant, some
from webhooks.store.handlers import BreakerState
from webhooks.store.retention.partitions import Problem, Trouble

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


def diagnose(facts: Facts) -> list[Finding]:
    """Everything that the facts say is wrong, the worst first."""
    findings = [*_of_durability(facts)]
    for subjects, check in CHECKS:
        for subject in subjects(facts):
            wrong = check(subject)
            if wrong is not None:
                findings.append(
                    Finding(wrong.level, code_of(check), wrong.subject, wrong.text, wrong.command, wrong.fix)
                )
    order = list(Level)
    return sorted(findings, key=lambda finding: order.index(finding.level))


def code_of(check: Callable[[Any], Wrong | None]) -> str:
    """`subscription_paused` gives `subscription-paused`."""
    return check.__name__.replace("_", "-")


def _of_durability(facts: Facts) -> Iterator[Finding]:
    for doubt in facts.doubts:
        yield Finding(
            Level.ERROR if doubt.is_loss else Level.WARNING, doubt.code, "database", doubt.text, doubt.command
        )


# -- subscriptions --------------------------------------------------------------------------------------------------


def subscription_paused(facts: SubscriptionFacts) -> Wrong | None:
    """Nothing is sent."""
    found = facts.subscription
    if found.is_active:
        return None
    reason = f" ({found.pause_reason})" if found.pause_reason else ""
    by_call = "; it was paused on purpose, by a call" if found.paused_by_call else ""
    return Wrong(
        Level.ERROR,
        found.id,
        f"subscription {found.id} is {found.status}{reason}: nothing is sent, and what happens is in the log only{by_call}",
        f"webhooks subscriptions resume {found.id}",
        None if found.paused_by_call else Fix.RESUME,
    )


def no_subscription(source: SourceFacts) -> Wrong | None:
    """No subscription posts to us."""
    if source.subscriptions is None or source.subscriptions:
        return None
    return Wrong(
        Level.ERROR,
        source.name,
        f"no subscription is known to post to {source.name}, so no webhook comes",
        "webhooks subscriptions sync" + ("" if source.public_url else f" --url https://YOUR-HOST{source.path}"),
    )


def subscription_url(facts: SubscriptionFacts) -> Wrong | None:
    """It posts to another address."""
    found, public_url = facts.subscription, facts.source.public_url
    if not public_url or found.url.rstrip("/") == public_url.rstrip("/"):
        return None
    return Wrong(
        Level.ERROR,
        found.id,
        f"subscription {found.id} posts to {hide_keys(one_line(found.url))}, not to the public_url {hide_keys(public_url)}",
        "webhooks subscriptions sync",
    )


def subscription_failing(facts: SubscriptionFacts) -> Wrong | None:
    """The sender reports errors."""
    found = facts.subscription
    if found.health_status in (None, "healthy") and not found.latest_error:
        return None
    health = f"its health is {one_line(found.health_status, 60)!r}" if found.health_status else ""
    error = f"its latest error is {found.latest_error!r}" if found.latest_error else ""
    return Wrong(
        Level.WARNING,
        found.id,
        f"subscription {found.id} has trouble reaching us: {'; '.join(part for part in (health, error) if part)}",
        "webhooks sources",
    )


def types_not_subscribed(source: SourceFacts) -> Wrong | None:
    """Handlers want what no subscription asks for."""
    missing = sorted(source.wanted.types - source.topics)
    if not source.subscriptions or not missing:
        return None
    return Wrong(
        Level.ERROR,
        source.name,
        f"handlers want {some(missing)} of {source.name}, which no subscription asks for",
        "webhooks subscriptions sync",
        Fix.SUBSCRIBE,
    )


def types_not_handled(source: SourceFacts) -> Wrong | None:
    """Subscribed, and no handler wants it."""
    idle = sorted(source.topics - source.wanted.types)
    if not source.subscriptions or not idle or not source.wanted.types:
        return None
    return Wrong(
        Level.NOTE,
        source.name,
        f"subscriptions bring {some(idle)} of {source.name}, which no handler wants",
        "webhooks subscriptions sync --dry-run",
    )


def types_never_seen(source: SourceFacts) -> Wrong | None:
    """Subscribed, wanted, and never seen."""
    unseen = sorted((source.wanted.types & source.topics) - source.seen.keys())
    if not source.subscriptions or not unseen or not source.seen:
        return None
    return Wrong(
        Level.NOTE,
        source.name,
        f"of {source.name}, {some(unseen)} never came in the last {LOOK_BACK.days} days",
        f"webhooks catch-up {source.name} --since {LOOK_BACK.days}d --dry-run",
    )


def types_unknown(source: SourceFacts) -> Wrong | None:
    """Wanted, and not published by the sender."""
    if not source.subscriptions or not source.wanted.unknown:
        return None
    return Wrong(
        Level.NOTE,
        source.name,
        f"handlers want {some(source.wanted.unknown)}, which {source.name} does not publish: no webhook brings it",
        "webhooks handlers",
    )


# -- keys -----------------------------------------------------------------------------------------------------------


def key_missing(facts: SubscriptionFacts) -> Wrong | None:
    """A subscription of ours whose key we do not hold."""
    source, found = facts.source, facts.subscription
    if found.id in source.labels or source.has_a_key_under_another_label:
        return None
    return Wrong(
        Level.ERROR,
        found.id,
        f"the key of subscription {found.id} is not held, so its deliveries are refused with 401",
        "webhooks subscriptions sync",
        Fix.FETCH_KEY,
    )


def key_never_matched(facts: KeyFacts) -> Wrong | None:
    """A key that never verified a delivery."""
    source, label = facts.source, facts.label
    subscription = next((each for each in source.every if each.id == label), None)
    if subscription is None:
        why = "; no subscription has this id any more" if label in source.id_labels and source.every else ""
        text = f"the key {label!r} of {source.name} never matched a delivery{why}; take it out of the settings"
        return Wrong(Level.WARNING, label, text, "webhooks subscriptions list")
    if not subscription.is_active:
        return None
    text = f"the key {label!r} of {source.name} never matched a delivery, although its subscription is active"
    return Wrong(Level.WARNING, label, text, f"webhooks subscriptions rotate {label}")


# -- arrivals -------------------------------------------------------------------------------------------------------


def expected_silence(arrivals: Sequence[datetime]) -> timedelta | None:
    """After how long without a webhook a source is silent: learned from its longest gap; None when too little is known."""
    gaps = [later - earlier for earlier, later in itertools.pairwise(arrivals) if later - earlier > BURST]
    if len(gaps) < LEAST_GAPS:
        return None
    return max(LEAST_SILENCE, max(gaps) * SILENCE_FACTOR)


def source_silent(source: SourceFacts) -> Wrong | None:
    """Nothing came for longer than ever before."""
    expected = expected_silence(source.arrivals)
    if expected is None or source.now - source.arrivals[-1] <= expected:
        return None
    silent = source.now - source.arrivals[-1]
    return Wrong(
        Level.WARNING,
        source.name,
        f"nothing came from {source.name} for {rough(silent)}; after what came before, {rough(expected)} would be long",
        f"webhooks catch-up {source.name}" if source.has_log else "webhooks sources",
        Fix.CATCH_UP if source.has_log and source.subscriptions is not None else None,
    )


def clock_skew(clock: ClockFacts) -> Wrong | None:
    """This machine's clock differs by over a minute from another."""
    if abs(clock.ahead) <= SKEW:
        return None
    is_ahead = clock.ahead > timedelta(0)
    by, subject = rough(clock.ahead), clock.subject
    if clock.against is Against.DATABASE:
        text = f"the database's clock is {by} {'behind' if is_ahead else 'ahead of'} this machine's; set both by NTP"
    elif clock.against is Against.API:
        text = f"this machine's clock is {by} {'ahead of' if is_ahead else 'behind'} that of {subject}'s API"
    elif is_ahead:
        text = (
            f"every delivery of {subject} was signed at least {by} before it came: this machine's clock is ahead, or all of "
            "them come late"
        )
    else:
        text = (
            f"deliveries of {subject} were signed {by} after they came: this machine's clock is behind; at 5 min they are "
            "refused"
        )
    return Wrong(Level.WARNING, subject, text, "timedatectl set-ntp true")


# -- catch-up -------------------------------------------------------------------------------------------------------


def catch_up_failed(source: SourceFacts) -> Wrong | None:
    """The hourly run fails."""
    if not _is_caught_up(source) or source.mark is None or source.mark.error is None:
        return None
    return Wrong(
        Level.ERROR,
        source.name,
        f"the last catch-up of {source.name} failed: {source.mark.error}",
        f"webhooks catch-up {source.name}",
        Fix.CATCH_UP,
    )


def catch_up_late(source: SourceFacts) -> Wrong | None:
    """The hourly run does not run. Runs are timed by the database's clock."""
    mark = source.mark
    if not _is_caught_up(source) or mark is None or mark.error is not None or mark.ran_at is None:
        return None
    ago = source.database_now - mark.ran_at
    if ago <= CATCH_UP_LATE:
        return None
    return Wrong(
        Level.WARNING,
        source.name,
        f"the last catch-up of {source.name} was {rough(ago)} ago, and workers do it hourly: does a worker with the API key "
        "run?",
        f"webhooks catch-up {source.name}",
        Fix.CATCH_UP,
    )


def events_without_content(source: SourceFacts) -> Wrong | None:
    """Stripped entries wait for a key that may see them."""
    if not _is_caught_up(source) or source.mark is None or source.mark.stripped_at is None:
        return None
    return Wrong(
        Level.ERROR,
        source.name,
        f"since {shown_instant(source.mark.stripped_at)} there are events of {source.name} that catch-up could only see "
        f"without their content, because {source.words.no_content}; {source.words.remedy}, then",
        f"webhooks catch-up {source.name}",
    )


def _is_caught_up(source: SourceFacts) -> bool:
    """Whether catch-up runs here, or once did; without an API key it never does."""
    return (
        source.has_log and source.mark is not None and not (source.mark.ran_at is None and source.subscriptions is None)
    )


def events_without_delivery(facts: MissedFacts) -> Wrong | None:
    """Events that older code accepted without a delivery for a handler."""
    handler, missed = facts.handler, facts.missed
    why = "it never ran here before" if handler.is_new else "older code accepted them, or the handler wants more now"
    first = shown_instant(missed.first_at)
    return Wrong(
        Level.NOTE if handler.is_new else Level.WARNING,
        handler.name,
        f"for handler {handler.name!r} there are {counted(missed.count, 'event')} of {facts.source} from {first} on without "
        f"a delivery: {why}",
        f"webhooks replay --handler {handler.name} --source {facts.source} --since {first} "
        f"--until {shown_instant(missed.last_at + timedelta(seconds=1))}",
    )


# -- deliveries -----------------------------------------------------------------------------------------------------


def orphaned_deliveries(handler: HandlerFacts) -> Wrong | None:
    """Deliveries of a handler that no process has."""
    backlog = handler.backlog
    unfinished = backlog.pending + backlog.running
    if not unfinished or handler.is_registered or handler.is_running:
        return None
    return Wrong(
        Level.WARNING,
        handler.name,
        f"handler {handler.name!r}, which neither this directory nor any running process has, has "
        f"{counted(unfinished, 'delivery', backlog.is_more)} waiting: bring it back under that name, or cancel them",
        f"webhooks deliveries cancel --handler {handler.name} --dry-run",
    )


def lane_blocked(handler: HandlerFacts) -> Wrong | None:
    """A dead delivery holds those of its ordering key."""
    backlog = handler.backlog
    if not backlog.lanes:
        return None
    return Wrong(
        Level.ERROR,
        handler.name,
        f"handler {handler.name!r} has {counted(backlog.lanes, 'lane')} stuck behind a dead delivery, with "
        f"{counted(backlog.held, 'delivery')} waiting there",
        f"webhooks requeue --handler {handler.name} --state dead",
    )


def dead_deliveries(handler: HandlerFacts) -> Wrong | None:
    """Their attempts are used up; said of a handler of which `lane_blocked` says nothing."""
    backlog = handler.backlog
    if not backlog.dead or backlog.lanes:
        return None
    return Wrong(
        Level.WARNING,
        handler.name,
        f"handler {handler.name!r} has {counted(backlog.dead, 'dead delivery', backlog.is_more)}: their attempts are used up",
        f"webhooks deliveries list --handler {handler.name} --state dead --group",
    )


def handler_failing(handler: HandlerFacts) -> Wrong | None:
    """It succeeds with nothing; said of a handler of which `breaker_open` says nothing."""
    backlog = handler.backlog
    if backlog.failing_since is None or backlog.failures < LEAST_FAILURES or _is_open(handler):
        return None
    return Wrong(
        Level.WARNING,
        handler.name,
        f"handler {handler.name!r} has succeeded with nothing since {shown_instant(backlog.failing_since)}: "
        f"{counted(backlog.retrying, 'delivery', backlog.is_more)} failed {counted(backlog.failures, 'time')} and "
        f"{'waits' if backlog.retrying == 1 else 'wait'} for a retry; once it is mended: webhooks requeue --handler "
        f"{handler.name} --state pending",
        f"webhooks deliveries list --handler {handler.name} --state pending --group",
    )


def handler_paused(handler: HandlerFacts) -> Wrong | None:
    """An operator paused it."""
    if handler.state is None or not handler.state.paused:
        return None
    return Wrong(
        Level.WARNING,
        handler.name,
        f"handler {handler.name!r} was paused by {handler.state.paused_by}, with "
        f"{counted(handler.backlog.pending, 'delivery', handler.backlog.is_more)} waiting",
        f"webhooks handlers resume {handler.name}",
    )


def breaker_open(handler: HandlerFacts) -> Wrong | None:
    """Its circuit breaker holds it; said of a handler that is not paused."""
    if handler.state is None or handler.state.paused or not _is_open(handler):
        return None
    return Wrong(
        Level.WARNING,
        handler.name,
        f"the circuit breaker of handler {handler.name!r} is open after {handler.state.breaker_failures} failures in a row",
        f"webhooks deliveries list --handler {handler.name} --group",
    )


def _is_open(handler: HandlerFacts) -> bool:
    return handler.state is not None and handler.state.breaker is BreakerState.OPEN


def no_worker(facts: Facts) -> Wrong | None:
    """Deliveries wait, and no worker runs."""
    waiting = [
        handler.backlog
        for handler in facts.handlers
        if handler.backlog.pending and (handler.state is None or not handler.state.paused)
    ]
    # what is scheduled for later does not wait for a worker
    since = [backlog.due_since if backlog.due or backlog.scheduled else backlog.eldest_at for backlog in waiting]
    oldest = min((at for at in since if at is not None), default=None)
    if oldest is None or facts.now - oldest < WAITS_FOR_WORKER:
        return None
    if any(process.kind == "worker" for process in facts.processes):
        return None
    count = sum(backlog.pending for backlog in waiting)
    is_more = any(backlog.is_more for backlog in waiting)
    return Wrong(
        Level.ERROR,
        "worker",
        f"no worker runs, with {counted(count, 'delivery', is_more)} waiting, the oldest for {rough(facts.now - oldest)}",
        "webhooks worker",
    )


def quarantine(source: SourceFacts) -> Wrong | None:
    """Requests that could not be read."""
    if not source.quarantined:
        return None
    return Wrong(
        Level.WARNING,
        source.name,
        f"of {source.name}, {counted(source.quarantined, 'request')} could not be read and stay in quarantine",
        f"webhooks quarantine list --source {source.name}",
    )


# -- the database ---------------------------------------------------------------------------------------------------


def partition_held(problem: Problem) -> Wrong | None:
    """An old partition that something still needs."""
    return _of_partitions(problem, Trouble.HELD, Level.WARNING)


def partitions_ending(problem: Problem) -> Wrong | None:
    """None is made ahead."""
    return _of_partitions(problem, Trouble.ENDING, Level.WARNING)


def partition_strays(problem: Problem) -> Wrong | None:
    """Events stand outside of them."""
    return _of_partitions(problem, Trouble.STRAYS, Level.NOTE)


def _of_partitions(problem: Problem, trouble: Trouble, level: Level) -> Wrong | None:
    return Wrong(level, "database", problem.text, problem.command) if problem.trouble is trouble else None


def table_without_migration(found: Unmigrated) -> Wrong | None:
    """A plugin's code has a table that no migration makes."""
    return Wrong(Level.ERROR, found.history.name, f"{found.text}: handlers that use it fail", found.command)


def schema_behind(facts: Facts) -> Wrong | None:
    """The schema is not at head; nothing else in the database was looked at."""
    if facts.schema_is_current:
        return None
    return Wrong(
        Level.ERROR,
        "database",
        "the database schema is not at head, so events are answered 503; nothing else in it was looked at",
        "webhooks db upgrade",
    )


def database_away(facts: Facts) -> Wrong | None:
    """The database cannot be used."""
    if facts.database_problem is None:
        return None
    text = f"the database cannot be used, so events are answered 503: {facts.database_problem}"
    return Wrong(Level.ERROR, "database", text)


def writes_refused(facts: Facts) -> Wrong | None:
    """A trial write is refused."""
    if facts.write_problem is None:
        return None
    text = f"a trial write is refused, so events are answered 503: {facts.write_problem}"
    return Wrong(Level.ERROR, "database", text)


# -- the sender's API -----------------------------------------------------------------------------------------------


def api_refused(source: SourceFacts) -> Wrong | None:
    """The sender was asked, and did not answer."""
    return _of_asking(source, Level.ERROR) if source.is_refused else None


def not_checked(source: SourceFacts) -> Wrong | None:
    """The sender could not be asked."""
    return None if source.is_refused else _of_asking(source, Level.NOTE)


def _of_asking(source: SourceFacts, level: Level) -> Wrong | None:
    if not source.has_log or source.why_not is None:
        return None
    return Wrong(
        level,
        source.name,
        f"the subscriptions of {source.name} were not checked: {source.why_not}",
        f"webhooks subscriptions list --source {source.name}",
    )


# -- all of them ----------------------------------------------------------------------------------------------------

_Subject = TypeVar("_Subject")
#: What is looked at, and what looks at one of it.
Check = tuple[Callable[[Facts], Iterable[Any]], Callable[[Any], Wrong | None]]


def _of(
    subjects: Callable[[Facts], Iterable[_Subject]], *checks: Callable[[_Subject], Wrong | None]
) -> tuple[Check, ...]:
    return tuple((subjects, check) for check in checks)


#: Every check, in the order of docs/close.md.
CHECKS: tuple[Check, ...] = (
    *_of(each.subscriptions, subscription_paused),
    *_of(each.sources, no_subscription),
    *_of(each.subscriptions, subscription_url, subscription_failing),
    *_of(each.sources, types_not_subscribed, types_not_handled, types_never_seen, types_unknown),
    *_of(each.subscriptions, key_missing),
    *_of(each.unused_keys, key_never_matched),
    *_of(each.sources, source_silent),
    *_of(each.clocks, clock_skew),
    *_of(each.sources, catch_up_failed, catch_up_late, events_without_content),
    *_of(each.missed, events_without_delivery),
    *_of(
        each.handlers, orphaned_deliveries, lane_blocked, dead_deliveries, handler_failing, handler_paused, breaker_open
    ),
    *_of(each.installation, no_worker),
    *_of(each.sources, quarantine),
    *_of(each.partitions, partition_held, partitions_ending, partition_strays),
    *_of(each.unmigrated, table_without_migration),
    *_of(each.installation, schema_behind, database_away, writes_refused),
    *_of(each.sources, api_refused, not_checked),
)

__all__ = ["CHECKS", "code_of", "diagnose", "expected_silence"]
