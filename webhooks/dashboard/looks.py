"""What several pages look at together: how the installation stands, asked once for all of them and kept for seconds.

Twenty browsers that poll cost what one does. Every part is bounded: levels and failures stop counting, figures are added
up already, and what asks senders is the last examination. Nothing here decides what is wrong (`operations`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from webhooks.dashboard.figures import Sums, sums
from webhooks.dashboard.services import Services
from webhooks.formats import iso_text
from webhooks.operations import handlers as handlers_on_record
from webhooks.operations.doctor import Finding, Level
from webhooks.operations.examinations import DOCTOR, SUBSCRIPTIONS, arriving, now_and_last, standing
from webhooks.operations.figures import COUNTS
from webhooks.operations.handlers import HandlersOnRecord
from webhooks.selection import Selection
from webhooks.store.gauges import Arrivals
from webhooks.store.health import Backlog, Gauges
from webhooks.store.listings import FailureGroups
from webhooks.store.snapshots import Snapshot
from webhooks.store.tallies import WINDOWS, ChartWindow, Points, Ran, instant_of_minute, quantile_ms

Made = TypeVar("Made")
#: Seconds for which what moves is kept, and what is the same for a while. A slow page asks once for what it needs twice;
#: what someone changes by this process is seen at once (`Remembered.clear`).
MOMENT, WHILE = 2.0, 10.0
#: The code of what keeps this process from having handlers.
NOT_LOADED = "handlers-not-loaded"
#: Of the dead the newest so many are grouped.
LOOK_AT = 20_000
#: All that wait, and all that are dead, are counted about so far together; beyond that a number says "+".
COUNTED_IN_ALL = 20_000


def kept(services: Services, name: str, make: Callable[[], Made], seconds: float = MOMENT) -> Made:
    """What `make` gives, at most so old."""
    made: Made = services.kept.get(name, make, seconds)
    return made


@dataclass(frozen=True, slots=True)
class Looks:
    """How it stands now.

    findings: what is wrong, the worst first: documents of `webhooks doctor`, with `since`.
    checked_at: when senders were asked last; None when no worker ever did.
    quarantined: requests that are held.
    """

    gauges: Gauges
    findings: Sequence[Mapping[str, Any]]
    checked_at: datetime | None
    quarantined: int = 0

    @property
    def problems(self) -> list[Mapping[str, Any]]:
        """Findings that need someone."""
        return [each for each in self.findings if each["level"] != "note"]

    def add_up(self, pick: Callable[[Backlog], int]) -> tuple[int, bool]:
        """A number of every handler, and whether there are more."""
        every = self.gauges.handlers.values()
        return sum(map(pick, every)), any(each.is_more for each in every)

    @property
    def oldest_due_at(self) -> datetime | None:
        """Since when the oldest delivery is due."""
        return min((each.due_since for each in self.gauges.handlers.values() if each.due_since), default=None)


def gauges_of(services: Services) -> Gauges:
    """How every handler's deliveries stand; once in three seconds, since that costs most. Raises StorageUnavailable."""
    return kept(services, "gauges", lambda: services.store.health.gauges(in_all=COUNTED_IN_ALL), 3.0)


def on_record(services: Services, now: datetime | None = None) -> HandlersOnRecord:
    """What the database knows of handlers and processes; once a moment. Raises StorageUnavailable.

    now: by the database's clock, where it was asked a moment ago.
    """

    def make() -> HandlersOnRecord:
        return handlers_on_record.on_record(services.store, with_runs=False, now=now)

    return kept(services, "record", make)


def arrivals_of(services: Services, now: datetime) -> Mapping[str, Arrivals]:
    """What came from each source lately; in one statement, once a moment. Raises StorageUnavailable."""
    return kept(services, "arrivals", lambda: services.store.gauges.arrivals(now))


def snapshots(services: Services) -> Mapping[str, Snapshot]:
    """What a worker noted last; in one statement, once a moment. Raises StorageUnavailable."""
    names = [COUNTS, DOCTOR, SUBSCRIPTIONS]
    return kept(services, "snapshots", lambda: services.store.snapshots.get(names))


