"""One handler: a function, what it subscribes to and how it is to be run, checked when it is registered.

Names are stable ids in the database: renaming a function without `name=` makes another handler of it,
unless `formerly=` says what it was called.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypedDict

from webhooks.errors import InvalidHandler, InvalidPattern
from webhooks.formats import DEFAULT_QUEUE, Unreadable, did_you_mean, read_queue, read_rate
from webhooks.model import Event
from webhooks.routing.arguments import arguments_of, as_blinker_calls, parameters_of
from webhooks.routing.conditions import Condition, as_condition, require_function_of_event
from webhooks.routing.debounce import Debounce
from webhooks.routing.ordering import OBJECT_KEY, ordering_key
from webhooks.routing.patterns import Pattern
from webhooks.routing.payloads import PayloadType, payload_type
from webhooks.routing.retry import RetryPolicy

#: Deliveries that a handler may be given at once, at most.
LARGEST_BATCH = 1000
#: Deliveries of a handler without effects outside its session that share a transaction, at most.
MOST_TOGETHER = 100
#: How a source may call the groups of its events.
_KEY_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,199}", re.ASCII)


class HandlerOptions(TypedDict, total=False):
    """The options of `on`, which describes them."""

    name: str | None
    formerly: Sequence[str]
    source: str | None
    data: Any
    where: Condition | Callable[[Event], Any] | None
    ordered_by: str | Callable[[Event], str | int | None] | None
    on_failure: Literal["block", "skip"]
    stale: Literal["run", "skip"]
    latest: str | Callable[[Event], str | int | None] | None
    debounce: Debounce | None
    retry: RetryPolicy | None
    timeout: timedelta | None
    max_wait: timedelta | None
    concurrency: int | None
    rate: str | None
    ignore_own: bool
    isolation: Literal["thread", "process"]
    effects: Literal["anywhere", "session"]
    batch: int | None
    rehearsable: bool
    queue: str | None


@dataclass(frozen=True, eq=False)
class Handler:
    """One registered function and how it is to be run; the options are described at `on`.

    function: to be called with `arguments` by name. rate: starts per period. queue: the operator's word or else the
    author's. Two are the same only when they are the same object; across processes the name is what counts.
    """

    name: str
    function: Callable[..., Any]
    patterns: tuple[Pattern, ...]
    arguments: tuple[str, ...] = ()
    source: str | None = None
    data: PayloadType | None = None
    where: Condition | None = None
    ordered_by: str | Callable[[Event], str | int | None] | None = None
    on_failure: str = "block"
    stale: str = "run"
    latest: str | Callable[[Event], str | int | None] | None = None
    debounce: Debounce | None = None
    retry: RetryPolicy | None = None
    timeout: timedelta | None = None
    max_wait: timedelta | None = None
    concurrency: int | None = None
    rate: tuple[int, timedelta] | None = None
    ignore_own: bool = False
    isolation: str = "thread"
    effects: str = "anywhere"
    batch: int | None = None
    queue: str = DEFAULT_QUEUE
    formerly: tuple[str, ...] = ()
    is_async: bool = False

    @property
    def wants_session(self) -> bool:
        """Whether it asks for a session of its own transaction."""
        return "session" in self.arguments

    @property
    def lane_by(self) -> str | Callable[[Event], str | int | None] | None:
        """What puts its deliveries into lanes, of which never two run at once: `ordered_by` or `latest`; None: nothing does."""
        return self.ordered_by if self.latest is None else self.latest

    @property
    def rehearsable(self) -> bool:
        """Whether it may be run and rolled back: nothing of it happens outside `session`."""
        return self.effects == "session"

    @property
    def together(self) -> int:
        """How many of its deliveries may run in one transaction, or one call, at most; 1: each has its own."""
        if self.batch is not None:
            return self.batch
        return MOST_TOGETHER if self.effects == "session" and self.isolation == "thread" else 1

    def lane_key(self, event: Event) -> str | None:
        """The ordering key of a stored event; None when it has none, so that the event waits for no other.

        Raises as `ordering_key` does.
        """
        return ordering_key(
            self.lane_by,
            lambda name: event.object_id if name == OBJECT_KEY else event.meta.get(name),
            lambda: event,
            self.name,
        )


# -- making a handler --------------------------------------------------------------------------------------


def make_handler(
    function: Callable[..., Any], patterns: tuple[str, ...], options: HandlerOptions, *, is_plain: bool = False
) -> Handler:
    """Check everything about a handler and make its record. is_plain: connected to a signal, not decorated.

    Raises `InvalidPattern` or `InvalidHandler`.
    """
    require_patterns(patterns)
    _require_function(function)
    name: Any = options.get("name")
    if name is None:
        name = default_name(function)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidHandler(
            f"{name!r} cannot be a handler's name, because people write it in commands; pass name= with letters, digits, "
            "_ . : and -, at most 200, the first a letter, digit or _"
        )
    checked = _check_options(name, options)
    if name in checked.get("formerly", ()):
        raise InvalidHandler(f"handler {name!r}: formerly has the name that it has now; give those that it had before")
    arguments = arguments_of(function, name, is_plain, checked.get("batch") is not None)
    _require_batch(name, checked, arguments)
    checked["data"] = _payload_type(function, name, checked.get("data"))
    if checked.get("effects") == "session" and "session" not in arguments:
        raise InvalidHandler(
            f"handler {name!r}: effects='session' says that it has no effect but through session; so ask for session"
        )
    return Handler(
        name=name,
        function=as_blinker_calls(function) if is_plain else function,
        patterns=tuple(Pattern(pattern) for pattern in dict.fromkeys(patterns)),
        arguments=arguments,
        is_async=_is_async(function),
        **checked,
    )


def _require_batch(name: str, checked: dict[str, Any], arguments: tuple[str, ...]) -> None:
    """Refuse what cannot be done with several deliveries at once. Raises `InvalidHandler`."""
    batch = checked.get("batch")
    if batch is None:
        return
    limit = checked.get("concurrency")
    has_lanes = checked.get("ordered_by") is not None or checked.get("latest") is not None
    wrong = None
    if checked.get("isolation") == "process":
        wrong = (
            "batch= and isolation='process' do not go together, since such a process runs one delivery; leave one out"
        )
    elif limit is not None and limit < batch:
        wrong = f"concurrency={limit} counts deliveries, so a batch would never have {batch}; give at least {batch}, or leave it out"
    elif has_lanes and "session" not in arguments:
        wrong = "batch= with an order needs session: a batch whose time was up might still have effects while its lanes go on"
    if wrong is not None:
        raise InvalidHandler(f"handler {name!r}: {wrong}")


def _payload_type(function: Callable[..., Any], name: str, given: Any) -> PayloadType | None:
    """What the function wants its data to be. given: by the option `data=`. Raises `InvalidHandler`."""
    try:
        return payload_type(given, {each.name: each for each in parameters_of(function)}, function)
    except ValueError as error:
        raise InvalidHandler(f"handler {name!r}: {error}") from error


def _check_options(name: str, options: HandlerOptions) -> dict[str, Any]:
    """The options as fields of a `Handler`; those that were not given are missing. Raises `InvalidHandler`."""
    known = HandlerOptions.__annotations__
    checked: dict[str, Any] = {}
    try:
        for option, value in options.items():
            if option not in known:
                raise ValueError(f"there is no option {option!r}{did_you_mean(option, known)}")
            if option != "name":
                always = option in _CHOICES or option in _SWITCHES
                if option == "queue" and value is None:
                    continue
                checked[option] = value if value is None and not always else _read_option(option, value)
        _require_lanes(checked)
        if checked.pop("rehearsable", False) and checked.setdefault("effects", "session") != "session":
            raise ValueError("rehearsable=True says the same as effects='session'; give effects= alone")
    except (ValueError, TypeError) as error:
        raise InvalidHandler(f"handler {name!r}: {error}") from None
    return checked


def _require_lanes(checked: dict[str, Any]) -> None:
    """Check the options that speak of lanes, and fill in what `latest` means for the others. Raises `ValueError`."""
    for option in ("stale", "on_failure"):
        if checked.get(option) == "skip" and checked.get("ordered_by") is None:
            raise ValueError(f"{option}='skip' needs ordered_by=; without an order nothing is before or after anything")
    if checked.get("latest") is None:
        if checked.get("debounce") is not None:
            raise ValueError("debounce= needs latest=, the key of which a burst runs once; write latest='object_id'")
        return
    if checked.get("ordered_by") is not None:
        raise ValueError(
            "ordered_by= runs every event of a key and latest= only the newest; give one of them, and for both register two "
            "handlers"
        )
    checked.update(stale="skip", on_failure="skip")


_SWITCHES = ("ignore_own", "rehearsable")
_CHOICES: Mapping[str, tuple[str, str]] = {
    "effects": ("anywhere", "session"),
    "isolation": ("thread", "process"),
    "on_failure": ("block", "skip"),
    "stale": ("run", "skip"),
}


def _read_option(option: str, value: Any) -> Any:
    """The value of an option as a `Handler` has it. Raises ValueError or TypeError, with what can be given."""
    if option in _SWITCHES:
        _require(isinstance(value, bool), f"{option} is {value!r}; give True or False")
    elif option in _CHOICES:
        choices = _CHOICES[option]
        _require(value in choices, f"{option} is {value!r}; it can be {' or '.join(map(repr, choices))}")
    else:
        return _READERS[option](value)
    return value


def _read_source(value: Any) -> str:
    _require(isinstance(value, str) and bool(value), f"source is {value!r}; give the name of a source")
    _require(value == value.lower(), f"names of sources are lower case; write source={value.lower()!r}")
    return str(value)


def _read_where(value: Any) -> Condition:
    try:
        return as_condition(value)
    except TypeError as error:
        raise TypeError(f"where: {error}") from None


def _read_key(option: str, value: Any) -> Any:
    what = f"{option} is {value!r}; give {OBJECT_KEY!r}, the name of a source's groups, or a function of the event"
    _require(bool(_KEY_NAME.fullmatch(value)) if isinstance(value, str) else callable(value), what)
    if callable(value):
        try:
            require_function_of_event(value)
        except TypeError as error:
            raise TypeError(f"{option}: {error}") from None
    return value


def _read_debounce(value: Any) -> Debounce:
    how = "Debounce(quiet=timedelta(seconds=5), at_most=timedelta(minutes=1))"
    _require(isinstance(value, Debounce), f"debounce is {value!r}; give {how}")
    return value  # type: ignore[no-any-return]


def _read_retry(value: Any) -> RetryPolicy:
    _require(isinstance(value, RetryPolicy), f"retry is {value!r}; give RetryPolicy(max_attempts=…)")
    return value  # type: ignore[no-any-return]


def _read_timeout(value: Any) -> timedelta:
    seconds = f"timedelta(seconds={value})" if isinstance(value, int | float) else "timedelta(seconds=30)"
    _require(isinstance(value, timedelta), f"timeout is {value!r}; give a duration, such as {seconds}")
    _require(value > timedelta(0), f"timeout is {value}; it must be longer than nothing")
    return value  # type: ignore[no-any-return]


def _read_max_wait(value: Any) -> timedelta:
    _require(isinstance(value, timedelta), f"max_wait is {value!r}; give a duration, such as timedelta(minutes=5)")
    _require(value > timedelta(0), f"max_wait is {value}; it must be longer than nothing")
    return value  # type: ignore[no-any-return]


def _read_concurrency(value: Any) -> int:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    _require(is_whole and value >= 1, f"concurrency is {value!r}; give a whole number from 1 on")
    return int(value)


def _read_batch(value: Any) -> int:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    _require(
        is_whole and 2 <= value <= LARGEST_BATCH,
        f"batch is {value!r}; give how many deliveries the handler may get at once, from 2 to {LARGEST_BATCH}",
    )
    return int(value)


def _read_rate(value: Any) -> tuple[int, timedelta]:
    try:
        return read_rate(value if isinstance(value, str) else "")
    except Unreadable:
        raise ValueError(f"rate is {value!r}; write '10/s', '100/min' or '1/h'") from None


def _read_queue(value: Any) -> str:
    try:
        return read_queue(value)
    except ValueError as error:
        raise ValueError(f"queue is {value!r}; {error}") from None


def _read_formerly(value: Any) -> tuple[str, ...]:
    what = f"formerly is {value!r}; give the names that it had before, such as formerly=('sales.leads',)"
    _require(isinstance(value, list | tuple), what)
    _require(all(isinstance(each, str) and _NAME.fullmatch(each) for each in value), what)
    return tuple(dict.fromkeys(value))


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "data": lambda value: value,  # read with the annotations, beside which it stands
    "source": _read_source,
    "where": _read_where,
    "ordered_by": functools.partial(_read_key, "ordered_by"),
    "latest": functools.partial(_read_key, "latest"),
    "debounce": _read_debounce,
    "retry": _read_retry,
    "timeout": _read_timeout,
    "max_wait": _read_max_wait,
    "batch": _read_batch,
    "concurrency": _read_concurrency,
    "rate": _read_rate,
    "queue": _read_queue,
    "formerly": _read_formerly,
}


def _require(holds: bool, text: str) -> None:
    if not holds:
        raise ValueError(text)


# -- the function ------------------------------------------------------------------------------------------


def require_patterns(patterns: tuple[Any, ...]) -> None:
    """Raise `InvalidPattern`, with the fix, unless there is at least one pattern and each can be read."""
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
            f"{called(function)} has a yield in it, so calling it would run nothing; make it an ordinary function"
        )


def require_stable_name(receiver: Any) -> None:
    """Raise `InvalidHandler` for a receiver whose default name would not be the same, or not its own, in every process."""
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
        f"the receiver {called(receiver)} is {what}, and a handler's name is its id in the database; connect a function "
        "of a module, or use on(…, name=…)"
    )


def default_name(function: Callable[..., Any]) -> str:
    """`module.function`, which is the same in every process. Raises `InvalidHandler` for what has no such name."""
    qualified = getattr(function, "__qualname__", None)
    if qualified is None or "<lambda>" in qualified or isinstance(function, functools.partial):
        raise InvalidHandler(f"{called(function)} has no name that could be its id in the database; pass name=")
    return f"{function.__module__}.{qualified.replace('.<locals>', '')}"


def _is_async(function: Callable[..., Any]) -> bool:
    innermost = inspect.unwrap(function)
    return inspect.iscoroutinefunction(innermost) or inspect.iscoroutinefunction(getattr(innermost, "__call__", None))  # noqa: B004


def called(function: Any) -> str:
    """What a function is called, for people. Where it is registered stands in the traceback, and is said by `discovery`."""
    name: str = getattr(function, "__qualname__", "") or repr(function)
    return name


def line_of(function: Any) -> str:
    """`handlers/leads.py, line 9: `, where a function stands, to be put before what is wrong with it; "" where that is not known."""
    code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
    if code is None:
        return ""
    path = Path(code.co_filename)
    return f"{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}, line {code.co_firstlineno}: "


def place_of(function: Any) -> str:
    """A function, and where it stands, for people: of one that is not where the error is."""
    code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
    if code is None:
        return called(function)
    return f"{called(function)} ({code.co_filename}, line {code.co_firstlineno})"
