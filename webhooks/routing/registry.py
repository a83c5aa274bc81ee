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

import contextlib
import difflib
import functools
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal, NoReturn, Protocol, TypedDict, TypeVar, Unpack

from blinker import ANY, Signal

from webhooks.errors import HandlerAlreadyRegistered, InvalidHandler, InvalidPattern, RegistrationError, WebhooksError
from webhooks.formats import Unreadable, read_rate
from webhooks.model import Event
from webhooks.routing.conditions import Predicate, as_predicate, require_function_of_event
from webhooks.routing.patterns import Pattern, expand, suggest
from webhooks.routing.retry import RetryPolicy

_F = TypeVar("_F", bound=Callable[..., Any])

#: What a handler may ask for, by name.
ARGUMENTS = ("event", "session", "delivery", "data", "previous", "changed", "raw", "headers", "log")
#: What a plain receiver's `**kwargs` gets. Not `session`: asking for it changes how a handler runs, so it is named.
KEYWORDS = ("event", "data", "delivery")
#: What `ordered_by` may name; anything else is a function of the event.
ORDERING_KEYS = ("object_id", "lead_id")
#: The routes of so many (source, type) are remembered. Types are senders' words, so it is bounded.
ROUTES_REMEMBERED = 4096

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,199}", re.ASCII)


class HandlerOptions(TypedDict, total=False):
    """The options of `on`, which describes them."""

    name: str | None
    source: str | None
    where: Predicate | Callable[[Event], Any] | None
    ordered_by: str | Callable[[Event], str | int | None] | None
    on_failure: Literal["block", "skip"]
    stale: Literal["run", "skip"]
    retry: RetryPolicy | None
    timeout: timedelta | None
    concurrency: int | None
    rate: str | None
    ignore_own: bool
    isolation: Literal["thread", "process"]
    rehearsable: bool


@dataclass(frozen=True, eq=False)
class Handler:
    """One registered function and how it is to be run; the options are described at `on`.

    function: to be called with `arguments` by name. rate: starts per period. Two are the same only when they are the
    same object; across processes the name is what counts.
    """

    name: str
    function: Callable[..., Any]
    patterns: tuple[Pattern, ...]
    arguments: tuple[str, ...] = ()
    source: str | None = None
    where: Predicate | None = None
    ordered_by: str | Callable[[Event], str | int | None] | None = None
    on_failure: str = "block"
    stale: str = "run"
    retry: RetryPolicy | None = None
    timeout: timedelta | None = None
    concurrency: int | None = None
    rate: tuple[int, timedelta] | None = None
    ignore_own: bool = False
    isolation: str = "thread"
    rehearsable: bool = False
    is_async: bool = False

    @property
    def wants_session(self) -> bool:
        return "session" in self.arguments

    def lane_key(self, event: Event) -> str | None:
        """The ordering key of an event; None when it has none, so that the event waits for no other.

        Raises what a function of the author's raises, TypeError when it gives something else than a key, and ValueError
        when the key cannot be stored.
        """
        if self.ordered_by is None:
            return None
        if callable(self.ordered_by):
            key = self.ordered_by(event)
        else:
            key = event.object_id if self.ordered_by == "object_id" else event.meta.get(self.ordered_by)
        if isinstance(key, int) and not isinstance(key, bool):
            key = str(key)
        if key is not None and not isinstance(key, str):
            raise TypeError(f"ordered_by of handler {self.name!r} gave {type(key).__name__}; it must give text or None")
        return require_lane(key or None)


#: An ordering key has at most so many bytes, on both databases.
LONGEST_LANE_BYTES = 255


def require_lane(key: str | None) -> str | None:
    """An ordering key that both databases can hold; the one rule for ingest, replay and requeue. Raises ValueError."""
    try:
        if key is not None and (len(key.encode()) > LONGEST_LANE_BYTES or "\0" in key):
            raise ValueError(f"an ordering key has at most {LONGEST_LANE_BYTES} bytes and no NUL")
    except UnicodeEncodeError:
        raise ValueError("an ordering key holds no lone surrogate") from None
    return key


