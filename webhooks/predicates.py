"""Conditions on events that explain themselves: `changed("status_id", to="won")`, `field("data.direction") == "incoming"`.

They combine with `&`, `|` and `~`. The worker asks `explain`; when a condition does not hold, the delivery is cancelled
with the clause that failed and the value it met. A condition that raises makes the delivery fail, loudly, and be retried.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn

from webhooks.model import Event

_ABSENT: Any = object()


class Predicate:
    """A condition on an event. holds: the test. clause: how its author wrote it. value: what it met, for the reason."""

    def __init__(self, holds: Callable[[Event], bool], clause: str, value: Callable[[Event], Any] | None = None) -> None:
        self._holds = holds
        self.clause = clause
        self._value = value

    def __call__(self, event: Event) -> bool:
        return bool(self._holds(event))

    def explain(self, event: Event) -> tuple[bool, str, str]:
        """(whether it holds, the clause that decided, the value that it met as text)."""
        holds = self(event)
        return holds, self.clause, _shown(self._value(event) if self._value is not None else holds)

    def __and__(self, other: Any) -> Predicate:
        return _Both(self, as_predicate(other))

    def __rand__(self, other: Any) -> Predicate:
        return _Both(as_predicate(other), self)

    def __or__(self, other: Any) -> Predicate:
        return _Either(self, as_predicate(other))

    def __ror__(self, other: Any) -> Predicate:
        return _Either(as_predicate(other), self)

    def __invert__(self) -> Predicate:
        return Predicate(lambda event: not self(event), f"not ({self.clause})", self._value)

    def __bool__(self) -> NoReturn:
        raise TypeError(f"{self.clause} has no truth of its own; combine conditions with & | ~ instead of and, or, not")

    def __repr__(self) -> str:
        return self.clause


class _Both(Predicate):
    def __init__(self, left: Predicate, right: Predicate) -> None:
        super().__init__(lambda event: left(event) and right(event), f"({left.clause}) & ({right.clause})")
        self._parts = (left, right)

    def explain(self, event: Event) -> tuple[bool, str, str]:
        first = self._parts[0].explain(event)
        return first if not first[0] else self._parts[1].explain(event)


class _Either(Predicate):
    def __init__(self, left: Predicate, right: Predicate) -> None:
        super().__init__(lambda event: left(event) or right(event), f"({left.clause}) | ({right.clause})")
        self._parts = (left, right)

    def explain(self, event: Event) -> tuple[bool, str, str]:
        results = []
        for part in self._parts:
            results.append(part.explain(event))
            if results[-1][0]:
                return results[-1]
        return False, self.clause, ", ".join(value for _, _, value in results)


def as_predicate(condition: Any) -> Predicate:
    """A predicate as it is, or a function of the event as one. Raises TypeError with the fix for anything else."""
    if isinstance(condition, Predicate):
        return condition
    if callable(condition):
        name = getattr(condition, "__qualname__", repr(condition))
        return Predicate(condition, f"{name}(event)")
    raise TypeError(
        f"{condition!r} is no condition; use changed(…), field(…) == value, or a function that takes the event"
    )


def changed(name: str, *, to: Any = ..., was: Any = ..., since: str = "previous") -> Predicate:
    """Whether field `name` changed with the event, and, where given, to and from which value.

    since: on a revision, "previous" asks only for what it adds over the revision before; "first" for all of it.
    """
    if since not in ("previous", "first"):
        raise ValueError(f"since is {since!r}; it can be 'previous' or 'first'")
    given = [repr(name)]
    given += [f"to={to!r}"] if to is not ... else []
    given += [f"was={was!r}"] if was is not ... else []
    given += [f"since={since!r}"] if since != "previous" else []
    return Predicate(
        lambda event: event.did_change(name, to=to, was=was, since=since),
        f"changed({', '.join(given)})",
        lambda event: look_up(event.data, name) if name in event.changed_fields else "unchanged",
    )


class field:  # noqa: N801 - it reads as a function, like `changed`
    """A field of the event, to be compared: `field("data.direction") == "incoming"`.

    path: dotted, beginning with data, previous, meta, or an attribute of the event (type, action, object_id, …).
    Keys that hold dots themselves (`data.custom.cf_…`) are found too. An absent field is None.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, path: str) -> None:
        if not path or path.startswith(".") or path.endswith("."):
            raise ValueError(f"{path!r} is no path; write one like 'data.direction'")
        self.path = path

    def value(self, event: Event) -> Any:
        head, _, rest = self.path.partition(".")
        base = getattr(event, head) if head in _ATTRIBUTES else _ABSENT
        if base is _ABSENT:  # a path without "data." in front means the data
            return look_up(event.data, self.path)
        return look_up(base, rest) if rest else base

    def _compare(self, symbol: str, other: Any, test: Callable[[Any], bool]) -> Predicate:
        return Predicate(lambda event: test(self.value(event)), f"field({self.path!r}) {symbol} {other!r}", self.value)

    def __eq__(self, other: object) -> Predicate:  # type: ignore[override]
        return self._compare("==", other, lambda value: bool(value == other))

    def __ne__(self, other: object) -> Predicate:  # type: ignore[override]
        return self._compare("!=", other, lambda value: bool(value != other))

    def __lt__(self, other: Any) -> Predicate:
        return self._compare("<", other, lambda value: value is not None and bool(value < other))

    def __le__(self, other: Any) -> Predicate:
        return self._compare("<=", other, lambda value: value is not None and bool(value <= other))

    def __gt__(self, other: Any) -> Predicate:
        return self._compare(">", other, lambda value: value is not None and bool(value > other))

    def __ge__(self, other: Any) -> Predicate:
        return self._compare(">=", other, lambda value: value is not None and bool(value >= other))

    def in_(self, values: Collection[Any]) -> Predicate:
        """Whether the value is one of `values`."""
        return self._compare("in", list(values), lambda value: value in values)

    def contains(self, part: Any) -> Predicate:
        """Whether a list or text has `part` in it."""
        return self._compare("contains", part, lambda value: value is not None and part in value)

    def exists(self) -> Predicate:
        """Whether it is there and not null."""
        return Predicate(
            lambda event: self.value(event) is not None, f"field({self.path!r}).exists()", self.value
        )

    def __bool__(self) -> NoReturn:
        raise TypeError(f"field({self.path!r}) has no truth of its own; compare it, or call .exists()")

    def __repr__(self) -> str:
        return f"field({self.path!r})"


_ATTRIBUTES = frozenset(
    "data previous meta id source type action object_type object_id dedup_key revision occurred_at received_at "
    "changed_fields headers origin".split()
)


def look_up(data: Any, path: str) -> Any:
    """The value at a dotted path; None when it is absent.

    At each level the whole rest of the path is tried as one key first, because Close writes custom fields as
    `custom.cf_…`; one public consumer also met them nested, which the walk finds.
    """
    while True:
        if isinstance(data, Mapping):
            if path in data:
                return data[path]
            head, dot, path = path.partition(".")
            if head not in data or not dot:
                return None
            data = data[head]
        elif isinstance(data, (list, tuple)):
            head, dot, path = path.partition(".")
            if not head.isdecimal() or int(head) >= len(data):
                return None
            data = data[int(head)]
            if not dot:
                return data
        else:
            return None


def _shown(value: Any) -> str:
    return repr(value)[:200]
