"""What the facts say is wrong: a list of small checks, one for each code, as docs/runbook.md has them. Pure.

A check looks at one record of facts and says what is wrong with it, or None. Its code is its own name, with dashes.
What the database says of itself (`store.durability`) comes with codes and sentences of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from webhooks.operations.doctor import alarm_checks, database_checks, handler_checks, source_checks
from webhooks.operations.doctor import facts as each
from webhooks.operations.doctor.facts import Facts
from webhooks.operations.doctor.findings import Complaint, Finding, Level


def diagnose(facts: Facts) -> list[Finding]:
    """Everything that the facts say is wrong, the worst first, and of what is as bad that which holds up most."""
    findings = [*_of_durability(facts)]
    for subjects, check in CHECKS:
        for subject in subjects(facts):
            wrong = check(subject)
            if wrong is not None:
                findings.append(
                    Finding(
                        wrong.level, code_of(check), wrong.subject, wrong.text, wrong.command, wrong.fix, wrong.held
                    )
                )
    order = list(Level)
    return sorted(findings, key=lambda finding: (order.index(finding.level), -finding.held))


def code_of(check: Callable[[Any], Complaint | None]) -> str:
    """`subscription_paused` gives `subscription-paused`."""
    return check.__name__.replace("_", "-")


def _of_durability(facts: Facts) -> Iterator[Finding]:
    for doubt in facts.doubts:
        yield Finding(
            Level.ERROR if doubt.is_loss else Level.WARNING, doubt.code, "database", doubt.text, doubt.command
        )


_Subject = TypeVar("_Subject")
#: What is looked at, and what looks at one of it.
Check = tuple[Callable[[Facts], Iterable[Any]], Callable[[Any], Complaint | None]]


def _of(
    subjects: Callable[[Facts], Iterable[_Subject]], *checks: Callable[[_Subject], Complaint | None]
) -> tuple[Check, ...]:
    return tuple((subjects, check) for check in checks)


#: Every check; of equally bad findings the earlier comes first.
CHECKS: tuple[Check, ...] = (
    *_of(each.subscriptions, source_checks.subscription_paused),
    *_of(each.sources, source_checks.no_subscription),
    *_of(each.subscriptions, source_checks.subscription_url, source_checks.subscription_failing),
    *_of(
        each.sources,
        source_checks.types_not_subscribed,
        source_checks.types_not_handled,
        source_checks.types_never_seen,
        source_checks.types_unknown,
    ),
    *_of(each.subscriptions, source_checks.key_missing),
    *_of(each.unused_keys, source_checks.key_never_matched),
    *_of(each.sources, source_checks.refusing, source_checks.source_silent),
    *_of(each.clocks, source_checks.clock_skew),
    *_of(
        each.sources, source_checks.catch_up_failed, source_checks.catch_up_late, source_checks.events_without_content
    ),
    *_of(each.missed, handler_checks.events_without_delivery),
    *_of(
        each.handlers,
        handler_checks.orphaned_deliveries,
        handler_checks.lane_blocked,
        handler_checks.dead_deliveries,
        handler_checks.handler_failing,
        handler_checks.handler_paused,
        handler_checks.breaker_open,
    ),
    *_of(each.installation, handler_checks.no_worker, handler_checks.engine_silent),
    *_of(each.unserved_queues, handler_checks.queue_without_worker),
    *_of(each.sources, source_checks.quarantine, source_checks.conflicts, source_checks.equal_bodies),
    *_of(
        each.partitions,
        database_checks.partition_held,
        database_checks.partitions_ending,
        database_checks.partition_strays,
    ),
    *_of(each.unmigrated, database_checks.table_without_migration),
    *_of(
        each.installation,
        database_checks.schema_behind,
        database_checks.database_away,
        database_checks.writes_refused,
        database_checks.no_wakeup,
    ),
    *_of(each.sources, source_checks.api_refused, source_checks.not_checked),
    *_of(each.alarm_targets, alarm_checks.alarm_target_failing),
    *_of(each.installation, alarm_checks.no_heartbeat),
    *_of(each.unwatched, alarm_checks.silence_not_watched),
)

__all__ = ["CHECKS", "code_of", "diagnose"]
