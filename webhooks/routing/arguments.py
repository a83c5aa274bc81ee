"""What a handler asks for by name, and how a plain blinker receiver is called like one.

Everything wrong with a function's parameters is said where it is registered, with what it could ask for.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from webhooks.errors import InvalidHandler
from webhooks.formats import ALMOST_THE_SAME, did_you_mean, nearest
from webhooks.model import Event

#: What a handler may ask for, by name.
ARGUMENTS = ("event", "session", "delivery", "data", "previous", "changed", "raw", "headers", "log")
#: What one that takes several at once may ask for, by name.
BATCH_ARGUMENTS = ("events", "session", "deliveries", "log")
#: What a plain receiver's `**kwargs` gets. Not `session`: asking for it changes how a handler runs, so it is named.
KEYWORDS = ("event", "data", "delivery")


def arguments_of(function: Callable[..., Any], name: str, is_plain: bool, is_batch: bool = False) -> tuple[str, ...]:
    """Which of `ARGUMENTS` a function asks for, in their order. Raises `InvalidHandler`.

    name: the handler's, for the message.
    is_plain: a receiver connected to a signal, which gets the sender first.
    is_batch: it gets several deliveries at once, and asks for `BATCH_ARGUMENTS`.
    """
    if is_batch:
        return _batch_arguments(function, name)
    wanted: list[str] = []
    for parameter in parameters_of(function)[1 if is_plain and _takes_sender(function) else 0 :]:
        if parameter.kind is inspect.Parameter.VAR_KEYWORD and is_plain:
            wanted.extend(KEYWORDS)
        elif parameter.name in ARGUMENTS and parameter.kind is not inspect.Parameter.POSITIONAL_ONLY:
            wanted.append(parameter.name)
        elif complaint := _complaint(parameter):
            raise InvalidHandler(f"handler {name!r} {complaint}")
    if is_plain:
        wanted.append("event")  # the sender is taken from it
    return tuple(argument for argument in ARGUMENTS if argument in wanted)


def _batch_arguments(function: Callable[..., Any], name: str) -> tuple[str, ...]:
    asked = [parameter for parameter in parameters_of(function) if parameter.default is inspect.Parameter.empty]
    offer = f"with batch= it can ask for {', '.join(BATCH_ARGUMENTS)}"
    for parameter in asked:
        if parameter.name not in BATCH_ARGUMENTS or parameter.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
            raise InvalidHandler(f"handler {name!r}: it asks for {parameter.name!r}; {offer}")
    names = {parameter.name for parameter in parameters_of(function)}
    if "events" not in names:
        raise InvalidHandler(f"handler {name!r}: it does not ask for events, which batch= gives it; {offer}")
    return tuple(argument for argument in BATCH_ARGUMENTS if argument in names)


def _complaint(parameter: inspect.Parameter) -> str | None:
    """What is wrong with a parameter that is none of `ARGUMENTS`; None when its default may stay."""
    offer = f"it can ask for {', '.join(ARGUMENTS)}"
    if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
        stars = "*" if parameter.kind is inspect.Parameter.VAR_POSITIONAL else "**"
        return f"takes {stars}{parameter.name}, which does not say what it needs; {offer}"
    if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
        return f"takes {parameter.name!r} by position only, and is called by name; take the / out"
    if parameter.default is not inspect.Parameter.empty:
        # a default of the author's own, unless the name is a slip
        near = nearest(parameter.name, ARGUMENTS, ALMOST_THE_SAME)
        return f"asks for {parameter.name!r} (did you mean {near!r}?)" if near else None
    if parameter.name in ("self", "cls"):
        return f"asks for {parameter.name!r}: it is a method; register a function, or on(…, name=…)(an_object.method)"
    if parameter.name in ("events", "deliveries"):
        return f"asks for {parameter.name!r}, which is for handlers that take several at once; write on(…, batch=100)"
    if parameter.name == "sender":
        return "asks for 'sender', which only receivers get that are connected to a signal; ask for event: event.source"
    return f"asks for {parameter.name!r}, which does not exist{did_you_mean(parameter.name, ARGUMENTS)}; {offer}"


def parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of a function. Raises `InvalidHandler` for one that does not tell them."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        raise InvalidHandler(f"{function!r} does not tell its parameters; wrap it in a function of yours") from None


def _takes_sender(receiver: Callable[..., Any]) -> bool:
    """Whether a receiver's first parameter is blinker's sender, whatever it is called."""
    parameters = parameters_of(receiver)
    by_position = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    return bool(parameters) and parameters[0].kind in by_position and parameters[0].name not in ARGUMENTS


def as_blinker_calls(receiver: Callable[..., Any]) -> Callable[..., Any]:
    """A function of named arguments that calls `receiver` with the sender, a source's name, first."""
    takes_sender = _takes_sender(receiver)
    takes_event = any(p.name == "event" or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters_of(receiver))

    @functools.wraps(receiver)
    def call(event: Event, **arguments: Any) -> Any:
        if takes_event:
            arguments["event"] = event
        return receiver(event.source, **arguments) if takes_sender else receiver(**arguments)

    return call
