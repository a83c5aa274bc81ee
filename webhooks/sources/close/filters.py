"""The `extra_filter` of a subscription: whether Close would send an event. Catch-up asks, and the local Close.

A filter sees the whole event; stepping into a field that is not there gives null. Filters of a kind that is not known
here, or nested beyond reason, let everything through: accepting an event too many is the smaller mistake.
Source: developer.close.com/api/resources/webhooks/webhook-filters (see docs/close.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

#: Filters nested deeper are not looked into.
MAX_DEPTH = 50


def lets_through(filter: Mapping[str, Any] | None, event: Any, depth: int = 0) -> bool:
    """Whether a subscription with this filter gets `event`; None and {} filter nothing. Raises nothing."""
    if not filter:
        return True
    verdict = _judge(filter, event, depth)
    return verdict is not False


def _judge(filter: Any, value: Any, depth: int) -> bool | None:
    """True, False, or None for "cannot say", which an outer `not` must not turn into a no."""
    if not isinstance(filter, Mapping) or depth > MAX_DEPTH:
        return None
    kind = filter.get("type")
    if isinstance(kind, str) and kind in _SIMPLE:
        return _SIMPLE[kind](value, filter.get("value"))
    if kind in ("and", "or"):
        inner = filter.get("filters")
        if not isinstance(inner, list):
            return None
        verdicts = [_judge(each, value, depth + 1) for each in inner]
        decisive = kind == "or"
        return decisive if decisive in verdicts else None if None in verdicts else not decisive
    if kind == "not":
        verdict = _judge(filter.get("filter"), value, depth + 1)
        return None if verdict is None else not verdict
    if kind == "field_accessor":
        field = filter.get("field")
        return _judge(filter.get("filter"), value.get(field) if isinstance(value, Mapping) else None, depth + 1)
    if kind == "any_array_value":
        verdicts = [_judge(filter.get("filter"), each, depth + 1) for each in value] if isinstance(value, list) else []
        return True if True in verdicts else None if None in verdicts else False
    return None


def _same(left: Any, right: Any) -> bool:
    """Equality as JSON has it: true is not 1."""
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def _contains(value: Any, wanted: Any) -> bool:
    if isinstance(value, str):
        return isinstance(wanted, str) and wanted in value
    return isinstance(value, list) and any(_same(each, wanted) for each in value)


_SIMPLE: Mapping[str, Callable[[Any, Any], bool]] = {
    "equals": _same,
    "not_equals": lambda value, wanted: not _same(value, wanted),
    "contains": _contains,
    "is_null": lambda value, wanted: value is None,
    "non_null": lambda value, wanted: value is not None,
}