class KnowsTypes(Protocol):
    """What `check_known` needs of a source."""

    @property
    def known_types(self) -> Collection[str]: ...


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
        _require_patterns(patterns)

        def register(function: _F) -> _F:
            self.add(function, *patterns, **options)
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
        _require_name_of_its_own(receiver)
        self._require_open(_default_name(receiver))
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
                f"handler {handler.name!r} is already registered, by {_place(known.function)}; give one of the "
                "two another name="
            )
        self._handlers[handler.name] = handler
        self._names[receiver] = handler.name

    def _require_open(self, name: str) -> None:
        if self._frozen:
            raise RegistrationError(
                f"handler {name!r} comes after the start, when routes are fixed; register it in a module that is "
                "loaded at start: one in the directory handlers/, or named in the setting HANDLERS"
            )

    def freeze(self) -> None:
        """End registration; called at start, and harmless when called again."""
        self._frozen = True

    @property
    def is_frozen(self) -> bool:
        return self._frozen

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
        """
        warnings = [text for handler in self._handlers.values() for text in _doubts(handler, sources)]
        if strict and warnings:
            raise RegistrationError("\n".join(warnings))
        return warnings


def _doubts(handler: Handler, sources: Mapping[str, KnowsTypes]) -> Iterable[str]:
    if handler.source is not None and handler.source not in sources:
        yield (
            f"handler {handler.name!r} wants events of source {handler.source!r}, which is not configured"
            f"{_did_you_mean(handler.source, sources)} (configured: {', '.join(sources) or 'none'})"
        )
        return
    names = [handler.source] if handler.source else list(sources)
    if not names or any(not sources[name].known_types for name in names):
        return  # somebody's types are not known, and might be meant
    known = {type for name in names for type in sources[name].known_types}
    for pattern in handler.patterns:
        if not expand(pattern, known):
            meant = suggest(pattern, known)
            yield (
                f"pattern {pattern.text!r} of handler {handler.name!r} matches no event type that we know of "
                f"{', '.join(names)}" + (f"; did you mean {meant!r}?" if meant else "")
            )


# -- making a handler --------------------------------------------------------------------------------------


def make_handler(
    function: Callable[..., Any], patterns: tuple[str, ...], options: HandlerOptions, *, is_plain: bool = False
) -> Handler:
    """Check everything about a handler and make its record. is_plain: connected to a signal, not decorated.

    Raises `InvalidPattern` or `InvalidHandler`.
    """
    _require_patterns(patterns)
    _require_function(function)
    name: Any = options.get("name")
    if name is None:
        name = _default_name(function)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidHandler(
            f"{name!r} cannot be a handler's name, because people write it in commands; pass name= with letters, digits, "
            "_ . : and -, at most 200, the first a letter, digit or _"
        )
    checked = _check_options(name, options)
    arguments = _arguments(function, name, is_plain)
    if checked.get("rehearsable") and "session" not in arguments:
        raise InvalidHandler(
            f"handler {name!r}: rehearsable=True says that it has no effect but through session; so ask for session"
        )
    return Handler(
        name=name,
        function=_as_blinker_calls(function) if is_plain else function,
        patterns=tuple(Pattern(pattern) for pattern in dict.fromkeys(patterns)),
        arguments=arguments,
        is_async=_is_async(function),
        **checked,
    )


def _check_options(name: str, options: HandlerOptions) -> dict[str, Any]:
    """The options as fields of a `Handler`; those that were not given are missing."""
    known = HandlerOptions.__annotations__
    checked: dict[str, Any] = {}

    def require(holds: bool, text: str) -> None:
        if not holds:
            raise InvalidHandler(f"handler {name!r}: {text}")

    for option, value in options.items():
        require(option in known, f"there is no option {option!r}{_did_you_mean(option, known)}")
        if option == "name":
            continue
        if option in ("ignore_own", "rehearsable"):
            require(isinstance(value, bool), f"{option} is {value!r}; give True or False")
        elif option in _CHOICES:
            choices = _CHOICES[option]
            require(value in choices, f"{option} is {value!r}; it can be {' or '.join(map(repr, choices))}")
        elif value is not None:
            value = _read_option(option, value, require)
        checked[option] = value
    for option, unlikely in (("stale", "skip"), ("on_failure", "skip")):
        require(
            checked.get(option) != unlikely or checked.get("ordered_by") is not None,
            f"{option}={unlikely!r} needs ordered_by=; without an order nothing is before or after anything",
        )
    return checked


_CHOICES: Mapping[str, tuple[str, str]] = {
    "isolation": ("thread", "process"),
    "on_failure": ("block", "skip"),
    "stale": ("run", "skip"),
}


def _read_option(option: str, value: Any, require: Callable[[bool, str], None]) -> Any:
    """One option whose value is not None."""
    if option == "source":
        require(isinstance(value, str) and bool(value), f"source is {value!r}; give the name of a source")
        require(value == value.lower(), f"names of sources are lower case; write source={value.lower()!r}")
    elif option == "where":
        try:
            return as_predicate(value)
        except TypeError as error:
            require(False, f"where: {error}")
    elif option == "ordered_by":
        what = f"ordered_by is {value!r}; give {' or '.join(map(repr, ORDERING_KEYS))}, or a function of the event"
        require(value in ORDERING_KEYS if isinstance(value, str) else callable(value), what)
        if callable(value):
            try:
                require_function_of_event(value)
            except TypeError as error:
                require(False, f"ordered_by: {error}")
    elif option == "retry":
        require(isinstance(value, RetryPolicy), f"retry is {value!r}; give RetryPolicy(max_attempts=…)")
    elif option == "timeout":
        seconds = f"timedelta(seconds={value})" if isinstance(value, int | float) else "timedelta(seconds=30)"
        require(isinstance(value, timedelta), f"timeout is {value!r}; give a duration, such as {seconds}")
        require(value > timedelta(0), f"timeout is {value}; it must be longer than nothing")
    elif option == "concurrency":
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        require(is_whole and value >= 1, f"concurrency is {value!r}; give a whole number from 1 on")
    elif option == "rate":
        with contextlib.suppress(Unreadable):
            return read_rate(value if isinstance(value, str) else "")
        require(False, f"rate is {value!r}; write '10/s', '100/min' or '1/h'")
    return value


def _require_patterns(patterns: tuple[Any, ...]) -> None:
    if not patterns:
        raise InvalidPattern("a handler needs at least one event type; write on('lead.created'), or on('**') for all")
    for pattern in patterns:
        if callable(pattern):
            raise InvalidPattern("on takes event types; write @on('lead.created') with parentheses above the function")
        if isinstance(pattern, list | tuple | set | frozenset):
            raise InvalidPattern(f"several patterns are several arguments; write on(*{pattern!r})")
        Pattern(pattern)


def _require_function(function: Any) -> None:
    if not callable(function) or isinstance(function, type):
        raise InvalidHandler(f"{function!r} is no function; register a function, a method or another object to call")
    innermost = inspect.unwrap(function)
    if inspect.isgeneratorfunction(innermost) or inspect.isasyncgenfunction(innermost):
        raise InvalidHandler(
            f"{_called(function)} has a yield in it, so calling it would run nothing; make it an ordinary function"
        )


def _require_name_of_its_own(receiver: Any) -> None:
    """Refuse receivers whose default name would not be the same, or not theirs alone, in every process."""
    qualified = getattr(receiver, "__qualname__", None)
    if inspect.ismethod(receiver) and not isinstance(receiver.__self__, type):
        what = "a method of an object, and objects have no name"
    elif isinstance(receiver, functools.partial) or qualified is None:
        what = "an object without a name"
    elif "<lambda>" in qualified:
        what = "a lambda"
    elif "<locals>" in qualified:
        what = "made inside another function"
    else:
        return
    raise InvalidHandler(
        f"the receiver {_called(receiver)} is {what}, and a handler's name is its id in the database; connect a function "
        "of a module, or use on(…, name=…)"
    )


def _default_name(function: Callable[..., Any]) -> str:
    qualified = getattr(function, "__qualname__", None)
    if qualified is None or "<lambda>" in qualified or isinstance(function, functools.partial):
        raise InvalidHandler(f"{_called(function)} has no name that could be its id in the database; pass name=")
    return f"{function.__module__}.{qualified.replace('.<locals>', '')}"


def _is_async(function: Callable[..., Any]) -> bool:
    innermost = inspect.unwrap(function)
    return inspect.iscoroutinefunction(innermost) or inspect.iscoroutinefunction(getattr(innermost, "__call__", None))  # noqa: B004


# -- arguments by name -------------------------------------------------------------------------------------


def _arguments(function: Callable[..., Any], name: str, is_plain: bool) -> tuple[str, ...]:
    """Which of `ARGUMENTS` a function asks for."""
    wanted: list[str] = []
    for parameter in _parameters(function)[1 if is_plain and _takes_sender(function) else 0 :]:
        if parameter.kind is inspect.Parameter.VAR_KEYWORD and is_plain:
            wanted.extend(KEYWORDS)
        elif parameter.name in ARGUMENTS and parameter.kind is not inspect.Parameter.POSITIONAL_ONLY:
            wanted.append(parameter.name)
        elif complaint := _complaint(parameter):
            raise InvalidHandler(f"handler {name!r} {complaint}")
    if is_plain:
        wanted.append("event")  # the sender is taken from it
    return tuple(argument for argument in ARGUMENTS if argument in wanted)


def _complaint(parameter: inspect.Parameter) -> str | None:
    """What is wrong with a parameter that is none of `ARGUMENTS`; None when its default may stay."""
    offer = f"it can ask for {', '.join(ARGUMENTS)}"
    if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
        stars = "*" if parameter.kind is inspect.Parameter.VAR_POSITIONAL else "**"
        return f"takes {stars}{parameter.name}, which does not say what it needs; {offer}"
    if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
        return f"takes {parameter.name!r} by position only, and is called by name; take the / out"
    near = difflib.get_close_matches(parameter.name, ARGUMENTS, n=1, cutoff=0.8)
    if parameter.default is not inspect.Parameter.empty:
        return f"asks for {parameter.name!r}; did you mean {near[0]!r}?" if near else None
    if parameter.name in ("self", "cls"):
        return f"asks for {parameter.name!r}: it is a method; register a function, or on(…, name=…)(an_object.method)"
    if parameter.name == "sender":
        return "asks for 'sender', which only receivers get that are connected to a signal; ask for event: event.source"
    return f"asks for {parameter.name!r}, which does not exist; {f'did you mean {near[0]!r}?' if near else offer}"


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        raise InvalidHandler(f"{function!r} does not tell its parameters; wrap it in a function of yours") from None


def _takes_sender(receiver: Callable[..., Any]) -> bool:
    """Whether a receiver's first parameter is blinker's sender, whatever it is called."""
    parameters = _parameters(receiver)
    by_position = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    return bool(parameters) and parameters[0].kind in by_position and parameters[0].name not in ARGUMENTS


def _as_blinker_calls(receiver: Callable[..., Any]) -> Callable[..., Any]:
    """A function of named arguments that calls `receiver` with the sender, a source's name, first."""
    takes_sender = _takes_sender(receiver)
    takes_event = any(p.name == "event" or p.kind is inspect.Parameter.VAR_KEYWORD for p in _parameters(receiver))

    @functools.wraps(receiver)
    def call(event: Event, **arguments: Any) -> Any:
        if takes_event:
            arguments["event"] = event
        return receiver(event.source, **arguments) if takes_sender else receiver(**arguments)

    return call


