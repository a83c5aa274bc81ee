"""Plan, start, run, resume and cancel replays.

`plan` says what a replay would do. `start` records it, `run` makes the deliveries in chunks, each of which moves the
replay's cursor in the same transaction; of two processes that run one replay, one stops.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from webhooks import signals
from webhooks.database import to_microseconds
from webhooks.errors import NotFound
from webhooks.formats import did_you_mean
from webhooks.model import EMPTY, Event, new_id
from webhooks.operations.actions.journal import Journal
from webhooks.operations.actions.verbs import Verb
from webhooks.operations.actor import Actor
from webhooks.operations.replay.options import (
    Options,
    Order,
    ReplayedHandler,
    ReplayedRegistry,
    ReplayError,
    for_handler,
    restricts,
)
from webhooks.operations.replay.order import cursor_of, in_order, limited, with_last
from webhooks.operations.replay.plan import Plan, PlanCounts
from webhooks.routing import OBJECT_KEY, ordering_failed, ordering_key
from webhooks.selection import Selection
from webhooks.store import Store
from webhooks.store.listings import EventSummary
from webhooks.store.replays import Planned, Replay, ReplayState

#: Events of one transaction.
CHUNK = 250


@dataclass(frozen=True, slots=True)
class Progress:
    """How far `run` is: events looked at, deliveries made."""

    events: int
    deliveries: int


class Replayer:
    """Plans and makes replays.

    registry: today's handlers.
    new_upper_id: the id that no stored row has reached.
    chunk: events of one transaction.
    group_names: {source: what it calls the groups of its events}; of a source that is not among them any name counts.
    """

    def __init__(
        self,
        *,
        store: Store,
        registry: ReplayedRegistry,
        new_upper_id: Callable[[], int] = new_id,
        chunk: int = CHUNK,
        group_names: Mapping[str, str] = EMPTY,
    ) -> None:
        self.store = store
        self.registry = registry
        self.new_upper_id = new_upper_id
        self.chunk = chunk
        self.group_names = group_names

    # -- plan ----------------------------------------------------------------------------------------------

    def plan(self, selection: Selection, options: Options | None = None) -> Plan:
        """Say what a replay would do; nothing is changed. Raises `SelectionError` and `NotFound`."""
        options = options or Options()
        self._require_handler(options.handler)
        selection = for_handler(selection, options)
        self._require_events(selection)
        upper_id = self.new_upper_id()
        counts = PlanCounts(
            self.store,
            self.registry,
            selection,
            options,
            upper_id,
            lambda: self.chunks(selection, options, upper_id, None, bodies=False),
        )
        plan = counts.plan()
        return replace(plan, eta=self._eta(plan))

    def _require_handler(self, name: str | None) -> None:
        names = [handler.name for handler in self.registry.handlers()]
        if name is not None and name not in names:
            raise NotFound(
                f"no handler named {name!r}{did_you_mean(name, names)}; registered: {', '.join(names) or 'none'}"
            )

    @staticmethod
    def for_handler(selection: Selection, options: Options) -> Selection:
        """The selection of the events: `options.handler` narrows it only beside a state or an error."""
        return for_handler(selection, options)

    def _require_events(self, selection: Selection) -> None:
        for id in selection.events:
            if self.store.events.get(id) is None:
                raise NotFound(f"no event {id}: it was never stored here, or has been pruned; nothing was changed")

    def _eta(self, plan: Plan) -> timedelta | None:
        if not plan.deliveries:
            return None
        rates = [rate for rate in (plan.options.rate, self.store.replays.recent_rate()) if rate]
        return timedelta(seconds=plan.deliveries / min(rates)) if rates else None

    # -- start, run, resume --------------------------------------------------------------------------------

    def start(
        self, plan: Plan, *, actor: Actor, why: str | None = None, detached: bool = False, preview_id: int | None = None
    ) -> Replay:
        """Record the replay; `run` makes its deliveries.

        actor: on whose behalf.
        why: kept on record.
        detached: a worker calls `run`, rather than this process (`DetachedReplays`).
        preview_id: of a page that was confirmed; once (`AlreadyConfirmed`).

        Raises `ReplayError` when the same replay is under way: it was asked for twice.
        """
        selection = plan.selection.to_mapping()
        options = plan.options.to_mapping() | ({"detached": True} if detached else {})
        for other in self.store.replays.under_way():
            if _is_same(other, selection, options) and (
                other.state is ReplayState.OPEN or self.store.replays.is_unfinished(other.id)
            ):
                way = "resume" if other.state is ReplayState.OPEN else "show"
                raise ReplayError(
                    f"replay {other.id} of the same events (by {other.created_by}) is still under way; "
                    f"see it: webhooks replay {way} {other.id}, stop it: webhooks replay cancel {other.id}"
                )
        with Journal(self.store).doing(
            Verb.REPLAY,
            actor,
            why=why,
            selection=selection,
            options=options,
            matched=plan.events,
            preview_id=preview_id,
        ) as entry:
            started = self.store.replays.start(
                by=actor.name, why=why, selection=selection, options=options, upper_id=plan.upper_id, pruned=plan.pruned
            )
            entry.subject, entry.changed = str(started.id), plan.deliveries
        signals.emit(signals.replay_started, started.id, selection=plan.selection, who=actor.name)
        return started

    def run(self, replay: Replay, on_progress: Callable[[Progress], None] | None = None) -> Replay:
        """Make the deliveries of an open replay from where it stands. Raises `ReplayError` when it is not open."""
        selection = Selection.parse(replay.selection, replay.created_at)
        options = Options.from_mapping(replay.options)
        chunks = self.chunks(selection, options, replay.upper_id, replay.cursor, bodies=self._needs_bodies())
        with closing(chunks):  # its temporary file goes now, wherever an error is kept
            left = chunks if options.limit is None else limited(chunks, options.limit - replay.events)
            return self._make(replay, selection, options, left, on_progress)

    def _make(
        self,
        replay: Replay,
        selection: Selection,
        options: Options,
        chunks: Iterator[list[EventSummary]],
        on_progress: Callable[[Progress], None] | None,
    ) -> Replay:
        current = replay
        not_before: datetime | None = None
        for chunk, is_last in with_last(chunks):
            planned = self._planned(chunk, selection, options, current, not_before)
            if planned and options.rate is not None:
                not_before = planned[-1].due_at + timedelta(seconds=1 / options.rate)
            cursor = cursor_of(chunk[-1], options.order) if chunk else current.cursor or ""
            moved = self.store.replays.add(current, planned, events=len(chunk), cursor=cursor, is_last=is_last)
            if moved is None:
                raise self._taken_over(current.id)
            current = moved
            if on_progress is not None:
                on_progress(Progress(current.events, current.deliveries))
        signals.emit(signals.replay_finished, current.id, events=current.events, deliveries=current.deliveries)
        return current

    def resume(self, id: int, on_progress: Callable[[Progress], None] | None = None) -> Replay:
        """Continue a replay whose process died. Raises `NotFound` and `ReplayError`."""
        replay = self.get(id)
        if replay.state is not ReplayState.OPEN:
            raise ReplayError(f"replay {id} is {replay.state.label}; there is nothing to resume")
        return self.run(replay, on_progress)

    def cancel(self, id: int, *, actor: Actor, why: str = "", **given: Any) -> int:
        """Stop a replay: nothing more is made for it, and what has not run is cancelled. The number of those.

        actor: on whose behalf.
        why: kept on record.
        given: what `Journal.doing` takes besides, of a page or an undo.

        Raises `NotFound`, and `ReplayError` when it is cancelled or through already.
        """
        replay = self.get(id)
        if replay.state is ReplayState.CANCELLED:
            raise ReplayError(f"replay {id} was cancelled already, at {replay.finished_at:%Y-%m-%d %H:%M:%S} UTC")
        waiting = self.store.replays.pending(id, 1)
        if replay.state is ReplayState.DONE and not waiting:
            raise ReplayError(f"replay {id} has nothing left to cancel: all its deliveries are made and none waits")
        with Journal(self.store).doing(Verb.REPLAY_CANCEL, actor, str(id), why=why, **given) as entry:
            self.store.replays.close(id)
            while batch := self.store.replays.pending(id):
                done = self.store.deliveries.cancel(batch, f"replay {id} cancelled by {actor.name}")
                entry.changed += len(done)
                if not done:
                    break  # workers have taken them meanwhile
        return entry.changed

    def get(self, id: int) -> Replay:
        """The replay under `id`. Raises `NotFound`."""
        replay = self.store.replays.get(id)
        if replay is None:
            raise NotFound(f"no replay {id}; see webhooks replay list")
        return replay

    def _taken_over(self, id: int) -> ReplayError:
        replay = self.get(id)
        if replay.state is ReplayState.OPEN:
            return ReplayError(f"another process continues replay {id}; this one stops")
        return ReplayError(f"replay {id} is {replay.state.label}; this process stops")

    # -- the steps of one chunk ------------------------------------------------------------------------------

    def chunks(
        self, selection: Selection, options: Options, upper_id: int, cursor: str | None, *, bodies: bool
    ) -> Generator[list[EventSummary], None, None]:
        """The selected events in order, from the cursor on; at most `chunk` at a time.

        selection, options, upper_id: of a plan or a recorded replay.
        cursor: of a replay that is continued; None begins.
        bodies: with the events' content.
        """
        return in_order(
            self.store.listings,
            selection,
            options,
            upper_id=upper_id,
            cursor=cursor,
            step=self.chunk,
            bodies=bodies,
        )

    def pairs(
        self, chunk: Sequence[EventSummary], selection: Selection, options: Options, upper_id: int
    ) -> list[tuple[EventSummary, Any]]:
        """Each event of a chunk with each handler that gets a delivery for it."""
        ids = [summary.id for summary in chunk]
        store = self.store.replays
        then = store.handlers_of(ids, None, upper_id) if options.original else {}
        matching = store.handlers_of(ids, selection, upper_id) if restricts(selection) else None
        return [
            (summary, handler)
            for summary in chunk
            for handler in self._handlers(summary, options, then)
            if options.handler in (None, handler.name)
            and (matching is None or handler.name in matching.get(summary.id, ()))
        ]

    def _handlers(self, summary: EventSummary, options: Options, then: Mapping[int, set[str]]) -> Sequence[Any]:
        """The handlers that today's routing gives the event to, or that of then."""
        if not options.original:
            return self.registry.route(summary.source, summary.type)
        got_it = then.get(summary.id, set())
        return [handler for handler in self.registry.handlers() if handler.name in got_it]

    def _needs_bodies(self) -> bool:
        """Keys that are named have columns; a function of the event needs all of it."""
        return any(callable(handler.lane_by) for handler in self.registry.handlers())

    def _planned(
        self,
        chunk: Sequence[EventSummary],
        selection: Selection,
        options: Options,
        replay: Replay,
        not_before: datetime | None,
    ) -> list[Planned]:
        now = self.store.database.now()
        # a resumed replay continues at its rate from now; it does not catch up
        begun = min(now, replay.created_at)  # no later than now, whatever the clock said then
        start = now
        if options.rate is not None:
            start = max(now, begun + timedelta(seconds=replay.deliveries / options.rate), not_before or now)
        planned: list[Planned] = []
        for summary, handler in self.pairs(chunk, selection, options, replay.upper_id):
            due_at = start if options.rate is None else start + timedelta(seconds=len(planned) / options.rate)
            planned.append(self._plan_one(summary, handler, due_at, options.order))
        return planned

    def _plan_one(self, summary: EventSummary, handler: ReplayedHandler, due_at: datetime, order: Order) -> Planned:
        if handler.lane_by is None:
            return Planned(summary.id, handler.name, due_at)
        group_name = self.group_names.get(summary.source, handler.lane_by)
        try:
            lane = ordering_key(
                handler.lane_by,
                {group_name: summary.group_id, OBJECT_KEY: summary.object_id}.get,
                lambda: _event(summary),
                handler.name,
            )
        except Exception as error:  # the author's function; as in ingest, the delivery is dead from the start
            return Planned(summary.id, handler.name, due_at, error=ordering_failed(error))
        if not lane:
            return Planned(summary.id, handler.name, due_at)
        at = summary.occurred_at if order is Order.OCCURRED else summary.received_at
        return Planned(summary.id, handler.name, due_at, lane, to_microseconds(at), summary.revision)


def _event(summary: EventSummary) -> Event:
    assert summary.event is not None  # `_needs_bodies`
    return summary.event


def _is_same(other: Replay, selection: Mapping[str, Any], options: Mapping[str, Any]) -> bool:
    """Whether a replay was asked for in the same words; times apart, which move between two requests."""

    def without(mapping: Mapping[str, Any], *names: str) -> dict[str, Any]:
        return {name: value for name, value in mapping.items() if name not in names}

    same_events = without(other.selection, "since", "until") == without(selection, "since", "until")
    return same_events and without(other.options, "detached") == without(options, "detached")


__all__ = ["Progress", "Replayer"]
