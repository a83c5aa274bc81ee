"""What may be wrong with a source: its subscriptions, its keys, what arrives, catch-up, its sender's API. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime, timedelta

from webhooks.errors import hide_keys
from webhooks.formats import counted, one_line, shown_instant, span
from webhooks.operations.doctor.facts import LOOK_BACK, Against, ClockFacts, KeyFacts, SourceFacts, SubscriptionFacts
from webhooks.operations.doctor.findings import Complaint, Fix, Level, some

#: Clocks that differ by more are reported.
SKEW = timedelta(seconds=60)
#: A source is silent after this much more than its longest silence so far, and never before `LEAST_SILENCE`.
SILENCE_FACTOR = 1.5
LEAST_SILENCE = timedelta(hours=1)
#: Gaps between arrivals that must be known before silence means anything.
LEAST_GAPS = 10
#: Arrivals this close together count as one.
BURST = timedelta(seconds=60)
#: Fewer refused signatures are a probe's, or a scanner's.
LEAST_REFUSED = 5
#: A key is right again when a post passed, and none was refused for so long.
MENDED_AFTER = timedelta(minutes=2)
#: What came within this time came lately.
LATELY = timedelta(minutes=15)
#: The last catch-up by itself is older than this: it should have run hourly.
CATCH_UP_LATE = timedelta(hours=3)


# -- subscriptions --------------------------------------------------------------------------------------------------


def subscription_paused(facts: SubscriptionFacts) -> Complaint | None:
    """Nothing is sent."""
    found = facts.subscription
    if found.is_active:
        return None
    reason = f" ({found.pause_reason})" if found.pause_reason else ""
    by_call = "; it was paused on purpose, by a call" if found.paused_by_call else ""
    return Complaint(
        Level.ERROR,
        found.id,
        f"subscription {found.id} is {found.status}{reason}: nothing is sent, and what happens is in the log only{by_call}",
        f"webhooks subscriptions resume {found.id}",
        None if found.paused_by_call else Fix.RESUME,
    )


def no_subscription(source: SourceFacts) -> Complaint | None:
    """No subscription posts to us."""
    if source.subscriptions is None or source.subscriptions:
        return None
    return Complaint(
        Level.ERROR,
        source.name,
        f"no subscription is known to post to {source.name}, so no webhook comes",
        "webhooks subscriptions sync" + ("" if source.public_url else f" --url https://YOUR-HOST{source.path}"),
    )


def subscription_url(facts: SubscriptionFacts) -> Complaint | None:
    """It posts to another address."""
    found, public_url = facts.subscription, facts.source.public_url
    if not public_url or found.url.rstrip("/") == public_url.rstrip("/"):
        return None
    return Complaint(
        Level.ERROR,
        found.id,
        f"subscription {found.id} posts to {hide_keys(one_line(found.url))}, not to the public_url {hide_keys(public_url)}",
        "webhooks subscriptions sync",
    )


def subscription_failing(facts: SubscriptionFacts) -> Complaint | None:
    """The sender reports errors."""
    found = facts.subscription
    if found.health_status in (None, "healthy") and not found.latest_error:
        return None
    health = f"its health is {one_line(found.health_status, 60)!r}" if found.health_status else ""
    error = f"its latest error is {found.latest_error!r}" if found.latest_error else ""
    return Complaint(
        Level.WARNING,
        found.id,
        f"subscription {found.id} has trouble reaching us: {'; '.join(part for part in (health, error) if part)}",
        "webhooks sources",
    )


def types_not_subscribed(source: SourceFacts) -> Complaint | None:
    """Handlers want what no subscription asks for."""
    missing = sorted(source.wanted.types - source.topics)
    if not source.subscriptions or not missing:
        return None
    return Complaint(
        Level.ERROR,
        source.name,
        f"handlers want {some(missing)} of {source.name}, which no subscription asks for",
        "webhooks subscriptions sync",
        Fix.SUBSCRIBE,
    )


def types_not_handled(source: SourceFacts) -> Complaint | None:
    """Subscribed, and no handler wants it."""
    idle = sorted(source.topics - source.wanted.types)
    if not source.subscriptions or not idle or not source.wanted.types:
        return None
    return Complaint(
        Level.NOTE,
        source.name,
        f"subscriptions bring {some(idle)} of {source.name}, which no handler wants",
        "webhooks subscriptions sync --dry-run",
    )


def types_never_seen(source: SourceFacts) -> Complaint | None:
    """Subscribed, wanted, and never seen."""
    unseen = sorted((source.wanted.types & source.topics) - source.seen.keys())
    if not source.subscriptions or not unseen or not source.seen:
        return None
    return Complaint(
        Level.NOTE,
        source.name,
        f"of {source.name}, {some(unseen)} never came in the last {LOOK_BACK.days} days",
        f"webhooks catch-up {source.name} --since {LOOK_BACK.days}d --dry-run",
    )


def types_unknown(source: SourceFacts) -> Complaint | None:
    """Wanted, and not published by the sender."""
    if not source.subscriptions or not source.wanted.unknown:
        return None
    return Complaint(
        Level.NOTE,
        source.name,
        f"handlers want {some(source.wanted.unknown)}, which {source.name} does not publish: no webhook brings it",
        "webhooks handlers",
    )


# -- keys -----------------------------------------------------------------------------------------------------------


def key_missing(facts: SubscriptionFacts) -> Complaint | None:
    """A subscription of ours whose key we do not hold."""
    source, found = facts.source, facts.subscription
    if found.id in source.labels or source.has_a_key_under_another_label:
        return None
    return Complaint(
        Level.ERROR,
        found.id,
        f"the key of subscription {found.id} is not held, so its deliveries are refused with 401",
        "webhooks subscriptions sync",
        Fix.FETCH_KEY,
    )


def key_never_matched(facts: KeyFacts) -> Complaint | None:
    """A key that never verified a delivery."""
    source, label = facts.source, facts.label
    subscription = next((each for each in source.every if each.id == label), None)
    if subscription is None:
        why = "; no subscription has this id any more" if label in source.id_labels and source.every else ""
        text = f"the key {label!r} of {source.name} never matched a delivery{why}; take it out of the settings"
        command = "webhooks subscriptions list" if source.has_log else "webhooks sources"
        return Complaint(Level.WARNING, label, text, command)
    if not subscription.is_active:
        return None
    text = f"the key {label!r} of {source.name} never matched a delivery, although its subscription is active"
    return Complaint(Level.WARNING, label, text, f"webhooks subscriptions rotate {label}")


# -- arrivals -------------------------------------------------------------------------------------------------------


def expected_silence(arrivals: Sequence[datetime]) -> timedelta | None:
    """After how long without a webhook a source is silent: learned from its longest gap; None when too little is known."""
    gaps = [later - earlier for earlier, later in itertools.pairwise(arrivals) if later - earlier > BURST]
    if len(gaps) < LEAST_GAPS:
        return None
    return max(LEAST_SILENCE, max(gaps) * SILENCE_FACTOR)


def source_silent(source: SourceFacts) -> Complaint | None:
    """Nothing came for longer than the operator expects; where that is not said, than ever before."""
    if source.expect_within is not None:
        return _silent_by_settings(source, source.expect_within)
    expected = expected_silence(source.arrivals)
    if expected is None or source.now - source.arrivals[-1] <= expected:
        return None
    silent = source.now - source.arrivals[-1]
    return Complaint(
        Level.WARNING,
        source.name,
        f"nothing came from {source.name} for {span(silent)}; after what came before, {span(expected)} would be long",
        f"webhooks catch-up {source.name}" if source.has_log else "webhooks sources",
        Fix.CATCH_UP
        if source.has_log and (source.subscriptions is not None or not source.lists_subscriptions)
        else None,
    )


def _silent_by_settings(source: SourceFacts, expected: timedelta) -> Complaint | None:
    last_at = source.last_at
    if last_at is None or source.database_now - last_at <= expected:
        return None
    return Complaint(
        Level.ERROR,
        source.name,
        f"{source.name} has sent nothing for {span(source.database_now - last_at)}; expected within {span(expected)}",
        f"webhooks catch-up {source.name}" if source.has_log else "webhooks sources",
        Fix.CATCH_UP if source.has_log and source.subscriptions is not None else None,
    )


def refusing(source: SourceFacts) -> Complaint | None:
    """Posts are refused for their signature; ends once one passes, and none was refused for a while."""
    if source.refused < LEAST_REFUSED or source.refused_at is None:
        return None
    passes = source.verified_at is not None and source.verified_at > source.refused_at
    if passes and source.database_now - source.refused_at > MENDED_AFTER:
        return None
    lately = source.verified_at is not None and source.database_now - source.verified_at < LATELY
    text = f"of {source.name}, at least {source.refused} requests were refused for their signature within 15 minutes"
    return Complaint(
        Level.WARNING if lately else Level.ERROR,
        source.name,
        f"{text}, while others passed: one of its keys is missing or wrong"
        if lately
        else f"{text}, and none passed: probably a wrong key",
        "webhooks explain",
    )


def clock_skew(clock: ClockFacts) -> Complaint | None:
    """This machine's clock differs by over a minute from another."""
    if abs(clock.ahead) <= SKEW:
        return None
    is_ahead = clock.ahead > timedelta(0)
    by, subject = span(abs(clock.ahead)), clock.subject
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
    return Complaint(Level.WARNING, subject, text, "timedatectl set-ntp true")


