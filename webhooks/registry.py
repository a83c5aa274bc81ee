"""Who gets an event: handlers, what they subscribe to, and the way from a type to their names.

`Registry.add` registers; `@on(…)` is a few lines over it and returns the function unchanged. Underneath are blinker
signals, one a pattern: `event_signal("lead.deleted").connect(fn)` is routed, stored and retried like a decorated handler.
We ask a signal who its receivers are for a source and call each ourselves; `send()` would stop at the first exception
and tell nothing about each, so it is refused.

Registration ends with `freeze`, at start; names are stable ids in the database, so two of one name fail there.
"""

from __future__ import annotations

import functools
import inspect
import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from blinker import ANY, Signal

from webhooks.errors import HandlerAlreadyRegistered, InvalidHandler, RegistrationError
from webhooks.model import Event
from webhooks.patterns import Pattern
from webhooks.predicates import Predicate, as_predicate
from webhooks.retry import RetryPolicy

logger = logging.getLogger(__name__)

_F = TypeVar("_F", bound=Callable[..., Any])

#: What a handler may ask for, by name.
ARGUMENTS = ("event", "session", "delivery", "data", "previous", "changed", "raw", "headers", "log")
_RATE = re.compile(r"\s*(\d+)\s*/\s*(s|sec|second|m|min|minute|h|hour|d|day)\s*")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,199}")
#: Types are senders' words; the routes of this many are remembered.
ROUTES_REMEMBERED = 4096


class KnowsTypes(Protocol):
    """What `check_known` needs of a source."""

    known_types: Collection[str]


@dataclass(frozen=True)
class Handler:
    """One registered callable and how it is to be run. Options are documented at `on`."""

    name: str
    function: Callable[..., Any]
    patterns: tuple[Pattern, ...]
    source: str | None = None
    where: Predicate | None = None
    ordered_by: str | Callable[[Event], str | None] | None = None
    retry: RetryPolicy | None = None
    timeout: timedelta | None = None
    concurrency: int | None = None
    rate: tuple[int, timedelta] | None = None
    ignore_own: bool = False
    isolation: str = "thread"
    on_failure: str = "block"
    stale: str = "run"
    rehearsable: bool = False
    is_async: bool = False
    arguments: tuple[str, ...] = field(default=())

    @property
    def wants_session(self) -> bool:
        return "session" in self.arguments

    def lane_key(self, event: Event) -> str | None:
        """The ordering key of an event; None when it has none. Raises what a function of the author's raises."""
        if self.ordered_by is None:
            return None
        if callable(self.ordered_by):
            key = self.ordered_by(event)
        elif self.ordered_by == "object_id":
            key = event.object_id
        else:
            key = event.meta.get(self.ordered_by)
        if key is not None and not isinstance(key, str):
            raise TypeError(f"ordered_by gave {type(key).__name__}; it must give text or None")
        return key or None


class EventSignal(Signal):
    """The blinker signal of one pattern; connecting to it registers a handler.

    Receivers are held strongly; `sender=` is a source's name. Connecting ends when the registry is frozen.
    """

    def __init__(self, pattern: Pattern, registry: Registry) -> None:
        super().__init__(f"webhooks events {pattern}")
        self.pattern = pattern
        self._registry = registry

    def connect(self, receiver: _F, sender: Any = ANY, weak: bool = False) -> _F:
        """Register `receiver` as a handler; it is held strongly whatever `weak` says."""
        if sender is not ANY and not isinstance(sender, str):
            raise InvalidHandler(f"sender is {sender!r}; give the name of a source, such as sender='close'")
        self._registry.connect(self, receiver, None if sender is ANY else sender)
        return super().connect(receiver, sender, weak=False)

    def disconnect(self, receiver: Any, sender: Any = ANY) -> None:
        """Take `receiver` off; deliveries that were stored for it wait until it is registered again."""
        super().disconnect(receiver, sender)
        self._registry.disconnect(self, receiver)

    def connect_raw(self, receiver: Callable[..., Any], sender: str | None) -> None:
        """Only connect; registration has been done."""
        super().connect(receiver, ANY if sender is None else sender, weak=False)

    def send(self, *args: Any, **kwargs: Any) -> Any:
        raise RegistrationError(
            f"events of {self.pattern} are not sent by hand; `webhooks trigger` makes one, `webhooks replay` runs stored ones"
        )

    send_async = send  # type: ignore[assignment]


