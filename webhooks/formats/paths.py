"""Dotted paths into decoded JSON, and how the values there compare: one reading for filters, selections and sources.

`data.custom.cf_x` is `JsonPath("data.custom.cf_x")`; `look_up` follows it. At each level the longest key wins: senders
write flat keys with dots in them (`custom.cf_…`), so what is left of the path is tried as one key first, then without
its last step, and so on; a key that leads nowhere gives way to a shorter one. Numbers step into lists.

Values compare as JSON does: `true` is not 1, but 5 is 5.0, in lists and objects too. Unlike kinds are unequal, and
neither is less: nothing here raises. What is not there equals null. An instant compares with ISO 8601 text, because JSON
has no other way to write one.

`EventPath` is a path that begins with one of `ROOTS`, the parts of an event that filters and selections can name.

Not here: texts of conditions (`routing.conditions`, `selection.expression`), bytes (`json.items`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from numbers import Number
from typing import TYPE_CHECKING, Any

from webhooks.formats.quantities import as_instant
from webhooks.formats.text import nearest
from webhooks.model import same_json

if TYPE_CHECKING:
    from webhooks.model import Event

#: One step of a path: a key, or a place in a list. Digits in a text are both.
Step = str | int

#: A list is stepped into by a number of at most so many digits; longer ones are no places.
_MOST_DIGITS = 9


class _Missing:
    """What a path yields when it leads nowhere; it equals null and is false."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Any = _Missing()


class JsonPath:
    """A path, made ready to be followed often.

    steps: dotted text, or its steps one by one, where a key that holds dots is meant whole.
    """

    __slots__ = ("steps", "tries")

    def __init__(self, steps: str | Sequence[Step]) -> None:
        self.steps: tuple[Step, ...] = tuple(steps.split(".")) if isinstance(steps, str) else tuple(steps)
        #: for each step, what may be a key from there on, the longest first: (key, the number of the step after it)
        self.tries: tuple[tuple[tuple[str, int], ...], ...] = tuple(
            _tries(self.steps, at) for at in range(len(self.steps))
        )

    def look_up(self, value: Any, visit: Callable[[Any, Step], object] | None = None) -> Any:
        """What decoded JSON has at this path; MISSING when it leads nowhere.

        visit: called with (object or list, key) for all that is tried on the way, before it is gone into; what it raises
        is raised. Nothing else is.
        """
        return self._follow(value, 0, visit) if self.steps else value

    def place(self, value: Any) -> tuple[Any, Step] | None:
        """(the object or list that holds the value at this path, its key or place there); None when it leads nowhere."""
        tried: list[tuple[Any, Step]] = []
        found = self.look_up(value, lambda holder, key: tried.append((holder, key)))
        return None if found is MISSING or not tried else tried[-1]

    def _follow(self, value: Any, at: int, visit: Callable[[Any, Step], object] | None) -> Any:
        if isinstance(value, (dict, Mapping)):  # the first alone answers for nearly all, and quicker
            for key, after in self.tries[at]:
                if key in value:
                    if visit is not None:
                        visit(value, key)
                    if after == len(self.steps):
                        return value[key]
                    found = self._follow(value[key], after, visit)
                    if found is not MISSING:
                        return found
        elif isinstance(value, (list, tuple)):
            place = place_in(len(value), self.steps[at])
            if place is not None:
                if visit is not None:
                    visit(value, place)
                return value[place] if at + 1 == len(self.steps) else self._follow(value[place], at + 1, visit)
        return MISSING

    def __str__(self) -> str:
        return ".".join(map(str, self.steps))

    def __repr__(self) -> str:
        return f"JsonPath({str(self)!r})"


def _tries(steps: Sequence[Step], at: int) -> tuple[tuple[str, int], ...]:
    keys: list[tuple[str, int]] = []
    for after in range(at + 1, len(steps) + 1):
        last = steps[after - 1]
        if not isinstance(last, str):
            break
        keys.append((f"{keys[-1][0]}.{last}" if keys else last, after))
    return tuple(reversed(keys))


def place_in(length: int, step: Step) -> int | None:
    """The place in a list that a step names, digits or a whole number; None when it has none. Negative: from the end."""
    if isinstance(step, str):
        if not (step.isascii() and step.isdigit() and len(step) <= _MOST_DIGITS):
            return None
        step = int(step)
    return step if -length <= step < length else None


