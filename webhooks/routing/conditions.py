"""Conditions on events that explain themselves: `changed("status_id", to="won")`, `field("data.duration") > 60`.

They combine with `&`, `|` and `~`; a function of the event is a condition too. The worker asks `explain` before it
runs the handler: when a condition does not hold, the delivery is cancelled, and its reason is the clause that decided
with the value that it met. A function that raises lets it raise: the delivery fails loudly and is retried; `field` and
`changed` raise nothing.

How a path is read and values compare is said in `formats.paths`, for `--where` of the command line too: what a filter lets
through is what a selection finds.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import Any, NoReturn

from webhooks.formats import MISSING, OPERATORS, ROOTS, EventPath, equal, exists, look_up, nearest_root
from webhooks.model import Event

#: A value in a reason is cut here.
LONGEST_VALUE = 200


class Condition(ABC):
    """A condition on an event. clause: how its author wrote it."""

    clause: str

    @abstractmethod
    def explain(self, event: Event) -> tuple[bool, str, str]:
        """(whether it holds, the clause that decided, the value that it met as text)."""

    def __call__(self, event: Event) -> bool:
        return self.explain(event)[0]

    def __and__(self, other: Any) -> Condition:
        return _Both(self, as_condition(other))

    def __rand__(self, other: Any) -> Condition:
        return _Both(as_condition(other), self)

    def __or__(self, other: Any) -> Condition:
        return _Either(self, as_condition(other))

    def __ror__(self, other: Any) -> Condition:
        return _Either(as_condition(other), self)

    def __invert__(self) -> Condition:
        return _Not(self)

    def __bool__(self) -> NoReturn:
        raise TypeError(
            f"{self.clause} is neither true nor false before it meets an event; combine conditions with & | ~ and "
            "parentheses, not with and, or, not"
        )

    def __repr__(self) -> str:
        return self.clause


class _Both(Condition):
    def __init__(self, left: Condition, right: Condition) -> None:
        self.parts = (left, right)
        self.clause = f"({left.clause}) & ({right.clause})"

    def explain(self, event: Event) -> tuple[bool, str, str]:
        first = self.parts[0].explain(event)
        return self.parts[1].explain(event) if first[0] else first


class _Either(Condition):
    def __init__(self, left: Condition, right: Condition) -> None:
        self.parts = (left, right)
        self.clause = f"({left.clause}) | ({right.clause})"

    def explain(self, event: Event) -> tuple[bool, str, str]:
        first = self.parts[0].explain(event)
        if first[0]:
            return first
        second = self.parts[1].explain(event)
        return second if second[0] else (False, self.clause, f"{first[2]} | {second[2]}")


class _Not(Condition):
    def __init__(self, part: Condition) -> None:
        self.part = part
        self.clause = f"~({part.clause})"

    def explain(self, event: Event) -> tuple[bool, str, str]:
        holds, clause, value = self.part.explain(event)
        return not holds, f"~({clause})", value


class _Test(Condition):
    """One clause. test: whether it holds for a value. value: takes that from the event."""

    def __init__(self, clause: str, value: Callable[[Event], Any], test: Callable[[Any], Any]) -> None:
        self.clause = clause
        self._value = value
        self._holds = test

    def explain(self, event: Event) -> tuple[bool, str, str]:
        value = self._value(event)
        return bool(self._holds(value)), self.clause, _shown(value)


class _Changed(Condition):
    def __init__(self, name: str, to: Any, was: Any, since: str) -> None:
        self.name, self.to, self.was, self.since = name, to, was, since
        given = [_written(name)]
        given += [f"to={_written(to)}"] if to is not ... else []
        given += [f"was={_written(was)}"] if was is not ... else []
        given += [f"since={_written(since)}"] if since != "previous" else []
        self.clause = f"changed({', '.join(given)})"

    def explain(self, event: Event) -> tuple[bool, str, str]:
        holds = event.did_change(self.name, to=self.to, was=self.was, since=self.since)
        if self.name not in event.changed_fields:
            return holds, self.clause, "unchanged"
        before, now = look_up(event.previous, self.name), look_up(event.data, self.name)
        return holds, self.clause, f"{_shown(now)}, before {_shown(before)}"


def as_condition(condition: Any) -> Condition:
    """A condition as it is, or a function of the event as one. Raises TypeError, with the fix, for anything else."""
    if isinstance(condition, Condition):
        return condition
    if isinstance(condition, field):
        raise TypeError(f"{condition!r} alone says nothing; compare it, or write {condition!r}.exists()")
    if not callable(condition) or isinstance(condition, type):
        raise TypeError(
            f"{_shown(condition)} is no condition; use changed(…), field(…) == value, or a function of the event"
        )
    return _Test(f"{require_function_of_event(condition)}(event)", condition, lambda answer: answer)


def require_function_of_event(function: Callable[..., Any]) -> str:
    """The name of an ordinary function that can be called with an event. Raises TypeError for another."""
    name: str = getattr(function, "__qualname__", None) or repr(function)
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"{name} is async; it is asked before the handler runs, so make it an ordinary function")
    try:
        inspect.signature(function).bind(None)
    except TypeError as error:
        raise TypeError(f"{name} cannot be called with the event alone: {error}") from None
    except ValueError:  # a function in C that does not tell
        pass
    return name


def changed(name: str, *, to: Any = ..., was: Any = ..., since: str = "previous") -> Condition:
    """Whether field `name` changed with the event, and, where given, to and from which value.

    since: on a revision, "previous" asks only for what it adds over the revision before; "first" for all of it.
    """
    if not name:
        raise ValueError(f"changed({name!r}): give the name of a field, such as changed('status_id')")
    if since not in ("previous", "first"):
        raise ValueError(f"since is {since!r}; it can be 'previous' or 'first'")
    if name.startswith("data."):
        raise ValueError(f"changed({name!r}): changed fields are those of data; write changed({name[5:]!r})")
    return _Changed(name, to, was, since)


class field:
    """A part of the event, to be compared: `field("data.direction") == "incoming"`.

    path: dotted, beginning with one of `ROOTS`. What is not there is null: it equals None only, is never less or more
    than anything, and is in no list that does not hold None. Values of unlike kinds are unequal, and neither is less.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, path: str) -> None:
        if not path or path.startswith(".") or path.endswith("."):
            raise ValueError(f"{path!r} is no path; write one like 'data.direction'")
        self.path = path
        root, _, rest = path.partition(".")
        if root not in ROOTS:
            near = nearest_root(root)
            meant = f"{near}.{rest}" if near and rest else f"data.{path}"
            raise ValueError(f"field({path!r}) begins with none of {', '.join(ROOTS)}; did you mean field({meant!r})?")
        self._look_up = EventPath(root, rest).look_up

    def value(self, event: Event) -> Any:
        """What the event has there; None when it has nothing."""
        found = self._look_up(event)
        return None if found is MISSING else found

    def _compare(self, operator: str, other: Any) -> Condition:
        holds = OPERATORS[operator]
        return _Test(f"{self!r} {operator} {_written(other)}", self.value, lambda value: holds(value, other))

    def __eq__(self, other: object) -> Condition:  # type: ignore[override]
        return self._compare("==", other)

    def __ne__(self, other: object) -> Condition:  # type: ignore[override]
        return self._compare("!=", other)

    def __lt__(self, other: Any) -> Condition:
        return self._compare("<", other)

    def __le__(self, other: Any) -> Condition:
        return self._compare("<=", other)

    def __gt__(self, other: Any) -> Condition:
        return self._compare(">", other)

    def __ge__(self, other: Any) -> Condition:
        return self._compare(">=", other)

    def in_(self, values: Collection[Any]) -> Condition:
        """Whether the value is one of `values`."""
        if isinstance(values, str | bytes):
            raise TypeError(f"in_({values!r}) would look for a part of the text; give a list of whole values")
        choices = list(values)
        clause = f"{self!r}.in_([{', '.join(map(_written, choices))}])"
        return _Test(clause, self.value, lambda value: any(equal(value, choice) for choice in choices))

    def contains(self, part: Any) -> Condition:
        """Whether a list, a text or an object has `part` in it."""
        holds = OPERATORS["contains"]
        return _Test(f"{self!r}.contains({_written(part)})", self.value, lambda value: holds(value, part))

    def exists(self) -> Condition:
        """Whether it is there and not null."""
        return _Test(f"{self!r}.exists()", self.value, exists)

    def __bool__(self) -> NoReturn:
        raise TypeError(f"{self!r} is neither true nor false; compare it, or write {self!r}.exists()")

    def __repr__(self) -> str:
        return f"field({_written(self.path)})"


def _written(value: Any) -> str:
    """A value as its author most likely wrote it: text in double quotes."""
    text = repr(value)
    if isinstance(value, str) and text[0] == "'" and '"' not in text:
        return f'"{text[1:-1]}"'
    return text


def _shown(value: Any) -> str:
    text = repr(None if value is MISSING else value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"
