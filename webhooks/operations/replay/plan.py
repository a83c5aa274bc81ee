"""What a replay would do: rows of counts, folded into a plan.

`PlanCounts` asks the database, and gives for each kind of event (a source and a type) one `KindCount`: how many events
there are, and for each handler how many it would get now, got then, and has a matching delivery of. `fold` adds them up;
it is pure. Selections that SQL cannot decide, and those with a limit, are walked event by event, each a kind of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from webhooks.operations.replay.options import Options, ReplayedRegistry, restricts
from webhooks.selection import Selection
from webhooks.store import Store
from webhooks.store.listings import EventSummary

#: A plan compares today's routing with that of then for so many events at most, the latest.
COMPARED = 100_000

#: A source and an event type.
Kind = tuple[str, str]


@dataclass(frozen=True, slots=True)
class HandlerPlan:
    """What one handler would get. added: of those, how many it did not get then. left_out: got then, not now."""

    name: str
    deliveries: int
    added: int = 0
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a replay would do.

    selection, options, upper_id: what was asked for; events and deliveries of higher ids are not looked at.
    events: that get at least a look.
    without_delivery: of those, how many no handler gets.
    never_delivered: stale, conflicting and stripped copies that are left out.
    pruned: events of that time whose rows are gone (at least so many).
    gone: {handler: deliveries left out} of `original` routing, for handlers that this process does not know.
    compared: for how many events today's routing was compared with that of then.
    eta: how long it will take, where that can be told.
    """

    selection: Selection
    options: Options
    upper_id: int
    events: int
    deliveries: int
    handlers: Sequence[HandlerPlan]
    without_delivery: int = 0
    never_delivered: int = 0
    pruned: int = 0
    gone: Mapping[str, int] = field(default_factory=dict)
    compared: int = 0
    eta: timedelta | None = None


@dataclass(frozen=True, slots=True)
class HandlerCount:
    """One handler and the events of one kind.

    now: how many of them today's routing gives it; None where it gives it none of this kind.
    then: how many of those compared it got when they came in.
    matching: how many have a delivery for it that matches the selection; None where the selection does not ask.
    is_known: this process has the handler.
    """

    handler: str
    now: int | None
    then: int = 0
    matching: int | None = None
    is_known: bool = True

    def deliveries(self, options: Options) -> int | None:
        """How many it would get; None where it is not asked."""
        number = (self.then or None if self.is_known else None) if options.original else self.now
        if number is None or self.matching is None:
            return number
        return min(number, self.matching) if self.matching else None


@dataclass(frozen=True, slots=True)
class KindCount:
    """The events of one kind. compared: of how many it is known who got them then."""

    events: int
    compared: int
    handlers: Sequence[HandlerCount] = ()


@dataclass
class Totals:
    """What the kinds add up to; the counters are by handler."""

    events: int = 0
    compared: int = 0
    without: int = 0
    deliveries: Counter[str] = field(default_factory=Counter)
    added: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    gone: Counter[str] = field(default_factory=Counter)

    def handlers(self) -> list[HandlerPlan]:
        """What each handler would get, by name."""
        names = sorted({*self.deliveries, *self.left_out})
        return [HandlerPlan(name, self.deliveries[name], self.added[name], self.left_out[name]) for name in names]


def fold(kinds: Iterable[KindCount], options: Options) -> Totals:
    """Add up what each kind of events comes to."""
    totals = Totals()
    for kind in kinds:
        totals.events += kind.events
        totals.compared += kind.compared
        most = 0
        for row in kind.handlers:
            if options.handler in (None, row.handler):
                most = max(most, _add(totals, row, kind.compared, options))
        # of events of one kind, those without a delivery: exact unless several handlers got different shares
        totals.without += max(0, kind.events - most)
    return totals


def _add(totals: Totals, row: HandlerCount, compared: int, options: Options) -> int:
    """Add one handler's row; how many deliveries it comes to."""
    number = row.deliveries(options)
    if number is not None:
        totals.deliveries[row.handler] += number
        totals.added[row.handler] += max(0, min(number, compared) - row.then)
    if row.then and row.matching is None:
        if options.original and not row.is_known:
            totals.gone[row.handler] += row.then
        elif not options.original and row.now is None:
            totals.left_out[row.handler] += row.then
    return number or 0