class Registry:
    """The handlers of one application. Tests and second instances make their own."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}
        self._signals: dict[str, EventSignal] = {}
        self._by_receiver: dict[tuple[str, Any], Handler] = {}
        self._frozen = False

    # -- registration --------------------------------------------------------------------------------------

    def add(self, function: Callable[..., Any], *patterns: str, **options: Any) -> Handler:
        """Register `function` for events of any of `patterns`; the options are those of `on`.

        Raises `InvalidPattern`, `InvalidHandler` or `HandlerAlreadyRegistered`, each naming the fix.
        """
        handler = make_handler(function, patterns, **options)
        self._insert(handler)
        for pattern in handler.patterns:
            signal = self.event_signal(pattern.text)
            signal.connect_raw(function, handler.source)
            self._by_receiver[pattern.text, (id(function), handler.source)] = handler
        return handler

    def on(self, *patterns: str, **options: Any) -> Callable[[_F], _F]:
        """The decorator form of `add`; see `on` below."""

        def register(function: _F) -> _F:
            self.add(function, *patterns, **options)
            return function

        return register

    def event_signal(self, pattern: str) -> EventSignal:
        """The signal of a pattern; the same one for the same text."""
        signal = self._signals.get(pattern)
        if signal is None:
            signal = self._signals[pattern] = EventSignal(Pattern(pattern), self)
        return signal

    def connect(self, signal: EventSignal, receiver: Callable[..., Any], source: str | None) -> None:
        """Register a plain blinker receiver; called by `EventSignal.connect`."""
        _require_importable(receiver)
        known = self._by_receiver.get((signal.pattern.text, (id(receiver), source)))
        if known is not None:
            return  # blinker, too, takes a second connect for nothing
        handler = make_handler(receiver, (signal.pattern.text,), source=source, plain=True)
        self._insert(handler)
        self._by_receiver[signal.pattern.text, (id(receiver), source)] = handler

    def disconnect(self, signal: EventSignal, receiver: Any) -> None:
        for key in [key for key in self._by_receiver if key[0] == signal.pattern.text and key[1][0] == id(receiver)]:
            handler = self._by_receiver.pop(key)
            if handler not in self._by_receiver.values():
                self._handlers.pop(handler.name, None)
        self._route.cache_clear()

    def _insert(self, handler: Handler) -> None:
        if self._frozen:
            raise RegistrationError(
                f"handler {handler.name!r} came after the start; register handlers in modules that are loaded at start"
            )
        if handler.name in self._handlers:
            other = self._handlers[handler.name].function
            raise HandlerAlreadyRegistered(
                f"handler {handler.name!r} is already registered ({_place(other)}); pass name= to tell them apart"
            )
        self._handlers[handler.name] = handler
        self._route.cache_clear()

    def freeze(self) -> None:
        """End registration; called once at start."""
        self._frozen = True
        self._route.cache_clear()

    # -- looking -------------------------------------------------------------------------------------------

    def handlers(self) -> list[Handler]:
        """All handlers, in the order in which they were registered."""
        return list(self._handlers.values())

    def get(self, name: str) -> Handler | None:
        return self._handlers.get(name)

    def route(self, source: str, type: str) -> tuple[Handler, ...]:
        """The handlers of an event, each once, in the order of registration."""
        return self._route(source, type)

    @functools.cached_property
    def _route(self) -> Any:
        return functools.lru_cache(maxsize=ROUTES_REMEMBERED)(self._find)

    def _find(self, source: str, type: str) -> tuple[Handler, ...]:
        found: dict[str, Handler] = {}
        for text, signal in self._signals.items():
            if not signal.pattern.matches(type):
                continue
            for receiver in signal.receivers_for(source):
                for owner in (source, None):
                    handler = self._by_receiver.get((text, (id(receiver), owner)))
                    if handler is not None:
                        found[handler.name] = handler
        order = {name: place for place, name in enumerate(self._handlers)}
        return tuple(sorted(found.values(), key=lambda handler: order[handler.name]))

    def check_known(self, sources: Mapping[str, KnowsTypes], *, strict: bool = False) -> list[str]:
        """One warning per pattern that matches no known type of its source, and per source that is not configured.

        Senders add types without notice, so these are warnings; strict: raises `RegistrationError` with all of them.
        """
        warnings: list[str] = []
        for handler in self._handlers.values():
            if handler.source is not None and handler.source not in sources:
                warnings.append(
                    f"handler {handler.name!r} wants events of source {handler.source!r}, which is not configured; "
                    f"configured: {', '.join(sources) or 'none'}"
                )
                continue
            names = [handler.source] if handler.source else list(sources)
            if not names or any(not sources[name].known_types for name in names):
                continue
            known = {type for name in names for type in sources[name].known_types}
            for pattern in handler.patterns:
                if not pattern.expand(known):
                    meant = pattern.suggest(known)
                    hint = f"; did you mean {' or '.join(repr(type) for type in meant)}?" if meant else ""
                    warnings.append(
                        f"pattern {pattern.text!r} of handler {handler.name!r} matches no known type of "
                        f"{', '.join(names)}{hint}"
                    )
        if strict and warnings:
            raise RegistrationError("\n".join(warnings))
        return warnings


# -- making a handler --------------------------------------------------------------------------------------


def make_handler(
    function: Callable[..., Any],
    patterns: Sequence[str],
    *,
    name: str | None = None,
    source: str | None = None,
    where: Any = None,
    ordered_by: str | Callable[[Event], str | None] | None = None,
    retry: RetryPolicy | None = None,
    timeout: timedelta | float | None = None,
    concurrency: int | None = None,
    rate: str | None = None,
    ignore_own: bool = False,
    isolation: str = "thread",
    on_failure: str = "block",
    stale: str = "run",
    rehearsable: bool = False,
    plain: bool = False,
) -> Handler:
    """Check everything about a handler and make its record. plain: connected to a signal, not decorated."""
    if not callable(function):
        raise InvalidHandler(f"{function!r} cannot be called; decorate a function")
    if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
        raise InvalidHandler(f"{_place(function)}: name at least one event type, as in @on('lead.created')")
    own = name or _default_name(function)
    if not _NAME.fullmatch(own):
        raise InvalidHandler(f"{own!r} cannot be a handler's name; use letters, digits, _ . : - (at most 200)")
    label = f"handler {own!r}"
    arguments = _arguments(function, label, plain)

    def require(holds: bool, text: str) -> None:
        if not holds:
            raise InvalidHandler(f"{label}: {text}")

    require(source is None or isinstance(source, str), f"source is {source!r}; give a source's name")
    require(isolation in ("thread", "process"), f"isolation is {isolation!r}; it can be 'thread' or 'process'")
    require(on_failure in ("block", "skip"), f"on_failure is {on_failure!r}; it can be 'block' or 'skip'")
    require(stale in ("run", "skip"), f"stale is {stale!r}; it can be 'run' or 'skip'")
    require(
        concurrency is None or (isinstance(concurrency, int) and not isinstance(concurrency, bool) and concurrency >= 1),
        f"concurrency is {concurrency!r}; give a whole number of at least 1, or leave it out",
    )
    require(retry is None or isinstance(retry, RetryPolicy), f"retry is {retry!r}; give a RetryPolicy(…)")
    require(
        ordered_by is None or callable(ordered_by) or (isinstance(ordered_by, str) and bool(ordered_by)),
        f"ordered_by is {ordered_by!r}; give 'object_id', 'lead_id' or a function of the event",
    )
    require(
        ordered_by is not None or stale == "run",
        "stale='skip' needs ordered_by=: only in a lane is anything younger or elder",
    )
    require(
        not rehearsable or "session" in arguments,
        "rehearsable=True says that it has no effect outside session, so it must ask for session",
    )
    limit = timedelta(seconds=timeout) if isinstance(timeout, (int, float)) and not isinstance(timeout, bool) else timeout
    require(
        limit is None or (isinstance(limit, timedelta) and limit > timedelta(0)),
        f"timeout is {timeout!r}; give a timedelta above zero",
    )
    try:
        condition = None if where is None else as_predicate(where)
    except TypeError as error:
        raise InvalidHandler(f"{label}: where: {error}") from error
    return Handler(
        name=own,
        function=_plain_call(function) if plain else function,
        patterns=tuple(Pattern(pattern) for pattern in patterns),
        source=source,
        where=condition,
        ordered_by=ordered_by,
        retry=retry,
        timeout=limit,  # type: ignore[arg-type]
        concurrency=concurrency,
        rate=_rate(rate, label),
        ignore_own=ignore_own,
        isolation=isolation,
        on_failure=on_failure,
        stale=stale,
        rehearsable=rehearsable,
        is_async=inspect.iscoroutinefunction(inspect.unwrap(function))
        or inspect.iscoroutinefunction(getattr(function, "__call__", None)),  # noqa: B004
        arguments=arguments,
    )


def _plain_call(function: Callable[..., Any]) -> Callable[..., Any]:
    """Call a plain receiver as blinker would: the sender (a source's name) first, the rest by name."""
    takes_sender = _takes_sender(function)
    wants_event = any(
        parameter.name == "event" or parameter.kind is inspect.Parameter.VAR_KEYWORD
        for parameter in _parameters(function)
    )

    @functools.wraps(function)
    def call(event: Event, **arguments: Any) -> Any:
        if wants_event:
            arguments["event"] = event
        return function(event.source, **arguments) if takes_sender else function(**arguments)

    return call


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise InvalidHandler(f"{_place(function)}: its arguments cannot be read; wrap it in a function") from error


def _takes_sender(function: Callable[..., Any]) -> bool:
    parameters = _parameters(function)
    return bool(parameters) and parameters[0].name not in ARGUMENTS and parameters[0].kind in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )


def _arguments(function: Callable[..., Any], label: str, plain: bool) -> tuple[str, ...]:
    names: list[str] = []
    parameters = _parameters(function)
    if plain and _takes_sender(function):
        parameters = parameters[1:]
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.VAR_KEYWORD and plain:
            names.extend(name for name in ("event", "data") if name not in names)
            continue
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            raise InvalidHandler(f"{label} takes *{parameter.name}; name what it needs: {', '.join(ARGUMENTS)}")
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            raise InvalidHandler(f"{label}: {parameter.name!r} is positional-only; arguments are given by name, drop the /")
        if parameter.name not in ARGUMENTS:
            if parameter.default is not inspect.Parameter.empty:
                continue
            raise InvalidHandler(
                f"{label} asks for {parameter.name!r}, which we do not have; it can ask for {', '.join(ARGUMENTS)}"
            )
        names.append(parameter.name)
    if plain and "event" not in names:
        names.insert(0, "event")  # `_plain_call` takes the sender from it
    return tuple(names)


def _rate(rate: str | None, label: str) -> tuple[int, timedelta] | None:
    if rate is None:
        return None
    match = _RATE.fullmatch(rate) if isinstance(rate, str) else None
    if match is None or int(match[1]) < 1:
        raise InvalidHandler(f"{label}: rate is {rate!r}; write it like '10/s', '100/min' or '1/h'")
    return int(match[1]), timedelta(seconds=_UNITS[match[2][0]])


