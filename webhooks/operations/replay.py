"""Replay: new deliveries for stored events, planned first, recorded, resumable.

`Replayer.plan` says what a replay would do and changes nothing. `start` records it, `run` makes the deliveries in
chunks and can be continued by anyone after a crash (`resume`): nothing is made twice. The deliveries are run by
workers like any other, in the places that a claim keeps for replays, so fresh events go first.

Who gets a replayed event is decided by today's routing, or with `original` by that of the day it came in. Where the
selection speaks of a delivery's state or error, only handlers whose delivery matches get a new one. Copies that were
never delivered (stale, conflicting, stripped) are left out unless they are named by id.

A replay never feeds itself: events and deliveries younger than its start (`upper_id`) are not looked at. Memory is
constant: the order of occurrence, which no index has, is sorted in a temporary file.
"""

from __future__ import annotations

import enum
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from webhooks import signals
from webhooks.database import from_microseconds, to_microseconds
from webhooks.errors import NotFound, SelectionError, WebhooksError
from webhooks.formats import Unreadable, per_second, read_rate
from webhooks.model import Event, new_id
from webhooks.routing import ordering_failed, ordering_key
from webhooks.selection import Selection, did_you_mean
from webhooks.store import Store
from webhooks.store.listings import EventSummary, Place
from webhooks.store.replays import Planned, Replay, ReplayState

#: Events of one transaction.
CHUNK = 250
#: A plan compares today's routing with that of then for so many events at most, the latest.
COMPARED = 100_000
#: Receipts whose events were never delivered.
_NEVER_DELIVERED = ("stale", "conflict", "stripped")
#: Ordering keys that have a column, so that bodies need not be read for them.
_KEPT_KEYS = ("object_id", "lead_id")


class ReplayError(WebhooksError):
    """A replay that cannot be started, continued or cancelled as things stand; nothing was changed."""


class Order(enum.StrEnum):
    """In which order the deliveries become due."""

    OCCURRED = "occurred"  #: as the events happened, by the sender's word
    RECEIVED = "received"  #: as they arrived here


class Routed(Protocol):
    """What replay needs of a handler."""

    @property
    def name(self) -> str: ...
    @property
    def ordered_by(self) -> Any: ...
    def lane_key(self, event: Event) -> str | None: ...


class Routes(Protocol):
    """What replay needs of the registry."""

    def route(self, source: str, type: str) -> Sequence[Any]: ...
    def handlers(self) -> Sequence[Any]: ...


@dataclass(frozen=True, slots=True)
class Options:
    """How a selection is replayed.

    handler: for this one only. original: who got the events then, rather than who would get them today. rate:
    deliveries per second, by their due times. limit: only so many events, the first in order. fresh_keys: with
    idempotency keys of their own, so that a receiver that remembers keys takes them for new.
    """

    handler: str | None = None
    original: bool = False
    order: Order = Order.OCCURRED
    rate: float | None = None
    limit: int | None = None
    fresh_keys: bool = False

    def to_mapping(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value not in (None, False)} | {
            "order": str(self.order)
        }

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Options:
        known = {name: value for name, value in mapping.items() if name in cls.__dataclass_fields__}
        return cls(**{**known, "order": Order(mapping.get("order", Order.OCCURRED))})


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

    events: that get at least a look. without_delivery: of those, how many no handler gets. never_delivered: stale,
    conflicting and stripped copies that are left out. pruned: events of that time whose rows are gone (at least so
    many). gone: handlers of `original` routing that this process does not know, with the deliveries left out.
    compared: for how many events today's routing was compared with that of then. eta: how long it will take, where that
    can be told.
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
class Progress:
    """How far `run` is."""

    events: int
    deliveries: int


def parse_rate(text: str) -> float:
    """`20/s`, `100/min` or a bare number (per second), as deliveries per second. Raises `SelectionError`."""
    try:
        return per_second(read_rate(text))
    except Unreadable:
        raise SelectionError(f"rate: {text[:40]!r} is not a rate; write 20/s, 100/min or 500/h", text, 0) from None