def stand(services: Services) -> Looks:
    """How it stands now; once a moment. Raises StorageUnavailable."""

    def make() -> Looks:
        gauges = gauges_of(services)
        came = arrivals_of(services, gauges.at)
        live = [*_of_handlers(services), *arriving(gauges.at, came, services.sources)]
        last = snapshots(services).get(DOCTOR)
        held = sum(each.quarantined for each in came.values())
        return Looks(gauges, _with_last(services, live), last.at if last is not None else None, held)

    return kept(services, "stand", make)


def about_handler(services: Services, name: str) -> list[Mapping[str, Any]]:
    """What is wrong now with one handler. Raises StorageUnavailable."""
    return _about(_with_last(services, _of_handlers(services)), name)


def about_source(services: Services, name: str, now: datetime) -> list[Mapping[str, Any]]:
    """What is wrong now with one source. Raises StorageUnavailable."""
    return _about(_with_last(services, arriving(now, arrivals_of(services, now), services.sources)), name)


def _of_handlers(services: Services) -> list[Finding]:
    gauges = gauges_of(services)
    record = on_record(services, gauges.at)
    if services.problems:
        # which names are known is not; none of what waits is said to have no handler
        known = [*gauges.handlers, *record.states]
        unloaded = [Finding(Level.ERROR, NOT_LOADED, "handlers", problem) for problem in services.problems]
        return [*unloaded, *standing(known, gauges, record.states, record.processes)]
    names = [handler.name for handler in services.registry.handlers()]
    return standing(names, gauges, record.states, record.processes)


def _with_last(services: Services, live: Sequence[Finding]) -> list[dict[str, Any]]:
    watched = {name for name, source in services.sources.items() if source.settings.expect_within is not None}
    begun = (
        {
            ("breaker-open", name): iso_text(state.breaker_opened_at)
            for name, state in on_record(services).states.items()
            if state.breaker_opened_at is not None
        }
        if any(each.code == "breaker-open" for each in live)
        else {}
    )
    return now_and_last(live, snapshots(services).get(DOCTOR), watched, begun)


def source_of_subscription(services: Services, id: str) -> str | None:
    """The source whose sender has that subscription, as the senders said last; None where none does."""
    said = snapshots(services).get(SUBSCRIPTIONS)
    every: Mapping[str, Any] = said.body if said is not None else {}
    return next((name for name, one in every.items() if any(each["id"] == id for each in one["subscriptions"])), None)


class Summed(NamedTuple):
    """What a window adds up to. now: {key: n} of it. minutes: known of it."""

    window: ChartWindow
    now: Mapping[tuple[int, str, int, int], int]
    minutes: float

    @property
    def is_whole(self) -> bool:
        """Whether all of it was counted."""
        return self.minutes >= self.window.minutes

    def sums(self, name: str | None = None) -> Sums:
        """Of all, or of one source or handler."""
        return sums(self.now, self.minutes, name)


class Measured(NamedTuple):
    """What was counted in a window. points: one by one. now: {key: n} of it. minutes: known of it."""

    window: ChartWindow
    points: Points
    now: Mapping[tuple[int, str, int, int], int]
    minutes: float

    @property
    def begins_at(self) -> datetime | None:
        """Since when anything is known."""
        return None if self.points.begins is None else instant_of_minute(self.points.begins)

    def sums(self, name: str | None = None) -> Sums:
        """Of all, or of one source or handler."""
        return sums(self.now, self.minutes, name)


def window_of(text: str) -> ChartWindow:
    """The window of that name; an hour for any other."""
    return WINDOWS.get(text, WINDOWS["1h"])


def measure(services: Services, window: ChartWindow, name: str | None = None) -> Measured:
    """What was counted in a window. name: the points of one source or handler. Three statements, once in ten seconds."""

    def make() -> Measured:
        tallies = services.store.tallies
        points = tallies.window(window, name=name)
        return Measured(window, points, totals(services, window), tallies.known_minutes(window))

    return kept(services, f"measure {window.name} {name or ''}", make, WHILE)


def summed(services: Services, window: ChartWindow) -> Summed:
    """What a window adds up to, for pages without a chart. Two statements, once in ten seconds."""
    return Summed(window, totals(services, window), services.store.tallies.known_minutes(window))


def doctor_document(standing: Looks) -> dict[str, Any]:
    """The document of `webhooks doctor --json`."""
    findings = [{key: value for key, value in each.items() if key != "since"} for each in standing.findings]
    return {"findings": findings, "repaired": []}


def totals(services: Services, window: ChartWindow) -> Mapping[tuple[int, str, int, int], int]:
    """What a window adds up to, of every name."""
    return compared(services, window)[0]


