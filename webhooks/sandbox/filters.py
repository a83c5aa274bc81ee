"""The `extra_filter` of a webhook subscription, checked when it is set.

Types: equals, not_equals, contains, is_null, non_null, and, or, not, field_accessor, any_array_value. What a filter
lets through is judged by `webhooks.sources.close.filters`, which catch-up asks as well.
Source: developer.close.com/api/resources/webhooks/webhook-filters (read 2026-11-23).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from webhooks.sandbox.refusals import Invalid

_FIELD = "extra_filter"
#: How deep filters may be nested, so that a hostile one cannot exhaust the stack.
MAX_DEPTH = 20


def check(filter: Any, depth: int = 0) -> None:
    """Raise Invalid for what is no filter."""
    if depth > MAX_DEPTH:
        raise Invalid.field(_FIELD, f"nested deeper than {MAX_DEPTH} levels")
    if not isinstance(filter, Mapping):
        raise Invalid.field(_FIELD, f"a filter is an object with a 'type', not {type(filter).__name__}")
    kind = filter.get("type")
    if kind in ("equals", "not_equals", "contains"):
        if "value" not in filter:
            raise Invalid.field(_FIELD, f"{kind!r} needs a 'value'")
    elif kind in ("and", "or"):
        inner = filter.get("filters")
        if not isinstance(inner, list) or not inner:
            raise Invalid.field(_FIELD, f"{kind!r} needs a list of 'filters'")
        for each in inner:
            check(each, depth + 1)
    elif kind in ("not", "any_array_value", "field_accessor"):
        if kind == "field_accessor" and not isinstance(filter.get("field"), str):
            raise Invalid.field(_FIELD, "'field_accessor' needs the name of a 'field'")
        if "filter" not in filter:
            raise Invalid.field(_FIELD, f"{kind!r} needs a 'filter'")
        check(filter["filter"], depth + 1)
    elif kind not in ("is_null", "non_null"):
        raise Invalid.field(
            _FIELD,
            f"unknown type {kind!r}; there are equals, not_equals, contains, is_null, non_null, and, or, not, "
            "field_accessor, any_array_value",
        )