#: Paths come from code and settings; what people type into selections is bounded here.
path_of: Callable[[str], JsonPath] = lru_cache(maxsize=1024)(JsonPath)


def look_up(value: Any, path: str) -> Any:
    """What decoded JSON has at a dotted path; MISSING when it leads nowhere."""
    return path_of(path).look_up(value)


# -- parts of an event ----------------------------------------------------------------------------------------

#: {first word of a path: what of an event it names}. `key` is `dedup_key`, as the condition `--key` calls it.
ROOTS: Mapping[str, Callable[[Event], Any]] = {
    "data": lambda event: event.data,
    "previous": lambda event: event.previous,
    "changed_fields": lambda event: event.changed_fields,
    "meta": lambda event: event.meta,
    "type": lambda event: event.type,
    "source": lambda event: event.source,
    "action": lambda event: event.action,
    "object_type": lambda event: event.object_type,
    "object_id": lambda event: event.object_id,
    "key": lambda event: event.dedup_key,
    "dedup_key": lambda event: event.dedup_key,
    "id": lambda event: str(event.id),
    "revision": lambda event: event.revision,
    "occurred_at": lambda event: event.occurred_at,
    "received_at": lambda event: event.received_at,
    "headers": lambda event: event.headers,
    "origin": lambda event: event.origin,
}


class EventPath:
    """A path into an event. root: one of `ROOTS`; steps: what comes after it, as `JsonPath` takes it; "" for nothing."""

    __slots__ = ("_read", "_rest")

    def __init__(self, root: str, steps: str | Sequence[Step] = ()) -> None:
        self._read = ROOTS[root]
        self._rest = JsonPath(steps) if steps else None

    def look_up(self, event: Event) -> Any:
        """What the event has there; MISSING when the path leads nowhere."""
        value = self._read(event)
        return value if self._rest is None else self._rest.look_up(value)


def nearest_root(word: str, others: Sequence[str] = ()) -> str | None:
    """The root that `word` may be a slip of. others: words that could have been meant as well."""
    return nearest(word, [*ROOTS, *others])


# -- comparing ------------------------------------------------------------------------------------------------


def equal(left: Any, right: Any) -> bool:
    """Whether two values are the same JSON; MISSING is null."""
    if type(left) is str and type(right) is str:
        return left == right
    left, right = (None if left is MISSING else left), (None if right is MISSING else right)
    if isinstance(left, datetime) or isinstance(right, datetime):
        left, right = as_instant(left), as_instant(right)
        return left is not None and left == right
    return same_json(left, right)


def contains(whole: Any, part: Any) -> bool:
    """Whether a text holds a text, an object a key, a list a value."""
    if isinstance(whole, (str, Mapping)):
        return isinstance(part, str) and part in whole
    return isinstance(whole, (list, tuple, set, frozenset)) and any(equal(element, part) for element in whole)


def is_less(left: Any, right: Any) -> bool:
    """Whether `left` is less than `right`: of two numbers, two texts, or two instants; False for all else."""
    pair = _ordered(left, right)
    return pair is not None and bool(pair[0] < pair[1])


def is_at_most(left: Any, right: Any) -> bool:
    """Whether `left` is less than `right`, or as much; False for what `is_less` does not compare."""
    pair = _ordered(left, right)
    return pair is not None and bool(pair[0] <= pair[1])


def exists(value: Any) -> bool:
    """Whether there is something: not MISSING, and not null."""
    return value is not MISSING and value is not None


def _ordered(left: Any, right: Any) -> tuple[Any, Any] | None:
    if (isinstance(left, str) and isinstance(right, str)) or (_is_number(left) and _is_number(right)):
        return left, right
    if isinstance(left, datetime) or isinstance(right, datetime):
        left, right = as_instant(left), as_instant(right)
        return None if left is None or right is None else (left, right)
    return None


def _is_number(value: Any) -> bool:
    # a Decimal is no Real, but it compares with them
    return isinstance(value, (int, float, Number)) and not isinstance(value, (bool, complex))


#: {operator as it is written: whether it holds between what stands left and right of it}
OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": equal,
    "!=": lambda left, right: not equal(left, right),
    "<": is_less,
    "<=": is_at_most,
    ">": lambda left, right: is_less(right, left),
    ">=": lambda left, right: is_at_most(right, left),
    "in": lambda part, whole: contains(whole, part),
    "contains": contains,
}