def before(services: Services, window: ChartWindow) -> Sums:
    """What the time that is compared with a window adds up to."""
    return compared(services, window)[1]


def compared(services: Services, window: ChartWindow) -> tuple[Mapping[tuple[int, str, int, int], int], Sums]:
    """What a window and the time before it add up to, in one statement; once in ten seconds."""
    span = max(30, window.span)

    def make() -> tuple[Mapping[tuple[int, str, int, int], int], Sums]:
        parts = [(0, window.minutes, window.span), (window.before, window.minutes, span)]
        now, then = services.store.tallies.totals_of(parts)
        return now, sums(then, max(window.minutes, span))

    return kept(services, f"compared {window.name}", make, WHILE)


def _about(findings: Sequence[Mapping[str, Any]], subject: str) -> list[Mapping[str, Any]]:
    return [finding for finding in findings if finding["subject"] == subject]


@dataclass(frozen=True, slots=True)
class HandlerLine:
    """One handler in a table. view: as `webhooks handlers` has it. p95: milliseconds, about. share: of runs that ended well, percent."""

    view: handlers_on_record.HandlerView
    backlog: Backlog
    per_minute: float
    runs: Mapping[int, int]
    p50: float | None
    p95: float | None
    p99: float | None
    share: float | None
    breaker_until: datetime | None = None

    @property
    def is_well(self) -> bool:
        """Whether nothing about it needs someone."""
        waits = self.backlog.due_since is not None and self.backlog.due > 100
        return self.view.state == "running" and not self.runs.get(Ran.DEAD) and not self.backlog.lanes and not waits


def handler_lines(services: Services, window: ChartWindow) -> list[HandlerLine]:
    """Every handler, those that are not well first. Raises StorageUnavailable."""
    gauges = gauges_of(services)
    known, numbers = on_record(services, gauges.at), totals(services, window)
    minutes = services.store.tallies.known_minutes(window)
    of_each: dict[str, dict[tuple[int, str, int, int], int]] = {}
    for key, n in numbers.items():
        of_each.setdefault(key[1], {})[key] = n
    lines = []
    for view in handlers_on_record.view(services.registry.handlers(), known):
        mine = sums(of_each.get(view.name, {}), minutes)
        ended = sum(n for what, n in mine.runs.items() if what in (Ran.SUCCEEDED, Ran.RETRIED, Ran.DEAD))
        state = known.states.get(view.name)
        lines.append(
            HandlerLine(
                view,
                gauges.handlers.get(view.name, Backlog(view.name)),
                mine.per_minute(sum(mine.runs.values())),
                mine.runs,
                quantile_ms(mine.handled, 0.5),
                quantile_ms(mine.handled, 0.95),
                quantile_ms(mine.handled, 0.99),
                100 * mine.runs.get(Ran.SUCCEEDED, 0) / ended if ended else None,
                state.breaker_until if state is not None else None,
            )
        )
    return sorted(lines, key=lambda line: (line.is_well, -line.backlog.due, line.view.name))


def failures(services: Services) -> FailureGroups:
    """What failed for good among the newest 20,000, alike ones together, most frequent first. One statement in five seconds."""

    def make() -> FailureGroups:
        return services.store.listings.failures(Selection(), limit=50, look_at=LOOK_AT, until=services.clock())

    return kept(services, "failures", make, 5.0)


def no_worker(services: Services) -> bool:
    """Whether no worker reported lately: what waits, waits."""
    return not any(process.is_worker for process in on_record(services).processes)


def has_worker(services: Services) -> bool:
    """The same the other way round, for pages that ask nothing else of processes; in one statement, once a moment."""
    running = services.store.processes.running
    return kept(services, "has worker", lambda: any(process.is_worker for process in running()))


def age(at: datetime | None, now: datetime) -> timedelta | None:
    """How long ago, never below nothing."""
    return None if at is None else max(timedelta(0), now - at)


__all__ = [
    "HandlerLine",
    "Looks",
    "Measured",
    "Summed",
    "about_handler",
    "about_source",
    "age",
    "before",
    "doctor_document",
    "failures",
    "handler_lines",
    "has_worker",
    "kept",
    "measure",
    "no_worker",
    "on_record",
    "snapshots",
    "source_of_subscription",
    "stand",
    "summed",
    "window_of",
]  # fmt: skip