class PlanCounts:
    """Counts what one plan needs. chunks: walks the selected events, where counting in SQL is not enough."""

    def __init__(
        self,
        store: Store,
        registry: ReplayedRegistry,
        selection: Selection,
        options: Options,
        upper_id: int,
        chunks: Callable[[], Iterator[list[EventSummary]]],
    ) -> None:
        self._store = store
        self._registry = registry
        self._selection = selection
        self._options = options
        self._upper_id = upper_id
        self._chunks = chunks
        self._known = {handler.name for handler in registry.handlers()}
        #: copies that are left out because they were never delivered; known once the kinds were read
        self.never_delivered = 0

    def kinds(self) -> Iterator[KindCount]:
        """The selected events, kind by kind."""
        if not self._selection.is_exact_in_sql or self._options.limit is not None:
            return self._walked()
        if self._options.original and self._selection.is_empty:
            return self._everything_as_then()
        return self._counted()

    def plan(self) -> Plan:
        """Count, and add up. Raises `StorageUnavailable`."""
        totals = fold(self.kinds(), self._options)
        return Plan(
            selection=self._selection,
            options=self._options,
            upper_id=self._upper_id,
            events=totals.events,
            deliveries=sum(totals.deliveries.values()),
            handlers=totals.handlers(),
            without_delivery=totals.without,
            never_delivered=self.never_delivered,
            pruned=self._store.replays.count_pruned(self._selection),
            gone=dict(totals.gone),
            compared=totals.compared,
        )

    # -- by counting -----------------------------------------------------------------------------------------

    def _counted(self) -> Iterator[KindCount]:
        """Kinds as SQL counts them. Who gets them today is exact; how that differs from then is told of the latest of
        each kind, where they are many."""
        store, selection = self._store.replays, self._selection
        events = self._events()
        if self._options.original or sum(events.values()) <= COMPARED:
            latest = max(events.values(), default=0)
            then = _by_kind(store.count_then(selection, self._upper_id))
        else:
            latest = max(1, COMPARED // max(1, len(events)))
            then = _by_kind(store.count_then_of(selection, self._upper_id, events, latest))
        is_restricted = restricts(selection)
        matching = _by_kind(store.count_matching(selection, self._upper_id)) if is_restricted else {}
        for kind, count in events.items():
            yield self._kind(
                kind,
                count,
                then.get(kind, {}),
                matching.get(kind, {}) if is_restricted else None,
                compared=min(latest, count),
            )

    def _events(self) -> Counter[Kind]:
        """{kind: how many events}; those that were never delivered are counted apart, unless they are named by id."""
        events: Counter[Kind] = Counter()
        for source, type, count, undelivered in self._store.replays.count_events(self._selection, self._upper_id):
            left_out = 0 if self._selection.events else undelivered
            events[source, type] += count - left_out
            self.never_delivered += left_out
        return events

    def _everything_as_then(self) -> Iterator[KindCount]:
        """All events by then's routing, which the deliveries alone tell: as if they were of one kind."""
        events = sum(self._events().values())
        then = self._store.replays.count_then_all(self._upper_id)
        rows = [HandlerCount(name, None, number, is_known=name in self._known) for name, number in then.items()]
        yield KindCount(events, events, rows)

    # -- by walking ------------------------------------------------------------------------------------------

    def _walked(self) -> Iterator[KindCount]:
        """Each event as a kind of its own."""
        selection, store = self._selection, self._store.replays
        if self._options.limit is None and not selection.events:
            walk = self._store.listings.walk(selection, up_to_id=self._upper_id)
            self.never_delivered = sum(not summary.receipt.is_delivered for step in walk for summary in step)
        is_restricted = restricts(selection)
        for chunk in self._chunks():
            ids = [summary.id for summary in chunk]
            then = store.handlers_of(ids, None, self._upper_id)
            matching = store.handlers_of(ids, selection, self._upper_id) if is_restricted else {}
            for summary in chunk:
                yield self._kind(
                    (summary.source, summary.type),
                    1,
                    dict.fromkeys(then.get(summary.id, ()), 1),
                    dict.fromkeys(matching.get(summary.id, ()), 1) if is_restricted else None,
                    compared=1,
                )

    def _kind(
        self, kind: Kind, events: int, then: Mapping[str, int], matching: Mapping[str, int] | None, *, compared: int
    ) -> KindCount:
        """The rows of one kind: a handler each that gets it today, or got it then."""
        routed = {handler.name for handler in self._registry.route(*kind)}
        return KindCount(
            events,
            compared,
            [
                HandlerCount(
                    name,
                    events if name in routed else None,
                    then.get(name, 0),
                    None if matching is None else matching.get(name, 0),
                    name in self._known,
                )
                for name in sorted({*routed, *then})
            ],
        )


def _by_kind(rows: Sequence[tuple[str, str, str, int]]) -> dict[Kind, Counter[str]]:
    """{kind: {handler: events}} of (source, type, handler, events)."""
    kinds: dict[Kind, Counter[str]] = {}
    for source, type, handler, count in rows:
        kinds.setdefault((source, type), Counter())[handler] += count
    return kinds


__all__ = ["HandlerCount", "HandlerPlan", "KindCount", "Plan", "PlanCounts", "fold"]