class Replayer:
    """Plans and makes replays. registry: today's handlers. new_upper_id: the id that no stored row has reached."""

    def __init__(
        self, *, store: Store, registry: Routes, new_upper_id: Callable[[], int] = new_id, chunk: int = CHUNK
    ) -> None:
        self.store = store
        self.registry = registry
        self.new_upper_id = new_upper_id
        self.chunk = chunk

    # -- plan ----------------------------------------------------------------------------------------------

    def plan(self, selection: Selection, options: Options | None = None) -> Plan:
        """Say what a replay would do; nothing is changed. Raises `SelectionError` and `NotFound`."""
        options = options or Options()
        self._require_handler(options.handler)
        selection = self.for_handler(selection, options)
        self._require_events(selection)
        upper_id = self.new_upper_id()
        if selection.is_exact_in_sql and options.limit is None:
            plan = self._plan_by_counting(selection, options, upper_id)
        else:
            plan = self._plan_by_walking(selection, options, upper_id)
        return replace(plan, eta=self._eta(plan))

    def _require_handler(self, name: str | None) -> None:
        names = [handler.name for handler in self.registry.handlers()]
        if name is not None and name not in names:
            raise NotFound(
                f"no handler named {name!r}{did_you_mean(name, names)}; registered: {', '.join(names) or 'none'}"
            )

    @staticmethod
    def for_handler(selection: Selection, options: Options) -> Selection:
        """`--handler` says who gets the deliveries; it narrows the events only beside a state or an error."""
        about_deliveries = bool(selection.states or selection.error is not None)
        return selection.only(handler=options.handler if about_deliveries else None)

    def _require_events(self, selection: Selection) -> None:
        for id in selection.events:
            if self.store.events.get(id) is None:
                raise NotFound(f"no event {id}: it was never stored here, or has been pruned; nothing was changed")

    def _plan_by_counting(self, selection: Selection, options: Options, upper_id: int) -> Plan:
        store = self.store.replays
        named = bool(selection.events)
        events: Counter[tuple[str, str]] = Counter()
        never = 0
        for source, type, count, undelivered in store.count_events(selection, upper_id):
            events[source, type] += count - (0 if named else undelivered)
            never += 0 if named else undelivered
        # who gets them today is exact; how that differs from then is told of the latest of each kind, where they are many
        each = max(1, COMPARED // max(1, len(events)))
        if options.original and selection.is_empty:
            then = {}
        elif options.original or sum(events.values()) <= COMPARED:
            each = max(events.values(), default=0)
            then = _by_kind(store.count_then(selection, upper_id))
        else:
            then = _by_kind(store.count_then_of(selection, upper_id, events, each))
        restricted = _restricts(selection)
        matching = _by_kind(store.count_matching(selection, upper_id)) if restricted else {}
        tally = _Tally(self, options)
        if options.original and selection.is_empty:
            return self._plan_of_then(tally, sum(events.values()), never, upper_id)
        for kind, count in events.items():
            mine = matching.get(kind, Counter()) if restricted else None
            tally.add(kind, count, then.get(kind, Counter()), mine, compared=min(each, count))
        return tally.plan(selection, upper_id, never, store.count_pruned(selection))

    def _plan_of_then(self, tally: _Tally, events: int, never: int, upper_id: int) -> Plan:
        """The plan for everything by then's routing, which the deliveries alone tell."""
        counts = Counter(self.store.replays.count_then_all(upper_id))
        tally.events = tally.compared = events
        for name, number in counts.items():
            if tally.options.handler not in (None, name):
                continue
            (tally.deliveries if name in tally.known else tally.gone)[name] += number
        tally.without = max(0, events - max(tally.deliveries.values(), default=0))
        return tally.plan(Selection(), upper_id, never, self.store.replays.count_pruned(Selection()))

    def _plan_by_walking(self, selection: Selection, options: Options, upper_id: int) -> Plan:
        tally = _Tally(self, options)
        never = self._never_delivered(selection, upper_id) if options.limit is None else 0
        restricted = _restricts(selection)
        for chunk in self.chunks(selection, options, upper_id, None, bodies=False):
            ids = [summary.id for summary in chunk]
            then = self.store.replays.handlers_of(ids, None, upper_id)
            matching = self.store.replays.handlers_of(ids, selection, upper_id) if restricted else {}
            for summary in chunk:
                tally.add(
                    (summary.source, summary.type),
                    1,
                    Counter(then.get(summary.id, ())),
                    Counter(matching.get(summary.id, ())) if restricted else None,
                    compared=1,
                )
        return tally.plan(selection, upper_id, never, self.store.replays.count_pruned(selection))

    def _never_delivered(self, selection: Selection, upper_id: int) -> int:
        if selection.events:
            return 0
        walk = self.store.listings.walk(selection, up_to_id=upper_id)
        return sum(summary.receipt in _NEVER_DELIVERED for step in walk for summary in step)

    def _eta(self, plan: Plan) -> timedelta | None:
        if not plan.deliveries:
            return None
        rates = [rate for rate in (plan.options.rate, self.store.replays.recent_rate()) if rate]
        return timedelta(seconds=plan.deliveries / min(rates)) if rates else None

    # -- start, run, resume --------------------------------------------------------------------------------

    def start(self, plan: Plan, *, by: str, why: str | None = None) -> Replay:
        """Record the replay; `run` makes its deliveries.

        Raises `ReplayError` when the same replay is under way: somebody pressed the button twice.
        """
        selection = plan.selection.to_mapping()
        options = plan.options.to_mapping()
        for other in self.store.replays.under_way():
            if _same(other, selection, options) and (
                other.state is ReplayState.OPEN or self.store.replays.is_unfinished(other.id)
            ):
                way = "resume" if other.state is ReplayState.OPEN else "show"
                raise ReplayError(
                    f"replay {other.id} of the same events (by {other.created_by}) is still under way; "
                    f"see it: webhooks replay {way} {other.id}, stop it: webhooks replay cancel {other.id}"
                )
        started = self.store.replays.start(
            by=by, why=why, selection=selection, options=options, upper_id=plan.upper_id, pruned=plan.pruned
        )
        signals.emit(signals.replay_started, started.id, selection=plan.selection, who=by)
        return started

    def run(self, replay: Replay, on_progress: Callable[[Progress], None] | None = None) -> Replay:
        """Make the deliveries of an open replay from where it stands. Raises `ReplayError` when it is not open."""
        selection = Selection.parse(replay.selection, replay.created_at)
        options = Options.from_mapping(replay.options)
        current = replay
        rest = self.chunks(selection, options, replay.upper_id, replay.cursor, bodies=self._needs_bodies())
        if options.limit is not None:
            rest = _limited(rest, options.limit - replay.events)
        for chunk, is_last in _with_last(rest):
            planned = self._planned(chunk, selection, options, current)
            cursor = _cursor(chunk[-1], options.order) if chunk else current.cursor or ""
            moved = self.store.replays.add(current, planned, events=len(chunk), cursor=cursor, is_last=is_last)
            if moved is None:
                raise self._not_ours(current.id)
            current = moved
            if on_progress is not None:
                on_progress(Progress(current.events, current.deliveries))
        signals.emit(signals.replay_finished, current.id, events=current.events, deliveries=current.deliveries)
        return current

    def resume(self, id: int, on_progress: Callable[[Progress], None] | None = None) -> Replay:
        """Go on with a replay whose process died. Raises `NotFound` and `ReplayError`."""
        replay = self.get(id)
        if replay.state is not ReplayState.OPEN:
            raise ReplayError(f"replay {id} is {replay.state.label}; there is nothing to resume")
        return self.run(replay, on_progress)

    def cancel(self, id: int, *, by: str) -> int:
        """Stop a replay: nothing more is made for it, and what has not run is cancelled. The number of those.

        Raises `NotFound`, and `ReplayError` when it is cancelled or through already.
        """
        replay = self.get(id)
        if replay.state is ReplayState.CANCELLED:
            raise ReplayError(f"replay {id} was cancelled already, at {replay.finished_at:%Y-%m-%d %H:%M:%S} UTC")
        waiting = self.store.replays.pending(id, 1)
        if replay.state is ReplayState.DONE and not waiting:
            raise ReplayError(f"replay {id} has nothing left to cancel: all its deliveries are made and none waits")
        self.store.replays.close(id)
        cancelled = 0
        while batch := self.store.replays.pending(id):
            done = self.store.deliveries.cancel(batch, f"replay {id} cancelled by {by}")
            cancelled += len(done)
            if not done:
                break  # workers have taken them meanwhile
        return cancelled

    def get(self, id: int) -> Replay:
        """The replay under `id`. Raises `NotFound`."""
        replay = self.store.replays.get(id)
        if replay is None:
            raise NotFound(f"no replay {id}; see webhooks replay list")
        return replay

    def _not_ours(self, id: int) -> ReplayError:
        replay = self.get(id)
        if replay.state is ReplayState.OPEN:
            return ReplayError(f"another process goes on with replay {id}; this one stops")
        return ReplayError(f"replay {id} is {replay.state.label}; this process stops")

    # -- the steps of one chunk ------------------------------------------------------------------------------

    def _needs_bodies(self) -> bool:
        return any(handler.ordered_by not in (None, *_KEPT_KEYS) for handler in self.registry.handlers())

    def names(self, today: Sequence[Any], options: Options, then: set[str], matching: set[str] | None) -> list[Any]:
        """Of all handlers: those that today's (or then's) routing gives the event to, narrowed as asked."""
        chosen = (
            [handler for handler in self.registry.handlers() if handler.name in then]
            if options.original
            else list(today)
        )
        return [
            handler
            for handler in chosen
            if options.handler in (None, handler.name) and (matching is None or handler.name in matching)
        ]

    def _planned(
        self, chunk: Sequence[EventSummary], selection: Selection, options: Options, replay: Replay
    ) -> list[Planned]:
        now = self.store.database.now()
        made = replay.deliveries
        # a resumed replay goes on at its rate from now; it does not catch up
        begun = min(now, replay.created_at)  # no later than now, whatever the clock said then
        start = now if options.rate is None else max(now, begun + timedelta(seconds=made / options.rate))
        planned: list[Planned] = []
        for summary, handler in self.pairs(chunk, selection, options, replay.upper_id):
            due_at = start if options.rate is None else start + timedelta(seconds=len(planned) / options.rate)
            planned.append(_plan_one(summary, handler, due_at, options.order))
        return planned

    def pairs(
        self, chunk: Sequence[EventSummary], selection: Selection, options: Options, upper_id: int
    ) -> list[tuple[EventSummary, Any]]:
        """Each event with each handler that gets a delivery for it."""
        ids = [summary.id for summary in chunk]
        store = self.store.replays
        then = store.handlers_of(ids, None, upper_id) if options.original else {}
        matching = store.handlers_of(ids, selection, upper_id) if _restricts(selection) else None
        return [
            (summary, handler)
            for summary in chunk
            for handler in self.names(
                self.registry.route(summary.source, summary.type),
                options,
                then.get(summary.id, set()),
                None if matching is None else matching.get(summary.id, set()),
            )
        ]

    # -- the order -----------------------------------------------------------------------------------------

    def chunks(
        self, selection: Selection, options: Options, upper_id: int, cursor: str | None, *, bodies: bool
    ) -> Iterator[list[EventSummary]]:
        """The selected events in order, from the cursor on; at most `chunk` at a time, and never an empty list."""
        only_delivered = not selection.events
        listings = self.store.listings
        if options.order is Order.RECEIVED:
            steps = listings.walk(
                selection,
                after=_place(cursor) if cursor else None,
                step=self.chunk,
                up_to_id=upper_id,
                with_event=bodies,
                only_delivered=only_delivered,
            )
            yield from _limited((step for step in steps if step), options.limit)
            return
        with _Spool() as spool:
            for step in listings.walk(selection, up_to_id=upper_id, only_delivered=only_delivered):
                spool.add((to_microseconds(summary.occurred_at), summary.id) for summary in step)
            for ids in spool.read(self.chunk, after=_pair(cursor) if cursor else None, limit=options.limit):
                found = {
                    summary.id: summary
                    for step in listings.walk(Selection(events=tuple(ids)), with_event=bodies)
                    for summary in step
                }
                # pruned meanwhile: gone
                yield [found[id] for id in ids if id in found]


class _Tally:
    """Adds up a plan, kind of event by kind of event."""

    def __init__(self, replayer: Replayer, options: Options) -> None:
        self.replayer = replayer
        self.options = options
        self.known = {handler.name for handler in replayer.registry.handlers()}
        self.events = self.without = self.compared = 0
        self.deliveries: Counter[str] = Counter()
        self.added: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.gone: Counter[str] = Counter()

    def add(
        self,
        kind: tuple[str, str],
        count: int,
        then: Mapping[str, int],
        matching: Mapping[str, int] | None,
        *,
        compared: int,
    ) -> None:
        """`count` events of one source and type; of `compared` of them, `then[handler]` went to a handler.

        matching: {handler: how many of the events have a delivery for it that matches}, where that is asked for.
        """
        options, replayer = self.options, self.replayer
        self.events += count
        self.compared += compared
        got_then = {name for name, number in then.items() if number}
        today = replayer.registry.route(*kind)
        mine = None if matching is None else {name for name, number in matching.items() if number}
        most = 0
        for handler in replayer.names(today, options, got_then, mine):
            name = handler.name
            number = then[name] if options.original else count
            if matching is not None:
                number = min(number, matching[name])
            self.deliveries[name] += number
            self.added[name] += max(0, min(number, compared) - then.get(name, 0))
            most = max(most, number)
        # of events of one kind, those without a delivery: exact unless several handlers got different shares
        self.without += count - most
        routed_today = {handler.name for handler in today}
        for name, number in then.items():
            if options.handler not in (None, name) or matching is not None:
                continue
            if options.original:
                if name not in self.known:
                    self.gone[name] += number
            elif name not in routed_today:
                self.left_out[name] += number

    def plan(self, selection: Selection, upper_id: int, never: int, pruned: int) -> Plan:
        names = sorted({*self.deliveries, *self.left_out})
        return Plan(
            selection=selection,
            options=self.options,
            upper_id=upper_id,
            events=self.events,
            deliveries=sum(self.deliveries.values()),
            handlers=[
                HandlerPlan(name, self.deliveries[name], self.added[name], self.left_out[name]) for name in names
            ],
            without_delivery=self.without,
            never_delivered=never,
            pruned=pruned,
            gone=dict(self.gone),
            compared=self.compared,
        )


def _by_kind(rows: Sequence[tuple[str, str, str, int]]) -> dict[tuple[str, str], Counter[str]]:
    """{(source, type): {handler: how many}}."""
    kinds: dict[tuple[str, str], Counter[str]] = {}
    for source, type, handler, count in rows:
        kinds.setdefault((source, type), Counter())[handler] += count
    return kinds


def _restricts(selection: Selection) -> bool:
    """Whether only handlers whose delivery matches get a new one."""
    return bool(selection.states or selection.error is not None)


def _plan_one(summary: EventSummary, handler: Any, due_at: datetime, order: Order) -> Planned:
    if handler.ordered_by is None:
        return Planned(summary.id, handler.name, due_at)
    try:
        lane = _lane(summary, handler)
    except Exception as error:  # the author's function; as in ingest, the delivery is dead from the start
        return Planned(summary.id, handler.name, due_at, error=ordering_failed(error))
    if not lane:
        return Planned(summary.id, handler.name, due_at)
    at = summary.occurred_at if order is Order.OCCURRED else summary.received_at
    return Planned(summary.id, handler.name, due_at, lane, to_microseconds(at), summary.revision)


def _lane(summary: EventSummary, handler: Any) -> str | None:
    kept = {"object_id": summary.object_id, "lead_id": summary.lead_id}
    return ordering_key(handler.ordered_by, kept.get, lambda: _event(summary), handler.name)


def _event(summary: EventSummary) -> Event:
    assert summary.event is not None  # `_needs_bodies`
    return summary.event


def _same(other: Replay, selection: Mapping[str, Any], options: Mapping[str, Any]) -> bool:
    """Whether a replay was asked for in the same words; times apart, which move while one presses twice."""

    def timeless(mapping: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in mapping.items() if name not in ("since", "until")}

    return timeless(other.selection) == timeless(selection) and dict(other.options) == dict(options)


# -- cursors and order ---------------------------------------------------------------------------------------


def _cursor(summary: EventSummary, order: Order) -> str:
    at = summary.occurred_at if order is Order.OCCURRED else summary.received_at
    return json.dumps([to_microseconds(at), summary.id])


def _pair(cursor: str) -> tuple[int, int]:
    at, id = json.loads(cursor)
    return at, id


def _place(cursor: str) -> Place:
    at, id = _pair(cursor)
    return Place(from_microseconds(at), id)


def _limited(chunks: Iterator[list[EventSummary]], limit: int | None) -> Iterator[list[EventSummary]]:
    """At most `limit` events of these."""
    for chunk in chunks:
        if limit is not None:
            if limit <= 0:
                return
            chunk = chunk[:limit]
            limit -= len(chunk)
        yield chunk


def _with_last(chunks: Iterator[list[EventSummary]]) -> Iterator[tuple[list[EventSummary], bool]]:
    """Each chunk, and whether it is the last; an empty one alone when there are none."""
    before: list[EventSummary] = []
    for chunk in chunks:
        if not chunk:
            continue  # all of it was pruned meanwhile
        if before:
            yield before, False
        before = chunk
    yield before, True


class _Spool:
    """Sorts (instant, id) pairs in a temporary file of SQLite's, which goes away by itself."""

    def __enter__(self) -> _Spool:
        self._file = sqlite3.connect("", isolation_level=None)
        self._file.execute("create table spool (at integer, id integer, primary key (at, id)) without rowid")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, pairs: Iterator[tuple[int, int]]) -> None:
        self._file.execute("begin")
        self._file.executemany("insert or ignore into spool values (?, ?)", pairs)
        self._file.execute("commit")

    def read(self, step: int, *, after: tuple[int, int] | None, limit: int | None) -> Iterator[list[int]]:
        """Ids in order, `step` at a time, from `after` on (excluded), at most `limit` in all."""
        last: tuple[int, int] = after if after is not None else (-(2**63), 0)
        left = limit
        while left is None or left > 0:
            size = step if left is None else min(step, left)
            rows = self._file.execute(
                "select at, id from spool where (at, id) > (?, ?) order by at, id limit ?", (*last, size)
            ).fetchall()
            if not rows:
                return
            last = rows[-1]
            left = None if left is None else left - len(rows)
            yield [id for _, id in rows]


def eta_of(done: int, total: int, started: datetime, now: datetime | None = None) -> timedelta | None:
    """The time left, by the speed so far; None while nothing can be told."""
    took = (now or datetime.now(UTC)) - started
    return took / done * (total - done) if done and total > done else None


__all__ = [
    "HandlerPlan", "Options", "Order", "Plan", "Progress", "ReplayError", "Replayer", "eta_of", "parse_rate",
]  # fmt: skip
