"""Who gets an event: handlers, what they subscribe to, and the way from a type to their names.

`Registry.add` registers; `@on(…)` is a few lines over it and returns the function unchanged. Underneath are blinker
signals, one a pattern. `event_signal("lead.deleted").connect(fn)` is routed, stored and retried like a decorated
handler: `fn` is called as blinker calls receivers, the sender (a source's name) first, the rest by name. We ask a
signal for its receivers and call each one ourselves, because `send()` stops at the first error and tells no outcomes.

Registration ends with `freeze`, at start. Whatever is wrong with a handler is said where it is registered. Names are
stable ids in the database: renaming a function without `name=` makes another handler of it.

Not here: running handlers (`delivery`), finding their modules (`discovery`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, NoReturn, Protocol, TypeVar, Unpack

from blinker import ANY, Signal

from webhooks.errors import HandlerAlreadyRegistered, InvalidHandler, RegistrationError, WebhooksError
from webhooks.formats import did_you_mean, queue_of
from webhooks.routing.handler import (
    Handler,
    HandlerOptions,
    default_name,
    line_of,
    make_handler,
    place_of,
    require_patterns,
    require_stable_name,
)
from webhooks.routing.ordering import OBJECT_KEY
from webhooks.routing.patterns import Pattern, expand, suggest
from webhooks.routing.replies import Replies, Reply, ReplyOptions

_F = TypeVar("_F", bound=Callable[..., Any])

#: The routes of so many (source, type) are remembered. Types are senders' words, so it is bounded.
ROUTES_REMEMBERED = 4096


class KnowsTypes(Protocol):
    """What `check_known` needs of a source."""

    @property
    def known_types(self) -> Collection[str]:
        """The event types that the sender is known to send; empty where any may come."""

    @property
    def group_name(self) -> str:
        """What the sender calls the groups of its events; "" without groups."""


class EventSignal(Signal):
    """The blinker signal of one pattern; connecting to it registers a handler.

    It holds its receivers strongly. `sender=` is the name of a source. Connecting ends when the registry is frozen;
    disconnecting is respected at any time: new events are no longer stored for that receiver.
    """

    def __init__(self, pattern: Pattern, registry: Registry) -> None:
        super().__init__(f"Events of {pattern}; connecting to it registers a handler.")
        self.pattern = pattern
        #: {receiver: the sources from which it gets events, None for every one}
        self.sources: dict[Any, set[str | None]] = {}
        self._registry = registry

    def connect(self, receiver: _F, sender: Any = ANY, weak: bool = False) -> _F:
        """Register `receiver`, a function of a module; it is held strongly, whatever `weak` says.

        It is called with the source's name, then by name with what it asks for; `**kwargs` gets `KEYWORDS`.
        Connected to several patterns or senders it is still one handler. Raises `InvalidHandler` for what has no
        stable name (lambdas, partials, local functions, methods of objects).
        """
        source = None if sender is ANY else sender
        if source is not None and not isinstance(source, str):
            raise InvalidHandler(f"sender={sender!r}: give the name of a source, such as sender='close'")
        self._registry.require_receiver(self.pattern, receiver, source)
        self.hold(receiver, source)
        self._registry.refresh(receiver)
        return receiver

    def hold(self, receiver: Any, source: str | None) -> None:
        """Connect what the registry knows already."""
        super().connect(receiver, ANY if source is None else source, weak=False)
        self.sources.setdefault(receiver, set()).add(source)

    def disconnect(self, receiver: Callable[..., Any], sender: Any = ANY) -> None:
        """Take `receiver` off this pattern, connected or decorated; unknown ones are ignored, as blinker does."""
        for held in list(self.sources):
            if held != receiver and not (isinstance(held, Handler) and held.function == receiver):
                continue
            left = set() if sender is ANY else self.sources[held] - {sender}
            if left:
                self.sources[held] = left
                super().disconnect(held, sender)
            else:
                del self.sources[held]
                super().disconnect(held)
            self._registry.refresh(held)

    def send(self, *args: Any, **arguments: Any) -> NoReturn:
        """Refused: an event that is only sent would be in no database, and lost with its process."""
        raise WebhooksError(
            f"events of {self.pattern.text!r} are not sent, they come from a source; `webhooks trigger` makes one that "
            "takes the whole way, `webhooks replay` runs stored ones again"
        )

    async def send_async(self, *args: Any, **arguments: Any) -> NoReturn:
        """Refused, as `send` is."""
        self.send()

    def muted(self) -> NoReturn:
        """Refused: what comes while a signal is muted would never be delivered."""
        raise WebhooksError(
            f"the signal of {self.pattern.text!r} cannot be muted, because its events would be lost to its handlers; "
            "`webhooks handlers pause NAME` holds deliveries back"
        )


class Registry:
    """The handlers of one application. Tests and second instances make their own."""

    def __init__(self) -> None:
        #: {handler's name: handler}, in the order of registration
        self._handlers: dict[str, Handler] = {}
        #: {pattern: its signal}
        self._signals: dict[str, EventSignal] = {}
        #: {what is connected: its handler's name}; a decorated handler is its own receiver, a plain one the function
        self._names: dict[Any, str] = {}
        #: {handler's name: the queue that its author named}
        self._queues: dict[str, str] = {}
        #: what senders are answered
        self.replies = Replies()
        self._frozen = False
        self._routes = functools.lru_cache(maxsize=ROUTES_REMEMBERED)(self._find)

    # -- registering ---------------------------------------------------------------------------------------

    def add(self, function: Callable[..., Any], *patterns: str, **options: Unpack[HandlerOptions]) -> Handler:
        """Register `function` for events of any of `patterns`; the options are those of `on`.

        Raises `InvalidPattern`, `InvalidHandler` or `HandlerAlreadyRegistered`, each naming the fix.
        """
        handler = make_handler(function, patterns, options)
        self._insert(handler, handler)
        for pattern in handler.patterns:
            self.event_signal(pattern.text).hold(handler, handler.source)
        self._routes.cache_clear()
        return handler

    def on(self, *patterns: str, **options: Unpack[HandlerOptions]) -> Callable[[_F], _F]:
        """Register the decorated function with this registry; everything else is said at `on` below."""
        require_patterns(patterns)

        def register(function: _F) -> _F:
            self.add(function, *patterns, **options)
            return function

        return register

    def reply(self, *patterns: str, **options: Unpack[ReplyOptions]) -> Callable[[_F], _F]:
        """Let the decorated function answer, as `reply` below says."""
        require_patterns(patterns)

        def register(function: _F) -> _F:
            self.replies.add(function, *patterns, **options)
            return function

        return register

    def event_signal(self, pattern: str) -> EventSignal:
        """The signal of a pattern, or of one event type; the same one for the same text."""
        signal = self._signals.get(pattern)
        if signal is None:
            signal = self._signals.setdefault(pattern, EventSignal(Pattern(pattern), self))
        return signal

    def require_receiver(self, pattern: Pattern, receiver: Callable[..., Any], source: str | None) -> None:
        """Make a handler of a plain receiver, unless it is one; called by `EventSignal.connect`."""
        require_stable_name(receiver)
        self._require_open(default_name(receiver))
        if receiver not in self._names:
            self._insert(receiver, make_handler(receiver, (pattern.text,), {"source": source}, is_plain=True))

    def refresh(self, receiver: Any) -> None:
        """Learn from the signals what a receiver is connected to now.

        With no connection left its handler is forgotten; after the start it stays, for what is stored for it.
        """
        self._routes.cache_clear()
        name = self._names.get(receiver)
        if name is None:
            return
        signals = [signal for signal in self._signals.values() if receiver in signal.sources]
        sources = {source for signal in signals for source in signal.sources[receiver]}
        if signals:
            self._handlers[name] = replace(
                self._handlers[name],
                patterns=tuple(signal.pattern for signal in signals),
                source=next(iter(sources)) if len(sources) == 1 else None,
            )
        elif not self._frozen:
            del self._names[receiver], self._handlers[name]

    def _insert(self, receiver: Any, handler: Handler) -> None:
        self._require_open(handler.name)
        known = self._handlers.get(handler.name)
        if known is not None:
            raise HandlerAlreadyRegistered(
                f"handler {handler.name!r} is already registered, by {place_of(known.function)}; give one of the "
                "two another name="
            )
        self._handlers[handler.name] = handler
        self._names[receiver] = handler.name
        self._queues[handler.name] = handler.queue

    def _require_open(self, name: str) -> None:
        if self._frozen:
            raise RegistrationError(
                f"handler {name!r} comes after the start, when routes are fixed; register it in a module that is "
                "loaded at start: one in the directory handlers/, or named in the setting HANDLERS"
            )

    def freeze(self) -> None:
        """End registration; called at start, and harmless when called again."""
        self._frozen = True
        self.replies.freeze()

    def assign_queues(self, table: Mapping[str, str]) -> list[str]:
        """Put handlers into the queues that the operator says; what is probably a slip: patterns that match no handler.

        table: {pattern of handlers' names: queue}, the first match wins; the others are where their authors put them.
        """
        for name, handler in self._handlers.items():
            queue = queue_of(name, self._queues[name], table)
            if queue != handler.queue:
                self._handlers[name] = replace(handler, queue=queue)
        self._routes.cache_clear()
        return [
            f"pattern {pattern!r} in [queues] matches no handler{did_you_mean(pattern, self._handlers)}"
            for pattern in table
            if not any(fnmatchcase(name, pattern) for name in self._handlers)
        ]

    def only(self, names: Collection[str], modules: Collection[str] | None = None) -> Registry:
        """Some of the handlers, frozen, and still connected to the same signals; this registry stays as it is.

        modules: of which replies stay; None: all of them.
        """
        other = Registry()
        other._handlers = {name: handler for name, handler in self._handlers.items() if name in names}
        other._signals, other._names, other._queues = self._signals, self._names, self._queues
        other.replies = self.replies.of(modules)
        other.freeze()
        return other

    # -- looking -------------------------------------------------------------------------------------------

    def handlers(self) -> list[Handler]:
        """All handlers, in the order in which they were registered."""
        return list(self._handlers.values())

    def get(self, name: str) -> Handler | None:
        """The handler of that name; None when this process does not know it."""
        return self._handlers.get(name)

    def route(self, source: str, type: str) -> tuple[Handler, ...]:
        """The handlers of an event, each once, in the order of registration. Raises nothing."""
        return self._routes(source, type)

    def _find(self, source: str, type: str) -> tuple[Handler, ...]:
        names = {
            self._names[receiver]
            for signal in list(self._signals.values())
            if signal.pattern.matches(type)
            for receiver in signal.receivers_for(source)
        }
        return tuple(handler for handler in self._handlers.values() if handler.name in names)

    def check_known(self, sources: Mapping[str, KnowsTypes], *, strict: bool = False) -> list[str]:
        """What is probably a slip: patterns that match no known type, and sources that are not configured.

        Senders add types without notice, so these are warnings. strict: raises `RegistrationError` with all of them.

        Raises `InvalidHandler` for an `ordered_by` or `latest` that names a key which no source of the handler gives.
        """
        names = [was for handler in self._handlers.values() for was in handler.formerly]
        for was in names:
            if was in self._handlers or names.count(was) > 1:
                raise InvalidHandler(
                    f"{was!r} is in formerly=, and is also the name, or a former name, of another handler; one of them has to go"
                )
        wrong = [text for handler in self._handlers.values() for text in _wrong_order(handler, sources)]
        if wrong:
            raise InvalidHandler("\n".join(wrong))
        named: list[tuple[str, Handler | Reply]] = [
            (f"handler {each.name!r}", each) for each in self._handlers.values()
        ]
        named += [(f"reply {each.name!r}", each) for each in self.replies.all()]
        warnings = [text for what, each in named for text in _doubts(what, each, sources)]
        if strict and warnings:
            raise RegistrationError("\n".join(warnings))
        return warnings


def _wrong_order(handler: Handler, sources: Mapping[str, KnowsTypes]) -> Iterable[str]:
    """That a lane is named by a key which no source of the handler gives; nothing while that source is not configured."""
    named = handler.lane_by
    if (
        not isinstance(named, str)
        or named == OBJECT_KEY
        or (handler.source is not None and handler.source not in sources)
    ):
        return
    names = [handler.source] if handler.source else list(sources)
    groups = sorted({sources[name].group_name for name in names} - {""})
    if named not in groups:
        given = " or ".join(map(repr, (OBJECT_KEY, *groups)))
        option = "ordered_by" if handler.latest is None else "latest"
        yield f"handler {handler.name!r}: {option} is {named!r}; give {given}, or a function of the event"


def _doubts(what: str, handler: Handler | Reply, sources: Mapping[str, KnowsTypes]) -> Iterable[str]:
    if handler.source is not None and handler.source not in sources:
        yield (
            f"{line_of(handler.function)}{what} wants events of source {handler.source!r}, which is not configured"
            f"{did_you_mean(handler.source, sources)}; configured: {', '.join(sources) or 'none'}"
        )
        return
    names = [handler.source] if handler.source else list(sources)
    if not names or any(not sources[name].known_types for name in names):
        return  # of a source without known types any type might be meant
    known = {type for name in names for type in sources[name].known_types}
    for pattern in handler.patterns:
        if not expand(pattern, known):
            meant = suggest(pattern, known)
            yield (
                f"{line_of(handler.function)}pattern {pattern.text!r} of {what} matches no event type that we know of "
                f"{', '.join(names)}" + (f"; did you mean {meant!r}?" if meant else "")
            )


# -- the registry that handler modules fill ----------------------------------------------------------------

default_registry = Registry()


def on(*patterns: str, registry: Registry | None = None, **options: Unpack[HandlerOptions]) -> Callable[[_F], _F]:
    """Register the decorated function for events whose type matches any of `patterns`.

    patterns: event types; `*` is one segment, `**` any number.
    registry: where to register; None is the default one.
    name: its stable id in the database; default `module.function`.
    formerly: names that it had before: what waits, runs or is dead under them, lanes, pause and breaker become its own.
    source: only events of this source.
    data: the type of `event.data` (a dataclass, TypedDict, msgspec.Struct, pydantic model or view), checked before each run;
        default: what `event: Event[…]` or `data: …` is annotated with.
    where: a condition (`changed`, `field`, a function of the event); when it does not hold, the delivery is cancelled.
    ordered_by: "object_id", the name of a source's groups (such as all of one customer) or a function of the event: events
        of one key run one after another, the oldest first.
    on_failure: "block" (a dead delivery holds its lane until it is freed by hand) or "skip".
    stale: "run" or "skip" an event that comes after a newer one of its lane has run.
    latest: as `ordered_by`, for handlers that want the newest of a key only: once it ran, the older ones that wait are cancelled.
    debounce: with `latest`, a `Debounce`: a burst of one key runs once, when it is over.
    retry: a `RetryPolicy`.
    timeout: of one attempt, a timedelta.
    max_wait: how long a fresh delivery may wait before the alarm `backlog-old` is raised, a timedelta.
    concurrency: runs at once, over all workers.
    rate: starts over all workers, "10/s", "100/min".
    ignore_own: not for changes made with our own key.
    isolation: "thread" or "process".
    effects: "anywhere" or "session": nothing that it does happens outside `session`, so that deliveries which wait together
        may share a transaction, and `replay --rehearse` may run it and roll back.
    batch: so many deliveries at once, at most: the function asks for `events`, of which it gets what is due already.
    rehearsable: True says the same as effects="session".
    queue: which workers run it (`webhooks worker --queues`); a name, default "default". The operator's `[queues]` win.

    The function asks by name for what it needs (with batch=: events, session, deliveries, log): event, session, delivery, data, previous, changed, raw, headers, log.
    """
    return (registry if registry is not None else default_registry).on(*patterns, **options)


def reply(*patterns: str, registry: Registry | None = None, **options: Unpack[ReplyOptions]) -> Callable[[_F], _F]:
    """Let the decorated function make the answer that the sender gets for events of any of `patterns`.

    It gets the event, after it was stored, and returns text or bytes, what JSON can hold (a dict or a list), or None for the
    default answer. It is called again for each copy of the event, so it must have no effect; handlers have those. Where it fails,
    takes longer than two seconds, or two others of this process are under way, the sender gets the default.

    patterns: event types; `*` is one segment, `**` any number. The first reply that fits answers.
    registry: where to register; None is the default one.
    source: only events of this source.
    content_type: of text and bytes; default "text/plain; charset=utf-8".
    name: for logs; default `module.function`.
    """
    return (registry if registry is not None else default_registry).reply(*patterns, **options)


def event_signal(pattern: str) -> EventSignal:
    """The blinker signal of a pattern in the default registry; its receivers are handlers."""
    return default_registry.event_signal(pattern)
