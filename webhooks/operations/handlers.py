"""Handlers: what is registered here beside what the database knows, and pause and resume.

`view` is pure, so that a page or a command has something to show while the database cannot be asked. A pause is felt by
all workers within two seconds; deliveries of the handler wait meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from webhooks.errors import NotFound
from webhooks.formats import DEFAULT_QUEUE, did_you_mean, span
from webhooks.operations.actions.journal import Journal
from webhooks.operations.actions.verbs import Verb
from webhooks.operations.actor import Actor
from webhooks.routing import Debounce, Handler

if TYPE_CHECKING:
    from webhooks.store import Store
    from webhooks.store.handlers import HandlerState
    from webhooks.store.health import LatestRuns
    from webhooks.store.processes import Process


class HandlersHere(Protocol):
    """What is asked of the registry."""

    def handlers(self) -> Sequence[Handler]:
        """Every registered handler."""

    def get(self, name: str) -> Handler | None:
        """The handler of that name."""


@dataclass(frozen=True, slots=True)
class HandlerView:
    """One handler.

    patterns: of event types, as they were registered.
    is_registered: this process has it.
    state: running, paused, breaker open, breaker half-open, never started, not registered here, unknown.
    options: what was asked for beyond the defaults, in words.
    seen_at: when a process last registered it.
    workers: how many live workers have it; None when the database was not asked.
    succeeded_at, failed_at: its latest attempts of each kind, as far as they were looked for (`Health.latest_runs`).
    error: why that one failed, on one line.
    queue: in which it is here, or else on record.
    """

    name: str
    patterns: tuple[str, ...]
    source: str | None
    is_registered: bool
    state: str
    paused_by: str | None
    options: tuple[str, ...]
    seen_at: datetime | None
    workers: int | None = None
    succeeded_at: datetime | None = None
    failed_at: datetime | None = None
    error: str | None = None
    queue: str = DEFAULT_QUEUE


@dataclass(frozen=True, slots=True)
class HandlersOnRecord:
    """What the database knows of handlers.

    states: {name: state}.
    runs: {name: its latest runs}.
    workers: {name: how many live workers have it}.
    processes: those that reported lately.
    """

    states: Mapping[str, HandlerState]
    runs: Mapping[str, LatestRuns]
    workers: Mapping[str, int]
    processes: Sequence[Process] = ()


def on_record(store: Store, *, with_runs: bool = True, now: datetime | None = None) -> HandlersOnRecord:
    """Ask the database, in a bounded number of rows. Raises what the database raises.

    with_runs: for the latest runs, too.
    now: by the database's clock, where it was asked a moment ago.
    """
    processes = store.processes.running(now)
    workers = Counter(name for process in processes if process.is_worker for name in process.handlers)
    runs = store.health.latest_runs() if with_runs else {}
    return HandlersOnRecord(store.handlers.states(), runs, workers, processes)


def view(registered: Sequence[Handler], known: HandlersOnRecord | None) -> list[HandlerView]:
    """The handlers of this process and those that the database knows, by name.

    known: None when the database cannot be asked.
    """
    here = {handler.name: handler for handler in registered}
    names = {*here, *(known.states if known is not None else ())}
    return [_view(name, here.get(name), known) for name in sorted(names)]


def _view(name: str, handler: Handler | None, known: HandlersOnRecord | None) -> HandlerView:
    row = known.states.get(name) if known is not None else None
    runs = known.runs.get(name) if known is not None else None
    return HandlerView(
        name=name,
        patterns=tuple(str(p) for p in handler.patterns) if handler is not None else (row.patterns if row else ()),
        source=handler.source if handler is not None else (row.source if row else None),
        is_registered=handler is not None,
        state=_state(handler, row, is_asked=known is not None),
        paused_by=row.paused_by if row is not None and row.renamed_to is None else None,
        options=options_in_words(handler) if handler is not None else (),
        seen_at=row.seen_at if row is not None else None,
        workers=known.workers.get(name, 0) if known is not None else None,
        succeeded_at=runs.succeeded_at if runs is not None else None,
        failed_at=runs.failed_at if runs is not None else None,
        error=runs.error if runs is not None else None,
        queue=handler.queue if handler is not None else (row.queue if row else DEFAULT_QUEUE),
    )


def _state(handler: Handler | None, row: HandlerState | None, *, is_asked: bool) -> str:
    if row is not None and row.renamed_to is not None:
        return f"renamed to {row.renamed_to}"
    if row is not None and row.paused:
        return "paused"
    if row is not None and row.breaker:
        return f"breaker {row.breaker.name.lower().replace('_', '-')}"
    if handler is None:
        return "not registered here"
    if not is_asked:
        return "unknown"
    return "running" if row is not None else "never started"


def options_in_words(handler: Handler) -> tuple[str, ...]:
    """What was asked for beyond the defaults, in words."""
    words: Mapping[str, Any] = {
        "session": handler.wants_session,
        "async": handler.is_async,
        f"batch {handler.batch}": handler.batch is not None,
        f"ordered by {handler.ordered_by if isinstance(handler.ordered_by, str) else 'a function'}": (
            handler.ordered_by is not None
        ),
        f"formerly {', '.join(handler.formerly)}": bool(handler.formerly),
        f"data {'' if handler.data is None else handler.data.name}": handler.data is not None,
        f"latest by {handler.latest if isinstance(handler.latest, str) else 'a function'}": handler.latest is not None,
        f"debounce {'' if handler.debounce is None else _debounce(handler.debounce)}": handler.debounce is not None,
        f"where {handler.where}": handler.where is not None,
        f"concurrency {handler.concurrency}": handler.concurrency is not None,
        f"rate {_rate(handler.rate)}": handler.rate is not None,
        f"timeout {'' if handler.timeout is None else span(handler.timeout)}": handler.timeout is not None,
        f"max wait {'' if handler.max_wait is None else span(handler.max_wait)}": handler.max_wait is not None,
        "ignore own": handler.ignore_own,
        "rehearsable": handler.rehearsable,
        handler.isolation: handler.isolation != "thread",
    }
    return tuple(word for word, is_said in words.items() if is_said)


def _debounce(debounce: Debounce) -> str:
    return f"{span(debounce.quiet)}, at most {span(debounce.at_most)}"


def _rate(rate: Any) -> str:
    return "" if rate is None else f"{rate[0]} per {span(rate[1])}"


# -- pause, resume -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PauseChange:
    """What a pause or resume led to.

    changed: False when it was so already.
    paused_by: who had paused it before.
    action_id: what is on record of it; 0 where nothing was changed.
    """

    handler: str
    is_paused: bool
    changed: bool
    paused_by: str | None = None
    action_id: int = 0


def pause(store: Store, registry: HandlersHere, name: str, *, actor: Actor, why: str = "", **given: Any) -> PauseChange:
    """Stop all workers from running a handler; its deliveries wait.

    registry: of this process; a handler that no process has registered yet is put on record.
    actor: kept on record, and shown beside the handler.
    why: kept on record.
    given: what `Journal.doing` takes besides, of a page or an undo.

    Raises `NotFound`, and `AlreadyConfirmed`.
    """
    state = _known(store, registry, name)
    if state is not None and state.paused:
        return PauseChange(name, is_paused=True, changed=False, paused_by=state.paused_by)
    with Journal(store).doing(Verb.PAUSE, actor, name, why=why, **given) as entry:
        entry.changed = int(store.handlers.pause(name, actor.name))
    actor.tell("pause", f"paused the handler {name!r}")
    return PauseChange(name, is_paused=True, changed=True, action_id=entry.id)


def resume(
    store: Store, registry: HandlersHere, name: str, *, actor: Actor, why: str = "", **given: Any
) -> PauseChange:
    """Let workers run a handler again, and close its circuit breaker. For the rest see `pause`."""
    state = _known(store, registry, name)
    if state is not None and not state.paused and not state.breaker:
        return PauseChange(name, is_paused=False, changed=False)
    with Journal(store).doing(Verb.RESUME, actor, name, why=why, **given) as entry:
        entry.changed = int(store.handlers.resume(name))
    actor.tell("resume", f"resumed the handler {name!r}")
    return PauseChange(name, is_paused=False, changed=True, action_id=entry.id)


def try_one(
    store: Store, registry: HandlersHere, name: str, *, actor: Actor, why: str = "", **given: Any
) -> PauseChange:
    """Let one delivery through an open circuit breaker now, rather than when its time is over. For the rest see `pause`.

    `changed` is False when its breaker is not open.
    """
    from webhooks.store.handlers import BreakerState

    state = _known(store, registry, name)
    is_paused = state is not None and state.paused
    if state is None or state.breaker is not BreakerState.OPEN:
        return PauseChange(name, is_paused=is_paused, changed=False)
    with Journal(store).doing(Verb.TRY_ONE, actor, name, why=why, **given) as entry:
        entry.changed = int(store.handlers.half_open_breaker(name, at_once=True))
    actor.tell("try_one", f"let one delivery of the handler {name!r} try")
    return PauseChange(name, is_paused=is_paused, changed=bool(entry.changed), action_id=entry.id)


def _known(store: Store, registry: HandlersHere, name: str) -> HandlerState | None:
    """What the database knows of a handler, once it is on record there. Raises `NotFound`."""
    from webhooks.store.handlers import HandlerRow

    states = store.handlers.states()
    if name in states:
        return states[name]
    handler = registry.get(name)
    if handler is None:
        everything = sorted({*states, *(handler.name for handler in registry.handlers())})
        raise NotFound(
            f"no handler named {name!r}{did_you_mean(name, everything)}; known: {', '.join(everything) or 'none'}"
        )
    store.handlers.register([HandlerRow.of(handler)])
    return store.handlers.states([name]).get(name)


__all__ = [
    "HandlerView",
    "HandlersOnRecord",
    "PauseChange",
    "on_record",
    "options_in_words",
    "pause",
    "resume",
    "try_one",
    "view",
]