# -- catch-up -------------------------------------------------------------------------------------------------------


def catch_up_failed(source: SourceFacts) -> Complaint | None:
    """The hourly run fails."""
    if not _is_caught_up(source) or source.mark is None or source.mark.error is None:
        return None
    return Complaint(
        Level.ERROR,
        source.name,
        f"the last catch-up of {source.name} failed: {source.mark.error}",
        f"webhooks catch-up {source.name}",
        Fix.CATCH_UP,
    )


def catch_up_late(source: SourceFacts) -> Complaint | None:
    """The hourly run does not run. Runs are timed by the database's clock."""
    mark = source.mark
    if not _is_caught_up(source) or mark is None or mark.error is not None or mark.ran_at is None:
        return None
    ago = source.database_now - mark.ran_at
    if ago <= CATCH_UP_LATE:
        return None
    return Complaint(
        Level.WARNING,
        source.name,
        f"the last catch-up of {source.name} was {span(ago)} ago, and workers do it hourly: does a worker with the API key "
        "run?",
        f"webhooks catch-up {source.name}",
        Fix.CATCH_UP,
    )


def events_without_content(source: SourceFacts) -> Complaint | None:
    """Stripped entries wait for a key that may see them."""
    if not _is_caught_up(source) or source.mark is None or source.mark.stripped_at is None:
        return None
    return Complaint(
        Level.ERROR,
        source.name,
        f"since {shown_instant(source.mark.stripped_at)} there are events of {source.name} that catch-up could only see "
        f"without their content, because {source.words.no_content}; {source.words.remedy}, then",
        f"webhooks catch-up {source.name}",
    )


