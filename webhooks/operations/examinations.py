"""Look for what is wrong every five minutes in one worker, and keep what was found, with since when it has been there.

`Doctor.collect` asks senders and takes seconds, so a page shows the last examination with its age. Losing one loses
nothing: it is made again. Not here: what is wrong (`doctor`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from webhooks.formats import DEFAULT_QUEUE, iso_text
from webhooks.operations import records
from webhooks.operations.background import BackgroundDuty
from webhooks.operations.doctor import Facts, HandlerFacts, Level, SourceFacts, diagnose, handler_checks, source_checks
from webhooks.operations.doctor.checks import code_of
from webhooks.operations.figures import guarded
from webhooks.operations.subscriptions import difference
from webhooks.operations.words import change_lines
from webhooks.sources import Source, Subscription, with_log
from webhooks.store.gauges import Arrivals
from webhooks.store.handlers import HandlerState
from webhooks.store.health import Backlog, Gauges
from webhooks.store.processes import Process
from webhooks.store.snapshots import Snapshot

if TYPE_CHECKING:
    from webhooks.operations.doctor import Doctor, Finding
    from webhooks.store import Store

#: The name of the lease that elects a worker, and of the snapshot.
DOCTOR = "doctor"
#: The name of the snapshot of what senders said of their subscriptions.
SUBSCRIPTIONS = "subscriptions"
EXAMINE_EVERY = timedelta(minutes=5)
#: Codes of what rows say at once.
LIVE = frozenset(
    code_of(check)
    for check in (
        handler_checks.orphaned_deliveries,
        handler_checks.lane_blocked,
        handler_checks.dead_deliveries,
        handler_checks.handler_failing,
        handler_checks.handler_paused,
        handler_checks.breaker_open,
        handler_checks.no_worker,
        handler_checks.engine_silent,
        handler_checks.queue_without_worker,
        source_checks.quarantine,
        source_checks.refusing,
    )
)
#: The code of a silence; rows say it at once where the operator says what is expected.
SILENT = code_of(source_checks.source_silent)


class DoctorDuty(BackgroundDuty):
    """Examines the installation every five minutes, and keeps what was found for every page.

    make: a `Doctor` for the process of that id.
    """

    #: How often it is looked whether an examination is due.
    LOOK_EVERY = timedelta(seconds=15)

    def __init__(
        self,
        make: Callable[[str], Doctor],
        store: Store,
        every: timedelta = EXAMINE_EVERY,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("webhooks-doctor", self.LOOK_EVERY, monotonic, first_after=self.LOOK_EVERY)
        self._make = make
        self._store = store
        self._every = every

    def tick(self, holder: str) -> None:
        """Begin an examination when one is due."""
        if self.may_look():
            self.begin(lambda: guarded(lambda: self.turn(holder), "what is wrong"))

    def turn(self, holder: str) -> bool:
        """Examine, if that is due and `holder` is elected; whether it did. Raises StorageUnavailable."""
        last = self._store.snapshots.get([DOCTOR]).get(DOCTOR)
        if last is not None and timedelta(0) <= self._store.database.now() - last.at < self._every:
            return False
        if not self._store.processes.acquire(DOCTOR, holder, self._every):
            return False
        examine(self._make(holder), self._store)
        return True


def examine(doctor: Doctor, store: Store) -> Sequence[Finding]:
    """Examine now, and keep what was found for every page. Raises StorageUnavailable."""
    facts = doctor.collect()
    findings = diagnose(facts)
    before = store.snapshots.get([DOCTOR]).get(DOCTOR)
    known = before.body if before is not None else {}
    store.snapshots.put(DOCTOR, document(findings, known, iso_text(store.database.now())))
    store.snapshots.put(
        SUBSCRIPTIONS, {each.name: subscriptions_document(each) for each in facts.sources if each.has_log}
    )
    return findings


def subscriptions_document(facts: SourceFacts) -> dict[str, Any]:
    """What the sender said of its subscriptions to us, and what the handlers want that none asks for."""
    return {
        "why_not": facts.why_not,
        "is_refused": facts.is_refused,
        "subscriptions": [
            records.subscription_json(each, each.id in facts.labels, facts.key_uses.get(each.id))
            for each in facts.subscriptions or ()
        ],
        "wanted": sorted(facts.wanted.types),
        "plan": [] if facts.subscriptions is None or not facts.wanted.types else _plan(facts, facts.subscriptions),
        "missing": sorted(facts.wanted.types - facts.topics) if facts.subscriptions is not None else [],
    }


def _plan(facts: SourceFacts, found: Sequence[Subscription]) -> list[dict[str, Any]]:
    """What `webhooks subscriptions sync` would do, in its words."""
    changes = difference(found, facts.wanted, url=facts.public_url, labels=facts.labels)
    return [{"is_needed": each.is_needed, "lines": change_lines(each)} for each in changes]


def standing(
    registered: Sequence[str],
    gauges: Gauges,
    states: Mapping[str, HandlerState],
    processes: Sequence[Process],
) -> list[Finding]:
    """What is wrong now with handlers, queues and workers: what rows say at once, without asking a sender. Pure.

    registered: names of the handlers that this process has.
    gauges: how deliveries stand.
    states: {handler: state} on record.
    processes: those that reported lately.
    """
    running = {name for process in processes for name in process.handlers}
    handlers = [
        HandlerFacts(
            name,
            is_registered=name in registered,
            is_running=name in running,
            backlog=gauges.handlers.get(name, Backlog(name)),
            state=states.get(name),
            queue=(queue := states[name].queue if name in states else DEFAULT_QUEUE),
            is_queue_served=any(process.serves(queue) for process in processes),
        )
        for name in sorted({*gauges.handlers, *registered, *states})
    ]
    return diagnose(Facts(gauges.at, [], handlers, processes))


def arriving(now: datetime, arrivals: Mapping[str, Arrivals], sources: Mapping[str, Source]) -> list[Finding]:
    """What is wrong now with what comes: what rows say at once, without asking a sender. Pure.

    now: by the database's clock.
    arrivals: {source: what came from it lately}.
    sources: {name: source} as configured.
    """
    came = [_came(now, source, arrivals.get(name, Arrivals())) for name, source in sorted(sources.items())]
    return [each for each in diagnose(Facts(now, came)) if each.code in LIVE or each.code == SILENT]


def _came(now: datetime, source: Source, lately: Arrivals) -> SourceFacts:
    return SourceFacts(
        source.name,
        now,
        now,
        has_log=with_log(source) is not None,
        quarantined=lately.quarantined,
        expect_within=source.settings.expect_within,
        verified_at=lately.verified_at,
        refused=lately.refused,
        refused_at=lately.refused_at,
    )


def now_and_last(
    live: Sequence[Finding],
    last: Snapshot | None,
    watched: Collection[str] = (),
    begun: Mapping[tuple[str, str], str] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """What stands now, and of the last examination what rows do not say at once; the worst first, with `since`.

    watched: names of the sources whose silence rows say at once.
    begun: {(code, subject): since when}, where rows say that too.
    """
    body = last.body if last is not None else {}
    known = {(each["code"], each["subject"]): each["since"] for each in body.get("findings", ())}
    found = [
        {
            **records.finding_json(each),
            "since": begun.get((each.code, each.subject), known.get((each.code, each.subject))),
        }
        for each in live
    ]
    found += [
        each
        for each in body.get("findings", ())
        if each["code"] not in LIVE and not (each["code"] == SILENT and each["subject"] in watched)
    ]
    order = [str(level) for level in Level]
    return sorted(found, key=lambda each: order.index(each["level"]))


def document(findings: Sequence[Finding], before: Mapping[str, Any], now: str) -> dict[str, Any]:
    """What was found, as `webhooks doctor --json` says it, with since when each has been there.

    before: the document before this one.
    now: for what is new.
    """
    since = {(each["code"], each["subject"]): each["since"] for each in before.get("findings", ())}
    return {
        "findings": [
            {**records.finding_json(finding), "since": since.get((finding.code, finding.subject), now)}
            for finding in findings
        ],
        "repaired": [],
    }


__all__ = [
    "DOCTOR",
    "LIVE",
    "SUBSCRIPTIONS",
    "DoctorDuty",
    "arriving",
    "document",
    "examine",
    "now_and_last",
    "standing",
    "subscriptions_document",
]
