"""Gather the facts of one installation. Nothing stops it: what could not be looked at is a fact as well."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from webhooks.database import History, try_wakeup
from webhooks.database.migrations import run as migrate
from webhooks.errors import ConfigurationError, StorageUnavailable
from webhooks.formats import DEFAULT_QUEUE, one_line
from webhooks.operations.actor import Actor
from webhooks.operations.doctor.facts import LOOK_BACK, MISSED_LOOK_BACK, Facts, HandlerFacts, SourceFacts
from webhooks.operations.doctor.findings import Finding
from webhooks.operations.doctor.repair import Repairer
from webhooks.operations.subscriptions import Subscriptions, subscriptions_of_this_endpoint, wanted_types
from webhooks.routing import Handler, Registry
from webhooks.sources import ApiError, Source, SourceWithLog, Subscription, with_log
from webhooks.store import Store
from webhooks.store.gauges import Arrivals
from webhooks.store.handlers import HandlerState
from webhooks.store.health import Backlog, Missed, TypeActivity
from webhooks.store.processes import Process
from webhooks.store.tallies import DAY, Kind, receipt_of

#: The latest arrivals whose signed timestamps are compared with our clock.
COMPARED_ARRIVALS = 50


@dataclass(frozen=True, slots=True)
class Answered:
    """What a sender said when asked for its subscriptions.

    every: all that the key may see; None when it could not be asked, and why_not says why.
    is_refused: it was asked, and did not answer, or not with that.
    ahead: how far our clock is ahead of its.
    """

    every: Sequence[Subscription] | None = None
    why_not: str | None = None
    is_refused: bool = False
    ahead: timedelta | None = None


class Doctor:
    """Collects facts of one installation, and repairs.

    sources: {name: source}.
    retention: how long payloads are kept.
    labels: the labels of the keys that a source holds now.
    plugins: histories besides the core's. histories: those of every handler module, also without a revision.
    subscriptions: makes the `Subscriptions` over an open client of a source.
    catch_up: runs it for a source, on behalf of a person.
    alarm_targets: names of those that are told of alarms.
    has_heartbeat: there is a dead man's switch.
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
        catch_up: Callable[[SourceWithLog, Actor], object] | None = None,
        alarm_targets: Sequence[str] = (),
        has_heartbeat: bool = False,
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
        self._alarm_targets = alarm_targets
        self._has_heartbeat = has_heartbeat
        self._repairer = Repairer(sources, subscriptions, catch_up)

    def repair(self, facts: Facts, findings: Sequence[Finding], *, actor: Actor) -> list[str]:
        """Do what is safe about `findings`; a sentence for each thing done. Raises ApiError and StorageUnavailable."""
        return self._repairer.repair(facts, findings, actor=actor)

    def collect(self) -> Facts:
        """Look at everything that can be looked at. Raises nothing but what is a fault of ours."""
        now = self._clock()
        try:
            if not migrate.is_current(self._store.database, self._plugins):
                return Facts(now, self._sources_alone(now), schema_is_current=False)
            return self._with_database(now)
        except StorageUnavailable as error:
            return Facts(now, self._sources_alone(now), database_problem=one_line(error.reason))

    def _with_database(self, now: datetime) -> Facts:
        seen = self._store.health.types_seen(now - LOOK_BACK)
        conflicts = _conflicts(self._store)
        database_now = self._store.database.now()
        arrivals = self._store.gauges.arrivals(database_now)
        processes = self._store.processes.running()
        sources = [
            self._source(
                name,
                now,
                database_now,
                **self._stored(name, seen.get(name, {}), arrivals.get(name, Arrivals()), conflicts.get(name, 0)),
            )
            for name in sorted(self._sources)
        ]
        self._note_paused(sources)
        return Facts(
            now,
            sources,
            self._handlers(processes, seen, now),
            processes,
            database_ahead=database_now - now,
            write_problem=self._try_write(),
            wakeup_problem=try_wakeup(self._store.database),
            doubts=self._store.durability.doubts(),
            partitions=self._store.partitions.problems(database_now - self._retention),
            unmigrated=migrate.unmigrated(self._store.database, self._histories),
            alarm_targets=self._alarm_targets,
            told=list(self._store.alarms.targets().values()) if self._alarm_targets or self._has_heartbeat else (),
            has_heartbeat=self._has_heartbeat,
        )

    def _note_paused(self, sources: Sequence[SourceFacts]) -> None:
        """Keep what senders said of paused subscriptions, which gauges and alarms show; what cannot be kept is not."""
        paused = {
            each.name: sum(not subscription.is_active for subscription in each.subscriptions)
            for each in sources
            if each.subscriptions is not None
        }
        if paused:
            with contextlib.suppress(StorageUnavailable):
                self._store.paused_subscriptions.note(paused)

    def _try_write(self) -> str | None:
        """Why an event could not be stored now; None when it could. Leaves no row."""
        try:
            self._store.intake.try_write()
        except StorageUnavailable as error:
            return one_line(error.reason, 600)
        return None

    # -- sources ---------------------------------------------------------------------------------------------

    def _sources_alone(self, now: datetime) -> list[SourceFacts]:
        """What is known of each source without the database."""
        return [self._source(name, now, now) for name in sorted(self._sources)]

    def _stored(
        self,
        name: str,
        seen: Mapping[str, TypeActivity],
        lately: Arrivals,
        conflicts: int,
    ) -> dict[str, Any]:
        """{field of SourceFacts: value} that the database tells."""
        source = self._sources[name]
        arrivals = self._store.health.arrivals(name)
        return {
            "seen": seen,
            "key_uses": self._store.key_uses.of(name),
            "arrivals": [arrival.received_at for arrival in arrivals],
            "skews": _skews(arrivals, source.timestamp_header),
            "mark": self._store.marks.get(name) if with_log(source) is not None else None,
            "quarantined": lately.quarantined,
            "verified_at": lately.verified_at,
            "refused": lately.refused,
            "refused_at": lately.refused_at,
            "conflicts": conflicts,
            "equal_bodies": self._store.intake.overrun(name, source.equal_bodies) if source.equal_bodies else 0,
        }

    def _source(self, name: str, now: datetime, database_now: datetime, **stored: Any) -> SourceFacts:
        """Facts of one source. stored: what the database tells of it."""
        source = self._sources[name]
        labels = frozenset(self._labels(name))
        path = f"{self._url_prefix.rstrip('/')}/{name}"
        public_url = source.settings.public_url
        log = with_log(source)
        asked: dict[str, Any] = {}
        if log is not None:
            answered = _ask(log)
            asked = {
                "has_log": True,
                "lists_subscriptions": log.lists_subscriptions,
                "subscriptions": None
                if answered.every is None
                else subscriptions_of_this_endpoint(answered.every, labels, public_url, path),
                "every": answered.every or (),
                "why_not": answered.why_not,
                "is_refused": answered.is_refused,
                "api_ahead": answered.ahead,
                "wanted": wanted_types(self._registry.handlers(), name, log.published_types, log.known_types),
                "id_labels": frozenset(label for label in labels if log.is_subscription_id(label)),
                "words": log.words,
            }
        return SourceFacts(
            name,
            now,
            database_now,
            public_url=public_url,
            path=path,
            labels=labels,
            expect_within=source.settings.expect_within,
            **asked,
            **stored,
        )

    # -- handlers --------------------------------------------------------------------------------------------

    def _handlers(
        self, processes: Sequence[Process], seen: Mapping[str, Mapping[str, TypeActivity]], now: datetime
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
            facts.append(
                HandlerFacts(
                    name,
                    is_registered=handler is not None,
                    is_running=name in running,
                    backlog=backlogs.get(name, Backlog(name)),
                    state=states.get(name),
                    source=handler.source if handler is not None else None,
                    patterns=[str(pattern) for pattern in handler.patterns] if handler is not None else (),
                    missed={} if handler is None else self._missed(handler, seen, since),
                    is_new=first_at is None,
                    queue=(queue := _queue_of(handler, states.get(name))),
                    is_queue_served=any(process.serves(queue) for process in processes),
                )
            )
        return facts

    def _missed(
        self, handler: Handler, seen: Mapping[str, Mapping[str, TypeActivity]], since: datetime
    ) -> dict[str, Missed]:
        """{source: its events since then without a delivery for the handler, which today's routing would give it}."""
        missed = {}
        for source, types in seen.items():
            wanted = [
                type for type in types if any(each.name == handler.name for each in self._registry.route(source, type))
            ]
            found = self._store.health.missed(handler.name, source, wanted, since)
            if found is not None:
                missed[source] = found
        return missed


def _conflicts(store: Store) -> dict[str, int]:
    """{source: about how many copies with another body under a known key came in the last day}."""
    found: dict[str, int] = {}
    for (kind, name, what, _), n in store.tallies.totals(0, DAY, 30).items():
        receipt = receipt_of(what) if kind == Kind.REQUESTS else None
        if receipt is not None and receipt.is_conflict:
            found[name] = found.get(name, 0) + n
    return found


def _queue_of(handler: Handler | None, state: HandlerState | None) -> str:
    known = handler or state
    return DEFAULT_QUEUE if known is None else known.queue


def _ask(source: SourceWithLog) -> Answered:
    """The sender's subscriptions; or why they are unknown, and whether that is wrong (not merely unset)."""
    if not source.can_connect:
        return Answered(why_not=source.words.no_connection)
    try:
        with source.connect() as client:
            if not source.lists_subscriptions:
                client.check()
                return Answered(ahead=client.clock_ahead)
            return Answered(client.subscriptions(), ahead=client.clock_ahead)
    except (ApiError, ConfigurationError) as error:
        return Answered(why_not=one_line(str(error)), is_refused=isinstance(error, ApiError))


def _skews(arrivals: Sequence[Any], header: str | None) -> list[timedelta]:
    """How long after its signed timestamp each of the latest webhooks came."""
    found = []
    for arrival in arrivals[-COMPARED_ARRIVALS:]:
        text = arrival.headers.get(header or "", "")
        if text.isascii() and text.isdigit() and len(text) == 10:
            found.append(arrival.received_at - datetime.fromtimestamp(int(text), UTC))
    return found


__all__ = ["Doctor"]