def _default_name(function: Callable[..., Any]) -> str:
    module = getattr(function, "__module__", None) or "handlers"
    name = getattr(function, "__qualname__", None) or type(function).__name__
    return f"{module}.{name}".replace(".<locals>", "").replace("<lambda>", "lambda")


def _require_importable(receiver: Any) -> None:
    """Plain receivers get their name from where they stand, so they must stand somewhere."""
    name = getattr(receiver, "__qualname__", "")
    if isinstance(receiver, functools.partial) or not name or "<lambda>" in name or "<locals>" in name:
        what = "a partial" if isinstance(receiver, functools.partial) else "a lambda or local function"
        raise InvalidHandler(
            f"{receiver!r} is {what}: it has no name that stays the same, and names are ids in the database; "
            "use on(name=…), or connect a function of a module"
        )


def _place(function: Any) -> str:
    code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else repr(function)


#: The registry that `from webhooks import on` fills.
default_registry = Registry()


def on(*patterns: str, registry: Registry | None = None, **options: Any) -> Callable[[_F], _F]:
    """Register the decorated function for events whose type matches any of `patterns`.

    source: only of this source. where: a condition (`changed`, `field`, a function of the event). name: its stable id;
    default `module.function`. ordered_by: "object_id", "lead_id" or a function of the event: one at a time and in
    order per key. on_failure: "block" (a dead delivery holds its lane) or "skip". stale: "run" or "skip" what comes
    after a younger one ran. retry: a `RetryPolicy`. timeout: of one attempt. concurrency: at once over all workers.
    rate: starts over all workers, "10/s". ignore_own: not for changes that we made ourselves. isolation: "thread" or
    "process". rehearsable: has no effect outside `session`, so `replay --rehearse` may run it and roll back.

    The function asks for what it needs by name: event, session, delivery, data, previous, changed, raw, headers, log.
    """
    return (registry if registry is not None else default_registry).on(*patterns, **options)


def event_signal(pattern: str) -> EventSignal:
    """The blinker signal of a pattern in the default registry; its receivers are handlers."""
    return default_registry.event_signal(pattern)


__all__ = ["ARGUMENTS", "EventSignal", "Handler", "Registry", "default_registry", "event_signal", "on"]