# -- words -------------------------------------------------------------------------------------------------


def _called(function: Any) -> str:
    """What a function is called, for people. Where it is registered stands in the traceback, and is said by `discovery`."""
    name: str = getattr(function, "__qualname__", "") or repr(function)
    return name


def _place(function: Any) -> str:
    """A function, and where it stands, for people: of one that is not where the error is."""
    code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
    if code is None:
        return _called(function)
    return f"{_called(function)} ({code.co_filename}, line {code.co_firstlineno})"


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


# -- the registry that handler modules fill ----------------------------------------------------------------

default_registry = Registry()


def on(*patterns: str, registry: Registry | None = None, **options: Unpack[HandlerOptions]) -> Callable[[_F], _F]:
    """Register the decorated function for events whose type matches any of `patterns`.

    name: its stable id in the database; default `module.function`. source: only events of this source. where: a
    condition (`changed`, `field`, a function of the event); when it does not hold, the delivery is cancelled.
    ordered_by: "object_id", "lead_id" or a function of the event: events of one key run one after another, eldest
    first. on_failure: "block" (a dead delivery holds its lane until somebody frees it) or "skip". stale: "run" or
    "skip" an event that comes after a younger one of its lane has run. retry: a `RetryPolicy`. timeout: of one
    attempt, a timedelta. concurrency: runs at once, over all workers. rate: starts over all workers, "10/s", "100/min".
    ignore_own: not for changes made with our own key. isolation: "thread" or "process". rehearsable: it has no effect
    but through `session`, so that `replay --rehearse` may run it and roll back.

    The function asks by name for what it needs: event, session, delivery, data, previous, changed, raw, headers, log.
    """
    return (registry if registry is not None else default_registry).on(*patterns, **options)


def event_signal(pattern: str) -> EventSignal:
    """The blinker signal of a pattern in the default registry; its receivers are handlers."""
    return default_registry.event_signal(pattern)


__all__ = [
    "ARGUMENTS",
    "EventSignal",
    "Handler",
    "HandlerOptions",
    "Registry",
    "default_registry",
    "event_signal",
    "on",
]