def _is_caught_up(source: SourceFacts) -> bool:
    """Whether catch-up runs here, or once did; without an API key it never does."""
    return (
        source.has_log
        and source.mark is not None
        and not (source.mark.ran_at is None and source.subscriptions is None and source.lists_subscriptions)
    )


def quarantine(source: SourceFacts) -> Complaint | None:
    """Requests that could not be read."""
    if not source.quarantined:
        return None
    return Complaint(
        Level.WARNING,
        source.name,
        f"of {source.name}, {counted(source.quarantined, 'request')} could not be read and {'stays' if source.quarantined == 1 else 'stay'} in quarantine",
        f"webhooks quarantine list --source {source.name}",
    )


def conflicts(source: SourceFacts) -> Complaint | None:
    """Copies with another body under a known key, of a sender without revisions: kept, and not delivered."""
    if not source.conflicts:
        return None
    return Complaint(
        Level.WARNING,
        source.name,
        f"of {source.name}, about {counted(source.conflicts, 'request')} of the last day had another body under a known "
        "key: kept, and run by no handler; if that sender sends changes under the same id, its key must tell them apart",
        f"webhooks events list --source {source.name} --since 1d",
    )


def equal_bodies(source: SourceFacts) -> Complaint | None:
    """One body under so many keys that are not signed: a sender that says little, or a captured request that is sent again."""
    if not source.equal_bodies:
        return None
    bodies = "one body" if source.equal_bodies == 1 else f"{source.equal_bodies} bodies"
    return Complaint(
        Level.WARNING,
        source.name,
        f"of {source.name}, {bodies} came under more ids in an hour than may run (equal_bodies); further ones were duplicates. If the sender "
        "sends such, raise equal_bodies; if not, a captured request may be sent again: dedup = 'body' runs each once",
        f"webhooks events list --source {source.name} --since 1d",
    )


# -- the sender's API -----------------------------------------------------------------------------------------------


def api_refused(source: SourceFacts) -> Complaint | None:
    """The sender was asked, and did not answer."""
    return _of_asking(source, Level.ERROR) if source.is_refused else None


def not_checked(source: SourceFacts) -> Complaint | None:
    """The sender could not be asked."""
    return None if source.is_refused else _of_asking(source, Level.NOTE)


def _of_asking(source: SourceFacts, level: Level) -> Complaint | None:
    if not source.has_log or source.why_not is None:
        return None
    if not source.lists_subscriptions:
        text = f"{source.words.sender} cannot be asked for what never came of {source.name}: {source.why_not}"
        return Complaint(level, source.name, text, f"webhooks catch-up {source.name} --dry-run")
    return Complaint(
        level,
        source.name,
        f"the subscriptions of {source.name} were not checked: {source.why_not}",
        f"webhooks subscriptions list --source {source.name}",
    )
